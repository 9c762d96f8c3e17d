"""What has to hold however often: thousands of steps, a hundred cuts, kill after kill.

With `make failures ARGS="--full"`, the writer is killed 50 times.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
import redis.asyncio
from support.arena import NOISE_S, Arena, DurableRedis, Publisher, arena
from support.world import World, unlimited, until, world

from publisher.tuning import Tuning
from statecast.embedded.server import EmbeddedServer
from statecast.store.keys import AccountKeys

SEED = 20_261_123
STEPS_SEED = 20_261_122
STEPS = 2_000
CUTS = 100
TAKEOVER_S = 3.0
PLENTY = 10_000_000
IMPATIENT = Tuning(steady_s=0.0)
"""No pause between connections, however often they end."""

WRITES = frozenset({"HSET", "HDEL", "XADD", "XTRIM", "DEL", "SET", "PEXPIRE", "SADD"})


@pytest.fixture
def often(request: pytest.FixtureRequest) -> bool:
    """Whether to fail as often as was promised."""
    return bool(request.config.getoption("--full", False))


@pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
async def test_hashes_and_log_equal_the_ledger_after_2000_steps(redis_url: str, account_name: str, hedge: bool) -> None:
    async with world(redis_url, account_name, hedge=hedge, seed=STEPS_SEED) as here:
        for _ in range(STEPS // 20):
            here.trade(20)
            here.exchange.publish_marks(here.now_ms())
            await asyncio.sleep(0)
        await here.agree()
        await here.agree_on_events()
        assert len(await here.log()) > STEPS / 2, f"seed {STEPS_SEED} traded too little to prove anything"
        status = await here.status()
        assert (status["unknownEvents"], status["malformedFrames"]) == ("0", "0")


async def trade_through(here: World, *, steps: int, pause_s: float) -> None:
    for _ in range(steps):
        here.trade(2)
        await asyncio.sleep(pause_s)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
async def test_100_cuts_during_trading_lose_and_double_nothing(redis_url: str, account_name: str, hedge: bool) -> None:
    took_ms: list[int] = []
    async with world(
        redis_url, account_name, hedge=hedge, seed=SEED, limits=unlimited(), tuning=IMPATIENT, RECONCILE_S="1"
    ) as here:
        here.exchange.limits.allow(PLENTY)
        for number in range(CUTS):
            await trade_through(here, steps=3, pause_s=0.01)
            before = await here.status()
            here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
            cut_ms = here.now_ms()
            here.trade(6)  # nobody hears it
            await trade_through(here, steps=5, pause_s=0.005)  # and this perhaps
            since = int(before["streamSinceMs"])
            await until(here.status, lambda s: int(s["streamSinceMs"]) > since and s["state"] == "live")  # noqa: B023
            took_ms.append(here.now_ms() - cut_ms)
            if number % 20 == 19:
                await here.agree_on_events_after_gaps()
        await here.agree()
        entries = await here.agree_on_events_after_gaps()
    fetched = sum(entry["source"] == "rest" for entry in entries)
    assert fetched > CUTS, f"seed {SEED}: too little happened in the gaps to prove anything"
    print(
        f"{CUTS} cuts, {len(entries)} events, {fetched} by REST, live again after {statistics.median(took_ms):.0f} ms"
    )


async def ends_well(here: Arena) -> list[dict[str, str]]:
    """When the trading has stopped: hashes and log are the ledger's, and no promise was broken; the log."""
    await here.trade_off()
    await here.agree()
    entries = await here.agree_on_events_after_gaps()
    assert not here.observer.found, "\n".join(here.observer.found)
    return entries


async def writer_of(here: Arena) -> Publisher:
    status = await here.status()
    return next(one for one in here.publishers if f"-{one.pid}-" in status["publisherId"])


@pytest.mark.timeout(900)
async def test_a_writer_killed_again_and_again_loses_and_doubles_nothing(
    own_redis: EmbeddedServer, account_name: str, tmp_path: Path, often: bool
) -> None:
    kills = 50 if often else 4
    took_s: list[float] = []
    async with arena(own_redis, account_name, tmp_path, processes=2, seed=50) as here:
        here.exchange.limits.allow(PLENTY, shown=False)
        here.trade_on()
        for _ in range(kills):
            await here.traded(10)
            writer, former = await writer_of(here), (await here.status())["publisherId"]
            killed_at = time.monotonic()
            writer.signal(signal.SIGKILL)
            here.trade(3)  # what the dead one has received and not written, or never received
            took_s.append((await here.taken_over(former)).at - killed_at)
            here.publishers.remove(writer)
            await here.vouched()
            await here.start()
            await here.is_standby()
            assert await writer_of(here) is not here.publishers[-1], "it takes nothing from a living writer"
        entries = await ends_well(here)
    assert len({entry["epoch"] for entry in entries}) > kills // 2
    print(
        f"{kills} writers killed, {len(entries)} events, taken over after "
        f"{statistics.median(took_s):.2f} s (median), {max(took_s):.2f} s (worst)"
    )
    assert max(took_s) <= TAKEOVER_S + (0 if often else NOISE_S)


