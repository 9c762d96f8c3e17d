"""A log of order events that grows on request, what Redis knows of a group, and a worker to be killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from support.changes import event, snapshot
from support.written import Desk

from consumers.order_events import OrderEvent, OrderEvents
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId, AccountKeys

WITHIN_S = 40.0


class Log:
    """Writes order events as a publisher does, and looks at them and at groups with plain commands."""

    def __init__(self, client: Client, account_id: AccountId, **options: Any) -> None:
        self.client = client
        self.redis: Any = client.redis
        self.account_id = account_id
        self.keys = AccountKeys(account_id)
        self.desk = Desk(client, account_id, **options)
        self.written = 0

    async def open(self) -> None:
        await self.desk.open()
        await self.desk.commit([snapshot()])

    async def write(self, count: int = 1, **fields: Any) -> list[int]:
        """Write events, each a commit of its own and, unless `fields` say so, of an order of its own; their numbers."""
        frames = []
        for number in range(self.written + 1, self.written + count + 1):
            given = {"order_id": f"o{number}", "event_id": f"event-{number}"} | fields
            frames.append([event(number, "NEW", **given)])
        self.written += count
        first = self.desk.writer.event_seq + 1
        await self.desk.commit(*frames)
        return list(range(first, self.desk.writer.event_seq + 1))

    async def entry_ids(self) -> list[str]:
        return [entry_id for entry_id, _ in await self.redis.xrange(self.keys.order_events)]

    async def trim(self, count: int) -> None:
        """Remove the oldest entries."""
        kept = max(0, await self.redis.xlen(self.keys.order_events) - count)
        await self.redis.xtrim(self.keys.order_events, maxlen=kept, approximate=False)

    async def pending(self, name: str) -> list[str]:
        """Ids that are pending in a group of Redis."""
        rows = await self.redis.xpending_range(self.keys.order_events, name, "-", "+", 100_000)
        return [row["message_id"] for row in rows]

    async def consumers(self, name: str) -> dict[str, int]:
        """The consumers of a group of Redis, and how many entries are pending under each."""
        rows = await self.redis.xinfo_consumers(self.keys.order_events, name)
        return {row["name"]: row["pending"] for row in rows}

    async def shared(self, group: str) -> dict[str, str]:
        """The hash of a group."""
        return cast("dict[str, str]", await self.redis.hgetall(self.keys.group(group)))

    async def letters(self, group: str) -> list[dict[str, str]]:
        """The dead letters."""
        return [fields for _, fields in await self.redis.xrange(self.keys.dead_letters(group))]


@asynccontextmanager
async def log_of(url: str, account: str, **options: Any) -> AsyncIterator[Log]:
    """The log of an account that is published, and empty."""
    async with connect(url, client_name="statecast-test") as client:
        log = Log(client, AccountId("binance", account), **options)
        await log.open()
        yield log


async def take(events: OrderEvents, count: int) -> list[OrderEvent]:
    """The next `count` events, not acknowledged; fails when they do not come in a generous time."""
    found: list[OrderEvent] = []
    try:
        async with asyncio.timeout(WITHIN_S):
            while len(found) < count:
                found.append(await anext(events))
    except TimeoutError:
        raise AssertionError(f"{len(found)} of {count} events came: {[e.event_seq for e in found]}") from None
    return found


async def handle(events: OrderEvents, count: int) -> list[int]:
    """The numbers of the next `count` events, each acknowledged."""
    found = []
    for _ in range(count):
        (one,) = await take(events, 1)
        await one.ack()
        found.append(one.event_seq)
    return found


async def nothing_comes(events: OrderEvents, for_s: float = 0.3) -> None:
    """Fails if an event comes within a moment."""
    try:
        async with asyncio.timeout(for_s):
            came = await anext(events)
    except TimeoutError:
        return
    raise AssertionError(f"{came.event_seq} came")


async def die(events: OrderEvents, *, leave_client: bool = False) -> None:
    """End it as a process that is killed: it says nothing, and its leases run out. Within `async with` only."""
    for task in tuple(events._tasks):
        task.cancel()
    await asyncio.gather(*events._tasks, return_exceptions=True)
    if not leave_client:
        await events._client.aclose()
    events._closing = asyncio.create_task(asyncio.sleep(0))
