from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from support.changes import event, mark, position, rest_balance, rest_order, rest_position, snapshot, wallet
from support.proxy import Proxy, proxied
from support.written import Desk, Stored, eventually

from consumers import mirror as mirror_module
from consumers.mirror import AccountMirror, Rejoin
from consumers.models import AccountSnapshot, Order, Position, Totals
from consumers.tables import of_publisher
from statecast.domain.changes import Change
from statecast.embedded.server import EmbeddedServer
from statecast.errors import (
    ConfigError,
    ContractMismatch,
    NeverPublished,
    StaleState,
    StoreAuthFailed,
    StoreUnreachable,
)
from statecast.store import feed
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId
from statecast.store.reader import read_account

DEADLINE_S = 40.0


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with connect(redis_url, client_name="desk") as connected:
        yield connected


@pytest.fixture
def account_id(account_name: str) -> AccountId:
    return AccountId("binance", account_name)


@pytest.fixture
async def desk(client: Client, account_id: AccountId) -> Desk:
    """A publisher that has published, and holds its lease as long as a test lasts."""
    return await published(client, account_id)


@pytest.fixture
async def mirror(redis_url: str, desk: Desk, account_id: AccountId) -> AsyncIterator[AccountMirror]:
    async with AccountMirror(account_id, redis_url) as running:
        yield running


async def published(client: Client, account_id: AccountId, name: str = "publisher-1") -> Desk:
    desk = Desk(client, account_id, name, lease_ttl_ms=120_000)
    assert await desk.open() is None
    await desk.commit(
        [snapshot(positions=[rest_position(-9, "0.5")], orders=[rest_order(-9)], balances=[rest_balance(-9, "1000")])],
        verified=True,
    )
    await desk.beat()
    return desk


