from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from random import Random
from typing import Any

import aiohttp
import pytest
import websockets

from statecast.clock import SystemClock
from statecast.secret import Secret
from statecast.simulator.binance.exchange import Exchange
from statecast.simulator.binance.signing import ApiKey
from statecast.simulator.ledger import Ledger
from statecast.simulator.server import SimulatorServer

CLOCK = SystemClock()


def new_exchange() -> Exchange:
    ledger = Ledger({"USDT": Decimal(100_000)}, now_ms=CLOCK.now_ms())
    return Exchange(ledger, [ApiKey("k", Secret("s"))], Random(1))


@contextlib.asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[tuple[SimulatorServer, aiohttp.ClientSession]]:
    settings: dict[str, Any] = {"mark_interval_s": 0}
    async with (
        asyncio.timeout(30),
        SimulatorServer(new_exchange(), CLOCK, **(settings | options)) as server,
        aiohttp.ClientSession(server.rest_url) as session,
    ):
        yield server, session


async def listen_key(session: aiohttp.ClientSession) -> str:
    async with session.post("/fapi/v1/listenKey", headers={"X-MBX-APIKEY": "k"}) as answer:
        return str((await answer.json())["listenKey"])


async def control(session: aiohttp.ClientSession, endpoint: str, /, **args: Any) -> Any:
    async with session.post(f"/simulate/{endpoint}", json=args) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def frame(socket: websockets.ClientConnection) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(await socket.recv())
    return body


async def test_rest_and_websocket_share_a_port() -> None:
    async with serving() as (server, session):
        async with session.get("/fapi/v1/time") as answer:
            assert abs((await answer.json())["serverTime"] - CLOCK.now_ms()) < 5_000
            assert answer.headers["X-MBX-USED-WEIGHT-1M"] == "1"
        key = await listen_key(session)
        async with websockets.connect(f"{server.ws_url}/private/ws?listenKey={key}") as socket:
            await control(session, "transfer", asset="USDT", amount="3")
            assert (await frame(socket))["a"]["B"][0]["wb"] == "100003.00000000"
        async with session.get("/simulate/ledger") as answer:
            assert (await answer.json())["assets"][0]["walletBalance"] == "100003.00000000"
        async with session.get("/nowhere") as answer:
            assert answer.status == 404


async def test_every_private_form_delivers() -> None:
    async with serving() as (server, session):
        key = await listen_key(session)
        forms = [f"ws?listenKey={key}", f"ws/{key}", f"stream?listenKey={key}", "stream"]
        async with contextlib.AsyncExitStack() as stack:
            sockets = [
                await stack.enter_async_context(websockets.connect(f"{server.ws_url}/private/{f}")) for f in forms
            ]
            await sockets[3].send(json.dumps({"method": "SUBSCRIBE", "params": [key], "id": 1}))
            assert await frame(sockets[3]) == {"result": None, "id": 1}
            await control(session, "transfer", asset="USDT", amount="3")
            frames = [await frame(socket) for socket in sockets]
            assert frames[0] == frames[1]
            assert frames[2] == frames[3] == {"stream": key, "data": frames[0]}


async def test_a_bogus_key_opens_a_silent_socket() -> None:
    async with serving() as (server, session):
        await listen_key(session)
        async with websockets.connect(f"{server.ws_url}/private/ws?listenKey=bogus") as socket:
            await control(session, "transfer", asset="USDT", amount="3")
            await socket.send('{"method":"LIST_SUBSCRIPTIONS","id":1}')
            assert await frame(socket) == {"result": ["bogus"], "id": 1}


async def test_marks_move_by_themselves() -> None:
    async with serving(mark_interval_s=0.01) as (server, _):
        async with websockets.connect(f"{server.ws_url}/market/ws/btcusdt@markPrice@1s") as socket:
            prices = {(await frame(socket))["p"] for _ in range(20)}
            assert len(prices) > 3
        async with websockets.connect(f"{server.ws_url}/market/stream?streams=!markPrice@arr") as socket:
            wrapped = await frame(socket)
            assert wrapped["stream"] == "!markPrice@arr"
            assert {row["s"] for row in wrapped["data"]} == set(server.exchange.ledger.rules)


async def test_trading_by_itself() -> None:
    async with serving(trade_rate=1_000) as (server, session):
        key = await listen_key(session)
        url = f"{server.ws_url}/private/ws?listenKey={key}&events=ORDER_TRADE_UPDATE"
        async with websockets.connect(url, max_queue=None) as socket:
            first = (await frame(socket))["o"]
            identities = [first["i"]] + [(await frame(socket))["o"]["i"] for _ in range(49)]
        events = [event.order.order_id for event in server.exchange.ledger.order_events]
        start = events.index(first["i"])
        assert identities == events[start : start + 50]


