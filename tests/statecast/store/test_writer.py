from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from random import Random

import pytest
from support.changes import (
    NOW,
    event,
    fill,
    mark,
    position,
    rest_balance,
    rest_order,
    rest_position,
    snapshot,
    wallet,
)
from support.link import Fate, linked_url
from support.written import HASHES, Desk, Stored, eventually

from statecast.embedded.server import EmbeddedServer, ServerBinary
from statecast.errors import ContractMismatch, LeaseLost, StoreDiverged, StoreRefused, StoreUnreachable
from statecast.store.client import Client, connect
from statecast.store.feed import read_changes
from statecast.store.keys import ACCOUNTS_KEY, EVENT_FIELDS, STATUS_FIELDS, AccountId
from statecast.store.reader import read_account
from statecast.store.writer import AccountWriter

FULL = snapshot(
    balances=[rest_balance(-50, "1000"), rest_balance(-50, "5", "BNB")],
    positions=[rest_position(-40, "0.5"), rest_position(-40, "2", symbol="ETHUSDT")],
    orders=[rest_order(-30), rest_order(-30, order_id="algo-7", algo_id="7")],
)


@pytest.fixture
async def client(any_redis_url: str) -> AsyncIterator[Client]:
    async with connect(any_redis_url, client_name="publisher") as connected:
        yield connected


@pytest.fixture
def account_id(account_name: str) -> AccountId:
    return AccountId("binance", account_name)


@pytest.fixture
async def desk(client: Client, account_id: AccountId) -> Desk:
    """A publisher that holds the lease and has written a first snapshot."""
    started = Desk(client, account_id)
    assert await started.open() is None
    await started.commit([FULL])
    return started


@pytest.fixture
def stored(client: Client, account_id: AccountId) -> Stored:
    return Stored(client, account_id)


async def redis_ms(stored: Stored) -> int:
    seconds, microseconds = await stored.redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def later(stored: Stored, than_ms: int) -> None:
    """Redis's clock has moved on, so that two times can be told apart."""

    async def moved() -> bool:
        return await redis_ms(stored) > than_ms

    await eventually(moved)


async def lease_gone(stored: Stored) -> None:
    async def gone() -> bool:
        return not await stored.redis.exists(stored.keys.lease)

    await eventually(gone)


# Opening


async def test_opening_takes_the_lease_and_says_who_publishes(
    client: Client, account_id: AccountId, stored: Stored
) -> None:
    before = await redis_ms(stored)
    desk = Desk(client, account_id)
    assert await desk.open("starting", "taking the lease") is None
    status = await stored.status()
    assert status == {
        "epoch": str(desk.writer.epoch),
        "seq": "0",
        "eventSeq": "0",
        "publisherId": "publisher-1",
        "state": "starting",
        "reason": "taking the lease",
        "heartbeatAtMs": status["heartbeatAtMs"],
        "contract": "1",
    }
    assert before <= int(status["heartbeatAtMs"]) <= await redis_ms(stored)
    assert desk.writer.epoch >= before  # by the clock, so that a lost number is not handed out again
    assert await stored.redis.get(stored.keys.lease) == "publisher-1"
    assert 0 < await stored.redis.pttl(stored.keys.lease) <= 2_500
    assert await stored.redis.sismember(ACCOUNTS_KEY, str(account_id))
    assert [await stored.redis.exists(getattr(stored.keys, name)) for name in HASHES] == [0, 0, 0, 0]


async def test_every_opening_opens_a_higher_epoch(client: Client, account_id: AccountId) -> None:
    desk = Desk(client, account_id)
    epochs = []
    for _ in range(20):
        await desk.open()
        epochs.append(desk.writer.epoch)
    assert epochs == sorted(set(epochs))


async def test_a_second_publisher_is_told_who_holds_the_account(desk: Desk, client: Client, stored: Stored) -> None:
    before = await stored.everything()
    second = Desk(client, desk.writer.account_id, "publisher-2")
    assert await second.open() == "publisher-1"
    assert second.writer.epoch == 0
    assert await stored.everything() == before
    await desk.commit([wallet(10, "990")])


async def test_when_a_lease_expires_another_publisher_goes_on_where_the_numbers_are(
    client: Client, account_id: AccountId, stored: Stored
) -> None:
    first = Desk(client, account_id, "publisher-1", lease_ttl_ms=300)
    await first.open()
    await first.writer.send(first.batch(first.fold(FULL), first.fold(event(1, "NEW", order_id="5"))))
    await lease_gone(stored)
    second = Desk(client, account_id, "publisher-2")
    assert await second.open() is None
    assert second.writer.epoch > first.writer.epoch
    assert (second.writer.seq, second.writer.event_seq) == (2, 1)
    await second.commit([snapshot(50)], [event(60, "NEW")])
    await stored.expect(second.account)
    await stored.expect_without_holes()
    assert {entry["epoch"] for entry in await stored.events()} == {str(first.writer.epoch), str(second.writer.epoch)}


