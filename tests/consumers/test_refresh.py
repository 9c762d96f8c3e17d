from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from decimal import Decimal

import pytest
from support.readers import ACCOUNT_CALL, access, passed, published, redis_now_ms
from support.world import FastClock, new_server
from support.written import eventually

from consumers import refresh
from consumers.refresh import NoAnswer, Refresher
from statecast.clock import Clock, SystemClock
from statecast.embedded.server import EmbeddedServer
from statecast.errors import ConfigError, StoreUnreachable
from statecast.simulator.server import SimulatorServer
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId, AccountKeys
from statecast.venues.adapter import Access
from statecast.venues.registry import SharedLimits

NEVER_S = 3600.0
CLIENT = "refresh-test"


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with connect(redis_url, client_name=CLIENT) as connected:
        yield connected


@pytest.fixture
def account_id(account_name: str) -> AccountId:
    return AccountId("binance", account_name)


@pytest.fixture
async def server() -> AsyncIterator[SimulatorServer]:
    async with new_server() as running:
        yield running


NewRefresher = Callable[..., Refresher]


@pytest.fixture
async def refresher(client: Client, account_id: AccountId, server: SimulatorServer) -> AsyncIterator[NewRefresher]:
    async with AsyncExitStack() as stack:

        def make(
            given: Access | None = access(server),  # noqa: B008 - the test's own exchange
            clock: Clock | None = None,
        ) -> Refresher:
            # As in a process of its own; and another test's exchange may have had the same port.
            made = Refresher(client, account_id, given, clock or SystemClock(), SharedLimits())
            stack.push_async_callback(made.aclose)
            return made

        yield make


def calls(server: SimulatorServer) -> int:
    return server.exchange.requests[ACCOUNT_CALL]


async def expect_refusal(refresher: Refresher, max_age_s: float = 10.0) -> NoAnswer:
    with pytest.raises(NoAnswer) as refusal:
        await refresher.answer(max_age_s)
    return refusal.value


# Taking turns


async def test_whoever_asks_at_the_same_time_shares_one_question_to_the_venue(
    server: SimulatorServer, refresher: NewRefresher
) -> None:
    answers = await asyncio.gather(*(refresher().answer(NEVER_S) for _ in range(20)))
    assert calls(server) == 1
    assert len({answer.taken_at_ms for answer in answers}) == 1
    assert {Decimal(answer.hashes["balances"]["USDT.walletBalance"]) for answer in answers} == {Decimal(10_000)}


async def test_who_comes_later_gets_the_same_answer_while_it_is_young_enough(
    client: Client, server: SimulatorServer, refresher: NewRefresher
) -> None:
    first = await refresher().answer(NEVER_S)
    await passed(client, first.taken_at_ms + 60)
    second = await refresher(None).answer(NEVER_S)
    assert second.taken_at_ms == first.taken_at_ms
    assert second.age_ms >= 60
    await passed(client, first.taken_at_ms + 1500)
    third = await refresher().answer(1.5)
    assert third.taken_at_ms > first.taken_at_ms
    assert third.age_ms <= 1500
    assert calls(server) == 2


async def test_zero_is_an_answer_that_was_asked_for_after_the_call(
    client: Client, server: SimulatorServer, refresher: NewRefresher
) -> None:
    await refresher().answer(NEVER_S)
    called_ms = await redis_now_ms(client)
    answers = await asyncio.gather(*(refresher().answer(0.0) for _ in range(10)))
    assert all(answer.taken_at_ms >= called_ms for answer in answers)
    assert calls(server) <= 3, "the first of them asks, then one for all who came after it had begun"


async def test_a_question_that_was_under_way_before_the_call_does_not_count_for_zero(
    client: Client, account_id: AccountId, server: SimulatorServer, refresher: NewRefresher
) -> None:
    server.exchange.faults.switch("delay_rest", {"count": 1, "delay_ms": 300, "path": "/fapi/v3/account"})
    early = asyncio.create_task(refresher().answer(NEVER_S))
    await eventually(lambda: _asked(server))
    called_ms = await redis_now_ms(client)
    late = await refresher().answer(0.0)
    assert (await early).taken_at_ms <= called_ms <= late.taken_at_ms
    assert calls(server) == 2


async def _asked(server: SimulatorServer) -> bool:
    return calls(server) > 0


