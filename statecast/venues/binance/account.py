"""One account at Binance: the `VenueAccount` of this adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress

from statecast.clock import Clock
from statecast.domain.changes import Check, Snapshot, Unreadable
from statecast.domain.history import PastAmendment, PastOrder
from statecast.domain.models import Order, OrderKey
from statecast.errors import AuthFailed, FrameError, Rejected, VenueError, VenueUnreachable
from statecast.secret import Secret
from statecast.venues.adapter import (
    FIGURES_ONLY,
    CheckScope,
    HistoryKind,
    HistoryPage,
    HistoryQuery,
    KeyReport,
    Retrying,
    Waiting,
    ignored,
)
from statecast.venues.binance import snapshot, wire
from statecast.venues.binance.errors import refuse_portfolio_margin
from statecast.venues.binance.histories import Created, Histories
from statecast.venues.binance.limits import WeightBudget
from statecast.venues.binance.listen_key import ListenKeyStream
from statecast.venues.binance.rest import NO_PARAMS, BinanceRest
from statecast.venues.binance.session import MarkPriceSession
from statecast.venues.binance.snapshot import KeyPermissions
from statecast.venues.clock import ProbedClock
from statecast.venues.http import all_of

CONSISTENT_TRIES = 3
"""Answers of account and positionRisk that are compared before the account counts as changing too fast."""

PERMISSIONS_WITHIN_S = 3.0
"""For a question to another host, before a snapshot: that host's being slow must not cost the snapshot."""


