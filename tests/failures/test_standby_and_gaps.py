"""A writer that dies, a standby with a hole of its own, a Redis that loses data: what nobody wrote is fetched."""

from __future__ import annotations

import asyncio
import gc
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import NamedTuple

from support.link import Link, linked_url
from support.venues import registered
from support.world import World, new_server, published, until, world

from publisher.account import AccountPublisher
from publisher.service import Chance
from publisher.tuning import Tuning
from statecast.embedded.server import EmbeddedServer
from statecast.errors import StoreError
from statecast.simulator.orders import AlgoRequest, OrderType, Side
from statecast.venues.binance.venue import TRAITS, BinanceVenue

SEED = 5


def running(publisher_id: str) -> AccountPublisher:
    """The one of that name that runs in this process."""
    alive = [item for item in gc.get_objects() if type(item) is AccountPublisher]
    (one,) = (item for item in alive if item._publisher_id == publisher_id)
    return one


def called(publisher_id: str) -> Chance:
    return Chance(Random(), lambda: publisher_id)


def kill(way_to_redis: Link) -> None:
    """As SIGKILL would: nothing more is written, and the lease is left behind."""
    way_to_redis.fate = lambda request: "lose request"


class Pair(NamedTuple):
    """A writer, the way on which it reaches Redis, and a standby that follows the account."""

    here: World
    way_of_first: Link
    standby: AccountPublisher


@asynccontextmanager
async def pair(redis_url: str, account_name: str, reconcile_s: str) -> AsyncIterator[Pair]:
    first, second = (f"{account_name}-{which}-{uuid.uuid4().hex[:6]}" for which in ("first", "second"))
    async with new_server(seed=SEED) as server, linked_url(redis_url) as way:
        one = published(
            server,
            redis_url,
            account_name,
            chance=called(first),
            publisher_redis_url=way.url,
            RECONCILE_S=reconcile_s,
        )
        other = published(
            server, redis_url, account_name, seed=9, live=False, chance=called(second), RECONCILE_S=reconcile_s
        )
        async with one as here:
            here.trade(20)
            await here.agree()
            async with other:
                await so(lambda: follows(running(second)))
                yield Pair(here, way, running(second))


async def so(good: Callable[[], bool]) -> None:
    async def look() -> bool:
        return good()

    await until(look, bool)


def follows(one: AccountPublisher) -> bool:
    return one._committer._lease.is_standby and one._follower._sync._catch_up.is_following


async def test_what_the_record_has_dropped_while_redis_was_away_is_fetched(
    own_redis: EmbeddedServer, account_name: str
) -> None:
    """More events than the record holds, and fewer than the account remembers to have been logged."""
    few = {"events_at_once": 20, "history_slice": 20, "unwritten_events": 20}
    tuning = Tuning(recorded_events=50, queued_deltas=20, unlogged_events=50, **few)
    async with world(own_redis.url, account_name, RECONCILE_S="5", tuning=tuning) as here:
        here.trade(20)
        await here.agree()
        own_redis.kill()
        for _ in range(30):
            here.trade(10)
            await asyncio.sleep(0.02)
        own_redis.start()
        await here.state("live")
        await here.agree()
        entries = await until(here.log, lambda entries: any(entry["eventType"] == "GAP" for entry in entries))
        (gap,) = (entry for entry in entries if entry["eventType"] == "GAP")
        assert gap["eventId"].endswith(":OVERFLOW")
        await here.agree_on_events_after_gaps()


async def test_what_a_standby_received_before_its_own_reconnect_is_not_taken_for_logged(
    redis_url: str, account_name: str
) -> None:
    async with pair(redis_url, account_name, "60") as (here, way_of_first, second):
        kill(way_of_first)
        here.trade(40)
        await so(lambda: len(second._committer._record) > 5)
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        name = second._publisher_id
        await until(here.status, lambda status: (status["publisherId"], status["state"]) == (name, "live"))
        await here.agree()
        await here.agree_on_events_after_gaps()


