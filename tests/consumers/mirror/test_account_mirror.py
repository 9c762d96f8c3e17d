from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from support.changes import event, position, rest_position, snapshot, wallet
from support.link import linked_url
from support.mirrors import (
    DEADLINE_S,
    FRAMES,
    JumpingClock,
    cut_off,
    expect_as_stored,
    follows,
    has_reached,
    is_younger,
    published,
    refuses,
    stays_waiting,
    until,
)
from support.written import Desk, Stored, eventually

from consumers.mirror import AccountMirror
from statecast.embedded.server import EmbeddedServer
from statecast.errors import (
    ConfigError,
    ContractMismatch,
    NeverPublished,
    StaleState,
    StoreAuthFailed,
    StoreUnreachable,
)
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId
from statecast.store.reader import read_account


async def test_it_says_what_a_reader_says_after_every_commit(client: Client, mirror: AccountMirror, desk: Desk) -> None:
    await expect_as_stored(mirror, client, desk)
    for frame in FRAMES:
        await desk.commit(frame)
        await expect_as_stored(mirror, client, desk)
    assert mirror.rejoins == ()


async def test_reads_are_typed_and_know_their_age_and_commit(mirror: AccountMirror, desk: Desk) -> None:
    await follows(mirror, desk)
    totals, held, found = mirror.totals(), mirror.position("BTCUSDT"), mirror.positions()
    assert totals.total_wallet_balance == Decimal(1000)
    assert held.position_amt == Decimal("0.5")
    assert held
    assert found["BTCUSDT:BOTH"] == held == found[0]
    assert mirror.balances()["USDT"].wallet_balance == Decimal(1000)
    assert mirror.open_orders()["BTCUSDT:1001"].status == "NEW"
    for answer in (totals, held, found, mirror.snapshot()):
        assert answer.seq == desk.writer.seq
        assert 0 <= answer.age_s < 10
        assert answer.freshness.via == "publisher"
        assert answer.freshness.state == "live"
        assert answer.freshness.verified_at_ms == desk.writer.verified_at_ms


async def test_a_symbol_without_a_position_is_flat_and_false(mirror: AccountMirror, desk: Desk) -> None:
    flat = mirror.position("SOLUSDT", "LONG")
    assert not flat
    assert (flat.symbol, flat.position_side, flat.side, flat.position_amt) == ("SOLUSDT", "LONG", "flat", Decimal(0))
    assert flat.source == mirror.positions().source == "rest"
    assert flat.seq == desk.writer.seq
    await desk.commit([position(10, "0.6")])
    await follows(mirror, desk)
    assert mirror.position("SOLUSDT", "LONG").source == mirror.positions().source == "stream"


async def test_what_was_read_stays_as_it_was(mirror: AccountMirror, desk: Desk) -> None:
    before = mirror.snapshot()
    await desk.commit([position(10, "0"), wallet(10, "5")])
    after = await follows(mirror, desk)
    assert before.position("BTCUSDT").position_amt == Decimal("0.5")
    assert not after.position("BTCUSDT")


async def test_a_reading_in_another_thread_is_of_one_commit(mirror: AccountMirror, desk: Desk) -> None:
    await desk.commit([position(1, "1"), wallet(1, "1")])
    await follows(mirror, desk)
    done = asyncio.Event()

    def read() -> list[int]:
        seen = []
        while not done.is_set():
            found = mirror.snapshot()
            amount = found.position("BTCUSDT").position_amt
            assert amount == found.balances["USDT"].wallet_balance == found.totals.total_wallet_balance
            seen.append(int(amount))
        return seen

    reading = asyncio.create_task(asyncio.to_thread(read))
    for step in range(2, 300):
        await desk.commit([position(step, str(step)), wallet(step, str(step))])
    await follows(mirror, desk)
    done.set()
    seen = await reading
    assert seen == sorted(seen)
    assert len(set(seen)) > 10


async def test_it_uses_one_connection_and_leaves_none(own_redis: EmbeddedServer) -> None:
    account = AccountId("binance", "main")

    async def connections(client: Client) -> int:
        return [row["name"] for row in await client.redis.client_list()].count("statecast-mirror")

    async with connect(own_redis.url, client_name="desk") as client:
        desk = await published(client, account)
        async with AccountMirror(account, own_redis.url, max_age_s=0.4) as mirror:
            for frame in FRAMES:
                await desk.commit(frame)
            await follows(mirror, desk)
            assert await connections(client) == 1

        async def gone() -> bool:
            return await connections(client) == 0

        await eventually(gone)
        with pytest.raises(StaleState, match="the mirror is closed"):
            mirror.totals()
        with pytest.raises(StaleState, match="the mirror is closed"):
            await mirror.changed()


