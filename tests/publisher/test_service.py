"""Several accounts in one process, and an end within five seconds that leaves nothing behind, whoever hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs
from support.venues import registered
from support.world import account_values, new_server, until

from publisher import config
from publisher.connection import first_error
from publisher.service import publishing, system_chance
from publisher.tuning import Tuning
from statecast import settings
from statecast.clock import Clock, SystemClock
from statecast.errors import ContractMismatch
from statecast.simulator.orders import OrderRequest, OrderType, Side
from statecast.simulator.server import SimulatorServer
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId, AccountKeys
from statecast.store.reader import read_account
from statecast.venues.adapter import Access, KeyReport, Limits, StreamEnded
from statecast.venues.binance.account import BinanceAccount
from statecast.venues.binance.limits import WeightBudget
from statecast.venues.binance.venue import BinanceAccess, BinanceVenue

STOPS_WITHIN_S = 5.0


class Line:
    """A TCP line to a server, on which from one moment on nothing arrives any more, though it stays open."""

    def __init__(self, target_url: str) -> None:
        parts = urlsplit(target_url)
        self.scheme, self._target = parts.scheme, (parts.hostname, parts.port)
        self.hangs = False
        self.address = ""
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.address}"

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if not self.hangs:
                    writer.write(data)
                    await writer.drain()
        writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self._target)
        try:
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        finally:
            for one in (writer, back):
                one.transport.abort()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)

    async def cut(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def line(target_url: str) -> AsyncIterator[Line]:
    one = Line(target_url)
    server = await asyncio.start_server(one.accept, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    one.address = f"{host}:{port}"
    try:
        yield one
    finally:
        server.close()
        await one.cut()


@pytest.fixture
async def exchange() -> AsyncIterator[SimulatorServer]:
    async with new_server() as server:
        yield server


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[Client]:
    async with connect(redis_url, client_name="test") as connected:
        yield connected


def built(exchange: SimulatorServer, *accounts: str, **values: str) -> config.Config:
    given = [account_values(exchange, account, **values) for account in accounts]
    return config.build(settings.Settings(given[0], tuple(given)))


async def expect_state(client: Client, account: str, state: str) -> dict[str, str]:
    async def status() -> dict[str, str]:
        return (await read_account(client, AccountId("binance", account))).status

    return await until(status, lambda status: status.get("state") == state)


async def expect_end(tasks_before: set[asyncio.Task[object]], began: float) -> None:
    took = asyncio.get_running_loop().time() - began
    assert took < STOPS_WITHIN_S, f"took {took:.1f} s"
    left = {task for task in asyncio.all_tasks() - tasks_before if "statecast.simulator" not in repr(task)}
    left = {task for task in left if "Line." not in repr(task) and "aiohttp" not in repr(task)}
    assert not left


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_two_accounts_of_one_process_are_both_followed_and_both_stopped(
    redis_url: str, account_name: str, exchange: SimulatorServer, client: Client
) -> None:
    accounts = [f"{account_name}-a", f"{account_name}-b"]
    before = asyncio.all_tasks()
    async with publishing(built(exchange, *accounts), redis_url, SystemClock(), system_chance()) as work:
        statuses = [await expect_state(client, account, "live") for account in accounts]
        assert len({status["publisherId"] for status in statuses}) == 2
        ms = SystemClock().now_ms()
        order = OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.MARKET, qty=Decimal("0.1"))
        exchange.exchange.publish(exchange.exchange.ledger.place(order, ms), ms)
        for account in accounts:
            await until(
                lambda account=account: read_account(client, AccountId("binance", account)),  # type: ignore[misc]
                lambda stored: "BTCUSDT:BOTH" in (stored.positions or {}),
            )
        assert not work.done()
        began = now()
    await expect_end(before, began)
    for account in accounts:
        status = await expect_state(client, account, "stopped")
        assert status["reason"] == "the publisher was stopped"
        assert not await client.redis.exists(AccountKeys(AccountId("binance", account)).lease)


async def test_a_redis_that_accepts_and_never_answers_does_not_hold_up_the_end(
    redis_url: str, account_name: str, exchange: SimulatorServer
) -> None:
    async with line(redis_url) as redis:
        redis.hangs = True
        before = asyncio.all_tasks()
        async with publishing(built(exchange, account_name), redis.url + "/0", SystemClock(), system_chance()) as work:
            assert not work.done()
            began = now()
        await expect_end(before, began)


@pytest.mark.parametrize("delete", ["false", "true"], ids=["leaving the listen key", "deleting the listen key"])
@pytest.mark.parametrize("who", ["redis", "venue", "redis and venue"])
async def test_who_hangs_in_the_middle_does_not_hold_up_the_end(
    redis_url: str, account_name: str, exchange: SimulatorServer, client: Client, who: str, delete: str
) -> None:
    async with line(redis_url) as redis, line(exchange.rest_url) as venue:
        values = {"REST_URL": f"http://{venue.address}", "WS_URL": f"ws://{venue.address}", "DELETE_LISTEN_KEY": delete}
        before = asyncio.all_tasks()
        async with publishing(
            built(exchange, account_name, **values), redis.url + "/0", SystemClock(), system_chance()
        ) as work:
            await expect_state(client, account_name, "live")
            redis.hangs, venue.hangs = "redis" in who, "venue" in who
            began = now()
            assert not work.done()
        await expect_end(before, began)
    if who == "venue":
        await expect_state(client, account_name, "stopped")


class OddVenue(BinanceVenue):
    """Its accounts are of another class."""

    def __init__(self, account_class: type[BinanceAccount]) -> None:
        super().__init__()
        self._account_class = account_class

    def account(self, access: Access, clock: Clock, limits: Limits) -> BinanceAccount:
        assert isinstance(access, BinanceAccess)
        assert isinstance(limits, WeightBudget)
        return self._account_class(access.urls, access.api_key, access.api_secret, clock, limits)


async def test_an_end_that_is_asked_for_while_a_session_is_being_closed_is_not_forgotten(
    redis_url: str, account_name: str, exchange: SimulatorServer
) -> None:
    """A task group that ends by an error forgets a cancellation of then."""
    closing = asyncio.Event()

    async def close_slowly() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closing.set()
            await asyncio.sleep(0.5)

    class Slow(BinanceAccount):
        async def check_key(self) -> KeyReport | None:
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(close_slowly())
                    await asyncio.sleep(0)
                    raise StreamEnded("closed")
            except BaseExceptionGroup as group:
                raise first_error(group) from None

    with registered(OddVenue(Slow)):
        async with asyncio.timeout(30):
            async with publishing(built(exchange, account_name), redis_url, SystemClock(), system_chance()):
                await closing.wait()
            # It has come to its end.


async def test_an_end_that_is_cut_off_closes_the_connections_to_rest(
    redis_url: str, account_name: str, exchange: SimulatorServer, client: Client
) -> None:
    """As it is when the event loop ends before a stop has ended that nobody waited for."""
    ending = asyncio.Event()
    closed: list[BinanceAccount] = []

    class Noted(BinanceAccount):
        async def aclose(self, *, last: bool = False) -> None:
            await super().aclose(last=last)
            closed.append(self)

    async def publish(redis: Line) -> None:
        async with publishing(built(exchange, account_name), redis.url + "/0", SystemClock(), system_chance()):
            await expect_state(client, account_name, "live")
            redis.hangs = True
            ending.set()

    with registered(OddVenue(Noted)):
        async with line(redis_url) as redis, asyncio.timeout(30):
            publication = asyncio.create_task(publish(redis))
            await ending.wait()
            await asyncio.sleep(0.1)
            assert not publication.done()
            publication.cancel()
            await asyncio.wait((publication,))
    assert publication.cancelled()
    assert len(closed) == 1


async def test_keys_of_another_contract_are_left_alone_and_told(
    redis_url: str, account_name: str, exchange: SimulatorServer, client: Client
) -> None:
    keys = AccountKeys(AccountId("binance", account_name))
    await client.redis.hset(keys.status, "contract", "99")
    before = asyncio.all_tasks()
    async with publishing(built(exchange, account_name), redis_url, SystemClock(), system_chance()) as work:
        with pytest.raises(ContractMismatch, match="99"):
            await asyncio.wait_for(asyncio.shield(work), 10)
        began = now()
    await expect_end(before, began)
    assert await client.redis.hgetall(keys.status) == {"contract": "99"}


async def test_an_account_of_another_contract_is_refused_alone(
    redis_url: str, account_name: str, exchange: SimulatorServer, client: Client
) -> None:
    other, own = f"{account_name}-other", f"{account_name}-own"
    keys = AccountKeys(AccountId("binance", other))
    await client.redis.hset(keys.status, "contract", "99")

    async def refused() -> list[MutableMapping[str, Any]]:
        return [line for line in logs if line.get("state") == "refused"]

    with capture_logs() as logs:
        async with publishing(built(exchange, other, own), redis_url, SystemClock(), system_chance()) as work:
            await expect_state(client, own, "live")
            (line,) = await until(refused, bool)
            order = OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.MARKET, qty=Decimal("0.1"))
            exchange.exchange.publish(exchange.exchange.ledger.place(order, 1), SystemClock().now_ms())
            await until(
                lambda: read_account(client, AccountId("binance", own)),
                lambda stored: "BTCUSDT:BOTH" in (stored.positions or {}),
            )
            assert not work.done()
    assert line["account"] == f"binance:{other}"
    assert f"binance:{other} is written under contract 99, this program writes 1" in line["reason"]
    assert await client.redis.hgetall(keys.status) == {"contract": "99"}
    await expect_state(client, own, "stopped")


async def test_where_all_accounts_are_of_another_contract_the_service_ends(
    redis_url: str, account_name: str, exchange: SimulatorServer, client: Client
) -> None:
    accounts = [f"{account_name}-a", f"{account_name}-b"]
    for account in accounts:
        await client.redis.hset(AccountKeys(AccountId("binance", account)).status, "contract", "99")
    async with publishing(built(exchange, *accounts), redis_url, SystemClock(), system_chance()) as work:
        with pytest.raises(ContractMismatch, match="99"):
            await asyncio.wait_for(asyncio.shield(work), 10)


async def test_a_portfolio_margin_key_is_refused_every_time(
    redis_url: str, account_name: str, exchange: SimulatorServer, client: Client
) -> None:
    body = '{"enableReading":true,"ipRestrict":false,"enablePortfolioMarginTrading":true}'
    path = "/sapi/v1/account/apiRestrictions"
    simulated = exchange.exchange
    answers = {"count": 3, "status": 200, "body": body, "path": path}
    simulated.fault("answer_rest", answers, SystemClock().now_ms())
    tuning = Tuning(refused_retry_s=0.05)
    async with publishing(built(exchange, account_name), redis_url, SystemClock(), system_chance(), tuning):
        status = await expect_state(client, account_name, "refused")
        assert "Portfolio Margin" in status["reason"]
        await expect_state(client, account_name, "live")
        assert simulated.requests[f"GET {path} 200"] == 4, "it was asked until the key was another one"
