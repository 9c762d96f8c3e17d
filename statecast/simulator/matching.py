"""The matching engine: which orders it takes, what it fills them at, and how an order ends. Pure.

The market is a model. A symbol has a mark price; the book of the market holds `Rules.depth_qty` on every tick above and
below it, so that a large order is filled in several trades, and a resting order is filled, up to that depth at a time,
when the mark price reaches it. The sum of the orders that reduce a position never exceeds it: what no longer fits
expires.

Functions of the account's `Book`: those that change it return what happened as events, in order; what is declined they
raise as `Refused`, with nothing changed.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from statecast.simulator.book import Book, Trade
from statecast.simulator.events import AccountChanged, Event, Filled, OrderChanged, Reason
from statecast.simulator.margin import Statement
from statecast.simulator.orders import (
    ZERO,
    AlgoOrder,
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
from statecast.simulator.positions import Fill
from statecast.simulator.symbols import Rules, to_money

MAKER_RATE = Decimal("0.0002")
TAKER_RATE = Decimal("0.0005")
LIQUIDATION_RATE = Decimal("0.0125")
PRICE_BAND = Decimal("0.15")
"""How far from the mark price a limit may lie."""
MAX_LEVELS = 500
"""How many levels of the book one order may sweep; what is left of a market order then expires."""

# -- levels of the market's book -------------------------------------------------------------------------------------


def level_price(book: Book, symbol: str, side: Side, level: int) -> Decimal:
    """The price of the `level`, from 1, that an order of `side` meets; never below one tick."""
    tick = book.rules[symbol].tick_size
    return max(tick, book.marks[symbol] + side.sign * level * tick)


def reaches(book: Book, order: OrderRequest | Order, level: int) -> bool:
    """Whether an order's limit lets it trade at the `level`."""
    if order.type is not OrderType.LIMIT:
        return True
    price = level_price(book, order.symbol, order.side, level)
    return price <= order.price if order.side is Side.BUY else price >= order.price


def worst_price(book: Book, request: OrderRequest) -> Decimal:
    """The price that an order is margined at: its limit, or what sweeping the book would cost at worst."""
    if request.type is OrderType.LIMIT:
        return request.price
    levels = book.rules[request.symbol].levels(request.qty)
    return level_price(book, request.symbol, request.side, min(MAX_LEVELS, levels))


# -- what may be placed ----------------------------------------------------------------------------------------------


def check_request(book: Book, request: OrderRequest) -> None:
    """Decline an order that the engine does not take."""
    rules = book.listed(request.symbol)
    check_side(book, request.position_side, reduce_only=request.reduce_only)
    check_qty(rules, request.qty)
    if request.type is OrderType.LIMIT:
        check_price(rules, request.price, book.marks[request.symbol])
    if not request.reduce_only and request.qty * worst_price(book, request) < rules.min_notional:
        raise Refused(Refusal.NOTIONAL_TOO_SMALL, str(rules.min_notional))
    ids = (order.client_order_id for order in book.open_orders())
    if request.client_order_id and request.client_order_id in ids:
        raise Refused(Refusal.DUPLICATE_CLIENT_ID, request.client_order_id)
    check_fill_policy(book, request)
    check_room(book, request)


def check_side(book: Book, side: PositionSide, *, reduce_only: bool) -> None:
    """Decline a position side that the position mode does not have, and the reduce-only flag in hedge mode."""
    if side not in book.sides():
        raise Refused(Refusal.POSITION_SIDE)
    if book.hedge and reduce_only:
        raise Refused(Refusal.REDUCE_ONLY_IN_HEDGE)


def check_qty(rules: Rules, qty: Decimal) -> None:
    if qty <= 0:
        raise Refused(Refusal.QTY_NOT_POSITIVE)
    if qty % rules.step_size:
        raise Refused(Refusal.QTY_PRECISION)
    if qty > rules.max_qty:
        raise Refused(Refusal.QTY_TOO_LARGE)


