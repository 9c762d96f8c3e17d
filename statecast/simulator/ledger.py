"""One futures account and the market it trades on, as a pure ledger.

Every method that changes something takes the time as `now_ms` and returns what happened as events, in order; what it
declines it raises as `Refused`, with nothing changed. There is no clock, no I/O and no chance in here: a run is its
calls.

The market is a model. A symbol has a mark price; the book holds `Rules.depth_qty` on every tick above and below it, so
that a large order is filled in several trades, and a resting order is filled, up to that depth at a time, when the mark
price reaches it. The sum of the orders that reduce a position never exceeds it: what no longer fits expires.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from statecast.simulator.events import (
    AccountChanged,
    AlgoChanged,
    BalanceRow,
    Event,
    Filled,
    LeverageChanged,
    MarginCalled,
    MarginRow,
    MultiAssetsChanged,
    OrderChanged,
    PositionRow,
    Reason,
)
from statecast.simulator.orders import (
    ZERO,
    AlgoOrder,
    AlgoRequest,
    AlgoStatus,
    Execution,
    ExpiryReason,
    Order,
    OrderRequest,
    OrderStatus,
    OrderType,
    PositionSide,
    Refusal,
    Refused,
    Side,
    TimeInForce,
)
from statecast.simulator.positions import Position, PositionMargin
from statecast.simulator.symbols import FUNDING_RATE, INDEX_PRICES, SYMBOLS, Rules, to_money

MAKER_RATE = Decimal("0.0002")
TAKER_RATE = Decimal("0.0005")
LIQUIDATION_RATE = Decimal("0.0125")
MARGIN_CALL_AT = Decimal("1.25")
"""Margin over maintenance margin below which a margin call is sent."""
PRICE_BAND = Decimal("0.15")
"""How far from the mark price a limit may lie."""
MAX_LEVELS = 500
"""How many levels of the book one order may sweep; what is left of a market order then expires."""
MAX_ALGOS = 200
"""Live conditional orders of an account over all symbols."""
HISTORY = 250_000
"""How many closed orders, order events, trades and incomes are kept: a few days of a busy demo."""
INITIAL_LEVERAGE = 20

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Wallet:
    """What the account owns of one asset, apart from unrealised profit. May be negative in multi-assets mode."""

    asset: str
    balance: Decimal
    updated_at_ms: int


@dataclass(frozen=True, slots=True)
class AssetMargin:
    """One asset with all that depends on mark prices."""

    wallet: Wallet
    cross_wallet: Decimal
    profit: Decimal
    cross_profit: Decimal
    maintenance: Decimal
    position_initial: Decimal
    open_order_initial: Decimal
    available: Decimal

    @property
    def initial(self) -> Decimal:
        return self.position_initial + self.open_order_initial

    @property
    def margin_balance(self) -> Decimal:
        return self.wallet.balance + self.profit

    @property
    def max_withdraw(self) -> Decimal:
        """Available without what is only unrealised profit."""
        return max(ZERO, self.available - max(ZERO, self.cross_profit))


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill, as the trade history keeps it."""

    order: Order
    """The order after the fill."""
    trade_id: int
    price: Decimal
    qty: Decimal
    commission: Decimal
    commission_asset: str
    realised: Decimal
    is_maker: bool
    at_ms: int


@dataclass(frozen=True, slots=True)
class Income:
    """One booking of a wallet."""

    kind: str
    asset: str
    amount: Decimal
    symbol: str
    at_ms: int
    transaction_id: int
    trade_id: int = 0


@dataclass(frozen=True, slots=True)
class SymbolSettings:
    leverage: int = INITIAL_LEVERAGE
    isolated: bool = False


