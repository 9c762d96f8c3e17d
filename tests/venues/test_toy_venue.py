"""A further venue is an adapter and a line of the registry: the toy venue through publisher and readers, with all that
happens to a stream. What is special about it stands in `support/toy_venue`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs
from support.toy_venue import messages
from support.toy_venue.exchange import CONTRACTS, KEY, ToyExchange, ToyServer, serving
from support.toy_venue.session import ToySession
from support.toy_venue.venue import TRAITS, VENUE, ToyVenue
from support.venues import registered
from support.world import until

from consumers.account import AccountReader
from consumers.order_events import OrderEvents
from publisher import config
from publisher.service import publishing, system_chance
from statecast import settings
from statecast.clock import SystemClock
from statecast.domain import gaps
from statecast.domain.changes import AllPositions
from statecast.errors import AuthFailed
from statecast.secret import Secret
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId, AccountKeys
from statecast.store.reader import StoredAccount, read_account
from statecast.venues import registry

D = Decimal
SHORT_LIFE_S = 2.0
Log = list[MutableMapping[str, Any]]


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    """The line of the registry."""
    with registered(ToyVenue()):
        yield


@pytest.fixture
def log() -> Iterator[Log]:
    with capture_logs() as entries:
        yield entries


@dataclass
class Toy:
    """An exchange, its account in Redis, and publishers that follow it."""

    server: ToyServer
    client: Client
    url: str
    account_id: AccountId
    older: frozenset[str] = frozenset()
    """Orders from before the log."""

    @property
    def exchange(self) -> ToyExchange:
        return self.server.exchange

    def values(self, **more: str) -> dict[str, str]:
        """Settings, by their names without the prefix."""
        return {
            "VENUE": VENUE,
            "ACCOUNT": self.account_id.account,
            "API_KEY": KEY[0],
            "API_SECRET": KEY[1],
            "API_PASSPHRASE": KEY[2],
            "REST_URL": self.server.rest_url,
            "WS_URL": self.server.ws_url,
            "RECONCILE_S": "1",
            "MARK_PRICE_INTERVAL_S": "0.1",
        } | more

    @asynccontextmanager
    async def publisher(self, **more: str) -> AsyncIterator[None]:
        given = self.values(**more)
        built = config.build(settings.Settings(given, (given,)))
        async with publishing(built, self.url, SystemClock(), system_chance()) as work:
            yield
            if work.done():
                work.result()

    async def stored(self) -> StoredAccount:
        return await read_account(self.client, self.account_id)

    async def status(self) -> Mapping[str, str]:
        return (await self.stored()).status

    async def state(self, wanted: str) -> Mapping[str, str]:
        return await until(self.status, lambda status: status.get("state") == wanted)

    async def entries(self) -> list[dict[str, str]]:
        rows: Any = await self.client.redis.xrange(AccountKeys(self.account_id).order_events)
        return [fields for _, fields in rows]

    def trade(self, steps: int) -> None:
        for _ in range(steps):
            self.exchange.step()

    async def agree(self) -> list[dict[str, str]]:
        """Wait until Redis holds what the ledger does; the log."""
        found = await until(self.differences, lambda found: not found)
        assert not found
        return await self.entries()

    async def differences(self) -> list[str]:
        exchange, stored = self.exchange, await self.stored()
        hashes = stored.balances or {}, stored.positions or {}, stored.orders or {}
        balances, positions, orders = hashes
        wallets = {asset: D(row["walletBalance"]) for asset, row in balances.items()}
        held = {
            key: (row["symbol"], D(row["positionAmt"]), D(row["entryPrice"]), row["marginAsset"], row["contracts"])
            for key, row in positions.items()
        }
        open_orders = {row["orderId"]: (D(row["executedQty"]), row["status"]) for row in orders.values()}
        pairs = (
            ("wallets", wallets, exchange.wallets),
            ("positions", held, {f"{name}:BOTH": self._held(name) for name in exchange.open_positions()}),
            ("orders", open_orders, {str(row["number"]): self._open(row) for row in exchange.open_orders()}),
        )
        found = [f"{what} {ours}, not {true}" for what, ours, true in pairs if ours != true]
        return found + self._event_differences(await self.entries())

    def _held(self, name: str) -> tuple[str, Decimal, Decimal, str, str]:
        row, contract = self.exchange.positions[name], CONTRACTS[name]
        return name, row["contracts"] * contract.size, row["entry"], contract.coin, str(row["contracts"])

    def _open(self, row: Mapping[str, Any]) -> tuple[Decimal, str]:
        return row["done"] * CONTRACTS[row["contract"]].size, "PARTIALLY_FILLED" if row["done"] else "NEW"

    def _event_differences(self, entries: list[dict[str, str]]) -> list[str]:
        """Each order's events, in order, once; of those that are older than the log, nothing."""
        told: dict[str, list[str]] = {}
        for entry in entries:
            what = {"NEW": "placed", "CANCELED": "pulled"}.get(entry["eventType"], entry["tradeId"])
            told.setdefault(entry["orderId"], []).append(what)
        true: dict[str, list[str]] = {}
        for _, number, what in self.exchange.events:
            true.setdefault(str(number), []).append(what)
        return [
            f"order {number}: {told.get(number)}, not {true.get(number)}"
            for number in sorted(true.keys() | told.keys(), key=lambda number: int(number or 0))
            if number not in self.older and told.get(number) != true.get(number)
        ]


