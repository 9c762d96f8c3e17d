"""Binance's REST interface: the only module that talks to it. Errors leave here as ours; secrets do not leave at all.

The listen key calls carry the API key in a header, nothing in the URL and no body, and the secret never leaves
`signing`. The URLs of signed calls end with a signature, and httpx logs every URL at INFO: a filter on its logger cuts
the query off (httpcore and h11 log no URL and no request header). httpx keeps the request in its exceptions, not in
their text; its exceptions are chained as they are, but their text is not part of ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import NamedTuple, TypeVar
from urllib.parse import quote, unquote, urlsplit

import anyio
import httpx
import orjson
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from statecast.clock import Clock
from statecast.domain.changes import Check, Snapshot
from statecast.domain.history import PastOrder, PastTrade
from statecast.domain.models import Order
from statecast.errors import (
    AuthFailed,
    ConfigError,
    FrameError,
    RateLimited,
    Rejected,
    VenueError,
    VenueUnreachable,
)
from statecast.secret import Secret
from statecast.venues.adapter import FIGURES_ONLY, CheckScope
from statecast.venues.binance import history, snapshot, wire
from statecast.venues.binance.signing import signed_query, signer
from statecast.venues.binance.snapshot import KeyPermissions
from statecast.venues.binance.weight import MINUTE_MS, WeightBudget, silence_until_ms

RECV_WINDOW_MS = 5000
"""The venue's default: a request that took longer on its way is refused."""

TIMEOUT_S = 10.0
"""Of one whole call; the slowest answer, exchangeInfo, is some 2 MB."""

CONNECT_TIMEOUT_S = 5.0

MAX_PROBE_MS = 1000
"""A slower clock probe is not used: half of it may be error, and from 1,000 ms ahead every signed call is refused."""

GOOD_PROBE_MS = 200
CLOCK_PROBES = 3
"""Until one is good; the fastest counts."""

CONSISTENT_TRIES = 3
"""Answers of account and positionRisk that are compared before the account counts as changing too fast."""

PERMISSIONS_WITHIN_S = 3.0
"""For a question to another host, before a snapshot: that host's being slow must not cost the snapshot."""

HISTORY_RESERVE = 250
"""Weight that the reading of histories leaves in every minute: for two snapshots, without which nothing is live."""

FIREWALL_PAUSE_MS = 10_000
"""After a 403 of the venue's firewall, which counts requests in some way of its own."""

MAX_REASON_LENGTH = 200
"""Of a venue's message in an error."""

# "Error Codes" of the venue, and what a program that only reads should do.
TIMESTAMP_REFUSED = -1021
NO_SUCH_LISTEN_KEY = -1125
NO_SUCH_ORDER = -2013
PARAMETER_MISSING = -1102
TOO_MANY_REQUESTS = -1003
TRANSIENT_CODES = frozenset({-1000, -1001, -1006, -1007})
PAUSE_CODES = frozenset({-1008, -1015, -1016})
AUTH_CODES = frozenset({-1002, -1022, -1099, -2014, -2015, -4109})
"""-2017 (key locked) and -2023 (account in liquidation) are not among them: reading goes on."""

NO_END_MS = 1 << 60

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

T = TypeVar("T")

NO_PARAMS: Mapping[str, str | int] = {}


@dataclass(slots=True)
class _Created:
    """Orders that were created lately. All ordinary ones until `until_ms` are among them, and all conditional ones of a
    symbol until a time of its own."""

    orders: list[Order] = field(default_factory=list)
    until_ms: int = NO_END_MS
    conditional_until_ms: dict[str, int] = field(default_factory=dict)


