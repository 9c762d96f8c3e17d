"""The parts of a publisher from the stream to the committer, wired as for an account, with nothing connected."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import cast

from support.changes import new_account

from publisher.check_schedule import CheckSchedule
from publisher.committer import Committer
from publisher.discrepancies import Discrepancies
from publisher.gap_fill import GapFiller
from publisher.intake import Intake
from publisher.lease import Lease
from publisher.logs import account_log
from publisher.order_coverage import OrderCoverage
from publisher.reconciler import Hooks, Reconciler
from publisher.record import EventRecord
from publisher.redis_retry import RedisRetry
from publisher.status import Status
from publisher.sync import Synchronizer, SyncPace
from publisher.tuning import Tuning
from publisher.updater import Updater
from statecast.clock import Clock, SystemClock
from statecast.domain.account import Delta
from statecast.domain.catch_up import CatchUp
from statecast.domain.changes import Snapshot
from statecast.store.client import Client
from statecast.store.keys import AccountId
from statecast.store.writer import AccountWriter
from statecast.venues import registry
from statecast.venues.adapter import VenueAccount


class NotingCommitter(Committer):
    """Keeps what was submitted instead of writing it."""

    submitted: list[Delta]

    def submit(self, delta: Delta) -> None:
        self.submitted.append(delta)

    async def events_of_last(self, age_ms: int) -> list[tuple[str, str]]:
        return []

    async def trimmed_until_ms(self) -> int:
        return 0


class StandbyLease(Lease):
    """A lease that another publisher holds."""

    @property
    def is_standby(self) -> bool:
        return True


class _VenueClock:
    """A venue whose clock is this machine's."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def at_ms(self, mono_s: float) -> int:
        return self._clock.now_ms() + round((mono_s - self._clock.monotonic()) * 1000)

    async def sync(self) -> None:
        pass


class Parts:
    """The parts of one account. The log in Redis is empty, and so are the venue's histories."""

    def __init__(self, clock: Clock | None = None, *, changes_at_once: int = 1_000, lease: type[Lease] = Lease) -> None:
        clock = clock or SystemClock()
        traits, log, tuning = registry.venue("binance").traits, account_log("test"), Tuning()
        self.account = new_account()
        writer = AccountWriter(Client("redis://127.0.0.1:1/0", client_name="test"), AccountId("binance", "main"), "p-1")
        self.status = Status(log)
        self.record = EventRecord(tuning.recorded_events, tuning.most_unwritten)
        retry = RedisRetry(clock, log)
        self.lease = lease(writer, self.account, self.record, self.status, retry, clock, log, tuning)
        common = writer, self.account, self.record, self.status, self.lease, retry, clock, log, tuning
        self.committer = NotingCommitter(*common)
        self.committer.submitted = []
        asked = {"fetch_snapshot": self.fetch_snapshot, "history_queries": lambda kind, symbols: ()}
        venue = cast("VenueAccount", SimpleNamespace(clock=_VenueClock(clock), **asked))
        self.updater = Updater(self.account, self.committer, lambda symbols: None, venue.clock, self.status, log)
        self.catch_up = CatchUp(self.account)
        self.gap_filler = GapFiller(
            venue,
            traits,
            self.account,
            self.record,
            self.committer,
            self.lease,
            self.status,
            clock,
            log,
            tuning,
            log_kept_ms=1,
        )
        self.pace = traits.checks
        self.schedule = CheckSchedule(traits.checks, 60.0, Random(1).uniform)
        self.reconciler = Reconciler(
            venue,
            self.account,
            self.lease,
            self.status,
            self.schedule,
            OrderCoverage(traits.checks),
            Discrepancies(traits.checks, traits.wallet_error),
            Hooks(lambda: self.catch_up.is_following, *[lambda _: None] * 3, lambda _: False, lambda _: None),
            clock,
            log,
        )
        self.sync = Synchronizer(
            venue,
            self.account,
            self.catch_up,
            self.gap_filler,
            self.updater,
            self.reconciler,
            self.record,
            self.committer,
            self.lease,
            self.status,
            clock,
            log,
            SyncPace(proof_s=0.0, changes_at_once=changes_at_once),
        )
        self.intake = Intake(
            self.account, self.catch_up, self.updater, self.sync, self.reconciler, self.status, clock, log
        )

    async def fetch_snapshot(self, *, consistent: bool = False) -> Snapshot:
        """The venue's answer."""
        raise NotImplementedError

    @property
    def malformed_frames(self) -> int:
        return int(self.status.fields("p-1", 1)["malformedFrames"])
