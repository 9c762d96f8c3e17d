"""The toy venue's adapter: facts, settings, limits, and the account with its I/O."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal

import orjson
from support.toy_venue import messages
from support.toy_venue.messages import MARGIN_ASSETS, Row
from support.toy_venue.session import ToyMarketSession, ToySession

from statecast import settings
from statecast.clock import Clock
from statecast.domain.changes import Check, Snapshot
from statecast.domain.history import PastAmendment, PastOrder
from statecast.domain.models import Balance, Order, OrderKey, Position, SymbolConfig, Totals
from statecast.errors import AuthFailed, RateLimited, Rejected, VenueUnreachable
from statecast.secret import Secret
from statecast.venues.adapter import (
    FIGURES_ONLY,
    Access,
    CheckPace,
    CheckScope,
    Endpoints,
    HistoryKind,
    HistoryPage,
    HistoryQuery,
    KeyReport,
    Limits,
    Retention,
    Retrying,
    StreamSpec,
    StreamTraits,
    Traits,
    Waiting,
    ignored,
)
from statecast.venues.clock import ProbedClock
from statecast.venues.http import Answer, HttpClient, repeated

VENUE = "toy"
CALLS, WITHIN_S = 30, 1.0
"""Three quarters of what one endpoint allows."""

HISTORY_LAG_MS = 500
CONFIGS = {name: SymbolConfig(10, "cross") for name in MARGIN_ASSETS}
ZERO = Decimal(0)

TRAITS = Traits(
    clock_error_ms=500,
    rest_lag_ms=1_000,
    rest_recent_ms=500,
    history_lag_ms=HISTORY_LAG_MS,
    history=Retention(kept_ms=10 * 86_400_000, unfilled_kept_ms=10 * 86_400_000),
    max_conditional_orders=0,
    wallet_error=ZERO,
    stream=StreamTraits(
        life_s=None,
        max_silence_s=20.0,
        market_silence_s=5.0,
        connects=100,
        connects_within_s=60.0,
        shared=True,
        ping_after_s=0.5,
    ),
    checks=CheckPace(
        figures_pause_s=0.3,
        all_pause_s=0.5,
        standby_pause_s=1.0,
        seconds_per_symbol=1.0,
        least_symbols=0,
        orders_by_symbol=0,
        conditional_by_symbol=False,
        orders_by_id=0,
    ),
)


class ToyLimits:
    """A bucket for each endpoint. As text: `positions=3,orders=1`, the calls of the last second."""

    def __init__(self) -> None:
        self._calls: dict[str, deque[float]] = {}

    def delay_s(self, call: str, mono_s: float) -> float:
        """How long to wait before this call."""
        calls = self._of(call, mono_s)
        return calls[0] + WITHIN_S - mono_s if len(calls) >= CALLS else 0.0

    def spend(self, call: str, mono_s: float) -> None:
        """It is being sent."""
        self._of(call, mono_s).append(mono_s)

    def spent(self, now_ms: int) -> str:
        """Buckets that are not empty."""
        return ",".join(f"{call}={len(calls)}" for call, calls in sorted(self._calls.items()) if calls)

    def learn(self, spent: str, at_ms: int, now_ms: int) -> None:
        """Another program's address is another one here."""

    def _of(self, call: str, mono_s: float) -> deque[float]:
        calls = self._calls.setdefault(call, deque())
        while calls and calls[0] <= mono_s - WITHIN_S:
            calls.popleft()
        return calls


@dataclass(frozen=True, slots=True)
class ToyAccess:
    """Hosts, and a key of three parts."""

    rest_url: str
    ws_url: str
    key: tuple[Secret, ...]

    @property
    def venue(self) -> str:
        """As it stands in keys."""
        return VENUE

    @property
    def credentials_name(self) -> str:
        """A digest."""
        return self.key[0].fingerprint()

    @property
    def limits_name(self) -> str:
        """Buckets are the host's."""
        return self.rest_url


class ToyStreams:
    """One connection, and no upkeep."""

    def __init__(self, access: ToyAccess) -> None:
        self.specs = (StreamSpec("private", Secret(f"{access.ws_url}/ws"), lambda: ToySession(access.key)),)

    async def keep_alive(self) -> None:
        """There is nothing to do."""
        await asyncio.Event().wait()

    async def check_alive(self) -> None:
        """Every connection is of the same stream."""


