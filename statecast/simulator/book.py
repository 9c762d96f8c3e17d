"""The account's book: wallets, positions, orders, settings, mark prices and the history of all that happened. Pure.

The book holds and looks up; it decides nothing. What may be done, and what follows from it, is said by `matching`,
`conditional`, `liquidation` and `ledger`, which change the book through its methods alone.
"""

from __future__ import annotations

from collections import Counter
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

OrderKey = tuple[str, int]
"""An order's symbol and id: ids may be numbered for each symbol by itself."""

_K = TypeVar("_K")
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


class Numbers:
    """The last ids that were given. `per_symbol`: orders and trades are numbered for each symbol by itself, so that two
    symbols have the same ids."""

    FIRST_ORDER = 8886774001
    FIRST_TRADE = 5512345678

    def __init__(self, *, per_symbol: bool = False) -> None:
        self._per_symbol = per_symbol
        self._orders: Counter[str] = Counter()
        self._trades: Counter[str] = Counter()

    def copy(self) -> Numbers:
        twin = type(self)(per_symbol=self._per_symbol)
        twin._orders, twin._trades = self._orders.copy(), self._trades.copy()
        return twin

    def next_order(self, symbol: str) -> int:
        """The id that the symbol's next new order has to have."""
        return self.FIRST_ORDER + self._orders[symbol if self._per_symbol else ""]

    def count_order(self, order: Order) -> None:
        """Take note of an order, which may be new."""
        if order.order_id == self.next_order(order.symbol):
            self._orders[order.symbol if self._per_symbol else ""] += 1

    def new_trade(self, symbol: str) -> int:
        """An id that no trade of the symbol has had."""
        name = symbol if self._per_symbol else ""
        self._trades[name] += 1
        return self.FIRST_TRADE - 1 + self._trades[name]


