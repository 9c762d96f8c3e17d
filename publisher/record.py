"""The order events that this process has received lately, and which of them it has written. Pure.

Redis may lose what it had acknowledged, and a writer may die with events that it had received: whoever takes the lease
compares this record with the log, and writes what the log misses. What is written may be forgotten. What is not is kept
up to a bound that only a Redis which is away for long reaches; beyond it, an entry of type GAP stands for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator

from statecast.domain import event_ids, gaps
from statecast.domain.catch_up import MAX_WAITING_EVENTS
from statecast.domain.models import OrderEvent

OTHERS_WRITE_WITHIN_S = 60.0
"""What a standby received longer ago, the writer has written, or had: a lease lasts for seconds."""


class EventRecord:
    """Order events in the order in which they are to be written; the written ones come first. Of these it keeps so many
    that there are `limit` altogether, and of the others up to `most_unwritten`.

    Times in ms are the venue's.
    """

    def __init__(self, limit: int, most_unwritten: int = MAX_WAITING_EVENTS) -> None:
        self._limit = limit
        self._most_unwritten = most_unwritten
        self._overflow: OrderEvent | None = None
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
        self._overflow = None
        self._complete_since_ms = since_ms
        self.log_began(since_ms)

    def missed_until(self, until_ms: int) -> None:
        """Before `until_ms` some events may not have been received; those that are here stay."""
        self._complete_since_ms = max(self._complete_since_ms, until_ms)

    def log_began(self, since_ms: int) -> None:
        """There is a log since then, of whatever publisher."""
        self._began_ms = min(self._began_ms or since_ms, since_ms)

    def add(self, events: Iterable[OrderEvent], now_mono_s: float, *, others_write: bool = False) -> OrderEvent | None:
        """Add events that are about to be written: by this process, or by another (`others_write`). Where old ones are
        dropped, the record is complete only since the youngest of those.

        Returns the entry for what is dropped unwritten, where that is more than there is room for.
        """
        for event in events:
            self._events.append((now_mono_s, event))
        while len(self._events) > self._limit and (self._written or others_write):
            received_mono_s, event = self._events[0]
            is_young = now_mono_s < received_mono_s + OTHERS_WRITE_WITHIN_S
            if not self._written and is_young and len(self._events) <= self._most_unwritten:
                break
            self._events.popleft()
            self._written = max(0, self._written - 1)
            self._drop(event)
        return self.drop_unwritten() if self.unwritten > self._most_unwritten else None

    def drop_unwritten(self) -> OrderEvent | None:
        """Drop what is not written; returns the entry that stands for it in the log, None where there is nothing."""
        dropped = [self._events.pop()[1] for _ in range(self.unwritten)][::-1]
        if self._overflow is not None:
            dropped.insert(0, self._overflow)
        if not dropped:
            return None
        for event in dropped:
            self._drop(event)
        self._overflow = gaps.of_overflow(dropped)
        return self._overflow

    def _drop(self, event: OrderEvent) -> None:
        self._complete_since_ms = max(self._complete_since_ms, event.order.venue_time_ms + 1)

    @property
    def has_overflowed(self) -> bool:
        """Whether unwritten events were dropped, and the entry for them was not yet taken."""
        return self._overflow is not None

    def take_overflow(self) -> OrderEvent | None:
        """The entry for what was dropped unwritten; `add` it when it is submitted."""
        overflow, self._overflow = self._overflow, None
        return overflow

    def mark_written(self, count: int) -> None:
        """The oldest `count` unwritten events were written."""
        self._written = min(len(self._events), self._written + count)

    def count_lost(self, in_log: Container[str]) -> int:
        """How many events were written and are not in the log any more."""
        return sum(self._events[at][1].event_id not in in_log for at in range(self._written))

    def take_missing(self, in_log: Container[str]) -> tuple[OrderEvent, ...]:
        """Remove the events that are not in the log and return them, the entry for what was dropped before them; `add`
        them again when they are submitted."""
        overflow = self.take_overflow()
        received = {event.event_id for _, event in self._events}
        missing = tuple(event for _, event in self._events if not _is_logged(event, in_log, received))
        self._events = deque(pair for pair in self._events if _is_logged(pair[1], in_log, received))
        self._written = len(self._events)
        return missing if overflow is None else (overflow, *missing)


def _is_logged(event: OrderEvent, in_log: Container[str], received: Container[str]) -> bool:
    """Whether the log has it, be it in the form that a history gave it: a trailing stop without an activation price is
    active from the beginning. Where the stream has sent two NEW of it, they are two events."""
    if event.event_id in in_log:
        return True
    placed = event_ids.placing_of(event.event_id)
    is_placing = placed is not None and not event.order.activate_price and placed not in received
    return is_placing and placed in in_log
