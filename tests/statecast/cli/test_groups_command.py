"""`statecast groups` as its users meet it: what the groups do, and how dead letters are settled."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import orjson
import pytest
from redis.asyncio import Redis
from support.changes import event, snapshot
from support.commands import exit_code
from support.programs import run
from support.terminal import terminal
from support.written import Desk, eventually

from consumers.order_events import OrderEvent, OrderEvents
from statecast.store.client import Client, connect
from statecast.store.keys import EVENT_FIELDS, AccountId, AccountKeys

WRITTEN = 6


class Account:
    """A published account with order events, and the command on it."""

    def __init__(self, client: Client, name: str, url: str, directory: Path) -> None:
        self.name = name
        self.url = url
        self.directory = directory
        self.account_id = AccountId("binance", name)
        self.redis = cast("Redis[Any]", client.redis)
        self.keys = AccountKeys(self.account_id)
        self.desk = Desk(client, self.account_id)

    async def publish(self) -> None:
        await self.desk.open()
        await self.desk.commit([snapshot()])
        await self.desk.commit(*([event(n, "NEW", order_id=str(n))] for n in range(1, WRITTEN + 1)))

    async def plain_group(self, name: str, delivered: int = 0) -> list[str]:
        """A group made with commands alone, that was given that many entries; their ids."""
        await self.redis.xgroup_create(self.keys.order_events, name, "0")
        if not delivered:
            return []
        reply = await self.redis.xreadgroup(name, "worker", {self.keys.order_events: ">"}, count=delivered)
        return [entry_id for entry_id, _ in reply[self.keys.order_events]]

    async def letters(self, group: str, count: int, reason: str = "no") -> list[str]:
        """Move the first entries of the log to the dead letters of a group; the letters' ids."""
        entries = await self.redis.xrange(self.keys.order_events, count=count)
        letters = [fields | {"entryId": entry_id, "attempts": "5", "reason": reason} for entry_id, fields in entries]
        return [await self.redis.xadd(self.keys.dead_letters(group), letter) for letter in letters]

    async def has_acknowledged_all(self, group: str) -> bool:
        return int((await self.redis.xpending(self.keys.order_events, group))["pending"]) == 0

    async def groups(self, *arguments: str) -> tuple[int, list[str]]:
        return await run(self.directory, "statecast.cli.main", "groups", self.name, *arguments, REDIS_URL=self.url)

    async def documents(self, *arguments: str) -> list[dict[str, Any]]:
        code, lines = await self.groups(*arguments, "--json")
        assert code == 0, lines
        return [orjson.loads(line) for line in lines]


@pytest.fixture
async def account(redis_url: str, account_name: str, tmp_path: Path) -> AsyncIterator[Account]:
    async with connect(redis_url, client_name="test") as client:
        published = Account(client, account_name, redis_url, tmp_path)
        await published.publish()
        yield published


async def test_an_account_without_groups_says_so(account: Account) -> None:
    assert await account.groups() == (0, [f"{account.account_id} has no consumer group"])
    assert await account.documents() == []


async def test_a_group_in_plain_lines(account: Account) -> None:
    first, *_ = await account.plain_group("bot", delivered=2)
    await account.letters("bot", 1)
    code, lines = await account.groups()
    assert code == 0
    group, consumer = lines
    assert group.startswith("group bot lag=4 waitingMs=")
    facts = dict(fact.split("=") for fact in group.split()[2:])
    assert {name: facts[name] for name in ("pending", "oldestPending", "oldestPendingConsumer", "deadLetters")} == {
        "pending": "2",
        "oldestPending": first,
        "oldestPendingConsumer": "worker",
        "deadLetters": "1",
    }
    assert re.fullmatch(r"  consumer worker pending=2 idleMs=\d+", consumer)


async def test_groups_for_programs(account: Account) -> None:
    first, *_ = await account.plain_group("bot", delivered=2)
    await account.plain_group("new")
    bot, new = await account.documents()
    assert (bot["accountId"], bot["group"], bot["redisGroup"], bot["exists"]) == (
        str(account.account_id),
        "bot",
        "bot",
        True,
    )
    assert (bot["lag"], bot["pending"], bot["deadLetters"], bot["oldestDeadLetterAgeMs"]) == (4, 2, 0, None)
    assert bot["oldestPending"]["entryId"] == first
    assert [consumer["name"] for consumer in bot["consumers"]] == ["worker"]
    assert (new["lag"], new["pending"], new["oldestPending"], new["servedAgoMs"]) == (6, 0, None, None)
    assert list(bot) == list(new)


