"""Groups seen from outside, and their dead letters: shown, put back, dropped; and groups that nobody needs any more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from support.changes import event, snapshot
from support.link import linked_url
from support.written import Desk, eventually

from statecast.errors import ConfigError, StoreRefused, StoreUnreachable
from statecast.store import group_admin, groups
from statecast.store.client import Client, connect
from statecast.store.group_admin import DeadLetter, Group, InUse, Removed
from statecast.store.groups import ConsumerGroup
from statecast.store.keys import EVENT_FIELDS, REQUEUED, AccountId, AccountKeys

WRITTEN = 12
REASON = "ValueError: no such symbol"


@pytest.fixture
async def client(any_redis_url: str) -> AsyncIterator[Client]:
    async with connect(any_redis_url, client_name="operator") as connected:
        yield connected


@pytest.fixture
def account_id(account_name: str) -> AccountId:
    return AccountId("binance", account_name)


class Log:
    """A published account with some order events, and groups on them."""

    def __init__(self, client: Client, account_id: AccountId) -> None:
        self.client = client
        self.account_id = account_id
        self.redis = cast("Redis[Any]", client.redis)
        self.keys = AccountKeys(account_id)
        self.desk = Desk(client, account_id)
        self.ids: list[str] = []

    async def write(self, count: int) -> None:
        first = len(self.ids) + 1
        numbers = range(first, first + count)
        await self.desk.commit(*([event(number, "NEW", order_id=str(number))] for number in numbers))
        self.ids = [entry_id for entry_id, _ in await self.redis.xrange(self.keys.order_events)]

    async def plain_group(self, name: str, *, delivered: int = 0, consumer: str = "worker") -> list[str]:
        """A group made with commands alone, that was given that many entries; their ids."""
        await self.redis.xgroup_create(self.keys.order_events, name, "0")
        if not delivered:
            return []
        reply = await self.redis.xreadgroup(name, consumer, {self.keys.order_events: ">"}, count=delivered)
        return [entry_id for entry_id, _ in reply[self.keys.order_events]]

    async def join(
        self, group: str, consumer: str, *, partitions: int = 1, owns: bool = True, lease_s: float = 60.0
    ) -> tuple[str, ...]:
        """Sign a consumer up, as those of statecast do, and give it all partitions; the names of Redis's groups."""
        names = groups.redis_groups(group, partitions)
        now_ms = int((await self.redis.time())[0]) * 1000
        until_ms = str(now_ms + round(lease_s * 1000))
        fields = {"partitions": str(partitions), f"member.{consumer}": until_ms}
        there = await self.redis.xinfo_groups(self.keys.order_events)
        for number, name in enumerate(names, start=1):
            if name not in [known["name"] for known in there]:
                await self.redis.xgroup_create(self.keys.order_events, name, "0")
            if owns:
                fields |= {f"{number}.owner": consumer, f"{number}.untilMs": until_ms}
                await self.redis.hset(self.keys.group_activity, name, str(now_ms))
        await self.redis.hset(self.keys.group(group), mapping=fields)
        return names

    async def leave(self, group: str, consumer: str, *, partitions: int = 1) -> None:
        """What an orderly end of that consumer leaves."""
        owned = [f"{number}.{what}" for number in range(1, partitions + 1) for what in ("owner", "untilMs")]
        await self.redis.hdel(self.keys.group(group), f"member.{consumer}", *owned)

    async def give_up(self, group: str, count: int = 1, *, redis_group: str | None = None) -> list[str]:
        """Move the next entries of a group to its dead letters; their ids."""
        name = redis_group or group
        reply = await self.redis.xreadgroup(name, "first", {self.keys.order_events: ">"}, count=count)
        for entry_id, fields in reply[self.keys.order_events]:
            added = {"group": name, "attempts": "5", "consumer": "first", "deadAtMs": "1", "reason": REASON}
            await self.letter(group, entry_id, **fields, **added)
            await self.redis.xack(self.keys.order_events, name, entry_id)
        return [entry_id for entry_id, _ in reply[self.keys.order_events]]

    async def letter(self, group: str, entry_id: str, /, **fields: str) -> str:
        """A dead letter, as a program in another language writes it; its id."""
        key = self.keys.dead_letters(group)
        return cast(str, await self.redis.xadd(key, fields | {"entryId": entry_id}))

    async def groups(self) -> dict[str, Group]:
        return {group.redis_group: group for group in await group_admin.overview(self.client, self.account_id)}

    async def letters(self, group: str, last: int | None = None, **options: int) -> list[DeadLetter]:
        found = group_admin.dead_letters(self.client, self.account_id, group, last, **options)
        return [letter async for letter in found]

    async def requeue(self, group: str, *letter_ids: str, **options: int) -> list[group_admin.Requeued]:
        return await group_admin.requeue(self.client, self.account_id, group, letter_ids, **options)

    async def remove(self, group: str, *, forced: bool = False, **options: int) -> Removed | InUse:
        return await group_admin.remove_group(self.client, self.account_id, group, forced=forced, **options)

    async def pending(self, name: str) -> list[tuple[str, str]]:
        """What is pending in a group of Redis, and under which name."""
        found = await self.redis.xpending_range(self.keys.order_events, name, "-", "+", 1000)
        return [(one["message_id"], one["consumer"]) for one in found]


