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
from publisher.sync import Synchronizer
from publisher.tuning import Tuning
from publisher.updater import Updater
from statecast.clock import SystemClock
from statecast.domain.account import Delta
from statecast.domain.catch_up import CatchUp
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


class Parts:
    """The parts of one account. The venue is asked for nothing but its time."""

    def __init__(self) -> None:
        traits, clock, log, tuning = registry.venue("binance").traits, SystemClock(), account_log("test"), Tuning()
        self.account = new_account()
        writer = AccountWriter(Client("redis://127.0.0.1:1/0", client_name="test"), AccountId("binance", "main"), "p-1")
        self.status = Status(log)
        self.record = EventRecord(tuning.recorded_events)
        retry = RedisRetry(clock, log)
        lease = Lease(writer, self.account, self.record, self.status, retry, clock, log, tuning)
        common = writer, self.account, self.record, self.status, lease, retry, clock, log, tuning
        self.committer = NotingCommitter(*common)
        self.committer.submitted = []
        times = SimpleNamespace(now_ms=clock.now_ms, at_ms=lambda mono_s: round(mono_s * 1000))
        venue = cast("VenueAccount", SimpleNamespace(clock=times))
        self.updater = Updater(self.account, self.committer, lambda symbols: None)
        self.catch_up = CatchUp(self.account)
        self.gap_filler = GapFiller(
            venue,
            traits,
            self.account,
            self.record,
            self.committer,
            lease,
            self.status,
            clock,
            log,
            tuning,
            log_kept_ms=1,
        )
        self.reconciler = Reconciler(
            venue,
            self.account,
            lease,
            self.status,
            CheckSchedule(traits.checks, 60.0, Random(1).uniform),
            OrderCoverage(traits.checks),
            Discrepancies(traits.checks),
            Hooks(lambda: self.catch_up.is_following, lambda _: None, lambda _: None, lambda _: None),
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
            lease,
            self.status,
            clock,
            log,
        )
        self.intake = Intake(self.account, self.catch_up, self.updater, self.sync, self.reconciler, self.status, log)

    @property
    def malformed_frames(self) -> int:
        return int(self.status.fields("p-1", 1)["malformedFrames"])