async def test_a_terminal_has_tables_and_whole_names(account: Account) -> None:
    await account.plain_group("bot", delivered=2)
    await account.letters("bot", 3)
    await account.redis.xgroup_create(account.keys.order_events, "other", "$")
    async with terminal(
        account.directory, "statecast.cli.main", "groups", account.name, REDIS_URL=account.url
    ) as shown:
        assert await shown.ends() == 0
        await asyncio.sleep(0)
    rows = [line.split() for line in shown.text.splitlines() if line.strip()]
    assert rows[0] == [str(account.account_id)]
    assert rows[1] == [
        "consumer",
        "groups",
        "lag",
        "waiting",
        "pending",
        "oldest",
        "dead",
        "letters",
        "served",
        "active",
    ]
    assert [rows[2][at] for at in (0, 1, 3, 5, -1)] == ["bot", "4", "2", "3", "-"]
    assert rows[3] == ["other", "0", "-", "0", "-", "0", "never", "-"]
    assert rows[4] == ["consumers", "group", "role", "pending", "last", "seen"]
    assert rows[5][:4] == ["worker", "bot", "-", "2"]


async def test_letters_tell_event_and_reason_in_one_line_each(account: Account) -> None:
    await account.plain_group("bot")
    assert await account.groups("letters", "bot") == (0, ["bot has no dead letters"])
    ids = await account.letters("bot", 3, reason="ValueError: bad\x1b[31m\nprice")
    code, lines = await account.groups("letters", "bot")
    assert code == 0
    assert [line.split()[0] for line in lines] == ids
    assert lines[0].startswith(f"{ids[0]} #1 NEW BTCUSDT ")
    assert lines[0].endswith(" | given up after 5 attempts: ValueError: bad [31m price")
    assert (await account.groups("letters", "bot", "--last", "1"))[1] == lines[-1:]

    documents = await account.documents("letters", "bot")
    assert [document["letterId"] for document in documents] == ids
    assert set(EVENT_FIELDS) < set(documents[0])
    assert documents[0]["reason"] == "ValueError: bad\x1b[31m\nprice"


async def test_a_letter_that_says_little_is_shown_all_the_same(account: Account) -> None:
    await account.redis.xadd(account.keys.dead_letters("bot"), {"entryId": "1-1"})
    code, (line,) = await account.groups("letters", "bot")
    assert code == 0
    assert line.endswith("| given up after  attempts: ")


async def test_some_letters_are_put_back_and_others_dropped(account: Account) -> None:
    await account.plain_group("bot", delivered=WRITTEN)
    first, second, third, fourth = await account.letters("bot", 4)
    assert await account.groups("requeue", "bot", first, second, first) == (
        0,
        [f"requeued {first}", f"requeued {second}"],
    )
    assert await account.groups("drop", "bot", third) == (0, [f"dropped {third}"])
    code, lines = await account.groups("requeue", "bot", first, fourth)
    assert code == 1
    assert sorted(lines) == [f"NOT REQUEUED {first}: bot has no such dead letter", f"requeued {fourth}"]
    assert await account.groups("requeue", "bot", "--all") == (0, ["bot has no dead letters"])


async def test_all_letters_at_once(account: Account) -> None:
    entry_ids = await account.plain_group("bot", delivered=WRITTEN)
    ids = await account.letters("bot", 3)
    await account.redis.xtrim(account.keys.order_events, minid=entry_ids[1], approximate=False)
    code, lines = await account.groups("requeue", "bot", "--all")
    assert code == 1
    left = f"NOT REQUEUED {ids[0]}: the log does not hold its event any more; the letter stays"
    assert sorted(lines) == sorted([left, f"requeued {ids[1]}", f"requeued {ids[2]}"])
    assert await account.groups("drop", "bot", "--all") == (0, [f"dropped {ids[0]}"])
    assert await account.documents("drop", "bot", "--all") == []
    assert await account.documents("letters", "bot") == []


async def test_results_for_programs(account: Account) -> None:
    await account.plain_group("bot")
    (letter_id,) = await account.letters("bot", 1)
    assert await account.documents("requeue", "bot", letter_id) == [{"letterId": letter_id, "result": "requeued"}]
    code, (line,) = await account.groups("drop", "bot", letter_id, "--json")
    assert (code, orjson.loads(line)) == (1, {"letterId": letter_id, "result": "unknown"})


