from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.groups import Log, log_of
from support.written import eventually

from statecast.embedded.server import EmbeddedServer, ServerBinary
from statecast.errors import ConfigError, ContractMismatch, LeaseLost, StoreDiverged, StoreRefused
from statecast.store.client import connect
from statecast.store.groups import (
    ConsumerGroup,
    Progress,
    check_name,
    is_permanent,
    partition_of,
    position,
    redis_groups,
)
from statecast.store.keys import REQUEUED, AccountId, AccountKeys


@pytest.fixture
async def log(any_redis_url: str, account_name: str) -> AsyncIterator[Log]:
    async with log_of(any_redis_url, account_name) as opened:
        yield opened


def member(log: Log, consumer: str, partitions: int = 1, lease_s: float = 60.0, group: str = "bot") -> ConsumerGroup:
    return ConsumerGroup(log.client, log.account_id, group, consumer=consumer, partitions=partitions, lease_s=lease_s)


async def holder(log: Log, consumer: str = "a", start: str = "0-0", **options: Any) -> tuple[ConsumerGroup, str]:
    """A consumer that has joined and holds partition 1, under a term."""
    group = member(log, consumer, **options)
    await group.join(start)
    return group, (await group.renew()).partitions[1].term


async def held(group: ConsumerGroup) -> list[int]:
    return list((await group.renew()).partitions)


async def numbers(group: ConsumerGroup, term: str, after: str = ">", count: int = 100) -> list[int]:
    """The events that a read gives, by their numbers."""
    entries, _ = await group.read(1, term, after, count)
    return [int(fields["eventSeq"]) if fields else 0 for _, fields in entries]


# Names