async def test_a_burst_arrives_complete_and_in_order() -> None:
    async with serving() as (server, session):
        key = await listen_key(session)
        url = f"{server.ws_url}/private/ws?listenKey={key}"
        async with websockets.connect(url, max_queue=None) as socket:
            await control(session, "burst", count=10_000)
            sent = [(await frame(socket))["o"] for _ in range(10_000)]
        events = server.exchange.ledger.order_events
        assert [(one["i"], one["x"]) for one in sent] == [(one.order.order_id, one.execution) for one in events]


async def test_a_paced_burst_makes_as_many_events() -> None:
    async with serving() as (server, session):
        await control(session, "burst", count=200, rate=5_000, kind="fills")
        assert server.exchange.ledger.order_events_seen == 200


async def test_a_cut_socket_ends_without_a_close_frame() -> None:
    async with serving() as (server, session):
        async with websockets.connect(f"{server.ws_url}/private/ws?listenKey=x") as socket:
            await control(session, "fault", name="cut_sockets", kind="private")
            with pytest.raises(websockets.ConnectionClosedError):
                await socket.recv()
        async with websockets.connect(f"{server.ws_url}/market/ws") as socket:
            await control(session, "fault", name="cut_sockets", code=1001)
            with pytest.raises(websockets.ConnectionClosedOK):
                await socket.recv()
        await control(session, "fault", name="refuse_sockets", status=503)
        with pytest.raises(websockets.InvalidStatus):
            await websockets.connect(f"{server.ws_url}/market/ws")


async def test_a_socket_whose_client_does_not_read_can_be_cut() -> None:
    async with serving() as (server, session):
        key = await listen_key(session)
        async with websockets.connect(f"{server.ws_url}/private/ws?listenKey={key}", close_timeout=0.1):
            await control(session, "burst", count=30_000)
            assert server.exchange.streams[0].next_due_ms is not None
            await control(session, "fault", name="cut_sockets")
            while server.exchange.streams:
                await asyncio.sleep(0)


async def test_a_connection_has_a_lifetime() -> None:
    async with serving(connection_life_s=0.05) as (server, _):
        socket = await websockets.connect(f"{server.ws_url}/market/ws")
        with pytest.raises(websockets.ConnectionClosedError):
            await socket.recv()


async def test_who_does_not_answer_pings_is_dropped() -> None:
    async with serving(ping_interval_s=0.05, pong_timeout_s=0.3) as (server, _), aiohttp.ClientSession() as client:
        url = f"{server.ws_url}/market/ws"
        async with client.ws_connect(url, autoping=False) as silent, client.ws_connect(url) as alive:
            reading = asyncio.create_task(alive.receive())
            first = await silent.receive()
            assert first.type is aiohttp.WSMsgType.PING
            while (await silent.receive()).type is aiohttp.WSMsgType.PING:
                pass
            # One that answers is still served when the silent one has gone.
            await alive.send_str('{"method":"LIST_SUBSCRIPTIONS","id":1}')
            assert json.loads((await reading).data) == {"result": [], "id": 1}


async def test_the_raw_query_string_is_what_is_signed() -> None:
    """Lower-case escapes and escaped letters are kept as the client wrote them."""
    import hashlib
    import hmac

    import yarl

    async with serving() as (_, session):
        query = f"symbol=%42TC%55SDT&timestamp={CLOCK.now_ms()}&x=%e5%b8%81"
        signature = hmac.new(b"s", query.encode(), hashlib.sha256).hexdigest()
        url = yarl.URL(f"/fapi/v1/openOrders?{query}&signature={signature}", encoded=True)
        async with session.get(url, headers={"X-MBX-APIKEY": "k"}) as answer:
            assert (answer.status, await answer.json()) == (200, [])


async def test_a_taken_port_is_an_os_error() -> None:
    async with serving() as (server, _):
        with pytest.raises(OSError, match="address already in use"):
            async with SimulatorServer(new_exchange(), CLOCK, port=server.port):
                pass


async def test_bad_control_calls_are_answered() -> None:
    async with serving() as (_, session):
        for body in (b"{", b"[]", b'{"symbol":"BTCUSDT"}'):
            async with session.post("/simulate/mark", data=body) as answer:
                assert answer.status == 400
                assert "error" in await answer.json()