async def test_calls_of_one_reader_share_one_wait(
    client: Client, server: SimulatorServer, refresher: NewRefresher
) -> None:
    server.exchange.faults.switch("delay_rest", {"count": 1, "delay_ms": 400, "path": "/fapi/v3/account"})
    asking = asyncio.create_task(refresher().answer(NEVER_S))
    await eventually(lambda: _asked(server))
    waiting = refresher()
    calls_of_one = [asyncio.create_task(waiting.answer(NEVER_S)) for _ in range(10)]

    async def blocked() -> int:
        clients = await client.redis.client_list()
        return sum(row["name"] == CLIENT and row["cmd"] == "xread" and "b" in row["flags"] for row in clients)

    async def one_waits() -> bool:
        return await blocked() > 0

    await eventually(one_waits)
    assert await blocked() == 1
    answers = await asyncio.gather(*calls_of_one)
    assert {answer.taken_at_ms for answer in answers} == {(await asking).taken_at_ms}


async def test_one_call_is_cancelled_and_the_other_still_gets_its_answer(
    server: SimulatorServer, refresher: NewRefresher
) -> None:
    server.exchange.faults.switch("delay_rest", {"count": 1, "delay_ms": 200, "path": "/fapi/v3/account"})
    shared = refresher()
    first, second = (asyncio.create_task(shared.answer(NEVER_S)) for _ in range(2))
    await eventually(lambda: _asked(server))
    first.cancel()
    answer = await second
    assert first.cancelled()
    assert answer.hashes["balances"]
    assert calls(server) == 1


@pytest.mark.parametrize("max_age_s", [NEVER_S, 0.0])
async def test_when_nobody_waits_any_more_the_lock_is_free_at_once(
    client: Client, account_id: AccountId, server: SimulatorServer, refresher: NewRefresher, max_age_s: float
) -> None:
    server.exchange.faults.switch("delay_rest", {"count": 1, "delay_ms": 5000, "path": "/fapi/v3/account"})
    asking = asyncio.create_task(refresher().answer(max_age_s))
    await eventually(lambda: _asked(server))
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not await client.redis.exists(AccountKeys(account_id).refresh_lock)


async def test_closing_ends_what_is_under_way(
    client: Client, account_id: AccountId, server: SimulatorServer, refresher: NewRefresher
) -> None:
    server.exchange.faults.switch("delay_rest", {"count": 1, "delay_ms": 5000, "path": "/fapi/v3/account"})
    closing = refresher()
    asking = asyncio.create_task(closing.answer(NEVER_S))
    await eventually(lambda: _asked(server))
    await closing.aclose()
    assert not await client.redis.exists(AccountKeys(account_id).refresh_lock)
    assert (await asyncio.gather(asking, return_exceptions=True)) != []


async def test_the_age_is_that_of_the_moment_at_which_the_caller_gets_it(refresher: NewRefresher) -> None:
    class Machine(SystemClock):
        stood_still_s = 0.0

        def monotonic(self) -> float:
            return super().monotonic() + self.stood_still_s

    asking = refresher()
    asking._clock = asking._shared._clock = machine = Machine()
    first = await asking.answer(10.0)
    attempt = asking._ask

    async def then_stands_still(max_age_s: float) -> tuple[refresh.RestAnswer, float]:
        answered = await attempt(max_age_s)
        machine.stood_still_s += 3.0
        return answered

    asking._ask = then_stands_still  # type: ignore[method-assign]
    second = await asking.answer(10.0)
    assert second.taken_at_ms == first.taken_at_ms
    assert second.age_ms >= 3000


# Nobody can answer


async def test_no_credentials_and_a_publisher_that_is_gone(
    client: Client, account_id: AccountId, refresher: NewRefresher
) -> None:
    desk = await published(client, account_id)
    await desk.writer.release("stopped", "the publisher was stopped")
    refused = await expect_refusal(refresher(None))
    assert refused.why == (
        "this reader has no credentials to ask the venue itself, "
        "and the publisher is stopped (the publisher was stopped)"
    )
    assert refused.advice == "give this reader credentials, or start a publisher"
    assert refused.age_ms is None

    long_ago = await redis_now_ms(client) - 60_000
    keys = AccountKeys(account_id)
    await client.redis.hset(keys.status, mapping={"state": "live", "heartbeatAtMs": str(long_ago)})
    assert "the publisher was last seen 60." in (await expect_refusal(refresher(None))).why
    await client.redis.delete(keys.status)
    assert "and there is no publisher" in (await expect_refusal(refresher(None))).why


async def test_credentials_that_the_venue_refuses(
    client: Client, account_id: AccountId, server: SimulatorServer, refresher: NewRefresher
) -> None:
    wrong = access(server, secret="wrong")
    refused = await expect_refusal(refresher(wrong))
    assert refused.why.startswith("the venue refuses this reader's credentials (binance: GET /fapi/")
    assert "wrong" not in refused.why
    assert refused.advice == "correct the credentials, or start a publisher"
    asked = sum(server.exchange.requests.values())
    await expect_refusal(refresher(wrong))
    assert sum(server.exchange.requests.values()) == asked, "the next reader with the same credentials does not try"
    stored = str(await client.redis.hgetall(AccountKeys(account_id).refresh))
    assert "demo-key" not in stored


