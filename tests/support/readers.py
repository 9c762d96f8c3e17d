"""Readers of a simulated exchange's account: in the test's own process, and as a program that a test may kill.

The program is `python -m support.readers`: many readers in one process, each reading again and again. It prints one
line of JSON for what it was asked to tell, and ends when its time is over.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

from support.changes import rest_position, snapshot
from support.world import KEY, SECRET
from support.written import Desk, eventually

from consumers.account import AccountReader
from consumers.config import credentials
from statecast.clock import SystemClock
from statecast.errors import StaleState
from statecast.simulator.server import SimulatorServer
from statecast.store.client import Client
from statecast.store.keys import AccountId
from statecast.venues.adapter import Access

ACCOUNT_CALL = "GET /fapi/v3/account 200"
"""How the simulated exchange counts what every refresh asks for once, unless the account was moving."""


def access(server: SimulatorServer, key: str = KEY, secret: str = SECRET) -> Access:
    """Credentials for the simulated exchange."""
    return credentials(key, secret, rest_url=server.rest_url)


async def published(client: Client, account_id: AccountId, *, state: str = "live") -> Desk:
    """A publisher that wrote the account, verified it, and will not do so again by itself."""
    desk = Desk(client, account_id)
    await desk.open()
    await desk.commit([snapshot(positions=[rest_position(-9, "0.5")])], verified=True)
    await desk.beat(state)
    return desk


async def redis_now_ms(client: Client) -> int:
    with client.errors():
        seconds, microseconds = await client.redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def passed(client: Client, moment_ms: int) -> None:
    """Wait until Redis's clock is beyond a moment."""

    async def beyond() -> bool:
        return await redis_now_ms(client) > moment_ms

    await eventually(beyond)


@dataclass
class Tally:
    """What the readers of one process have seen. A read is fresh or refused; anything else ends the program."""

    fresh: int = 0
    refused: int = 0
    oldest_s: float = 0.0

    def __post_init__(self) -> None:
        self.taken: Counter[int] = Counter()
        self.reasons: Counter[str] = Counter()


async def read_for(tally: Tally, reader: AccountReader, until: float, pause_s: float) -> None:
    clock = SystemClock()
    while clock.monotonic() < until:
        try:
            read = await reader.snapshot()
        except StaleState as error:
            tally.refused += 1
            tally.reasons[error.why] += 1
        else:
            tally.fresh += 1
            tally.oldest_s = max(tally.oldest_s, read.age_s)
            if read.freshness.via == "refresh":
                tally.taken[read.freshness.verified_at_ms] += 1
        await clock.sleep(pause_s)


async def main(count: int, seconds: float, pause_s: float) -> dict[str, Any]:
    """`count` readers by the settings of the environment, for so long."""
    tally = Tally()
    readers = [AccountReader.from_env() for _ in range(count)]
    print("reading", flush=True)
    until = SystemClock().monotonic() + seconds
    try:
        async with asyncio.TaskGroup() as tasks:
            for reader in readers:
                tasks.create_task(read_for(tally, reader, until, pause_s))
    finally:
        await asyncio.gather(*(reader.aclose() for reader in readers))
    return {
        "pid": os.getpid(),
        "fresh": tally.fresh,
        "refused": tally.refused,
        "oldest_s": tally.oldest_s,
        "taken": sorted(tally.taken),
        "reasons": tally.reasons,
    }


if __name__ == "__main__":
    told = asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
    print(json.dumps(told), flush=True)
