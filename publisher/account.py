"""Everything that publishes one account: its parts wired together, their work and their end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

from publisher.check_schedule import CheckSchedule
from publisher.committer import Committer
from publisher.config import AccountConfig
from publisher.connection import Route
from publisher.discrepancies import Discrepancies
from publisher.follower import Follower
from publisher.gap_fill import GapFiller
from publisher.intake import Intake
from publisher.janitor import Janitor
from publisher.lease import Lease
from publisher.logs import account_log
from publisher.market import MarkPriceFeed, MarkPrices
from publisher.order_coverage import OrderCoverage
from publisher.reconciler import Hooks, Reconciler
from publisher.record import EventRecord
from publisher.redis_retry import RedisRetry
from publisher.responder import RefreshResponder
from publisher.status import Status
from publisher.sync import Synchronizer, SyncPace
from publisher.tuning import Tuning
from publisher.updater import Updater
from publisher.user_stream import UserStream
from publisher.websocket import Connector
from statecast.clock import Clock
from statecast.domain.account import Account
from statecast.domain.catch_up import CatchUp
from statecast.domain.snapshot_merge import RestTiming
from statecast.errors import StoreError
from statecast.store.client import Client
from statecast.store.reader import other_publishers
from statecast.store.writer import AccountWriter
from statecast.venues.adapter import Venue
from statecast.venues.registry import SharedLimits

STOP_WITHIN_S = 2.5
"""Time to write what is left. The contract gives an orderly stop 5 s; closing the stream takes up to one of them."""

WRITE_WITHIN_S = 1.5
"""Of it, time for order events that wait: some ten thousand. What is left of them then is an entry of type GAP."""

CLOSE_WITHIN_S = 1.0
"""Time to close the connections to REST."""


class AccountPublisher:
    """One account's committer, follower, market stream, janitor and responder. `run` it until cancelled, then `stop`
    it."""

    def __init__(
        self,
        config: AccountConfig,
        venue: Venue,
        publisher_id: str,
        client: Client,
        connector: Connector,
        limits: SharedLimits,
        clock: Clock,
        rng: Random,
        tuning: Tuning,
    ) -> None:
        """`publisher_id` is this publisher's name in Redis; no other process has the same."""
        self._publisher_id = publisher_id
        self._client = client
        self._config = config
        self._clock = clock
        self._log = log = account_log(config.account_id)
        traits = venue.traits
        timing = RestTiming(traits.rest_lag_ms, traits.rest_recent_ms)
        account = Account(timing, max_conditional_orders=traits.max_conditional_orders, memory=tuning.memory)
        self._venue_account = rest = venue.account(config.access, clock, limits.of(config.access))
        route = Route(venue.name, connector, clock, rest.clock, traits.stream.ping_after_s)

        # To Redis
        record = EventRecord(tuning.recorded_events, tuning.most_unwritten)
        lease_ttl_ms = round(config.lease_s * 1000)
        writer = AccountWriter(
            client,
            config.account_id,
            publisher_id,
            lease_ttl_ms=lease_ttl_ms,
            changes_length=tuning.changes_length,
        )
        self._status = status = Status(log)
        retry = RedisRetry(clock, log)
        lease = Lease(writer, account, record, status, retry, clock, log, tuning)
        self._committer = committer = Committer(writer, account, record, status, lease, retry, clock, log, tuning)

        # From the venue
        market = MarkPrices(rest, traits.stream, route, log)
        updater = Updater(account, committer, market.follow, rest.clock, status, log)
        catch_up = CatchUp(account, max_events=tuning.unlogged_events, unwritten=lambda: record.unwritten)
        gap_filler = GapFiller(
            rest,
            traits,
            account,
            record,
            committer,
            lease,
            status,
            clock,
            log,
            tuning,
            log_kept_ms=round(config.events_retention_s * 1000),
        )
        reconciler = Reconciler(
            rest,
            account,
            lease,
            status,
            CheckSchedule(traits.checks, config.reconcile_s, rng.uniform),
            OrderCoverage(traits.checks),
            Discrepancies(traits.checks, traits.wallet_error, tuning.grace_s),
            Hooks(
                is_following=lambda: catch_up.is_following,
                apply=lambda answer: updater.apply((answer,), "rest"),
                agreed=gap_filler.agreed,
                incomplete=lambda reason: sync.resync(reason),  # noqa: PLW0108 - it is made below, with this
                is_late=lambda asked_ms: intake.is_late(asked_ms),  # noqa: PLW0108 - as above
                look_in=gap_filler.look_in,
            ),
            clock,
            log,
        )
        proof_s = traits.rest_recent_ms / 1000 if tuning.proof_s is None else tuning.proof_s
        sync = Synchronizer(
            rest,
            account,
            catch_up,
            gap_filler,
            updater,
            reconciler,
            record,
            committer,
            lease,
            status,
            clock,
            log,
            SyncPace(proof_s, tuning.changes_at_once),
        )
        intake = Intake(account, catch_up, updater, sync, reconciler, status, clock, log)
        stream = UserStream(rest, traits.stream, route, log, shared=config.shared_stream, unproven=reconciler.due)
        committer.bind(sync.resync, sync.lease_acquired)
        self._sync = sync
        self._follower = Follower(
            venue,
            rest,
            stream,
            intake,
            sync,
            reconciler,
            lease,
            status,
            connector,
            clock,
            log,
            tuning,
            shared_stream=config.shared_stream,
        )
        self._market = market
        self._feed = MarkPriceFeed(
            market, account, updater, sync.resync, status, clock, every_s=config.mark_price_interval_s
        )

        # For readers
        self._responder = RefreshResponder(client, config, publisher_id, rest, reconciler.offer, clock, log)
        self._janitor = Janitor(client, config, writer, gap_filler.reaches_ms, clock, log, tuning)

    async def run(self) -> None:
        """Publish until cancelled; ends by itself only with an error that does not pass by itself."""
        self._log.info("starting", publisher=self._publisher_id, redis=self._client.server)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._committer.run())
                tasks.create_task(self._market.run())
                tasks.create_task(self._feed.run())
                tasks.create_task(self._follower.run())
                tasks.create_task(self._janitor.run())
                tasks.create_task(self._responder.run())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    def refuse(self, error: StoreError) -> None:
        """After `run` has ended: nothing is written any more, for this reason, until the program is started again."""
        self._status.move("refused", str(error))

    async def stop(self) -> None:
        """Write what is left and `stopped`, free the lease, close. Never raises: there is nobody left to act on it."""
        refused = f"; {self._status.reason}" if self._status.state == "refused" else ""
        self._status.move("stop", "the publisher was stopped" + refused)
        others = True
        try:
            until_mono_s = self._clock.monotonic() + WRITE_WITHIN_S
            self._sync.stop()  # Of very many events, this alone takes seconds: then their entry has still time.
            async with asyncio.timeout(STOP_WITHIN_S):
                await self._committer.close(until_mono_s)
                others = bool(await other_publishers(self._client, self._config.account_id, self._publisher_id))
        except (StoreError, TimeoutError) as error:
            self._log.warning("stopped_without_saying_so", reason=str(error) or "no answer within the time-out")
        finally:  # also when the event loop ends meanwhile, which cancels this
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_WITHIN_S):
                    await self._venue_account.aclose(last=not others)