@pytest.mark.parametrize("what", ["commit", "heartbeat", "repeated commit"])
async def test_a_publisher_that_lost_the_lease_writes_nothing_more(
    client: Client, account_id: AccountId, stored: Stored, what: str
) -> None:
    old = Desk(client, account_id, "publisher-1", lease_ttl_ms=300)
    await old.open()
    await old.commit([FULL])
    late = old.batch(old.fold(wallet(10, "1"), event(10, "NEW", order_id="9")))
    if what == "repeated commit":
        await old.writer.send(late)
    await lease_gone(stored)
    new = Desk(client, account_id, "publisher-2")
    await new.open()
    await new.commit([snapshot(50)], verified=True)
    before = await stored.everything()
    with pytest.raises(LeaseLost) as lost:
        await (old.beat() if what == "heartbeat" else old.writer.send(late))
    assert str(lost.value).endswith(f"the lease of {account_id} is held by publisher-2")
    assert await stored.everything() == before
    await new.beat()


async def test_a_lease_that_ran_out_is_lost_also_when_nobody_took_it(
    client: Client, account_id: AccountId, stored: Stored
) -> None:
    desk = Desk(client, account_id, lease_ttl_ms=300)
    await desk.open()
    await lease_gone(stored)
    with pytest.raises(LeaseLost, match="the lease has run out"):
        await desk.beat("starting", verified=False)
    assert await desk.open() is None


async def test_an_older_epoch_of_the_same_publisher_writes_nothing(desk: Desk, client: Client, stored: Stored) -> None:
    """A packet of before the publisher opened anew arrives late."""
    late = desk.batch(desk.fold(wallet(10, "1")))
    again = Desk(client, desk.writer.account_id)
    assert await again.open() is None
    before = await stored.everything()
    with pytest.raises(LeaseLost, match=f"epoch {again.writer.epoch}"):
        await desk.writer.send(late)
    assert await stored.everything() == before


async def test_every_batch_renews_the_lease(client: Client, account_id: AccountId, stored: Stored) -> None:
    desk = Desk(client, account_id, lease_ttl_ms=60_000)
    await desk.open()
    await stored.redis.pexpire(stored.keys.lease, 5_000)
    await desk.beat("starting", verified=False)
    assert await stored.redis.pttl(stored.keys.lease) > 5_000


async def test_an_account_of_another_contract_is_left_alone(
    client: Client, account_id: AccountId, stored: Stored
) -> None:
    await stored.redis.hset(stored.keys.status, mapping={"contract": "2", "state": "live"})
    desk = Desk(client, account_id)
    with pytest.raises(ContractMismatch) as refused:
        await desk.open()
    assert f"{account_id} is written under contract 2, this program writes 1; use" in str(refused.value)
    assert await stored.status() == {"contract": "2", "state": "live"}
    assert not await stored.redis.exists(stored.keys.lease)


@pytest.mark.parametrize("name", ["status", *HASHES, "order_events", "changes"])
async def test_a_key_that_is_not_ours_is_left_alone(
    client: Client, account_id: AccountId, stored: Stored, name: str
) -> None:
    key = getattr(stored.keys, name)
    await stored.redis.set(key, "a stranger's")
    with pytest.raises(StoreRefused, match=re.escape(f"{key} is a string; it is not one of ours, move it away")):
        await Desk(client, account_id).open()
    assert await stored.redis.get(key) == "a stranger's"
    assert not await stored.redis.exists(stored.keys.lease)


# Commits


async def test_a_snapshot_is_written_with_its_provenance(desk: Desk, stored: Stored) -> None:
    await stored.expect(desk.account)
    hashes = await stored.hashes()
    now = await redis_ms(stored)
    for name in HASHES:
        fields = hashes[name]
        assert now - 5_000 < int(fields["_storedAtMs"]) <= now
        told = {
            key: value for key, value in fields.items() if key.startswith("_") and key not in ("_storedAtMs", "_count")
        }
        assert told == {
            "_seq": "1",
            "_epoch": str(desk.writer.epoch),
            "_source": "rest",
            "_venueTimeMs": str(NOW),
            "_complete": "1",
            "_contract": "1",
            "_verifiedAtMs": "0",
        }


async def test_a_commit_writes_hashes_and_both_streams_together(desk: Desk, stored: Stored) -> None:
    await desk.commit([position(10, "0.6"), wallet(10, "990"), fill(10, "0.025")])
    await stored.expect(desk.account)
    await stored.expect_without_holes()
    hashes, status = await stored.hashes(), await stored.status()
    assert {hashes[name]["_seq"] for name in HASHES} == {status["seq"]} == {"2"}
    assert hashes["positions"]["_source"] == "stream"
    assert [tuple(entry) for entry in await stored.events()] == [EVENT_FIELDS]


async def test_a_hash_that_did_not_change_keeps_its_provenance(desk: Desk, stored: Stored) -> None:
    before = await stored.hashes()
    await desk.commit([event(10, "NEW", order_id="9")])
    after = await stored.hashes()
    assert {name for name in HASHES if after[name] != before[name]} == {"orders"}