async def test_a_mirror_that_was_not_entered_refuses(redis_url: str, account_id: AccountId) -> None:
    mirror = AccountMirror(account_id, redis_url)
    with pytest.raises(StaleState, match="use it as an async context manager"):
        mirror.positions()


async def test_an_account_that_was_never_published_is_unknown_until_it_is(
    redis_url: str, client: Client, account_id: AccountId
) -> None:
    async with AccountMirror(account_id, redis_url, max_age_s=0.4) as mirror:
        for read in (mirror.totals, mirror.positions, mirror.balances, mirror.open_orders, mirror.snapshot):
            with pytest.raises(NeverPublished, match="it is unknown, not flat"):
                read()
        with pytest.raises(NeverPublished):
            mirror.position("BTCUSDT")
        calls: list[tuple[Any, Any]] = []
        mirror.on_position(lambda before, after: calls.append((before, after)))
        starting = Desk(client, account_id)
        await starting.open()
        assert not isinstance(await refuses(mirror, "no complete state"), NeverPublished)
        await starting.commit([snapshot(positions=[rest_position(-9, "0.5")])], verified=True)
        await starting.beat()
        await follows(mirror, starting)
        await until(lambda: len(calls) == 1)
        assert calls == [(None, mirror.position("BTCUSDT"))]
        assert mirror.rejoins == ()


async def test_what_hinders_the_first_reading_is_raised(own_redis: EmbeddedServer) -> None:
    async with connect(own_redis.url, client_name="operator") as operator:
        await operator.redis.config_set("requirepass", "right")
    with pytest.raises(StoreAuthFailed):
        async with AccountMirror("binance:main", own_redis.url):
            pass
    own_redis.kill()
    with pytest.raises(StoreUnreachable):
        async with AccountMirror("binance:main", own_redis.url):
            pass


def test_arguments_that_cannot_work_are_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="account_id"):
        AccountMirror("no such:account name", "redis://127.0.0.1")
    with pytest.raises(ConfigError, match="max_age_s"):
        AccountMirror("main", "redis://127.0.0.1", max_age_s=0)
    with pytest.raises(ConfigError, match="STATECAST_REDIS_URL"):
        AccountMirror("main", "http://127.0.0.1")


