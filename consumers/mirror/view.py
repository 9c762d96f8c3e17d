"""A mirror's copy of an account as of one commit, and what the next commit makes of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, cast

from consumers.models import Answer, Balance, Freshness, Order, Position, Source, Totals
from consumers.tables import balance, order, position, values
from statecast.domain.freshness import age_ms, judge
from statecast.store.feed import Change, TextRow, apply
from statecast.store.keys import CONTRACT, AccountId
from statecast.store.reader import TABLES, StoredAccount

Row = TypeVar("Row", bound=Answer)
Names = Mapping[str, Iterable[str]]
"""By hash, the entities that a commit changed, added or removed; the hash `account` is one, named ""."""

Texts = Mapping[str, Mapping[str, TextRow]]
"""By hash and entity, the text of the contract."""


@dataclass(frozen=True, slots=True)
class Rejoin:
    """The copy was incomplete, or of data that Redis has lost since, and the whole account was read again."""

    at_seq: int
    """The last commit of the copy before."""

    to_seq: int
    """The commit that it was read at. Callbacks were given the difference between the two."""

    reason: str


class Table(NamedTuple, Generic[Row]):
    """One hash, decoded. Rows have no freshness yet; `seq` and `source` are those of its last change."""

    rows: Mapping[str, Row]
    seq: int
    source: Source


NO_ROWS: Table[Any] = Table({}, 0, "rest")


class View(NamedTuple):
    """What a read needs, as of one commit and one answer about its age. Replaced as a whole, for readers in threads."""

    seq: int = 0
    epoch: int = 0
    account: Table[Totals] = NO_ROWS
    balances: Table[Balance] = NO_ROWS
    positions: Table[Position] = NO_ROWS
    orders: Table[Order] = NO_ROWS
    missing: tuple[str, ...] = TABLES
    followable: bool = False
    """There is a status, of our contract, so that commits can be followed."""

    status: Mapping[str, str] = {}
    state: str = ""
    verified_at_ms: int = 0
    age_s: float = math.inf
    """At `asked_mono_s`, which is before the question was sent. Negative: Redis's clock was set back."""
    asked_mono_s: float = 0.0
    good: bool = False
    """It may be read, if it is young enough."""

    refusal: str = ""
    """The mirror does not run."""
    incomplete: str = ""
    """What is missing in the copy, or wrong with it; the account is read again. Empty: nothing."""
    mismatch: str = ""
    """Redis holds what cannot be read."""

    def age_at(self, now_mono_s: float) -> float:
        """Seconds since the state was last verified."""
        return self.age_s + now_mono_s - self.asked_mono_s

    def freshness(self, table: Table[Any], age_s: float) -> Freshness:
        return Freshness(age_s, self.seq, table.source, "publisher", self.epoch, self.state, self.verified_at_ms)

    def verified(self, status: Mapping[str, str], now_ms: int, asked_mono_s: float) -> View:
        """With what Redis said of its age, as of this very commit."""
        age = age_ms(status, now_ms)
        view = self._replace(
            status=status,
            state=status.get("state", ""),
            verified_at_ms=0 if age is None else now_ms - age,
            age_s=math.inf if age is None else age / 1000,
            asked_mono_s=asked_mono_s,
        )
        in_order = not view.mismatch and not view.incomplete and view.age_s >= 0
        verdict = judge(
            view.status, view.verified_at_ms, math.inf, contract=CONTRACT, asked=TABLES, missing=view.missing
        )
        return view._replace(good=in_order and verdict.fresh)

    def as_incomplete(self, reason: str) -> View:
        """Not to be read any more, for this reason."""
        return self._replace(incomplete=reason, good=False)

    def refused(self, reason: str) -> View:
        """Not to be read, for the mirror does not run."""
        return self._replace(refusal=reason, good=False)


_NO_TEXTS: Texts = {table: {} for table in TABLES}


