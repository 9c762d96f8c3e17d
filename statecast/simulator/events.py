"""What the ledger reports: each event is a fact about the account, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from statecast.simulator.orders import AlgoOrder, Execution, Order
from statecast.simulator.positions import Position


class Reason(StrEnum):
    """Why balances or positions changed."""

    ORDER = "ORDER"
    DEPOSIT = "DEPOSIT"
    WITHDRAW = "WITHDRAW"
    FUNDING_FEE = "FUNDING_FEE"
    MARGIN_TRANSFER = "MARGIN_TRANSFER"
    MARGIN_TYPE_CHANGE = "MARGIN_TYPE_CHANGE"
    INSURANCE_CLEAR = "INSURANCE_CLEAR"


@dataclass(frozen=True, slots=True)
class BalanceRow:
    """One asset after a change."""

    asset: str
    wallet_balance: Decimal
    cross_wallet_balance: Decimal
    change: Decimal
    """What moved in or out apart from realised profit and commission: zero on a fill."""


@dataclass(frozen=True, slots=True)
class PositionRow:
    """One position after a change."""

    position: Position
    profit: Decimal
    """Unrealised, at the mark price of that moment."""
    isolated: bool
    margin_asset: str


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """Balances or positions changed; rows that did not change are absent."""

    at_ms: int
    reason: Reason
    balances: tuple[BalanceRow, ...]
    positions: tuple[PositionRow, ...] = ()
    symbol: str = ""
    """The symbol that a funding payment belongs to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChanged:
    """Something happened to an order. `order` is the order after it."""

    index: int
    """Position in the ledger's list of order events, from zero: the event's identity."""
    at_ms: int
    execution: Execution
    order: Order
    last_qty: Decimal = Decimal(0)
    last_price: Decimal = Decimal(0)
    trade_id: int = 0
    commission: Decimal = Decimal(0)
    commission_asset: str = ""
    realised: Decimal = Decimal(0)
    is_maker: bool = False
    bid_notional: Decimal = Decimal(0)
    """Notional of the symbol's open bids after the event; `ask_notional` likewise."""
    ask_notional: Decimal = Decimal(0)
    modify_id: str = ""


@dataclass(frozen=True, slots=True)
class Filled:
    """A fill: an order event and its effect on the account, with one transaction time."""

    order: OrderChanged
    account: AccountChanged


@dataclass(frozen=True, slots=True)
class AlgoChanged:
    """Something happened to a conditional order."""

    at_ms: int
    algo: AlgoOrder


@dataclass(frozen=True, slots=True)
class LeverageChanged:
    at_ms: int
    symbol: str
    leverage: int


@dataclass(frozen=True, slots=True)
class MultiAssetsChanged:
    at_ms: int
    enabled: bool


@dataclass(frozen=True, slots=True)
class MarginRow:
    """One position in a margin call."""

    position: Position
    isolated: bool
    mark: Decimal
    profit: Decimal
    maintenance: Decimal


@dataclass(frozen=True, slots=True)
class MarginCalled:
    """The margin is close to the maintenance margin; a warning, sent once until the margin recovers."""

    at_ms: int
    cross_wallet_balance: Decimal | None
    """Only for a call on cross margin."""
    rows: tuple[MarginRow, ...]


Event = AccountChanged | OrderChanged | Filled | AlgoChanged | LeverageChanged | MultiAssetsChanged | MarginCalled
