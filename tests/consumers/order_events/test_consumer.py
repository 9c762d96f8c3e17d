from __future__ import annotations

import asyncio
import os
import signal
from decimal import Decimal
from random import Random

import pytest
from support.changes import NOW, fill
from support.groups import (
    LEASE_S,
    Log,
    consumer,
    handle,
    log_of,
    nothing_comes,
    seqs,
    take,
    until_it_works,
    write_gap,
)
from support.written import eventually

from consumers import AccountMirror, blocking
from consumers.order_events import OrderEvent, OrderEvents
from statecast.embedded.server import EmbeddedServer
from statecast.errors import ContractMismatch


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
        assert "_settler" not in repr(event)
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


async def test_settings_come_from_the_environment(log: Log, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECAST_REDIS_URL", url)
    monkeypatch.setenv("STATECAST_ACCOUNT", log.account_id.account)
    await log.write(2)
    async with OrderEvents.from_env(group="bot", start="beginning", lease_s=LEASE_S) as events:
        assert events.account_id == log.account_id
        assert await handle(events, 2) == [1, 2]


async def test_consumers_of_one_name_are_distinguished(log: Log, url: str) -> None:
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


async def test_another_contract_is_refused(log: Log, url: str) -> None:
    await log.redis.hset(log.keys.status, "contract", "2")
    with pytest.raises(ContractMismatch):
        async with consumer(log, url):
            pass


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
