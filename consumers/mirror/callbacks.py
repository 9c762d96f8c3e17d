"""Calls what users want called when the account changes, in the order of commits and without delaying the copy."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from consumers.mirror.view import Names, Rejoin, Table, View
from consumers.models import Answer, Order, Position, Totals
from statecast.store.keys import AccountId
from statecast.store.reader import TABLES

LOG = logging.getLogger("statecast.consumers")

MOST_QUEUED = 1_000
"""Commits that wait for slow callbacks; beyond it they are merged into one change, and the log says so."""

Value = TypeVar("Value", bound=Answer)
Callback = Callable[[Value | None, Value | None], object]
"""Called with the value before and after a commit; None where there was or is none. May be async."""


class Step(NamedTuple):
    """What callbacks are given at once: as a rule one commit."""

    before: View
    after: View
    names: Names
    rejoins: tuple[Rejoin, ...] = ()

    def merged(self, later: Step) -> Step:
        names = {table: {*self.names.get(table, ()), *later.names.get(table, ())} for table in TABLES}
        return Step(self.before, later.after, names, self.rejoins + later.rejoins)


class Callbacks:
    """A queue of changes, and the callbacks that are called with them one at a time."""

    def __init__(self, account_id: AccountId, age_s: Callable[[], float], *, most_queued: int = MOST_QUEUED) -> None:
        """`age_s` is the age of the mirror's copy now."""
        self.totals: list[Callback[Totals]] = []
        self.positions: list[tuple[str | None, Callback[Position]]] = []
        """With the symbol; None for all symbols."""
        self.orders: list[Callback[Order]] = []
        self.rejoins: list[Callable[[Rejoin], object]] = []
        self._account_id = account_id
        self._age_s = age_s
        self._most_queued = most_queued
        self._steps: deque[Step] = deque()
        self._wake = asyncio.Event()

    def put(self, step: Step) -> None:
        """Queue a change, if anybody wants to be called."""
        if not (self.totals or self.positions or self.orders or self.rejoins):
            return
        self._steps.append(step)
        if len(self._steps) > self._most_queued:
            merged = self._steps.popleft()
            while self._steps:
                merged = merged.merged(self._steps.popleft())
            self._steps.append(merged)
            line = "the callbacks of the mirror of %s are %d commits late, and get them as one change"
            LOG.warning(line, self._account_id, self._most_queued)
        self._wake.set()

    async def run(self) -> None:
        """Call back, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._steps:
                await self._call_all(self._steps.popleft())

    async def _call_all(self, step: Step) -> None:
        for rejoin in step.rejoins:
            for on_rejoin in self.rejoins:
                await self._call(on_rejoin, rejoin)
        for _, before, after in self._changed(step, "account"):
            for on_totals in self.totals:
                await self._call(on_totals, before, after)
        for name, before, after in self._changed(step, "positions"):
            for symbol, on_position in self.positions:
                if symbol is None or symbol == name.rpartition(":")[0]:
                    await self._call(on_position, before, after)
        for _, before, after in self._changed(step, "orders"):
            for on_order in self.orders:
                await self._call(on_order, before, after)

    def _changed(self, step: Step, table: str) -> Iterator[tuple[str, Answer | None, Answer | None]]:
        for name in sorted(step.names.get(table, ())):
            before, after = (self._value(view, getattr(view, table), name) for view in (step.before, step.after))
            if before != after:
                yield name, before, after

    def _value(self, view: View, table: Table[Any], name: str) -> Answer | None:
        row: Answer | None = table.rows.get(name)
        return None if row is None else row.at(view.freshness(table, self._age_s()))

    async def _call(self, callback: Callable[..., object], *values: object) -> None:
        try:
            result = callback(*values)
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            LOG.exception("a callback of the mirror of %s was cancelled", self._account_id)
        except Exception:  # a user's code: the log has its error, and the updates go on
            LOG.exception("a callback of the mirror of %s failed", self._account_id)
