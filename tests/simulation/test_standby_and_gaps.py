"""A writer that dies, a standby with a hole of its own, a Redis that loses data: what nobody wrote is fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support.world import new_server, published, until, world

from publisher import committer, gap_fill
from publisher.record import EventRecord
from publisher.service import _Publication
from statecast.embedded.server import EmbeddedServer
from statecast.errors import StoreError
from statecast.simulator.orders import AlgoRequest, OrderType, Side

SEED = 5


@pytest.fixture
def publications(monkeypatch: pytest.MonkeyPatch) -> list[_Publication]:
    """Those that the test starts, in their order."""
    made: list[_Publication] = []
    init = _Publication.__init__

    def noted(self: _Publication, *args: Any) -> None:
        init(self, *args)
        made.append(self)

    monkeypatch.setattr(_Publication, "__init__", noted)
    return made


def kill(one: _Publication, monkeypatch: pytest.MonkeyPatch) -> None:
    """As SIGKILL would: nothing more is written, and the lease is left behind."""

    async def never(*args: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(one._committer._writer, "send", never)
    monkeypatch.setattr(one._committer._writer, "release", never)
    monkeypatch.setattr(one._committer, "submit", lambda delta: None)


async def so(good: Callable[[], bool]) -> None:
    async def look() -> bool:
        return good()

    await until(look, bool)


def follows(one: _Publication) -> bool:
    return one._committer.is_standby and one._follower._unreconciled is None


async def test_what_the_record_has_dropped_while_redis_was_away_is_fetched(
    own_redis: EmbeddedServer, account_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More events than the record holds, and fewer than the fold remembers to have been told."""
    monkeypatch.setattr(EventRecord.__init__, "__defaults__", (50,))
    monkeypatch.setattr(committer, "MAX_QUEUED", 20)
    async with world(own_redis.url, account_name, RECONCILE_S="5") as here:
        here.trade(20)
        await here.agree()
        own_redis.kill()
        for _ in range(30):
            here.trade(10)
            await asyncio.sleep(0.02)
        own_redis.start()
        await here.state("live")
        await here.agree()
        await here.agree_on_events_after_gaps()


async def test_what_a_standby_heard_before_its_own_reconnect_is_not_taken_for_told(
    redis_url: str, account_name: str, monkeypatch: pytest.MonkeyPatch, publications: list[_Publication]
) -> None:
    settings = {"RECONCILE_S": "60"}
    async with new_server(seed=SEED) as server, published(server, redis_url, account_name, **settings) as here:
        here.trade(20)
        await here.agree()
        async with published(server, redis_url, account_name, seed=9, live=False, **settings):
            first, second = publications
            await so(lambda: follows(second))
            kill(first, monkeypatch)
            here.trade(40)
            await so(lambda: len(second._committer.record) > 5)
            here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
            name = second._publisher_id
            await until(here.status, lambda status: (status["publisherId"], status["state"]) == (name, "live"))
            await here.agree()
            await here.agree_on_events_after_gaps()


async def test_a_wiped_redis_is_filled_by_the_one_that_remembers_most(
    own_redis: EmbeddedServer, account_name: str, publications: list[_Publication]
) -> None:
    settings = {"RECONCILE_S": "60"}
    async with new_server(seed=SEED) as server, published(server, own_redis.url, account_name, **settings) as here:
        here.trade(30)
        await here.agree()
        before = await here.log()
        async with published(server, own_redis.url, account_name, seed=9, live=False, **settings):
            await so(lambda: follows(publications[1]))
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


async def test_what_neither_has_understood_is_fetched_by_the_standby(
    redis_url: str, account_name: str, monkeypatch: pytest.MonkeyPatch, publications: list[_Publication]
) -> None:
    settings = {"RECONCILE_S": "1"}
    async with new_server(seed=SEED) as server, published(server, redis_url, account_name, **settings) as here:
        here.trade(20)
        await here.agree()
        async with published(server, redis_url, account_name, seed=9, live=False, **settings):
            first, second = publications
            await so(lambda: follows(second))
            since_ms = second._committer.record.complete_since_ms
            await until(here.status, lambda status: int(status["eventsCompleteMs"]) > since_ms)
            kill(first, monkeypatch)
            here.exchange.fault("drop_user_frames", {"count": 1000}, here.now_ms())
            here.trade(20)
            here.exchange.fault("clear", {}, here.now_ms())
            here.exchange.fault("send_raw", {"text": "{"}, here.now_ms())
            name = second._publisher_id
            await until(here.status, lambda status: (status["publisherId"], status["state"]) == (name, "live"))
            await here.agree()
            await here.agree_on_events_after_gaps()


async def test_the_mark_is_not_ahead_of_what_a_mute_stream_has_told(
    redis_url: str, account_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A conditional order comes and goes unheard, the stream is found mute, and the publisher ends before it mends."""
    monkeypatch.setattr(gap_fill, "OVERLAP_MS", 500)
    monkeypatch.setattr("publisher.reconciler.EVERYTHING_PAUSE_S", 0.5)
    monkeypatch.setattr("publisher.reconciler.LEAST_SYMBOLS", 0)  # It is not this symbol's turn.
    monkeypatch.setattr("publisher.follower.GRACE_S", 0.5)
    monkeypatch.setattr("publisher.discrepancies.GRACE_S", 1.0)
    async with new_server(seed=SEED) as server:
        async with published(server, redis_url, account_name, RECONCILE_S="1") as here:
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
            await until(here.status, lambda status: int(status["eventsCompleteMs"]) > now_ms + 1500)
            here.exchange.fault("refuse_sockets", {"count": 1000}, here.now_ms())
            here.trade(10)
            await until(here.status, lambda status: int(status["drifts"]) > 0)
            await until(here.status, lambda status: int(status["eventsCompleteMs"]) <= now_ms + 1500)
        here.exchange.fault("clear", {}, here.now_ms())
        here.exchange.fault("mute_user_sockets", {"on": False}, here.now_ms())
        async with published(server, redis_url, account_name, RECONCILE_S="1") as here:
            await here.agree()
            assert [entry for entry in await here.log() if entry["orderId"] == f"algo-{algo_id}"]


async def test_a_quiet_account_whose_stream_is_cut_gets_no_gap_entry(
    redis_url: str, account_name: str, publications: list[_Publication]
) -> None:
    async with world(redis_url, account_name, RECONCILE_S="1") as here:
        here.trade(5)
        await here.agree()
        (one,) = publications
        one._follower._logged_ms -= 5 * 86_400_000  # as if nothing had been told for so long
        await until(here.status, lambda status: int(status["eventsCompleteMs"]) > here.now_ms() - 20_000)
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        await here.state("recovering")
        await here.state("live")
        assert not [entry for entry in await here.log() if entry["eventType"] == "GAP"]
