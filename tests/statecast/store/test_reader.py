from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.changes import D, event, fill, position, rest_balance, rest_order, rest_position, snapshot, wallet
from support.written import Desk, Stored, expected_state, without_provenance

from statecast.embedded.server import EmbeddedServer
from statecast.errors import StoreUnreachable
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId
from statecast.store.reader import TABLES, StoredAccount, known_accounts, other_publishers, read_account


@pytest.fixture
async def client(any_redis_url: str) -> AsyncIterator[Client]:
    async with connect(any_redis_url, client_name="reader") as connected:
        yield connected


@pytest.fixture
def account_id(account_name: str) -> AccountId:
    return AccountId("binance", account_name)


async def test_an_account_that_was_never_published_is_unknown_and_not_flat(
    client: Client, account_id: AccountId
) -> None:
    found = await read_account(client, account_id)
    assert found == StoredAccount(account_id, found.now_ms, {}, None, None, None, None)
    assert found.age_ms is None


async def test_an_account_without_positions_is_flat_and_not_unknown(client: Client, account_id: AccountId) -> None:
    desk = Desk(client, account_id)
    await desk.open()
    await desk.commit([snapshot(balances=[])], verified=True)
    found = await read_account(client, account_id)
    assert (found.balances, found.positions, found.orders) == ({}, {}, {})


async def test_a_publisher_that_has_only_opened_has_published_nothing(client: Client, account_id: AccountId) -> None:
    await Desk(client, account_id).open("starting", "connecting")
    found = await read_account(client, account_id)
    assert found.status["state"] == "starting"
    assert (found.account, found.positions, found.age_ms) == (None, None, None)


async def test_two_open_orders_with_one_id_on_two_symbols_both_stand(client: Client, account_id: AccountId) -> None:
    """Venues number orders per symbol; the snapshot, events and amendments of one never touch the other."""
    desk = Desk(client, account_id)
    await desk.open()
    ether = {"symbol": "ETHUSDT", "price": D("3000")}
    await desk.commit([snapshot(orders=[rest_order(-9), rest_order(-9, **ether)])], verified=True)
    await desk.commit(
        [event(10, "NEW", order_id="5")],
        [event(20, "NEW", order_id="5", **ether)],
        [event(30, "AMENDMENT", order_id="5", **ether | {"price": D("3001")})],
    )
    found = await read_account(client, account_id)
    assert found.orders is not None
    assert {name: row["price"] for name, row in found.orders.items()} == {
        "BTCUSDT:1001": "91250.4",
        "ETHUSDT:1001": "3000",
        "BTCUSDT:5": "91250.4",
        "ETHUSDT:5": "3001",
    }
    await desk.commit([event(40, "CANCELED", "CANCELED", order_id="5", **ether)], [fill(40, "0.050")])
    found = await read_account(client, account_id)
    assert found.orders is not None
    assert set(found.orders) == {"BTCUSDT:5", "ETHUSDT:1001"}
    await Stored(client, account_id).expect(desk.account)


async def test_what_a_venue_counts_in_contracts_stands_there_where_it_is_given(
    client: Client, account_id: AccountId
) -> None:
    desk = Desk(client, account_id)
    await desk.open()
    counted = {"symbol": "BTC-USD-SWAP", "quantity_asset": "USD", "contracts": D(-10)}
    swap = rest_position(-9, "-1000", "50000", contract_size=D(100), inverse=True, margin_asset="BTC", **counted)
    await desk.commit([snapshot(positions=[swap, rest_position(-9, "0.5")], orders=[rest_order(-9)])], verified=True)
    await desk.commit([event(10, "NEW", order_id="5", **counted)])
    found = await read_account(client, account_id)
    assert found.account is not None
    assert found.positions is not None
    assert found.orders is not None
    names = ("quantityAsset", "contracts", "contractSize")
    rows = (found.positions["BTC-USD-SWAP:BOTH"], found.orders["BTC-USD-SWAP:5"])
    assert [[row.get(name) for name in names] for row in rows] == [["USD", "-10", "100"], ["USD", "-10", None]]
    for row in (found.positions["BTCUSDT:BOTH"], found.orders["BTCUSDT:1001"]):
        assert not any(name in row for name in names)
    assert found.account["totalsAsset"] == "USDT"
    (entry,) = await Stored(client, account_id).events()
    assert (entry["quantityAsset"], entry["contracts"]) == ("USD", "-10")


