"""What a frame or a REST answer may mean for an account. Each change says what it does to what is known.

BalanceUpdate, PositionUpdate           upsert one row, if newer
OrderUpdate                             upserts one order, if newer; appends its event once
AllBalances, AllPositions, AllOrders    upsert their rows, if newer; close what is not among them, unless that is newer
LeverageUpdate                          replaces one symbol's leverage
MultiAssetsUpdate                       replaces the margin mode
MarkPriceUpdate                         replaces one symbol's mark price, if newer
LoggedEvent                             appends its event once
Snapshot                                replaces everything, except rows of the stream that are newer
Check                                   replaces what no event carries; the settings of symbols that are new
WalletCorrection                        replaces one wallet, whatever the stream has said
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple

from statecast.domain.models import (
    Balance,
    Order,
    OrderEvent,
    OrderKey,
    Position,
    PositionKey,
    Stamp,
    SymbolConfig,
    Totals,
)


@dataclass(frozen=True, slots=True)
class BalanceUpdate:
    """An asset's wallet after a change."""

    asset: str
    wallet_balance: Decimal
    cross_wallet_balance: Decimal
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class PositionUpdate:
    """A position after a change; `position_amt` 0 means closed. `margin_type` is `cross` or `isolated`. The last four
    are as in `Position`."""

    symbol: str
    position_side: str
    position_amt: Decimal
    entry_price: Decimal
    break_even_price: Decimal | None
    unrealized_profit: Decimal | None
    margin_type: str | None
    isolated_wallet: Decimal | None
    margin_asset: str | None
    stamp: Stamp
    quantity_asset: str | None = None
    contracts: Decimal | None = None
    contract_size: Decimal | None = None
    inverse: bool = False


class OrderUpdate(NamedTuple):
    """An order after an event. `open` is False when the venue holds it no more (filled, cancelled, triggered …).
    `may_be_first` says that nothing of the order needs to have come before."""

    event: OrderEvent
    open: bool
    may_be_first: bool = False

    @property
    def order(self) -> Order:
        return self.event.order


@dataclass(frozen=True, slots=True)
class AllBalances:
    """All wallets at that moment: an asset that is not among them is empty."""

    rows: tuple[BalanceUpdate, ...]
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class AllPositions:
    """All open positions at that moment, of these symbols (None: of all): one that is not among them is closed."""

    rows: tuple[PositionUpdate, ...]
    stamp: Stamp
    symbols: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class AllOrders:
    """All open orders at that moment, of these symbols (None: of all): one that is not among them is over. No event
    says how it ended, or how one began that was not known: until one does, these orders are incomplete."""

    rows: tuple[Order, ...]
    time_ms: int
    symbols: frozenset[str] | None = None


class LoggedEvent(NamedTuple):
    """An event for the log alone: what is known of the account has it in it already, or will have with the next
    snapshot, or it is no order's (a gap). `ends` says that it is the last one of its order."""

    event: OrderEvent
    ends: bool = False


@dataclass(frozen=True, slots=True)
class LeverageUpdate:
    """A symbol's leverage; `venue_time_ms` 0: of a time that nobody knows."""

    symbol: str
    leverage: int
    venue_time_ms: int = 0


@dataclass(frozen=True, slots=True)
class MultiAssetsUpdate:
    """In multi-assets mode all collateral counts in one currency, and the totals come from REST alone. `totals_asset`
    is what they count from now on; None: as before. `venue_time_ms` as above."""

    enabled: bool
    totals_asset: str | None = None
    venue_time_ms: int = 0


@dataclass(frozen=True, slots=True)
class MarkPriceUpdate:
    symbol: str
    mark_price: Decimal
    time_ms: int


class Unreadable(NamedTuple):
    """A part of an answer that cannot be understood: `text` names it and says why.

    With a `key` (an asset, position or order) its row is missing in the answer, and nothing is known of it: the state
    is in doubt until an answer has it. Without one a figure was left out, and all else is known.
    """

    text: str
    key: str | PositionKey | OrderKey | None = None


