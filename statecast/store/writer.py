"""The one way to write an account: batches of commits, by a script, under the lease's epoch.

A script is atomic, and the only kind of write whose lost reply can be survived: the same batch sent again is
recognised by its numbers and not written twice. The writer knows nothing of the venue; it numbers, encodes, and sends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import InvalidOperation
from importlib.resources import files
from typing import Any, NamedTuple, cast

from statecast.domain.account import Delta
from statecast.domain.models import Order
from statecast.errors import ContractMismatch, LeaseLost, StoreDiverged, StoreRefused, StoreUnreachable
from statecast.store.client import Client
from statecast.store.codec import Argument, commit, entities, order_of, pack
from statecast.store.keys import (
    ACCOUNTS_KEY,
    CHANGES_LENGTH,
    CONTRACT,
    LEASE_TTL_MS,
    REGISTERED_MS,
    AccountId,
    AccountKeys,
)

PAGE = 2_000
"""Entries of the log that one call looks at, some ms of the server's time: readers do not wait long."""


UNSEEN_COMMITS = 1_000
"""Where Redis has lost commits of another publisher, this many may have come after the last one that was seen."""

VERIFIED = 8
"""Where the script is told, among a batch's arguments, whether to vouch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Commits that were numbered and encoded for one call; send the same batch again when its outcome is unknown."""

    arguments: tuple[str | bytes | int, ...]
    seq_after: int
    event_seq_after: int
    verified: bool

    def unverified(self) -> Batch:
        """The same, without vouching for the state."""
        if not self.verified:
            return self
        arguments = list(self.arguments)
        arguments[VERIFIED] = 0
        return replace(self, arguments=tuple(arguments), verified=False)


