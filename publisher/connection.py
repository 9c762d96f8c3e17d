"""One connection to a venue with its session: sends what the session asks for, and ends when the venue is silent."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from publisher.handover import Message
from publisher.websocket import Connector, Stream
from statecast.clock import Clock, wait_until
from statecast.errors import AuthFailed, FrameError, VenueUnreachable
from statecast.secret import Secret
from statecast.venues.adapter import Session, VenueClock

READY_WITHIN_S = 10.0
"""A venue that has not acknowledged login and subscriptions for so long will not do so any more."""

LOOK_S = 5.0
"""Silence is measured by a clock that goes on while the machine is suspended, timers stand still meanwhile: after it
has woken up, a silence that was too long must not wait for the rest of a timer. So one is never set for longer."""


MESSAGES_AT_ONCE = 32
"""Messages of a flood that are taken in one go, some 3 ms: then others have a turn, above all who writes to Redis."""


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that says most: a refusal before all else, then whatever came first."""
    errors = [first_error(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((error for error in errors if isinstance(error, AuthFailed)), errors[0])


@dataclass(frozen=True, slots=True)
class Route:
    """The way of one account to its venue: what all of its connections have in common."""

    venue: str
    connector: Connector
    clock: Clock
    venue_clock: VenueClock
    ping_after_s: float | None
    """See `StreamTraits`."""


class Connection:
    """`run` it once; cancelling that closes it. `ready` and `opened_mono_s` say how far it has come."""

    def __init__(self, route: Route, name: str, url: Secret, session: Session) -> None:
        """`name` is for logs and errors, which never show the URL."""
        self.name = name
        self.ready = asyncio.Event()
        """Everything is subscribed to."""
        self.opened_mono_s = 0.0
        self._route = route
        self._url = url
        self._session = session
        self._stream: Stream | None = None
        self._message_mono_s = 0.0

    async def run(
        self,
        take: Callable[[Message], None],
        ready: Callable[[], None],
        *,
        max_silence_s: float,
        pings_count: bool = True,
    ) -> None:
        """Call `take` with everything that is delivered, and `ready` once, when the session is. What makes no sense is
        known by its text. It always ends by an error.

        Raises:
            VenueUnreachable: the connection cannot be made, was lost, or nothing came for `max_silence_s`: no message,
                and no ping where `pings_count`.
            VenueError, StreamEnded: what the session says of the venue's answers; or what `take` raises.
        """
        route = self._route
        async with route.connector.open(self._url, route.venue, self.name) as stream:
            self._stream = stream
            self.opened_mono_s = self._message_mono_s = route.clock.monotonic()
            await self.send(self._session.opened(route.venue_clock.now_ms()))
            self._look_if_ready(ready)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._watch(stream, max_silence_s, pings_count))
                    await self._read(stream, take, ready)
            except BaseExceptionGroup as group:
                raise first_error(group) from None

    async def send(self, messages: Iterable[str]) -> None:
        """Raises VenueUnreachable if the connection is closed."""
        assert self._stream is not None, "it is open"
        for message in messages:
            await self._stream.send(message)

    async def _read(self, stream: Stream, take: Callable[[Message], None], ready: Callable[[], None]) -> None:
        clock, session = self._route.clock, self._session
        messages = 0
        async for raw in stream.frames():
            messages += 1
            if messages % MESSAGES_AT_ONCE == 0:  # Messages that are there already are read without waiting.
                await clock.sleep(0)
            self._message_mono_s = clock.monotonic()
            try:
                received = session.received(raw, clock.now_ms())
            except FrameError as error:
                take(Message(error, raw))
                continue
            if received.replies:
                await self.send(received.replies)
            if not self.ready.is_set():
                self._look_if_ready(ready)
            for delivery in received.deliveries:
                take(Message(delivery.frame, delivery.identity))

    def _look_if_ready(self, ready: Callable[[], None]) -> None:
        if self._session.ready:
            self.ready.set()
            ready()

    async def _watch(self, stream: Stream, max_silence_s: float, pings_count: bool) -> None:
        clock, ping_after_s = self._route.clock, self._route.ping_after_s
        if not await wait_until(self.ready, self.opened_mono_s + READY_WITHIN_S, clock):
            raise self._lost(f"not subscribed after {READY_WITHIN_S:.0f} s")
        pinged_mono_s = -math.inf
        while True:
            now = clock.monotonic()
            silent_s = now - (stream.sign_mono_s if pings_count else self._message_mono_s)
            if silent_s >= max_silence_s:
                signs = "neither a frame nor a ping" if pings_count else "no frame"
                raise self._lost(f"{signs} came for {silent_s:.0f} s")
            left_s = max_silence_s - silent_s
            if ping_after_s is not None:
                idle_s = now - max(self._message_mono_s, pinged_mono_s)
                if idle_s >= ping_after_s:
                    ping = self._session.idle(now - self._message_mono_s)
                    await self.send(() if ping is None else (ping,))
                    pinged_mono_s, idle_s = now, 0.0
                left_s = min(left_s, ping_after_s - idle_s)
            await clock.sleep(min(left_s, LOOK_S))

    def _lost(self, reason: str) -> VenueUnreachable:
        return VenueUnreachable(self._route.venue, self.name, reason)
