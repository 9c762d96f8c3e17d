"""A reader that looks at an account in Redis all the time, and holds against it what the exchange really told.

What is checked in every single read, whatever state it names:

- Each wallet, position and order is as it was at the venue at some moment that is not older than `verifiedAtMs` less
  the bound within which the failure has to be found; what `verifiedAtMs` vouches for is true.
- `seq` never goes back, and `eventSeq` within an epoch neither, unless Redis itself was put back; then not beyond the
  next epoch.
- The end of the log is numbered without a hole, ends where the status says, and has no event twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from support.rows import RowHistory, stored_row
from support.world import NotingExchange

from statecast.errors import StoreError
from statecast.simulator.events import Event
from statecast.store.client import Client
from statecast.store.codec import entities
from statecast.store.keys import AccountId, AccountKeys

PAUSE_S = 0.03
YOUNG_MS = 3_000
"""What a careful reader would accept: `verifiedAtMs` moves once a second, and this machine is busy."""

TAIL = 40
"""Entries of the log that are looked at in each read."""

MOST_TOLD = 10


class RecordingExchange(NotingExchange):
    """Keeps what every row has been, by this machine's clock in milliseconds, which is Redis's as well."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.rows = RowHistory()
        for wallet in self.ledger.wallets():
            self.rows.put(("balances", wallet.asset), (wallet.balance, self.ledger.cross_wallet(wallet.asset)), 0.0)
        for row in self.ledger.positions():
            self.rows.put(("positions", f"{row.symbol}:{row.side}"), (row.amount, row.entry_price), 0.0)

    def publish(self, events: Iterable[Event], now_ms: int) -> None:
        events = list(events)
        for event in events:
            self.rows.take(event, time.time_ns() // 1_000_000)
        super().publish(events, now_ms)


class Sample(NamedTuple):
    """One look at the account. Times: the monotonic clock in seconds, Redis's in milliseconds (0: no answer)."""

    at: float
    live: bool
    redis_ms: int
    verified_at_ms: int
    state: str
    publisher_id: str
    epoch: int


@dataclass
class Observer:
    """Looks on until cancelled. `found` names every promise that was broken, `samples` are what was seen."""

    client: Client
    account_id: AccountId
    exchange: RecordingExchange
    bound_s: float
    samples: list[Sample] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    _seq: int = 0
    _epoch: int = 0
    _event_seq: int = 0
    _put_back: bool = False

    def redis_was_put_back(self) -> None:
        """From now on Redis may hold less than it has shown, until a publisher has begun a new epoch there."""
        self._put_back = True

    async def run(self) -> None:
        """Look again and again; a Redis that does not answer is a look that told nothing."""
        while True:
            try:
                await self._look()
            except StoreError:
                self.samples.append(Sample(time.monotonic(), False, 0, 0, "unreachable", "", 0))
            await asyncio.sleep(PAUSE_S)

    async def _look(self) -> None:
        keys = AccountKeys(self.account_id)
        with self.client.errors():
            async with self.client.redis.pipeline(transaction=True) as pipe:
                pipe.time()
                pipe.hgetall(keys.status)
                for name in ("balances", "positions", "orders"):
                    pipe.hgetall(keys.table(name))
                pipe.xrevrange(keys.order_events, count=TAIL)
                (seconds, microseconds), status, balances, positions, orders, tail = await pipe.execute()
        redis_ms = int(seconds) * 1000 + int(microseconds) // 1000
        verified_at_ms = int(status.get("verifiedAtMs", 0))
        whole = bool(balances and positions and orders)
        young = whole and 0 <= redis_ms - verified_at_ms <= YOUNG_MS
        state = status.get("state", "absent")
        self.samples.append(
            Sample(
                time.monotonic(),
                state == "live" and young,
                redis_ms,
                verified_at_ms,
                state,
                status.get("publisherId", ""),
                int(status.get("epoch", 0)),
            )
        )
        if status:
            self._check_numbers(status, cast("list[tuple[str, dict[str, str]]]", tail))
        if verified_at_ms and whole:
            self._check_values({"balances": balances, "positions": positions, "orders": orders}, verified_at_ms)

    def _check_numbers(self, status: Mapping[str, str], tail: list[tuple[str, dict[str, str]]]) -> None:
        seq, epoch, event_seq = (int(status.get(name, 0)) for name in ("seq", "epoch", "eventSeq"))
        if self._put_back and epoch > self._epoch:
            self._put_back = False
        if not self._put_back:
            if seq < self._seq:
                self._tell(f"seq went back from {self._seq} to {seq}")
            if epoch < self._epoch:
                self._tell(f"the epoch went back from {self._epoch} to {epoch}")
            if epoch == self._epoch and event_seq < self._event_seq:
                self._tell(f"eventSeq went back from {self._event_seq} to {event_seq}")
            self._seq, self._epoch, self._event_seq = seq, epoch, event_seq
        numbers = [int(fields["eventSeq"]) for _, fields in tail]
        if numbers != list(range(event_seq, event_seq - len(numbers), -1)):
            self._tell(f"the log ends with {numbers[:5]}, the status says {event_seq}")
        ids = [fields["eventId"] for _, fields in tail]
        if len(set(ids)) != len(ids):
            self._tell("an event stands in the log twice")

    def _check_values(self, hashes: Mapping[str, dict[str, str]], verified_at_ms: int) -> None:
        """Every row was the venue's at some moment not older than what is vouched for, less the bound."""
        since_ms = verified_at_ms - self.bound_s * 1000
        stored = {(table, name): row for table, flat in hashes.items() for name, row in entities(flat).items()}
        rows = self.exchange.rows.rows
        for key in stored.keys() | rows.keys():
            row = stored_row(key[0], stored.get(key))
            past = rows.get(key, [])[-3:]
            if row is None and key[0] == "balances" and not any(past[-1][1] or ()):
                continue  # an empty wallet may be left out
            departed = self.exchange.rows.departed(key, row)
            if departed is None:
                continue
            if departed < 0:
                self._tell(f"{key} is {row}, which it never was: {past}")
            elif departed < since_ms:
                self._tell(
                    f"{key} is {row}, vouched for {verified_at_ms - departed:.0f} ms after it became {past[-1][1]}"
                )

    def _tell(self, what: str) -> None:
        if len(self.found) < MOST_TOLD:
            self.found.append(what)