@asynccontextmanager
async def commands(server: EmbeddedServer) -> AsyncIterator[list[dict[str, Any]]]:
    """Every command that the server executes, from now on."""
    heard: list[dict[str, Any]] = []

    async def listen() -> None:
        while True:
            heard.append(await monitor.next_command())

    async with redis.asyncio.Redis.from_url(server.url) as client, client.monitor() as monitor:
        listening = asyncio.create_task(listen())
        try:
            yield heard
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def written_by(heard: list[dict[str, Any]], ports: set[int], publishers_key: str) -> tuple[int, list[str]]:
    """How many scripts these ports have run, and what was written by them; that a publisher waits is no state."""
    scripts, found, inside = 0, [], False
    for command in heard:
        if command["client_type"] != "lua":
            inside = int(command["client_port"] or 0) in ports
            scripts += inside and command["command"].upper().startswith("EVALSHA")
        words = command["command"].split()
        if inside and words[0].strip('"').upper() in WRITES and publishers_key not in command["command"]:
            found.append(command["command"][:200])
    return scripts, found


async def test_a_frozen_writer_that_wakes_after_the_takeover_writes_nothing(
    own_redis: EmbeddedServer, account_name: str, tmp_path: Path
) -> None:
    async with arena(own_redis, account_name, tmp_path, processes=2, seed=51) as here:
        frozen = here.publishers[0]
        former = await here.status()
        here.trade_on()
        await here.traded(20)
        async with commands(own_redis) as heard:
            await here.traded(20)
            keys = AccountKeys(here.account_id)
            await here.until(lambda: written_by(heard, frozen.link.ports, keys.publishers)[0] > 5, "its writing")
            assert written_by(heard, frozen.link.ports, keys.publishers)[1], "this has to see what a writer writes"
            frozen.signal(signal.SIGSTOP)
            await here.traded(20)  # frames that wait in its socket
            await here.taken_over(former["publisherId"])
            heard.clear()
            frozen.signal(signal.SIGCONT)
            await here.until(lambda: written_by(heard, frozen.link.ports, keys.publishers)[0] > 5, "its trying")
            await here.traded(40)
            scripts, written = written_by(heard, frozen.link.ports, keys.publishers)
        assert scripts > 5
        assert not written, written
        await ends_well(here)
        changes = await here.client.redis.xrange(keys.changes)
    epochs = [int(fields["epoch"]) for _, fields in cast("list[tuple[str, dict[str, str]]]", changes)]
    assert all(later >= epoch for epoch, later in pairwise(epochs))
    assert epochs[-1] > int(former["epoch"])


@pytest.mark.timeout(900)
async def test_a_redis_killed_20_times_and_wiped_5_times_is_complete_again(account_name: str, tmp_path: Path) -> None:
    took_s: list[float] = []
    (tmp_path / "redis").mkdir()
    server = DurableRedis(tmp_path / "redis")
    with server:
        async with arena(server, account_name, tmp_path, seed=52, limits=unlimited(), tuning=IMPATIENT) as here:
            here.exchange.limits.allow(PLENTY)
            here.trade_on()
            for number in range(25):
                await here.traded(8)
                size = server.written()
                await here.traded(4)
                wiped, robbed = number % 5 == 4, number % 5 == 2
                if wiped or robbed:
                    here.observer.redis_was_put_back()
                server.kill()
                if wiped:
                    shutil.rmtree(tmp_path / "redis" / "appendonlydir")
                elif robbed:
                    server.lose_after(size)
                here.trade(2)
                await asyncio.to_thread(server.start)
                up_at = time.monotonic()
                await here.vouched()
                took_s.append(time.monotonic() - up_at)
            entries = await ends_well(here)
    print(
        f"20 kills (5 lost the file's end) and 5 wipes, {len(entries)} events, live again after "
        f"{statistics.median(took_s):.2f} s (median), {max(took_s):.2f} s (worst)"
    )
