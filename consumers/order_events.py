"""Order events in a consumer group: every event at least once, each order's events in order, nothing lost in silence.

One consumer of a group is at work, the others stand by and take over when it ends; with `partitions`, one for each.
What was delivered stays pending in Redis until it is acknowledged, and comes again if its consumer ends before: so a
handler must bear an event twice, by its `event_id`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import secrets
import socket
from bisect import insort
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from consumers import config
from consumers.models import EventFields
from consumers.tables import values
from statecast.clock import Clock, SystemClock
from statecast.domain.gaps import GAP
from statecast.errors import (
    ConfigError,
    ContractMismatch,
    LeaseLost,
    StoreAuthFailed,
    StoreDiverged,
    StoreError,
    StoreRefused,
)
from statecast.store.client import SOCKET_TIMEOUT_S, AnyRedis, Client
from statecast.store.event_log import first_entry_from_seq, seq_before
from statecast.store.groups import (
    ConsumerGroup,
    Entry,
    Fields,
    Progress,
    check_name,
    is_for_good,
    partition_of,
    position,
)
from statecast.store.keys import AccountId

LOG = logging.getLogger("statecast.consumers")

PREFETCH = 64
"""Events of a partition that wait in this process: a round trip for each handful, and little to take over."""

MOST_UNACKNOWLEDGED = 10_000
"""Events of a partition that the user may hold unacknowledged: some 20 MB. Beyond it, no more are given out."""

KEPT_GAPS = 100

REMEMBERED = 50_000
"""Ids of events that are known again when Redis has lost them and the publisher writes them again: as many as the
publisher itself tells apart. Some 10 MB."""

STANDBY_S = 0.5
"""How often a consumer without work asks for some: so long a partition that was given back stays without one."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
"""Between two attempts to reach Redis; doubled each time."""

CLOSE_WITHIN_S = 2.0
REASON_LENGTH = 500

T = TypeVar("T")

Handler = Callable[["OrderEvent"], Awaitable[object] | object]


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that this group missed, or may have missed. Compare with the account's orders.

    `trimmed`: events left the log before the group had them; they are `expected_event_seq` up to the one before
    `found_event_seq`, where these are known. `reset`: Redis lost data, and with it the numbers, or the group before
    this consumer knew how far it had come; what is in the log comes again. `progress`: Redis forgot how far the group
    had come, so that events that were trimmed meanwhile would not be noticed. `untold`: the log itself says that
    nobody can tell some events any more; its entry comes as an event of type GAP as well, with `event.gap_info`.
    """

    kind: Literal["trimmed", "reset", "progress", "untold"]
    expected_event_seq: int | None
    found_event_seq: int | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class OrderEvent(EventFields):
    """An order event as it was delivered to this consumer. Acknowledge it once it is handled.

    `entry_id` is its place in the log. `redelivered`: it was delivered before, and perhaps handled. `attempt` is 1 for
    the first delivery; it counts what failed, and what was given to a consumer that ended before the acknowledgement.
    """

    entry_id: str
    redelivered: bool
    attempt: int
    _events: OrderEvents = field(repr=False, compare=False)
    _partition: int = field(repr=False, compare=False)

    async def ack(self) -> None:
        """It is handled: never again. Waits while Redis is away; may be repeated."""
        await self._events._acknowledge(self)

    async def retry(self, reason: str) -> None:
        """It failed: deliver it again, after a while and before any later event; after `max_attempts`, give it up."""
        await self._events._retry(self, reason)

    async def reject(self, reason: str) -> None:
        """It cannot be handled: move it to the dead letters of the group, with the reason."""
        await self._events._reject(self, reason)


@dataclass(slots=True, eq=False)
class _Waiting:
    """An event that was read and not given to the user yet."""

    event: OrderEvent
    again: bool
    """Whether it may have been given out before, by us or by a consumer that is gone: then that is counted first."""
    fresh: bool
    """Whether nobody was ever given it."""
    counting: asyncio.Task[None] | None = None
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    """Of the count, which is repeated when its reply is lost."""

    @property
    def place(self) -> tuple[int, int]:
        return position(self.event.entry_id)


@dataclass(slots=True, eq=False)
class _Partition:
    """One partition, as far as this process knows it; only with a `term` it is ours."""

    number: int
    term: str | None = None
    deadline: float = 0.0
    """Until then nobody else can have it: counted from before the renewal was sent."""
    anew: bool = False
    """Whether the outcome of a read is unknown, so that the next renewal must take a new term."""
    caught_up: bool = False
    """Whether all was read that was pending when it was taken: what turns up later and is younger is new."""
    leaving: bool = False
    leave_at: float = 0.0
    serving: asyncio.Task[None] | None = None
    last: Progress | None = None
    """The youngest event seen."""
    told: str = ""
    sweep_at: float = 0.0
    queue: list[_Waiting] = field(default_factory=list)
    """In the order of the log, so that what comes again comes before what is later."""
    handed: set[str] = field(default_factory=set)
    """Ids in the user's hands. They are kept when the partition is lost: what is in hand need not come again."""
    settled: dict[str, None] = field(default_factory=dict)
    """Ids of the events that were acknowledged here, the youngest at the end."""
    seen: dict[str, None] = field(default_factory=dict)
    """Ids of the events that were read here, whether they were wanted or not: each partition reads them all."""
    not_before: float = 0.0
    room: asyncio.Event = field(default_factory=asyncio.Event)

    def knows(self, entry_id: str) -> bool:
        return entry_id in self.handed or any(waiting.event.entry_id == entry_id for waiting in self.queue)

    def add(self, event: OrderEvent, *, again: bool) -> None:
        insort(self.queue, _Waiting(event, again, fresh=not again), key=lambda waiting: waiting.place)

    def drop(self, entry_id: str) -> None:
        """It is settled, or not ours to settle."""
        self.handed.discard(entry_id)
        self.queue = [waiting for waiting in self.queue if waiting.event.entry_id != entry_id]
        self.room.set()

    @property
    def untouched(self) -> list[str]:
        """What was read ahead and never given to anybody."""
        return [waiting.event.entry_id for waiting in self.queue if waiting.fresh]

    def learn(self, progress: Progress | None) -> None:
        """What Redis knows may be younger than what this process has seen, and the other way round."""
        if progress and (self.last is None or position(progress.entry_id) > position(self.last.entry_id)):
            self.last = progress


