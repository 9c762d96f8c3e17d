"""The log grows old: what goes, what stays, and for whom."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from random import Random
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from support.changes import event, snapshot
from support.written import Desk, eventually

from statecast.embedded.server import EmbeddedServer, ServerBinary
from statecast.errors import LeaseLost, StoreRefused
from statecast.store.client import Client, connect
from statecast.store.keys import EVENT_FIELDS, AccountId, AccountKeys
from statecast.store.trimming import Expired, LaggingGroup, Trimmed, Trimmer

RETENTION_S = 1_000
EXPIRY_S = 500
NOTHING = Trimmed(0, (), ())


@pytest.fixture(scope="module")
def redis_of_small_nodes(any_server_binary: ServerBinary) -> Iterator[str]:
    """URL of a server whose streams have one entry in a node, so that it trims to the entry."""
    with EmbeddedServer(any_server_binary) as server:
        yield server.url


@pytest.fixture
async def client(redis_of_small_nodes: str) -> AsyncIterator[Client]:
    async with connect(redis_of_small_nodes, client_name="publisher") as connected:
        await connected.redis.config_set("stream-node-max-entries", 1)
        yield connected


@pytest.fixture
def account_id(account_name: str) -> AccountId:
    return AccountId("binance", account_name)


class Log:
    """A log with entries of any age, its groups, and a publisher that holds the lease."""

    def __init__(self, client: Client, account_id: AccountId) -> None:
        self.client = client
        self.redis = cast("Redis[Any]", client.redis)
        self.account_id = account_id
        self.keys = AccountKeys(account_id)
        self.desk = Desk(client, account_id)

    async def now_ms(self) -> int:
        seconds, microseconds = await self.redis.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def write(self, *ages_s: float) -> list[str]:
        """An entry written that long ago for each of the ages, which grow less; their ids."""
        now_ms = await self.now_ms()
        return [await self.add(f"{now_ms - round(age_s * 1000)}-1") for age_s in ages_s]

    async def add(self, entry_id: str) -> str:
        fields = dict.fromkeys(EVENT_FIELDS, "") | {"eventSeq": "1"}
        return cast(str, await self.redis.xadd(self.keys.order_events, fields, id=entry_id))

    async def group(self, name: str, *, served_s_ago: float | None = 0.0, start: str = "0") -> None:
        await self.redis.xgroup_create(self.keys.order_events, name, start)
        if served_s_ago is not None:
            served_ms = await self.now_ms() - round(served_s_ago * 1000)
            await self.redis.hset(self.keys.group_activity, name, str(served_ms))

    async def deliver(self, group: str, count: int) -> list[str]:
        """Hand out the next entries to a consumer; their ids."""
        reply = await self.redis.xreadgroup(group, "worker", {self.keys.order_events: ">"}, count=count)
        return [entry_id for entry_id, _ in reply[self.keys.order_events]]

    async def acknowledge(self, group: str, *ids: str) -> None:
        assert await self.redis.xack(self.keys.order_events, group, *ids) == len(ids)

    async def ids(self) -> list[str]:
        return [entry_id for entry_id, _ in await self.redis.xrange(self.keys.order_events)]

    def trimmer(
        self, *, keep: int = 0, expiry_s: float = EXPIRY_S, retention_s: float = RETENTION_S, **options: int
    ) -> Trimmer:
        limits = {"retention_ms": round(retention_s * 1000), "expiry_ms": round(expiry_s * 1000)} | options
        return Trimmer(self.client, self.account_id, **limits, keep=keep)

    async def trim(self, **options: Any) -> Trimmed:
        return await self.trimmer(**options).trim(self.desk.writer.publisher_id, self.desk.writer.epoch)


@pytest.fixture
async def log(client: Client, account_id: AccountId) -> Log:
    opened = Log(client, account_id)
    await opened.desk.open()
    return opened


def names(found: Sequence[LaggingGroup | Expired]) -> list[str]:
    return [group.group for group in found]


# By age


async def test_what_is_older_than_the_retention_goes(log: Log) -> None:
    ids = await log.write(3_000, 2_000, 1_001, 900, 10)
    assert await log.trim() == Trimmed(3, (), ())
    assert await log.ids() == ids[3:]
    assert await log.trim() == NOTHING


@pytest.mark.parametrize(("keep", "left"), [(0, 1), (3, 3), (5, 5), (9, 5)])
async def test_the_youngest_entries_stay_whatever_their_age(log: Log, keep: int, left: int) -> None:
    ids = await log.write(5_000, 4_000, 3_000, 2_000, 10)
    await log.trim(keep=keep)
    assert await log.ids() == ids[-left:]


async def test_an_empty_log_is_nothing_to_trim(log: Log) -> None:
    assert await log.trim() == NOTHING
    assert await log.redis.exists(log.keys.order_events) == 0


async def test_a_retention_longer_than_the_clock_keeps_everything(log: Log) -> None:
    ids = await log.write(5_000, 10)
    assert await log.trim(retention_s=10**10) == NOTHING
    assert await log.ids() == ids


async def test_one_call_removes_a_bounded_number(log: Log) -> None:
    ids = await log.write(*range(3_000, 2_990, -1), 10)
    assert [(await log.trim(most_per_call=4)).removed for _ in range(4)] == [4, 4, 2, 0]
    assert await log.ids() == ids[-1:]


async def test_with_nodes_as_servers_have_them_hardly_more_stays(any_redis_url: str, account_id: AccountId) -> None:
    """Whole nodes go: what is needed stays, and of the rest less than a node."""
    async with connect(any_redis_url, client_name="publisher") as client:
        log = Log(client, account_id)
        await log.desk.open()
        ids = await log.write(*(2_000 - n / 10 for n in range(500)), 10)
        await log.group("slow")
        await log.acknowledge("slow", *await log.deliver("slow", 400))
        assert (await log.trim()).removed > 300
        left = await log.ids()
        assert left[-101:] == ids[-101:]
        assert len(left) < 201


# For groups


async def test_what_a_live_group_has_not_acknowledged_stays_until_it_has(log: Log) -> None:
    ids = await log.write(3_000, 2_500, 2_000, 1_500, 10)
    await log.group("bot")
    first, second, third = await log.deliver("bot", 3)
    await log.acknowledge("bot", first, third)

    done = await log.trim()
    assert await log.ids() == ids[1:]
    (held,) = done.lagging
    assert (held.group, held.oldest_id, held.pending) == ("bot", second, 1)
    assert 2_500_000 <= held.age_ms < 2_600_000
    assert (done.removed, done.expired) == (1, ())

    await log.acknowledge("bot", second)
    assert names((await log.trim()).lagging) == ["bot"], "the fourth was never delivered"
    assert await log.ids() == ids[3:]
    await log.acknowledge("bot", *await log.deliver("bot", 2))
    assert await log.trim() == Trimmed(1, (), ())
    assert await log.ids() == ids[4:]


async def test_the_slowest_of_the_live_groups_decides(log: Log) -> None:
    ids = await log.write(3_000, 2_500, 2_000, 1_500, 10)
    for group, handled in (("quick", 5), ("slow", 1), ("slower", 0)):
        await log.group(group)
        if handled:
            await log.acknowledge(group, *await log.deliver(group, handled))
    assert names((await log.trim()).lagging) == ["slow", "slower"]
    assert await log.ids() == ids
    await log.acknowledge("slower", *await log.deliver("slower", 3))
    await log.trim()
    assert await log.ids() == ids[1:]


async def test_ids_are_compared_as_numbers(log: Log) -> None:
    """As text, 10 is less than 9."""
    ms = await log.now_ms() - 2_000_000
    ids = [await log.add(f"{ms}-{number}") for number in (8, 9, 10, 11, 2**63)]
    for group, handled in (("nine", 1), ("ten", 2), ("last", 4)):
        await log.group(group)
        await log.acknowledge(group, *await log.deliver(group, handled))
    assert (await log.trim()).removed == 1
    await log.acknowledge("nine", *await log.deliver("nine", 4))
    assert (await log.trim()).removed == 1
    await log.acknowledge("ten", *await log.deliver("ten", 3))
    assert [(held.group, held.oldest_id) for held in (await log.trim()).lagging] == [("last", ids[4])]
    assert await log.ids() == ids[4:]


async def test_a_group_that_nobody_serves_holds_nothing_and_is_not_removed(log: Log) -> None:
    ids = await log.write(3_000, 2_000, 10)
    await log.group("left", served_s_ago=EXPIRY_S + 100)
    await log.group("served", served_s_ago=EXPIRY_S - 100)
    await log.acknowledge("served", *await log.deliver("served", 3))
    done = await log.trim()
    assert (done.removed, done.lagging, names(done.expired)) == (2, (), ["left"])
    assert done.expired[0].unserved_ms >= EXPIRY_S * 1000
    assert await log.ids() == ids[2:]
    assert names((await log.trim()).expired) == ["left"], "seen, it is not new the next time"
    assert {group["name"] for group in await log.redis.xinfo_groups(log.keys.order_events)} == {"left", "served"}


async def test_a_group_that_has_everything_is_not_worth_a_word(log: Log) -> None:
    await log.write(3_000, 10)
    await log.group("left", served_s_ago=EXPIRY_S + 100, start="$")
    assert await log.trim() == Trimmed(1, (), ())


async def test_a_consumer_that_was_at_redis_keeps_its_group_alive(log: Log) -> None:
    """Whoever reads with commands alone tells nobody but Redis."""
    ids = await log.write(3_000, 2_000, 10)
    await log.group("plain", served_s_ago=EXPIRY_S + 100)
    await log.deliver("plain", 1)
    assert names((await log.trim()).lagging) == ["plain"]
    assert await log.ids() == ids

    async def expired() -> bool:
        return names((await log.trim(expiry_s=0.2)).expired) == ["plain"]

    await eventually(expired)
    assert await log.ids() == ids[2:]


async def test_a_group_seen_for_the_first_time_has_all_its_time(log: Log) -> None:
    ids = await log.write(3_000, 10)
    await log.group("new", served_s_ago=None)
    before_ms = await log.now_ms()
    assert names((await log.trim()).lagging) == ["new"]
    assert await log.ids() == ids
    seen_ms = int(await log.redis.hget(log.keys.group_activity, "new"))
    assert before_ms <= seen_ms <= await log.now_ms()
    await log.trim()
    assert int(await log.redis.hget(log.keys.group_activity, "new")) == seen_ms, "seen first is seen once"


async def test_a_service_in_the_future_counts_from_now(log: Log) -> None:
    """Redis's clock was ahead and is set back."""
    await log.write(3_000, 10)
    await log.group("bot", served_s_ago=-10_000_000)
    assert names((await log.trim()).lagging) == ["bot"]
    assert int(await log.redis.hget(log.keys.group_activity, "bot")) <= await log.now_ms()