@pytest.mark.parametrize("name", ["mybot", "my-bot_2.x", "B", "7", "a" * 64, "of", "1of2"])
def test_a_group_may_be_called(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "my bot", "bot:1", "bot{x}", "-bot", "bär", "a" * 65, "bot.1of2", "bot\n"])
def test_a_group_may_not_be_called(name: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check_name(name)
    assert str(refused.value).startswith(f"group is {name!r}; accepted: up to 64 letters")


def test_each_partition_has_a_group_in_redis_and_orders_of_its_own() -> None:
    assert redis_groups("bot", 1) == ("bot",)
    assert redis_groups("bot", 3) == ("bot.1of3", "bot.2of3", "bot.3of3")
    orders = [str(number) for number in range(300)]
    assert {partition_of(order, 1) for order in orders} == {1}
    assert {partition_of(order, 3) for order in orders} == {1, 2, 3}
    assert [partition_of("8886774413", 4) for _ in range(3)] == [partition_of("8886774413", 4)] * 3


def test_ids_compare_as_numbers() -> None:
    assert position("1795384609183-9") < position("1795384609183-10") < position("11795384609183-0")


# Joining


async def test_a_new_group_begins_now(log: Log) -> None:
    await log.write(3)
    group, term = await holder(log, start="$")
    assert await numbers(group, term) == []
    assert (await group.claim(1, term)).progress == Progress(3, log.desk.writer.epoch, "0-0")
    await log.write(2)
    assert await numbers(group, term) == [4, 5]


async def test_a_new_group_begins_after_an_id_and_knows_the_number_before(log: Log) -> None:
    await log.write(5)
    ids = await log.entry_ids()
    group, term = await holder(log, start=ids[1])
    progress = (await group.claim(1, term)).progress
    assert progress is not None
    assert progress.event_seq == 2
    assert await numbers(group, term) == [3, 4, 5]


async def test_a_group_begins_after_an_entry_whose_time_is_still_to_come(log: Log) -> None:
    """As after a step back of the server's clock, and of an entry that was written in this millisecond."""
    await log.write(3)
    entries = await log.redis.xrange(log.keys.order_events)
    await log.redis.delete(log.keys.order_events)
    for number, (entry_id, fields) in enumerate(entries):
        await log.redis.xadd(log.keys.order_events, fields, id=f"{position(entry_id)[0] + 3_600_000}-{number}")
    ids = await log.entry_ids()
    for name, start, expected in (("middle", ids[1], 2), ("last", ids[2], 3)):
        group = member(log, "a", group=name)
        await group.join(start)
        progress = (await group.claim(1, (await group.renew()).partitions[1].term)).progress
        assert progress is not None
        assert progress.event_seq == expected


async def test_an_event_that_is_wanted_and_was_trimmed_is_expected_all_the_same(log: Log) -> None:
    await log.write(5)
    await log.trim(3)
    group = member(log, "a")
    await group.join("0-0", least_seq=2)
    term = (await group.renew()).partitions[1].term
    progress = (await group.claim(1, term)).progress
    assert progress is not None
    assert progress.event_seq == 1
    later = member(log, "a", group="later")
    await later.join("0-0", least_seq=4)
    progress = (await later.claim(1, (await later.renew()).partitions[1].term)).progress
    assert progress is not None
    assert progress.event_seq == 3


async def test_who_joins_later_changes_nothing(log: Log) -> None:
    await log.write(3)
    group, term = await holder(log)
    assert await numbers(group, term, count=1) == [1]
    before = await log.shared("bot")
    assert await member(log, "b").join("$")
    assert await log.shared("bot") == before
    assert await numbers(group, term) == [2, 3]


async def test_joining_tells_whether_the_account_was_ever_published(log: Log, account_name: str) -> None:
    assert await member(log, "a").join("$")
    unknown = AccountId("binance", f"{account_name}-unknown")
    group = ConsumerGroup(log.client, unknown, "bot", consumer="a")
    assert not await group.join("$")
    assert (await group.renew()).partitions
    assert not await log.redis.exists(AccountKeys(unknown).status)


async def test_another_contract_is_refused(log: Log) -> None:
    await log.redis.hset(log.keys.status, "contract", "2")
    with pytest.raises(ContractMismatch) as refused:
        await member(log, "a").join("$")
    assert str(refused.value).endswith("is written under contract 2, this program reads 1")


async def test_all_members_have_the_same_number_of_partitions(log: Log) -> None:
    group, _ = await holder(log, partitions=2)
    other = member(log, "b", partitions=3)
    for call in (other.join("$"), other.renew()):
        with pytest.raises(ConfigError) as refused:
            await call
        assert str(refused.value).startswith("partitions is '3'; accepted: 2, with which group bot of binance:test-")
    assert await held(group) == [1, 2]


async def test_a_group_that_redis_lost_begins_again_at_the_oldest_and_says_so(log: Log) -> None:
    await log.write(4)
    group, term = await holder(log, start="$")
    await log.redis.xgroup_destroy(log.keys.order_events, "bot")
    for call in (group.read(1, term, ">", 9), group.claim(1, term), group.attempt(1, term, "1-1", "t")):
        with pytest.raises(StoreDiverged):
            await call
    newcomer = member(log, "b")
    await newcomer.join("$")
    claim = await group.claim(1, term)
    assert claim.lost.startswith("group ")
    assert claim.progress is not None
    assert claim.progress.event_seq == 4
    assert (await group.claim(1, term)).lost == claim.lost, "reported by nobody yet"
    assert (await group.claim(1, term, reported=claim.lost)).lost == ""
    assert (await group.claim(1, term)).lost == ""
    assert await numbers(group, term) == [1, 2, 3, 4]


async def test_when_all_is_lost_a_member_brings_what_it_knows(log: Log) -> None:
    await log.write(4)
    group, term = await holder(log)
    await log.redis.delete(log.keys.order_events, log.keys.group("bot"))
    with pytest.raises(LeaseLost):
        await group.read(1, term, ">", 9)
    with pytest.raises(StoreDiverged):
        await group.renew()
    known = Progress(4, log.desk.writer.epoch, (await log.entry_ids() or ["5-0"])[-1])
    await group.join("$", existed=True, known={1: known})
    later = (await group.renew()).partitions[1].term
    assert int(later) > int(term)
    claim = await group.claim(1, later)
    assert claim.lost.startswith("group ")
    assert claim.progress == known
    await log.write(1)
    assert await numbers(group, later) == [5]


async def test_a_group_made_by_hand_is_taken_over_where_it_is(log: Log) -> None:
    await log.write(4)
    second = (await log.entry_ids())[1]
    await log.redis.xgroup_create(log.keys.order_events, "bot", second)
    group, term = await holder(log, start="$")
    claim = await group.claim(1, term)
    assert claim.progress == Progress(2, log.desk.writer.epoch, second)
    assert claim.lost == ""
    assert await numbers(group, term) == [3, 4]


async def test_what_a_group_made_by_hand_has_seen_may_be_unknown(log: Log) -> None:
    await log.write(4)
    second = (await log.entry_ids())[1]
    await log.redis.xgroup_create(log.keys.order_events, "bot", second)
    await log.trim(2)
    await asyncio.sleep(0.002)  # else the group might begin at a time to come
    group, term = await holder(log, start="$")
    claim = await group.claim(1, term)
    assert claim.lost.startswith("progress ")
    assert await numbers(group, term) == [3, 4]


@pytest.mark.parametrize("key", ["order_events", "group_activity", "group"])
async def test_a_key_of_another_type_refuses_and_nothing_is_written(log: Log, key: str) -> None:
    name = log.keys.group("bot") if key == "group" else getattr(log.keys, key)
    await log.redis.delete(name)
    await log.redis.set(name, "x")
    keys = {log.keys.order_events, log.keys.group_activity, log.keys.group("bot")}
    with pytest.raises(StoreRefused) as refused:
        await member(log, "a").join("0-0")
    assert is_permanent(refused.value)
    assert [other for other in keys if await log.redis.exists(other)] == [name]


# Leases


async def test_one_holds_the_partition_and_the_others_stand_by(log: Log) -> None:
    first, second = member(log, "a"), member(log, "b")
    await first.join("$")
    await second.join("$")
    assert await held(second) == [1]
    assert await held(first) == []
    assert await held(second) == [1]
    shared = await log.shared("bot")
    assert shared["1.owner"] == "b"
    assert shared["1.untilMs"] == shared["member.b"]
    assert "member.a" in shared


async def test_what_is_given_up_is_free_at_once(log: Log) -> None:
    first, term = await holder(log)
    second = member(log, "b")
    assert await held(second) == []
    await first.leave({1: []}, membership=True)
    assert "member.a" not in await log.shared("bot")
    taken = (await second.renew()).partitions[1]
    assert taken.term_before == term
    assert int(taken.term) > int(term)
    assert await held(first) == []


async def test_a_silent_holder_loses_the_partition_and_its_late_calls_do_nothing(log: Log) -> None:
    await log.write(2)
    first, term = await holder(log, lease_s=0.05)
    second = member(log, "b")

    async def taken() -> bool:
        return await held(second) == [1]

    await eventually(taken)
    for call in (first.read(1, term, ">", 9), first.claim(1, term), first.dead_letter(1, term, "1-1", 1, "no")):
        with pytest.raises(LeaseLost, match="is held by b"):
            await call
    assert await log.pending("bot") == []
    assert "member.a" not in await log.shared("bot")


async def test_a_lease_that_ran_out_refuses_also_while_nobody_else_has_it(log: Log) -> None:
    await log.write(1)
    group, term = await holder(log, lease_s=0.02)
    await asyncio.sleep(0.05)
    with pytest.raises(LeaseLost, match="has run out"):
        await group.read(1, term, ">", 9)
    renewed = (await member(log, "a").renew()).partitions[1]
    assert renewed == (term, term), "nobody had it in between"
    assert await numbers(group, term) == [1]


async def test_a_new_term_stops_what_is_still_under_way(log: Log) -> None:
    await log.write(1)
    group, term = await holder(log)
    renewed = (await group.renew(new_terms=[1])).partitions[1]
    assert renewed.term_before == term
    with pytest.raises(LeaseLost):
        await group.read(1, term, ">", 9)
    assert (await group.renew()).partitions[1] == (renewed.term, renewed.term)
    assert await numbers(group, renewed.term) == [1]


async def test_a_term_is_never_given_out_twice_even_by_an_empty_redis(log: Log) -> None:
    group, term = await holder(log)
    await log.redis.delete(log.keys.group("bot"))
    await group.join("$", existed=True)
    again = (await group.renew()).partitions[1]
    assert again.term_before == "0"
    assert int(again.term) > int(term)


async def test_partitions_are_shared_out_and_move_only_when_they_must(log: Log) -> None:
    members = [member(log, name, partitions=4) for name in ("c", "a", "b")]
    for each in members:
        await each.join("$")

    async def settle() -> list[list[int]]:
        for _ in range(4):
            for each in members:
                lease = await each.renew()
                for number in list(lease.partitions)[: lease.surplus]:
                    await each.leave({number: []}, membership=False)
        return [await held(each) for each in members]

    first = members.pop(0)
    assert await held(first) == [1, 2, 3, 4]
    members.insert(0, first)
    shared = await settle()
    assert sorted(map(len, shared)) == [1, 1, 2]
    assert sorted(number for each in shared for number in each) == [1, 2, 3, 4]
    assert await settle() == shared
    gone, rest = members[0], members[1:]
    await gone.leave(dict.fromkeys((1, 2, 3, 4), ()), membership=True)
    before = shared[1:]
    members[:] = rest
    after = await settle()
    assert [len(each) for each in after] == [2, 2]
    assert all(set(old) <= set(new) for old, new in zip(before, after, strict=True))


async def test_a_group_counts_as_served_while_its_partitions_are_held(log: Log) -> None:
    group, _ = await holder(log, partitions=2)
    await log.redis.hset(log.keys.group_activity, mapping={"bot.1of2": "5", "bot.2of2": "5", "other": "5"})
    await group.renew()
    now = int((await log.redis.time())[0]) * 1000
    served = await log.redis.hgetall(log.keys.group_activity)
    assert served.pop("other") == "5"
    assert set(served) == {"bot.1of2", "bot.2of2"}
    assert all(abs(int(at) - now) < 60_000 for at in served.values())
    standby = member(log, "b", partitions=2)
    before = await log.redis.hgetall(log.keys.group_activity)
    await asyncio.sleep(0.003)
    if not await held(standby):
        assert await log.redis.hgetall(log.keys.group_activity) == before


# Reading, taking over


async def test_what_was_read_and_not_acknowledged_can_be_read_again(log: Log) -> None:
    await log.write(5)
    group, term = await holder(log)
    assert await numbers(group, term, count=3) == [1, 2, 3]
    ids = await log.entry_ids()
    await group.ack(1, ids[1:2], None)
    assert await numbers(group, term, after="0-0") == [1, 3]
    assert await numbers(group, term, after=ids[0]) == [3]
    entries, youngest = await group.read(1, term, ">", 9)
    assert [entry_id for entry_id, _ in entries] == ids[3:]
    assert youngest == ids[4]
    assert await group.read(1, term, ">", 9) == ([], ids[4])


async def test_a_read_of_an_empty_log_tells_where_to_wait(log: Log) -> None:
    group, term = await holder(log)
    assert await group.read(1, term, ">", 9) == ([], "0-0")
    waiting = asyncio.create_task(group.wait("0-0", 10_000))
    await log.write(1)
    await waiting
    assert await numbers(group, term) == [1]


async def test_what_others_left_is_taken_over_and_their_names_go(log: Log) -> None:
    await log.write(250)
    first, term = await holder(log)
    assert len(await numbers(first, term, count=250)) == 250
    await first.leave({1: []}, membership=True)
    await log.redis.xgroup_createconsumer(log.keys.order_events, "bot", "idle")
    second = member(log, "b")
    term = (await second.renew()).partitions[1].term
    claims = [await second.claim(1, term)]
    while claims[-1].more:
        assert await log.redis.xpending(log.keys.order_events, "bot"), "nothing is dropped with a name"
        claims.append(await second.claim(1, term))
    assert [claim.claimed for claim in claims] == [100, 100, 50]
    assert await log.consumers("bot") == {"b": 250}
    assert (await second.claim(1, term)).claimed == 0
    assert await numbers(second, term, after="0-0", count=250) == list(range(1, 251))
    rows = await log.redis.xpending_range(log.keys.order_events, "bot", "-", "+", 1)
    assert rows[0]["times_delivered"] == 2, "one delivery to each, and none by taking over"


async def test_what_is_pending_and_trimmed_is_reported_until_it_is_acknowledged(log: Log) -> None:
    await log.write(4)
    first, term = await holder(log)
    await numbers(first, term)
    ids = await log.entry_ids()
    await log.trim(2)
    assert await numbers(first, term, after="0-0") == [0, 0, 3, 4]
    await first.leave({1: []}, membership=True)
    second = member(log, "b")
    term = (await second.renew()).partitions[1].term
    for _ in range(2):
        claim = await second.claim(1, term)
        assert claim.gone == ids[:2]
    assert await log.pending("bot") == ids
    await second.ack(1, claim.gone, Progress(2, 7, ids[1]))
    claim = await second.claim(1, term)
    assert (claim.gone, claim.progress) == ([], Progress(2, 7, ids[1]))
    assert await log.consumers("bot") == {"b": 2}


async def test_what_was_put_back_is_taken_over_with_attempts_anew(log: Log) -> None:
    await log.write(2)
    group, term = await holder(log)
    await numbers(group, term)
    ids = await log.entry_ids()
    assert await group.attempt(1, term, ids[0], "t1") == 1
    assert await group.dead_letter(1, term, ids[0], 5, "no")
    await log.redis.xclaim(log.keys.order_events, "bot", REQUEUED, 0, [ids[0]], force=True, justid=True)
    assert (await group.claim(1, term)).claimed == 1
    assert await numbers(group, term, after="0-0") == [1, 2]
    assert await group.attempt(1, term, ids[0], "t2") == 0
    assert await group.attempt(1, term, ids[0], "t3") == 1
    await group.claim(1, term)
    assert await log.consumers("bot") == {"a": 2}


# Attempts, acknowledgement, dead letters


async def test_attempts_are_counted_while_an_entry_is_pending(log: Log) -> None:
    await log.write(2)
    group, term = await holder(log)
    await numbers(group, term)
    first, second = await log.entry_ids()
    assert [await group.attempt(1, term, first, token) for token in "aabbc"] == [1, 1, 2, 2, 3]
    assert await group.attempt(1, term, second, "t4") == 1
    await group.ack(1, [first], None)
    assert await group.attempt(1, term, first, "t5") == "done"
    await log.trim(1)
    assert await group.attempt(1, term, first, "t6") == "gone"
    assert [field for field in await log.shared("bot") if "attempts" in field] == [f"1.attempts.{second}"]
    with pytest.raises(LeaseLost):
        await group.attempt(1, "7", second, "t7")


async def test_progress_goes_forward_only(log: Log) -> None:
    await log.write(12)
    group, term = await holder(log)
    await numbers(group, term)
    ids = await log.entry_ids()
    await group.ack(1, [ids[10]], Progress(11, 7, ids[10]))
    await group.ack(1, [ids[1]], Progress(2, 7, ids[1]))
    await group.ack(1, [ids[2]], None)
    assert (await group.claim(1, term)).progress == Progress(11, 7, ids[10])
    assert await log.pending("bot") == [each for at, each in enumerate(ids) if at not in (1, 2, 10)]


async def test_what_is_handled_can_be_acknowledged_after_the_lease_is_lost(log: Log) -> None:
    await log.write(1)
    group, term = await holder(log)
    await numbers(group, term)
    await group.leave({1: []}, membership=True)
    (entry_id,) = await log.entry_ids()
    for _ in range(2):
        await group.ack(1, [entry_id], Progress(1, 7, entry_id))
    assert await log.pending("bot") == []
    assert (await log.shared("bot"))["1.eventSeq"] == "1"


async def test_an_acknowledgement_makes_no_group(log: Log) -> None:
    await log.write(1)
    group, term = await holder(log)
    await numbers(group, term)
    (entry_id,) = await log.entry_ids()
    await log.redis.delete(log.keys.order_events, log.keys.group("bot"))
    await group.ack(1, [entry_id], Progress(1, 7, entry_id))
    assert await log.shared("bot") == {}
    assert not await log.redis.exists(log.keys.order_events)


async def test_a_dead_letter_is_written_once_with_everything(log: Log) -> None:
    await log.write(2)
    group, term = await holder(log)
    await numbers(group, term)
    (first, fields), (second, _) = await log.redis.xrange(log.keys.order_events)
    await group.attempt(1, term, first, "t8")
    for _ in range(2):
        assert await group.dead_letter(1, term, first, 5, "ValueError: no such symbol")
    (letter,) = await log.letters("bot")
    dead_at = int(letter.pop("deadAtMs"))
    assert abs(dead_at - int((await log.redis.time())[0]) * 1000) < 60_000
    assert letter == fields | {
        "group": "bot",
        "entryId": first,
        "attempts": "5",
        "reason": "ValueError: no such symbol",
        "consumer": "a",
    }
    assert await log.pending("bot") == [second]
    shared = await log.shared("bot")
    assert (shared["1.eventSeq"], shared["1.entryId"]) == ("1", first)
    assert not [field for field in shared if "attempts" in field]


async def test_what_the_log_does_not_hold_is_no_dead_letter(log: Log) -> None:
    await log.write(2)
    group, term = await holder(log)
    await numbers(group, term)
    first, _ = await log.entry_ids()
    await log.trim(1)
    assert not await group.dead_letter(1, term, first, 5, "no")
    assert await log.letters("bot") == []
    assert first in await log.pending("bot")


async def test_leaving_keeps_what_is_pending_and_forgets_what_was_only_read_ahead(log: Log) -> None:
    await log.write(3)
    group, term = await holder(log)
    await numbers(group, term)
    ids = await log.entry_ids()
    await group.leave({1: ids[2:]}, membership=True)
    assert await log.consumers("bot") == {"a": 3}
    other = member(log, "b")
    term = (await other.renew()).partitions[1].term
    await other.claim(1, term)
    assert [await other.attempt(1, term, each, "t9") for each in ids] == [1, 1, 0]
    await other.ack(1, ids, None)
    await other.leave({1: ids}, membership=True)
    assert await log.consumers("bot") in ({}, {"a": 0})
    assert not [field for field in await log.shared("bot") if "member" in field]


async def test_a_late_goodbye_changes_nothing_of_the_next_holder(log: Log) -> None:
    await log.write(1)
    group, term = await holder(log)
    await numbers(group, term)
    await group.leave({1: []}, membership=True)
    other = member(log, "b")
    await other.renew()
    before = await log.shared("bot")
    await group.leave({1: await log.entry_ids()}, membership=True)
    assert await log.shared("bot") == before


# What the server refuses


async def refusal(url: str, account_id: AccountId, user: str = "") -> StoreRefused:
    async with connect(url.replace("//", f"//{user}"), client_name="test") as client:
        with pytest.raises(StoreRefused) as refused:
            await ConsumerGroup(client, account_id, "bot", consumer="a").join("$")
    return refused.value


PERMISSIONS = (
    "-@all +hello +auth +ping +select +client|setname +time +evalsha +script|load +exists +hget +hmget +hgetall +hlen"
    " +hexists +hset +hdel +hincrby +xread +xrange +xrevrange +xinfo +xpending +xreadgroup +xack +xclaim +xgroup|create"
    " +xgroup|delconsumer +xadd"
)
"""What a consumer of a group needs, beside reading; on the keys `…:order-events`, `…:group:*`, `…:group-activity`,
`…:dead-letters:*`, and `…:status` to read. docs/redis.md says so."""


async def test_a_consumer_needs_these_permissions_and_no_others(any_server_binary: ServerBinary) -> None:
    with EmbeddedServer(any_server_binary) as server:
        async with log_of(server.url, "main") as log:
            prefix = log.keys.group_activity.removesuffix("group-activity")
            names = ("order-events", "group:*", "group-activity", "dead-letters:*", "status")
            keys = [f"~{prefix}{name}" for name in names]
            await log.redis.execute_command("ACL", "SETUSER", "bot", "on", ">x", *keys, *PERMISSIONS.split())
            await log.write(5)
            async with connect(server.url.replace("//", "//bot:x@"), client_name="bot") as client:
                group = ConsumerGroup(client, log.account_id, "bot", consumer="a", lease_s=60.0)
                await group.join("0-0")
                term = (await group.renew()).partitions[1].term
                await group.claim(1, term)
                entries, youngest = await group.read(1, term, ">", 9)
                await group.wait(youngest, 1)
                assert await group.attempt(1, term, entries[0][0], "t10") == 1
                assert await group.dead_letter(1, term, entries[0][0], 1, "no")
                await group.ack(1, [entry_id for entry_id, _ in entries[1:]], None)
                await group.leave({1: [entries[0][0]]}, membership=True)
            assert await log.consumers("bot") == {}


async def test_a_refusal_is_permanent_or_may_pass(
    own_redis: EmbeddedServer, any_server_binary: ServerBinary, tmp_path: Path
) -> None:
    account_id = AccountId("binance", "main")
    with EmbeddedServer(any_server_binary, directory=tmp_path) as server:  # a replica of 6.2 needs a place for a file
        async with connect(server.url, client_name="test") as admin:
            redis: Any = admin.redis
            await redis.execute_command("ACL", "SETUSER", "reader", "on", ">x", "~*", "+@all", "-hset", "-hget")
            assert is_permanent(await refusal(server.url, account_id, "reader:x@"))
            await redis.execute_command("ACL", "SETUSER", "nobody", "on", ">x", "~*", "+@connection")
            assert is_permanent(await refusal(server.url, account_id, "nobody:x@"))
            await redis.execute_command("ACL", "SETUSER", "other", "on", ">x", "~other:*", "+@all")
            assert is_permanent(await refusal(server.url, account_id, "other:x@"))
            await redis.execute_command("REPLICAOF", own_redis.host, str(own_redis.port))
            assert not is_permanent(await refusal(server.url, account_id))
            await redis.execute_command("REPLICAOF", "NO", "ONE")
            await redis.config_set("maxmemory", "1")
            assert not is_permanent(await refusal(server.url, account_id))