async def test_many_commits_in_one_batch_are_many_commits(desk: Desk, stored: Stored) -> None:
    frames = [[wallet(n, str(n)), event(n, "NEW", order_id=str(n))] for n in range(1, 101)]
    await desk.commit(*frames)
    assert (desk.writer.seq, desk.writer.event_seq) == (101, 100)
    await stored.expect(desk.account)
    await stored.expect_without_holes()


async def test_an_account_that_becomes_empty_is_known_to_be_empty(desk: Desk, stored: Stored) -> None:
    await desk.commit(
        [position(10, "0"), position(10, "0", symbol="ETHUSDT")],
        [event(20, "X", "CANCELED"), event(20, "X", "CANCELED", order_id="algo-7")],
    )
    await stored.expect(desk.account)
    hashes = await stored.hashes()
    assert (hashes["positions"]["_count"], hashes["orders"]["_count"]) == ("0", "0")
    assert hashes["positions"]["_complete"] == "1"


async def test_writing_everything_removes_what_redis_holds_beyond_it(desk: Desk, stored: Stored) -> None:
    await stored.redis.hset(stored.keys.positions, "GHOST:BOTH.positionAmt", "5")
    await desk.commit_whole()
    await stored.expect(desk.account)


async def test_a_large_account_is_written_and_emptied_in_one_commit_each(desk: Desk, stored: Stored) -> None:
    """Lua hands no more than 8,000 values to one command."""
    many = [rest_order(19_005, order_id=str(n)) for n in range(1000)]
    await desk.commit([snapshot(20_000, orders=many)])
    await stored.expect(desk.account)
    await desk.commit_whole()
    await stored.expect(desk.account)
    await desk.commit([event(20_010, "X", "CANCELED", order_id=str(n)) for n in range(1000)])
    assert (await stored.hashes())["orders"]["_count"] == "0"
    await stored.expect(desk.account)
    await stored.expect_without_holes()


async def test_a_random_story_is_in_redis_and_in_its_changes(desk: Desk, stored: Stored) -> None:
    chance = Random(7)
    for step in range(1, 61):
        at = step * 10
        frames = [
            [position(at, chance.choice(["0", "1", "-2"]), symbol=chance.choice(["BTCUSDT", "ETHUSDT"]))],
            [wallet(at, str(chance.randint(1, 999)), chance.choice(["USDT", "BNB"]))],
            [fill(at, chance.choice(["0.01", "0.02", "0.050"]), order_id=str(chance.randint(1, 9)))],
            [mark(at, str(chance.randint(90, 110)))],
            [snapshot(at, positions=[rest_position(at, "3", taken=at)])],
        ]
        await desk.commit(*chance.choices(frames, weights=[4, 4, 4, 3, 1], k=3))
    await stored.expect(desk.account)
    await stored.expect_without_holes()


@pytest.mark.parametrize("limit", [{"changes_length": 50}, {"changes_bytes": 20_000}], ids=["entries", "bytes"])
async def test_the_changes_are_trimmed_and_the_order_events_are_not(
    client: Client, account_id: AccountId, stored: Stored, limit: dict[str, int]
) -> None:
    desk = Desk(client, account_id, **limit)
    await desk.open()
    await desk.commit([snapshot()])
    for start in range(0, 500, 100):
        await desk.commit(*([event(start + n, "NEW", order_id=str(start + n))] for n in range(100)))
    assert 20 <= await stored.redis.xlen(stored.keys.changes) < 150
    assert await stored.redis.xlen(stored.keys.order_events) == 500


async def test_however_large_an_account_its_changes_have_a_bounded_size(
    client: Client, account_id: AccountId, stored: Stored
) -> None:
    """500 positions, whose mark prices move all the time."""
    desk = Desk(client, account_id, changes_bytes=1_000_000)
    await desk.open()
    symbols = [f"COIN{number}USDT" for number in range(500)]
    await desk.commit([snapshot(positions=[rest_position(-50, "0.5", symbol=symbol) for symbol in symbols])])
    for round_ in range(1, 31):
        await desk.commit([mark(1_000 * round_, str(100 + round_ / 8), symbol) for symbol in symbols])
    changes = await stored.changes()
    assert 800_000 < sum(len(change["change"]) for change in changes) <= 1_000_000
    assert (await stored.redis.memory_usage(stored.keys.changes, samples=0) or 0) < 1_200_000
    assert changes[-1]["seq"] == "31"


async def test_a_mark_price_writes_nothing_but_the_fields_that_it_moves(desk: Desk, stored: Stored) -> None:
    symbols = ("AUSDT", "BUSDT", "CUSDT")
    await desk.commit([snapshot(positions=[rest_position(-50, "0.5", symbol=symbol) for symbol in symbols])])
    await desk.commit([mark(1_000, "110", symbol) for symbol in symbols])
    await desk.commit([mark(2_000, "120", "AUSDT"), mark(1_000, "110", "BUSDT")])
    written = json.loads((await stored.changes())[-1]["change"])
    moved = ("markPrice", "markPriceTimeMs", "unRealizedProfit", "unRealizedProfitTimeMs", "notional")
    assert written["positions"]["set"].keys() == {f"AUSDT:BOTH.{name}" for name in moved}
    await stored.expect(desk.account)


