"""A log of order events that grows on request, what Redis knows of a group, and a worker to be killed."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from support.changes import NOW, event, snapshot
from support.written import Desk, eventually

from consumers.order_events import OrderEvent, OrderEvents
from statecast.domain import changes
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId, AccountKeys

WITHIN_S = 40.0
LEASE_S = 1.0
ALL = f"GAP:{NOW}:ALL"
"""The id of an entry of type GAP for all events of a time."""


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
    await events._tasks.stop()
    if not leave_client:
        await events._client.aclose()
    events._closing = asyncio.create_task(asyncio.sleep(0))


def consumer(log: Log, url: str, group: str = "bot", **options: Any) -> OrderEvents:
    """One that stands in for a dead one soon, and does not dwell on failures."""
    given: dict[str, Any] = {"lease_s": LEASE_S, "backoff_s": 0.01, "start": "beginning"} | options
    if "start_ms" in given or "start_event_seq" in given:
        given.pop("start")
    return OrderEvents(log.account_id, url, group, **given)


def seqs(events: list[OrderEvent]) -> list[int]:
    return [event.event_seq for event in events]


async def until_it_works(*candidates: OrderEvents) -> OrderEvents:
    """The one that has got the work."""

    async def somebody() -> bool:
        return any(events.holds for events in candidates)

    await eventually(somebody)
    return next(events for events in candidates if events.holds)


async def nothing_pending(log: Log) -> bool:
    return not await log.pending("bot")


async def written_again(log: Log, entries: list[dict[str, str]]) -> None:
    """As the publisher does when it has opened a new epoch: the same events and numbers in new entries."""
    for fields in entries:
        again = fields | {"epoch": str(log.desk.writer.epoch)}
        await log.redis.xadd(log.keys.order_events, again)


async def entries_of(log: Log) -> list[dict[str, str]]:
    return [fields for _, fields in await log.redis.xrange(log.keys.order_events)]


async def reopened(log: Log) -> bool:
    """The publisher has the lease of the new master."""
    try:
        return await log.desk.open() is None
    except Exception:  # noqa: BLE001 - until the connections are those to the new master
        return False


async def write_gap(log: Log, event_id: str = ALL, **fields: Any) -> None:
    """An entry as filling a gap makes it: what is not known is empty."""
    nothing: dict[str, Any] = {
        "order_id": "", "symbol": "", "client_order_id": "", "side": "", "position_side": "", "type": "",
        "orig_type": "", "time_in_force": "", "price": None, "stop_price": None, "quantity": None,
        "executed_qty": None, "avg_price": None, "reduce_only": None, "source": "rest",
    }  # fmt: skip
    gap = event(3_600_000, "GAP", "", event_id=event_id, **(nothing | fields)).event
    await log.desk.commit([changes.LoggedEvent(gap)])


def delivered(
    event_seq: int, *, entry_id: str = "", event_id: str = "", attempt: int = 1, settler: Any = None
) -> OrderEvent:
    """An event as a consumer is given it, without Redis."""
    nothing = dict.fromkeys((field.name for field in dataclasses.fields(OrderEvent)), None)
    given: dict[str, Any] = nothing | {
        "event_seq": event_seq,
        "event_id": event_id or f"event-{event_seq}",
        "event_type": "NEW",
        "entry_id": entry_id or f"1000-{event_seq}",
        "redelivered": False,
        "attempt": attempt,
        "epoch": 1,
        "_settler": settler,
    }
    return OrderEvent(**given)
