"""Who may write an account: one takes it, others stand by, and whoever takes over finds out what is missing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs
from support.changes import NOW
from support.committers import BRISK, Place, asleep, at, numbers
from support.written import eventually

from publisher.lease import LOOK_AGAIN_S, LOOK_S
from statecast.clock import SystemClock
from statecast.embedded.server import EmbeddedServer
from statecast.store.writer import Holder


@pytest.fixture
async def place(redis_url: str, account_name: str) -> AsyncIterator[Place]:
    async with at(redis_url, account_name) as here:
        yield here


async def test_what_an_earlier_publisher_left_is_known_and_not_forgotten(place: Place) -> None:
    first = await place.live()
    first.orders([1])
    first.status.log_complete_until(1_793_000_000_007)
    await place.shows(eventsCompleteMs="1793000000007")
    await first.stop()
    second = place.publisher("second")
    second.keep_acquired()
    await second.writes()
    assert second.acquired[0].previous.events_complete_ms == 1_793_000_000_007
    assert [order.order_id for order in second.acquired[0].previous.orders] == ["1"]
    await place.shows(publisherId="second", state="starting", eventsCompleteMs="1793000000007")
    await place.beats(1)
    assert (await place.stored.status())["eventsCompleteMs"] == "1793000000007"
    assert await second.committer.events_of_last(60_000) == await second.writer.youngest_events(60_000) != []


async def test_the_lease_is_renewed_before_anything_is_written_while_the_log_is_compared(place: Place) -> None:
    """A log of some hundred thousand entries takes longer to read than a lease lasts."""
    publisher = await place.live()
    commits, has_status = publisher.writer.batches[0].arguments[5], len(publisher.writer.batches[0].arguments) > 11
    assert (commits, has_status) == (0, False)


async def test_the_second_waits_and_takes_over_when_the_first_is_stopped(place: Place) -> None:
    first = await place.live()
    with capture_logs() as logs:
        second = place.publisher("second")

        async def told() -> bool:
            return any((line["event"], line.get("holder")) == ("standby", "first") for line in logs)

        await eventually(told)
    assert not second.lease.acquired.is_set()
    first.orders(range(1, 11))
    await first.stop()
    await second.writes()
    second.go_live()
    second.orders(range(5, 21))  # told again by the venue, to the second publisher
    assert await place.events(20) == numbers(range(1, 21))
    status = await place.shows(publisherId="second", state="live")
    assert status["eventSeq"] == "20"
    await place.stored.expect_without_holes()
    await place.stored.expect(second.account)


async def test_the_second_takes_over_when_the_lease_of_a_dead_first_runs_out(place: Place) -> None:
    first = await place.live()
    first.orders(range(1, 4))
    await place.events(3)
    second = place.publisher("second")
    await first.crash()
    await second.writes()
    second.go_live()
    second.orders(range(2, 6))
    assert await place.events(5) == numbers(range(1, 6))
    status = await place.shows(publisherId="second")
    assert (status["eventSeq"], status["state"]) == ("5", "live")
    await place.stored.expect_without_holes()


async def test_events_that_another_wrote_meanwhile_are_not_doubled_however_many_they_are(place: Place) -> None:
    first = await place.live(tuning=replace(BRISK, log_margin=5, written_late_ms=0))
    first.orders(range(1, 4))
    await place.events(3)
    second = await asleep(place, first)
    for publisher in (first, second):
        publisher.orders(range(4, 304))  # the venue tells both
    await place.events(303)
    first.writer.awake.set()
    first.orders([304])  # and this only the first
    await second.stop()
    await place.shows(publisherId="first", state="live")
    assert await place.events(304) == numbers(range(1, 305))
    await place.shows(eventSeq="304")
    await place.stored.expect_without_holes()


async def test_events_that_there_was_no_room_for_are_left_to_the_histories_and_the_log_says_so(place: Place) -> None:
    tuning = replace(BRISK, queued_deltas=10, recorded_events=10, unlogged_events=20, events_at_once=2)
    first = await place.live(tuning=tuning)
    first.record.begin(5)
    first.keep_acquired()
    first.orders([1])
    await place.shows(eventSeq="1")
    first.status.log_complete_until(7)
    await place.shows(eventsCompleteMs="7")
    first.writer.awake.clear()
    first.orders(range(2, 102))
    first.writer.awake.set()

    async def told() -> bool:
        return bool(first.acquired)

    await eventually(told)
    assert (first.acquired[0].gap, first.acquired[0].complete_ms) == (True, 7), "until then the log is complete"
    lost, *missing = first.acquired[0].missing
    assert (lost.event_id, lost.order.venue_time_ms) == (f"GAP:{NOW + 2}:OVERFLOW", NOW + 93)
    assert [event.order.order_id for event in missing] == numbers(range(94, 102))
    assert int((await place.stored.status())["eventSeq"]) >= 1


async def test_the_tail_that_redis_lost_is_written_again_with_its_numbers(
    own_redis: EmbeddedServer, account_name: str
) -> None:
    async with at(own_redis.url, account_name) as place:
        first = await place.live()
        first.record.begin(1)
        first.orders(range(1, 8))
        first.status.log_complete_until(7)
        await place.shows(eventsCompleteMs="7", eventSeq="7")
        before = await place.stored.events()
        for entry_id, _ in (await place.client.redis.xrevrange(place.keys.order_events, count=3))[::-1]:
            await place.client.redis.xdel(place.keys.order_events, entry_id)
        await place.client.redis.hset(place.keys.status, mapping={"eventSeq": "4", "seq": "5"})
        first.orders([8])
        await place.events(8)
        entries = await place.stored.events()
        assert [entry["eventSeq"] for entry in entries] == numbers(range(1, 9))
        assert [entry["eventId"] for entry in entries[:7]] == [entry["eventId"] for entry in before]
        assert int(entries[6]["epoch"]) > int(before[6]["epoch"])
        await place.stored.expect_without_holes()


async def test_a_standby_writes_what_the_dead_writer_had_not(place: Place) -> None:
    first = await place.live()
    second = place.publisher("second")
    second.record.begin(1)
    await second.stands_by()
    second.go_live()
    for publisher in (first, second):
        publisher.orders(range(1, 6))
    await place.events(5)
    first.writer.awake.clear()
    for publisher in (first, second):
        publisher.orders(range(6, 11))
    await first.crash()
    assert await place.events(10) == numbers(range(1, 11))
    status = await place.shows(publisherId="second", state="live", eventSeq="10")
    assert int(status["epoch"]) == second.writer.epoch
    await place.stored.expect_without_holes()
    await place.stored.expect(second.account)


async def test_a_standby_leaves_a_wiped_account_to_its_writer(place: Place) -> None:
    """Who has written remembers what Redis had before the other began to listen."""
    first = await place.live()
    first.orders(range(1, 11))
    await place.events(10)
    second = place.publisher("second")
    second.record.begin(1)
    await second.stands_by()
    second.go_live()
    for _ in range(3):
        await asyncio.sleep(0.13)
        await place.client.redis.delete(*[key async for key in place.client.redis.scan_iter(f"*{place.account_id}*")])
        assert await place.events(10) == numbers(range(1, 11))
        await place.shows(publisherId="first", state="live", eventSeq="10")


async def test_a_standby_takes_a_wiped_account_whose_writer_is_gone(place: Place) -> None:
    first = await place.live()
    second = place.publisher("second")
    second.record.begin(1)
    await second.stands_by()
    second.go_live()
    second.orders([1])
    await first.crash()
    await place.client.redis.delete(*[key async for key in place.client.redis.scan_iter(f"*{place.account_id}*")])
    assert await place.events(1) == ["1"]
    await place.shows(publisherId="second", state="live")


async def test_a_standby_that_did_not_run_takes_no_lease_before_it_has_read_what_came(place: Place) -> None:
    first = await place.live()
    second = place.publisher("second", tuning=replace(BRISK, catch_up_s=0.6))
    behind: list[bool] = []
    second.committer.bind(lambda reason: None, lambda acquired: behind.append(second.lease.stalls.has_stalled()))
    await second.stands_by()
    await first.crash()
    time.sleep(2.5)  # noqa: ASYNC251 - the lease runs out, and the whole process stands still
    await second.writes()
    assert behind == [False]


async def test_a_standby_owes_readers_the_whole_log_that_others_began(place: Place) -> None:
    """Redis loses everything together with the writer; what that one had written, the histories must tell."""
    first = await place.live()
    first.record.begin(5)
    first.status.log_begins(first.record.began_ms)
    first.orders(range(1, 6))
    await place.shows(eventsSinceMs="5", eventSeq="5")
    second = place.publisher("second")
    second.keep_acquired()
    second.record.begin(100)
    await second.stands_by()
    second.go_live()

    async def learnt() -> bool:
        return second.record.began_ms == 5

    await eventually(learnt)
    await first.crash()
    await place.client.redis.delete(*[key async for key in place.client.redis.scan_iter(f"*{place.account_id}*")])
    await second.writes()
    assert (second.acquired[0].gap, second.acquired[0].complete_ms) == (True, 5)
    assert second.writer.event_seq == 5, "what the histories tell again has new numbers"


async def test_the_beginning_of_a_log_is_known_after_a_restart(place: Place) -> None:
    first = await place.live()
    first.record.begin(7)
    first.status.log_begins(first.record.began_ms)
    await place.shows(eventsSinceMs="7")
    await first.stop()
    second = await place.live("second")
    assert second.status.events_since_ms == 7
    second.record.begin(50)
    second.status.log_begins(second.record.began_ms)
    await place.beats(2)
    assert (await place.stored.status())["eventsSinceMs"] == "7", "and is not forgotten"


async def test_a_log_that_a_former_standby_begins_says_since_when(place: Place) -> None:
    first = place.publisher("first")
    await first.writes()  # and dies before it has written anything
    second = place.publisher("second")
    second.record.begin(100)
    await second.stands_by()
    second.go_live()
    await first.crash()
    await place.shows(publisherId="second", eventsSinceMs="100")


async def test_a_standby_takes_over_as_soon_as_the_lease_of_a_killed_writer_runs_out(place: Place) -> None:
    first = await place.live()
    second = place.publisher("second")
    await second.stands_by()
    await asyncio.sleep(0.3)  # it has looked, and sleeps
    await first.crash()
    left_s = await place.client.redis.pttl(place.keys.lease) / 1000
    began = time.monotonic()
    await second.writes()
    took_s = time.monotonic() - began
    assert left_s - 0.01 <= took_s <= left_s + LOOK_S, "and no sooner"


async def test_a_standby_takes_over_soon_after_an_orderly_stop(place: Place) -> None:
    first = await place.live()
    second = place.publisher("second")
    await second.stands_by()
    await asyncio.sleep(0.3)
    await first.stop()
    began = time.monotonic()
    await second.writes()
    assert time.monotonic() - began <= 2 * LOOK_S


async def test_a_standby_looks_seldom_and_registers_every_second(place: Place) -> None:
    await place.live()
    second = place.publisher("second")
    await second.stands_by()
    asked, seconds = len(second.writer.looks), 2.0
    registered = await place.client.redis.zscore(place.keys.publishers, "second")
    await asyncio.sleep(seconds)
    assert len(second.writer.looks) - asked <= seconds / LOOK_S + 1
    shown = await place.client.redis.zscore(place.keys.publishers, "second")
    assert shown is not None
    assert registered is not None
    assert shown - registered >= 900


@pytest.mark.parametrize(
    ("left_ms", "sleeps_s"),
    [(60, 0.06), (2_400, LOOK_S), (0, LOOK_AGAIN_S), (1, LOOK_AGAIN_S), (-1, LOOK_S)],
    ids=["until it runs out", "no longer than a look", "for a moment", "for a moment again", "where it has no end"],
)
async def test_a_standby_sleeps_until_the_lease_runs_out(place: Place, left_ms: int, sleeps_s: float) -> None:
    publisher = place.publisher()
    now = SystemClock().monotonic()
    assert publisher.lease._runs_out_mono_s(Holder("other", left_ms)) - now == pytest.approx(sleeps_s, abs=0.005)
