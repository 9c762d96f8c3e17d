"""Orders and trades as a venue's histories tell them by REST. Values alone; each venue's adapter makes them."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from statecast.domain.models import Order, OrderKey


class PastOrder(NamedTuple):
    """An order as a history has it now. `created_ms` is the venue's time of its creation, 0 where that is not known."""

    order: Order
    created_ms: int


class PastTrade(NamedTuple):
    """One fill. A history does not say which state of the order it led to. `time_ms` is the venue's."""

    symbol: str
    order_id: str
    trade_id: int
    time_ms: int
    qty: Decimal
    price: Decimal
    commission: Decimal | None
    commission_asset: str | None
    realized_profit: Decimal | None
    maker: bool | None

    @property
    def order(self) -> OrderKey:
        return OrderKey(self.symbol, self.order_id)
