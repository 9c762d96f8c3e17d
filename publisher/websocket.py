"""A websocket as the publisher needs it: frames in, a few requests out. The only module that knows websockets."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from urllib.parse import urlsplit

from websockets import exceptions
from websockets.asyncio.client import ClientConnection, connect
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from statecast.clock import Clock
from statecast.errors import VenueUnreachable

OPEN_TIMEOUT_S = 10.0
PING_INTERVAL_S = 20.0
"""Our own pings find a dead connection within a minute; the venue's come every three. It allows ten frames a second."""

MAX_FRAME_BYTES = 8 * 1024 * 1024
MAX_QUEUE = (4096, 1024)
"""Frames received and not yet taken, high and low mark: a burst is read in one go, a longer one waits in the socket."""

MAX_CONNECTIONS = 150
WITHIN_S = 300.0
"""The venue allows an IP address 300 attempts in five minutes; half of them are the bots' behind the same address."""

BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses between connections that fail one after the other."""

JITTER = 0.25
"""Of a pause, more or less: what one event has cut off does not come back in one moment."""

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class _Connection(ClientConnection):
    """Counts the venue's pings, which it answers like any other."""

    pings = 0

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self.pings += 1
        super().process_event(event)


class Stream:
    """An open connection. Errors name the stream, never its URL, which may hold the listen key."""

    def __init__(self, connection: _Connection, venue: str, name: str) -> None:
        self._connection = connection
        self._venue = venue
        self._name = name

    @property
    def pings(self) -> int:
        """How many pings of the venue have come: the sign of life of a stream that has nothing to say."""
        return self._connection.pings

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
    """Opens all the connections of this process to the venue, no more of them than the venue allows."""

    def __init__(self, clock: Clock, rng: Random) -> None:
        self._clock = clock
        self._rng = rng
        self._attempts: deque[float] = deque()

    @asynccontextmanager
    async def open(self, url: str, venue: str, name: str) -> AsyncIterator[Stream]:
        """Connect, when the limit allows it; raises VenueUnreachable where that fails. Closed at the end."""
        await self._turn()
        try:
            connection = await connect(
                url,
                create_connection=_Connection,
                compression=None,
                open_timeout=OPEN_TIMEOUT_S,
                close_timeout=1.0,
                ping_interval=PING_INTERVAL_S,
                ping_timeout=PING_INTERVAL_S,
                max_size=MAX_FRAME_BYTES,
                max_queue=MAX_QUEUE,
                # A simulated exchange at home is not behind the proxy that the environment names.
                proxy=None if urlsplit(url).hostname in LOOPBACK_HOSTS else True,
            )
        # ValueError: a host name or the target of a redirect that is none.
        except (OSError, TimeoutError, ValueError, exceptions.WebSocketException) as error:
            raise VenueUnreachable(venue, name, f"cannot connect ({_why(error)})") from None
        assert isinstance(connection, _Connection)
        try:
            yield Stream(connection, venue, name)
        finally:
            await connection.close()

    def pause_s(self, failures: int) -> float:
        """How long to wait after that many failures in a row; the first pause is none."""
        return self.jittered(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])

    def jittered(self, seconds: float) -> float:
        """About `seconds`."""
        return seconds * self._rng.uniform(1 - JITTER, 1 + JITTER)

    async def _turn(self) -> None:
        """Wait until one more attempt is within the limit. Attempts count, whatever becomes of them."""
        while len(self._attempts) >= MAX_CONNECTIONS:
            left_s = self._attempts[0] + WITHIN_S - self._clock.monotonic()
            if left_s > 0:
                await self._clock.sleep(left_s)
            else:
                self._attempts.popleft()
        self._attempts.append(self._clock.monotonic())


def _why(error: Exception) -> str:
    if isinstance(error, exceptions.InvalidStatus):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return type(error).__name__
