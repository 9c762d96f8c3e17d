"""Mark prices for the symbols of open positions: what is subscribed to, and what silence, cuts and nonsense do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from http import HTTPStatus
from random import Random
from types import SimpleNamespace
from typing import cast

import orjson
from structlog.testing import capture_logs
from support.clocks import ManualClock, eventually
from support.world import World, new_server, until, world
from websockets.asyncio.server import Request, Response, ServerConnection, serve

from publisher.connection import Route
from publisher.logs import account_log
from publisher.market import KEPT_S, STEADY_S, MarkPrices
from publisher.websocket import JITTER, Connector
from statecast.clock import Clock, SystemClock
from statecast.simulator.orders import OrderRequest, OrderType, Side
from statecast.venues.adapter import StreamTraits, VenueAccount
from statecast.venues.binance.venue import BinanceVenue

TRAITS = BinanceVenue().traits.stream


def deal(here: World, side: Side, symbol: str) -> None:
    now_ms = here.now_ms()
    order = OrderRequest(symbol=symbol, side=side, type=OrderType.MARKET, qty=Decimal("0.5"))
    here.exchange.publish(here.ledger.place(order, here.exchange.server_ms(now_ms)), now_ms)


async def expect_subscriptions(here: World, *symbols: str) -> list[object]:
    """Wait until the market sockets carry the marks of these symbols and no others; the sockets."""
    wanted = sorted(f"{symbol.lower()}@markPrice@1s" for symbol in symbols)

    async def carried() -> list[str]:
        return sorted(name for one in here.exchange.streams if one.root == "market" for name in one.subscriptions)

    await until(carried, lambda names: names == wanted)
    return [one for one in here.exchange.streams if one.root == "market"]


async def test_it_follows_the_symbols_of_open_positions_on_one_socket(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        assert await expect_subscriptions(here) == []
        deal(here, Side.BUY, "BTCUSDT")
        sockets = await expect_subscriptions(here, "BTCUSDT")
        deal(here, Side.BUY, "ETHUSDT")
        assert await expect_subscriptions(here, "BTCUSDT", "ETHUSDT") == sockets
        deal(here, Side.SELL, "BTCUSDT")
        assert await expect_subscriptions(here, "ETHUSDT") == sockets
        deal(here, Side.SELL, "ETHUSDT")
        deal(here, Side.SELL, "BTCUSDT")
        assert await expect_subscriptions(here, "BTCUSDT") == sockets
        await here.agree()


async def test_a_cut_market_socket_is_replaced_and_the_account_stays_live(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        deal(here, Side.BUY, "BTCUSDT")
        before = await expect_subscriptions(here, "BTCUSDT")
        await here.agree()
        first = await here.status()
        here.exchange.fault("cut_sockets", {"kind": "market"}, here.now_ms())

        async def another() -> list[object]:
            return [one for one in here.exchange.streams if one.root == "market" and one not in before]

        await until(another, bool)
        now_ms = here.now_ms()
        moved = here.ledger.marks["BTCUSDT"] + 10
        here.exchange.publish(here.ledger.move_mark("BTCUSDT", moved, here.exchange.server_ms(now_ms)), now_ms)
        await here.agree()
        status = await here.status()
        assert status["state"] == "live"
        assert status["streamSinceMs"] == first["streamSinceMs"]


async def test_nonsense_and_prices_beyond_reckoning_do_not_end_the_service(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        deal(here, Side.BUY, "BTCUSDT")
        (socket,) = await expect_subscriptions(here, "BTCUSDT")
        absurd = {"e": "markPriceUpdate", "E": here.now_ms(), "s": "BTCUSDT", "p": "9" * 60}
        for payload in (b"{", b"[]", b'{"e":"markPriceUpdate"}', b'{"error":{"code":2}}', orjson.dumps(absurd)):
            socket.send(payload, here.now_ms())  # type: ignore[attr-defined]
        await here.state("recovering")
        await here.state("live")
        await here.agree()


async def test_mark_prices_stamped_an_hour_ahead_freeze_nothing(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        deal(here, Side.BUY, "BTCUSDT")
        (socket,) = await expect_subscriptions(here, "BTCUSDT")
        await here.agree()
        dear = {"e": "markPriceUpdate", "E": here.now_ms() + 3_600_000, "s": "BTCUSDT", "p": "99999"}
        socket.send(orjson.dumps(dear), here.now_ms())  # type: ignore[attr-defined]
        await until(here.status, lambda status: status["futureMarkPrices"] == "1")
        now_ms = here.now_ms()
        moved = here.ledger.marks["BTCUSDT"] - 10
        here.exchange.publish(here.ledger.move_mark("BTCUSDT", moved, here.exchange.server_ms(now_ms)), now_ms)
        here.exchange.publish_marks(now_ms)

        async def marked() -> str:
            return ((await here.stored()).positions or {})["BTCUSDT:BOTH"]["markPrice"]

        await until(marked, lambda price: Decimal(price) == moved)
        assert (await here.status())["state"] == "live"
        await here.agree()


@asynccontextmanager
async def following(url: str, clock: Clock, *, traits: StreamTraits = TRAITS) -> AsyncIterator[MarkPrices]:
    """The mark prices of one symbol from the venue at `url`."""
    venue = BinanceVenue()
    access = venue.access({"API_KEY": "k", "API_SECRET": "s", "REST_URL": "http://127.0.0.1:1", "WS_URL": url})
    assert access is not None
    account = venue.account(access, clock, venue.limits())
    connector = Connector(clock, Random(1), connects=150, connects_within_s=300.0)
    route = Route("binance", connector, clock, account.clock, traits.ping_after_s)
    marks = MarkPrices(account, traits, route, account_log("binance:main"))
    marks.follow(frozenset({"BTCUSDT"}))
    task = asyncio.create_task(marks.run())
    try:
        yield marks
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await account.aclose()


def price(value: str, symbol: str = "BTCUSDT") -> bytes:
    return orjson.dumps({"e": "markPriceUpdate", "E": 1793000000000, "s": symbol, "p": value})


async def test_of_several_prices_the_newest_is_taken_once_and_silence_is_nothing() -> None:
    silent = asyncio.Event()

    async def venue(connection: ServerConnection) -> None:
        for frame in (price("1"), price("2"), price("7", "ETHUSDT"), price("3")):
            await connection.send(frame)
        await (await connection.ping())
        silent.set()
        await connection.wait_closed()

    async with serve(venue, "127.0.0.1", 0) as server:
        host, port = next(iter(server.sockets)).getsockname()
        async with following(f"ws://{host}:{port}", SystemClock()) as marks, asyncio.timeout(10):
            await silent.wait()
            taken = marks.take()
            assert [(update.symbol, update.mark_price) for update in taken] == [("BTCUSDT", Decimal(3))]
            assert marks.take() == []


async def test_pauses_between_connections_grow_and_start_over_after_a_good_one() -> None:
    clock = ManualClock()
    began_s: list[float] = []
    ended_s: list[float] = []

    def admit(connection: ServerConnection, _request: Request) -> Response | None:
        began_s.append(clock.monotonic())
        if len(began_s) == 4:
            return None
        ended_s.append(clock.monotonic())
        return connection.respond(HTTPStatus.SERVICE_UNAVAILABLE, "")

    async def venue(connection: ServerConnection) -> None:
        for _ in range(round(STEADY_S / 10) + 1):
            await connection.send(price("3"))
            await (await connection.ping())
            await clock.advance(10)
        ended_s.append(clock.monotonic())
        await connection.close()

    async with serve(venue, "127.0.0.1", 0, process_request=admit) as server:
        host, port = next(iter(server.sockets)).getsockname()
        async with following(f"ws://{host}:{port}", clock):
            while len(began_s) < 6:
                # Time goes on only while nobody is connected or connecting.
                await eventually(lambda: len(ended_s) == len(began_s) and clock.sleeping > 0, "a pause")
                await clock.advance(0.05)
    pauses = [began - ended for ended, began in zip(ended_s, began_s[1:], strict=False)]
    expected = [0.5, 1.0, 2.0, 0.5, 1.0]
    assert all(abs(pause - about) <= JITTER * about + 0.06 for pause, about in zip(pauses, expected, strict=False)), (
        pauses
    )
    assert pauses[:2] != expected[:2], "they vary, so that what was cut off together does not come back together"


async def test_a_venue_that_answers_a_handshake_with_nonsense_is_asked_again() -> None:
    asked = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://[bad\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    with capture_logs() as logs:
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            clock = ManualClock()
            async with following(f"ws://{host}:{port}", clock):
                await clock.advance_until(lambda: asked > 3, "asked again and again")
    assert {line["event"] for line in logs} == {"market_stream_lost"}


async def test_hundreds_of_symbols_are_followed_and_exchanged_for_others() -> None:
    """The exchange takes no notice of a request that is too long."""
    async with new_server() as server, following(server.ws_url, SystemClock()) as marks:

        async def carried() -> set[str]:
            sockets = [one for one in server.exchange.streams if one.root == "market"]
            return {name.partition("@")[0].upper() for one in sockets for name in one.subscriptions}

        for prefix in ("A", "B"):
            symbols = frozenset(f"{prefix}{number}USDT" for number in range(500))
            marks.follow(symbols)
            await until(carried, lambda names, wanted=symbols: names == wanted)  # type: ignore[misc]


async def test_frames_that_make_no_sense_are_counted_and_lose_no_price() -> None:
    said = asyncio.Event()

    async def venue(connection: ServerConnection) -> None:
        for frame in ("{", '{"e":"markPriceUpdate","E":1,"s":"BTCUSDT","p":"dear"}'):
            await connection.send(frame)
        await connection.send(price("3"))
        await (await connection.ping())
        said.set()
        await connection.wait_closed()

    async with serve(venue, "127.0.0.1", 0) as server:
        host, port = next(iter(server.sockets)).getsockname()
        async with following(f"ws://{host}:{port}", SystemClock()) as marks, asyncio.timeout(10):
            await said.wait()
            assert marks.malformed_frames == 2
            assert [update.mark_price for update in marks.take()] == [Decimal(3)]


async def test_positions_that_come_and_go_all_the_time_cost_one_connection_which_is_closed_when_none_comes() -> None:
    """The venue allows an address 300 in five minutes, and the private stream needs them."""
    clock, connections, closed = ManualClock(), 0, asyncio.Event()

    async def venue(connection: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        async for _ in connection:
            pass
        closed.set()

    traits = replace(TRAITS, market_silence_s=10 * KEPT_S)
    async with serve(venue, "127.0.0.1", 0) as server:
        host, port = next(iter(server.sockets)).getsockname()
        async with following(f"ws://{host}:{port}", clock, traits=traits) as marks:
            await eventually(lambda: connections == 1, "connected")
            for number in range(20):
                marks.follow(frozenset() if number % 2 else frozenset({"BTCUSDT"}))
                await clock.advance(KEPT_S / 3)
            marks.follow(frozenset())
            await clock.advance(KEPT_S / 2)
            assert (connections, closed.is_set()) == (1, False)
            await clock.advance_until(closed.is_set, "the connection is closed")
    assert connections == 1


async def test_a_market_connection_that_is_open_and_mute_is_replaced() -> None:
    """Pings do not make up for prices."""
    clock = ManualClock()
    connections = 0

    async def venue(connection: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        if connections > 1:
            await connection.send(price("3"))
        await connection.wait_closed()

    async with serve(venue, "127.0.0.1", 0, ping_interval=0.01) as server:
        host, port = next(iter(server.sockets)).getsockname()
        async with following(f"ws://{host}:{port}", clock) as marks:
            await eventually(lambda: connections == 1, "connected")
            await clock.advance_until(lambda: bool(marks.take()), "a price of another connection", step_s=1)
    assert connections > 1
    assert clock.monotonic() >= 1_000 + TRAITS.market_silence_s


async def test_where_prices_come_on_the_private_stream_there_is_nothing_to_run() -> None:
    clock = ManualClock()
    connector = Connector(clock, Random(1), connects=150, connects_within_s=300.0)
    account = cast("VenueAccount", SimpleNamespace(clock=None, market_stream=lambda symbols: None))
    route = Route("toy", connector, clock, account.clock, None)
    marks = MarkPrices(account, TRAITS, route, account_log("toy:main"))
    running = asyncio.create_task(marks.run())
    await asyncio.sleep(0)
    marks.follow(frozenset({"BTCUSDT"}))
    await asyncio.wait_for(running, 10)
    marks.follow(frozenset())
    assert marks.take() == []
