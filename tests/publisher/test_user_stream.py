"""The user stream over changing connections, to a real websocket server that the test speaks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosedOK

from publisher import user_stream
from publisher.logs import account_log
from publisher.user_stream import UserStream, first_error
from publisher.websocket import Connector
from statecast.clock import SystemClock
from statecast.errors import AuthFailed, RateLimited, StatecastError, VenueError, VenueUnreachable
from statecast.secret import Secret
from statecast.venues.adapter import StreamEnded
from statecast.venues.binance.rest import BinanceRest
from statecast.venues.binance.wire import BinanceUrls

NOW_MS = 1_793_000_000_000
SHUTDOWN = '{"e":"serverShutdown"}'


async def eventually(condition: Callable[[], bool], what: str) -> None:
    try:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited in vain for: {what}") from None


class Clock(SystemClock):
    """The machine's clock, and as far ahead of it as a test says."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s


class Venue:
    """Gives out listen keys and tells frames, to all connections or to one of them, by their numbers from 0."""

    def __init__(self) -> None:
        self.url = ""
        self.key = "key-1"
        self.key_error: VenueError | None = None
        self.posts = 0
        self.connections: list[ServerConnection] = []
        self.closed: list[int] = []

    async def create_listen_key(self) -> Secret:
        self.posts += 1
        if self.key_error is not None:
            raise self.key_error
        return Secret(self.key)

    async def accept(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        number = len(self.connections) - 1
        await connection.wait_closed()
        self.closed.append(number)

    async def tell(self, *frames: str, to: int | None = None) -> None:
        for frame in frames:
            for number, connection in enumerate(self.connections):
                if number not in self.closed and to in (None, number):
                    await connection.send(frame)

    async def connected(self, count: int) -> None:
        await eventually(lambda: len(self.connections) >= count, f"{count} connections")


class Following:
    """A user stream at work, what it has passed on, and how it ended."""

    def __init__(self, venue: Venue, *, shared: bool = True) -> None:
        self.clock = Clock()
        self.frames: list[str] = []
        self.unproven = 0
        self.began = 0
        urls = BinanceUrls.choose(False, "http://127.0.0.1:1", venue.url, None, None)
        rest = SimpleNamespace(
            create_listen_key=venue.create_listen_key,
            clock=SimpleNamespace(ensure=self._nothing, now_ms=lambda: NOW_MS),
        )
        self.stream = UserStream(
            cast("BinanceRest", rest),
            urls,
            Connector(self.clock, Random(1)),
            self.clock,
            account_log("binance:main"),
            shared=shared,
            unproven=self._count_unproven,
        )
        self.task = asyncio.create_task(self.stream.run(self._take, self._connected))

    async def _nothing(self) -> None:
        return None

    def _count_unproven(self) -> None:
        self.unproven += 1

    def _connected(self) -> None:
        self.began += 1

    def _take(self, raw: str | bytes) -> bool:
        assert isinstance(raw, str)
        self.frames.append(raw)
        return raw != SHUTDOWN

    async def told(self, *frames: str) -> None:
        await eventually(lambda: len(self.frames) >= len(frames), f"{frames}")
        assert self.frames == list(frames)

    async def ended(self) -> str:
        with pytest.raises((StreamEnded, StatecastError)) as error:
            await asyncio.wait_for(self.task, 20)
        return str(error.value)


@pytest.fixture
async def venue() -> AsyncIterator[Venue]:
    venue = Venue()
    async with serve(venue.accept, "127.0.0.1", 0, ping_interval=None) as server:
        host, port = next(iter(server.sockets)).getsockname()
        venue.url = f"ws://{host}:{port}"
        yield venue


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("OVERLAP_S", 0.4), ("LAG_S", 0.8), ("AFTERWARDS_S", 0.2), ("WATCH_S", 0.05)):
        monkeypatch.setattr(user_stream, name, seconds)


@asynccontextmanager
async def following(venue: Venue, *, shared: bool = True) -> AsyncIterator[Following]:
    here = Following(venue, shared=shared)
    try:
        await venue.connected(1)
        await eventually(lambda: here.began == 1, "connected")
        yield here
    finally:
        here.task.cancel()
        with suppress(asyncio.CancelledError, StreamEnded, StatecastError):
            await here.task


async def test_frames_are_passed_on_from_the_first_connection(venue: Venue) -> None:
    async with following(venue) as here:
        assert here.stream.since_ms == NOW_MS
        await venue.tell("a", "b", "a")
        await here.told("a", "b", "a")
        await venue.connections[0].close()
        assert "connection closed" in await here.ended()
        assert here.stream.since_ms == 0


