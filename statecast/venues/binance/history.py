"""Order and trade histories by REST → past orders and trades. Pure; a malformed body raises FrameError.

An order's row that is not understood is an order of status `LOST`, as long as it says which one it is, and since when;
a trade's row is left out, and named by its order. An amendment's row is left out: the others show that it is missing.

Pages "All Orders", "Account Trade List", "Query All Algo Orders", as of 2026-05-28 to 2026-09; read in November 2026.
Trimmed rows stand with each function.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from statecast.domain import gaps
from statecast.domain.history import PastAmendment, PastOrder, PastTrade
from statecast.domain.models import OrderKey
from statecast.errors import FrameError
from statecast.venues.binance import wire
from statecast.venues.binance.fields import (
    Json,
    if_readable,
    maybe_flag,
    maybe_number,
    name,
    number,
    obj,
    rows,
    text,
    time_ms,
    time_or_zero,
    whole,
)
from statecast.venues.binance.snapshot import algo_order_key, algo_order_row, order_key, order_row


def orders(body: object) -> tuple[PastOrder, ...]:
    """`GET /fapi/v1/allOrders`: rows as those of openOrders, with the time of creation in `time`."""
    event = str(wire.ALL_ORDERS)
    return tuple(_order(row, event) for row in rows(body, event, "body"))


def order(body: object) -> PastOrder:
    """`GET /fapi/v1/order`: one such row."""
    event = str(wire.ORDER)
    return _order(obj(body, event, "body"), event)


def _order(row: Json, event: str) -> PastOrder:
    """The venue's own orders begin with their fill, and a liquidation's fill has a word of its own in the stream."""
    created_ms = time_ms(row, "time", event)
    try:
        past = order_row(row, event, [])
    except FrameError:
        return _not_understood(row, order_key(row, event), created_ms)
    return PastOrder(
        past,
        created_ms,
        has_opening_event=not past.client_order_id.startswith(wire.SYSTEM_ORDERS),
        fill_event="CALCULATED" if past.type == "LIQUIDATION" else "TRADE",
    )


def algo_orders(body: object) -> tuple[PastOrder, ...]:
    """`GET /fapi/v1/allAlgoOrders`: rows as those of openAlgoOrders, with the time of creation in `createTime`."""
    event = str(wire.ALL_ALGO_ORDERS)
    return tuple(_algo_order(row, event) for row in rows(body, event, "body"))


def algo_order(body: object) -> PastOrder:
    """`GET /fapi/v1/algoOrder`: one such row."""
    event = str(wire.ALGO_ORDER)
    return _algo_order(obj(body, event, "body"), event)


def _algo_order(row: Json, event: str) -> PastOrder:
    created_ms = time_ms(row, "createTime", event)
    try:
        return PastOrder(algo_order_row(row, event, []), created_ms)
    except FrameError:
        key = algo_order_key(row, event)
        return _not_understood(row, key, created_ms)


def _not_understood(row: Json, key: OrderKey, created_ms: int) -> PastOrder:
    """An order whose row says no more than which one it is."""
    order = gaps.unknown_order(key, max(time_or_zero(row, "updateTime"), created_ms))
    return PastOrder(order, created_ms)


class Trades(NamedTuple):
    """What an answer lists: fills, and the orders of those whose rows are not understood; `listed` of both together."""

    rows: tuple[PastTrade, ...]
    unreadable: tuple[OrderKey, ...]

    @property
    def listed(self) -> int:
        return len(self.rows) + len(self.unreadable)


def trades(body: object) -> Trades:
    """`GET /fapi/v1/userTrades`.

    [{"symbol":"BTCUSDT","id":5512345678,"orderId":8886774001,"side":"BUY","price":"91250.4","qty":"0.025","realizedPnl":"0",
      "commission":"0.45625200","commissionAsset":"USDT","maker":true,"positionSide":"BOTH","time":1793000001046,…}]

    `id` is the trade id of the stream (`t`). Both orders of a trade with oneself have one, so it identifies a fill
    within its order; it grows with time.
    """
    event = str(wire.USER_TRADES)
    found: list[PastTrade] = []
    unreadable: list[OrderKey] = []
    for row in rows(body, event, "body"):
        key = order_key(row, event)
        try:
            found.append(_trade(row, event))
        except FrameError:
            unreadable.append(key)
    return Trades(tuple(found), tuple(unreadable))


def _trade(row: Json, event: str) -> PastTrade:
    number_of_trade = whole(row, "id", event)
    return PastTrade(
        symbol=name(row, "symbol", event),
        order_id=str(whole(row, "orderId", event)),
        trade_id=str(number_of_trade),
        fill_id=str(number_of_trade or ""),  # as on the stream
        time_ms=time_ms(row, "time", event),
        sequence=number_of_trade,
        qty=number(row, "qty", event),
        price=number(row, "price", event),
        commission=if_readable(maybe_number, row, "commission", event),
        commission_asset=if_readable(name, row, "commissionAsset", event),
        realized_profit=if_readable(maybe_number, row, "realizedPnl", event),
        maker=if_readable(maybe_flag, row, "maker", event),
        side=if_readable(name, row, "side", event) or "",
        position_side=if_readable(name, row, "positionSide", event) or "",
    )


class AmendmentRow(NamedTuple):
    """One amendment: the venue's number of it, and which one of its order it was (1 is the first)."""

    number: int
    nth: int
    amendment: PastAmendment


class Amendments(NamedTuple):
    """What an answer lists: amendments, and how many there are together with those that are not understood."""

    rows: tuple[AmendmentRow, ...]
    listed: int


def amendments(body: object) -> Amendments:
    """`GET /fapi/v1/orderAmendment`, "Get Order Modify History": of one order, newest first.

    [{"amendmentId":5363,"symbol":"BTCUSDT","orderId":20072994037,"clientOrderId":"…","time":1629184560899,
      "amendment":{"price":{"before":"30004","after":"30003.2"},"origQty":{"before":"1","after":"1"},"count":3}}]
    """
    event = str(wire.ORDER_AMENDMENT)
    listed = rows(body, event, "body")
    found: list[AmendmentRow] = []
    for row in listed:
        with suppress(FrameError):
            found.append(_amendment(row, event))
    return Amendments(tuple(found), len(listed))


def _amendment(row: Json, event: str) -> AmendmentRow:
    changed = obj(row.get("amendment"), event, "amendment")
    price, quantity = obj(changed.get("price"), event, "price"), obj(changed.get("origQty"), event, "origQty")
    return AmendmentRow(
        whole(row, "amendmentId", event),
        whole(changed, "count", event),
        PastAmendment(
            time_ms=time_ms(row, "time", event),
            price_before=number(price, "before", event),
            quantity_before=number(quantity, "before", event),
            price=number(price, "after", event),
            quantity=number(quantity, "after", event),
        ),
    )


class IncomeRow(NamedTuple):
    """One booking: its symbol, and when."""

    symbol: str
    time_ms: int


def incomes(body: object) -> tuple[IncomeRow, ...]:
    """`GET /fapi/v1/income`: oldest first.

    [{"symbol":"BTCUSDT","incomeType":"COMMISSION","income":"-0.45625200","asset":"USDT","time":1793000001046,…}]
    """
    event = str(wire.INCOME)
    return tuple(
        IncomeRow(text(row, "symbol", event), time_ms(row, "time", event)) for row in rows(body, event, "body")
    )
