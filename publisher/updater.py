"""Changes into the account, and what they change on to Redis: the only place where both happen."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from publisher.committer import Committer
from statecast.domain.account import Account, Delta
from statecast.domain.changes import Change
from statecast.domain.models import Source
from statecast.errors import FrameError


class Updater:
    """Applies changes to one account and submits the result."""

    def __init__(self, account: Account, committer: Committer, follow: Callable[[frozenset[str]], None]) -> None:
        """`follow` is called with the symbols of open positions when these may have changed."""
        self._account = account
        self._committer = committer
        self._follow = follow

    def apply(self, changes: Iterable[Change], source: Source) -> Delta:
        """Apply all of them as one commit.

        Raises:
            FrameError: an amount is too large to compute with. The account may be half changed: only a snapshot puts it
                right. Order events are logged all the same.
        """
        changes = tuple(changes)
        try:
            delta = self._account.apply(changes, source)
        except ArithmeticError as error:
            self._committer.submit(self._account.events_alone(changes, source))
            raise FrameError(source, "an amount", "is too large to compute with") from error
        self._committer.submit(delta)
        if delta.positions or delta.replaces:
            self._follow(self._account.symbols_with_position)
        return delta
