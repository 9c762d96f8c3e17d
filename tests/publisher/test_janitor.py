"""The log is trimmed while the publisher works, and the operator is told whom it waits for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, cast

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs
from support.changes import event, snapshot
from support.link import Fate, linked_url
from support.venues import registered
from support.world import until, world
from support.written import Desk, eventually

from publisher import config
from publisher.config import AccountConfig
from publisher.janitor import Janitor
from publisher.logs import account_log
from publisher.tuning import Tuning
from statecast import settings
from statecast.clock import Clock, SystemClock
from statecast.embedded.server import EmbeddedServer
from statecast.store import trimming
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId, AccountKeys
from statecast.venues.binance.venue import TRAITS, BinanceVenue

KEPT = 20
RETENTION_S = 1

BRISK = Tuning(trim_every_s=0.05, trim_pause_s=0.0, recorded_events=KEPT - 5, log_margin=5)
"""A round every 0.05 s, and a tail that a test can write."""

Lines = list[Any]


def account_config(account: str, **values: str) -> AccountConfig:
    """Settings of a publisher whose log is trimmed after a second, groups after an hour."""
    given = {"ACCOUNT": account, "API_KEY": "key", "API_SECRET": "secret", "EVENTS_RETENTION_S": str(RETENTION_S)}
    given |= {"GROUP_EXPIRY_S": "3600"} | values
    return config.build(settings.Settings(given, (given,))).accounts[0]


class OneRound(SystemClock):
    """A clock by which the time of a second round never comes."""

    def __init__(self) -> None:
        self.begun = False

    async def sleep(self, seconds: float) -> None:
        if seconds == BRISK.trim_every_s:
            if self.begun:
                await asyncio.Event().wait()
            self.begun = True
        await super().sleep(seconds)


class Office:
    """A publisher that has written as many events as wanted, and the log beside it."""

    def __init__(self, client: Client, account: str) -> None:
        self.account = account
        self.account_id = AccountId("binance", account)
        self.redis = cast("Redis[Any]", client.redis)
        self.keys = AccountKeys(self.account_id)
        self.desk = Desk(client, self.account_id)
        self.written = 0
        self.needed_ms: int | None = 0

    async def write(self, count: int) -> None:
        """Write order events, and wait until they are older than the retention."""
        numbers = range(self.written + 1, self.written + count + 1)
        await self.desk.commit(*([event(number, "NEW", order_id=str(number))] for number in numbers))
        self.written += count
        ((last, _),) = await self.redis.xrevrange(self.keys.order_events, count=1)

        async def old() -> bool:
            return int((await self.redis.time())[0]) * 1000 > int(last.partition("-")[0]) + RETENTION_S * 1000

        await eventually(old)

    async def length(self) -> int:
        return int(await self.redis.xlen(self.keys.order_events))

    async def shrinks(self) -> None:
        """Wait until nothing is left but the tail and what its node holds."""
        await eventually(self.is_short)

    async def is_short(self) -> bool:
        return KEPT <= await self.length() < KEPT + 100

    @asynccontextmanager
    async def at_work(
        self, client: Client, clock: Clock | None = None, tuning: Tuning = BRISK, **values: str
    ) -> AsyncIterator[Lines]:
        """A janitor that works meanwhile; what it logs."""
        log = account_log(self.account_id)
        settled = account_config(self.account, **values)
        clock = clock or SystemClock()
        works = Janitor(client, settled, self.desk.writer, lambda: self.needed_ms, clock, log, tuning)
        with capture_logs() as lines:
            task = asyncio.create_task(works.run())
            try:
                yield cast(Lines, lines)
                assert not task.done(), task
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with connect(redis_url, client_name="publisher") as connected:
        yield connected


@pytest.fixture
async def office(client: Client, account_name: str) -> Office:
    opened = Office(client, account_name)
    opened.desk.writer.lease_ttl_ms = 60_000
    await opened.desk.open()
    await opened.desk.commit([snapshot()])
    return opened


def said(lines: Lines, *names: str) -> list[str]:
    """The events of the log in order, or those of these names."""
    return [line["event"] for line in lines if not names or line["event"] in names]


async def told(lines: Lines, name: str, times: int = 1) -> dict[str, Any]:
    """Wait until it was said that often; the last line of it."""

    async def was() -> bool:
        return said(lines).count(name) >= times

    await eventually(was)
    return cast("dict[str, Any]", [line for line in lines if line["event"] == name][-1])


async def rounds(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Wait for that many more calls of the trimmer, whatever comes of them."""
    seen, before = 0, trimming.Trimmer.trim

    async def counted(self: trimming.Trimmer, publisher_id: str, epoch: int, *, needed_ms: int = 0) -> trimming.Trimmed:
        nonlocal seen
        try:
            return await before(self, publisher_id, epoch, needed_ms=needed_ms)
        finally:
            seen += 1

    async def enough() -> bool:
        return seen >= count

    with monkeypatch.context() as patch:
        patch.setattr(trimming.Trimmer, "trim", counted)
        await eventually(enough)


async def test_a_publisher_trims_what_is_old(own_redis: EmbeddedServer) -> None:
    """The whole service, with an exchange that trades."""
    traits = replace(TRAITS, checks=replace(TRAITS.checks, all_pause_s=0.5))
    with registered(BinanceVenue(traits)):
        await _trims_what_is_old(own_redis)