async def test_a_frame_that_both_have_told_proves_the_new_connection(venue: Venue) -> None:
    async with following(venue) as here:
        here.stream.rotate("a test")
        await venue.connected(2)
        await venue.tell("1", "2", to=0)
        await venue.tell("1", "2", "3", to=1)
        await here.told("1", "2", "3")
        with suppress(ConnectionClosedOK):  # It may be closed by now, and need not have told it.
            await venue.tell("3", to=0)
        await eventually(lambda: venue.closed == [0], "the old connection is closed")
        await venue.tell("4")
        await here.told("1", "2", "3", "4")
        assert (here.unproven, here.began) == (0, 1)
        assert here.stream.since_ms


async def test_what_a_slow_second_connection_repeats_is_not_told_again(venue: Venue) -> None:
    """Changes without a time of their own, such as leverage, would go back by it."""
    async with following(venue) as here:
        await venue.tell("leverage 5", to=0)
        await here.told("leverage 5")
        here.stream.rotate("a test")
        await venue.connected(2)
        await venue.tell("leverage 7", "leverage 9", to=0)
        await here.told("leverage 5", "leverage 7", "leverage 9")
        # A gateway that is behind tells the new connection what the old one told before it was opened.
        await venue.tell("leverage 5", "leverage 7", to=1)
        await eventually(lambda: venue.closed == [0], "the old connection is closed")
        await venue.tell("leverage 9", "leverage 11", to=1)
        await here.told("leverage 5", "leverage 7", "leverage 9", "leverage 11")


async def test_on_a_quiet_account_rest_is_asked_after_the_change(venue: Venue) -> None:
    async with following(venue) as here:
        here.stream.rotate("a test")
        await eventually(lambda: here.unproven == 1, "unproven")
        await eventually(lambda: venue.closed == [0], "the old connection is closed")
        await venue.tell("1")
        await here.told("1")


async def test_words_about_the_connection_prove_nothing(venue: Venue) -> None:
    async with following(venue) as here:
        here.stream.rotate("a test")
        await venue.connected(2)
        await venue.tell(SHUTDOWN)
        await eventually(lambda: here.unproven == 1, "unproven")
        assert here.frames == [SHUTDOWN]


async def test_a_second_connection_that_is_mute_is_given_up_for_another(venue: Venue) -> None:
    async with following(venue) as here:
        here.stream.rotate("a test")
        await venue.connected(2)
        await venue.tell("1", to=0)
        await venue.connected(3)
        await eventually(lambda: venue.closed == [1], "the mute one is closed")
        await venue.tell("2")
        await eventually(lambda: 0 in venue.closed, "the old one is closed, and not before")
        await venue.tell("3")
        await here.told("1", "2", "3")


async def test_a_second_connection_that_is_lost_is_replaced_beside_the_first(venue: Venue) -> None:
    async with following(venue) as here:
        here.stream.rotate("a test")
        await venue.connected(2)
        await venue.connections[1].close()
        await venue.tell("1", to=0)
        await venue.connected(3)
        await venue.tell("2")
        await eventually(lambda: 0 in venue.closed, "the old connection is closed")
        await here.told("1", "2")
        assert not here.task.done()


async def test_the_old_connection_lost_before_the_new_one_is_proven_is_a_gap(venue: Venue) -> None:
    async with following(venue) as here:
        here.stream.rotate("a test")
        await venue.connected(2)
        await venue.connections[0].close()
        assert "connection closed" in await here.ended()
        await eventually(lambda: sorted(venue.closed) == [0, 1], "nothing stays open")


async def test_a_second_connection_that_takes_the_frames_from_the_first_is_a_gap_and_says_what_to_set(
    venue: Venue,
) -> None:
    async with following(venue) as here:
        here.stream.rotate("a test")
        await venue.connected(2)
        await venue.tell("1", to=1)
        assert "STATECAST_SHARED_STREAM=false" in await here.ended()
        assert here.frames == ["1"]


async def test_where_connections_cannot_share_a_key_a_change_is_a_gap(venue: Venue) -> None:
    async with following(venue, shared=False) as here:
        here.stream.rotate("the venue's server is shutting down")
        assert await here.ended() == "the venue's server is shutting down"
        assert len(venue.connections) == 1


async def test_a_connection_is_replaced_long_before_the_venue_cuts_it(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_stream, "MAX_SILENCE_S", 2 * user_stream.LIFE_S)
    async with following(venue) as here:
        here.clock.ahead_s = user_stream.LIFE_S * 0.6
        await asyncio.sleep(0.3)
        assert len(venue.connections) == 1
        here.clock.ahead_s = user_stream.LIFE_S * user_stream.ROTATE_BY
        await venue.connected(2)
        assert not here.task.done()


async def test_another_key_is_a_gap(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_stream, "KEEPALIVE_S", 0.05)
    async with following(venue) as here:
        await eventually(lambda: venue.posts > 3, "kept alive")
        venue.key = "key-2"
        assert await here.ended() == "the venue has given out another listen key"