class ToyAccount:
    """See `VenueAccount`."""

    def __init__(self, access: ToyAccess, clock: Clock, limits: ToyLimits) -> None:
        self._access = access
        self._machine_clock = clock
        self._http = HttpClient(VENUE, access.rest_url)
        self.limits = limits
        self.clock = ProbedClock(clock, self._probe, venue=VENUE, call="time", error_ms=TRAITS.clock_error_ms)

    @asynccontextmanager
    async def user_streams(self, retrying: Retrying = ignored) -> AsyncIterator[ToyStreams]:
        """One socket."""
        yield ToyStreams(self._access)

    def market_stream(self, symbols: frozenset[str]) -> tuple[Secret, ToyMarketSession]:
        """The same host, without a login."""
        return Secret(f"{self._access.ws_url}/ws"), ToyMarketSession(symbols)

    async def check_key(self) -> KeyReport | None:
        """The venue does not say."""
        return None

    # The account as it is

    async def fetch_snapshot(self, *, consistent: bool = False) -> Snapshot:
        """Page by page."""
        taken_ms, totals, balances, positions = await self._figures()
        orders = [messages.order_of(row, "rest") for row in await self._pages("orders")]
        return Snapshot(
            totals, balances, positions, tuple(orders), CONFIGS, MARGIN_ASSETS, False, taken_ms, totals_asset="USD"
        )

    async def fetch_check(self, scope: CheckScope = FIGURES_ONLY) -> Check:
        """The venue lists orders of all symbols alone."""
        taken_ms, totals, balances, positions = await self._figures()
        orders: list[Order] = []
        if scope.order_symbols is None or scope.order_symbols:
            orders = [messages.order_of(row, "rest") for row in await self._pages("orders")]
            if scope.order_symbols is not None:
                orders = [order for order in orders if order.symbol in scope.order_symbols]
        created: list[Order] = []
        created_until_ms = 0
        if scope.created_since_ms:
            async for page in self.history_pages(HistoryQuery("orders"), scope.created_since_ms, lambda seconds: None):
                created += [past.order for past in page.orders]
                created_until_ms = page.settled_ms
        return Check(
            totals,
            balances,
            positions,
            taken_ms,
            orders=tuple(orders),
            order_symbols=scope.order_symbols,
            created=tuple(created),
            created_until_ms=min(created_until_ms, taken_ms),
            symbol_configs=CONFIGS if scope.settings else None,
            multi_assets=False if scope.settings else None,
        )

    async def _figures(self) -> tuple[int, Totals, tuple[Balance, ...], tuple[Position, ...]]:
        await self.clock.ensure()
        taken_ms = self.clock.now_ms()
        wallets = await self._pages("wallets")
        positions = [messages.position(row, taken_ms) for row in await self._pages("positions")]
        profits = dict.fromkeys((row["coin"] for row in wallets), ZERO)
        for row in positions:
            assert row.margin_asset is not None
            assert row.unrealized_profit is not None
            profits[row.margin_asset] += row.unrealized_profit
        balances = [messages.balance(row, profits[row["coin"]], taken_ms) for row in wallets]
        (usd,) = (row for row in balances if row.asset == "USD")
        totals = Totals(
            total_wallet_balance=usd.wallet_balance,
            total_wallet_balance_time_ms=taken_ms,
            total_unrealized_profit=profits["USD"],
            total_unrealized_profit_time_ms=taken_ms,
            total_margin_balance=usd.wallet_balance + profits["USD"],
            total_margin_balance_time_ms=taken_ms,
            available_balance=usd.wallet_balance + profits["USD"],
            available_balance_time_ms=taken_ms,
            total_initial_margin=ZERO,
            total_maint_margin=ZERO,
            margin_time_ms=taken_ms,
        )
        return taken_ms, totals, tuple(balances), tuple(positions)

    async def _pages(self, call: str) -> list[Row]:
        rows: list[Row] = []
        at: int | None = 0
        while at is not None:
            page = await self._ask(call, {"at": at})
            rows += page["rows"]
            at = page["next"]
        return rows

    # The account's past

    def history_queries(self, kind: HistoryKind, symbols: Collection[str]) -> tuple[HistoryQuery, ...]:
        """Of the whole account; there are no conditional orders."""
        return () if kind == "conditional" else (HistoryQuery(kind),)

    async def history_pages(self, query: HistoryQuery, since_ms: int, waiting: Waiting) -> AsyncIterator[HistoryPage]:
        """Oldest first."""
        await self.clock.ensure()
        if query.kind == "conditional":
            return
        call, number = ("history/orders", "number") if query.kind == "orders" else ("history/trades", "trade")
        after, more = 0, True
        while more:
            page = await self._ask(call, {"since": since_ms, "after": after}, waiting)
            rows, more = page["rows"], page["more"]
            after = rows[-1][number] if rows else after
            settled_ms = page["ms"] - HISTORY_LAG_MS
            if more:
                settled_ms = min(settled_ms, rows[-1]["made" if query.kind == "orders" else "ms"])
            forgotten_ms = page["forgotten"] if page["forgotten"] >= since_ms else 0
            if query.kind == "orders":
                past = tuple(messages.past_order(row) for row in rows)
                yield HistoryPage(orders=past, settled_ms=settled_ms, forgotten_until_ms=forgotten_ms)
            else:
                trades = tuple(messages.past_trade(row) for row in rows if query.symbol in ("", row["contract"]))
                yield HistoryPage(trades=trades, settled_ms=settled_ms, forgotten_until_ms=forgotten_ms)

    async def symbols_with_fills(
        self, since_ms: int, waiting: Waiting, *, whatever_it_costs: bool
    ) -> frozenset[str] | None:
        """The venue has no bookings."""
        return None

    async def fetch_amendments(
        self, order: OrderKey, since_ms: int, waiting: Waiting
    ) -> tuple[PastAmendment, ...] | None:
        """Nor does it tell amendments."""
        return None

    async def fetch_order(self, order: OrderKey, waiting: Waiting) -> PastOrder | None:
        """By its number; None when the venue has forgotten it."""
        try:
            body = await self._ask("order", {"number": int(order.order_id)}, waiting)
        except AuthFailed:
            raise
        except Rejected:
            return None
        return messages.past_order(body["order"])

    async def aclose(self, *, last: bool) -> None:
        """Close the connections."""
        await self._http.aclose()

    # Calls

    async def _probe(self) -> int:
        answer = await self._send("time", {})
        return int(_object(answer, "time")["ms"])

    async def _ask(self, call: str, given: Row, waiting: Waiting | None = None) -> Row:
        """The answer, when the bucket allows the call: `waiting` is told for how long it does not, and without it that
        is an error."""
        while True:
            delay_s = self.limits.delay_s(call, self._machine_clock.monotonic())
            if delay_s <= 0:
                break
            if waiting is None:
                retry_at_ms = self.clock.now_ms() + round(delay_s * 1000)
                raise RateLimited(VENUE, call, "the bucket is empty", retry_at_ms)
            waiting(delay_s)
            await self._machine_clock.sleep(delay_s)
        self.limits.spend(call, self._machine_clock.monotonic())
        body = {"key": [part.reveal() for part in self._access.key], **given}
        return _object(await repeated(self._machine_clock, lambda: self._send(call, body)), call, self.clock.now_ms())

    async def _send(self, call: str, body: Row) -> Answer:
        return await self._http.send(call, "POST", f"{self._access.rest_url}/api/{call}", body=orjson.dumps(body))


