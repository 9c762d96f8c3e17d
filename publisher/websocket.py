"""A websocket as the publisher needs it: frames in, a few requests out. The only module that knows websockets."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any, cast
from urllib.parse import urlsplit

from websockets import exceptions
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from statecast.clock import Clock
from statecast.errors import VenueUnreachable
from statecast.secret import Secret

OPEN_TIMEOUT_S = 10.0
PING_INTERVAL_S = 20.0
"""Our own pings find a dead connection within a minute; the venue's come every three. It allows ten frames a second."""

MAX_FRAME_BYTES = 8 * 1024 * 1024
MAX_QUEUE = (4096, 1024)
"""Frames received and not yet taken, high and low mark: a burst is read in one go, a longer one waits in the socket."""

BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses between connections that fail one after the other."""

JITTER = 0.25
"""Of a pause, more or less: what one event has cut off does not come back in one moment."""

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class _Connection(ClientConnection):
    """Notes when the venue has last sent something; an answer to our own ping does not count."""

    def __init__(self, *args: Any, clock: Clock, **options: Any) -> None:
        super().__init__(*args, **options)
        self._monotonic = clock.monotonic
        self.sign_mono_s = clock.monotonic()

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode is not Opcode.PONG:
            self.sign_mono_s = self._monotonic()
        super().process_event(event)


class Stream:
    """An open connection. Errors name the stream, never its URL, which may hold a secret."""

    def __init__(self, connection: _Connection, venue: str, name: str) -> None:
        self._connection = connection
        self._venue = venue
        self._name = name

    @property
    def sign_mono_s(self) -> float:
        """When the venue's last frame or ping arrived. Pings are the sign of life of a quiet stream."""
        return self._connection.sign_mono_s

    async def frames(self) -> AsyncIterator[str | bytes]:
        """Frames until the connection ends; it always ends with VenueUnreachable."""
        try:
            while True:
                yield await self._connection.recv()
        except exceptions.ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd is not None else "none"
            raise VenueUnreachable(self._venue, self._name, f"connection closed (code {code})") from error

    async def send(self, message: str) -> None:
        """Send a request; raises VenueUnreachable if the connection is closed."""
        try:
            await self._connection.send(message)
        except exceptions.ConnectionClosed as error:
            raise VenueUnreachable(self._venue, self._name, "connection closed") from error


class Connector:
    """Opens all connections of this process to one venue that leave the machine by one way.

    It makes `connects` attempts within `connects_within_s` at the most, and has no more than `connections` open at a
    time. All stand in the venue's `StreamTraits`: bots connect from the same address.
    """

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        *,
        connects: int,
        connects_within_s: float,
        connections: int | None = None,
        open_timeout_s: float = OPEN_TIMEOUT_S,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._connects = connects
        self._within_s = connects_within_s
        self._connections = connections
        self._open = 0
        """Connections that are being made, open, or being closed."""
        self._open_timeout_s = open_timeout_s
        self._attempts_mono_s: deque[float] = deque()

    @asynccontextmanager
    async def open(self, url: Secret, venue: str, name: str) -> AsyncIterator[Stream]:
        """Connect, when the rate allows it; raises VenueUnreachable where that fails, or where as many connections are
        open as the venue allows at a time. Closed at the end."""
        if self._open == self._connections:
            raise VenueUnreachable(
                venue, name, f"none is left of the {self._connections} connections that it allows at a time"
            )
        self._open += 1
        try:
            await self._wait_for_attempt()
            connection = await self._connect(url, venue, name)
            try:
                yield Stream(connection, venue, name)
            finally:
                await connection.close()
        finally:
            self._open -= 1

    async def _connect(self, url: Secret, venue: str, name: str) -> _Connection:
        try:
            connection = await connect(
                url.reveal(),
                create_connection=cast("type[_Connection]", partial(_Connection, clock=self._clock)),
                compression=None,
                open_timeout=self._open_timeout_s,
                close_timeout=1.0,
                ping_interval=PING_INTERVAL_S,
                ping_timeout=PING_INTERVAL_S,
                max_size=MAX_FRAME_BYTES,
                max_queue=MAX_QUEUE,
                # A simulated exchange at home is not behind the proxy that the environment names.
                proxy=None if urlsplit(url.reveal()).hostname in LOOPBACK_HOSTS else True,
            )
        # ValueError: a host name or the target of a redirect that is none.
        except (OSError, TimeoutError, ValueError, exceptions.WebSocketException) as error:
            raise VenueUnreachable(venue, name, f"cannot connect ({_why(error)})") from None
        assert isinstance(connection, _Connection)
        return connection

    def pause_s(self, failures: int) -> float:
        """How long to wait after that many failures in a row; the first pause is none."""
        return self.jittered(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])

    def jittered(self, seconds: float) -> float:
        """About `seconds`."""
        return seconds * self._rng.uniform(1 - JITTER, 1 + JITTER)

    async def _wait_for_attempt(self) -> None:
        """Wait until one more attempt is within the limit. Attempts count, whatever becomes of them."""
        while len(self._attempts_mono_s) >= self._connects:
            left_s = self._attempts_mono_s[0] + self._within_s - self._clock.monotonic()
            if left_s > 0:
                await self._clock.sleep(left_s)
            else:
                self._attempts_mono_s.popleft()
        self._attempts_mono_s.append(self._clock.monotonic())


def _why(error: Exception) -> str:
    if isinstance(error, exceptions.InvalidStatus):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return type(error).__name__
