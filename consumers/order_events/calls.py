"""What the parts of a consumer share: calls that are repeated while Redis is away, tasks, and signals."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from statecast.clock import Clock
from statecast.errors import ContractMismatch, LeaseLost, StoreAuthFailed, StoreDiverged, StoreError, StoreRefused
from statecast.store.groups import is_permanent

LOG = logging.getLogger("statecast.consumers")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
"""Between two attempts to reach Redis; doubled each time."""

T = TypeVar("T")


class RedisCalls:
    """Repeats calls while Redis is away; logs once that it is away, and once that it answers again."""

    def __init__(self, group: str, server: str, clock: Clock) -> None:
        self._group = group
        self._server = server
        self._clock = clock
        self._away = False
        self._closed = False

    async def until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call, which may be done twice, until Redis answers. RuntimeError once this consumer is closed."""
        pause_s = FIRST_PAUSE_S
        while True:
            if self._closed:
                raise RuntimeError("this OrderEvents is closed")
            try:
                return await call()
            except StoreError as error:
                self.raise_unless_temporary(error)
            await self._clock.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def raise_unless_temporary(self, error: StoreError) -> None:
        """Return if asking again may help, and log once that Redis is away; else raise the error."""
        permanent = isinstance(error, StoreRefused) and is_permanent(error)
        if permanent or isinstance(error, (StoreAuthFailed, ContractMismatch, LeaseLost, StoreDiverged)):
            raise error
        if not self._away:
            self._away = True
            LOG.warning("%s: waiting for Redis: %s", self._group, error)

    def answered(self) -> None:
        """Redis has answered; logged if it was away."""
        if self._away:
            self._away = False
            LOG.info("%s: Redis at %s answers again", self._group, self._server)

    def close(self) -> None:
        """No call is begun any more."""
        self._closed = True


class Tasks:
    """The tasks of a consumer. The first that fails ends the others, so that the leases run out and another works."""

    def __init__(self, group: str, *, on_failure: Callable[[], None]) -> None:
        self._group = group
        self._on_failure = on_failure
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._failure: BaseException | None = None

    @property
    def failure(self) -> BaseException | None:
        """What ended the first task that failed."""
        return self._failure

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def stopping(self) -> None:
        """From now on a failure is of no interest."""
        self._stopping = True

    async def stop(self, within_s: float | None = None) -> None:
        """Cancel all and wait for their end, but not longer than `within_s`: one may be in a callback that waits for
        this."""
        tasks = tuple(self._running)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=within_s)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._stopping:
            self._failure = self._failure or error
            LOG.error("%s: stopped: %s", self._group, error)
            self._on_failure()
            for other in self._running:
                other.cancel()


class Signals:
    """How the parts of a consumer wake one another."""

    def __init__(self) -> None:
        self._ready = asyncio.Event()
        self._renewal = asyncio.Event()
        self._group_lost = False

    @property
    def group_lost(self) -> bool:
        """Whether Redis has lost the group, and it was not joined again yet."""
        return self._group_lost

    def event_ready(self) -> None:
        """An event may have become ready to be handed out, or the consumer has ended."""
        self._ready.set()

    async def wait_for_event(self, timeout_s: float | None) -> None:
        """Until there may be something to hand out."""
        self._ready.clear()
        await _set_within(self._ready, timeout_s)

    def renew_now(self) -> None:
        """The leases are to be renewed before their time."""
        self._renewal.set()

    async def wait_for_renewal(self, timeout_s: float) -> None:
        """Until the next renewal is due."""
        await _set_within(self._renewal, timeout_s)
        self._renewal.clear()

    def lost_group(self) -> None:
        self._group_lost = True

    def joined_again(self) -> None:
        self._group_lost = False


async def _set_within(event: asyncio.Event, timeout_s: float | None) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await event.wait()