async def test_a_wiped_redis_is_filled_by_the_one_that_remembers_most(
    own_redis: EmbeddedServer, account_name: str
) -> None:
    async with pair(own_redis.url, account_name, "60") as (here, _, _):
        before = await here.log()
        own_redis.kill()
        own_redis.start()

        async def status() -> dict[str, str]:
            try:
                return await here.status()
            except StoreError:
                return {}

        await until(status, lambda status: status.get("eventSeq") == before[-1]["eventSeq"])
        await here.agree()
        assert [entry["eventId"] for entry in await here.log()] == [entry["eventId"] for entry in before]


async def test_what_neither_has_understood_is_fetched_by_the_standby(redis_url: str, account_name: str) -> None:
    async with pair(redis_url, account_name, "1") as (here, way_of_first, second):
        since_ms = second._committer._record.complete_since_ms
        await until(here.status, lambda status: int(status["eventsCompleteMs"]) > since_ms)
        kill(way_of_first)
        here.exchange.fault("drop_user_frames", {"count": 1000}, here.now_ms())
        here.trade(20)
        here.exchange.fault("clear", {}, here.now_ms())
        here.exchange.fault("send_raw", {"text": "{"}, here.now_ms())
        name = second._publisher_id
        await until(here.status, lambda status: (status["publisherId"], status["state"]) == (name, "live"))
        await here.agree()
        await here.agree_on_events_after_gaps()


async def test_the_mark_is_not_ahead_of_what_a_mute_stream_has_told(redis_url: str, account_name: str) -> None:
    """A conditional order comes and goes unheard, the stream is found mute, and the publisher ends before it mends."""
    # It is not this symbol's turn.
    traits = replace(TRAITS, checks=replace(TRAITS.checks, all_pause_s=0.5, least_symbols=0))
    with registered(BinanceVenue(traits)):
        await _mark_of_a_mute_stream(redis_url, account_name, Tuning(overlap_ms=500, grace_s=0.5))


async def _mark_of_a_mute_stream(redis_url: str, account_name: str, tuning: Tuning) -> None:
    async with new_server(seed=SEED) as server:
        async with published(server, redis_url, account_name, tuning=tuning, RECONCILE_S="1") as here:
            here.trade(20)
            await here.agree()
            here.exchange.fault("mute_user_sockets", {"on": True}, here.now_ms())
            ledger, now_ms = here.ledger, here.now_ms()
            symbol = ledger.active_symbols()[0]
            rules = ledger.rules[symbol]
            request = AlgoRequest(
                symbol=symbol,
                side=Side.SELL,
                type=OrderType.STOP_MARKET,
                qty=rules.step_size * 1000,
                trigger_price=ledger.marks[symbol] - rules.tick_size * 1000,
            )
            here.exchange.publish(ledger.place_algo(request, now_ms), now_ms)
            algo_id = ledger.open_algos()[-1].algo_id
            here.exchange.publish(ledger.cancel_algo(algo_id, now_ms + 1), now_ms + 1)
            # All that is compared agrees: nobody knows yet that the stream is mute. The symbol has not had its turn.
            await until(here.status, lambda status: int(status["reconciledAtMs"]) > now_ms + 1500)
            here.exchange.fault("refuse_sockets", {"count": 1000}, here.now_ms())
            here.trade(10)
            await until(here.status, lambda status: int(status["drifts"]) > 0)
            await until(here.status, lambda status: int(status["eventsCompleteMs"]) <= now_ms)
        here.exchange.fault("clear", {}, here.now_ms())
        here.exchange.fault("mute_user_sockets", {"on": False}, here.now_ms())
        async with published(server, redis_url, account_name, tuning=tuning, RECONCILE_S="1") as here:
            await here.agree()
            assert [entry for entry in await here.log() if entry["orderId"] == f"algo-{algo_id}"]