def check_price(rules: Rules, price: Decimal, mark: Decimal) -> None:
    """Decline a limit off the tick grid, or too far from the mark price."""
    if price <= 0:
        raise Refused(Refusal.PRICE_NOT_POSITIVE)
    if price % rules.tick_size:
        raise Refused(Refusal.PRICE_PRECISION)
    if price > mark * (1 + PRICE_BAND):
        raise Refused(Refusal.PRICE_TOO_HIGH, str(to_money(mark * (1 + PRICE_BAND))))
    if price < mark * (1 - PRICE_BAND):
        raise Refused(Refusal.PRICE_TOO_LOW, str(to_money(mark * (1 - PRICE_BAND))))


def check_fill_policy(book: Book, request: OrderRequest) -> None:
    """Decline FOK that cannot fill and GTX that would: neither leaves a trace in the order history."""
    if request.time_in_force is TimeInForce.GTX and reaches(book, request, 1):
        raise Refused(Refusal.GTX_WOULD_TAKE)
    if request.time_in_force is TimeInForce.FOK:
        levels = book.rules[request.symbol].levels(request.qty)
        if levels > MAX_LEVELS or not reaches(book, request, levels):
            raise Refused(Refusal.FOK_UNFILLABLE)


def check_room(book: Book, request: OrderRequest, instead_of: Order | None = None) -> None:
    """Decline what the position cannot absorb, or the free margin cannot carry."""
    if book.is_reducing(request):
        without = instead_of.order_id if instead_of else 0
        if request.qty > room_to_reduce(book, request.symbol, request.position_side, request.side, without):
            raise Refused(Refusal.REDUCE_ONLY)
        return
    notional = request.qty * worst_price(book, request)
    if instead_of:
        notional -= instead_of.remaining_qty * instead_of.price
    statement = Statement(book)
    before = statement.row(request.symbol, request.position_side)
    if request.side is Side.BUY:
        after = replace(before, bid_notional=before.bid_notional + notional)
    else:
        after = replace(before, ask_notional=before.ask_notional + notional)
    more = after.initial - before.initial
    fee = notional * TAKER_RATE
    if more > 0 and more + max(ZERO, fee) > max(ZERO, statement.free(book.rules[request.symbol].margin_asset)):
        raise Refused(Refusal.MARGIN_INSUFFICIENT)


def room_to_reduce(book: Book, symbol: str, side: PositionSide, order_side: Side, without: int = 0) -> Decimal:
    """How much of a row no reducing order of `order_side` claims yet; the order with the id `without` is not counted.

    Zero when such an order would not reduce the row, negative when the orders claim more than there is.
    """
    row = book.position(symbol, side)
    if row.amount * order_side.sign >= 0:
        return ZERO
    claimed = (order.remaining_qty for order in _reducing(book, symbol, side, order_side) if order.order_id != without)
    return abs(row.amount) - sum(claimed, ZERO)


def _reducing(book: Book, symbol: str, side: PositionSide, order_side: Side) -> list[Order]:
    """The open orders of one side that may only reduce a row, oldest first."""
    return [
        order
        for order in book.open_orders(symbol)
        if order.position_side is side and order.side is order_side and book.is_reducing(order)
    ]


# -- an order's life -------------------------------------------------------------------------------------------------


def place(book: Book, request: OrderRequest, now_ms: int) -> list[Event]:
    """Take an order that `check_request` lets pass, and trade it. The first event is always the order's NEW."""
    check_request(book, request)
    order = add_order(book, request, now_ms)
    return [report(book, order, Execution.NEW, now_ms), *match(book, order, now_ms)]


