from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from support.changes import event, mark, position, rest_balance, rest_order, rest_position, snapshot, wallet
from support.written import Desk, State, expected_state, without_provenance

from statecast.domain.changes import Change as FrameChange
from statecast.embedded.server import EmbeddedServer
from statecast.errors import ContractMismatch, StoreRefused, StoreUnreachable
from statecast.store.client import Client, connect
from statecast.store.feed import Change, apply, read_changes, wait_for_changes
from statecast.store.keys import AccountId, AccountKeys
from statecast.store.reader import StoredAccount, read_account


@pytest.fixture
async def client(any_redis_url: str) -> AsyncIterator[Client]:
    async with connect(any_redis_url, client_name="feed") as connected:
        yield connected


@pytest.fixture
def account_id(account_name: str) -> AccountId:
    return AccountId("binance", account_name)


@pytest.fixture
async def desk(client: Client, account_id: AccountId) -> Desk:
    """A publisher that has written one commit."""
    desk = Desk(client, account_id)
    await desk.open()
    await desk.commit([snapshot(positions=[rest_position(-9, "0.5")], orders=[rest_order(-9)])], verified=True)
    return desk


Tables = dict[str, Mapping[str, Mapping[str, str]]]


def tables_of(stored: StoredAccount) -> Tables:
    assert stored.account is not None
    assert stored.balances is not None
    assert stored.positions is not None
    assert stored.orders is not None
    return {
        "account": {"": without_provenance(stored.account)},
        "balances": stored.balances,
        "positions": stored.positions,
        "orders": stored.orders,
    }


def followed(tables: Tables, changes: Sequence[Change]) -> State:
    """A copy after the changes, in the form of `expected_state`."""
    for change in changes:
        for name, part in change.parts.items():
            tables[name] = apply(tables[name], part, replaces=change.replaces)[0]
    return tables | {"account": tables["account"][""]}


FRAMES: Sequence[Sequence[FrameChange]] = [
    [position(10, "0.6"), wallet(10, "990")],
    [event(10, "X", "CANCELED")],
    [event(20, "NEW", order_id="1002"), position(20, "-1", symbol="ETHUSDT")],
    [mark(30, "104.5")],
    [position(40, "0")],
    [event(50, "X", "CANCELED", order_id="77")],
    [snapshot(60, balances=[rest_balance(55, "5", "BNB")])],
]


async def test_a_copy_that_follows_is_what_the_hashes_hold(client: Client, account_id: AccountId, desk: Desk) -> None:
    joined = await read_account(client, account_id, last_change=True)
    copy, last_id = tables_of(joined), joined.last_change
    for frame in FRAMES:
        await desk.commit(frame)
        changes = await wait_for_changes(client, account_id, last_id, block_ms=1_000)
        assert [change.seq for change in changes] == [desk.writer.seq]
        assert changes[0].epoch == desk.writer.epoch
        last_id = changes[-1].entry_id
        assert followed(copy, changes) == expected_state(desk.account)
    assert changes[0].source == "rest"


async def test_waiting_ends_without_news(client: Client, account_id: AccountId, desk: Desk) -> None:
    last_id = (await read_account(client, account_id, last_change=True)).last_change
    assert await wait_for_changes(client, account_id, last_id, block_ms=1) == []
    assert await wait_for_changes(client, AccountId("binance", "nobody"), "0-0", block_ms=1) == []


async def test_waiting_ends_with_the_first_commit(any_redis_url: str, account_id: AccountId, desk: Desk) -> None:
    async with connect(any_redis_url, client_name="waiting") as waiting:
        last_id = (await read_account(waiting, account_id, last_change=True)).last_change
        wait = asyncio.create_task(wait_for_changes(waiting, account_id, last_id, block_ms=1_900))
        await desk.commit([position(10, "0.6")])
        assert [change.seq for change in await wait] == [2]


