"""A copy of an account in the process, kept current through the changes stream: reads cost no I/O.

The copy joins hashes and stream in one transaction, and applies each commit in order. About once a second it asks
Redis, in one transaction, for what is still missing, for the status and for the time: that proves that it holds
everything up to the status's commit, and how old the publisher's word is. Between two answers it grows old by the
monotonic clock, so that a mirror that hears nothing gets stale by itself.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Generic, Literal, NamedTuple, NoReturn, Self, TypeVar, cast

from consumers import config
from consumers.account import refuse_unreadable
from consumers.models import (
    AccountSnapshot,
    Answer,
    Balance,
    Freshness,
    Order,
    OrderRows,
    Position,
    Rows,
    Source,
    Totals,
    check_side,
)
from consumers.tables import balance, order, position, values
from statecast.clock import Clock, SystemClock
from statecast.domain.freshness import age_ms, judge
from statecast.errors import ConfigError, ContractMismatch, StaleState, StoreError
from statecast.store.client import AnyRedis, Client
from statecast.store.feed import Change, TextRow, apply, read_news, wait_for_changes
from statecast.store.keys import CONTRACT, AccountId
from statecast.store.reader import TABLES, StoredAccount, read_account

CHECK_S = 1.0
"""How often Redis is asked how old the state is: as often as the publisher vouches for it."""

TIMEOUT_S = 3.0
"""Longer than the longest wait for an entry, which is CHECK_S."""

MAX_PAUSE_S = 1.0
"""Between two attempts to reach Redis; the first comes after a twentieth of it."""

MAX_BEHIND = 1_000
"""Commits that wait for slow callbacks; beyond it they are merged into one change, and the log says so."""

REMEMBERED = 10_000
"""Entities of a hash whose last change is remembered, those that are gone included."""

REJOINS_KEPT = 100

What = Literal["totals", "balances", "positions", "orders"]

Row = TypeVar("Row", bound=Answer)
Value = TypeVar("Value", bound=Answer)
Names = Mapping[str, Iterable[str]]
"""By hash, the entities that a commit changed, added or removed; the hash `account` is one, named ""."""

Callback = Callable[[Value | None, Value | None], object]
"""Called with the value before and after a commit; None where there was or is none. May be async."""

_TABLE_OF: Mapping[str, str] = {
    "totals": "account",
    "balances": "balances",
    "positions": "positions",
    "orders": "orders",
}
_log = logging.getLogger("statecast.consumers")


@dataclass(frozen=True, slots=True)
class Rejoin:
    """The copy had a hole, or was of a Redis that is not there any more, and was read anew."""

    at_seq: int
    """The last commit of the copy before."""

    to_seq: int
    """The commit that it was read at. Callbacks were told the difference of the two."""

    reason: str


class AccountMirror:
    """One account, kept in the process. An async context manager; reads are plain calls, good from any thread.

        async with AccountMirror("binance:main", "redis://127.0.0.1:6379/0") as mirror:
            position = mirror.position("BTCUSDT")
            seq = await mirror.changed("positions", "BTCUSDT:BOTH", since=position.seq)

    Entering it reads the account once, and raises what hinders that. It does not wait for a publisher: as long as there
    is none, reads raise.

    A read returns what was verified within `max_age_s`, by Redis's clock; `max_age_s` can be given to each read, too.
    Unlike `AccountReader` a mirror never asks the venue: when the publisher is gone, or Redis cannot be reached, its
    reads begin to raise, and stop by themselves when that is over. What hinders it is logged as `statecast.consumers`.

    When commits are missing (the stream was trimmed, Redis failed over or was flushed) it reads the account again at
    once; no read returns the old copy meanwhile. `rejoins` tells.

    All reads raise:
        StaleState: nothing is young enough to act on; the message says how old, why, and what to do.
        NeverPublished: no publisher has ever written the account: unknown, not flat. A kind of StaleState.
        ContractMismatch: the keys are of another version.
    """

    def __init__(
        self,
        account_id: str | AccountId,
        redis: str | AnyRedis,
        *,
        max_age_s: float = config.MAX_AGE_S,
        clock: Clock | None = None,
    ) -> None:
        """`redis` is a URL, or a client of redis-py, which says where and how to connect.

        Raises:
            ConfigError: something of it cannot work. Nothing is connected yet.
        """
        self.account_id = config.account_id(account_id)
        self.max_age_s = config.max_age(max_age_s)
        self._clock = clock or SystemClock()
        self._client = Client(redis, client_name="statecast-mirror", timeout_s=TIMEOUT_S)
        self._check_s = min(CHECK_S, self.max_age_s / 4)
        self._view = _View(refusal="the mirror was not started; use it as an async context manager")
        self._text: Mapping[str, Mapping[str, TextRow]] = {table: {} for table in TABLES}
        self._last_id = "0-0"
        self._next_check = -math.inf
        self._trouble = ""
        self._rejoins: deque[Rejoin] = deque(maxlen=REJOINS_KEPT)
        self._last_changes = _LastChanges()
        self._news = asyncio.Event()
        self._callbacks = _Callbacks(self.account_id, lambda: self._age_s(self._view))
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @classmethod
    def from_env(cls, **overrides: Any) -> Self:
        """From the settings `STATECAST_…` of the environment and `.env`, the publisher's own.

        Overrides are settings in lower case (`account="main"`, `redis_url=…`, `max_age_s=…`) or arguments of the class.
        """
        environment = config.from_environment(overrides)
        given: dict[str, Any] = {
            "account_id": environment.account_id,
            "redis": environment.redis_url,
            "max_age_s": environment.max_age_s,
        }
        return cls(**given | dict(environment.options))

    async def __aenter__(self) -> Self:
        assert not self._tasks, "enter it once"
        try:
            await self._join()
        except BaseException:
            await self._client.aclose()
            raise
        self._tasks = (asyncio.create_task(self._follow()), asyncio.create_task(self._callbacks.run()))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop following and close the connection; whoever waits for a change is told by StaleState."""
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            self._show(self._view._replace(refusal="the mirror is closed", good=False))
        await self._client.aclose()

    # Reads

    def totals(self, *, max_age_s: float | None = None) -> Totals:
        """The account as a whole."""
        view = self._view
        table = view.account
        freshness = self._fresh(view, table, max_age_s)
        return table.rows[""].at(freshness)

    def balances(self, *, max_age_s: float | None = None) -> Rows[Balance]:
        """All assets, also by name: `mirror.balances()["USDT"]`."""
        view = self._view
        return Rows(view.balances.rows, self._fresh(view, view.balances, max_age_s))

    def positions(self, *, max_age_s: float | None = None) -> Rows[Position]:
        """All open positions. Empty is flat, and known to be."""
        view = self._view
        return Rows(view.positions.rows, self._fresh(view, view.positions, max_age_s))

    def position(self, symbol: str, side: str = "BOTH", *, max_age_s: float | None = None) -> Position:
        """One position; false, and its `side` "flat", if there is none. In hedge mode `side` is LONG or SHORT."""
        view = self._view
        table = view.positions
        freshness = self._fresh(view, table, max_age_s)
        row = table.rows.get(f"{symbol}:{side}")
        if row is None:
            check_side(symbol, side, table.rows)
            row = _flat(symbol, side, table.source)
        return row.at(freshness)

    def open_orders(self, *, max_age_s: float | None = None) -> OrderRows:
        """All open orders, also by name (`BTCUSDT:1001`), or by the id alone where one symbol has it."""
        view = self._view
        return OrderRows(view.orders.rows, self._fresh(view, view.orders, max_age_s))

    def snapshot(self, *, max_age_s: float | None = None) -> AccountSnapshot:
        """All of it at one `seq`."""
        view = self._view
        tables: tuple[_Table[Any], ...] = (view.account, view.balances, view.positions, view.orders)
        freshness = self._fresh(view, max(tables, key=lambda table: table.seq), max_age_s)
        return AccountSnapshot(
            account_id=str(self.account_id),
            totals=view.account.rows[""].at(freshness),
            balances=Rows(view.balances.rows, freshness),
            positions=Rows(view.positions.rows, freshness),
            open_orders=OrderRows(view.orders.rows, freshness),
            freshness=freshness,
        )

    # News

    @property
    def rejoins(self) -> tuple[Rejoin, ...]:
        """The last holes that were found and mended, oldest first."""
        return tuple(self._rejoins)

    async def changed(
        self,
        what: What | None = None,
        name: str | None = None,
        *,
        since: int | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Wait until something changes after commit `since` (default: now); returns the copy's `seq` then.

        `what` is a part of the account, `name` one of it: an asset, a position as `BTCUSDT:BOTH`, an order as
        `BTCUSDT:1001`. Give what this returned, or the `seq` of an answer, as the next `since`, and no change between
        two calls is lost; changes meanwhile count as one. Reading the account again after a hole counts as a change of
        all that differs. A `since` that the account has not reached (Redis lost everything, and numbers began anew) is
        answered at once.

        Raises:
            TimeoutError: nothing changed within `timeout_s`.
            StaleState: the mirror was closed.
            ConfigError: there is no such part or name.
        """
        table = _table_of(what, name)
        after = self._view.seq if since is None else since
        async with asyncio.timeout(timeout_s):
            while not after > self._view.seq and not self._last_changes.of(table, name) > after:
                if self._view.refusal:
                    self._refuse(self._view, self._age_s(self._view), self.max_age_s)
                await self._news.wait()
        return self._view.seq

    def on_totals(self, callback: Callback[Totals]) -> None:
        """Call `callback(before, after)` for every change of the totals.

        Callbacks are called in the order of commits, one at a time, beside the copy: a slow one delays the others and
        not the reads. One that is MAX_BEHIND commits behind gets those as one change, and the log says so. What it
        raises is logged. Values know their commit; their age is that of the call, and may be beyond `max_age_s`.
        """
        self._callbacks.totals.append(callback)

    def on_position(self, callback: Callback[Position], symbol: str | None = None) -> None:
        """Call `callback(before, after)` for every change of a position, mark prices included; None is flat."""
        self._callbacks.positions.append((symbol, callback))

    def on_order(self, callback: Callback[Order]) -> None:
        """Call `callback(before, after)` for every change of the open orders; None is not open (yet, or any more)."""
        self._callbacks.orders.append(callback)

    def on_rejoin(self, callback: Callable[[Rejoin], object]) -> None:
        """Call `callback(rejoin)` when the copy had to be read anew, before the callbacks for what differs."""
        self._callbacks.rejoins.append(callback)

    # How far the copy may be trusted

    def _age_s(self, view: _View) -> float:
        return view.age_s + self._clock.monotonic() - view.asked_at

    def _fresh(self, view: _View, table: _Table[Any], max_age_s: float | None) -> Freshness:
        limit_s = self.max_age_s if max_age_s is None else config.max_age(max_age_s)
        age_s = view.age_s + self._clock.monotonic() - view.asked_at
        if not view.good or age_s > limit_s:
            self._refuse(view, age_s, limit_s)
        # By position: this is most of a read's time.
        return Freshness(age_s, view.seq, table.source, "publisher", view.epoch, view.state, view.verified_at_ms)

    def _refuse(self, view: _View, age_s: float, limit_s: float) -> NoReturn:
        """Say why the copy is not served, in the words in which a reader would."""
        if view.mismatch:
            raise ContractMismatch(self._client.server, view.mismatch)
        if view.age_s < 0:
            age_s = view.age_s  # Redis's clock was set back: no time that passes here makes up for it
        age_ms = None if math.isinf(age_s) else math.ceil(age_s * 1000)
        if age_ms is not None and age_s > limit_s:
            age_ms = max(age_ms, math.floor(limit_s * 1000) + 1)
        now_ms = view.verified_at_ms + (age_ms or 0)
        judged = judge(view.status, now_ms, limit_s * 1000, contract=CONTRACT, asked=TABLES, missing=view.missing)
        why, advice = judged.why, "start `statecast publish`, or see what its log says; the mirror goes on by itself"
        if view.refusal:
            why, advice = view.refusal, "read a mirror that runs"
        elif view.hole:
            why, advice = f"the copy has a hole ({view.hole}) and is read anew", "read again in a moment"
        else:
            refuse_unreadable(self.account_id, self._client.server, judged, limit_s)
        if self._trouble and not view.refusal:
            why, advice = f"{why}; the mirror cannot read on ({self._trouble})", "mend that; it goes on by itself"
        raise StaleState(str(self.account_id), None if age_ms is None else age_ms / 1000, limit_s, why, advice)

    # The copy

    async def _follow(self) -> None:
        """Keep the copy current, until cancelled."""
        pause_s = MAX_PAUSE_S / 20
        while True:
            try:
                await self._step()
            except ContractMismatch as error:
                self._doubt(str(error))
            except StoreError as error:
                self._meets(str(error))
            except Exception as error:  # noqa: BLE001 - whatever mistake of ours it was: the copy is in doubt, and read anew
                _log.exception("the mirror of %s made a mistake", self.account_id)
                self._doubt(f"a mistake of this program: {type(error).__name__}")
            else:
                self._meets("")
                pause_s = MAX_PAUSE_S / 20
                continue
            self._next_check = -math.inf
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, MAX_PAUSE_S)

    async def _step(self) -> None:
        wait_s = self._next_check - self._clock.monotonic()
        if self._view.hole:
            await self._join()
        elif not self._view.followable:
            await self._clock.sleep(wait_s)
            await self._join()
        elif wait_s > 0:
            block_ms = math.ceil(min(wait_s, CHECK_S) * 1000)
            self._take(await wait_for_changes(self._client, self.account_id, self._last_id, block_ms=block_ms))
        else:
            await self._check()

    def _meets(self, trouble: str) -> None:
        """Tell once that reading on is hindered, and once that it is not any more."""
        if trouble and not self._trouble:
            _log.warning("the mirror of %s cannot read on: %s", self.account_id, trouble)
        elif self._trouble and not trouble:
            _log.info("the mirror of %s reads on", self.account_id)
        self._trouble = trouble

    async def _check(self) -> None:
        """Ask whether the copy is whole, and how old it is."""
        asked_at = self._clock.monotonic()
        news = await read_news(self._client, self.account_id, self._last_id)
        self._take(news.changes)
        if self._view.hole or not news.complete:
            return
        if hole := _hole(self._view, news.status):
            self._doubt(hole)
            return
        self._show(self._view.adopting(news.status, news.now_ms, asked_at))
        self._next_check = asked_at + self._check_s

    def _take(self, changes: Iterable[Change]) -> None:
        """Apply commits, up to the first that does not fit."""
        for change in changes:
            before = self._view
            if change.epoch != before.epoch:
                return self._doubt(_other_epoch(change.epoch, before.epoch))
            if change.seq != before.seq + 1:
                return self._doubt(f"commit {change.seq} came after {before.seq}")
            try:
                after, names = self._applied(before, change)
            except ValueError as error:
                return self._doubt(f"commit {change.seq} does not fit: {error}")
            self._last_id = change.entry_id
            self._show(after, names)
        return None

    def _applied(self, before: _View, change: Change) -> tuple[_View, Names]:
        """The copy after a commit; ValueError if it is none of this copy."""
        names: dict[str, set[str]] = {}
        texts: dict[str, Mapping[str, TextRow]] = {}
        tables: dict[str, Any] = {}
        for table in change.parts.keys() & self._text.keys():
            texts[table], names[table] = apply(self._text[table], change.parts[table], replaces=change.replaces)
            rows = dict(getattr(before, table).rows)
            for name in names[table]:
                rows.pop(name, None)
                if name in texts[table]:
                    rows[name] = _decoded(table, name, texts[table][name])
            tables[table] = _Table(rows, change.seq, cast(Source, change.source))
        self._text = {**self._text, **texts}
        # A hash that is missing comes back by a commit that replaces all; it is served once Redis has vouched for it.
        missing = () if change.replaces else before.missing
        return before._replace(seq=change.seq, missing=missing, **tables), names

    async def _join(self) -> None:
        """Read the account, and from where to follow it."""
        asked_at = self._clock.monotonic()
        stored = await read_account(self._client, self.account_id, last_change=True)
        before, text_before = self._view, self._text
        after = self._joined(stored).adopting(stored.status, stored.now_ms, asked_at)
        self._last_id = stored.last_change
        self._next_check = asked_at + self._check_s
        names = {table: _differing(text_before[table], self._text[table]) for table in TABLES}
        rejoins: tuple[Rejoin, ...] = ()
        if before.hole:
            rejoins = (Rejoin(before.seq, int(stored.status.get("seq", 0)), before.hole),)
            self._rejoins += rejoins
            _log.warning("the mirror of %s read the account anew: %s", self.account_id, before.hole)
        if before.refusal or after.seq < before.seq:
            self._last_changes.begin_anew(after.seq)
        self._show(after, names, rejoins)

    def _joined(self, stored: StoredAccount) -> _View:
        """The copy as it was read. A hash that is not there leaves what was known of it, which is not served."""
        status = stored.status
        followable = {"seq", "epoch"} <= status.keys() and status.get("contract", CONTRACT) == CONTRACT
        view = self._view._replace(
            followable=followable, missing=stored.missing, refusal="", hole="", mismatch="", good=False
        )
        if not followable:
            return view
        texts: dict[str, Mapping[str, TextRow]] = {}
        tables: dict[str, Any] = {}
        for table, of_table in stored.provenance.items():
            text = getattr(stored, table)
            if table == "account":
                text = {"": {name: value for name, value in text.items() if name not in of_table}}
            known, rows = self._text[table], getattr(view, table).rows
            try:
                rows = {
                    name: rows[name] if known.get(name) == row else _decoded(table, name, row)
                    for name, row in text.items()
                }
            except ValueError as error:
                mismatch = f"{self.account_id} {table} is not as contract {CONTRACT} has it: {error}"
                return view._replace(mismatch=mismatch, followable=False)
            texts[table] = text
            tables[table] = _Table(rows, int(of_table.get("_seq", 0)), cast(Source, of_table.get("_source", "rest")))
        view = view._replace(seq=int(status["seq"]), epoch=int(status["epoch"]), **tables)
        self._text = {**self._text, **texts}
        return view

    def _doubt(self, hole: str) -> None:
        self._show(self._view._replace(hole=hole, good=False))

    def _show(self, view: _View, names: Names | None = None, rejoins: tuple[Rejoin, ...] = ()) -> None:
        """Let readers see `view`, and those who wait, that it changed."""
        before, self._view = self._view, view
        if names is not None:
            self._last_changes.note(names, view.seq)
            if not before.refusal:
                self._callbacks.put(_Step(before, view, names, rejoins))
        self._news.set()
        self._news = asyncio.Event()


class _Table(NamedTuple, Generic[Row]):
    """One hash, decoded. Rows have no freshness yet; `seq` and `source` are those of its last change."""

    rows: Mapping[str, Row]
    seq: int
    source: Source


_NOTHING: _Table[Any] = _Table({}, 0, "rest")


class _View(NamedTuple):
    """What a read needs, as of one commit and one answer about its age. Replaced as a whole, for readers in threads."""

    seq: int = 0
    epoch: int = 0
    account: _Table[Totals] = _NOTHING
    balances: _Table[Balance] = _NOTHING
    positions: _Table[Position] = _NOTHING
    orders: _Table[Order] = _NOTHING
    missing: tuple[str, ...] = TABLES
    followable: bool = False
    """There is a status, of our contract, so that commits can be followed."""

    status: Mapping[str, str] = {}
    state: str = ""
    verified_at_ms: int = 0
    age_s: float = math.inf
    """When `asked_at`, a monotonic time before the question was sent. Negative: Redis's clock was set back."""
    asked_at: float = 0.0
    good: bool = False
    """In order, if it is young enough."""

    refusal: str = ""
    """The mirror does not run."""
    hole: str = ""
    """Why the copy is not what it should be; it is read anew."""
    mismatch: str = ""
    """Redis holds what cannot be read."""

    def adopting(self, status: Mapping[str, str], now_ms: int, asked_at: float) -> _View:
        """With what Redis said of the age, of this very commit."""
        age = age_ms(status, now_ms)
        return self._replace(
            status=status,
            state=status.get("state", ""),
            verified_at_ms=0 if age is None else now_ms - age,
            age_s=math.inf if age is None else age / 1000,
            asked_at=asked_at,
        ).judged()

    def judged(self) -> _View:
        in_order = not self.mismatch and not self.hole and self.age_s >= 0
        verdict = judge(
            self.status, self.verified_at_ms, math.inf, contract=CONTRACT, asked=TABLES, missing=self.missing
        )
        return self._replace(good=in_order and verdict.fresh)


def _hole(view: _View, status: Mapping[str, str]) -> str:
    """Why the copy, with all entries that there are, is not what the status tells; empty if it is."""
    if not {"seq", "epoch"} <= status.keys():
        return "the status is gone"
    if (contract := status.get("contract", CONTRACT)) != CONTRACT:
        return f"the contract is {contract} now"
    seq, epoch = int(status["seq"]), int(status["epoch"])
    if epoch != view.epoch:
        return _other_epoch(epoch, view.epoch)
    if seq < view.seq:
        return f"Redis went back from commit {view.seq} to {seq}"
    if seq > view.seq:
        return f"the entries from commit {view.seq + 1} to {seq} are not there (any more)"
    return ""


def _other_epoch(epoch: int, known: int) -> str:
    return f"the epoch is {epoch}, the copy's {known}: a publisher has begun anew, or Redis was replaced"


def _decoded(table: str, name: str, text: TextRow) -> Answer:
    """A row without freshness; ValueError for text that is not of the contract."""
    if table == "account":
        return Totals(**values(Totals, text), freshness=_UNKNOWN)
    decode: Callable[[str, TextRow, Freshness], Answer] = {
        "balances": balance,
        "positions": position,
        "orders": order,
    }[table]
    return decode(name, text, _UNKNOWN)


_UNKNOWN = Freshness(math.inf, 0, "rest", "publisher", 0, "", 0)
"""Stands in rows until they are read."""


@lru_cache(4096)
def _flat(symbol: str, side: str, source: Source) -> Position:
    return Position.flat(symbol, side, Freshness(math.inf, 0, source, "publisher", 0, "", 0))


def _differing(before: Mapping[str, TextRow], after: Mapping[str, TextRow]) -> list[str]:
    return [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]


def _table_of(what: What | None, name: str | None) -> str | None:
    """The hash that holds it; ConfigError for what there cannot be."""
    if what is not None and what not in _TABLE_OF:
        raise ConfigError("what", str(what), ", ".join(_TABLE_OF))
    if name is not None and what in (None, "totals"):
        raise ConfigError("name", name, "a name within balances, positions or orders")
    if name is not None and what == "positions" and name.rpartition(":")[2] not in ("BOTH", "LONG", "SHORT"):
        raise ConfigError("name", name, "a position as SYMBOL:SIDE, such as BTCUSDT:BOTH")
    if name is not None and what == "orders" and ":" not in name:
        raise ConfigError("name", name, "an order as SYMBOL:ORDERID, such as BTCUSDT:1001")
    return None if what is None else _TABLE_OF[what]


class _LastChanges:
    """The commit of each entity's last change, for those who ask what they missed."""

    def __init__(self) -> None:
        self.begin_anew(0)

    def begin_anew(self, seq: int) -> None:
        """What was before `seq` is not known: it counts as a change of everything."""
        self._seqs: dict[str, dict[str, int]] = {table: {} for table in TABLES}
        self._floors = dict.fromkeys(TABLES, seq)
        """Of what is not in `_seqs`, the last change was at this commit, or before it."""
        self._latest = dict.fromkeys(TABLES, seq)

    def note(self, names: Names, seq: int) -> None:
        for table, changed in names.items():
            seqs = self._seqs[table]
            for name in changed:
                seqs.pop(name, None)
                seqs[name] = seq
                self._latest[table] = seq
            while len(seqs) > REMEMBERED:
                self._floors[table] = seqs.pop(next(iter(seqs)))

    def of(self, table: str | None, name: str | None) -> int:
        if table is None:
            return max(self._latest.values())
        return self._latest[table] if name is None else self._seqs[table].get(name, self._floors[table])


class _Step(NamedTuple):
    """What callbacks are told at once: as a rule one commit."""

    before: _View
    after: _View
    names: Names
    rejoins: tuple[Rejoin, ...]

    def merged(self, later: _Step) -> _Step:
        names = {table: {*self.names.get(table, ()), *later.names.get(table, ())} for table in TABLES}
        return _Step(self.before, later.after, names, self.rejoins + later.rejoins)


class _Callbacks:
    """Calls what a user wants called, beside the copy and in its order."""

    def __init__(self, account_id: AccountId, age_s: Callable[[], float]) -> None:
        self.totals: list[Callback[Totals]] = []
        self.positions: list[tuple[str | None, Callback[Position]]] = []
        self.orders: list[Callback[Order]] = []
        self.rejoins: list[Callable[[Rejoin], object]] = []
        self._account_id = account_id
        self._age_s = age_s
        self._steps: deque[_Step] = deque()
        self._wake = asyncio.Event()

    def put(self, step: _Step) -> None:
        if not (self.totals or self.positions or self.orders or self.rejoins):
            return
        self._steps.append(step)
        if len(self._steps) > MAX_BEHIND:
            merged = self._steps.popleft()
            while self._steps:
                merged = merged.merged(self._steps.popleft())
            self._steps.append(merged)
            told = "the callbacks of the mirror of %s are %d commits behind, and get them as one change"
            _log.warning(told, self._account_id, MAX_BEHIND)
        self._wake.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._steps:
                await self._tell(self._steps.popleft())

    async def _tell(self, step: _Step) -> None:
        for rejoin in step.rejoins:
            for on_rejoin in self.rejoins:
                await self._call(on_rejoin, rejoin)
        for _, before, after in self._changed(step, "account"):
            for on_totals in self.totals:
                await self._call(on_totals, before, after)
        for name, before, after in self._changed(step, "positions"):
            for symbol, on_position in self.positions:
                if symbol is None or symbol == name.rpartition(":")[0]:
                    await self._call(on_position, before, after)
        for _, before, after in self._changed(step, "orders"):
            for on_order in self.orders:
                await self._call(on_order, before, after)

    def _changed(self, step: _Step, table: str) -> Iterator[tuple[str, Answer | None, Answer | None]]:
        for name in sorted(step.names.get(table, ())):
            values = [self._value(view, getattr(view, table), name) for view in (step.before, step.after)]
            if values[0] != values[1]:
                yield name, values[0], values[1]

    def _value(self, view: _View, table: _Table[Any], name: str) -> Answer | None:
        row: Answer | None = table.rows.get(name)
        if row is None:
            return None
        return row.at(
            Freshness(self._age_s(), view.seq, table.source, "publisher", view.epoch, view.state, view.verified_at_ms)
        )

    async def _call(self, callback: Callable[..., object], *values: object) -> None:
        try:
            result = callback(*values)
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            _log.exception("a callback of the mirror of %s was cancelled", self._account_id)
        except Exception:  # noqa: BLE001 - a user's mistake ends neither the mirror nor the other callbacks
            _log.exception("a callback of the mirror of %s failed", self._account_id)
