"""The private stream over changing connections, to a real websocket server that the test speaks for.

Two dialects. `Plain` is as little as a venue may ask for: frames come as soon as the connection is open, the same bytes
on each. `Login` asks for a login and a subscription before it sends anything, on two
connections, pings as text, and names the connection in each frame. What comes of a change of connections in every case
is in test_handover.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Protocol, cast

import pytest
from structlog.testing import capture_logs
from support.clocks import NOW_MS, ManualClock, eventually
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from publisher.connection import LOOK_S, MESSAGES_AT_ONCE, READY_WITHIN_S, Route
from publisher.handover import AFTERWARDS_S, LAG_S, NOT_SHARED, OVERLAP_S, Message
from publisher.logs import account_log
from publisher.user_stream import END_OF_LIFE, ROTATE_BY, UserStream
from publisher.websocket import Connector
from statecast.domain.changes import Frame, MultiAssetsUpdate
from statecast.errors import AuthFailed, FrameError, RateLimited, StatecastError, VenueError, VenueUnreachable
from statecast.secret import Secret
from statecast.venues.adapter import (
    Delivery,
    Received,
    Session,
    StreamEnded,
    StreamSpec,
    StreamTraits,
    UserStreams,
    VenueAccount,
)

AHEAD_MS = 700
"""The venue's clock is ahead of the machine's."""

DAY_S = 86_400.0

TRAITS = StreamTraits(
    life_s=DAY_S, max_silence_s=240.0, market_silence_s=30.0, connects=150, connects_within_s=300.0, shared=True
)

SHUTDOWN = "shutdown"
SHUTDOWN_REASON = "the server is shutting down"


def decoded(name: str) -> Frame:
    """What a frame means: `shutdown`, `ended`, `(a word)`, `!nonsense`, or else an event of the account."""
    if name.startswith(SHUTDOWN):
        return Frame(name, 0, notice="reconnect_soon", detail=SHUTDOWN_REASON)
    if name == "ended":
        return Frame(name, 0, notice="stream_ended", detail="the stream has ended")
    if name.startswith("!"):
        raise FrameError(name, "body", "makes no sense")
    if name.startswith("("):
        return Frame(name, 0, notice="ignored")
    return Frame(name, 1, (MultiAssetsUpdate(True),))


class Venue(Protocol):
    """What a dialect says to a stream."""

    def streams(self, retrying: Callable[[VenueError], None]) -> UserStreams: ...


class Server:
    """Connections of one server, by their numbers from 0."""

    def __init__(self) -> None:
        self.url = ""
        self.connections: list[ServerConnection] = []
        self.closed: list[int] = []

    async def accept(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        number = len(self.connections) - 1
        await self.talk(connection, number)
        await connection.wait_closed()
        self.closed.append(number)

    async def talk(self, connection: ServerConnection, number: int) -> None:
        """Until there is nothing more to answer."""

    def frame(self, name: str, number: int) -> str:
        return name

    async def send(self, *names: str, to: int | None = None) -> None:
        """Frames to all open connections, or to one."""
        for name in names:
            for number, connection in enumerate(self.connections):
                if number not in self.closed and to in (None, number):
                    with suppress(ConnectionClosed):
                        await connection.send(self.frame(name, number))

    async def connected(self, count: int) -> None:
        await eventually(lambda: len(self.connections) >= count, f"{count} connections")

    async def has_closed(self, *numbers: int) -> None:
        await eventually(lambda: sorted(self.closed) == list(numbers), f"{numbers} are closed")


class Following:
    """A stream at work, what it has passed on, and how it ended."""

    def __init__(self, venue: Venue, *, traits: StreamTraits = TRAITS, shared: bool = True) -> None:
        self.clock = ManualClock()
        self.messages: list[Message] = []
        self.unproven = 0
        self.began = 0
        self.received_before = 0
        log = account_log("toy:main")
        connector = Connector(
            self.clock,
            Random(1),
            connects=traits.connects,
            connects_within_s=traits.connects_within_s,
            connections=traits.connections,
        )
        account = cast("VenueAccount", _Account(venue, self.clock))
        route = Route("toy", connector, self.clock, account.clock, traits.ping_after_s)
        self.stream = UserStream(account, traits, route, log, shared=shared, unproven=self._count_unproven)
        self.task = asyncio.create_task(self.stream.run(self.messages.append, self._connected))

    @property
    def names(self) -> list[str]:
        return [message.content.event for message in self.messages]

    def _count_unproven(self) -> None:
        self.unproven += 1

    def _connected(self) -> None:
        self.began += 1
        self.received_before = len(self.messages)

    async def received(self, *names: str) -> None:
        await eventually(lambda: len(self.names) >= len(names) or self.task.done(), f"{names}")
        assert self.names == list(names)

    async def is_connected(self) -> None:
        await eventually(lambda: self.began == 1 or self.task.done(), "connected")

    async def ended(self) -> str:
        with pytest.raises((StreamEnded, StatecastError)) as error:
            await asyncio.wait_for(self.task, 20)
        return str(error.value)


class _Account:
    """As much of a `VenueAccount` as a stream needs."""

    def __init__(self, venue: Venue, clock: ManualClock) -> None:
        self.clock = _VenueClock(clock)
        self._venue = venue

    @asynccontextmanager
    async def user_streams(self, retrying: Callable[[VenueError], None]) -> AsyncIterator[UserStreams]:
        yield self._venue.streams(retrying)


class _VenueClock:
    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._is_known = False

    async def ensure(self) -> None:
        self._is_known = True

    def now_ms(self) -> int:
        assert self._is_known
        return self._clock.now_ms() + AHEAD_MS


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    async with serve(server.accept, "127.0.0.1", 0, ping_interval=None) as listening:
        host, port = next(iter(listening.sockets)).getsockname()
        server.url = f"ws://{host}:{port}"
        yield server


@asynccontextmanager
async def following(venue: Venue, *, traits: StreamTraits = TRAITS, shared: bool = True) -> AsyncIterator[Following]:
    here = Following(venue, traits=traits, shared=shared)
    try:
        await here.is_connected()
        yield here
    finally:
        here.task.cancel()
        with suppress(asyncio.CancelledError, StreamEnded, StatecastError):
            await here.task


# Plain


class PlainSession:
    """Frames come at once, the same bytes on every connection."""

    ready = True

    def opened(self, now_ms: int) -> Sequence[str]:
        return ()

    def received(self, raw: str | bytes, now_ms: int) -> Received:
        assert isinstance(raw, str)
        return Received((Delivery(decoded(raw), raw),))

    def idle(self, silent_s: float) -> str | None:
        raise AssertionError("no ping is wanted")


class Plain(Server):
    """A stream of one connection."""

    def __init__(self) -> None:
        super().__init__()
        self.ended_with: Exception | None = None
        self.failures: list[VenueError] = []
        """What the upkeep has failed with, and tried again."""
        self.kept_alive = 0
        self.moved = asyncio.Event()

    def ends(self, error: Exception) -> None:
        """From now on the upkeep finds this."""
        self.ended_with = error
        self.moved.set()

    def streams(self, retrying: Callable[[VenueError], None]) -> UserStreams:
        return _PlainStreams(self, retrying)


class _PlainStreams:
    def __init__(self, server: Plain, retrying: Callable[[VenueError], None]) -> None:
        self._server = server
        self._retrying = retrying

    @property
    def specs(self) -> tuple[StreamSpec, ...]:
        return (StreamSpec("user stream", Secret(self._server.url), PlainSession),)

    async def keep_alive(self) -> None:
        assert self._server.connections, "there is a stream to keep alive"
        self._server.kept_alive += 1
        for error in self._server.failures:
            self._retrying(error)
        while True:
            await self._server.moved.wait()
            await self.check_alive()

    async def check_alive(self) -> None:
        if self._server.ended_with is not None:
            raise self._server.ended_with


@pytest.fixture
async def venue() -> AsyncIterator[Plain]:
    async with serving(Plain()) as server:
        yield cast("Plain", server)


async def replacement(here: Following, venue: Server, connections: int = 2) -> None:
    """The venue announces the end of the connection, and another is made."""
    await venue.send(SHUTDOWN, to=connections - 2)
    await venue.connected(connections)
    await eventually(lambda: SHUTDOWN in here.names, "announced")
    here.messages.clear()


async def test_frames_are_passed_on_from_the_first_connection(venue: Plain) -> None:
    async with following(venue) as here:
        assert here.stream.since_ms == NOW_MS + AHEAD_MS
        await venue.send("a", "b", "a")
        await here.received("a", "b", "a")
        assert [message.identity for message in here.messages] == ["a", "b", "a"]
        await venue.connections[0].close()
        assert "connection closed" in await here.ended()
        assert here.stream.since_ms == 0


async def test_while_a_flood_is_received_others_have_their_turns(venue: Plain) -> None:
    async with following(venue) as here:
        at_turns: list[int] = []

        async def writer() -> None:
            while True:
                at_turns.append(len(here.messages))
                await asyncio.sleep(0)

        writing = asyncio.create_task(writer())
        await venue.send(*(str(number) for number in range(2_000)))
        await here.received(*(str(number) for number in range(2_000)))
        writing.cancel()
    assert max(after - before for before, after in pairwise(at_turns)) <= MESSAGES_AT_ONCE


async def test_a_frame_that_makes_no_sense_is_passed_on_as_such(venue: Plain) -> None:
    async with following(venue) as here:
        await venue.send("1", "!x", "2")
        await here.received("1", "!x", "2")
        assert [isinstance(message.content, FrameError) for message in here.messages] == [False, True, False]


async def test_the_end_of_the_stream_ends_it(venue: Plain) -> None:
    async with following(venue) as here:
        await venue.send("1", "ended", "2")
        assert await here.ended() == "the stream has ended"
        assert here.names == ["1", "ended"]


async def test_a_frame_that_both_send_proves_the_new_connection(venue: Plain) -> None:
    async with following(venue) as here:
        await replacement(here, venue)
        await venue.send("1", "2", to=0)
        await venue.send("1", "2", "3", to=1)
        await here.received("1", "2")
        await here.clock.advance(AFTERWARDS_S)
        await venue.has_closed(0)
        await venue.send("4")
        await here.received("1", "2", "3", "4")
        assert (here.unproven, here.began) == (0, 1)
        assert here.stream.since_ms


async def test_on_a_quiet_account_rest_is_asked_after_the_change(venue: Plain) -> None:
    async with following(venue) as here:
        await replacement(here, venue)
        await here.clock.advance(OVERLAP_S - 1)
        assert (here.unproven, venue.closed) == (0, [])
        await here.clock.advance_until(lambda: here.unproven == 1, "unproven")
        await venue.has_closed(0)
        await venue.send("1")
        await here.received("1")


async def test_a_second_connection_that_is_mute_is_given_up_for_another(venue: Plain) -> None:
    async with following(venue) as here:
        with capture_logs() as logs:
            await replacement(here, venue)
            await venue.send("1", to=0)
            await here.received("1")
            await here.clock.advance(LAG_S)
            await venue.has_closed(1)
            await here.clock.advance_until(lambda: len(venue.connections) == 3, "another is tried")
            await venue.send("2")
            await here.clock.advance_until(lambda: 0 in venue.closed, "the old one is closed, and not before")
            await venue.send("3")
            await here.received("1", "2", "3")
        assert "second_connection_silent" in [line["event"] for line in logs]


async def test_a_second_connection_that_is_lost_is_replaced_next_to_the_first(venue: Plain) -> None:
    async with following(venue) as here:
        await replacement(here, venue)
        await venue.connections[1].close()
        await venue.send("1", to=0)
        await here.clock.advance_until(lambda: len(venue.connections) == 3, "another is tried")
        await venue.send("2")
        await here.clock.advance_until(lambda: 0 in venue.closed, "the old connection is closed")
        await here.received("1", "2")
        assert not here.task.done()


async def test_a_second_connection_beyond_what_the_venue_allows_is_not_made_and_the_first_goes_on(venue: Plain) -> None:
    async with following(venue, traits=replace(TRAITS, connections=1)) as here:
        with capture_logs() as logs:
            await venue.send(SHUTDOWN)
            await here.received(SHUTDOWN)
            await here.clock.advance_until(lambda: len(logs) >= 3, "tried again")
        refused = {line["reason"] for line in logs if line["event"] == "second_connection_lost"}
        assert refused == {"toy: user stream: none is left of the 1 connections that it allows at a time"}
        await venue.send("1")
        await here.received(SHUTDOWN, "1")
        assert len(venue.connections) == 1


async def test_the_old_connection_lost_before_the_new_one_is_proven_is_a_gap(venue: Plain) -> None:
    async with following(venue) as here:
        await replacement(here, venue)
        await venue.connections[0].close()
        assert "connection closed" in await here.ended()
        await venue.has_closed(0, 1)  # Nothing stays open.


async def test_a_second_connection_that_takes_the_frames_from_the_first_is_a_gap_and_says_what_to_set(
    venue: Plain,
) -> None:
    async with following(venue) as here:
        await replacement(here, venue)
        await venue.send("1", to=1)
        await here.clock.advance_until(here.task.done, "ended", step_s=LAG_S / 4)
        assert await here.ended() == NOT_SHARED
        assert "STATECAST_SHARED_STREAM=false" in NOT_SHARED
        assert here.names == ["1"]


@pytest.mark.parametrize("setting", [True, False])
async def test_where_connections_cannot_share_a_stream_a_change_is_a_gap(venue: Plain, setting: bool) -> None:
    """The venue's facts and the setting must both allow it."""
    async with following(venue, traits=replace(TRAITS, shared=not setting), shared=setting) as here:
        await venue.send(SHUTDOWN)
        assert await here.ended() == SHUTDOWN_REASON
        assert len(venue.connections) == 1


