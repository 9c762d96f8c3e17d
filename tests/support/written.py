"""A publisher of one account in a few lines, and what Redis must hold after it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol, cast

import orjson
from redis.asyncio import Redis
from support.changes import new_account

from statecast.domain.account import Account, Delta
from statecast.domain.changes import Change, Check, Snapshot
from statecast.domain.models import Balance, Order, OrderKey, Position, PositionKey, Source, Totals
from statecast.store.client import Client
from statecast.store.codec import balance_cells, entities, order_cells, position_cells, totals_cells
from statecast.store.keys import (
    ACCOUNT_FIELDS,
    BALANCE_FIELDS,
    ORDER_FIELDS,
    POSITION_FIELDS,
    AccountId,
    AccountKeys,
)
from statecast.store.writer import AccountWriter, Batch

Rows = dict[str, dict[str, str]]
State = dict[str, Any]
HASHES = ("account", "balances", "positions", "orders")


class Desk:
    """Applies changes and writes them, one commit per frame, as a publisher does."""

    def __init__(self, client: Client, account_id: AccountId, name: str = "publisher-1", **options: Any) -> None:
        self.account = new_account()
        self.writer = AccountWriter(client, account_id, name, **options)
        self.published = False

    async def open(self, state: str = "starting", reason: str = "connecting") -> str | None:
        """Take the lease; returns None, or the id of the publisher that holds it.

        Numbers of events go on, as those of a publisher do that cannot write again what Redis has lost.
        """
        holder = await self.writer.open(state, reason, least_event_seq=self.writer.event_seq)
        return holder.publisher_id if holder is not None else None

    def fold(self, *changes: Change) -> Delta:
        source: Source = "rest" if isinstance(changes[0], (Snapshot, Check)) else "stream"
        return self.account.apply(changes, source)

    def batch(self, *deltas: Delta, status: Mapping[str, str | int] | None = None, verified: bool = False) -> Batch:
        batch = self.writer.encode(deltas, status or {}, verified=verified, published=self.published)
        self.published = self.published or any(delta.replaces for delta in deltas)
        return batch

    async def commit(self, *frames: Sequence[Change], verified: bool = False) -> None:
        """Apply the frames and write them in one batch, a commit for each that changes something."""
        deltas = [self.fold(*frame) for frame in frames]
        await self.writer.send(self.batch(*filter(None, deltas), verified=verified))

    async def commit_whole(self, *, verified: bool = False) -> None:
        await self.writer.send(self.batch(self.account.whole(), verified=verified))

    async def beat(self, state: str = "live", *, verified: bool = True) -> None:
        """A heartbeat, as the committer sends it."""
        await self.writer.send(self.batch(status={"state": state, "reason": ""}, verified=verified))


class Known(Protocol):
    """What of an account is written."""

    @property
    def totals(self) -> Totals | None: ...
    @property
    def balances(self) -> Mapping[str, Balance]: ...
    @property
    def positions(self) -> Mapping[PositionKey, Position]: ...
    @property
    def orders(self) -> Mapping[OrderKey, Order]: ...


def _rows(names: tuple[str, ...], rows: Mapping[str, tuple[str | None, ...]]) -> Rows:
    return {
        entity: {name: cell for name, cell in zip(names, cells, strict=True) if cell is not None}
        for entity, cells in rows.items()
    }


def expected_state(account: Known) -> State:
    """What the hashes must hold of `account`, without provenance."""
    assert account.totals is not None
    return {
        "account": _rows(ACCOUNT_FIELDS, {"": totals_cells(account.totals)})[""],
        "balances": _rows(BALANCE_FIELDS, {asset: balance_cells(row) for asset, row in account.balances.items()}),
        "positions": _rows(
            POSITION_FIELDS,
            {f"{key.symbol}:{key.position_side}": position_cells(row) for key, row in account.positions.items()},
        ),
        "orders": _rows(ORDER_FIELDS, {str(key): order_cells(row) for key, row in account.orders.items()}),
    }


def without_provenance(fields: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if not name.startswith("_")}


def state_of(hashes: Mapping[str, Mapping[str, str]]) -> State:
    return {name: without_provenance(hashes[name]) if name == "account" else entities(hashes[name]) for name in HASHES}


def applied(hashes: dict[str, dict[str, str]], change: Mapping[str, Any]) -> None:
    """Do to `hashes` what an entry of the changes stream says."""
    for name in HASHES:
        part = change.get(name)
        if part is None:
            assert not change.get("replaces"), "a commit that replaces says all"
            continue
        if change.get("replaces"):
            hashes[name] = {}
        fields = hashes[name]
        for entity in part.get("removed", ()):
            for field in [field for field in fields if field.rpartition(".")[0] == entity]:
                del fields[field]
        for field in part.get("unset", ()):
            del fields[field]
        fields.update(part["set"])
        if name != "account":
            assert part["count"] == len(entities(fields))


class Stored:
    """What Redis holds of an account, read with commands alone."""

    def __init__(self, client: Client, account_id: AccountId) -> None:
        self.redis = cast("Redis[Any]", client.redis)
        self.keys = AccountKeys(account_id)

    async def status(self) -> dict[str, str]:
        return cast("dict[str, str]", await self.redis.hgetall(self.keys.status))

    async def hashes(self) -> dict[str, dict[str, str]]:
        return {name: await self.redis.hgetall(getattr(self.keys, name)) for name in HASHES}

    async def events(self) -> list[dict[str, str]]:
        return [fields for _, fields in await self.redis.xrange(self.keys.order_events)]

    async def changes(self) -> list[dict[str, str]]:
        return [fields for _, fields in await self.redis.xrange(self.keys.changes)]

    async def everything(self) -> object:
        """All keys of the account but those that only say who is there, to see that nothing was written."""
        return (await self.status(), await self.hashes(), await self.events(), await self.changes())

    async def expect(self, account: Account) -> None:
        """Redis holds `account`: in its hashes, and in what a copy makes of the changes stream."""
        hashes = await self.hashes()
        assert state_of(hashes) == expected_state(account)
        for name in ("balances", "positions", "orders"):
            assert hashes[name]["_count"] == str(len(getattr(account, name)))
        entries = await self.changes()
        changes = [orjson.loads(entry["change"]) for entry in entries]
        first = next(number for number, change in enumerate(changes) if change.get("replaces"))
        copy: dict[str, dict[str, str]] = {}
        for change in changes[first:]:
            applied(copy, change)
        assert state_of(copy) == expected_state(account)
        status = await self.status()
        assert (entries[-1]["seq"], entries[-1]["eventSeq"]) == (status["seq"], status["eventSeq"])

    async def expect_without_holes(self, *, of_commits: bool = True) -> None:
        """Commits and order events are numbered without a gap, and each event stands once. The commits of earlier
        epochs may be gone."""
        events, changes, status = await self.events(), await self.changes(), await self.status()
        seqs = [int(entry["seq"]) for entry in changes]
        assert seqs == (list(range(seqs[0], int(status["seq"]) + 1)) if of_commits else sorted(set(seqs)))
        assert [int(entry["eventSeq"]) for entry in events] == list(range(1, int(status["eventSeq"]) + 1))
        ids = [entry["eventId"] for entry in events]
        assert len(ids) == len(set(ids))


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = 40.0) -> None:
    """Return as soon as `condition` holds; fail when it does not within a generous time."""
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.002)