async def test_what_an_earlier_epoch_wrote_is_trimmed_too(
    client: Client, account_id: AccountId, stored: Stored
) -> None:
    for number in range(5):
        desk = Desk(client, account_id, f"publisher-{number}")
        await desk.open()
        await desk.commit([snapshot()])
        for at in range(200):
            await desk.commit([wallet(at, str(500 + at))])
        await desk.writer.release("stopped", "")
    assert await stored.redis.xlen(stored.keys.changes) < 400


async def test_a_reader_whose_place_was_trimmed_sees_that_entries_are_missing(
    client: Client, account_id: AccountId, stored: Stored
) -> None:
    desk = Desk(client, account_id, changes_bytes=5_000)
    await desk.open()
    await desk.commit([snapshot()])
    place = await read_account(client, account_id, last_change=True)
    for at in range(200):
        await desk.commit([wallet(at, str(500 + at))])
    page = await read_changes(client, account_id, place.last_change)
    assert page.complete
    assert page.changes[0].seq > int(place.status["seq"]) + 1
    assert page.changes[-1].seq == desk.writer.seq


# Heartbeats


async def test_a_heartbeat_verifies_the_state(desk: Desk, stored: Stored) -> None:
    await desk.beat()
    first = int((await stored.status())["verifiedAtMs"])
    assert desk.writer.verified_at_ms == first
    await later(stored, first)
    await desk.beat()
    status, hashes = await stored.status(), await stored.hashes()
    assert int(status["verifiedAtMs"]) > first
    assert status["heartbeatAtMs"] == status["verifiedAtMs"]
    assert {hashes[name]["_verifiedAtMs"] for name in HASHES} == {status["verifiedAtMs"]}
    assert status["seq"] == "1"  # nothing has changed


async def test_a_heartbeat_that_does_not_verify_leaves_the_verified_time(desk: Desk, stored: Stored) -> None:
    await desk.beat()
    before = await stored.status()
    await later(stored, int(before["heartbeatAtMs"]))
    await desk.beat("recovering", verified=False)
    status, hashes = await stored.status(), await stored.hashes()
    assert status["state"] == "recovering"
    assert int(status["heartbeatAtMs"]) > int(before["heartbeatAtMs"])
    assert status["verifiedAtMs"] == before["verifiedAtMs"]
    assert {hashes[name]["_verifiedAtMs"] for name in HASHES} == {before["verifiedAtMs"]}
    await desk.commit([wallet(10, "990")])
    assert (await stored.hashes())["balances"]["_verifiedAtMs"] == before["verifiedAtMs"]


async def test_what_is_written_again_is_as_verified_as_before_until_someone_verifies_it(
    desk: Desk, stored: Stored
) -> None:
    await desk.beat()
    verified = (await stored.status())["verifiedAtMs"]
    await desk.open("recovering", "the lease has run out")
    await desk.commit_whole()
    hashes = await stored.hashes()
    assert {hashes[name]["_verifiedAtMs"] for name in HASHES} == {verified}


async def test_nobody_verifies_what_was_never_written(client: Client, account_id: AccountId) -> None:
    desk = Desk(client, account_id)
    await desk.open()
    with pytest.raises(AssertionError, match="nothing to verify"):
        desk.batch(verified=True)


async def test_a_status_is_written_with_the_commits_beside_it(desk: Desk, stored: Stored) -> None:
    names = [name for name in STATUS_FIELDS if name not in ("seq", "eventSeq", "verifiedAtMs", "heartbeatAtMs")]
    fields = {name: f"<{name}>" for name in names} | {"epoch": desk.writer.epoch, "contract": "1"}
    await desk.writer.send(desk.batch(desk.fold(wallet(10, "990")), status=fields, verified=True))
    status = await stored.status()
    assert set(status) == set(STATUS_FIELDS)
    assert (status["state"], status["seq"]) == ("<state>", "2")


# Lost replies


async def test_a_batch_that_is_sent_twice_is_written_once(desk: Desk, stored: Stored) -> None:
    batch = desk.batch(desk.fold(wallet(10, "990"), event(10, "NEW", order_id="9")), desk.fold(wallet(20, "980")))
    await desk.writer.send(batch)
    before = await stored.everything()
    await desk.writer.send(batch)
    assert await stored.everything() == before
    assert (desk.writer.seq, desk.writer.event_seq) == (3, 1)
    await desk.commit([wallet(30, "970")])
    await stored.expect(desk.account)
    await stored.expect_without_holes()


@pytest.mark.parametrize("whole", [False, True], ids=["of one change", "of everything"])
async def test_a_repeated_batch_does_not_verify_what_is_gone(desk: Desk, stored: Stored, whole: bool) -> None:
    """It would make a hash of a time alone: known, without a row, and so flat."""
    delta = desk.fold(wallet(10, "990"))
    batch = desk.batch(desk.account.whole() if whole else delta, verified=True)
    await desk.writer.send(batch)
    await stored.redis.delete(stored.keys.positions)
    with pytest.raises(StoreDiverged, match="a state hash is gone"):
        await desk.writer.send(batch)
    assert not await stored.redis.exists(stored.keys.positions)


