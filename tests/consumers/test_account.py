from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from support.changes import snapshot
from support.link import linked_url
from support.readers import ACCOUNT_CALL, access, passed, published, redis_now_ms
from support.world import KEY, SECRET, FastClock, new_server, world
from support.written import Desk, Stored

from consumers.account import AccountReader
from consumers.models import Position
from statecast.clock import SystemClock
from statecast.embedded.server import EmbeddedServer
from statecast.errors import ConfigError, ContractMismatch, NeverPublished, StaleState, StoreUnreachable
from statecast.simulator.server import SimulatorServer
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId, AccountKeys

D = Decimal


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with connect(redis_url, client_name="account-test") as connected:
        yield connected


@pytest.fixture
def account_id(account_name: str) -> AccountId:
    return AccountId("binance", account_name)


@pytest.fixture
async def server() -> AsyncIterator[SimulatorServer]:
    async with new_server() as running:
        yield running


NewReader = Callable[..., AccountReader]


@pytest.fixture
async def reader(redis_url: str, account_id: AccountId) -> AsyncIterator[NewReader]:
    """Makes readers of the test's account."""
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> AccountReader:
            made = AccountReader(account_id, options.pop("redis", redis_url), **options)
            stack.push_async_callback(made.aclose)
            return made

        yield make


async def gone(client: Client, account_id: AccountId, *, ago_s: float = 60.0) -> None:
    """The publisher was killed so long ago: what it wrote last was verified, and its heart beat, then."""
    then = str(round(await redis_now_ms(client) - ago_s * 1000))
    status = AccountKeys(account_id).status
    await client.redis.hset(status, mapping={"verifiedAtMs": then, "heartbeatAtMs": then})


async def expect_stale(call: Any) -> StaleState:
    with pytest.raises(StaleState) as refusal:
        await call
    assert type(refusal.value) is StaleState
    return refusal.value


# While the publisher lives


