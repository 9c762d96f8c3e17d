"""`statecast demo`: everything on one machine, without keys: Redis, an exchange, a publisher, and the account moving."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from statecast.store.client import Client
    from statecast.store.keys import AccountId

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Run a private Redis, a simulated exchange on which a random trader trades, and the publisher that follows its account;
show what Redis holds, every second. All of it lives in this process and on this machine, and is gone when it ends.
"""

EPILOG = """\
    statecast demo                  until Ctrl-C
    statecast demo --seconds 20     for a while
    statecast demo --seed 7 --hedge another run, in hedge mode; the same seed trades the same orders

While it runs, type one of the lines that it prints into another terminal: redis-cli sees the same account.
"""

EVENTS_SHOWN = 8


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="everything on one machine, without keys",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=_seconds, metavar="N", help="end after N seconds (default: at Ctrl-C)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the exchange and its trader (default 1)")
    parser.add_argument("--hedge", action="store_true", help="long and short positions beside each other")
    parser.add_argument(
        "--trade", type=_seconds, default=2.0, metavar="RATE", help="steps of the random trader a second (default 2)"
    )
    parser.set_defaults(run=run)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 1e6:
        raise ValueError(text)
    return seconds


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    import asyncio

    from publisher import logs
    from publisher.service import redis_server
    from statecast.errors import StatecastError

    logs.configure(least="error")
    try:
        with redis_server("embedded") as url:
            return asyncio.run(_demo(args, url))
    except (StatecastError, OSError) as error:
        print(f"statecast: {error}", file=sys.stderr)
        return 1


async def _demo(args: argparse.Namespace, url: str) -> int:
    import asyncio
    import contextlib
    import signal
    from decimal import Decimal
    from random import Random

    from publisher import config
    from publisher.service import publishing
    from statecast import settings
    from statecast.clock import SystemClock
    from statecast.secret import Secret
    from statecast.simulator.binance import Exchange
    from statecast.simulator.ledger import Ledger
    from statecast.simulator.server import SimulatorServer
    from statecast.simulator.signing import ApiKey
    from statecast.store.client import connect

    clock = SystemClock()
    key, secret = "demo-key", "demo-secret"
    ledger = Ledger({"USDT": Decimal(10_000), "USDC": Decimal(2_500)}, now_ms=clock.now_ms(), hedge=args.hedge)
    exchange = Exchange(ledger, [ApiKey(key, Secret(secret))], Random(args.seed))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    print(f"redis      {url}")
    async with SimulatorServer(exchange, clock, trade_rate=args.trade) as server:
        print(f"exchange   {server.rest_url} (simulated, seed {args.seed})")
        values = {
            "REDIS_URL": url,
            "ACCOUNT": "demo",
            "API_KEY": key,
            "API_SECRET": secret,
            "REST_URL": server.rest_url,
            "WS_URL": server.ws_url,
            "RECONCILE_S": "10",
        }
        built = config.build(settings.Settings(values, (values,)))
        account_id = built.accounts[0].account_id
        print(f"publisher  following {account_id}", flush=True)
        async with publishing(built, url, clock) as work, connect(url, client_name="statecast-demo") as client:
            showing = asyncio.create_task(_show(client, account_id, url))
            stopping = asyncio.create_task(stop.wait())
            failing = asyncio.create_task(server.wait_failed())
            await asyncio.wait(
                (showing, stopping, work, failing), timeout=args.seconds, return_when=asyncio.FIRST_COMPLETED
            )
            for task in (showing, stopping, failing):
                if task.done():
                    task.result()
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing
            if work.done():
                work.result()
    print("stopped: publisher, exchange and Redis are gone, and nothing is left behind")
    return 0


async def _show(client: Client, account_id: AccountId, url: str) -> None:
    """Show the account every second: in place on a terminal, else as plain lines."""
    from rich.console import Console
    from rich.live import Live

    from statecast.cli.views import account_lines, event_line, redis_lines
    from statecast.clock import SystemClock
    from statecast.store.event_log import last_entries
    from statecast.store.reader import read_account

    clock = SystemClock()
    while (await read_account(client, account_id)).status.get("state") != "live":
        await clock.sleep(0.05)
    command = _redis_client()
    if not sys.stdout.isatty():
        seen = "0"
        for line in redis_lines(await read_account(client, account_id), url, command):
            print(f"to see the same: {line}")
        while True:
            _, entries = await last_entries(client, account_id, EVENTS_SHOWN)
            for line in account_lines(await read_account(client, account_id)):
                print(line)
            for entry in entries:
                if int(entry["eventSeq"]) > int(seen):
                    print(f"  event {event_line(entry)}")
            seen = entries[-1]["eventSeq"] if entries else seen
            sys.stdout.flush()
            await clock.sleep(1)
    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            live.update(await _view(client, account_id, url, command), refresh=True)
            await clock.sleep(0.5)


async def _view(client: Client, account_id: AccountId, url: str, command: str) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from statecast.cli.views import account_view, event_line, redis_lines
    from statecast.store.event_log import last_entries
    from statecast.store.reader import read_account

    stored = await read_account(client, account_id)
    _, entries = await last_entries(client, account_id, EVENTS_SHOWN)
    return Group(
        account_view(stored),
        Text("Last order events", "bold italic"),
        *(Text(event_line(entry), no_wrap=True, overflow="ellipsis") for entry in entries),
        Text("\nThe same from another terminal (Ctrl-C ends the demo):", "bold italic"),
        *(Text(line, "cyan", overflow="fold") for line in redis_lines(stored, url, command)),
    )


def _redis_client() -> str:
    """What a user of this machine can type: redis-cli, or else this program's own."""
    import shutil

    return "redis-cli" if shutil.which("redis-cli") else f"{sys.argv[0]} redis"