async def pass_quietly(here: Following, venue: Server, seconds: float, part_s: float = 200.0) -> None:
    """Time passes on a connection on which there is a word now and then."""
    for _ in range(int(seconds / part_s)):
        await venue.send(f"(alive at {here.clock.monotonic():.0f} s)")
        await eventually(lambda: bool(here.names) or here.task.done(), "a word")
        here.messages.clear()
        await here.clock.advance(part_s)


async def test_a_connection_is_replaced_long_before_the_venue_cuts_it(venue: Plain) -> None:
    async with following(venue, traits=replace(TRAITS, life_s=10_000.0)) as here:
        with capture_logs() as logs:
            await pass_quietly(here, venue, 6_000)
            assert len(venue.connections) == 1
            await pass_quietly(here, venue, 10_000 * ROTATE_BY - 6_000)
            await venue.connected(2)
            assert not here.task.done()
        assert [line["reason"] for line in logs if line["event"] == "rotating"] == [END_OF_LIFE]


async def test_a_connection_that_the_venue_never_cuts_is_not_replaced(venue: Plain) -> None:
    async with following(venue, traits=replace(TRAITS, life_s=None)) as here:
        await pass_quietly(here, venue, 20_000)
        assert len(venue.connections) == 1


async def test_the_new_connection_has_a_life_of_its_own(venue: Plain) -> None:
    async with following(venue, traits=replace(TRAITS, life_s=10_000.0)) as here:
        await replacement(here, venue)
        await here.clock.advance_until(lambda: venue.closed == [0], "replaced", step_s=5)
        await pass_quietly(here, venue, 6_000)
        assert len(venue.connections) == 2
        await pass_quietly(here, venue, 4_000)
        await venue.connected(3)


