"""What the exchange closes by itself: margin calls and liquidations of thin margin pools, delisted symbols. Pure."""

from __future__ import annotations

from dataclasses import replace

from statecast.simulator import matching
from statecast.simulator.book import Book
from statecast.simulator.events import AccountChanged, Event, Filled, MarginCalled, MarginRow, Reason
from statecast.simulator.margin import MarginLevel, Pool, pools
from statecast.simulator.orders import (
    AlgoStatus,
    Execution,
    ExpiryReason,
    OrderRequest,
    OrderType,
    PositionSide,
    Refusal,
    Refused,
    Side,
    TimeInForce,
)


class MarginWatch:
    """Looks at every pool after a move of the market; remembers which have been called, to call each but once."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._called: set[str] = set()

    def check(self, now_ms: int) -> list[Event]:
        """Call or liquidate every pool that has become too thin."""
        if not self._book.positions():
            self._called.clear()
            return []
        events: list[Event] = []
        for pool in pools(self._book):
            level = pool.level
            if level is MarginLevel.CALL:
                events += self._call(pool, now_ms)
                continue
            self._called.discard(pool.name)
            if level is MarginLevel.LIQUIDATE:
                for margin in pool.positions:
                    events += liquidate(self._book, margin.row.symbol, margin.row.side, now_ms)
        return events

    def _call(self, pool: Pool, now_ms: int) -> list[Event]:
        if pool.name in self._called:
            return []
        self._called.add(pool.name)
        rows = tuple(
            MarginRow(margin.row, margin.isolated, margin.mark, margin.profit, margin.maintenance)
            for margin in pool.positions
        )
        return [MarginCalled(now_ms, pool.cross_wallet, rows)]


def liquidate(
    book: Book, symbol: str, side: PositionSide, now_ms: int, client_id_prefix: str = "autoclose-"
) -> list[Event]:
    """The exchange closes a row at the mark price.

    The symbol's open orders expire first. The liquidation order is seen with its fill for the first time, and a
    deficit is cleared by the insurance fund.
    """
    row = book.position(symbol, side)
    if not row.amount:
        raise Refused(Refusal.REDUCE_ONLY)
    events: list[Event] = []
    for order in book.open_orders(symbol):
        events += matching.close(book, order, Execution.EXPIRED, now_ms, ExpiryReason.LIQUIDATION)
    request = OrderRequest(
        symbol=symbol,
        side=Side.SELL if row.amount > 0 else Side.BUY,
        type=OrderType.LIQUIDATION,
        qty=abs(row.amount),
        price=book.marks[symbol],
        time_in_force=TimeInForce.IOC,
        position_side=side,
        client_order_id=f"{client_id_prefix}{now_ms}{book.next_order_id(symbol)}",
    )
    order = matching.add_order(book, request, now_ms)
    filled = matching.fill(book, order, order.qty, order.price, now_ms, maker=False)
    events += filled
    asset = book.rules[symbol].margin_asset
    isolated = book.settings(symbol).isolated
    deficit = -book.cross_wallet(asset)
    if isolated:
        fill = next(event.order for event in filled if isinstance(event, Filled))
        deficit = -(row.isolated_wallet + fill.realised - fill.commission)
    if deficit > 0 and (isolated or not book.multi_assets):
        book.history.add_income("INSURANCE_CLEAR", asset, deficit, symbol, now_ms)
        book.credit(asset, deficit, now_ms)
        events.append(AccountChanged(now_ms, Reason.INSURANCE_CLEAR, (book.balance_row(asset, deficit),)))
    return events


def delist(book: Book, symbol: str, now_ms: int, *, reported: bool) -> list[Event]:
    """The exchange gives a symbol up: its open orders expire, or are gone unless `reported`; its rows are settled."""
    book.listed(symbol)
    events: list[Event] = []
    if not reported:
        book.drop_orders(symbol)
    for order in book.open_orders(symbol):
        events += matching.close(book, order, Execution.EXPIRED, now_ms)
    for algo in book.open_algos(symbol):
        events.append(book.change_algo(replace(algo, status=AlgoStatus.EXPIRED), now_ms))
    for row in book.positions():
        if row.symbol == symbol:
            events += liquidate(book, symbol, row.side, now_ms, "settlement_autoclose-")
    book.delist(symbol)
    return events
