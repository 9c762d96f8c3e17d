"""Changes into the account, and what they change on to Redis: the only place where both happen."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from publisher.committer import Committer
from publisher.logs import Log
from publisher.status import Status
from statecast.domain.account import Account, Delta
from statecast.domain.changes import Change, MarkPriceUpdate
from statecast.domain.models import Source
from statecast.errors import FrameError
from statecast.venues.adapter import VenueClock

MARK_AHEAD_MS = 10_000
"""A mark price may be of so much later than the venue's time as it is known here. Between two connections that is
counted by this machine's clock, and may be seconds behind before the venue refuses a signed call for it."""


class Updater:
    """Applies changes to one account and submits the result."""

    def __init__(
        self,
        account: Account,
        committer: Committer,
        follow: Callable[[frozenset[str]], None],
        venue_clock: VenueClock,
        status: Status,
        log: Log,
    ) -> None:
        """`follow` is called with the symbols of open positions when these may have changed."""
        self._account = account
        self._committer = committer
        self._follow = follow
        self._venue_clock = venue_clock
        self._status = status
        self._log = log
        self._logged_future_mark = False

    def apply(self, changes: Iterable[Change], source: Source, *, events_alone: bool = False) -> Delta:
        """Apply all of them as one commit, but for mark prices of the future: every true one would look old to them.
        With `events_alone` the rows stay in Redis as they were: a snapshot follows, which replaces them all.

        Raises:
            FrameError: an amount is too large to compute with. The account may be half changed: only a snapshot puts it
                right. Order events are logged all the same.
        """
        changes = tuple(change for change in changes if not self._is_future_mark(change))
        try:
            delta = self._account.apply(changes, source)
        except ArithmeticError as error:
            self._committer.submit(self._account.events_alone(changes, source))
            raise FrameError(source, "an amount", "is too large to compute with") from error
        self._committer.submit(delta.with_events_alone() if events_alone else delta)
        if delta.positions or delta.replaces:
            self._follow(self._account.symbols_with_position)
        return delta

    def _is_future_mark(self, change: Change) -> bool:
        if not isinstance(change, MarkPriceUpdate):
            return False
        ahead_ms = change.time_ms - self._venue_clock.now_ms()
        if ahead_ms <= MARK_AHEAD_MS:
            self._logged_future_mark = False
            return False
        self._status.count_future_mark_price()
        if not self._logged_future_mark:  # Once until one is right again: they come every second.
            self._logged_future_mark = True
            self._log.warning("future_mark_price", symbol=change.symbol, ahead_s=round(ahead_ms / 1000, 1))
        return True