class Copy(NamedTuple):
    """A view, and the text that it was made of."""

    view: View = View()
    texts: Texts = _NO_TEXTS

    def applied(self, change: Change) -> tuple[Copy, Names]:
        """The copy after a commit, and what it changed; ValueError if it is not a commit of this copy."""
        before = self.view
        if change.epoch != before.epoch:
            raise ValueError(other_epoch(change.epoch, before.epoch))
        if change.seq != before.seq + 1:
            raise ValueError(f"commit {change.seq} came after {before.seq}")
        names: dict[str, set[str]] = {}
        texts: dict[str, Mapping[str, TextRow]] = {}
        tables: dict[str, Any] = {}
        try:
            for table in change.parts.keys() & self.texts.keys():
                texts[table], names[table] = apply(self.texts[table], change.parts[table], replaces=change.replaces)
                rows = dict(getattr(before, table).rows)
                for name in names[table]:
                    rows.pop(name, None)
                    if name in texts[table]:
                        rows[name] = _decoded(table, name, texts[table][name])
                tables[table] = Table(rows, change.seq, cast(Source, change.source))
        except ValueError as error:
            raise ValueError(f"commit {change.seq} does not fit: {error}") from error
        # A hash that is missing comes back by a commit that replaces all; it is read once the status was verified.
        missing = () if change.replaces else before.missing
        return Copy(before._replace(seq=change.seq, missing=missing, **tables), {**self.texts, **texts}), names

    def joined(self, account_id: AccountId, stored: StoredAccount) -> Copy:
        """The copy as it was read from the hashes. A hash that is not there leaves what was known of it, which is not
        to be read."""
        status = stored.status
        followable = {"seq", "epoch"} <= status.keys() and status.get("contract", CONTRACT) == CONTRACT
        view = self.view._replace(
            followable=followable, missing=stored.missing, refusal="", incomplete="", mismatch="", good=False
        )
        if not followable:
            return Copy(view, self.texts)
        texts: dict[str, Mapping[str, TextRow]] = {}
        tables: dict[str, Any] = {}
        for table, of_table in stored.provenance.items():
            text = getattr(stored, table)
            if table == "account":
                text = {"": {name: value for name, value in text.items() if name not in of_table}}
            known, rows = self.texts[table], getattr(view, table).rows
            try:
                rows = {
                    name: rows[name] if known.get(name) == row else _decoded(table, name, row)
                    for name, row in text.items()
                }
            except ValueError as error:
                mismatch = f"{account_id} {table} is not as contract {CONTRACT} has it: {error}"
                return Copy(view._replace(mismatch=mismatch, followable=False), self.texts)
            texts[table] = text
            tables[table] = Table(rows, int(of_table.get("_seq", 0)), cast(Source, of_table.get("_source", "rest")))
        view = view._replace(seq=int(status["seq"]), epoch=int(status["epoch"]), **tables)
        return Copy(view, {**self.texts, **texts})

    def differing(self, after: Copy) -> Names:
        """The entities whose text is not the same in the other copy."""
        return {table: _differing(self.texts[table], after.texts[table]) for table in TABLES}


def what_is_missing(view: View, status: Mapping[str, str]) -> str:
    """Why the copy, with all entries that there are, is not the state of the status; empty if it is."""
    if not {"seq", "epoch"} <= status.keys():
        return "the status is gone"
    if (contract := status.get("contract", CONTRACT)) != CONTRACT:
        return f"the contract is {contract} now"
    seq, epoch = int(status["seq"]), int(status["epoch"])
    if epoch != view.epoch:
        return other_epoch(epoch, view.epoch)
    if seq < view.seq:
        return f"Redis went back from commit {view.seq} to {seq}"
    if seq > view.seq:
        return f"the entries from commit {view.seq + 1} to {seq} are not there (any more)"
    return ""


def other_epoch(epoch: int, known: int) -> str:
    return f"the epoch is {epoch}, the copy's {known}: a publisher has started, or Redis was replaced"


def _differing(before: Mapping[str, TextRow], after: Mapping[str, TextRow]) -> list[str]:
    return [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]


def _decoded(table: str, name: str, text: TextRow) -> Answer:
    """A row without freshness; ValueError for text that is not of the contract."""
    if table == "account":
        return Totals(**values(Totals, text), freshness=UNKNOWN)
    decode: Callable[[str, TextRow, Freshness], Answer] = {
        "balances": balance,
        "positions": position,
        "orders": order,
    }[table]
    return decode(name, text, UNKNOWN)


UNKNOWN = Freshness(math.inf, 0, "rest", "publisher", 0, "", 0)
"""Stands in rows until they are read."""
