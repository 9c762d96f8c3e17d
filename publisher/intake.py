"""Frames of the private stream, as they are received: into the account, or to wait for a snapshot."""

from __future__ import annotations

from collections.abc import Hashable

from publisher.handover import Message
from publisher.logs import Log
from publisher.reconciler import Reconciler
from publisher.status import Status
from publisher.sync import Synchronizer
from publisher.updater import Updater
from statecast.clock import Clock
from statecast.domain.account import Account
from statecast.domain.catch_up import Apply, CatchUp, Resync
from statecast.domain.changes import Frame, OrderUpdate
from statecast.errors import FrameError

LATE_MS = 3_000
"""A stream that is so late has much to send: of one that is not, the last event may be as old."""

PAUSE_S = 1.0
"""After the last frame, nothing is on its way any more."""

MAX_NAMED_EVENTS = 100
"""Kinds of unknown events that are logged, each once."""


class Intake:
    """What one account's stream sends, one frame at a time."""

    def __init__(
        self,
        account: Account,
        catch_up: CatchUp,
        updater: Updater,
        sync: Synchronizer,
        reconciler: Reconciler,
        status: Status,
        clock: Clock,
        log: Log,
    ) -> None:
        self._account = account
        self._catch_up = catch_up
        self._updater = updater
        self._sync = sync
        self._reconciler = reconciler
        self._status = status
        self._clock = clock
        self._log = log
        self._last_event_ms = 0
        self._taken_mono_s = 0.0
        self._named_events: set[str] = set()

    @property
    def last_event_ms(self) -> int:
        """The venue's time of the newest frame that changed the account, or of a later connection; 0: none."""
        return self._last_event_ms

    def is_late(self, asked_ms: int) -> bool:
        """Whether the stream sends, and what it sends is of long before this venue time: as after a flood that takes
        longer to read than to happen."""
        is_sending = self._clock.monotonic() - self._taken_mono_s < PAUSE_S
        return is_sending and self._last_event_ms < asked_ms - LATE_MS

    def connected(self, since_ms: int) -> None:
        """A stream was connected at this venue time."""
        self._last_event_ms = max(self._last_event_ms, since_ms)

    def take(self, message: Message) -> None:
        """A message of the stream. What it says of the connection is the stream's own affair."""
        frame = message.content
        if isinstance(frame, FrameError):
            self._malformed(frame)
            return
        self._note(frame)
        if not frame.changes:
            return
        self._last_event_ms = max(self._last_event_ms, frame.event_time_ms)
        self._taken_mono_s = self._clock.monotonic()
        try:
            self._take_changes(frame, message.identity)
        except FrameError as error:
            self._malformed(error)
        if frame.notice == "doubtful":
            self._sync.resync(frame.detail)

    def _malformed(self, error: FrameError) -> None:
        """A frame cannot be understood: it is counted, and the state is in doubt until the next snapshot."""
        self._status.count_malformed_frame()
        self._sync.resync(str(error))

    def _take_changes(self, frame: Frame, identity: Hashable | None) -> None:
        taken = self._catch_up.take(frame, identity)
        if isinstance(taken, Resync):
            if taken.lost is not None:
                self._log.error("order_events_lost", gap=taken.lost.event_id, reason=taken.reason)
            self._sync.need_snapshot(taken.reason)
        elif isinstance(taken, Apply):
            self._account.expect(taken.incomplete)
            delta = self._updater.apply(taken.changes, "stream")
            if delta.passed_over:
                # It came late, or the venue's clock was set back and it is the newest: the venue itself must say.
                self._reconciler.due()
            self._reconciler.moved(change.order.symbol for change in taken.changes if isinstance(change, OrderUpdate))

    def _note(self, frame: Frame) -> None:
        match frame.notice:
            case "margin_call":
                self._log.warning("margin_call", positions=frame.detail)
                self._reconciler.moved(())
            case "unknown" | "doubtful":
                self._status.count_unknown_event()
                name = f"{frame.event} {frame.detail}"
                if name not in self._named_events and len(self._named_events) < MAX_NAMED_EVENTS:
                    self._named_events.add(name)
                    self._log.warning("unknown_event", event_type=frame.event, detail=frame.detail)
                    self._reconciler.due()  # Once: one that comes with every fill must not use up the venue's limits.
