"""An account as a trader reads it: frozen values, `Decimal`, and with each answer how far it may be trusted.

Attributes are the contract's fields (docs/redis.md) in snake_case. Amounts are `Decimal`, times integer milliseconds
since 1970 UTC; None means that the venue has not said. An answer knows its `age_s`, `seq` and `source`; figures that
come from elsewhere and grow old by themselves have a time of their own (`mark_price_time_ms`).
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Self, TypeVar, overload

from statecast.domain import gaps
from statecast.domain.gaps import GapInfo
from statecast.errors import ConfigError
from statecast.store.keys import ACCOUNT_FIELDS, BALANCE_FIELDS, EVENT_FIELDS, ORDER_FIELDS, POSITION_FIELDS

Source = Literal["stream", "rest", "derived"]

POSITION_SIDES = ("BOTH", "LONG", "SHORT")


class Freshness(NamedTuple):
    """How far an answer may be trusted, as of the moment of the read.

    A named tuple, for one is made at every read.
    """

    age_s: float
    """Seconds since this was last verified to be the venue's state; at most the limit asked for."""

    seq: int
    """The account's commit after which this is the state. A refresh by REST has the commit that it began at."""

    source: Source
    """Where the last change came from."""

    via: Literal["publisher", "refresh"]
    """Whose it is: the publisher's hashes, or a REST answer that readers share while those are stale."""

    epoch: int
    """The writer's term; `seq` may be compared within one."""

    state: str
    """The publisher's state at that moment: `live`, or `recovering` with an answer that is still young enough."""

    verified_at_ms: int
    """By Redis's clock."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What every answer has."""

    freshness: Freshness = field(compare=False, repr=False)

    @property
    def age_s(self) -> float:
        return self.freshness.age_s

    @property
    def seq(self) -> int:
        return self.freshness.seq

    def at(self, freshness: Freshness) -> Self:
        """The same values with another freshness."""
        if freshness is self.freshness:
            return self
        copy = object.__new__(type(self))
        object.__setattr__(copy, "__dict__", self.__dict__ | {"freshness": freshness})
        return copy


@dataclass(frozen=True, kw_only=True)
class Totals(Answer):
    """The account as a whole; each figure has its own time. `totals_asset` is the asset that they count. A venue gives
    all of them, as a rule; what it does not give is None."""

    FIELDS: ClassVar = ACCOUNT_FIELDS

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
    totals_asset: str | None = None

    @property
    def source(self) -> Source:
        return self.freshness.source


@dataclass(frozen=True, kw_only=True)
class Balance(Answer):
    """One asset; `wallet_balance` excludes unrealised profit and may be negative. `source` is the wallet's."""

    FIELDS: ClassVar = BALANCE_FIELDS

    asset: str
    wallet_balance: Decimal
    cross_wallet_balance: Decimal
    available_balance: Decimal | None
    available_balance_time_ms: int | None
    unrealized_profit: Decimal | None
    unrealized_profit_time_ms: int | None
    venue_time_ms: int
    source: Source


@dataclass(frozen=True, kw_only=True)
class Position(Answer):
    """One position. `position_amt` is signed, negative is short; `source` is that of size and entry price.

    `position_amt` counts `quantity_asset`, or where that is None the symbol's base asset; `contracts` is the venue's
    own count, signed as well, of `contract_size` each.

    No position is `side` "flat" with amount and entry price 0, as at the venue, and false in a condition. Only an
    answer about one symbol is ever flat; lists hold open positions alone.
    """

    FIELDS: ClassVar = POSITION_FIELDS

    symbol: str
    position_side: str
    side: Literal["long", "short", "flat"]
    position_amt: Decimal
    entry_price: Decimal
    break_even_price: Decimal | None
    mark_price: Decimal | None
    mark_price_time_ms: int | None
    un_realized_profit: Decimal | None
    un_realized_profit_time_ms: int | None
    leverage: int | None
    margin_type: str | None
    isolated_wallet: Decimal | None
    liquidation_price: Decimal | None
    liquidation_price_time_ms: int | None
    notional: Decimal | None
    margin_asset: str | None
    venue_time_ms: int
    source: Source
    quantity_asset: str | None = None
    contracts: Decimal | None = None
    contract_size: Decimal | None = None

    def __bool__(self) -> bool:
        return self.side != "flat"

    @property
    def unrealized_profit(self) -> Decimal | None:
        """`un_realized_profit`: Binance spells it with a capital R, but in positions alone."""
        return self.un_realized_profit

    @classmethod
    def flat(cls, symbol: str, position_side: str, freshness: Freshness) -> Position:
        """The answer for a symbol without a position."""
        nothing: dict[str, Any] = dict.fromkeys(field.name for field in fields(cls))
        return cls(
            **nothing
            | {
                "symbol": symbol,
                "position_side": position_side,
                "side": "flat",
                "position_amt": Decimal(0),
                "entry_price": Decimal(0),
                "venue_time_ms": 0,
                "source": freshness.source,
                "freshness": freshness,
            }
        )


@dataclass(frozen=True, kw_only=True)
class OrderFields:
    """What an order and an order's event have in common. Quantities count `quantity_asset`, or where that is None the
    symbol's base asset; `contracts` is the venue's own count of `quantity`.

    With `close_position` a conditional order closes the whole position and has `quantity` 0. A trailing stop has no
    `stop_price`, but an `activate_price` (0: active at once) and a `callback_rate` in percent."""

    symbol: str
    order_id: str
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
    algo_id: str | None
    actual_order_id: str | None
    quantity_asset: str | None = None
    contracts: Decimal | None = None
    close_position: bool | None = None
    activate_price: Decimal | None = None
    callback_rate: Decimal | None = None


