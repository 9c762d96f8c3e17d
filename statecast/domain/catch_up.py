"""Catching up with the venue: what was received and not applied, what is missing before it, and how it all is merged.

    a frame ──take──► Apply      the account follows the stream: apply these changes
                      Hold       a snapshot is awaited: the frame is buffered
                      Repeat     a frame of rows that was received before
                      Resync     something before this frame is missing: it is buffered, and a snapshot is needed

    snapshot and gap fill ──merge──► Merge      part by part: the gap's events, the snapshot, what was buffered
                                     Missing    events are missing in what was buffered, too: ask the histories again

Nothing of the stream is applied while a snapshot is awaited, so that each order's events keep their order. What waited
is applied in parts: a hundred thousand events in one piece would take longer than a lease lasts, and its loss would
make everything begin again, without end. No socket, no clock, no Redis: what happened is an argument, what is to be
done is the result.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from types import MappingProxyType
from typing import NamedTuple

from statecast.domain import event_ids, gaps
from statecast.domain.account import Account
from statecast.domain.changes import Change, Frame, LoggedEvent, OrderUpdate, Snapshot
from statecast.domain.models import Order, OrderEvent, OrderKey
from statecast.domain.order_tracking import BEFORE_OPENING, IncompleteOrder, MissingEvents
from statecast.domain.orders import (
    INTERMEDIATE_EVENTS,
    OPENING_EVENTS,
    filled_of,
    is_over,
)

MAX_WAITING_EVENTS = 300_000
"""Order events that wait for a snapshot and to be written, together: some 450 MB (`bench/memory.py`), three times a
flood of 100,000 in one go. With more they are dropped, and an entry of type GAP stands for what no history has of
them."""

MAX_WAITING_ROWS = 50_000
"""Frames of balances, positions and settings that wait for a snapshot; with more, another one has what they said."""

REMEMBERED_ROW_FRAMES = 5_000
"""Frames of balances, positions and settings that are recognised when they are received again: at 500 a second those of
10 s. By estimate 4 MB."""


class Apply(NamedTuple):
    """The account follows the stream. `incomplete` are orders of which only the opening event is missing: that moves no
    state, and they wait for it while the changes are applied."""

    changes: tuple[Change, ...]
    incomplete: tuple[IncompleteOrder, ...] = ()


class Hold(NamedTuple):
    """The frame is buffered until a snapshot is there."""


class Repeat(NamedTuple):
    """The same frame of rows was received before, on this connection or another. Two rows of one
    millisecond have the same time, so a late copy could replace a newer row by an older one. Order events have ids."""


class Resync(NamedTuple):
    """A snapshot is needed, for `reason`. The histories must say what happened before this moment. `lost` is the entry
    for order events that were dropped for want of room."""

    reason: str
    lost: OrderEvent | None = None


class GapFill(NamedTuple):
    """What the histories say of a gap: entries for what is `lost` to them, and the events, in the venue's order.

    The log is then complete until `until_ms`. Histories may lag, so orders created from `since_ms` on are to be asked
    for once more. `ended` are the orders that they show to be over. `filled` is what
    is filled of an order as far as log and histories say; None where no history was asked for. `symbols` are those in
    which conditional orders were looked for; in the `unread` ones they were not, as of `unread_since_ms`.
    """

    until_ms: int
    since_ms: int
    lost: tuple[Change, ...] = ()
    updates: tuple[OrderUpdate, ...] = ()
    ended: Mapping[OrderKey, Order] = MappingProxyType({})
    filled: Mapping[OrderKey, Decimal] | None = None
    symbols: frozenset[str] = frozenset()
    unread: frozenset[str] = frozenset()
    unread_since_ms: int = 0


class MergePlan(NamedTuple):
    """Changes of a gap, to be applied next to what was buffered: `first`, then each buffered event after what `before`
    has for its id, then `last`."""

    first: tuple[Change, ...]
    before: dict[str, list[OrderUpdate]]
    last: tuple[OrderUpdate, ...]


class Merge(NamedTuple):
    """The gap can end: apply `CatchUp.take_part` until the account follows the stream. `incomplete` are the orders of
    which the stream still has to send something after it: where it does not, that is missing in the log."""

    incomplete: tuple[IncompleteOrder, ...]


class Missing(NamedTuple):
    """What was received shows that more is missing before it, of these orders. The histories may be behind: they are
    asked for again for as long as REST may be."""

    orders: tuple[Order, ...]


class _Merging:
    """What is left of a merge, next to what waits."""

    def __init__(self, plan: MergePlan, snapshot: Snapshot, frames: int) -> None:
        """`frames`: how many of those that wait belong to it."""
        self._first = deque(plan.first)
        self._before = plan.before
        self._last = deque(plan.last)
        self._snapshot: Snapshot | None = snapshot
        self._frames = frames

    @property
    def frames(self) -> int:
        """How many of the frames that wait belong to it."""
        return self._frames

    def take_first(self, most: int) -> list[Change]:
        """What comes before all that waits, or some of it."""
        return [self._first.popleft() for _ in range(min(most, len(self._first)))]

    def take_before(self, event: OrderEvent) -> Iterable[Change]:
        """What comes right before an event that waited."""
        return self._before.pop(event.event_id, ())

    def take_snapshot(self) -> Iterable[Change]:
        """What comes between the events of an earlier gap and the frames."""
        found, self._snapshot = self._snapshot, None
        return () if found is None else (found,)

    def count_frame(self) -> None:
        """One of its frames was taken."""
        self._frames -= 1

    def take_last(self, most: int) -> list[Change]:
        """What comes behind all that waited, or some of it."""
        return [self._last.popleft() for _ in range(min(most, len(self._last)))]

    def events(self, waiting: Iterable[OrderEvent], frames: Sequence[Frame]) -> Iterator[OrderEvent]:
        """All of its events in their order, among those that wait, and then what was received since."""
        yield from _events_of(self._first)
        for event in (*waiting, *_order_events(frames[: self._frames])):
            yield from _events_of(self._before.get(event.event_id, ()))
            yield event
        yield from _events_of(self._last)
        yield from _order_events(frames[self._frames :])


class CatchUp:
    """What one account has received and not applied."""

    def __init__(
        self,
        account: Account,
        *,
        max_events: int = MAX_WAITING_EVENTS,
        max_rows: int = MAX_WAITING_ROWS,
        unwritten: Callable[[], int] = lambda: 0,
    ) -> None:
        """`max_events`: order events that may wait, those that are `unwritten` behind this counted in; `max_rows`:
        frames of anything else."""
        self._account = account
        self._unwritten = unwritten
        self._max_events = max_events
        self._max_rows = max_rows
        self._waiting_events = self._waiting_rows = 0
        self._frames: deque[Frame] | None = deque()
        """What was received since the last resync; None while the account follows the stream."""
        self._events: deque[OrderEvent] = deque()
        """Order events of before that, which are in no log: they come behind what the histories say of the gap."""
        self._merging: _Merging | None = None
        self._incomplete: dict[OrderKey, IncompleteOrder] = {}
        """Orders of which something was missing in what was buffered, and the histories were asked for it again."""
        self._row_frames: OrderedDict[Hashable, None] = OrderedDict()
        self._log_is_behind = False
        """Whether the log misses events that the account has applied."""
        self._missing_ms: int | None = None
        """The venue's time until which histories were asked for, when something was first missing in them."""

    @property
    def is_following(self) -> bool:
        """Whether frames are applied as they are received."""
        return self._frames is None

    def waiting_events(self) -> list[OrderEvent]:
        """Order events that are to be logged behind those of the gap, in their order. Where a gap began while a merge
        was applied, what is left of that is among them: what its snapshot has, the account knows, and the log must."""
        if self._merging is not None:
            return list(self._merging.events(self._events, tuple(self._frames or ())))
        return [*self._events, *_order_events(self._frames or ())]

    # What is received

    def take(self, frame: Frame, identity: Hashable | None) -> Apply | Hold | Repeat | Resync:
        """A frame with changes. `identity` is what all copies of it have in common; None: it has no copies."""
        if self._is_repeat(frame, identity):
            return Repeat()
        if self._frames is None:
            missing = tuple(self._account.missing_before(frame.changes))
            if all(one.only_opening for one in missing):
                return Apply(frame.changes, tuple(one.incomplete for one in missing))
            self._begin(self._events, (frame,))
            return _resync(missing[0])
        self._hold(frame)
        if self._waiting_events + self._unwritten() > self._max_events:
            lost = gaps.of_overflow(self.waiting_events())
            self._row_frames.clear()
            self._begin((lost,))
            return Resync(f"more than {self._max_events} order events waited for a snapshot", lost)
        if self._waiting_rows > self._max_rows:
            self._row_frames.clear()  # What is thrown away here counts when it is received again.
            self._begin(self.waiting_events())
            return Resync(f"more than {self._max_rows} frames waited for a snapshot")
        return Hold()

    def _hold(self, frame: Frame) -> None:
        assert self._frames is not None
        self._frames.append(frame)
        if events := len(_order_events((frame,))):
            self._waiting_events += events
        else:
            self._waiting_rows += 1

    def _begin(self, events: Iterable[OrderEvent], frames: Iterable[Frame] | None = ()) -> None:
        """From now on, these wait; None: frames are applied as they are received."""
        self._events, self._frames = deque(events), None if frames is None else deque()
        self._merging = None
        self._waiting_events, self._waiting_rows = len(self._events), 0
        for frame in frames or ():
            self._hold(frame)

    def _is_repeat(self, frame: Frame, identity: Hashable | None) -> bool:
        if identity is None or not frame.changes or isinstance(frame.changes[0], OrderUpdate):
            return False
        if identity in self._row_frames:
            return True
        self._row_frames[identity] = None
        if len(self._row_frames) > REMEMBERED_ROW_FRAMES:
            self._row_frames.popitem(last=False)
        return False

    # A gap begins

    def begin_gap(self) -> None:
        """The stream has a gap from now on. What was received waits on: the next snapshot may be older than rows, and
        order events are in no log yet."""
        rows: list[Frame] = []
        for frame in self._frames or ():
            changes = tuple(change for change in frame.changes if not isinstance(change, OrderUpdate))
            if changes:
                rows.append(frame._replace(changes=changes))
        self._missing_ms = None
        self._begin(self.waiting_events(), rows)

    def resync(self) -> None:
        """What is known is in doubt, though the stream lives.

        What came before is in the next snapshot; applied again after it, it could bring back an order whose end was the
        frame that made no sense. Before the first snapshot, though, the frames are all there is.
        """
        if self._frames is None or self._account.complete:
            self.begin_gap()

    def put_first(self, events: Iterable[OrderEvent]) -> None:
        """These order events come before all that waits, and behind what the log misses of what was applied."""
        if self._merging is not None:
            self.begin_gap()
        self._log_is_behind = True
        self._begin([*events, *self._events], self._frames)

    # A gap ends

    def merge(
        self, snapshot: Snapshot, gap: GapFill, *, connected_ms: int, at_once: int
    ) -> Iterator[Merge | Missing | None]:
        """Put together what ends the gap; the last value is the result. Before it there is a None for each `at_once`
        events that were looked at: other work may have a turn then. Go on only if no other gap has begun meanwhile.
        Nothing is applied here, but orders of which more is missing are remembered: what was received goes on waiting.
        `connected_ms`: the venue's time since which the stream was received."""
        if self._merging is not None:
            self.begin_gap()
        frames = list(self._frames or ())
        missing: list[MissingEvents] = []
        filled = _known_filled(snapshot, gap)
        updates = self._waiting_updates(frames)
        while filled is not None and (part := list(islice(updates, at_once))):
            missing += self._account.missing_before(part, filled)
            yield None
        if not all(one.only_opening for one in missing) and self._may_be_behind(gap):
            self._incomplete |= {one.incomplete.order.key: one.incomplete for one in missing}
            yield Missing(tuple(one.incomplete.order for one in missing))
            return
        events: list[OrderEvent] = []
        in_order = self._in_order(list(self._events))
        while part_in_order := list(islice(in_order, at_once)):
            events += part_in_order
            yield None
        incomplete = self._still_incomplete(snapshot, gap, missing)
        yield None
        plan = merge_with_stream(gap, [*events, *_order_events(frames)])
        snapshot = replace(snapshot, stream_since_ms=connected_ms, knows_ends=gap.filled is not None)
        self._events = deque(events)
        self._merging = _Merging(plan, snapshot, len(frames))
        yield Merge(incomplete)

    def take_part(self, most: int) -> Apply | Resync:
        """The next changes of what was put together, some `most`: apply them before anything else is taken. With the
        last of them the account follows the stream. What is received in between waits behind them."""
        merging = self._merging
        assert merging is not None, "something was put together, and no gap began since"
        changes = merging.take_first(most)
        while self._events and len(changes) < most:
            event = self._events.popleft()
            self._waiting_events -= 1
            changes += (*merging.take_before(event), LoggedEvent(event, ends_order(event)))
        if len(changes) < most:
            changes += merging.take_snapshot()
        while merging.frames and len(changes) < most:
            merging.count_frame()
            for change in self._next_frame().changes:
                if isinstance(change, OrderUpdate):
                    changes += merging.take_before(change.event)
                changes.append(change)
        if not merging.frames:
            changes += merging.take_last(most - len(changes))
        is_whole = not merging.frames and len(changes) < most
        return self._take_newer(changes, most) if is_whole and not (changes and self._frames) else Apply(tuple(changes))

    def _take_newer(self, changes: list[Change], most: int) -> Apply | Resync:
        """What was received since the merge was put together, where all of it is applied. It is judged as it would have
        been without one."""
        frames: list[Frame] = []
        while self._frames and len(changes) < most:
            frames.append(self._next_frame())
            changes += frames[-1].changes
        missing = tuple(self._account.missing_before(changes)) if frames else ()
        left = [*frames, *(self._frames or ())]
        if not all(one.only_opening for one in missing):
            self.follow()
            self._begin((), left)
            return _resync(missing[0])
        if not self._frames:
            self.follow()
        return Apply(tuple(changes), tuple(one.incomplete for one in missing))

    def _next_frame(self) -> Frame:
        assert self._frames is not None
        frame = self._frames.popleft()
        if events := len(_order_events((frame,))):
            self._waiting_events -= events
        else:
            self._waiting_rows -= 1
        return frame

    def _may_be_behind(self, gap: GapFill) -> bool:
        """Whether another question may explain what this one does not; the first time it is always worth one."""
        if self._missing_ms is None:
            self._missing_ms = gap.until_ms
            return True
        return gap.until_ms - self._missing_ms <= self._account.rest.lag_ms

    def follow(self) -> None:
        """The merge was applied: from now on frames are applied as they are received."""
        self._incomplete.clear()
        self._missing_ms = None
        self._begin((), None)
        self._log_is_behind = False

    def at_the_end(self) -> list[OrderEvent]:
        """What is to be logged of what waits where the publisher ends before the gap is filled.

        The next one fills it, from the same time on, and logs what this one has not, behind what it has. So an order's
        events are logged where nothing can be missing before them: they go on from its logged ones, or begin with its
        opening. Of the others the next publisher finds the opening, fills and end in the histories; for what no history
        has, there is an entry of type GAP.
        """
        of_order: dict[OrderKey, list[OrderEvent]] = {}
        waiting = list(self._in_order(self.waiting_events()))
        for event in waiting:
            if event.event_type != gaps.GAP:
                of_order.setdefault(event.order.key, []).append(event)
        updates = [
            OrderUpdate(event, not is_over(event.order), self._is_first(event))
            for events in of_order.values()
            for event in events
        ]
        withheld = {one.incomplete.order.key for one in self._account.missing_before(updates)}
        if self._log_is_behind:
            withheld |= {key for key, events in of_order.items() if events[0].event_type not in OPENING_EVENTS}
        logged = [event for event in waiting if event.order.key not in withheld]
        return logged + [
            gaps.of_unlogged(events)
            for key, events in of_order.items()
            if key in withheld and not all(gaps.is_in_history(event) for event in events)
        ]

    def _in_order(self, events: Iterable[OrderEvent]) -> Iterator[OrderEvent]:
        # The account may have applied later ones that the log has lost: then they are late for nothing.
        is_late = (lambda event: False) if self._log_is_behind else self._account.is_late
        return with_entries_for_late_events(events, self._account.is_logged, is_late)

    def _is_first(self, event: OrderEvent) -> bool:
        """Whether nothing of the order came before this event, where nothing of it is known."""
        if event.event_type == "CALCULATED":
            return filled_of(event.order) == (event.last_qty or 0)
        return event.event_type in OPENING_EVENTS or event.order.key in self._account.triggered

    def _waiting_updates(self, frames: Iterable[Frame]) -> Iterator[Change]:
        """What waits, as changes."""
        events = [one for one in self._events if one.event_type != gaps.GAP]
        yield from (OrderUpdate(one, True, self._is_first(one)) for one in events)
        yield from (change for frame in frames for change in frame.changes)

    def _logged_filled(self, gap: GapFill) -> dict[OrderKey, Decimal]:
        """What is filled of orders as far as the log says, or is about to say with the gap's events."""
        filled = dict(gap.filled or {})
        for order in (event.order for event in self._events):
            filled[order.key] = max(filled.get(order.key, Decimal(0)), filled_of(order))
        return filled

    def _still_incomplete(
        self, snapshot: Snapshot, gap: GapFill, missing: Iterable[MissingEvents]
    ) -> tuple[IncompleteOrder, ...]:
        filled = self._logged_filled(gap)
        incomplete = {
            order.key: IncompleteOrder(order, filled.get(order.key, BEFORE_OPENING))
            for order in (*gap.ended.values(), *snapshot.orders)
            if order.venue_time_ms > gap.until_ms
            or filled_of(order) > max(Decimal(0), filled.get(order.key, filled_of(order)))
        }
        incomplete |= {one.incomplete.order.key: one.incomplete for one in missing}
        explained = gap.filled or {}
        incomplete |= {
            key: one for key, one in self._incomplete.items() if explained.get(key, one.filled) <= one.filled
        }
        return tuple(incomplete.values())