async def test_an_opening_whose_reply_was_lost_is_repeated_without_harm(
    any_redis_url: str, account_id: AccountId
) -> None:
    async with linked_url(any_redis_url) as proxy, connect(proxy.url, client_name="publisher") as client:
        desk = Desk(client, account_id)
        await client.redis.ping()
        lost: list[Fate] = ["lose reply"] * 3
        proxy.fate = lambda request: lost.pop() if b"EVAL" in request and lost else "pass"
        for _ in range(3):
            with pytest.raises(StoreUnreachable):
                await desk.open()
        assert await desk.open() is None
        await desk.commit([FULL])
        await Stored(client, account_id).expect(desk.account)


@pytest.mark.parametrize("seed", [1, 2])
async def test_whatever_is_lost_on_the_way_every_commit_is_written_once(
    any_redis_url: str, account_id: AccountId, seed: int
) -> None:
    chance = Random(seed)
    fates: list[Fate] = ["pass", "lose request", "cut request", "lose reply"]
    resent = 0
    async with (
        linked_url(any_redis_url) as proxy,
        connect(proxy.url, client_name="publisher") as client,
        connect(any_redis_url, client_name="observer") as observer,
    ):
        stored = Stored(observer, account_id)
        desk = Desk(client, account_id, lease_ttl_ms=60_000)
        await desk.open()
        await desk.commit([FULL])
        proxy.fate = lambda request: chance.choices(fates, weights=[6, 1, 1, 2])[0] if b"EVAL" in request else "pass"
        for step in range(1, 201):
            at = step * 10
            frames = [
                desk.fold(wallet(at + n, f"{step}.{n}"), event(at + n, "NEW", order_id=f"{step}-{n}"))
                for n in range(chance.randint(1, 3))
            ]
            batch = desk.batch(*frames, status={"state": "live"}, verified=step % 3 == 0)
            while True:
                try:
                    await desk.writer.send(batch)
                    break
                except StoreUnreachable:
                    resent += 1
        assert {"lose request", "cut request", "lose reply"} < set(proxy.fates)
        assert resent > 40
        await stored.expect(desk.account)
        await stored.expect_without_holes()
        events = await stored.events()
        assert len(events) == desk.writer.event_seq
        assert {entry["orderId"] for entry in events} == {
            key.order_id for key in desk.account.orders if "-" in key.order_id
        } - {"algo-7"}


async def test_a_commit_that_never_arrived_leaves_no_trace(any_redis_url: str, account_id: AccountId) -> None:
    async with linked_url(any_redis_url) as proxy, connect(proxy.url, client_name="publisher") as client:
        desk = Desk(client, account_id)
        await desk.open()
        await desk.commit([FULL])
        stored = Stored(client, account_id)
        before = await stored.everything()
        for fate in ("lose request", "cut request"):
            proxy.fate = lambda request, fate=fate: fate if b"EVAL" in request else "pass"
            batch = desk.batch(desk.fold(wallet(10, "990")))
            with pytest.raises(StoreUnreachable):
                await desk.writer.send(batch)
            proxy.fate = lambda request: "pass"
            assert await stored.everything() == before
            assert desk.writer.seq == 1


async def test_numbers_of_a_batch_whose_reply_was_lost_are_not_given_again_by_an_emptied_redis(
    own_redis: EmbeddedServer, account_id: AccountId
) -> None:
    async with linked_url(own_redis.url) as proxy, connect(proxy.url, client_name="publisher") as client:
        desk = Desk(client, account_id)
        await desk.open()
        await desk.commit([FULL])
        proxy.fate = lambda request: "lose reply" if b"EVAL" in request else "pass"
        with pytest.raises(StoreUnreachable):
            await desk.commit([wallet(10, "990")], [wallet(20, "980")])
        proxy.fate = lambda request: "pass"
        await client.redis.flushall()
        await desk.open("recovering", "the lease has run out")
        assert desk.writer.seq == 3  # readers may have seen it


# A Redis that lost something


@pytest.mark.parametrize("name", HASHES)
async def test_a_hash_that_is_gone_is_noticed_and_written_again(desk: Desk, stored: Stored, name: str) -> None:
    await stored.redis.delete(getattr(stored.keys, name))
    before = await stored.everything()
    lost = desk.batch(desk.fold(event(10, "NEW", order_id="9")))
    for batch in (lost, desk.batch(status={"state": "live"}, verified=True)):
        with pytest.raises(
            StoreDiverged, match=f"{desk.writer.account_id} is not as it was written: a state hash is gone"
        ):
            await desk.writer.send(batch)
        assert await stored.everything() == before
    await desk.open("recovering", "written again")
    await desk.writer.send(desk.batch(desk.account.whole((event(10, "NEW", order_id="9").event,))))
    await stored.expect(desk.account)
    await stored.expect_without_holes()


