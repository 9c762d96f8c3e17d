"""The venue's histories of one gap, read once, however often the attempt to fill it is interrupted.

A stream that is cut again, a lease that is lost, a venue that does not answer: each makes a backfill begin anew. If it
then read everything anew as well, a gap that takes longer to read than the next interruption takes to come would grow
for ever. So what does not change any more is kept until the gap is filled: orders that are over, and trades. What the
venue may have told late is asked for again, and so is what was still open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from statecast.domain.history import PastOrder, PastTrade
from statecast.domain.models import Order, OrderKey
from statecast.domain.orders import is_final
from statecast.errors import AuthFailed, Rejected
from statecast.venues.adapter import HistoryQuery, VenueAccount

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
    """Every trade from `since_ms` until `until_ms`, and perhaps younger ones."""

    since_ms: int
    until_ms: int
    rows: dict[int, PastTrade] = field(default_factory=dict)


class HistoryCache:
    """Orders and trades since a time. The methods raise what the calls of `VenueAccount` raise, and may be interrupted
    and called again."""

    def __init__(self, rest: VenueAccount, waiting: Callable[[float], None], progress: Callable[[str], None]) -> None:
        """`waiting` is told how long a call has to wait for request weight, `progress` what is there so far."""
        self._rest = rest
        self._waiting = waiting
        self._progress = progress
        self._orders: dict[str, _Listing] = {}
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

    async def orders_since(self, since_ms: int, symbol: str, open_now: Mapping[OrderKey, Order]) -> list[PastOrder]:
        """The ordinary orders created since then, of one symbol or, where that is empty, of all. `open_now` are orders
        as they are now."""
        listing = self._orders.setdefault(symbol, _Listing(since_ms, since_ms))
        return await self._listed(listing, HistoryQuery("orders", symbol, symbol), since_ms, open_now)

    async def algo_orders_since(
        self, since_ms: int, symbol: str, open_now: Mapping[OrderKey, Order]
    ) -> list[PastOrder]:
        """A symbol's conditional orders created since then."""
        listing = self._algo_orders.setdefault(symbol, _Listing(since_ms, since_ms))
        return await self._listed(listing, HistoryQuery("conditional", symbol, symbol), since_ms, open_now)

    async def trades_since(self, since_ms: int, symbol: str) -> list[PastTrade]:
        """A symbol's fills since then."""
        fills = self._fills.get(symbol)
        if fills is None or since_ms < fills.since_ms:
            fills = self._fills[symbol] = _Fills(since_ms, since_ms)
        query = HistoryQuery("trades", symbol, symbol)
        async for page in self._rest.history_pages(query, fills.until_ms, self._waiting):
            fills.rows.update({trade.trade_id: trade for trade in page.trades})
            fills.until_ms = max(fills.until_ms, page.settled_ms)
            self._progress(f"{len(fills.rows)} trades of {symbol}")
        return [trade for trade in fills.rows.values() if trade.time_ms >= since_ms]

    async def fetch(self, order: Order) -> PastOrder | None:
        """One order as it is now; None when the venue has forgotten it."""
        return await self._rest.fetch_order(order.key, self._waiting)

    async def _listed(
        self,
        listing: _Listing,
        query: HistoryQuery,
        since_ms: int,
        open_now: Mapping[OrderKey, Order],
    ) -> list[PastOrder]:
        if not listing.since_ms <= since_ms <= listing.until_ms:
            listing.since_ms = listing.until_ms = since_ms
            listing.rows.clear()
        await self._look_again(listing, open_now)
        async for page in self._rest.history_pages(query, listing.until_ms, self._waiting):
            listing.rows.update({past.order.key: past for past in page.orders})
            listing.until_ms = max(listing.until_ms, page.settled_ms)
            self._progress(f"{len(listing.rows)} orders")
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