@dataclass(frozen=True, slots=True)
class PreviousState:
    """What an earlier publisher left in Redis, as far as order events are concerned. Times in ms, 0 where unknown."""

    now_ms: int = 0
    """Redis time; `verified_at_ms` is by the same clock, the others are the venue's."""
    verified_at_ms: int = 0
    events_since_ms: int = 0
    events_complete_ms: int = 0
    last_event_ms: int = 0
    orders: tuple[Order, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Names of open orders that make no sense: somebody else wrote there."""
    symbols: frozenset[str] = frozenset()
    """Of the open positions."""
    published: bool = False
    """Whether open orders and positions are known, though there may be none."""

    @property
    def has_log(self) -> bool:
        """Whether there is anything to be seen of a log of order events."""
        return bool(self.last_event_ms or self.events_complete_ms)


class _Scripts(NamedTuple):
    """The scripts that write and read an account."""

    open: Any
    commit: Any
    release: Any
    event_ids: Any


class AccountWriter:
    """Writes one account. `open()` first, then `encode()` and `send()`; after `LeaseLost` or `StoreDiverged`, `open()`
    again and write everything (`Delta.replaces`)."""

    def __init__(
        self, client: Client, account_id: AccountId, publisher_id: str, *, lease_ttl_ms: int = LEASE_TTL_MS
    ) -> None:
        self.account_id = account_id
        self.publisher_id = publisher_id
        self.epoch = 0
        self.seq = 0
        self.event_seq = 0
        self.verified_at_ms = 0
        """Redis time of the last batch that vouched for the state."""
        self.log_since_ms = 0
        """Venue time since which the log holds every event, as another publisher has said; 0: not known."""
        self.log_event_seq = 0
        """How far it was numbered then."""
        self._learned = False
        """Whether `seq` is what another publisher had come to when it was last looked at."""
        self._sent_seq = 0
        """What `seq` came to if batches were written whose replies were lost."""
        self._client = client
        self._keys = keys = AccountKeys(account_id)
        self.lease_ttl_ms = lease_ttl_ms
        self.keys = (
            keys.lease,
            keys.status,
            keys.account,
            keys.balances,
            keys.positions,
            keys.orders,
            keys.order_events,
            keys.changes,
            keys.publishers,
        )
        self._scripts = _Scripts(
            open=_script(client, "open.lua"),
            commit=_script(client, "commit.lua"),
            release=_script(client, "release.lua"),
            event_ids=_script(client, "event_ids.lua"),
        )

    async def open(self, state: str, reason: str, least_event_seq: int = 0, *, patient: bool = False) -> str | None:
        """Take the lease and open a new epoch. `seq` goes on from the highest that Redis or this writer has known,
        `event_seq` from what the log in Redis has, or from `least_event_seq` where that is more.

        Returns None, or the id of the publisher that holds the account. `patient` leaves an account alone of which
        Redis holds nothing, and returns "" then.

        Raises:
            ContractMismatch: the account was written under another contract version.
            StoreRefused: the server refuses, or a key is of another type.
            StoreUnreachable: try again; opening twice is harmless.
        """
        with self._client.errors():
            answer = await self._scripts.open(
                self.keys,
                (
                    self.publisher_id,
                    self.lease_ttl_ms,
                    max(self.seq, self._sent_seq),
                    least_event_seq,
                    CONTRACT,
                    REGISTERED_MS,
                    state,
                    reason,
                    self.epoch,
                    1 if patient else 0,
                    UNSEEN_COMMITS if self._learned else 0,
                ),
            )
            if answer[0] == "OK":
                await self._client.redis.sadd(ACCOUNTS_KEY, str(self.account_id))
        match answer:
            case ["HELD", holder, _]:
                return cast(str, holder)
            case ["CONTRACT", version]:
                reason = f"{self.account_id} is written under contract {version}, this program writes {CONTRACT}"
                raise ContractMismatch(self._client.server, reason)
            case ["TYPE", key, kind]:
                raise StoreRefused(self._client.server, f"{key} is a {kind}; it is not one of ours, move it away")
        self._learned = False
        self.epoch, self.seq, self.event_seq = int(answer[1]), int(answer[2]), int(answer[3])
        self.verified_at_ms = int(answer[5])
        return None

    def encode(
        self,
        deltas: Sequence[Delta],
        status: Mapping[str, Argument],
        *,
        verified: bool,
        published: bool,
    ) -> Batch:
        """Number and encode a batch. `status` fields are written with it, and with them the heartbeat.

        `verified` vouches for the state as of this batch. `published` says whether this account's hashes were ever
        written; once they were, they must exist.
        """
        assert published or not verified or any(delta.replaces for delta in deltas), "there is nothing to vouch for"
        seq, event_seq = self.seq, self.event_seq
        fresh = not published or (bool(deltas) and deltas[0].replaces)
        commits: list[list[object]] = []
        for delta in deltas:
            seq += 1
            commits.append(commit(delta, seq, event_seq, self.epoch, self.verified_at_ms))
            event_seq += len(delta.events)
        arguments: list[str | bytes | int] = [
            self.publisher_id,
            self.epoch,
            self.lease_ttl_ms,
            self.seq,
            self.event_seq,
            len(deltas),
            event_seq - self.event_seq,
            CHANGES_LENGTH,
            1 if verified else 0,
            1 if fresh else 0,
            pack(commits),
        ]
        for field, value in status.items():
            arguments += (field, value)
        return Batch(tuple(arguments), seq, event_seq, verified)

    async def send(self, batch: Batch) -> None:
        """Write `batch`: all of it, once, whichever replies get lost.

        Raises:
            StoreUnreachable: outcome unknown; send the same batch again.
            StoreRefused: nothing was written.
            LeaseLost, StoreDiverged: nothing was written; `open()` again.
        """
        try:
            with self._client.errors():
                answer = await self._scripts.commit(self.keys, batch.arguments)
        except StoreUnreachable:
            self._sent_seq = max(self._sent_seq, batch.seq_after)
            raise
        match answer:
            case ["LEASE", holder]:
                reason = f"the lease of {self.account_id} is held by {holder}" if holder else "the lease has run out"
                raise LeaseLost(self._client.server, reason)
            case ["DIVERGED", what]:
                raise StoreDiverged(self._client.server, f"{self.account_id} is not as it was written: {what}")
        self.seq, self.event_seq = batch.seq_after, batch.event_seq_after
        if batch.verified:
            self.verified_at_ms = int(answer[1])

    async def release(self, state: str, reason: str) -> int:
        """Give the lease back and say why; returns how many other publishers of the account are registered."""
        with self._client.errors():
            keys = (self._keys.lease, self._keys.status, self._keys.publishers)
            return int(await self._scripts.release(keys, (self.publisher_id, self.epoch, state, reason, REGISTERED_MS)))

    async def previous(self) -> PreviousState:
        """What stands in Redis of an account that was published before, as of one moment."""
        with self._client.errors():
            async with self._client.redis.pipeline(transaction=True) as pipe:
                pipe.time()
                pipe.hgetall(self._keys.status)
                pipe.hgetall(self._keys.orders)
                pipe.hgetall(self._keys.positions)
                pipe.xrevrange(self._keys.order_events, count=1)
                (seconds, microseconds), status, orders, positions, last = await pipe.execute()
        rows: list[Order] = []
        unreadable: list[str] = []
        for name, row in entities(orders).items():
            try:
                rows.append(order_of(row))
            except (KeyError, ValueError, InvalidOperation):
                unreadable.append(name)
        return PreviousState(
            now_ms=int(seconds) * 1000 + int(microseconds) // 1000,
            verified_at_ms=_whole(status.get("verifiedAtMs")),
            events_since_ms=_whole(status.get("eventsSinceMs")),
            events_complete_ms=_whole(status.get("eventsCompleteMs")),
            last_event_ms=max((_whole(fields.get("venueTimeMs")) for _, fields in last), default=0),
            orders=tuple(rows),
            unreadable=tuple(unreadable),
            published=bool(orders and positions),
            symbols=frozenset(row["symbol"] for row in entities(positions).values() if "symbol" in row),
        )

    async def youngest_events(self, age_ms: int, least: int = 0) -> list[tuple[str, str]]:
        """Event id and symbol of every order event that was written within `age_ms`, by Redis's clock, and of the
        youngest `least` however old they are; oldest first."""
        with self._client.errors():
            seconds, _ = await self._client.redis.time()
        after_ms = int(seconds) * 1000 - age_ms
        found: list[tuple[str, str]] = []
        below = "+"
        while True:
            with self._client.errors():
                oldest, *flat = await self._scripts.event_ids((self._keys.order_events,), (below, PAGE))
            found += zip(flat[::2], flat[1::2], strict=True)
            if len(flat) < 2 * PAGE or (len(found) >= least and int(oldest.partition("-")[0]) < after_ms):
                return found[::-1]
            below = f"({oldest}"

    async def trimmed_until_ms(self) -> int:
        """Venue time of the log's oldest entry where others stood before it, else 0. What is older was told, and is not
        known by its id any more; so was, perhaps, what is of the same millisecond."""
        with self._client.errors():
            answer = await self._client.redis.xrange(self._keys.order_events, count=1)
        first = cast("list[tuple[str, dict[str, str]]]", answer)
        fields = first[0][1] if first else {}
        return _whole(fields.get("venueTimeMs")) if _whole(fields.get("eventSeq")) > 1 else 0

    async def holder(self) -> str | None:
        """The id of the publisher that holds the account now; None while nobody does.

        This writer learns since when there is a log, and how far the numbers are, so that they do not go back should
        Redis lose them.
        """
        with self._client.errors():
            async with self._client.redis.pipeline(transaction=True) as pipe:
                pipe.get(self._keys.lease)
                pipe.hmget(self._keys.status, ["seq", "eventSeq", "eventsSinceMs"])
                holder, (seq, event_seq, since_ms) = await pipe.execute()
        self.log_since_ms = _whole(since_ms) or self.log_since_ms
        self.log_event_seq = max(self.log_event_seq, _whole(event_seq))
        if _whole(seq) > self.seq:
            self.seq, self._learned = _whole(seq), True
        return cast("str | None", holder)


def _whole(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() else 0


def _script(client: Client, name: str) -> Any:
    return client.redis.register_script(files("statecast.store").joinpath(name).read_text("utf-8"))