async def test_numbers_that_went_back_are_noticed(desk: Desk, stored: Stored) -> None:
    """A replica that had missed the last commits was promoted, or a backup restored."""
    await desk.commit([wallet(10, "990"), event(10, "NEW", order_id="9")])
    for fields in ({"seq": "1"}, {"seq": "2", "eventSeq": "0"}):
        await stored.redis.hset(stored.keys.status, mapping=fields)
        with pytest.raises(StoreDiverged, match="seq"):
            await desk.beat()
    await desk.open()
    assert (desk.writer.seq, desk.writer.event_seq) == (2, 1)  # and never go back


async def test_a_status_that_is_gone_is_noticed_and_no_number_goes_back(desk: Desk, stored: Stored) -> None:
    for _ in range(50):
        await desk.open()  # many in a millisecond: epochs run ahead of the clock
    await desk.commit([wallet(10, "990"), event(10, "NEW", order_id="9")])
    epoch = desk.writer.epoch
    await stored.redis.delete(stored.keys.status)
    with pytest.raises(StoreDiverged, match="status is gone"):
        await desk.commit([wallet(20, "980")])
    await desk.open("recovering", "status is gone")
    assert desk.writer.epoch > epoch
    assert (desk.writer.seq, desk.writer.event_seq) == (2, 1)
    await desk.commit_whole()
    await stored.expect(desk.account)
    await stored.expect_without_holes()


async def test_a_redis_that_was_emptied_is_written_again_and_no_number_goes_back(
    own_redis: EmbeddedServer, account_id: AccountId
) -> None:
    async with connect(own_redis.url, client_name="publisher") as client:
        desk, stored = Desk(client, account_id), Stored(client, account_id)
        await desk.open()
        await desk.commit([FULL], [event(10, "NEW", order_id="9")], [wallet(20, "990")], verified=True)
        epoch = desk.writer.epoch
        await client.redis.flushall()
        with pytest.raises(LeaseLost, match="the lease has run out"):
            await desk.commit([wallet(30, "980")])
        assert await client.redis.dbsize() == 0
        await desk.open("recovering", "the lease has run out")
        assert desk.writer.epoch > epoch
        assert (desk.writer.seq, desk.writer.event_seq, desk.writer.verified_at_ms) == (3, 1, 0)
        await desk.commit_whole()
        await desk.commit([event(40, "NEW", order_id="10")])
        await stored.expect(desk.account)
        assert [entry["seq"] for entry in await stored.changes()] == ["4", "5"]
        assert [entry["eventSeq"] for entry in await stored.events()] == ["2"]
        assert await client.redis.sismember(ACCOUNTS_KEY, str(account_id))


async def test_a_redis_that_forgot_the_scripts_is_given_them_again(desk: Desk, stored: Stored) -> None:
    await stored.redis.script_flush()
    await desk.commit([wallet(10, "990")])
    await stored.expect(desk.account)


async def test_a_restarted_redis_with_its_file_goes_on(
    redis_server_factory: type, any_server_binary: ServerBinary, account_id: AccountId, tmp_path: object
) -> None:
    server = redis_server_factory(any_server_binary, directory=tmp_path)
    async with connect(server.url, client_name="publisher") as client:
        desk, stored = Desk(client, account_id, lease_ttl_ms=60_000), Stored(client, account_id)
        await desk.open()
        await desk.commit([FULL], [wallet(10, "990")])
        server.stop()
        with pytest.raises(StoreUnreachable):
            await desk.commit([wallet(20, "980")])
        server.start()
        await desk.commit_whole()
        await stored.expect(desk.account)
        await stored.expect_without_holes()


# A Redis that refuses


@pytest.mark.parametrize(
    ("broken", "mended", "words"),
    [
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "READONLY|read.only"),
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "OOM|maxmemory"),
    ],
    ids=["read-only", "out of memory"],
)
async def test_a_server_that_refuses_writes_is_told_in_its_words_and_used_when_it_accepts_them(
    redis_server_factory: type,
    any_server_binary: ServerBinary,
    account_id: AccountId,
    broken: tuple[str, ...],
    mended: tuple[str, ...],
    words: str,
) -> None:
    server = redis_server_factory(any_server_binary)
    async with connect(server.url, client_name="publisher") as client:
        desk, stored = Desk(client, account_id, lease_ttl_ms=60_000), Stored(client, account_id)
        await desk.open()
        await desk.commit([FULL])
        before = await stored.everything()
        await client.redis.execute_command(*broken)
        batch = desk.batch(desk.fold(wallet(10, "990"), event(10, "NEW", order_id="9")))
        with pytest.raises(StoreRefused, match=words):
            await desk.writer.send(batch)
        assert await stored.everything() == before
        await client.redis.execute_command(*mended)
        await desk.writer.send(batch)
        await stored.expect(desk.account)
        await stored.expect_without_holes()
        await client.redis.execute_command(*broken)
        with pytest.raises(StoreRefused, match=words):
            await desk.open()
        await stored.expect(desk.account)
        await client.redis.execute_command(*mended)
        assert await desk.open() is None


