"""Order and trade histories of one account, page by page.

A history of orders is listed by the time of creation, in windows and pages; one of trades by their time, and from the
first page that is full by their ids, for many can be of one millisecond. Since 2026-08-25 the history of ordinary
orders is listed of all symbols at once; a venue that wants a symbol is not asked so again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

from statecast.domain import event_ids
from statecast.domain.history import PastOrder, PastTrade
from statecast.domain.models import Order, OrderKey
from statecast.errors import AuthFailed, FrameError, Rejected
from statecast.venues.adapter import CheckScope, HistoryKind, HistoryPage, HistoryQuery, Waiting, WantsSymbol
from statecast.venues.binance import history, wire
from statecast.venues.binance.errors import NO_SUCH_ORDER, PARAMETER_MISSING
from statecast.venues.binance.rest import HISTORY_RESERVE, NO_PARAMS, BinanceRest
from statecast.venues.http import all_of

NO_END_MS = 1 << 60

Params = Mapping[str, str | int]


@dataclass(slots=True)
class Created:
    """Orders that were created lately. All ordinary ones until `until_ms` are among them, and all conditional ones of a
    symbol until a time of its own."""

    orders: list[Order] = field(default_factory=list)
    until_ms: int = NO_END_MS
    conditional_until_ms: dict[str, int] = field(default_factory=dict)

    def ordinary_until(self, until_ms: int) -> None:
        self.until_ms = until_ms


class Histories:
    """Reads what one account's past is known by. Times are the venue's milliseconds."""

    def __init__(self, rest: BinanceRest) -> None:
        self._rest = rest
        self._lists_orders_of_all_symbols = True

    # Of a gap. These calls may wait for request weight: `waiting` is called with the seconds, each time.

    def queries(self, kind: HistoryKind, symbols: Collection[str]) -> tuple[HistoryQuery, ...]:
        """One query for all ordinary orders, where the venue takes it; else one for each symbol."""
        if kind == "orders" and self._lists_orders_of_all_symbols:
            return (HistoryQuery(kind),)
        return tuple(HistoryQuery(kind, symbol, symbol) for symbol in sorted(symbols))

    async def pages(self, query: HistoryQuery, since_ms: int, waiting: Waiting) -> AsyncIterator[HistoryPage]:
        """A history, oldest first. A row that two pages hold is there twice."""
        await self._rest.clock.ensure()
        settled_ms = self._rest.clock.now_ms() - wire.HISTORY_LAG_MS
        if query.kind == "trades":
            async for trades, until_ms in self._trades(query.symbol, since_ms, waiting):
                yield HistoryPage(trades=trades, settled_ms=min(until_ms, settled_ms))
            return
        try:
            async for orders, until_ms in self._orders(query, since_ms, waiting):
                yield HistoryPage(orders=orders, settled_ms=min(until_ms, settled_ms))
        except Rejected as error:
            if query.symbol or error.code != PARAMETER_MISSING:
                raise
            self._lists_orders_of_all_symbols = False
            raise WantsSymbol(error.venue, error.call, error.reason) from error

    async def order(self, key: OrderKey, waiting: Waiting) -> PastOrder | None:
        """One order; None when the venue has forgotten it."""

        async def read(call: wire.Call, params: Params) -> object:
            return await self._rest.read_when_allowed(call, params, waiting, paged=False)

        try:
            return await self._by_id(key, read)
        except Rejected as error:
            if error.code == NO_SUCH_ORDER:
                return None
            raise

    async def _orders(
        self, query: HistoryQuery, since_ms: int, waiting: Waiting
    ) -> AsyncIterator[tuple[tuple[PastOrder, ...], int]]:
        """Pages, and until when all orders were listed by then."""
        call, decoded = _listing(query.kind)
        symbol: Params = {"symbol": query.symbol} if query.symbol else NO_PARAMS
        start_ms, now_ms = since_ms, self._rest.clock.now_ms()
        while start_ms <= now_ms:
            end_ms = start_ms + wire.HISTORY_SPAN_MS
            window: Params = {**symbol, "startTime": start_ms, "endTime": end_ms}
            page = decoded(await self._rest.read_when_allowed(call, window, waiting))
            if len(page) < self._rest.history_page:
                yield page, end_ms
                start_ms = end_ms + 1
                continue
            youngest_ms = max(row.created_ms for row in page)
            yield page, youngest_ms
            if youngest_ms <= start_ms:
                raise FrameError(str(call), "body", "holds more orders of one millisecond than a page can")
            start_ms = youngest_ms

    async def _trades(
        self, symbol: str, since_ms: int, waiting: Waiting
    ) -> AsyncIterator[tuple[tuple[PastTrade, ...], int]]:
        """Pages, and until when all fills were listed by then."""
        start_ms, now_ms = since_ms, self._rest.clock.now_ms()
        from_id: int | None = None
        while from_id is None and start_ms <= now_ms:
            end_ms = start_ms + wire.HISTORY_SPAN_MS
            window: Params = {"symbol": symbol, "startTime": start_ms, "endTime": end_ms}
            page = history.trades(await self._rest.read_when_allowed(wire.USER_TRADES, window, waiting))
            is_full = len(page) >= self._rest.history_page
            yield page, page[-1].time_ms if is_full else end_ms
            start_ms = end_ms + 1
            if is_full:
                from_id = page[-1].sequence + 1
        while from_id is not None:  # By id it goes on without an end.
            by_id: Params = {"symbol": symbol, "fromId": from_id}
            page = history.trades(await self._rest.read_when_allowed(wire.USER_TRADES, by_id, waiting))
            is_full = len(page) >= self._rest.history_page
            yield page, page[-1].time_ms if is_full else NO_END_MS
            from_id = page[-1].sequence + 1 if is_full else None

    # Of a check. These calls do not wait: a check has its time.

    async def created(self, scope: CheckScope) -> Created:
        """What was created lately, as far as it is asked for."""
        created = Created()
        await all_of(
            [
                self._list_ordinary(scope.created_since_ms, created),
                *(self._list_conditional(symbol, since_ms, created) for symbol, since_ms in scope.conditional_since_ms),
                *(self._add_by_id(key, created) for key in scope.by_id),
            ]
        )
        return created

    async def _list_ordinary(self, since_ms: int, created: Created) -> None:
        if not since_ms or not self._lists_orders_of_all_symbols:
            return
        try:
            created.ordinary_until(await self._list(HistoryQuery("orders"), since_ms, created.orders))
        except Rejected as error:
            if error.code != PARAMETER_MISSING:
                raise
            self._lists_orders_of_all_symbols = False

    async def _list_conditional(self, symbol: str, since_ms: int, created: Created) -> None:
        """None of a symbol that was delisted."""
        listed: list[Order] = []
        start_ms = max(since_ms, self._rest.clock.now_ms() - wire.HISTORY_SPAN_MS)
        try:
            until_ms = await self._list(HistoryQuery("conditional", symbol, symbol), start_ms, listed)
        except AuthFailed:
            raise
        except Rejected:
            until_ms = start_ms if listed else NO_END_MS
        created.orders.extend(listed)
        created.conditional_until_ms[symbol] = until_ms

    async def _add_by_id(self, key: OrderKey, created: Created) -> None:
        """Nothing of one that the venue does not know, or will not say."""
        try:
            past = await self._by_id(key, self._rest.read)
        except AuthFailed:
            raise
        except Rejected:
            return
        created.orders.append(past.order)

    async def _by_id(self, key: OrderKey, read: Callable[[wire.Call, Params], Awaitable[object]]) -> PastOrder:
        algo_id = event_ids.algo_id(key.order_id)
        if algo_id != key.order_id:
            return history.algo_order(await read(wire.ALGO_ORDER, {"algoId": algo_id}))
        return history.order(await read(wire.ORDER, {"symbol": key.symbol, "orderId": key.order_id}))

    async def _list(self, query: HistoryQuery, since_ms: int, into: list[Order]) -> int:
        """Orders created since then, page by page while there is weight to spare; returns until when they all are."""
        call, decoded = _listing(query.kind)
        symbol: Params = {"symbol": query.symbol} if query.symbol else NO_PARAMS
        while True:
            page = decoded(
                await self._rest.read(call, {**symbol, "startTime": since_ms, "limit": self._rest.history_page})
            )
            into += [past.order for past in page]
            if len(page) < self._rest.history_page:
                return NO_END_MS
            youngest_ms = max(past.created_ms for past in page)
            if youngest_ms <= since_ms or not self._rest.may_spend(call.weight + HISTORY_RESERVE):
                return youngest_ms
            since_ms = youngest_ms


def _listing(kind: HistoryKind) -> tuple[wire.Call, Callable[[object], tuple[PastOrder, ...]]]:
    """The call that lists a kind of orders, and the decoder of its answer."""
    return (wire.ALL_ORDERS, history.orders) if kind == "orders" else (wire.ALL_ALGO_ORDERS, history.algo_orders)
