from __future__ import annotations

import asyncio
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from support.groups import (
    Log,
    consumer,
    die,
    entries_of,
    handle,
    log_of,
    nothing_comes,
    nothing_pending,
    reopened,
    seqs,
    take,
    until_it_works,
    written_again,
)
from support.link import Fate, linked_url
from support.written import eventually

from consumers.order_events import Gap, OrderEvent, OrderEvents
from consumers.order_events.queue import MOST_UNACKNOWLEDGED, PREFETCH
from statecast.embedded.server import EmbeddedServer
from statecast.store.client import connect


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


async def test_what_another_partition_of_this_process_has_read_was_not_delivered_before(log: Log, url: str) -> None:
    async with consumer(log, url, partitions=4) as events:
        await log.write(40)
        found = await take(events, 40)
        assert [(event.event_seq, event.attempt) for event in found if event.redelivered or event.attempt > 1] == []


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
    log: Log, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """More entries than a user may hold, which are written by copying one: the writer would take its time."""
    await log.write(1)
    ((_, fields),) = await log.redis.xrange(log.keys.order_events)
    written = MOST_UNACKNOWLEDGED + 4 * PREFETCH
    async with log.redis.pipeline(transaction=False) as pipe:
        for number in range(2, written + 1):
            pipe.xadd(log.keys.order_events, fields | {"eventSeq": str(number), "eventId": f"event-{number}"})
        await pipe.execute()
    async with consumer(log, url, lease_s=30.0) as events:
        found = await take(events, MOST_UNACKNOWLEDGED)
        with suppress(TimeoutError):
            while True:
                async with asyncio.timeout(1.0):
                    found.append(await anext(events))
        assert MOST_UNACKNOWLEDGED <= len(found) <= MOST_UNACKNOWLEDGED + 2 * PREFETCH
        assert len([record for record in caplog.records if "are not acknowledged" in record.getMessage()]) == 1
        for event in found[: 2 * PREFETCH + 1]:
            await event.ack()
        assert (await take(events, 1))[0].event_seq == len(found) + 1


async def test_lost_replies_lose_no_event(log: Log, url: str) -> None:
    rng = Random(11)
    fates: list[Fate] = ["lose request", "cut request", "lose reply", "lose reply"]

    def fate(request: bytes) -> Fate:
        return rng.choice(fates) if rng.random() < 0.08 and b"EVALSHA" in request else "pass"

    async def write() -> None:
        for _ in range(150):
            await log.write(4)
            await asyncio.sleep(0.01)

    async with linked_url(url) as proxy, consumer(log, proxy.url, lease_s=5.0) as events:
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


async def test_what_is_trimmed_while_it_is_pending_is_reported_and_forgotten(log: Log, url: str) -> None:
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


async def test_what_a_flushed_redis_lost_unread_is_reported(own_redis: EmbeddedServer) -> None:
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


async def test_numbers_that_went_back_are_reported(own_redis: EmbeddedServer) -> None:
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


async def test_numbers_that_went_back_are_reported_also_when_the_clock_did(own_redis: EmbeddedServer) -> None:
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
        await eventually(lambda: nothing_pending(log))


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
        async with linked_url(old.url) as proxy, connect(new.url, client_name="test") as replica:
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
                proxy.target = (new.host, new.port)
                old.kill()
                await eventually(lambda: reopened(log))
                await written_again(log, lost)
                await log.desk.commit_whole()
                await log.write(2)
                await seventh.ack()
                assert await handle(events, 4) == [8, 9, 10, 11]
                await nothing_comes(events)
                assert not events.gaps
                await eventually(lambda: nothing_pending(log))


async def test_what_was_lost_and_not_written_again_is_reported(own_redis: EmbeddedServer) -> None:
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


async def test_a_failover_that_lost_events_is_noticed_and_survived(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with EmbeddedServer(directory=tmp_path / "a") as old, EmbeddedServer(directory=tmp_path / "b") as new:
        async with linked_url(old.url) as proxy, connect(new.url, client_name="test") as replica:
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
                proxy.target = (new.host, new.port)
                old.kill()
                log.desk.writer.event_seq += 4  # written to the old master as well, and never read by us
                await eventually(lambda: reopened(log))
                await log.desk.commit_whole()
                await log.write(2)
                found = await take(events, 2)
                while found[-1].event_seq < 14:
                    found += await take(events, 1)
                assert [seq for seq in dict.fromkeys(seqs(found)) if seq > 6] in ([7, 8, 13, 14], [13, 14])
                reported = [(gap.kind, gap.expected_event_seq, gap.found_event_seq) for gap in events.gaps]
                assert reported in ([("trimmed", 9, 13)], [("trimmed", 7, 13)])
                for event in found:
                    await event.ack()
                assert await log.pending("bot") == []


async def test_forgotten_progress_is_reported(log: Log, url: str) -> None:
    async with consumer(log, url) as events:
        await log.write(3)
        await handle(events, 3)
    await log.redis.delete(log.keys.group("bot"))
    await log.trim(3)
    await log.write(1)
    async with consumer(log, url) as events:
        assert await handle(events, 1) == [4]
        assert [gap.kind for gap in events.gaps] == ["progress"]


async def test_a_number_that_is_trimmed_is_reported(log: Log, url: str) -> None:
    await log.write(5)
    await log.trim(3)
    async with consumer(log, url, start_event_seq=2) as events:
        assert await handle(events, 2) == [4, 5]
        (gap,) = events.gaps
        assert (gap.kind, gap.expected_event_seq, gap.found_event_seq) == ("trimmed", 2, 4)
    async with consumer(log, url, "other") as events:
        assert await handle(events, 2) == [4, 5]
        assert not events.gaps, "the beginning is what there is"
