"""The listen key: what a private stream of Binance hangs on, and its upkeep.

One active key per account, common to all programs that follow it. POST creates it, or returns the same one and prolongs
its life to 60 minutes ("User Data Streams"). A key that dies leaves its connections open and silent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from statecast.clock import Clock
from statecast.errors import AuthFailed, VenueError
from statecast.secret import Secret
from statecast.venues.adapter import Retrying, StreamEnded, StreamSpec
from statecast.venues.binance.session import UserSession

KEEPALIVE_S = 30 * 60.0
"""Other programs of this field use 25 to 30 minutes."""

RETRY_S = 60.0
"""After a keepalive that failed."""

LIFE_S = 60 * 60.0
"""A key that could not be prolonged for so long is dead, whether or not the venue has said so."""


class ListenKeyStream:
    """The `UserStreams` of one listen key: one connection, which may be made several times at once."""

    def __init__(
        self,
        key: Secret,
        create: Callable[[], Awaitable[Secret]],
        url: Callable[[Secret], str],
        clock: Clock,
        retrying: Retrying,
    ) -> None:
        """`create` is the POST that returned `key`, `url` makes the socket's URL of it."""
        self._key = key
        self._create = create
        self._clock = clock
        self._retrying = retrying
        self._spec = StreamSpec("user stream", Secret(url(key)), UserSession)

    @property
    def specs(self) -> tuple[StreamSpec, ...]:
        """The one connection; its URL holds the key."""
        return (self._spec,)

    async def keep_alive(self) -> None:
        """Prolong the key until cancelled. Raises StreamEnded, AuthFailed, FrameError."""
        alive_mono_s = self._clock.monotonic()
        while True:
            # At once for the first time: the key may have died while the connection was made, and its end was
            # announced to others alone.
            if await self._prolong():
                alive_mono_s, pause_s = self._clock.monotonic(), KEEPALIVE_S
            elif self._clock.monotonic() - alive_mono_s > LIFE_S:
                raise StreamEnded("the listen key could not be kept alive")
            else:
                pause_s = RETRY_S
            await self._clock.sleep(pause_s)

    async def check_alive(self) -> None:
        """Whether the venue still gives out this key. Raises StreamEnded, AuthFailed, FrameError."""
        await self._prolong()

    async def _prolong(self) -> bool:
        """POST prolongs the key, and says which it is; False where the venue does not answer."""
        try:
            current = await self._create()
        except AuthFailed:
            raise
        except VenueError as error:
            self._retrying(error)
            return False
        if current != self._key:
            raise StreamEnded("the venue has given out another listen key")
        return True