async def test_from_the_publishers_settings(
    redis_url: str, desk: Desk, account_name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATECAST_REDIS_URL", redis_url)
    monkeypatch.setenv("STATECAST_MAX_AGE_S", "7")
    clock = JumpingClock()
    async with AccountMirror.from_env(account=account_name, clock=clock) as mirror:
        assert mirror.max_age_s == 7.0
        assert mirror.positions()["BTCUSDT:BOTH"]
        clock.at += 8
        with pytest.raises(StaleState, match=r"limit 7 s"):
            mirror.positions()


async def test_it_grows_old_by_itself_and_young_with_every_word_of_the_publisher(
    redis_url: str, desk: Desk, account_id: AccountId
) -> None:
    clock = JumpingClock()
    async with AccountMirror(account_id, redis_url, clock=clock) as mirror:
        first = mirror.totals().age_s
        clock.at += 5
        assert mirror.totals().age_s == pytest.approx(first + 5)
        assert mirror.totals(max_age_s=6).age_s == pytest.approx(first + 5)
        with pytest.raises(StaleState):
            mirror.totals(max_age_s=4)
        clock.at += 5  # without giving the mirror a chance to ask meanwhile
        with pytest.raises(StaleState, match=r"is stale for 10\.\d s \(limit 10 s\): last verified .* ago; the publ"):
            mirror.totals()
        assert mirror.totals(max_age_s=20).age_s == pytest.approx(first + 10)
        await desk.beat()
        await eventually(lambda: is_younger(mirror, 5))


async def test_a_publisher_that_stops_verifying_makes_it_stale(
    redis_url: str, desk: Desk, account_id: AccountId
) -> None:
    async with AccountMirror(account_id, redis_url, max_age_s=0.3) as mirror:
        await desk.beat()
        await eventually(lambda: is_younger(mirror, 0.3))
        refused = await refuses(mirror, "the publisher said live and is gone or cut off since")
        assert refused.age_s is not None
        assert refused.age_s > 0.3
        await desk.beat("recovering", verified=False)
        await refuses(mirror, "the publisher is recovering")


async def test_commits_that_nobody_has_verified_do_not_make_it_younger(
    redis_url: str, desk: Desk, account_id: AccountId
) -> None:
    clock = JumpingClock()
    async with AccountMirror(account_id, redis_url, clock=clock) as mirror:
        clock.at += 0.5  # too short for a question
        await desk.commit([position(10, "0.7")])
        await mirror.changed(since=1, timeout_s=DEADLINE_S)
        assert mirror.position("BTCUSDT").position_amt == Decimal("0.7")
        with pytest.raises(StaleState):
            mirror.position("BTCUSDT", max_age_s=0.49)


async def test_a_clock_of_redis_that_was_set_back_is_no_verification(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    stored = Stored(client, account_id)
    clock = JumpingClock()
    async with AccountMirror(account_id, redis_url, clock=clock) as mirror:
        now_ms = (await read_account(client, account_id)).now_ms
        await stored.redis.hset(stored.keys.status, "verifiedAtMs", now_ms + 60_000)
        clock.at += 1.5  # time for a question
        await refuses(mirror, "in the future: Redis's clock was set back")
        clock.at += 0.9  # the time that passes here does not make up for it
        for _ in range(3):
            with pytest.raises(StaleState, match="in the future"):
                mirror.totals(max_age_s=1_000)
            clock.at += 70
        await desk.beat()
        await eventually(lambda: is_younger(mirror, 10))


async def test_cut_off_from_redis_it_gets_stale_by_itself_and_says_why(
    redis_url: str, desk: Desk, account_id: AccountId, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "statecast.consumers")
    async with linked_url(redis_url) as proxy, AccountMirror(account_id, proxy.url, max_age_s=1.0) as mirror:
        await desk.beat()
        await eventually(lambda: is_younger(mirror, 0.9))
        proxy.fate = lambda request: "lose request"
        await refuses(mirror, "the mirror cannot read on (Redis at redis://127.0.0.1")
        assert mirror.positions(max_age_s=60)["BTCUSDT:BOTH"]
        await desk.commit([position(10, "0.7")], verified=True)
        proxy.fate = lambda request: "pass"

        async def recovered() -> bool:
            await desk.beat()
            return await has_reached(mirror, desk.writer.seq)

        await eventually(recovered)
        assert mirror.position("BTCUSDT").position_amt == Decimal("0.7")
        assert mirror.rejoins == ()
    calls = [record.message for record in caplog.records if record.name == "statecast.consumers"]
    assert [message for message in calls if "cannot read on" in message] == calls[:1]
    assert calls[1:] == [f"the mirror of {account_id} reads on"]


async def test_another_contract_is_refused_until_it_is_ours_again(
    client: Client, mirror: AccountMirror, desk: Desk, account_id: AccountId
) -> None:
    stored = Stored(client, account_id)

    async def mismatch() -> bool:
        try:
            mirror.totals()
        except ContractMismatch as error:
            return "contract version 2" in str(error)
        except StaleState:
            return False
        return False

    await stored.redis.hset(stored.keys.status, "contract", "2")
    await eventually(mismatch)
    await stored.redis.hset(stored.keys.status, "contract", "1")
    await expect_as_stored(mirror, client, desk)


async def test_text_that_is_not_of_the_contract_is_refused_until_it_is_corrected(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    stored = Stored(client, account_id)
    await stored.redis.hset(stored.keys.positions, "BTCUSDT:BOTH.positionAmt", "much")
    async with AccountMirror(account_id, redis_url, max_age_s=0.4) as mirror:
        with pytest.raises(ContractMismatch, match="positions is not as contract 1 has it: positionAmt is 'much'"):
            mirror.positions(max_age_s=60)
        await stored.redis.hset(stored.keys.positions, "BTCUSDT:BOTH.positionAmt", "0.5")

        async def recovered() -> bool:
            with suppress(ContractMismatch):
                return mirror.position("BTCUSDT", max_age_s=60).position_amt == Decimal("0.5")
            return False

        await eventually(recovered)


async def test_a_wait_ends_with_the_commit_that_changes_it(mirror: AccountMirror, desk: Desk) -> None:
    waits = {
        "any": asyncio.create_task(mirror.changed()),
        "totals": asyncio.create_task(mirror.changed("totals")),
        "asset": asyncio.create_task(mirror.changed("balances", "USDT")),
        "positions": asyncio.create_task(mirror.changed("positions")),
        "position": asyncio.create_task(mirror.changed("positions", "ETHUSDT:BOTH")),
        "order": asyncio.create_task(mirror.changed("orders", "BTCUSDT:1001")),
    }
    await asyncio.sleep(0)
    ended: dict[str, int] = {}
    for seq, frame, expected in [
        (2, [event(5, "X", "CANCELED", order_id="77")], set()),  # an event alone changes no state
        (3, [wallet(10, "990")], {"any", "totals", "asset"}),
        (4, [position(20, "0.7")], {"positions"}),
        (5, [position(30, "2", symbol="ETHUSDT")], {"position"}),
        (6, [event(40, "X", "CANCELED")], {"order"}),
    ]:
        await desk.commit(frame)
        await follows(mirror, desk)
        await asyncio.sleep(0.01)
        now = {name: wait.result() for name, wait in waits.items() if wait.done()}
        assert now.keys() - ended.keys() == expected, f"commit {seq}"
        assert all(now[name] == seq for name in expected)
        ended = now


async def test_no_change_between_two_waits_is_lost(mirror: AccountMirror, desk: Desk) -> None:
    since = mirror.position("BTCUSDT").seq
    await desk.commit([position(10, "0.6")], [wallet(20, "5")])
    await follows(mirror, desk)
    since = await mirror.changed("positions", "BTCUSDT:BOTH", since=since)
    assert since == 3
    assert await stays_waiting(mirror.changed("positions", "BTCUSDT:BOTH", since=since))
    assert await mirror.changed("totals", since=2) == 3
    assert await stays_waiting(mirror.changed("totals", since=3))
    await desk.commit([position(30, "0")])
    assert await mirror.changed("positions", "BTCUSDT:BOTH", since=since) == 4
    assert await stays_waiting(mirror.changed("orders", since=1))


async def test_many_changes_one_by_one_are_all_received(mirror: AccountMirror, desk: Desk) -> None:
    """A trader that is slower than the commits receives the last one in any case."""
    received = [mirror.position("BTCUSDT").position_amt]

    async def listen() -> None:
        since = mirror.snapshot().seq
        while received[-1] != 100:
            since = await mirror.changed("positions", "BTCUSDT:BOTH", since=since)
            received.append(mirror.position("BTCUSDT").position_amt)
            await asyncio.sleep(0.001)

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(listen())
        for step in range(1, 101):
            await desk.commit([position(step, str(step))])
    assert received == sorted(received)


async def test_a_wait_ends_by_its_time_out(mirror: AccountMirror) -> None:
    with pytest.raises(TimeoutError):
        await mirror.changed(timeout_s=0.01)


async def test_a_wait_ends_when_the_mirror_is_closed(redis_url: str, desk: Desk, account_id: AccountId) -> None:
    async with AccountMirror(account_id, redis_url) as mirror:
        waiting = asyncio.create_task(mirror.changed())
        await asyncio.sleep(0)
    with pytest.raises(StaleState, match="the mirror is closed"):
        await waiting


async def test_reading_again_counts_as_a_change_of_what_differs_alone(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    stored = Stored(client, account_id)
    async with linked_url(redis_url) as proxy, AccountMirror(account_id, proxy.url) as mirror:
        await cut_off(proxy)
        await desk.commit([position(10, "0.6")], [position(20, "0.5")], [wallet(30, "5")])
        await stored.redis.xtrim(stored.keys.changes, maxlen=0, approximate=False)
        proxy.fate = lambda request: "pass"
        assert await mirror.changed("balances", "USDT", since=1, timeout_s=DEADLINE_S) == 4
        assert await mirror.changed("positions", since=1) == 4  # its venueTimeMs did change
        assert await stays_waiting(mirror.changed("orders", since=1))
        assert len(mirror.rejoins) == 1


async def test_numbers_that_started_over_count_as_a_change(
    client: Client, mirror: AccountMirror, desk: Desk, account_id: AccountId
) -> None:
    await desk.commit(*FRAMES[:4])
    since = (await follows(mirror, desk)).seq
    stored = Stored(client, account_id)
    await stored.redis.delete(*await stored.redis.keys(f"*{account_id}*"))
    other = Desk(client, account_id, "publisher-2", lease_ttl_ms=120_000)
    other.account = desk.account
    await other.open()
    await other.commit_whole(verified=True)
    await follows(mirror, other)
    assert await mirror.changed("orders", since=since, timeout_s=DEADLINE_S) == 1
    assert await stays_waiting(mirror.changed("orders", since=1))
    await other.commit([event(90, "NEW", order_id="5")])
    assert await mirror.changed("orders", since=1, timeout_s=DEADLINE_S) == 2


async def test_a_commit_before_the_mirror_was_there_counts_as_a_change(mirror: AccountMirror, desk: Desk) -> None:
    assert await mirror.changed("orders", since=0, timeout_s=DEADLINE_S) == 1


@pytest.mark.parametrize(
    ("what", "name", "sentence"),
    [
        ("trades", None, "what is 'trades'; accepted: totals, balances, positions, orders"),
        ("positions", "BTCUSDT", "name is 'BTCUSDT'; accepted: a position as SYMBOL:SIDE"),
        ("orders", "1001", "name is '1001'; accepted: an order as SYMBOL:ORDERID, such as BTCUSDT:1001"),
        (None, "USDT", "name is 'USDT'; accepted: a name within balances, positions or orders"),
        ("totals", "USDT", "name is 'USDT'; accepted: a name within"),
    ],
)
async def test_what_can_never_change_is_refused(mirror: AccountMirror, what: Any, name: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        await mirror.changed(what, name)
    assert sentence in str(refused.value)
