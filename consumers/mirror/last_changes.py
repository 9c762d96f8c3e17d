"""The commit of each entity's last change, for those who ask what they missed. Pure."""

from __future__ import annotations

from consumers.mirror.view import Names
from statecast.store.reader import TABLES

REMEMBERED = 10_000
"""Entities of a hash whose last change is remembered, those that are gone included."""


class LastChanges:
    """By hash and entity, the number of the last commit that changed it."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self.start_over(0)

    def start_over(self, seq: int) -> None:
        """What was before `seq` is not known: it counts as a change of everything."""
        self._seqs: dict[str, dict[str, int]] = {table: {} for table in TABLES}
        self._floors = dict.fromkeys(TABLES, seq)
        """Of what is not in `_seqs`, the last change was at this commit, or before it."""
        self._latest = dict.fromkeys(TABLES, seq)

    def note(self, names: Names, seq: int) -> None:
        """A commit has changed these entities."""
        for table, changed in names.items():
            seqs = self._seqs[table]
            for name in changed:
                seqs.pop(name, None)
                seqs[name] = seq
                self._latest[table] = seq
            while len(seqs) > self._remembered:
                self._floors[table] = seqs.pop(next(iter(seqs)))

    def of(self, table: str | None, name: str | None) -> int:
        """The last commit that changed the account, a hash, or an entity of it."""
        if table is None:
            return max(self._latest.values())
        return self._latest[table] if name is None else self._seqs[table].get(name, self._floors[table])
