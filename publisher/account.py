"""Everything that publishes one account: its parts wired together, their work and their end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

from publisher.committer import Committer
from publisher.config import AccountConfig
from publisher.follower import Follower
from publisher.janitor import Janitor
from publisher.lease import Lease
from publisher.logs import account_log
from publisher.record import EventRecord
from publisher.redis_retry import RedisRetry
from publisher.responder import RefreshResponder
from publisher.status import Status
from publisher.tuning import Tuning
from publisher.websocket import Connector
from statecast.clock import Clock
from statecast.domain.account import Account
from statecast.errors import StoreError
from statecast.store.client import Client
from statecast.store.reader import other_publishers
from statecast.store.writer import AccountWriter
from statecast.venues.binance.weight import WeightBudget

STOP_WITHIN_S = 2.5
"""Time to write what is left. The contract gives an orderly stop 5 s; closing the stream takes up to one of them."""

CLOSE_WITHIN_S = 1.0
"""Time to close the connections to REST."""


class AccountPublisher:
    """One account's committer, follower, janitor and responder. `run` it until cancelled, then `stop` it."""

    def __init__(
        self,
        config: AccountConfig,
        publisher_id: str,
        client: Client,
        connector: Connector,
        budget: WeightBudget,
        clock: Clock,
        rng: Random,
        tuning: Tuning,
    ) -> None:
        """`publisher_id` is this publisher's name in Redis; no other process has the same."""
        self._publisher_id = publisher_id
        self._client = client
        self._config = config
        self._log = log = account_log(config.account_id)
        account = Account()
        record = EventRecord(tuning.recorded_events)
        writer = AccountWriter(client, config.account_id, publisher_id, lease_ttl_ms=round(config.lease_s * 1000))
        rest = config.access.rest(clock, budget)
        self._status = status = Status(log)
        retry = RedisRetry(clock, log)
        lease = Lease(writer, account, record, status, retry, clock, log, tuning)
        self._committer = Committer(writer, account, record, status, lease, retry, clock, log, tuning)
        self._follower = Follower(
            config, rest, account, self._committer, status, lease, record, connector, clock, rng, log
        )
        self._responder = RefreshResponder(client, config, publisher_id, rest, self._follower, clock, log)
        self._janitor = Janitor(client, config, writer, self._follower.log_needed_ms, clock, log, tuning)

    async def run(self) -> None:
        """Publish until cancelled; ends by itself only with an error that no waiting mends."""
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
        refused = f"; {self._status.reason}" if self._status.state == "refused" else ""
        self._status.move("stop", "the publisher was stopped" + refused)
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
