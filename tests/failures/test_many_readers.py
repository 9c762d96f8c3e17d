"""Three hundred readers in six processes while nobody publishes: they ask the venue as one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support.programs import Program, program
from support.readers import ACCOUNT_CALL, published, redis_now_ms
from support.world import account_values, new_server, until
from support.written import eventually

from statecast.simulator.server import SimulatorServer
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId, AccountKeys

TESTS = Path(__file__).parents[1]
PROCESSES = 6
READERS = 50
SECONDS = 60.0
PAUSE_S = 0.5
MAX_AGE_MS = 10_000
TAKES_OVER_WITHIN_MS = 2_000


@pytest.fixture(autouse=True)
def the_tests_support_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(TESTS), str(TESTS.parent))))


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with connect(redis_url, client_name="many-readers-test") as connected:
        yield connected


@pytest.fixture
def account_id(account_name: str) -> AccountId:
    return AccountId("binance", account_name)


def settings(server: SimulatorServer, redis_url: str, account_id: AccountId) -> dict[str, str]:
    return account_values(server, account_id.account) | {"REDIS_URL": redis_url}


async def readers(
    stack: AsyncExitStack, directory: Path, processes: int, count: int, seconds: float, **values: str
) -> list[Program]:
    """Processes with so many readers each, all of them reading."""
    arguments = ("support.readers", str(count), str(seconds), str(PAUSE_S))
    started = [await stack.enter_async_context(program(directory, *arguments, **values)) for _ in range(processes)]
    for running in started:
        await running.prints("reading")
    return started


async def told(running: Program) -> dict[str, Any]:
    """What a process of readers has to say at its end."""
    assert await running.process.wait() == 0, running.output
    await eventually(lambda: _has_told(running))
    found: dict[str, Any] = json.loads(running.lines[-1])
    return found


async def _has_told(running: Program) -> bool:
    return running.lines[-1].startswith("{")


@pytest.mark.timeout(240)
async def test_300_readers_of_a_dead_publisher_ask_once_in_ten_seconds(
    tmp_path: Path, redis_url: str, client: Client, account_id: AccountId
) -> None:
    keys = AccountKeys(account_id)
    async with new_server() as server, AsyncExitStack() as stack:
        values = settings(server, redis_url, account_id)
        async with program(tmp_path, "publisher", **values) as publisher:

            async def state() -> str | None:
                return await client.redis.hget(keys.status, "state")

            await until(state, lambda said: said == "live")
            publisher.process.kill()
            await publisher.process.wait()
        server.exchange.requests.clear()
        processes = await readers(stack, tmp_path, PROCESSES, READERS, SECONDS, **values)
        reports = await asyncio.gather(*(told(running) for running in processes))

    taken = sorted({moment for report in reports for moment in report["taken"]})
    asked = server.exchange.requests[ACCOUNT_CALL]
    print(f"{asked} refreshes at {taken}; refused {[report['refused'] for report in reports]}")
    assert asked == len(taken), "every question to the venue served readers, and each of them once"
    assert 4 <= asked <= SECONDS * 1000 / MAX_AGE_MS + 1, "the processes do not start at the same moment"
    assert all(later - earlier >= MAX_AGE_MS for earlier, later in pairwise(taken))
    for report in reports:
        assert report["oldest_s"] * 1000 <= MAX_AGE_MS
        assert report["fresh"] > READERS * 10
        assert len(report["taken"]) > 1, "each process read what others had asked for"


async def test_when_the_refreshing_process_is_killed_another_takes_over_within_two_seconds(
    tmp_path: Path, redis_url: str, client: Client, account_id: AccountId
) -> None:
    keys = AccountKeys(account_id)
    await published(client, account_id)
    await client.redis.hset(keys.status, mapping={"verifiedAtMs": "1793000000000", "heartbeatAtMs": "1793000000000"})
    async with new_server() as server, AsyncExitStack() as stack:
        server.exchange.faults.switch("delay_rest", {"count": 1, "delay_ms": 60_000, "path": "/fapi/v3/account"})
        values = settings(server, redis_url, account_id)
        processes = await readers(stack, tmp_path, 3, 10, 300, **values)

        async def asked() -> bool:
            return server.exchange.requests[ACCOUNT_CALL] > 0

        await eventually(asked)
        holder = str(await client.redis.get(keys.refresh_lock))
        killed = next(running for running in processes if f"-{running.process.pid}-" in holder)
        killed_at_ms = await redis_now_ms(client)
        killed.process.send_signal(signal.SIGKILL)

        async def answer() -> dict[str, str]:
            return await client.redis.hgetall(keys.refresh)

        stored = await until(answer, lambda fields: "takenAtMs" in fields)
        assert f"-{killed.process.pid}-" not in stored["by"]
        late_ms = int(stored["takenAtMs"]) - killed_at_ms
        print(f"taken over after {late_ms} ms")
        assert 0 < late_ms < TAKES_OVER_WITHIN_MS
        assert server.exchange.requests[ACCOUNT_CALL] == 2
