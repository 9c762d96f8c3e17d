from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.changes import NOW, fill
from support.changes import event as order_update
from support.groups import Log, die, handle, log_of, nothing_comes, take
from support.proxy import Fate, proxied
from support.written import eventually

from consumers import AccountMirror, blocking, order_events
from consumers.order_events import Gap, OrderEvent, OrderEvents
from statecast.domain import changes
from statecast.embedded.server import EmbeddedServer
from statecast.errors import ConfigError, ContractMismatch, StoreAuthFailed, StoreRefused
from statecast.store.client import connect
from statecast.store.group_admin import requeue
from statecast.store.keys import REQUEUED

LEASE_S = 1.0


@pytest.fixture
async def log(redis_url: str, account_name: str) -> AsyncIterator[Log]:
    async with log_of(redis_url, account_name) as opened:
        yield opened


@pytest.fixture
def url(redis_url: str) -> str:
    return redis_url


def consumer(log: Log, url: str, group: str = "bot", **options: Any) -> OrderEvents:
    """One that stands in for a dead one soon, and does not dwell on failures."""
    given: dict[str, Any] = {"lease_s": LEASE_S, "backoff_s": 0.01, "start": "beginning"} | options
    if "start_ms" in given or "start_event_seq" in given:
        given.pop("start")
    return OrderEvents(log.account_id, url, group, **given)


def seqs(events: list[OrderEvent]) -> list[int]:
    return [event.event_seq for event in events]


async def until_it_works(*candidates: OrderEvents) -> OrderEvents:
    """The one that has got the work."""

    async def somebody() -> bool:
        return any(events.holds for events in candidates)

    await eventually(somebody)
    return next(events for events in candidates if events.holds)


# Events


