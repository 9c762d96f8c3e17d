"""The venue's answer against the state that the stream has built. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal, NamedTuple

from statecast.domain.account import Account
from statecast.domain.changes import Check, Unreadable, missing_rows
from statecast.domain.models import Balance, Order, OrderKey, PositionKey
from statecast.domain.orders import LOST, is_final, is_over, is_understood
from statecast.domain.snapshot_merge import Asked, RestTiming, youngest_ms
from statecast.venues.adapter import CheckPace

GRACE_S = 5.0
"""For so long, an event or an answer may be on its way before what differs counts as wrong."""

RECURS_S = 3_600.0
"""Where one wallet alone differs a second time within this, the venue changes it without an event."""

MAX_DESCRIBED = 10
"""Differences in words: the reason stands in Redis, and is written with every heartbeat."""

ZERO = Decimal(0)

Kind = Literal["holdings", "orders", "settings", "history", "opening"]

Key = str | PositionKey | OrderKey
"""Of a balance, a position or an order."""

Meaning = Literal["recent", "old answer", "unreadable", "plain"]
"""What a difference means.

    recent      REST usually does not have yet what the account has: it is looked at again, and no doubt yet
    old answer  the answer shows an older state than the stream has sent, and is later than REST should be: a doubt,
                but no reason to take the answer's word
    unreadable  the answer's row cannot be understood: a doubt that lasts until an answer has it
    plain       the answer is as new as what the account has, or newer: the stream has missed something, unless it is on
                its way
"""


class Difference(NamedTuple):
    """`text` in words. `kind` is what has to be asked for to see whether it is still so, of `symbol` where it has one.

    Holdings are balances and positions. History is an order of which events are missing: no later answer makes that
    undone. An opening is the same of an order that is over, of which nothing but its opening event is missing.
    """

    text: str
    kind: Kind
    symbol: str = ""
    meaning: Meaning = "plain"
    asset: str = ""
    """Whose wallet it is, where it is one's and no more."""
    order: OrderKey | None = None
    """Which order the venue does not list: it is asked for by its id."""
    key: Key | None = None
    """Of which balance, position or order it is."""


