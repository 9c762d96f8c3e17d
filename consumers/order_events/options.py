"""The settings of a consumer, checked, and which events it wants. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from statecast.domain.gaps import GAP
from statecast.errors import ConfigError
from statecast.store.groups import Fields, partition_of

LAST_ENTRY = "$"
"""A new group that begins here is given what is written from now on."""

BEFORE_ALL = "0-0"
"""A new group that begins here is given the whole log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a consumer was asked to do. `OrderEvents` says what each setting means."""

    partitions: int
    start: Literal["now", "beginning"]
    start_ms: int | None
    start_event_seq: int | None
    symbols: frozenset[str] | None
    client_order_id_prefix: str
    max_attempts: int
    backoff_s: float
    max_backoff_s: float
    lease_s: float
    remembered: int

    @classmethod
    def checked(
        cls,
        *,
        partitions: int,
        start: Literal["now", "beginning"],
        start_ms: int | None,
        start_event_seq: int | None,
        symbols: Iterable[str] | None,
        client_order_id_prefix: str | None,
        max_attempts: int,
        backoff_s: float,
        max_backoff_s: float,
        lease_s: float,
        remembered: int,
    ) -> Self:
        """The settings, or ConfigError for the first that cannot work."""
        _check(partitions == int(partitions) and 1 <= partitions <= 64, "partitions", partitions, "1 to 64")
        _check(start in ("now", "beginning"), "start", start, '"now" or "beginning"')
        starts = [given for given in (start_ms, start_event_seq) if given is not None]
        one = len(starts) + (start != "now") <= 1
        _check(one, "start", start, "one of start, start_ms, start_event_seq")
        _check(start_ms is None or start_ms >= 0, "start_ms", start_ms, "milliseconds since 1970 UTC")
        _check(start_event_seq is None or start_event_seq >= 1, "start_event_seq", start_event_seq, "1 or more")
        several = symbols if symbols is None or isinstance(symbols, str) else frozenset(symbols)
        good_symbols = several is None or (isinstance(several, frozenset) and bool(several))
        _check(good_symbols, "symbols", symbols, 'one or more in a set, such as {"BTCUSDT"}')
        _check(max_attempts >= 1, "max_attempts", max_attempts, "1 or more")
        _check(0 <= backoff_s < float("inf"), "backoff_s", backoff_s, "seconds, 0 or more")
        _check(backoff_s <= max_backoff_s, "max_backoff_s", max_backoff_s, f"seconds, {backoff_s:g} or more")
        _check(0.5 <= lease_s <= 600, "lease_s", lease_s, "seconds, 0.5 to 600")
        _check(remembered >= partitions, "remembered", remembered, "one for each partition, or more")
        assert not isinstance(several, str)
        return cls(
            partitions=partitions,
            start=start,
            start_ms=start_ms,
            start_event_seq=start_event_seq,
            symbols=several,
            client_order_id_prefix=client_order_id_prefix or "",
            max_attempts=max_attempts,
            backoff_s=backoff_s,
            max_backoff_s=max_backoff_s,
            lease_s=lease_s,
            remembered=remembered,
        )

    @property
    def block_s(self) -> float:
        """How long one call waits for new entries."""
        return min(1.0, self.lease_s / 4)

    @property
    def start_after(self) -> str:
        """The entry id after which a new group begins, unless it begins at a number of an event."""
        if self.start_ms:
            return f"{self.start_ms - 1}-{2**64 - 1}"
        return LAST_ENTRY if self.start_ms is None and self.start == "now" else BEFORE_ALL

    def pause_s(self, attempt: int) -> float:
        """How long to wait after this attempt has failed."""
        return min(self.backoff_s * 2.0 ** (attempt - 1), self.max_backoff_s)

    def wants(self, partition: int, fields: Fields) -> bool:
        """Whether an entry is to be handed out by this partition. Each partition reads the whole log."""
        order_id = fields.get("orderId", "")
        own = partition_of(order_id, self.partitions) == partition
        if fields.get("eventType") == GAP:
            # No filter can say whom it concerns; and one that names no order concerns the orders of every partition.
            return own or not order_id
        return (
            own
            and (self.symbols is None or fields.get("symbol") in self.symbols)
            and fields.get("clientOrderId", "").startswith(self.client_order_id_prefix)
        )


def _check(good: bool, setting: str, value: object, accepted: str) -> None:
    if not good:
        raise ConfigError(setting, str(value), accepted)