async def test_a_pending_entry_that_is_gone_holds_nothing(log: Log) -> None:
    ids = await log.write(3_000, 2_000, 10)
    await log.group("bot")
    await log.deliver("bot", 3)
    await log.acknowledge("bot", ids[1])
    await log.redis.xdel(log.keys.order_events, ids[0])
    assert await log.trim() == Trimmed(1, (), ())
    assert await log.ids() == ids[2:]


async def test_what_was_put_back_is_held_again(log: Log) -> None:
    """An entry that a group had acknowledged and that was made pending again, even beyond what was delivered."""
    ids = await log.write(3_000, 2_500, 2_000, 1_500, 10)
    await log.group("bot", start=ids[2])
    await log.redis.xclaim(log.keys.order_events, "bot", "requeued", 0, [ids[4]], force=True, justid=True)
    await log.trim()
    assert await log.ids() == ids[3:]


async def test_what_is_known_of_a_group_that_is_gone_is_forgotten_in_time(log: Log) -> None:
    await log.write(10)
    now_ms = await log.now_ms()
    known = {"just gone": str(now_ms - 1000), "long gone": str(now_ms - EXPIRY_S * 1000 - 1000), "broken": "?"}
    await log.redis.hset(log.keys.group_activity, mapping=known)
    await log.trim()
    assert await log.redis.hkeys(log.keys.group_activity) == ["just gone"]


