"""The one way to write an account: batches of commits, by a script, under the lease's epoch.

A script is atomic, and the only kind of write whose lost reply can be survived: the same batch sent again is
recognised by its numbers and not written twice. The writer knows nothing of the venue; it numbers, encodes, and sends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import InvalidOperation
from importlib.resources import files
from typing import NamedTuple, cast

from statecast.domain.account import Delta
from statecast.domain.models import Order
from statecast.errors import ContractMismatch, LeaseLost, StoreDiverged, StoreRefused, StoreUnreachable
from statecast.store.client import Client
from statecast.store.codec import Argument, commit, entities, order_of, pack
from statecast.store.keys import (
    ACCOUNTS_KEY,
    CHANGES_BYTES,
    CHANGES_LENGTH,
    CONTRACT,
    LEASE_TTL_MS,
    REGISTERED_MS,
    AccountId,
    AccountKeys,
)

PAGE = 2_000
"""Entries of the log that one call looks at, some ms of the server's time: readers do not wait long."""

UNSEEN_COMMITS = 2_500
"""Where Redis has lost commits of another publisher, so many may have come after the last one that was seen: a standby
looks four times a second."""

VERIFIED = 8
"""Place of the flag `verified` among a batch's arguments."""


class Holder(NamedTuple):
    """The publisher that holds an account's lease, and in how many milliseconds the lease runs out: negative where it
    never does. The id is empty where Redis has lost the account and nobody holds it."""

    publisher_id: str
    left_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Commits that were numbered and encoded for one call; send the same batch again when its outcome is unknown."""

    arguments: tuple[str | bytes | int, ...]
    seq_after: int
    event_seq_after: int
    verified: bool

    def unverified(self) -> Batch:
        """The same commits, without the statement that the state is verified."""
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
    """Names of open orders that cannot be read: somebody else has written there."""
    symbols: frozenset[str] = frozenset()
    """Of the open positions."""
    published: bool = False
    """Whether open orders and positions are known, though there may be none."""

    @property
    def has_log(self) -> bool:
        """Whether there is any trace of a log of order events."""
        return bool(self.last_event_ms or self.events_complete_ms)


class _ChangesLength:
    """How many of the youngest entries of `…:changes` are kept.

    What another epoch has written counts no more: a reader that finds a new one reads the hashes again.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._sizes: deque[int] = deque()
        self._bytes = 0

    def begin(self) -> None:
        """A new epoch."""
        self._sizes.clear()
        self._bytes = 0

    def after(self, commits: Sequence[Sequence[object]]) -> int:
        """The number, once these are written too."""
        for *_, entry in commits:
            size = sum(map(len, cast("list[str]", entry)))
            self._sizes.append(size)
            self._bytes += size
        while len(self._sizes) > 1 and (len(self._sizes) > self._most or self._bytes > self._most_bytes):
            self._bytes -= self._sizes.popleft()
        return len(self._sizes)