@pytest.fixture
async def log(client: Client, account_id: AccountId) -> Log:
    published = Log(client, account_id)
    await published.desk.open()
    await published.desk.commit([snapshot()])
    await published.write(WRITTEN)
    return published


# What is shown


async def test_how_far_a_group_is(log: Log) -> None:
    delivered = await log.plain_group("bot", delivered=5)
    await log.redis.xack(log.keys.order_events, "bot", *delivered[:2])
    await log.redis.xclaim(log.keys.order_events, "bot", "other", 0, [delivered[2]])
    group = (await log.groups())["bot"]
    assert (group.group, group.partition, group.partitions, group.exists) == ("bot", 1, 1, True)
    assert (group.lag, group.pending) == (WRITTEN - 5, 3)
    assert group.oldest is not None
    assert (group.oldest.entry_id, group.oldest.consumer, group.oldest.deliveries) == (delivered[2], "other", 2)
    assert group.oldest.age_ms >= group.waiting_ms > 0
    assert [(consumer.name, consumer.pending, consumer.role) for consumer in group.consumers] == [
        ("other", 1, ""),
        ("worker", 2, ""),
    ]
    assert (group.dead_letters, group.oldest_dead_letter_age_ms) == (0, None)


async def test_the_lag_is_redis_s_own_where_redis_knows_it(log: Log) -> None:
    await log.plain_group("bot", delivered=3)
    await log.plain_group("new")
    await log.write(4)
    told = {group["name"]: group["lag"] for group in await log.redis.xinfo_groups(log.keys.order_events)}
    assert {name: group.lag for name, group in (await log.groups()).items()} == told == {"bot": 13, "new": 16}


async def test_a_group_that_has_everything_waits_for_nothing(log: Log) -> None:
    delivered = await log.plain_group("bot", delivered=WRITTEN)
    await log.redis.xack(log.keys.order_events, "bot", *delivered)
    group = (await log.groups())["bot"]
    assert (group.lag, group.waiting_ms, group.pending, group.oldest) == (0, 0, 0, None)


async def test_who_is_active_who_waits_and_who_is_gone(log: Log) -> None:
    await log.join("bot", "first")
    await log.join("bot", "second", owns=False)
    await log.redis.xreadgroup("bot", "first", {log.keys.order_events: ">"}, count=2)
    await log.redis.xreadgroup("bot", "killed", {log.keys.order_events: ">"}, count=1)
    await log.redis.xclaim(log.keys.order_events, "bot", REQUEUED, 0, log.ids[:1])
    group = (await log.groups())["bot"]
    roles = {consumer.name: (consumer.role, consumer.pending) for consumer in group.consumers}
    assert roles == {"first": ("active", 1), "second": ("standby", 0), "killed": ("gone", 1), "requeued": ("", 1)}
    assert [consumer.name for consumer in group.consumers if consumer.idle_ms is None] == ["second"]
    assert group.served_ago_ms is not None
    assert group.served_ago_ms < 60_000

    await log.redis.xack(log.keys.order_events, "bot", log.ids[0])
    await log.leave("bot", "first")
    after = (await log.groups())["bot"].consumers
    assert {consumer.name: consumer.role for consumer in after} == {
        "first": "gone",
        "killed": "gone",
        "second": "standby",
    }


async def test_whose_lease_has_run_out_is_not_shown_as_active(log: Log) -> None:
    await log.join("bot", "killed", lease_s=-1.0)
    assert (await log.groups())["bot"].consumers == ()