def _events_of(changes: Iterable[Change]) -> Iterator[OrderEvent]:
    return (change.event for change in changes if isinstance(change, OrderUpdate | LoggedEvent))


def _known_filled(snapshot: Snapshot, gap: GapFill) -> dict[OrderKey, Decimal] | None:
    """What is filled of orders before what was received; None where no history was asked for it."""
    if gap.filled is None:
        return None
    filled = dict(gap.filled)
    for order in snapshot.orders:
        if order.venue_time_ms <= gap.until_ms:
            filled.setdefault(order.key, filled_of(order))
    return filled


def _resync(missing: MissingEvents) -> Resync:
    order = missing.incomplete.order
    return Resync(f"events of order {order.order_id} are missing before it was {order.status}")


def ends_order(event: OrderEvent) -> bool:
    """Whether an order is not open any more after an event, and stays so."""
    if event.event_type == gaps.GAP:
        return gaps.ends_order(event)
    return event.event_type not in INTERMEDIATE_EVENTS and is_over(event.order)


def _order_events(frames: Iterable[Frame]) -> list[OrderEvent]:
    return [c.event for frame in frames for c in frame.changes if isinstance(c, OrderUpdate)]


def merge_with_stream(gap: GapFill, buffered: Iterable[OrderEvent]) -> MergePlan:
    """Merge the history with what the stream has sent of the same orders, which counts: where both have an event, the
    stream has it with all fields. What the history alone has of such an order goes before the first event of the stream
    that does not come before it (`_place`), and behind the last one that both have."""
    of_history = {update.order.key for update in gap.updates}
    received: defaultdict[OrderKey, list[OrderEvent]] = defaultdict(list)
    for event in (event for event in buffered if event.order.key in of_history):
        own = received[event.order.key]
        # What was missed and is received again, late, has its place where the history has it.
        if not own or _place(event) >= _place(own[-1]):
            own.append(event)
    first: list[Change] = list(gap.lost)
    before: dict[str, list[OrderUpdate]] = {}
    last: list[OrderUpdate] = []
    reached: dict[OrderKey, int] = {}
    for update in gap.updates:
        key = update.order.key
        own, at = received.get(key, []), reached.get(key, 0)
        ids = event_ids.stream_ids(update.event)
        same = next((i for i, other in enumerate(own) if other.event_id in ids), None)
        if same is not None:
            reached[key] = max(at, same + 1)
            continue
        while at < len(own) and _place(own[at]) < _place(update.event):
            at += 1
        reached[key] = at
        if at == 0:
            first.append(update)
        elif at < len(own):
            before.setdefault(own[at].event_id, []).append(update)
        else:
            last.append(update)
    return MergePlan(tuple(first), before, tuple(last))