# Leaving, and who is there


async def test_leaving_says_so_and_frees_the_lease(desk: Desk, client: Client, stored: Stored) -> None:
    before = await stored.hashes()
    assert await desk.writer.release("stopped", "the publisher was stopped") == 0
    status = await stored.status()
    assert (status["state"], status["reason"]) == ("stopped", "the publisher was stopped")
    assert await stored.hashes() == before
    assert not await stored.redis.exists(stored.keys.lease)
    assert await stored.redis.zrange(stored.keys.publishers, 0, -1) == []
    assert await Desk(client, desk.writer.account_id, "publisher-2").open() is None


async def test_leaving_after_another_took_over_says_nothing(desk: Desk, client: Client, stored: Stored) -> None:
    await stored.redis.delete(stored.keys.lease)
    second = Desk(client, desk.writer.account_id, "publisher-2")
    await second.open("live", "")
    assert await desk.writer.release("stopped", "") == 1
    assert (await stored.status())["state"] == "live"
    assert await stored.redis.get(stored.keys.lease) == "publisher-2"


async def test_leaving_under_an_older_epoch_of_the_same_publisher_says_nothing(
    desk: Desk, client: Client, stored: Stored
) -> None:
    again = Desk(client, desk.writer.account_id)
    await again.open("live", "")
    await desk.writer.release("stopped", "late")
    assert (await stored.status())["state"] == "live"


async def test_leaving_without_ever_having_held_the_lease_says_nothing(
    desk: Desk, client: Client, stored: Stored
) -> None:
    waiting = Desk(client, desk.writer.account_id, "publisher-2")
    await waiting.open()
    before = await stored.everything()
    assert await waiting.writer.release("stopped", "") == 1
    assert await stored.everything() == before
    assert await stored.redis.get(stored.keys.lease) == "publisher-1"


async def test_publishers_are_registered_while_they_show_themselves(desk: Desk, client: Client, stored: Stored) -> None:
    waiting = Desk(client, desk.writer.account_id, "publisher-2")
    assert await waiting.open() == "publisher-1"
    assert set(await stored.redis.zrange(stored.keys.publishers, 0, -1)) == {"publisher-1", "publisher-2"}
    long_ago = await redis_ms(stored) - 60_001
    await stored.redis.zadd(stored.keys.publishers, {"publisher-2": long_ago, "publisher-3": long_ago})
    assert await desk.writer.release("stopped", "") == 0
    await waiting.open()
    assert await stored.redis.zrange(stored.keys.publishers, 0, -1) == ["publisher-2"]


async def test_a_heartbeat_registers(desk: Desk, stored: Stored) -> None:
    await stored.redis.delete(stored.keys.publishers)
    await desk.beat()
    [(name, shown_ms)] = await stored.redis.zrange(stored.keys.publishers, 0, -1, withscores=True)
    assert (name, str(int(shown_ms))) == ("publisher-1", (await stored.status())["heartbeatAtMs"])


# The log's end


async def test_the_oldest_entry_says_until_when_the_log_was_trimmed(desk: Desk, stored: Stored) -> None:
    assert await desk.writer.trimmed_until_ms() == 0
    await desk.commit(*([event(n, "NEW", order_id=str(n))] for n in range(1, 8)))
    assert await desk.writer.trimmed_until_ms() == 0, "the first stands there"
    await stored.redis.xtrim(stored.keys.order_events, maxlen=3, approximate=False)
    assert await desk.writer.trimmed_until_ms() == NOW + 5
    await stored.redis.xtrim(stored.keys.order_events, maxlen=0, approximate=False)
    assert await desk.writer.trimmed_until_ms() == 0


async def test_the_events_of_a_time_are_found_over_several_pages(desk: Desk, stored: Stored) -> None:
    assert await desk.writer.youngest_events(60_000, page=3) == []
    await desk.commit(*([event(n, "NEW", order_id=str(n), event_id=f"e{n}")] for n in range(1, 8)))
    expected = [(f"e{n}", "BTCUSDT") for n in range(1, 8)]
    assert await desk.writer.youngest_events(60_000, page=3) == expected
    old = dict.fromkeys(EVENT_FIELDS, "") | {"eventId": "later", "symbol": "ETHUSDT"}
    future_ms = await redis_ms(stored) + 600_000
    await stored.redis.xadd(stored.keys.order_events, old, id=f"{future_ms}-0")
    later = ("later", "ETHUSDT")
    assert await desk.writer.youngest_events(-300_000, page=3) == [*expected[-2:], later], (
        "by the time of writing, whole pages"
    )
    assert await desk.writer.youngest_events(-300_000, least=5, page=3) == [*expected[-5:], later]
    assert await desk.writer.youngest_events(-300_000, least=100, page=3) == [*expected, later]