class JumpingClock:
    """Stands still until it is told to jump; sleeps for real, so that others can work."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now_ms(self) -> int:
        raise AssertionError("a mirror has no use for this machine's time of day")

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))


async def follows(mirror: AccountMirror, desk: Desk) -> AccountSnapshot:
    """Wait until the mirror has all that the desk has written; what it says then."""
    await eventually(lambda: has_reached(mirror, desk.writer.seq))
    return mirror.snapshot()


async def has_reached(mirror: AccountMirror, seq: int) -> bool:
    with suppress(StaleState, ContractMismatch):
        return mirror.snapshot().seq == seq
    return False


async def has_heard(mirror: AccountMirror, state: str) -> bool:
    with suppress(StaleState):
        return mirror.totals().freshness.state == state
    return False


async def expect_as_stored(mirror: AccountMirror, client: Client, desk: Desk) -> None:
    """The mirror says what a reader would read, value for value, with the same seq and sources."""
    await follows(mirror, desk)
    stored = await read_account(client, mirror.account_id)
    await eventually(lambda: has_heard(mirror, stored.status["state"]))  # within a second, for no commit tells it
    mine = mirror.snapshot()
    assert stored.age_ms is not None
    theirs = of_publisher(stored, "", stored.age_ms).snapshot()
    assert mine == theirs
    assert (mine.seq, mine.source, mine.freshness.epoch, mine.freshness.state) == (
        theirs.seq,
        theirs.source,
        theirs.freshness.epoch,
        theirs.freshness.state,
    )
    for name in ("account", "balances", "positions", "orders"):
        of_one = await read_account(client, mirror.account_id, (name,))
        source = of_publisher(of_one, "", 0).freshness.source
        reads: dict[str, Callable[[], Any]] = {
            "account": mirror.totals,
            "balances": mirror.balances,
            "positions": mirror.positions,
            "orders": mirror.open_orders,
        }
        assert reads[name]().source == source


async def refuses(mirror: AccountMirror, why: str) -> StaleState:
    """Wait until reads raise StaleState for this reason."""
    found: list[StaleState] = []

    async def refused() -> bool:
        try:
            mirror.totals()
        except StaleState as error:
            found[:] = [error]
            return why in str(error)
        return False

    await eventually(refused)
    return found[0]


FRAMES: Sequence[Sequence[Change]] = [
    [position(10, "0.6"), wallet(10, "990")],
    [event(10, "X", "CANCELED")],
    [event(20, "NEW", order_id="1002"), position(20, "-1", symbol="ETHUSDT")],
    [mark(30, "104.5")],
    [position(40, "0")],
    [event(50, "X", "CANCELED", order_id="77")],
    [snapshot(60, balances=[rest_balance(55, "5", "BNB")])],
]


# Reads


async def test_it_says_what_a_reader_says_after_every_commit(client: Client, mirror: AccountMirror, desk: Desk) -> None:
    await expect_as_stored(mirror, client, desk)
    for frame in FRAMES:
        await desk.commit(frame)
        await expect_as_stored(mirror, client, desk)
    assert mirror.rejoins == ()


async def test_it_joins_what_stands_there_and_commits_that_come_at_once(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    for at, frame in enumerate(FRAMES):
        committing = asyncio.create_task(desk.commit(frame, [wallet(100 + at, str(at))]))
        async with AccountMirror(account_id, redis_url) as joining:
            await committing
            await expect_as_stored(joining, client, desk)
            assert joining.rejoins == ()


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


# How it begins


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
        told: list[tuple[Any, Any]] = []
        mirror.on_position(lambda before, after: told.append((before, after)))
        starting = Desk(client, account_id)
        await starting.open()
        assert not isinstance(await refuses(mirror, "no complete state"), NeverPublished)
        await starting.commit([snapshot(positions=[rest_position(-9, "0.5")])], verified=True)
        await starting.beat()
        await follows(mirror, starting)
        await until(lambda: len(told) == 1)
        assert told == [(None, mirror.position("BTCUSDT"))]
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


# How it ages


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


async def is_younger(mirror: AccountMirror, age_s: float) -> bool:
    with suppress(StaleState):
        return mirror.totals(max_age_s=age_s).age_s <= age_s
    return False


async def test_a_publisher_that_stops_vouching_makes_it_stale(
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


async def test_news_that_nobody_vouches_for_do_not_make_it_younger(
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


async def test_the_time_of_an_answers_way_counts(
    redis_url: str, desk: Desk, account_id: AccountId, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = JumpingClock()

    async def late(*args: Any) -> Any:
        news = await feed.read_news(*args)
        clock.at += 3
        return news

    monkeypatch.setattr(mirror_module, "read_news", late)
    async with AccountMirror(account_id, redis_url, clock=clock) as mirror:
        assert mirror.totals().age_s < 3
        clock.at += 1.5  # time for a question
        await eventually(lambda: has_asked(clock, 1_004.5))
        assert 3 <= mirror.totals().age_s < 4.5


async def has_asked(clock: JumpingClock, at: float) -> bool:
    await asyncio.sleep(0.02)
    return clock.at >= at


async def test_a_clock_of_redis_that_was_set_back_is_no_ground_to_believe(
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
    async with proxied(redis_url) as proxy, AccountMirror(account_id, proxy.url, max_age_s=1.0) as mirror:
        await desk.beat()
        await eventually(lambda: is_younger(mirror, 0.9))
        proxy.fate = lambda request: "lose request"
        await refuses(mirror, "the mirror cannot read on (Redis at redis://127.0.0.1")
        assert mirror.positions(max_age_s=60)["BTCUSDT:BOTH"]
        await desk.commit([position(10, "0.7")], verified=True)
        proxy.fate = lambda request: "pass"

        async def mended() -> bool:
            await desk.beat()
            return await has_reached(mirror, desk.writer.seq)

        await eventually(mended)
        assert mirror.position("BTCUSDT").position_amt == Decimal("0.7")
        assert mirror.rejoins == ()
    told = [record.message for record in caplog.records if record.name == "statecast.consumers"]
    assert [message for message in told if "cannot read on" in message] == told[:1]
    assert told[1:] == [f"the mirror of {account_id} reads on"]


# Holes


async def cut_off(proxy: Proxy) -> None:
    """From now on nothing reaches Redis. A question that waits there already is answered first."""
    proxy.fate = lambda request: "lose request"
    await until(lambda: "lose request" in proxy.fates)


async def expect_rejoined(mirror: AccountMirror, client: Client, desk: Desk, reason: str) -> Rejoin:
    await until(lambda: len(mirror.rejoins) > 0)
    await expect_as_stored(mirror, client, desk)
    (rejoin,) = mirror.rejoins
    assert reason in rejoin.reason
    return rejoin


async def test_trimmed_entries_are_noticed_and_the_account_is_read_anew(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId, caplog: pytest.LogCaptureFixture
) -> None:
    stored = Stored(client, account_id)
    async with proxied(redis_url) as proxy, AccountMirror(account_id, proxy.url) as mirror:
        await cut_off(proxy)
        await desk.commit(*FRAMES[:4])
        await stored.redis.xtrim(stored.keys.changes, maxlen=1, approximate=False)
        proxy.fate = lambda request: "pass"
        rejoin = await expect_rejoined(mirror, client, desk, "commit 5 came after 1")
        assert (rejoin.at_seq, rejoin.to_seq) == (1, 5)
    assert f"the mirror of {account_id} read the account anew: {rejoin.reason}" in caplog.text


async def test_a_mirror_that_is_far_behind_catches_up_in_pages(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PAGE", 2)
    async with proxied(redis_url) as proxy, AccountMirror(account_id, proxy.url) as mirror:
        await cut_off(proxy)
        await desk.commit(*[[position(step, str(step))] for step in range(1, 20)])
        proxy.fate = lambda request: "pass"
        await expect_as_stored(mirror, client, desk)
        assert mirror.rejoins == ()


async def test_a_stream_without_the_entries_that_the_status_tells_of_is_noticed(
    client: Client, mirror: AccountMirror, desk: Desk, account_id: AccountId
) -> None:
    """Nothing comes, and yet there was something."""
    stored = Stored(client, account_id)
    async with stored.redis.pipeline(transaction=True) as pipe:
        pipe.hset(stored.keys.status, "seq", "4")
        pipe.hset(stored.keys.positions, mapping={"BTCUSDT:BOTH.positionAmt": "0.9", "_seq": "4"})
        await pipe.execute()
    desk.writer.seq = 4
    await expect_rejoined(mirror, client, desk, "the entries from commit 2 to 4 are not there")
    assert mirror.position("BTCUSDT").position_amt == Decimal("0.9")


async def test_a_commit_of_another_publisher_is_noticed_before_any_question(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    async with AccountMirror(account_id, redis_url, clock=JumpingClock()) as mirror:
        await desk.writer.release("stopped", "a test")
        other = await published(client, account_id, "publisher-2")
        await until(lambda: len(mirror.rejoins) == 1)
        assert mirror.snapshot().seq == other.writer.seq == 2
        assert mirror.rejoins == (Rejoin(1, 2, mirror.rejoins[0].reason),)


async def test_a_publisher_that_has_only_begun_is_noticed(client: Client, mirror: AccountMirror, desk: Desk) -> None:
    await desk.writer.release("stopped", "a test")
    other = Desk(client, mirror.account_id, "publisher-2", lease_ttl_ms=120_000)
    await other.open()
    await expect_rejoined(mirror, client, other, "a publisher has begun anew")
    assert mirror.snapshot().freshness.state == "starting"
    assert mirror.snapshot().freshness.epoch == other.writer.epoch


async def test_another_publisher_is_noticed(client: Client, mirror: AccountMirror, desk: Desk) -> None:
    await desk.writer.release("stopped", "a test")
    other = await published(client, mirror.account_id, "publisher-2")
    await expect_rejoined(mirror, client, other, f"{other.writer.epoch}")
    await other.commit([position(10, "0.7")])
    await expect_as_stored(mirror, client, other)
    assert len(mirror.rejoins) == 1


async def test_a_redis_that_went_back_is_noticed(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    stored = Stored(client, account_id)
    kept = {key: await stored.redis.dump(key) for key in await stored.redis.keys(f"*{account_id}*")}
    await desk.commit(*FRAMES[:3])
    async with AccountMirror(account_id, redis_url) as mirror:
        assert mirror.snapshot().seq == 4
        async with stored.redis.pipeline(transaction=True) as pipe:
            for key, dumped in kept.items():
                pipe.restore(key, 0, dumped, replace=True)
            await pipe.execute()
        desk.writer.seq = 1
        rejoin = await expect_rejoined(mirror, client, desk, "Redis went back from commit 4 to 1")
        assert (rejoin.at_seq, rejoin.to_seq) == (4, 1)


async def test_a_lost_account_is_unknown_and_no_position_is_told_closed(
    client: Client, mirror: AccountMirror, desk: Desk, account_id: AccountId
) -> None:
    told: list[object] = []
    mirror.on_position(lambda before, after: told.append((before, after)))
    mirror.on_order(lambda before, after: told.append((before, after)))
    before, order = mirror.position("BTCUSDT"), mirror.open_orders()["BTCUSDT:1001"]
    stored = Stored(client, account_id)
    await stored.redis.delete(*await stored.redis.keys(f"*{account_id}*"))
    refused = await refuses(mirror, "not flat")
    assert isinstance(refused, NeverPublished)
    assert [rejoin.reason for rejoin in mirror.rejoins] == ["the status is gone"]
    fresh = Desk(client, account_id, "publisher-3")
    await fresh.open()
    await fresh.commit([snapshot(70, positions=[rest_position(65, "0.8")])], verified=True)
    await follows(mirror, fresh)
    await until(lambda: len(told) == 2)
    assert told[0] == (before, mirror.position("BTCUSDT"))
    assert told[1] == (order, None)


async def test_a_copy_with_a_hole_is_not_served_however_young_it_is(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    stored = Stored(client, account_id)
    async with proxied(redis_url) as proxy, AccountMirror(account_id, proxy.url, max_age_s=600) as mirror:
        assert mirror.totals().seq == 1
        proxy.fate = lambda request: "lose request" if b"XREVRANGE" in request else "pass"  # no joining
        await stored.redis.xadd(
            stored.keys.changes,
            {"seq": "3", "epoch": str(desk.writer.epoch), "eventSeq": "0", "source": "rest", "change": "{}"},
        )
        refused = await refuses(mirror, "the copy has a hole (commit 3 came after 1) and is read anew")
        assert refused.age_s is not None
        assert refused.age_s < 600
        for read in (mirror.positions, mirror.balances, mirror.open_orders, mirror.snapshot):
            with pytest.raises(StaleState):
                read()
        proxy.fate = lambda request: "pass"
        await expect_rejoined(mirror, client, desk, "commit 3 came after 1")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ('{"positions": {"set": {}, "count": 7, "venueTimeMs": 1}}', "does not fit: 1 rows where the commit tells 7"),
        ('{"positions": {"set": {"BTCUSDT:BOTH.markPrice": "x"}, "count": 1}}', "markPrice is 'x'"),
        ('{"positions": {"set": {"ETHUSDT:BOTH.side": "long"}, "count": 2}}', "symbol is missing"),
        ("no JSON", "cannot be understood"),
    ],
)
async def test_a_commit_that_cannot_be_of_this_copy_is_a_hole(
    client: Client, mirror: AccountMirror, desk: Desk, account_id: AccountId, change: str, reason: str
) -> None:
    stored = Stored(client, account_id)
    entry = {"seq": "2", "epoch": str(desk.writer.epoch), "eventSeq": "0", "source": "stream", "change": change}
    async with stored.redis.pipeline(transaction=True) as pipe:
        pipe.xadd(stored.keys.changes, entry)
        pipe.hset(stored.keys.status, "seq", "2")
        await pipe.execute()
    desk.writer.seq = 2
    await expect_rejoined(mirror, client, desk, reason)


async def test_fields_and_hashes_of_later_versions_are_ignored(
    client: Client, mirror: AccountMirror, desk: Desk, account_id: AccountId
) -> None:
    stored = Stored(client, account_id)
    change = '{"positions": {"set": {"BTCUSDT:BOTH.new": "1"}, "count": 1}, "loans": {"set": {"x": "1"}}}'
    entry = {"seq": "2", "epoch": str(desk.writer.epoch), "eventSeq": "0", "source": "stream", "change": change}
    async with stored.redis.pipeline(transaction=True) as pipe:
        pipe.xadd(stored.keys.changes, entry)
        pipe.hset(stored.keys.status, "seq", "2")
        pipe.hset(stored.keys.positions, mapping={"BTCUSDT:BOTH.new": "1", "_seq": "2", "_source": "stream"})
        await pipe.execute()
    desk.writer.seq = 2
    await expect_as_stored(mirror, client, desk)
    assert mirror.rejoins == ()


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


async def test_text_that_is_not_of_the_contract_is_refused_until_it_is_mended(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    stored = Stored(client, account_id)
    await stored.redis.hset(stored.keys.positions, "BTCUSDT:BOTH.positionAmt", "much")
    async with AccountMirror(account_id, redis_url, max_age_s=0.4) as mirror:
        with pytest.raises(ContractMismatch, match="positions is not as contract 1 has it: positionAmt is 'much'"):
            mirror.positions(max_age_s=60)
        await stored.redis.hset(stored.keys.positions, "BTCUSDT:BOTH.positionAmt", "0.5")

        async def mended() -> bool:
            with suppress(ContractMismatch):
                return mirror.position("BTCUSDT", max_age_s=60).position_amt == Decimal("0.5")
            return False

        await eventually(mended)


async def test_a_mistake_of_ours_is_logged_and_the_account_read_anew(
    client: Client, mirror: AccountMirror, desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: object, **kwargs: object) -> object:
        monkeypatch.undo()
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr(mirror_module, "apply", broken)
    await desk.commit([position(10, "0.7")])
    await expect_rejoined(mirror, client, desk, "a mistake of this program: RuntimeError")
    assert "broken on purpose" in caplog.text


# Waiting for a change


async def until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds)


async def stays_waiting(waiting: Awaitable[int]) -> bool:
    """Whether it waits still after everything that was written has arrived."""
    task = asyncio.ensure_future(waiting)
    done, _ = await asyncio.wait({task}, timeout=0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return not done


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


async def test_many_changes_one_by_one_are_all_heard(mirror: AccountMirror, desk: Desk) -> None:
    """A trader that is slower than the commits hears of the last one in any case."""
    heard = [mirror.position("BTCUSDT").position_amt]

    async def listen() -> None:
        since = mirror.snapshot().seq
        while heard[-1] != 100:
            since = await mirror.changed("positions", "BTCUSDT:BOTH", since=since)
            heard.append(mirror.position("BTCUSDT").position_amt)
            await asyncio.sleep(0.001)

    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(listen())
        for step in range(1, 101):
            await desk.commit([position(step, str(step))])
    assert heard == sorted(heard)


async def test_a_wait_ends_by_its_time_out(mirror: AccountMirror) -> None:
    with pytest.raises(TimeoutError):
        await mirror.changed(timeout_s=0.01)


async def test_a_wait_ends_when_the_mirror_is_closed(redis_url: str, desk: Desk, account_id: AccountId) -> None:
    async with AccountMirror(account_id, redis_url) as mirror:
        waiting = asyncio.create_task(mirror.changed())
        await asyncio.sleep(0)
    with pytest.raises(StaleState, match="the mirror is closed"):
        await waiting


async def test_reading_anew_counts_as_a_change_of_what_differs_alone(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    stored = Stored(client, account_id)
    async with proxied(redis_url) as proxy, AccountMirror(account_id, proxy.url) as mirror:
        await cut_off(proxy)
        await desk.commit([position(10, "0.6")], [position(20, "0.5")], [wallet(30, "5")])
        await stored.redis.xtrim(stored.keys.changes, maxlen=0, approximate=False)
        proxy.fate = lambda request: "pass"
        assert await mirror.changed("balances", "USDT", since=1, timeout_s=DEADLINE_S) == 4
        assert await mirror.changed("positions", since=1) == 4  # its venueTimeMs did change
        assert await stays_waiting(mirror.changed("orders", since=1))
        assert len(mirror.rejoins) == 1


async def test_numbers_that_began_anew_count_as_a_change(
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


async def test_what_was_forgotten_counts_as_changed(
    mirror: AccountMirror, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "REMEMBERED", 2)
    for at in range(2, 7):
        await desk.commit([event(10 * at, "NEW", order_id=f"20{at}")])
    await follows(mirror, desk)
    assert await mirror.changed("orders", "BTCUSDT:202", since=1, timeout_s=DEADLINE_S) == 6
    assert await mirror.changed("orders", "BTCUSDT:206", since=5, timeout_s=DEADLINE_S) == 6
    assert await stays_waiting(mirror.changed("orders", "BTCUSDT:205", since=5))
    assert await stays_waiting(mirror.changed("orders", "BTCUSDT:202", since=4))


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


# Callbacks


async def test_callbacks_are_told_before_and_after_in_the_order_of_commits(mirror: AccountMirror, desk: Desk) -> None:
    told: list[tuple[object, ...]] = []

    def on_totals(before: Totals | None, after: Totals | None) -> None:
        assert before is not None
        assert after is not None
        told.append(("totals", before.total_wallet_balance, after.total_wallet_balance, after.seq))

    async def on_position(before: Position | None, after: Position | None) -> None:
        await asyncio.sleep(0)
        told.append(("position", before and before.position_amt, after and after.position_amt))

    def on_order(before: Order | None, after: Order | None) -> None:
        told.append(("order", before and before.order_id, after and after.order_id))

    mirror.on_totals(on_totals)
    mirror.on_position(on_position, "BTCUSDT")
    mirror.on_order(on_order)
    await desk.commit(
        [wallet(10, "990")],
        [position(20, "0.7"), event(20, "NEW", order_id="1002")],
        [position(25, "3", symbol="ETHUSDT")],
        [event(28, "X", "CANCELED", order_id="77")],
        [event(30, "X", "CANCELED", order_id="1002")],
        [position(40, "0")],
        [position(50, "-1")],
    )
    expected = [
        ("totals", Decimal(1000), Decimal(990), 2),
        ("position", Decimal("0.5"), Decimal("0.7")),
        ("order", None, "1002"),
        ("order", "1002", None),
        ("position", Decimal("0.7"), None),
        ("position", None, Decimal(-1)),
    ]
    await until(lambda: len(told) >= len(expected) and told[-1] == expected[-1])
    assert [row for row in told if row[:2] != ("totals", Decimal(990))] == expected


async def test_a_slow_callback_delays_neither_reads_nor_waits(mirror: AccountMirror, desk: Desk) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(before: object, after: object) -> None:
        entered.set()
        await leave.wait()

    mirror.on_position(slow)
    await desk.commit([position(10, "0.7")])
    await entered.wait()
    await desk.commit([position(20, "0.8")])
    assert await mirror.changed(since=2, timeout_s=DEADLINE_S) == 3
    assert mirror.position("BTCUSDT").position_amt == Decimal("0.8")
    leave.set()


async def test_what_a_callback_raises_is_logged_and_ends_nothing(
    mirror: AccountMirror, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[object] = []

    def broken(before: object, after: object) -> None:
        raise RuntimeError("mine")

    async def cancelled(before: object, after: object) -> None:
        raise asyncio.CancelledError

    mirror.on_position(broken)
    mirror.on_position(cancelled)
    mirror.on_position(lambda before, after: told.append(after))
    await desk.commit([position(10, "0.7")])
    await desk.commit([position(20, "0.8")])
    await until(lambda: len(told) == 2)
    assert caplog.text.count("RuntimeError: mine") == 2
    assert caplog.text.count(f"a callback of the mirror of {mirror.account_id} was cancelled") == 2
    assert mirror.position("BTCUSDT").position_amt == Decimal("0.8")


async def test_callbacks_that_fall_far_behind_get_one_change_and_it_is_told(
    mirror: AccountMirror, desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mirror_module, "MAX_BEHIND", 3)
    told: list[tuple[Decimal | None, Decimal | None]] = []
    leave = asyncio.Event()

    async def slow(before: Position | None, after: Position | None) -> None:
        told.append((before and before.position_amt, after and after.position_amt))
        await leave.wait()

    mirror.on_position(slow)
    await desk.commit([position(1, "1")])
    await until(lambda: len(told) == 1)
    for step in range(2, 21):
        await desk.commit([position(step, str(step))])
    await follows(mirror, desk)
    leave.set()
    await until(lambda: told[-1][1] == Decimal(20))
    assert len(told) < 10
    assert all(before == last for (_, last), (before, _) in pairwise(told))
    assert "are 3 commits behind, and get them as one change" in caplog.text


async def test_after_a_hole_callbacks_are_told_of_it_and_what_differs(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    stored = Stored(client, account_id)
    told: list[object] = []
    async with proxied(redis_url) as proxy, AccountMirror(account_id, proxy.url) as mirror:
        mirror.on_rejoin(told.append)
        mirror.on_order(lambda before, after: told.append((before and before.order_id, after and after.order_id)))
        await cut_off(proxy)
        await desk.commit([event(10, "X", "CANCELED")], [event(20, "NEW", order_id="5")], [position(20, "0")])
        await stored.redis.xtrim(stored.keys.changes, maxlen=0, approximate=False)
        proxy.fate = lambda request: "pass"
        await until(lambda: len(told) == 3)
        assert told == [mirror.rejoins[0], ("1001", None), (None, "5")]


async def test_nothing_is_told_of_what_stood_there_before(mirror: AccountMirror, desk: Desk) -> None:
    told: list[object] = []
    mirror.on_order(lambda before, after: told.append(after))
    await desk.commit([wallet(10, "5")], [event(20, "NEW", order_id="5")])
    await until(lambda: len(told) == 1)
    assert isinstance(told[0], Order)
    assert told[0].order_id == "5"
