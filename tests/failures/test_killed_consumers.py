"""Consumers of a group are killed, and stand still, at random, while events are written: each is handled, in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from support.changes import event
from support.groups import Log, log_of
from support.written import eventually

from statecast.store.groups import redis_groups
from statecast.store.keys import REQUEUED

ROOT = Path(__file__).parents[2]
ORDERS = 40
LEASE_S = 0.6

Handled = list[tuple[int, str, int, str]]
"""In the order of handling: number, order id, attempt, consumer."""


class Workers:
    """Real processes of one group."""

    def __init__(self, log: Log, url: str, group: str, partitions: int) -> None:
        self.log = log
        self.group = group
        self.names = redis_groups(group, partitions)
        self._arguments = (url, str(log.account_id), group, str(partitions), str(LEASE_S))
        self._processes: list[asyncio.subprocess.Process] = []
        self.killed = 0
        self.paused = 0

    async def start(self) -> None:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        program = ROOT / "tests" / "support" / "group_worker.py"
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(program), *self._arguments, env=environment, stderr=asyncio.subprocess.DEVNULL
        )
        self._processes.append(process)

    async def trouble(self, rng: Random, over: asyncio.Event) -> None:
        """Kill one and start another in its place, or let one stand still for longer than its lease, until `over`."""
        while True:
            await asyncio.sleep(rng.uniform(0.3, 1.2))
            if over.is_set():
                return
            victim = await self._at_work() if rng.random() < 0.6 else None
            victim = victim or rng.choice(self._processes)
            if rng.random() < 0.75:
                victim.send_signal(signal.SIGKILL)
                await victim.wait()
                self._processes.remove(victim)
                self.killed += 1
                await self.start()
            else:
                victim.send_signal(signal.SIGSTOP)
                try:
                    await asyncio.sleep(LEASE_S * rng.uniform(1.0, 2.0))
                finally:
                    victim.send_signal(signal.SIGCONT)
                self.paused += 1

    async def _at_work(self) -> asyncio.subprocess.Process | None:
        """One that holds a partition."""
        shared = await self.log.shared(self.group)
        owners = [name for field, name in shared.items() if field.endswith(".owner")]
        return next((each for each in self._processes if any(f"-{each.pid}-" in name for name in owners)), None)

    async def interrupt(self) -> list[int]:
        """Ctrl-C for all, once all have joined and have what the killed ones had; their exit codes."""

        async def all_there() -> bool:
            shared = await self.log.shared(self.group)
            members = [field for field in shared if field.startswith("member.")]
            # A killed one stays the owner, on paper, until another takes its partition: nobody else may clear that.
            owners = [name for field, name in shared.items() if field.endswith(".owner")]
            pids = [f"-{each.pid}-" for each in self._processes]
            joined = all(any(pid in field for field in members) for pid in pids)
            return joined and all(any(pid in name for pid in pids) for name in owners)

        await eventually(all_there)
        for process in self._processes:
            process.send_signal(signal.SIGINT)
        async with asyncio.timeout(40):
            return [await process.wait() for process in self._processes]

    async def kill(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def handled(self) -> Handled:
        rows = await self.log.redis.lrange(f"handled:{self.log.account_id}:{self.group}", 0, -1)
        split = [row.split() for row in rows]
        return [(int(number), order, int(attempt), consumer) for number, order, attempt, consumer in split]

    async def pending(self) -> list[str]:
        return [entry_id for name in self.names for entry_id in await self.log.pending(name)]


@asynccontextmanager
async def workers(log: Log, url: str, group: str, *, partitions: int, count: int) -> AsyncIterator[Workers]:
    started = Workers(log, url, group, partitions)
    try:
        for _ in range(count):
            await started.start()
        yield started
    finally:
        await started.kill()


async def write(log: Log, count: int, poison: int) -> None:
    """Events of many orders, over some seconds."""
    for first in range(1, count + 1, 25):
        frames = []
        for number in range(first, first + 25):
            fields = {"order_id": f"o{number * 7919 % ORDERS}", "event_id": f"event-{number}"}
            if number == poison:
                fields |= {"order_id": "poisoned", "client_order_id": "poison"}
            frames.append([event(number, "AMENDMENT", **fields)])
        await log.desk.commit(*frames)
        await asyncio.sleep(0.05)


async def endure(redis_url: str, account: str, *, events: int, partitions: int, count: int, seed: int) -> None:
    poison = events // 3
    async with (
        log_of(redis_url, account, lease_ttl_ms=60_000) as log,
        workers(log, redis_url, "bot", partitions=partitions, count=count) as group,
    ):
        wanted = set(range(1, events + 1)) - {poison}
        over = asyncio.Event()
        trouble = asyncio.create_task(group.trouble(Random(seed), over))
        writing = asyncio.create_task(write(log, events, poison))

        async def done() -> bool:
            if trouble.done():
                trouble.result()
            handled = {number for number, *_ in await group.handled()}
            await asyncio.sleep(0.1)
            dead = {int(letter["eventSeq"]) for letter in await log.letters("bot")}
            return wanted <= handled and poison in dead and group.killed >= 3

        await eventually(done, within_s=90)
        await writing
        over.set()  # no cancellation, which could come between a kill and the start of another
        await trouble

        async def all_acknowledged() -> bool:
            return await group.pending() == []

        await eventually(all_acknowledged, within_s=20)
        handled = await group.handled()
        first_time: dict[str, list[int]] = {}
        seen: set[int] = set()
        for number, order, _, _ in handled:
            if number not in seen:
                seen.add(number)
                first_time.setdefault(order, []).append(number)
        assert seen == wanted
        for order, numbers in first_time.items():
            assert numbers == sorted(numbers), f"order {order} out of order"
        assert len({consumer for *_, consumer in handled}) > 1
        print(f"{group.killed} killed, {group.paused} paused; {len(handled) - len(wanted)} handled twice")

        letters = {int(letter["eventSeq"]): letter for letter in await log.letters("bot")}
        letter = letters.pop(poison)
        # An event that was in hand in three kills looks like a poison; it was handled all the same.
        assert all(other["reason"].startswith("delivered 3 times") for other in letters.values()), letters
        assert letter["attempts"] == "3"
        assert letter["reason"].startswith(("ValueError: cannot be handled", "delivered 3 times"))
        await log.redis.set(f"cured:{log.account_id}", "1")
        entry_id = letter["entryId"]
        await log.redis.xclaim(log.keys.order_events, letter["group"], REQUEUED, 0, [entry_id], force=True, justid=True)

        async def poison_handled() -> bool:
            return (await group.handled())[-1][:3] == (poison, "poisoned", 1) and await group.pending() == []

        await eventually(poison_handled)
        assert await group.interrupt() == [0] * count
        for name in group.names:
            left = await log.consumers(name)
            assert set(left.values()) <= {0}, "nothing is pending under a name that is gone"
        shared = await log.shared("bot")
        assert not [field for field in shared if "owner" in field or "attempts" in field]


async def test_killed_consumers_lose_no_event_and_no_order(redis_url: str, account_name: str) -> None:
    await endure(redis_url, account_name, events=5_000, partitions=1, count=3, seed=1)


async def test_killed_consumers_of_partitions_lose_no_event_and_no_order(redis_url: str, account_name: str) -> None:
    await endure(redis_url, account_name, events=2_000, partitions=3, count=3, seed=2)
