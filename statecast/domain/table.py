"""Rows by key, which know what they were before the changes of one commit."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Table(Generic[K, V]):
    """The rows are kept in place: a copy for every event would make its cost grow with their number."""

    __slots__ = ("_before", "rows")

    def __init__(self) -> None:
        self.rows: dict[K, V] = {}
        """To be read; `put`, `remove` and `replace_all` change them."""
        self._before: dict[K, V | None] = {}

    def begin(self) -> None:
        """A commit begins: `changed` counts from now on."""
        self._before = {}

    def put(self, key: K, row: V) -> None:
        """Insert the row, or replace it."""
        self._before.setdefault(key, self.rows.get(key))
        self.rows[key] = row

    def remove(self, key: K) -> None:
        """Remove the row, if there is one."""
        self._before.setdefault(key, self.rows.get(key))
        self.rows.pop(key, None)

    def replace_all(self, rows: dict[K, V]) -> None:
        """These are all rows. What they replace is forgotten: such a commit writes everything."""
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
