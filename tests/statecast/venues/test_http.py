"""The HTTP client against real servers over loopback: answers, silence, cancellation, and what reaches a log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest
from aiohttp import web

from statecast.clock import SystemClock
from statecast.errors import Rejected, VenueUnreachable
from statecast.venues.http import MAX_REASON_LENGTH, Answer, HttpClient, all_of, repeated, scrubbed

SERVER_TIME_MS = 1_793_000_050_000


class Clock(SystemClock):
    """Notes how long it would have slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


class Server:
    """Answers what a test wants it to; keeps what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answer: Callable[[web.Request], web.Response] = lambda _: web.json_response({"well": True})
        self.silent = False

    async def handle(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        self.bodies.append(await request.read())
        if self.silent:
            await asyncio.Event().wait()
        return self.answer(request)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = site.name
    yield server
    await runner.cleanup()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[HttpClient]:
    async with aclosing(HttpClient("binance", server.url)) as client:
        yield client


async def test_an_answer_has_status_headers_and_json(client: HttpClient, server: Server) -> None:
    server.answer = lambda _: web.json_response({"code": 7}, status=418, headers={"Retry-After": "3"})
    answer = await client.send("GET /x", "GET", server.url + "/x")
    assert (answer.status, answer.is_success, answer.document, answer.is_json) == (418, False, {"code": 7}, True)
    assert answer.headers["retry-after"] == "3"


@pytest.mark.parametrize("body", ["<html>", "", "{"])
async def test_a_body_that_is_no_json_is_said_to_be_none(client: HttpClient, server: Server, body: str) -> None:
    server.answer = lambda _: web.Response(text=body)
    answer = await client.send("GET /x", "GET", server.url + "/x")
    assert (answer.is_success, answer.document, answer.is_json) == (True, None, False)


async def test_query_headers_and_body_are_sent_as_they_are(client: HttpClient, server: Server) -> None:
    query = "symbol=%E5%B8%81USDT&empty=&plus=a%2Bb"
    await client.send("POST /x", "POST", server.url + "/x", query, headers={"X-Key": "k"}, body=b'{"type":"meta"}')
    (request,) = server.requests
    assert request.rel_url.raw_query_string == query
    assert (request.method, request.headers["X-Key"], server.bodies) == ("POST", "k", [b'{"type":"meta"}'])


async def test_an_answer_that_never_comes(server: Server) -> None:
    server.silent = True
    async with aclosing(HttpClient("binance", server.url, timeout_s=0.05)) as client:
        with pytest.raises(VenueUnreachable) as error:
            await client.send("GET /x", "GET", server.url + "/x", "signature=secret")
    assert str(error.value) == "binance: GET /x: no answer within 0.05 s"


async def test_a_call_that_is_cancelled_ends_at_once_though_no_answer_comes(client: HttpClient, server: Server) -> None:
    server.silent = True
    call = asyncio.create_task(client.send("GET /x", "GET", server.url + "/x"))
    async with asyncio.timeout(5):
        while not server.requests:
            await asyncio.sleep(0.01)
        call.cancel()
        await asyncio.wait((call,))
    assert call.cancelled()


async def test_nobody_listens() -> None:
    async with aclosing(HttpClient("okx", "http://127.0.0.1:1")) as client:
        with pytest.raises(VenueUnreachable) as error:
            await client.send("GET /x", "GET", "http://127.0.0.1:1/x", "signature=secret")
    assert str(error.value) == "okx: GET /x: no answer (ConnectError)"


async def test_no_log_line_has_a_query(client: HttpClient, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await client.send("GET /seen", "GET", server.url + "/seen", "signature=secret", headers={"X-Key": "the-key"})
    assert "/seen" in caplog.text, "httpx does log, so that this test can fail"
    assert "secret" not in caplog.text
    assert "the-key" not in caplog.text


@pytest.mark.parametrize(
    ("header", "expected"), [("Sun, 25 Oct 2026 09:34:10 GMT", 1_792_920_850_000), ("soon", 5), ("", 5)]
)
def test_the_date_of_an_answer(header: str, expected: int) -> None:
    assert Answer(200, {"date": header}, None, False).date_ms(5) == expected


def test_what_a_server_repeats_is_scrubbed_short_and_on_one_line() -> None:
    shown = scrubbed("key=a+b, once more a%2Bb\n" + "x" * 1000, ["a+b", ""])
    assert shown.startswith("key=***, once more ***x")
    assert len(shown) < MAX_REASON_LENGTH


def failing(times: int, error: Exception) -> tuple[list[int], Callable[[], Awaitable[str]]]:
    calls: list[int] = []

    async def ask() -> str:
        calls.append(len(calls))
        if len(calls) <= times:
            raise error
        return "well"

    return calls, ask


@pytest.mark.parametrize(("times", "slept"), [(0, []), (1, [0.25]), (2, [0.25, 0.5])])
async def test_a_venue_that_is_unreachable_is_asked_again(times: int, slept: list[float]) -> None:
    clock = Clock()
    _, ask = failing(times, VenueUnreachable("binance", "GET /x", "down"))
    assert await repeated(clock, ask) == "well"
    assert clock.slept == slept


@pytest.mark.parametrize(
    ("error", "count"),
    [(VenueUnreachable("binance", "GET /x", "down"), 3), (Rejected("binance", "GET /x", "wrong", -1), 1)],
)
async def test_trouble_that_lasts_and_refusals_are_the_callers(error: Exception, count: int) -> None:
    calls, ask = failing(9, error)
    with pytest.raises(type(error)):
        await repeated(Clock(), ask)
    assert len(calls) == count


async def test_the_first_error_ends_the_calls_next_to_it() -> None:
    ended: list[str] = []

    async def slow() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("slow")
        return "never"

    async def wrong() -> str:
        await asyncio.sleep(0)
        raise Rejected("binance", "GET /x", "wrong", -1)

    async def quick() -> str:
        return "well"

    assert await all_of([quick(), quick()]) == ["well", "well"]
    with pytest.raises(Rejected):
        await all_of([slow(), wrong()])
    assert ended == ["slow"]


class HalfClosing:
    """A venue that answers the time, and with that ends its side of the connection: the next call finds it expired.
    Counts connections that the other side has left open."""

    def __init__(self) -> None:
        self.open = 0
        self.closed = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            body = b'{"serverTime":%d}' % SERVER_TIME_MS
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
            writer.write(body)
            writer.write_eof()
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()
            async with self.closed:
                self.closed.notify_all()


async def test_calls_that_are_cancelled_leave_no_connection_behind() -> None:
    half_closing = HalfClosing()
    async with await asyncio.start_server(half_closing.serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = HttpClient("binance", url)

        async def ask() -> Answer:
            return await client.send("GET /x", "GET", url + "/x")

        await ask()
        # Whenever it happens: while expired connections are closed, one is opened, the answer is waited for or read.
        for iterations in range(40):
            for again in range(3):
                calls = [asyncio.create_task(ask()) for _ in range(2)]
                await asyncio.wait(calls)
                assert all(call.result().is_success for call in calls), "both were answered"
                calls = [asyncio.create_task(ask()) for _ in range(2)]
                for _ in range(iterations):
                    await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                for _ in range(again):
                    await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                await asyncio.wait(calls)
        await ask()  # which closes all that have expired
        async with asyncio.timeout(10), half_closing.closed:
            await half_closing.closed.wait_for(lambda: half_closing.open <= 1)
        await client.aclose()
