"""The toy venue's messages → changes. Pure.

Contracts become amounts: of the base coin where they are linear, of US dollars where they are inverse.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import orjson

from statecast.domain import event_ids
from statecast.domain.changes import BalanceUpdate, Frame, MarkPriceUpdate, OrderUpdate, PositionUpdate
from statecast.domain.history import PastOrder, PastTrade
from statecast.domain.models import Balance, Order, OrderEvent, Position, Source, Stamp
from statecast.errors import FrameError

Row = dict[str, Any]


class Contract(NamedTuple):
    """How much one contract is, in what it is counted, and what its profit is in."""

    size: Decimal
    counted_in: str | None
    coin: str
    inverse: bool = False


CONTRACTS = {
    "BTC-L": Contract(Decimal("0.01"), None, "USD"),
    "BTC-I": Contract(Decimal(100), "USD", "BTC", inverse=True),
}
MARGIN_ASSETS = {name: contract.coin for name, contract in CONTRACTS.items()}
STATUSES = {"working": "NEW", "done": "FILLED", "pulled": "CANCELED"}


def parse(raw: str | bytes) -> Row:
    """Raises FrameError for what is no object."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise FrameError("toy", "body", "is no JSON") from error
    if not isinstance(body, dict):
        raise FrameError("toy", "body", "is no object")
    return body


def frame(body: Row, received_at_ms: int) -> Frame:
    """An event of the account. Raises FrameError."""
    try:
        match body["ch"]:
            case "orders":
                return Frame("orders", body["ms"], (_order_update(body, received_at_ms),))
            case "wallets":
                return Frame("wallets", body["ms"], (_balance_update(body["row"]),))
            case "positions":
                return Frame("positions", body["ms"], (position_update(body["row"]),))
            case channel if channel.startswith("mark:"):
                change = MarkPriceUpdate(channel.removeprefix("mark:"), Decimal(body["price"]), body["ms"])
                return Frame("mark", body["ms"], (change,))
            case channel:
                return Frame(str(channel), 0, notice="unknown", detail="an event of a newer venue")
    except (KeyError, TypeError, AttributeError, InvalidOperation) as error:
        raise FrameError("toy", "body", f"is not as documented ({type(error).__name__})") from error


def _order_update(body: Row, received_at_ms: int) -> OrderUpdate:
    order, fill = order_of(body["order"], "stream"), body["fill"]
    if fill is None:
        event_type = "NEW" if order.status == "NEW" else "CANCELED"
        event = OrderEvent(event_ids.of_order(order, event_type), event_type, order, received_at_ms)
    else:
        event = OrderEvent(
            event_id=event_ids.of_fill(order.key, fill["trade"]),
            event_type="TRADE",
            order=order,
            received_at_ms=received_at_ms,
            last_qty=amount(fill["contract"], fill["contracts"]),
            last_price=Decimal(fill["price"]),
            trade_id=str(fill["trade"]),
            commission=Decimal(fill["fee"]),
            commission_asset=fill["coin"],
            realized_profit=Decimal(fill["realized"]),
        )
    return OrderUpdate(event, open=order.status in ("NEW", "PARTIALLY_FILLED"), may_be_first=event.event_type == "NEW")


def _balance_update(row: Row) -> BalanceUpdate:
    return BalanceUpdate(row["coin"], Decimal(row["total"]), Decimal(row["total"]), Stamp(row["ms"], row["ms"]))


def position_update(row: Row) -> PositionUpdate:
    """One position."""
    contract = CONTRACTS[row["contract"]]
    return PositionUpdate(
        symbol=row["contract"],
        position_side="BOTH",
        position_amt=amount(row["contract"], row["contracts"]),
        entry_price=Decimal(row["entry"]),
        break_even_price=None,
        unrealized_profit=Decimal(row["profit"]),
        margin_type="cross",
        isolated_wallet=None,
        margin_asset=contract.coin,
        stamp=Stamp(row["ms"], row["ms"]),
        quantity_asset=contract.counted_in,
        contracts=Decimal(row["contracts"]),
        contract_size=contract.size,
        inverse=contract.inverse,
    )


# REST


def balance(row: Row, profit: Decimal, taken_ms: int) -> Balance:
    """A wallet; `profit` is that of the positions in its coin."""
    return Balance(
        asset=row["coin"],
        wallet_balance=Decimal(row["total"]),
        cross_wallet_balance=Decimal(row["total"]),
        stamp=Stamp(row["ms"]),
        source="rest",
        available_balance=Decimal(row["total"]) + profit,
        available_balance_time_ms=taken_ms,
        unrealized_profit=profit,
        unrealized_profit_time_ms=taken_ms,
    )


def position(row: Row, taken_ms: int) -> Position:
    """An open position."""
    contract = CONTRACTS[row["contract"]]
    return Position(
        symbol=row["contract"],
        position_side="BOTH",
        position_amt=amount(row["contract"], row["contracts"]),
        entry_price=Decimal(row["entry"]),
        stamp=Stamp(row["ms"]),
        source="rest",
        mark_price=Decimal(row["mark"]),
        mark_price_time_ms=taken_ms,
        unrealized_profit=Decimal(row["profit"]),
        unrealized_profit_time_ms=taken_ms,
        margin_type="cross",
        margin_asset=contract.coin,
        quantity_asset=contract.counted_in,
        contracts=Decimal(row["contracts"]),
        contract_size=contract.size,
        inverse=contract.inverse,
    )


def order_of(row: Row, source: Source) -> Order:
    """An order, as REST and stream have it."""
    status = STATUSES[row["state"]]
    return Order(
        order_id=str(row["number"]),
        symbol=row["contract"],
        client_order_id=row["tag"],
        side=row["side"].upper(),
        position_side="BOTH",
        type="LIMIT",
        orig_type="LIMIT",
        time_in_force="GTC",
        status="PARTIALLY_FILLED" if status == "NEW" and row["done"] else status,
        price=Decimal(row["price"]),
        stop_price=None,
        quantity=amount(row["contract"], row["contracts"]),
        executed_qty=amount(row["contract"], row["done"]),
        avg_price=Decimal(row["price"]) if row["done"] else Decimal(0),
        reduce_only=False,
        venue_time_ms=row["ms"],
        source=source,
        quantity_asset=CONTRACTS[row["contract"]].counted_in,
        contracts=Decimal(row["contracts"]),
    )


def past_order(row: Row) -> PastOrder:
    """A row of the history of orders."""
    return PastOrder(order_of(row, "rest"), row["made"])


def past_trade(row: Row) -> PastTrade:
    """A row of the history of trades."""
    return PastTrade(
        symbol=row["contract"],
        order_id=str(row["number"]),
        trade_id=str(row["trade"]),
        fill_id=str(row["trade"]),
        time_ms=row["ms"],
        sequence=row["trade"],
        qty=amount(row["contract"], row["contracts"]),
        price=Decimal(row["price"]),
        commission=Decimal(row["fee"]),
        commission_asset=row["coin"],
        realized_profit=Decimal(row["realized"]),
        maker=None,
    )


def amount(contract: str, contracts: int) -> Decimal:
    """So many contracts, in what they are counted in."""
    return contracts * CONTRACTS[contract].size
