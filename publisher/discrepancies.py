"""The venue's answer against the state that the stream has built. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

from statecast.domain.account import Account
from statecast.domain.changes import Check
from statecast.domain.models import Order
from statecast.domain.orders import is_final

GRACE_S = 5.0
"""So long, news may be on its way by one of the two before the other counts as wrong."""

MAX_SYMBOLS = 20
"""Asked for one by one, open orders cost two of weight for each symbol, and 80 for all."""

MAX_TOLD = 10
"""Differences in words: the reason stands in Redis, and is written with every heartbeat."""

Kind = Literal["holdings", "orders", "settings", "history", "beginning"]


class Difference(NamedTuple):
    """`told` in words. `kind` is what has to be asked for to see whether it is still so, of `symbol` where it has one.

    Holdings are balances and positions. History is an order of which the account has never heard, or not heard all: no
    later answer makes that undone. A beginning is the same of an order that is over, of which nothing but that it began
    is missing. What the account has and the venue does not list is `young` where REST may be behind: that is looked at
    again, and no doubt yet.
    """

    told: str
    kind: Kind
    symbol: str = ""
    young: bool = False


def describe(told: list[str]) -> str:
    """The first of them, and how many more there are."""
    more = [f"and {len(told) - MAX_TOLD} more"] if len(told) > MAX_TOLD else []
    return "; ".join(told[:MAX_TOLD] + more)


def differences(account: Account, answer: Check) -> dict[str, Difference]:
    """What `answer` says otherwise than `account`, by what the account says and since when.

    What the stream knows better is no difference: the venue gives its rows the time of their last change, and REST is
    behind the stream at times, though never for long. All else may be news on its way; but where the account still says
    the same after the grace, the stream has not told what it should have.
    """
    found: dict[str, Difference] = {}
    _compare_wallets(account, answer, found)
    _compare_positions(account, answer, found)
    _compare_orders(account, answer, found)
    _compare_created(account, answer, found)
    for key, incomplete in account.incomplete_orders.items():
        told = f"order {key}: not all was told of what happened to it"
        kind: Kind = "beginning" if incomplete.filled < 0 and account.finished_ms(key) else "history"
        found[told] = Difference(told, kind, incomplete.order.symbol, young=True)
    _compare_settings(account, answer, found)
    return found


def _note(
    found: dict[str, Difference],
    what: str,
    ours: object,
    since_ms: int,
    theirs: object,
    kind: Kind = "holdings",
    symbol: str = "",
    *,
    young: bool = False,
) -> None:
    found[f"{what} {ours} since {since_ms}"] = Difference(f"{what} {ours}, venue {theirs}", kind, symbol, young)


def _compare_wallets(account: Account, answer: Check, found: dict[str, Difference]) -> None:
    for balance in answer.balances:
        known = account.balances.get(balance.asset)
        if known is None:
            if balance.wallet_balance:
                _note(found, f"{balance.asset} wallet balance", "unknown", 0, balance.wallet_balance)
        elif not account.rest.stream_is_newer(known.stamp.venue_time_ms, balance.stamp.venue_time_ms, answer.taken_ms):
            what, since_ms = f"{balance.asset} wallet balance", known.stamp.venue_time_ms
            if known.wallet_balance != balance.wallet_balance:
                _note(found, what, known.wallet_balance, since_ms, balance.wallet_balance)
            elif known.cross_wallet_balance != balance.cross_wallet_balance:
                _note(found, f"{what} (cross)", known.cross_wallet_balance, since_ms, balance.cross_wallet_balance)


def _compare_positions(account: Account, answer: Check, found: dict[str, Difference]) -> None:
    listed = {row.key: row for row in answer.positions}
    for key, row in account.positions.items():
        told = listed.get(key)
        since_ms = row.stamp.venue_time_ms
        what = f"{key.symbol} {key.position_side}"
        if told is None:
            if not account.rest.stream_is_newer(since_ms, answer.taken_ms, answer.taken_ms):
                _note(
                    found,
                    what,
                    row.position_amt,
                    since_ms,
                    "none",
                    young=account.rest.is_recent(since_ms, answer.taken_ms),
                )
        elif told.position_amt != row.position_amt:
            if not account.rest.stream_is_newer(since_ms, told.stamp.venue_time_ms, answer.taken_ms):
                _note(found, what, row.position_amt, since_ms, told.position_amt)
        elif since_ms < told.stamp.venue_time_ms:
            # The size is the same and the position is not: closed and opened again, or with other margin. Its time
            # alone proves nothing, for the venue does not say what else moves that.
            for figure, our_own, the_venues in (
                ("entry price", row.entry_price, told.entry_price),
                ("isolated wallet", row.isolated_wallet, told.isolated_wallet),
            ):
                if our_own is not None and the_venues is not None and our_own != the_venues:
                    _note(found, f"{what} {figure}", our_own, since_ms, the_venues)
    for key, told in listed.items():
        closed_ms = account.closed_ms(key)
        if key not in account.positions and not account.rest.stream_is_newer(
            closed_ms, told.stamp.venue_time_ms, answer.taken_ms
        ):
            _note(found, f"{key.symbol} {key.position_side}", "none", closed_ms, told.position_amt)


def _compare_orders(account: Account, answer: Check, found: dict[str, Difference]) -> None:
    listed = {order.key: order for order in answer.orders}
    for key, order in account.orders.items():
        if answer.order_symbols is not None and order.symbol not in answer.order_symbols:
            continue
        told, since_ms = listed.get(key), order.venue_time_ms
        what = f"order {key}"
        if told is None:
            if not account.rest.stream_is_newer(since_ms, answer.taken_ms, answer.taken_ms):
                young = account.rest.is_recent(since_ms, answer.taken_ms)
                _note(found, what, order.status, since_ms, "none", "orders", order.symbol, young=young)
        elif _terms(order) != _terms(told) and not account.rest.stream_is_newer(
            since_ms, told.venue_time_ms, answer.taken_ms
        ):
            _note(found, what, _worded(order), since_ms, _worded(told), "orders", order.symbol)
    for key, told in listed.items():
        ended_ms = account.finished_ms(key)
        if key in account.orders or ended_ms == told.venue_time_ms:
            continue
        if not account.rest.stream_is_newer(ended_ms, told.venue_time_ms, answer.taken_ms):
            _note(found, f"order {key}", "none", ended_ms, told.status, "orders", told.symbol)


def _terms(order: Order) -> tuple[object, ...]:
    """What an event would have told. What is nothing may be left out by one of the two."""
    return order.status, order.executed_qty or 0, order.quantity or 0, order.price or 0


def _worded(order: Order) -> str:
    return f"{order.status} {order.executed_qty} of {order.quantity} at {order.price}"


def _compare_created(account: Account, answer: Check, found: dict[str, Difference]) -> None:
    for order in answer.created:
        if ours := _unheard(account, order):
            young = ours == "TRIGGERED"
            _note(found, f"order {order.key}", ours, 0, order.status, "history", order.symbol, young=young)


def _unheard(account: Account, order: Order) -> str:
    """What the account believes of an order that has gone on, as the venue says; nothing where it has heard of that."""
    if order.key in account.triggered_orders():
        return "TRIGGERED" if is_final(order) else ""
    known = order.key in account.orders or account.finished_ms(order.key)
    return "" if known or order.venue_time_ms < account.remembers_orders_since_ms else "unknown"


def _compare_settings(account: Account, answer: Check, found: dict[str, Difference]) -> None:
    for symbol, told in (answer.symbol_configs or {}).items():
        known = account.symbol_configs.get(symbol)
        if known is None:
            continue
        if known.leverage is not None and known.leverage != told.leverage:
            _note(found, f"{symbol} leverage", known.leverage, 0, told.leverage, "settings", symbol)
        if known.margin_type is not None and known.margin_type != told.margin_type and account.has_rows(symbol):
            _note(found, f"{symbol} margin type", known.margin_type, 0, told.margin_type, "settings", symbol)
    if answer.multi_assets is not None and answer.multi_assets is not account.multi_assets:
        _note(found, "multi-assets mode", account.multi_assets, 0, answer.multi_assets, "settings")


class _Discrepancy(NamedTuple):
    difference: Difference
    since_s: float
    answer: Check
    repeated: bool = False


class Discrepancies:
    """Differences that may still be explained: by the stream, or by a later answer. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._found: dict[str, _Discrepancy] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def __str__(self) -> str:
        return describe([suspicion.difference.told for suspicion in self._found.values()])

    @property
    def doubtful(self) -> bool:
        """Whether one of them is more than news that REST may not have yet."""
        return any(not one.difference.young for one in self._found.values())

    @property
    def of_history(self) -> bool:
        """Whether one of them is that something was not told of an order: the log may lack it."""
        return any(one.difference.kind in ("history", "beginning") for one in self._found.values())

    def only_beginnings(self, now_s: float) -> list[str]:
        """What has differed for longer than the grace, in words, if it is nothing but beginnings."""
        old = [one.difference for one in self._found.values() if now_s - one.since_s >= GRACE_S]
        return [one.told for one in old] if all(one.kind == "beginning" for one in old) else []

    @property
    def repeated(self) -> bool:
        """Whether a second answer has not explained one of them."""
        return any(one.repeated for one in self._found.values())

    @property
    def order_symbols(self) -> frozenset[str] | None:
        """Whose open orders have to be asked for again; None: of all symbols."""
        symbols = frozenset(one.difference.symbol for one in self._found.values() if one.difference.kind == "orders")
        return symbols if len(symbols) <= MAX_SYMBOLS else None

    @property
    def settings(self) -> bool:
        """Whether settings have to be asked for again."""
        return any(one.difference.kind == "settings" for one in self._found.values())

    def take(self, account: Account, answer: Check, now_s: float) -> None:
        """What the answer says otherwise, and what it was not asked about.

        What is young is noted by the first answer alone: where orders are placed all the time, every answer lacks some,
        and asking again would have no end.
        """
        asked_again = bool(self._found)
        self.explain(account)
        # Of the thousands of orders that were placed meanwhile, what was heard need not be kept.
        answer = replace(answer, created=tuple(order for order in answer.created if _unheard(account, order)))
        kept = {
            what: one._replace(repeated=not one.difference.young)
            for what, one in self._found.items()
            if not _covers(answer, one.difference)
        }
        for what, difference in differences(account, answer).items():
            before = self._found.get(what)
            if before is None and difference.young and asked_again:
                continue
            since_s = before.since_s if before is not None else now_s
            kept[what] = _Discrepancy(difference, since_s, answer, repeated=before is not None and not difference.young)
        self._found = kept

    def explain(self, account: Account) -> None:
        """Forget what the account says otherwise by now: the stream has told it."""
        answers = {id(one.answer): one.answer for one in self._found.values()}
        still = {number: differences(account, answer).keys() for number, answer in answers.items()}
        self._found = {what: one for what, one in self._found.items() if what in still[id(one.answer)]}

    def unexplained(self, now_s: float) -> list[str]:
        """What has differed for longer than the grace, in words."""
        return [one.difference.told for one in self._found.values() if now_s - one.since_s >= GRACE_S]


def _covers(answer: Check, difference: Difference) -> bool:
    match difference.kind:
        case "holdings":
            return True
        case "orders":
            return answer.order_symbols is None or difference.symbol in answer.order_symbols
        case "settings":
            return answer.multi_assets is not None
        case "history" | "beginning":
            return False
