"""Accounts with hundreds of symbols, and bots behind the publisher's address: what a publisher asks of the venue."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import parse_qsl

from support.world import KEY, SECRET, NotingExchange

from statecast.clock import Clock, SystemClock
from statecast.secret import Secret
from statecast.simulator.binance.errors import ApiError
from statecast.simulator.binance.rest import Params
from statecast.simulator.binance.routes import ROUTES
from statecast.simulator.binance.signing import ApiKey
from statecast.simulator.exchange import Response
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import OrderRequest, OrderType, Side
from statecast.simulator.server import SimulatorServer
from statecast.simulator.symbols import SYMBOLS


class WeighingExchange(NotingExchange):
    """Adds up the weight that it was asked for, and by which calls."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.weight = 0
        self.weights: Counter[str] = Counter()

    def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, now_ms: int
    ) -> Response:
        route = ROUTES.get((method, path))
        weight = route.weigh(Params(dict(parse_qsl(query)))) if route else 1
        self.weight += weight
        self.weights[path] += weight
        return super().request(method, path, query, headers, body, now_ms)

    def forget_weight(self) -> None:
        """Count from now on."""
        self.weight = 0
        self.weights.clear()

    def declined(self) -> int:
        """Calls that were too much for the limit."""
        return sum(count for what, count in self.requests.items() if what.endswith((" 429", " 418")))


def large_server(positions: int, orders: int = 0, *, clock: Clock | None = None, symbols: int = 0) -> SimulatorServer:
    """An exchange whose account holds a position in each of so many symbols, opened an hour ago, and so many resting
    orders in them. `symbols` are listed, if they are more."""
    clock = clock or SystemClock()
    hour_ago = clock.now_ms() - 3_600_000
    sol = next(rules for rules in SYMBOLS if rules.symbol == "SOLUSDT")
    listed = [
        replace(sol, symbol=f"S{number}USDT", base_asset=f"S{number}") for number in range(max(symbols, positions))
    ]
    ledger = Ledger({"USDT": Decimal(1_000_000)}, now_ms=hour_ago, symbols=listed)
    for number in range(positions):
        ledger.place(market(ledger, f"S{number}USDT"), hour_ago)
    for number in range(orders):
        rest(ledger, f"S{number % positions}USDT", hour_ago)
    exchange = WeighingExchange(ledger, [ApiKey(KEY, Secret(SECRET))], Random(1))
    return SimulatorServer(exchange, clock, mark_interval_s=0)


def market(ledger: Ledger, symbol: str, side: Side = Side.BUY) -> OrderRequest:
    """An order that fills at once."""
    return OrderRequest(symbol=symbol, side=side, type=OrderType.MARKET, qty=Decimal("0.10"))


def rest(ledger: Ledger, symbol: str, at_ms: int) -> int:
    """An order that rests; its number."""
    price = ledger.marks[symbol] * 9 // 10
    request = OrderRequest(symbol=symbol, side=Side.BUY, type=OrderType.LIMIT, qty=Decimal("0.10"), price=price)
    ledger.place(request, at_ms)
    return ledger.open_orders(symbol)[-1].order_id


@asynccontextmanager
async def bots(exchange: NotingExchange, weight_per_minute: int, clock: Clock) -> AsyncIterator[None]:
    """Others behind the same address spend so much, evenly."""

    async def spend() -> None:
        began_s, spent = clock.monotonic(), 0
        while True:
            due = int((clock.monotonic() - began_s) * weight_per_minute / 60)
            with suppress(ApiError):
                exchange.limits.use_weight(due - spent, {}, exchange.server_ms(clock.now_ms()))
            spent = due
            await clock.sleep(0.2)

    task = asyncio.create_task(spend())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
