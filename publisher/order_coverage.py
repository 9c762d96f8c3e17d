"""Until when the account's orders were compared with the venue's lists, and which are to be listed next. Pure.

An order that was placed and cancelled between two checks shows in no balance and no position: only the venue's lists of
created orders show whether the stream has sent it. Times are the venue's milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from statecast.domain.changes import Check
from statecast.domain.models import OrderKey
from statecast.venues.adapter import CheckPace, CheckScope

OVERLAP_MS = 2_000
"""Orders are asked for from this long before the last question on, for REST may be behind."""

SETTLED_MS = 120_000
"""Until so long after its beginning, the orders of a gap are asked for again with every question: REST may be behind by
more, and nothing else shows them."""


class OrderCoverage:
    """One account's marks: ordinary orders have one, conditional orders one for each symbol where they are listed by
    symbol."""

    def __init__(self, pace: CheckPace) -> None:
        self._pace = pace
        self._orders_since_ms = 0
        self._gap_since_ms: int | None = None
        """Since when orders are asked for because of a gap."""
        self._conditional_since_ms: dict[str, int] = {}
        """By symbol; the one that was asked for longest ago comes first."""
        self._long_lists: set[str] = set()
        """Symbols whose conditional orders since the gap's beginning do not fit into one answer."""
        self._asked: tuple[str, ...] = ()
        """Symbols of the last question."""
        self._refused: set[str] = set()
        """Symbols of which the venue did not list conditional orders when it was asked."""
        self._by_id_turn = 0

    def begins(
        self, orders_since_ms: int, symbols: Iterable[str], unread: Iterable[str] = (), unread_since_ms: int = 0
    ) -> None:
        """Orders created until then are logged, conditional ones in those symbols; in the `unread` ones until
        `unread_since_ms` alone, so that these have their turn first."""
        self._orders_since_ms = self._gap_since_ms = orders_since_ms
        self._conditional_since_ms.clear()
        self._long_lists.clear()
        self._refused.clear()
        self._asked = ()
        if self._pace.conditional_by_symbol:
            self._conditional_since_ms |= dict.fromkeys(sorted(unread), unread_since_ms)
        for symbol in sorted(symbols):
            self.trades_in(symbol)

    def trades_in(self, symbol: str) -> None:
        """Conditional orders may come and go there."""
        if self._pace.conditional_by_symbol:
            self._conditional_since_ms.setdefault(symbol, self._orders_since_ms)

    def agreed(self, answer: Check) -> int:
        """Everything of this answer agreed; the venue's time until which all orders are logged."""
        self._orders_since_ms = max(self._orders_since_ms, answer.created_until_ms - OVERLAP_MS)
        is_settled = self._gap_since_ms is not None and answer.taken_ms > self._gap_since_ms + SETTLED_MS
        if is_settled or answer.created_until_ms < answer.taken_ms:  # What is newer must not wait for what is older.
            self._gap_since_ms = None
        asked, self._asked = self._asked, ()
        for symbol in asked:
            if symbol not in answer.conditional_until_ms and symbol in self._conditional_since_ms:
                self._refused.add(symbol)
                self._conditional_since_ms[symbol] = self._conditional_since_ms.pop(symbol)
        for symbol, until_ms in answer.conditional_until_ms.items():
            self._refused.discard(symbol)
            self._conditional_since_ms.pop(symbol, None)
            self._conditional_since_ms[symbol] = until_ms - OVERLAP_MS
            if until_ms < answer.taken_ms:
                self._long_lists.add(symbol)
        # Of conditional orders everything is logged until the turn of the symbol that waits the longest. Of one that is
        # refused nobody knows: the mark does not wait for it, and the publisher's log names it.
        waiting = (ms for symbol, ms in self._conditional_since_ms.items() if symbol not in self._refused)
        oldest_ms = min((self._orders_since_ms, *waiting))
        return min(answer.taken_ms, oldest_ms + OVERLAP_MS)

    def scope(self, everything_s: float, doubtful: Sequence[OrderKey], *, is_standby: bool) -> CheckScope:
        """What to list in a check of everything. `doubtful` are orders that may be over: conditional ones that were
        triggered, and those that the last answer did not list."""
        self._asked = ()
        if is_standby:  # Nobody misses yet what a standby has not received.
            return CheckScope(None, True, self._orders_since_ms)
        since_ms = self._orders_since_ms if self._gap_since_ms is None else self._gap_since_ms
        count = max(self._pace.least_symbols, int(everything_s / self._pace.seconds_per_symbol))
        by_symbol = tuple(
            (symbol, of_symbol_ms if symbol in self._long_lists else min(since_ms, of_symbol_ms))
            for symbol, of_symbol_ms in islice(self._conditional_since_ms.items(), count)
        )
        self._asked = tuple(symbol for symbol, _ in by_symbol)
        return CheckScope(None, True, since_ms, by_symbol, self.turn(doubtful))

    def turn(self, orders: Sequence[OrderKey]) -> tuple[OrderKey, ...]:
        """So many of them as one check may ask for by their ids, by turns."""
        most = self._pace.orders_by_id
        start = self._by_id_turn % len(orders) if len(orders) > most else 0
        self._by_id_turn = start + most
        return tuple([*orders[start:], *orders[:start]][:most])
