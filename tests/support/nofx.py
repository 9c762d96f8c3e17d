"""NOFX bots at a simulated exchange: their settings, and what they received."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.world import DEADLINE_S

from statecast.clock import SystemClock
from statecast.secret import Secret
from statecast.simulator.binance.signing import ApiKey
from statecast.simulator.orders import OrderRequest, OrderType, PositionSide, Side
from statecast.simulator.server import SimulatorServer

ACCOUNT_KEYS = ["totalWalletBalance", "availableBalance", "totalUnrealizedProfit"]
POSITION_KEYS = [
    "symbol",
    "positionAmt",
    "entryPrice",
    "markPrice",
    "unRealizedProfit",
    "leverage",
    "liquidationPrice",
    "side",
]
ORDER_KEYS = [
    "orderId",
    "symbol",
    "side",
    "type",
    "status",
    "price",
    "quantity",
    "executedQty",
    "avgPrice",
    "positionSide",
]


def settings_for(
    monkeypatch: pytest.MonkeyPatch, directory: Path, server: SimulatorServer | None = None, **values: str
) -> None:
    """No setting but those of the exchange and `values`, and no `.env`."""
    monkeypatch.chdir(directory)
    for name in [name for name in os.environ if name.startswith("STATECAST_")]:
        monkeypatch.delenv(name)
    hosts = {"REST_URL": server.rest_url, "WS_URL": server.ws_url} if server else {}
    for name, value in ({"MARK_PRICE_INTERVAL_S": "0.1", "RECONCILE_S": "2"} | hosts | values).items():
        monkeypatch.setenv(f"STATECAST_{name}", value)


def market_order(
    server: SimulatorServer, symbol: str, side: str, qty: str, position_side: str = "BOTH", *, tell: bool = True
) -> None:
    """A market order of the account, filled at once."""
    _order(server, tell, symbol=symbol, side=Side(side), qty=Decimal(qty), position_side=PositionSide(position_side))


def limit_order(server: SimulatorServer, symbol: str, side: str, qty: str, price: str) -> None:
    """An order of the account that rests in the book."""
    _order(server, True, OrderType.LIMIT, symbol=symbol, side=Side(side), qty=Decimal(qty), price=Decimal(price))


def _order(server: SimulatorServer, tell: bool, kind: OrderType = OrderType.MARKET, **order: Any) -> None:
    exchange, now_ms = server.exchange, SystemClock().now_ms()
    events = exchange.ledger.place(OrderRequest(type=kind, **order), exchange.server_ms(now_ms))
    if tell:
        exchange.publish(events, now_ms)


async def eventually(good: Callable[[], Any]) -> Any:
    """What `good` returns as soon as that is true, for a bounded time."""
    value: Any = None
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not (value := good()):
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"waited {DEADLINE_S:.0f} s in vain; last seen: {value}") from None
    return value


def snapshots_asked(server: SimulatorServer) -> int:
    """How often somebody asked the exchange for a whole account by REST, whatever came of it."""
    asked = server.exchange.requests
    return sum(count for call, count in asked.items() if call.startswith("GET /fapi/v1/openOrders "))


def another_key(server: SimulatorServer, name: str, secret: str) -> None:
    """One more API key of the exchange's account."""
    server.exchange.add_key(ApiKey(name, Secret(secret)))
