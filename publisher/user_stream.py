"""The user data stream of one account as one sequence of frames, although connections come and go.

The venue cuts every connection after 24 hours, announces the end of a server, and lets a listen key die with its
connections open and silent. Where the end is seen coming, a second connection on the same listen key is opened, seen to
work, and only then the first is closed: nothing is missed in between, and what both have told is passed on once. Where
it is not, there is a gap: `run` ends, and whoever calls it reads the account anew.

That each of two connections on one listen key is told everything is what field reports say, not the documents
("Several sockets on one listenKey"). Where it does not hold, `shared=False` makes every change of connection a gap.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from publisher.logs import Log
from publisher.websocket import Connector, Stream
from statecast.clock import Clock
from statecast.errors import AuthFailed, VenueError, VenueUnreachable
from statecast.secret import Secret
from statecast.venues.adapter import StreamEnded
from statecast.venues.binance.rest import BinanceRest
from statecast.venues.binance.wire import VENUE, BinanceUrls

KEEPALIVE_S = 30 * 60.0
"""The listen key lives 60 minutes; libraries of this field use 25 to 30."""

KEEPALIVE_RETRY_S = 60.0

KEY_LIFE_S = 60 * 60.0
"""A key that could not be prolonged for so long is dead, whether or not the venue has said so."""

LIFE_S = 24 * 3600.0
"""The venue cuts a connection at this age."""

ROTATE_AT = 0.85
ROTATE_BY = 0.96
"""Of its life, about, and at the latest: with the jitter between 15 and 23 hours. Jittered, because what was connected
by one event should not be replaced by one."""

MAX_SILENCE_S = 240.0
"""The venue pings every three minutes: a connection on which neither a ping nor a frame comes for longer is dead."""

WATCH_S = 5.0
"""How often silence and age are looked at."""

OVERLAP_S = 30.0
"""So long, two connections wait for a frame that both of them tell. On an account where nothing happens REST is asked
instead, at once after the change."""

LAG_S = 5.0
"""What one of two connections has told, the other tells within this time, or it is mute."""

AFTERWARDS_S = 1.0
"""Both stay open so long after the proof: events of different types come from different servers of the venue."""

CATCH_UP_S = 30.0
"""The new connection may be behind the old one by less than this."""

PROOF_STEP_S = 0.1

RECENT_FRAMES = 1_000
OVERLAP_FRAMES = 50_000
"""Frames remembered to tell repeated ones: of one connection alone a few, because another gateway of the venue may tell
a new connection what the old one told just before; of two connections those of a minute. Some 40 MB at the most."""

Take = Callable[[str | bytes], bool]
"""Told each frame once; whether it was an event of the account, and not a word about the connection or nonsense."""


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that says most: a refusal before all else, then whatever came first."""
    errors = [first_error(error) if isinstance(error, BaseExceptionGroup) else error for error in group.exceptions]
    return next((error for error in errors if isinstance(error, AuthFailed)), errors[0])


