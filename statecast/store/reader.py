"""One consistent read of an account: all hashes, the status and Redis's clock, as of one moment, in one round trip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from statecast.domain.freshness import age_ms
from statecast.store.client import Client
from statecast.store.codec import entities, provenance
from statecast.store.keys import ACCOUNTS_KEY, REGISTERED_MS, AccountId, AccountKeys

TABLES = ("account", "balances", "positions", "orders")


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """What Redis holds of an account. Values are text, as in the contract; rows are {entity: {attribute: value}}.

    A hash that does not exist, or that was not asked for, is None: unknown, which is not the same as empty.
    """

    account_id: AccountId
    now_ms: int
    status: Mapping[str, str]
    account: Mapping[str, str] | None
    balances: Mapping[str, Mapping[str, str]] | None
    positions: Mapping[str, Mapping[str, str]] | None
    orders: Mapping[str, Mapping[str, str]] | None
    asked: tuple[str, ...] = TABLES
    provenance: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The fields with an underscore of each hash that was asked for and exists."""
    last_change: str = "0-0"
    """Id of the youngest entry of the changes stream, if it was asked for: this is the state after it."""

    @property
    def missing(self) -> tuple[str, ...]:
        """The hashes that were asked for and are not there, or do not hold everything."""
        return tuple(
            name
            for name in self.asked
            if getattr(self, name) is None or self.provenance.get(name, {}).get("_complete", "1") != "1"
        )

    @property
    def age_ms(self) -> int | None:
        """Milliseconds since the publisher last verified this, by Redis's clock; None for never."""
        return age_ms(self.status, self.now_ms)


async def read_account(
    client: Client, account_id: AccountId, tables: tuple[str, ...] = TABLES, *, last_change: bool = False
) -> StoredAccount:
    """Read the account, or some of its hashes: one round trip, one moment.

    Raises:
        StoreUnreachable, StoreRefused: reading again is harmless.
    """
    keys = AccountKeys(account_id)
    with client.errors():
        async with client.redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.hgetall(keys.status)
            for name in tables:
                pipe.hgetall(keys.table(name))
            if last_change:
                pipe.xrevrange(keys.changes, count=1)
            (seconds, microseconds), status, *found = await pipe.execute()
    last = cast("list[tuple[str, dict[str, str]]]", found.pop()) if last_change else []
    hashes = {name: fields for name, fields in zip(tables, found, strict=True) if fields}
    rows = {name: entities(fields) for name, fields in hashes.items() if name != "account"}
    return StoredAccount(
        account_id=account_id,
        now_ms=_milliseconds(seconds, microseconds),
        status=status,
        account=hashes.get("account"),
        balances=rows.get("balances"),
        positions=rows.get("positions"),
        orders=rows.get("orders"),
        asked=tables,
        provenance={name: provenance(fields) for name, fields in hashes.items()},
        last_change=last[0][0] if last else "0-0",
    )


async def known_accounts(client: Client) -> list[AccountId]:
    """All accounts that a publisher has ever written, in alphabetical order."""
    with client.errors():
        names = cast("set[str]", await client.redis.smembers(ACCOUNTS_KEY))
    return [AccountId.parse(name) for name in sorted(names)]


async def other_publishers(client: Client, account_id: AccountId, publisher_id: str) -> list[str]:
    """Ids of the publishers that have shown themselves within REGISTERED_MS, without `publisher_id`."""
    with client.errors():
        async with client.redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.zrange(AccountKeys(account_id).publishers, 0, -1, withscores=True)
            now, members = await pipe.execute()
    since_ms = _milliseconds(*now) - REGISTERED_MS
    return [name for name, shown_ms in members if name != publisher_id and shown_ms > since_ms]


def _milliseconds(seconds: int, microseconds: int) -> int:
    return int(seconds) * 1000 + int(microseconds) // 1000
