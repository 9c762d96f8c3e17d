"""Read as fast as one can while an account trades: before a publisher is there, while it lives, after it was killed.

What a snapshot holds is compared with three independent witnesses: what the changes stream makes of the account at that
`seq`, the ledger itself whenever it stands still, and every state that the ledger ever had.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, cast

import orjson
import pytest
from support.programs import program
from support.readers import access, redis_now_ms
from support.truth import differences
from support.world import World, account_values, new_server, until
from support.written import applied, state_of

from consumers.account import AccountReader
from consumers.models import AccountSnapshot, Answer
from consumers.tables import snake_case
from statecast.errors import NeverPublished, StaleState
from statecast.store.client import connect
from statecast.store.keys import AccountId, AccountKeys
from statecast.store.reader import read_account

SEED = 20_261_123
COMMITS_READ = 500
MAX_AGE_S = 2.0
REFRESHES = 8
"""Each costs 100 of the 1,800 weight that a minute allows us."""

Holdings = tuple[frozenset[tuple[str, Decimal]], frozenset[tuple[str, str, Decimal]]]
"""Wallets and positions: what one frame of the stream moves together."""


def text(value: object) -> str:
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def row_text(row: Answer) -> dict[str, str]:
    """An answer as the contract's fields again."""
    values = {name: getattr(row, snake_case(name)) for name in row.FIELDS}  # type: ignore[attr-defined]
    return {name: text(value) for name, value in values.items() if value is not None}


def as_text(read: AccountSnapshot) -> dict[str, Any]:
    tables = {"balances": read.balances, "positions": read.positions, "orders": read.open_orders}
    rows = {name: {key: row_text(row) for key, row in table.by_name.items()} for name, table in tables.items()}
    return {"account": row_text(read.totals)} | rows


def holdings(read: AccountSnapshot) -> Holdings:
    return (
        frozenset((row.asset, row.wallet_balance) for row in read.balances if row.wallet_balance),
        frozenset((row.symbol, row.position_side, row.position_amt) for row in read.positions),
    )


@dataclass
class Witness:
    """Follows the ledger step by step, and keeps every snapshot that was read."""

    here: World
    wallets: dict[str, Decimal] = field(default_factory=dict)
    positions: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    states: set[Holdings] = field(default_factory=set)
    reads: dict[tuple[int, int], AccountSnapshot] = field(default_factory=dict)
    refused: int = 0
    never_published: int = 0
    by_refresh: int = 0
    too_fast: int = 0

    def note(self) -> None:
        """Every state that the ledger went through since the last time: several, where one step has several fills."""
        ledger = self.here.ledger
        changes = self.here.exchange.account_changes
        for change in changes:
            self.wallets |= {row.asset: row.wallet_balance for row in change.balances}
            rows = [row.position for row in change.positions]
            self.positions |= {(row.symbol, row.side.value): row.amount for row in rows}
            self.states.add(self._held())
        changes.clear()
        self.wallets = {wallet.asset: wallet.balance for wallet in ledger.wallets()}
        self.positions = {(row.symbol, row.side.value): row.amount for row in ledger.positions()}
        self.states.add(self._held())

    def _held(self) -> Holdings:
        return (
            frozenset((asset, amount) for asset, amount in self.wallets.items() if amount),
            frozenset((*key, amount) for key, amount in self.positions.items() if amount),
        )

    def trade(self, steps: int) -> None:
        for _ in range(steps):
            self.here.trade(1)
            self.note()

    async def read(self, reader: AccountReader) -> AccountSnapshot | None:
        """One read, judged by Redis's clock as it was before it."""
        before_ms = await redis_now_ms(self.here.client)
        try:
            read = await reader.snapshot()
        except NeverPublished:
            self.never_published += 1
            return None
        except StaleState:
            self.refused += 1
            return None
        limit_ms = reader.max_age_s * 1000
        assert before_ms - read.freshness.verified_at_ms <= limit_ms, "it was too old before it was even asked for"
        assert before_ms - read.freshness.verified_at_ms <= round(read.age_s * 1000) <= limit_ms
        if read.freshness.via == "refresh":
            self.by_refresh += 1
            assert holdings(read) in self.states, "the ledger never held this at one moment"
        else:
            assert holdings(read) in self.states, "the ledger never held this at one moment"
            numbers = (read.freshness.epoch, read.seq)
            known = self.reads.setdefault(numbers, read)
            assert as_text(known) == as_text(read), "one commit has one content"
        return read

    async def refresh(self, reader: AccountReader) -> None:
        """One answer of the venue, asked for now."""
        try:
            read = await reader.refresh()
        except StaleState as error:
            may_be = ("the account changes too fast", "the limits of the venue")
            assert any(reason in error.why for reason in may_be)  # noqa: PT017 - any other reason is a failure
            self.too_fast += "too fast" in error.why
        else:
            assert holdings(read) in self.states, "the ledger never held this at one moment"

    async def expect_commits(self) -> None:
        """Every snapshot is what the changes stream makes of the account at its `seq`."""
        entries = await self.here.client.redis.xrange(AccountKeys(self.here.account_id).changes)
        copy: dict[str, dict[str, str]] = {}
        unseen = dict(self.reads)
        for _, entry in cast("list[tuple[str, dict[str, str]]]", entries):
            applied(copy, orjson.loads(entry["change"]))
            read = unseen.pop((int(entry["epoch"]), int(entry["seq"])), None)
            if read is not None:
                assert as_text(read) == state_of(copy), f"seq {entry['seq']}"
        assert not unseen, f"no commit has the numbers {list(unseen)[:5]}"