class _Socket:
    """One connection, carried by a task of its own: cancelling the task closes it."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.opened_at = 0.0
        self.stream: Stream | None = None
        self.frames = 0
        self.alone_since: float | None = None
        """When it told, first since another connection is beside it, what that one had not told."""

    @property
    def signs_of_life(self) -> int:
        return self.frames + (self.stream.pings if self.stream is not None else 0)


class UserStream:
    """One account's user data stream. `run` it; `rotate` may be asked for at any time."""

    def __init__(
        self,
        rest: BinanceRest,
        urls: BinanceUrls,
        connector: Connector,
        clock: Clock,
        log: Log,
        *,
        shared: bool,
        unproven: Callable[[], None],
    ) -> None:
        """`unproven` is called when a connection has replaced another and nothing has shown yet that it works: ask REST
        whether anything was missed."""
        self.since_ms = 0
        """Venue time since which everything has been told, without a hole; 0 while there is no stream."""
        self._rest = rest
        self._urls = urls
        self._connector = connector
        self._clock = clock
        self._log = log
        self._shared = shared
        self._unproven = unproven
        self._take: Take = lambda frame: False
        self._key = Secret("")
        self._current = _Socket()
        self._wanted = asyncio.Event()
        self._why = ""
        self._told: OrderedDict[str | bytes, tuple[_Socket, bool]] = OrderedDict()
        self._room = RECENT_FRAMES
        self._proven = False
        self._second: _Socket | None = None
        """The connection that is to replace the current one, or has just done so, while the old one still tells."""
        self._held: dict[str | bytes, float] = {}
        """What it has told, and the old one not yet; since when. The old one may be behind: what both tell is passed on
        in its order, or an order's fill would come before the order, of which the second connection heard nothing."""

    def rotate(self, reason: str) -> None:
        """Replace the connection soon."""
        self._why = reason
        self._wanted.set()

    async def run(self, take: Take, connected: Callable[[], None]) -> None:
        """Pass on frames until there is a gap; `connected` is called before the first.

        It always ends by an error: StreamEnded, a VenueError, or what `take` raises.
        """
        await self._rest.clock.ensure()  # for `since_ms`
        self._key = await self._rest.create_listen_key()
        self._take = take
        self._told.clear()
        self._room = RECENT_FRAMES
        self._wanted.clear()
        self._current, self._second = _Socket(), None
        self._held.clear()

        def began() -> None:
            self.since_ms = self._rest.clock.now_ms()
            connected()

        try:
            async with asyncio.TaskGroup() as tasks:
                first = tasks.create_task(self._carry(self._current, began))
                await self._current.opened.wait()
                tasks.create_task(self._keep_alive())
                tasks.create_task(self._watch_silence())
                tasks.create_task(self._replace_in_time(tasks, first))
        except BaseExceptionGroup as group:
            raise first_error(group) from None
        finally:
            self.since_ms = 0
            self._take = lambda frame: False

    # Connections

    async def _carry(self, socket: _Socket, connected: Callable[[], None]) -> None:
        """A connection from its beginning to its end. The current one's end is the stream's."""
        try:
            async with self._connector.open(self._urls.private_stream_url(self._key), VENUE, "user stream") as stream:
                socket.stream = stream
                socket.opened_at = self._clock.monotonic()
                connected()
                socket.opened.set()
                async for raw in stream.frames():
                    self._tell(socket, raw)
        except VenueUnreachable as error:
            if socket is self._current:
                raise
            self._log.warning("second_connection_lost", reason=str(error))
            if self._second is self._current:  # It was the old one.
                self._release()
            socket.opened.set()

    def _tell(self, socket: _Socket, raw: str | bytes) -> None:
        """Pass a frame on, unless another connection has told it. What one tells twice is passed on twice."""
        socket.frames += 1
        told = self._told.get(raw)
        if told is not None and told[0] is not socket:
            self._proven = self._proven or told[1]
            return
        if socket is self._second:
            self._held.setdefault(raw, self._clock.monotonic())
            return
        is_event = self._pass_on(socket, raw)
        if self._held.pop(raw, None) is not None:
            self._proven = self._proven or is_event
        if is_event and socket.alone_since is None:
            socket.alone_since = self._clock.monotonic()

    def _pass_on(self, socket: _Socket, raw: str | bytes) -> bool:
        is_event = self._take(raw)
        self._told[raw] = (socket, is_event)
        while len(self._told) > self._room:
            self._told.popitem(last=False)
        return is_event

    def _release(self) -> bool:
        """Wait no longer for the old connection to tell what is held; whether an event of the account was among it."""
        second, held = self._second, tuple(self._held)
        self._second = None
        self._held.clear()
        told = [self._pass_on(second, raw) for raw in held] if second is not None else []
        return any(told)

    async def _replace_in_time(self, tasks: asyncio.TaskGroup, carrying: asyncio.Task[None]) -> None:
        while True:
            at_age_s = min(self._connector.jittered(ROTATE_AT), ROTATE_BY) * LIFE_S
            reason = ""
            while not reason:
                with suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_S):
                        await self._wanted.wait()
                if self._wanted.is_set():
                    reason = self._why
                elif self._clock.monotonic() - self._current.opened_at >= at_age_s:
                    reason = "the venue cuts connections of this age"
            self._wanted.clear()
            if not self._shared:
                raise StreamEnded(reason)
            carrying = await self._replace(tasks, carrying, reason)

    async def _replace(self, tasks: asyncio.TaskGroup, carrying: asyncio.Task[None], reason: str) -> asyncio.Task[None]:
        """Open another connection, see it work, close the old one. If that ends before, the stream does."""
        self._log.info("rotating", reason=reason)
        self._room = OVERLAP_FRAMES
        failures = 0
        while True:
            await self._prove_key()
            self._second = new = _Socket()
            carrying_new = tasks.create_task(self._carry(new, self._begin_overlap))
            await new.opened.wait()
            if not carrying_new.done() and await self._works(new, carrying_new):
                break
            # What is held the old one tells, or it ends in a gap.
            self._second = None
            self._held.clear()
            carrying_new.cancel()
            failures += 1
            await self._clock.sleep(self._connector.pause_s(failures))
        self._current = new
        if self._proven:
            await self._clock.sleep(AFTERWARDS_S)
        else:
            self._unproven()
        self._release()
        carrying.cancel()
        self._log.info("rotated", reason=reason, proven=self._proven)
        await self._clock.sleep(CATCH_UP_S)
        self._room = RECENT_FRAMES
        return carrying_new

    def _begin_overlap(self) -> None:
        self._proven = False
        self._held.clear()
        self._current.alone_since = None

    async def _works(self, new: _Socket, carrying: asyncio.Task[None]) -> bool:
        """Whether the new connection tells what the old one does; also true where neither has anything to tell."""
        until = self._clock.monotonic() + OVERLAP_S
        while not self._proven:
            await self._clock.sleep(PROOF_STEP_S)
            now = self._clock.monotonic()
            if carrying.done():
                return False
            if self._held and now - next(iter(self._held.values())) > LAG_S:
                if self._release():
                    reason = "a second connection tells what the first does not: STATECAST_SHARED_STREAM=false?"
                    raise StreamEnded(reason)
                self._second = new
            if self._current.alone_since is not None and now - self._current.alone_since > LAG_S:
                self._log.warning("second_connection_mute")
                return False
            if now > until and not self._held and self._current.alone_since is None:
                return True
        return True

    # The listen key

    async def _keep_alive(self) -> None:
        proven_at = self._clock.monotonic()
        while True:
            # At once for the first time: the key may have died while the connection was made, and its end was told to
            # others alone.
            if await self._prove_key():
                proven_at, pause_s = self._clock.monotonic(), KEEPALIVE_S
            elif self._clock.monotonic() - proven_at > KEY_LIFE_S:
                raise StreamEnded("the listen key could not be kept alive")
            else:
                pause_s = KEEPALIVE_RETRY_S
            await self._clock.sleep(pause_s)

    async def _prove_key(self) -> bool:
        """POST prolongs the key, and says which it is; False where the venue does not answer."""
        try:
            current = await self._rest.create_listen_key()
        except AuthFailed:
            raise
        except VenueError as error:
            self._log.warning("keepalive_failed", reason=str(error))
            return False
        if current != self._key:
            raise StreamEnded("the venue has given out another listen key")
        return True

    async def _watch_silence(self) -> None:
        socket, signs, since = self._current, 0, self._clock.monotonic()
        while True:
            await self._clock.sleep(WATCH_S)
            now = self._clock.monotonic()
            if socket is not self._current or self._current.signs_of_life != signs:
                socket, signs, since = self._current, self._current.signs_of_life, now
            elif now - since > MAX_SILENCE_S:
                raise StreamEnded(f"neither a frame nor a ping came for {now - since:.0f} s")
