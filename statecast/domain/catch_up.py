"""Catching up with the venue: what was received and not applied, what is missing before it, and how it all is merged.

    a frame ──take──► Apply      the account follows the stream: apply these changes
                      Hold       a snapshot is awaited: the frame is buffered
                      Repeat     a frame of rows that was received before
                      Resync     something before this frame is missing: it is buffered, and a snapshot is needed

    snapshot and gap fill ──merge──► Merge      one commit: the gap's events, the snapshot, what was buffered
                                     Missing    events are missing in what was buffered, too: ask the histories again

Nothing of the stream is applied while a snapshot is awaited, so that each order's events keep their order. No socket,
no clock, no Redis: what happened is an argument, what is to be done is the result.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Container, Hashable, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple

from statecast.domain import event_ids
from statecast.domain.account import Account
from statecast.domain.changes import Change, Frame, LoggedEvent, OrderUpdate, Snapshot
from statecast.domain.models import Order, OrderEvent, OrderKey
from statecast.domain.order_tracking import BEFORE_OPENING, IncompleteOrder, MissingEvents
from statecast.domain.orders import INTERMEDIATE_EVENTS, OPENING_EVENTS, filled_of, is_over

MAX_BUFFERED = 50_000
"""Frames and order events that wait for a snapshot; with more, everything is asked for again."""

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
    """A snapshot is needed, for `reason`. The histories must say what happened before this moment."""

    reason: str


class GapFill(NamedTuple):
    """What the histories say of a gap: entries for what is `lost` to them, and the events, in the venue's order.

    The log is then complete until `until_ms`. Histories may lag, so orders created from `since_ms` on are to be asked
    for once more. `ended` are the orders that they show to be over. `filled` is what
    is filled of an order as far as log and histories say; None where no history was asked for. `symbols` are those in
    which conditional orders were looked for.
    """

    until_ms: int
    since_ms: int
    lost: tuple[Change, ...] = ()
    updates: tuple[OrderUpdate, ...] = ()
    ended: Mapping[OrderKey, Order] = MappingProxyType({})
    filled: Mapping[OrderKey, Decimal] | None = None
    symbols: frozenset[str] = frozenset()


class MergePlan(NamedTuple):
    """Changes of a gap, to be applied next to what was buffered: `first`, then each buffered event after what `before`
    has for its id, then `last`."""

    first: tuple[Change, ...]
    before: dict[str, list[OrderUpdate]]
    last: tuple[OrderUpdate, ...]


class Merge(NamedTuple):
    """One commit that ends the gap; no reader sees a state that never was. `incomplete` are the orders of which the
    stream still has to send something after it: where it does not, that is missing in the log."""

    changes: tuple[Change, ...]
    incomplete: tuple[IncompleteOrder, ...]


class Missing(NamedTuple):
    """What was buffered shows that more is missing before it, of these orders."""

    orders: tuple[Order, ...]


class CatchUp:
    """What one account has received and not applied."""

    def __init__(self, account: Account, *, max_buffered: int = MAX_BUFFERED) -> None:
        self._account = account
        self._max_buffered = max_buffered
        self._frames: deque[Frame] | None = deque()
        """What was received since the last resync; None while the account follows the stream."""
        self._events: list[OrderEvent] = []
        """Order events of before that, which are in no log: they come behind what the histories say of the gap."""
        self._incomplete: dict[OrderKey, IncompleteOrder] = {}
        """Orders of which something was missing in what was buffered, and the histories were asked for it again."""
        self._row_frames: OrderedDict[Hashable, None] = OrderedDict()

    @property
    def is_following(self) -> bool:
        """Whether frames are applied as they are received."""
        return self._frames is None

    def waiting_events(self) -> list[OrderEvent]:
        """Order events that are to be logged behind those of the gap, in their order."""
        return self._events + _order_events(self._frames or ())

    # What is received

    def take(self, frame: Frame, identity: Hashable | None) -> Apply | Hold | Repeat | Resync:
        """A frame with changes. `identity` is what all copies of it have in common; None: it has no copies."""
        if self._is_repeat(frame, identity):
            return Repeat()
        if self._frames is None:
            missing = tuple(self._account.missing_before(frame.changes))
            if all(one.only_opening for one in missing):
                return Apply(frame.changes, tuple(one.incomplete for one in missing))
            order = missing[0].incomplete.order
            self._frames = deque((frame,))
            return Resync(f"events of order {order.order_id} are missing before it was {order.status}")
        self._frames.append(frame)
        if len(self._frames) + len(self._events) > self._max_buffered:
            # What they held is in the histories as well; a new beginning leaves room for what comes.
            self.drop()
            return Resync(f"more than {self._max_buffered} frames waited for a snapshot")
        return Hold()

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
        """The stream has a gap from now on: rows of before it come with the next snapshot, order events are kept."""
        self._events += _order_events(self._frames or ())
        if self._frames:
            self._row_frames.clear()  # What is thrown away here counts when it is received again.
        self._frames = deque()

    def resync(self) -> None:
        """What is known is in doubt, though the stream lives.

        What came before is in the next snapshot; applied again after it, it could bring back an order whose end was the
        frame that made no sense. Before the first snapshot, though, the frames are all there is.
        """
        if self._frames is None or self._account.complete:
            self.begin_gap()

    def keep_rows(self) -> None:
        """As `begin_gap`, but what the frames say of wallets and positions goes on waiting: the next answer may be
        older."""
        rows: deque[Frame] = deque()
        for frame in self._frames or ():
            changes = tuple(change for change in frame.changes if not isinstance(change, OrderUpdate))
            if changes:
                rows.append(frame._replace(changes=changes))
        self._events += _order_events(self._frames or ())
        self._frames = rows

    def forget_events(self) -> None:
        """Somebody else logs the order events of before now."""
        self._events.clear()

    def put_first(self, events: Iterable[OrderEvent]) -> None:
        """These order events come before all that waits."""
        self._events[:0] = events

    def drop(self) -> None:
        """Forget everything that waits."""
        self._frames = deque()
        self._row_frames.clear()
        self._events.clear()

    # A gap ends

    def merge(self, snapshot: Snapshot, gap: GapFill, *, connected_ms: int) -> Merge | Missing:
        """Put together what ends the gap. Nothing changes here until `follow`, but that orders of which more is missing
        are remembered. `connected_ms`: the venue's time since which the stream was received."""
        missing = self._missing_before(snapshot, gap)
        if not all(one.only_opening for one in missing):
            self._incomplete |= {one.incomplete.order.key: one.incomplete for one in missing}
            self.keep_rows()
            return Missing(tuple(one.incomplete.order for one in missing))
        plan = merge_with_stream(gap, self.waiting_events())
        changes: list[Change] = [*plan.first]
        for event in without_late_events(self._events):
            changes += (*plan.before.get(event.event_id, ()), LoggedEvent(event))
        changes.append(replace(snapshot, stream_since_ms=connected_ms, knows_ends=gap.filled is not None))
        for frame in self._frames or ():
            for change in frame.changes:
                if isinstance(change, OrderUpdate):
                    changes += plan.before.get(change.event.event_id, ())
                changes.append(change)
        return Merge((*changes, *plan.last), self._still_incomplete(snapshot, gap, missing))

    def follow(self) -> None:
        """The merge was applied: from now on frames are applied as they are received."""
        self._incomplete.clear()
        self._events.clear()
        self._frames = None

    def _missing_before(self, snapshot: Snapshot, gap: GapFill) -> tuple[MissingEvents, ...]:
        """What must have happened to orders before the buffered frames, and nobody has said."""
        if gap.filled is None:
            return ()
        filled = self._logged_filled(gap)
        for order in snapshot.orders:
            if order.venue_time_ms <= gap.until_ms:
                filled.setdefault(order.key, filled_of(order))
        changes = [change for frame in self._frames or () for change in frame.changes]
        return tuple(self._account.missing_before(changes, filled))

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