@pytest.mark.parametrize("seed", range(12))
async def test_exactly_what_nobody_needs_goes(log: Log, seed: int) -> None:
    """Groups in any state, and the rule in plain Python: old enough, and acknowledged by all that live."""
    rng = Random(seed)
    ages = sorted((rng.choice([rng.uniform(1_100, 5_000), rng.uniform(10, 900)]) for _ in range(60)), reverse=True)
    ids = await log.write(*ages)
    needed = {entry_id for entry_id, age_s in zip(ids, ages, strict=True) if age_s < RETENTION_S}
    for number in range(rng.randrange(1, 6)):
        name, live = f"group-{number}", rng.random() < 0.7
        start = rng.randrange(0, 40)
        await log.group(name, start=ids[start], served_s_ago=0.0 if live else EXPIRY_S + 1)
        unacknowledged = set(ids[start + 1 :])
        if live and (count := rng.randrange(0, 60 - start - 1)):
            handled = [entry_id for entry_id in await log.deliver(name, count) if rng.random() < 0.95]
            if handled:
                await log.acknowledge(name, *handled)
            unacknowledged -= set(handled)
        if live:
            needed |= unacknowledged
    kept = ids[min(ids.index(entry_id) for entry_id in needed) :] if needed else []
    await log.trim()
    assert await log.ids() == kept