async def test_news_are_entries_status_and_time_of_one_moment(
    client: Client, account_id: AccountId, desk: Desk
) -> None:
    last_id = (await read_account(client, account_id, last_change=True)).last_change
    await desk.commit(*FRAMES[:3], verified=True)
    page = await read_changes(client, account_id, last_id)
    assert [change.seq for change in page.changes] == [2, 3, 4]
    assert page.status["seq"] == "4"
    assert page.complete
    assert 0 <= page.now_ms - int(page.status["verifiedAtMs"]) < 5_000
    again = await read_changes(client, account_id, page.changes[-1].entry_id)
    assert (again.changes, again.complete) == ([], True)


async def test_news_of_an_account_that_nobody_publishes_are_none(client: Client, account_id: AccountId) -> None:
    page = await read_changes(client, account_id, "0-0")
    assert (page.status, page.changes, page.complete) == ({}, [], True)


async def test_many_entries_come_in_pages(client: Client, account_id: AccountId, desk: Desk) -> None:
    await desk.commit(*FRAMES[:4])
    first = await read_changes(client, account_id, "0-0", page=2)
    assert ([change.seq for change in first.changes], first.complete) == ([1, 2], False)
    second = await wait_for_changes(client, account_id, first.changes[-1].entry_id, block_ms=1, page=2)
    assert [change.seq for change in second] == [3, 4]
    third = await read_changes(client, account_id, second[-1].entry_id, page=2)
    assert ([change.seq for change in third.changes], third.complete) == ([5], True)


@pytest.mark.parametrize(
    "fields",
    [
        {"seq": "2", "epoch": "7", "source": "stream"},
        {"seq": "2", "epoch": "7", "source": "stream", "change": "{"},
        {"seq": "2", "epoch": "7", "source": "stream", "change": "[]"},
        {"seq": "two", "epoch": "7", "source": "stream", "change": "{}"},
    ],
)
async def test_an_entry_that_cannot_be_understood_is_named(
    client: Client, account_id: AccountId, fields: dict[Any, Any]
) -> None:
    entry_id = await client.redis.xadd(AccountKeys(account_id).changes, fields)
    with pytest.raises(ContractMismatch, match=f"entry {entry_id} of the changes cannot be understood"):
        await wait_for_changes(client, account_id, "0-0", block_ms=1)


async def test_a_redis_that_is_away_or_refuses_is_told(own_redis: EmbeddedServer, account_id: AccountId) -> None:
    async with connect(own_redis.url, client_name="feed") as client:
        await client.redis.set(AccountKeys(account_id).changes, "text")
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            await wait_for_changes(client, account_id, "0-0", block_ms=1)
        with pytest.raises(StoreRefused, match="WRONGTYPE"):
            await read_changes(client, account_id, "0-0")
        own_redis.kill()
        for reading in (
            wait_for_changes(client, account_id, "0-0", block_ms=1),
            read_changes(client, account_id, "0-0"),
        ):
            with pytest.raises(StoreUnreachable):
                await reading


# Applying, by hand


ROWS = {"A.b": {"x": "1", "y": "2"}, "C": {"x": "3"}}


def test_what_is_set_unset_and_removed_is_named_and_the_rows_before_stay_as_they_were() -> None:
    part = {"set": {"A.b.x": "9", "D.x": "4"}, "unset": ["A.b.y"], "removed": ["C"], "count": 2}
    after, names = apply(ROWS, part, replaces=False)
    assert after == {"A.b": {"x": "9"}, "D": {"x": "4"}}
    assert names == {"A.b", "C", "D"}
    assert ROWS == {"A.b": {"x": "1", "y": "2"}, "C": {"x": "3"}}


def test_what_replaces_names_only_what_differs() -> None:
    part = {"set": {"A.b.x": "1", "A.b.y": "2", "D.x": "4"}, "count": 2}
    after, names = apply(ROWS, part, replaces=True)
    assert after == {"A.b": {"x": "1", "y": "2"}, "D": {"x": "4"}}
    assert names == {"C", "D"}


def test_totals_are_one_row_without_a_name() -> None:
    assert apply({"": {"x": "1", "y": "2"}}, {"set": {"x": "5"}}, replaces=False) == ({"": {"x": "5", "y": "2"}}, {""})


def test_a_wrong_number_of_rows_is_no_copy() -> None:
    with pytest.raises(ValueError, match="3 rows where the commit counts 4"):
        apply(ROWS, {"set": {"D.x": "4"}, "count": 4}, replaces=False)
