"""`statecast events`: an account's order events, as they come or from the log."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from statecast.cli import source

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

EPILOG = """\
    statecast events main                          the events from now on, until Ctrl-C
    statecast events main --last 20 --no-follow    the twenty youngest
    statecast events main --from-seq 1 --json      everything since the beginning, then what comes, as JSON lines
    statecast events main --since-ms 1793000000000 --no-follow

Numbers (eventSeq) follow each other without a hole; a hole in what is shown is told on standard error.
This command reads beside all consumer groups and acknowledges nothing.
"""


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "events",
        help="tail or replay order events",
        description="Show an account's order events: what comes from now on, or a part of the log first.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("account", metavar="ACCOUNT", help="<venue>:<account>")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--last", type=_whole, metavar="N", help="begin with the N youngest events")
    start.add_argument("--from-seq", type=_whole, metavar="N", help="begin with event number N (eventSeq)")
    start.add_argument("--since-ms", type=_whole, metavar="MS", help="begin with what was stored at this time (UTC ms)")
    parser.add_argument("--no-follow", action="store_true", help="end after what is in the log already")
    parser.add_argument("--json", action="store_true", help="one JSON object per line, with the contract's fields")
    source.add_arguments(parser)
    parser.set_defaults(run=run)


def _whole(text: str) -> int:
    number = int(text)
    if number < 0:
        raise ValueError(text)
    return number


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    return source.run(args, _events)


async def _events(args: argparse.Namespace, url: str) -> int:
    from statecast.store.client import SOCKET_TIMEOUT_S, connect
    from statecast.store.event_log import first_entry_from_seq, last_entries, read_on
    from statecast.store.keys import AccountId
    from statecast.store.reader import known_accounts

    account_id = AccountId.parse(args.account)
    # Waiting for the next event must not look like a server that does not answer.
    async with connect(url, client_name="statecast-events", timeout_s=SOCKET_TIMEOUT_S + 3) as client:
        if account_id not in await known_accounts(client):
            print(f"NEVER PUBLISHED: no publisher has written {account_id}; waiting for one", file=sys.stderr)
            if args.no_follow:
                return 1
        if args.last is not None:
            after, entries = await last_entries(client, account_id, args.last)
        elif args.from_seq is not None:
            after, entries = await first_entry_from_seq(client, account_id, args.from_seq), []
        elif args.since_ms is not None:
            after, entries = f"{max(0, args.since_ms - 1)}-18446744073709551615", []
        elif args.no_follow:
            after, entries = "0-0", []
        else:
            after, entries = await last_entries(client, account_id, 0)
        seq = _print(entries, args.json, None)
        while True:
            after, entries = await read_on(client, account_id, after, block_ms=0 if args.no_follow else 1000)
            seq = _print(entries, args.json, seq)
            sys.stdout.flush()
            if args.no_follow and not entries:
                return 0


def _print(entries: list[dict[str, str]], as_json: bool, seq: int | None) -> int | None:
    """Print entries; returns the number of the last. A hole before one of them is told."""
    import orjson

    from statecast.cli.views import event_line

    for entry in entries:
        number = int(entry["eventSeq"])
        if seq is not None and number != seq + 1:
            print(f"HOLE: event {number} follows event {seq}; what is between is not in the log", file=sys.stderr)
        seq = number
        print(orjson.dumps(entry).decode() if as_json else event_line(entry))
    return seq