@asynccontextmanager
async def toy(redis_url: str, account: str, **options: Any) -> AsyncIterator[Toy]:
    async with (
        serving(ToyExchange(**options)) as server,
        connect(redis_url, client_name="statecast-test") as client,
    ):
        yield Toy(server, client, redis_url, AccountId(VENUE, account))


# The dialogue


def frames_of(exchange: ToyExchange, number: int) -> list[str]:
    """What a connection of this number is sent of one event."""
    body = {"conn": number, "seq": 3 + number, "ch": "wallets", "ms": 9, "row": exchange.wallet("USD")}
    return [orjson.dumps(body).decode()]


def identity(session: ToySession, raw: str) -> object:
    """Of the one event in a message."""
    (delivery,) = session.received(raw, 0).deliveries
    return delivery.identity


def test_copies_of_one_event_differ_in_bytes_and_not_in_identity() -> None:
    exchange = ToyExchange()
    (one,), (other,) = frames_of(exchange, 1), frames_of(exchange, 2)
    session = ToySession(())
    assert one != other
    assert identity(session, one) == identity(session, other) is not None
    exchange.wallets["USD"] += 1
    assert identity(session, frames_of(exchange, 1)[0]) != identity(session, one)


def test_what_concerns_one_connection_alone_has_no_identity() -> None:
    session = ToySession(())
    assert session.received('{"conn":1,"seq":1,"done":"login","ok":true}', 0).deliveries == ()
    assert identity(session, '{"conn":1,"seq":3,"ch":"positions","all":{"rows":[],"last":true,"ms":1}}') is None


def test_a_session_is_ready_when_its_subscription_is_acknowledged() -> None:
    session = ToySession([Secret(part) for part in KEY])
    assert "login" in session.opened(0)[0]
    (subscription,) = session.received('{"conn":1,"seq":1,"done":"login","ok":true}', 0).replies
    assert "subscribe" in subscription
    assert not session.ready
    session.received('{"conn":1,"seq":2,"done":"subscribe","ok":true}', 0)
    assert session.ready


def test_a_refused_login_is_the_operators_affair() -> None:
    with pytest.raises(AuthFailed):
        ToySession(()).received('{"conn":1,"seq":1,"done":"login","ok":false}', 0)


