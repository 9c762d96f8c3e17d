from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from support.groups import (
    Log,
    consumer,
    die,
    handle,
    nothing_comes,
    nothing_pending,
    seqs,
    take,
    until_it_works,
)
from support.written import eventually

from statecast.errors import ConfigError


async def test_a_new_group_begins_when_it_is_entered(log: Log, url: str) -> None:
    await log.write(3)
    async with consumer(log, url, start="now") as events:
        await log.write(2)
        assert await handle(events, 2) == [4, 5]
    await log.write(2)
    async with consumer(log, url, start="now") as events:
        assert await handle(events, 2) == [6, 7], "it is not new any more"
        assert not events.gaps


async def test_a_new_group_can_begin_at_the_beginning_at_a_number_or_at_a_time(log: Log, url: str) -> None:
    await log.write(3)
    await asyncio.sleep(0.005)
    await log.write(3)
    milliseconds = int((await log.entry_ids())[3].partition("-")[0])
    starts: list[tuple[dict[str, Any], list[int]]] = [
        ({"start": "beginning"}, [1, 2, 3, 4, 5, 6]),
        ({"start_event_seq": 1}, [1, 2, 3, 4, 5, 6]),
        ({"start_event_seq": 5}, [5, 6]),
        ({"start_event_seq": 7}, []),
        ({"start_ms": milliseconds}, [4, 5, 6]),
        ({"start_ms": 0}, [1, 2, 3, 4, 5, 6]),
        ({"start_ms": milliseconds + 60_000}, []),
    ]
    for number, (start, expected) in enumerate(starts):
        async with consumer(log, url, f"bot{number}", **start) as events:
            assert await handle(events, len(expected)) == expected
            assert not events.gaps
            if not expected:
                await nothing_comes(events, 0.1)


async def test_a_number_that_is_to_come_later_is_refused(log: Log, url: str) -> None:
    await log.write(3)
    with pytest.raises(ConfigError) as refused:
        async with consumer(log, url, start_event_seq=5):
            pass
    assert str(refused.value) == (
        f"start_event_seq is '5'; accepted: up to 4: the last order event of {log.account_id} is 3. If it was higher"
        " before, Redis has lost data, and numbers do not say where to continue"
    )
    assert not await log.redis.exists(log.keys.group("bot"))
    async with consumer(log, url, start_event_seq=4) as events:
        await log.write(2)
        assert await handle(events, 2) == [4, 5]
    async with consumer(log, url, start_event_seq=99) as events:  # the group is there, and asks no more where to begin
        await log.write(1)
        assert await handle(events, 1) == [6]
        assert not events.gaps


async def test_a_time_to_come_is_waited_for_and_what_is_before_it_is_no_gap(log: Log, url: str) -> None:
    await log.write(2)
    seconds, _ = await log.redis.time()
    start_ms = (int(seconds) + 2) * 1000
    async with consumer(log, url, start_ms=start_ms) as first, consumer(log, url, start_ms=start_ms):
        await log.write(3)
        await nothing_comes(first, 0.1)
        await die(first)
    async with consumer(log, url, start_ms=start_ms) as events:

        async def come() -> bool:
            now, _ = await log.redis.time()
            return int(now) * 1000 >= start_ms

        await eventually(come)
        await log.write(2)
        assert await handle(events, 2) == [6, 7]
        assert not events.gaps


async def test_another_number_of_partitions_is_refused(log: Log, url: str) -> None:
    async with consumer(log, url, partitions=2):
        with pytest.raises(ConfigError, match="partitions is '3'; accepted: 2, with which group bot of"):
            async with consumer(log, url, partitions=3):
                pass


async def test_a_partition_moves_to_a_newcomer_when_what_is_in_hand_is_settled(log: Log, url: str) -> None:
    orders = [f"o{number}" for number in range(20)]
    async with consumer(log, url, partitions=2, lease_s=30.0) as one:
        for order in orders:
            await log.write(1, order_id=order)
        in_hand = await take(one, 20)
        assert one.holds == (1, 2)
        async with consumer(log, url, partitions=2, lease_s=30.0) as two:
            await nothing_comes(two, 0.5)
            assert not two.holds, "it waits for what is in hand"
            for event in in_hand:
                await event.ack()
            await until_it_works(two)
            assert sorted(one.holds + two.holds) == [1, 2]
            for order in orders:
                await log.write(1, order_id=order)
            shares: list[set[int]] = [set(), set()]
            for events, share in zip((one, two), shares, strict=True):
                with suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        async for event in events:
                            share.add(event.event_seq)
                            assert (event.attempt, event.redelivered) == (1, False)
                            await event.ack()
            assert shares[0] | shares[1] == set(range(21, 41))
            assert not shares[0] & shares[1]


