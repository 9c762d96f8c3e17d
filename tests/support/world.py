"""A simulated exchange, a publisher that follows it, and what it takes to compare them: all in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from random import Random
from typing import Any, TypeVar, cast

from support.truth import differences, event_differences, gap_differences

from publisher import config
from publisher.service import Chance, publishing, system_chance
from publisher.tuning import Tuning
from statecast import settings
from statecast.clock import Clock, SystemClock
from statecast.secret import Secret
from statecast.simulator import trading
from statecast.simulator.binance.exchange import Exchange
from statecast.simulator.binance.signing import ApiKey
from statecast.simulator.control import ledger_dump
from statecast.simulator.events import AccountChanged, AlgoChanged, Event, Filled
from statecast.simulator.ledger import Ledger
from statecast.simulator.server import SimulatorServer
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId, AccountKeys
from statecast.store.reader import StoredAccount, read_account
from statecast.venues.binance.limits import WeightBudget
from statecast.venues.registry import SharedLimits

KEY, SECRET = "demo-key", "demo-secret"
DEADLINE_S = 40.0
PROOF_S = 0.2

T = TypeVar("T")


class NotingExchange(Exchange):
    """Notes what happens to conditional orders, whose history the ledger does not keep, and how wallets and positions
    move, of which the ledger knows the end alone."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.algo_events: list[AlgoChanged] = []
        self.account_changes: list[AccountChanged] = []

    def publish(self, events: Iterable[Event], now_ms: int) -> None:
        events = list(events)
        for event in events:
            match event:
                case AlgoChanged():
                    self.algo_events.append(event)
                case AccountChanged() | Filled(account=AccountChanged()):
                    self.account_changes.append(event.account if isinstance(event, Filled) else event)
        super().publish(events, now_ms)