def _order_events(frames: Iterable[Frame]) -> list[OrderEvent]:
    return [c.event for frame in frames for c in frame.changes if isinstance(c, OrderUpdate)]


def merge_with_stream(gap: GapFill, buffered: Iterable[OrderEvent]) -> MergePlan:
    """Merge the history with what the stream has sent of the same orders, which counts: where both have an event, the
    stream has it with all fields. What the history alone has of such an order goes before the first event of the stream
    that is not older, and behind the last one that both have."""
    received: defaultdict[OrderKey, list[OrderEvent]] = defaultdict(list)
    for event in buffered:
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
        same = next(
            (i for i, other in enumerate(own) if event_ids.is_same(update.event.event_id, other.event_id)), None
        )
        if same is not None:
            reached[key] = max(at, same + 1)
            continue
        while at < len(own) and own[at].order.venue_time_ms < update.order.venue_time_ms:
            at += 1
        reached[key] = at
        if at == 0:
            first.append(update)
        elif at < len(own):
            before.setdefault(own[at].event_id, []).append(update)
        else:
            last.append(update)
    return MergePlan(tuple(first), before, tuple(last))


def _place(event: OrderEvent) -> tuple[int, bool, Decimal, bool]:
    """By which the events of one order follow each other."""
    order = event.order
    return order.venue_time_ms, event.event_type not in OPENING_EVENTS, filled_of(order), is_over(order)


def without_late_events(events: Iterable[OrderEvent]) -> list[OrderEvent]:
    """Without intermediate events of an order that were missed and received again behind later ones: no history says
    where they belong."""
    reached: dict[OrderKey, int] = {}
    kept: list[OrderEvent] = []
    for event in events:
        key, at_ms = event.order.key, event.order.venue_time_ms
        in_order = at_ms >= reached.get(key, 0)
        if event.event_type not in INTERMEDIATE_EVENTS or event.event_type in OPENING_EVENTS or in_order:
            kept.append(event)
            reached[key] = max(at_ms, reached.get(key, 0))
    return kept


def without_events_behind_ends(
    events: Iterable[OrderEvent], open_before: Iterable[Order], over: Container[OrderKey]
) -> list[OrderEvent]:
    """The events missing in the log when the lease is acquired, without intermediate events of orders that are over in
    the log: they would come after the end, and so does nothing at the venue.

    `open_before` are the orders that the last writer left open, `over` those whose end this process has received.
    """
    events = list(events)
    goes_on = {order.key for order in open_before} - {order.key for order in open_before if order.key in over}
    goes_on |= {event.order.key for event in events if event.event_type in OPENING_EVENTS}
    return [event for event in events if event.event_type not in INTERMEDIATE_EVENTS or event.order.key in goes_on]
