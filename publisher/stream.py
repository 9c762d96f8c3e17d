"""A websocket as the publisher needs it: frames in, a few requests out. The only module that knows websockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from websockets import exceptions
from websockets.asyncio.client import ClientConnection, connect

from statecast.errors import VenueUnreachable

OPEN_TIMEOUT_S = 10.0
PING_INTERVAL_S = 20.0
"""Our own pings find a dead connection within a minute; the venue's come every three. It allows ten frames a second."""

MAX_FRAME_BYTES = 8 * 1024 * 1024
MAX_QUEUE = (4096, 1024)
"""Frames received and not yet taken, high and low mark: a burst is read in one go, a longer one waits in the socket."""

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})


class Stream:
    """An open connection. Errors name the stream, never its URL, which may hold the listen key."""

    def __init__(self, connection: ClientConnection, venue: str, name: str) -> None:
        self._connection = connection
        self._venue = venue
        self._name = name

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


@asynccontextmanager
async def open_stream(url: str, venue: str, name: str) -> AsyncIterator[Stream]:
    """Connect; raises VenueUnreachable where that fails. The connection is closed at the end."""
    try:
        connection = await connect(
            url,
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
    try:
        yield Stream(connection, venue, name)
    finally:
        await connection.close()


def _why(error: Exception) -> str:
    if isinstance(error, exceptions.InvalidStatus):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return type(error).__name__
