"""The order events that this process has received lately, and which of them it has written. Pure.

Redis may lose what it had acknowledged, and a writer may die with events that it had received: whoever takes the lease
compares this record with the log, and writes what the log misses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator

from statecast.domain.models import OrderEvent


class EventRecord:
    """The youngest `limit` order events, in the order in which they are to be written; the written ones come first.

    Times in ms are the venue's.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._began_ms = 0
        self._complete_since_ms = 0
        self._events: deque[tuple[float, OrderEvent]] = deque()
        self._written = 0

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[OrderEvent]:
        return (event for _, event in self._events)

    @property
    def began_ms(self) -> int:
        """Since when there is a log, as far as this process knows: since its stream began, or since the earlier time
        that another publisher gave; 0: not yet known."""
        return self._began_ms

    @property
    def complete_since_ms(self) -> int:
        """Since when every event is here; 0 while there was no stream."""
        return self._complete_since_ms

    @property
    def unwritten(self) -> int:
        """How many events are still to be written."""
        return len(self._events) - self._written

    @property
    def oldest_mono_s(self) -> float | None:
        """Monotonic time at which the oldest event was added; None without one."""
        return self._events[0][0] if self._events else None

    def begin(self, since_ms: int) -> None:
        """Every event after `since_ms` will be received; before it some may be missing, so what was kept is dropped."""
        self._events.clear()
        self._written = 0
        self._complete_since_ms = since_ms
        self.log_began(since_ms)

    def log_began(self, since_ms: int) -> None:
        """There is a log since then, of whatever publisher."""
        self._began_ms = min(self._began_ms or since_ms, since_ms)

    def add(self, events: Iterable[OrderEvent], now_mono_s: float) -> None:
        """Add events that are about to be written. Where the limit drops old ones, the record is complete only since
        the youngest of those."""
        for event in events:
            self._events.append((now_mono_s, event))
        while len(self._events) > self._limit:
            _, dropped = self._events.popleft()
            self._written = max(0, self._written - 1)
            self._complete_since_ms = max(self._complete_since_ms, dropped.order.venue_time_ms + 1)

    def mark_written(self, count: int) -> None:
        """The oldest `count` unwritten events were written."""
        self._written = min(len(self._events), self._written + count)

    def count_lost(self, in_log: Container[str]) -> int:
        """How many events were written and are not in the log any more."""
        return sum(self._events[at][1].event_id not in in_log for at in range(self._written))

    def take_missing(self, in_log: Container[str]) -> tuple[OrderEvent, ...]:
        """Remove the events that are not in the log and return them; `add` them again when they are submitted."""
        missing = tuple(event for _, event in self._events if event.event_id not in in_log)
        self._events = deque(pair for pair in self._events if pair[1].event_id in in_log)
        self._written = len(self._events)
        return missing
