"""`statecast groups`: the consumer groups of an account, and the events that they gave up on."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any

from statecast.cli import arguments, source

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from statecast.cli.page import Block
    from statecast.store.client import Client
    from statecast.store.group_admin import DeadLetter, Group
    from statecast.store.keys import AccountId

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    Action = Callable[[Client, AccountId, argparse.Namespace], Awaitable[int]]

EPILOG = """\
    statecast groups main                            every group: how far it is, who serves it, what it gave up on
    statecast groups main letters mybot              the events that mybot gave up on, and why
    statecast groups main requeue mybot --all        let mybot handle them once more (fix it first)
    statecast groups main requeue mybot 1793000000000-0
    statecast groups main drop mybot --all           they are dealt with: delete the letters
    statecast groups main remove oldbot              forget a group that nobody uses any more
    statecast groups main --json | jq 'select(.lag > 100 or .deadLetters > 0)'

lag counts the events that were not delivered yet; waiting is the age of the oldest of them. pending counts those that
were delivered and not acknowledged; oldest is the age of the oldest of them. A dead letter is an event that the group
gave up on; it stays until you requeue or drop it. The publisher trims old events from the log, but none that a group
still has to handle, unless the group had no consumer for STATECAST_GROUP_EXPIRY_S (a week).
Exit codes: 0 for success, 3 if the account was never published, 2 for wrong settings or an unknown group, 1 without
Redis or if something could not be done.
"""

NEVER_PUBLISHED = 3
NOT_DONE = 1

_LETTER_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")


def add_parser(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "groups",
        help="consumer groups: lag, pending, dead letters",
        description="Show the consumer groups on an account's order events, and handle their dead letters.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("account", metavar="ACCOUNT", help="<venue>:<account> (the venue can be left out: binance)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    source.add_arguments(parser)
    actions = parser.add_subparsers(title="actions", metavar="[ACTION]", help="default: show all groups")

    def add_action(name: str, text: str, action: Action) -> argparse.ArgumentParser:
        # An option that is not given after the action must not undo one that was given before it.
        added = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", argument_default=_NONE)
        added.add_argument("group", metavar="GROUP", help="the group's name, as shown without an action")
        added.add_argument("--json", action="store_true", default=_NONE, help="print one JSON object per line")
        source.add_arguments(added)
        added.set_defaults(action=action)
        return added

    letters = add_action("letters", "show the group's dead letters, oldest first", _letters)
    letters.add_argument("--last", type=arguments.whole, default=None, metavar="N", help="only the last N")
    for name, text, action in (
        ("requeue", "let the group handle these events once more; attempts are counted from 1 again", _requeue),
        ("drop", "delete dead letters permanently", _drop),
    ):
        added = add_action(name, text, action)
        which = added.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "ids", nargs="*", default=[], type=_letter_id, metavar="ID", help="ids as shown by `letters`"
        )
        which.add_argument("--all", action="store_true", default=False, help="all dead letters of the group")
    remove = add_action("remove", "delete a group, with the events that it has not acknowledged", _remove)
    remove.add_argument(
        "--force", action="store_true", default=False, help="also while consumers serve it, and with its dead letters"
    )
    parser.set_defaults(run=run, action=_overview)


_NONE = argparse.SUPPRESS


def _letter_id(text: str) -> str:
    if not _LETTER_ID.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the id of a dead letter, such as 1793000000000-0")
    return text


def run(args: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    return source.run(args, _groups)


async def _groups(args: argparse.Namespace, url: str) -> int:
    from statecast.store.client import connect
    from statecast.store.keys import AccountId
    from statecast.store.reader import known_accounts

    account_id = AccountId.parse(args.account)
    async with connect(url, client_name="statecast-groups") as client:
        known = await known_accounts(client)
        if account_id not in known:
            others = f"; Redis holds {', '.join(map(str, known))}" if known else ""
            _print_error(f"NEVER PUBLISHED: no publisher has written {account_id}{others}")
            return NEVER_PUBLISHED
        action: Action = args.action
        return await action(client, account_id, args)


# --- all groups ------------------------------------------------------------------------------------------------------


async def _overview(client: Client, account_id: AccountId, args: argparse.Namespace) -> int:
    from rich.console import Console

    from statecast.cli.page import Page
    from statecast.store.group_admin import overview

    groups = await overview(client, account_id)
    if args.json:
        for group in groups:
            _print_json(_group_document(account_id, group))
    elif not groups:
        print(f"{account_id} has no consumer group")
    elif sys.stdout.isatty():
        Console().print(Page(_blocks(account_id, groups)))
    else:
        for group in groups:
            print("\n".join(_lines(group)))
    return 0


def _group_document(account_id: AccountId, group: Group) -> dict[str, Any]:
    oldest = group.oldest
    return {
        "accountId": str(account_id),
        "group": group.group,
        "redisGroup": group.redis_group,
        "partition": group.partition,
        "partitions": group.partitions,
        "exists": group.exists,
        "lag": group.lag,
        "waitingMs": group.waiting_ms,
        "pending": group.pending,
        "oldestPending": oldest
        and {
            "entryId": oldest.entry_id,
            "ageMs": oldest.age_ms,
            "consumer": oldest.consumer,
            "deliveries": oldest.deliveries,
        },
        "consumers": [
            {"name": consumer.name, "role": consumer.role, "pending": consumer.pending, "idleMs": consumer.idle_ms}
            for consumer in group.consumers
        ],
        "servedAgoMs": group.served_ago_ms,
        "deadLetters": group.dead_letters,
        "oldestDeadLetterAgeMs": group.oldest_dead_letter_age_ms,
    }


def _lines(group: Group) -> Iterator[str]:
    """A group in plain lines, one fact each."""
    facts: dict[str, object] = {
        "exists": None if group.exists else "false",
        "lag": group.lag,
        "waitingMs": group.waiting_ms,
        "pending": group.pending,
        "oldestPending": group.oldest and group.oldest.entry_id,
        "oldestPendingAgeMs": group.oldest and group.oldest.age_ms,
        "oldestPendingConsumer": group.oldest and group.oldest.consumer,
        "oldestPendingDeliveries": group.oldest and group.oldest.deliveries,
        "servedAgoMs": group.served_ago_ms,
        "deadLetters": group.dead_letters,
        "oldestDeadLetterAgeMs": group.oldest_dead_letter_age_ms,
    }
    yield f"group {group.redis_group} {_facts(facts)}"
    for consumer in group.consumers:
        facts = {"role": consumer.role or None, "pending": consumer.pending, "idleMs": consumer.idle_ms}
        yield f"  consumer {consumer.name} {_facts(facts)}"


def _facts(facts: dict[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in facts.items() if value is not None)


def _blocks(account_id: AccountId, groups: tuple[Group, ...]) -> list[Block]:
    """All groups for a terminal."""
    from rich.text import Text

    from statecast.cli.page import Column, Table

    def alarm(text: str, *, bad: bool) -> Text:
        return Text(text, "bold red" if bad else "")

    rows, workers = [], []
    for group in groups:
        active = [consumer.name for consumer in group.consumers if consumer.role == "active"]
        rows.append(
            [
                Text(group.redis_group),
                Text(f"{group.lag}"),
                Text(_span(group.waiting_ms) if group.lag else "-"),
                Text(f"{group.pending}"),
                Text(_span(group.oldest.age_ms) if group.oldest else "-"),
                alarm(f"{group.dead_letters}", bad=group.dead_letters > 0),
                Text("gone", "bold red") if not group.exists else Text(_ago(group.served_ago_ms)),
                Text(", ".join(active) or "-"),
            ]
        )
        workers += [
            [
                Text(consumer.name),
                Text(group.redis_group),
                Text(consumer.role or "-", "bold red" if consumer.role == "gone" and consumer.pending else ""),
                Text(f"{consumer.pending}"),
                Text(_ago(consumer.idle_ms)),
            ]
            for consumer in group.consumers
        ]
    columns = (
        Column("lag", 1),
        Column("waiting", 5),
        Column("pending", 2),
        Column("oldest", 4),
        Column("dead letters", 3),
        Column("served", 6),
        Column("active", 7, right=False),
    )
    blocks: list[Block] = [[Text(f" {account_id} ", "bold")], Table("consumer groups", columns, rows)]
    if workers:
        about = (Column("group", 2, right=False), Column("role", 3, right=False), Column("pending", 1))
        blocks.append(Table("consumers", (*about, Column("last seen", 4)), workers))
    return blocks


def _ago(ms: int | None) -> str:
    return "never" if ms is None else f"{_span(ms)} ago"


def _span(ms: int) -> str:
    """A duration in its largest unit."""
    for unit, length_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        if ms >= 2 * length_ms:
            return f"{ms // length_ms}{unit}"
    return f"{ms / 1000:.1f}s"


# --- one group -------------------------------------------------------------------------------------------------------


async def _letters(client: Client, account_id: AccountId, args: argparse.Namespace) -> int:
    from statecast.store.group_admin import check_group, dead_letters

    await check_group(client, account_id, args.group)
    some = False
    async for letter in dead_letters(client, account_id, args.group, args.last):
        some = True
        if args.json:
            _print_json({"letterId": letter.letter_id, **letter.fields})
        else:
            print(_letter_line(letter))
    if not some and not args.json:
        print(f"{args.group} has no dead letters")
    return 0


def _letter_line(letter: DeadLetter) -> str:
    """A dead letter in one line: the event, and why."""
    from statecast.cli.views import event_line
    from statecast.store.keys import EVENT_FIELDS

    fields = dict.fromkeys((*EVENT_FIELDS, "attempts", "reason"), "") | dict(letter.fields)
    # The reason is whatever a handler raised: a line break or an escape sequence in it must not reach the terminal.
    reason = "".join(sign if sign.isprintable() else " " for sign in fields["reason"])
    return f"{letter.letter_id} {event_line(fields)} | given up after {fields['attempts']} attempts: {reason}"


async def _wanted(client: Client, account_id: AccountId, args: argparse.Namespace) -> list[str]:
    """Ids of the chosen letters, each once."""
    from statecast.store.group_admin import check_group, dead_letters

    await check_group(client, account_id, args.group)
    if not args.all:
        return list(dict.fromkeys(args.ids))
    return [letter.letter_id async for letter in dead_letters(client, account_id, args.group)]


async def _requeue(client: Client, account_id: AccountId, args: argparse.Namespace) -> int:
    from statecast.store.group_admin import requeue

    letter_ids = await _wanted(client, account_id, args)
    done = await requeue(client, account_id, args.group, letter_ids)
    why_not = {
        "unknown": f"{args.group} has no such dead letter",
        "gone": "the log does not hold its event any more; the letter stays",
        "no group": f"the group {args.group} does not exist any more; the letter stays",
    }
    return _report(args, letter_ids, done, "requeued", why_not)


async def _drop(client: Client, account_id: AccountId, args: argparse.Namespace) -> int:
    from statecast.store.group_admin import drop

    letter_ids = await _wanted(client, account_id, args)
    done = ["dropped" if there else "unknown" for there in await drop(client, account_id, args.group, letter_ids)]
    return _report(args, letter_ids, done, "dropped", {"unknown": f"{args.group} has no such dead letter"})


def _report(
    args: argparse.Namespace, letter_ids: list[str], done: list[Any], good: str, why_not: dict[str, str]
) -> int:
    """Print what became of each letter; the exit code."""
    for letter_id, result in zip(letter_ids, done, strict=True):
        if args.json:
            _print_json({"letterId": letter_id, "result": result})
        elif result == good:
            print(f"{good} {letter_id}")
        else:
            _print_error(f"NOT {good.upper()} {letter_id}: {why_not[result]}")
    if not letter_ids and not args.json:
        print(f"{args.group} has no dead letters")
    return 0 if all(result == good for result in done) else NOT_DONE


async def _remove(client: Client, account_id: AccountId, args: argparse.Namespace) -> int:
    from statecast.store.group_admin import InUse, remove_group

    done = await remove_group(client, account_id, args.group, forced=args.force)
    if isinstance(done, InUse):
        reason = (
            f"{done.consumer} serves it; stop its consumers, which would create it again from the beginning of the log"
            if done.consumer is not None
            else f"it has {done.dead_letters} dead letters; requeue or drop them"
        )
        _print_error(f"NOT REMOVED {args.group}: {reason}, or use --force")
        return NOT_DONE
    if args.json:
        _print_json({"group": args.group, "removed": True, "pending": done.pending, "deadLetters": done.dead_letters})
    else:
        print(f"removed {args.group}: {done.pending} pending events and {done.dead_letters} dead letters went with it")
    return 0


def _print_json(document: dict[str, Any]) -> None:
    import orjson

    print(orjson.dumps(document).decode())


def _print_error(sentence: str) -> None:
    sys.stdout.flush()
    print(sentence, file=sys.stderr, flush=True)
