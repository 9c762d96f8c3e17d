"""REST next to a living stream: what no event carries, and whether the stream has sent everything.

A stream that is open and silent looks like an account on which nothing happens. Only the venue's own answer shows the
difference: every period everything is compared, soon after changes what they have moved is asked for. At the first
difference the state is no longer verified; the stream may explain it, or another answer a second later. What neither
has explained after the grace is drift: the stream is at an end, and the account is read again on a new connection. As
long as the stream still sends what happened before, it may explain it: another connection would lose that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

from publisher.check_schedule import RECHECK_OLD_S, RECHECK_S, CheckSchedule, Kind
from publisher.discrepancies import Discrepancies, describe
from publisher.lease import Lease
from publisher.logs import Log
from publisher.order_coverage import OrderCoverage
from publisher.status import Status
from statecast.clock import Clock, wait_until
from statecast.domain.account import Account
from statecast.domain.changes import Check, Snapshot, WalletCorrection
from statecast.domain.models import Balance
from statecast.errors import AuthFailed, FrameError, LimitReached, RateLimited, VenueError
from statecast.venues.adapter import FIGURES_ONLY, CheckScope, StreamEnded, VenueAccount

EXPLAIN_S = 0.05
"""Between two looks whether the stream has explained a difference, while it sends."""


class Drift(StreamEnded):
    """The venue differs from the state, and the stream has not explained it within the grace."""


class Hooks(NamedTuple):
    """What comparing an account needs of those who change it."""

    is_following: Callable[[], bool]
    """Whether the account follows the stream: otherwise there is nothing to compare."""
    apply: Callable[[Check | WalletCorrection], object]
    """Takes an answer into the account; raises FrameError for amounts that are too large to compute with."""
    agreed: Callable[[int], None]
    """Called with the venue's time until which all orders are known to be logged."""
    incomplete: Callable[[str], None]
    """Called where an event is missing in the log, and nothing else shows that the stream does not work."""
    is_late: Callable[[int], bool]
    """Whether the stream still sends what happened before this venue time."""
    look_in: Callable[[frozenset[str]], None]
    """Called before an end with symbols in which orders were found that the log does not have."""


