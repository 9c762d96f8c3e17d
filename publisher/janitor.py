"""Trims the log of order events now and then, and tells which consumer groups stand in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from publisher.committer import LOG_MARGIN
from publisher.config import AccountConfig
from publisher.logs import Log
from publisher.record import MAX_EVENTS
from statecast.clock import Clock
from statecast.errors import LeaseLost, StoreRefused, StoreUnreachable
from statecast.store.client import Client
from statecast.store.trimming import Trimmed, Trimmer
from statecast.store.writer import AccountWriter

TRIM_EVERY_S = 30.0
"""Against a retention of days this is at once, and a busy account writes some thousands of events meanwhile."""

KEPT_ENTRIES = MAX_EVENTS + LOG_MARGIN
"""What a publisher that takes the lease compares its record with must still be there, however old it is."""

BREATH_S = 0.05
"""Between two calls of one round: a log that grew for months goes in pieces, and the others come in between."""


class Janitor:
    """Trims the log of the account that `writer` writes, while that one holds the lease."""

    def __init__(
        self,
        client: Client,
        config: AccountConfig,
        writer: AccountWriter,
        needed_ms: Callable[[], int | None],
        clock: Clock,
        log: Log,
    ) -> None:
        """`needed_ms` is how far back a gap may reach that is found now, None where that is not known. What a gap
        reaches is compared with the log: a part of it that was trimmed would be told again."""
        self._needed_ms = needed_ms
        self._trimmer = Trimmer(
            client,
            config.account_id,
            retention_ms=round(config.events_retention_s * 1000),
            expiry_ms=round(config.group_expiry_s * 1000),
            keep=KEPT_ENTRIES,
        )
        self._retention_s = config.events_retention_s
        self._writer = writer
        self._clock = clock
        self._log = log
        self._told: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Trim until cancelled. What Redis refuses is told once; the state of the account does not depend on it."""
        while True:
            await self._clock.sleep(TRIM_EVERY_S)
            try:
                await self._round()
            except (StoreUnreachable, LeaseLost):
                # The committer says so, and acts on it.
                continue
            except StoreRefused as error:
                if self._news("refused", [error.reason]):
                    self._log.warning("cannot_trim_order_events", reason=error.reason)

    async def _round(self) -> None:
        while True:
            needed_ms = self._needed_ms()
            if needed_ms is None:
                return
            done = await self._trimmer.trim(self._writer.publisher_id, self._writer.epoch, needed_ms=needed_ms)
            self._tell(done)
            if not done.removed:
                return
            await self._clock.sleep(BREATH_S)

    def _tell(self, done: Trimmed) -> None:
        """One line when a group begins to stand in the way, and one when it ceases to count; none that it goes on."""
        self._news("refused", ())
        new = self._news("behind", (held.group for held in done.lagging))
        for held in done.lagging:
            if held.group in new:
                self._log.warning(
                    "group_holds_old_order_events",
                    group=held.group,
                    oldest_age_s=held.age_ms // 1000,
                    retention_s=self._retention_s,
                    pending=held.pending,
                )
        new = self._news("expired", (left.group for left in done.expired))
        for left in done.expired:
            if left.group in new:
                self._log.warning("group_expired", group=left.group, unserved_s=left.unserved_ms // 1000)

    def _news(self, kind: str, names: Iterable[str]) -> set[str]:
        """Those of `names` that were not among those of the last time."""
        now = {(kind, name) for name in names}
        new = now - self._told
        self._told = {(other, name) for other, name in self._told if other != kind} | now
        return {name for _, name in new}