def amend(book: Book, order: Order, *, qty: Decimal, price: Decimal, now_ms: int, modify_id: str = "") -> list[Event]:
    """Give an open LIMIT order another quantity and price; it keeps its ids.

    A quantity that is filled already cancels the order. A price that crosses the book trades at once.
    """
    if order.type is not OrderType.LIMIT or order.algo_id:
        raise Refused(Refusal.NOT_AMENDABLE)
    if (order.qty, order.price) == (qty, price):
        raise Refused(Refusal.NOTHING_TO_AMEND)
    rules = book.rules[order.symbol]
    check_qty(rules, qty)
    check_price(rules, price, book.marks[order.symbol])
    if qty <= order.filled_qty:
        return close(book, order, Execution.CANCELED, now_ms)
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
    check_fill_policy(book, request)
    check_room(book, request, instead_of=order)
    order = book.store(replace(order, qty=qty, price=price, updated_at_ms=now_ms))
    event = report(book, order, Execution.AMENDMENT, now_ms, modify_id=modify_id)
    return [event, *match(book, order, now_ms)]


def match(book: Book, order: Order, now_ms: int) -> list[Event]:
    """Trade an open order against the market's book as far as it goes; what must not rest expires."""
    events: list[Event] = []
    depth = book.rules[order.symbol].depth_qty
    for level in range(1, MAX_LEVELS + 1):
        if not reaches(book, order, level):
            break
        price = level_price(book, order.symbol, order.side, level)
        events += fill(book, order, min(depth, order.remaining_qty), price, now_ms, maker=False)
        order = book.order(order.symbol, order.order_id)
        if not order.is_open:
            return events
    if order.type is OrderType.MARKET:
        events += close(book, order, Execution.EXPIRED, now_ms, ExpiryReason.MARKET_REMAINDER)
    elif order.time_in_force is TimeInForce.IOC:
        events += close(book, order, Execution.EXPIRED, now_ms, ExpiryReason.IOC_REMAINDER)
    return events


def fill(book: Book, order: Order, qty: Decimal, price: Decimal, now_ms: int, *, maker: bool) -> list[Event]:
    """Book one trade and all that follows from it."""
    settings = book.settings(order.symbol)
    fee = to_money(qty * price * _fee_rate(order, maker=maker))
    traded = book.position(order.symbol, order.position_side).filled(
        qty * order.side.sign, price, fee, settings.leverage, now_ms, isolated=settings.isolated
    )
    book.set_position(traded.row)
    filled_qty = order.filled_qty + qty
    order = book.store(
        replace(
            order,
            filled_qty=filled_qty,
            filled_quote=order.filled_quote + qty * price,
            status=OrderStatus.FILLED if filled_qty == order.qty else OrderStatus.PARTIALLY_FILLED,
            updated_at_ms=now_ms,
        )
    )
    trade = _add_trade(book, order, traded, qty=qty, price=price, fee=fee, maker=maker, now_ms=now_ms)
    account = AccountChanged(
        now_ms,
        Reason.ORDER,
        (book.balance_row(trade.commission_asset, ZERO),),
        (book.position_row(order.symbol, order.position_side),),
    )
    execution = Execution.CALCULATED if order.type is OrderType.LIQUIDATION else Execution.TRADE
    return [
        Filled(report(book, order, execution, now_ms, trade=trade), account),
        *_finish_algo(book, order, now_ms),
        *_expire_unbacked(book, order.symbol, order.position_side, now_ms),
    ]


def close(
    book: Book,
    order: Order,
    execution: Execution,
    now_ms: int,
    reason: int = ExpiryReason.NONE,
    status: OrderStatus | None = None,
) -> list[Event]:
    """End an open order without a fill, with the status that belongs to it where none is given."""
    if status is None:
        status = OrderStatus.CANCELED if execution is Execution.CANCELED else OrderStatus.EXPIRED
    order = book.store(replace(order, status=status, updated_at_ms=now_ms, expiry_reason=reason))
    return [report(book, order, execution, now_ms), *_finish_algo(book, order, now_ms)]