def test_pages_together_are_all_positions() -> None:
    exchange, session = ToyExchange(), ToySession(())
    for name in CONTRACTS:
        exchange.fill(exchange.place(name, "buy", 3, D(50_000)), 3)
    pages = [{"rows": [exchange.position(name)], "last": name == "BTC-I", "ms": 9} for name in ("BTC-L", "BTC-I")]
    first, last = (session.received(orjson.dumps({"conn": 1, "ch": "positions", "all": page}), 0) for page in pages)
    assert first.deliveries == ()
    (whole,) = last.deliveries
    (change,) = whole.frame.changes
    assert isinstance(change, AllPositions)
    assert [row.symbol for row in change.rows] == ["BTC-L", "BTC-I"]
    assert change.symbols is None


def test_contracts_are_amounts_of_what_they_are_counted_in() -> None:
    assert messages.amount("BTC-L", 3) == D("0.03")
    assert messages.amount("BTC-I", -3) == D(-300)


# The account


async def test_an_account_goes_live_and_follows_what_happens(redis_url: str, account_name: str) -> None:
    async with toy(redis_url, account_name) as here:
        here.trade(20)
        here.older = frozenset(str(number) for number in here.exchange.orders)
        async with here.publisher():
            await here.state("live")
            here.trade(60)
            await here.agree()
            assert set(here.exchange.open_positions()) == {"BTC-I", "BTC-L"}
            stored = await here.stored()
            assert stored.positions is not None
            inverse, linear = stored.positions["BTC-I:BOTH"], stored.positions["BTC-L:BOTH"]
            assert (inverse["quantityAsset"], inverse["contractSize"]) == ("USD", "100")
            assert "quantityAsset" not in linear
            assert stored.account is not None
            assert stored.account["totalsAsset"] == "USD"


@pytest.mark.parametrize("contract", CONTRACTS)
async def test_profit_follows_the_mark_price_as_the_contract_says(
    redis_url: str, account_name: str, contract: str
) -> None:
    async with toy(redis_url, account_name) as here, here.publisher(RECONCILE_S="60"):
        await here.state("live")
        exchange = here.exchange
        exchange.fill(exchange.place(contract, "buy", 100, exchange.marks[contract]), 100)
        await here.agree()
        exchange.marks[contract] *= D("1.25")

        async def row() -> Mapping[str, str]:
            positions = (await here.stored()).positions
            assert positions is not None
            return positions[f"{contract}:BOTH"]

        priced = await until(row, lambda row: D(row.get("markPrice", "0")) == exchange.marks[contract])
        assert D(priced["unRealizedProfit"]) == D(exchange.position(contract)["profit"])


async def test_a_cut_stream_leaves_no_hole(redis_url: str, account_name: str, log: Log) -> None:
    async with toy(redis_url, account_name, seed=2) as here, here.publisher():
        await here.state("live")
        here.trade(10)
        for _ in range(3):
            since = int((await here.status())["streamSinceMs"])
            here.exchange.cut()
            here.trade(15)  # nobody receives it
            await until(here.status, lambda s: int(s["streamSinceMs"]) > since and s["state"] == "live")  # noqa: B023
            here.trade(5)
        entries = await here.agree()
        assert {entry["source"] for entry in entries} == {"stream", "rest"}
        assert not here.exchange.refused


async def test_an_old_connection_is_replaced_without_a_gap(redis_url: str, account_name: str, log: Log) -> None:
    short_lived = ToyVenue(replace(TRAITS, stream=replace(TRAITS.stream, life_s=SHORT_LIFE_S)))
    with registered(short_lived):
        async with toy(redis_url, account_name, seed=3) as here, here.publisher():
            await here.state("live")

            async def rotations() -> int:
                here.trade(1)
                return sum(entry["event"] == "rotated" and entry["proven"] for entry in log)

            assert await until(rotations, lambda count: count >= 1)
            entries = await here.agree()
            assert {entry["source"] for entry in entries} == {"stream"}
            assert not [entry for entry in log if entry.get("state") == "recovering"]


