"""An event loop whose time is simulated: it jumps to the next timer when nothing is ready. Nothing happens by chance.

Callbacks belong to the simulated process in whose context they were made, so that a process can be stopped (SIGSTOP)
and go on later while all others run.
"""

from __future__ import annotations

import asyncio
import heapq
from asyncio import base_events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from sim.network import Network

CALLS_AT_ONCE = 1_000_000
"""So many callbacks at one instant are a loop without end."""


class Process:
    """A program on a simulated host: it can be stopped for a while, and it can be dead."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopped = False
        self.stood_still = False
        """Whether it ever was stopped."""
        self.still_since = 0.0
        """When it was stopped last."""
        self.dead = False
        self.parked: deque[asyncio.Handle] = deque()
        self.wall_offset_ms = 0
        """What the host's clock is ahead of the true time."""


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class SimTask(asyncio.Task[Any]):
    """A task with a number: sets of tasks are then walked in the same order in every run."""

    def __init__(self, coro: Coroutine[Any, Any, Any], *, loop: SimLoop, context: Context | None) -> None:
        loop.tasks_made += 1
        self._number = loop.tasks_made
        super().__init__(coro, loop=loop, context=context)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _NoSelector:
    """There is nothing outside to wait for."""

    def get_map(self) -> dict[int, object]:
        return {}


class Stuck(Exception):
    """Nothing will ever happen again, or never anything else."""


class SimLoop(base_events.BaseEventLoop):
    """Give it a network, then `run_until_complete`. `time()` are simulated seconds from zero."""

    network: Network

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._calls_at_once = 0
        self._selector = _NoSelector()
        self.tasks_made = 0
        self.set_task_factory(_new_task)

    def time(self) -> float:
        return self._now

    # What BaseEventLoop needs of a subclass

    def _process_events(self, event_list: object) -> None:
        """There are no events of an operating system."""

    def _write_to_self(self) -> None:
        """There is no other thread to wake this one."""

    def _run_once(self) -> None:
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:  # type: ignore[attr-defined]
            heapq.heappop(scheduled)._scheduled = False  # type: ignore[attr-defined]
        if not ready:
            if not scheduled:
                raise Stuck("nothing is ready and no timer is set")
            if scheduled[0].when() > self._now:
                self._now = scheduled[0].when()
                self._calls_at_once = 0
        while scheduled and scheduled[0].when() <= self._now:
            timer = heapq.heappop(scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            ready.append(timer)
        self._calls_at_once += len(ready)
        if self._calls_at_once > CALLS_AT_ONCE:
            raise Stuck(f"{CALLS_AT_ONCE} callbacks at {self._now:.3f} s; the last: {ready[-1]}")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:  # type: ignore[attr-defined]
                continue
            process = handle._context.get(PROCESS)  # type: ignore[attr-defined]
            if process is not None and process.stopped:
                process.parked.append(handle)
            else:
                handle._run()  # type: ignore[attr-defined]

    def resume(self, process: Process) -> None:
        """Let a stopped process go on: first with all that fell due meanwhile."""
        process.stopped = False
        self._ready.extend(process.parked)  # type: ignore[attr-defined]
        process.parked.clear()

    # The network

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, **options: Any
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        assert not options.get("ssl"), "the simulated network has no TLS"
        process = PROCESS.get()
        assert process is not None, "only processes connect"
        return await self.network.connect(process, protocol_factory, port)

    def _forbidden(self, *_args: object, **_options: object) -> NoReturn:
        raise AssertionError("a simulated program has no threads and no other network")

    run_in_executor = _forbidden
    getaddrinfo = _forbidden
    create_server = _forbidden
    create_unix_connection = _forbidden


def _new_task(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], context: Context | None = None
) -> SimTask:
    assert isinstance(loop, SimLoop)
    return SimTask(coro, loop=loop, context=context)
