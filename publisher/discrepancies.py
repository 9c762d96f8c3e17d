"""The venue's answer against the state that the stream has built. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal, NamedTuple

from statecast.domain.account import Account
from statecast.domain.changes import Check
from statecast.domain.models import Order
from statecast.domain.orders import is_final
from statecast.venues.adapter import CheckPace

GRACE_S = 5.0
"""For so long, an event or an answer may be on its way before what differs counts as wrong."""

MAX_DESCRIBED = 10
"""Differences in words: the reason stands in Redis, and is written with every heartbeat."""

ZERO = Decimal(0)

Kind = Literal["holdings", "orders", "settings", "history", "opening"]


class Difference(NamedTuple):
    """`text` in words. `kind` is what has to be asked for to see whether it is still so, of `symbol` where it has one.

    Holdings are balances and positions. History is an order of which events are missing: no later answer makes that
    undone. An opening is the same of an order that is over, of which nothing but its opening event is missing. What the
    account has and the venue does not list is `recent` where REST may be behind: that is looked at again, and no doubt
    yet.
    """

    text: str
    kind: Kind
    symbol: str = ""
    recent: bool = False


def describe(texts: list[str]) -> str:
    """The first of them, and how many more there are."""
    more = [f"and {len(texts) - MAX_DESCRIBED} more"] if len(texts) > MAX_DESCRIBED else []
    return "; ".join(texts[:MAX_DESCRIBED] + more)


def differences(account: Account, answer: Check, wallet_error: Decimal = ZERO) -> dict[str, Difference]:
    """Where `answer` differs from `account`, by what the account has and since when. Wallets within `wallet_error` are
    the same.

    What the stream knows better is no difference: the venue gives its rows the time of their last change, and REST is
    behind the stream at times, though never for long. All else may be an event on its way; but where the account is
    still the same after the grace, the stream has not sent what it should have.
    """
    comparison = _Comparison(account, answer, wallet_error)
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
        recent: bool = False,
    ) -> None:
        text = f"{what} {ours}, venue {theirs}"
        self.found[f"{what} {ours} since {since_ms}"] = Difference(text, kind, symbol, recent)

    def _is_recent(self, since_ms: int) -> bool:
        return self.account.rest.is_recent(since_ms, self.answer.taken_ms)

    def _stream_is_newer(self, ours_ms: int, theirs_ms: int) -> bool:
        return self.account.rest.stream_is_newer(ours_ms, theirs_ms, self.answer.taken_ms)

    def wallets(self) -> None:
        for balance in self.answer.balances:
            known = self.account.balances.get(balance.asset)
            if known is None:
                if not self._is_same_wallet(balance.wallet_balance, ZERO):
                    self._note(f"{balance.asset} wallet balance", "unknown", 0, balance.wallet_balance)
            elif not self._stream_is_newer(known.stamp.venue_time_ms, balance.stamp.venue_time_ms):
                what, since_ms = f"{balance.asset} wallet balance", known.stamp.venue_time_ms
                if not self._is_same_wallet(known.wallet_balance, balance.wallet_balance):
                    self._note(what, known.wallet_balance, since_ms, balance.wallet_balance)
                elif not self._is_same_wallet(known.cross_wallet_balance, balance.cross_wallet_balance):
                    self._note(f"{what} (cross)", known.cross_wallet_balance, since_ms, balance.cross_wallet_balance)

    def _is_same_wallet(self, ours: Decimal, theirs: Decimal) -> bool:
        return abs(ours - theirs) <= self.wallet_error

    def positions(self) -> None:
        listed = {row.key: row for row in self.answer.positions}
        for key, row in self.account.positions.items():
            theirs = listed.get(key)
            since_ms = row.stamp.venue_time_ms
            what = f"{key.symbol} {key.position_side}"
            if theirs is None:
                if not self._stream_is_newer(since_ms, self.answer.taken_ms):
                    self._note(what, row.position_amt, since_ms, "none", recent=self._is_recent(since_ms))
            elif theirs.position_amt != row.position_amt:
                if not self._stream_is_newer(since_ms, theirs.stamp.venue_time_ms):
                    self._note(what, row.position_amt, since_ms, theirs.position_amt)
            elif since_ms < theirs.stamp.venue_time_ms:
                # The size is the same and the position is not: closed and opened again, or with other margin. Its time
                # alone proves nothing, for the venue does not say what else moves that.
                for figure, our_own, the_venues in (
                    ("entry price", row.entry_price, theirs.entry_price),
                    ("isolated wallet", row.isolated_wallet, theirs.isolated_wallet),
                ):
                    if our_own is not None and the_venues is not None and our_own != the_venues:
                        self._note(f"{what} {figure}", our_own, since_ms, the_venues)
        for key, theirs in listed.items():
            closed_ms = self.account.closed_ms(key)
            if key not in self.account.positions and not self._stream_is_newer(closed_ms, theirs.stamp.venue_time_ms):
                self._note(f"{key.symbol} {key.position_side}", "none", closed_ms, theirs.position_amt)

    def open_orders(self) -> None:
        listed = {order.key: order for order in self.answer.orders}
        symbols = self.answer.order_symbols
        for key, order in self.account.orders.items():
            if symbols is not None and order.symbol not in symbols:
                continue
            theirs, since_ms = listed.get(key), order.venue_time_ms
            what = f"order {key}"
            if theirs is None:
                if not self._stream_is_newer(since_ms, self.answer.taken_ms):
                    recent = self._is_recent(since_ms)
                    self._note(what, order.status, since_ms, "none", "orders", order.symbol, recent=recent)
            elif _terms(order) != _terms(theirs) and not self._stream_is_newer(since_ms, theirs.venue_time_ms):
                self._note(what, _text(order), since_ms, _text(theirs), "orders", order.symbol)
        for key, theirs in listed.items():
            ended_ms = self.account.finished_ms(key)
            if key in self.account.orders or ended_ms == theirs.venue_time_ms:
                continue
            if not self._stream_is_newer(ended_ms, theirs.venue_time_ms):
                self._note(f"order {key}", "none", ended_ms, theirs.status, "orders", theirs.symbol)

    def created_orders(self) -> None:
        for order in self.answer.created:
            if ours := _known_as(self.account, order):
                recent = ours == "TRIGGERED"
                self._note(f"order {order.key}", ours, 0, order.status, "history", order.symbol, recent=recent)

    def incomplete_orders(self) -> None:
        for key, incomplete in self.account.incomplete_orders.items():
            text = f"order {key}: events are missing"
            kind: Kind = "opening" if incomplete.filled < 0 and self.account.finished_ms(key) else "history"
            self.found[text] = Difference(text, kind, incomplete.order.symbol, recent=True)

    def settings(self) -> None:
        for symbol, theirs in (self.answer.symbol_configs or {}).items():
            known = self.account.symbol_configs.get(symbol)
            if known is None:
                continue
            if known.leverage is not None and known.leverage != theirs.leverage:
                self._note(f"{symbol} leverage", known.leverage, 0, theirs.leverage, "settings", symbol)
            differs = known.margin_type is not None and known.margin_type != theirs.margin_type
            if differs and self.account.has_rows(symbol):
                self._note(f"{symbol} margin type", known.margin_type, 0, theirs.margin_type, "settings", symbol)
        theirs_multi, ours_multi = self.answer.multi_assets, self.account.multi_assets
        if theirs_multi is not None and theirs_multi is not ours_multi:
            self._note("multi-assets mode", ours_multi, 0, theirs_multi, "settings")


def _terms(order: Order) -> tuple[object, ...]:
    """What an event would have changed. What is nothing may be left out by one of the two."""
    return order.status, order.executed_qty or 0, order.quantity or 0, order.price or 0


def _text(order: Order) -> str:
    return f"{order.status} {order.executed_qty} of {order.quantity} at {order.price}"


def _known_as(account: Account, order: Order) -> str:
    """The status that the account believes of an order which has gone on, as the venue lists it; empty where the
    account knows of that."""
    if order.key in account.triggered:
        return "TRIGGERED" if is_final(order) else ""
    known = order.key in account.orders or account.finished_ms(order.key)
    return "" if known or order.venue_time_ms < account.remembers_orders_since_ms else "unknown"


class _Discrepancy(NamedTuple):
    difference: Difference
    since_mono_s: float
    answer: Check
    repeated: bool = False


class Discrepancies:
    """Differences that may still be explained: by the stream, or by a later answer. Times are monotonic seconds."""

    def __init__(self, pace: CheckPace, wallet_error: Decimal = ZERO, grace_s: float = GRACE_S) -> None:
        """`wallet_error` as in `Traits`; for `grace_s` a difference may be explained."""
        self._pace = pace
        self._wallet_error = wallet_error
        self._grace_s = grace_s
        self._found: dict[str, _Discrepancy] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def __str__(self) -> str:
        return describe([one.difference.text for one in self._found.values()])

    @property
    def grace_s(self) -> float:
        """For so long a difference may be explained."""
        return self._grace_s

    @property
    def doubtful(self) -> bool:
        """Whether one of them is more than an event that REST may not have yet."""
        return any(not one.difference.recent for one in self._found.values())

    @property
    def of_history(self) -> bool:
        """Whether one of them is that events of an order are missing: the log may not have them."""
        return any(one.difference.kind in ("history", "opening") for one in self._found.values())

    def only_openings(self, now_mono_s: float) -> list[str]:
        """What has differed for longer than the grace, in words, if it is nothing but opening events."""
        old = [one.difference for one in self._found.values() if now_mono_s - one.since_mono_s >= self._grace_s]
        return [one.text for one in old] if all(one.kind == "opening" for one in old) else []

    @property
    def repeated(self) -> bool:
        """Whether a second answer has not explained one of them."""
        return any(one.repeated for one in self._found.values())

    @property
    def order_symbols(self) -> frozenset[str] | None:
        """Whose open orders have to be asked for again; None: of all symbols, which costs less than each of so many."""
        symbols = frozenset(one.difference.symbol for one in self._found.values() if one.difference.kind == "orders")
        return symbols if len(symbols) <= self._pace.orders_by_symbol else None

    @property
    def settings(self) -> bool:
        """Whether settings have to be asked for again."""
        return any(one.difference.kind == "settings" for one in self._found.values())

    def forget(self) -> None:
        """The account was read again."""
        self._found.clear()

    def take(self, account: Account, answer: Check, now_mono_s: float) -> None:
        """What the answer says otherwise, and what it was not asked about.

        What is recent is noted by the first answer alone: where orders are placed all the time, every answer misses
        some, and asking again would have no end.
        """
        asked_again = bool(self._found)
        self.explain(account)
        # Of the thousands of orders that were placed meanwhile, those that the account knows need not be kept.
        answer = replace(answer, created=tuple(order for order in answer.created if _known_as(account, order)))
        kept = {
            what: one._replace(repeated=not one.difference.recent)
            for what, one in self._found.items()
            if not _covers(answer, one.difference)
        }
        for what, difference in differences(account, answer, self._wallet_error).items():
            before = self._found.get(what)
            if before is None and difference.recent and asked_again:
                continue
            since_mono_s = before.since_mono_s if before is not None else now_mono_s
            repeated = before is not None and not difference.recent
            kept[what] = _Discrepancy(difference, since_mono_s, answer, repeated)
        self._found = kept

    def explain(self, account: Account) -> None:
        """Forget what the account has otherwise by now: the stream has sent it."""
        answers = {id(one.answer): one.answer for one in self._found.values()}
        still = {number: differences(account, answer, self._wallet_error).keys() for number, answer in answers.items()}
        self._found = {what: one for what, one in self._found.items() if what in still[id(one.answer)]}

    def unexplained(self, now_mono_s: float) -> list[str]:
        """What has differed for longer than the grace, in words."""
        return [one.difference.text for one in self._found.values() if now_mono_s - one.since_mono_s >= self._grace_s]


def _covers(answer: Check, difference: Difference) -> bool:
    """Whether the answer would show the difference, were it still there."""
    match difference.kind:
        case "holdings":
            return True
        case "orders":
            return answer.order_symbols is None or difference.symbol in answer.order_symbols
        case "settings":
            return answer.multi_assets is not None
        case "history" | "opening":
            return False
