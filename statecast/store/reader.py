"""One consistent read of an account: all hashes, the status and Redis's clock, as of one moment, in one round trip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from statecast.store.client import Client
from statecast.store.codec import entities
from statecast.store.keys import ACCOUNTS_KEY, REGISTERED_MS, AccountId, AccountKeys


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """What Redis holds of an account. Values are text, as in the contract; rows are {entity: {attribute: value}}.

    A hash that does not exist is None: unknown, which is not the same as empty.
    """

    account_id: AccountId
    now_ms: int
    status: dict[str, str]
    account: dict[str, str] | None
    balances: dict[str, dict[str, str]] | None
    positions: dict[str, dict[str, str]] | None
    orders: dict[str, dict[str, str]] | None

    @property
    def age_ms(self) -> int | None:
        """Milliseconds since the publisher last had grounds to believe this, by Redis's clock; None for never.

        The one question of a reader: it does not stand still when the publisher is gone.
        """
        verified = self.status.get("verifiedAtMs")
        return self.now_ms - int(verified) if verified else None


async def read_account(client: Client, account_id: AccountId) -> StoredAccount:
    """Read the account.

    Raises:
        StoreUnreachable, StoreRefused: reading again is harmless.
    """
    keys = AccountKeys(account_id)
    with client.errors():
        async with client.redis.pipeline(transaction=True) as pipe:
            for key in (keys.status, keys.account, keys.balances, keys.positions, keys.orders):
                pipe.hgetall(key)
            pipe.time()
            status, account, balances, positions, orders, (seconds, microseconds) = await pipe.execute()
    return StoredAccount(
        account_id=account_id,
        now_ms=_milliseconds(seconds, microseconds),
        status=status,
        account=account or None,
        balances=entities(balances) if balances else None,
        positions=entities(positions) if positions else None,
        orders=entities(orders) if orders else None,
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
