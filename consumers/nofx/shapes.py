"""Our values → the dictionaries that the NOFX bot's users know: Binance's names, floats, an integer leverage. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from consumers.models import EventFields, OrderFields, Position, Totals
from consumers.tables import values


def account(totals: Totals) -> dict[str, float]:
    """{"totalWalletBalance": 10000.0, "availableBalance": 8000.0, "totalUnrealizedProfit": 100.0}

    What the venue has not said is nan, since 0.0 would pass for an empty account.
    """
    return {
        "totalWalletBalance": _or_nan(totals.total_wallet_balance),
        "availableBalance": _or_nan(totals.available_balance),
        "totalUnrealizedProfit": _or_nan(totals.total_unrealized_profit),
    }


def positions(rows: Iterable[Position]) -> list[dict[str, Any]]:
    """All of them, by symbol, the long leg of a hedge before the short one."""
    return sorted(map(position, rows), key=lambda shape: (shape["symbol"], shape["side"]))


def position(row: Position) -> dict[str, Any]:
    """{"symbol": "BTCUSDT", "positionAmt": -0.1, "entryPrice": …, …, "leverage": 20, "side": "short"}

    What the venue has not said: `markPrice` is then worked out from the profit, which is exact, or nan without that as
    well, since 0.0 would pass for a total loss; `unRealizedProfit` is nan; `leverage` is 0; `liquidationPrice` is 0.0,
    also the venue's word for "none", for the moment after a change of size until REST has answered.
    """
    return {
        "symbol": row.symbol,
        "positionAmt": float(row.position_amt),
        "entryPrice": float(row.entry_price),
        "markPrice": float(_mark_price(row)),
        "unRealizedProfit": _or_nan(row.un_realized_profit),
        "leverage": row.leverage or 0,
        "liquidationPrice": float(row.liquidation_price or 0),
        "side": row.side,
    }


def _or_nan(value: Decimal | None) -> float:
    return float("nan" if value is None else value)


def _mark_price(row: Position) -> Decimal:
    if row.mark_price is not None:
        return row.mark_price
    if row.un_realized_profit is None:
        return Decimal("nan")
    return row.entry_price + row.un_realized_profit / row.position_amt


def order(row: OrderFields) -> dict[str, Any]:
    """{"orderId": 123456789, "symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "status": "FILLED", …}

    `orderId` is an integer, and text (`algo-123`) for a conditional order, whose numbers are counted apart.
    """
    return {
        "orderId": int(row.order_id) if row.order_id.isdecimal() else row.order_id,
        "symbol": row.symbol,
        "side": row.side,
        "type": row.type,
        "status": row.status,
        "price": float(row.price or 0),
        "quantity": float(row.quantity or 0),
        "executedQty": float(row.executed_qty or 0),
        "avgPrice": float(row.avg_price or 0),
        "positionSide": row.position_side,
    }


def order_event(entry: Mapping[str, str]) -> EventFields:
    """An entry of `…:order-events`; ValueError for text that is not of the contract."""
    return EventFields(**values(EventFields, entry))
