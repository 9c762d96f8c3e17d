"""One futures account and the market it trades on, as a pure ledger: what may be asked of it and done to it.

Every method that changes something takes the time as `now_ms` and returns what happened as events, in order; what it
declines it raises as `Refused`, with nothing changed. There is no clock, no I/O and no chance in here: a run is its
calls. The state is in `book`, the matching engine in `matching`, and so on; other programs know the ledger alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from statecast.simulator import conditional, liquidation, matching, settings
from statecast.simulator.book import Book, Income, SymbolSettings, Trade, Wallet, Write
from statecast.simulator.events import (
    AccountChanged,
    Event,
    OrderChanged,
    Reason,
)
from statecast.simulator.margin import AssetMargin, Statement
from statecast.simulator.orders import (
    AlgoOrder,
    AlgoRequest,
    Execution,
    Order,
    OrderRequest,
    OrderStatus,
    PositionSide,
    Refusal,
    Refused,
    Side,
)
from statecast.simulator.positions import Position, PositionMargin
from statecast.simulator.symbols import FUNDING_RATE, SYMBOLS, Rules, to_money


class Ledger:
    """The account's truth. `balances` are the wallets at the start, USDT always among them.

    `ids_per_symbol`: orders and trades are numbered for each symbol by itself, so that two symbols have the same ids.
    Where an order's id is asked for without its symbol, it has to be the id of one open order alone.
    """

    def __init__(
        self,
        balances: Mapping[str, Decimal],
        *,
        now_ms: int,
        hedge: bool = False,
        multi_assets: bool = False,
        ids_per_symbol: bool = False,
        symbols: Iterable[Rules] = SYMBOLS,
    ) -> None:
        self._book = Book(
            balances,
            symbols,
            now_ms=now_ms,
            hedge=hedge,
            multi_assets=multi_assets,
            ids_per_symbol=ids_per_symbol,
        )
        self._margin_watch = liquidation.MarginWatch(self._book)

    # -- copies ------------------------------------------------------------------------------------------------------

    def copy(self) -> Ledger:
        """The account as it is now, to go on by itself."""
        twin = object.__new__(type(self))
        twin._book = self._book.copy()
        twin._margin_watch = liquidation.MarginWatch(twin._book)
        return twin

    def record(self, journal: list[Write] | None) -> None:
        """Note every change in `journal` from now on, so that a copy can follow; None: no more."""
        self._book.record(journal)

    def repeat(self, write: Write) -> None:
        """Do to this copy what was done to the ledger."""
        write(self._book)

    # -- reading -----------------------------------------------------------------------------------------------------

    @property
    def rules(self) -> Mapping[str, Rules]:
        """By symbol, in the order in which the exchange lists them."""
        return self._book.rules

    @property
    def marks(self) -> Mapping[str, Decimal]:
        """Mark prices by symbol."""
        return self._book.marks

    @property
    def hedge(self) -> bool:
        """Hedge mode: a long and a short position per symbol."""
        return self._book.hedge

    @property
    def multi_assets(self) -> bool:
        """Whether all assets are margin for each other."""
        return self._book.multi_assets

    @property
    def order_events(self) -> list[OrderChanged]:
        """What happened to orders, oldest first; the last ones that are kept."""
        return self._book.history.order_events

    @property
    def order_events_seen(self) -> int:
        """How many order events there were."""
        return self._book.history.order_events_seen

    @property
    def trades(self) -> list[Trade]:
        return self._book.history.trades

    @property
    def incomes(self) -> list[Income]:
        return self._book.history.incomes

    def wallets(self) -> list[Wallet]:
        return self._book.wallets()

    def wallet(self, asset: str) -> Wallet:
        return self._book.wallet(asset)

    def cross_wallet(self, asset: str) -> Decimal:
        """The wallet without what isolated positions have drawn from it."""
        return self._book.cross_wallet(asset)

    def settings(self, symbol: str) -> SymbolSettings:
        return self._book.settings(symbol)

    def sides(self) -> tuple[PositionSide, ...]:
        """The rows that a symbol has in the present position mode."""
        return self._book.sides()

    def position(self, symbol: str, side: PositionSide) -> Position:
        """The row; flat, with update time zero, if it was never touched."""
        return self._book.position(symbol, side)

    def positions(self) -> list[Position]:
        """All rows that are not flat."""
        return self._book.positions()

    def statement(self) -> Statement:
        """All figures that depend on mark prices, as of now. Whoever reads many of them asks for it once."""
        return Statement(self._book)

    def position_margin(self, symbol: str, side: PositionSide) -> PositionMargin:
        """The row valued at the present mark price, with the open orders that belong to it."""
        return self.statement().row(symbol, side)

    def asset_margin(self, asset: str) -> AssetMargin:
        """The asset's balances, margins and what is free, in units of the asset."""
        return self.statement().asset(asset)

    def active_symbols(self) -> list[str]:
        """Symbols with a position or an open order, as listed by the exchange."""
        return self._book.active_symbols()

    def open_orders(self, symbol: str | None = None) -> list[Order]:
        """Orders in the engine, oldest first; conditional orders are not among them before they trigger."""
        return self._book.open_orders(symbol)

    def open_algos(self, symbol: str | None = None) -> list[AlgoOrder]:
        """Conditional orders that have not triggered, oldest first."""
        return self._book.open_algos(symbol)

    def orders(self) -> list[Order]:
        """Every order that is remembered, open or not, oldest first."""
        return self._book.orders()

    def algos(self) -> list[AlgoOrder]:
        """Every conditional order that is remembered, oldest first."""
        return self._book.algos()

    def order(self, symbol: str, order_id: int = 0, client_order_id: str = "") -> Order:
        """The order by either id; of several with one client id, the latest."""
        return self._book.order(symbol, order_id, client_order_id)

    def algo(self, algo_id: int = 0, client_algo_id: str = "") -> AlgoOrder:
        """The conditional order by either id; of several with one client id, the latest."""
        return self._book.algo(algo_id, client_algo_id)

    # -- orders ------------------------------------------------------------------------------------------------------

    def place(self, request: OrderRequest, now_ms: int) -> list[Event]:
        """Send an order to the engine. The first event is always the order's NEW."""
        return matching.place(self._book, request, now_ms)

    def check(self, request: OrderRequest) -> None:
        """Raise what `place` would raise, and do nothing."""
        matching.check_request(self._book, request)

    def cancel(self, order_id: int, now_ms: int, *, symbol: str = "") -> list[Event]:
        """Take an open order out of the engine."""
        return matching.close(self._book, self._open(symbol, order_id), Execution.CANCELED, now_ms)

    def expire_by_risk(self, order_id: int, now_ms: int, *, symbol: str = "") -> list[Event]:
        """End an open order with a status that no document has."""
        order, status = self._open(symbol, order_id), OrderStatus.EXPIRED_BY_RISK
        return matching.close(self._book, order, Execution.EXPIRED, now_ms, status=status)

    def amend(
        self, order_id: int, *, qty: Decimal, price: Decimal, now_ms: int, modify_id: str = "", symbol: str = ""
    ) -> list[Event]:
        """Give an open LIMIT order another quantity and price; it keeps its ids.

        A quantity that is filled already cancels the order. A price that crosses the book trades at once.
        """
        order = self._open(symbol, order_id)
        return matching.amend(self._book, order, qty=qty, price=price, now_ms=now_ms, modify_id=modify_id)

    def place_algo(self, request: AlgoRequest, now_ms: int) -> list[Event]:
        """Leave a conditional order with the exchange. No margin is looked at before it triggers."""
        return conditional.place(self._book, request, now_ms)

    def cancel_algo(self, algo_id: int, now_ms: int) -> list[Event]:
        """Withdraw a conditional order that has not triggered."""
        return conditional.cancel(self._book, algo_id, now_ms)

    def fill_resting(self, order_id: int, qty: Decimal, now_ms: int, *, symbol: str = "") -> list[Event]:
        """Somebody trades with a resting LIMIT order: fill `qty` of it (at most what is left) at its price."""
        order = self._open(symbol, order_id)
        if qty <= 0:
            raise Refused(Refusal.UNKNOWN_ORDER, str(order_id))
        return matching.fill(self._book, order, min(qty, order.remaining_qty), order.price, now_ms, maker=True)

    def _open(self, symbol: str, order_id: int) -> Order:
        found = [order for order in self._book.open_orders(symbol or None) if order.order_id == order_id]
        if len(found) != 1:
            raise Refused(Refusal.UNKNOWN_ORDER, str(order_id))
        return found[0]

    # -- the market --------------------------------------------------------------------------------------------------

    def move_mark(self, symbol: str, price: Decimal, now_ms: int) -> list[Event]:
        """Change a mark price: resting orders fill, conditional orders trigger, thin margin is called or liquidated."""
        book, depth = self._book, self._book.listed(symbol).depth_qty
        if price <= 0:
            raise Refused(Refusal.PRICE_NOT_POSITIVE)
        book.set_mark(symbol, price)
        events: list[Event] = []
        for order in book.open_orders(symbol):
            reached = price <= order.price if order.side is Side.BUY else price >= order.price
            # A fill may have expired a later order of this list.
            if reached and (current := book.open_order(symbol, order.order_id)):
                qty = min(current.remaining_qty, depth)
                events += matching.fill(book, current, qty, current.price, now_ms, maker=True)
        for algo in book.open_algos(symbol):
            if waiting := book.open_algo(algo.algo_id):
                events += conditional.watch(book, waiting, price, now_ms)
        return [*events, *self._margin_watch.check(now_ms)]

    def fund(self, symbol: str, now_ms: int, rate: Decimal = FUNDING_RATE) -> list[Event]:
        """Settle funding: with a positive `rate` longs pay, shorts receive. One event for each open row."""
        events = settings.fund(self._book, symbol, rate, now_ms)
        return [*events, *self._margin_watch.check(now_ms)] if events else []

    def liquidate(self, symbol: str, side: PositionSide, now_ms: int) -> list[Event]:
        """The exchange closes a row at the mark price; see `liquidation.liquidate`."""
        return liquidation.liquidate(self._book, symbol, side, now_ms)

    def delist(self, symbol: str, now_ms: int, *, reported: bool) -> list[Event]:
        """The exchange gives a symbol up: its orders go, its position is settled at the mark price.

        With `reported` the orders expire; else they are gone without an event, as if they had never been.
        """
        return liquidation.delist(self._book, symbol, now_ms, reported=reported)

    # -- the account -------------------------------------------------------------------------------------------------

    def accrue(self, asset: str, amount: Decimal, now_ms: int) -> list[Event]:
        """A wallet grows, and no event says so; the list is always empty."""
        self._book.credit(asset, to_money(amount), now_ms)
        return []

    def forget_asset(self, asset: str, now_ms: int) -> list[Event]:
        """Move all of an asset out; the account knows nothing of it any more."""
        balance = self._book.wallet(asset).balance
        events = self.transfer(asset, -balance, now_ms)
        self._book.remove_wallet(asset)
        return events

    def transfer(self, asset: str, amount: Decimal, now_ms: int) -> list[Event]:
        """Move `amount` of an asset in, or out when negative; at most what may be withdrawn."""
        book, amount = self._book, to_money(amount)
        if not amount:
            raise Refused(Refusal.QTY_NOT_POSITIVE)
        if amount < 0 and -amount > min(Statement(book).asset(asset).max_withdraw, book.wallet(asset).balance):
            raise Refused(Refusal.BALANCE_INSUFFICIENT, asset)
        book.history.add_income("TRANSFER", asset, amount, "", now_ms)
        book.credit(asset, amount, now_ms)
        reason = Reason.DEPOSIT if amount > 0 else Reason.WITHDRAW
        return [AccountChanged(now_ms, reason, (book.balance_row(asset, amount),))]

    def set_leverage(self, symbol: str, leverage: int, now_ms: int) -> list[Event]:
        """Change a symbol's leverage; nothing is reported when it stays the same."""
        return settings.set_leverage(self._book, symbol, leverage, now_ms)

    def set_margin_type(self, symbol: str, now_ms: int, *, isolated: bool) -> list[Event]:
        """Change between cross and isolated margin; only without orders and position."""
        return settings.set_margin_type(self._book, symbol, now_ms, isolated=isolated)

    def add_isolated_margin(self, symbol: str, side: PositionSide, amount: Decimal, now_ms: int) -> list[Event]:
        """Move `amount` from the cross wallet to an isolated position, or back when negative."""
        return settings.add_isolated_margin(self._book, symbol, side, amount, now_ms)

    def set_hedge(self, *, enabled: bool) -> list[Event]:
        """Change the position mode. No event reports it, as in life; the list is always empty."""
        return settings.set_hedge(self._book, enabled=enabled)

    def set_multi_assets(self, now_ms: int, *, enabled: bool) -> list[Event]:
        """Pool all assets as margin, or keep them apart."""
        return settings.set_multi_assets(self._book, now_ms, enabled=enabled)