class Ledger:
    """The account's truth.

    Public attributes are to be read only: `marks`, `order_events`, `trades`, `incomes`, `hedge`, `multi_assets`.
    """

    def __init__(
        self,
        balances: Mapping[str, Decimal],
        *,
        now_ms: int,
        hedge: bool = False,
        multi_assets: bool = False,
        symbols: Iterable[Rules] = SYMBOLS,
    ) -> None:
        self.rules: dict[str, Rules] = {rules.symbol: rules for rules in symbols}
        self.marks: dict[str, Decimal] = {rules.symbol: rules.start_price for rules in self.rules.values()}
        self.hedge = hedge
        self.multi_assets = multi_assets
        self.order_events: list[OrderChanged] = []
        self.order_events_seen = 0
        self.trades: list[Trade] = []
        self.incomes: list[Income] = []
        assets = {"USDT": ZERO, **balances}
        self._wallets = {asset: Wallet(asset, to_money(amount), now_ms) for asset, amount in assets.items()}
        self._settings = dict.fromkeys(self.rules, SymbolSettings())
        self._positions: dict[tuple[str, PositionSide], Position] = {}
        self._orders: dict[int, Order] = {}
        self._open: dict[int, Order] = {}
        self._algos: dict[int, AlgoOrder] = {}
        self._waiting: dict[int, AlgoOrder] = {}
        self._called: set[str] = set()
        self._last_order_id = 8886774000
        self._last_trade_id = 5512345677
        self._last_algo_id = 2148718
        self._last_transaction_id = 9689322392

    # -- reading -----------------------------------------------------------------------------------------------------

    def wallets(self) -> list[Wallet]:
        return list(self._wallets.values())

    def wallet(self, asset: str) -> Wallet:
        return self._wallets.get(asset, Wallet(asset, ZERO, 0))

    def cross_wallet(self, asset: str) -> Decimal:
        """The wallet without what isolated positions have drawn from it."""
        isolated = (
            row.isolated_wallet for row in self._positions.values() if self.rules[row.symbol].margin_asset == asset
        )
        return self.wallet(asset).balance - sum(isolated, ZERO)

    def settings(self, symbol: str) -> SymbolSettings:
        self._known(symbol)
        return self._settings[symbol]

    def sides(self) -> tuple[PositionSide, ...]:
        """The rows that a symbol has in the present position mode."""
        return (PositionSide.LONG, PositionSide.SHORT) if self.hedge else (PositionSide.BOTH,)

    def position(self, symbol: str, side: PositionSide) -> Position:
        """The row; flat, with update time zero, if it was never touched."""
        return self._positions.get((symbol, side)) or Position(symbol=symbol, side=side)

    def positions(self) -> list[Position]:
        """All rows that are not flat."""
        return [row for row in self._positions.values() if row.amount]

    def position_margin(self, symbol: str, side: PositionSide) -> PositionMargin:
        """The row valued at the present mark price, with the open orders that belong to it."""
        return self._margin(symbol, side)

    def active_symbols(self) -> list[str]:
        """Symbols with a position or an open order, as listed by the exchange."""
        active = {row.symbol for row in self._positions.values() if row.amount}
        active |= {order.symbol for order in self._open.values()}
        return [symbol for symbol in self.rules if symbol in active]

    def asset_margin(self, asset: str) -> AssetMargin:
        """The asset's balances, margins and what is free, in units of the asset."""
        rows = [margin for margin in self._margins() if margin.rules.margin_asset == asset]
        return AssetMargin(
            wallet=self.wallet(asset),
            cross_wallet=self.cross_wallet(asset),
            profit=sum((row.profit for row in rows), ZERO),
            cross_profit=sum((row.profit for row in rows if not row.isolated), ZERO),
            maintenance=sum((row.maintenance for row in rows), ZERO),
            position_initial=sum((row.position_initial for row in rows), ZERO),
            open_order_initial=sum((row.open_order_initial for row in rows), ZERO),
            available=max(ZERO, self._free(asset)),
        )

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        """Orders in the engine, oldest first; conditional orders are not among them before they trigger."""
        return [order for order in self._open.values() if symbol is None or order.symbol == symbol]

    def open_algos(self, symbol: str | None = None) -> list[AlgoOrder]:
        """Conditional orders that have not triggered, oldest first."""
        return [algo for algo in self._waiting.values() if symbol is None or algo.symbol == symbol]

    def orders(self) -> list[Order]:
        """Every order that is remembered, open or not, oldest first."""
        return list(self._orders.values())

    def algos(self) -> list[AlgoOrder]:
        return list(self._algos.values())

    def order(self, symbol: str, order_id: int = 0, client_order_id: str = "") -> Order:
        """The order by either id; of several with one client id, the latest."""
        if order_id:
            order = self._orders.get(order_id)
        else:
            same = (one for one in reversed(self._orders.values()) if one.client_order_id == client_order_id)
            order = next((one for one in same if one.symbol == symbol), None)
        if order is None or order.symbol != symbol:
            raise Refused(Refusal.UNKNOWN_ORDER, str(order_id or client_order_id))
        return order

    def algo(self, algo_id: int = 0, client_algo_id: str = "") -> AlgoOrder:
        """The conditional order by either id; of several with one client id, the latest."""
        if algo_id:
            algo = self._algos.get(algo_id)
        else:
            same = (one for one in reversed(self._algos.values()) if one.client_algo_id == client_algo_id)
            algo = next(same, None)
        if algo is None:
            raise Refused(Refusal.UNKNOWN_ORDER, str(algo_id or client_algo_id))
        return algo

    # -- orders ------------------------------------------------------------------------------------------------------

    def place(self, request: OrderRequest, now_ms: int) -> list[Event]:
        """Send an order to the engine. The first event is always the order's NEW."""
        self._admit(request)
        order = self._book(request, now_ms)
        return [self._announce(order, Execution.NEW, now_ms), *self._match(order.order_id, now_ms)]

    def check(self, request: OrderRequest) -> None:
        """Raise what `place` would raise, and do nothing."""
        self._admit(request)

    def cancel(self, order_id: int, now_ms: int) -> list[Event]:
        """Take an open order out of the engine."""
        order = self._open.get(order_id)
        if order is None:
            raise Refused(Refusal.UNKNOWN_ORDER, str(order_id))
        return self._close(order, Execution.CANCELED, now_ms)

    def amend(self, order_id: int, *, qty: Decimal, price: Decimal, now_ms: int, modify_id: str = "") -> list[Event]:
        """Give an open LIMIT order another quantity and price; it keeps its ids.

        A quantity that is filled already cancels the order. A price that crosses the book trades at once.
        """
        order = self._open.get(order_id)
        if order is None:
            raise Refused(Refusal.UNKNOWN_ORDER, str(order_id))
        if order.type is not OrderType.LIMIT or order.algo_id:
            raise Refused(Refusal.NOT_AMENDABLE)
        if (order.qty, order.price) == (qty, price):
            raise Refused(Refusal.NOTHING_TO_AMEND)
        rules = self.rules[order.symbol]
        self._check_qty(rules, qty)
        self._check_price(rules, price)
        if qty <= order.filled_qty:
            return self._close(order, Execution.CANCELED, now_ms)
        request = OrderRequest(
            symbol=order.symbol,
            side=order.side,
            type=order.type,
            qty=qty - order.filled_qty,
            price=price,
            time_in_force=order.time_in_force,
            position_side=order.position_side,
            reduce_only=order.reduce_only,
        )
        self._check_fill_policy(request)
        self._check_room(request, instead_of=order)
        order = self._store(replace(order, qty=qty, price=price, updated_at_ms=now_ms))
        event = self._announce(order, Execution.AMENDMENT, now_ms, modify_id=modify_id)
        return [event, *self._match(order_id, now_ms)]

    def place_algo(self, request: AlgoRequest, now_ms: int) -> list[Event]:
        """Leave a conditional order with the exchange. No margin is looked at before it triggers."""
        rules = self._known(request.symbol)
        self._check_side(request.position_side)
        if self.hedge and request.reduce_only:
            raise Refused(Refusal.REDUCE_ONLY_IN_HEDGE)
        if len(self._waiting) >= MAX_ALGOS:
            raise Refused(Refusal.TOO_MANY_ALGOS)
        if request.client_algo_id and any(a.client_algo_id == request.client_algo_id for a in self._waiting.values()):
            raise Refused(Refusal.DUPLICATE_CLIENT_ID, request.client_algo_id)
        if request.close_position:
            self._check_close_position(request)
        else:
            self._check_qty(rules, request.qty)
        if request.type in (OrderType.STOP, OrderType.TAKE_PROFIT):
            self._check_price(rules, request.price)
        trailing = request.type is OrderType.TRAILING_STOP_MARKET
        if trailing and not Decimal("0.1") <= request.callback_rate <= 10:
            raise Refused(Refusal.CALLBACK_RATE)
        if not trailing:
            if request.trigger_price <= 0:
                raise Refused(Refusal.TRIGGER_INVALID)
            if request.trigger_price % rules.tick_size:
                raise Refused(Refusal.PRICE_PRECISION)
        self._last_algo_id += 1
        mark = self.marks[request.symbol]
        algo = AlgoOrder(
            algo_id=self._last_algo_id,
            client_algo_id=request.client_algo_id or f"sim-algo-{self._last_algo_id}",
            symbol=request.symbol,
            side=request.side,
            position_side=request.position_side,
            type=request.type,
            time_in_force=TimeInForce.GTE_GTC if request.close_position else request.time_in_force,
            qty=ZERO if request.close_position else request.qty,
            price=request.price,
            trigger_price=request.trigger_price,
            activation_price=request.activation_price,
            callback_rate=request.callback_rate,
            reduce_only=request.reduce_only or (request.close_position and not self.hedge),
            close_position=request.close_position,
            working_type=request.working_type,
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            activated=trailing and not request.activation_price,
            extreme_price=mark if trailing else ZERO,
        )
        if not trailing and algo.is_hit_by(mark):
            self._last_algo_id -= 1
            raise Refused(Refusal.IMMEDIATE_TRIGGER)
        return [self._set_algo(algo, now_ms)]

    def cancel_algo(self, algo_id: int, now_ms: int) -> list[Event]:
        """Withdraw a conditional order that has not triggered."""
        algo = self._waiting.get(algo_id)
        if algo is None:
            raise Refused(Refusal.UNKNOWN_ORDER, str(algo_id))
        return [self._set_algo(replace(algo, status=AlgoStatus.CANCELED), now_ms)]

    def fill_resting(self, order_id: int, qty: Decimal, now_ms: int) -> list[Event]:
        """Somebody trades with a resting LIMIT order: fill `qty` of it (at most what is left) at its price."""
        order = self._open.get(order_id)
        if order is None or qty <= 0:
            raise Refused(Refusal.UNKNOWN_ORDER, str(order_id))
        return self._fill(order, min(qty, order.remaining_qty), order.price, now_ms, maker=True)

    # -- the market --------------------------------------------------------------------------------------------------

    def move_mark(self, symbol: str, price: Decimal, now_ms: int) -> list[Event]:
        """Change a mark price: resting orders fill, conditional orders trigger, thin margin is called or liquidated."""
        rules = self._known(symbol)
        if price <= 0:
            raise Refused(Refusal.PRICE_NOT_POSITIVE)
        self.marks[symbol] = price
        events: list[Event] = []
        for order in self.open_orders(symbol):
            reached = price <= order.price if order.side is Side.BUY else price >= order.price
            # A fill may have expired a later order of this list.
            if reached and order.order_id in self._open:
                current = self._open[order.order_id]
                events += self._fill(
                    current, min(current.remaining_qty, rules.depth_qty), current.price, now_ms, maker=True
                )
        for algo in self.open_algos(symbol):
            if algo.algo_id in self._waiting:
                events += self._watch(self._waiting[algo.algo_id], price, now_ms)
        return [*events, *self._check_margin(now_ms)]

    def fund(self, symbol: str, now_ms: int, rate: Decimal = FUNDING_RATE) -> list[Event]:
        """Settle funding: with a positive `rate` longs pay, shorts receive. One event for each open row."""
        self._known(symbol)
        events: list[Event] = []
        isolated = self._settings[symbol].isolated
        asset = self.rules[symbol].margin_asset
        for side in PositionSide:
            row = self.position(symbol, side)
            amount = to_money(-row.amount * self.marks[symbol] * rate)
            if not amount:
                continue
            self._book_income("FUNDING_FEE", asset, amount, symbol, now_ms)
            self._credit(asset, amount, now_ms)
            positions: tuple[PositionRow, ...] = ()
            if isolated:
                self._positions[symbol, side] = replace(
                    row, isolated_wallet=row.isolated_wallet + amount, updated_at_ms=now_ms
                )
                positions = (self._position_row(symbol, side),)
            balances = (self._balance_row(asset, amount),)
            events.append(AccountChanged(now_ms, Reason.FUNDING_FEE, balances, positions, symbol))
        return [*events, *self._check_margin(now_ms)] if events else []

    def liquidate(self, symbol: str, side: PositionSide, now_ms: int) -> list[Event]:
        """The exchange closes a row at the mark price.

        The symbol's open orders expire first. The liquidation order is seen with its fill for the first time, and a
        deficit is cleared by the insurance fund.
        """
        row = self.position(symbol, side)
        if not row.amount:
            raise Refused(Refusal.REDUCE_ONLY)
        events: list[Event] = []
        for order in self.open_orders(symbol):
            events += self._close(order, Execution.EXPIRED, now_ms, ExpiryReason.LIQUIDATION)
        isolated_wallet = row.isolated_wallet
        request = OrderRequest(
            symbol=symbol,
            side=Side.SELL if row.amount > 0 else Side.BUY,
            type=OrderType.LIQUIDATION,
            qty=abs(row.amount),
            price=self.marks[symbol],
            time_in_force=TimeInForce.IOC,
            position_side=side,
            client_order_id=f"autoclose-{now_ms}{self._last_order_id + 1}",
        )
        order = self._book(request, now_ms)
        filled = self._fill(order, order.qty, order.price, now_ms, maker=False)
        events += filled
        asset = self.rules[symbol].margin_asset
        fill = next(event.order for event in filled if isinstance(event, Filled))
        deficit = -self.cross_wallet(asset)
        if self._settings[symbol].isolated:
            deficit = -(isolated_wallet + fill.realised - fill.commission)
        if deficit > 0 and not (self.multi_assets and not self._settings[symbol].isolated):
            self._book_income("INSURANCE_CLEAR", asset, deficit, symbol, now_ms)
            self._credit(asset, deficit, now_ms)
            events.append(AccountChanged(now_ms, Reason.INSURANCE_CLEAR, (self._balance_row(asset, deficit),)))
        return events

    # -- the account -------------------------------------------------------------------------------------------------

    def transfer(self, asset: str, amount: Decimal, now_ms: int) -> list[Event]:
        """Move `amount` of an asset in, or out when negative; at most what may be withdrawn."""
        amount = to_money(amount)
        if not amount:
            raise Refused(Refusal.QTY_NOT_POSITIVE)
        if amount < 0 and -amount > self.asset_margin(asset).max_withdraw:
            raise Refused(Refusal.BALANCE_INSUFFICIENT, asset)
        if amount < 0 and self.wallet(asset).balance + amount < 0:
            raise Refused(Refusal.BALANCE_INSUFFICIENT, asset)
        self._book_income("TRANSFER", asset, amount, "", now_ms)
        self._credit(asset, amount, now_ms)
        reason = Reason.DEPOSIT if amount > 0 else Reason.WITHDRAW
        return [AccountChanged(now_ms, reason, (self._balance_row(asset, amount),))]

    def set_leverage(self, symbol: str, leverage: int, now_ms: int) -> list[Event]:
        """Change a symbol's leverage; nothing is reported when it stays the same."""
        rules = self._known(symbol)
        old = self._settings[symbol]
        if not 1 <= leverage <= rules.max_leverage:
            raise Refused(Refusal.LEVERAGE_INVALID, str(leverage))
        if leverage == old.leverage:
            return []
        rows = [self._margin(symbol, side) for side in self.sides()]
        if sum((abs(row.notional) for row in rows), ZERO) > rules.max_notional(leverage):
            raise Refused(Refusal.LEVERAGE_NOTIONAL)
        if leverage < old.leverage:
            if old.isolated and any(row.row.amount for row in rows):
                raise Refused(Refusal.LEVERAGE_ISOLATED)
            more = sum((replace(row, leverage=leverage).initial - row.initial for row in rows), ZERO)
            if more > max(ZERO, self._free(rules.margin_asset)):
                raise Refused(Refusal.MARGIN_INSUFFICIENT)
        self._settings[symbol] = replace(old, leverage=leverage)
        return [LeverageChanged(now_ms, symbol, leverage)]

    def set_margin_type(self, symbol: str, now_ms: int, *, isolated: bool) -> list[Event]:
        """Change between cross and isolated margin; only without orders and position.

        Reported with the symbol's (flat) rows, if it has ever had one.
        """
        self._known(symbol)
        old = self._settings[symbol]
        if old.isolated is isolated:
            raise Refused(Refusal.MARGIN_TYPE_SAME)
        if self.multi_assets and isolated:
            raise Refused(Refusal.MARGIN_TYPE_MULTI_ASSETS)
        if self.open_orders(symbol) or self.open_algos(symbol):
            raise Refused(Refusal.MARGIN_TYPE_ORDERS)
        if any(row.symbol == symbol for row in self.positions()):
            raise Refused(Refusal.MARGIN_TYPE_POSITION)
        self._settings[symbol] = replace(old, isolated=isolated)
        touched = [side for side in self.sides() if (symbol, side) in self._positions]
        for side in touched:
            self._positions[symbol, side] = replace(self._positions[symbol, side], updated_at_ms=now_ms)
        if not touched:
            return []
        rows = tuple(self._position_row(symbol, side) for side in touched)
        return [AccountChanged(now_ms, Reason.MARGIN_TYPE_CHANGE, (), rows)]

    def add_isolated_margin(self, symbol: str, side: PositionSide, amount: Decimal, now_ms: int) -> list[Event]:
        """Move `amount` from the cross wallet to an isolated position, or back when negative."""
        rules = self._known(symbol)
        row = self.position(symbol, side)
        if not self._settings[symbol].isolated or not row.amount:
            raise Refused(Refusal.NOT_ISOLATED)
        if amount > max(ZERO, self._free(rules.margin_asset)):
            raise Refused(Refusal.MARGIN_INSUFFICIENT)
        margin = self._margin(symbol, side)
        if margin.isolated_margin + amount < margin.position_initial:
            raise Refused(Refusal.MARGIN_INSUFFICIENT)
        self._positions[symbol, side] = replace(
            row, isolated_wallet=row.isolated_wallet + to_money(amount), updated_at_ms=now_ms
        )
        self._credit(rules.margin_asset, ZERO, now_ms)
        rows = (self._position_row(symbol, side),)
        return [AccountChanged(now_ms, Reason.MARGIN_TRANSFER, (self._balance_row(rules.margin_asset, ZERO),), rows)]

    def set_hedge(self, *, enabled: bool) -> list[Event]:
        """Change the position mode. No event reports it, as in life; the list is always empty."""
        if self.hedge is enabled:
            raise Refused(Refusal.MODE_SAME)
        if self._open or self._waiting:
            raise Refused(Refusal.MODE_ORDERS)
        if self.positions():
            raise Refused(Refusal.MODE_POSITION)
        self.hedge = enabled
        return []

    def set_multi_assets(self, now_ms: int, *, enabled: bool) -> list[Event]:
        """Pool all assets as margin, or keep them apart."""
        if self.multi_assets is enabled:
            raise Refused(Refusal.MULTI_ASSETS_SAME)
        if enabled and any(settings.isolated for settings in self._settings.values()):
            raise Refused(Refusal.MULTI_ASSETS_ISOLATED)
        self.multi_assets = enabled
        if not enabled and any(self._free(asset) < 0 for asset in self._wallets):
            self.multi_assets = True
            raise Refused(Refusal.MARGIN_INSUFFICIENT)
        return [MultiAssetsChanged(now_ms, enabled)]

    # -- admission ---------------------------------------------------------------------------------------------------

    def _known(self, symbol: str) -> Rules:
        rules = self.rules.get(symbol)
        if rules is None:
            raise Refused(Refusal.UNKNOWN_SYMBOL, symbol)
        return rules

    def _admit(self, request: OrderRequest) -> None:
        rules = self._known(request.symbol)
        self._check_side(request.position_side)
        if self.hedge and request.reduce_only:
            raise Refused(Refusal.REDUCE_ONLY_IN_HEDGE)
        self._check_qty(rules, request.qty)
        if request.type is OrderType.LIMIT:
            self._check_price(rules, request.price)
        if not request.reduce_only and request.qty * self._guess(request) < rules.min_notional:
            raise Refused(Refusal.NOTIONAL_TOO_SMALL, str(rules.min_notional))
        if request.client_order_id and any(o.client_order_id == request.client_order_id for o in self._open.values()):
            raise Refused(Refusal.DUPLICATE_CLIENT_ID, request.client_order_id)
        self._check_fill_policy(request)
        self._check_room(request)

    def _check_side(self, side: PositionSide) -> None:
        if side not in self.sides():
            raise Refused(Refusal.POSITION_SIDE)

    def _check_qty(self, rules: Rules, qty: Decimal) -> None:
        if qty <= 0:
            raise Refused(Refusal.QTY_NOT_POSITIVE)
        if qty % rules.step_size:
            raise Refused(Refusal.QTY_PRECISION)
        if qty > rules.max_qty:
            raise Refused(Refusal.QTY_TOO_LARGE)

    def _check_price(self, rules: Rules, price: Decimal) -> None:
        mark = self.marks[rules.symbol]
        if price <= 0:
            raise Refused(Refusal.PRICE_NOT_POSITIVE)
        if price % rules.tick_size:
            raise Refused(Refusal.PRICE_PRECISION)
        if price > mark * (1 + PRICE_BAND):
            raise Refused(Refusal.PRICE_TOO_HIGH, str(to_money(mark * (1 + PRICE_BAND))))
        if price < mark * (1 - PRICE_BAND):
            raise Refused(Refusal.PRICE_TOO_LOW, str(to_money(mark * (1 - PRICE_BAND))))

    def _check_fill_policy(self, request: OrderRequest) -> None:
        """Decline FOK that cannot fill and GTX that would: neither leaves a trace in the order history."""
        rules = self.rules[request.symbol]
        if request.time_in_force is TimeInForce.GTX and self._level_within(request, 1):
            raise Refused(Refusal.GTX_WOULD_TAKE)
        if request.time_in_force is TimeInForce.FOK:
            levels = rules.levels(request.qty)
            if levels > MAX_LEVELS or not self._level_within(request, levels):
                raise Refused(Refusal.FOK_UNFILLABLE)

    def _check_close_position(self, request: AlgoRequest) -> None:
        row = self.position(request.symbol, request.position_side)
        if row.amount * request.side.sign >= 0:
            raise Refused(Refusal.REDUCE_ONLY)
        for algo in self._waiting.values():
            same_row = (algo.symbol, algo.position_side) == (request.symbol, request.position_side)
            if algo.close_position and same_row and (algo.side, algo.type) == (request.side, request.type):
                raise Refused(Refusal.CLOSE_POSITION_EXISTS)

    def _is_reducing(self, order: Order | OrderRequest) -> bool:
        """Whether an order may only reduce its row: flagged so, or on the closing side of a hedge row."""
        if self.hedge:
            return (order.position_side is PositionSide.LONG) == (order.side is Side.SELL)
        return order.reduce_only

    def _room_to_reduce(self, symbol: str, side: PositionSide, order_side: Side, without: int = 0) -> Decimal:
        """How much of a row is not yet spoken for by its reducing orders."""
        row = self.position(symbol, side)
        if row.amount * order_side.sign >= 0:
            return ZERO
        taken = (
            order.remaining_qty
            for order in self._open.values()
            if (order.symbol, order.position_side) == (symbol, side)
            and order.side is order_side
            and order.order_id != without
            and self._is_reducing(order)
        )
        return abs(row.amount) - sum(taken, ZERO)

    def _check_room(self, request: OrderRequest, instead_of: Order | None = None) -> None:
        """Decline what the position cannot absorb, or the free margin cannot carry."""
        if self._is_reducing(request):
            without = instead_of.order_id if instead_of else 0
            if request.qty > self._room_to_reduce(request.symbol, request.position_side, request.side, without):
                raise Refused(Refusal.REDUCE_ONLY)
            return
        asset = self.rules[request.symbol].margin_asset
        notional = request.qty * self._guess(request)
        if instead_of:
            notional -= instead_of.remaining_qty * instead_of.price
        before = self._margin(request.symbol, request.position_side)
        if request.side is Side.BUY:
            after = replace(before, bid_notional=before.bid_notional + notional)
        else:
            after = replace(before, ask_notional=before.ask_notional + notional)
        more = after.initial - before.initial
        fee = notional * TAKER_RATE
        if more > 0 and more + max(ZERO, fee) > max(ZERO, self._free(asset)):
            raise Refused(Refusal.MARGIN_INSUFFICIENT)

    def _guess(self, request: OrderRequest) -> Decimal:
        """The price that an order is margined at: its limit, or what sweeping the book would cost at worst."""
        if request.type is OrderType.LIMIT:
            return request.price
        rules = self.rules[request.symbol]
        return self._level(request.symbol, request.side, min(MAX_LEVELS, rules.levels(request.qty)))

    # -- matching ----------------------------------------------------------------------------------------------------

    def _level(self, symbol: str, side: Side, level: int) -> Decimal:
        """The price of the book's `level`, from 1, that an order of `side` meets; never below one tick."""
        tick = self.rules[symbol].tick_size
        return max(tick, self.marks[symbol] + side.sign * level * tick)

    def _level_within(self, order: OrderRequest | Order, level: int) -> bool:
        if order.type is not OrderType.LIMIT:
            return True
        price = self._level(order.symbol, order.side, level)
        return price <= order.price if order.side is Side.BUY else price >= order.price

    def _match(self, order_id: int, now_ms: int) -> list[Event]:
        """Trade an order against the book as far as it goes; what must not rest expires."""
        events: list[Event] = []
        order = self._open[order_id]
        depth = self.rules[order.symbol].depth_qty
        for level in range(1, MAX_LEVELS + 1):
            if not self._level_within(order, level):
                break
            price = self._level(order.symbol, order.side, level)
            events += self._fill(order, min(depth, order.remaining_qty), price, now_ms, maker=False)
            order = self._orders[order_id]
            if not order.is_open:
                return events
        if order.type is OrderType.MARKET:
            events += self._close(order, Execution.EXPIRED, now_ms, ExpiryReason.MARKET_REMAINDER)
        elif order.time_in_force is TimeInForce.IOC:
            events += self._close(order, Execution.EXPIRED, now_ms, ExpiryReason.IOC_REMAINDER)
        return events

    def _fill(self, order: Order, qty: Decimal, price: Decimal, now_ms: int, *, maker: bool) -> list[Event]:
        """Book one trade and all that follows from it."""
        rules = self.rules[order.symbol]
        settings = self._settings[order.symbol]
        liquidation = order.type is OrderType.LIQUIDATION
        rate = LIQUIDATION_RATE if liquidation else MAKER_RATE if maker else TAKER_RATE
        fee = to_money(qty * price * rate)
        fill = self.position(order.symbol, order.position_side).filled(
            qty * order.side.sign, price, fee, settings.leverage, now_ms, isolated=settings.isolated
        )
        self._positions[order.symbol, order.position_side] = fill.row
        self._last_trade_id += 1
        filled_qty = order.filled_qty + qty
        order = self._store(
            replace(
                order,
                filled_qty=filled_qty,
                filled_quote=order.filled_quote + qty * price,
                status=OrderStatus.FILLED if filled_qty == order.qty else OrderStatus.PARTIALLY_FILLED,
                updated_at_ms=now_ms,
            )
        )
        asset = rules.margin_asset
        if fill.realised:
            self._book_income("REALIZED_PNL", asset, fill.realised, order.symbol, now_ms, self._last_trade_id)
        self._book_income("COMMISSION", asset, -fee, order.symbol, now_ms, self._last_trade_id)
        self._credit(asset, fill.realised - fee, now_ms)
        self.trades.append(
            Trade(order, self._last_trade_id, price, qty, fee, asset, fill.realised, maker, now_ms),
        )
        account = AccountChanged(
            now_ms,
            Reason.ORDER,
            (self._balance_row(asset, ZERO),),
            (self._position_row(order.symbol, order.position_side),),
        )
        change = self._announce(
            order,
            Execution.CALCULATED if liquidation else Execution.TRADE,
            now_ms,
            last_qty=qty,
            last_price=price,
            trade_id=self._last_trade_id,
            commission=fee,
            commission_asset=asset,
            realised=fill.realised,
            is_maker=maker,
        )
        return [
            Filled(change, account),
            *self._after_close(order, now_ms),
            *self._after_position_change(order.symbol, order.position_side, now_ms),
        ]

    def _after_position_change(self, symbol: str, side: PositionSide, now_ms: int) -> list[Event]:
        """Expire what lost its position: reducing orders that no longer fit, newest first, and bound conditionals."""
        events: list[Event] = []
        for order_side in Side:
            while self._room_to_reduce(symbol, side, order_side) < 0 or not self._faces(symbol, side, order_side):
                reducing = [
                    order
                    for order in self._open.values()
                    if (order.symbol, order.position_side, order.side) == (symbol, side, order_side)
                    and self._is_reducing(order)
                ]
                if not reducing:
                    break
                events += self._close(reducing[-1], Execution.EXPIRED, now_ms, ExpiryReason.REDUCE_ONLY)
        if not self.position(symbol, side).amount:
            for algo in self.open_algos(symbol):
                if algo.position_side is side and algo.time_in_force is TimeInForce.GTE_GTC:
                    events.append(self._set_algo(replace(algo, status=AlgoStatus.EXPIRED), now_ms))
        return events

    def _faces(self, symbol: str, side: PositionSide, order_side: Side) -> bool:
        """Whether an order of `order_side` would reduce the row."""
        return self.position(symbol, side).amount * order_side.sign < 0

    def _close(self, order: Order, execution: Execution, now_ms: int, reason: int = ExpiryReason.NONE) -> list[Event]:
        """End an open order without a fill."""
        status = OrderStatus.CANCELED if execution is Execution.CANCELED else OrderStatus.EXPIRED
        order = self._store(replace(order, status=status, updated_at_ms=now_ms, expiry_reason=reason))
        return [self._announce(order, execution, now_ms), *self._after_close(order, now_ms)]

    def _after_close(self, order: Order, now_ms: int) -> list[Event]:
        """Tell the conditional order what became of its child, once the child is done."""
        if order.is_open or not order.algo_id:
            return []
        finished = replace(
            self._algos[order.algo_id],
            status=AlgoStatus.FINISHED,
            average_price=to_money(order.average_price),
            filled_qty=order.filled_qty,
        )
        return [self._set_algo(finished, now_ms)]

    # -- conditional orders ------------------------------------------------------------------------------------------

    def _watch(self, algo: AlgoOrder, mark: Decimal, now_ms: int) -> list[Event]:
        """Let a waiting conditional order see a mark price."""
        events: list[Event] = []
        if algo.type is OrderType.TRAILING_STOP_MARKET:
            if not algo.activated:
                if not algo.is_activated_by(mark):
                    return []
                algo = replace(algo, activated=True, extreme_price=mark)
                events.append(self._set_algo(algo, now_ms))
            better = max if algo.side is Side.SELL else min
            algo = replace(algo, extreme_price=better(algo.extreme_price, mark))
            self._algos[algo.algo_id] = self._waiting[algo.algo_id] = algo
        return [*events, *self._trigger(algo, now_ms)] if algo.is_hit_by(mark) else events

    def _trigger(self, algo: AlgoOrder, now_ms: int) -> list[Event]:
        """Forward a conditional order to the engine, which may refuse it."""
        algo = replace(algo, status=AlgoStatus.TRIGGERING, triggered_at_ms=now_ms)
        events: list[Event] = [self._set_algo(algo, now_ms)]
        row = self.position(algo.symbol, algo.position_side)
        if algo.close_position:
            # Closing everything displaces the orders that would have closed a part.
            for order in self.open_orders(algo.symbol):
                if order.position_side is algo.position_side and self._is_reducing(order):
                    events += self._close(order, Execution.EXPIRED, now_ms, ExpiryReason.REDUCE_ONLY)
        limited = algo.type in (OrderType.STOP, OrderType.TAKE_PROFIT)
        qty = abs(row.amount) if algo.close_position else algo.qty
        if algo.reduce_only and not algo.close_position:
            qty = min(qty, self._room_to_reduce(algo.symbol, algo.position_side, algo.side))
        request = OrderRequest(
            symbol=algo.symbol,
            side=algo.side,
            type=OrderType.LIMIT if limited else OrderType.MARKET,
            qty=qty,
            price=algo.price,
            time_in_force=TimeInForce.GTC if algo.time_in_force is TimeInForce.GTE_GTC else algo.time_in_force,
            position_side=algo.position_side,
            reduce_only=algo.reduce_only,
        )
        try:
            if qty <= 0:
                raise Refused(Refusal.REDUCE_ONLY)
            self._check_fill_policy(request)
            self._check_room(request)
        except Refused as refused:
            rejected = replace(algo, status=AlgoStatus.REJECTED, refusal=refused.refusal)
            return [*events, self._set_algo(rejected, now_ms)]
        child = self._book(request, now_ms, algo)
        events.append(self._announce(child, Execution.NEW, now_ms))
        algo = replace(algo, status=AlgoStatus.TRIGGERED, order_id=child.order_id, qty=qty)
        events.append(self._set_algo(algo, now_ms))
        return [*events, *self._match(child.order_id, now_ms)]

    # -- margin ------------------------------------------------------------------------------------------------------

    def _margin(self, symbol: str, side: PositionSide) -> PositionMargin:
        settings = self._settings[symbol]
        bids, asks = self._open_notional(symbol, side)
        return PositionMargin(
            self.position(symbol, side),
            self.marks[symbol],
            settings.leverage,
            settings.isolated,
            bids,
            asks,
            self.rules[symbol],
        )

    def _margins(self) -> list[PositionMargin]:
        """All rows that tie up margin: positions and the rows of open orders."""
        keys = {(row.symbol, row.side): None for row in self._positions.values() if row.amount}
        keys |= {(order.symbol, order.position_side): None for order in self._open.values()}
        return [self._margin(*key) for key in keys]

    def _open_notional(self, symbol: str, side: PositionSide | None = None) -> tuple[Decimal, Decimal]:
        """Open bids and asks of a symbol, or of one of its rows. Orders that only reduce tie up nothing."""
        bids = asks = ZERO
        for order in self._open.values():
            if order.symbol != symbol or (side is not None and order.position_side is not side):
                continue
            if side is not None and self._is_reducing(order):
                continue
            notional = order.remaining_qty * order.price
            if order.side is Side.BUY:
                bids += notional
            else:
                asks += notional
        return to_money(bids), to_money(asks)

    def _free(self, asset: str) -> Decimal:
        """What is free for new orders or withdrawal, in units of the asset; negative when overdrawn."""
        if self.multi_assets:
            pooled = sum((self._free_alone(one) * self._index(one) for one in self._wallets), ZERO)
            return to_money(pooled / self._index(asset))
        return self._free_alone(asset)

    def _free_alone(self, asset: str) -> Decimal:
        free = self.cross_wallet(asset)
        for margin in self._margins():
            if margin.rules.margin_asset == asset:
                free -= margin.open_order_initial if margin.isolated else margin.initial - margin.profit
        return free

    def _index(self, asset: str) -> Decimal:
        return INDEX_PRICES.get(asset, Decimal(1))

    def _check_margin(self, now_ms: int) -> list[Event]:
        """Call or liquidate every margin pool that a move of the market has made too thin."""
        margins = [margin for margin in self._margins() if margin.row.amount]
        if not margins:
            self._called.clear()
            return []
        events: list[Event] = []
        for margin in margins:
            if margin.isolated:
                name = f"{margin.row.symbol} {margin.row.side}"
                events += self._weigh(name, margin.isolated_margin, [margin], None, now_ms)
        pools = [list(self._wallets)] if self.multi_assets else [[asset] for asset in self._wallets]
        for assets in pools:
            cross = [one for one in margins if not one.isolated and one.rules.margin_asset in assets]
            wallet = sum((self.cross_wallet(asset) * self._index(asset) for asset in assets), ZERO)
            if len(assets) == 1:
                wallet = self.cross_wallet(assets[0])
            profit = sum((one.profit for one in cross), ZERO)
            events += self._weigh(" ".join(assets), wallet + profit, cross, wallet, now_ms)
        return events

    def _weigh(
        self, name: str, balance: Decimal, margins: list[PositionMargin], cross_wallet: Decimal | None, now_ms: int
    ) -> list[Event]:
        maintenance = sum((margin.maintenance for margin in margins), ZERO)
        if not margins or balance > maintenance * MARGIN_CALL_AT:
            self._called.discard(name)
            return []
        if balance <= maintenance:
            self._called.discard(name)
            events: list[Event] = []
            for margin in margins:
                events += self.liquidate(margin.row.symbol, margin.row.side, now_ms)
            return events
        if name in self._called:
            return []
        self._called.add(name)
        rows = tuple(
            MarginRow(margin.row, margin.isolated, margin.mark, margin.profit, margin.maintenance) for margin in margins
        )
        return [MarginCalled(now_ms, cross_wallet, rows)]

    # -- book-keeping ------------------------------------------------------------------------------------------------

    def _book(self, request: OrderRequest, now_ms: int, algo: AlgoOrder | None = None) -> Order:
        """Give a request its id and put it into the engine."""
        self._last_order_id += 1
        client_order_id = algo.client_algo_id if algo else request.client_order_id
        return self._store(
            Order(
                order_id=self._last_order_id,
                client_order_id=client_order_id or f"sim-{self._last_order_id}",
                symbol=request.symbol,
                side=request.side,
                position_side=request.position_side,
                type=request.type,
                original_type=algo.type if algo else request.type,
                time_in_force=request.time_in_force,
                qty=request.qty,
                price=request.price,
                # The closing side of a hedge row reduces by nature, and is reported so.
                reduce_only=request.reduce_only or (self.hedge and self._is_reducing(request)),
                created_at_ms=now_ms,
                updated_at_ms=now_ms,
                stop_price=algo.trigger_price if algo else ZERO,
                close_position=algo.close_position if algo else False,
                working_type=algo.working_type if algo else "CONTRACT_PRICE",
                algo_id=algo.algo_id if algo else 0,
            )
        )

    def _store(self, order: Order) -> Order:
        self._orders[order.order_id] = order
        if order.is_open:
            self._open[order.order_id] = order
        else:
            self._open.pop(order.order_id, None)
            _forget(self._orders, lambda one: not one.is_open)
        return order

    def _set_algo(self, algo: AlgoOrder, now_ms: int) -> AlgoChanged:
        algo = replace(algo, updated_at_ms=now_ms)
        self._algos[algo.algo_id] = algo
        if algo.is_waiting:
            self._waiting[algo.algo_id] = algo
        else:
            self._waiting.pop(algo.algo_id, None)
            _forget(self._algos, lambda one: not one.is_waiting and one.status is not AlgoStatus.TRIGGERED)
        return AlgoChanged(now_ms, algo)

    def _announce(
        self,
        order: Order,
        execution: Execution,
        now_ms: int,
        *,
        last_qty: Decimal = ZERO,
        last_price: Decimal = ZERO,
        trade_id: int = 0,
        commission: Decimal = ZERO,
        commission_asset: str = "",
        realised: Decimal = ZERO,
        is_maker: bool = False,
        modify_id: str = "",
    ) -> OrderChanged:
        """Enter an order event into the list that is the truth about order events."""
        bids, asks = self._open_notional(order.symbol)
        event = OrderChanged(
            index=self.order_events_seen,
            at_ms=now_ms,
            execution=execution,
            order=order,
            last_qty=last_qty,
            last_price=last_price,
            trade_id=trade_id,
            commission=commission,
            commission_asset=commission_asset,
            realised=realised,
            is_maker=is_maker,
            bid_notional=bids,
            ask_notional=asks,
            modify_id=modify_id,
        )
        self.order_events_seen += 1
        _append(self.order_events, event)
        return event

    def _credit(self, asset: str, amount: Decimal, now_ms: int) -> None:
        self._wallets[asset] = Wallet(asset, self.wallet(asset).balance + amount, now_ms)

    def _book_income(self, kind: str, asset: str, amount: Decimal, symbol: str, now_ms: int, trade_id: int = 0) -> None:
        self._last_transaction_id += 1
        _append(self.incomes, Income(kind, asset, amount, symbol, now_ms, self._last_transaction_id, trade_id))

    def _balance_row(self, asset: str, change: Decimal) -> BalanceRow:
        return BalanceRow(asset, self.wallet(asset).balance, self.cross_wallet(asset), change)

    def _position_row(self, symbol: str, side: PositionSide) -> PositionRow:
        row = self.position(symbol, side)
        rules = self.rules[symbol]
        return PositionRow(row, row.profit_at(self.marks[symbol]), self._settings[symbol].isolated, rules.margin_asset)


def _append(items: list[_T], item: _T) -> None:
    """Append, and drop the older half when the history limit is reached."""
    items.append(item)
    if len(items) > HISTORY:
        del items[: HISTORY // 2]


def _forget(items: dict[int, _T], is_done: Callable[[_T], bool]) -> None:
    """Drop the older half of what is done when the history limit is reached."""
    if len(items) <= HISTORY:
        return
    done = [key for key, item in items.items() if is_done(item)]
    for key in done[: HISTORY // 2]:
        del items[key]