async def test_partitions_are_shown_each(log: Log) -> None:
    names = await log.join("bot", "first", partitions=2)
    await log.join("bot", "second", partitions=2, owns=False)
    await log.give_up("bot", redis_group=names[1])
    found = await log.groups()
    assert list(found) == ["bot.1of2", "bot.2of2"]
    for number, group in enumerate(found.values(), start=1):
        assert (group.group, group.partition, group.partitions, group.dead_letters) == ("bot", number, 2, 1)
        assert [(consumer.name, consumer.role) for consumer in group.consumers] == [("first", "active")]


async def test_a_group_that_is_only_named_like_a_partition_is_one_of_its_own(log: Log) -> None:
    await log.plain_group("bot.1of2")
    await log.letter("bot.1of2", log.ids[0])
    await log.letter("bot", log.ids[0])
    (group,) = (await log.groups()).values()
    assert (group.group, group.partitions, group.dead_letters) == ("bot.1of2", 1, 1)


async def test_letters_of_a_group_that_redis_has_not_any_more_are_not_forgotten(log: Log) -> None:
    await log.join("bot", "first")
    await log.give_up("bot", 2)
    await log.join("empty", "first")
    for name in ("bot", "empty"):
        await log.redis.xgroup_destroy(log.keys.order_events, name)
    (group,) = (await log.groups()).values()
    assert (group.group, group.exists, group.dead_letters, group.lag, group.pending) == ("bot", False, 2, 0, 0)
    assert group.oldest_dead_letter_age_ms is not None


async def test_a_group_that_nobody_ever_served_says_so(log: Log) -> None:
    await log.plain_group("bot")
    assert (await log.groups())["bot"].served_ago_ms is None
    await log.redis.hset(log.keys.group_activity, "bot", "1000")
    assert cast(int, (await log.groups())["bot"].served_ago_ms) > 1_000_000_000_000
    await log.redis.xreadgroup("bot", "worker", {log.keys.order_events: ">"}, count=1)
    assert cast(int, (await log.groups())["bot"].served_ago_ms) < 60_000, "Redis saw it since"


async def test_an_account_without_groups_or_log_has_none(client: Client, account_id: AccountId, log: Log) -> None:
    assert await log.groups() == {}
    assert await group_admin.overview(client, AccountId("binance", "nobody")) == ()


async def test_letters_come_oldest_first_in_pages(log: Log) -> None:
    await log.join("bot", "first")
    given_up = await log.give_up("bot", 5)
    letters = await log.letters("bot", page=2)
    assert [letter.fields["entryId"] for letter in letters] == given_up
    assert letters[0].fields["reason"] == REASON
    assert list(letters[0].fields)[: len(EVENT_FIELDS)] == list(EVENT_FIELDS)
    for last in (0, 1, 2, 3, 5, 9):
        assert await log.letters("bot", last, page=2) == letters[len(letters) - min(last, 5) :]


# Putting back


@pytest.mark.parametrize("partitions", [1, 2])
async def test_a_letter_that_is_put_back_is_pending_again(log: Log, partitions: int) -> None:
    name = (await log.join("bot", "first", partitions=partitions))[-1]
    given_up = await log.give_up("bot", 3, redis_group=name)
    letters = await log.letters("bot")
    assert await log.requeue("bot", letters[0].letter_id, letters[2].letter_id) == ["requeued", "requeued"]
    assert [letter.fields["entryId"] for letter in await log.letters("bot")] == [given_up[1]]
    assert await log.pending(name) == [(given_up[0], "requeued"), (given_up[2], "requeued")]
    if partitions == 2:
        assert await log.pending("bot.1of2") == []


@pytest.mark.parametrize("partitions", [1, 2])
async def test_the_group_handles_again_what_was_put_back(log: Log, partitions: int) -> None:
    """With a consumer of ours, from one end to the other."""
    member = ConsumerGroup(log.client, log.account_id, "bot", consumer="first", partitions=partitions, lease_s=60.0)
    await member.join("0-0")
    term = (await member.renew()).partitions[partitions].term
    entries, _ = await member.read(partitions, term, ">", 3)
    for entry_id, _ in entries:
        assert await member.dead_letter(partitions, term, entry_id, 5, REASON)
    letters = await log.letters("bot")
    assert await log.requeue("bot", *(letter.letter_id for letter in letters)) == ["requeued"] * 3

    assert (await member.claim(partitions, term)).claimed == 3
    assert (await member.read(partitions, term, "0", 10))[0] == entries
    await member.ack(partitions, [entry_id for entry_id, _ in entries], None)
    assert await log.pending(member.names[-1]) == []