# By whom


async def test_who_does_not_hold_the_lease_trims_nothing(log: Log, client: Client) -> None:
    ids = await log.write(3_000, 10)
    trimmer, writer = log.trimmer(), log.desk.writer
    with pytest.raises(LeaseLost, match="trimmed by the holder of its lease: publisher-1"):
        await trimmer.trim("publisher-2", writer.epoch)
    with pytest.raises(LeaseLost, match="epoch"):
        await trimmer.trim(writer.publisher_id, writer.epoch - 1)
    await writer.release("stopped", "")
    with pytest.raises(LeaseLost, match="nobody"):
        await trimmer.trim(writer.publisher_id, writer.epoch)
    successor = Desk(client, log.account_id, "publisher-2")
    await successor.open()
    with pytest.raises(LeaseLost, match="publisher-2"):
        await trimmer.trim(writer.publisher_id, writer.epoch)
    assert await log.ids() == ids
    assert (await trimmer.trim("publisher-2", successor.writer.epoch)).removed == 1


async def test_a_key_that_is_not_ours_is_refused_before_anything_goes(log: Log) -> None:
    ids = await log.write(3_000, 10)
    await log.redis.set(log.keys.group_activity, "not a hash")
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await log.trim()
    assert await log.ids() == ids


async def test_a_server_without_memory_is_trimmed_all_the_same(
    any_server_binary: ServerBinary, account_id: AccountId
) -> None:
    with EmbeddedServer(any_server_binary) as server:
        async with connect(server.url, client_name="publisher") as client:
            log = Log(client, account_id)
            await log.desk.open()
            await client.redis.config_set("stream-node-max-entries", 1)
            await log.write(3_000, 10)
            await log.group("new", start="$", served_s_ago=None)
            await client.redis.config_set("maxmemory", 1)
            with pytest.raises(StoreRefused, match="maxmemory"), client.errors():
                await log.write(5)
            assert (await log.trim()).removed == 1


async def test_the_commits_of_a_publisher_go_on_beside(log: Log) -> None:
    """Numbers, dedupe and lease are untouched by trimming what the publisher itself has written."""
    desk = log.desk
    await desk.commit([snapshot()])
    await desk.commit(*([event(n, "NEW", order_id=str(n))] for n in range(1, 31)))

    async def trimmed() -> bool:
        await log.trim(retention_s=0.001, keep=10)
        return len(await log.ids()) == 10

    await eventually(trimmed)
    assert [int(fields["eventSeq"]) for _, fields in await log.redis.xrange(log.keys.order_events)] == [*range(21, 31)]
    await desk.commit([event(31, "NEW", order_id="31")])
    assert len(await desk.writer.youngest_events(0, 100)) == 11
