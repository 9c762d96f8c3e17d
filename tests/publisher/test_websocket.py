"""A venue that does not let us in, or ends the connection: always VenueUnreachable, never a word of a URL's secret."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
from support.clocks import ManualClock, eventually
from websockets.asyncio.server import ServerConnection, serve
from websockets.frames import Frame, Opcode

from publisher.websocket import BACKOFF_S, MAX_FRAME_BYTES, OPEN_TIMEOUT_S, Connector
from statecast.clock import Clock, SystemClock
from statecast.errors import VenueUnreachable
from statecast.secret import Secret

LISTEN_KEY = "pqia91ma19a5s61cv6a81va65sd"

ANSWERS = {
    "closed at once": b"",
    "not HTTP": b"\x00\xff\xfe nonsense\r\n\r\n",
    "no status": b"HTTP/1.1 abc\r\n\r\n",
    "a page": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "forbidden": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
    "unrecoverable": b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
    "a bad length": b"HTTP/1.1 403 Forbidden\r\nContent-Length: x\r\n\r\nhello",
    "a header without end": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "a wrong accept": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: nope\r\n\r\n",
    "a redirect to nowhere": b"HTTP/1.1 302 Found\r\nLocation: http://[bad\r\nContent-Length: 0\r\n\r\n",
    "a redirect to itself": f"HTTP/1.1 302 Found\r\nLocation: /private/ws?listenKey={LISTEN_KEY}\r\n"
    "Content-Length: 0\r\n\r\n".encode(),
    "a redirect to no websocket": b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
}


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[Secret]:
    """A server that gives every handshake this answer (None: none at all); the URL of a private stream on it."""
    done = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await done.wait()
        else:
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield Secret(f"ws://{host}:{port}/private/ws?listenKey={LISTEN_KEY}")
    finally:
        done.set()
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def venue(talk: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[Secret]:
    async with serve(talk, "127.0.0.1", 0) as server:
        host, port = next(iter(server.sockets)).getsockname()
        yield Secret(f"ws://{host}:{port}/private/ws?listenKey={LISTEN_KEY}")


def connector(
    clock: Clock | None = None, *, connections: int | None = None, open_timeout_s: float = OPEN_TIMEOUT_S
) -> Connector:
    return Connector(
        clock or SystemClock(),
        Random(1),
        connects=150,
        connects_within_s=300.0,
        connections=connections,
        open_timeout_s=open_timeout_s,
    )


async def expect_unreachable(url: Secret, read: bool = False, by: Connector | None = None) -> str:
    with pytest.raises(VenueUnreachable) as raised:  # noqa: PT012 - opening or reading raises, both are meant
        async with (by or connector()).open(url, "binance", "user stream") as stream:
            assert read, "opened"
            async for _ in stream.frames():
                pass
    assert raised.value.call == "user stream"
    shown = str(raised.value) if read else "".join(traceback.format_exception(raised.value))
    assert LISTEN_KEY not in shown
    return str(raised.value)


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_handshake_that_fails_is_the_venue_out_of_reach(answer: str) -> None:
    async with answering(ANSWERS[answer]) as url:
        text = await expect_unreachable(url)
    assert text.startswith("binance: user stream: cannot connect (")


async def test_a_status_is_given_by_its_number() -> None:
    async with answering(ANSWERS["forbidden"]) as url:
        assert "(HTTP 403)" in await expect_unreachable(url)


async def test_a_handshake_that_is_never_answered_ends_with_the_time_out() -> None:
    async with answering(None) as url:
        assert "(TimeoutError)" in await expect_unreachable(url, by=connector(open_timeout_s=0.1))


async def test_nobody_there_is_connection_refused() -> None:
    async with answering(b"") as url:
        pass
    assert "(connection refused)" in await expect_unreachable(url)


@pytest.mark.parametrize("host", ["a" * 70 + ".invalid", "x..y"])
async def test_a_host_that_cannot_exist_is_the_venue_out_of_reach(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "WS_PROXY", "WSS_PROXY", "SOCKS_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    await expect_unreachable(Secret(f"ws://{host}/private/ws?listenKey={LISTEN_KEY}"))


async def test_frames_come_as_they_are_until_the_venue_closes() -> None:
    async def talk(connection: ServerConnection) -> None:
        await connection.send("text")
        await connection.send(b"bytes")
        await connection.close(4001, f"the key {LISTEN_KEY} is over")

    taken: list[str | bytes] = []
    async with venue(talk) as url, connector().open(url, "binance", "user stream") as stream:
        with pytest.raises(VenueUnreachable) as raised:  # noqa: PT012 - opening or reading raises, both are meant
            async for frame in stream.frames():
                taken.append(frame)  # noqa: PERF401 - the list must be there after the error
        with pytest.raises(VenueUnreachable, match="connection closed"):
            await stream.send("{}")
    assert taken == ["text", b"bytes"]
    assert str(raised.value) == "binance: user stream: connection closed (code 4001)"


async def test_a_connection_that_breaks_has_no_code() -> None:
    async def talk(connection: ServerConnection) -> None:
        connection.transport.abort()

    async with venue(talk) as url:
        assert "(code none)" in await expect_unreachable(url, read=True)


async def test_text_that_is_no_utf_8_ends_the_connection_and_nothing_else() -> None:
    async def talk(connection: ServerConnection) -> None:
        connection.transport.write(Frame(Opcode.TEXT, b"\xff\xfe").serialize(mask=False))
        await connection.wait_closed()

    async with venue(talk) as url:
        await expect_unreachable(url, read=True)


async def test_a_frame_beyond_the_limit_ends_the_connection_and_nothing_else() -> None:
    async def talk(connection: ServerConnection) -> None:
        await connection.send("x" * (MAX_FRAME_BYTES + 1))
        await connection.wait_closed()

    async with venue(talk) as url:
        await expect_unreachable(url, read=True)


async def test_attempts_stay_within_the_limit_however_many_ask() -> None:
    """Attempts count, also those that fail; several accounts and the market stream share the limit."""
    clock = ManualClock()
    limited = connector(clock)
    attempts: list[float] = []

    async def retry() -> None:
        for _ in range(200):
            with pytest.raises(VenueUnreachable):
                async with limited.open(Secret("ws://127.0.0.1:1/ws"), "binance", "user stream"):
                    pass
            attempts.append(clock.monotonic())

    tasks = [asyncio.create_task(retry()) for _ in range(5)]
    began = clock.monotonic()
    while not all(task.done() for task in tasks):
        # Time goes on only when nobody is connecting, so that an attempt's time is the one at which it failed.
        idle = lambda: clock.sleeping + sum(task.done() for task in tasks) == len(tasks)  # noqa: E731
        await eventually(idle, "all have to wait")
        await clock.advance(10.0)
    await asyncio.gather(*tasks)
    assert len(attempts) == 1000
    for at in attempts:
        assert sum(at <= other < at + 300 for other in attempts) <= 150
    assert clock.monotonic() - began < 7 * 300, "and no fewer"


def test_pauses_grow_vary_and_have_an_end() -> None:
    made = connector()
    assert made.pause_s(0) == 0
    pauses = [made.pause_s(failures) for failures in range(1, 40)]
    assert all(about * 0.75 <= pause <= about * 1.25 for about, pause in zip(BACKOFF_S[1:], pauses, strict=False))
    assert max(pauses) <= BACKOFF_S[-1] * 1.25
    assert len(set(pauses)) == len(pauses)


async def test_frames_and_pings_of_the_venue_are_signs_of_life() -> None:
    clock = ManualClock()
    connections: list[ServerConnection] = []

    async def talk(connection: ServerConnection) -> None:
        connections.append(connection)
        await connection.wait_closed()

    async with venue(talk) as url, connector(clock).open(url, "binance", "user stream") as stream:
        await eventually(lambda: bool(connections), "accepted")
        await clock.advance(10)
        await (await connections[0].ping())
        assert stream.sign_mono_s == clock.monotonic()
        await clock.advance(10)
        await connections[0].send("a frame")
        await eventually(lambda: stream.sign_mono_s == clock.monotonic(), "a sign, before the frame is taken")
        await clock.advance(10)
        assert [frame async for frame in first(stream.frames())] == ["a frame"]
        assert stream.sign_mono_s == clock.monotonic() - 10


async def first(frames: AsyncIterator[str | bytes]) -> AsyncIterator[str | bytes]:
    async for frame in frames:
        yield frame
        return


async def test_answers_to_our_own_pings_are_no_sign_of_life() -> None:
    clock = ManualClock()

    async def talk(connection: ServerConnection) -> None:
        await connection.wait_closed()

    async with venue(talk) as url, connector(clock).open(url, "binance", "user stream") as stream:
        opened = stream.sign_mono_s
        await clock.advance(10)
        await (await stream._connection.ping())
        assert stream.sign_mono_s == opened


async def test_a_connection_beyond_what_the_venue_allows_at_a_time_is_refused_until_another_is_closed() -> None:
    async def talk(connection: ServerConnection) -> None:
        asked.append(1)
        await connection.wait_closed()

    asked: list[int] = []
    by = connector(connections=2)
    async with answering(ANSWERS["forbidden"]) as forbidden:
        for _ in range(3):
            assert "HTTP 403" in await expect_unreachable(forbidden, by=by), "what cannot be made takes no place"
    async with venue(talk) as url, by.open(url, "binance", "one"):
        async with by.open(url, "binance", "two"):
            text = await expect_unreachable(url, by=by)
            assert text == "binance: user stream: none is left of the 2 connections that it allows at a time"
        async with by.open(url, "binance", "three"):
            await eventually(lambda: len(asked) == 3, "connected")
    assert len(asked) == 3