def _place(event: OrderEvent) -> tuple[bool, Decimal, int, bool]:
    """By which the events of one order follow each other. The venue's clock may be set back: an order opens first, and
    what is filled never gets less."""
    order = event.order
    filled = Decimal("Infinity") if order.algo_id is None and order.executed_qty is None else filled_of(order)
    return event.event_type not in OPENING_EVENTS, filled, order.venue_time_ms, is_over(order)


def with_entries_for_late_events(
    events: Iterable[OrderEvent],
    is_logged: Callable[[str], bool],
    is_late: Callable[[OrderEvent], bool] = lambda event: False,
) -> Iterator[OrderEvent]:
    """The events, and entries of type GAP in place of intermediate ones of an order that were missed and received again
    behind later ones, of these or of those in the log (`is_late`): no history says where they belong. One that was
    received or `is_logged` before needs none."""
    reached: dict[OrderKey, int] = {}
    received: set[str] = set()
    for event in events:
        key, at_ms = event.order.key, event.order.venue_time_ms
        in_order = at_ms >= reached.get(key, 0) and not is_late(event)
        if event.event_type not in INTERMEDIATE_EVENTS or event.event_type in OPENING_EVENTS or in_order:
            yield event
            reached[key] = max(at_ms, reached.get(key, 0))
        elif event.event_id not in received and not is_logged(event.event_id):
            yield from _entry_for(event)
        received.add(event.event_id)


def with_entries_for_events_behind_ends(
    events: Iterable[OrderEvent], open_before: Iterable[Order], over: Container[OrderKey]
) -> list[OrderEvent]:
    """The events missing in the log when the lease is acquired, and entries of type GAP in place of intermediate events
    of orders that are over in the log: they would come after the end, and so does nothing at the venue.

    `open_before` are the orders that the last writer left open, `over` those whose end this process has received.
    """
    events = list(events)
    goes_on = {order.key for order in open_before} - {order.key for order in open_before if order.key in over}
    goes_on |= {event.order.key for event in events if event.event_type in OPENING_EVENTS}
    kept: list[OrderEvent] = []
    for event in events:
        is_behind = event.event_type in INTERMEDIATE_EVENTS and event.order.key not in goes_on
        kept += _entry_for(event) if is_behind else (event,)
    return kept


def _entry_for(late: OrderEvent) -> tuple[OrderEvent, ...]:
    entry = gaps.of_late(late)
    return () if entry is None else (entry,)
