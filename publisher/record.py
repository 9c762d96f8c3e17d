"""The order events that this process has heard of lately, and which of them it has written. Pure.

Redis may lose what it had acknowledged, and a writer may die with events that it had received: whoever takes the lease
compares this with the log, and writes what is missing there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator

from statecast.domain.models import OrderEvent

MAX_EVENTS = 20_000
"""By estimate 40 MB. Beyond it the venue's histories must tell what Redis has lost."""


class EventRecord:
    """The youngest order events, in the order in which they are to be written; those that were written come first.

    Times are the venue's, in ms.
    """

    def __init__(self, limit: int = MAX_EVENTS) -> None:
        self.began_ms = 0
        """Since when there is a log, as far as this process knows: since it began to listen, or since before that, as
        another publisher has told; 0: not yet known."""
        self.complete_since_ms = 0
        """Since when everything that happened is here; 0 while nothing is heard."""
        self._limit = limit
        self._events: deque[tuple[float, OrderEvent]] = deque()
        self._written = 0

    def __len__(self) -> int:
        return len(self._events)

    def __iter__(self) -> Iterator[OrderEvent]:
        return (event for _, event in self._events)

    @property
    def unwritten(self) -> int:
        """How many events are still to be written."""
        return len(self._events) - self._written

    @property
    def oldest_at(self) -> float | None:
        """When the oldest event was added, as `add` was told; None without one."""
        return self._events[0][0] if self._events else None

    def begin(self, since_ms: int) -> None:
        """From now on everything is heard that happens after `since_ms`, and what was heard before has a hole."""
        self._events.clear()
        self._written = 0
        self.complete_since_ms = since_ms
        self.reach_back(since_ms)

    def reach_back(self, since_ms: int) -> None:
        """There is a log since then, of whatever publisher."""
        self.began_ms = min(self.began_ms or since_ms, since_ms)

    def add(self, events: Iterable[OrderEvent], now: float) -> None:
        for event in events:
            self._events.append((now, event))
        while len(self._events) > self._limit:
            _, dropped = self._events.popleft()
            self._written = max(0, self._written - 1)
            self.complete_since_ms = max(self.complete_since_ms, dropped.order.venue_time_ms + 1)

    def wrote(self, count: int) -> None:
        """The oldest `count` events that were not yet written now are."""
        self._written = min(len(self._events), self._written + count)

    def lost(self, in_log: Container[str]) -> int:
        """How many events were written and are not in the log any more."""
        return sum(self._events[at][1].event_id not in in_log for at in range(self._written))

    def take_missing(self, in_log: Container[str]) -> tuple[OrderEvent, ...]:
        """Remove the events that are not in the log, to be added again when they are submitted anew."""
        missing = tuple(event for _, event in self._events if event.event_id not in in_log)
        self._events = deque(pair for pair in self._events if pair[1].event_id in in_log)
        self._written = len(self._events)
        return missing
