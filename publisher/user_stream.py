"""The private stream of one account as one sequence of messages, although connections come and go.

A venue's stream is one connection or several (`UserStreams.specs`): a `_Feed` for each of them makes the connection,
and replaces it before its end where that is seen coming (`handover.py`). Where it is not, there is a gap: `run` ends,
and whoever called it reads the account again.

That each of two connections of one account receives every event is for some venues what field reports say, and not the
documents. Where it does not hold, `shared=False` makes every change of connection a gap.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from publisher.connection import Connection, Route, first_error
from publisher.handover import Handover, Message, Step
from publisher.logs import Log
from statecast.clock import wait_until
from statecast.domain.changes import Frame
from statecast.errors import AuthFailed, VenueError
from statecast.venues.adapter import StreamEnded, StreamTraits, UserStreams, VenueAccount

ROTATE_AT = 0.85
ROTATE_BY = 0.96
"""Of a connection's life, about, and at the latest: with the jitter between 15 and 23 of 24 hours. Jittered, because
what was connected by one event should not be replaced by one."""

END_OF_LIFE = "the venue cuts connections of this age"

Take = Callable[[Message], object]
"""Called once with each message: a frame, or why it makes no sense."""


@dataclass(frozen=True, slots=True)
class _Settings:
    """What the feeds of one stream have in common."""

    traits: StreamTraits
    route: Route
    log: Log
    shared: bool
    unproven: Callable[[], None]


class UserStream:
    """One account's private stream. `run` it, again after each gap."""

    def __init__(
        self,
        account: VenueAccount,
        traits: StreamTraits,
        route: Route,
        log: Log,
        *,
        shared: bool,
        unproven: Callable[[], None],
    ) -> None:
        """`shared`: a second connection may take over, where the venue can do that. `unproven` is called when one has
        done so and nothing has shown yet that it works: ask REST whether anything was missed."""
        self._account = account
        self._settings = _Settings(traits, route, log, shared and traits.shared, unproven)
        self._since_ms = 0

    @property
    def since_ms(self) -> int:
        """The venue's time since which every event has been received, without a gap; 0 while there is no stream."""
        return self._since_ms

    async def run(self, take: Take, connected: Callable[[], None]) -> None:
        """Pass on messages until there is a gap; `connected` is called before the first.

        It always ends by an error: StreamEnded, a VenueError, FrameError for an answer of the venue's upkeep that makes
        no sense, or what `take` raises.
        """
        await self._account.clock.ensure()  # for `since_ms`
        opening = _Opening(take)
        try:
            async with self._account.user_streams(self._upkeep_failed) as streams, asyncio.TaskGroup() as tasks:
                feeds = [_Feed(self._settings, streams, spec.name, opening.take, tasks) for spec in streams.specs]
                for feed in feeds:
                    tasks.create_task(feed.run())
                for feed in feeds:
                    await feed.ready.wait()
                self._since_ms = self._account.clock.now_ms()
                connected()
                opening.end()
                tasks.create_task(streams.keep_alive())
        except BaseExceptionGroup as group:
            raise first_error(group) from None
        finally:
            self._since_ms = 0

    def _upkeep_failed(self, error: VenueError) -> None:
        self._settings.log.warning("keepalive_failed", reason=str(error))