@pytest.mark.parametrize("partitions", [1, 2])
async def test_attempts_begin_anew(log: Log, partitions: int) -> None:
    name = (await log.join("bot", "first", partitions=partitions))[-1]
    (entry_id,) = await log.give_up("bot", redis_group=name)
    counts = [f"{number}.attempts.{entry_id}" for number in (1, 2)]
    await log.redis.hset(log.keys.group("bot"), mapping=dict.fromkeys(counts, "5"))
    (letter,) = await log.letters("bot")
    await log.requeue("bot", letter.letter_id)
    left = await log.redis.hmget(log.keys.group("bot"), counts)
    assert left == ([None, "5"] if partitions == 1 else ["5", None])


async def test_a_letter_of_a_partition_that_is_gone_stays(log: Log) -> None:
    """Another partition would take it for an event of others."""
    names = await log.join("bot", "first", partitions=2)
    await log.plain_group("bot")
    await log.give_up("bot", redis_group=names[1])
    (letter,) = await log.letters("bot")
    await log.redis.xgroup_destroy(log.keys.order_events, names[1])
    assert await log.requeue("bot", letter.letter_id) == ["no group"]
    assert await log.letters("bot") == [letter]


async def test_what_the_log_does_not_hold_any_more_stays_a_letter(log: Log) -> None:
    await log.join("bot", "first")
    given_up = await log.give_up("bot", 2)
    gone, there = await log.letters("bot")
    await log.redis.xtrim(log.keys.order_events, minid=given_up[1], approximate=False)
    broken = await log.letter("bot", "not an id")
    assert await log.requeue("bot", gone.letter_id, there.letter_id, broken) == ["gone", "requeued", "gone"]
    assert [letter.letter_id for letter in await log.letters("bot")] == [gone.letter_id, broken]
    assert await log.pending("bot") == [(given_up[1], "requeued")]


async def test_a_letter_without_a_group_stays(log: Log) -> None:
    letter_id = await log.letter("bot", log.ids[0])
    assert await log.requeue("bot", letter_id) == ["no group"]
    assert len(await log.letters("bot")) == 1
    await log.redis.delete(log.keys.order_events)
    assert await log.requeue("bot", letter_id) == ["gone"]


async def test_letters_that_others_wrote_go_to_their_own_group(log: Log) -> None:
    """They need not say which; and cannot name another."""
    others = ("bots", "bot.x", "bot.1of2", "other")
    for name in ("bot", *others):
        await log.plain_group(name)
    ids = [await log.letter("bot", log.ids[0])]
    ids += [await log.letter("bot", log.ids[at], group=group) for at, group in enumerate(("bot", *others), start=1)]
    assert await log.requeue("bot", *ids) == ["requeued"] * 6
    assert await log.pending("bot") == [(entry_id, "requeued") for entry_id in log.ids[:6]]
    assert [await log.pending(name) for name in others] == [[], [], [], []]


async def test_putting_back_twice_is_putting_back_once(log: Log, any_redis_url: str) -> None:
    await log.join("bot", "first")
    (entry_id,) = await log.give_up("bot")
    (letter,) = await log.letters("bot")
    async with linked_url(any_redis_url) as proxy, connect(proxy.url, client_name="operator") as behind:
        await group_admin.requeue(behind, log.account_id, "bot", ["1-1"])  # the script is known to the server now
        proxy.fate = lambda request: "lose reply"
        with pytest.raises(StoreUnreachable):
            await group_admin.requeue(behind, log.account_id, "bot", [letter.letter_id])
    assert await log.requeue("bot", letter.letter_id) == ["unknown"]
    assert await log.pending("bot") == [(entry_id, "requeued")]


async def test_nothing_is_put_back_where_a_key_is_not_ours(log: Log) -> None:
    await log.plain_group("bot")
    letter_id = await log.letter("bot", log.ids[0])
    await log.redis.set(log.keys.group("bot"), "not a hash")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await log.requeue("bot", letter_id)
    assert await log.pending("bot") == []
    assert len(await log.letters("bot")) == 1


