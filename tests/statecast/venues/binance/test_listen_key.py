"""The listen key's upkeep, by a clock that jumps."""

from __future__ import annotations

import asyncio

import pytest

from statecast.errors import AuthFailed, FrameError, RateLimited, VenueError, VenueUnreachable
from statecast.secret import Secret
from statecast.venues.adapter import StreamEnded
from statecast.venues.binance.listen_key import KEEPALIVE_S, LIFE_S, RETRY_S, ListenKeyStream

DOWN = VenueUnreachable("binance", "POST /fapi/v1/listenKey", "HTTP 503")


class Story:
    """A venue that gives out listen keys, and one stream that hangs on the first."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self.until_s = 0.0
        self.key = "key-1"
        self.posts: list[float] = []
        self.error: Exception | None = None
        self.retried: list[VenueError] = []
        self.streams = ListenKeyStream(
            Secret("key-1"), self.create, lambda key: f"wss://x/ws?listenKey={key.reveal()}", self, self.retried.append
        )

    def now_ms(self) -> int:
        raise AssertionError("durations are the monotonic clock's")

    def monotonic(self) -> float:
        return 100.0 + self.elapsed_s

    async def sleep(self, seconds: float) -> None:
        self.elapsed_s += seconds
        if self.elapsed_s > self.until_s:
            await asyncio.Event().wait()

    async def create(self) -> Secret:
        self.posts.append(self.elapsed_s)
        if self.error is not None:
            raise self.error
        return Secret(self.key)

    async def run(self, until_s: float) -> str:
        """Keep alive until then; how it ended before, else nothing."""
        self.until_s = until_s
        task = asyncio.create_task(self.streams.keep_alive())
        while not task.done() and self.elapsed_s <= until_s:
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return ""
        except (StreamEnded, VenueError, FrameError) as error:
            return str(error)
        raise AssertionError("it never returns")


async def test_a_living_key_is_prolonged_at_once_and_every_half_hour() -> None:
    story = Story()
    assert await story.run(2 * KEEPALIVE_S) == ""
    assert story.posts == [0.0, KEEPALIVE_S, 2 * KEEPALIVE_S]
    assert not story.retried


async def test_a_venue_that_does_not_answer_is_asked_each_minute_until_the_key_must_be_dead() -> None:
    story = Story()
    story.error = DOWN
    assert await story.run(2 * LIFE_S) == "the listen key could not be kept alive"
    assert story.posts == [number * RETRY_S for number in range(62)]
    assert story.retried == [DOWN] * 62


async def test_a_key_that_was_prolonged_again_lives_on() -> None:
    story = Story()
    story.error = DOWN
    assert await story.run(LIFE_S / 2) == ""
    story.error = None
    assert await story.run(3 * LIFE_S) == ""


@pytest.mark.parametrize(
    "error", [AuthFailed("binance", "POST /x", "no", -2015), FrameError("POST /x", "listenKey", "is not a text")]
)
async def test_a_refusal_and_an_answer_without_sense_end_it_at_once(error: Exception) -> None:
    story = Story()
    story.error = error
    assert await story.run(LIFE_S) == str(error)
    with pytest.raises(type(error)):
        await story.streams.check_alive()
    assert not story.retried


async def test_another_key_means_that_this_stream_is_silent() -> None:
    story = Story()
    await story.streams.check_alive()
    story.key = "key-2"
    assert await story.run(LIFE_S) == "the venue has given out another listen key"
    with pytest.raises(StreamEnded, match="another listen key"):
        await story.streams.check_alive()


async def test_before_a_change_of_connection_no_answer_proves_nothing() -> None:
    story = Story()
    story.error = RateLimited("binance", "POST /x", "busy", 5)
    await story.streams.check_alive()
    assert story.retried == [story.error]


def test_the_connection_does_not_show_its_key() -> None:
    (spec,) = Story().streams.specs
    assert spec.url.reveal() == "wss://x/ws?listenKey=key-1"
    assert spec.name == "user stream"
    assert "key-1" not in repr(spec)
