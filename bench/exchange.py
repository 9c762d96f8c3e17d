"""A simulated exchange in a process of its own that makes order events at a steady rate, stamped with the time."""

from __future__ import annotations

import asyncio
import sys
import time
from decimal import Decimal
from random import Random

import redis
import uvloop

from statecast.clock import SystemClock
from statecast.secret import Secret
from statecast.simulator.binance.exchange import Exchange
from statecast.simulator.binance.signing import ApiKey
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import OrderRequest, OrderType, Side
from statecast.simulator.server import SimulatorServer

FIELDS = 31
"""As many as an order event has."""


async def serve(rate: float, seconds: float) -> None:
    """Print the URL; at a line on standard input, trade for a while, and end at the next line."""
    clock = SystemClock()
    ledger = Ledger({"USDT": Decimal(10_000)}, now_ms=clock.now_ms())
    exchange = Exchange(ledger, [ApiKey("demo-key", Secret("demo-secret"))], Random(1))
    async with SimulatorServer(exchange, clock, mark_interval_s=0) as server:
        print(server.port, flush=True)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, sys.stdin.readline)
        price = ledger.marks["BTCUSDT"] - 1000
        began, orders = time.perf_counter(), int(rate * seconds / 2)
        for number in range(orders):
            due = began + number * 2 / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            stamp = f"{time.time_ns()}"
            request = OrderRequest(
                symbol="BTCUSDT",
                side=Side.BUY,
                type=OrderType.LIMIT,
                qty=Decimal("0.05"),
                price=price,
                client_order_id=stamp,
            )
            now_ms = clock.now_ms()
            exchange.publish(ledger.place(request, now_ms), now_ms)
            order = ledger.open_orders()[-1]
            exchange.publish(ledger.cancel(order.order_id, now_ms), now_ms)
        print("done", flush=True)
        await loop.run_in_executor(None, sys.stdin.readline)


def bare(url: str, rate: float, seconds: float) -> None:
    """The floor: the same number of fields by XADD, from this process, without socket, frame or publisher."""
    client = redis.Redis.from_url(url, decode_responses=True)
    began, pairs = time.perf_counter(), int(rate * seconds / 2)
    for number in range(pairs):
        time.sleep(max(0.0, began + number * 2 / rate - time.perf_counter()))
        stamp = str(time.time_ns())
        entry: dict[str, str] = {"clientOrderId": stamp} | {f"field{at}": "91250.4" for at in range(FIELDS - 1)}
        for _ in range(2):
            client.xadd("bench:bare", entry)  # type: ignore[arg-type]  # redis-py wants a wider dict
    print("done", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        uvloop.run(serve(float(sys.argv[2]), float(sys.argv[3])))
    else:
        bare(sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