Write = Callable[["Book"], object]
"""One change of a book, which can be done again to a copy of it."""


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
        self._last_transaction_id = 9689322392
        self._journal: list[Write] | None = None

    def copy(self) -> History:
        """As it is now, to be added to by itself."""
        twin = object.__new__(type(self))
        twin.__dict__.update(
            {name: value[:] if isinstance(value, list) else value for name, value in vars(self).items()}
        )
        twin.record(None)
        return twin

    def record(self, journal: list[Write] | None) -> None:
        """See `Book.record`."""
        self._journal = journal

    def add_order_event(self, event: OrderChanged) -> None:
        """Keep an order event, whose `index` has to be `order_events_seen`."""
        self._note(lambda book: book.history.add_order_event(event))
        self.order_events_seen += 1
        self._append(self.order_events, event)

    def add_trade(self, trade: Trade) -> None:
        self._note(lambda book: book.history.add_trade(trade))
        self._append(self.trades, trade)

    def add_income(self, kind: str, asset: str, amount: Decimal, symbol: str, at_ms: int, trade_id: int = 0) -> None:
        """Keep a booking under the next transaction id."""
        self._note(lambda book: book.history.add_income(kind, asset, amount, symbol, at_ms, trade_id))
        self._last_transaction_id += 1
        income = Income(kind, asset, amount, symbol, at_ms, self._last_transaction_id, trade_id)
        self._append(self.incomes, income)

    def _note(self, write: Write) -> None:
        if self._journal is not None:
            self._journal.append(write)

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
        ids_per_symbol: bool = False,
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
        self._orders: dict[OrderKey, Order] = {}
        self._open: dict[OrderKey, Order] = {}
        self._algos: dict[int, AlgoOrder] = {}
        self._waiting: dict[int, AlgoOrder] = {}
        self._numbers = Numbers(per_symbol=ids_per_symbol)
        self._last_algo_id = 2148718
        self._journal: list[Write] | None = None

    def copy(self) -> Book:
        """As it is now, to be changed by itself."""
        twin = object.__new__(type(self))
        twin.__dict__.update(
            {
                name: value.copy() if isinstance(value, dict | History | Numbers) else value
                for name, value in vars(self).items()
            }
        )
        twin.record(None)
        return twin

    def record(self, journal: list[Write] | None) -> None:
        """Note every change in `journal` from now on, so that a copy can follow; None: no more."""
        self._journal = journal
        self.history.record(journal)

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

    def open_order(self, symbol: str, order_id: int) -> Order | None:
        """The order if it is in the engine."""
        return self._open.get((symbol, order_id))

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
            order = self._orders.get((symbol, order_id))
        else:
            same = (one for one in reversed(self._orders.values()) if one.client_order_id == client_order_id)
            order = next((one for one in same if one.symbol == symbol), None)
        if order is None:
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

    def next_order_id(self, symbol: str) -> int:
        """The id that the symbol's next new order has to have."""
        return self._numbers.next_order(symbol)

    def new_trade_id(self, symbol: str) -> int:
        """An id that no trade of the symbol has had."""
        return self._numbers.new_trade(symbol)

    @property
    def next_algo_id(self) -> int:
        """The id that the next new conditional order has to have."""
        return self._last_algo_id + 1

    def is_reducing(self, order: Order | OrderRequest) -> bool:
        """Whether an order may only reduce its row: flagged so, or on the closing side of a hedge row."""
        if self.hedge:
            return (order.position_side is PositionSide.LONG) == (order.side is Side.SELL)
        return order.reduce_only

    def open_notional(self, symbol: str) -> tuple[Decimal, Decimal]:
        """Open bids and asks of a symbol."""
        return _bids_and_asks(order for order in self._open.values() if order.symbol == symbol)

    def open_notionals(self) -> dict[tuple[str, PositionSide], tuple[Decimal, Decimal]]:
        """Open bids and asks of every row that has an open order, without the orders that only reduce it."""
        rows: dict[tuple[str, PositionSide], list[Order]] = {}
        for order in self._open.values():
            enlarging = rows.setdefault((order.symbol, order.position_side), [])
            if not self.is_reducing(order):
                enlarging.append(order)
        return {key: _bids_and_asks(orders) for key, orders in rows.items()}

    # -- rows as events report them ----------------------------------------------------------------------------------

    def balance_row(self, asset: str, change: Decimal) -> BalanceRow:
        return BalanceRow(asset, self.wallet(asset).balance, self.cross_wallet(asset), change)

    def position_row(self, symbol: str, side: PositionSide) -> PositionRow:
        row = self.position(symbol, side)
        rules = self.rules[symbol]
        return PositionRow(row, row.profit_at(self.marks[symbol]), self._settings[symbol].isolated, rules.margin_asset)

    # -- book-keeping ------------------------------------------------------------------------------------------------

    def set_mark(self, symbol: str, price: Decimal) -> None:
        self._note(lambda book: book.set_mark(symbol, price))
        self.marks[symbol] = price

    def set_hedge(self, *, enabled: bool) -> None:
        self._note(lambda book: book.set_hedge(enabled=enabled))
        self.hedge = enabled

    def set_multi_assets(self, *, enabled: bool) -> None:
        self._note(lambda book: book.set_multi_assets(enabled=enabled))
        self.multi_assets = enabled

    def set_settings(self, symbol: str, settings: SymbolSettings) -> None:
        self._note(lambda book: book.set_settings(symbol, settings))
        self._settings[symbol] = settings

    def set_position(self, row: Position) -> None:
        self._note(lambda book: book.set_position(row))
        self._positions[row.symbol, row.side] = row

    def credit(self, asset: str, amount: Decimal, now_ms: int) -> None:
        """Add to a wallet; negative to take from it."""
        self._note(lambda book: book.credit(asset, amount, now_ms))
        self._wallets[asset] = Wallet(asset, self.wallet(asset).balance + amount, now_ms)

    def remove_wallet(self, asset: str) -> None:
        """The account lists the asset no more."""
        self._note(lambda book: book.remove_wallet(asset))
        self._wallets.pop(asset, None)

    def delist(self, symbol: str) -> None:
        """The exchange knows nothing of the symbol any more, which has no position and no open order."""
        self._note(lambda book: book.delist(symbol))
        for kept in (self.rules, self.marks, self._settings):
            kept.pop(symbol, None)
        self._positions = {key: row for key, row in self._positions.items() if row.symbol != symbol}

    def drop_orders(self, symbol: str) -> None:
        """What is open of a symbol is gone, and nothing reports it."""
        self._note(lambda book: book.drop_orders(symbol))
        for order in self.open_orders(symbol):
            del self._open[order.symbol, order.order_id], self._orders[order.symbol, order.order_id]
        for algo in self.open_algos(symbol):
            del self._waiting[algo.algo_id], self._algos[algo.algo_id]

    def store(self, order: Order) -> Order:
        """Keep an order's newest state; a new order has `next_order_id`."""
        self._note(lambda book: book.store(order))
        self._numbers.count_order(order)
        key = (order.symbol, order.order_id)
        self._orders[key] = order
        if order.is_open:
            self._open[key] = order
        else:
            self._open.pop(key, None)
            _forget(self._orders, lambda one: not one.is_open)
        return order

    def store_algo(self, algo: AlgoOrder) -> AlgoOrder:
        """Keep a conditional order's newest state; a new one has `next_algo_id`."""
        self._note(lambda book: book.store_algo(algo))
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

    def _note(self, write: Write) -> None:
        if self._journal is not None:
            self._journal.append(write)


def _bids_and_asks(orders: Iterable[Order]) -> tuple[Decimal, Decimal]:
    """What is left of orders, at their prices: the sums of both sides."""
    bids = asks = ZERO
    for order in orders:
        notional = order.remaining_qty * order.price
        if order.side is Side.BUY:
            bids += notional
        else:
            asks += notional
    return to_money(bids), to_money(asks)


def _forget(items: dict[_K, _T], is_done: Callable[[_T], bool]) -> None:
    """Drop the older half of what is done when the history limit is reached."""
    if len(items) <= HISTORY:
        return
    done = [key for key, item in items.items() if is_done(item)]
    for key in done[: HISTORY // 2]:
        del items[key]
