"""Deltas into a real Redis: in order and once, whoever else writes, whatever Redis loses, however long it is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
from structlog.testing import capture_logs
from support.changes import event, fill, new_account, position, snapshot, wallet
from support.proxy import Fate, proxied
from support.written import Stored, eventually

from publisher import committer as committing
from publisher.committer import Committer, LeaseAcquired
from publisher.logs import account_log
from publisher.record import EventRecord
from statecast.clock import SystemClock
from statecast.domain.changes import Change, Snapshot
from statecast.embedded.server import EmbeddedServer
from statecast.errors import StoreError
from statecast.store import writer as writing
from statecast.store.client import Client, connect
from statecast.store.keys import STATUS_FIELDS, AccountId, AccountKeys
from statecast.store.writer import AccountWriter, Batch

LEASE_MS = 1_000


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A heartbeat every 0.1 s and a lease of a second, so that nothing has to be waited for long."""
    monkeypatch.setattr(committing, "HEARTBEAT_S", 0.1)


class NotingWriter(AccountWriter):
    """Notes the batches that it sends, and can be put to sleep before the next one."""

    def __init__(self, client: Client, account_id: AccountId, name: str) -> None:
        super().__init__(client, account_id, name, lease_ttl_ms=LEASE_MS)
        self.batches: list[Batch] = []
        self.awake = asyncio.Event()
        self.awake.set()

    async def send(self, batch: Batch) -> None:
        await self.awake.wait()
        self.batches.append(batch)
        await super().send(batch)