async def test_a_group_is_removed_when_nothing_speaks_against_it(account: Account) -> None:
    await account.plain_group("bot", delivered=1)
    stop = "stop its consumers, which would create it again from the beginning of the log"
    assert await account.groups("remove", "bot") == (1, [f"NOT REMOVED bot: worker serves it; {stop}, or use --force"])
    await account.redis.xgroup_delconsumer(account.keys.order_events, "bot", "worker")
    await account.letters("bot", 2)
    assert await account.groups("remove", "bot") == (
        1,
        ["NOT REMOVED bot: it has 2 dead letters; requeue or drop them, or use --force"],
    )
    assert await account.groups("remove", "bot", "--force") == (
        0,
        ["removed bot: 0 pending events and 2 dead letters went with it"],
    )
    await account.plain_group("bot")
    assert await account.documents("remove", "bot") == [
        {"group": "bot", "removed": True, "pending": 0, "deadLetters": 0}
    ]
    assert await account.groups() == (0, [f"{account.account_id} has no consumer group"])


async def test_a_bot_handles_again_what_was_put_back(account: Account) -> None:
    """From a handler that fails to a handler that was mended, with the bots' own library and the command between."""
    handled: list[int] = []
    mended = False

    def handle(told: OrderEvent) -> None:
        if told.event_seq == 3 and not mended:
            raise ValueError("no such symbol")
        handled.append(told.event_seq)

    options: dict[str, Any] = {"group": "bot", "start": "beginning", "max_attempts": 2, "backoff_s": 0.0}
    async with OrderEvents(account.account_id, account.url, **options) as events:
        working = asyncio.create_task(events.run(handle))
        try:
            await eventually(lambda: _holds(handled, [1, 2, 4, 5, 6]))
            (shown,) = await account.documents()
            assert (shown["lag"], shown["pending"], shown["deadLetters"]) == (0, 0, 1)
            assert [consumer["role"] for consumer in shown["consumers"]] == ["active"]
            assert (await account.groups("remove", "bot"))[0] == 1
            (letter,) = await account.documents("letters", "bot")
            assert (letter["eventSeq"], letter["attempts"]) == ("3", "2")
            assert letter["reason"] == "ValueError: no such symbol"

            mended = True
            assert await account.groups("requeue", "bot", "--all") == (0, [f"requeued {letter['letterId']}"])
            await eventually(lambda: _holds(handled, [1, 2, 4, 5, 6, 3]))
            await eventually(lambda: account.has_acknowledged_all("bot"))
        finally:
            working.cancel()
            with suppress(asyncio.CancelledError):
                await working
    (shown,) = await account.documents()
    assert (shown["pending"], shown["deadLetters"], shown["consumers"]) == (0, 0, [])
    assert (await account.groups("remove", "bot"))[0] == 0


async def _holds(handled: list[int], wanted: list[int]) -> bool:
    return handled == wanted


async def test_an_account_that_was_never_published_is_told(redis_url: str, tmp_path: Path, account_name: str) -> None:
    for action in ((), ("letters", "bot"), ("requeue", "bot", "--all"), ("remove", "bot")):
        code, lines = await run(tmp_path, "statecast.cli.main", "groups", account_name, *action, REDIS_URL=redis_url)
        assert code == 3
        assert lines[0].startswith(f"NEVER PUBLISHED: no publisher has written binance:{account_name}")
        assert len(lines) == 1


@pytest.mark.parametrize(
    "action", [("letters",), ("requeue", "--all"), ("drop", "--all"), ("remove",), ("remove", "--force")], ids=" ".join
)
async def test_an_unknown_group_is_told_with_those_that_there_are(account: Account, action: tuple[str, ...]) -> None:
    await account.plain_group("bot")
    code, lines = await account.groups(action[0], "bat", *action[1:])
    assert code == 2
    assert lines == [f"statecast: GROUP is 'bat'; accepted: a group of {account.account_id}: bot"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["letters"], 2, "the following arguments are required: GROUP"),
        (["requeue", "bot"], 2, "one of the arguments ID --all is required"),
        (["requeue", "bot", "1-0", "--all"], 2, "not allowed with argument"),
        (["drop", "bot", "yesterday"], 2, "'yesterday' is not the id of a dead letter"),
        (["letters", "bot", "--last", "few"], 2, "argument --last: 'few' is not a whole number"),
        (["forget", "bot"], 2, "invalid choice: 'forget'"),
        (["--redis-url", "redis://127.0.0.1:1"], 1, "Redis at redis://127.0.0.1:1: connection refused"),
        (["--redis-url", "redis://127.0.0.1:1", "letters", "bot"], 1, "redis://127.0.0.1:1: connection refused"),
        (["letters", "bot", "--redis-url", "redis://127.0.0.1:1"], 1, "redis://127.0.0.1:1: connection refused"),
        (["letters", "bot", "--redis-url", "embedded"], 2, "STATECAST_REDIS_URL is 'embedded'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_work_is_one_clear_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code(["groups", "main", *arguments]) == code
    lines = capsys.readouterr().err.splitlines()
    assert says in lines[-1]
    assert len(lines) == 1 or lines[0].startswith("usage: ")