class BinanceAccount:
    """See `VenueAccount`."""

    def __init__(
        self,
        urls: wire.BinanceUrls,
        api_key: Secret,
        api_secret: Secret,
        clock: Clock,
        limits: WeightBudget,
        *,
        delete_listen_key: bool = False,
        history_page: int = wire.HISTORY_PAGE,
    ) -> None:
        """Raises ConfigError for a key or secret that cannot be sent. `delete_listen_key`: end the key for everybody
        when the last publisher goes. `history_page`: rows of a history that are asked for at once."""
        self._urls = urls
        self._machine_clock = clock
        self._delete_listen_key = delete_listen_key
        self._rest = BinanceRest(urls, api_key, api_secret, clock, limits, history_page=history_page)
        self._histories = Histories(self._rest)
        self._key_checked = False
        self._margin_assets: Mapping[str, str] = {}
        self._unlisted: frozenset[str] = frozenset()
        self._whole_weight = 0
        """Of the last comparison of everything; figures leave so much to the next one."""

    @property
    def clock(self) -> ProbedClock:
        """The venue's time."""
        return self._rest.clock

    @property
    def limits(self) -> WeightBudget:
        """The request weight of this machine's address."""
        return self._rest.limits

    # Streams

    @asynccontextmanager
    async def user_streams(self, retrying: Retrying = ignored) -> AsyncIterator[ListenKeyStream]:
        """The private stream, with a listen key. It lives on at the end: other programs use it."""
        await self.clock.ensure()
        key = await self._rest.create_listen_key()
        yield ListenKeyStream(
            key, self._rest.create_listen_key, self._urls.private_stream_url, self._machine_clock, retrying
        )

    def market_stream(self, symbols: frozenset[str]) -> tuple[Secret, MarkPriceSession]:
        """The mark prices of these symbols: a URL, and the dialogue there."""
        return Secret(self._urls.market_stream_url(wire.url_symbols(symbols))), MarkPriceSession(symbols)

    # The account as it is

    async def check_key(self) -> KeyReport | None:
        """What the key may do; None where the host does not offer the question (demo, overridden hosts: 403 or 404).
        Raises AuthFailed for a Portfolio Margin account."""
        permissions = await self._permissions()
        refuse_portfolio_margin(permissions)
        self._key_checked = True
        if permissions is None:
            return None
        may = [name for name, can in (("trade", permissions.can_trade), ("withdraw", permissions.can_withdraw)) if can]
        return KeyReport((*may, *permissions.extra))

    async def fetch_snapshot(self, *, consistent: bool = False) -> Snapshot:
        """The whole account. The parts are asked for at once and may be inconsistent, by what happens meanwhile.

        Connect the stream first: what it sends later than a row's stamp repairs that. Who has no stream asks for it
        `consistent`: balances and positions are then of one moment, or this raises VenueUnreachable because the account
        changes too fast. Orders may still be some milliseconds away from the positions. A row that is not understood is
        then an error, for nothing else would show the doubt.

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
        await self.clock.ensure()
        if consistent and not self._key_checked:
            await self._refuse_what_cannot_be_followed()
        # Without a publisher's, nothing is live; those of readers are many, and leave the reserve alone.
        self._rest.check_limits("snapshot", sum(call.weight for call in calls), urgent=not consistent)
        began_mono_s = self._machine_clock.monotonic()
        account, risk, orders, algo_orders, account_config, symbol_config = await all_of(
            self._rest.read(call) for call in calls
        )
        taken_ms = self.clock.at_ms(began_mono_s)
        if consistent:
            account, risk = await self._consistent(account, risk)
        asking = snapshot.Asking(taken_ms, self.clock.now_ms())
        unreadable: list[Unreadable] = []
        totals, balances = snapshot.account(account, asking, unreadable)
        configs = snapshot.symbol_configs(symbol_config, unreadable)
        multi_assets = snapshot.multi_assets(account_config, unreadable)
        positions = snapshot.positions(risk, asking, configs, unreadable)
        open_orders = snapshot.open_orders(orders, unreadable) + snapshot.open_algo_orders(algo_orders, unreadable)
        if consistent and (missing := [text for text, key in unreadable if key is not None]):
            raise FrameError("snapshot", "a row", missing[0])  # Nobody would say that the rest is not all.
        await self._learn_margin_assets({row.symbol for row in positions} | {order.symbol for order in open_orders})
        stated = {row.symbol: row.margin_asset for row in positions if row.margin_asset is not None}
        return Snapshot(
            totals=totals,
            balances=balances,
            positions=positions,
            orders=open_orders,
            symbol_configs=configs,
            margin_assets={**stated, **self._margin_assets},
            multi_assets=multi_assets,
            taken_ms=taken_ms,
            totals_asset=snapshot.totals_asset(multi_assets),
            totals_are_wallet=multi_assets is False,  # EU accounts are counted in BNFCR
            answered_ms=self.clock.now_ms(),
            unreadable=tuple(unreadable),
        )

    async def fetch_check(self, scope: CheckScope = FIGURES_ONLY) -> Check:
        """Balances and positions, a tenth of a snapshot's weight, and what else is asked for."""
        await self.clock.ensure()
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
        weight += len(scope.by_id) * wire.ORDER.weight
        if scope == FIGURES_ONLY:
            self._rest.check_limits("check", weight, spare=self._whole_weight)
        else:
            self._rest.check_limits("check", weight, urgent=scope.urgent)
        if scope.order_symbols is None:
            self._whole_weight = weight
        began_mono_s = self._machine_clock.monotonic()
        bodies = (self._unless_delisted(call, params) for call, params in calls)
        created, account, risk, *others = await all_of([self._histories.created(scope), *bodies])
        assert isinstance(created, Created)
        taken_ms = self.clock.at_ms(began_mono_s)
        asking = snapshot.Asking(taken_ms, self.clock.now_ms())
        unreadable: list[Unreadable] = []
        totals, balances = snapshot.account(account, asking, unreadable)
        configs, multi_assets = None, None
        if scope.settings:
            configs = snapshot.symbol_configs(others.pop(), unreadable)
            multi_assets = snapshot.multi_assets(others.pop(), unreadable)
        orders: list[Order] = []
        lists = list(zip(others[::2], others[1::2], strict=True))
        if symbols is not None:
            # What the venue does not answer for is asked for with the orders of all symbols.
            symbols = frozenset(symbol for symbol, both in zip(sorted(symbols), lists, strict=True) if None not in both)
        for ordinary, conditional in lists:
            if ordinary is not None and conditional is not None:
                orders += snapshot.open_orders(ordinary, unreadable)
                orders += snapshot.open_algo_orders(conditional, unreadable)
        return Check(
            totals,
            balances,
            snapshot.positions(risk, asking, {}, unreadable),
            taken_ms,
            orders=tuple(orders),
            order_symbols=symbols,
            created=tuple(created.orders),
            created_until_ms=min(created.until_ms, taken_ms),
            conditional_until_ms={symbol: min(ms, taken_ms) for symbol, ms in created.conditional_until_ms.items()},
            symbol_configs=configs,
            multi_assets=multi_assets,
            answered_ms=self.clock.now_ms(),
            unreadable=tuple(unreadable),
        )

    # The account's past

    def history_queries(self, kind: HistoryKind, symbols: Collection[str]) -> tuple[HistoryQuery, ...]:
        """What has to be read."""
        return self._histories.queries(kind, symbols)

    def history_pages(self, query: HistoryQuery, since_ms: int, waiting: Waiting) -> AsyncIterator[HistoryPage]:
        """A history since a time, oldest first."""
        return self._histories.pages(query, since_ms, waiting)

    async def symbols_with_fills(
        self, since_ms: int, waiting: Waiting, *, whatever_it_costs: bool
    ) -> frozenset[str] | None:
        """Symbols with a commission; a maker's fill may have none ("0" in recorded frames of 2026-04)."""
        return await self._histories.symbols_with_fills(since_ms, waiting, all_pages=whatever_it_costs)

    async def fetch_amendments(self, order: OrderKey, since_ms: int, waiting: Waiting) -> tuple[PastAmendment, ...]:
        """How one order was amended."""
        return await self._histories.amendments(order, since_ms, waiting)

    async def fetch_order(self, order: OrderKey, waiting: Waiting) -> PastOrder | None:
        """One order; None where the venue does not know it."""
        return await self._histories.order(order, waiting)

    async def aclose(self, *, last: bool = False) -> None:
        """Close the connections. The listen key is everyone's: it is ended only where the settings ask for it, by the
        last publisher of the account."""
        try:
            if last and self._delete_listen_key:
                with suppress(VenueError, FrameError):
                    await self._rest.delete_listen_key()
        finally:
            await self._rest.aclose()

    # Parts

    async def _unless_delisted(self, call: wire.Call, params: Mapping[str, str | int]) -> object:
        """The answer; None where the venue refuses the symbol that is asked about."""
        try:
            return await self._rest.read(call, params)
        except AuthFailed:
            raise
        except Rejected:
            if "symbol" not in params:
                raise
            return None

    async def _permissions(self) -> KeyPermissions | None:
        await self.clock.ensure()
        absent = frozenset({403, 404}) if self._urls.sapi_may_be_absent else frozenset[int]()
        try:
            async with asyncio.timeout(PERMISSIONS_WITHIN_S):
                body = await self._rest.read(wire.API_RESTRICTIONS, absent=absent)
        except TimeoutError as error:
            reason = f"no answer within {PERMISSIONS_WITHIN_S:g} s"
            raise VenueUnreachable(wire.VENUE, "key permissions", reason) from error
        return None if body is None else snapshot.key_permissions(body)

    async def _refuse_what_cannot_be_followed(self) -> None:
        """Where the venue does not say, the account is taken for one that can be."""
        try:
            permissions = await self._permissions()
        except (VenueError, FrameError):
            return
        refuse_portfolio_margin(permissions)
        self._key_checked = True

    async def _consistent(self, account: object, risk: object) -> tuple[object, object]:
        """Both answers, asked for again until they have the same positions.

        Update times alone may differ for good, should the venue count them otherwise in one of the two: then it is
        enough that neither has moved between two answers, for both were true at a moment between them.
        """
        before = None
        for left in reversed(range(CONSISTENT_TRIES)):
            both = held, at_risk = snapshot.account_holdings(account), snapshot.risk_holdings(risk)
            if held == at_risk or (both == before and snapshot.amounts(held) == snapshot.amounts(at_risk)):
                return account, risk
            if left:
                before = both
                account, risk = await all_of((self._rest.read(wire.ACCOUNT), self._rest.read(wire.POSITION_RISK)))
        raise VenueUnreachable(wire.VENUE, "snapshot", "the account changes too fast to be read as of one moment")

    async def _learn_margin_assets(self, symbols: set[str]) -> None:
        """exchangeInfo, once, and once more for a symbol that it did not list."""
        if self._margin_assets and not symbols - self._margin_assets.keys() - self._unlisted:
            return
        try:
            self._margin_assets = snapshot.margin_assets(await self._rest.read(wire.EXCHANGE_INFO))
        except (VenueError, FrameError):
            return  # positions name their asset themselves
        self._unlisted = frozenset(symbols - self._margin_assets.keys())
