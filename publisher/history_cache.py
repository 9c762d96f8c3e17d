"""The venue's histories of one gap, read once, however often the attempt to fill it is interrupted.

A stream that is cut again, a lease that is lost, a venue that does not answer: each makes a backfill begin anew. If it
then read everything anew as well, a gap that takes longer to read than the next interruption takes to come would grow
for ever. So what does not change any more is kept until the gap is filled: orders that are over, and trades. What the
venue may have told late is asked for again, and so is what was still open.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from statecast.domain.history import PastOrder, PastTrade
from statecast.domain.models import Order, OrderKey
from statecast.domain.orders import is_final
from statecast.errors import AuthFailed, Rejected
from statecast.venues.binance.rest import PARAMETER_MISSING, BinanceRest

LAG_MS = 60_000
"""Histories may be so far behind: what they tell of that time is worth a second look."""

MAX_ASKED_ALONE = 20
"""Orders that were open when they were listed are asked for one by one up to this many: a page of a thousand weighs as
much as five of them."""


@dataclass(slots=True)
class _Listing:
    """Every order that was created from `since_ms` until `until_ms`, and perhaps younger ones."""

    since_ms: int
    until_ms: int
    rows: dict[OrderKey, PastOrder] = field(default_factory=dict)


@dataclass(slots=True)
class _Fills:
    """Every trade since `since_ms` whose id is below `next_id`, and perhaps younger ones; None: not yet known."""

    since_ms: int
    next_id: int | None = None
    rows: dict[int, PastTrade] = field(default_factory=dict)


class HistoryCache:
    """Orders and trades since a time. The methods raise what the calls of `BinanceRest` raise, and may be interrupted
    and called again."""

    def __init__(self, rest: BinanceRest, waiting: Callable[[float], None], progress: Callable[[str], None]) -> None:
        """`waiting` is told how long a call has to wait for request weight, `progress` what is there so far."""
        self._rest = rest
        self._waiting = waiting
        self._progress = progress
        self._orders: dict[str | None, _Listing] = {}
        self._algo_orders: dict[str, _Listing] = {}
        self._fills: dict[str, _Fills] = {}

    def forget(self) -> None:
        """The gap is filled."""
        self._orders.clear()
        self._algo_orders.clear()
        self._fills.clear()

    def forget_trades(self, symbols: Iterable[str]) -> None:
        """They are in doubt, however old: ask for them again."""
        for symbol in symbols:
            self._fills.pop(symbol, None)

    async def orders_since(
        self, since_ms: int, symbol: str | None, open_now: Mapping[OrderKey, Order]
    ) -> list[PastOrder] | None:
        """The ordinary orders created since then, of one symbol or of all; None where the venue wants a symbol.
        `open_now` are orders as they are now."""
        listing = self._orders.setdefault(symbol, _Listing(since_ms, since_ms))
        pages = partial(self._rest.order_pages, symbol=symbol, waiting=self._waiting)
        try:
            return await self._listed(listing, since_ms, pages, open_now)
        except Rejected as error:
            if symbol is None and error.code == PARAMETER_MISSING:
                return None
            raise

    async def algo_orders_since(
        self, since_ms: int, symbol: str, open_now: Mapping[OrderKey, Order]
    ) -> list[PastOrder]:
        """A symbol's conditional orders created since then."""
        listing = self._algo_orders.setdefault(symbol, _Listing(since_ms, since_ms))
        pages = partial(self._rest.algo_order_pages, symbol=symbol, waiting=self._waiting)
        return await self._listed(listing, since_ms, pages, open_now)

    async def trades_since(self, since_ms: int, symbol: str) -> list[PastTrade]:
        """A symbol's fills since then."""
        fills = self._fills.get(symbol)
        if fills is None or since_ms < fills.since_ms:
            fills = self._fills[symbol] = _Fills(since_ms)
        settled_ms = self._rest.venue_now_ms() - LAG_MS
        async for page in self._rest.trade_pages(since_ms, symbol, self._waiting, from_id=fills.next_id):
            for trade in page:
                fills.rows[trade.trade_id] = trade
                if trade.time_ms < settled_ms:
                    fills.next_id = max(fills.next_id or 0, trade.trade_id + 1)
            self._progress(f"{len(fills.rows)} trades of {symbol}")
        return [trade for trade in fills.rows.values() if trade.time_ms >= since_ms]

    async def fetch(self, order: Order) -> PastOrder | None:
        """One order as it is now; None when the venue has forgotten it."""
        if order.algo_id is not None:
            return await self._rest.fetch_algo_order(order.algo_id, self._waiting)
        return await self._rest.fetch_order(order.symbol, order.order_id, self._waiting)

    async def _listed(
        self,
        listing: _Listing,
        since_ms: int,
        pages: Callable[[int], AsyncIterator[tuple[PastOrder, ...]]],
        open_now: Mapping[OrderKey, Order],
    ) -> list[PastOrder]:
        if not listing.since_ms <= since_ms <= listing.until_ms:
            listing.since_ms = listing.until_ms = since_ms
            listing.rows.clear()
        settled_ms = self._rest.venue_now_ms() - LAG_MS
        await self._look_again(listing, open_now)
        async for page in pages(listing.until_ms):
            listing.rows.update({past.order.key: past for past in page})
            youngest_ms = max((past.created_ms for past in page), default=0)
            listing.until_ms = max(listing.until_ms, min(youngest_ms, settled_ms))
            self._progress(f"{len(listing.rows)} orders")
        listing.until_ms = max(listing.until_ms, settled_ms)
        return [past for past in listing.rows.values() if past.created_ms >= since_ms]

    async def _look_again(self, listing: _Listing, open_now: Mapping[OrderKey, Order]) -> None:
        """At orders that were not over when they were listed: one by one, or by listing again from the first of those
        that are too many."""
        unsettled = sorted(
            ((key, past) for key, past in listing.rows.items() if not is_final(past.order)),
            key=lambda pair: pair[1].created_ms,
        )
        alone = [pair for pair in unsettled if pair[0] not in open_now][:MAX_ASKED_ALONE]
        if len(alone) == MAX_ASKED_ALONE:
            listing.until_ms = min(listing.until_ms, alone[-1][1].created_ms)
        for key, past in unsettled:
            if past.created_ms >= listing.until_ms:
                break
            if key in open_now:
                listing.rows[key] = past._replace(order=open_now[key])
                continue
            try:
                now = await self.fetch(past.order)
            except AuthFailed:
                raise
            except Rejected:  # alone, as it may be where a symbol was delisted; the listing tells it
                listing.until_ms = past.created_ms
                return
            if now is not None:
                listing.rows[key] = now
            else:
                del listing.rows[key]
