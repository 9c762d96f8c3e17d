"""The simulated exchange as seen by clients that we did not write: nothing of them is changed but base URLs.

Each one opens the user stream, places and cancels an order, buys at the market, leaves and withdraws a conditional
order, sees that one trigger, and reads the account; what it saw is compared with the exchange's ledger.
"""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import ccxt.pro
import pytest
import websockets

from statecast.clock import SystemClock
from statecast.simulator.orders import AlgoStatus, PositionSide
from statecast.simulator.server import SimulatorServer

with warnings.catch_warnings():
    # The clients lean on what their own dependencies have deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from binance import AsyncClient, BinanceSocketManager
    from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
        ConfigurationRestAPI,
        ConfigurationWebSocketStreams,
        DerivativesTradingUsdsFutures,
    )

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]

KEY, SECRET = "demo-key", "demo-secret"
SYMBOL = "BTCUSDT"
QTY = Decimal("0.010")
CLOCK = SystemClock()

Until = Callable[[Callable[[], bool]], Awaitable[None]]


@dataclass
class Seen:
    """What a client learnt, in the exchange's own spelling."""

    frames: list[dict[str, Any]] = field(default_factory=list)
    assets: dict[str, Decimal] = field(default_factory=dict)
    positions: dict[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    """Position side to (amount, entry price)."""

    def orders(self) -> list[tuple[Any, ...]]:
        bodies = [frame["o"] for frame in self.frames if frame["e"] == "ORDER_TRADE_UPDATE"]
        return [(one["i"], one["x"], one["X"], Decimal(one["z"]), one["t"], one["T"]) for one in bodies]

    def algos(self) -> list[tuple[int, str]]:
        return [(frame["o"]["aid"], frame["o"]["X"]) for frame in self.frames if frame["e"] == "ALGO_UPDATE"]


def private_sockets(server: SimulatorServer) -> int:
    """How many follow the account: the publisher, and the client once it is connected."""
    return sum(stream.root == "private" for stream in server.exchange.streams)


def side(server: SimulatorServer) -> dict[str, str]:
    return {"positionSide": "LONG"} if server.exchange.ledger.hedge else {}


def stop_price_is_reached(server: SimulatorServer) -> None:
    """The market falls through the stops at 90000 and comes back."""
    exchange = server.exchange
    for price in ("89990", "91250.4"):
        exchange.publish(
            exchange.ledger.move_mark(SYMBOL, Decimal(price), exchange.server_ms(CLOCK.now_ms())), CLOCK.now_ms()
        )


def expect_agreement(server: SimulatorServer, seen: Seen) -> None:
    """What the client saw equals the ledger."""
    ledger = server.exchange.ledger
    held = {asset: amount for asset, amount in seen.assets.items() if amount}  # what could be margin is listed, too
    assert held == {wallet.asset: wallet.balance for wallet in ledger.wallets() if wallet.balance}
    assert seen.positions == {row.side: (row.amount, row.entry_price) for row in ledger.positions()}
    assert seen.orders() == [
        (event.order.order_id, event.execution, event.order.status, event.order.filled_qty, event.trade_id, event.at_ms)
        for event in ledger.order_events
    ]
    first, second = (algo.algo_id for algo in ledger.algos())
    states = [AlgoStatus.NEW, AlgoStatus.TRIGGERING, AlgoStatus.TRIGGERED, AlgoStatus.FINISHED]
    assert seen.algos() == [
        (first, AlgoStatus.NEW),
        (first, AlgoStatus.CANCELED),
        *((second, state) for state in states),
    ]
    last: dict[str, Decimal] = {}
    for frame in seen.frames:
        if frame["e"] == "ACCOUNT_UPDATE":
            last |= {row["a"]: Decimal(row["wb"]) for row in frame["a"]["B"]}
    assert last == {"USDT": ledger.wallet("USDT").balance}
    assert {event["e"] for event in seen.frames} == {
        "ORDER_TRADE_UPDATE",
        "ACCOUNT_UPDATE",
        "TRADE_LITE",
        "ALGO_UPDATE",
    }
    # Bought twice 0.010, sold 0.010 by the stop.
    held = PositionSide.LONG if ledger.hedge else PositionSide.BOTH
    assert ledger.position(SYMBOL, held).amount == QTY


def send_one_more_frame(server: SimulatorServer) -> None:
    server.exchange.publish(server.exchange.ledger.set_leverage("ETHUSDT", 3, CLOCK.now_ms()), CLOCK.now_ms())


async def test_python_binance(server: SimulatorServer, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncClient, "API_URL", server.rest_url + "/api")
    monkeypatch.setattr(AsyncClient, "FUTURES_URL", server.rest_url + "/fapi")
    monkeypatch.setattr(BinanceSocketManager, "FSTREAM_URL", server.ws_url + "/")
    client = await AsyncClient.create(KEY, SECRET)
    seen = Seen()
    reader: asyncio.Task[None] | None = None
    try:
        async with BinanceSocketManager(client).futures_user_socket() as socket:

            async def read() -> None:
                while True:
                    seen.frames.append(await socket.recv())

            reader = asyncio.create_task(read())
            order = {"symbol": SYMBOL, "side": "BUY", "quantity": str(QTY), **side(server)}
            stop = order | {"side": "SELL", "type": "STOP_MARKET", "stopPrice": "90000"}
            for _ in range(2):
                await client.futures_create_order(type="MARKET", **order)
            resting = await client.futures_create_order(type="LIMIT", timeInForce="GTC", price="90100", **order)
            [listed] = await client.futures_get_open_orders()
            assert listed["orderId"] == resting["orderId"]
            await client.futures_cancel_order(symbol=SYMBOL, orderId=resting["orderId"])
            algo = await client.futures_create_order(**stop)
            assert await client.futures_get_open_orders() == []
            [waiting] = await client.futures_get_open_algo_orders()
            assert waiting["algoId"] == algo["algoId"]
            await client.futures_cancel_order(symbol=SYMBOL, algoId=algo["algoId"])
            await client.futures_create_order(**stop)
            stop_price_is_reached(server)
            await until(lambda: len(seen.algos()) == 6)
            balances = await client.futures_account_balance()
            seen.assets = {row["asset"]: Decimal(row["balance"]) for row in balances}
            rows = await client.futures_position_information()
            trades = await client.futures_account_trades(symbol=SYMBOL)
            seen.positions = {
                row["positionSide"]: (Decimal(row["positionAmt"]), Decimal(row["entryPrice"]))
                for row in rows
                if Decimal(row["positionAmt"])
            }
            assert [row["id"] for row in trades] == [trade.trade_id for trade in server.exchange.ledger.trades]
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            # The client's read loop notices its end with the next frame, or else after ten seconds.
            asyncio.get_running_loop().call_later(0.1, send_one_more_frame, server)
    finally:
        await client.close_connection()
    expect_agreement(server, seen)


async def test_ccxt(server: SimulatorServer, until: Until) -> None:
    client = ccxt.pro.binanceusdm({"apiKey": KEY, "secret": SECRET})
    client.urls["api"] = rebased(client.urls["api"], server)
    seen = Seen()
    # ccxt keeps the frames it received in the `info` of what it made of them, but not every kind of frame has one.
    handle = client.handle_message
    client.handle_message = lambda socket, message: (seen.frames.append(message), handle(socket, message))
    watcher: asyncio.Task[Any] | None = None
    symbol, params = "BTC/USDT:USDT", side(server)
    try:
        await client.load_markets()
        watcher = asyncio.create_task(client.watch_orders(symbol))
        await until(lambda: private_sockets(server) == 2)
        for _ in range(2):
            await client.create_order(symbol, "market", "buy", float(QTY), None, params)
        resting = await client.create_order(symbol, "limit", "buy", float(QTY), 90_100, params)
        assert [one["id"] for one in await client.fetch_open_orders(symbol)] == [resting["id"]]
        await client.cancel_order(resting["id"], symbol)
        stop = params | {"stopLossPrice": 90_000}
        algo = await client.create_order(symbol, "market", "sell", float(QTY), None, stop)
        waiting = await client.fetch_open_orders(symbol, params={"trigger": True})
        assert [one["id"] for one in waiting] == [algo["id"]]
        await client.cancel_order(algo["id"], symbol, {"trigger": True})
        await client.create_order(symbol, "market", "sell", float(QTY), None, stop)
        stop_price_is_reached(server)
        await until(lambda: len(seen.algos()) == 6)
        assert (await watcher)[0]["symbol"] == symbol
        balance = await client.fetch_balance()
        seen.assets = {row["asset"]: Decimal(row["walletBalance"]) for row in balance["info"]["assets"]}
        margin = server.exchange.ledger.asset_margin("USDT")
        assert balance["USDT"]["total"] == pytest.approx(float(margin.margin_balance), rel=1e-12)
        rows = [row["info"] for row in await client.fetch_positions() if row["contracts"]]
        seen.positions = {
            row["positionSide"]: (Decimal(row["positionAmt"]), Decimal(row["entryPrice"])) for row in rows
        }
    finally:
        await client.close()
        if watcher is not None:
            await asyncio.gather(watcher, return_exceptions=True)
    expect_agreement(server, seen)


def rebased(urls: Any, server: SimulatorServer) -> Any:
    """ccxt's tree of URLs with every host replaced."""
    if isinstance(urls, dict):
        return {name: rebased(value, server) for name, value in urls.items()}
    moved = re.sub(r"^https?://[^/]+", server.rest_url, urls)
    return re.sub(r"^wss?://[^/]+", server.ws_url, moved)


def as_frame(model: Any) -> dict[str, Any]:
    """A frame from the SDK's own, validated model of it, under the wire's names; the model's name says the event."""
    event = re.sub(r"(?<!^)([A-Z])", r"_\1", type(model).__name__).upper()
    return {"e": event, **model.model_dump(by_alias=True, mode="json")}


async def test_official_sdk(server: SimulatorServer, until: Until) -> None:
    client = DerivativesTradingUsdsFutures(
        config_rest_api=ConfigurationRestAPI(api_key=KEY, api_secret=SECRET, base_path=server.rest_url),
        config_ws_streams=ConfigurationWebSocketStreams(stream_url=server.ws_url + "/stream"),
    )
    rest = client.rest_api

    async def call(method: Any, **params: Any) -> Any:
        """The SDK's REST calls block."""
        return (await asyncio.to_thread(lambda: method(**params))).data()

    seen = Seen()
    listen_key = (await call(rest.start_user_data_stream)).listen_key
    connection = await client.websocket_streams.create_connection()
    try:
        stream = await connection.user_data(listen_key)
        stream.on("message", lambda event: seen.frames.append(as_frame(event.actual_instance)))
        where = {"position_side": "LONG"} if server.exchange.ledger.hedge else {}
        order = {"symbol": SYMBOL, "side": "BUY", "quantity": float(QTY), **where}
        stop = order | {"algo_type": "CONDITIONAL", "side": "SELL", "type": "STOP_MARKET", "trigger_price": 90_000}
        for _ in range(2):
            await call(rest.new_order, type="MARKET", **order)
        resting = await call(rest.new_order, type="LIMIT", time_in_force="GTC", price=90_100, **order)
        [listed] = await call(rest.current_all_open_orders)
        assert listed.order_id == resting.order_id
        await call(rest.cancel_order, symbol=SYMBOL, order_id=resting.order_id)
        algo = await call(rest.new_algo_order, **stop)
        [waiting] = await call(rest.current_all_algo_open_orders)
        assert waiting.algo_id == algo.algo_id
        await call(rest.cancel_algo_order, algo_id=algo.algo_id)
        await call(rest.new_algo_order, **stop)
        stop_price_is_reached(server)
        await until(lambda: len(seen.algos()) == 6)
        balances = await call(rest.futures_account_balance_v3)
        seen.assets = {row.asset: Decimal(row.balance) for row in balances}
        rows = await call(rest.position_information_v3)
        seen.positions = {
            row.position_side: (Decimal(row.position_amt), Decimal(row.entry_price))
            for row in rows
            if Decimal(row.position_amt)
        }
        account = await call(rest.account_information_v3)
        totals = server.exchange.ledger.asset_margin("USDT")
        assert Decimal(account.total_wallet_balance) == totals.wallet.balance
        assert Decimal(account.available_balance) == totals.available
    finally:
        await connection.close_connection()
        rest._session.close()
    expect_agreement(server, seen)


@pytest.mark.parametrize("path", ["/ws/{key}", "/ws?listenKey={key}", "/stream?streams={key}", "/market/ws/{key}"])
async def test_an_unrouted_user_stream_opens_and_stays_silent(server: SimulatorServer, path: str) -> None:
    """As in life since 2026-04-23; the routed one beside it hears the same events."""
    answer = server.exchange.request("POST", "/fapi/v1/listenKey", "", {"X-MBX-APIKEY": KEY}, b"", CLOCK.now_ms())
    assert answer.status == 200
    assert server.exchange.listen_key is not None
    key = server.exchange.listen_key.key
    async with (
        websockets.connect(server.ws_url + path.format(key=key)) as unrouted,
        websockets.connect(f"{server.ws_url}/private/ws?listenKey={key}") as routed,
    ):
        await unrouted.send(f'{{"method":"SUBSCRIBE","params":["{key}"],"id":1}}')
        assert await unrouted.recv() == '{"result":null,"id":1}'
        ledger = server.exchange.ledger
        server.exchange.publish(ledger.transfer("USDT", Decimal(5), CLOCK.now_ms()), CLOCK.now_ms())
        assert "ACCOUNT_UPDATE" in str(await routed.recv())
        # What the exchange owes the unrouted socket would have been written before this answer.
        await unrouted.send('{"method":"LIST_SUBSCRIPTIONS","id":2}')
        assert str(await unrouted.recv()).endswith('"id":2}')
