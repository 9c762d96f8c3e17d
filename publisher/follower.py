"""Follows one account: the private stream, REST beside it, and the market stream for its positions.

There is one path to `live`, at the start as after any interruption: connect the stream, keep what it says, ask for a
snapshot and for the order events that were missed, apply both, and then what the stream has said meanwhile. The fold
sorts out what is newer and what was told before. Nothing of the stream is applied in between, so that each order's
events keep their order. (Doubt that a comparison has raised ends when one agrees, see `Reconciler`.)
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Container, Coroutine, Hashable, Iterable
from dataclasses import replace
from decimal import Decimal
from random import Random

from publisher.committer import Committer, LeaseAcquired
from publisher.config import AccountConfig
from publisher.connection import Route, first_error
from publisher.discrepancies import GRACE_S, MAX_TOLD
from publisher.gap_fill import (
    CONNECTED_MS,
    GapFill,
    GapFiller,
    forget_finished,
    merge_with_stream,
    without_repeated_steps,
)
from publisher.handover import Message
from publisher.logs import Log
from publisher.market import MarkPrices
from publisher.reconciler import Drift, Reconciler
from publisher.user_stream import UserStream
from publisher.websocket import BACKOFF_S, Connector
from statecast.clock import Clock
from statecast.domain.account import (
    BEFORE_OPENING,
    Account,
    Delta,
    IncompleteOrder,
    MissingEvents,
)
from statecast.domain.changes import Change, Check, Frame, LoggedEvent, OrderUpdate, Snapshot
from statecast.domain.models import OrderEvent, OrderKey, Source
from statecast.domain.orders import INTERMEDIATE_EVENTS, OPENING_EVENTS, filled_of, is_over
from statecast.errors import AuthFailed, FrameError, RateLimited, StoreError, VenueError, VenueUnreachable
from statecast.venues import registry
from statecast.venues.adapter import StreamEnded, VenueAccount

REFUSED_RETRY_S = 60.0
"""How often a refused key is tried again: often enough to see a mended one, seldom enough not to be banned."""

STEADY_S = 5.0
"""A stream that lasted this long was a good one, even where that was too short to read what had been missed before it:
the pauses start over. What so many snapshots may weigh is the budget's to say."""

TOLD_PAUSE_S = 2.0
"""A pause before the next connection is worth a line in the log if it is as long."""

SETTLE_S = 0.25
"""After a change, before REST is asked for what the change has moved: a burst costs one question."""

REMEMBERED_ROWS = 5_000
"""Frames of balances, positions and settings that are told from their repetitions: at 500 a second those of 10 s. By
estimate 4 MB."""

MAX_REMEMBERED_FRAMES = 50_000
"""Frames kept until a snapshot is there; with more, everything is asked for again."""


