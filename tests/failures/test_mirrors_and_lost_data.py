"""Mirrors while the exchange trades and Redis loses data: each notices, reads anew, and says what happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import pytest
from support.link import Fate, Link, linked_url
from support.world import DEADLINE_S, FastClock, World, world
from support.written import eventually

from consumers.mirror import AccountMirror
from consumers.tables import of_publisher
from statecast.embedded.server import EmbeddedServer
from statecast.errors import StaleState, StoreUnreachable
from statecast.store.client import connect
from statecast.store.keys import AccountKeys
from statecast.store.reader import StoredAccount

SEED = 20_261_122
RedisServerFactory = Callable[..., EmbeddedServer]


class Comparison:
    """A mirror against what a reader gets, at the same commit; counts how often they could be compared."""

    def __init__(self, here: World, mirror: AccountMirror) -> None:
        self._here = here
        self._mirror = mirror
        self.commits: set[tuple[int, int]] = set()

    async def compare(self) -> bool:
        """Whether both are at one commit; fails when they differ there. Redis may be away."""
        with suppress(StaleState, StoreUnreachable):
            stored = await self._here.stored()
            mine = self._mirror.snapshot()
            if (mine.freshness.epoch, mine.seq) == commit_of(stored):
                expect_same(mine, stored)
                self.commits.add(commit_of(stored))
                return True
        return False

    async def run(self) -> None:
        while True:
            await self.compare()
            await asyncio.sleep(0)


def commit_of(stored: StoredAccount) -> tuple[int, int]:
    return int(stored.status.get("epoch", 0)), int(stored.status.get("seq", 0))


def expect_same(mine: Any, stored: StoredAccount) -> None:
    theirs = of_publisher(stored, "", 0).snapshot()
    assert mine == theirs, f"at commit {theirs.seq}"
    assert mine.source == theirs.source


async def trades(here: World) -> None:
    """Trade and move marks until cancelled."""
    while True:
        here.trade(3)
        here.exchange.publish_marks(here.now_ms())
        await asyncio.sleep(0.002)


@asynccontextmanager
async def trading(here: World, comparison: Comparison) -> AsyncIterator[None]:
    """Trade, and compare as often as possible, all the while."""
    tasks = [asyncio.create_task(trades(here)), asyncio.create_task(comparison.run())]
    try:
        yield
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def agreed(here: World, comparison: Comparison) -> None:
    """When the trading has stopped: Redis holds the ledger, and the mirror what Redis holds."""
    await here.agree()
    await eventually(comparison.compare, DEADLINE_S)


@asynccontextmanager
async def mirrored(
    url: str, account: str, *, redis_of_publisher: str | None = None
) -> AsyncIterator[tuple[World, Link, AccountMirror, Comparison]]:
    """An exchange, its publisher, and a mirror behind a proxy of its own."""
    async with (
        world(redis_of_publisher or url, account, seed=SEED) as here,
        linked_url(url) as proxy,
        AccountMirror(here.account_id, proxy.url) as mirror,
    ):
        yield here, proxy, mirror, Comparison(here, mirror)


async def rejoined(mirror: AccountMirror, times: int, reason: str) -> None:
    async def told() -> bool:
        return len(mirror.rejoins) >= times

    await eventually(told, DEADLINE_S)
    reasons = [rejoin.reason for rejoin in mirror.rejoins]
    assert any(reason in text for text in reasons), reasons


async def test_a_mirror_is_the_account_at_every_commit_that_can_be_compared(redis_url: str, account_name: str) -> None:
    async with mirrored(redis_url, account_name) as (here, _, mirror, comparison):
        async with trading(here, comparison):

            async def often_enough() -> bool:
                return len(comparison.commits) > 100

            await eventually(often_enough, 2 * DEADLINE_S)
        await agreed(here, comparison)
        assert mirror.rejoins == ()


async def test_mirrors_that_join_in_the_middle_have_no_gap(redis_url: str, account_name: str) -> None:
    async with mirrored(redis_url, account_name) as (here, _, mirror, comparison), trading(here, comparison):
        for _ in range(20):
            async with AccountMirror(here.account_id, redis_url) as joining:
                own = Comparison(here, joining)
                await eventually(own.compare, DEADLINE_S)
                assert joining.rejoins == ()
        assert mirror.rejoins == ()


async def test_cut_connections_lose_nothing(redis_url: str, account_name: str) -> None:
    chance = Random(SEED)

    def fate(request: bytes) -> Fate:
        return chance.choice(("lose request", "cut request", "lose reply")) if chance.random() < 0.1 else "pass"

    async with mirrored(redis_url, account_name) as (here, proxy, mirror, comparison):
        async with trading(here, comparison):
            proxy.fate = fate

            async def often_enough() -> bool:
                cuts = sum(met != "pass" for met in proxy.fates)
                return cuts > 20 and len(comparison.commits) > 30

            await eventually(often_enough, 2 * DEADLINE_S)
        proxy.fate = lambda request: "pass"
        await agreed(here, comparison)
        assert mirror.rejoins == ()


async def test_a_stream_that_was_trimmed_while_the_mirror_was_away(redis_url: str, account_name: str) -> None:
    async with mirrored(redis_url, account_name) as (here, proxy, mirror, comparison):
        async with trading(here, comparison):
            proxy.fate = lambda request: "lose request"

            async def cut_off() -> bool:
                return "lose request" in proxy.fates

            await eventually(cut_off, DEADLINE_S)
            start = int((await here.status())["seq"])

            async def moved_on() -> bool:
                return int((await here.status())["seq"]) > start + 20

            await eventually(moved_on, DEADLINE_S)
            await here.client.redis.xtrim(AccountKeys(here.account_id).changes, maxlen=1, approximate=False)
            proxy.fate = lambda request: "pass"
            await rejoined(mirror, 1, "came after")
        await agreed(here, comparison)
        assert len(mirror.rejoins) == 1


async def test_a_flushed_redis(own_redis: EmbeddedServer, account_name: str) -> None:
    async with mirrored(own_redis.url, account_name) as (here, _, mirror, comparison):
        for times in (1, 2):
            async with trading(here, comparison):
                await here.client.redis.flushall()
                await rejoined(mirror, times, "")
            await agreed(here, comparison)
        reasons = {rejoin.reason for rejoin in mirror.rejoins}
        assert all("epoch" in reason or "the status is gone" in reason for reason in reasons), reasons


@pytest.mark.parametrize("what", ["account", "balances", "positions", "orders", "status"])
async def test_a_deleted_hash(own_redis: EmbeddedServer, account_name: str, what: str) -> None:
    async with mirrored(own_redis.url, account_name) as (here, _, mirror, comparison):
        async with trading(here, comparison):
            await here.client.redis.delete(AccountKeys(here.account_id).table(what))
            await rejoined(mirror, 1, "")
        await agreed(here, comparison)


async def test_a_deleted_stream_of_changes(own_redis: EmbeddedServer, account_name: str) -> None:
    async with mirrored(own_redis.url, account_name) as (here, _, _, comparison):
        async with trading(here, comparison):
            for _ in range(10):
                await here.client.redis.delete(AccountKeys(here.account_id).changes)
                await asyncio.sleep(0.01)
        await agreed(here, comparison)


async def test_a_fail_over_to_a_replica_that_had_not_heard_everything(
    redis_server_factory: RedisServerFactory, account_name: str
) -> None:
    first, second = redis_server_factory(), redis_server_factory()
    async with (
        connect(second.url, client_name="operator") as operator,
        linked_url(first.url) as of_publisher_,
        mirrored(first.url, account_name, redis_of_publisher=of_publisher_.url) as (
            here,
            of_mirror,
            mirror,
            comparison,
        ),
    ):
        # Our servers write no file, so the copy goes from memory to memory, and at once.
        await here.client.redis.config_set("repl-diskless-sync-delay", 0)
        await operator.redis.config_set("repl-diskless-load", "swapdb")
        await operator.redis.execute_command("REPLICAOF", first.host, first.port)

        async def replicated() -> bool:
            replica = await operator.redis.info("replication")
            return replica["master_link_status"] == "up"

        await eventually(replicated, DEADLINE_S)
        async with trading(here, comparison):
            await eventually(lambda: compared(comparison, 20), DEADLINE_S)
            await operator.redis.execute_command("REPLICAOF", "NO", "ONE")  # what comes now is lost
            known = len(comparison.commits)
            await eventually(lambda: compared(comparison, known + 20), DEADLINE_S)
            before = mirror.snapshot().seq
            for proxy in (of_publisher_, of_mirror):
                proxy.target = (second.host, second.port)
            first.kill()
            await rejoined(mirror, 1, "")
        # The world's own client goes through the publisher's proxy, so it has moved as well.
        await agreed(here, comparison)
        assert mirror.rejoins[0].at_seq >= before
        reason = mirror.rejoins[0].reason
        assert "went back" in reason or "epoch" in reason, reason


async def compared(comparison: Comparison, times: int) -> bool:
    return len(comparison.commits) >= times


async def test_a_publisher_that_starts_again(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, seed=SEED) as first:
        mirror = AccountMirror(first.account_id, redis_url)
        async with mirror:
            first.trade(50)
            await first.agree()
            await eventually(Comparison(first, mirror).compare, DEADLINE_S)
    # Its exchange is gone as well: the next publisher follows another, with other positions. That is asked for orders
    # which it does not know, those of the first one, until they are a minute old.
    async with (
        AccountMirror(first.account_id, redis_url, max_age_s=60) as mirror,
        world(redis_url, account_name, seed=SEED + 1, clock=FastClock(20)) as second,
    ):
        second.trade(50)
        await agreed(second, Comparison(second, mirror))
        await rejoined(mirror, 1, "a publisher has started, or Redis was replaced")
