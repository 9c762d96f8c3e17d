"""The venue's histories of one gap, read once, however often the attempt to fill it is interrupted.

A stream that is cut again, a lease that is lost, a venue that does not answer: each makes the gap filler begin again.
If it then read everything again as well, a gap that takes longer to read than the next interruption takes to come would
grow without end. So what does not change any more is kept until the gap is filled: orders that are over, and trades.
What the venue may have listed late is asked for again, and so is what was still open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from statecast.domain.history import PastOrder, PastTrade
from statecast.domain.models import Order, OrderKey
from statecast.domain.orders import is_final
from statecast.errors import AuthFailed, Rejected
from statecast.venues.adapter import HistoryPage, HistoryQuery, VenueAccount, Waiting

MAX_ASKED_BY_ID = 20
"""Orders that were open when they were listed are asked for one by one up to this many: a page of a history costs about
as much as a few of them."""

FillKey = tuple[str, str, str]
"""Symbol, order id, fill id, which is unique within the order."""


@dataclass(slots=True)
class _Listing:
    """Everything from `since_ms` until `settled_ms` was listed and does not change, but for orders that are not
    over."""

    since_ms: int
    settled_ms: int
    orders: dict[OrderKey, PastOrder] = field(default_factory=dict)
    trades: dict[FillKey, PastTrade] = field(default_factory=dict)
    unreadable: set[OrderKey] = field(default_factory=set)
    forgotten_until_ms: int = 0

    def add(self, page: HistoryPage) -> None:
        self.orders.update({past.order.key: past for past in page.orders})
        self.trades.update({(row.symbol, row.order_id, row.fill_id): row for row in page.trades})
        self.unreadable.update(page.unreadable)
        self.settled_ms = max(self.settled_ms, page.settled_ms)
        self.forgotten_until_ms = max(self.forgotten_until_ms, page.forgotten_until_ms)

    def list_again_from(self, created_ms: int) -> None:
        """Orders that were created from there on have to be listed once more."""
        self.settled_ms = min(self.settled_ms, created_ms)


@dataclass(frozen=True, slots=True)
class History:
    """What one query has since a time. The venue has forgotten what is older than `forgotten_until_ms`; 0: nothing.
    `unreadable` are orders of fills whose rows cannot be understood."""

    orders: tuple[PastOrder, ...]
    trades: tuple[PastTrade, ...]
    forgotten_until_ms: int
    unreadable: frozenset[OrderKey] = frozenset()


class HistoryCache:
    """Reads histories. `read` raises what the venue's calls raise, and may be interrupted and called again."""

    def __init__(self, venue: VenueAccount, waiting: Waiting, progress: Callable[[str], None]) -> None:
        """`waiting` is called with the seconds that a call has to wait for the venue's limits, `progress` with what is
        there so far, in words."""
        self._venue = venue
        self._waiting = waiting
        self._progress = progress
        self._listings: dict[HistoryQuery, _Listing] = {}

    def forget(self) -> None:
        """The gap is filled."""
        self._listings.clear()

    def forget_trades(self, symbols: Iterable[str]) -> None:
        """They are in doubt, however old: ask for them again."""
        doubtful = {*symbols, ""}
        for query in [query for query in self._listings if query.kind == "trades" and query.symbol in doubtful]:
            del self._listings[query]

    async def read(self, query: HistoryQuery, since_ms: int, open_now: Mapping[OrderKey, Order]) -> History:
        """What was created or happened since then. `open_now` are orders as they are now."""
        listing = self._listings.get(query)
        if listing is None or not listing.since_ms <= since_ms <= listing.settled_ms:
            # What lies between two readings was not listed.
            listing = self._listings[query] = _Listing(since_ms, since_ms)
        await self._look_again(listing, open_now)
        async for page in self._venue.history_pages(query, max(since_ms, listing.settled_ms), self._waiting):
            listing.add(page)
            self._progress(f"{len(listing.orders) or len(listing.trades)} {query.kind} {query.scope}".rstrip())
        return History(
            tuple(past for past in listing.orders.values() if past.created_ms >= since_ms),
            tuple(trade for trade in listing.trades.values() if trade.time_ms >= since_ms),
            listing.forgotten_until_ms,
            frozenset(listing.unreadable),
        )

    async def _look_again(self, listing: _Listing, open_now: Mapping[OrderKey, Order]) -> None:
        """At orders that were not over when they were listed: one by one, or by listing again from the first of those
        that are too many."""
        unsettled = sorted(
            (past for past in listing.orders.values() if not is_final(past.order)), key=lambda past: past.created_ms
        )
        by_id = [past for past in unsettled if past.order.key not in open_now][:MAX_ASKED_BY_ID]
        if len(by_id) == MAX_ASKED_BY_ID:
            listing.list_again_from(by_id[-1].created_ms)
        for past in unsettled:
            key = past.order.key
            if past.created_ms >= listing.settled_ms:
                break
            if key in open_now:
                listing.orders[key] = past._replace(order=open_now[key])
                continue
            try:
                now = await self._venue.fetch_order(key, self._waiting)
            except AuthFailed:
                raise
            except Rejected:  # by its id, as it may be where a symbol was delisted; the listing has it
                listing.list_again_from(past.created_ms)
                return
            if now is not None:
                listing.orders[key] = now
            else:  # Forgotten, or an answer of a server that is behind: the listing says which.
                del listing.orders[key]
                listing.list_again_from(past.created_ms)
                return