class BinanceRest:
    """One account's calls. Reads are repeated when the venue is unreachable; what is raised then is a VenueError.

    VenueUnreachable: wait and call again. RateLimited: not before `retry_at_ms`; also raised, with nothing sent, when
    the weight that this minute allows is spent. Rejected: the call is wrong. AuthFailed: the operator must act (HTTP
    451, a restricted location, has the code 451). FrameError: the answer is JSON that cannot be understood.
    """

    def __init__(
        self,
        urls: wire.BinanceUrls,
        api_key: Secret,
        api_secret: Secret,
        clock: Clock,
        budget: WeightBudget | None = None,
    ) -> None:
        """Raises ConfigError for a key or secret that cannot be sent. Accounts on one machine share one `budget`."""
        key = api_key.reveal()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise ConfigError(
                "STATECAST_API_KEY", "***" if key else None, "the API key, letters and digits in one word"
            )
        self._urls = urls
        self._key = api_key
        self._secret = api_secret
        self._sign = signer(api_secret)
        self._clock = clock
        self._budget = budget or WeightBudget()
        self._listen_key = Secret("")
        self._clock_sync: _ClockSync | None = None
        self._sync_lock = asyncio.Lock()
        self._permissions_known = False
        self._lists_orders_of_all_symbols = True
        """Since 2026-08-25; a venue that wants a symbol is not asked again."""
        self._margin_assets: Mapping[str, str] = {}
        self._unlisted: frozenset[str] = frozenset()
        logging.getLogger("httpx").addFilter(_without_query)  # adding it again does nothing
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            # A simulated exchange at home is not behind the proxy that the environment names.
            trust_env=urlsplit(urls.rest).hostname not in LOOPBACK_HOSTS,
        )

    async def aclose(self) -> None:
        """Close the connections. The listen key lives on: other programs use it."""
        await self._http.aclose()

    @property
    def used_weight(self) -> int:
        """Request weight that this IP address spent in the venue's current minute, as far as is known."""
        return self._budget.used(self.venue_now_ms())

    def learn_used_weight(self, used: int, time_ms: int) -> None:
        """What another program behind this IP address knew to be spent, at a venue time."""
        self._budget.observe(str(used), time_ms, self.venue_now_ms())

    def venue_now_ms(self) -> int:
        """The venue's time. Before the first `sync_clock` it is the machine's own.

        It runs on the monotonic clock, so that setting the machine's clock does not move it.
        """
        return self.venue_ms_at(self._clock.monotonic())

    async def sync_clock(self) -> None:
        """Ask the venue for its time. Needed at start (the first signed call does it otherwise) and after -1021 alone.

        A slow answer is not believed: if none of a few takes less than a second, VenueUnreachable.
        """
        async with self._sync_lock:
            await self._probe_clock()

    async def ensure_clock(self) -> None:
        """`sync_clock`, unless the venue's time is known already."""
        async with self._sync_lock:
            if self._clock_sync is None:
                await self._probe_clock()

    async def create_listen_key(self) -> Secret:
        """The account's listen key, and its keepalive: valid for 60 minutes from this call.

        While one is alive the venue returns the same; a different one means that the old is dead and its socket silent.
        """
        self._listen_key = Secret(snapshot.listen_key(await self._read(wire.LISTEN_KEY_CREATE)))
        return self._listen_key

    async def delete_listen_key(self) -> None:
        """End the account's listen key, for every program that uses it. That it is gone already is no error."""
        try:
            await self._call(wire.LISTEN_KEY_DELETE)
        except Rejected as error:
            if error.code != NO_SUCH_LISTEN_KEY:
                raise

    async def fetch_snapshot(self, *, consistent: bool = False) -> Snapshot:
        """The whole account. The parts are asked for at once and may be torn by what happens meanwhile.

        Connect the stream first: what it says later than a row's stamp repairs the tear. Who has no stream asks for it
        `consistent`: balances and positions are then of one moment, or this raises VenueUnreachable because the account
        changes too fast. Orders may still be some milliseconds away from the positions.

        `taken_ms` is before the first request. Where exchangeInfo cannot be had, margin assets are known of the symbols
        with positions only.
        """
        calls = (
            wire.ACCOUNT,
            wire.POSITION_RISK,
            wire.OPEN_ORDERS,
            wire.OPEN_ALGO_ORDERS,
            wire.ACCOUNT_CONFIG,
            wire.SYMBOL_CONFIG,
        )
        await self.ensure_clock()
        if consistent and not self._permissions_known:
            await self._refuse_portfolio_margin()
        self._check_budget("snapshot", sum(call.weight for call in calls))
        began = self._clock.monotonic()
        account, risk, orders, algo_orders, account_config, symbol_config = await _all(
            self._read(call) for call in calls
        )
        taken_ms = self.venue_ms_at(began)
        if consistent:
            account, risk = await self._consistent(account, risk)
        totals, balances = snapshot.account(account, taken_ms)
        configs = snapshot.symbol_configs(symbol_config)
        multi_assets = snapshot.multi_assets(account_config)
        positions = snapshot.positions(risk, taken_ms, configs)
        open_orders = snapshot.open_orders(orders) + snapshot.open_algo_orders(algo_orders)
        await self._learn_margin_assets({row.symbol for row in positions} | {order.symbol for order in open_orders})
        said = {row.symbol: row.margin_asset for row in positions if row.margin_asset is not None}
        return Snapshot(
            totals=totals,
            balances=balances,
            positions=positions,
            orders=open_orders,
            symbol_configs=configs,
            margin_assets={**said, **self._margin_assets},
            multi_assets=multi_assets,
            taken_ms=taken_ms,
            totals_asset=snapshot.totals_asset(totals, balances, multi_assets=multi_assets),
        )

    async def fetch_check(self, scope: CheckScope = FIGURES_ONLY) -> Check:
        """Balances and positions, a tenth of a snapshot's weight, and what else is asked for."""
        await self.ensure_clock()
        calls: list[tuple[wire.Call, Mapping[str, str | int]]] = [
            (wire.ACCOUNT, NO_PARAMS),
            (wire.POSITION_RISK, NO_PARAMS),
        ]
        symbols = scope.order_symbols
        if symbols is None:
            calls += [(wire.OPEN_ORDERS, NO_PARAMS), (wire.OPEN_ALGO_ORDERS, NO_PARAMS)]
        else:
            for symbol in sorted(symbols):
                calls += [(call, {"symbol": symbol}) for call in (wire.SYMBOL_ORDERS, wire.SYMBOL_ALGO_ORDERS)]
        if scope.settings:
            calls += [(wire.ACCOUNT_CONFIG, NO_PARAMS), (wire.SYMBOL_CONFIG, NO_PARAMS)]
        weight = sum(call.weight for call, _ in calls) + (scope.created_since_ms > 0) * wire.ALL_ORDERS.weight
        weight += len(scope.conditional_since_ms) * wire.ALL_ALGO_ORDERS.weight
        weight += len(scope.conditional_ids) * wire.ALGO_ORDER.weight
        self._check_budget("refresh", weight)
        began = self._clock.monotonic()
        bodies = (self._read(call, params=params) for call, params in calls)
        created, account, risk, *others = await _all([self._created(scope), *bodies])
        assert isinstance(created, _Created)
        taken_ms = self.venue_ms_at(began)
        totals, balances = snapshot.account(account, taken_ms)
        configs, multi_assets = None, None
        if scope.settings:
            configs, multi_assets = snapshot.symbol_configs(others.pop()), snapshot.multi_assets(others.pop())
        orders: list[Order] = []
        for ordinary, conditional in zip(others[::2], others[1::2], strict=True):
            orders += snapshot.open_orders(ordinary) + snapshot.open_algo_orders(conditional)
        return Check(
            totals,
            balances,
            snapshot.positions(risk, taken_ms, {}),
            taken_ms,
            orders=tuple(orders),
            order_symbols=symbols,
            created=tuple(created.orders),
            created_until_ms=min(created.until_ms, taken_ms),
            conditional_until_ms={symbol: min(ms, taken_ms) for symbol, ms in created.conditional_until_ms.items()},
            symbol_configs=configs,
            multi_assets=multi_assets,
        )

    async def _created(self, scope: CheckScope) -> _Created:
        created = _Created()
        await _all(
            [
                self._list_ordinary(scope.created_since_ms, created),
                *(self._list_conditional(symbol, since_ms, created) for symbol, since_ms in scope.conditional_since_ms),
                *(self._add_conditional(algo_id, created) for algo_id in scope.conditional_ids),
            ]
        )
        return created

    async def _list_ordinary(self, since_ms: int, created: _Created) -> None:
        if not since_ms or not self._lists_orders_of_all_symbols:
            return
        try:
            created.until_ms = await self._list(wire.ALL_ORDERS, NO_PARAMS, since_ms, history.orders, created.orders)
        except Rejected as error:
            if error.code != PARAMETER_MISSING:
                raise
            self._lists_orders_of_all_symbols = False

    async def _list_conditional(self, symbol: str, since_ms: int, created: _Created) -> None:
        """None of a symbol that was delisted."""
        listed: list[Order] = []
        start_ms = max(since_ms, self.venue_now_ms() - wire.HISTORY_SPAN_MS)
        try:
            until_ms = await self._list(wire.ALL_ALGO_ORDERS, {"symbol": symbol}, start_ms, history.algo_orders, listed)
        except AuthFailed:
            raise
        except Rejected:
            until_ms = start_ms if listed else NO_END_MS
        created.orders += listed
        created.conditional_until_ms[symbol] = until_ms

    async def _add_conditional(self, algo_id: str, created: _Created) -> None:
        """Nothing of one that the venue has forgotten."""
        try:
            created.orders.append(
                history.algo_order(await self._read(wire.ALGO_ORDER, params={"algoId": algo_id})).order
            )
        except AuthFailed:
            raise
        except Rejected:
            pass

    async def _list(
        self,
        call: wire.Call,
        params: Mapping[str, str | int],
        since_ms: int,
        decoded: Callable[[object], tuple[PastOrder, ...]],
        into: list[Order],
    ) -> int:
        """Orders created since then, page by page while there is weight to spare; returns until when they all are."""
        while True:
            body = await self._read(call, params={**params, "startTime": since_ms, "limit": wire.HISTORY_PAGE})
            page = decoded(body)
            into += [past.order for past in page]
            if len(page) < wire.HISTORY_PAGE:
                return NO_END_MS
            youngest_ms = max(past.created_ms for past in page)
            if youngest_ms <= since_ms or not self._may_spend(call.weight + HISTORY_RESERVE):
                return youngest_ms
            since_ms = youngest_ms

    # Histories. They may wait for request weight: `waiting` is told the seconds, each time.

    def order_pages(
        self, since_ms: int, symbol: str | None, waiting: Callable[[float], None]
    ) -> AsyncIterator[tuple[PastOrder, ...]]:
        """The ordinary orders created since then, of one symbol or of all, oldest first; a row that two pages hold is
        there twice. A venue that wants a symbol rejects the call with `PARAMETER_MISSING`."""
        params = {} if symbol is None else {"symbol": symbol}
        return self._by_time(wire.ALL_ORDERS, params, since_ms, history.orders, waiting)

    def algo_order_pages(
        self, since_ms: int, symbol: str, waiting: Callable[[float], None]
    ) -> AsyncIterator[tuple[PastOrder, ...]]:
        """A symbol's conditional orders created since then, oldest first."""
        return self._by_time(wire.ALL_ALGO_ORDERS, {"symbol": symbol}, since_ms, history.algo_orders, waiting)

    async def trade_pages(
        self, since_ms: int, symbol: str, waiting: Callable[[float], None], *, from_id: int | None = None
    ) -> AsyncIterator[tuple[PastTrade, ...]]:
        """A symbol's fills, oldest first: from a trade id on, or since a time, and then by the time up to the first
        page that is full, by trade id from there: many can be of one millisecond."""
        await self.ensure_clock()
        start_ms, now_ms = since_ms, self.venue_now_ms()
        while from_id is None and start_ms <= now_ms:
            window = {"startTime": start_ms, "endTime": start_ms + wire.HISTORY_SPAN_MS}
            page = history.trades(await self._history(wire.USER_TRADES, {"symbol": symbol, **window}, waiting))
            yield page
            start_ms += wire.HISTORY_SPAN_MS + 1
            if len(page) >= wire.HISTORY_PAGE:
                from_id = page[-1].trade_id + 1
        while from_id is not None:  # By id it goes on without an end.
            by_id: dict[str, str | int] = {"symbol": symbol, "fromId": from_id}
            page = history.trades(await self._history(wire.USER_TRADES, by_id, waiting))
            yield page
            from_id = page[-1].trade_id + 1 if len(page) >= wire.HISTORY_PAGE else None

    async def fetch_order(self, symbol: str, order_id: str, waiting: Callable[[float], None]) -> PastOrder | None:
        """One ordinary order; None when the venue has forgotten it."""
        body = await self._one(wire.ORDER, {"symbol": symbol, "orderId": order_id}, waiting)
        return None if body is None else history.order(body)

    async def fetch_algo_order(self, algo_id: str, waiting: Callable[[float], None]) -> PastOrder | None:
        """One conditional order; None when the venue has forgotten it."""
        body = await self._one(wire.ALGO_ORDER, {"algoId": algo_id}, waiting)
        return None if body is None else history.algo_order(body)

    async def _one(
        self, call: wire.Call, params: Mapping[str, str | int], waiting: Callable[[float], None]
    ) -> object | None:
        try:
            return await self._history(call, params, waiting, limited=False)
        except Rejected as error:
            if error.code == NO_SUCH_ORDER:
                return None
            raise

    async def _by_time(
        self,
        call: wire.Call,
        params: Mapping[str, str | int],
        since_ms: int,
        decoded: Callable[[object], tuple[PastOrder, ...]],
        waiting: Callable[[float], None],
    ) -> AsyncIterator[tuple[PastOrder, ...]]:
        await self.ensure_clock()
        start_ms, now_ms = since_ms, self.venue_now_ms()
        while start_ms <= now_ms:
            window = {"startTime": start_ms, "endTime": start_ms + wire.HISTORY_SPAN_MS}
            page = decoded(await self._history(call, {**params, **window}, waiting))
            yield page
            if len(page) < wire.HISTORY_PAGE:
                start_ms += wire.HISTORY_SPAN_MS + 1
                continue
            youngest_ms = max(row.created_ms for row in page)
            if youngest_ms <= start_ms:
                raise FrameError(str(call), "body", "holds more orders of one millisecond than a page can")
            start_ms = youngest_ms

    async def _history(
        self,
        call: wire.Call,
        params: Mapping[str, str | int],
        waiting: Callable[[float], None],
        *,
        limited: bool = True,
    ) -> object:
        """A call that may wait: a history does not grow old, and what it leaves of the weight is for the snapshots."""
        if limited:
            params = {**params, "limit": wire.HISTORY_PAGE}
        while True:
            try:
                self._check_budget(str(call), call.weight + HISTORY_RESERVE)
                return await self._read(call, params=params)
            except RateLimited as error:
                wait_s = max(1.0, (error.retry_at_ms - self.venue_now_ms()) / 1000)
            waiting(wait_s)
            await self._clock.sleep(wait_s)

    async def fetch_key_permissions(self) -> KeyPermissions | None:
        """What the key may do; None where the host does not offer the question (demo, overridden hosts: 403 or 404)."""
        await self.ensure_clock()
        optional = self._urls.sapi != wire.PRODUCTION_SAPI
        body = await self._read(wire.API_RESTRICTIONS, absent=frozenset({403, 404}) if optional else frozenset())
        return None if body is None else snapshot.key_permissions(body)

    async def _refuse_portfolio_margin(self) -> None:
        """A publisher has asked by itself, a reader has not. Where the venue does not say, the account is believed."""
        try:
            async with asyncio.timeout(PERMISSIONS_WITHIN_S):
                permissions = await self.fetch_key_permissions()
        except (VenueError, FrameError, TimeoutError):
            return
        if permissions is not None and permissions.portfolio_margin:
            reason = "the key is one of a Portfolio Margin account, whose futures data this interface does not tell"
            raise AuthFailed(wire.VENUE, "key permissions", reason, 0)
        self._permissions_known = True

    async def _consistent(self, account: object, risk: object) -> tuple[object, object]:
        """Both answers, asked for again until they tell of the same positions.

        Update times alone may differ for good, should the venue count them otherwise in one of the two: then it is
        enough that neither has moved between two answers, for both were true at a moment between them.
        """
        before = None
        for left in reversed(range(CONSISTENT_TRIES)):
            told = held, at_risk = snapshot.account_holdings(account), snapshot.risk_holdings(risk)
            if held == at_risk or (told == before and snapshot.amounts(held) == snapshot.amounts(at_risk)):
                return account, risk
            if left:
                before = told
                account, risk = await _all((self._read(wire.ACCOUNT), self._read(wire.POSITION_RISK)))
        raise VenueUnreachable(wire.VENUE, "snapshot", "the account changes too fast to be told as of one moment")

    async def _learn_margin_assets(self, symbols: set[str]) -> None:
        """exchangeInfo, once, and once more for a symbol that it did not list."""
        if self._margin_assets and not symbols - self._margin_assets.keys() - self._unlisted:
            return
        try:
            self._margin_assets = snapshot.margin_assets(await self._read(wire.EXCHANGE_INFO))
        except (VenueError, FrameError):
            return  # positions name their asset themselves
        self._unlisted = frozenset(symbols - self._margin_assets.keys())

    async def _read(
        self,
        call: wire.Call,
        absent: frozenset[int] = frozenset(),
        params: Mapping[str, str | int] = NO_PARAMS,
    ) -> object:
        """A call that may be repeated: every GET, and the POST that returns the same listen key again."""

        async def ask() -> object:
            return await self._call_in_time(call, absent, params)

        return await self._repeated(ask)

    async def _repeated(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await AsyncRetrying(
            sleep=self._clock.sleep,
            wait=wait_exponential(multiplier=0.25, max=2),  # 0.25 s, 0.5 s: beyond that the caller decides
            stop=stop_after_attempt(3),
            retry=retry_if_exception_type(VenueUnreachable),
            reraise=True,
        )(ask)

    async def _call_in_time(self, call: wire.Call, absent: frozenset[int], params: Mapping[str, str | int]) -> object:
        """The call; when the venue refuses its timestamp, once more by a corrected clock."""
        sync = self._clock_sync
        try:
            return await self._call(call, absent, params)
        except Rejected as error:
            if error.code != TIMESTAMP_REFUSED:
                raise
        try:
            async with self._sync_lock:
                if self._clock_sync is sync:  # else a call beside this one has corrected it
                    await self._probe_clock()
            return await self._call(call, absent, params)
        except Rejected as error:
            if error.code != TIMESTAMP_REFUSED:
                raise
            raise VenueUnreachable(wire.VENUE, str(call), error.reason) from error  # Nothing is wrong with the call.

    async def _probe_clock(self) -> None:
        fastest = await self._repeated(self._clock_probe)
        for _ in range(CLOCK_PROBES - 1):
            if fastest.took_ms <= GOOD_PROBE_MS:
                break
            fastest = min(fastest, await self._repeated(self._clock_probe), key=lambda probe: probe.took_ms)
        if fastest.took_ms > MAX_PROBE_MS:
            took = f"took {fastest.took_ms:.0f} ms, too slow to set the clock by (limit {MAX_PROBE_MS} ms)"
            raise VenueUnreachable(wire.VENUE, str(wire.TIME), took)
        self._clock_sync = fastest

    async def _clock_probe(self) -> _ClockSync:
        """The venue read its clock somewhere between question and answer: the middle errs by half of that at most."""
        asked = self._clock.monotonic()
        venue_ms = snapshot.server_time_ms(await self._call(wire.TIME))
        answered = self._clock.monotonic()
        return _ClockSync(venue_ms, (asked + answered) / 2, (answered - asked) * 1000)

    def venue_ms_at(self, monotonic: float) -> int:
        """The venue's time, as far as it is known by now, at a moment of the clock's monotonic time."""
        if self._clock_sync is None:
            return self._clock.now_ms()
        return self._clock_sync.venue_ms + round((monotonic - self._clock_sync.monotonic) * 1000)

    def _may_spend(self, cost: int) -> bool:
        return not self._budget.delay_ms(cost, self.venue_now_ms(), self._clock.monotonic())

    def _check_budget(self, what: str, cost: int) -> None:
        """RateLimited, with nothing sent, when `cost` cannot be spent now: half a snapshot would be worth nothing."""
        now_ms = self.venue_now_ms()
        delay_ms = self._budget.delay_ms(cost, now_ms, self._clock.monotonic())
        if delay_ms:
            reason = f"not sent, the limits of the venue allow it in {delay_ms / 1000:.1f} s"
            raise RateLimited(wire.VENUE, what, reason, now_ms + delay_ms)

    async def _call(
        self,
        call: wire.Call,
        absent: frozenset[int] = frozenset(),
        params: Mapping[str, str | int] = NO_PARAMS,
    ) -> object:
        """One request; its JSON, or None for a status in `absent`."""
        self._check_budget(str(call), call.weight)
        base = self._urls.sapi if call is wire.API_RESTRICTIONS else self._urls.rest
        sent_ms = self.venue_now_ms()
        query = signed_query(params, sent_ms, RECV_WINDOW_MS, self._sign) if call.security == "signed" else ""
        request = self._http.build_request(
            call.method,
            base + call.path + (f"?{query}" if query else ""),
            headers={} if call.security == "none" else {"X-MBX-APIKEY": self._key.reveal()},
        )
        assert request.url.query == query.encode(), "what is signed must be what is sent"
        self._budget.spend(call.weight, sent_ms)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                response = await self._send(request)
        except TimeoutError as error:
            raise VenueUnreachable(wire.VENUE, str(call), f"no answer within {TIMEOUT_S:.0f} s") from error
        except httpx.HTTPError as error:
            # Its text may quote what the server sent, hence its kind alone.
            raise VenueUnreachable(wire.VENUE, str(call), f"no answer ({type(error).__name__})") from error
        now_ms = self.venue_now_ms()
        if base == self._urls.rest:
            self._budget.observe(response.headers.get("X-MBX-USED-WEIGHT-1M"), sent_ms, now_ms)
        if response.status_code in absent:
            return None
        return self._judged(call, response, unquote(query.rpartition("&signature=")[2]), now_ms)

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """The answer; when this is cancelled, httpcore cleans up first.

        It shields its cleaning up from anyio's cancellations alone. One of asyncio's, in the middle of it, loses
        connections: they stay open, or fill the pool for ever (encode/httpcore#1093). So it sees anyio's only.
        """
        scope = anyio.CancelScope()

        async def send() -> httpx.Response | None:
            with scope:
                return await self._http.send(request)
            return None

        sending = asyncio.create_task(send())
        try:
            await asyncio.wait((sending,))
        except asyncio.CancelledError:
            scope.cancel()
            while not sending.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait((sending,))
            if not sending.cancelled():
                sending.exception()  # looked at, or asyncio would log it
            raise
        response = sending.result()
        assert response is not None, "nobody else cancels the scope"
        return response

    def _judged(self, call: wire.Call, response: httpx.Response, signature: str, now_ms: int) -> object:
        """The JSON of a good answer, else the error that says who must act."""
        status = response.status_code
        document, is_json = _json(response.content)
        code, message = _complaint(document)
        reason = f"HTTP {status}"
        if code is not None:
            reason += f", code {code}: {self._scrubbed(message, signature)}"
        elif not is_json:
            content_type = response.headers.get("content-type", "none")[:MAX_REASON_LENGTH]
            reason += f", not JSON (content type {self._scrubbed(content_type, signature)})"
        if status in (418, 429) or code == TOO_MANY_REQUESTS:
            retry_after = response.headers.get("Retry-After")
            # The end of a ban is told by the venue's clock, which this machine's may be far from.
            said_ms = now_ms if self._clock_sync is not None else _date_ms(response.headers.get("Date"), now_ms)
            until_ms = silence_until_ms(retry_after, message, said_ms, banned=status == 418)
            raise self._silence(call, reason, now_ms + until_ms - said_ms)
        if status == 403 and code is None:
            raise self._silence(call, reason, now_ms + FIREWALL_PAUSE_MS)
        if response.is_success and is_json and code is None:
            return document
        if code in PAUSE_CODES:
            raise RateLimited(wire.VENUE, str(call), reason, now_ms - now_ms % MINUTE_MS + MINUTE_MS)
        if code in AUTH_CODES or status in (401, 451):
            raise AuthFailed(wire.VENUE, str(call), reason, status if code is None else code)
        if code in TRANSIENT_CODES or status == 408 or status >= 500 or not is_json:
            raise VenueUnreachable(wire.VENUE, str(call), reason)
        raise Rejected(wire.VENUE, str(call), reason, status if code is None else code)

    def _silence(self, call: wire.Call, reason: str, until_ms: int) -> RateLimited:
        """No call of this process before then, whatever it is for; the limits of the other host are its own affair."""
        if call is not wire.API_RESTRICTIONS or self._urls.sapi == self._urls.rest:
            self._budget.block(self._clock.monotonic() + (until_ms - self.venue_now_ms()) / 1000)
        return RateLimited(wire.VENUE, str(call), reason, until_ms)

    def _scrubbed(self, text: str, signature: str) -> str:
        """A text of the server for an error: short, one line, without what we sent in confidence."""
        for secret in (signature, self._secret.reveal(), self._key.reveal(), self._listen_key.reveal()):
            if secret:
                text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
        return "".join(c for c in text[:MAX_REASON_LENGTH] if c.isprintable())


class _ClockSync(NamedTuple):
    """The venue's time at one moment of the monotonic clock, and how long it took to learn it."""

    venue_ms: int
    monotonic: float
    took_ms: float


def _json(content: bytes) -> tuple[object, bool]:
    try:
        return orjson.loads(content), True
    except orjson.JSONDecodeError:
        return None, False


def _complaint(document: object) -> tuple[int | None, str]:
    """Code and message of `{"code":-1121,"msg":"Invalid symbol."}`; the venue's errors are negative, 200 is success."""
    if type(document) is not dict:
        return None, ""
    code, message = document.get("code"), document.get("msg")
    return (code if type(code) is int and code < 0 else None), (message if type(message) is str else "")


def _date_ms(header: str | None, default_ms: int) -> int:
    """A `Date` header in ms, to the second; the default where there is none that makes sense."""
    try:
        return round(parsedate_to_datetime(header or "").timestamp() * 1000)
    except (ValueError, OverflowError):
        return default_ms


async def _all(calls: Iterable[Coroutine[object, None, object]]) -> list[object]:
    """All results, or the first error; the others are cancelled then: nothing is sent behind the caller's back."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _WithoutQuery(logging.Filter):
    """Takes the query, which holds the signature, from the URLs that httpx logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if type(record.args) is tuple:
            record.args = tuple(arg.copy_with(query=None) if isinstance(arg, httpx.URL) else arg for arg in record.args)
        return True


_without_query = _WithoutQuery()