class Publisher:
    """A committer at work, fed by hand as a follower would feed it."""

    def __init__(self, client: Client, account_id: AccountId, name: str) -> None:
        self.name = name
        self.account = new_account()
        self.writer = NotingWriter(client, account_id, name)
        self.committer = Committer(self.writer, self.account, SystemClock(), account_log(account_id))
        self.task = asyncio.create_task(self.committer.run())

    def take(self, *changes: Change) -> None:
        source = "rest" if isinstance(changes[0], Snapshot) else "stream"
        self.committer.submit(self.account.apply(changes, source))  # type: ignore[arg-type]

    def go_live(self) -> None:
        self.take(snapshot())
        self.committer.move("reconciled", "stream connected, snapshot reconciled")

    def orders(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.take(event(number, "NEW", order_id=str(number)))

    async def crash(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def stop(self) -> None:
        await self.crash()
        self.committer.move("stop", "the publisher was stopped")
        await self.committer.close()

    async def committed_to_stand_by(self) -> None:
        async def so() -> bool:
            return self.committer.is_standby

        await eventually(so)

    async def opened(self) -> None:
        async with asyncio.timeout(10):
            await self.committer.opened.wait()


class Place:
    """One account in one Redis, and everyone who publishes it."""

    def __init__(self, client: Client, name: str, url: str) -> None:
        self.client = client
        self.url = url
        self.account_id = AccountId("binance", name)
        self.keys = AccountKeys(self.account_id)
        self.stored = Stored(client, self.account_id)
        self.publishers: list[Publisher] = []

    def publisher(self, name: str = "first", client: Client | None = None) -> Publisher:
        publisher = Publisher(client or self.client, self.account_id, name)
        self.publishers.append(publisher)
        return publisher

    async def live(self, name: str = "first", client: Client | None = None) -> Publisher:
        publisher = self.publisher(name, client)
        await publisher.opened()
        publisher.go_live()
        await self.shows(state="live", publisherId=name)
        return publisher

    async def shows(self, **wanted: str) -> dict[str, str]:
        """Wait until the status says so."""

        async def so() -> bool:
            with suppress(StoreError, OSError), self.client.errors():
                return wanted.items() <= (await self.stored.status()).items()
            return False

        await eventually(so)
        return await self.stored.status()

    async def events(self, count: int) -> list[str]:
        """Wait for that many order events; their orders."""

        async def there() -> bool:
            with suppress(StoreError), self.client.errors():
                return int(await self.client.redis.xlen(self.keys.order_events)) >= count
            return False

        await eventually(there)
        return [entry["orderId"] for entry in await self.stored.events()]

    async def verified_after(self, verified_at_ms: int) -> dict[str, str]:
        async def so() -> bool:
            return int((await self.stored.status()).get("verifiedAtMs", "0")) > verified_at_ms

        await eventually(so)
        return await self.stored.status()

    async def beats(self, count: int) -> None:
        """Wait for that many heartbeats."""
        for _ in range(count):
            last = (await self.stored.status())["heartbeatAtMs"]

            async def beaten(last: str = last) -> bool:
                return (await self.stored.status())["heartbeatAtMs"] != last

            await eventually(beaten)


@asynccontextmanager
async def at(url: str, name: str) -> AsyncIterator[Place]:
    async with connect(url, client_name="test") as client:
        place = Place(client, name, url)
        try:
            yield place
        finally:
            for publisher in place.publishers:
                await publisher.crash()


@pytest.fixture
async def place(redis_url: str, account_name: str) -> AsyncIterator[Place]:
    async with at(redis_url, account_name) as here:
        yield here


def numbers(*ranges: range) -> list[str]:
    return [str(number) for one in ranges for number in one]


async def test_a_burst_is_written_in_few_batches_and_in_order(place: Place) -> None:
    first = await place.live()
    before = len(first.writer.batches)
    first.orders(range(1, 401))
    assert await place.events(400) == numbers(range(1, 401))
    with_commits = [batch for batch in first.writer.batches[before:] if batch.arguments[5] != 0]
    assert len(with_commits) <= 400 // committing.MAX_BATCH + 2
    await place.stored.expect(first.account)
    await place.stored.expect_without_holes()


async def test_a_backlog_is_written_in_batches_that_do_not_outlast_the_lease(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "MAX_EVENTS_IN_COMMIT", 10)
    first = await place.live()
    before = len(first.writer.batches)
    first.take(*(event(n, "NEW", order_id=str(n)) for n in range(1, 101)))
    await place.events(100)
    sizes = [int(batch.arguments[6]) for batch in first.writer.batches[before:]]
    assert sum(sizes) == 100
    assert max(sizes) == 10
    await place.stored.expect_without_holes()


async def test_a_single_event_waits_for_no_heartbeat(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committing, "HEARTBEAT_S", 0.4)
    first = await place.live()
    await place.beats(1)
    last = (await place.stored.status())["heartbeatAtMs"]
    first.orders([1])
    await place.events(1)
    assert (await place.stored.status())["heartbeatAtMs"] == last


async def test_the_status_is_complete(place: Place) -> None:
    first = await place.live()
    first.committer.health.stream_since_ms = 1_793_000_000_001
    first.committer.health.reconciled_at_ms = 1_793_000_000_002
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
    first.committer.events_complete_ms = 1_793_000_000_007
    first.committer.move("doubt", "so that a status goes out with the first of them")

    async def told() -> bool:
        first.committer.events_complete_ms = 1_793_000_000_007  # again, should the lease have been lost by slowness
        status = await place.stored.status()
        complete = status["eventsCompleteMs"] == "1793000000007"
        assert not complete or status["eventSeq"] == "999"
        return complete

    await eventually(told)


async def test_what_an_earlier_publisher_left_is_known_and_not_forgotten(place: Place) -> None:
    first = await place.live()
    first.orders([1])
    first.committer.events_complete_ms = 1_793_000_000_007
    await place.shows(eventsCompleteMs="1793000000007")
    await first.stop()
    second = place.publisher("second")
    await second.opened()
    assert second.committer.previous.events_complete_ms == 1_793_000_000_007
    assert [order.order_id for order in second.committer.previous.orders] == ["1"]
    await place.shows(publisherId="second", state="starting", eventsCompleteMs="1793000000007")
    await place.beats(1)
    assert (await place.stored.status())["eventsCompleteMs"] == "1793000000007"
    assert await second.committer.events_of_last(60_000) == await second.writer.youngest_events(60_000) != []


async def test_before_a_snapshot_it_says_starting_once_a_heartbeat_and_no_state(place: Place) -> None:
    first = place.publisher()
    await first.opened()
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
    first.committer.verified_until = 0.0
    await place.beats(2)
    verified = (await place.stored.status())["verifiedAtMs"]
    await place.beats(4)
    status = await place.stored.status()
    assert (status["verifiedAtMs"], status["state"]) == (verified, "live")
    first.committer.verified_until = SystemClock().monotonic() + 100.0
    await place.verified_after(int(verified))


async def test_verified_moves_on_while_live_and_stands_still_in_doubt(place: Place) -> None:
    first = await place.live()
    status = await place.verified_after(0)
    await place.verified_after(int(status["verifiedAtMs"]))
    first.committer.move("doubt", "stream lost")
    doubted = await place.shows(state="recovering", reason="stream lost")
    await place.beats(4)
    assert (await place.stored.status())["verifiedAtMs"] == doubted["verifiedAtMs"]
    hashes = await place.stored.hashes()
    assert {fields["_verifiedAtMs"] for fields in hashes.values()} == {doubted["verifiedAtMs"]}
    first.committer.move("reconciled", "back")
    await place.verified_after(int(doubted["verifiedAtMs"]))


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
    async with at(redis_url, account_name) as place, proxied(redis_url) as proxy:  # noqa: SIM117 - reads as it nests
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


async def test_the_second_waits_and_takes_over_when_the_first_is_stopped(place: Place) -> None:
    first = await place.live()
    with capture_logs() as logs:
        second = place.publisher("second")

        async def told() -> bool:
            return any((line["event"], line.get("holder")) == ("standby", "first") for line in logs)

        await eventually(told)
    assert not second.committer.opened.is_set()
    first.orders(range(1, 11))
    await first.stop()
    await second.opened()
    second.go_live()
    second.orders(range(5, 21))  # told again by the venue, to the second publisher
    assert await place.events(20) == numbers(range(1, 21))
    status = await place.shows(publisherId="second", state="live")
    assert status["eventSeq"] == "20"
    await place.stored.expect_without_holes()
    await place.stored.expect(second.account)


async def test_an_orderly_stop_writes_what_is_queued_and_says_stopped(place: Place) -> None:
    first = await place.live()
    first.orders(range(1, 301))
    await first.stop()
    status = await place.stored.status()
    assert (status["state"], status["reason"]) == ("stopped", "the publisher was stopped")
    assert await place.events(300) == numbers(range(1, 301))
    assert not await place.client.redis.exists(place.keys.lease)
    await place.stored.expect(first.account)


async def test_the_second_takes_over_when_the_lease_of_a_dead_first_runs_out(place: Place) -> None:
    first = await place.live()
    first.orders(range(1, 4))
    await place.events(3)
    second = place.publisher("second")
    await first.crash()
    await second.opened()
    second.go_live()
    second.orders(range(2, 6))
    assert await place.events(5) == numbers(range(1, 6))
    status = await place.shows(publisherId="second")
    assert (status["eventSeq"], status["state"]) == ("5", "live")
    await place.stored.expect_without_holes()


async def asleep(place: Place, first: Publisher) -> Publisher:
    """Put `first` to sleep before its next write until `second` has taken over."""
    first.writer.awake.clear()
    second = place.publisher("second")
    await second.opened()
    second.go_live()
    await place.shows(publisherId="second", state="live")
    return second


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


async def test_events_that_another_wrote_meanwhile_are_not_doubled_however_many_they_are(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "LOG_MARGIN", 5)
    monkeypatch.setattr(committing, "WRITTEN_LATE_MS", 0)
    monkeypatch.setattr(writing, "PAGE", 70)
    first = await place.live()
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
    async with at(redis_url, account_name) as place, proxied(redis_url) as proxy:  # noqa: SIM117 - reads as it nests
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


async def test_beyond_the_limit_only_order_events_are_kept_and_the_state_is_written_whole(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "MAX_QUEUED", 50)
    first = await place.live()
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


async def test_events_beyond_the_record_are_left_to_the_histories(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "MAX_QUEUED", 10)
    first = await place.live()
    first.committer.record = EventRecord(limit=20)
    first.committer.record.begin(5)
    taken: list[LeaseAcquired] = []
    first.committer.on_lease_acquired = taken.append
    first.orders([1])
    await place.shows(eventSeq="1")
    first.committer.events_complete_ms = 7
    await place.shows(eventsCompleteMs="7")
    first.writer.awake.clear()
    first.orders(range(2, 102))
    first.writer.awake.set()

    async def told() -> bool:
        return bool(taken)

    await eventually(told)
    assert (taken[0].gap, taken[0].complete_ms) == (True, 7), "until then the log is complete"
    assert [event.order.order_id for event in taken[0].missing] == numbers(range(82, 102))
    assert int((await place.stored.status())["eventSeq"]) >= 1


async def test_the_tail_that_redis_lost_is_written_again_with_its_numbers(
    own_redis: EmbeddedServer, account_name: str
) -> None:
    async with at(own_redis.url, account_name) as place:
        first = await place.live()
        first.committer.record.begin(1)
        first.orders(range(1, 8))
        first.committer.events_complete_ms = 7
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


async def test_one_that_stands_by_writes_what_the_dead_one_had_not(place: Place) -> None:
    first = await place.live()
    second = place.publisher("second")
    second.committer.record.begin(1)
    await second.committed_to_stand_by()
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


async def test_a_process_that_did_not_run_vouches_for_nothing_until_it_has_read_what_came(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "CATCH_UP_S", 0.3)
    first = await place.live()
    await place.verified_after(0)
    sent = len(first.writer.batches)
    time.sleep(0.8)  # noqa: ASYNC251 - the whole process stands still

    async def caught_up() -> bool:
        return any(batch.verified for batch in first.writer.batches[sent:])

    await eventually(caught_up)
    assert not first.writer.batches[sent].verified


async def test_one_that_stands_by_leaves_a_wiped_account_to_its_writer(place: Place) -> None:
    """Who has written remembers what Redis had before the other began to listen."""
    first = await place.live()
    first.orders(range(1, 11))
    await place.events(10)
    second = place.publisher("second")
    second.committer.record.begin(1)
    await second.committed_to_stand_by()
    second.go_live()
    for _ in range(3):
        await asyncio.sleep(0.13)
        await place.client.redis.delete(*[key async for key in place.client.redis.scan_iter(f"*{place.account_id}*")])
        assert await place.events(10) == numbers(range(1, 11))
        await place.shows(publisherId="first", state="live", eventSeq="10")


async def test_one_that_stands_by_takes_a_wiped_account_whose_writer_is_gone(place: Place) -> None:
    first = await place.live()
    second = place.publisher("second")
    second.committer.record.begin(1)
    await second.committed_to_stand_by()
    second.go_live()
    second.orders([1])
    await first.crash()
    await place.client.redis.delete(*[key async for key in place.client.redis.scan_iter(f"*{place.account_id}*")])
    assert await place.events(1) == ["1"]
    await place.shows(publisherId="second", state="live")


async def test_one_that_did_not_run_takes_no_lease_before_it_has_read_what_came(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committing, "CATCH_UP_S", 0.6)
    first = await place.live()
    second = place.publisher("second")
    behind: list[bool] = []
    second.committer.on_lease_acquired = lambda taken: behind.append(second.committer._has_stalled())
    await second.committed_to_stand_by()
    await first.crash()
    time.sleep(2.5)  # noqa: ASYNC251 - the lease runs out, and the whole process stands still
    await second.opened()
    assert behind == [False]


async def test_a_batch_that_comes_late_vouches_for_nothing(redis_url: str, account_name: str) -> None:
    async with at(redis_url, account_name) as place, proxied(redis_url) as proxy:  # noqa: SIM117 - reads as it nests
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
            first.committer.move("doubt", "stream lost")
            await place.shows(state="recovering")
            assert (await place.stored.status())["verifiedAtMs"] == verified
            await first.crash()


async def test_one_that_stands_by_owes_readers_the_whole_log_that_others_began(place: Place) -> None:
    """Redis loses everything together with the writer; what that one had written, the histories must tell."""
    first = await place.live()
    first.committer.record.begin(5)
    first.committer.log_begins(5)
    first.orders(range(1, 6))
    await place.shows(eventsSinceMs="5", eventSeq="5")
    second = place.publisher("second")
    taken: list[LeaseAcquired] = []
    second.committer.on_lease_acquired = taken.append
    second.committer.record.begin(100)
    await second.committed_to_stand_by()
    second.go_live()

    async def learnt() -> bool:
        return second.committer.record.began_ms == 5

    await eventually(learnt)
    await first.crash()
    await place.client.redis.delete(*[key async for key in place.client.redis.scan_iter(f"*{place.account_id}*")])
    await second.opened()
    assert (taken[0].gap, taken[0].complete_ms) == (True, 5)
    assert second.writer.event_seq == 5, "what the histories tell again has new numbers"


async def test_the_beginning_of_a_log_is_known_after_a_restart(place: Place) -> None:
    first = await place.live()
    first.committer.record.begin(7)
    first.committer.log_begins(7)
    await place.shows(eventsSinceMs="7")
    await first.stop()
    second = await place.live("second")
    assert second.committer.health.events_since_ms == 7
    second.committer.record.begin(50)
    second.committer.log_begins(50)
    await place.beats(2)
    assert (await place.stored.status())["eventsSinceMs"] == "7", "and is not forgotten"


async def test_a_log_that_one_begins_who_stood_by_says_since_when(place: Place) -> None:
    first = place.publisher("first")
    await first.opened()  # and dies before it has written anything
    second = place.publisher("second")
    second.committer.record.begin(100)
    await second.committed_to_stand_by()
    second.go_live()
    await first.crash()
    await place.shows(publisherId="second", eventsSinceMs="100")


async def test_in_doubt_nobody_writes_an_older_state_over_what_another_has_vouched_for(place: Place) -> None:
    first = await place.live()
    second = place.publisher("second")
    await second.committed_to_stand_by()
    second.go_live()
    second.committer.move("doubt", "stream lost")
    first.take(wallet(10, "990"))
    await place.verified_after(int((await place.stored.status())["verifiedAtMs"]))
    await first.crash()
    await place.shows(publisherId="second", state="recovering")
    await place.beats(2)
    assert (await place.stored.hashes())["balances"]["USDT.walletBalance"] == "990"
    second.take(wallet(10, "990"))
    second.committer.move("reconciled", "stream connected, snapshot reconciled")
    await place.shows(state="live")
    await place.stored.expect(second.account)