def _object(answer: Answer, call: str, now_ms: int = 0) -> Row:
    document = answer.document
    if not isinstance(document, dict) or answer.status >= 500:
        raise VenueUnreachable(VENUE, call, f"HTTP {answer.status}")
    if answer.status == 429:
        raise RateLimited(VENUE, call, "too many calls", now_ms + int(document["wait_ms"]))
    if answer.status == 401:
        raise AuthFailed(VENUE, call, str(document["why"]), 401)
    if not answer.is_success:
        raise Rejected(VENUE, call, str(document["why"]), answer.status)
    return document


class ToyVenue:
    """See `Venue`."""

    name = VENUE
    credentials: Mapping[str, str] = {
        "API_KEY": "the key",
        "API_SECRET": "its secret",
        "API_PASSPHRASE": "its passphrase",
    }
    settings: Mapping[str, str] = {"REST_URL": "host of REST", "WS_URL": "host of the stream"}

    def __init__(self, traits: Traits = TRAITS, limits: Callable[[], ToyLimits] = ToyLimits) -> None:
        self.traits = traits
        self._limits = limits

    def access(self, values: Mapping[str, str]) -> ToyAccess | None:
        """From settings by name; None where no credential is given. Raises ConfigError."""
        credentials = settings.credentials(values, self.credentials)
        if credentials is None:
            return None
        return ToyAccess(values["REST_URL"], values["WS_URL"], credentials)

    def endpoints(self, values: Mapping[str, str]) -> Endpoints:
        """As they are set: there are no others."""
        return Endpoints(values["REST_URL"], values["WS_URL"])

    def limits(self) -> ToyLimits:
        """Full buckets."""
        return self._limits()

    def account(self, access: Access, clock: Clock, limits: Limits) -> ToyAccount:
        """The shell."""
        assert isinstance(access, ToyAccess)
        assert isinstance(limits, ToyLimits)
        return ToyAccount(access, clock, limits)

    def advice(self, error: AuthFailed) -> str:
        """What the operator should do."""
        return "make a new key"
