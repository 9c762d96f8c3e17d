"""`statecast events`: an account's order events, from the log or as they arrive."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from statecast.cli import arguments, source

if TYPE_CHECKING:
    from statecast.store.client import Client
    from statecast.store.keys import AccountId

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

EPILOG = """\
    statecast events main                          new events, until Ctrl-C
    statecast events main --last 20 --no-follow    the last twenty
    statecast events main --from-seq 1 --json      the whole log, then new events, as JSON lines
    statecast events main --since-ms 1793000000000 --no-follow

Event numbers (eventSeq) have no gaps. If numbers are missing, standard error says so. It also says when no publisher
runs or Redis cannot be read, because silence would look like "nothing happens". A GAP entry is not an order event: it
marks events that can no longer be recovered. If Redis lost events and the publisher wrote them again, standard error
says so, and they are not printed a second time.
This command uses no consumer group and acknowledges nothing.
Exit codes: 0 at the end of the log, 3 if the account was never published, 2 for wrong settings, 1 without Redis.
"""

NEVER_PUBLISHED = 3
RETRY_EVERY_S = 1.0
BLOCK_MS = 1000

REMEMBERED = 50_000
"""Ids of printed events, to recognise them when Redis has lost them and the publisher writes them again."""


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "events",
        help="tail or replay order events",
        description="Show an account's order events: new ones, or a part of the log first.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("account", metavar="ACCOUNT", help="<venue>:<account> (the venue can be left out: binance)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--last", type=arguments.whole, metavar="N", help="start with the last N events")
    start.add_argument("--from-seq", type=arguments.whole, metavar="N", help="start with event number N (eventSeq)")
    start.add_argument(
        "--since-ms",
        type=arguments.whole,
        metavar="MS",
        help="start with events written since this time (ms since 1970 UTC)",
    )
    parser.add_argument("--no-follow", action="store_true", help="stop at the end of the log")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object per line, with the contract's fields"
    )
    source.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    return source.run(args, _events)


async def _events(args: argparse.Namespace, url: str) -> int:
    from statecast.store.client import SOCKET_TIMEOUT_S, connect
    from statecast.store.event_log import read_on
    from statecast.store.keys import AccountId
    from statecast.store.reader import known_accounts

    account_id = AccountId.parse(args.account)
    # Waiting for the next event must not look like a server that does not answer.
    async with connect(url, client_name="statecast-events", timeout_s=SOCKET_TIMEOUT_S + BLOCK_MS / 1000) as client:
        output = _Output(args.json, args.from_seq)
        known = await known_accounts(client)
        if account_id not in known:
            others = f"; Redis holds {', '.join(map(str, known))}" if known else ""
            output.trust("NEVER PUBLISHED", f"NEVER PUBLISHED: no publisher has written {account_id}{others}")
            if args.no_follow:
                return NEVER_PUBLISHED
        after, entries = await _beginning(client, account_id, args)
        output.print(entries)
        if not args.no_follow:
            await _follow(client, account_id, after, output)
        while True:
            after, entries = await read_on(client, account_id, after, block_ms=0)
            if not entries:
                return 0
            output.print(entries)


async def _beginning(
    client: Client, account_id: AccountId, args: argparse.Namespace
) -> tuple[str, list[dict[str, str]]]:
    """The id to read on from, and what comes before it."""
    from statecast.store.event_log import first_entry_from_seq, last_entries

    if args.last is not None:
        return await last_entries(client, account_id, args.last)
    if args.from_seq is not None:
        return await first_entry_from_seq(client, account_id, args.from_seq), []
    if args.since_ms is not None:
        return f"{max(0, args.since_ms - 1)}-18446744073709551615", []
    if args.no_follow:
        return "0-0", []
    return await last_entries(client, account_id, 0)


async def _follow(client: Client, account_id: AccountId, after: str, output: _Output) -> None:
    """Print entries as they arrive, until stopped. Nothing is lost while Redis is away: reading goes on after the last
    id."""
    from statecast.cli.views import verdict
    from statecast.clock import SystemClock
    from statecast.errors import StoreAuthFailed, StoreError
    from statecast.store.event_log import read_on
    from statecast.store.reader import read_account

    clock = SystemClock()
    while True:
        try:
            after, entries = await read_on(client, account_id, after, block_ms=BLOCK_MS)
            output.print(entries)
            if not entries:
                judged = verdict(await read_account(client, account_id))
                output.trust(judged.word, str(judged))
        except StoreAuthFailed:
            raise
        except StoreError as error:
            output.trust("UNREADABLE", f"UNREADABLE: {error}; trying again every second")
            await clock.sleep(RETRY_EVERY_S)


@dataclass
class _Output:
    """Prints events, and on standard error what is missing among them and when their source cannot be relied on."""

    as_json: bool
    from_seq: int | None = None
    seq: int | None = None
    trusted: str = "live"
    printed: dict[str, None] = field(default_factory=dict)
    """Ids of the events that were printed, the youngest at the end."""

    def print(self, entries: list[dict[str, str]]) -> None:
        """Print entries, and before them what is not in the log."""
        import orjson

        from statecast.cli.views import event_line
        from statecast.domain import gaps

        for entry in entries:
            number = int(entry["eventSeq"])
            if self.seq is None and number < (self.from_seq or 0):
                continue
            again = entry["eventId"] in self.printed
            expected = self.seq + 1 if self.seq is not None else max(1, self.from_seq or number)
            if number > expected:
                _warn(f"MISSING: the log has no events {expected} to {number - 1}")
            elif number < expected and again:
                _warn(
                    f"AGAIN: Redis lost events {number} to {expected - 1}; they were written again under the same ids"
                )
            elif number < expected:
                _warn(f"BACK: event {number} follows event {expected - 1}; Redis has lost what was between")
            self.seq = number
            if again:
                continue
            self.printed[entry["eventId"]] = None
            if len(self.printed) > REMEMBERED:
                del self.printed[next(iter(self.printed))]
            if self.as_json and (missing := gaps.parse(entry)) is not None:
                _warn(f"{gaps.GAP}: {missing}")
            print(orjson.dumps(entry).decode() if self.as_json else event_line(entry))
        sys.stdout.flush()

    def trust(self, word: str, sentence: str) -> None:
        """Print it when the trust in the source changes."""
        if word != self.trusted:
            _warn(sentence)
        self.trusted = word


def _warn(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