async def test_an_event_has_the_fields_of_the_contract(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        await log.desk.commit([fill(5, "0.020", order_id="77", trade_id="t1", realized_profit=Decimal("-1.5"))])
        (event,) = await take(events, 1)
        assert (event.event_seq, event.event_type, event.event_id) == (1, "TRADE", "BTCUSDT:77:t1")
        assert (event.order_id, event.executed_qty, event.last_qty) == ("77", Decimal("0.020"), Decimal("0.020"))
        assert (event.realized_profit, event.maker, event.algo_id) == (Decimal("-1.5"), True, None)
        assert (event.venue_time_ms, event.received_at_ms) == (NOW + 5, NOW + 14)
        assert (event.attempt, event.redelivered) == (1, False)
        assert [event.entry_id] == await log.entry_ids() == await log.pending("bot")
        assert "_events" not in repr(event)
        await event.ack()
        await event.ack()
        assert await log.pending("bot") == []


async def test_events_come_in_order_and_several_can_be_in_hand(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        await log.write(200)
        in_hand = await take(events, 200)
        assert seqs(in_hand) == list(range(1, 201))
        for event in in_hand[100:]:
            await event.ack()
        assert await log.pending("bot") == (await log.entry_ids())[:100]
        assert not events.gaps


async def test_events_that_come_later_are_waited_for(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        for _ in range(3):
            waiting = asyncio.create_task(handle(events, 2))
            await log.write(1)
            await asyncio.sleep(0.01)
            await log.write(1)
            await waiting
        await nothing_comes(events, 0.05)


async def test_each_group_has_every_event(log: Log, url: str) -> None:
    async with consumer(log, url, "one") as one, consumer(log, url, "two") as two:
        await log.write(3)
        assert await handle(one, 3) == await handle(two, 3) == [1, 2, 3]


async def test_a_handler_gets_one_event_after_the_other(log: Log, url: str) -> None:
    seen: list[int] = []
    busy = 0

    async def slow(event: OrderEvent) -> None:
        nonlocal busy
        busy += 1
        assert busy == 1
        await asyncio.sleep(0.001)
        seen.append(event.event_seq)
        busy -= 1

    def quick(event: OrderEvent) -> None:
        seen.append(event.event_seq)

    await log.write(20)
    for handler in (slow, quick):
        async with consumer(log, url, handler.__name__) as events:
            running = asyncio.create_task(events.run(handler))

            async def done(group: str = handler.__name__) -> bool:
                return (await log.shared(group)).get("1.eventSeq") == "20"

            await eventually(done)
            assert await log.pending(handler.__name__) == []
        await running
    assert seen == list(range(1, 21)) * 2


# Where a group begins


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
        f"start_event_seq is '5'; accepted: up to 4: the last order event of {log.account_id} is 3. If it was more"
        " once, Redis has lost data, and numbers do not tell where to go on"
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


async def test_a_number_that_is_trimmed_is_told(log: Log, url: str) -> None:
    await log.write(5)
    await log.trim(3)
    async with consumer(log, url, start_event_seq=2) as events:
        assert await handle(events, 2) == [4, 5]
        (gap,) = events.gaps
        assert (gap.kind, gap.expected_event_seq, gap.found_event_seq) == ("trimmed", 2, 4)
    async with consumer(log, url, "other") as events:
        assert await handle(events, 2) == [4, 5]
        assert not events.gaps, "the beginning is what there is"


async def test_an_account_that_was_never_published_is_waited_for(
    redis_url: str, account_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    events = OrderEvents(account_name, redis_url, "bot", lease_s=LEASE_S)
    async with events:
        assert [record.getMessage() for record in caplog.records] == [
            f"bot: binance:{account_name} was never published to Redis at {redis_url}:"
            " waiting for its first order event"
        ]
        async with log_of(redis_url, account_name) as log:
            await log.write(2)
            assert await handle(events, 2) == [1, 2]
            assert not events.gaps


# Settings


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"group": "my bot"}, "group is 'my bot'; accepted: up to 64 letters"),
        ({"group": "bot.1of2"}, "group is 'bot.1of2'; accepted: up to 64 letters"),
        ({"consumer": "a b"}, "consumer is 'a b'; accepted: up to 64 letters"),
        ({"partitions": 0}, "partitions is '0'; accepted: 1 to 64"),
        ({"partitions": 65}, "partitions is '65'; accepted: 1 to 64"),
        ({"start": "end"}, 'start is \'end\'; accepted: "now" or "beginning"'),
        (
            {"start": "beginning", "start_ms": 1},
            "start is 'beginning'; accepted: one of start, start_ms, start_event_seq",
        ),
        ({"start_event_seq": 1, "start_ms": 1}, "start is 'now'; accepted: one of start, start_ms, start_event_seq"),
        ({"start_ms": -1}, "start_ms is '-1'; accepted: milliseconds since 1970 UTC"),
        ({"start_event_seq": 0}, "start_event_seq is '0'; accepted: 1 or more"),
        ({"symbols": "BTCUSDT"}, "symbols is 'BTCUSDT'; accepted: one or more in a set, such as"),
        ({"symbols": set()}, "symbols is 'set()'; accepted: one or more in a set, such as"),
        ({"max_attempts": 0}, "max_attempts is '0'; accepted: 1 or more"),
        ({"backoff_s": -1}, "backoff_s is '-1'; accepted: seconds, 0 or more"),
        ({"max_backoff_s": 0.1}, "max_backoff_s is '0.1'; accepted: seconds, 0.2 or more"),
        ({"lease_s": 0.1}, "lease_s is '0.1'; accepted: seconds, 0.5 to 600"),
        ({"account_id": "no such/thing"}, "account_id is 'no such/thing'; accepted: <venue>:<account>"),
        ({"redis": "http://localhost"}, "STATECAST_REDIS_URL is 'http://…'; accepted: redis://"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_once(options: dict[str, Any], sentence: str) -> None:
    good: dict[str, Any] = {"account_id": "main", "redis": "redis://localhost", "group": "bot"}
    with pytest.raises(ConfigError) as refused:
        OrderEvents(**good | options)
    assert str(refused.value).startswith(sentence)


async def test_settings_come_from_the_environment(log: Log, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECAST_REDIS_URL", url)
    monkeypatch.setenv("STATECAST_ACCOUNT", log.account_id.account)
    await log.write(2)
    async with OrderEvents.from_env(group="bot", start="beginning", lease_s=LEASE_S) as events:
        assert events.account_id == log.account_id
        assert await handle(events, 2) == [1, 2]


async def test_consumers_of_one_name_are_told_apart(log: Log, url: str) -> None:
    async with consumer(log, url, consumer="pod-1") as one, consumer(log, url, consumer="pod-1") as two:
        assert one.consumer.startswith("pod-1-")
        assert one.consumer != two.consumer
        works = await until_it_works(one, two)
        await asyncio.sleep(LEASE_S / 2)
        assert works.holds
        assert not (two if works is one else one).holds


async def test_it_is_used_within_its_context(log: Log, url: str) -> None:
    events = consumer(log, url)
    with pytest.raises(RuntimeError, match="async with OrderEvents"):
        await anext(events)
    await events.aclose()


async def test_another_number_of_partitions_is_refused(log: Log, url: str) -> None:
    async with consumer(log, url, partitions=2):
        with pytest.raises(ConfigError, match="partitions is '3'; accepted: 2, which group bot of"):
            async with consumer(log, url, partitions=3):
                pass


async def test_another_contract_is_refused(log: Log, url: str) -> None:
    await log.redis.hset(log.keys.status, "contract", "2")
    with pytest.raises(ContractMismatch):
        async with consumer(log, url):
            pass


# Filters, partitions


async def test_filters_leave_out_and_acknowledge_what_is_not_wanted(log: Log, url: str) -> None:
    async with consumer(log, url, symbols={"ETHUSDT"}, client_order_id_prefix="grid-") as events:
        await log.write(100)
        await log.write(1, symbol="ETHUSDT", client_order_id="grid-1")
        await log.write(1, symbol="ETHUSDT", client_order_id="other")
        await log.write(1, symbol="BTCUSDT", client_order_id="grid-2")
        await log.write(1, symbol="ETHUSDT", client_order_id="grid-3")
        first, second = await take(events, 2)
        assert seqs([first, second]) == [101, 104]
        ids = await log.entry_ids()

        async def only_those() -> bool:
            return await log.pending("bot") == [ids[100], ids[103]]

        await eventually(only_those)
        assert not events.gaps


async def test_what_a_filter_leaves_out_still_counts_for_gaps(log: Log, url: str) -> None:
    async with consumer(log, url, symbols={"ETHUSDT"}) as events:
        await log.write(3)

        async def seen() -> bool:
            return (await log.shared("bot")).get("1.eventSeq") == "3"

        await eventually(seen)
    await log.write(4)
    await log.trim(5)
    await log.write(1, symbol="ETHUSDT")
    async with consumer(log, url, symbols={"ETHUSDT"}) as events:
        assert await handle(events, 1) == [8]
        (gap,) = events.gaps
        assert (gap.kind, gap.expected_event_seq, gap.found_event_seq) == ("trimmed", 4, 6)


async def test_partitions_share_the_orders_and_each_stays_in_order(log: Log, url: str) -> None:
    async with consumer(log, url, partitions=4) as one, consumer(log, url, partitions=4) as two:
        for _ in range(25):
            for order in range(8):
                await log.write(1, order_id=f"o{order}")
        by: list[tuple[OrderEvents, OrderEvent]] = []

        async def work(events: OrderEvents) -> None:
            async for event in events:
                by.append((events, event))
                await event.ack()

        tasks = [asyncio.create_task(work(events)) for events in (one, two)]

        async def all_there() -> bool:
            return len({event.event_seq for _, event in by}) == 200

        await eventually(all_there)
        await asyncio.gather(one.aclose(), two.aclose())
        await asyncio.gather(*tasks)
    for order in range(8):
        mine = [event.event_seq for _, event in by if event.order_id == f"o{order}"]
        assert mine == sorted(mine)
    assert not one.gaps
    assert not two.gaps
    for name in ("bot.1of4", "bot.2of4", "bot.3of4", "bot.4of4"):
        assert await log.pending(name) == []


async def test_a_partition_moves_to_a_newcomer_when_what_is_in_hand_is_settled(
    log: Log, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_events, "STANDBY_S", 0.05)
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


# Taking over


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
        first._keeper = first._task(first._keep())
        await log.write(1)
        assert await handle(first, 1) == [6]
        assert not first.gaps


async def test_an_event_is_not_given_out_after_another_settled_it(log: Log, url: str) -> None:
    first = consumer(log, url)
    async with first:
        await log.write(3)
        in_hand = await take(first, 2)
        await die(first, leave_client=True)
        async with consumer(log, url) as second:
            (one,) = await take(second, 1)
            assert one.event_seq == 1
            await in_hand[1]._events._redis.ack(1, [in_hand[1].entry_id], None)
            assert seqs(await take(second, 1)) == [3]
        await first._client.aclose()


# Failures


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
            pauses.append(round(partition.not_before - before, 2))
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


async def test_a_handler_may_settle_its_event_itself(log: Log, url: str) -> None:
    seen: list[tuple[int, int]] = []

    async def handler(event: OrderEvent) -> None:
        seen.append((event.event_seq, event.attempt))
        if event.event_seq == 1 and event.attempt == 1:
            await event.retry("once more")
        elif event.event_seq == 2:
            await event.reject("no")
        elif event.event_seq == 3:
            await event.ack()

    await log.write(4)
    async with consumer(log, url) as events:
        running = asyncio.create_task(events.run(handler))

        async def done() -> bool:
            return len(seen) == 5 and await log.pending("bot") == []

        await eventually(done)
    await running
    assert seen == [(1, 1), (1, 2), (2, 1), (3, 1), (4, 1)]
    assert len(await log.letters("bot")) == 1


@pytest.mark.parametrize("kind", [asyncio.CancelledError, KeyboardInterrupt])
async def test_an_interruption_is_no_failure(log: Log, url: str, kind: type[BaseException]) -> None:
    async def handler(event: OrderEvent) -> None:
        raise kind

    await log.write(1)
    async with consumer(log, url) as events:
        try:
            await events.run(handler)
        except kind:
            pass
        else:
            pytest.fail("it was swallowed")
        assert not [field for field in await log.shared("bot") if "attempts" in field]
        assert len(await log.pending("bot")) == 1


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


async def test_what_was_put_back_comes_again_with_attempts_anew(log: Log, url: str) -> None:
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


async def test_an_entry_that_is_no_order_event_goes_to_the_dead_letters(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        await log.write(1)
        await log.redis.xadd(log.keys.order_events, {"hello": "world"})
        ((_, fields),) = await log.redis.xrange(log.keys.order_events, count=1)
        await log.redis.xadd(log.keys.order_events, fields | {"eventSeq": "2", "price": "cheap"})
        await log.redis.xadd(log.keys.order_events, fields | {"eventSeq": "3", "eventId": "event-3"})
        assert await handle(events, 2) == [1, 3]
        reasons = [letter["reason"] for letter in await log.letters("bot")]
        assert reasons == [
            "not an order event of this contract: eventSeq is missing",
            "not an order event of this contract: price is 'cheap'",
        ]
        assert not events.gaps


async def test_without_acknowledgements_it_ends_at_a_limit(
    log: Log, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(order_events, "MOST_UNACKNOWLEDGED", 70)
    async with consumer(log, url) as events:
        await log.write(300)
        found: list[OrderEvent] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                async for event in events:
                    found.append(event)  # noqa: PERF401 - it ends by the time-out, with what was found
        assert 70 <= len(found) <= 70 + 2 * order_events.PREFETCH
        assert len([record for record in caplog.records if "are not acknowledged" in record.getMessage()]) == 1
        for event in found:
            await event.ack()
        assert (await take(events, 1))[0].event_seq == len(found) + 1


# Cancellation, closing


async def test_cancelled_waits_lose_no_event(log: Log, url: str) -> None:
    rng = Random(5)
    found: list[int] = []

    async def write() -> None:
        for _ in range(150):
            await log.write(2)
            await asyncio.sleep(rng.random() * 0.01)

    async with consumer(log, url) as events:
        writing = asyncio.create_task(write())
        cancelled = 0
        async with asyncio.timeout(30):
            while len(found) < 300:
                try:
                    event = await asyncio.wait_for(anext(events), rng.random() * 0.002)
                except TimeoutError:
                    cancelled += 1
                    continue
                found.append(event.event_seq)
                if rng.random() < 0.9:
                    await event.ack()
        await writing
        assert cancelled > 10
        assert found == list(range(1, 301))
        clients = await log.redis.client_list()
        assert len([row for row in clients if row["name"] == "statecast-events"]) < 30


async def test_several_tasks_can_wait(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        waiting = [asyncio.create_task(anext(events)) for _ in range(5)]
        await asyncio.sleep(0.05)
        await log.write(5)
        async with asyncio.timeout(10):
            found = await asyncio.gather(*waiting)
        assert sorted(seqs(list(found))) == [1, 2, 3, 4, 5]


async def test_closing_ends_the_waits(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        seen: list[int] = []

        async def iterate() -> None:
            async for event in events:
                seen.append(event.event_seq)
                await event.ack()

        waiting = asyncio.create_task(iterate())
        running = asyncio.create_task(events.run(lambda event: None))
        await asyncio.sleep(0.05)
        await events.aclose()
        await events.aclose()
        await asyncio.gather(waiting, running)
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_closing_while_a_handler_is_at_work_lets_the_event_come_again(log: Log, url: str) -> None:
    seen: list[int] = []
    await log.write(2)
    for fails in (False, True):
        async with consumer(log, url) as events:

            async def handler(event: OrderEvent, events: OrderEvents = events, fails: bool = fails) -> None:
                seen.append(event.event_seq)
                await events.aclose()
                if fails:
                    raise ValueError

            await events.run(handler)
    assert seen == [1, 1]
    assert len(await log.pending("bot")) == 2


async def test_a_callback_may_close(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        await log.write(1)
        await handle(events, 1)
    await log.write(3)
    await log.trim(3)
    events = consumer(log, url, on_gap=lambda gap: events.aclose())
    async with events:
        async with asyncio.timeout(15):
            with pytest.raises(StopAsyncIteration):
                await anext(events)
    assert not [field for field in await log.shared("bot") if "owner" in field]


async def test_closing_under_cancellation_gives_the_work_back(log: Log, url: str) -> None:
    entered = asyncio.Event()

    async def bot() -> None:
        async with consumer(log, url, lease_s=60.0) as events:
            await log.write(1)
            await take(events, 1)
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(bot())
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with consumer(log, url, lease_s=60.0) as events:
        assert await handle(events, 1) == [1]


async def test_closing_while_redis_is_away_does_not_hang(own_redis: EmbeddedServer) -> None:
    async with log_of(own_redis.url, "main") as log:
        async with consumer(log, own_redis.url) as events:
            await log.write(1)
            await take(events, 1)
            os.kill(own_redis.pid, signal.SIGSTOP)
            try:
                async with asyncio.timeout(10):
                    await events.aclose()
            finally:
                os.kill(own_redis.pid, signal.SIGCONT)
        async with consumer(log, own_redis.url) as events:
            await events.aclose()
            own_redis.kill()


async def test_an_acknowledgement_after_the_end_is_a_mistake(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        await log.write(1)
        (event,) = await take(events, 1)
    with pytest.raises(RuntimeError, match="closed"):
        await event.ack()


# Redis away


async def test_lost_replies_lose_no_event(log: Log, url: str) -> None:
    rng = Random(11)
    fates: list[Fate] = ["lose request", "cut request", "lose reply", "lose reply"]

    def fate(request: bytes) -> Fate:
        return rng.choice(fates) if rng.random() < 0.08 and b"EVALSHA" in request else "pass"

    async def write() -> None:
        for _ in range(150):
            await log.write(4)
            await asyncio.sleep(0.01)

    async with proxied(url) as proxy, consumer(log, proxy.url, lease_s=5.0) as events:
        await until_it_works(events)
        term = (await log.shared("bot"))["1.term"]
        proxy.fate = fate
        writing = asyncio.create_task(write())
        found: list[OrderEvent] = []
        async with asyncio.timeout(60):
            async for event in events:
                found.append(event)
                await event.ack()
                if event.event_seq == 600:
                    break
        await writing
        proxy.fate = lambda request: "pass"
        lost = Counter(proxy.fates)
        assert lost["lose reply"] > 5
        assert seqs(found) == list(range(1, 601)), "and each once: nobody else was there"
        # Where the reply of a renewal is lost too, another may have had the partition: what waited counts as delivered.
        attempts = Counter(event.attempt for event in found)
        assert attempts[1] > 300
        assert max(attempts) <= 3
        assert not events.gaps
        assert await log.pending("bot") == []
        assert (await log.shared("bot"))["1.term"] != term, "a read that is still on its way would take entries"


async def test_redis_is_waited_for_and_that_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "statecast.consumers")
    with EmbeddedServer(directory=tmp_path) as server:
        async with log_of(server.url, "main") as log, consumer(log, server.url, lease_s=5.0) as events:
            await log.write(3)
            (first,) = await take(events, 1)
            server.kill()
            acknowledging = asyncio.create_task(first.ack())
            waiting = asyncio.create_task(handle(events, 3))
            await asyncio.sleep(0.5)
            server.start()
            await acknowledging
            await log.desk.open()
            await log.desk.commit_whole()
            await log.write(1)
            async with asyncio.timeout(20):
                assert await waiting == [2, 3, 4]
            assert not events.gaps

            async def back() -> bool:
                return any("answers again" in record.getMessage() for record in caplog.records)

            await eventually(back)
    said = [record.getMessage() for record in caplog.records]
    assert len([line for line in said if "waiting for Redis" in line]) == 1
    assert len([line for line in said if "answers again" in line]) == 1


async def test_it_can_be_entered_before_redis_is_there(own_redis: EmbeddedServer) -> None:
    own_redis.kill()
    events = OrderEvents("main", own_redis.url, "bot", lease_s=LEASE_S)

    async def enter() -> None:
        async with events:
            pass

    entering = asyncio.create_task(enter())
    await asyncio.sleep(0.2)
    assert not entering.done()
    own_redis.start()
    async with asyncio.timeout(10):
        await entering


async def test_a_wrong_password_and_missing_permissions_are_raised(own_redis: EmbeddedServer) -> None:
    async with connect(own_redis.url, client_name="test") as admin:
        redis: Any = admin.redis
        await redis.execute_command("ACL", "SETUSER", "trader", "on", ">right", "~*", "+@all")
        host = own_redis.url.removeprefix("redis://")
        with pytest.raises(StoreAuthFailed):
            async with OrderEvents("main", f"redis://trader:wrong@{host}", "bot"):
                pass
        async with OrderEvents("main", f"redis://trader:right@{host}", "bot", lease_s=LEASE_S) as events:
            waiting = asyncio.create_task(anext(events))
            await until_it_works(events)
            await redis.execute_command("ACL", "SETUSER", "trader", "-xreadgroup")
            with pytest.raises(StoreRefused, match=r"xreadgroup|executing the script"):
                async with asyncio.timeout(10):
                    await waiting
            with pytest.raises(StoreRefused):
                await anext(events)


# Gaps: the log is trimmed, flushed, fails over


async def test_what_was_trimmed_while_nobody_served_the_group_is_told_before_the_next(log: Log, url: str) -> None:
    told: list[Gap | int] = []

    async def on_gap(gap: Gap) -> None:
        await asyncio.sleep(0)
        told.append(gap)

    async with consumer(log, url) as events:
        await log.write(3)
        await handle(events, 3)
    await log.write(7)
    await log.trim(6)
    async with consumer(log, url, on_gap=on_gap) as events:
        told += await handle(events, 4)
        gap = Gap("trimmed", 4, 7, "events 4 to 6 are not in the log any more: trimmed, or lost by Redis")
        assert told == [gap, 7, 8, 9, 10]
        assert list(events.gaps) == [gap]


async def test_what_is_trimmed_while_a_consumer_works_is_told(
    log: Log, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Gap] = []
    async with consumer(log, url, on_gap=told.append) as events:
        await log.write(300)
        first = await take(events, 1)
        await log.trim(300)
        await log.write(2)
        later = await handle(events, 2)
        while later[-1] < 302:
            later += await handle(events, 1)
        (gap,) = told
        assert gap.kind == "trimmed"
        assert gap.found_event_seq == 301
        assert gap.expected_event_seq is not None
        assert later == [*range(2, gap.expected_event_seq), 301, 302]
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert warnings == [f"bot: gap in the order events of {log.account_id}: {gap.reason}"]
        await first[0].ack()


async def test_what_is_trimmed_while_it_is_pending_is_told_and_forgotten(log: Log, url: str) -> None:
    first = consumer(log, url)
    async with first:
        await log.write(6)
        await handle(first, 2)
        await take(first, 1)
        await die(first)
    ids = await log.entry_ids()
    await log.trim(4)
    async with consumer(log, url) as second:
        assert await handle(second, 2) == [5, 6]
        reason = f"2 entries from {ids[2]} to {ids[3]} were trimmed before the acknowledgement"
        assert list(second.gaps) == [Gap("trimmed", 3, None, reason)]
        assert await log.pending("bot") == []


async def test_a_flushed_redis_is_noticed_and_nothing_that_comes_after_is_lost(own_redis: EmbeddedServer) -> None:
    async with log_of(own_redis.url, "main") as log, consumer(log, own_redis.url, start="now") as events:
        await log.write(5)
        await handle(events, 5)
        await log.redis.flushall()
        await log.desk.open()
        await log.desk.commit_whole()
        assert await log.write(3) == [6, 7, 8]
        assert await handle(events, 3) == [6, 7, 8]
        await log.redis.flushall()
        await log.desk.open()
        await log.desk.commit_whole()
        assert await log.write(1) == [9]
        assert await handle(events, 1) == [9]
        assert not events.gaps, "no number is missing"


async def test_what_a_flushed_redis_lost_unread_is_told(own_redis: EmbeddedServer) -> None:
    async with log_of(own_redis.url, "main") as log, consumer(log, own_redis.url, start="now") as events:
        await log.write(300)
        assert await handle(events, 10) == list(range(1, 11))
        await log.redis.flushall()
        await log.desk.open()
        await log.desk.commit_whole()
        await log.write(1)
        found = await handle(events, 1)
        while found[-1] != 301:
            found += await handle(events, 1)
        read = found[-2]
        assert found[:-1] == list(range(11, read + 1)), "what was read is not lost"
        trimmed = [gap for gap in events.gaps if gap.kind == "trimmed"]
        assert [(gap.expected_event_seq, gap.found_event_seq) for gap in trimmed] == [(read + 1, 301)]
        assert events.gaps == deque(trimmed)


async def test_numbers_that_went_back_are_told(own_redis: EmbeddedServer) -> None:
    async with log_of(own_redis.url, "main") as log, consumer(log, own_redis.url, start="now") as events:
        await log.write(5)
        await handle(events, 5)
        await log.redis.flushall()
        newcomer = Log(log.client, log.account_id)  # a publisher that remembers nothing
        await newcomer.open()
        newcomer.written = 100  # other events, under the numbers of those that are lost
        assert await newcomer.write(2) == [1, 2]
        assert await handle(events, 2) == [1, 2]
        assert [(gap.kind, gap.expected_event_seq, gap.found_event_seq) for gap in events.gaps] == [
            ("reset", 6, 1),
        ]


async def test_numbers_that_went_back_are_told_also_when_the_clock_did(own_redis: EmbeddedServer) -> None:
    async with log_of(own_redis.url, "main") as log, consumer(log, own_redis.url, start="now") as events:
        await log.write(5)
        await handle(events, 5)
        ((_, fields),) = await log.redis.xrange(log.keys.order_events, count=1)
        await log.redis.flushall()
        fields["epoch"] = str(int(fields["epoch"]) + 1)
        for number in (1, 2):
            fields |= {"eventSeq": str(number), "eventId": f"other-{number}"}
            await log.redis.xadd(log.keys.order_events, fields, id=f"1000-{number}")
        found = await take(events, 2)
        assert seqs(found) == [1, 2]
        assert [event.redelivered for event in found] == [False, False]
        assert [(gap.kind, gap.found_event_seq) for gap in events.gaps] == [("reset", 1)]


async def test_a_group_that_is_destroyed_is_made_again_and_what_others_had_comes_again(log: Log, url: str) -> None:
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
        await eventually(lambda: _nothing_pending(log))


async def test_a_consumer_that_does_not_know_how_far_a_lost_group_had_come_tells_a_gap(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        await log.write(2)
        assert await handle(events, 2) == [1, 2]
    await log.redis.xgroup_destroy(log.keys.order_events, "bot")
    async with consumer(log, url) as events:
        assert await handle(events, 2) == [1, 2]
        assert [(gap.kind, gap.expected_event_seq) for gap in events.gaps] == [("reset", 3)]


async def _nothing_pending(log: Log) -> bool:
    return not await log.pending("bot")


# What Redis lost comes again, written anew by the publisher


async def written_again(log: Log, entries: list[dict[str, str]]) -> None:
    """As the publisher does when it has opened a new epoch: the same events and numbers in new entries."""
    for fields in entries:
        again = fields | {"epoch": str(log.desk.writer.epoch)}
        await log.redis.xadd(log.keys.order_events, again)


async def entries_of(log: Log) -> list[dict[str, str]]:
    return [fields for _, fields in await log.redis.xrange(log.keys.order_events)]


async def test_after_a_flush_each_event_is_handled_once(own_redis: EmbeddedServer) -> None:
    async with log_of(own_redis.url, "main") as log, consumer(log, own_redis.url) as events:
        await log.write(6)
        assert await handle(events, 4) == [1, 2, 3, 4]
        (fifth,) = await take(events, 1)
        known = await entries_of(log)
        await log.redis.flushall()
        await log.desk.open()
        await written_again(log, known)
        await log.desk.commit_whole()
        assert await log.write(2) == [7, 8]
        await fifth.ack()
        assert await handle(events, 3) == [6, 7, 8]
        await nothing_comes(events)
        assert not events.gaps
        await eventually(lambda: _nothing_pending(log))


async def test_after_a_flush_the_work_of_one_that_is_gone_comes_again_under_the_same_ids(
    own_redis: EmbeddedServer,
) -> None:
    async with log_of(own_redis.url, "main") as log:
        async with consumer(log, own_redis.url) as events:
            await log.write(3)
            before = await take(events, 3)
            await before[0].ack()
        known = await entries_of(log)
        await log.redis.flushall()
        await log.desk.open()
        await written_again(log, known)
        async with consumer(log, own_redis.url) as events:
            after = await take(events, 3)
            assert [event.event_id for event in after] == [event.event_id for event in before]
            assert seqs(after) == [1, 2, 3]


async def test_a_failover_whose_loss_is_written_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with EmbeddedServer(directory=tmp_path / "a") as old, EmbeddedServer(directory=tmp_path / "b") as new:
        async with proxied(old.url) as proxy, connect(new.url, client_name="test") as replica:
            redis: Any = replica.redis
            async with log_of(proxy.url, "main", lease_ttl_ms=60_000) as log, consumer(log, proxy.url) as events:
                await log.redis.config_set("repl-diskless-sync-delay", "0")
                await redis.execute_command("REPLICAOF", old.host, str(old.port))
                await log.write(5)
                assert await handle(events, 4) == [1, 2, 3, 4]

                async def replicated() -> bool:
                    return (await redis.hgetall(log.keys.group("bot"))).get("1.eventSeq") == "4"

                await eventually(replicated)
                await redis.execute_command("REPLICAOF", "NO", "ONE")
                await log.write(4)  # which the replica never sees
                assert await handle(events, 2) == [5, 6]
                (seventh,) = await take(events, 1)
                lost = (await entries_of(log))[5:]
                proxy._target = (new.host, new.port)
                old.kill()
                await eventually(lambda: reopened(log))
                await written_again(log, lost)
                await log.desk.commit_whole()
                await log.write(2)
                await seventh.ack()
                assert await handle(events, 4) == [8, 9, 10, 11]
                await nothing_comes(events)
                assert not events.gaps
                await eventually(lambda: _nothing_pending(log))


async def test_what_was_lost_and_not_written_again_is_told(own_redis: EmbeddedServer) -> None:
    async with log_of(own_redis.url, "main") as log, consumer(log, own_redis.url) as events:
        await log.write(3)
        assert await handle(events, 3) == [1, 2, 3]
        await log.write(4)
        (fourth,) = await take(events, 1)
        partition = events._partitions[0]

        async def read() -> bool:
            return len(partition.queue) == 3

        await eventually(read)
        partition.queue.clear()  # as with a lease that was lost: the next holder reads it again
        lost = await log.redis.xrange(log.keys.order_events)
        await log.redis.xdel(log.keys.order_events, *(entry_id for entry_id, _ in lost[3:]))
        await log.desk.open()
        await written_again(log, [fields for _, fields in lost[5:]])
        assert await handle(events, 2) == [6, 7]
        assert [(gap.kind, gap.expected_event_seq, gap.found_event_seq) for gap in events.gaps] == [("trimmed", 4, 6)]
        await fourth.ack()


async def test_ids_are_remembered_up_to_a_limit(log: Log, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_events, "REMEMBERED", 20)
    async with consumer(log, url) as events:
        await log.write(100)
        await handle(events, 100)
        assert len(events._partitions[0].seen) == 20
        assert list(events._partitions[0].settled) == [f"event-{number}" for number in range(81, 101)]


async def test_what_was_given_up_can_be_put_back_all_the_same(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        await log.write(1)
        (one,) = await take(events, 1)
        await one.reject("not now")
        (letter_id, _), *_ = await log.redis.xrange(log.keys.dead_letters("bot"))
        assert await requeue(log.client, log.account_id, "bot", [letter_id]) == ["requeued"]
        assert await handle(events, 1) == [1]


# Events that nobody can tell any more

ALL = f"GAP:{NOW}:ALL"


async def write_gap(log: Log, event_id: str = ALL, **fields: Any) -> None:
    """An entry as a backfill makes it: what is not known is empty."""
    nothing: dict[str, Any] = {
        "order_id": "", "symbol": "", "client_order_id": "", "side": "", "position_side": "", "type": "",
        "orig_type": "", "time_in_force": "", "price": None, "stop_price": None, "quantity": None,
        "executed_qty": None, "avg_price": None, "reduce_only": None, "source": "rest",
    }  # fmt: skip
    told = order_update(3_600_000, "GAP", "", event_id=event_id, **(nothing | fields)).event
    await log.desk.commit([changes.LoggedEvent(told)])


@pytest.mark.parametrize(
    ("event_id", "fields", "sentence"),
    [
        (
            ALL,
            {},
            "the venue no longer has any order event between 2026-10-26 07:33:20 UTC and 2026-10-26 08:33:20 UTC",
        ),
        (
            f"ETHUSDT:GAP:{NOW}:REFUSED",
            {"symbol": "ETHUSDT"},
            "the venue no longer has any order event of ETHUSDT between 2026-10-26 07:33:20 UTC and"
            " 2026-10-26 08:33:20 UTC",
        ),
        (
            "ETHUSDT:77:GAP",
            {"symbol": "ETHUSDT", "order_id": "77", "client_order_id": "other-1", "side": "BUY"},
            "the venue no longer has what became of order 77 of ETHUSDT after 2026-10-26 08:33:20 UTC",
        ),
    ],
)
async def test_a_gap_of_the_log_passes_every_filter_and_is_told_twice(
    log: Log, url: str, event_id: str, fields: dict[str, str], sentence: str
) -> None:
    told: list[Gap] = []
    filters: dict[str, Any] = {"symbols": {"BTCUSDT"}, "client_order_id_prefix": "bot7-"}
    async with consumer(log, url, on_gap=told.append, **filters) as events:
        await log.write(1)
        await write_gap(log, event_id, **fields)
        await log.write(1, client_order_id="bot7-1")
        gap, ordinary = await take(events, 2)
        assert (gap.event_seq, gap.event_type, gap.event_id) == (2, "GAP", event_id)
        assert str(gap.gap_info) == sentence
        assert ordinary.gap_info is None
        assert told == [Gap("untold", None, 2, f"{sentence} ({event_id})")] == list(events.gaps)

        async def passed() -> bool:  # the first, which is not wanted, is acknowledged a moment later
            return await log.pending("bot") == [gap.entry_id, ordinary.entry_id]

        await eventually(passed)
        await gap.ack()


async def test_a_gap_reaches_the_handlers_of_all_partitions_and_is_told_once(log: Log, url: str) -> None:
    async with consumer(log, url, partitions=3) as events:
        await write_gap(log)
        found = await take(events, 3)
        assert {event.event_id for event in found} == {ALL}
        assert sorted(event._partition for event in found) == [1, 2, 3]
        for event in found:
            await event.ack()
        await write_gap(log, "BTCUSDT:77:GAP", symbol="BTCUSDT", order_id="77")
        (of_one_order,) = await take(events, 1)
        assert of_one_order.gap_info is not None
        assert of_one_order.gap_info.order_id == "77"
        await of_one_order.ack()
        await nothing_comes(events)
        assert [gap.kind for gap in events.gaps] == ["untold", "untold"]


async def test_a_lost_hash_alone_loses_no_event(log: Log, url: str) -> None:
    async with consumer(log, url, start="now") as events:
        await log.write(3)
        assert await handle(events, 3) == [1, 2, 3]
        await log.redis.delete(log.keys.group("bot"))
        await log.write(2)
        assert await handle(events, 2) == [4, 5]
        assert not events.gaps
        assert (await log.shared("bot"))["partitions"] == "1"


async def test_forgotten_progress_is_told(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        await log.write(3)
        await handle(events, 3)
    await log.redis.delete(log.keys.group("bot"))
    await log.trim(3)
    await log.write(1)
    async with consumer(log, url) as events:
        assert await handle(events, 1) == [4]
        assert [gap.kind for gap in events.gaps] == ["progress"]


async def test_an_error_of_the_callback_reaches_the_user(log: Log, url: str) -> None:
    def on_gap(gap: Gap) -> None:
        raise ValueError("not prepared")

    async with consumer(log, url) as events:
        await log.write(1)
        await handle(events, 1)
    await log.write(3)
    await log.trim(3)
    async with consumer(log, url, on_gap=on_gap) as events:
        with pytest.raises(ValueError, match="not prepared"):
            async with asyncio.timeout(10):
                await anext(events)
        async with consumer(log, url) as other:
            assert await handle(other, 1) == [4], "who has failed does not hold the work"
            assert [gap.expected_event_seq for gap in other.gaps] == [2]


async def test_a_failover_that_lost_events_is_noticed_and_survived(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with EmbeddedServer(directory=tmp_path / "a") as old, EmbeddedServer(directory=tmp_path / "b") as new:
        async with proxied(old.url) as proxy, connect(new.url, client_name="test") as replica:
            redis: Any = replica.redis
            async with log_of(proxy.url, "main", lease_ttl_ms=60_000) as log, consumer(log, proxy.url) as events:
                await log.redis.config_set("repl-diskless-sync-delay", "0")
                await redis.execute_command("REPLICAOF", old.host, str(old.port))
                await log.write(5)
                assert await handle(events, 4) == [1, 2, 3, 4]

                async def replicated() -> bool:
                    return (await redis.hgetall(log.keys.group("bot"))).get("1.eventSeq") == "4"

                await eventually(replicated)
                await redis.execute_command("REPLICAOF", "NO", "ONE")
                await log.write(3)  # which the replica never sees
                assert await handle(events, 2) == [5, 6]
                proxy._target = (new.host, new.port)
                old.kill()
                log.desk.writer.event_seq += 4  # written to the old master as well, and never read by us
                await eventually(lambda: reopened(log))
                await log.desk.commit_whole()
                await log.write(2)
                found = await take(events, 2)
                while found[-1].event_seq < 14:
                    found += await take(events, 1)
                assert [seq for seq in dict.fromkeys(seqs(found)) if seq > 6] in ([7, 8, 13, 14], [13, 14])
                told = [(gap.kind, gap.expected_event_seq, gap.found_event_seq) for gap in events.gaps]
                assert told in ([("trimmed", 9, 13)], [("trimmed", 7, 13)])
                for event in found:
                    await event.ack()
                assert await log.pending("bot") == []


async def reopened(log: Log) -> bool:
    """The publisher has the lease of the new master."""
    try:
        return await log.desk.open() is None
    except Exception:  # noqa: BLE001 - until the connections are those to the new master
        return False


async def test_a_gap_disturbs_neither_a_mirror_nor_code_that_is_not_async(log: Log, url: str) -> None:
    def first() -> str:
        with blocking.OrderEvents(log.account_id, url, "bot", start="beginning", lease_s=LEASE_S) as events:
            one = next(iter(events))
            one.ack()
            return str(one.gap_info)

    await log.desk.beat()
    async with AccountMirror(log.account_id, url) as mirror:
        seq = mirror.snapshot(max_age_s=60).seq
        await write_gap(log)
        assert await mirror.changed(since=seq - 1) >= seq
        assert (await asyncio.to_thread(first)).startswith("the venue no longer has any order event between")

        async def followed() -> bool:
            return mirror.snapshot(max_age_s=60).seq > seq

        await eventually(followed)
        assert mirror.rejoins == ()


async def test_what_another_partition_of_this_process_has_read_was_not_delivered_before(log: Log, url: str) -> None:
    async with consumer(log, url, partitions=4) as events:
        await log.write(40)
        found = await take(events, 40)
        assert [(event.event_seq, event.attempt) for event in found if event.redelivered or event.attempt > 1] == []
