from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from support.groups import (
    LEASE_S,
    consumer,
    handle,
    log_of,
    take,
    until_it_works,
)
from support.written import eventually

from consumers.order_events import OrderEvents
from consumers.order_events.calls import RedisCalls, Signals, Tasks
from statecast.clock import SystemClock
from statecast.embedded.server import EmbeddedServer
from statecast.errors import (
    ContractMismatch,
    LeaseLost,
    StoreAuthFailed,
    StoreDiverged,
    StoreError,
    StoreRefused,
    StoreUnreachable,
)
from statecast.store.client import connect


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


class QuickClock(SystemClock):
    """Notes how long it was asked to sleep, and does not."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


async def test_a_call_is_repeated_with_growing_pauses_until_redis_answers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "statecast.consumers")
    clock = QuickClock()
    calls = RedisCalls("bot", "redis://test", clock)
    failures = [StoreUnreachable("redis://test", "no connection")] * 8

    async def call() -> str:
        if failures:
            raise failures.pop()
        return "answer"

    calls.answered()
    assert await calls.until_answered(call) == "answer"
    assert clock.slept == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    calls.answered()
    calls.answered()
    assert [record.getMessage() for record in caplog.records] == [
        "bot: waiting for Redis: Redis at redis://test: no connection",
        "bot: Redis at redis://test answers again",
    ]


@pytest.mark.parametrize(
    ("error", "temporary"),
    [
        (StoreUnreachable("redis://test", "no connection"), True),
        (StoreRefused("redis://test", "READONLY You can't write against a read only replica."), True),
        (StoreRefused("redis://test", "NOPERM this user has no permissions"), False),
        (StoreAuthFailed("redis://test", "wrong password"), False),
        (ContractMismatch("redis://test", "contract 2"), False),
        (LeaseLost("redis://test", "held by another"), False),
        (StoreDiverged("redis://test", "the group is gone"), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_which_errors_may_pass(error: StoreError, temporary: bool) -> None:
    calls = RedisCalls("bot", "redis://test", QuickClock())
    if temporary:
        calls.raise_unless_temporary(error)
    else:
        with pytest.raises(type(error)):
            calls.raise_unless_temporary(error)


async def test_nothing_is_called_once_the_consumer_is_closed() -> None:
    calls = RedisCalls("bot", "redis://test", QuickClock())
    calls.close()

    async def call() -> None:
        raise AssertionError("it was called")

    with pytest.raises(RuntimeError, match="closed"):
        await calls.until_answered(call)


async def test_the_first_task_that_fails_ends_the_others_and_is_reported() -> None:
    failed: list[bool] = []
    tasks = Tasks("bot", on_failure=lambda: failed.append(True))

    async def fail() -> None:
        raise ValueError("mine")

    other = tasks.start(asyncio.sleep(60))
    tasks.start(fail())
    with pytest.raises(asyncio.CancelledError):
        await other
    assert isinstance(tasks.failure, ValueError)
    assert failed == [True]


async def test_a_failure_while_stopping_is_of_no_interest() -> None:
    tasks = Tasks("bot", on_failure=lambda: pytest.fail("it was reported"))

    async def fail() -> None:
        raise ValueError("mine")

    tasks.stopping()
    tasks.start(fail())
    await tasks.stop()
    assert tasks.failure is None


async def test_stopping_does_not_wait_for_a_task_that_waits_for_the_stop() -> None:
    tasks = Tasks("bot", on_failure=lambda: None)
    go_on = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await go_on.wait()

    stubborn_task = tasks.start(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await tasks.stop(0.05)
    assert not stubborn_task.done()
    go_on.set()
    await stubborn_task


async def test_signals_wake_who_waits_and_end_a_wait_by_its_time() -> None:
    signals = Signals()
    await signals.wait_for_event(0.01)
    waiting = asyncio.create_task(signals.wait_for_event(None))
    await asyncio.sleep(0)
    signals.event_ready()
    async with asyncio.timeout(10):
        await waiting
    signals.renew_now()
    async with asyncio.timeout(10):
        await signals.wait_for_renewal(60)
    await signals.wait_for_renewal(0.01)
    assert not signals.group_lost
    signals.lost_group()
    assert signals.group_lost
    signals.joined_again()
    assert not signals.group_lost
