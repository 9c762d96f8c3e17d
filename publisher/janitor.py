"""Trims the log of order events now and then, and logs which consumer groups keep it from that."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from publisher.config import AccountConfig
from publisher.logs import Log
from publisher.tuning import Tuning
from statecast.clock import Clock
from statecast.errors import LeaseLost, StoreRefused, StoreUnreachable
from statecast.store.client import Client
from statecast.store.trimming import Trimmed, Trimmer
from statecast.store.writer import AccountWriter


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
        tuning: Tuning,
    ) -> None:
        """`needed_ms` is how far back a gap may reach that is found now, None where that is not known. The events of a
        gap are compared with the log: those that were trimmed would be logged again."""
        self._needed_ms = needed_ms
        self._trimmer = Trimmer(
            client,
            config.account_id,
            retention_ms=round(config.events_retention_s * 1000),
            expiry_ms=round(config.group_expiry_s * 1000),
            # What a publisher that takes the lease compares its record with must still be there, however old it is.
            keep=tuning.recorded_events + tuning.log_margin,
            most_per_call=tuning.trimmed_per_call,
        )
        self._retention_s = config.events_retention_s
        self._writer = writer
        self._clock = clock
        self._log = log
        self._tuning = tuning
        self._logged: set[tuple[str, str]] = set()
        """What was logged by the last round: kind, and group or reason."""

    async def run(self) -> None:
        """Trim until cancelled. A refusal of Redis is logged once; the state of the account does not depend on it."""
        while True:
            await self._clock.sleep(self._tuning.trim_every_s)
            try:
                await self._round()
            except (StoreUnreachable, LeaseLost):
                # The committer logs it, and acts on it.
                continue
            except StoreRefused as error:
                if self._newly("refused", [error.reason]):
                    self._log.warning("cannot_trim_order_events", reason=error.reason)

    async def _round(self) -> None:
        while True:
            needed_ms = self._needed_ms()
            if needed_ms is None:
                return
            done = await self._trimmer.trim(self._writer.publisher_id, self._writer.epoch, needed_ms=needed_ms)
            self._log_groups(done)
            if not done.removed:
                return
            await self._clock.sleep(self._tuning.trim_pause_s)

    def _log_groups(self, done: Trimmed) -> None:
        """One line when a group begins to hold old events, and one when it does not count any more."""
        self._newly("refused", ())
        new = self._newly("lagging", (held.group for held in done.lagging))
        for held in done.lagging:
            if held.group in new:
                self._log.warning(
                    "group_holds_old_order_events",
                    group=held.group,
                    oldest_age_s=held.age_ms // 1000,
                    retention_s=self._retention_s,
                    pending=held.pending,
                )
        new = self._newly("expired", (left.group for left in done.expired))
        for left in done.expired:
            if left.group in new:
                self._log.warning("group_expired", group=left.group, unserved_s=left.unserved_ms // 1000)

    def _newly(self, kind: str, names: Iterable[str]) -> set[str]:
        """Those of `names` that were not there when this was last called for the same kind."""
        now = {(kind, name) for name in names}
        new = now - self._logged
        self._logged = {(other, name) for other, name in self._logged if other != kind} | now
        return {name for _, name in new}