def describe(texts: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = [f"and {len(texts) - MAX_DESCRIBED} more"] if len(texts) > MAX_DESCRIBED else []
    return "; ".join([*texts[:MAX_DESCRIBED], *more])


def differences(account: Account, answer: Check, wallet_error: Decimal = ZERO) -> dict[str, Difference]:
    """Where `answer` differs from `account`, by what the account has and since when. Wallets within `wallet_error` are
    the same.

    A row of the stream that is newer than the answer's is no difference where REST is behind as usual. All else may be
    an event on its way; but where the account is still the same after the grace, the stream has not sent what it should
    have.
    """
    comparison = _Comparison(account, answer, wallet_error, missing_rows(answer.unreadable))
    comparison.found.update(_not_understood(answer.unreadable))
    comparison.wallets()
    comparison.positions()
    comparison.open_orders()
    comparison.created_orders()
    comparison.incomplete_orders()
    comparison.settings()
    return comparison.found


@dataclass(frozen=True, slots=True)
class _Comparison:
    """One answer against one account."""

    account: Account
    answer: Check
    wallet_error: Decimal
    missing: frozenset[str | PositionKey | OrderKey]
    """Whose rows the answer has not, though the venue lists them."""
    found: dict[str, Difference] = field(default_factory=dict)

    def _note(
        self,
        what: str,
        ours: object,
        since_ms: int,
        theirs: object,
        kind: Kind = "holdings",
        symbol: str = "",
        *,
        meaning: Meaning = "plain",
        asset: str = "",
        order: OrderKey | None = None,
        key: Key | None = None,
    ) -> None:
        text = f"{what} {ours}, venue {theirs}"
        self.found[f"{what} {ours} since {since_ms}"] = Difference(text, kind, symbol, meaning, asset, order, key)

    def _meaning(self, key: Key, ours_ms: int, theirs_ms: int) -> Meaning | None:
        """Of another value in the answer's row, by the times of the two; None: REST is behind as usual."""
        rest, asked_ms = self.account.rest, self.answer.taken_ms
        if not rest.stands(ours_ms, theirs_ms, Asked.of(self.answer)):
            return "plain"
        is_usual = rest.is_behind_as_usual(ours_ms, asked_ms) and not self.account.is_doubtful(key)
        return None if is_usual else "old answer"

    def _unlisted_meaning(self, key: Key, ours_ms: int, *, stands: bool) -> Meaning | None:
        """Of a row that the answer does not list; None: it is younger than the question."""
        if self.account.is_doubtful(key):
            return "old answer" if stands else "plain"
        return self._meaning_without_time(ours_ms, stands=stands)

    def _setting_meaning(self, ours_ms: int) -> Meaning | None:
        """Of another value of a setting: no answer gives it a time."""
        return self._meaning_without_time(
            ours_ms, stands=self.account.rest.stands_unlisted(ours_ms, 0, Asked.of(self.answer))
        )

    def _meaning_without_time(self, ours_ms: int, *, stands: bool) -> Meaning | None:
        rest, asked_ms = self.account.rest, self.answer.taken_ms
        if asked_ms < ours_ms <= asked_ms + rest.lag_ms:
            return None
        if rest.is_recent(ours_ms, asked_ms):
            return "recent"
        return "old answer" if stands else "plain"

    def wallets(self) -> None:
        listed = {row.asset: row for row in self.answer.balances}
        for asset, known in self.account.balances.items():
            theirs, what, since_ms = listed.get(asset), f"{asset} wallet balance", known.stamp.venue_time_ms
            ours_ms = self.account.balance_ms(known)
            if theirs is None:
                if asset not in self.missing:
                    self._unlisted_wallet(known, ours_ms)
                continue
            meaning = self._meaning(asset, ours_ms, theirs.stamp.venue_time_ms)
            if meaning is None:
                continue
            if not self._is_same_wallet(known.wallet_balance, theirs.wallet_balance):
                values = known.wallet_balance, since_ms, theirs.wallet_balance
                self._note(what, *values, meaning=meaning, asset=asset, key=asset)
            elif not self._is_same_wallet(known.cross_wallet_balance, theirs.cross_wallet_balance):
                values = known.cross_wallet_balance, since_ms, theirs.cross_wallet_balance
                self._note(f"{what} (cross)", *values, meaning=meaning, key=asset)
        for asset, theirs in listed.items():
            if asset not in self.account.balances and not self._is_same_wallet(theirs.wallet_balance, ZERO):
                self._note(f"{asset} wallet balance", "unknown", 0, theirs.wallet_balance, asset=asset, key=asset)

    def _unlisted_wallet(self, known: Balance, ours_ms: int) -> None:
        if self._is_same_wallet(known.wallet_balance, ZERO):
            return
        youngest = youngest_ms(self.answer.balances)
        stands = self.account.rest.stands_unlisted(ours_ms, youngest, Asked.of(self.answer))
        if meaning := self._unlisted_meaning(known.asset, ours_ms, stands=stands):
            what, since_ms = f"{known.asset} wallet balance", known.stamp.venue_time_ms
            self._note(what, known.wallet_balance, since_ms, "none", meaning=meaning, key=known.asset)

    def _is_same_wallet(self, ours: Decimal, theirs: Decimal) -> bool:
        return abs(ours - theirs) <= self.wallet_error

    def positions(self) -> None:
        listed = {row.key: row for row in self.answer.positions}
        youngest = youngest_ms(self.answer.positions)
        for key, row in self.account.positions.items():
            theirs = listed.get(key)
            since_ms, ours_ms = row.stamp.venue_time_ms, self.account.position_ms(key)
            what = f"{key.symbol} {key.position_side}"
            if theirs is None:
                stands = self.account.stands_unlisted(row, youngest, Asked.of(self.answer))
                meaning = self._unlisted_meaning(key, ours_ms, stands=stands)
                if meaning and key not in self.missing:
                    self._note(what, row.position_amt, since_ms, "none", meaning=meaning, key=key)
            elif theirs.position_amt != row.position_amt:
                if meaning := self._meaning(key, ours_ms, theirs.stamp.venue_time_ms):
                    self._note(what, row.position_amt, since_ms, theirs.position_amt, meaning=meaning, key=key)
            elif since_ms < theirs.stamp.venue_time_ms:
                # The size is the same and the position is not: closed and opened again, or with other margin. Its time
                # alone proves nothing, for the venue does not say what else moves that.
                for figure, our_own, the_venues in (
                    ("entry price", row.entry_price, theirs.entry_price),
                    ("isolated wallet", row.isolated_wallet, theirs.isolated_wallet),
                ):
                    if our_own is not None and the_venues is not None and our_own != the_venues:
                        self._note(f"{what} {figure}", our_own, since_ms, the_venues, key=key)
        for key, theirs in listed.items():
            closed_ms = self.account.position_ms(key)
            if key in self.account.positions:
                continue
            if meaning := self._meaning(key, closed_ms, theirs.stamp.venue_time_ms):
                what = f"{key.symbol} {key.position_side}"
                self._note(what, "none", closed_ms, theirs.position_amt, meaning=meaning, key=key)

    def open_orders(self) -> None:
        listed = {order.key: order for order in self.answer.orders}
        symbols = self.answer.order_symbols
        # The list may be behind what the venue says of the order itself.
        open_by_id = {order.key for order in self.answer.created if _is_open(order)}
        for key, order in self.account.orders.items():
            if (symbols is not None and order.symbol not in symbols) or (key not in listed and key in open_by_id):
                continue
            theirs, since_ms, ours_ms = listed.get(key), order.venue_time_ms, self.account.order_ms(order)
            what = f"order {key}"
            if theirs is None:
                # Only its own document says that it is over, see `created_orders`.
                stands = self.account.rest.stands_unlisted(ours_ms, 0, Asked.of(self.answer))
                meaning = self._unlisted_meaning(key, ours_ms, stands=stands)
                if meaning and key not in self.missing:
                    values = order.status, since_ms, "none"
                    self._note(what, *values, "orders", order.symbol, meaning=meaning, order=key, key=key)
            elif _terms(order) != _terms(theirs):
                # What is filled never gets less: by that, an older answer shows itself whatever its time is.
                is_less = (theirs.executed_qty or ZERO) < (order.executed_qty or ZERO)
                theirs_ms = min(theirs.venue_time_ms, ours_ms - 1) if is_less else theirs.venue_time_ms
                if meaning := self._meaning(key, ours_ms, theirs_ms):
                    values = _text(order), since_ms, _text(theirs)
                    self._note(what, *values, "orders", order.symbol, meaning=meaning, key=key)
        for key, theirs in listed.items():
            ended_ms = self.account.finished_ms(key)
            if key in self.account.orders or ended_ms == theirs.venue_time_ms:
                continue
            if meaning := self._meaning(key, ended_ms, theirs.venue_time_ms):
                values = "none", ended_ms, theirs.status
                self._note(f"order {key}", *values, "orders", theirs.symbol, meaning=meaning, key=key)

    def created_orders(self) -> None:
        listed = self.missing | {order.key for order in self.answer.orders}
        for order in self.answer.created:
            if order.status == LOST and order.key in listed:
                continue  # It is open, and what else this row means is not known.
            if ours := _known_as(self.account, order):
                meaning: Meaning = "recent" if ours == "TRIGGERED" else "plain"
                self._note(f"order {order.key}", ours, 0, order.status, "history", order.symbol, meaning=meaning)

    def incomplete_orders(self) -> None:
        for key, incomplete in self.account.incomplete_orders.items():
            text = f"order {key}: events are missing"
            kind: Kind = "opening" if incomplete.filled < 0 and self.account.finished_ms(key) else "history"
            self.found[text] = Difference(text, kind, incomplete.order.symbol, "recent")

    def settings(self) -> None:
        for symbol, theirs in (self.answer.symbol_configs or {}).items():
            known = self.account.symbol_configs.get(symbol)
            if known is None:
                continue
            if None not in (known.leverage, theirs.leverage) and known.leverage != theirs.leverage:
                since_ms = self.account.set_ms(symbol, "leverage")
                self._note_setting(f"{symbol} leverage", known.leverage, since_ms, theirs.leverage, symbol)
            is_given = None not in (known.margin_type, theirs.margin_type)
            if is_given and known.margin_type != theirs.margin_type and self.account.has_rows(symbol):
                since_ms = self.account.set_ms(symbol, "margin type")
                self._note_setting(f"{symbol} margin type", known.margin_type, since_ms, theirs.margin_type, symbol)
        theirs_multi, ours_multi = self.answer.multi_assets, self.account.multi_assets
        if theirs_multi is not None and theirs_multi is not ours_multi:
            since_ms = self.account.set_ms("", "margin mode")
            self._note_setting("multi-assets mode", ours_multi, since_ms, theirs_multi)

    def _note_setting(self, what: str, ours: object, since_ms: int, theirs: object, symbol: str = "") -> None:
        if meaning := self._setting_meaning(since_ms):
            self._note(what, ours, since_ms, theirs, "settings", symbol, meaning=meaning)


def _not_understood(unreadable: Iterable[Unreadable]) -> dict[str, Difference]:
    """The rows of an answer of which nothing is known."""
    return {
        text: Difference(text, "orders", key.symbol, "unreadable")
        if isinstance(key, OrderKey)
        else Difference(text, "holdings", meaning="unreadable")
        for text, key in unreadable
        if key is not None
    }


def _terms(order: Order) -> tuple[object, ...]:
    """What an event would have changed. What is nothing may be left out by one of the two."""
    return order.status, order.executed_qty or 0, order.quantity or 0, order.price or 0


def _text(order: Order) -> str:
    return f"{order.status} {order.executed_qty} of {order.quantity} at {order.price}"


def _is_open(order: Order) -> bool:
    """Whether an order's own document says that it is open."""
    return is_understood(order) and not is_over(order)


def _known_as(account: Account, order: Order) -> str:
    """The status that the account believes of an order which has gone on, as the venue lists it; empty where the
    account knows of that. A row that cannot be understood says nothing of an order that is open."""
    if order.key in account.triggered:
        return "TRIGGERED" if is_final(order) else ""
    ours = account.orders.get(order.key)
    if ours is not None and order.status != LOST and is_over(order) and order.venue_time_ms >= ours.venue_time_ms:
        return ours.status
    known = ours is not None or account.finished_ms(order.key) or account.is_end_logged(order.key)
    return "" if known or order.venue_time_ms < account.remembers_orders_since_ms else "unknown"


class _Discrepancy(NamedTuple):
    difference: Difference
    since_mono_s: float
    answer: Check
    """What showed it last."""
    shown_mono_s: float
    """When that was."""
    repeated: bool = False


class Discrepancies:
    """Differences that may still be explained: by the stream, or by a later answer. Times are monotonic seconds."""

    def __init__(self, pace: CheckPace, wallet_error: Decimal = ZERO, grace_s: float = GRACE_S) -> None:
        """`wallet_error` as in `Traits`; for `grace_s` a difference may be explained."""
        self._pace = pace
        self._wallet_error = wallet_error
        self._grace_s = grace_s
        self._found: dict[str, _Discrepancy] = {}
        self._wallets_alone_mono_s: dict[str, float] = {}
        """When a wallet was last all that differed, by asset."""

    def __bool__(self) -> bool:
        """Whether there is one that the stream, or another answer soon, may explain."""
        return any(one.difference.meaning != "unreadable" for one in self._found.values())

    def __str__(self) -> str:
        return describe([one.difference.text for one in self._found.values()])

    @property
    def grace_s(self) -> float:
        """For so long a difference may be explained."""
        return self._grace_s

    @property
    def doubtful(self) -> bool:
        """Whether one of them is more than an event that REST may not have yet."""
        return any(one.difference.meaning != "recent" for one in self._found.values())

    @property
    def of_history(self) -> bool:
        """Whether one of them is that events of an order are missing: the log may not have them."""
        return any(one.difference.kind in ("history", "opening") for one in self._found.values())

    @property
    def history_symbols(self) -> frozenset[str]:
        """Symbols of orders of which events are missing."""
        kinds = ("history", "opening")
        return frozenset(one.difference.symbol for one in self._found.values() if one.difference.kind in kinds)

    def only_openings(self, now_mono_s: float) -> list[str]:
        """What has differed for longer than the grace, in words, if it is nothing but opening events."""
        old = self._older_than_grace(now_mono_s)
        return [one.text for one in old] if all(one.kind == "opening" for one in old) else []

    @property
    def old_answers_only(self) -> bool:
        """Whether all of them are that REST is behind."""
        return all(one.difference.meaning == "old answer" for one in self._found.values())

    def wallets_that_recur(self, now_mono_s: float) -> list[Balance]:
        """The venue's rows of the wallets that are all that differs, where each was so before; else none."""
        before = [self._wallets_alone_mono_s.get(asset) for asset in self._wallets_alone("recent")]
        if not before or not all(at is not None and now_mono_s - at < RECURS_S for at in before):
            return []
        shown = [(one.difference.asset, one.answer) for one in self._found.values()]
        return [row for asset, answer in shown for row in answer.balances if row.asset == asset]

    def note_wallets_alone(self, now_mono_s: float) -> None:
        """What differs is drift: remember it, where it is nothing but wallets."""
        self._wallets_alone_mono_s |= dict.fromkeys(
            self._wallets_alone("recent", "old answer", "unreadable"), now_mono_s
        )

    def _wallets_alone(self, *but: Meaning) -> list[str]:
        """The assets of the wallets that differ, where nothing else does; `but`: what is not looked at."""
        left = [one.difference for one in self._found.values() if one.difference.meaning not in but]
        is_alone = all(one.asset and one.meaning == "plain" for one in left)
        return [one.asset for one in left] if is_alone else []

    @property
    def repeated(self) -> bool:
        """Whether a second answer has not explained one of them, or none could."""
        return any(one.repeated for one in self._found.values())

    @property
    def order_symbols(self) -> frozenset[str] | None:
        """Whose open orders have to be asked for again; None: of all symbols, which costs less than each of so many."""
        symbols = frozenset(one.difference.symbol for one in self._found.values() if one.difference.kind == "orders")
        return symbols if len(symbols) <= self._pace.orders_by_symbol else None

    @property
    def unlisted_orders(self) -> tuple[OrderKey, ...]:
        """Orders that the venue does not list: only their own documents say whether they are over."""
        return tuple(one.difference.order for one in self._found.values() if one.difference.order is not None)

    @property
    def settings(self) -> bool:
        """Whether settings have to be asked for again."""
        return any(one.difference.kind == "settings" for one in self._found.values())

    def begin_again(self, account: Account, snapshot: Check, now_mono_s: float) -> None:
        """The account was read again, and has gone on since. What the snapshot shows otherwise was older there than in
        the account, or could not be understood."""
        self._found = {
            what: _Discrepancy(one, now_mono_s, snapshot, now_mono_s, repeated=one.meaning == "unreadable")
            for what, one in differences(account, snapshot, self._wallet_error).items()
            if one.meaning in ("old answer", "unreadable")
        }

    def take(self, account: Account, answer: Check, now_mono_s: float) -> None:
        """What the answer says otherwise, what it was not asked about, and what it is too old for.

        What is recent is noted by the first answer alone: where orders are placed all the time, every answer misses
        some, and asking again would have no end.
        """
        asked_again = bool(self)
        self.explain(account)
        # Of the thousands of orders that were placed meanwhile, those that the account knows as they are need not be
        # kept, but for those that it has open and the venue does not list.
        listed = {order.key for order in answer.orders}
        unlisted = account.orders.keys() - listed if answer.order_symbols != frozenset() else frozenset()
        created = (order for order in answer.created if order.key in unlisted or _known_as(account, order))
        answer = replace(answer, created=tuple(created))
        found = differences(account, answer, self._wallet_error)
        not_covered = {what for what, one in self._found.items() if not _covers(answer, one.difference)}
        too_old = {
            what
            for what, one in self._found.items()
            if what not in not_covered and _is_too_old(answer, one, account.rest, now_mono_s, differs=what in found)
        }
        kept = {
            what: one._replace(repeated=one.difference.meaning != "recent")
            for what, one in self._found.items()
            if what in not_covered or what in too_old
        }
        for what, difference in found.items():
            before = self._found.get(what)
            if what in too_old or (before is None and difference.meaning == "recent" and asked_again):
                continue
            since_mono_s = before.since_mono_s if before is not None else now_mono_s
            is_unreadable = difference.meaning == "unreadable"
            repeated = is_unreadable or (before is not None and difference.meaning != "recent")
            kept[what] = _Discrepancy(difference, since_mono_s, answer, now_mono_s, repeated)
        self._found = kept

    def explain(self, account: Account) -> None:
        """Forget what the account has otherwise by now: the stream has sent it."""
        answers = {id(one.answer): one.answer for one in self._found.values()}
        still = {number: differences(account, answer, self._wallet_error).keys() for number, answer in answers.items()}
        self._found = {what: one for what, one in self._found.items() if what in still[id(one.answer)]}

    def unexplained(self, now_mono_s: float) -> list[str]:
        """What has differed for longer than the grace, in words. An old answer is no reason to end the stream, nor is
        what cannot be understood."""
        return [one.text for one in self._older_than_grace(now_mono_s) if one.meaning != "old answer"]

    def _older_than_grace(self, now_mono_s: float) -> list[Difference]:
        return [
            one.difference
            for one in self._found.values()
            if now_mono_s - one.since_mono_s >= self._grace_s and one.difference.meaning != "unreadable"
        ]


def _covers(answer: Check, difference: Difference) -> bool:
    """Whether the answer would show the difference, were it still there."""
    match difference.kind:
        case "holdings":
            return True
        case "orders":
            return answer.order_symbols is None or difference.symbol in answer.order_symbols
        case "settings":
            return answer.symbol_configs is not None
        case "history" | "opening":
            return False


def _is_too_old(answer: Check, one: _Discrepancy, rest: RestTiming, now_mono_s: float, *, differs: bool) -> bool:
    """Whether the answer may be older than the one that showed the difference, so that it proves nothing of it.
    `differs`: it shows it as well.

    REST may be behind, each answer by its own time. One that was asked for earlier is older, and so is one whose row of
    the same thing is, or its youngest row where it has none. What no row shows, for it is not listed or has no time, an
    answer proves only that was asked for so much later that REST usually has it by then. No answer is a minute behind:
    after that, each counts, whatever times it has.
    """
    if now_mono_s - one.shown_mono_s >= rest.believed_ms / 1000:
        return False
    if answer.taken_ms < one.answer.taken_ms:
        return True
    key = one.difference.key
    if one.difference.meaning != "plain":
        return False
    is_missing = key in missing_rows(answer.unreadable)
    shown, theirs = _row_times(one.answer, key), _row_times(answer, key)
    if key in shown:
        return is_missing or theirs.get(key, _youngest(theirs)) < shown[key]
    if is_missing:
        return False  # The venue lists it.
    # The youngest order may be over by now.
    is_older = not isinstance(key, OrderKey) and _youngest(theirs) < _youngest(shown)
    is_soon = answer.taken_ms < one.answer.taken_ms + rest.recent_ms
    return is_older or (is_soon and not differs)


def _row_times(answer: Check, key: Key | None) -> Mapping[Key | None, int]:
    """The times of the answer's balances, positions or orders in the symbol: of what the key is one of."""
    if isinstance(key, OrderKey):
        return {order.key: order.venue_time_ms for order in answer.orders if order.symbol == key.symbol}
    if isinstance(key, PositionKey):
        return {row.key: row.stamp.venue_time_ms for row in answer.positions}
    return {row.asset: row.stamp.venue_time_ms for row in answer.balances} if key is not None else {}


def _youngest(times: Mapping[Key | None, int]) -> int:
    return max(times.values(), default=0)
