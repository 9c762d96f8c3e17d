"""REST that is behind: copies of the ledger that follow it later, as the read replicas of a venue do. Pure.

A replica shows the account as it was when it was made, until its lag has passed; from then on it is behind the ledger
by its lag. Paths that one call names share a replica, so that their answers are of one moment; other paths have others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from statecast.simulator.book import Write
from statecast.simulator.ledger import Ledger

ALL_PATHS = ""
"""The name of all paths that have no replica of their own."""


class Replica:
    """A copy of a ledger which follows it `lag_ms` later; None: never."""

    def __init__(self, ledger: Ledger, lag_ms: int | None) -> None:
        self._ledger = ledger
        self._lag_ms = lag_ms
        self._writes: deque[tuple[int, Write]] = deque()

    def take(self, writes: Iterable[Write], now_ms: int) -> None:
        """The ledger has changed."""
        if self._lag_ms is not None:
            self._writes.extend((now_ms + self._lag_ms, write) for write in writes)

    def at(self, now_ms: int) -> Ledger:
        """The ledger as the replica shows it now."""
        while self._writes and self._writes[0][0] <= now_ms:
            self._ledger.repeat(self._writes.popleft()[1])
        return self._ledger


class Replicas:
    """Which paths are answered from a copy of `ledger`. Nothing is noted while there is none."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._of: dict[str, Replica] = {}
        self._written: list[Write] = []

    def lag(self, paths: Iterable[str], lag_ms: int | None, now_ms: int) -> None:
        """Let `paths`, or all paths, be behind by so much from now on; None: show what is now; 0: not at all.

        What all paths together were given ends what single ones were given before.
        """
        self.settle(now_ms)
        names = list(paths)
        if not names:
            self._of.clear()
        for name in names:
            self._of.pop(name, None)
        if lag_ms != 0:
            self._of |= dict.fromkeys(names or [ALL_PATHS], Replica(self._ledger.copy(), lag_ms))
        self._ledger.record(self._written if self._of else None)

    def settle(self, now_ms: int) -> None:
        """What was changed since the last call was changed now."""
        for replica in {id(one): one for one in self._of.values()}.values():
            replica.take(self._written, now_ms)
        self._written.clear()

    def of(self, path: str, now_ms: int) -> Ledger | None:
        """The copy that answers a path; None where that is the ledger itself."""
        replica = self._of.get(path) or self._of.get(ALL_PATHS)
        if replica is None:
            return None
        self.settle(now_ms)
        return replica.at(now_ms)
