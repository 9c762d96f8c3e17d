"""An account as values: frozen, `Decimal`, with the venue's time of each number.

What is made once per frame is a named tuple, which Python builds in a sixth of a frozen dataclass's time.

Times are venue milliseconds since 1970 UTC. `None` means that the venue has not said; nothing is invented.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple

Source = Literal["stream", "rest", "derived"]


class PositionKey(NamedTuple):
    """A position's identity: one-way mode has one `BOTH` per symbol, hedge mode a `LONG` and a `SHORT`."""

    symbol: str
    position_side: str


class OrderKey(NamedTuple):
    """An order's identity: venues number orders per symbol, so two symbols can have one id. In text `SYMBOL:ORDERID`,
    where the last colon separates the two: a symbol may hold colons itself."""

    symbol: str
    order_id: str

    def __str__(self) -> str:
        return f"{self.symbol}:{self.order_id}"


class Stamp(NamedTuple):
    """Orders what the venue says of one row: transaction time first, then the time it was pushed (0 by REST)."""

    venue_time_ms: int
    event_time_ms: int = 0


@dataclass(frozen=True, slots=True)
class Balance:
    """One asset of the account. `wallet_balance` excludes unrealised profit and may be negative."""

    asset: str
    wallet_balance: Decimal
    cross_wallet_balance: Decimal
    stamp: Stamp
    source: Source
    available_balance: Decimal | None = None
    available_balance_time_ms: int | None = None
    unrealized_profit: Decimal | None = None
    unrealized_profit_time_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """One open position; `position_amt` is signed, negative is short, and never zero here.

    `position_amt` counts `quantity_asset` (None: the symbol's base asset); `contracts` is the venue's own count of it,
    signed as well, of `contract_size` each. `inverse` says that it is in face value and its profit in the asset that
    the price is of (valuation.py).
    """

    symbol: str
    position_side: str
    position_amt: Decimal
    entry_price: Decimal
    stamp: Stamp
    source: Source
    break_even_price: Decimal | None = None
    mark_price: Decimal | None = None
    mark_price_time_ms: int | None = None
    unrealized_profit: Decimal | None = None
    unrealized_profit_time_ms: int | None = None
    leverage: int | None = None
    margin_type: str | None = None
    isolated_wallet: Decimal | None = None
    liquidation_price: Decimal | None = None
    liquidation_price_time_ms: int | None = None
    notional: Decimal | None = None
    margin_asset: str | None = None
    quantity_asset: str | None = None
    contracts: Decimal | None = None
    contract_size: Decimal | None = None
    inverse: bool = False

    @property
    def key(self) -> PositionKey:
        return PositionKey(self.symbol, self.position_side)

    @property
    def side(self) -> Literal["long", "short"]:
        return "long" if self.position_amt > 0 else "short"


class Order(NamedTuple):
    """An order as of its last event. `order_id` is the venue's id, or `algo-<id>` for a conditional order.

    A conditional order lives in a number space of its own (`algo_id`); `actual_order_id` is the ordinary order
    that its trigger created. Quantities count `quantity_asset` (None: the symbol's base asset); `contracts` is the
    venue's own count of `quantity`. With `close_position` a conditional order closes the whole position, whatever its
    size is by then, and has no quantity of its own. A trailing stop begins to follow the price at `activate_price` (0:
    at once) and triggers when it has turned by `callback_rate` percent; it has no `stop_price`.
    """

    order_id: str
    symbol: str
    client_order_id: str
    side: str
    position_side: str
    type: str
    orig_type: str
    time_in_force: str
    status: str
    price: Decimal | None
    stop_price: Decimal | None
    quantity: Decimal | None
    executed_qty: Decimal | None
    avg_price: Decimal | None
    reduce_only: bool | None
    venue_time_ms: int
    source: Source
    algo_id: str | None = None
    actual_order_id: str | None = None
    quantity_asset: str | None = None
    contracts: Decimal | None = None
    close_position: bool | None = None
    activate_price: Decimal | None = None
    callback_rate: Decimal | None = None
    ended: bool = False
    """Of an order whose `status` is no word of `orders.py`: whether it is known to be over nevertheless."""

    @property
    def key(self) -> OrderKey:
        return OrderKey(self.symbol, self.order_id)


class OrderEvent(NamedTuple):
    """One thing that happened to an order, with the order as it was after it.

    `event_id` is made of venue facts alone, so that the same event fetched by REST carries the same id.
    """

    event_id: str
    event_type: str
    order: Order
    received_at_ms: int
    last_qty: Decimal | None = None
    last_price: Decimal | None = None
    trade_id: str | None = None
    commission: Decimal | None = None
    commission_asset: str | None = None
    realized_profit: Decimal | None = None
    maker: bool | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """The account as a whole; each figure has its own time, for they come from different places. `totals_asset` is what
    they count, where the venue has said. A figure that it has not given is None, and so is its time."""

    total_wallet_balance: Decimal | None
    total_wallet_balance_time_ms: int | None
    total_unrealized_profit: Decimal | None
    total_unrealized_profit_time_ms: int | None
    total_margin_balance: Decimal | None
    total_margin_balance_time_ms: int | None
    available_balance: Decimal | None
    available_balance_time_ms: int | None
    total_initial_margin: Decimal | None
    total_maint_margin: Decimal | None
    margin_time_ms: int | None
    """When the venue was asked for the two margins."""
    totals_asset: str | None = None


@dataclass(frozen=True, slots=True)
class SymbolConfig:
    """What the account has set for a symbol; no event carries it together with a position."""

    leverage: int | None
    margin_type: str | None


def plain(value: Decimal) -> str:
    """`value` as the contract writes numbers: every digit, no exponent."""
    text = str(value)
    return format(value, "f") if "E" in text else text
