"""Deltas into a real Redis: in order and once, whoever else writes, whatever Redis loses, however long it is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from support.changes import NOW, event, fill, position, wallet
from support.committers import BRISK, Place, asleep, at, numbers
from support.link import Fate, linked_url
from support.written import eventually

from statecast.clock import SystemClock
from statecast.embedded.server import EmbeddedServer
from statecast.store.client import connect
from statecast.store.keys import STATUS_FIELDS


@pytest.fixture
async def place(redis_url: str, account_name: str) -> AsyncIterator[Place]:
    async with at(redis_url, account_name) as here:
        yield here


async def test_a_burst_is_written_in_few_batches_and_in_order(place: Place) -> None:
    first = await place.live()
    before = len(first.writer.batches)
    first.orders(range(1, 401))
    assert await place.events(400) == numbers(range(1, 401))
    with_commits = [batch for batch in first.writer.batches[before:] if batch.arguments[5] != 0]
    assert len(with_commits) <= 400 // BRISK.commits_in_batch + 2
    await place.stored.expect(first.account)
    await place.stored.expect_without_holes()


async def test_a_backlog_is_written_in_batches_that_do_not_outlast_the_lease(place: Place) -> None:
    first = await place.live(tuning=replace(BRISK, events_in_commit=10))
    before = len(first.writer.batches)
    first.take(*(event(n, "NEW", order_id=str(n)) for n in range(1, 101)))
    await place.events(100)
    sizes = [int(batch.arguments[6]) for batch in first.writer.batches[before:]]
    assert sum(sizes) == 100
    assert max(sizes) == 10
    await place.stored.expect_without_holes()


async def test_a_batch_that_leaves_something_in_the_queue_verifies_nothing(place: Place) -> None:
    first = await place.live(tuning=replace(BRISK, events_in_commit=10, heartbeat_s=0.01))
    await place.verified_after(0)
    before = len(first.writer.batches)
    first.take(*(event(n, "NEW", order_id=str(n)) for n in range(1, 1001)))
    await place.events(1000)
    written, rests = 0, 0
    for batch in first.writer.batches[before:]:
        written += int(batch.arguments[6])
        if 0 < written < 1000:
            rests += 1
            assert not batch.verified
    assert rests > 5


async def test_a_single_event_waits_for_no_heartbeat(place: Place) -> None:
    first = await place.live(tuning=replace(BRISK, heartbeat_s=0.4))
    await place.beats(1)
    last = (await place.stored.status())["heartbeatAtMs"]
    first.orders([1])
    await place.events(1)
    assert (await place.stored.status())["heartbeatAtMs"] == last


async def test_the_status_is_complete(place: Place) -> None:
    first = await place.live()
    first.status.stream_connected(1_793_000_000_001)
    first.status.reconciled(1_793_000_000_002)
    first.take(fill(10, "0.050"))
    await place.events(1)
    status = await place.shows(streamSinceMs="1793000000001")
    assert sorted(status) == sorted(STATUS_FIELDS)
    assert (status["seq"], status["eventSeq"], status["contract"]) == ("2", "1", "1")
    assert status["reason"] == "stream connected, snapshot reconciled"
    assert status["reconciledAtMs"] == "1793000000002"


async def test_readers_learn_of_complete_events_when_they_are_written(place: Place) -> None:
    first = await place.live()
    first.orders(range(1, 1000))  # several batches
    first.status.log_complete_until(1_793_000_000_007)
    first.status.move("degrade", "so that a status goes out with the first of them")

    async def told() -> bool:
        first.status.log_complete_until(1_793_000_000_007)  # again, should the lease have been lost by slowness
        status = await place.stored.status()
        complete = status["eventsCompleteMs"] == "1793000000007"
        assert not complete or status["eventSeq"] == "999"
        return complete

    await eventually(told)


async def test_before_a_snapshot_it_says_starting_once_a_heartbeat_and_no_state(place: Place) -> None:
    first = place.publisher()
    await first.writes()
    await place.beats(3)
    sent = len(first.writer.batches)
    await place.beats(3)
    assert len(first.writer.batches) - sent <= 5, "Redis is not asked again and again meanwhile"
    status = await place.stored.status()
    assert status["state"] == "starting"
    assert "verifiedAtMs" not in status
    assert not any((await place.stored.hashes()).values())


async def test_verified_stands_still_beyond_the_time_that_the_comparison_with_the_venue_is_good_for(
    place: Place,
) -> None:
    first = await place.live()
    await place.verified_after(0)
    first.status.stop_verifying()
    await place.beats(2)
    verified = (await place.stored.status())["verifiedAtMs"]
    await place.beats(4)
    status = await place.stored.status()
    assert (status["verifiedAtMs"], status["state"]) == (verified, "live")
    first.status.verify_until(SystemClock().monotonic() + 100.0)
    await place.verified_after(int(verified))


async def test_a_state_hash_deleted_by_hand_is_back_within_a_heartbeat(place: Place) -> None:
    first = await place.live()
    first.take(wallet(10, "900"), position(10, "0.5"))
    first.orders([1, 2])
    await place.events(2)
    before = await place.stored.status()
    for key in (place.keys.positions, place.keys.account):
        await place.client.redis.delete(key)

        async def back(key: str = key) -> bool:
            return bool(await place.client.redis.exists(key))

        await eventually(back)
    await place.shows(state="live")
    await place.stored.expect(first.account)
    after = await place.stored.status()
    assert int(after["seq"]) > int(before["seq"])
    assert await place.events(2) == ["1", "2"]


async def test_a_lost_reply_and_a_lost_request_write_nothing_twice(redis_url: str, account_name: str) -> None:
    async with at(redis_url, account_name) as place, linked_url(redis_url) as proxy:  # noqa: SIM117 - reads as it nests
        async with connect(proxy.url, client_name="proxied") as client:
            first = await place.live("first", client)
            fates = iter(["lose reply", "lose request", "cut request", "lose reply"])
            proxy.fate = lambda request: next(fates, "pass") if b"EVALSHA" in request else "pass"  # type: ignore[arg-type, return-value]
            for number in range(1, 40):
                first.orders([number])
                await asyncio.sleep(0)
            assert await place.events(39) == numbers(range(1, 40))
            await place.shows(eventSeq="39")
            await place.stored.expect_without_holes()
            await place.stored.expect(first.account)
            await first.crash()


async def test_an_orderly_stop_writes_what_is_queued_and_says_stopped(place: Place) -> None:
    first = await place.live()
    first.orders(range(1, 301))
    await first.stop()
    status = await place.stored.status()
    assert (status["state"], status["reason"]) == ("stopped", "the publisher was stopped")
    assert await place.events(300) == numbers(range(1, 301))
    assert not await place.client.redis.exists(place.keys.lease)
    await place.stored.expect(first.account)


async def test_a_first_that_wakes_after_losing_the_lease_writes_nothing_until_it_holds_it_again(place: Place) -> None:
    first = await place.live()
    first.orders(range(1, 4))
    await place.events(3)
    second = await asleep(place, first)
    first.take(wallet(50, "1"))  # what the second knows nothing of
    first.orders([4])
    with capture_logs() as logs:
        sent = len(first.writer.batches)
        first.writer.awake.set()

        async def fenced() -> bool:
            return any((line["event"], line.get("holder")) == ("standby", "second") for line in logs)

        await eventually(fenced)
        await place.beats(3)
    assert len(first.writer.batches) == sent + 1, "it tried once"
    status = await place.stored.status()
    assert (status["publisherId"], status["epoch"]) == ("second", str(second.writer.epoch))
    assert (status["seq"], status["eventSeq"]) == (str(second.writer.seq), "3")
    await place.stored.expect(second.account)

    await second.stop()
    status = await place.shows(publisherId="first", state="live")
    assert int(status["epoch"]) > second.writer.epoch
    assert await place.events(4) == numbers(range(1, 5))
    await place.shows(seq=str(first.writer.seq))
    await place.stored.expect_without_holes()
    hashes = await place.stored.hashes()
    assert {fields["_epoch"] for fields in hashes.values()} == {str(first.writer.epoch)}
    await place.stored.expect(first.account)


async def test_a_redis_that_comes_back_empty_gets_everything_again_and_no_number_goes_back(
    own_redis: EmbeddedServer, account_name: str
) -> None:
    async with at(own_redis.url, account_name) as place:
        first = await place.live()
        first.take(wallet(10, "900"), position(10, "0.5"))
        first.orders(range(1, 11))
        await place.events(10)
        before = await place.shows(eventSeq="10")
        own_redis.kill()
        first.orders(range(11, 21))  # these happen while it is away
        first.take(fill(40, "0.050", order_id="11"))
        own_redis.start()
        status = await place.shows(state="live", eventSeq="21")
        assert await place.events(21) == [*numbers(range(1, 21)), "11"]
        assert [entry["eventSeq"] for entry in await place.stored.events()] == numbers(range(1, 22))
        assert int(status["seq"]) > int(before["seq"])
        assert int(status["epoch"]) > int(before["epoch"])
        await place.verified_after(int(before["verifiedAtMs"]))
        await place.stored.expect(first.account)


async def test_a_redis_that_was_away_and_kept_its_data_gets_each_event_once(redis_url: str, account_name: str) -> None:
    async with at(redis_url, account_name) as place, linked_url(redis_url) as proxy:  # noqa: SIM117 - reads as it nests
        async with connect(proxy.url, client_name="proxied", timeout_s=0.5) as client:
            first = await place.live("first", client)
            first.orders(range(1, 6))
            await place.events(5)
            proxy.fate = lambda request: "lose request"

            async def lease_gone() -> bool:
                return not await place.client.redis.exists(place.keys.lease)

            for number in range(6, 16):
                first.orders([number])
                await asyncio.sleep(0)
            await eventually(lease_gone)
            proxy.fate = lambda request: "pass"
            assert await place.events(15) == numbers(range(1, 16))
            await place.shows(eventSeq="15", state="live")
            # The batch whose outcome was unknown has taken numbers of commits with it: readers may have seen them.
            await place.stored.expect_without_holes(of_commits=False)
            await place.stored.expect(first.account)
            await first.crash()


async def test_beyond_the_limit_only_order_events_are_kept_and_the_state_is_written_whole(place: Place) -> None:
    first = await place.live(tuning=replace(BRISK, queued_deltas=50))
    first.writer.awake.clear()
    first.orders([1])
    for number in range(100):
        first.take(wallet(100 + number, str(500 + number)))
    first.orders(range(2, 103))
    for number in range(100, 200):
        first.take(wallet(100 + number, str(500 + number)))
    first.writer.awake.set()
    assert await place.events(102) == numbers(range(1, 103))
    await place.shows(seq=str(first.writer.seq), eventSeq="102")
    assert int((await place.stored.status())["seq"]) < 200, "two hundred wallets are one commit"
    await place.stored.expect(first.account)
    await place.stored.expect_without_holes()


async def test_a_flood_beyond_queue_and_record_loses_no_event_and_no_lease(place: Place) -> None:
    first = await place.live(tuning=replace(BRISK, queued_deltas=20, recorded_events=10, events_in_commit=50))
    epoch = (await place.stored.status())["epoch"]
    first.writer.awake.clear()
    first.take(wallet(50, "500"))
    first.orders(range(1, 1001))
    first.take(wallet(60, "600"))
    first.writer.awake.set()
    assert await place.events(1000) == numbers(range(1, 1001))
    status = await place.shows(eventSeq="1000", seq=str(first.writer.seq))
    assert (status["epoch"], status["state"]) == (epoch, "live")
    await place.stored.expect(first.account)
    await place.stored.expect_without_holes()
    await place.verified_after(int(status["verifiedAtMs"]))
    first.orders([1001])
    await place.events(1001)
    assert len(first.record) == 10, "what is written may be forgotten"


async def test_events_that_there_is_no_room_for_are_an_entry_of_the_log_and_a_line(place: Place) -> None:
    tuning = replace(BRISK, recorded_events=10, unlogged_events=20, events_at_once=2)
    first = await place.live(tuning=tuning)
    first.writer.awake.clear()
    with capture_logs() as logs:
        first.orders(range(1, 31))
    (line,) = (line for line in logs if line["event"] == "order_events_lost")
    assert line["gap"] == f"GAP:{NOW + 1}:OVERFLOW"
    assert line["reason"] == "more than 22 order events waited for Redis"
    first.writer.awake.set()
    await place.events(8)
    entries = await place.stored.events()
    assert [entry["eventId"] for entry in entries if entry["eventType"] == "GAP"] == [line["gap"]]
    assert [entry["orderId"] for entry in entries] == ["", *numbers(range(24, 31))]
    assert entries[0]["venueTimeMs"] == str(NOW + 23)
    await place.stored.expect_without_holes(of_commits=False)
    await place.shows(state="live", seq=str(first.writer.seq))
    await place.stored.expect(first.account)


async def test_a_stop_writes_events_that_wait_for_the_state_to_be_written_whole(place: Place) -> None:
    """The queue has overflowed: the rows are gone, the events are not."""
    first = await place.live(tuning=replace(BRISK, queued_deltas=20))
    first.writer.awake.clear()
    first.orders(range(1, 101))
    first.writer.awake.set()
    await first.stop()
    assert await place.events(100) == numbers(range(1, 101))
    assert (await place.stored.status())["state"] == "stopped"


async def test_what_a_stop_without_the_lease_cannot_write_is_an_entry_of_the_log(place: Place) -> None:
    """To decide what of very many events may be logged took longer than the lease lasts."""
    first = await place.live()
    first.orders([1])
    await place.events(1)
    first.writer.awake.clear()
    first.orders(range(2, 101))
    await asyncio.sleep(0)
    await place.stored.redis.delete(place.stored.keys.lease)
    first.writer.awake.set()
    await first.stop()
    *written, gap = await place.stored.events()
    assert [entry["orderId"] for entry in written] == ["1"]
    assert (gap["eventId"], gap["venueTimeMs"], gap["eventSeq"]) == (f"GAP:{NOW + 2}:OVERFLOW", str(NOW + 100), "2")
    assert (await place.stored.status())["state"] == "stopped"


async def test_what_a_stop_has_no_time_for_is_an_entry_of_the_log(place: Place) -> None:
    first = await place.live(tuning=replace(BRISK, events_in_commit=10))
    first.status.log_complete_until(7)
    await place.shows(eventsCompleteMs="7")
    first.writer.awake.clear()
    first.orders(range(1, 101))
    first.status.log_complete_until(9)
    await asyncio.sleep(0)
    first.writer.awake.set()
    with capture_logs() as logs:
        await first.stop(within_s=-1.0)
    entries = await place.stored.events()
    *written, gap = entries
    assert [entry["orderId"] for entry in written] == numbers(range(1, len(written) + 1))
    assert len(written) < 100
    assert (gap["eventId"], gap["venueTimeMs"]) == (f"GAP:{NOW + len(written) + 1}:OVERFLOW", str(NOW + 100))
    assert [line["gap"] for line in logs if line["event"] == "order_events_lost"] == [gap["eventId"]]
    status = await place.stored.status()
    assert (status["state"], status["eventsCompleteMs"]) == ("stopped", "7"), "the next publisher asks from there"


async def test_a_process_that_did_not_run_verifies_nothing_until_it_has_read_what_came(place: Place) -> None:
    first = await place.live(tuning=replace(BRISK, catch_up_s=0.3))
    await place.verified_after(0)
    sent = len(first.writer.batches)
    time.sleep(0.8)  # noqa: ASYNC251 - the whole process stands still

    async def caught_up() -> bool:
        return any(batch.verified for batch in first.writer.batches[sent:])

    await eventually(caught_up)
    assert not first.writer.batches[sent].verified


async def test_a_batch_that_comes_late_verifies_nothing(redis_url: str, account_name: str) -> None:
    async with at(redis_url, account_name) as place, linked_url(redis_url) as proxy:  # noqa: SIM117 - reads as it nests
        async with connect(proxy.url, client_name="proxied", timeout_s=0.3) as client:
            first = await place.live("first", client)
            await place.verified_after(0)
            lost = asyncio.Event()

            def fate(request: bytes) -> Fate:
                if b"EVALSHA" in request and not lost.is_set():
                    lost.set()
                    return "lose request"
                return "pass"

            proxy.fate = fate
            await lost.wait()
            verified = (await place.stored.status())["verifiedAtMs"]
            first.status.move("degrade", "stream lost")
            await place.shows(state="recovering")
            assert (await place.stored.status())["verifiedAtMs"] == verified
            await first.crash()


async def test_a_state_that_is_not_live_does_not_replace_what_another_has_verified(place: Place) -> None:
    first = await place.live()
    second = place.publisher("second")
    await second.stands_by()
    second.go_live()
    second.status.move("degrade", "stream lost")
    first.take(wallet(10, "990"))
    await place.verified_after(int((await place.stored.status())["verifiedAtMs"]))
    await first.crash()
    await place.shows(publisherId="second", state="recovering")
    await place.beats(2)
    assert (await place.stored.hashes())["balances"]["USDT.walletBalance"] == "990"
    second.take(wallet(10, "990"))
    second.status.move("reconciled", "stream connected, snapshot reconciled")
    await place.shows(state="live")
    await place.stored.expect(second.account)


async def test_verified_moves_on_while_live_and_stands_still_otherwise(place: Place) -> None:
    first = await place.live()
    status = await place.verified_after(0)
    await place.verified_after(int(status["verifiedAtMs"]))
    first.status.move("degrade", "stream lost")
    doubted = await place.shows(state="recovering", reason="stream lost")
    await place.beats(4)
    assert (await place.stored.status())["verifiedAtMs"] == doubted["verifiedAtMs"]
    hashes = await place.stored.hashes()
    assert {fields["_verifiedAtMs"] for fields in hashes.values()} == {doubted["verifiedAtMs"]}
    first.status.move("reconciled", "back")
    await place.verified_after(int(doubted["verifiedAtMs"]))


async def test_capacity_is_waited_for_until_a_batch_is_written_or_the_lease_is_lost(place: Place) -> None:
    first = await place.live(tuning=replace(BRISK, unwritten_events=5))
    await first.committer.wait_for_capacity()
    first.writer.awake.clear()
    first.orders(range(1, 11))
    waiting = asyncio.create_task(first.committer.wait_for_capacity())
    await asyncio.sleep(0.2)
    assert not waiting.done()
    first.writer.awake.set()
    async with asyncio.timeout(5):
        await waiting
    assert first.record.unwritten <= 5
    await asleep(place, first)
    first.orders(range(11, 21))
    waiting = asyncio.create_task(first.committer.wait_for_capacity())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    first.writer.awake.set()
    async with asyncio.timeout(5):
        await waiting
    assert first.record.unwritten > 5, "it is no writer any more"
