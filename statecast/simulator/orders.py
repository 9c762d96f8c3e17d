"""Orders of the simulated exchange: what a trader asks for, and what becomes of it. Values only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

ZERO = Decimal(0)


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        return 1 if self is Side.BUY else -1


class PositionSide(StrEnum):
    """Which of a symbol's positions: BOTH in one-way mode, LONG or SHORT in hedge mode."""

    BOTH = "BOTH"
    LONG = "LONG"
    SHORT = "SHORT"


class OrderType(StrEnum):
    LIMIT = "LIMIT"
    MARKET = "MARKET"
    STOP = "STOP"
    STOP_MARKET = "STOP_MARKET"
    TAKE_PROFIT = "TAKE_PROFIT"
    TAKE_PROFIT_MARKET = "TAKE_PROFIT_MARKET"
    TRAILING_STOP_MARKET = "TRAILING_STOP_MARKET"
    LIQUIDATION = "LIQUIDATION"


CONDITIONAL = frozenset(
    {
        OrderType.STOP,
        OrderType.STOP_MARKET,
        OrderType.TAKE_PROFIT,
        OrderType.TAKE_PROFIT_MARKET,
        OrderType.TRAILING_STOP_MARKET,
    }
)


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    GTX = "GTX"
    GTE_GTC = "GTE_GTC"
    """A conditional order bound to a position: it expires when the position is gone."""


class OrderStatus(StrEnum):
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    EXPIRED_BY_RISK = "EXPIRED_BY_RISK"
    """A word that no document has: a client has to do without knowing it."""


class Execution(StrEnum):
    """What happened to an order: the `x` of an order event."""

    NEW = "NEW"
    TRADE = "TRADE"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    AMENDMENT = "AMENDMENT"
    CALCULATED = "CALCULATED"
    """A fill by the liquidation engine."""


class AlgoStatus(StrEnum):
    NEW = "NEW"
    TRIGGERING = "TRIGGERING"
    TRIGGERED = "TRIGGERED"
    FINISHED = "FINISHED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"


class ExpiryReason:
    """The `er` of an order event."""

    NONE = 0
    IOC_REMAINDER = 2
    REDUCE_ONLY = 4
    LIQUIDATION = 5
    MARKET_REMAINDER = 9


class Refusal(StrEnum):
    """Why the exchange does not do what it was asked. A venue's dialect gives each its code and sentence."""

    UNKNOWN_SYMBOL = "unknown symbol"
    UNKNOWN_ORDER = "unknown order"
    QTY_NOT_POSITIVE = "quantity not positive"
    QTY_TOO_LARGE = "quantity too large"
    QTY_PRECISION = "quantity off the lot grid"
    PRICE_NOT_POSITIVE = "price not positive"
    PRICE_PRECISION = "price off the tick grid"
    PRICE_TOO_HIGH = "price above the permitted band"
    PRICE_TOO_LOW = "price below the permitted band"
    NOTIONAL_TOO_SMALL = "notional too small"
    MARGIN_INSUFFICIENT = "margin insufficient"
    REDUCE_ONLY = "nothing to reduce"
    POSITION_SIDE = "position side does not match the mode"
    REDUCE_ONLY_IN_HEDGE = "reduceOnly in hedge mode"
    FOK_UNFILLABLE = "cannot be filled at once"
    GTX_WOULD_TAKE = "would take liquidity"
    DUPLICATE_CLIENT_ID = "client order id in use"
    IMMEDIATE_TRIGGER = "would trigger at once"
    TRIGGER_INVALID = "trigger price not positive"
    CALLBACK_RATE = "callback rate out of range"
    CLOSE_POSITION_EXISTS = "a closing order of this kind exists"
    TOO_MANY_ALGOS = "too many conditional orders"
    NOTHING_TO_AMEND = "nothing to amend"
    NOT_AMENDABLE = "order cannot be amended"
    LEVERAGE_INVALID = "leverage out of range"
    LEVERAGE_NOTIONAL = "position too large for the leverage"
    LEVERAGE_ISOLATED = "leverage cannot fall while an isolated position is open"
    MARGIN_TYPE_SAME = "margin type unchanged"
    MARGIN_TYPE_ORDERS = "margin type cannot change with open orders"
    MARGIN_TYPE_POSITION = "margin type cannot change with a position"
    MARGIN_TYPE_MULTI_ASSETS = "isolated margin is not available in multi-assets mode"
    MODE_SAME = "position mode unchanged"
    MODE_ORDERS = "position mode cannot change with open orders"
    MODE_POSITION = "position mode cannot change with a position"
    MULTI_ASSETS_SAME = "multi-assets mode unchanged"
    MULTI_ASSETS_ISOLATED = "multi-assets mode cannot start with isolated symbols"
    NOT_ISOLATED = "no isolated position"
    BALANCE_INSUFFICIENT = "balance insufficient"


