"""What a cut, a second one and an orderly restart cost: the venue's weight, its calls, and seconds that are not live.

    PYTHONPATH=tests python -m bench.gaps [--positions 500] [--orders 2000] [--others 1700] [--cuts 2] [--pause 20]

or `make bench ARGS=gaps`, for the accounts of `ACCOUNTS`.

The exchange is a process of its own, so that what it computes does not stop the publisher; `--others` is the weight
that bots behind the same address spend in a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

import uvloop
from support.large import WeighingExchange, bots, large_server
from support.world import KEY, SECRET

from publisher import config
from publisher.logs import configure
from publisher.service import publishing, system_chance
from statecast import settings
from statecast.clock import SystemClock
from statecast.embedded.server import EmbeddedServer
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId
from statecast.store.reader import read_account

ACCOUNTS = ("--positions 500 --orders 2000", "--positions 4 --others 1700 --pause 65")


async def serve(positions: int, orders: int, others: int) -> None:
    """Print the port; then `cut` cuts the private stream, and each line is answered with what was asked for since."""
    clock, loop = SystemClock(), asyncio.get_running_loop()
    async with large_server(positions, orders) as server:
        exchange = server.exchange
        assert isinstance(exchange, WeighingExchange)
        async with bots(exchange, others, clock):
            print(server.port, flush=True)
            while line := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
                if line == "cut":
                    exchange.fault("cut_sockets", {"kind": "private"}, clock.now_ms())
                calls = ", ".join(
                    f"{path.rpartition('/')[2]} {weight}" for path, weight in exchange.weights.most_common(4)
                )
                print(f"{exchange.weight} ({calls}); {exchange.declined()} declined", flush=True)
                exchange.forget_weight()


async def not_live(client: Client, account: AccountId, since: str) -> float:
    """Seconds until the account is live on another connection."""
    began = time.perf_counter()
    while True:
        status = (await read_account(client, account)).status
        if status.get("state") == "live" and status["streamSinceMs"] != since:
            return time.perf_counter() - began
        await asyncio.sleep(0.02)


async def measure(url: str, given: argparse.Namespace) -> None:
    arguments = ["-m", "bench.gaps", "serve", str(given.positions), str(given.orders), str(given.others)]
    pipe = asyncio.subprocess.PIPE
    exchange = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdin=pipe, stdout=pipe)
    assert exchange.stdin is not None
    assert exchange.stdout is not None
    port = int(await exchange.stdout.readline())

    async def tell(line: str) -> str:
        assert exchange.stdin is not None
        assert exchange.stdout is not None
        exchange.stdin.write(f"{line}\n".encode())
        return (await exchange.stdout.readline()).decode().strip()

    values = {
        "ACCOUNT": f"bench-{given.positions}-{given.orders}-{given.others}",
        "API_KEY": KEY,
        "API_SECRET": SECRET,
        "REST_URL": f"http://127.0.0.1:{port}",
        "WS_URL": f"ws://127.0.0.1:{port}",
    }
    built, account = config.build(settings.Settings(values, (values,))), AccountId("binance", values["ACCOUNT"])
    print(f"{given.positions} positions, {given.orders} orders, others spend {given.others} a minute")

    async def report(what: str, seconds: float) -> None:
        print(f"  {what:16} {seconds:6.1f} s not live, weight {await tell('weight')}", flush=True)

    async with connect(url, client_name="bench") as client:
        for start in ("first start", "orderly restart"):
            since = (await read_account(client, account)).status.get("streamSinceMs", "")
            async with publishing(built, url, SystemClock(), system_chance(), None, None):
                await report(start, await not_live(client, account, since))
                for number in range(given.cuts):
                    await asyncio.sleep(given.pause)
                    since = (await read_account(client, account)).status["streamSinceMs"]
                    await tell("cut")
                    await report(f"cut {number + 1}", await not_live(client, account, since))
    exchange.stdin.write(b"\n")
    await exchange.wait()


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        uvloop.run(serve(*map(int, sys.argv[2:5])))
        return
    with EmbeddedServer() as server:
        uvloop.run(measure(server.url, parse(sys.argv[1:])))


def report(url: str) -> None:
    configure(least="error")
    for account in ACCOUNTS:
        uvloop.run(measure(url, parse(account.split())))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--positions", type=int, default=500)
    parser.add_argument("--orders", type=int, default=0)
    parser.add_argument("--others", type=int, default=0)
    parser.add_argument("--cuts", type=int, default=2)
    parser.add_argument("--pause", type=float, default=20.0, help="seconds before each cut (default 20)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