class Follower:
    """One account's eyes. `run` until cancelled."""

    def __init__(
        self,
        config: AccountConfig,
        rest: VenueAccount,
        account: Account,
        committer: Committer,
        connector: Connector,
        clock: Clock,
        rng: Random,
        log: Log,
    ) -> None:
        self._config = config
        self._rest = rest
        self._account = account
        self._committer = committer
        self._clock = clock
        self._log = log
        self._venue = config.account_id.venue
        self._connector = connector
        self._unreconciled: deque[Frame] | None = deque()
        """What the stream has said while the state is in doubt; None while the account follows the stream."""
        self._pending: list[OrderEvent] = []
        """Order events of before that, which are in no log: they come behind what the histories tell of a gap."""
        self._lacking: dict[OrderKey, IncompleteOrder] = {}
        """Orders of them of which something before was not told, and histories were asked for it again."""
        self._doubt = asyncio.Event()
        self._listening = asyncio.Event()
        """Set while there is a stream: what is read before that may be old by the time it begins."""
        self._stream_began: float | None = None
        """When this session's first stream was connected."""
        self._logged_ms = 0
        """The venue's time of the youngest frame that told of the account, or of the connection after it."""
        self._permissions_known = False
        self._unknown_logged: set[str] = set()
        self._row_frames: OrderedDict[Hashable, None] = OrderedDict()
        """Identities of the newest frames of rows, on whatever connection."""
        retention_ms = round(config.events_retention_s * 1000)
        self._gap_filler = GapFiller(rest, account, committer, clock, log, retention_ms=retention_ms)
        self._light = Reconciler(
            rest,
            account,
            committer,
            clock,
            rng,
            log,
            period_s=config.reconcile_s,
            apply=lambda answer: self._apply((answer,), "rest"),
            agreed=self._agreed,
            following=lambda: self._unreconciled is None,
            incomplete=self._resync,
        )
        traits = registry.venue(self._venue).traits.stream
        route = Route(self._venue, connector, clock, rest.clock, traits.ping_after_s)
        self._stream = UserStream(rest, traits, route, log, shared=config.shared_stream, unproven=self._light.due)
        self._marks = MarkPrices(rest, traits, route, log)
        committer.on_lease_lost = self._resync
        committer.on_lease_acquired = self._take_over

    async def run(self) -> None:
        """Follow the account for ever: connect, and connect again."""
        failures = 0
        if not self._config.shared_stream:
            await self._committer.opened.wait()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._marks.run())
            tasks.create_task(self._follow_marks())
            while True:
                pause_s = 0.0
                self._stream_began = None
                try:
                    await _apart(self._session())
                except Drift as news:
                    self._degrade(str(news))
                    # No good stream, however long it was: a difference that lasts must not be read again for ever.
                    self._stream_began = None
                except StreamEnded as news:
                    self._degrade(str(news))
                except AuthFailed as error:
                    self._committer.move("refused", f"{error}; {registry.venue(self._venue).advice(error)}")
                    pause_s = REFUSED_RETRY_S
                except RateLimited as error:
                    self._degrade(str(error))
                    pause_s = self._until(error)
                except (VenueError, FrameError) as error:
                    self._degrade(str(error))
                except Exception:  # noqa: BLE001 - the outermost loop: whatever it was, the state is in doubt, and we go on
                    self._log.exception("unexpected")
                    self._degrade("an error of this program, see its log")
                    pause_s = BACKOFF_S[2]
                if self._was_steady():
                    failures = 0
                pause_s = max(pause_s, self._connector.pause_s(failures))
                if pause_s >= TOLD_PAUSE_S:
                    self._log.info("connecting_again", in_s=round(pause_s, 1))
                await self._clock.sleep(pause_s)
                failures += 1

    def log_needed_ms(self) -> int | None:
        """See `GapFiller.reaches_ms`."""
        return self._gap_filler.reaches_ms()

    async def aclose(self, others_registered: bool) -> None:
        """At an orderly stop."""
        await self._rest.aclose(last=not others_registered)

    def _degrade(self, reason: str) -> None:
        """Readers first: the state is in doubt from now on."""
        self._committer.move("doubt", reason)

    def _was_steady(self) -> bool:
        return self._stream_began is not None and self._clock.monotonic() - self._stream_began > STEADY_S

    def _until(self, error: RateLimited) -> float:
        return max(1.0, (error.retry_at_ms - self._rest.clock.now_ms()) / 1000)

    # One stream

    async def _session(self) -> None:
        """Follow the stream until it has a gap, which an error tells."""
        await self._check_permissions()
        self._doubt.clear()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._stream.run(self._take, self._connected))
                tasks.create_task(self._reconcile())
                tasks.create_task(self._light.run())
        except BaseExceptionGroup as group:
            raise first_error(group) from None
        finally:
            self._listening.clear()
            self._keep_order_events()
            self._gap_filler.reopen(self._logged_ms)

    def _connected(self) -> None:
        self._committer.health.stream_since_ms = self._clock.now_ms()
        self._logged_ms = max(self._logged_ms, self._stream.since_ms)
        self._hear_from_now_on()
        if self._stream_began is None:
            self._stream_began = self._clock.monotonic()
        self._listening.set()

    def _hear_from_now_on(self) -> None:
        """There is a hole before this moment. Whoever writes fills it; who stands by knows what comes after it."""
        self._keep_order_events()
        since_ms = self._gap_filler.stream_begins()
        record = self._committer.record
        if self._committer.is_standby or not record.complete_since_ms:
            # By half of the margin less: the other half is for how well the venue's clock is known.
            record.begin(since_ms - CONNECTED_MS // 2)
            self._pending.clear()
        self._doubt.set()

    def _keep_order_events(self) -> None:
        """Begin anew with the frames that wait for a snapshot; of those so far, what they tell of orders is kept."""
        self._pending += self._buffered_events()
        if self._unreconciled:
            self._row_frames.clear()  # What is thrown away here counts when it comes again.
        self._unreconciled = deque()

    def _keep_rows(self) -> None:
        """As `_keep_order_events`, and what the frames tell of wallets and positions goes on waiting: the next answer
        may be older."""
        rows: deque[Frame] = deque()
        for frame in self._unreconciled or ():
            changes = tuple(change for change in frame.changes if not isinstance(change, OrderUpdate))
            if changes:
                rows.append(frame._replace(changes=changes))
        self._pending += self._buffered_events()
        self._unreconciled = rows

    async def _check_permissions(self) -> None:
        """A publisher needs to read and nothing else; a key that can do more is worth a word, once."""
        if self._permissions_known:
            return
        try:
            report = await self._rest.check_key()
        except AuthFailed:
            raise
        except (VenueError, FrameError) as error:
            self._log.warning("permissions_unknown", reason=str(error))
            return
        self._permissions_known = True
        if report is None or not report.may:
            return
        self._log.warning(
            "key_can_do_too_much",
            may=list(report.may),
            advice="a publisher only reads: give it an API key with reading alone",
        )

    def _take(self, message: Message) -> None:
        """What the stream has sent."""
        frame = message.content
        try:
            if isinstance(frame, FrameError):
                raise frame
            if not self._is_repeat(message.identity, frame):
                self._take_frame(frame)
        except FrameError as error:
            self._committer.health.malformed_frames += 1
            self._resync(str(error))

    def _is_repeat(self, identity: Hashable | None, frame: Frame) -> bool:
        """Whether a frame of rows was received before. Rows of one millisecond cannot be told apart by their times: one
        that is repeated late would put an older one in the place of a newer. Events of orders have ids."""
        if identity is None or not frame.changes or isinstance(frame.changes[0], OrderUpdate):
            return False
        if identity in self._row_frames:
            return True
        self._row_frames[identity] = None
        if len(self._row_frames) > REMEMBERED_ROWS:
            self._row_frames.popitem(last=False)
        return False

    def _take_frame(self, frame: Frame) -> None:
        match frame.notice:
            case "margin_call":
                self._log.warning("margin_call", positions=frame.detail)
                self._light.moved()
            case "unknown":
                self._committer.health.unknown_events += 1
                if frame.event not in self._unknown_logged and len(self._unknown_logged) < 100:
                    self._unknown_logged.add(frame.event)
                    self._log.warning("unknown_event", event_type=frame.event)
                    self._light.due()  # Once: one that comes with every fill must not eat the request weight.
        if not frame.changes:
            return
        self._logged_ms = max(self._logged_ms, frame.event_time_ms)
        if self._unreconciled is None:
            lacks = list(self._account.missing_before(frame.changes))
            if all(lack.only_beginning for lack in lacks):
                self._account.incomplete |= {lack.incomplete.order.key: lack.incomplete for lack in lacks}
                self._apply(frame.changes, "stream")
                self._light.moved()
                for change in frame.changes:
                    if isinstance(change, OrderUpdate):
                        self._light.concerns(change.order.symbol)
                return
            # This frame waits for what the histories tell of the time before it.
            order = lacks[0].incomplete.order
            self._resync(f"what happened to order {order.key} before it was {order.status} was not told")
        assert self._unreconciled is not None, "there is a doubt"
        self._unreconciled.append(frame)
        if len(self._unreconciled) + len(self._pending) > MAX_REMEMBERED_FRAMES:
            # What they held is in the histories as well; a new beginning leaves room for what comes.
            self._unreconciled.clear()
            self._row_frames.clear()
            self._pending.clear()
            self._gap_filler.stream_begins()
            self._doubt.set()

    def _apply(self, changes: Iterable[Change], source: Source) -> Delta:
        """Into the account and on to Redis.

        Raises:
            FrameError: an amount is beyond reckoning. The account may be half changed: only a snapshot puts it right.
        """
        changes = tuple(changes)
        try:
            delta = self._account.apply(changes, source)
        except ArithmeticError as error:
            self._committer.submit(self._account.events_alone(changes, source))
            raise FrameError(source, "an amount", "is beyond reckoning") from error
        self._committer.submit(delta)
        if delta.positions or delta.replaces:
            self._marks.follow(self._account.symbols_with_position)
        return delta

    def _resync(self, reason: str) -> None:
        """Something is wrong with what we know, though the stream lives: ask for a snapshot, and say so until then."""
        self._degrade(reason)
        # What came before the doubt is in the next snapshot; told again after it, it could bring back an order whose
        # end was the frame that made no sense. Before the first snapshot, though, these frames are all there is.
        if self._unreconciled is None or self._account.complete:
            self._keep_order_events()
        if self._listening.is_set():
            self._gap_filler.stream_begins()
        self._doubt.set()

    def _take_over(self, taken: LeaseAcquired) -> None:
        """The lease was taken, for the first time or again. What the log lacks comes before all else."""
        forget_finished(self._account)
        missing = _without_late_steps(taken, {event.order.key for event in self._committer.record if _ends(event)})
        if taken.gap:
            self._pending[:0] = missing
            self._gap_filler.begin_again(taken.previous, taken.complete_ms)
            self._resync("taking over: the log of order events is not complete")
            return
        if self._committer.record.complete_since_ms:
            self._gap_filler.complete(taken.previous.events_complete_ms)
        else:
            self._gap_filler.begin_again(taken.previous, taken.complete_ms)
        try:
            self._apply([LoggedEvent(event) for event in missing], "stream")
        except FrameError as error:
            self._resync(str(error))
        if self._unreconciled is not None:
            self._doubt.set()  # What was begun by one that stood by is finished by one that writes.
        self._light.due()

    # REST beside the stream

    async def _reconcile(self) -> None:
        """A snapshot whenever there is doubt: at the start of a connection, after a frame that made no sense."""
        failures = 0
        await self._committer.asked.wait()
        await self._listening.wait()
        while True:
            await self._doubt.wait()
            self._doubt.clear()
            asked_at = self._clock.monotonic()
            try:
                await self._rest.clock.sync()  # by which rows are compared with the answer's time
                snapshot = await self._rest.fetch_snapshot()
                found = await self._gap_filler.fetch(snapshot, self._waiting_events)
            except AuthFailed:
                raise
            except (VenueUnreachable, RateLimited, FrameError, StoreError) as error:
                self._degrade(str(error))
                self._doubt.set()
                wait_s = self._until(error) if isinstance(error, RateLimited) else 0.0
                await self._clock.sleep(max(wait_s, BACKOFF_S[min(failures + 1, len(BACKOFF_S) - 1)]))
                failures += 1
                continue
            failures = 0
            # Its parts were asked for beside each other, and what the stream says of the moment in which they were told
            # is perhaps still on its way.
            await self._clock.sleep(SETTLE_S)
            found = await self._gap_filler.log_ahead(found, self._waiting_events, self._log_gap_events)
            if self._doubt.is_set():  # A frame made no sense meanwhile: this answer may be older than it.
                await self._clock.sleep(BACKOFF_S[2])
                continue
            lacks = self._missing_before(found, snapshot)
            if not all(lack.only_beginning for lack in lacks):
                # The stream is not as whole as it seemed: what is missing in what it has told since is asked for, too.
                self._log.warning("not_told", orders=[str(lack.incomplete.order.key) for lack in lacks][:MAX_TOLD])
                self._lacking |= {lack.incomplete.order.key: lack.incomplete for lack in lacks}
                self._keep_rows()
                self._gap_filler.stream_begins()
                self._doubt.set()
                await self._clock.sleep(BACKOFF_S[2])
                continue
            self._apply_all(found, snapshot, lacks)
            traded = {order.symbol for order in self._account.orders.values()} | self._account.symbols_with_position
            self._light.begins(asked_at, found.since_ms, traded | found.symbols)
            # REST may have been behind what happened before the stream was connected, and no frame tells that any more.
            self._light.due()
            self._committer.health.reconciled_at_ms = self._clock.now_ms()
            self._committer.move("reconciled", "stream connected, snapshot reconciled")
            await self._clock.sleep(BACKOFF_S[2])  # A stream of nonsense must not become a stream of snapshots.

    def _buffered_events(self) -> list[OrderEvent]:
        return [c.event for frame in self._unreconciled or () for c in frame.changes if isinstance(c, OrderUpdate)]

    def _waiting_events(self) -> list[OrderEvent]:
        """Order events that are told after those of the gap, in their order."""
        return self._pending + self._buffered_events()

    def _missing_before(self, found: GapFill, snapshot: Snapshot) -> list[MissingEvents]:
        """What the frames that have waited do not tell, although it must have happened before them."""
        if found.filled is None:
            return []
        filled = self._logged_filled(found)
        for order in snapshot.orders:
            if order.venue_time_ms <= found.until_ms:
                filled.setdefault(order.key, filled_of(order))
        changes = [change for frame in self._unreconciled or () for change in frame.changes]
        return list(self._account.missing_before(changes, filled))

    def _logged_filled(self, found: GapFill) -> dict[OrderKey, Decimal]:
        """What is filled as far as the log tells, or is about to tell with what was found."""
        filled = dict(found.filled or {})
        for order in (event.order for event in self._pending):
            filled[order.key] = max(filled.get(order.key, Decimal(0)), filled_of(order))
        return filled

    def _log_gap_events(self, events: Iterable[LoggedEvent]) -> bool:
        if self._doubt.is_set():
            return False
        self._apply(events, "rest")
        return True

    def _apply_all(self, found: GapFill, snapshot: Snapshot, lacks: Iterable[MissingEvents]) -> None:
        """The missed order events, the snapshot, and what has waited, in the order that each order needs.

        They are one commit: no reader sees a state that never was.
        """
        if self._committer.is_standby:
            # Nobody has filled the hole that made the doubt: the record reaches back to there, and not further.
            self._committer.record.begin(found.until_ms)
        filled = self._logged_filled(found)
        listed = (*found.ended.values(), *snapshot.orders)
        self._account.remember_ended(found.ended.values())
        self._account.incomplete = {
            order.key: IncompleteOrder(order, filled.get(order.key, BEFORE_OPENING))
            for order in listed
            if order.venue_time_ms > found.until_ms
            or filled_of(order) > max(Decimal(0), filled.get(order.key, filled_of(order)))
        } | {lack.incomplete.order.key: lack.incomplete for lack in lacks}
        explained = found.filled or {}
        self._account.incomplete |= {
            key: one for key, one in self._lacking.items() if explained.get(key, one.filled) <= one.filled
        }
        self._lacking.clear()
        merged = merge_with_stream(found, self._waiting_events())
        changes: list[Change] = [*merged.first]
        for event in without_repeated_steps(self._pending):
            changes += (*merged.before.get(event.event_id, ()), LoggedEvent(event))
        changes.append(replace(snapshot, heard_since_ms=found.until_ms - CONNECTED_MS))
        for frame in self._unreconciled or ():
            for change in frame.changes:
                if isinstance(change, OrderUpdate):
                    changes += merged.before.get(change.event.event_id, ())
                changes.append(change)
        self._apply((*changes, *merged.last), "rest")
        self._pending.clear()
        self._unreconciled = None
        if self._committer.is_standby:
            self._account.incomplete.clear()  # What ended in the hole, the writer tells.
        else:
            self._gap_filler.filled(found.until_ms)
            self._committer.fill_gap()

    def take_answer(self, answer: Check) -> None:
        """A REST answer that readers have asked for: as good as a periodic one, while the stream is followed."""
        if self._unreconciled is not None:
            return
        try:
            self._light.take(answer, self._clock.monotonic())
        except FrameError as error:
            self._resync(str(error))

    def _agreed(self, taken_ms: int) -> None:
        """Everything that REST told then, the stream has told as well."""
        if not self._committer.is_standby:
            self._gap_filler.complete(taken_ms - round(GRACE_S * 1000))

    async def _follow_marks(self) -> None:
        """Mark prices into the account: one commit for all symbols, and no more than one per interval."""
        while True:
            await self._clock.sleep(self._config.mark_price_interval_s)
            updates = self._marks.take()
            self._committer.health.malformed_market_frames = self._marks.malformed_frames
            if updates and self._account.complete:
                try:
                    self._apply(updates, "derived")
                except FrameError as error:
                    self._resync(str(error))


async def _apart(work: Coroutine[object, None, None]) -> None:
    """Await `work` in a task of its own. A task group that is ending by an error forgets a cancellation of the task
    that it is in, and passes no further one on: that must not be the task which goes on with something else."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait((task,))
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
    if ended is not None:
        raise ended


def _ends(event: OrderEvent) -> bool:
    return event.event_type not in INTERMEDIATE_EVENTS and is_over(event.order)


def _without_late_steps(taken: LeaseAcquired, over: Container[OrderKey]) -> list[OrderEvent]:
    """What the log lacks, but for steps of orders that it tells to be over: they would come after the end, and so does
    nothing at the venue. Another publisher has missed them, and no history tells them. It has them `over` where it has
    events that this process has heard as well, or where they are among the open orders no more."""
    if not taken.previous.published:
        return list(taken.missing)
    goes_on = {order.key for order in taken.previous.orders if order.key not in over}
    goes_on |= {event.order.key for event in taken.missing if event.event_type in OPENING_EVENTS}
    return [
        event for event in taken.missing if event.event_type not in INTERMEDIATE_EVENTS or event.order.key in goes_on
    ]