def missing_rows(unreadable: Iterable[Unreadable]) -> frozenset[str | PositionKey | OrderKey]:
    """Of which assets, positions and orders an answer has a row that cannot be understood."""
    return frozenset(one.key for one in unreadable if one.key is not None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole account by REST. Rows carry the venue's own update times; `taken_ms` is when the venue was asked.

    `margin_assets` maps symbols to the asset their profit is in. `totals_asset` is what the totals count: one asset of
    the balances, or the currency in which all of them are valued; None where the answer does not say it, as
    `multi_assets` is. With `totals_are_wallet` it is an asset whose wallet is the total: while it is not, what the
    totals count is not known. The stream was received since `stream_since_ms`, before the venue was asked (0: not
    known). `knows_ends`: known orders that are not listed were asked for one by one, and those that are over are known
    to be. `unreadable` is what is not in it because it cannot be understood.
    """

    totals: Totals
    balances: tuple[Balance, ...]
    positions: tuple[Position, ...]
    orders: tuple[Order, ...]
    symbol_configs: Mapping[str, SymbolConfig]
    margin_assets: Mapping[str, str]
    multi_assets: bool | None
    taken_ms: int
    totals_asset: str | None = None
    totals_are_wallet: bool = False
    stream_since_ms: int = 0
    unreadable: tuple[Unreadable, ...] = ()
    knows_ends: bool = False
    answered_ms: int = 0
    """When the venue had answered; 0: not known."""

    def as_check(self) -> Check:
        """The same, to be compared with an account."""
        return Check(
            self.totals,
            self.balances,
            self.positions,
            self.taken_ms,
            self.orders,
            order_symbols=None,
            symbol_configs=self.symbol_configs,
            multi_assets=self.multi_assets,
            answered_ms=self.answered_ms,
            unreadable=self.unreadable,
        )


@dataclass(frozen=True, slots=True)
class Check:
    """Balances and open positions by REST, for what no event carries: available balance, margins, liquidation price.

    All else in it is there to be compared with what the stream has sent: wallets, sizes, and what was asked for as
    well. `orders` are all open ones of `order_symbols`, or of all symbols where that is None. `created` are orders that
    were created since some moment, in whatever state they are now: until `created_until_ms` ordinary ones, and
    conditional ones where the venue lists them for the whole account; conditional ones of the symbols of
    `conditional_until_ms` until then; and those that were asked for by their ids.
    `symbol_configs` is None where settings were not asked for, `multi_assets` also where the answer does not say it.
    """

    totals: Totals
    balances: tuple[Balance, ...]
    positions: tuple[Position, ...]
    taken_ms: int
    orders: tuple[Order, ...] = ()
    order_symbols: frozenset[str] | None = frozenset()
    created: tuple[Order, ...] = ()
    created_until_ms: int = 0
    conditional_until_ms: Mapping[str, int] = field(default_factory=dict)
    symbol_configs: Mapping[str, SymbolConfig] | None = None
    multi_assets: bool | None = None
    answered_ms: int = 0
    """When the venue had answered; 0: not known."""
    unreadable: tuple[Unreadable, ...] = ()


@dataclass(frozen=True, slots=True)
class WalletCorrection:
    """A wallet by REST, which counts whatever the stream has said: the venue changes it without an event."""

    balance: Balance


Change = (
    BalanceUpdate
    | PositionUpdate
    | OrderUpdate
    | AllBalances
    | AllPositions
    | AllOrders
    | LoggedEvent
    | LeverageUpdate
    | MultiAssetsUpdate
    | MarkPriceUpdate
    | Snapshot
    | Check
    | WalletCorrection
)

Notice = Literal["margin_call", "stream_ended", "reconnect_soon", "ignored", "unknown", "doubtful"]


class Frame(NamedTuple):
    """One frame of a stream, decoded.

    `event` is the venue's name of it, `changes` what it does to the account; `notice` is set where the frame says
    something about the stream or asks for attention instead, `detail` says what in words:

    margin_call      positions are near liquidation
    stream_ended     nothing comes on this stream any more, though its connection may stay open
    reconnect_soon   the venue is about to close this connection
    ignored          known, and without a meaning for the account
    unknown          an event, or a word in one, that this version does not know; what changes is known
    doubtful         such a word leaves open what the changes do to the account: only a snapshot says it

    `unknown_fields` counts fields beyond the documented ones.
    """

    event: str
    event_time_ms: int
    changes: tuple[Change, ...] = ()
    notice: Notice | None = None
    detail: str = ""
    unknown_fields: int = 0
