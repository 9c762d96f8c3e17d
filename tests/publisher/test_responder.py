"""Readers without credentials, a publisher that lives, and a simulated exchange: asked and answered through Redis."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from support.readers import ACCOUNT_CALL, access, redis_now_ms
from support.world import World, account_values, until, world
from support.written import eventually

from consumers.account import AccountReader
from publisher import config
from publisher.service import publishing, system_chance
from statecast import settings
from statecast.clock import SystemClock
from statecast.embedded.server import EmbeddedServer
from statecast.errors import StaleState, StoreUnreachable
from statecast.simulator.orders import OrderRequest, OrderType, Side
from statecast.store.keys import AccountKeys

SELDOM = {"RECONCILE_S": "3600"}
"""So that nothing but what readers ask for brings news by REST."""


def buy(here: World, quantity: str = "0.010") -> None:
    request = OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.MARKET, qty=Decimal(quantity))
    now_ms = here.now_ms()
    here.exchange.publish(here.ledger.place(request, now_ms), now_ms)


async def ended(here: World) -> list[str]:
    """How the shared refreshes ended."""
    news = await here.client.redis.xrange(AccountKeys(here.account_id).refresh_news)
    return [fields["ended"] for _, fields in news]


async def who_fetched(here: World) -> str:
    return str(await here.client.redis.hget(AccountKeys(here.account_id).refresh, "by"))


async def test_a_reader_without_credentials_has_the_venue_asked_now(redis_url: str, account_name: str) -> None:
    async with (
        world(redis_url, account_name, **SELDOM) as here,
        AccountReader(here.account_id, redis_url) as reader,
    ):
        buy(here)
        await here.agree()
        called_ms = await redis_now_ms(here.client)
        asked = await reader.refresh()
        assert asked.freshness.verified_at_ms >= called_ms
        assert (asked.freshness.via, asked.freshness.state) == ("refresh", "live")
        assert asked.position("BTCUSDT").position_amt == Decimal("0.010")
        assert str((await here.status())["publisherId"]) in await who_fetched(here)
        assert await ended(here) == ["stored"]


async def test_many_readers_are_answered_at_once(redis_url: str, account_name: str) -> None:
    async with (
        world(redis_url, account_name, **SELDOM) as here,
        AccountReader(here.account_id, redis_url) as reader,
        AccountReader(here.account_id, redis_url) as other,
    ):
        called_ms = await redis_now_ms(here.client)
        answers = await asyncio.gather(*(one.refresh() for one in (reader, other) for _ in range(10)))
        assert all(answer.freshness.verified_at_ms >= called_ms for answer in answers)
        assert len(await ended(here)) <= 2


async def test_what_a_reader_asked_for_is_news_for_the_publisher_too(redis_url: str, account_name: str) -> None:
    async with (
        world(redis_url, account_name, **SELDOM) as here,
        AccountReader(here.account_id, redis_url) as reader,
    ):
        here.exchange.faults.switch("mute_user_sockets", {"on": True})
        buy(here)
        assert not await reader.position("BTCUSDT")
        assert (await reader.refresh()).position("BTCUSDT")

        async def known() -> bool:
            return bool(await reader.position("BTCUSDT"))

        await eventually(known)


async def test_what_is_drift_by_a_readers_answer_is_looked_into_at_once(redis_url: str, account_name: str) -> None:
    async with (
        world(redis_url, account_name, **SELDOM) as here,
        AccountReader(here.account_id, redis_url) as reader,
    ):
        await here.agree()
        await asyncio.sleep(0.5)
        before = here.exchange.requests[ACCOUNT_CALL]
        # A wallet that is another at the same venue time: no news, but a contradiction.
        wallet = here.ledger.wallet("USDC")
        here.ledger.transfer("USDC", Decimal(7), wallet.updated_at_ms)
        await reader.refresh()

        async def asked_again() -> bool:
            return here.exchange.requests[ACCOUNT_CALL] >= before + 2

        await eventually(asked_again)


async def test_readers_are_answered_while_the_stream_is_down(redis_url: str, account_name: str) -> None:
    async with (
        world(redis_url, account_name) as here,
        AccountReader(here.account_id, redis_url, max_age_s=1.0) as reader,
    ):
        here.exchange.faults.switch("refuse_sockets", {"count": 1000, "status": 503})
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        await here.state("recovering")
        buy(here)

        async def read() -> str:
            whole = await reader.snapshot()
            assert whole.freshness.via == "publisher" or whole.position("BTCUSDT").position_amt == Decimal("0.010")
            assert whole.age_s <= 1.0
            return whole.freshness.via

        await until(read, lambda via: via == "refresh")
        assert (await here.status())["state"] == "recovering"


async def test_a_venue_that_is_down_is_told_to_who_asked(redis_url: str, account_name: str) -> None:
    async with (
        world(redis_url, account_name, **SELDOM) as here,
        AccountReader(here.account_id, redis_url) as reader,
    ):
        here.exchange.faults.switch("answer_rest", {"count": 1000, "status": 503})
        with pytest.raises(StaleState, match=r"the last refresh by REST failed \(binance: GET /fapi/.*HTTP 503"):
            await reader.refresh()
        assert await ended(here) == ["failed"]
        assert (await here.status())["state"] == "live"


async def test_only_the_publisher_with_the_lease_answers(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, **SELDOM) as here:
        given = account_values(here.server, account_name, **SELDOM)
        standby = config.build(settings.Settings(given, (given,)))
        async with (
            publishing(standby, redis_url, SystemClock(), system_chance()),
            AccountReader(here.account_id, redis_url) as reader,
        ):
            for _ in range(5):
                await reader.refresh()
                assert str((await here.status())["publisherId"]) in await who_fetched(here)


async def test_answers_go_on_after_redis_was_away(own_redis: EmbeddedServer, account_name: str) -> None:
    async with (
        world(own_redis.url, account_name, **SELDOM) as here,
        AccountReader(here.account_id, own_redis.url) as reader,
    ):
        await reader.refresh()
        own_redis.kill()
        own_redis.restart()

        async def refreshed() -> bool:
            try:
                return (await reader.refresh()).freshness.via == "refresh"
            except (StoreUnreachable, StaleState):  # NeverPublished, until the publisher has written anew
                return False

        await eventually(refreshed)


async def test_a_publisher_that_stops_in_the_middle_leaves_the_lock_free(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, **SELDOM) as here:
        server, client = here.server, here.client
        given = account_values(server, f"{account_name}-2", **SELDOM)
        built = config.build(settings.Settings(given, (given,)))
        second = built.accounts[0].account_id
        lock = AccountKeys(second).refresh_lock
        async with AccountReader(second, redis_url) as reader:
            async with publishing(built, redis_url, SystemClock(), system_chance()):

                async def state() -> str | None:
                    return await client.redis.hget(AccountKeys(second).status, "state")

                await until(state, lambda said: said == "live")
                server.exchange.faults.switch(
                    "delay_rest", {"count": 1, "delay_ms": 20_000, "path": "/fapi/v1/openOrders"}
                )
                asking = asyncio.create_task(reader.refresh())

                async def locked() -> bool:
                    return bool(await client.redis.exists(lock))

                await eventually(locked)
            assert not await client.redis.exists(lock)
            with pytest.raises(StaleState, match="the publisher is stopped"):
                await asking


async def test_credentials_of_readers_and_publisher_take_turns(redis_url: str, account_name: str) -> None:
    async with (
        world(redis_url, account_name, **SELDOM) as here,
        AccountReader(here.account_id, redis_url) as without,
        AccountReader(here.account_id, redis_url, credentials=access(here.server)) as with_own,
    ):
        answers = await asyncio.gather(*(one.refresh() for one in (without, with_own) for _ in range(5)))
        assert len({answer.freshness.verified_at_ms for answer in answers}) == len(await ended(here)) <= 3