async def _trims_what_is_old(own_redis: EmbeddedServer) -> None:
    tuning = replace(BRISK, overlap_ms=500, written_late_ms=0, grace_s=1.0)
    async with world(own_redis.url, "main", EVENTS_RETENTION_S="1", RECONCILE_S="1", tuning=tuning) as here:
        length = lambda: here.client.redis.xlen(AccountKeys(here.account_id).order_events)  # noqa: E731
        here.trade(400)
        await until(length, lambda count: count > 300)
        await until(length, lambda count: count < KEPT + 100)
        before = int((await here.status())["eventSeq"])
        here.trade(5)
        await until(here.status, lambda status: int(status["eventSeq"]) > before)
        numbers = [int(entry["eventSeq"]) for entry in await here.log()]
        assert numbers == [*range(numbers[0], numbers[-1] + 1)]
        assert len(numbers) >= KEPT
        await here.agree()


async def test_the_tail_that_the_committer_looks_at_is_never_trimmed(
    office: Office, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    tail = Tuning()
    tuning = replace(BRISK, recorded_events=tail.recorded_events, log_margin=tail.log_margin)
    await office.write(200)
    async with office.at_work(client, tuning=tuning) as lines:
        await rounds(monkeypatch, 5)
    assert await office.length() == 200
    assert lines == []


@pytest.mark.parametrize("needed_ms", [3_600_000, None])
async def test_what_a_gap_may_reach_is_not_trimmed(office: Office, client: Client, needed_ms: int | None) -> None:
    await office.write(300)
    office.needed_ms = needed_ms
    async with office.at_work(client) as lines:
        await asyncio.sleep(0.5)  # some rounds; none of them must remove anything
        assert (await office.length(), lines) == (300, [])
        office.needed_ms = 0
        await office.shrinks()


async def test_a_long_log_goes_in_one_round(office: Office, client: Client) -> None:
    await office.write(1_000)
    async with office.at_work(client, OneRound(), tuning=replace(BRISK, trimmed_per_call=120)):
        await office.shrinks()


async def test_a_group_that_holds_the_log_is_told_once_and_again_when_it_does_again(
    office: Office, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.write(300)
    await office.redis.xgroup_create(office.keys.order_events, "slow", "0")
    async with office.at_work(client) as lines:
        line = await told(lines, "group_holds_old_order_events")
        assert (line["log_level"], line["group"], line["retention_s"]) == ("warning", "slow", 1.0)
        assert (line["pending"], line["account"]) == (0, str(office.account_id))
        assert line["oldest_age_s"] >= RETENTION_S
        await rounds(monkeypatch, 5)
        assert said(lines) == ["group_holds_old_order_events"]
        assert await office.length() == 300

        await office.redis.xgroup_setid(office.keys.order_events, "slow", "$")
        await office.shrinks()
        await office.write(1)
        await told(lines, "group_holds_old_order_events", 2)
    assert set(said(lines)) == {"group_holds_old_order_events"}


async def test_a_group_that_expires_is_told_once_and_the_log_goes(
    office: Office, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.write(300)
    await office.redis.xgroup_create(office.keys.order_events, "left", "0")
    async with office.at_work(client, GROUP_EXPIRY_S="1") as lines:
        await told(lines, "group_holds_old_order_events")
        line = await told(lines, "group_expired")
        await office.shrinks()
        await rounds(monkeypatch, 5)
    assert (line["log_level"], line["group"]) == ("warning", "left")
    assert line["unserved_s"] >= 1
    assert said(lines) == ["group_holds_old_order_events", "group_expired"]


async def test_what_redis_refuses_is_told_once_and_ends_nothing(
    office: Office, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.write(300)
    await office.redis.set(office.keys.group_activity, "not a hash")
    async with office.at_work(client) as lines:
        line = await told(lines, "cannot_trim_order_events")
        assert "WRONGTYPE" in line["reason"]
        await rounds(monkeypatch, 5)
        assert said(lines) == ["cannot_trim_order_events"]
        await office.redis.delete(office.keys.group_activity)
        await office.shrinks()
        await office.redis.set(office.keys.group_activity, "not a hash")
        await told(lines, "cannot_trim_order_events", 2)
    assert set(said(lines)) == {"cannot_trim_order_events"}


@pytest.mark.parametrize("fate", ["lose request", "cut request", "lose reply"])
async def test_a_redis_that_is_away_for_a_while_is_no_news(
    office: Office, redis_url: str, monkeypatch: pytest.MonkeyPatch, fate: Fate
) -> None:
    await office.write(300)
    async with linked_url(redis_url) as proxy, connect(proxy.url, client_name="publisher") as behind:
        proxy.fate = lambda request: fate
        async with office.at_work(behind) as lines:
            await rounds(monkeypatch, 3)
            proxy.fate = lambda request: "pass"
            await office.shrinks()
    assert lines == []


async def test_a_publisher_that_waits_for_the_lease_trims_nothing(
    office: Office, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.write(300)
    waiting = Office(client, office.account)
    waiting.desk = Desk(client, office.account_id, "publisher-2")
    assert await waiting.desk.open() == "publisher-1"
    async with waiting.at_work(client) as lines:
        await rounds(monkeypatch, 5)
    assert await office.length() == 300
    assert lines == []
