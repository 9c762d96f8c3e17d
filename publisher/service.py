"""Wiring, supervision and the orderly stop of everything that one publisher process does."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from random import Random

import structlog

from publisher.committer import Committer
from publisher.config import EMBEDDED, AccountConfig, Config
from publisher.follower import Follower
from publisher.janitor import Janitor
from publisher.logs import account_log
from publisher.responder import RefreshResponder
from publisher.websocket import Connector
from statecast.clock import Clock
from statecast.domain.account import Account
from statecast.embedded.server import EmbeddedServer
from statecast.errors import ConfigError, StoreAuthFailed, StoreError, StoreRefused, StoreUnreachable
from statecast.store.client import ACCEPTED_URLS, Client, connect
from statecast.store.reader import other_publishers
from statecast.store.writer import AccountWriter
from statecast.venues import registry
from statecast.venues.registry import SharedLimits

STOP_WITHIN_S = 2.5
"""To write what is left. The contract gives an orderly stop 5 s; closing the stream takes up to one of them."""

CANCEL_AGAIN_S = 0.2

CLOSE_WITHIN_S = 1.0
"""To close the connections to REST."""


async def serve(config: Config, clock: Clock) -> None:
    """Publish until SIGINT or SIGTERM, then stop in an orderly way.

    Raises:
        ConfigError: Redis refuses the password, or there is no server to embed.
        StoreError: the keys are of another contract version.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        with redis_server(config.redis_url) as url:
            async with publishing(config, url, clock) as work:
                stopping = asyncio.create_task(stop.wait())
                await asyncio.wait((stopping, work), return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                if work.done():
                    work.result()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


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
    config: Config, redis_url: str, clock: Clock, limits: SharedLimits | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """Publish all accounts while the context lasts; at its end they stop in an orderly way. `limits` are those that the
    accounts share.

    The task ends only by an error that no waiting mends.
    """
    async with connect(redis_url, client_name="statecast-publisher") as client:
        await _check_server(client)
        # A way out of this machine has one allowance of calls and of connections, however many accounts are followed
        # over it.
        limits = limits or SharedLimits()
        rng = Random()
        connectors: dict[tuple[str, str], Connector] = {}
        for account in config.accounts:
            traits = registry.venue(account.access.venue).traits.stream
            connectors.setdefault(
                (account.access.venue, account.access.limits_name),
                Connector(clock, rng, connects=traits.connects, connects_within_s=traits.connects_within_s),
            )
        publications = [
            _Publication(
                account,
                client,
                connectors[account.access.venue, account.access.limits_name],
                clock,
                rng,
                limits,
            )
            for account in config.accounts
        ]
        work = asyncio.create_task(_all(publications))
        try:
            yield work
        finally:
            # Python 3.11's task group forgets a cancellation that comes together with an error of one of its tasks.
            while not work.done():
                work.cancel()
                await asyncio.wait((work,), timeout=CANCEL_AGAIN_S)
            await asyncio.gather(work, return_exceptions=True)
            await asyncio.gather(*(publication.stop() for publication in publications))


async def _all(publications: list[_Publication]) -> None:
    try:
        async with asyncio.TaskGroup() as tasks:
            for publication in publications:
                tasks.create_task(publication.run())
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


async def _check_server(client: Client) -> None:
    """A Redis that is down may come back; a wrong password will not become right."""
    try:
        with client.errors():
            await client.redis.ping()
    except StoreAuthFailed as error:
        raise ConfigError("STATECAST_REDIS_URL", client.server, f"{ACCEPTED_URLS}; {error.reason}") from None
    except (StoreUnreachable, StoreRefused):
        return


class _Publication:
    """One account's committer, follower, janitor and answers to readers, and their end."""

    def __init__(
        self,
        config: AccountConfig,
        client: Client,
        connector: Connector,
        clock: Clock,
        rng: Random,
        limits: SharedLimits,
    ) -> None:
        # With the process id, as the contract says; the rest tells machines and restarts apart.
        self._publisher_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._client = client
        self._config = config
        self._log = account_log(config.account_id)
        account = Account()
        writer = AccountWriter(client, config.account_id, self._publisher_id, lease_ttl_ms=round(config.lease_s * 1000))
        access = config.access
        rest = registry.venue(access.venue).account(access, clock, limits.of(access))
        self._committer = Committer(writer, account, clock, self._log)
        self._follower = Follower(config, rest, account, self._committer, connector, clock, rng, self._log)
        self._responder = RefreshResponder(client, config, self._publisher_id, rest, self._follower, clock, self._log)
        self._janitor = Janitor(client, config, writer, self._follower.log_needed_ms, clock, self._log)

    async def run(self) -> None:
        self._log.info("starting", publisher=self._publisher_id, redis=self._client.server)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._committer.run())
                tasks.create_task(self._follower.run())
                tasks.create_task(self._janitor.run())
                tasks.create_task(self._responder.run())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def stop(self) -> None:
        """Write what is left and `stopped`, free the lease, close. Never raises: there is nobody left to act on it."""
        health = self._committer.health
        refused = f"; {health.reason}" if health.state == "refused" else ""
        self._committer.move("stop", "the publisher was stopped" + refused)
        others = True
        try:
            async with asyncio.timeout(STOP_WITHIN_S):
                await self._committer.close()
                others = bool(await other_publishers(self._client, self._config.account_id, self._publisher_id))
        except (StoreError, TimeoutError) as error:
            self._log.warning("stopped_without_saying_so", reason=str(error) or "no answer within the time-out")
        finally:  # also when the event loop ends meanwhile, which cancels this
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN_S):
                    await self._follower.aclose(others)
