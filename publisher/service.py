"""Supervision and the orderly stop of all the accounts that one process publishes."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from random import Random

import structlog

from publisher.account import AccountPublisher
from publisher.config import EMBEDDED, Config
from publisher.stop_signals import StopSignals
from publisher.tuning import Tuning
from publisher.websocket import Connector
from statecast.clock import Clock
from statecast.embedded.server import EmbeddedServer
from statecast.errors import ConfigError, ContractMismatch, StoreAuthFailed, StoreRefused, StoreUnreachable
from statecast.store.client import ACCEPTED_URLS, Client, connect
from statecast.venues import registry
from statecast.venues.registry import SharedLimits

CANCEL_AGAIN_S = 0.2
"""A cancellation that was not heeded is repeated after this time."""


@dataclass(frozen=True, slots=True)
class Chance:
    """What a publisher takes from chance: `rng` for jitter, and a name in Redis that no other publisher has."""

    rng: Random
    new_publisher_id: Callable[[], str]


def system_chance() -> Chance:
    """The machine's chance. A name has the process id, as the contract says; the rest of it distinguishes machines and
    restarts."""
    return Chance(Random(), lambda: f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}")


async def serve(config: Config, clock: Clock, signals: StopSignals) -> None:
    """Publish until SIGINT or SIGTERM, then stop in an orderly way. Where one was received before, do nothing.

    Raises:
        ConfigError: Redis refuses the password, or there is no server to embed.
        ContractMismatch: the keys of all accounts are of another contract version.
    """
    if signals.received:
        return
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals.then(lambda: loop.is_closed() or loop.call_soon_threadsafe(stop.set))
    with redis_server(config.redis_url) as url:
        async with publishing(config, url, clock, system_chance()) as work:
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait((stopping, work), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if work.done():
                work.result()


@contextmanager
def redis_server(url: str) -> Iterator[str]:
    """The URL of a server: `url` itself, or, for `embedded`, that of one which lives as long as the context."""
    if url != EMBEDDED:
        yield url
        return
    with EmbeddedServer() as server:
        structlog.get_logger().info("embedded_redis", url=server.url, binary=server.binary.name)
        yield server.url


@asynccontextmanager
async def publishing(
    config: Config,
    redis_url: str,
    clock: Clock,
    chance: Chance,
    tuning: Tuning | None = None,
    limits: SharedLimits | None = None,
) -> AsyncIterator[asyncio.Task[None]]:
    """Publish all accounts while the context lasts; at its end they stop in an orderly way. `limits` are those that the
    accounts share.

    The task ends only by an error that does not pass by itself. An account that is written under another contract
    version ends alone, and the task with the last one: ContractMismatch.
    """
    async with connect(redis_url, client_name="statecast-publisher") as client:
        await _check_server(client)
        # A way out of this machine has one allowance of calls and of connections, however many accounts are followed
        # over it.
        limits = limits or SharedLimits()
        connectors: dict[tuple[str, str], Connector] = {}
        publishers: list[AccountPublisher] = []
        for account in config.accounts:
            venue = registry.venue(account.access.venue)
            way_out = venue.name, account.access.limits_name
            if way_out not in connectors:
                stream = venue.traits.stream
                connectors[way_out] = Connector(
                    clock,
                    chance.rng,
                    connects=stream.connects,
                    connects_within_s=stream.connects_within_s,
                    connections=stream.connections,
                )
            publishers.append(
                AccountPublisher(
                    account,
                    venue,
                    chance.new_publisher_id(),
                    client,
                    connectors[way_out],
                    limits,
                    clock,
                    chance.rng,
                    tuning or Tuning(),
                )
            )
        work = asyncio.create_task(_run_all(publishers))
        try:
            yield work
        finally:
            # Python 3.11's task group forgets a cancellation that comes together with an error of one of its tasks.
            while not work.done():
                work.cancel()
                await asyncio.wait((work,), timeout=CANCEL_AGAIN_S)
            await asyncio.gather(work, return_exceptions=True)
            await asyncio.gather(*(publisher.stop() for publisher in publishers))


async def _run_all(publishers: list[AccountPublisher]) -> None:
    refused: list[ContractMismatch] = []

    async def run(publisher: AccountPublisher) -> None:
        try:
            await publisher.run()
        except ContractMismatch as error:
            publisher.refuse(error)
            refused.append(error)  # The other accounts go on.

    try:
        async with asyncio.TaskGroup() as tasks:
            for publisher in publishers:
                tasks.create_task(run(publisher))
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    if refused:  # No account is left.
        raise refused[0]


async def _check_server(client: Client) -> None:
    """A Redis that is down may come back; a wrong password will not become right."""
    try:
        with client.errors():
            await client.redis.ping()
    except StoreAuthFailed as error:
        raise ConfigError("STATECAST_REDIS_URL", client.server, f"{ACCEPTED_URLS}; {error.reason}") from None
    except (StoreUnreachable, StoreRefused):
        return