def add_order(book: Book, request: OrderRequest, now_ms: int, algo: AlgoOrder | None = None) -> Order:
    """Give a request its id and put it into the engine; `algo` is the conditional order that sends it."""
    order_id = book.next_order_id(request.symbol)
    client_order_id = algo.client_algo_id if algo else request.client_order_id
    return book.store(
        Order(
            order_id=order_id,
            client_order_id=client_order_id or f"sim-{order_id}",
            symbol=request.symbol,
            side=request.side,
            position_side=request.position_side,
            type=request.type,
            original_type=algo.type if algo else request.type,
            time_in_force=request.time_in_force,
            qty=request.qty,
            price=request.price,
            # The closing side of a hedge row reduces by nature, and is reported so.
            reduce_only=request.reduce_only or (book.hedge and book.is_reducing(request)),
            created_at_ms=now_ms,
            updated_at_ms=now_ms,
            stop_price=algo.trigger_price if algo else ZERO,
            close_position=algo.close_position if algo else False,
            working_type=algo.working_type if algo else "CONTRACT_PRICE",
            algo_id=algo.algo_id if algo else 0,
        )
    )


def report(
    book: Book, order: Order, execution: Execution, now_ms: int, *, trade: Trade | None = None, modify_id: str = ""
) -> OrderChanged:
    """Enter an order event into the history, which is the truth about order events."""
    bids, asks = book.open_notional(order.symbol)
    event = OrderChanged(
        index=book.history.order_events_seen,
        at_ms=now_ms,
        execution=execution,
        order=order,
        last_qty=trade.qty if trade else ZERO,
        last_price=trade.price if trade else ZERO,
        trade_id=trade.trade_id if trade else 0,
        commission=trade.commission if trade else ZERO,
        commission_asset=trade.commission_asset if trade else "",
        realised=trade.realised if trade else ZERO,
        is_maker=trade.is_maker if trade else False,
        bid_notional=bids,
        ask_notional=asks,
        modify_id=modify_id,
    )
    book.history.add_order_event(event)
    return event


def _fee_rate(order: Order, *, maker: bool) -> Decimal:
    if order.type is OrderType.LIQUIDATION:
        return LIQUIDATION_RATE
    return MAKER_RATE if maker else TAKER_RATE


def _add_trade(
    book: Book, order: Order, traded: Fill, *, qty: Decimal, price: Decimal, fee: Decimal, maker: bool, now_ms: int
) -> Trade:
    """Enter a fill into the trades and incomes, and pay it from the wallet."""
    asset, history = book.rules[order.symbol].margin_asset, book.history
    trade = Trade(order, book.new_trade_id(order.symbol), price, qty, fee, asset, traded.realised, maker, now_ms)
    if traded.realised:
        history.add_income("REALIZED_PNL", asset, traded.realised, order.symbol, now_ms, trade.trade_id)
    history.add_income("COMMISSION", asset, -fee, order.symbol, now_ms, trade.trade_id)
    book.credit(asset, traded.realised - fee, now_ms)
    history.add_trade(trade)
    return trade


def _finish_algo(book: Book, order: Order, now_ms: int) -> list[Event]:
    """Give the conditional order its result, once the order that it sent has ended."""
    if order.is_open or not order.algo_id:
        return []
    finished = replace(
        book.algo(order.algo_id),
        status=AlgoStatus.FINISHED,
        average_price=to_money(order.average_price),
        filled_qty=order.filled_qty,
    )
    return [book.change_algo(finished, now_ms)]


def _expire_unbacked(book: Book, symbol: str, side: PositionSide, now_ms: int) -> list[Event]:
    """Expire what lost its position: reducing orders that no longer fit, newest first, and bound conditional orders."""
    events: list[Event] = []
    for order_side in Side:
        while reducing := _reducing(book, symbol, side, order_side):
            faces = book.position(symbol, side).amount * order_side.sign < 0
            if faces and room_to_reduce(book, symbol, side, order_side) >= 0:
                break
            events += close(book, reducing[-1], Execution.EXPIRED, now_ms, ExpiryReason.REDUCE_ONLY)
    if not book.position(symbol, side).amount:
        for algo in book.open_algos(symbol):
            if algo.position_side is side and algo.time_in_force is TimeInForce.GTE_GTC:
                events.append(book.change_algo(replace(algo, status=AlgoStatus.EXPIRED), now_ms))
    return events
