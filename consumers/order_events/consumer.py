"""`OrderEvents`: one consumer of a group, as its users see it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, Self

from consumers import config
from consumers.order_events.calls import RedisCalls, Signals, Tasks
from consumers.order_events.event import OrderEvent
from consumers.order_events.gaps import Gap
from consumers.order_events.membership import Membership
from consumers.order_events.options import Options
from consumers.order_events.partition import Partition, Shared
from consumers.order_events.queue import REMEMBERED
from consumers.order_events.reporting import GapReporter
from statecast.clock import Clock, SystemClock
from statecast.errors import StoreError
from statecast.store.client import SOCKET_TIMEOUT_S, AnyRedis, Client
from statecast.store.groups import ConsumerGroup, check_name
from statecast.store.keys import AccountId

LOG = logging.getLogger("statecast.consumers")

CLOSE_WITHIN_S = 2.0

Handler = Callable[[OrderEvent], Awaitable[object] | object]


class OrderEvents(AsyncIterator[OrderEvent]):
    """The order events of an account, as one consumer of a group. An async context manager and iterator.

        async with OrderEvents("binance:main", "redis://127.0.0.1:6379/0", group="mybot") as events:
            async for event in events:
                print(event.event_type, event.order_id, event.executed_qty)
                await event.ack()

    or with a handler, after whose success the event is acknowledged, and whose exceptions are counted and retried:

            await events.run(handle)

    Give each bot its own group; processes with the same group share its work. While Redis is away it waits, and goes on
    without loss. An event that was delivered and neither acknowledged nor settled otherwise stays with this process;
    it is delivered again when the process has ended.

    The iterator raises:
        StoreAuthFailed, StoreRefused: the server refuses permanently: wrong password, no permission.
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
        remembered: int = REMEMBERED,
        on_gap: Callable[[Gap], object] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Connects to nothing yet.

        Args:
            redis: a URL, or a client of redis-py, which says where and how to connect.
            group: who shares the work. It is created when it is first entered, and keeps its progress from then on.
            consumer: how to call this process in `statecast groups`; default: host and process id. A random part is
                added: two processes under one name would not see each other.
            partitions: how many consumers can work at the same time, each with its own orders. All consumers of a group
                must always give the same number.
            start: only applies when the group is first created: "now" gives it what is written from then on,
                "beginning" the whole log. Or begin at `start_ms` (ms since 1970 UTC, by Redis's clock), or with the
                event `start_event_seq`.
            symbols, client_order_id_prefix: leave out all other events; they count as handled for the whole group, so
                all consumers of a group must use the same filter.
            max_attempts: deliveries after which an event is given up.
            backoff_s, max_backoff_s: pause before the second attempt, doubled for each further one, at most the latter.
                Later events of the partition wait as well, so that their order is kept.
            lease_s: a consumer that is silent for this long has lost its work to another.
            remembered: how many acknowledged events are recognised when Redis lost the end of the log, which is then
                written again.
            on_gap: called, and awaited if it can be, before the first event after a gap. Gaps are logged as well, as
                warnings of the logger `statecast.consumers`, and kept in `gaps`.

        Raises:
            ConfigError: a setting cannot work.
        """
        self.account_id = config.account_id(account_id)
        self.group = check_name(group)
        name = f"{socket.gethostname()}-{os.getpid()}" if consumer is None else check_name(consumer, "consumer")
        self.consumer = f"{name}-{secrets.token_hex(3)}"
        options = Options.checked(
            partitions=partitions,
            start=start,
            start_ms=start_ms,
            start_event_seq=start_event_seq,
            symbols=symbols,
            client_order_id_prefix=client_order_id_prefix,
            max_attempts=max_attempts,
            backoff_s=backoff_s,
            max_backoff_s=max_backoff_s,
            lease_s=lease_s,
            remembered=remembered,
        )
        self._clock = clock or SystemClock()
        self._client = Client(redis, client_name="statecast-events", timeout_s=SOCKET_TIMEOUT_S + options.block_s)
        self._redis = ConsumerGroup(
            self._client, self.account_id, group, consumer=self.consumer, partitions=partitions, lease_s=lease_s
        )
        self._signals = Signals()
        self._tasks = Tasks(group, on_failure=self._signals.event_ready)
        self._gaps = GapReporter(self.account_id, group, partitions, on_gap)
        self._shared = Shared(
            redis=self._redis,
            calls=RedisCalls(group, self._client.server, self._clock),
            tasks=self._tasks,
            signals=self._signals,
            gaps=self._gaps,
            options=options,
            clock=self._clock,
        )
        self._partitions = [Partition(number, self._shared) for number in range(1, partitions + 1)]
        self._membership = Membership(self._shared, self._partitions, self._client)
        self._keeper: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    def from_env(cls, **overrides: Any) -> Self:
        """From the settings `STATECAST_…` of the environment and `.env`, the publisher's own.

        Overrides are settings in lower case (`account="main"`, `redis_url=…`) or arguments of the class: `group=…`.
        """
        environment = config.from_environment(overrides)
        given: dict[str, Any] = {"account_id": environment.account_id, "redis": environment.redis_url}
        return cls(**given | dict(environment.options))

    @property
    def gaps(self) -> deque[Gap]:
        """The last gaps, the youngest at the end."""
        return self._gaps.gaps

    @property
    def holds(self) -> tuple[int, ...]:
        """The partitions that this consumer works on, from 1; empty while it is a standby."""
        now = self._clock.monotonic()
        return tuple(p.number for p in self._partitions if p.lease.is_valid(now))

    async def __aenter__(self) -> Self:
        """Join the group; a new one begins here. Waits for Redis if it is away.

        Raises:
            ConfigError: the group has another number of partitions.
            StoreAuthFailed, StoreRefused, ContractMismatch: see the class.
        """
        assert self._keeper is None, "enter it once"
        try:
            published = await self._shared.calls.until_answered(self._membership.join)
        except BaseException:  # cancelled, too: it was not entered, so nobody will leave it
            await self.aclose()
            raise
        if not published:
            LOG.warning(
                "%s: %s was never published to Redis at %s: waiting for its first order event",
                self.group,
                self.account_id,
                self._client.server,
            )
        self._keeper = self._tasks.start(self._membership.keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop, give the work back so that another consumer goes on at once, and close the connections.

        Takes a few seconds at the most, also when Redis is away. What was not acknowledged is delivered again, to the
        next consumer.
        """
        if self._closing is None:
            self._shared.calls.close()
            self._tasks.stopping()
            self._closing = asyncio.create_task(self._close())
        try:
            await asyncio.shield(self._closing)
        except asyncio.CancelledError:
            await asyncio.wait({self._closing})
            raise

    async def _close(self) -> None:
        self._signals.event_ready()
        joined = self._keeper is not None
        await self._tasks.stop(CLOSE_WITHIN_S)
        if joined:
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN_S):
                    await self._membership.leave()
        await self._client.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> OrderEvent:
        """The next event. May be cancelled at any time, and called by several tasks: no event gets lost."""
        handed_out = await self._next()
        if handed_out is None:
            raise StopAsyncIteration
        return handed_out[1]

    async def run(self, handler: Handler) -> None:
        """Give every event to `handler`, one at a time and in order; returns when `aclose()` is called.

        It may be a plain function, which must then return within a fraction of `lease_s`, or a coroutine function.
        After its return the event is acknowledged, unless it has settled it itself. If it raises, the event is retried
        after a pause, and after `max_attempts` goes to the dead letters. A cancellation is no failure.
        """
        while (handed_out := await self._next()) is not None:
            partition, event = handed_out
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
                    self._shared.options.max_attempts,
                    exc_info=error,
                )
            if self._closing is not None:
                return  # too late to settle it: it is delivered again
            if failure is not None:
                await event.retry(f"{type(failure).__name__}: {failure}")
            elif partition.queue.is_in_hand(event.entry_id):
                await event.ack()

    async def _next(self) -> tuple[Partition, OrderEvent] | None:
        """The next event and its partition; None when this consumer is closed."""
        if self._keeper is None:
            raise RuntimeError("use it as `async with OrderEvents(…) as events`")
        while True:
            if self._closing is not None:
                return None
            if self._tasks.failure is not None:
                raise self._tasks.failure
            now = self._clock.monotonic()
            partition = self._ready(now)
            if partition is None:
                pauses = (p.pause_s(now) for p in self._partitions)
                await self._signals.wait_for_event(min((s for s in pauses if s is not None), default=None))
            elif (event := await partition.hand_out()) is not None:
                return partition, event

    def _ready(self, now_mono_s: float) -> Partition | None:
        """The partition with the oldest event that may be handed out now."""
        ready = [(waiting.place, p) for p in self._partitions if (waiting := p.ready(now_mono_s)) is not None]
        return min(ready, key=lambda found: found[0])[1] if ready else None
