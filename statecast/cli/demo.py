"""`statecast demo`: Redis, exchange, publisher, bots and a live view on one machine, without keys."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from statecast.cli import arguments

if TYPE_CHECKING:
    import asyncio

    from publisher.config import Config
    from statecast.cli.bots import Bots
    from statecast.cli.page import Block, LivePage
    from statecast.simulator.binance.exchange import Exchange
    from statecast.simulator.server import SimulatorServer
    from statecast.store.client import Client
    from statecast.store.keys import AccountId
    from statecast.store.reader import StoredAccount

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DESCRIPTION = """\
Run a private Redis, a simulated exchange on which a random trader trades, the publisher that follows its account, and
three small bots (examples/*.py) that read it. Show what Redis holds and what the bots print. Everything runs on this
machine and ends with this program.
"""

EPILOG = """\
    statecast demo                   until Ctrl-C
    statecast demo --seconds 20      for a while
    statecast demo --seed 7 --hedge  another account, in hedge mode

While it runs, try the printed commands in another terminal: redis-cli sees the same account.
Exit codes: 0 at the end (Ctrl-C, SIGTERM, --seconds), 2 for wrong options, 1 if something fails.
"""

KEY, SECRET = "demo-key", "demo-secret"
WARM_UP_STEPS = 60
WARM_UP_LIMIT = 2_000
LIVE_WITHIN_S = 30.0
LOOK_EVERY_S = 0.25
"""How often to look whether the account is live."""
EVENTS_SHOWN = 8
FRAME_EVERY_S = 0.5
LINES_EVERY_S = 1.0


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="try everything on this machine, without keys",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seconds",
        type=arguments.positive,
        metavar="N",
        help="end N seconds after the account is live (default: never)",
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the exchange and its trader (default 1)")
    parser.add_argument("--hedge", action="store_true", help="long and short positions side by side")
    parser.add_argument(
        "--trade",
        type=arguments.positive,
        default=4.0,
        metavar="RATE",
        help="steps of the random trader a second (default 4)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    import asyncio

    from publisher import logs
    from statecast.errors import StatecastError

    # On a terminal, the state and its reason are shown in place; lines of the log would tear the picture.
    logs.configure(least="critical" if sys.stdout.isatty() else "error")
    try:
        asyncio.run(_demo(args))
    except KeyboardInterrupt:
        pass  # before the signal handlers stood, or after they had gone
    except BrokenPipeError:
        raise
    except (StatecastError, OSError) as error:
        print(f"statecast: {error}", file=sys.stderr)
        return 1
    print("stopped: bots, publisher, exchange and Redis are gone, and nothing is left behind")
    return 0


async def _demo(args: argparse.Namespace) -> None:
    """Run everything until a signal comes, the time is over, or a part fails."""
    import asyncio
    import signal

    from publisher.service import publishing, redis_server, system_chance
    from statecast.clock import SystemClock
    from statecast.simulator.server import SimulatorServer
    from statecast.store.client import connect

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clock = SystemClock()
    exchange = _traded_exchange(args.seed, args.hedge, clock.now_ms())
    with redis_server("embedded") as url:
        async with SimulatorServer(exchange, clock, trade_rate=args.trade) as server:
            print(f"redis      {url}")
            print(f"exchange   {server.rest_url} (simulated; seed {args.seed}, {args.trade:g} steps a second)")
            built = _config(server, url)
            account_id = built.accounts[0].account_id
            print(f"publisher  follows {account_id}", flush=True)
            async with (
                publishing(built, url, clock, system_chance()) as work,
                connect(url, client_name="statecast-demo") as client,
            ):
                showing = asyncio.create_task(_show(_Source(client, account_id, url), args))
                await _first_end(
                    showing, work, asyncio.create_task(stop.wait()), asyncio.create_task(server.wait_failed())
                )


def _traded_exchange(seed: int, hedge: bool, now_ms: int) -> Exchange:
    """An exchange whose account has already been traded on, so that there is something to see at once."""
    from decimal import Decimal
    from random import Random

    from statecast.secret import Secret
    from statecast.simulator import trading
    from statecast.simulator.binance.exchange import Exchange
    from statecast.simulator.binance.signing import ApiKey
    from statecast.simulator.ledger import Ledger

    ledger = Ledger({"USDT": Decimal(10_000), "USDC": Decimal(2_500)}, now_ms=now_ms, hedge=hedge)
    exchange = Exchange(ledger, [ApiKey(KEY, Secret(SECRET))], Random(seed))
    for step in range(WARM_UP_LIMIT):
        if step >= WARM_UP_STEPS and ledger.positions() and ledger.open_orders():
            break
        trading.step(ledger, exchange.rng, exchange.server_ms(now_ms))
    return exchange


def _config(server: SimulatorServer, redis_url: str) -> Config:
    from publisher import config
    from statecast import settings

    values = {
        "REDIS_URL": redis_url,
        "ACCOUNT": "demo",
        "API_KEY": KEY,
        "API_SECRET": SECRET,
        "REST_URL": server.rest_url,
        "WS_URL": server.ws_url,
        "RECONCILE_S": "10",
    }
    return config.build(settings.Settings(values, (values,)))


async def _first_end(*tasks: asyncio.Task[Any]) -> None:
    """Wait until one of the tasks ends and cancel the others; raises what it failed with."""
    import asyncio

    done, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for task in done:
        task.result()


class _Source:
    """What Redis holds of the account, and what a user types to see it there."""

    def __init__(self, client: Client, account_id: AccountId, url: str) -> None:
        self._client = client
        self._account_id = account_id
        self._url = url
        self._program = _redis_program(url)

    def settings(self) -> dict[str, str]:
        """What a bot needs to know."""
        return {"STATECAST_REDIS_URL": self._url, "STATECAST_ACCOUNT": self._account_id.account}

    async def account(self) -> StoredAccount:
        from statecast.store.reader import read_account

        return await read_account(self._client, self._account_id)

    async def events(self) -> list[dict[str, str]]:
        """The last order events, oldest first."""
        from statecast.store.event_log import last_entries

        _, entries = await last_entries(self._client, self._account_id, EVENTS_SHOWN)
        return entries

    def questions(self, width: int | None = None) -> list[str]:
        """Lines for a shell, within `width`."""
        from statecast.cli.views import redis_commands, shell_line

        return [shell_line([*self._program, *words], width) for words in redis_commands(self._account_id)]


def _redis_program(url: str) -> list[str]:
    """What a user of this machine can type, in whatever directory: redis-cli, or else this program's own."""
    import os
    import shutil
    from urllib.parse import urlsplit

    port = urlsplit(url).port
    for name in ("redis-cli", "valkey-cli"):
        if shutil.which(name):
            return [name, "-p", str(port)]
    own = os.path.abspath(sys.argv[0])
    on_path = shutil.which("statecast")
    if on_path and os.path.samefile(on_path, own):
        program = ["statecast"]
    else:
        program = [own] if os.access(own, os.X_OK) else [sys.executable, "-m", "statecast.cli.main"]
    return [*program, "redis", "-u", f"redis://127.0.0.1:{port}"]


async def _show(source: _Source, args: argparse.Namespace) -> None:
    """Show the account, once it is live, and the bots that read it, for so many seconds, or without end."""
    import asyncio
    import contextlib
    import os

    from statecast.cli import bots
    from statecast.settings import PREFIX

    await _live(source)
    with contextlib.suppress(TimeoutError):
        # Without the user's own keys and hosts: a bot whose state is stale would use them to ask the venue.
        others = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        async with asyncio.timeout(args.seconds), bots.running(others | source.settings()) as running:
            await (_show_in_place(source, running) if sys.stdout.isatty() else _show_as_lines(source, running))


async def _live(source: _Source) -> None:
    from statecast.clock import SystemClock
    from statecast.errors import StatecastError

    clock = SystemClock()
    started = clock.monotonic()
    while (status := (await source.account()).status).get("state") != "live":
        if clock.monotonic() - started > LIVE_WITHIN_S:
            reason = f"{status.get('state', 'nothing published')}: {status.get('reason', '')}"
            raise StatecastError(f"the account is not live after {LIVE_WITHIN_S:.0f} s; {reason}")
        await clock.sleep(LOOK_EVERY_S)


async def _show_as_lines(source: _Source, bots: Bots) -> None:
    """Plain lines: what to type, then a block every second."""
    from statecast.cli.views import account_lines, event_line
    from statecast.clock import SystemClock

    clock = SystemClock()
    for line in source.questions():
        print(f"type       {line}")
    print()
    seen = 0
    while True:
        entries = await source.events()
        print("\n".join(account_lines(await source.account(), brief=True)))
        new = [entry for entry in entries if int(entry["eventSeq"]) > seen]
        if new and (missing := int(new[0]["eventSeq"]) - seen - 1):
            print(f"  {missing} more events before these")
        for entry in new:
            print(f"  event {event_line(entry)}")
        for name, line in bots.last_lines.items():
            print(f"  bot {name} {line}")
        print(flush=True)
        seen = int(entries[-1]["eventSeq"]) if entries else seen
        await clock.sleep(LINES_EVERY_S)


async def _show_in_place(source: _Source, bots: Bots) -> None:
    from statecast.cli.page import LivePage
    from statecast.clock import SystemClock

    clock = SystemClock()
    with LivePage() as page:
        while True:
            page.show(await _blocks(source, bots, page))
            await clock.sleep(FRAME_EVERY_S)


async def _blocks(source: _Source, bots: Bots, page: LivePage) -> list[Block]:
    from rich.text import Text

    from statecast.cli.page import Table
    from statecast.cli.views import account_blocks, event_line
    from statecast.domain.gaps import GAP

    entries, stored = await source.events(), await source.account()
    hints = [Text("the same from another terminal (Ctrl-C ends the demo):", "bold")]
    hints += [Text(line, "cyan") for line in source.questions(page.width)]
    newest_first = [
        [Text(event_line(entry), "bold red" if entry["eventType"] == GAP else "")] for entry in reversed(entries)
    ]
    said = [[Text(f"{name:<8}{line}")] for name, line in bots.last_lines.items()]
    blocks = [*account_blocks(stored), Table("last order events", (), newest_first)]
    return [*blocks, Table("bots that read this account", (), said), hints] if said else [*blocks, hints]