class OrderEvents(AsyncIterator[OrderEvent]):
    """The order events of an account, as one consumer of a group. An async context manager and iterator.

        async with OrderEvents("binance:main", "redis://127.0.0.1:6379/0", group="mybot") as events:
            async for event in events:
                print(event.event_type, event.order_id, event.executed_qty)
                await event.ack()

    or with a handler, after whose success the event is acknowledged, and whose exceptions are counted and tried again:

            await events.run(handle)

    Give each bot its own group; processes with the same group share its work. While Redis is away it waits, and goes on
    without loss. An event that was delivered and neither acknowledged nor settled otherwise stays with this process;
    it is delivered again when the process has ended.

    The iterator raises:
        StoreAuthFailed, StoreRefused: the server refuses for good: wrong password, no permission.
        ContractMismatch: the account is written under another version.
    """

    def __init__(
        self,
        account_id: str | AccountId,
        redis: str | AnyRedis,
        group: str,
        *,
        consumer: str | None = None,
        partitions: int = 1,
        start: Literal["now", "beginning"] = "now",
        start_ms: int | None = None,
        start_event_seq: int | None = None,
        symbols: Iterable[str] | None = None,
        client_order_id_prefix: str | None = None,
        max_attempts: int = 5,
        backoff_s: float = 0.2,
        max_backoff_s: float = 30.0,
        lease_s: float = 5.0,
        on_gap: Callable[[Gap], object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Connects to nothing yet.

        Args:
            redis: a URL, or a client of redis-py, which says where and how to connect.
            group: who shares the work. It is made at the first entry, and remembers what it has had ever since.
            consumer: how to call this process in `statecast groups`; host and process id if it is not given. A random
                part is added: two processes under one name would not see each other.
            partitions: how many consumers can work at the same time, each with its own orders. All consumers of a group
                say the same number, for ever.
            start: where a new group begins: with what comes from "now" on, or at the "beginning" of the log. Or at
                `start_ms` (ms since 1970 UTC, by Redis's clock), or with the event `start_event_seq`.
            symbols, client_order_id_prefix: leave out all events but these; they count as handled.
            max_attempts: deliveries after which an event is given up.
            backoff_s, max_backoff_s: pause before the second attempt, doubled for each further one, at most the latter.
                Later events of the partition wait as well, for their order matters more.
            lease_s: a consumer that is silent for so long has lost its work to another.
            on_gap: called, and awaited if it can be, before the first event after a gap. Gaps are logged as well, as
                warnings of the logger `statecast.consumers`, and kept in `gaps`.

        Raises:
            ConfigError: something of it cannot work.
        """
        self.account_id = config.account_id(account_id)
        self.group = check_name(group)
        name = f"{socket.gethostname()}-{os.getpid()}" if consumer is None else check_name(consumer, "consumer")
        self.consumer = f"{name}-{secrets.token_hex(3)}"
        self.gaps: deque[Gap] = deque(maxlen=KEPT_GAPS)
        """The last gaps, the youngest at the end."""
        _check(partitions == int(partitions) and 1 <= partitions <= 64, "partitions", partitions, "1 to 64")
        _check(start in ("now", "beginning"), "start", start, '"now" or "beginning"')
        starts = [given for given in (start_ms, start_event_seq) if given is not None]
        one = len(starts) + (start != "now") <= 1
        _check(one, "start", start, "one of start, start_ms, start_event_seq")
        _check(start_ms is None or start_ms >= 0, "start_ms", start_ms, "milliseconds since 1970 UTC")
        _check(start_event_seq is None or start_event_seq >= 1, "start_event_seq", start_event_seq, "1 or more")
        several = symbols if symbols is None or isinstance(symbols, str) else frozenset(symbols)
        good_symbols = several is None or (isinstance(several, frozenset) and bool(several))
        _check(good_symbols, "symbols", symbols, 'one or more in a set, such as {"BTCUSDT"}')
        _check(max_attempts >= 1, "max_attempts", max_attempts, "1 or more")
        _check(0 <= backoff_s < float("inf"), "backoff_s", backoff_s, "seconds, 0 or more")
        _check(backoff_s <= max_backoff_s, "max_backoff_s", max_backoff_s, f"seconds, {backoff_s:g} or more")
        _check(0.5 <= lease_s <= 600, "lease_s", lease_s, "seconds, 0.5 to 600")
        self._start = start
        self._start_ms = start_ms
        self._start_event_seq = start_event_seq
        self._symbols = several
        self._prefix = client_order_id_prefix or ""
        self._max_attempts = max_attempts
        self._backoff_s = backoff_s
        self._max_backoff_s = max_backoff_s
        self._lease_s = lease_s
        self._on_gap = on_gap
        self._clock = clock or SystemClock()
        self._block_s = min(1.0, lease_s / 4)
        self._client = Client(redis, client_name="statecast-events", timeout_s=SOCKET_TIMEOUT_S + self._block_s)
        self._redis = ConsumerGroup(
            self._client, self.account_id, group, consumer=self.consumer, partitions=partitions, lease_s=lease_s
        )
        self._partitions = [_Partition(number) for number in range(1, partitions + 1)]
        self._wake = asyncio.Event()
        """Set when an event may have become ready."""
        self._hurry = asyncio.Event()
        """Set when the keeper is wanted before its time."""
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._closing: asyncio.Task[None] | None = None
        self._group_lost = False
        self._rejoined = False
        """Whether the group was lost, and joined again, since the last renewal."""
        self._away = False
        self._warned_unacknowledged = False

    @classmethod
    def from_env(cls, **overrides: Any) -> Self:
        """From the settings `STATECAST_…` of the environment and `.env`, the publisher's own.

        Overrides are settings in lower case (`account="main"`, `redis_url=…`) or arguments of the class: `group=…`.
        """
        environment = config.from_environment(overrides)
        given: dict[str, Any] = {"account_id": environment.account_id, "redis": environment.redis_url}
        return cls(**given | dict(environment.options))

    @property
    def holds(self) -> tuple[int, ...]:
        """The partitions that this consumer works on, from 1; empty while it stands by."""
        now = self._clock.monotonic()
        return tuple(p.number for p in self._partitions if p.term is not None and now < p.deadline)

    async def __aenter__(self) -> Self:
        """Join the group; a new one begins here. Waits for Redis if it is away.

        Raises:
            ConfigError: the group has another number of partitions.
            StoreAuthFailed, StoreRefused, ContractMismatch: see the class.
        """
        assert self._keeper is None, "enter it once"
        try:
            published = await self._insist(self._join)
        except BaseException:
            await self.aclose()
            raise
        if not published:
            LOG.warning(
                "%s: %s was never published to Redis at %s: waiting for its first order event",
                self.group,
                self.account_id,
                self._client.server,
            )
        self._keeper = self._task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop, give the work back so that another consumer goes on at once, and close the connections.

        Takes a few seconds at the most, also when Redis is away. What was not acknowledged is delivered again, to
        whoever comes next.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            await asyncio.wait({self._closing})
            raise

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> OrderEvent:
        """The next event. May be cancelled at any time, and called by several tasks: no event gets lost."""
        if self._keeper is None:
            raise RuntimeError("use it as `async with OrderEvents(…) as events`")
        while True:
            if self._closing is not None:
                raise StopAsyncIteration
            if self._failure is not None:
                raise self._failure
            partition = self._ready()
            if partition is None:
                await self._something_ready()
                continue
            waiting = partition.queue[0]
            if waiting.event.event_id in partition.settled:
                # Redis lost it, or its acknowledgement, and the publisher wrote it again.
                del partition.queue[0]
                partition.room.set()
                self._task(self._acknowledge(waiting.event))
                continue
            if waiting.again:
                if waiting.counting is None or waiting.counting.done():
                    waiting.counting = self._task(self._count(partition, waiting))
                await asyncio.wait({waiting.counting})  # a cancellation does not reach the counting
                continue
            del partition.queue[0]
            partition.handed.add(waiting.event.entry_id)
            partition.room.set()
            return waiting.event

    async def run(self, handler: Handler) -> None:
        """Give every event to `handler`, one at a time and in order; returns when `aclose()` is called.

        It may be a plain function, which must then return within a fraction of `lease_s`, or a coroutine function.
        After its return the event is acknowledged, unless it has settled it itself. If it raises, the event is tried
        again after a pause, and after `max_attempts` goes to the dead letters. A cancellation is no failure.
        """
        async for event in self:
            failure = None
            try:
                answer = handler(event)
                if inspect.isawaitable(answer):
                    await answer
            except Exception as error:  # whatever a user's handler raises is its failure, logged and counted
                failure = error
                LOG.warning(
                    "%s: handling %s failed, attempt %d of %d",
                    self.group,
                    event.event_id,
                    event.attempt,
                    self._max_attempts,
                    exc_info=error,
                )
            if self._closing is not None:
                return  # too late to settle it: it comes again
            if failure is not None:
                await event.retry(f"{type(failure).__name__}: {failure}")
            elif event.entry_id in self._partitions[event._partition - 1].handed:
                await event.ack()

    # Giving out

    def _ready(self) -> _Partition | None:
        """The partition with the oldest event that may be given out now."""
        now = self._clock.monotonic()
        ready = [
            p for p in self._partitions if p.queue and p.term and not p.leaving and p.not_before <= now < p.deadline
        ]
        return min(ready, key=lambda p: p.queue[0].place, default=None)

    async def _something_ready(self) -> None:
        """Wait until there may be something to give out."""
        self._wake.clear()
        now = self._clock.monotonic()
        pauses = [p.not_before - now for p in self._partitions if p.queue and p.not_before > now]
        with suppress(TimeoutError):
            async with asyncio.timeout(min(pauses, default=None)):
                await self._wake.wait()

    async def _count(self, p: _Partition, waiting: _Waiting) -> None:
        """Count that an event is given out once more; give it up if that was too often."""
        term, entry_id = p.term, waiting.event.entry_id
        if term is None:
            return
        try:
            before = await self._insist(lambda: self._redis.attempt(p.number, term, entry_id, waiting.token))
            if before == "done":  # acknowledged by a consumer that had it before; or it comes again by itself
                p.drop(entry_id)
                return
            if before == "gone":
                before = waiting.event.attempt
            if before >= max(2, self._max_attempts):
                # The first of them may only have been read ahead by a consumer that was killed: one is not enough.
                ended = "each time its consumer ended, or lost the partition, before it acknowledged"
                await self._bury(p, term, waiting.event, before, f"delivered {before} times; {ended}")
            else:
                waiting.event = replace(waiting.event, attempt=before + 1)
                waiting.again = False
        except (LeaseLost, StoreDiverged) as error:
            self._suspend(p, error)

    async def _acknowledge(self, event: OrderEvent) -> None:
        p = self._partitions[event._partition - 1]
        progress = Progress(event.event_seq, event.epoch, event.entry_id)
        await self._insist(lambda: self._redis.ack(p.number, [event.entry_id], progress))
        p.drop(event.entry_id)
        _remember(p.settled, event.event_id, REMEMBERED // len(self._partitions))

    async def _retry(self, event: OrderEvent, reason: str) -> None:
        if event.attempt >= self._max_attempts:
            await self._reject(event, reason)
            return
        p = self._partitions[event._partition - 1]
        if p.term is None:
            self._not_ours(p, event)
            return
        pause_s = min(self._backoff_s * 2 ** (event.attempt - 1), self._max_backoff_s)
        p.not_before = self._clock.monotonic() + pause_s
        self._again(p, event)

    async def _reject(self, event: OrderEvent, reason: str) -> None:
        p = self._partitions[event._partition - 1]
        if p.term is not None:
            try:
                await self._bury(p, p.term, event, event.attempt, reason)
            except (LeaseLost, StoreDiverged) as error:
                self._suspend(p, error)
                self._again(p, event)
        else:
            self._not_ours(p, event)

    def _again(self, p: _Partition, event: OrderEvent) -> None:
        """Give it out again, after those before it and before those after it."""
        p.drop(event.entry_id)
        p.add(replace(event, redelivered=True), again=True)
        self._wake.set()

    def _not_ours(self, p: _Partition, event: OrderEvent) -> None:
        """It is settled by the consumer that has the partition now."""
        LOG.info("%s: %s was not settled, and its partition is another consumer's now", self.group, event.event_id)
        p.drop(event.entry_id)

    async def _bury(self, p: _Partition, term: str, event: OrderEvent, attempts: int, reason: str) -> None:
        await self._dead_letter(p, term, event.entry_id, event.event_id, attempts, reason)
        p.drop(event.entry_id)

    async def _dead_letter(
        self, p: _Partition, term: str, entry_id: str, name: str, attempts: int, reason: str
    ) -> None:
        short = reason if len(reason) <= REASON_LENGTH else reason[: REASON_LENGTH - 1] + "…"
        if await self._insist(lambda: self._redis.dead_letter(p.number, term, entry_id, attempts, short)):
            LOG.error("%s: gave up %s after %d attempts, see its dead letters: %s", self.group, name, attempts, short)
        else:
            await self._tell_gone(p, [entry_id])

    # Membership

    async def _join(self, again: bool = False) -> bool:
        start, least_seq = "0-0", None if again else self._start_event_seq
        if least_seq is not None:
            start = await first_entry_from_seq(self._client, self.account_id, least_seq)
        elif self._start_ms:
            start = f"{self._start_ms - 1}-{2**64 - 1}"
        elif self._start_ms is None and self._start == "now":
            start = "$"
        known = {p.number: p.last for p in self._partitions if p.last is not None}
        return await self._redis.join(start, least_seq=least_seq, again=again, known=known)

    async def _keep(self) -> None:
        """Stay a member, and see that the partitions that are ours are served."""
        failures = 0
        while True:
            try:
                if self._group_lost:
                    LOG.warning("%s: Redis lost the group on %s; joining it again", self.group, self.account_id)
                    await self._join(again=True)
                    self._group_lost, self._rejoined = False, True
                await self._renew()
                self._say_back()
                self._rejoined = False
                failures = 0
                alone = len(self._partitions) == 1 and self._partitions[0].term is not None
                pause_s = self._lease_s / 4 if alone else min(STANDBY_S, self._lease_s / 4)
            except StoreDiverged:
                self._group_lost = True
                pause_s = FIRST_PAUSE_S
            except StoreError as error:
                self._bear(error)
                pause_s = min(FIRST_PAUSE_S * 2**failures, STANDBY_S)
                failures = min(failures + 1, 10)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._hurry.wait()
            self._hurry.clear()

    async def _renew(self) -> None:
        for p in self._partitions:
            if p.leaving and (not p.handed or p.leave_at <= self._clock.monotonic()):
                await self._redis.leave({p.number: p.untouched}, membership=False)
                LOG.info("%s: %s gives partition %d of %s to another", self.group, self.consumer, p.number, self._of)
                self._drop_partition(p)
        sent = self._clock.monotonic()
        asked = [p.number for p in self._partitions if p.anew]
        lease = await self._redis.renew(anew=asked)
        for p in self._partitions:
            held = lease.partitions.get(p.number)
            if held is None:
                if p.queue and self._rejoined:
                    await self._tell_unread(p)
                self._lose(p)
                continue
            if held.term_before != p.term:
                # What was read ahead is the next holder's, and read again; unless Redis has lost it.
                self._lose(p, with_queue=not self._rejoined)
                LOG.info("%s: %s works on partition %d of %s", self.group, self.consumer, p.number, self._of)
            p.term, p.deadline = held.term, sent + self._lease_s
            if p.anew and p.number not in asked:
                continue  # its read failed while this was under way: the next renewal, which is due, ends the term
            p.anew = False
            if p.serving is None or p.serving.done():
                p.serving = self._task(self._serve(p, held.term))
        self._spread(lease.surplus)
        self._wake.set()

    def _lose(self, p: _Partition, *, with_queue: bool = True) -> None:
        if p.term is not None:
            LOG.warning("%s: %s has lost partition %d of %s", self.group, self.consumer, p.number, self._of)
            self._drop_partition(p, with_queue=with_queue)

    def _drop_partition(self, p: _Partition, *, with_queue: bool = True) -> None:
        if p.serving is not None:
            p.serving.cancel()
        p.term, p.serving, p.anew, p.leaving, p.caught_up = None, None, False, False, False
        if with_queue:
            p.queue.clear()

    def _spread(self, surplus: int) -> None:
        """Choose what to give up to other consumers, and let the events in hand be settled before."""
        ours = sorted((p for p in self._partitions if p.term is not None), key=lambda p: (not p.leaving, len(p.handed)))
        for rank, p in enumerate(ours):
            if rank < surplus and not p.leaving:
                p.leave_at = self._clock.monotonic() + self._lease_s
            p.leaving = rank < surplus

    def _suspend(self, p: _Partition, error: StoreError) -> None:
        """Give nothing out until the lease was renewed, or lost."""
        if isinstance(error, StoreDiverged):
            self._group_lost = True
        p.deadline = 0.0
        self._hurry.set()

    # Reading

    async def _serve(self, p: _Partition, term: str) -> None:
        """Read while the partition is ours: first what is pending, then what is new."""
        try:
            await self._sweep(p, term)
            await self._read_pending(p, term)
            p.caught_up = True
            while True:
                if p.sweep_at <= self._clock.monotonic() and await self._sweep(p, term):
                    await self._read_pending(p, term)
                count = await self._room(p)
                entries, youngest = await self._redis.read(p.number, term, ">", count)
                await self._take_in(p, term, entries, pending=False)
                if len(entries) < count:  # there was no more: ask again when there is
                    after = entries[-1][0] if entries else youngest
                    await self._redis.wait(after, round(self._block_s * 1000))
        except (LeaseLost, StoreDiverged) as error:
            self._suspend(p, error)
        except StoreError as error:
            self._bear(error)
            await self._clock.sleep(FIRST_PAUSE_S)
            # Entries may have been delivered in a reply that was lost. What is under way of this term must not come
            # after they were looked for: the next renewal ends the term.
            p.anew = True
            self._hurry.set()

    async def _room(self, p: _Partition) -> int:
        """Wait until there is room for events; for how many."""
        while len(p.queue) > PREFETCH // 2 or len(p.handed) >= MOST_UNACKNOWLEDGED:
            if len(p.handed) >= MOST_UNACKNOWLEDGED and not self._warned_unacknowledged:
                self._warned_unacknowledged = True
                LOG.warning("%s: %d events are not acknowledged; no more until some are", self.group, len(p.handed))
            p.room.clear()
            await p.room.wait()
        return PREFETCH - len(p.queue)

    async def _sweep(self, p: _Partition, term: str) -> int:
        """Take over what consumers that are gone left pending, and what was put back; how many entries."""
        claimed = 0
        while True:
            claim = await self._redis.claim(p.number, term, p.told)
            p.told = ""
            knew = p.last is not None
            p.learn(claim.progress)
            if claim.lost:
                await self._tell_lost(p, claim.lost, knew=knew)
                p.told = claim.lost
            if claim.gone:
                await self._tell_gone(p, claim.gone)
            claimed += claim.claimed
            if not claim.more:
                p.sweep_at = self._clock.monotonic() + self._lease_s / 4
                return claimed

    async def _read_pending(self, p: _Partition, term: str) -> None:
        """Read what was delivered to this consumer and is not acknowledged, from the beginning."""
        after = "0-0"
        while True:
            count = await self._room(p)
            entries, _ = await self._redis.read(p.number, term, after, count)
            if not entries:
                return
            await self._take_in(p, term, entries, pending=True)
            after = entries[-1][0]

    async def _take_in(self, p: _Partition, term: str, entries: list[Entry], *, pending: bool) -> None:
        """Queue what is wanted, acknowledge the rest, tell what is missing before what comes after it."""
        passed: list[str] = []
        passed_up_to: Progress | None = None
        gone: list[str] = []
        for entry_id, fields in entries:
            if p.knows(entry_id):
                continue
            if fields is None:
                gone.append(entry_id)
                continue
            if gone:
                await self._tell_gone(p, gone)
                gone = []
            progress = _progress(entry_id, fields)
            redelivered = await self._follow(p, progress, fields.get("eventId", "")) or (pending and not p.caught_up)
            if not self._wanted(p, fields):
                passed.append(entry_id)
                passed_up_to = progress or passed_up_to
                continue
            try:
                event = OrderEvent(
                    **values(EventFields, fields),
                    entry_id=entry_id,
                    redelivered=redelivered,
                    attempt=1,
                    _events=self,
                    _partition=p.number,
                )
            except ValueError as error:
                reason = f"not an order event of this contract: {error}"
                await self._dead_letter(p, term, entry_id, f"entry {entry_id}", 1, reason)
                continue
            if event.gap_info is not None:
                await self._tell_untold(p, event)
            p.add(event, again=pending and redelivered)
            self._wake.set()
        if gone:
            await self._tell_gone(p, gone)
        if passed:
            await self._insist(lambda: self._redis.ack(p.number, passed, passed_up_to))

    def _wanted(self, p: _Partition, fields: Fields) -> bool:
        order_id = fields.get("orderId", "")
        own = partition_of(order_id, len(self._partitions)) == p.number
        if fields.get("eventType") == GAP:
            # No filter can tell whom it concerns; and one that names no order concerns those of every partition.
            return own or not order_id
        return (
            own
            and (self._symbols is None or fields.get("symbol") in self._symbols)
            and fields.get("clientOrderId", "").startswith(self._prefix)
        )

    # Gaps

    async def _follow(self, p: _Partition, found: Progress | None, event_id: str) -> bool:
        """Compare an entry's number with the last; whether it was delivered before, or what it tells was.

        What Redis lost is written again under the same numbers and a higher epoch, with ids that are known here.
        """
        last = p.last
        if found is None:
            return False
        known = event_id in p.seen
        _remember(p.seen, event_id, REMEMBERED // len(self._partitions))
        if last is not None:
            if position(found.entry_id) <= position(last.entry_id) and found.epoch <= last.epoch:
                return True
            expected = last.event_seq + 1
            if found.event_seq > expected:
                missing = f"events {expected} to {found.event_seq - 1} are not in the log any more"
                await self._tell(p, Gap("trimmed", expected, found.event_seq, f"{missing}: trimmed, or lost by Redis"))
            elif found.event_seq < expected and known and found.epoch > last.epoch:
                await self._check_lost(p, found)
            elif found.event_seq < expected:
                why = "Redis lost data, and the numbers of events went back"
                await self._tell(p, Gap("reset", expected, found.event_seq, why))
        p.last = found
        return known

    async def _check_lost(self, p: _Partition, found: Progress) -> None:
        """The log tells again what it told before, from `found` on: tell a gap if it does not go on where it ended."""
        before = await self._insist(lambda: seq_before(self._client, self.account_id, found.entry_id))
        LOG.info("%s: Redis lost order events, and has them again from %d on", self.group, found.event_seq)
        if before is None or before >= found.event_seq - 1:
            return
        here = {waiting.event.event_seq for waiting in p.queue}
        missing = [number for number in range(before + 1, found.event_seq) if number not in here][:1]
        if missing:
            what = f"events {missing[0]} to {found.event_seq - 1} were lost by Redis and not written again"
            await self._tell(p, Gap("trimmed", missing[0], found.event_seq, what))

    async def _tell_gone(self, p: _Partition, ids: list[str]) -> None:
        """Tell entries that were delivered and are not in the log any more, and only then acknowledge them."""
        expected, last = None, p.last
        if last is not None:
            # What was delivered is without a hole, so these have the next numbers.
            unseen = [entry_id for entry_id in ids if position(entry_id) > position(last.entry_id)]
            if unseen:
                expected = last.event_seq + 1
                p.last = Progress(last.event_seq + len(unseen), last.epoch, unseen[-1])
        entries = f"entry {ids[0]} was" if len(ids) == 1 else f"{len(ids)} entries from {ids[0]} to {ids[-1]} were"
        await self._tell(p, Gap("trimmed", expected, None, f"{entries} trimmed before the acknowledgement"))
        progress = p.last if expected is not None else None
        await self._insist(lambda: self._redis.ack(p.number, ids, progress))

    async def _tell_lost(self, p: _Partition, what: str, *, knew: bool) -> None:
        expected = None if p.last is None else p.last.event_seq + 1
        if what.startswith("group"):
            why = "Redis lost the group; it begins again with the oldest entry of the log, and events come again"
            if knew:  # the numbers tell whether anything is missing
                LOG.warning("%s: %s, but for those that were handled here", self.group, why)
            else:
                await self._tell(p, Gap("reset", expected, None, why))
        else:
            why = "Redis lost how far the group had come; what was trimmed meanwhile would not be noticed"
            await self._tell(p, Gap("progress", None, None, why))

    async def _tell_unread(self, p: _Partition) -> None:
        first = p.queue[0].event.event_seq
        why = f"{len(p.queue)} events were read and not given out when Redis lost the group, and another took over"
        await self._tell(p, Gap("reset", first, None, why))

    async def _tell_untold(self, p: _Partition, event: OrderEvent) -> None:
        """Beside the event itself, which a handler may take for an ordinary one; once for all partitions."""
        gap = Gap("untold", None, event.event_seq, f"{event.gap_info} ({event.event_id})")
        if gap not in self.gaps:
            await self._tell(p, gap)

    async def _tell(self, p: _Partition, gap: Gap) -> None:
        if len(self._partitions) > 1 and gap.kind != "untold":
            gap = replace(gap, reason=f"{gap.reason} (partition {p.number} of {len(self._partitions)})")
        self.gaps.append(gap)
        LOG.warning("%s: gap in the order events of %s: %s", self.group, self.account_id, gap.reason)
        if self._on_gap is not None:
            answer = self._on_gap(gap)
            if inspect.isawaitable(answer):
                await answer

    # Redis away, tasks, the end

    @property
    def _of(self) -> str:
        return f"{len(self._partitions)} on {self.account_id}"

    async def _insist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat until Redis answers: for what may be done twice."""
        pause_s = FIRST_PAUSE_S
        while True:
            if self._closing is not None:
                raise RuntimeError("this OrderEvents is closed")
            try:
                return await call()
            except StoreError as error:
                self._bear(error)
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _bear(self, error: StoreError) -> None:
        """Return if asking again may help, and say so once; else raise."""
        for_good = isinstance(error, StoreRefused) and is_for_good(error)
        others = (StoreAuthFailed, ContractMismatch, LeaseLost, StoreDiverged)
        if for_good or isinstance(error, others):
            raise error
        if not self._away:
            self._away = True
            LOG.warning("%s: waiting for Redis: %s", self.group, error)

    def _say_back(self) -> None:
        if self._away:
            self._away = False
            LOG.info("%s: Redis at %s answers again", self.group, self._client.server)

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._closing is None:
            self._failure = self._failure or error
            LOG.error("%s: stopped: %s", self.group, error)
            self._wake.set()
            for other in self._tasks:  # so that the leases run out, and another consumer can work
                other.cancel()

    async def _close(self) -> None:
        self._wake.set()
        joined = self._keeper is not None
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:  # not for ever: one of them may be in a callback that waits for this
            await asyncio.wait(tasks, timeout=CLOSE_WITHIN_S)
        if joined:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN_S):
                    await self._redis.leave({p.number: p.untouched for p in self._partitions}, membership=True)
        await self._client.aclose()


def _progress(entry_id: str, fields: Fields) -> Progress | None:
    """The numbers of an entry; None for one that is not an order event."""
    try:
        return Progress(int(fields["eventSeq"]), int(fields["epoch"]), entry_id)
    except (KeyError, ValueError):
        return None


def _remember(ids: dict[str, None], event_id: str, most: int) -> None:
    """Make `event_id` the youngest, and forget the oldest beyond `most`."""
    ids.pop(event_id, None)
    ids[event_id] = None
    if len(ids) > most:
        del ids[next(iter(ids))]


def _check(good: bool, setting: str, value: object, accepted: str) -> None:
    if not good:
        raise ConfigError(setting, str(value), accepted)
