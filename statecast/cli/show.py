"""`statecast show`: an account as Redis holds it, and how fresh it is."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from statecast.cli import arguments, source

if TYPE_CHECKING:
    from statecast.cli.page import LivePage
    from statecast.store.client import Client
    from statecast.store.keys import AccountId
    from statecast.store.reader import StoredAccount

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

EPILOG = """\
    statecast show                      all accounts
    statecast show binance:main         one account (the venue can be left out: binance)
    statecast show main --watch         again every second, until Ctrl-C
    statecast show main --json | jq .   for programs; act on the state only if "fresh" is true

Every line of a state that is stale, incomplete or was never published is marked, because it does not mean "flat".
Exit codes: 0 if everything shown is fresh, 3 if something is not, 2 for wrong settings, 1 if Redis cannot be read.
"""

NOT_FRESH = 3
WATCH_EVERY_S = 1.0


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "show",
        help="balances, positions, open orders, freshness",
        description="Show accounts as Redis holds them, and how fresh they are.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("account", nargs="?", metavar="ACCOUNT", help="<venue>:<account>; default: all accounts")
    parser.add_argument("--watch", action="store_true", help="repeat every second")
    parser.add_argument("--json", action="store_true", help="print one JSON object per account, one per line")
    parser.add_argument(
        "--max-age-s",
        type=arguments.positive,
        default=10.0,
        metavar="SECONDS",
        help="older state is stale (default 10)",
    )
    source.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    return source.run(args, _show)


async def _show(args: argparse.Namespace, url: str) -> int:
    from statecast.store.client import connect
    from statecast.store.keys import AccountId

    wanted = AccountId.parse(args.account) if args.account else None
    async with connect(url, client_name="statecast-show") as client:
        if args.watch:
            await _watch(client, wanted, args)
        return await _once(client, wanted, args)


async def _read(client: Client, wanted: AccountId | None) -> list[StoredAccount]:
    from statecast.store.reader import known_accounts, read_account

    account_ids = [wanted] if wanted is not None else await known_accounts(client)
    return [await read_account(client, account_id) for account_id in account_ids]


async def _once(client: Client, wanted: AccountId | None, args: argparse.Namespace) -> int:
    from rich.console import Console

    from statecast.cli.page import Page
    from statecast.cli.views import account_blocks, verdict
    from statecast.store.reader import known_accounts

    accounts, max_age_ms = await _read(client, wanted), int(args.max_age_s * 1000)
    if args.json or not sys.stdout.isatty():
        _print_lines(accounts, args)
    else:
        Console().print(Page([block for stored in accounts for block in account_blocks(stored, max_age_ms)]))
    if not all(stored.status for stored in accounts) or not accounts:
        print(_elsewhere(client.server, await known_accounts(client)), file=sys.stderr)
    fresh = bool(accounts) and all(verdict(stored, max_age_ms).fresh for stored in accounts)
    return 0 if fresh else NOT_FRESH


def _print_lines(accounts: list[StoredAccount], args: argparse.Namespace) -> None:
    from statecast.cli.views import account_json, account_lines

    max_age_ms = int(args.max_age_s * 1000)
    for stored in accounts:
        print(account_json(stored, max_age_ms) if args.json else "\n".join(account_lines(stored, max_age_ms)))
    sys.stdout.flush()


def _elsewhere(server: str, known: list[AccountId]) -> str:
    """What Redis holds, for a user who asked for an account that it does not hold."""
    if not known:
        return f"NEVER PUBLISHED: Redis at {server} holds no account; start `statecast publish` first"
    return f"Redis at {server} holds {', '.join(map(str, known))}"


async def _watch(client: Client, wanted: AccountId | None, args: argparse.Namespace) -> None:
    """Show it every second until cancelled. While Redis cannot be read, a message replaces the state."""
    from statecast.cli.page import LivePage

    if args.json or not sys.stdout.isatty():
        await _repeat(client, wanted, _Lines(wanted, args, client.server))
    else:
        with LivePage() as page:
            await _repeat(client, wanted, _Screen(page, args, client.server))


async def _repeat(client: Client, wanted: AccountId | None, output: _Lines | _Screen) -> None:
    from statecast.clock import SystemClock
    from statecast.errors import StoreAuthFailed, StoreError

    clock = SystemClock()
    while True:
        try:
            output.show(await _read(client, wanted))
        except StoreAuthFailed:
            raise
        except StoreError as error:
            output.show_reason(str(error))
        await clock.sleep(WATCH_EVERY_S)


class _Lines:
    """Prints accounts below each other."""

    def __init__(self, wanted: AccountId | None, args: argparse.Namespace, server: str) -> None:
        self._wanted = wanted
        self._args = args
        self._server = server
        self._last_reason = ""

    def show(self, accounts: list[StoredAccount]) -> None:
        self._last_reason = ""
        _print_lines(accounts, self._args)
        if not accounts:
            print(_elsewhere(self._server, []), file=sys.stderr)

    def show_reason(self, reason: str) -> None:
        """Plain lines show a reason once; for programs, every second has its object."""
        from statecast.cli.views import unreadable_json

        if self._args.json:
            print(unreadable_json(self._wanted, reason), flush=True)
        elif reason != self._last_reason:
            print(f"UNREADABLE: {reason}; trying again every second", flush=True)
        self._last_reason = reason


class _Screen:
    """Shows accounts in place, on a terminal."""

    def __init__(self, page: LivePage, args: argparse.Namespace, server: str) -> None:
        self._page = page
        self._max_age_ms = int(args.max_age_s * 1000)
        self._server = server

    def show(self, accounts: list[StoredAccount]) -> None:
        from statecast.cli.views import account_blocks

        if accounts:
            self._page.show([block for stored in accounts for block in account_blocks(stored, self._max_age_ms)])
        else:
            self._banner(_elsewhere(self._server, []))

    def show_reason(self, reason: str) -> None:
        self._banner(f"UNREADABLE: {reason}; trying again every second")

    def _banner(self, text: str) -> None:
        from rich.text import Text

        self._page.show([[Text(f" {text} ", "bold white on red")]])