async def test_everything_is_read_as_it_was_written(client: Client, account_id: AccountId) -> None:
    desk = Desk(client, account_id)
    await desk.open()
    await desk.commit(
        [
            snapshot(
                balances=[rest_balance(-9, "1000"), rest_balance(-9, "2", "BNB")],
                positions=[rest_position(-9, "0.5"), rest_position(-9, "-1", position_side="SHORT")],
                orders=[rest_order(-9), rest_order(-9, order_id="algo-7", algo_id="7")],
            )
        ],
        [position(10, "0.6"), wallet(10, "990"), event(10, "X", "CANCELED")],
        verified=True,
    )
    found = await read_account(client, account_id)
    state = expected_state(desk.account)
    assert found.account is not None
    assert without_provenance(found.account) == state["account"]
    assert (found.balances, found.positions, found.orders) == (state["balances"], state["positions"], state["orders"])
    assert found.account["_seq"] == found.status["seq"] == "2"


async def test_the_age_grows_by_redis_own_clock_when_nobody_vouches(client: Client, account_id: AccountId) -> None:
    desk = Desk(client, account_id)
    await desk.open()
    await desk.commit([snapshot()], verified=True)
    stored = Stored(client, account_id)
    verified_ms = int((await stored.status())["verifiedAtMs"])
    await stored.redis.hset(stored.keys.status, "verifiedAtMs", str(verified_ms - 60_000))
    found = await read_account(client, account_id)
    assert found.age_ms == found.now_ms - verified_ms + 60_000 >= 60_000
    await desk.beat()
    assert 0 <= ((await read_account(client, account_id)).age_ms or 0) < 5_000


async def test_a_reading_is_of_one_moment(any_redis_url: str, client: Client, account_id: AccountId) -> None:
    """While a publisher moves wallet and position together, no reader ever sees one without the other."""
    async with connect(any_redis_url, client_name="publisher") as other:
        desk = Desk(other, account_id)
        await desk.open()
        await desk.commit([snapshot()], [position(1, "1"), wallet(1, "1")])
        written = asyncio.Event()

        async def publish() -> None:
            for step in range(2, 300):
                await desk.commit([position(step, str(step)), wallet(step, str(step))])
            written.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(publish())
            seen = []
            while not written.is_set():
                found = await read_account(client, account_id)
                assert found.account is not None
                assert found.balances is not None
                assert found.positions is not None
                amount = found.positions["BTCUSDT:BOTH"]["positionAmt"]
                assert amount == found.balances["USDT"]["walletBalance"] == found.account["totalWalletBalance"]
                assert int(found.status["seq"]) == int(found.account["_seq"]) == int(amount) + 1
                seen.append(int(amount))
        assert seen == sorted(seen)
        assert len(set(seen)) > 10


async def test_only_what_was_asked_for_is_read(own_redis: EmbeddedServer, account_id: AccountId) -> None:
    async with connect(own_redis.url, client_name="reader") as client:
        desk = Desk(client, account_id)
        await desk.open()
        await desk.commit([snapshot(positions=[rest_position(-9, "0.5")])], verified=True)
        await client.redis.config_resetstat()
        found = await read_account(client, account_id, ("positions",))
        stats = await client.redis.info("commandstats")
    assert stats["cmdstat_hgetall"]["calls"] == 2
    assert found.positions == expected_state(desk.account)["positions"]
    assert (found.account, found.balances, found.orders) == (None, None, None)
    assert (found.asked, found.missing) == (("positions",), ())
    assert list(found.provenance) == ["positions"]