class Reconciler:
    """Compares one account with the venue; `run` while there is a stream."""

    def __init__(
        self,
        venue: VenueAccount,
        account: Account,
        lease: Lease,
        status: Status,
        schedule: CheckSchedule,
        coverage: OrderCoverage,
        discrepancies: Discrepancies,
        hooks: Hooks,
        clock: Clock,
        log: Log,
    ) -> None:
        self._venue = venue
        self._account = account
        self._lease = lease
        self._status = status
        self._schedule = schedule
        self._coverage = coverage
        self._discrepancies = discrepancies
        self._hooks = hooks
        self._clock = clock
        self._log = log
        self._changed = asyncio.Event()
        """Set when a deadline may have moved, or the stream may have explained a difference."""
        self._verified_until_mono_s = 0.0
        self._in_doubt = False
        """Whether readers see a doubt that arose here."""
        self._compared: tuple[float, Check] | None = None
        """The last answer to the question for everything, and when that was asked, where it was not yet found to agree
        with the account."""
        self._trouble = "no answer yet"

    # What happens elsewhere

    def moved(self, symbols: Iterable[str] = ()) -> None:
        """Something has changed, orders of these symbols among it: what no event carries is asked for soon."""
        for symbol in symbols:
            self._coverage.trades_in(symbol)
        # Not with every frame of a busy stream: only where something can follow from it.
        if self._schedule.moved(self._clock.monotonic()) or self._discrepancies:
            self._changed.set()

    def due(self) -> None:
        """Something is doubtful: everything is compared as soon as the pace allows it, and once more when REST has what
        the stream has sent by now."""
        self._schedule.due(self._clock.monotonic() + self._account.rest.recent_ms / 1000)
        self._changed.set()

    def begins(
        self,
        snapshot: Snapshot,
        asked_mono_s: float,
        proof_mono_s: float,
        orders_since_ms: int,
        symbols: Iterable[str],
        unread: Iterable[str] = (),
        unread_since_ms: int = 0,
        once_more_mono_s: tuple[float, ...] = (),
    ) -> None:
        """The account was read whole, asked for at the first moment, and follows the stream from here on. An answer to
        a question from the second moment on has what happened before the stream was connected. Orders created until
        that venue time are logged, conditional ones in those symbols; in the `unread` ones until `unread_since_ms`.

        The state is `live` from now on only where the first question was late enough to be proof, and is not too old: a
        gap fill may wait a minute for the venue's limits. Else the first comparison decides; so it does where a row
        that the stream has sent stands against the `snapshot`, and where a row of that could not be understood.
        Everything is compared `once_more` at those moments, for REST may be further behind than the proof takes it to
        be.
        """
        self._discrepancies.begin_again(self._account, snapshot.as_check(), self._clock.monotonic())
        self._compared = None
        self._coverage.begins(orders_since_ms, symbols, unread, unread_since_ms)
        self._schedule.begins(asked_mono_s, proof_mono_s, once_more_mono_s)
        self._verified(asked_mono_s)
        has_doubt = self._discrepancies.doubtful
        self._in_doubt = has_doubt or self._schedule.awaits_proof or self._is_overdue
        if has_doubt:
            self._status.move("degrade", f"the venue differs: {self._discrepancies}")
        elif self._is_overdue:
            age_s = self._clock.monotonic() - asked_mono_s
            self._status.move("degrade", f"comparing with the venue once more: the snapshot is {age_s:.0f} s old")
        elif self._in_doubt:
            self._status.move("degrade", "stream connected, asking the venue once more: REST may have been behind")
        else:
            self._status.reconciled(self._clock.now_ms())
            self._status.move("reconciled", "stream connected, snapshot reconciled")
        self._changed.set()

    def take(self, answer: Check, asked_mono_s: float) -> None:
        """Compare an answer to a question of that moment, whoever has asked.

        Raises FrameError for amounts that are too large to compute with.
        """
        self._status.count_unreadable(answer.unreadable)
        self._hooks.apply(answer)
        self._discrepancies.take(self._account, answer, self._clock.monotonic())
        if answer.symbol_configs is not None and answer.order_symbols is None:
            self._compared = asked_mono_s, replace(answer, created=())
        self._settle()
        self._changed.set()

    def offer(self, answer: Check) -> None:
        """An answer that was fetched for readers: as good as one of the publisher's own, while the account follows the
        stream."""
        if not self._hooks.is_following():
            return
        try:
            self.take(answer, self._clock.monotonic())
        except FrameError as error:
            self._hooks.incomplete(str(error))

    # The work

    async def run(self) -> None:
        """Ask and compare until the stream is found to have missed something: Drift; or AuthFailed."""
        self._schedule.forget_moved()
        while True:
            kind = await self._next_question()
            asked_mono_s = self._clock.monotonic()
            try:
                answer = await self._ask(kind)
            except AuthFailed:
                raise
            except LimitReached as error:
                self._not_sent(kind, error)
                continue
            except (VenueError, FrameError) as error:
                self._log.warning("check_failed", reason=str(error))
                self._schedule.asked(kind, asked_mono_s)
                self._put_off(error)
                continue
            self._schedule.asked(kind, asked_mono_s)
            self._schedule.answered()
            if not self._hooks.is_following():
                continue
            self.take(answer, asked_mono_s)
            now = self._clock.monotonic()
            if balances := self._discrepancies.wallets_that_recur(now):
                self._correct(balances)
            if openings := self._discrepancies.only_openings(now):
                self._hooks.incomplete(f"the opening event is missing: {describe(openings)}")
            elif (drift := self._discrepancies.unexplained(now)) and not self._hooks.is_late(answer.taken_ms):
                self._discrepancies.note_wallets_alone(now)
                self._status.count_drift()
                self._hooks.look_in(self._discrepancies.history_symbols)
                self._log.warning("drift", differences=describe(drift))
                raise Drift("drift from the venue: " + describe(drift))

    async def _ask(self, kind: Kind) -> Check:
        """The venue's answer. What would come too late if it waited for the limits is urgent."""
        scope = self._scope(kind)
        try:
            return await self._venue.fetch_check(scope)
        except LimitReached as error:
            is_in_time = self._clock.monotonic() + self._wait_s(error) <= self._verified_until_mono_s
            if scope.urgent or kind == "figures" or is_in_time:
                raise
            return await self._venue.fetch_check(scope._replace(urgent=True))

    def _correct(self, balances: Iterable[Balance]) -> None:
        """The venue changes these wallets without an event: REST's count, and the stream is as good as before."""
        for balance in balances:
            self._log.warning("wallet_corrected", asset=balance.asset, venue=str(balance.wallet_balance))
            self._status.count_wallet_correction()
            self._hooks.apply(WalletCorrection(balance))
        self._discrepancies.note_wallets_alone(self._clock.monotonic())
        self._explain()

    def _scope(self, kind: Kind) -> CheckScope:
        if kind == "figures":
            return FIGURES_ONLY
        if kind == "again":
            found = self._discrepancies
            by_id = self._coverage.turn(found.unlisted_orders)
            return CheckScope(found.order_symbols, found.settings, by_id=by_id)
        everything_s = self._schedule.everything_s(is_standby=self._lease.is_standby)
        doubtful = (*self._account.triggered_without_order(), *self._discrepancies.unlisted_orders)
        scope = self._coverage.scope(everything_s, doubtful, is_standby=self._lease.is_standby)
        return scope._replace(urgent=self._schedule.awaits_proof or self._schedule.has_doubt or self._is_overdue)

    async def _next_question(self) -> Kind:
        """Wait until something is due, and say what."""
        explain_mono_s = 0.0
        while True:
            self._changed.clear()
            now = self._clock.monotonic()
            if not self._hooks.is_following():
                self._schedule.forget_moved()
                await self._changed.wait()
                continue
            if self._discrepancies and now >= explain_mono_s:
                self._explain()
                explain_mono_s = now + EXPLAIN_S
            if now > self._verified_until_mono_s and not self._in_doubt:
                self._in_doubt = True
                self._status.move("degrade", self._not_compared)
            due = self._schedule.next(
                now,
                again_s=self._again_s(),
                by_symbol=self._discrepancies.order_symbols is not None,
                is_standby=self._lease.is_standby,
            )
            if due.kind is not None:
                return due.kind
            wake_mono_s = due.wake_mono_s
            if not self._in_doubt:
                wake_mono_s = min(wake_mono_s, self._verified_until_mono_s + EXPLAIN_S)
            await wait_until(self._changed, wake_mono_s, self._clock)
            if self._discrepancies and self._clock.monotonic() < min(explain_mono_s, wake_mono_s):
                # A stream that sends much is looked at now and then, not with each of its frames.
                await self._clock.sleep(explain_mono_s - self._clock.monotonic())

    def _again_s(self) -> float | None:
        if not self._discrepancies:
            return None
        return RECHECK_OLD_S if self._discrepancies.old_answers_only else RECHECK_S

    def _explain(self) -> None:
        self._discrepancies.explain(self._account)
        if not self._discrepancies.doubtful:
            self._settle()

    def _settle(self) -> None:
        """Publish until when the state is verified, by the last answers and what the stream has explained of them."""
        if self._discrepancies.doubtful:
            self._status.stop_verifying()
            if self._compared is not None and not self._discrepancies:
                # A row that cannot be understood may last: the rest is compared as ever.
                self._schedule.agreed(self._agreed(*self._compared), is_standby=self._lease.is_standby)
        elif self._compared is not None:
            self._status.reconciled(self._clock.now_ms())
            asked_mono_s = self._agreed(*self._compared)
            self._verified(asked_mono_s)
            took_s = self._clock.monotonic() - asked_mono_s
            self._trouble = f"the last answer took {took_s:.0f} s" if self._is_overdue else "no newer answer agrees"
        else:
            self._status.verify_until(self._verified_until_mono_s)
        self._show()

    def _agreed(self, asked_mono_s: float, answer: Check) -> float:
        """What could be compared agrees; returns when it was asked for."""
        self._compared = None
        if not self._discrepancies.of_history:
            self._hooks.agreed(self._coverage.agreed(answer))
        return asked_mono_s

    def _verified(self, asked_mono_s: float) -> None:
        """The state was true when the venue was asked; until the next comparison is overdue it counts as verified."""
        is_standby = self._lease.is_standby
        self._schedule.agreed(asked_mono_s, is_standby=is_standby)
        period_s = self._schedule.everything_s(is_standby=is_standby)
        self._verified_until_mono_s = asked_mono_s + period_s + self._discrepancies.grace_s
        self._status.verify_until(self._verified_until_mono_s)

    @property
    def _is_overdue(self) -> bool:
        """Whether the last answer that agreed is too old."""
        return self._clock.monotonic() > self._verified_until_mono_s

    def _show(self) -> None:
        """Readers see `recovering` where a difference outlasts a second answer, and `live` when it is gone."""
        if self._discrepancies.repeated:
            self._in_doubt = True
            self._status.move("degrade", f"the venue differs: {self._discrepancies}")
        elif self._in_doubt and self._is_overdue:
            self._status.move("degrade", self._not_compared)
        elif self._in_doubt and not (self._discrepancies.doubtful or self._schedule.awaits_proof):
            self._in_doubt = False
            self._status.move("reconciled", "the venue agrees")

    @property
    def _not_compared(self) -> str:
        return f"not compared with the venue for too long: {self._trouble}"

    def _not_sent(self, kind: Kind, error: LimitReached) -> None:
        """The venue's limits do not allow it yet."""
        self._schedule.put_off(kind, self._clock.monotonic() + self._wait_s(error))
        if kind == "figures":
            return
        self._trouble = str(error)
        if self._schedule.has_doubt and not self._in_doubt:
            self._in_doubt = True
            self._status.move("degrade", f"the state has to be compared with the venue: {error}")

    def _wait_s(self, error: RateLimited) -> float:
        return max(0.0, (error.retry_at_ms - self._venue.clock.now_ms()) / 1000)

    def _put_off(self, error: VenueError | FrameError) -> None:
        """Everything is compared once the venue may be asked again."""
        wait_s = None
        if isinstance(error, RateLimited):
            wait_s = max(1.0, self._wait_s(error))
        self._trouble = str(error)
        if self._in_doubt and self._is_overdue:
            self._status.move("degrade", self._not_compared)
        self._schedule.failed(self._clock.monotonic(), wait_s)