class AccountWriter:
    """Writes one account. `open()` first, then `encode()` and `send()`; after `LeaseLost` or `StoreDiverged`, `open()`
    again and write everything (`Delta.replaces`)."""

    def __init__(
        self,
        client: Client,
        account_id: AccountId,
        publisher_id: str,
        *,
        lease_ttl_ms: int = LEASE_TTL_MS,
        changes_length: int = CHANGES_LENGTH,
        changes_bytes: int = CHANGES_BYTES,
    ) -> None:
        """Of the changes, about the youngest `changes_length` entries are kept, and no more than `changes_bytes`."""
        self.account_id = account_id
        self.publisher_id = publisher_id
        self.epoch = 0
        self.seq = 0
        self.event_seq = 0
        self.verified_at_ms = 0
        """Redis time of the last batch that said that the state is verified."""
        self.log_since_ms = 0
        """Venue time since which the log holds every event, as another publisher has written; 0: not known."""
        self.log_event_seq = 0
        """Number of the log's last event when another publisher was last seen to hold the lease."""
        self._seq_is_others = False
        """Whether `seq` is the number that another publisher had reached when it was last looked at."""
        self._sent_seq = 0
        """The number that was reached if batches were written whose replies were lost."""
        self._client = client
        self._changes_length = _ChangesLength(changes_length, changes_bytes)
        self.lease_ttl_ms = lease_ttl_ms
        keys = self._keys
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
        scripts = files("statecast.store")
        self._scripts = {
            name: client.redis.register_script(scripts.joinpath(f"{name}.lua").read_text("utf-8"))
            for name in ("open", "commit", "release", "event_ids")
        }

    @property
    def _keys(self) -> AccountKeys:
        return AccountKeys(self.account_id)

    async def open(self, state: str, reason: str, least_event_seq: int = 0, *, patient: bool = False) -> Holder | None:
        """Take the lease and open a new epoch. `seq` goes on from the highest that Redis or this writer has known,
        `event_seq` from what the log in Redis has, or from `least_event_seq` where that is more.

        Returns None, or who holds the lease. `patient` leaves an account alone of which Redis holds nothing; then the
        holder's id is empty.

        Raises:
            ContractMismatch: the account was written under another contract version.
            StoreRefused: the server refuses, or a key is of another type.
            StoreUnreachable: try again; opening twice is harmless.
        """
        with self._client.errors():
            answer = await self._scripts["open"](
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
                    UNSEEN_COMMITS if self._seq_is_others else 0,
                ),
            )
            if answer[0] == "OK":
                await self._client.redis.sadd(ACCOUNTS_KEY, str(self.account_id))
        match answer:
            case ["HELD", holder, left_ms]:
                return Holder(holder, int(left_ms))
            case ["CONTRACT", version]:
                reason = (
                    f"{self.account_id} is written under contract {version}, this program writes {CONTRACT}; "
                    "use a statecast of that contract, or another account name"
                )
                raise ContractMismatch(self._client.server, reason)
            case ["TYPE", key, kind]:
                raise StoreRefused(self._client.server, f"{key} is a {kind}; it is not one of ours, move it away")
        self._seq_is_others = False
        self._changes_length.begin()
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

        `verified` says that the state is the venue's as of this batch. `published` says whether this publisher has
        written the account's hashes; once it has, they must exist.
        """
        assert published or not verified or any(delta.replaces for delta in deltas), "there is nothing to verify"
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
            self._changes_length.after(commits),
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
                answer = await self._scripts["commit"](self.keys, batch.arguments)
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
            values = (self.publisher_id, self.epoch, state, reason, REGISTERED_MS)
            return int(await self._scripts["release"](keys, values))

    async def read_previous(self) -> PreviousState:
        """What Redis holds of an account that was published before, as of one moment. Raises StoreError."""
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

    async def renew(self) -> None:
        """Hold the lease for its whole time again, and write nothing. Raises as `send` does."""
        await self.send(self.encode((), {}, verified=False, published=False))

    async def youngest_events(
        self, age_ms: int, least: int = 0, *, page: int = PAGE, renew: bool = False
    ) -> list[tuple[str, str]]:
        """Event id and symbol of every order event that was written within `age_ms`, by Redis's clock, and of the
        youngest `least` however old they are; oldest first. The log is read by `page` entries at once, and with `renew`
        the lease is renewed after each: some hundred thousand entries take longer than a lease lasts."""
        with self._client.errors():
            seconds, _ = await self._client.redis.time()
        after_ms = int(seconds) * 1000 - age_ms
        found: list[tuple[str, str]] = []
        below = "+"
        while True:
            with self._client.errors():
                oldest, *flat = await self._scripts["event_ids"]((self._keys.order_events,), (below, page))
            found += zip(flat[::2], flat[1::2], strict=True)
            if renew:
                await self.renew()
            if len(flat) < 2 * page or (len(found) >= least and int(oldest.partition("-")[0]) < after_ms):
                return found[::-1]
            below = f"({oldest}"

    async def trimmed_until_ms(self) -> int:
        """Venue time of the log's oldest entry where older ones were trimmed, else 0. Older events were logged, and
        their ids are not known any more; that may hold for events of the same millisecond, too."""
        with self._client.errors():
            answer = await self._client.redis.xrange(self._keys.order_events, count=1)
        first = cast("list[tuple[str, dict[str, str]]]", answer)
        fields = first[0][1] if first else {}
        return _whole(fields.get("venueTimeMs")) if _whole(fields.get("eventSeq")) > 1 else 0

    async def read_holder(self) -> Holder | None:
        """Who holds the lease now; None while nobody does.

        This writer learns since when there is a log, and how far commits and events are numbered, so that no number is
        given again should Redis lose them. Raises StoreError.
        """
        with self._client.errors():
            async with self._client.redis.pipeline(transaction=True) as pipe:
                pipe.get(self._keys.lease)
                pipe.pttl(self._keys.lease)
                pipe.hmget(self._keys.status, ["seq", "eventSeq", "eventsSinceMs"])
                holder, left_ms, (seq, event_seq, since_ms) = await pipe.execute()
        self.log_since_ms = _whole(since_ms) or self.log_since_ms
        self.log_event_seq = max(self.log_event_seq, _whole(event_seq))
        if _whole(seq) > self.seq:
            self.seq, self._seq_is_others = _whole(seq), True
        return Holder(holder, left_ms) if holder is not None else None


def _whole(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() else 0