@asynccontextmanager
async def scope(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Work that goes on while the context lasts; if it fails, so does the context, at once."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        yield
        task.cancel()


async def read_on(witness: Witness, reader: AccountReader) -> None:
    while True:
        await witness.read(reader)


async def trade_on(witness: Witness) -> None:
    while True:
        witness.trade(1)
        await asyncio.sleep(0.002)


async def test_no_snapshot_is_ever_torn_or_old_or_flat_by_mistake(
    tmp_path: Path, redis_url: str, account_name: str
) -> None:
    account_id = AccountId("binance", account_name)
    async with (
        new_server(seed=SEED) as server,
        connect(redis_url, client_name="reading-test") as client,
        AccountReader(account_id, redis_url, max_age_s=MAX_AGE_S) as reader,
        AccountReader(account_id, redis_url, max_age_s=MAX_AGE_S, credentials=access(server)) as own,
        AccountReader("binance:nobody-" + account_name, redis_url, credentials=access(server)) as nobody,
    ):
        here = World(server, client, account_id, Random(SEED))
        witness = Witness(here)
        witness.trade(100)
        assert here.dump()["positions"], "an account that is flat proves nothing"
        values = account_values(server, account_name) | {"REDIS_URL": redis_url}

        async with scope(read_on(witness, reader)), program(tmp_path, "publisher", **values) as publisher:
            # From unpublished to live.
            await until(lambda: _state(here), lambda state: state == "live")
            assert witness.never_published > 0

            # While it trades.
            async with asyncio.timeout(100):
                while len(witness.reads) < COMMITS_READ:
                    witness.trade(1)
                    here.exchange.publish_marks(here.now_ms())
                    await asyncio.sleep(0.002)
                    with pytest.raises(NeverPublished):
                        await nobody.positions()

            # Whenever the ledger stands still, Redis and reader agree with it.
            await here.agree()
            stored, read = await here.stored(), await reader.snapshot()
            assert differences(stored, here.dump()) == []
            assert holdings(read) in witness.states
            rows = {name: len(getattr(stored, name)) for name in ("positions", "orders")}
            assert (len(read.positions), len(read.open_orders)) == (rows["positions"], rows["orders"])

            # Killed in the middle of trading.
            witness.trade(5)
            publisher.process.kill()
            await publisher.process.wait()
            refused = witness.refused
            async with asyncio.timeout(60):
                while witness.refused < refused + 20:
                    witness.trade(1)
                    await asyncio.sleep(0.01)

            # A reader with credentials serves both of them by REST, and may ask for more at any moment.
            async with scope(read_on(witness, own)), scope(trade_on(witness)), asyncio.timeout(60):
                for _ in range(REFRESHES):
                    await witness.refresh(own)
                while witness.by_refresh < 200:
                    await asyncio.sleep(0.05)

        await witness.expect_commits()
        told = await read_account(client, account_id)
        assert told.status["state"] == "live", "the publisher was killed, so that its last word stands"
        print(f"{len(witness.reads)} commits, {witness.by_refresh} reads by REST")
        print(f"{witness.refused} refused, {witness.too_fast} too fast")


async def _state(here: World) -> str | None:
    return (await here.status()).get("state")
