"""Committers that write one account in a real Redis, each with its lease, as many as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from support.changes import event, new_account, snapshot
from support.written import Stored, eventually

from publisher.committer import Committer
from publisher.lease import Lease, LeaseAcquired
from publisher.logs import account_log
from publisher.record import EventRecord
from publisher.redis_retry import RedisRetry
from publisher.status import Status
from publisher.tuning import Tuning
from statecast.clock import SystemClock
from statecast.domain.changes import Change, Snapshot
from statecast.errors import StoreError
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId, AccountKeys
from statecast.store.writer import AccountWriter, Batch, Holder

LEASE_MS = 1_000
PAGE = 70
"""Entries of the log that are looked at in one call: few, so that several hundred events are several pages."""

BRISK = Tuning(heartbeat_s=0.1)
"""A heartbeat every 0.1 s: with a lease of a second, nothing has to be waited for long."""


class NotingWriter(AccountWriter):
    """Notes the batches that it sends, and can be put to sleep before the next one."""

    def __init__(self, client: Client, account_id: AccountId, name: str) -> None:
        super().__init__(client, account_id, name, lease_ttl_ms=LEASE_MS)
        self.batches: list[Batch] = []
        self.looks: list[Holder | None] = []
        """What it saw each time that it looked at the lease."""
        self.awake = asyncio.Event()
        self.awake.set()

    async def read_holder(self) -> Holder | None:
        self.looks.append(await super().read_holder())
        return self.looks[-1]

    async def youngest_events(
        self, age_ms: int, least: int = 0, *, page: int = PAGE, renew: bool = False
    ) -> list[tuple[str, str]]:
        return await super().youngest_events(age_ms, least, page=page, renew=renew)

    async def send(self, batch: Batch) -> None:
        await self.awake.wait()
        self.batches.append(batch)
        await super().send(batch)


class Publisher:
    """A committer at work, fed by hand as a follower would feed it."""

    def __init__(self, client: Client, account_id: AccountId, name: str, tuning: Tuning) -> None:
        self.name = name
        self.account = account = new_account()
        self.acquired: list[LeaseAcquired] = []
        """What was found each time when the lease was taken, where `keep_acquired` was called before."""
        self.writer = writer = NotingWriter(client, account_id, name)
        self.record = record = EventRecord(tuning.recorded_events, tuning.most_unwritten)
        clock, log = SystemClock(), account_log(account_id)
        self.status = status = Status(log)
        retry = RedisRetry(clock, log)
        self.lease = lease = Lease(writer, account, record, status, retry, clock, log, tuning)
        self.committer = Committer(writer, account, record, status, lease, retry, clock, log, tuning)
        self.task = asyncio.create_task(self.committer.run())

    def keep_acquired(self) -> None:
        """Note what is found when the lease is taken, and submit nothing of it."""
        self.committer.bind(lambda reason: None, self.acquired.append)

    def take(self, *changes: Change) -> None:
        source = "rest" if isinstance(changes[0], Snapshot) else "stream"
        self.committer.submit(self.account.apply(changes, source))  # type: ignore[arg-type]

    def go_live(self) -> None:
        self.take(snapshot())
        self.status.move("reconciled", "stream connected, snapshot reconciled")

    def orders(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.take(event(number, "NEW", order_id=str(number)))

    async def crash(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def stop(self, within_s: float = 10.0) -> None:
        await self.crash()
        self.status.move("stop", "the publisher was stopped")
        await self.committer.close(SystemClock().monotonic() + within_s)

    async def stands_by(self) -> None:
        async def so() -> bool:
            return self.lease.is_standby

        await eventually(so)

    async def writes(self) -> None:
        async with asyncio.timeout(10):
            await self.lease.acquired.wait()


class Place:
    """One account in one Redis, and everyone who publishes it."""

    def __init__(self, client: Client, name: str, url: str) -> None:
        self.client = client
        self.url = url
        self.account_id = AccountId("binance", name)
        self.keys = AccountKeys(self.account_id)
        self.stored = Stored(client, self.account_id)
        self.publishers: list[Publisher] = []

    def publisher(self, name: str = "first", client: Client | None = None, tuning: Tuning = BRISK) -> Publisher:
        publisher = Publisher(client or self.client, self.account_id, name, tuning)
        self.publishers.append(publisher)
        return publisher

    async def live(self, name: str = "first", client: Client | None = None, tuning: Tuning = BRISK) -> Publisher:
        publisher = self.publisher(name, client, tuning)
        await publisher.writes()
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


def numbers(*ranges: range) -> list[str]:
    return [str(number) for one in ranges for number in one]


async def asleep(place: Place, first: Publisher) -> Publisher:
    """Put `first` to sleep before its next write until `second` has taken over."""
    first.writer.awake.clear()
    second = place.publisher("second")
    await second.writes()
    second.go_live()
    await place.shows(publisherId="second", state="live")
    return second
