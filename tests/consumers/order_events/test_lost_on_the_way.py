"""What happens to order events when replies are lost, renewals overlap reads, and handlers fail in odd ways."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from support.groups import Log, die, handle, log_of, take
from support.link import Fate, linked_url

from consumers import blocking
from consumers.order_events import OrderEvents
from statecast.errors import LeaseLost, StoreUnreachable
from statecast.store.groups import Entry, Lease


@pytest.fixture
async def log(redis_url: str, account_name: str) -> AsyncIterator[Log]:
    async with log_of(redis_url, account_name) as opened:
        yield opened


def consumer(log: Log, url: str, group: str = "bot", **options: Any) -> OrderEvents:
    given: dict[str, Any] = {"lease_s": 1.0, "backoff_s": 0.01, "start": "beginning"} | options
    return OrderEvents(log.account_id, url, group, **given)


async def test_a_count_whose_replies_are_lost_counts_once(log: Log, redis_url: str) -> None:
    await log.write(1)
    async with consumer(log, redis_url, lease_s=0.5) as first:
        await take(first, 1)
        await die(first)
    async with linked_url(redis_url) as proxy, consumer(log, proxy.url, max_attempts=3, lease_s=10.0) as events:
        counting = events._redis._scripts.attempt.sha.encode()
        await log.redis.script_load(
            events._redis._scripts.attempt.script
        )  # else what is lost is the answer that it is unknown
        lost = 0

        def fate(request: bytes) -> Fate:
            nonlocal lost
            if counting not in request or lost == 4:
                return "pass"
            lost += 1
            return "lose reply"

        proxy.fate = fate
        (event,) = await take(events, 1)
        assert lost == 4
        assert (event.event_seq, event.attempt) == (1, 2)
    assert await log.letters("bot") == []


async def test_a_read_that_fails_during_a_renewal_ends_the_term_all_the_same(
    log: Log, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with consumer(log, redis_url, lease_s=2.0) as events:
        await log.write(1)
        await handle(events, 1)
        redis = events._redis
        renew, read = redis.renew, redis.read
        sent, failed, reads_again = asyncio.Event(), asyncio.Event(), asyncio.Event()
        under_way: list[tuple[int, str, str, int]] = []

        async def slow_renew(*, new_terms: Iterable[int] = ()) -> Lease:
            lease = await renew(new_terms=new_terms)
            if not failed.is_set():
                sent.set()
                await failed.wait()
                await asyncio.sleep(0.2)  # its reply comes after the pause of the reading task
            return lease

        async def lost_read(partition: int, term: str, after: str, count: int) -> tuple[list[Entry], str]:
            if sent.is_set() and not failed.is_set():
                under_way.append((partition, term, after, count))
                failed.set()
                raise StoreUnreachable("redis://test", "no answer within the time-out")
            if failed.is_set():
                reads_again.set()
            return await read(partition, term, after, count)

        monkeypatch.setattr(redis, "renew", slow_renew)
        monkeypatch.setattr(redis, "read", lost_read)

        async with asyncio.timeout(40):
            await reads_again.wait()
        (late,) = under_way
        with pytest.raises(LeaseLost):
            await read(*late)  # it was sent, and reaches Redis only now
        await log.write(1)
        assert await handle(events, 1) == [2]


async def test_a_plain_handler_may_fail_with_stop_iteration(log: Log, redis_url: str) -> None:
    await log.write(2)
    seen: list[int] = []

    def handler(event: blocking.OrderEvent) -> None:
        seen.append(event.event_seq)
        if len(seen) == 1:
            next(iter([]))

    def work() -> None:
        with blocking.OrderEvents(log.account_id, redis_url, "bot", start="beginning", backoff_s=0.01) as events:
            closing = threading.Timer(5.0, events.close)
            closing.start()
            events.run(handler)
            closing.cancel()

    await asyncio.wait_for(asyncio.to_thread(work), 20)
    assert seen == [1, 1, 2]