async def test_another_key_is_seen_before_a_second_connection_is_opened(venue: Venue) -> None:
    async with following(venue) as here:
        venue.key = "key-2"
        here.stream.rotate("a test")
        assert await here.ended() == "the venue has given out another listen key"
        assert len(venue.connections) == 1


async def test_a_keepalive_that_fails_is_tried_again_until_the_key_must_be_dead(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KEEPALIVE_S", "KEEPALIVE_RETRY_S"):
        monkeypatch.setattr(user_stream, name, 0.05)
    async with following(venue) as here:
        venue.key_error = RateLimited("binance", "POST /fapi/v1/listenKey", "HTTP 429", 0)
        posts = venue.posts
        await eventually(lambda: venue.posts > posts + 3, "tried again")
        assert not here.task.done()
        here.clock.ahead_s += user_stream.KEY_LIFE_S
        assert await here.ended() == "the listen key could not be kept alive"


async def test_a_refused_key_ends_it_at_once(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_stream, "KEEPALIVE_S", 0.05)
    async with following(venue) as here:
        venue.key_error = AuthFailed("binance", "POST /fapi/v1/listenKey", "HTTP 401", -2015)
        assert "HTTP 401" in await here.ended()


@pytest.mark.parametrize("sign", ["none", "ping", "frame"])
async def test_a_connection_without_a_sign_of_life_is_dead(venue: Venue, sign: str) -> None:
    async with following(venue) as here:

        async def signal() -> None:
            if sign == "ping":
                await (await venue.connections[0].ping())
            elif sign == "frame":
                await venue.tell("1")

        for _ in range(3):
            here.clock.ahead_s += user_stream.MAX_SILENCE_S * 0.6
            await signal()
            await asyncio.sleep(0.3)
        if sign == "none":
            assert "neither a frame nor a ping" in await here.ended()
        else:
            assert not here.task.done()


async def test_what_is_remembered_is_bounded(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_stream, "RECENT_FRAMES", 10)
    async with following(venue) as here:
        here.stream._room = 10
        await venue.tell(*map(str, range(200)))
        await here.told(*map(str, range(200)))
        assert len(here.stream._told) == 10


def test_of_several_errors_a_refusal_counts_first() -> None:
    refused = AuthFailed("binance", "a call", "HTTP 401", -2015)
    lost: Callable[[], VenueError] = lambda: VenueUnreachable("binance", "a call", "lost")  # noqa: E731
    group = BaseExceptionGroup("", [lost(), BaseExceptionGroup("", [lost(), refused])])
    assert first_error(group) is refused


async def test_a_new_connection_that_is_ahead_of_the_old_one_changes_no_order(venue: Venue) -> None:
    """An order placed right before the subscription, and filled right after it: only the old one tells both."""
    async with following(venue) as here:
        here.stream.rotate("a test")
        await venue.connected(2)
        await venue.tell("leverage 9", "order 1 filled", to=1)
        await asyncio.sleep(0.2)
        await venue.tell("leverage 5", "order 1 new", "leverage 9", "order 1 filled", to=0)
        await eventually(lambda: venue.closed == [0], "the old connection is closed")
        await venue.tell("2")
        await here.told("leverage 5", "order 1 new", "leverage 9", "order 1 filled", "2")
        assert here.unproven == 0


async def test_what_the_old_connection_has_not_told_when_it_is_closed_or_lost_is_told_by_the_new_one(
    venue: Venue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(user_stream, "AFTERWARDS_S", 60)
    async with following(venue) as here:
        here.stream.rotate("a test")
        await venue.connected(2)
        await venue.tell("1")
        await eventually(lambda: here.stream._current.frames == 1 and here.stream._proven, "proven")
        await asyncio.sleep(0.3)
        await venue.tell("2", to=1)
        await venue.connections[0].close()
        await here.told("1", "2")
        await venue.tell("3")
        await here.told("1", "2", "3")


async def test_a_word_about_the_new_connection_alone_is_no_gap(venue: Venue) -> None:
    async with following(venue) as here:
        here.stream.rotate("a test")
        await venue.connected(2)
        await venue.tell(SHUTDOWN, to=1)
        await eventually(lambda: here.unproven == 1, "replaced")
        await here.told(SHUTDOWN)
        assert not here.task.done()


async def test_a_key_that_died_while_the_connection_was_made_is_noticed_at_once(venue: Venue) -> None:
    """Its end was told to those who were connected."""

    async def another_each_time() -> Secret:
        venue.posts += 1
        return Secret(f"key-{venue.posts}")

    venue.create_listen_key = another_each_time  # type: ignore[method-assign]
    here = Following(venue)
    assert await here.ended() == "the venue has given out another listen key"
    assert venue.posts == 2
