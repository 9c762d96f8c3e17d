from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from support.changes import position, rest_position, snapshot, wallet
from support.link import Fate, linked_url
from support.mirrors import (
    FRAMES,
    JumpingClock,
    cut_off,
    expect_as_stored,
    expect_rejoined,
    follows,
    published,
    refuses,
    until,
)
from support.written import Desk, Stored

from consumers.mirror import AccountMirror, Rejoin
from statecast.errors import (
    NeverPublished,
    StaleState,
)
from statecast.store.client import Client
from statecast.store.feed import PAGE
from statecast.store.keys import AccountId


async def test_it_joins_what_stands_there_and_commits_that_come_at_once(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    for at, frame in enumerate(FRAMES):
        committing = asyncio.create_task(desk.commit(frame, [wallet(100 + at, str(at))]))
        async with AccountMirror(account_id, redis_url) as joining:
            await committing
            await expect_as_stored(joining, client, desk)
            assert joining.rejoins == ()


async def test_the_time_of_an_answers_way_counts(redis_url: str, desk: Desk, account_id: AccountId) -> None:
    clock = JumpingClock()

    def late(request: bytes) -> Fate:
        """The first question is on its way for 3 s, and no further one arrives."""
        if not (b"XREAD" in request and b"HGETALL" in request):
            return "pass"
        if clock.at > 1_002:
            return "lose request"
        clock.at += 3
        return "pass"

    async with linked_url(redis_url) as proxy, AccountMirror(account_id, proxy.url, clock=clock) as mirror:
        assert mirror.totals().age_s < 3
        proxy.fate = late
        clock.at += 1.5  # time for a question
        await until(lambda: "lose request" in proxy.fates)
        assert 3 <= mirror.totals().age_s < 4.5


async def test_trimmed_entries_are_noticed_and_the_account_is_read_again(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId, caplog: pytest.LogCaptureFixture
) -> None:
    stored = Stored(client, account_id)
    async with linked_url(redis_url) as proxy, AccountMirror(account_id, proxy.url) as mirror:
        await cut_off(proxy)
        await desk.commit(*FRAMES[:4])
        await stored.redis.xtrim(stored.keys.changes, maxlen=1, approximate=False)
        proxy.fate = lambda request: "pass"
        rejoin = await expect_rejoined(mirror, client, desk, "commit 5 came after 1")
        assert (rejoin.at_seq, rejoin.to_seq) == (1, 5)
    assert f"the mirror of {account_id} read the account again: {rejoin.reason}" in caplog.text


async def test_a_mirror_that_has_missed_a_lot_catches_up_in_pages(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    async with linked_url(redis_url) as proxy, AccountMirror(account_id, proxy.url) as mirror:
        await cut_off(proxy)
        await desk.commit(*[[position(step, str(step))] for step in range(1, 2 * PAGE + 50)])
        proxy.fate = lambda request: "pass"
        await expect_as_stored(mirror, client, desk)
        assert mirror.rejoins == ()


async def test_a_stream_without_the_entries_that_the_status_counts_is_noticed(
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
    await expect_rejoined(mirror, client, other, "a publisher has started")
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


async def test_a_lost_account_is_unknown_and_no_position_is_reported_closed(
    client: Client, mirror: AccountMirror, desk: Desk, account_id: AccountId
) -> None:
    calls: list[object] = []
    mirror.on_position(lambda before, after: calls.append((before, after)))
    mirror.on_order(lambda before, after: calls.append((before, after)))
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
    await until(lambda: len(calls) == 2)
    assert calls[0] == (before, mirror.position("BTCUSDT"))
    assert calls[1] == (order, None)


async def test_an_incomplete_copy_is_not_served_however_young_it_is(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    stored = Stored(client, account_id)
    async with linked_url(redis_url) as proxy, AccountMirror(account_id, proxy.url, max_age_s=600) as mirror:
        assert mirror.totals().seq == 1
        proxy.fate = lambda request: "lose request" if b"XREVRANGE" in request else "pass"  # no joining
        await stored.redis.xadd(
            stored.keys.changes,
            {"seq": "3", "epoch": str(desk.writer.epoch), "eventSeq": "0", "source": "rest", "change": "{}"},
        )
        refused = await refuses(mirror, "the copy is incomplete (commit 3 came after 1) and is being read again")
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
        ('{"positions": {"set": {}, "count": 7, "venueTimeMs": 1}}', "does not fit: 1 rows where the commit counts 7"),
        ('{"positions": {"set": {"BTCUSDT:BOTH.markPrice": "x"}, "count": 1}}', "markPrice is 'x'"),
        ('{"positions": {"set": {"ETHUSDT:BOTH.side": "long"}, "count": 2}}', "symbol is missing"),
        ("no JSON", "cannot be understood"),
    ],
)
async def test_a_commit_that_cannot_be_of_this_copy_makes_it_incomplete(
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


class BreakingClock(JumpingClock):
    """Fails once, in a task of the mirror."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks = False
        self.tests_own = asyncio.current_task()

    def monotonic(self) -> float:
        if self.breaks and asyncio.current_task() is not self.tests_own:
            self.breaks = False
            raise RuntimeError("broken on purpose")
        return super().monotonic()


async def test_a_mistake_of_ours_is_logged_and_the_account_read_again(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId, caplog: pytest.LogCaptureFixture
) -> None:
    clock = BreakingClock()
    async with AccountMirror(account_id, redis_url, clock=clock) as mirror:
        clock.breaks = True
        await desk.commit([position(10, "0.7")])
        await expect_rejoined(mirror, client, desk, "a mistake of this program: RuntimeError")
    assert "broken on purpose" in caplog.text