async def test_every_call_tells_what_the_publisher_knows(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here, AccountReader(here.account_id, redis_url) as reader:
        here.trade(60)
        await here.agree()
        # Everything stands still now, but for the heartbeat.
        stored = await here.stored()
        whole = await reader.snapshot()
        assert whole.account_id == f"binance:{account_name}"
        assert stored.positions
        assert stored.orders
        assert stored.account
        assert {name: str(row.position_amt) for name, row in whole.positions.by_name.items()} == {
            name: row["positionAmt"] for name, row in stored.positions.items()
        }
        assert await reader.totals() == whole.totals
        assert await reader.balances() == whole.balances
        assert await reader.positions() == whole.positions
        assert await reader.open_orders() == whole.open_orders
        assert str(whole.totals.total_wallet_balance) == stored.account["totalWalletBalance"]
        for position in whole.positions:
            assert await reader.position(position.symbol, position.position_side) == position
        nothing = await reader.position("NOSUCH")
        assert (nothing.side, nothing.position_amt, bool(nothing)) == ("flat", D(0), False)

        freshness = whole.freshness
        assert (freshness.via, freshness.state) == ("publisher", "live")
        assert freshness.seq == int(stored.status["seq"])
        assert freshness.epoch == int(stored.status["epoch"])
        assert 0 <= freshness.age_s <= 10
        assert {row.freshness for row in whole.balances} == {freshness}


async def test_a_read_is_one_round_trip(client: Client, redis_url: str, account_id: AccountId) -> None:
    await published(client, account_id)
    async with linked_url(redis_url) as proxy, AccountReader(account_id, proxy.url) as reader:
        await reader.totals()
        for call in (reader.snapshot, reader.totals, reader.balances, reader.positions, reader.open_orders):
            before = len(proxy.fates)
            await call()
            assert len(proxy.fates) == before + 1


async def test_flat_is_known_to_be_flat(client: Client, account_id: AccountId, reader: NewReader) -> None:
    desk = Desk(client, account_id)
    await desk.open()
    await desk.commit([snapshot()], verified=True)
    positions = await reader().positions()
    assert list(positions) == []
    assert await reader().position("BTCUSDT") == Position.flat("BTCUSDT", "BOTH", positions.freshness)
    assert not await reader().open_orders()


async def test_a_state_that_is_young_enough_serves_while_the_publisher_recovers(
    client: Client, account_id: AccountId, reader: NewReader
) -> None:
    await published(client, account_id, state="recovering")
    assert (await reader().positions()).freshness.state == "recovering"


async def test_calls_at_the_same_time_do_not_disturb_each_other(
    client: Client, account_id: AccountId, reader: NewReader
) -> None:
    await published(client, account_id)
    shared = reader()
    answers = await asyncio.gather(*(shared.position("BTCUSDT") for _ in range(50)))
    assert {answer.position_amt for answer in answers} == {D("0.5")}


@pytest.mark.parametrize("kind", [redis.Redis, redis.asyncio.Redis], ids=["blocking", "asyncio"])
async def test_a_client_of_redis_py_says_where_to_read(
    client: Client, account_id: AccountId, reader: NewReader, redis_url: str, kind: Any
) -> None:
    await published(client, account_id)
    theirs = kind.from_url(redis_url)
    assert (await reader(redis=theirs).position("BTCUSDT")).position_amt == D("0.5")
    closed = theirs.aclose() if kind is redis.asyncio.Redis else theirs.close()
    if closed is not None:
        await closed


# Never wrong


async def test_an_account_that_was_never_published_is_not_flat(
    client: Client, account_id: AccountId, server: SimulatorServer, reader: NewReader
) -> None:
    for asking in (reader(), reader(credentials=access(server))):
        for call in (asking.snapshot, asking.positions, asking.totals, asking.refresh):
            with pytest.raises(NeverPublished) as refusal:
                await call()
            assert str(refusal.value) == (
                f"{account_id} is not published: no publisher has ever written it to Redis at {client.server}, "
                "so it is unknown, not flat; start `statecast publish`, or check the account's name"
            )
    assert not server.exchange.requests
    assert not await client.redis.keys(f"*{account_id}*")


async def test_a_publisher_that_has_not_got_there_yet_does_not_make_it_flat(
    client: Client, account_id: AccountId, reader: NewReader
) -> None:
    await Desk(client, account_id).open()
    refusal = await expect_stale(reader(clock=FastClock(20)).positions())
    assert "no complete state (positions missing), not flat; the publisher is starting (connecting)" in str(refusal)
    assert refusal.age_s is None


@pytest.mark.parametrize("table", ["account", "balances", "positions", "orders"])
async def test_a_hash_that_is_gone_is_unknown(
    client: Client, account_id: AccountId, reader: NewReader, table: str
) -> None:
    await published(client, account_id)
    await client.redis.delete(AccountKeys(account_id).table(table))
    await client.redis.hset(AccountKeys(account_id).status, "heartbeatAtMs", "1793000000000")
    refusal = await expect_stale(reader().snapshot())
    assert f"no complete state ({table} missing), not flat" in refusal.why


async def test_what_nobody_vouches_for_any_more_is_refused_in_a_full_sentence(
    client: Client, account_id: AccountId, reader: NewReader
) -> None:
    await published(client, account_id)
    await gone(client, account_id)
    refusal = await expect_stale(reader().positions())
    sentence = str(refusal)
    age = f"{refusal.age_s:.1f}"
    assert sentence.startswith(f"{account_id} is stale for {age} s (limit 10 s): last verified {age} s ago; the pub")
    assert "; the publisher said live and is gone or cut off since; this reader has no credentials" in sentence
    assert sentence.endswith("s ago; give this reader credentials, or start a publisher")
    assert refusal.age_s is not None
    assert refusal.age_s >= 60


async def test_the_limit_is_the_readers_or_the_calls(client: Client, account_id: AccountId, reader: NewReader) -> None:
    await published(client, account_id)
    await gone(client, account_id, ago_s=20)
    await expect_stale(reader().positions())
    assert 20 <= (await reader().positions(max_age_s=60)).age_s <= 60
    assert await reader(max_age_s=60).totals()
    assert (await expect_stale(reader(max_age_s=60).totals(max_age_s=15))).max_age_s == 15


@pytest.mark.parametrize("limit", [0, -1.0, 0.01, float("inf"), float("nan")])
async def test_a_limit_that_cannot_be_kept_is_a_wrong_setting(
    account_id: AccountId, reader: NewReader, limit: float
) -> None:
    with pytest.raises(ConfigError, match="max_age_s is "):
        reader(max_age_s=limit)
    with pytest.raises(ConfigError, match="max_age_s is "):
        await reader().totals(max_age_s=limit)


async def test_the_time_of_the_answers_way_counts(client: Client, account_id: AccountId, reader: NewReader) -> None:
    class SlowMachine(SystemClock):
        calls = 0

        def monotonic(self) -> float:
            self.calls += 1
            return super().monotonic() + 3.0 * self.calls

    await published(client, account_id)
    assert 3 <= (await reader(clock=SlowMachine()).positions()).age_s < 10
    await client.redis.hset(AccountKeys(account_id).status, "heartbeatAtMs", "1793000000000")
    await expect_stale(reader(clock=SlowMachine(), max_age_s=2.5).positions())


async def test_a_state_that_was_verified_in_the_future_has_no_age(
    client: Client, account_id: AccountId, reader: NewReader
) -> None:
    await published(client, account_id)
    await gone(client, account_id, ago_s=-60)
    refusal = await expect_stale(reader().positions())
    assert refusal.age_s is None
    assert "in the future: Redis's clock was set back" in refusal.why


async def test_another_contract_is_not_read(client: Client, account_id: AccountId, reader: NewReader) -> None:
    await published(client, account_id)
    await client.redis.hset(AccountKeys(account_id).status, "contract", "2")
    for call in (reader().positions, reader().refresh):
        with pytest.raises(ContractMismatch, match="written in contract version 2; this program reads 1"):
            await call()


async def test_without_redis_nothing_is_known_and_the_venue_is_left_alone(
    own_redis: EmbeddedServer, account_id: AccountId, server: SimulatorServer
) -> None:
    async with AccountReader(account_id, own_redis.url, credentials=access(server)) as reader:
        own_redis.kill()
        for call in (reader.positions, reader.refresh):
            with pytest.raises(StoreUnreachable):
                await call()
    assert not server.exchange.requests


# The shared refresh


async def test_a_reader_with_credentials_asks_the_venue_for_all(
    client: Client, account_id: AccountId, server: SimulatorServer, reader: NewReader
) -> None:
    desk = await published(client, account_id)
    await gone(client, account_id)
    stored = Stored(client, account_id)
    before = await stored.everything()
    balances = await reader(credentials=access(server)).balances()
    assert {row.asset: row.wallet_balance for row in balances} == {"USDT": D(10_000), "USDC": D(2_500)}
    freshness = balances.freshness
    assert (freshness.via, freshness.source, freshness.state) == ("refresh", "rest", "live")
    assert (freshness.seq, freshness.epoch) == (desk.writer.seq, desk.writer.epoch)
    assert 0 <= balances.age_s <= 10

    for other in (reader(), reader(credentials=access(server))):
        assert await other.balances() == balances
        assert list(await other.positions()) == []
        whole = await other.snapshot()
        assert whole.balances == balances
        assert whole.totals.total_wallet_balance == await _total(other)
        assert whole.freshness.verified_at_ms == freshness.verified_at_ms
    assert server.exchange.requests[ACCOUNT_CALL] == 1
    assert await stored.everything() == before


async def _total(reader: AccountReader) -> Decimal:
    return (await reader.totals()).total_wallet_balance


async def test_a_refresh_holds_what_the_publisher_would_write(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        here.trade(60)
        await here.agree()
        async with AccountReader(here.account_id, redis_url, credentials=access(here.server)) as reader:
            told, asked = await reader.snapshot(), await reader.refresh()
        assert asked.freshness.via == "refresh"
        assert {name: row.position_amt for name, row in asked.positions.by_name.items()} == {
            name: row.position_amt for name, row in told.positions.by_name.items()
        }
        assert len(asked.positions) > 0
        assert asked.open_orders.by_name.keys() == told.open_orders.by_name.keys()
        assert asked.balances.by_name.keys() == told.balances.by_name.keys()
        for asset, row in told.balances.by_name.items():
            assert asked.balances[asset].wallet_balance == row.wallet_balance


async def test_a_venue_that_is_down_leaves_the_truth_untold(
    client: Client, account_id: AccountId, server: SimulatorServer, reader: NewReader
) -> None:
    await published(client, account_id)
    await gone(client, account_id)
    server.exchange.faults.switch("answer_rest", {"count": 1000, "status": 503})
    refusal = await expect_stale(reader(credentials=access(server)).positions())
    assert "; the last refresh by REST failed (binance: " in refusal.why
    assert refusal.age_s is not None
    assert refusal.age_s >= 60


async def test_the_age_of_a_refusal_is_that_of_the_youngest_there_is(
    client: Client, account_id: AccountId, server: SimulatorServer, reader: NewReader
) -> None:
    await published(client, account_id)
    await gone(client, account_id)
    answered = await reader(credentials=access(server)).positions()
    await passed(client, answered.freshness.verified_at_ms + 100)
    refusal = await expect_stale(reader().positions(max_age_s=0.1))
    assert refusal.age_s is not None
    assert 0.1 < refusal.age_s < 60


async def test_refresh_asks_anew_and_says_why_it_cannot(
    client: Client, account_id: AccountId, server: SimulatorServer, reader: NewReader
) -> None:
    await published(client, account_id)
    await gone(client, account_id, ago_s=0)
    called_ms = await redis_now_ms(client)
    asked = await reader(credentials=access(server)).refresh()
    assert asked.freshness.verified_at_ms >= called_ms
    assert asked.balances["USDT"].wallet_balance == D(10_000)
    await gone(client, account_id)
    refusal = await expect_stale(reader().refresh())
    assert refusal.advice == "give this reader credentials, or start a publisher"
    assert refusal.age_s is not None
    assert refusal.age_s < 60, "of the answer that the other reader got"


# Made from settings


@pytest.fixture
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "ACCOUNT", "VENUE", "API_KEY", "API_SECRET", "REST_URL", "MAX_AGE_S"):
        monkeypatch.delenv(f"STATECAST_{name}", raising=False)


async def test_a_reader_from_the_publishers_settings(
    no_settings: None,
    client: Client,
    account_id: AccountId,
    account_name: str,
    redis_url: str,
    server: SimulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await published(client, account_id)
    monkeypatch.setenv("STATECAST_REDIS_URL", redis_url)
    monkeypatch.setenv("STATECAST_ACCOUNT", account_name)
    async with AccountReader.from_env() as reader:
        assert reader.account_id == account_id
        assert reader.max_age_s == 10.0
        assert (await reader.position("BTCUSDT")).position_amt == D("0.5")
    await gone(client, account_id)
    async with AccountReader.from_env(max_age_s=100) as reader:
        assert (await reader.position("BTCUSDT")).age_s >= 60
    monkeypatch.setenv("STATECAST_API_KEY", KEY)
    monkeypatch.setenv("STATECAST_API_SECRET", SECRET)
    async with AccountReader.from_env(rest_url=server.rest_url) as reader:
        assert (await reader.balances())["USDC"].wallet_balance == D(2_500)
    async with AccountReader.from_env(account="binance:nobody") as reader:
        with pytest.raises(NeverPublished):
            await reader.positions()
    with pytest.raises(TypeError):
        AccountReader.from_env(no_such_thing=1)


def test_what_cannot_work_is_said_before_anything_is_connected() -> None:
    with pytest.raises(ConfigError, match="account_id is 'a b'"):
        AccountReader("a b", "redis://127.0.0.1:6379/0")
    with pytest.raises(ConfigError, match="STATECAST_REDIS_URL is "):
        AccountReader("main", "http://127.0.0.1")