@pytest.mark.parametrize(
    "error",
    [
        StreamEnded("the stream is another one"),
        AuthFailed("toy", "keepalive", "HTTP 401", -2015),
        FrameError("keepalive", "body", "makes no sense"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_the_upkeep_finds_ends_the_stream(venue: Plain, error: Exception) -> None:
    async with following(venue) as here:
        await eventually(lambda: venue.kept_alive == 1, "kept alive from the first connection on")
        venue.ends(error)
        assert await here.ended() == str(error)
        await venue.has_closed(0)


async def test_what_the_upkeep_finds_is_seen_before_a_second_connection_is_opened(venue: Plain) -> None:
    async with following(venue) as here:
        venue.ended_with = StreamEnded("the stream is another one")
        await venue.send(SHUTDOWN)
        assert await here.ended() == "the stream is another one"
        assert len(venue.connections) == 1


async def test_what_the_upkeep_tries_again_is_logged_and_nothing_more(venue: Plain) -> None:
    venue.failures = [RateLimited("toy", "keepalive", "HTTP 429", 0)]
    with capture_logs() as logs:
        async with following(venue) as here:
            await eventually(lambda: venue.kept_alive == 1, "kept alive")
            await venue.send("1")
            await here.received("1")
    assert [line["reason"] for line in logs if line["event"] == "keepalive_failed"] == ["toy: keepalive: HTTP 429"]


@pytest.mark.parametrize("sign", ["none", "ping", "frame"])
async def test_a_connection_without_a_sign_of_life_is_dead(venue: Plain, sign: str) -> None:
    async with following(venue) as here:
        for number in range(3):
            await here.clock.advance(TRAITS.max_silence_s * 0.6)
            if sign == "ping":
                await (await venue.connections[0].ping())
            elif sign == "frame":
                await venue.send("1")
                await here.received(*["1"] * (number + 1))
        if sign == "none":
            assert "user stream: neither a frame nor a ping came for 240 s" in await here.ended()
        else:
            assert not here.task.done()


async def test_after_the_machine_was_suspended_silence_is_seen_soon(venue: Plain) -> None:
    """Timers stand still meanwhile, the clock does not."""
    async with following(venue) as here:
        await here.clock.advance(10)
        here.clock.suspend(3600)
        await here.clock.advance(LOOK_S)
        assert "came for 3615 s" in await here.ended()


async def test_what_the_old_connection_has_not_sent_when_it_is_lost_is_passed_on_by_the_new_one(venue: Plain) -> None:
    async with following(venue) as here:
        await replacement(here, venue)
        await venue.send("1")
        await here.received("1")
        await venue.send("2", to=1)
        await venue.connections[0].close()
        await here.received("1", "2")
        await venue.send("3")
        await here.received("1", "2", "3")


async def test_what_is_announced_to_the_new_connection_alone_replaces_that_one_later(venue: Plain) -> None:
    async with following(venue) as here:
        await replacement(here, venue)
        await venue.send(SHUTDOWN + " of another server", to=1)
        await here.clock.advance_until(lambda: venue.closed == [0], "replaced", step_s=1)
        await here.clock.advance_until(lambda: len(venue.connections) == 3, "replaced again", step_s=1)
        assert not here.task.done()


# Login


class LoginSession:
    """A login, then a subscription, each acknowledged. Messages: the number of the connection, a bar, names of events
    with commas between them."""

    def __init__(self, channel: str) -> None:
        self.ready = False
        self._channel = channel

    def opened(self, now_ms: int) -> Sequence[str]:
        return (f"login {now_ms}",)

    def received(self, raw: str | bytes, now_ms: int) -> Received:
        assert isinstance(raw, str)
        match raw.split(" "):
            case ["welcome"]:
                return Received(replies=(f"subscribe {self._channel}",))
            case ["subscribed", channel]:
                assert channel == self._channel
                self.ready = True
                return Received()
            case ["pong"]:
                return Received()
            case ["refused"]:
                raise AuthFailed("toy", "login", "the key is not known", 60005)
            case ["later"]:
                raise VenueUnreachable("toy", "login", "internal error, try again")
        names = raw.partition("|")[2].split(",")
        return Received(tuple(Delivery(decoded(name), None if name.startswith("[") else name) for name in names))

    def idle(self, silent_s: float) -> str | None:
        return "ping"


class Login(Server):
    """A stream of two connections, at two paths."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, str]] = []
        """What was received at which path."""
        self.greeting = "welcome"
        self.acknowledges = {"/orders", "/fills"}
        self.pongs = True
        self.checks: list[str] = []

    def at(self, path: str) -> list[int]:
        """Open connections to a path."""
        of_path = [number for number, one in enumerate(self.connections) if _path(one) == path]
        return [number for number in of_path if number not in self.closed]

    async def talk(self, connection: ServerConnection, number: int) -> None:
        path = _path(connection)
        with suppress(ConnectionClosed):
            async for said in connection:
                assert isinstance(said, str)
                self.said.append((path, said))
                if said.startswith("login"):
                    await connection.send(self.greeting)
                elif said.startswith("subscribe") and path in self.acknowledges:
                    await self.subscribed(number)
                elif said == "ping" and self.pongs:
                    await connection.send("pong")

    async def subscribed(self, number: int) -> None:
        connection = self.connections[number]
        await connection.send(f"subscribed {_path(connection)[1:]}")

    def frame(self, name: str, number: int) -> str:
        return f"{number}|{name}"

    def streams(self, retrying: Callable[[VenueError], None]) -> UserStreams:
        return _LoginStreams(self)


def _path(connection: ServerConnection) -> str:
    assert connection.request is not None
    return connection.request.path


class _LoginStreams:
    def __init__(self, server: Login) -> None:
        self._server = server

    @property
    def specs(self) -> tuple[StreamSpec, ...]:
        return tuple(self._spec(channel) for channel in ("orders", "fills"))

    def _spec(self, channel: str) -> StreamSpec:
        session: Callable[[], Session] = lambda: LoginSession(channel)  # noqa: E731
        return StreamSpec(channel, Secret(f"{self._server.url}/{channel}"), session)

    async def keep_alive(self) -> None:
        await asyncio.Event().wait()

    async def check_alive(self) -> None:
        self._server.checks.append("checked")


LOGIN_TRAITS = replace(TRAITS, life_s=None, max_silence_s=40.0, ping_after_s=15.0)


@pytest.fixture
async def login() -> AsyncIterator[Login]:
    async with serving(Login()) as server:
        yield cast("Login", server)


def following_login(login: Login) -> AbstractAsyncContextManager[Following]:
    return following(login, traits=LOGIN_TRAITS)


async def test_a_stream_is_connected_when_all_of_its_connections_are_subscribed(login: Login) -> None:
    login.acknowledges = {"/orders"}
    here = Following(login, traits=LOGIN_TRAITS)
    try:
        await eventually(lambda: ("/fills", "subscribe fills") in login.said, "asked for")
        (orders,), (fills,) = login.at("/orders"), login.at("/fills")
        await login.send("1", to=orders)
        await here.clock.advance(5)
        assert (here.began, here.names, here.stream.since_ms) == (0, [], 0)
        assert ("/orders", f"login {NOW_MS + AHEAD_MS}") in login.said, "by the venue's time"
        await login.subscribed(fills)
        await here.received("1")
        assert (here.began, here.received_before) == (1, 0), "connected is called before the first"
        assert here.stream.since_ms == NOW_MS + AHEAD_MS + 5_000
        await login.send("2", to=fills)
        await here.received("1", "2")
    finally:
        here.task.cancel()
        await asyncio.gather(here.task, return_exceptions=True)


async def test_a_subscription_that_is_not_acknowledged_ends_it(login: Login) -> None:
    login.acknowledges = {"/orders"}
    here = Following(login, traits=LOGIN_TRAITS)
    await eventually(lambda: ("/fills", "subscribe fills") in login.said, "asked for")
    await here.clock.advance(READY_WITHIN_S)
    assert await here.ended() == "toy: fills: not subscribed after 10 s"
    assert here.began == 0
    await login.has_closed(0, 1)


async def test_a_refused_login_ends_it(login: Login) -> None:
    login.greeting = "refused"
    here = Following(login, traits=LOGIN_TRAITS)
    assert "the key is not known" in await here.ended()


async def test_one_of_two_connections_is_replaced_and_the_other_stays(login: Login) -> None:
    async with following_login(login) as here:
        (orders,), (fills,) = login.at("/orders"), login.at("/fills")
        with capture_logs() as logs:
            await login.send(SHUTDOWN, to=orders)
            await eventually(lambda: len(login.at("/orders")) == 2, "another connection")
            await eventually(lambda: login.said.count(("/orders", "subscribe orders")) == 2, "subscribed")
            new = max(login.at("/orders"))
            await login.send("[all]", "2", to=new)
            await login.send("1", "2", to=orders)
            await login.send("a", to=fills)
            await eventually(lambda: {"1", "2", "a"} <= set(here.names), "received")
            await here.clock.advance_until(lambda: login.closed == [orders], "the old one is closed")
            await login.send("3", to=new)
            await eventually(lambda: here.names[-1] == "3", "received")
        assert [name for name in here.names if name != "a"] == [SHUTDOWN, "1", "2", "[all]", "3"]
        assert login.checks == ["checked"], "before another connection is made"
        assert login.at("/fills") == [fills]
        assert (here.unproven, here.began) == (0, 1)
        (rotated,) = (line for line in logs if line["event"] == "rotated")
        assert (rotated["stream"], rotated["proven"], rotated["reason"]) == ("orders", True, SHUTDOWN_REASON)


async def test_two_connections_may_put_the_same_events_into_other_messages(login: Login) -> None:
    async with following_login(login) as here:
        (orders,) = login.at("/orders")
        await login.send(SHUTDOWN, to=orders)
        await eventually(lambda: login.said.count(("/orders", "subscribe orders")) == 2, "subscribed")
        new = max(login.at("/orders"))
        await login.send("1,2,3", "4", to=orders)
        await login.send("1", "2,3,4", "5,[rows],6", to=new)
        await eventually(lambda: here.names[-1] == "4", "received")
        await here.clock.advance_until(lambda: login.closed == [orders], "the old one is closed")
        await login.send("7,8", to=new)
        await eventually(lambda: here.names[-1] == "8", "received")
        assert here.names == [SHUTDOWN, "1", "2", "3", "4", "5", "[rows]", "6", "7", "8"]
        assert (here.unproven, here.task.done()) == (0, False)


async def test_a_second_login_that_fails_for_a_while_is_tried_again(login: Login) -> None:
    async with following_login(login) as here:
        (orders,) = login.at("/orders")
        login.greeting = "later"
        await login.send(SHUTDOWN, to=orders)
        await here.clock.advance_until(lambda: len(login.connections) >= 4, "tried again")
        login.greeting = "welcome"
        await here.clock.advance_until(lambda: orders in login.closed, "replaced", step_s=0.5)
        assert not here.task.done()


async def test_a_second_login_that_is_refused_ends_it(login: Login) -> None:
    async with following_login(login) as here:
        login.greeting = "refused"
        await login.send(SHUTDOWN, to=login.at("/orders")[0])
        assert "the key is not known" in await here.ended()


async def test_the_loss_of_one_connection_is_the_end_of_all(login: Login) -> None:
    async with following_login(login) as here:
        await login.connections[login.at("/fills")[0]].close()
        assert "fills: connection closed" in await here.ended()
        await login.has_closed(0, 1)


async def test_a_quiet_connection_is_pinged_and_lives_while_it_answers(login: Login) -> None:
    async with following_login(login) as here:
        await here.clock.advance(14)
        await login.send("1", to=login.at("/orders")[0])
        await here.received("1")
        await here.clock.advance(2)
        await eventually(lambda: ("/fills", "ping") in login.said, "pinged after 15 s without a message")
        assert ("/orders", "ping") not in login.said, "it has just sent one"
        for _ in range(20):
            await here.clock.advance(5)
            await asyncio.sleep(0.02)
        pings = [path for path, said in login.said if said == "ping"]
        assert 6 <= pings.count("/fills") <= 8, "every 15 s"
        assert 6 <= pings.count("/orders") <= 8
        assert not here.task.done()


async def test_silence_of_one_connection_is_the_end_of_all(login: Login) -> None:
    async with following_login(login) as here:
        login.pongs = False
        (orders,) = login.at("/orders")
        for _ in range(7):
            await login.send("(alive)", to=orders)
            await asyncio.sleep(0.02)
            await here.clock.advance(5)
        assert not here.task.done()
        assert login.said.count(("/fills", "ping")) == 2
        await login.send("(alive)", to=orders)
        await here.clock.advance(5)
        assert await here.ended() == "toy: fills: neither a frame nor a ping came for 40 s"
