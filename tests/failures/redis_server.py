"""Failures of Redis itself: killed, emptied, put back, full, read-only, slow."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from failures.matrix import Logged, scenario
from failures.stream import NOTHING
from support.arena import Arena, DurableRedis

from statecast.embedded.server import EmbeddedServer
from statecast.store.client import connect
from statecast.store.keys import AccountKeys

CHAPTER = "Redis"
UNREACHABLE = "Redis does not answer, then `live`"
FROM_MEMORY = "writes everything again from memory: a new `epoch`, a `replaces` entry, the lost order events"


def durable(here: Arena) -> DurableRedis:
    assert isinstance(here.redis, DurableRedis)
    return here.redis


@scenario(
    CHAPTER,
    failure="Redis is killed (SIGKILL) and starts again a second later with its append-only file",
    readers=UNREACHABLE,
    heals="the publisher queues, then writes everything in order; the file is complete: only the process was killed",
    log=(Logged("cannot_write"), Logged("can_write_again")),
    durable=True,
)
async def redis_killed(here: Arena) -> None:
    here.redis.kill()
    await here.noticed()
    await asyncio.sleep(1.0)
    await asyncio.to_thread(here.redis.start)
    here.over()


@scenario(
    CHAPTER,
    failure="Redis is away for longer than the lease, and starts again with its append-only file",
    readers="Redis does not answer, then `recovering`, then `live`",
    heals="takes the lease again, under a new epoch, and writes everything again, with the order events that waited",
    log=(Logged("cannot_write"), Logged("state", "lease")),
    durable=True,
)
async def redis_killed_for_long(here: Arena) -> None:
    here.redis.kill()
    await here.noticed()
    await asyncio.sleep(4.0)
    await asyncio.to_thread(here.redis.start)
    here.over()


@scenario(
    CHAPTER,
    failure="Redis loses its power and the last second of its append-only file (appendfsync everysec)",
    readers="Redis does not answer, then an older state with its true age, then `live`",
    heals="notices it by `seq`, and " + FROM_MEMORY,
    log=(Logged("rewriting"),),
    durable=True,
)
async def redis_lost_its_last_second(here: Arena) -> None:
    redis = durable(here)
    size = redis.written()
    await here.traded(30)
    redis.kill()
    assert redis.written() > size
    redis.lose_after(size)
    here.observer.redis_was_put_back()
    await here.noticed()
    await asyncio.to_thread(redis.start)
    here.over()


@scenario(
    CHAPTER,
    failure="Redis starts again empty",
    readers="Redis does not answer, or nothing is there: unknown, never flat; then `recovering`, then `live`",
    heals="asks the venue, then " + FROM_MEMORY,
    log=(Logged("state", "lease"),),
)
async def redis_restarted_empty(here: Arena) -> None:
    here.observer.redis_was_put_back()
    await asyncio.to_thread(here.redis.restart)
    await here.noticed()
    here.over()


@scenario(
    CHAPTER,
    failure="FLUSHALL while the publisher writes",
    readers="nothing is there: unknown, never flat; then `recovering`, then `live`",
    heals="asks the venue, then " + FROM_MEMORY,
    found="at once: at the next write, within a second",
    log=(Logged("state", "lease"),),
)
async def redis_flushed(here: Arena) -> None:
    here.observer.redis_was_put_back()
    await here.client.redis.flushall()
    await here.noticed()


@scenario(
    CHAPTER,
    failure="somebody deletes the hash of positions",
    readers="unknown, never flat, for a moment; then `live`",
    heals=FROM_MEMORY,
    found="at once: at the next write, within a second",
    log=(Logged("rewriting", "a state hash is gone"),),
)
async def redis_hash_deleted(here: Arena) -> None:
    await here.client.redis.delete(AccountKeys(here.account_id).positions)
    await here.until(lambda: here.logged("rewriting"), "the log to tell it")


@scenario(
    CHAPTER,
    failure="fail-over to a replica that lags by a second",
    readers="an older state with its true age, then `live`",
    heals="notices it by `seq`, and " + FROM_MEMORY,
    log=(Logged("rewriting"),),
)
async def redis_failed_over(here: Arena) -> None:
    replica = here.stack.enter_context(EmbeddedServer())
    operator = await here.stack.enter_async_context(connect(replica.url, client_name="operator"))
    command: Any = operator.redis.execute_command
    # Our servers write no file, so the copy goes from memory to memory, and at once.
    await here.client.redis.config_set("repl-diskless-sync-delay", 0)
    await operator.redis.config_set("repl-diskless-load", "swapdb")
    await command("REPLICAOF", here.redis.host, here.redis.port)
    while (await operator.redis.info("replication"))["master_link_status"] != "up":
        await asyncio.sleep(0.02)
    await here.traded(20)
    await command("REPLICAOF", "NO", "ONE")
    await here.traded(20)  # the replica does not hear of these
    here.begins()
    here.observer.redis_was_put_back()
    here.link.down()
    here.redis.kill()
    here.link.target = (replica.host, replica.port)
    here.client = here.observer.client = operator
    here.link.down(is_down=False)
    here.over()


@scenario(
    CHAPTER,
    failure="Redis is out of memory (OOM): it refuses writes and answers reads",
    readers="the last state, whose age grows; then `live`",
    heals="the publisher keeps its lease, queues, and writes everything in order when there is memory again",
    found="at once: the age grows",
    log=(Logged("cannot_write", "used memory"), Logged("can_write_again")),
)
async def redis_full(here: Arena) -> None:
    await here.client.redis.config_set("maxmemory", "1mb")
    await here.noticed()
    await asyncio.sleep(1.0)
    await here.client.redis.config_set("maxmemory", "0")
    here.over()


@scenario(
    CHAPTER,
    failure="Redis becomes read-only: it was made a replica",
    readers="the last state, whose age grows; then `recovering`, then `live`",
    heals="the publisher queues; when it can write, it writes everything again, with the order events that waited",
    found="at once: the age grows",
    log=(Logged("cannot_write"), Logged("can_write_again")),
)
async def redis_read_only(here: Arena) -> None:
    await here.command("REPLICAOF", "127.0.0.1", "9")
    await here.noticed()
    await here.command("REPLICAOF", "NO", "ONE")
    here.over()


@scenario(
    CHAPTER,
    failure="Redis hangs for four seconds (CLIENT PAUSE)",
    readers="Redis does not answer, then `recovering`, then `live`",
    heals="sends calls without an answer again; takes the lost lease again, under a new epoch",
    log=(Logged("cannot_write"),),
)
async def redis_paused(here: Arena) -> None:
    await here.command("CLIENT", "PAUSE", 4000, "ALL")
    await here.noticed()
    await asyncio.sleep(3.5)
    here.over()


@scenario(
    CHAPTER,
    failure="Redis is busy for two seconds (DEBUG SLEEP)",
    readers=UNREACHABLE,
    heals="the publisher queues, then writes everything in order",
    log=(Logged("cannot_write"),),
    durable=True,
)
async def redis_asleep(here: Arena) -> None:
    async with connect(here.redis.url, client_name="operator", timeout_s=10.0) as operator:
        command: Any = operator.redis.execute_command
        sleeping = asyncio.create_task(command("DEBUG", "SLEEP", "2.3"))
        await here.noticed()
        await sleeping
    here.over()


@scenario(
    CHAPTER,
    failure="the machine of Redis freezes for four seconds (SIGSTOP)",
    readers="Redis does not answer, then `recovering`, then `live`",
    heals="sends calls without an answer again; takes the lost lease again, under a new epoch",
    log=(Logged("cannot_write"),),
    durable=True,
)
async def redis_frozen(here: Arena) -> None:
    durable(here).freeze()
    try:
        await here.noticed()
        await asyncio.sleep(3.0)
    finally:
        durable(here).freeze(frozen=False)
    here.over()


@scenario(
    CHAPTER,
    failure="Redis rewrites its append-only file during trading",
    readers=NOTHING,
    heals="nothing to do",
    durable=True,
)
async def redis_rewrites_its_file(here: Arena) -> None:
    await here.client.redis.bgrewriteaof()
    await here.traded(20)


def own_server(durable_: bool) -> tuple[EmbeddedServer, TemporaryDirectory[str] | None]:
    """A server for one scenario, not started yet, and the directory of its files."""
    if not durable_:
        return EmbeddedServer(), None
    directory = TemporaryDirectory(prefix="statecast-failures-", ignore_cleanup_errors=True)
    return DurableRedis(Path(directory.name)), directory
