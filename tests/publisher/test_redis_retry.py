"""Calls to Redis until it answers: one line when that is not possible, one when it is again."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from publisher.logs import account_log
from publisher.redis_retry import RedisRetry
from statecast.errors import LeaseLost, StoreError, StoreRefused, StoreUnreachable
from statecast.store.writer import Holder

SERVER = "127.0.0.1:6379"


class Clock:
    """Notes the pauses, and takes none."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def now_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)


class Call:
    """Fails with each of `errors`, then returns `result`."""

    def __init__(self, *errors: StoreError, result: object = None) -> None:
        self.errors = list(errors)
        self.result = result

    async def __call__(self) -> object:
        if self.errors:
            raise self.errors.pop(0)
        return self.result


def lines(logs: list[dict[str, object]]) -> list[tuple[object, object]]:
    return [(line["event"], line.get("reason", line.get("after"))) for line in logs]


async def test_the_same_trouble_is_logged_once_and_its_end_once() -> None:
    clock = Clock()
    retry = RedisRetry(clock, account_log("binance:main"))
    away, full = StoreUnreachable(SERVER, "no answer"), StoreRefused(SERVER, "used memory")
    with capture_logs() as logs:
        assert await retry.until_answered(Call(away, away, full, full, result=3)) == 3
        assert await retry.until_answered(Call(result=4)) == 4
    assert lines(logs) == [("cannot_write", str(away)), ("cannot_write", str(full)), ("can_write_again", str(full))]
    assert len(clock.pauses) == 4
    assert 0 < max(clock.pauses) <= 1.0


async def test_that_another_publisher_holds_the_lease_does_not_end_the_trouble() -> None:
    retry = RedisRetry(Clock(), account_log("binance:main"))
    away = StoreUnreachable(SERVER, "no answer")
    with capture_logs() as logs:
        await retry.until_answered(Call(away, result=Holder("other", 900)))
        assert lines(logs) == [("cannot_write", str(away))]
        await retry.until_answered(Call())
    assert lines(logs)[1:] == [("can_write_again", str(away))]


async def test_a_lost_lease_is_not_retried() -> None:
    clock = Clock()
    with pytest.raises(LeaseLost):
        await RedisRetry(clock, account_log("binance:main")).until_answered(Call(LeaseLost(SERVER, "held by other")))
    assert clock.pauses == []