async def test_credentials_that_cannot_be_sent_are_told_and_leave_the_lock_free(
    client: Client, account_id: AccountId, server: SimulatorServer, refresher: NewRefresher
) -> None:
    with pytest.raises(ConfigError, match="STATECAST_API_KEY"):
        await refresher(access(server, key="two words")).answer(NEVER_S)
    assert not await client.redis.exists(AccountKeys(account_id).refresh_lock)


async def test_a_venue_that_is_down_is_asked_by_one_and_told_to_all(
    client: Client, server: SimulatorServer, refresher: NewRefresher
) -> None:
    young = await refresher().answer(NEVER_S)
    await passed(client, young.taken_at_ms + 50)
    server.exchange.faults.switch("answer_rest", {"count": 1000, "status": 503})
    refusals = await asyncio.gather(*(expect_refusal(refresher(), 0.05) for _ in range(10)))
    assert all(
        refused.why.startswith("the last refresh by REST failed (binance: GET /fapi/") and "HTTP 503" in refused.why
        for refused in refusals
    )
    assert all(refused.advice.endswith(" s, by whoever reads then") for refused in refusals)
    assert all(refused.age_ms is not None and refused.age_ms > 50 for refused in refusals)
    asked = sum(server.exchange.requests.values())
    await expect_refusal(refresher(), 0.05)
    assert sum(server.exchange.requests.values()) == asked
    assert await refresher().answer(NEVER_S), "what is there still serves who is content with it"


async def test_the_venues_429_silences_all_readers(
    client: Client, account_id: AccountId, server: SimulatorServer, refresher: NewRefresher
) -> None:
    server.exchange.limits.allow(1)
    refused = await expect_refusal(refresher())
    assert "HTTP 429" in refused.why
    asked = sum(server.exchange.requests.values())
    for _ in range(5):
        assert "HTTP 429" in (await expect_refusal(refresher())).why
    assert sum(server.exchange.requests.values()) == asked
    failed, retry = await client.redis.hmget(AccountKeys(account_id).refresh, ["failedAtMs", "retryAtMs"])
    assert 1000 <= int(retry) - int(failed) <= 60_000


async def test_the_weight_of_other_processes_counts(
    client: Client, account_id: AccountId, server: SimulatorServer, refresher: NewRefresher
) -> None:
    while await redis_now_ms(client) % 60_000 > 55_000:  # a new minute would bring a new allowance
        await asyncio.sleep(0.5)
    await refresher().answer(NEVER_S)
    keys = AccountKeys(account_id)
    used = await client.redis.hget(keys.refresh, "spent")
    assert int(str(used)) >= 100
    await client.redis.hset(keys.refresh, "spent", "2200")  # A reader has a share of its own up to the limit.
    refused = await expect_refusal(refresher(), 0.0)
    assert "not sent, the limits of the venue allow it in" in refused.why
    assert calls(server) == 1


async def test_a_venue_that_is_slower_than_the_limit_is_asked_once(
    server: SimulatorServer, refresher: NewRefresher
) -> None:
    server.exchange.faults.switch("delay_rest", {"count": 1000, "delay_ms": 300, "path": "/fapi/v3/account"})
    refused = await expect_refusal(refresher(), 0.1)
    assert refused.why.startswith("a refresh by REST was 0.")
    assert refused.advice.startswith("allow a greater age")
    assert refused.age_ms is not None
    assert refused.age_ms >= 300
    assert calls(server) == 1
    assert (await refresher().answer(NEVER_S)).age_ms >= 300


async def test_nobody_waits_for_ever(client: Client, account_id: AccountId, refresher: NewRefresher) -> None:
    await published(client, account_id)
    refused = await expect_refusal(refresher(None, FastClock(20)))
    assert re.fullmatch(r"the publisher has given no answer for (1[5-9]|[2-9]\d) s", refused.why)
    await client.redis.set(AccountKeys(account_id).refresh_lock, "somebody", px=60_000)
    refused = await expect_refusal(refresher(clock=FastClock(20)))
    assert re.fullmatch(r"whoever asks the venue has given no answer for (1[5-9]|[2-9]\d) s", refused.why)


async def test_without_redis_nobody_asks_the_venue(
    own_redis: EmbeddedServer, account_id: AccountId, server: SimulatorServer
) -> None:
    async with connect(own_redis.url, client_name="reader") as client:
        own_redis.kill()
        asking = Refresher(client, account_id, access(server), SystemClock())
        with pytest.raises(StoreUnreachable):
            await asking.answer(NEVER_S)
        await asking.aclose()
    assert not server.exchange.requests
