"""Thousands of order events with faults among them: nothing is left behind by any of it.

`make soak` looks at a publisher from outside for as long as one likes; here it runs in this process, where tasks can be
counted and everything that it holds can be visited.
"""

from __future__ import annotations

import asyncio
import gc
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest
from support.world import DEADLINE_S, World, unlimited, until, world
from support.written import eventually

from consumers import AccountMirror, OrderEvents
from publisher.account import AccountPublisher
from publisher.tuning import Tuning
from statecast.domain.order_tracking import Memory
from statecast.embedded.server import EmbeddedServer
from statecast.simulator.control import burst
from statecast.store.keys import AccountKeys

PLENTY = 10_000_000
PAIRS = 80
"""Orders of a burst, placed and cancelled: two events each."""

REMEMBERED = 300
"""Events and orders that are remembered: few, so that what has no bound goes far beyond it."""

LARGEST = 1_000
"""Entries of the largest container that a reader or the publisher may hold; several thousand events have come by."""

ROOM = 3
"""Pools of connections, and the exchange's tasks for them, are as large as ever so many calls were under way at once.
What is left behind by each session is more: there are a dozen between the two counts."""

CONTAINERS = (dict, list, set, deque, OrderedDict, frozenset, tuple)
OURS = ("publisher", "statecast", "consumers")

FAULTS: dict[str, dict[str, object]] = {
    "cut_sockets": {"kind": "private"},
    "send_raw": {"text": '{"e":"ORDER_TRADE_UPDATE","o":{'},
    "duplicate_user_frames": {"count": 50},
    "delay_user_frames": {"count": 5, "delay_ms": 100},
    "expire_listen_key": {},
    "answer_rest": {"count": 1, "status": 503, "body": "<html>"},
    "refuse_sockets": {"count": 1},
}


class Held(NamedTuple):
    """What is counted when everything rests."""

    tasks: int
    connections: int
    sockets: int
    keys: int


def largest(roots: list[object]) -> tuple[int, str]:
    """The size of the largest container that is reachable from `roots` through our own objects, and where it is."""
    seen: set[int] = set()
    todo: list[tuple[object, str]] = [(root, type(root).__name__) for root in roots]
    found = (0, "")
    while todo:
        item, path = todo.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, CONTAINERS):
            found = max(found, (len(item), path))
        for name, inner in _inside(item):
            if isinstance(inner, CONTAINERS) or type(inner).__module__.partition(".")[0] in OURS:
                todo.append((inner, f"{path}.{name}"))
    return found


def _inside(item: object) -> Iterator[tuple[str, object]]:
    if isinstance(item, dict):
        yield from ((str(key), value) for key, value in item.items())
    elif isinstance(item, CONTAINERS):
        yield from (("[]", value) for value in item)
    else:
        names = {name for kind in type(item).__mro__ for name in getattr(kind, "__slots__", ())}
        names |= set(getattr(item, "__dict__", ()))
        yield from ((name, getattr(item, name, None)) for name in names)


@asynccontextmanager
async def reading(here: World, url: str) -> AsyncIterator[list[object]]:
    """Two consumer groups and a mirror at work."""
    async with (
        OrderEvents(here.account_id, url, "a", start="beginning", remembered=REMEMBERED) as first,
        OrderEvents(here.account_id, url, "b", start="beginning", partitions=2, remembered=REMEMBERED) as second,
        AccountMirror(here.account_id, url, remembered=REMEMBERED) as copy,
    ):
        working = [asyncio.create_task(events.run(lambda event: None)) for events in (first, second)]
        yield [first, second, copy]
        for task in working:
            assert not task.done(), task.exception()
        for events in (first, second):
            assert not events.gaps
            await events.aclose()
        await asyncio.gather(*working)


async def load(here: World) -> None:
    """A few hundred events, in turn with those who listen."""
    for _ in range(4):
        burst(here.exchange, PAIRS // 4, "cancels", here.now_ms())
        here.trade(2)
        await asyncio.sleep(0.01)


async def through_all_faults(here: World) -> None:
    for name, args in FAULTS.items():
        here.exchange.fault(name, args, here.now_ms())
        await load(here)
        await asyncio.sleep(0.2)
    clients: list[dict[str, Any]] = await here.client.redis.client_list()
    for client in clients:
        if client["name"].startswith("statecast-") and client["name"] != "statecast-test":
            await here.client.redis.client_kill_filter(_id=client["id"])
    await load(here)
    await here.client.redis.client_pause(300)
    await load(here)
    here.exchange.fault("clear", {}, here.now_ms())
    await here.state("live")
    for _ in range(3):
        since = int((await here.status())["streamSinceMs"])
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        await load(here)
        await until(here.status, lambda s: int(s["streamSinceMs"]) > since and s["state"] == "live")  # noqa: B023


async def held(here: World) -> Held:
    """Wait until the groups have had everything; what there is then."""
    await here.agree()
    await here.agree_on_events_after_gaps()
    keys = AccountKeys(here.account_id)

    async def handled() -> bool:
        groups = await here.client.redis.xinfo_groups(keys.order_events)
        return all(group["pending"] == 0 and group["lag"] == 0 for group in groups)

    await eventually(handled, DEADLINE_S)
    counts: list[Held] = []
    for _ in range(6):  # What is only being ended is no growth.
        await asyncio.sleep(0.5)
        clients = await here.client.redis.client_list()
        names = [key async for key in here.client.redis.scan_iter() if not key.endswith(("refresh-lock", ":lease"))]
        counts.append(Held(len(asyncio.all_tasks()), len(clients), len(here.exchange.streams), len(names)))
    return Held(*(min(column) for column in zip(*counts, strict=True)))


@pytest.mark.timeout(300)
async def test_nothing_grows_under_load_and_faults(own_redis: EmbeddedServer, account_name: str) -> None:
    memory = Memory(REMEMBERED, REMEMBERED, REMEMBERED)
    async with (
        world(
            own_redis.url,
            account_name,
            limits=unlimited(),
            RECONCILE_S="1",
            tuning=Tuning(recorded_events=REMEMBERED, changes_length=REMEMBERED, steady_s=0.0, memory=memory),
        ) as here,
        reading(here, own_redis.url) as readers,
    ):
        here.exchange.limits.allow(PLENTY)
        await through_all_faults(here)
        before = await held(here)
        for _ in range(2):
            await through_all_faults(here)
        after = await held(here)
        status = await here.status()
        assert int(status["eventSeq"]) > 3 * LARGEST, "too little happened to prove anything"
        assert after.tasks <= before.tasks + ROOM
        assert after.connections <= before.connections + ROOM
        assert after.sockets == before.sockets == 2
        assert after.keys == before.keys
        gc.collect()
        publishers = [item for item in gc.get_objects() if type(item) is AccountPublisher]
        size, where = largest([*publishers, *readers])
        assert size <= LARGEST, f"{where} holds {size} entries"
        assert size >= REMEMBERED, "what is remembered was not found: the search sees nothing"
