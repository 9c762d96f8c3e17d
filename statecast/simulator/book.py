"""The account's book: wallets, positions, orders, settings, mark prices and the history of all that happened. Pure.

The book holds and looks up; it decides nothing. What may be done, and what follows from it, is said by `matching`,
`conditional`, `liquidation` and `ledger`, which change the book through its methods alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeVar

from statecast.simulator.events import AlgoChanged, BalanceRow, OrderChanged, PositionRow
from statecast.simulator.orders import (
    ZERO,
    AlgoOrder,
    AlgoStatus,
    Order,
    OrderRequest,
    PositionSide,
    Refusal,
    Refused,
    Side,
)
from statecast.simulator.positions import Position
from statecast.simulator.symbols import Rules, to_money

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
    """What the account has set for one symbol; `isolated` is false for cross margin."""

    leverage: int = INITIAL_LEVERAGE
    isolated: bool = False


class History:
    """What happened, oldest first: order events, trades and incomes, the last `limit` of each at most.

    Attributes are to be read only.
    """

    def __init__(self, limit: int = HISTORY) -> None:
        self._limit = limit
        self.order_events: list[OrderChanged] = []
        self.order_events_seen = 0
        """How many order events there were, whether or not they are still kept."""
        self.trades: list[Trade] = []
        self.incomes: list[Income] = []
        self._last_trade_id = 5512345677
        self._last_transaction_id = 9689322392

    def new_trade_id(self) -> int:
        """An id that no trade has had."""
        self._last_trade_id += 1
        return self._last_trade_id

    def add_order_event(self, event: OrderChanged) -> None:
        """Keep an order event, whose `index` has to be `order_events_seen`."""
        self.order_events_seen += 1
        self._append(self.order_events, event)

    def add_trade(self, trade: Trade) -> None:
        self._append(self.trades, trade)

    def add_income(self, kind: str, asset: str, amount: Decimal, symbol: str, at_ms: int, trade_id: int = 0) -> None:
        """Keep a booking under the next transaction id."""
        self._last_transaction_id += 1
        income = Income(kind, asset, amount, symbol, at_ms, self._last_transaction_id, trade_id)
        self._append(self.incomes, income)

    def _append(self, items: list[_T], item: _T) -> None:
        """Append, and drop the older half when the limit is reached."""
        items.append(item)
        if len(items) > self._limit:
            del items[: self._limit // 2]


class Book:
    """One account at one moment. Public attributes are to be read only."""

    def __init__(
        self,
        balances: Mapping[str, Decimal],
        symbols: Iterable[Rules],
        *,
        now_ms: int,
        hedge: bool,
        multi_assets: bool,
    ) -> None:
        self.rules: dict[str, Rules] = {rules.symbol: rules for rules in symbols}
        self.marks: dict[str, Decimal] = {rules.symbol: rules.start_price for rules in self.rules.values()}
        self.hedge = hedge
        self.multi_assets = multi_assets
        self.history = History()
        assets = {"USDT": ZERO, **balances}
        self._wallets = {asset: Wallet(asset, to_money(amount), now_ms) for asset, amount in assets.items()}
        self._settings = dict.fromkeys(self.rules, SymbolSettings())
        self._positions: dict[tuple[str, PositionSide], Position] = {}
        self._orders: dict[int, Order] = {}
        self._open: dict[int, Order] = {}
        self._algos: dict[int, AlgoOrder] = {}
        self._waiting: dict[int, AlgoOrder] = {}
        self._last_order_id = 8886774000
        self._last_algo_id = 2148718

    # -- account and positions ---------------------------------------------------------------------------------------

    def wallets(self) -> list[Wallet]:
        return list(self._wallets.values())

    def wallet(self, asset: str) -> Wallet:
        """The wallet; empty, with update time zero, if the account never had the asset."""
        return self._wallets.get(asset, Wallet(asset, ZERO, 0))

    def cross_wallet(self, asset: str) -> Decimal:
        """The wallet without what isolated positions have drawn from it."""
        isolated = (
            row.isolated_wallet for row in self._positions.values() if self.rules[row.symbol].margin_asset == asset
        )
        return self.wallet(asset).balance - sum(isolated, ZERO)

    def listed(self, symbol: str) -> Rules:
        """The symbol's rules; raises `Refused` when the exchange does not list it."""
        rules = self.rules.get(symbol)
        if rules is None:
            raise Refused(Refusal.UNKNOWN_SYMBOL, symbol)
        return rules

    def settings(self, symbol: str) -> SymbolSettings:
        self.listed(symbol)
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

    def touched_rows(self, symbol: str) -> list[Position]:
        """The symbol's rows in the present position mode that have ever been changed, flat ones too."""
        return [self._positions[symbol, side] for side in self.sides() if (symbol, side) in self._positions]

    def active_symbols(self) -> list[str]:
        """Symbols with a position or an open order, as listed by the exchange."""
        active = {row.symbol for row in self.positions()} | {order.symbol for order in self._open.values()}
        return [symbol for symbol in self.rules if symbol in active]

    # -- orders ------------------------------------------------------------------------------------------------------

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        """Orders in the engine, oldest first; conditional orders are not among them before they trigger."""
        return [order for order in self._open.values() if symbol is None or order.symbol == symbol]

    def open_order(self, order_id: int) -> Order | None:
        """The order if it is in the engine."""
        return self._open.get(order_id)

    def open_algos(self, symbol: str | None = None) -> list[AlgoOrder]:
        """Conditional orders that have not triggered, oldest first."""
        return [algo for algo in self._waiting.values() if symbol is None or algo.symbol == symbol]

    def open_algo(self, algo_id: int) -> AlgoOrder | None:
        """The conditional order if it has not triggered."""
        return self._waiting.get(algo_id)

    def orders(self) -> list[Order]:
        """Every order that is remembered, open or not, oldest first."""
        return list(self._orders.values())

    def algos(self) -> list[AlgoOrder]:
        """Every conditional order that is remembered, oldest first."""
        return list(self._algos.values())

    def order(self, symbol: str, order_id: int = 0, client_order_id: str = "") -> Order:
        """The order by either id; of several with one client id, the latest. Raises `Refused` without one."""
        if order_id:
            order = self._orders.get(order_id)
        else:
            same = (one for one in reversed(self._orders.values()) if one.client_order_id == client_order_id)
            order = next((one for one in same if one.symbol == symbol), None)
        if order is None or order.symbol != symbol:
            raise Refused(Refusal.UNKNOWN_ORDER, str(order_id or client_order_id))
        return order

    def algo(self, algo_id: int = 0, client_algo_id: str = "") -> AlgoOrder:
        """The conditional order by either id; of several with one client id, the latest. Raises `Refused` without."""
        if algo_id:
            algo = self._algos.get(algo_id)
        else:
            same = (one for one in reversed(self._algos.values()) if one.client_algo_id == client_algo_id)
            algo = next(same, None)
        if algo is None:
            raise Refused(Refusal.UNKNOWN_ORDER, str(algo_id or client_algo_id))
        return algo

    @property
    def next_order_id(self) -> int:
        """The id that the next new order has to have."""
        return self._last_order_id + 1

    @property
    def next_algo_id(self) -> int:
        """The id that the next new conditional order has to have."""
        return self._last_algo_id + 1

    def is_reducing(self, order: Order | OrderRequest) -> bool:
        """Whether an order may only reduce its row: flagged so, or on the closing side of a hedge row."""
        if self.hedge:
            return (order.position_side is PositionSide.LONG) == (order.side is Side.SELL)
        return order.reduce_only

    def open_notional(self, symbol: str, side: PositionSide | None = None) -> tuple[Decimal, Decimal]:
        """Open bids and asks of a symbol, or of one of its rows; of a row, without the orders that only reduce it."""
        bids = asks = ZERO
        for order in self._open.values():
            if order.symbol != symbol or (side is not None and order.position_side is not side):
                continue
            if side is not None and self.is_reducing(order):
                continue
            notional = order.remaining_qty * order.price
            if order.side is Side.BUY:
                bids += notional
            else:
                asks += notional
        return to_money(bids), to_money(asks)

    # -- rows as events report them ----------------------------------------------------------------------------------

    def balance_row(self, asset: str, change: Decimal) -> BalanceRow:
        return BalanceRow(asset, self.wallet(asset).balance, self.cross_wallet(asset), change)

    def position_row(self, symbol: str, side: PositionSide) -> PositionRow:
        row = self.position(symbol, side)
        rules = self.rules[symbol]
        return PositionRow(row, row.profit_at(self.marks[symbol]), self._settings[symbol].isolated, rules.margin_asset)

    # -- book-keeping ------------------------------------------------------------------------------------------------

    def set_mark(self, symbol: str, price: Decimal) -> None:
        self.marks[symbol] = price

    def set_hedge(self, *, enabled: bool) -> None:
        self.hedge = enabled

    def set_multi_assets(self, *, enabled: bool) -> None:
        self.multi_assets = enabled

    def set_settings(self, symbol: str, settings: SymbolSettings) -> None:
        self._settings[symbol] = settings

    def set_position(self, row: Position) -> None:
        self._positions[row.symbol, row.side] = row

    def credit(self, asset: str, amount: Decimal, now_ms: int) -> None:
        """Add to a wallet; negative to take from it."""
        self._wallets[asset] = Wallet(asset, self.wallet(asset).balance + amount, now_ms)

    def store(self, order: Order) -> Order:
        """Keep an order's newest state; a new order has `next_order_id`."""
        self._last_order_id = max(self._last_order_id, order.order_id)
        self._orders[order.order_id] = order
        if order.is_open:
            self._open[order.order_id] = order
        else:
            self._open.pop(order.order_id, None)
            _forget(self._orders, lambda one: not one.is_open)
        return order

    def store_algo(self, algo: AlgoOrder) -> AlgoOrder:
        """Keep a conditional order's newest state; a new one has `next_algo_id`."""
        self._last_algo_id = max(self._last_algo_id, algo.algo_id)
        self._algos[algo.algo_id] = algo
        if algo.is_waiting:
            self._waiting[algo.algo_id] = algo
        else:
            self._waiting.pop(algo.algo_id, None)
            _forget(self._algos, lambda one: not one.is_waiting and one.status is not AlgoStatus.TRIGGERED)
        return algo

    def change_algo(self, algo: AlgoOrder, now_ms: int) -> AlgoChanged:
        """Keep a conditional order's newest state, and report it."""
        return AlgoChanged(now_ms, self.store_algo(replace(algo, updated_at_ms=now_ms)))


def _forget(items: dict[int, _T], is_done: Callable[[_T], bool]) -> None:
    """Drop the older half of what is done when the history limit is reached."""
    if len(items) <= HISTORY:
        return
    done = [key for key, item in items.items() if is_done(item)]
    for key in done[: HISTORY // 2]:
        del items[key]
