from __future__ import annotations

import asyncio

import pytest
from support.groups import (
    Log,
    consumer,
    die,
    handle,
    nothing_comes,
    seqs,
    take,
)
from support.written import eventually

from consumers.order_events import OrderEvent
from statecast.store.group_admin import requeue
from statecast.store.keys import REQUEUED


async def test_an_event_is_not_given_out_after_another_settled_it(log: Log, url: str) -> None:
    first = consumer(log, url)
    async with first:
        await log.write(3)
        in_hand = await take(first, 2)
        await die(first, leave_client=True)
        async with consumer(log, url) as second:
            (one,) = await take(second, 1)
            assert one.event_seq == 1
            await first._redis.ack(1, [in_hand[1].entry_id], None)
            assert seqs(await take(second, 1)) == [3]
        await first._client.aclose()


async def test_a_failed_event_comes_again_before_later_ones(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        await log.write(5)
        first, second, third = await take(events, 3)
        await second.retry("no connection to the database")
        (again,) = await take(events, 1)
        assert (again.event_seq, again.attempt, again.redelivered) == (2, 2, True)
        assert again == second.__class__(**{**vars(second), "attempt": 2, "redelivered": True})
        await again.ack()
        assert await handle(events, 2) == [4, 5]
        await first.ack()
        await third.ack()
        assert await log.pending("bot") == []
        assert not [field for field in await log.shared("bot") if "attempts" in field]


async def test_later_events_wait_for_the_pause(log: Log, url: str) -> None:
    async with consumer(log, url, backoff_s=30.0) as events:
        await log.write(2)
        (first,) = await take(events, 1)
        await first.retry("not now")
        await nothing_comes(events, 0.5)


async def test_the_pause_doubles_up_to_a_limit(log: Log, url: str) -> None:
    async with consumer(log, url, backoff_s=0.05, max_backoff_s=0.15, max_attempts=6) as events:
        await log.write(1)
        pauses = []
        partition = events._partitions[0]
        for _ in range(4):
            (event,) = await take(events, 1)
            before = asyncio.get_running_loop().time()
            await event.retry("no")
            pauses.append(round(partition.pause_s(before) or 0, 2))
        assert pauses == [0.05, 0.1, 0.15, 0.15]


async def test_after_its_limit_an_event_goes_to_the_dead_letters_and_the_others_go_on(
    log: Log, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[int, int]] = []

    async def handler(event: OrderEvent) -> None:
        seen.append((event.event_seq, event.attempt))
        if event.event_seq == 2:
            raise ValueError("no such symbol: " + "x" * 1000)

    await log.write(3)
    async with consumer(log, url, max_attempts=3) as events:
        running = asyncio.create_task(events.run(handler))

        async def done() -> bool:
            return len(seen) == 5

        await eventually(done)
    await running
    assert seen == [(1, 1), (2, 1), (2, 2), (2, 3), (3, 1)]
    (letter,) = await log.letters("bot")
    assert (letter["eventSeq"], letter["attempts"], letter["group"]) == ("2", "3", "bot")
    assert letter["reason"].startswith("ValueError: no such symbol: xxx")
    assert len(letter["reason"]) == 500
    failures = [record for record in caplog.records if "handling event-2 failed" in record.getMessage()]
    assert [record.getMessage()[-14:] for record in failures] == [f"attempt {n} of 3" for n in (1, 2, 3)]
    assert all(record.exc_info for record in failures)


async def test_a_rejected_event_goes_to_the_dead_letters_at_once(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        await log.write(2)
        (first,) = await take(events, 1)
        await first.reject("not ours")
        await first.reject("not ours")
        assert await handle(events, 1) == [2]
        (letter,) = await log.letters("bot")
        assert (letter["reason"], letter["attempts"], letter["entryId"]) == ("not ours", "1", first.entry_id)


async def test_an_event_that_ends_its_consumers_is_given_up(log: Log, url: str) -> None:
    await log.write(3)
    attempts = []
    for _ in range(4):
        events = consumer(log, url, max_attempts=3, lease_s=0.5)
        async with events:
            (event,) = await take(events, 1)
            if event.event_seq == 1:
                attempts.append(event.attempt)
                await die(events)
            else:
                assert (event.event_seq, event.attempt) == (2, 2), "read ahead by those that ended, and never given out"
    assert attempts == [1, 2, 3]
    (letter,) = await log.letters("bot")
    assert letter["eventSeq"] == "1"
    assert letter["reason"].startswith("delivered 3 times; each time its consumer ended")


async def test_what_was_only_read_ahead_by_the_dead_is_never_given_up_unseen(log: Log, url: str) -> None:
    await log.write(2)
    first = consumer(log, url, max_attempts=1, lease_s=0.5)
    async with first:
        await take(first, 1)
        await die(first)
    async with consumer(log, url, max_attempts=1, lease_s=0.5) as second:
        assert await handle(second, 2) == [1, 2]
    assert await log.letters("bot") == []


async def test_what_was_put_back_comes_again_with_new_attempts(log: Log, url: str) -> None:
    async with consumer(log, url, max_attempts=2) as events:
        await log.write(3)
        (first,) = await take(events, 1)
        await first.reject("no")
        assert await handle(events, 2) == [2, 3]
        await log.redis.xclaim(log.keys.order_events, "bot", REQUEUED, 0, [first.entry_id], force=True, justid=True)
        (again,) = await take(events, 1)
        assert (again.event_seq, again.attempt, again.redelivered) == (1, 1, True)
        await again.retry("still no")
        (again,) = await take(events, 1)
        assert again.attempt == 2
        await again.retry("still no")
        assert [letter["reason"] for letter in await log.letters("bot")] == ["no", "still no"]
        assert not events.gaps


async def test_what_was_given_up_can_be_put_back_all_the_same(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        await log.write(1)
        (one,) = await take(events, 1)
        await one.reject("not now")
        (letter_id, _), *_ = await log.redis.xrange(log.keys.dead_letters("bot"))
        assert await requeue(log.client, log.account_id, "bot", [letter_id]) == ["requeued"]
        assert await handle(events, 1) == [1]
