"""Rows by key, which know what they were before the changes of one commit."""

from __future__ import annotations

from collections.abc import Container, Hashable
from typing import Generic, TypeVar

from statecast.domain.models import Balance, Order, Position

K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Balance | Position | Order)


class Table(Generic[K, V]):
    """The rows are kept in place: a copy for every event would make its cost grow with their number."""

    __slots__ = ("_before", "_passed_over", "has_passed_over", "rows")

    def __init__(self) -> None:
        self.rows: dict[K, V] = {}
        """To be read; `put`, `remove` and `replace_all` change them."""
        self._before: dict[K, V | None] = {}
        self._passed_over: dict[K, int] = {}
        self.has_passed_over = False
        """Whether this commit has passed over something."""

    def begin(self) -> None:
        """A commit begins: `changed` counts from now on."""
        self._before = {}
        self.has_passed_over = False

    def put(self, key: K, row: V) -> None:
        """Insert the row, or replace it."""
        self._before.setdefault(key, self.rows.get(key))
        self.rows[key] = row

    def remove(self, key: K) -> None:
        """Remove the row, if there is one."""
        self._before.setdefault(key, self.rows.get(key))
        self.rows.pop(key, None)

    def renew(self, key: K) -> None:
        """The stream has said what the row is now: nothing that was passed over before counts."""
        self._passed_over.pop(key, None)

    def pass_over(self, key: K, time_ms: int) -> None:
        """The stream has sent something of this venue time that is older than what is known. Either it came late, or
        the venue's clock was set back and it is the newest."""
        self._passed_over[key] = max(time_ms, self._passed_over.get(key, 0))
        self.has_passed_over = True

    def is_doubtful(self, key: K) -> bool:
        """Whether something was passed over since the row came."""
        return key in self._passed_over

    def trusted_ms(self, key: K, time_ms: int) -> int:
        """As of which venue time a row of `time_ms` is to be compared with an answer: of the youngest that was passed
        over since, for that may be newer."""
        return min(time_ms, self._passed_over.get(key, time_ms))

    def replace_all(self, rows: dict[K, V], gone: Container[K] = ()) -> None:
        """These are all rows. What they replace is forgotten: such a commit writes everything. Of those that are `gone`
        it is remembered what was passed over, as of a row of the stream that stands, which is as old as it was."""
        self._passed_over = {
            key: ms
            for key, ms in self._passed_over.items()
            if (rows[key].source == "stream" if key in rows else key in gone)
        }
        self.rows = rows
        self._before = {}

    @property
    def is_touched(self) -> bool:
        """Whether the commit has put or removed a row, be it the same."""
        return bool(self._before)

    def changed(self) -> tuple[tuple[V | None, V | None], ...]:
        """The touched rows that are not what they were, as (before, after)."""
        if not self._before:
            return ()
        rows = self.rows
        return tuple((old, new) for key, old in self._before.items() if (new := rows.get(key)) != old)