async def test_a_second_publisher_writes_on_where_the_first_ended(redis_url: str, account_name: str, log: Log) -> None:
    async with toy(redis_url, account_name, seed=4) as here:
        async with here.publisher():
            await here.state("live")
            here.trade(10)
            first = (await here.status())["publisherId"]
            standby = asyncio.create_task(_publish(here))
            await until(_logged(log, "standby"), bool)
            here.trade(10)
        try:
            status = await until(
                here.status, lambda status: status["publisherId"] != first and status["state"] == "live"
            )
            assert status["publisherId"] != first
            here.trade(10)
            entries = await here.agree()
            assert len({entry["epoch"] for entry in entries}) == 2
        finally:
            standby.cancel()
            await asyncio.gather(standby, return_exceptions=True)


async def _publish(here: Toy) -> None:
    async with here.publisher():
        await asyncio.Event().wait()


def _logged(log: Log, event: str) -> Callable[[], Any]:
    async def found() -> bool:
        return any(entry["event"] == event for entry in log)

    return found


async def test_what_the_venue_has_dropped_by_count_is_said_in_the_log(redis_url: str, account_name: str) -> None:
    async with toy(redis_url, account_name, seed=5, kept=20) as here, here.publisher():
        await here.state("live")
        here.trade(10)
        await here.agree()
        since = int((await here.status())["streamSinceMs"])
        here.exchange.is_down = True
        here.exchange.cut()
        here.trade(150)
        here.exchange.is_down = False
        await until(here.status, lambda status: int(status["streamSinceMs"]) > since and status["state"] == "live")
        entries = await here.entries()
        holes = [hole for entry in entries if (hole := gaps.parse(entry)) is not None]
        logged = {entry["orderId"] for entry in entries}
        unsaid = [
            order
            for number, order in here.exchange.orders.items()
            if str(number) not in logged
            and not any(hole.what == "all" and hole.since_ms <= order["made"] <= hole.until_ms for hole in holes)
        ]
        assert len(logged) < len(here.exchange.orders), "nothing is missing"
        assert not unsaid, "events are missing, and nobody says so"


async def test_a_full_bucket_is_waited_for(redis_url: str, account_name: str, log: Log) -> None:
    async with toy(redis_url, account_name, seed=6) as here, here.publisher():
        await here.state("live")
        since = int((await here.status())["streamSinceMs"])
        here.exchange.cut()
        here.trade(600)  # more pages than the bucket holds
        await until(here.status, lambda status: int(status["streamSinceMs"]) > since and status["state"] == "live")
        await here.agree()
        assert any(entry["event"] == "gap_fill_waits" for entry in log)
        assert not here.exchange.refused


async def test_a_refused_key_is_said_with_advice(redis_url: str, account_name: str) -> None:
    async with toy(redis_url, account_name) as here, here.publisher(API_PASSPHRASE="wrong"):
        status = await here.state("refused")
        assert "make a new key" in status["reason"]


# Readers


async def test_readers_have_the_account_its_events_and_its_rest(redis_url: str, account_name: str) -> None:
    async with toy(redis_url, account_name, seed=7) as here:
        async with (
            here.publisher(),
            OrderEvents(here.account_id, redis_url, "bot", start="beginning") as events,
        ):
            await here.state("live")
            here.trade(30)
            await here.agree()
            async with AccountReader(here.account_id, redis_url) as reader:
                account = await reader.snapshot()
                assert {row.asset: row.wallet_balance for row in account.balances} == here.exchange.wallets
            numbers = []
            async for event in events:
                numbers.append(event.event_seq)
                await event.ack()
                if len(numbers) == len(here.exchange.events):
                    break
            assert numbers == list(range(1, len(numbers) + 1))
        # The publisher has gone: readers ask the venue themselves, with credentials of their own.
        access = registry.needed_access(here.values())
        here.trade(5)
        async with AccountReader(here.account_id, redis_url, credentials=access) as reader:
            account = await reader.refresh()
            assert {row.asset: row.wallet_balance for row in account.balances} == here.exchange.wallets