async def test_many_letters_go_in_pages(log: Log) -> None:
    await log.plain_group("bot")
    ids = [await log.letter("bot", entry_id) for entry_id in log.ids[:7]]
    assert await log.requeue("bot", *ids[:5], "9-9", page=2) == [*["requeued"] * 5, "unknown"]
    dropped = await group_admin.drop(log.client, log.account_id, "bot", [*ids[4:], "9-9"], page=2)
    assert dropped == [False, True, True, False]
    assert await log.letters("bot") == []
    assert len(await log.pending("bot")) == 5


# Removing


async def test_a_group_is_removed_with_all_that_is_kept_for_it(log: Log) -> None:
    await log.join("bot", "first")
    await log.redis.xreadgroup("bot", "first", {log.keys.order_events: ">"}, count=3)
    await log.plain_group("bots")
    await log.redis.hset(log.keys.group_activity, "bots", "1")
    await log.leave("bot", "first")
    assert await log.remove("bot") == Removed(1, 3, 0)
    assert list(await log.groups()) == ["bots"]
    assert await log.redis.hkeys(log.keys.group_activity) == ["bots"]
    assert await log.redis.exists(log.keys.group("bot"), log.keys.dead_letters("bot")) == 0
    with pytest.raises(ConfigError, match=r"GROUP is 'bot'; accepted: a group of .*: bots"):
        await log.remove("bot")


async def test_a_group_that_is_served_is_not_removed_unless_forced(log: Log) -> None:
    await log.join("bot", "first")
    await log.plain_group("plain", delivered=1)
    await log.plain_group("alone")
    await log.requeue("alone", await log.letter("alone", log.ids[0]))
    assert await log.remove("alone") == Removed(1, 1, 0)
    assert await log.remove("bot") == InUse("first", 0)
    assert await log.remove("plain") == InUse("worker", 0)
    assert len(await log.groups()) == 2
    assert await log.remove("bot", forced=True) == Removed(1, 0, 0)
    assert await log.remove("plain", forced=True) == Removed(1, 1, 0)
    assert await log.groups() == {}


async def test_a_plain_group_whose_workers_are_long_gone_is_removed(log: Log) -> None:
    await log.plain_group("plain", delivered=1)

    async def removed() -> bool:
        return isinstance(await log.remove("plain", served_ms=20), Removed)

    await eventually(removed)


async def test_a_group_whose_members_were_killed_is_removed(log: Log) -> None:
    await log.join("bot", "killed", lease_s=-1.0)
    await log.redis.xreadgroup("bot", "killed", {log.keys.order_events: ">"}, count=1)
    assert await log.remove("bot") == Removed(1, 1, 0)


async def test_a_group_with_letters_is_not_removed_unless_forced(log: Log) -> None:
    await log.join("bot", "first")
    await log.give_up("bot", 2)
    await log.leave("bot", "first")
    assert await log.remove("bot") == InUse(None, 2)
    assert len(await log.letters("bot")) == 2
    assert await log.remove("bot", forced=True) == Removed(1, 0, 2)
    assert await log.letters("bot") == []


async def test_all_partitions_of_a_group_are_removed_and_nothing_else(log: Log) -> None:
    await log.join("bot", "first", partitions=2)
    await log.leave("bot", "first", partitions=2)
    for name in ("bot.1of3", "bot.3of2", "bot"):
        await log.plain_group(name)
    assert await log.remove("bot") == Removed(2, 0, 0)
    assert list(await log.groups()) == ["bot", "bot.1of3", "bot.3of2"]
    assert await log.redis.hkeys(log.keys.group_activity) == []


async def test_a_partition_is_not_a_group(log: Log) -> None:
    await log.join("bot", "first", partitions=2)
    for forced in (False, True):
        with pytest.raises(ConfigError, match=r"'bot\.1of2'; accepted: bot, of which this is one partition"):
            await log.remove("bot.1of2", forced=forced)
    assert len(await log.groups()) == 2


async def test_an_unknown_group_is_told_with_those_that_there_are(log: Log) -> None:
    with pytest.raises(ConfigError, match="has no consumer group"):
        await group_admin.check_group(log.client, log.account_id, "bot")
    await log.plain_group("bob")
    await log.plain_group("alice")
    with pytest.raises(ConfigError, match=r"'bot'; accepted: a group of binance:.*: alice, bob"):
        await group_admin.check_group(log.client, log.account_id, "bot")
    await log.letter("bot", log.ids[0])
    await group_admin.check_group(log.client, log.account_id, "bot")