@dataclass(frozen=True, kw_only=True)
class Order(OrderFields, Answer):
    """An open order. Symbol and `order_id` together are its identity. A conditional one has an `algo_id`, and its
    `order_id` is `algo-<id>`."""

    FIELDS: ClassVar = ORDER_FIELDS


@dataclass(frozen=True, kw_only=True)
class EventFields(OrderFields):
    """One thing that happened to an order, with the order as it was after it.

    `event_id` is made of venue facts alone and stays the same however often it is delivered: the key for a handler that
    must not do a thing twice. From `last_qty` to `maker` it is one fill, else None.

    An `event_type` of `GAP` is no event, but stands for those that are missing for good: `gap_info` says which. Its
    order is as it was last known, or empty.
    """

    FIELDS: ClassVar = EVENT_FIELDS

    event_seq: int
    event_id: str
    event_type: str
    last_qty: Decimal | None
    last_price: Decimal | None
    trade_id: str | None
    commission: Decimal | None
    commission_asset: str | None
    realized_profit: Decimal | None
    maker: bool | None
    received_at_ms: int
    epoch: int

    @property
    def gap_info(self) -> GapInfo | None:
        """Which events are missing for good, for a GAP; None for every event that is one."""
        return gaps.parse(
            {
                "eventType": self.event_type,
                "eventId": self.event_id,
                "symbol": self.symbol,
                "orderId": self.order_id,
                "venueTimeMs": str(self.venue_time_ms),
            }
        )


def check_side(symbol: str, side: str, held: Container[str]) -> None:
    """Raise ConfigError unless a `side` without a row is flat: for a side that does not exist (`long` is a position's
    `side`, LONG its `position_side`), and for one of the other position mode than that of the rows `held`."""
    of_mode = ("LONG", "SHORT") if side == "BOTH" else ("BOTH",)
    others = [other for other in of_mode if f"{symbol}:{other}" in held]
    if side not in POSITION_SIDES:
        raise ConfigError("side", side, "BOTH, or in hedge mode LONG or SHORT")
    if others:
        raise ConfigError("side", side, f"{' or '.join(others)}: that is how {symbol} is held")


Row_co = TypeVar("Row_co", bound=Answer, covariant=True)


@dataclass(frozen=True, slots=True, eq=False)
class Rows(Sequence[Row_co], Generic[Row_co]):
    """The rows of one hash at one commit: a sequence, and by name (`balances["USDT"]`, `positions["BTCUSDT:BOTH"]`).

    Empty means known to be empty. Each row carries the freshness of the whole.
    """

    by_name: Mapping[str, Row_co]
    freshness: Freshness

    @property
    def age_s(self) -> float:
        return self.freshness.age_s

    @property
    def seq(self) -> int:
        return self.freshness.seq

    @property
    def source(self) -> Source:
        return self.freshness.source

    def get(self, name: str) -> Row_co | None:
        """The row of that name, None where there is none."""
        row = self._find(name)
        return None if row is None else row.at(self.freshness)

    def _find(self, name: str) -> Row_co | None:
        return self.by_name.get(name)

    @overload
    def __getitem__(self, key: int | str) -> Row_co: ...
    @overload
    def __getitem__(self, key: slice) -> list[Row_co]: ...
    def __getitem__(self, key: int | str | slice) -> Row_co | list[Row_co]:
        if not isinstance(key, str):
            return list(self)[key]
        row = self._find(key)
        if row is None:
            raise KeyError(key)
        return row.at(self.freshness)

    def __iter__(self) -> Iterator[Row_co]:
        return (row.at(self.freshness) for row in self.by_name.values())

    def __len__(self) -> int:
        return len(self.by_name)

    def __contains__(self, key: object) -> bool:
        return self._find(key) is not None if isinstance(key, str) else any(row == key for row in self.by_name.values())

    def __eq__(self, other: object) -> bool:
        return self.by_name == other.by_name if isinstance(other, Rows) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as of any collection


class OrderRows(Rows[Order]):
    """Open orders, by name: `open_orders["BTCUSDT:1001"]`. The id alone is enough where one symbol has it. Venues
    number orders per symbol: if two symbols have it, looking it up raises ConfigError."""

    __slots__ = ()

    def _find(self, name: str) -> Order | None:
        if name in self.by_name:
            return self.by_name[name]
        found = {key: order for key, order in self.by_name.items() if order.order_id == name}
        if len(found) > 1:
            raise ConfigError("name", name, f"SYMBOL:ORDERID; several orders have this id: {', '.join(sorted(found))}")
        return next(iter(found.values()), None)

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str):
            return key in self.by_name or any(order.order_id == key for order in self.by_name.values())
        return super().__contains__(key)


@dataclass(frozen=True, kw_only=True)
class AccountSnapshot(Answer):
    """A whole account at one commit."""

    account_id: str
    totals: Totals
    balances: Rows[Balance]
    positions: Rows[Position]
    open_orders: OrderRows

    @property
    def source(self) -> Source:
        return self.freshness.source

    def position(self, symbol: str, side: str = "BOTH") -> Position:
        """One position; flat where there is none."""
        found = self.positions.get(f"{symbol}:{side}")
        if found is None:
            check_side(symbol, side, self.positions.by_name)
        return found or Position.flat(symbol, side, self.freshness)