async def test_a_hash_that_is_missing_or_a_part_is_named_if_it_was_asked_for(
    client: Client, account_id: AccountId
) -> None:
    assert (await read_account(client, account_id)).missing == TABLES
    desk = Desk(client, account_id)
    await desk.open()
    await desk.commit([snapshot()], verified=True)
    assert (await read_account(client, account_id)).missing == ()
    stored = Stored(client, account_id)
    await stored.redis.delete(stored.keys.positions)
    await stored.redis.hset(stored.keys.orders, "_complete", "0")
    assert (await read_account(client, account_id)).missing == ("positions", "orders")
    assert (await read_account(client, account_id, ("account", "orders"))).missing == ("orders",)
    assert (await read_account(client, account_id, ("account", "balances"))).missing == ()


async def test_the_provenance_of_each_hash_stands_beside_its_rows(client: Client, account_id: AccountId) -> None:
    desk = Desk(client, account_id)
    await desk.open()
    await desk.commit([snapshot()], [position(10, "0.6")], verified=True)
    found = await read_account(client, account_id)
    hashes = await Stored(client, account_id).hashes()
    assert found.provenance == {
        name: {field: value for field, value in fields.items() if field.startswith("_")}
        for name, fields in hashes.items()
    }
    assert (found.provenance["positions"]["_seq"], found.provenance["orders"]["_seq"]) == ("2", "1")
    assert (found.provenance["positions"]["_source"], found.provenance["orders"]["_source"]) == ("stream", "rest")


async def test_the_youngest_change_is_told_if_it_is_asked_for(client: Client, account_id: AccountId) -> None:
    assert (await read_account(client, account_id, last_change=True)).last_change == "0-0"
    desk = Desk(client, account_id)
    await desk.open()
    await desk.commit([snapshot()], [position(10, "0.6")], verified=True)
    stored = Stored(client, account_id)
    youngest = await stored.redis.xrevrange(stored.keys.changes, count=1)
    assert (await read_account(client, account_id, last_change=True)).last_change == youngest[0][0]
    assert (await read_account(client, account_id)).last_change == "0-0"
    assert (await read_account(client, account_id, ("orders",), last_change=True)).last_change == youngest[0][0]


async def test_a_reading_is_one_transaction(own_redis: EmbeddedServer, account_id: AccountId) -> None:
    async with connect(own_redis.url, client_name="reader") as client:
        await read_account(client, account_id)
        stats = await client.redis.info("commandstats")
    assert {name: stats[f"cmdstat_{name}"]["calls"] for name in ("multi", "exec", "hgetall", "time")} == {
        "multi": 1,
        "exec": 1,
        "hgetall": 5,
        "time": 1,
    }


async def test_the_known_accounts_are_listed_in_order(own_redis: EmbeddedServer) -> None:
    async with connect(own_redis.url, client_name="reader") as client:
        assert await known_accounts(client) == []
        for venue, name in (("okx", "a"), ("binance", "main"), ("binance", "hedge")):
            await Desk(client, AccountId(venue, name)).open()
        assert list(map(str, await known_accounts(client))) == ["binance:hedge", "binance:main", "okx:a"]


async def test_other_publishers_are_those_that_showed_themselves_of_late(client: Client, account_id: AccountId) -> None:
    for name in ("publisher-1", "publisher-2", "publisher-3"):
        await Desk(client, account_id, name).open()
    assert sorted(await other_publishers(client, account_id, "publisher-1")) == ["publisher-2", "publisher-3"]
    stored = Stored(client, account_id)
    long_ago = (await read_account(client, account_id)).now_ms - 60_001
    await stored.redis.zadd(stored.keys.publishers, {"publisher-2": long_ago})
    assert await other_publishers(client, account_id, "publisher-1") == ["publisher-3"]
    assert await other_publishers(client, AccountId("binance", "nobody"), "publisher-1") == []


async def test_a_redis_that_is_not_there_is_told_by_every_reading(
    own_redis: EmbeddedServer, account_id: AccountId
) -> None:
    async with connect(own_redis.url, client_name="reader") as client:
        own_redis.kill()
        readings = (read_account(client, account_id), known_accounts(client), other_publishers(client, account_id, "x"))
        for reading in readings:
            with pytest.raises(StoreUnreachable, match="connection refused"):
                await reading