class Refused(Exception):
    """The exchange declined; nothing has changed."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        super().__init__(refusal, detail)
        self.refusal = refusal
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.refusal}: {self.detail}" if self.detail else str(self.refusal)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """An order as asked for. `price` is zero for MARKET."""

    symbol: str
    side: Side
    type: OrderType
    qty: Decimal
    price: Decimal = ZERO
    time_in_force: TimeInForce = TimeInForce.GTC
    position_side: PositionSide = PositionSide.BOTH
    reduce_only: bool = False
    client_order_id: str = ""
    """Chosen by the exchange when empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgoRequest:
    """A conditional order as asked for."""

    symbol: str
    side: Side
    type: OrderType
    qty: Decimal = ZERO
    price: Decimal = ZERO
    """The limit price of STOP and TAKE_PROFIT; zero otherwise."""
    trigger_price: Decimal = ZERO
    """For TRAILING_STOP_MARKET unused: see `activation_price`."""
    activation_price: Decimal = ZERO
    callback_rate: Decimal = ZERO
    """Percent that the price has to turn back by; only for TRAILING_STOP_MARKET."""
    time_in_force: TimeInForce = TimeInForce.GTC
    position_side: PositionSide = PositionSide.BOTH
    reduce_only: bool = False
    close_position: bool = False
    working_type: str = "CONTRACT_PRICE"
    client_algo_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order in the matching engine, at one moment."""

    order_id: int
    client_order_id: str
    symbol: str
    side: Side
    position_side: PositionSide
    type: OrderType
    original_type: OrderType
    """Differs from `type` for the child of a conditional order."""
    time_in_force: TimeInForce
    qty: Decimal
    price: Decimal
    reduce_only: bool
    created_at_ms: int
    updated_at_ms: int
    status: OrderStatus = OrderStatus.NEW
    filled_qty: Decimal = ZERO
    filled_quote: Decimal = ZERO
    """Sum of price × quantity over the fills."""
    stop_price: Decimal = ZERO
    close_position: bool = False
    working_type: str = "CONTRACT_PRICE"
    algo_id: int = 0
    """The conditional order that sent this one; zero if none did."""
    expiry_reason: int = ExpiryReason.NONE

    @property
    def remaining_qty(self) -> Decimal:
        return self.qty - self.filled_qty

    @property
    def average_price(self) -> Decimal:
        """Zero before the first fill; not rounded."""
        return self.filled_quote / self.filled_qty if self.filled_qty else ZERO

    @property
    def is_open(self) -> bool:
        return self.status in (OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgoOrder:
    """A conditional order, at one moment."""

    algo_id: int
    client_algo_id: str
    symbol: str
    side: Side
    position_side: PositionSide
    type: OrderType
    time_in_force: TimeInForce
    qty: Decimal
    price: Decimal
    trigger_price: Decimal
    activation_price: Decimal
    callback_rate: Decimal
    reduce_only: bool
    close_position: bool
    working_type: str
    created_at_ms: int
    updated_at_ms: int
    status: AlgoStatus = AlgoStatus.NEW
    activated: bool = False
    """Whether a trailing stop follows the price yet."""
    extreme_price: Decimal = ZERO
    """The best price since activation, which a trailing stop measures from."""
    order_id: int = 0
    """The engine order; zero before the trigger."""
    triggered_at_ms: int = 0
    average_price: Decimal = ZERO
    filled_qty: Decimal = ZERO
    refusal: Refusal | None = None
    """Why the engine declined the order, with status REJECTED."""

    @property
    def is_waiting(self) -> bool:
        """Not yet triggered: what openAlgoOrders lists."""
        return self.status is AlgoStatus.NEW

    def is_hit_by(self, mark: Decimal) -> bool:
        """Whether a mark price fulfils the condition. A trailing stop has to be activated first."""
        if self.type is OrderType.TRAILING_STOP_MARKET:
            if not self.activated:
                return False
            turn = self.extreme_price * self.callback_rate / 100
            if self.side is Side.SELL:
                return mark <= self.extreme_price - turn
            return mark >= self.extreme_price + turn
        rising = (self.side is Side.BUY) == (self.type in (OrderType.STOP, OrderType.STOP_MARKET))
        return mark >= self.trigger_price if rising else mark <= self.trigger_price

    def is_activated_by(self, mark: Decimal) -> bool:
        """Whether a mark price starts the trailing: a sell waits for a high price, a buy for a low one."""
        if not self.activation_price:
            return True
        return mark >= self.activation_price if self.side is Side.SELL else mark <= self.activation_price

    def following(self, mark: Decimal) -> AlgoOrder:
        """A trailing stop that has seen a mark price: a sell follows the highest one, a buy the lowest."""
        better = max if self.side is Side.SELL else min
        return replace(self, extreme_price=better(self.extreme_price, mark))