class FastClock(SystemClock):
    """Time for publisher and exchange that runs `rate` times as fast, for what takes minutes or hours."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._began_ms, self._began = super().now_ms(), super().monotonic()

    def now_ms(self) -> int:
        return self._began_ms + int((super().monotonic() - self._began) * self.rate * 1000)

    def monotonic(self) -> float:
        return self._began + (super().monotonic() - self._began) * self.rate

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.rate)


@dataclass
class World:
    """Everything of one account. `clock` is the publisher's and the exchange's."""

    server: SimulatorServer
    client: Client
    account_id: AccountId
    rng: Random
    clock: Clock = field(default_factory=SystemClock)

    @property
    def exchange(self) -> NotingExchange:
        exchange = self.server.exchange
        assert isinstance(exchange, NotingExchange)
        return exchange

    @property
    def ledger(self) -> Ledger:
        return self.server.exchange.ledger

    def now_ms(self) -> int:
        return self.clock.now_ms()

    def dump(self) -> dict[str, Any]:
        return cast("dict[str, Any]", ledger_dump(self.exchange, 0, self.now_ms()))

    async def stored(self) -> StoredAccount:
        return await read_account(self.client, self.account_id)

    async def status(self) -> dict[str, str]:
        return (await self.stored()).status

    async def log(self) -> list[dict[str, str]]:
        """The whole log of order events."""
        entries = await self.client.redis.xrange(AccountKeys(self.account_id).order_events)
        return [fields for _, fields in cast("list[tuple[str, dict[str, str]]]", entries)]

    def trade(self, steps: int) -> None:
        """That many steps of the random trader, sent on the user stream."""
        for _ in range(steps):
            now_ms = self.now_ms()
            self.exchange.publish(trading.step(self.ledger, self.rng, self.exchange.server_ms(now_ms)), now_ms)

    async def agree(self, within_s: float = DEADLINE_S) -> None:
        """Wait until Redis holds what the ledger says; fails with every difference."""
        found: list[str] = ["never compared"]
        try:
            async with asyncio.timeout(within_s):
                while found:
                    self.exchange.publish_marks(self.now_ms())
                    await asyncio.sleep(0.1)
                    found = differences(await self.stored(), self.dump())
        except TimeoutError:
            raise AssertionError("Redis and ledger differ:\n" + "\n".join(found)) from None

    async def agree_on_events(self) -> None:
        """Every order event of the ledger stands in the log, once and in order."""
        found = event_differences(await self.log(), self.ledger.order_events, self.exchange.algo_events)
        assert not found, found

    async def agree_on_events_after_gaps(
        self, *, in_order: bool = True, whole: bool = False, but: Collection[str] = ()
    ) -> list[dict[str, str]]:
        """Wait until the log holds all that REST can tell of the ledger's events, once, and each order's in order; see
        `gap_differences`."""
        found: list[str] = ["never compared"]
        entries: list[dict[str, str]] = []
        try:
            async with asyncio.timeout(DEADLINE_S):
                while found:
                    await asyncio.sleep(0.05)
                    entries = await self.log()
                    truth = self.ledger.order_events, self.exchange.algo_events
                    found = gap_differences(entries, *truth, in_order=in_order, whole=whole, but=but)
        except TimeoutError:
            raise AssertionError("log and ledger differ:\n" + "\n".join(found[:10])) from None
        return entries

    async def state(self, wanted: str) -> dict[str, str]:
        """Wait for a state; the status then."""
        return await until(self.status, lambda status: status.get("state") == wanted)


async def until(read: Callable[[], Awaitable[T]], good: Callable[[T], bool]) -> T:
    """Read until what is read is good, for a bounded time; what was read last."""
    value = await read()
    try:
        async with asyncio.timeout(DEADLINE_S):
            while not good(value):
                await asyncio.sleep(0.02)
                value = await read()
    except TimeoutError:
        raise AssertionError(f"waited {DEADLINE_S:.0f} s in vain; last seen: {value}") from None
    return value


def unlimited() -> SharedLimits:
    """As much weight as it takes: the limits of a minute would make hours of some tests."""
    return SharedLimits(lambda _: WeightBudget(limit=10_000_000))


def new_server(
    *,
    hedge: bool = False,
    seed: int = 1,
    kind: type[NotingExchange] = NotingExchange,
    clock: Clock | None = None,
    account: Callable[[int], Ledger] | None = None,
    ids_per_symbol: bool = False,
    **options: Any,
) -> SimulatorServer:
    """An exchange whose marks stand still until somebody moves them. `account` makes the ledger, as of now; else it is
    a small one."""
    clock = clock or SystemClock()
    balances = {"USDT": Decimal(10_000), "USDC": Decimal(2_500)}
    now_ms = clock.now_ms()
    if account is not None:
        ledger = account(now_ms)
    else:
        ledger = Ledger(balances, now_ms=now_ms, hedge=hedge, ids_per_symbol=ids_per_symbol)
    exchange = kind(ledger, [ApiKey(KEY, Secret(SECRET))], Random(seed))
    return SimulatorServer(exchange, clock, **({"mark_interval_s": 0} | options))


def account_values(server: SimulatorServer, account: str, **values: str) -> dict[str, str]:
    """Settings of a publisher that follows the exchange, by their names without the prefix."""
    return {
        "ACCOUNT": account,
        "API_KEY": KEY,
        "API_SECRET": SECRET,
        "REST_URL": server.rest_url,
        "WS_URL": server.ws_url,
        "MARK_PRICE_INTERVAL_S": "0.1",
        "RECONCILE_S": "2",
    } | values


@asynccontextmanager
async def world(
    redis_url: str,
    account: str,
    *,
    hedge: bool = False,
    seed: int = 1,
    live: bool = True,
    tuning: Tuning | None = None,
    limits: SharedLimits | None = None,
    kind: type[NotingExchange] = NotingExchange,
    clock: Clock | None = None,
    **values: str,
) -> AsyncIterator[World]:
    """An exchange and its publisher, `live` unless the test wants to see how it gets there."""
    async with (
        new_server(hedge=hedge, seed=seed, kind=kind, clock=clock) as server,
        published(
            server, redis_url, account, seed=seed, live=live, clock=clock, tuning=tuning, limits=limits, **values
        ) as here,
    ):
        yield here


@asynccontextmanager
async def published(
    server: SimulatorServer,
    redis_url: str,
    account: str,
    *,
    seed: int = 1,
    live: bool = True,
    tuning: Tuning | None = None,
    chance: Chance | None = None,
    publisher_redis_url: str | None = None,
    limits: SharedLimits | None = None,
    clock: Clock | None = None,
    **values: str,
) -> AsyncIterator[World]:
    """A publisher of an exchange that was there before it, and stays. It may go another way to Redis than the test."""
    given = account_values(server, account, **values)
    built = config.build(settings.Settings(given, (given,)))
    clock = clock or SystemClock()
    tuning = tuning or Tuning()
    if tuning.proof_s is None:  # The simulated exchange is not behind, unless a test says so.
        tuning = replace(tuning, proof_s=PROOF_S)
    async with (
        connect(redis_url, client_name="statecast-test") as client,
        publishing(built, publisher_redis_url or redis_url, clock, chance or system_chance(), tuning, limits) as work,
    ):
        here = World(server, client, built.accounts[0].account_id, Random(seed), clock)
        if live:
            await here.state("live")
        yield here
        if work.done():
            work.result()