async def test_the_lease_is_renewed_while_a_long_log_is_read(desk: Desk, stored: Stored) -> None:
    await desk.commit(*([event(n, "NEW", order_id=str(n))] for n in range(1, 8)))
    await stored.redis.persist(stored.keys.lease)
    await desk.writer.youngest_events(60_000, page=3)
    assert await stored.redis.pttl(stored.keys.lease) == -1
    await desk.writer.youngest_events(60_000, page=3, renew=True)
    assert 0 < await stored.redis.pttl(stored.keys.lease) <= desk.writer.lease_ttl_ms
    await stored.redis.set(stored.keys.lease, "another")
    with pytest.raises(LeaseLost):
        await desk.writer.youngest_events(60_000, page=3, renew=True)


async def test_what_an_earlier_publisher_left_is_read_as_of_one_moment(desk: Desk, stored: Stored) -> None:
    await desk.commit([event(5, "NEW", order_id="9", event_id="e9")])
    status: dict[str, str | int] = {"eventsCompleteMs": NOW + 7}
    await desk.writer.send(desk.batch(status=status, verified=True))
    left = await desk.writer.read_previous()
    assert {order.key for order in left.orders} == set(desk.account.orders)
    assert {"9", "algo-7"} <= {order.order_id for order in left.orders}
    assert {order.key: order for order in left.orders} == desk.account.orders
    assert left.symbols == {"BTCUSDT", "ETHUSDT"}
    assert (left.events_complete_ms, left.last_event_ms) == (NOW + 7, NOW + 5)
    assert left.now_ms >= left.verified_at_ms > 0


async def test_a_row_that_makes_no_sense_is_named_and_hides_no_other(desk: Desk, stored: Stored) -> None:
    await stored.redis.hset(stored.keys.orders, mapping={"777.orderId": "777", "778.status": "NEW"})
    left = await desk.writer.read_previous()
    assert left.unreadable == ("777", "778")
    assert {order.key for order in left.orders} == set(desk.account.orders)


async def test_a_publisher_that_starts_over_a_hash_of_before_leaves_no_name_without_a_symbol(
    desk: Desk, client: Client, account_id: AccountId, stored: Stored
) -> None:
    """Orders once stood there by their ids alone."""
    hashed = await stored.redis.hgetall(stored.keys.orders)
    old = {name.removeprefix("BTCUSDT:"): value for name, value in hashed.items()} | {"777.status": "NEW"}
    await stored.redis.delete(stored.keys.orders)
    await stored.redis.hset(stored.keys.orders, mapping=old)
    await desk.writer.release("stopped", "")
    started = Desk(client, account_id, "publisher-2")
    await started.open()
    left = await started.writer.read_previous()
    assert {order.key: order for order in left.orders} == desk.account.orders, "their fields say whose they are"
    assert left.unreadable == ("777",)
    await started.commit([snapshot(orders=[rest_order(-9)])])
    names = {name.rpartition(".")[0] for name in await stored.redis.hgetall(stored.keys.orders) if name[0] != "_"}
    assert names == {"BTCUSDT:1001"}


async def test_nothing_remains_of_an_account_that_was_never_written(client: Client, account_id: AccountId) -> None:
    left = await AccountWriter(client, account_id, "publisher-1").read_previous()
    assert (left.orders, left.symbols, left.events_complete_ms, left.last_event_ms) == ((), frozenset(), 0, 0)


async def test_an_unreachable_redis_is_told_by_every_call(account_id: AccountId, own_redis: EmbeddedServer) -> None:
    async with connect(own_redis.url, client_name="publisher") as client:
        writer = AccountWriter(client, account_id, "publisher-1")
        desk = Desk(client, account_id)
        await desk.open()
        own_redis.kill()
        calls = (
            writer.open("starting", ""),
            writer.release("stopped", ""),
            writer.read_holder(),
            writer.youngest_events(1),
            writer.read_previous(),
            desk.commit([FULL]),
        )
        for call in calls:
            with pytest.raises(StoreUnreachable):
                await call


async def test_a_log_that_is_gone_is_noticed_and_begins_anew(desk: Desk, stored: Stored) -> None:
    await desk.commit([event(10, "NEW", order_id="9")])
    await stored.redis.delete(stored.keys.order_events)
    with pytest.raises(StoreDiverged, match="the log of order events is gone"):
        await desk.beat()
    await desk.open()
    assert await stored.redis.xlen(stored.keys.order_events) == 0
    await desk.commit_whole()
    await desk.commit([event(20, "NEW", order_id="10")])
    assert [entry["eventSeq"] for entry in await stored.events()] == ["2"]


async def test_who_looks_at_the_lease_learns_when_it_runs_out(desk: Desk, client: Client, stored: Stored) -> None:
    looking = Desk(client, desk.writer.account_id, "publisher-2").writer
    by_opening = await looking.open("starting", "")
    by_reading = await looking.read_holder()
    for holder in (by_opening, by_reading):
        assert holder is not None
        assert holder.publisher_id == "publisher-1"
        assert 0 < holder.left_ms <= desk.writer.lease_ttl_ms
    await stored.redis.persist(stored.keys.lease)
    without_end = await looking.read_holder()
    assert without_end is not None
    assert without_end.left_ms < 0
    await stored.redis.delete(stored.keys.lease)
    assert await looking.read_holder() is None