class _Opening:
    """Keeps what the first connections send before all of them are ready."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._early: list[Message] | None = []

    def take(self, message: Message) -> None:
        if self._early is None:
            self._take(message)
        else:
            self._early.append(message)

    def end(self) -> None:
        early, self._early = self._early or [], None
        for message in early:
            self._take(message)


class _Feed:
    """One of a stream's connections, and those that replace it."""

    def __init__(
        self, settings: _Settings, streams: UserStreams, name: str, take: Take, tasks: asyncio.TaskGroup
    ) -> None:
        """`tasks` carry the connections: cancelling one closes its connection."""
        self.ready = asyncio.Event()
        """Set when the first connection receives everything."""
        self._settings = settings
        self._clock = settings.route.clock
        self._streams = streams
        self._name = name
        self._take = take
        self._tasks = tasks
        self._made = 0
        self._handover = Handover(0)
        self._verdict: Step | None = None
        """What has become of the second connection."""
        self._moved = asyncio.Event()
        """There is a verdict, or the handover is due earlier than it was."""
        self._waiting_until_mono_s = math.inf
        self._leaving = asyncio.Event()
        self._reason = ""
        """Why the connection should be replaced soon, when `leaving` is set."""

    async def run(self) -> None:
        """Connect, and replace the connection in time. Its end, and every error, is the stream's."""
        log, shared = self._settings.log, self._settings.shared
        connection, carrying = self._connect(lambda: None)
        await connection.ready.wait()
        self.ready.set()
        while True:
            reason = await self._reason_to_leave(connection.opened_mono_s)
            self._leaving.clear()
            if not shared:
                raise StreamEnded(reason)
            log.info("rotating", stream=self._name, reason=reason)
            connection, replacing = await self._replacement()
            carrying.cancel()
            carrying = replacing
            if not self._handover.proven:
                self._settings.unproven()
            log.info("rotated", stream=self._name, reason=reason, proven=self._handover.proven)
            await self._wait_until(lambda: self._handover.phase == "single")

    async def _reason_to_leave(self, opened_mono_s: float) -> str:
        """Wait until the connection should be replaced."""
        life_s, until_mono_s = self._settings.traits.life_s, math.inf
        if life_s is not None:
            until_mono_s = opened_mono_s + life_s * min(self._settings.route.connector.jittered(ROTATE_AT), ROTATE_BY)
        left = await wait_until(self._leaving, until_mono_s, self._clock)
        return self._reason if left else END_OF_LIFE

    # Connections

    def _connect(self, ready: Callable[[], None]) -> tuple[Connection, asyncio.Task[None]]:
        (spec,) = (spec for spec in self._streams.specs if spec.name == self._name)
        connection = Connection(self._settings.route, spec.name, spec.url, spec.session())
        carrying = self._tasks.create_task(self._carry(self._made, connection, ready))
        self._made += 1
        return connection, carrying

    async def _carry(self, number: int, connection: Connection, ready: Callable[[], None]) -> None:
        """A connection from its beginning to its end."""
        try:
            await connection.run(
                lambda message: self._act(self._handover.received(number, message, self._clock.monotonic())),
                ready,
                max_silence_s=self._settings.traits.max_silence_s,
            )
        except AuthFailed:
            raise
        except VenueError as error:
            step = self._handover.ended(number, self._clock.monotonic())
            if step.verdict == "gap":
                raise
            self._settings.log.warning("second_connection_lost", stream=self._name, reason=str(error))
            self._act(step)

    async def _replacement(self) -> tuple[Connection, asyncio.Task[None]]:
        """A connection that has been seen to work, or at least not to fail. If the current one ends before, the stream
        does."""
        failures = 0
        while True:
            await self._streams.check_alive()
            self._verdict = None
            self._handover.joins(self._made)
            connection, carrying = self._connect(self._second_is_ready)
            verdict = await self._second_connection()
            if verdict.verdict == "replaced":
                return connection, carrying
            if verdict.reason == "silent":
                self._settings.log.warning("second_connection_silent", stream=self._name)
            carrying.cancel()
            failures += 1
            await self._clock.sleep(self._settings.route.connector.pause_s(failures))

    def _second_is_ready(self) -> None:
        self._handover.ready(self._clock.monotonic())
        self._moved.set()

    # Handover

    async def _second_connection(self) -> Step:
        """What becomes of it."""
        await self._wait_until(lambda: self._verdict is not None)
        assert self._verdict is not None
        return self._verdict

    async def _wait_until(self, done: Callable[[], bool]) -> None:
        """Let the handover know of the time until then."""
        while not done():
            self._waiting_until_mono_s = self._handover.due_mono_s
            if not await wait_until(self._moved, self._waiting_until_mono_s, self._clock):
                self._act(self._handover.tick(self._clock.monotonic()))
            self._moved.clear()

    def _act(self, step: Step) -> None:
        for message in step.pass_on:
            self._take(message)
            if isinstance(message.content, Frame):
                self._note(message.content)
        if step.verdict == "gap":
            raise StreamEnded(step.reason)
        if step.verdict is not None:
            self._verdict = step
            self._moved.set()
        elif self._handover.due_mono_s < self._waiting_until_mono_s:
            self._moved.set()

    def _note(self, frame: Frame) -> None:
        """What a frame says of the connection."""
        if frame.notice == "stream_ended":
            raise StreamEnded(frame.detail)
        if frame.notice == "reconnect_soon":
            self._reason = frame.detail
            self._leaving.set()
