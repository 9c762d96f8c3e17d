"""What a process has read of one partition, handed out and settled. Pure."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import replace

from consumers.order_events.event import OrderEvent
from statecast.store.groups import position

PREFETCH = 64
"""Events of a partition that wait in this process: a round trip for each handful, and little to take over."""

MOST_UNACKNOWLEDGED = 10_000
"""Events of a partition that the user may hold unacknowledged: some 20 MB. Beyond it, no more are handed out."""

REMEMBERED = 50_000
"""Event ids that are remembered, so that events which Redis lost and the publisher wrote again are recognised: as many
as the publisher itself remembers. Some 10 MB."""


class RecentIds:
    """The last `most` ids that were added."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ids: dict[str, None] = {}

    def add(self, event_id: str) -> None:
        """Make it the youngest, and forget the oldest beyond the limit."""
        self._ids.pop(event_id, None)
        self._ids[event_id] = None
        if len(self._ids) > self._most:
            del self._ids[next(iter(self._ids))]

    def __contains__(self, event_id: str) -> bool:
        return event_id in self._ids


class Waiting:
    """An event that was read and is not handed out yet."""

    def __init__(self, event: OrderEvent, token: str, *, count_first: bool) -> None:
        self.event = event
        self.token = token
        """Names the count of its next delivery, which is repeated when the reply is lost."""
        self.count_first = count_first
        """It may have been handed out before, by this consumer or another: count it before it is handed out."""
        self.never_handed_out = not count_first

    @property
    def place(self) -> tuple[int, int]:
        return position(self.event.entry_id)

    def counted(self, attempt: int) -> None:
        """It may be handed out now, as this attempt."""
        self.event = replace(self.event, attempt=attempt)
        self.count_first = False


class PartitionQueue:
    """The events of one partition in the order of the log, so that a redelivery comes before what is later.

    What is in the user's hands is remembered when the partition is lost: it need not be delivered here again.
    """

    def __init__(self, remembered: int = REMEMBERED, *, on_room: Callable[[], None] = lambda: None) -> None:
        """`on_room` is called whenever there may be room for more events."""
        self._waiting: list[Waiting] = []
        self._in_hand: set[str] = set()
        self._settled = RecentIds(remembered)
        self._on_room = on_room

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def head(self) -> Waiting | None:
        """The event that is handed out next."""
        return self._waiting[0] if self._waiting else None

    @property
    def in_hand(self) -> int:
        """How many events are handed out and not settled."""
        return len(self._in_hand)

    @property
    def capacity(self) -> int:
        """How many events may be read now; 0 while enough are waiting or too many are unacknowledged."""
        full = len(self._waiting) > PREFETCH // 2 or self.is_overdrawn
        return 0 if full else PREFETCH - len(self._waiting)

    @property
    def is_overdrawn(self) -> bool:
        """Whether the user holds too many events unacknowledged."""
        return len(self._in_hand) >= MOST_UNACKNOWLEDGED

    def is_in_hand(self, entry_id: str) -> bool:
        return entry_id in self._in_hand

    def knows(self, entry_id: str) -> bool:
        return entry_id in self._in_hand or any(waiting.event.entry_id == entry_id for waiting in self._waiting)

    def was_settled(self, event_id: str) -> bool:
        """Whether this event was acknowledged here, perhaps under another entry id."""
        return event_id in self._settled

    def waiting_seqs(self) -> set[int]:
        return {waiting.event.event_seq for waiting in self._waiting}

    def never_handed_out(self) -> list[str]:
        """Ids of entries that were read ahead and never given to anybody."""
        return [waiting.event.entry_id for waiting in self._waiting if waiting.never_handed_out]

    def add(self, event: OrderEvent, token: str, *, count_first: bool) -> None:
        insort(self._waiting, Waiting(event, token, count_first=count_first), key=lambda waiting: waiting.place)

    def hand_out(self) -> OrderEvent:
        """Move the head into the user's hands."""
        event = self.take_head()
        self._in_hand.add(event.entry_id)
        return event

    def take_head(self) -> OrderEvent:
        """Take the head out of the queue."""
        event = self._waiting.pop(0).event
        self._on_room()
        return event

    def drop(self, entry_id: str) -> None:
        """It is settled, or not this consumer's to settle."""
        self._in_hand.discard(entry_id)
        self._waiting = [waiting for waiting in self._waiting if waiting.event.entry_id != entry_id]
        self._on_room()

    def acknowledged(self, event: OrderEvent) -> None:
        self.drop(event.entry_id)
        self._settled.add(event.event_id)

    def clear(self) -> None:
        """Forget what was read ahead: the next holder of the partition reads it."""
        self._waiting.clear()