async def test_a_standby_goes_on_when_the_other_leaves(log: Log, url: str) -> None:
    async with consumer(log, url, lease_s=60.0) as first:
        await log.write(10)
        assert await handle(first, 4) == [1, 2, 3, 4]
        in_hand = await take(first, 2)
        async with consumer(log, url, lease_s=60.0) as second:
            await nothing_comes(second, 0.1)
            await first.aclose()
            events = await take(second, 6)  # within much less than the lease
            assert seqs(events) == [5, 6, 7, 8, 9, 10]
            assert seqs(in_hand) == [5, 6]
            assert [event.attempt for event in events] == [2, 2, 1, 1, 1, 1], "four were never given out"
            assert all(event.redelivered for event in events)
            for event in events:
                await event.ack()
            assert list(await log.consumers("bot")) == [second.consumer]
        assert await log.consumers("bot") == {}
        shared = await log.shared("bot")
        assert not [field for field in shared if "member" in field or "owner" in field or "attempts" in field]


async def test_what_a_dead_consumer_had_comes_to_the_next(log: Log, url: str) -> None:
    first = consumer(log, url)
    async with first:
        await log.write(10)
        await handle(first, 4)
        await take(first, 1)
        await die(first)
        async with consumer(log, url) as second:
            events = await take(second, 6)
            assert seqs(events) == [5, 6, 7, 8, 9, 10]
            assert all(event.redelivered for event in events)
            for event in events:
                await event.ack()

            async def alone() -> bool:
                return await log.consumers("bot") == {second.consumer: 0}

            await eventually(alone)
            assert not second.gaps


async def test_who_has_lost_the_lease_gives_nothing_out_and_may_still_acknowledge(log: Log, url: str) -> None:
    async with consumer(log, url) as first, consumer(log, url) as second:
        works = await until_it_works(first, second)
        other = second if works is first else first
        await log.write(5)
        (in_hand,) = await take(works, 1)
        assert works._keeper is not None
        works._keeper.cancel()  # no renewals, as of a process that hangs
        assert seqs(await take(other, 5)) == [1, 2, 3, 4, 5]
        assert not works.holds
        await log.write(1)
        await nothing_comes(works)
        await in_hand.ack()
        assert await log.pending("bot") == (await log.entry_ids())[1:]


async def test_what_was_read_ahead_is_forgotten_with_the_partition(log: Log, url: str) -> None:
    async with consumer(log, url) as first:
        await log.write(5)
        await take(first, 1)
        assert first._keeper is not None
        first._keeper.cancel()
        async with consumer(log, url) as second:
            assert await handle(second, 5) == [1, 2, 3, 4, 5]
        first._keeper = first._tasks.start(first._membership.keep())
        await log.write(1)
        assert await handle(first, 1) == [6]
        assert not first.gaps


async def test_a_group_that_is_destroyed_is_created_again_and_what_others_had_comes_again(log: Log, url: str) -> None:
    async with consumer(log, url) as before:
        await log.write(2)
        assert await handle(before, 2) == [1, 2]
    async with consumer(log, url) as events:
        await log.write(2)
        assert await handle(events, 1) == [3]
        (fourth,) = await take(events, 1)
        await log.redis.xgroup_destroy(log.keys.order_events, "bot")
        await log.write(1)
        again = await take(events, 3)
        assert seqs(again) == [1, 2, 5], "what was handled here, or is in hand, does not come again"
        assert [event.redelivered for event in again] == [True, True, False]
        assert not events.gaps
        for event in (fourth, *again):
            await event.ack()
        await eventually(lambda: nothing_pending(log))


async def test_a_consumer_that_does_not_know_how_far_a_lost_group_had_come_reports_a_gap(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        await log.write(2)
        assert await handle(events, 2) == [1, 2]
    await log.redis.xgroup_destroy(log.keys.order_events, "bot")
    async with consumer(log, url) as events:
        assert await handle(events, 2) == [1, 2]
        assert [(gap.kind, gap.expected_event_seq) for gap in events.gaps] == [("reset", 3)]


async def test_a_lost_hash_alone_loses_no_event(log: Log, url: str) -> None:
    async with consumer(log, url, start="now") as events:
        await log.write(3)
        assert await handle(events, 3) == [1, 2, 3]
        await log.redis.delete(log.keys.group("bot"))
        await log.write(2)
        assert await handle(events, 2) == [4, 5]
        assert not events.gaps
        assert (await log.shared("bot"))["partitions"] == "1"
