"""Changes, rows and REST answers of an account, named in the words of the field. What is not said is ordinary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from statecast.domain.account import Account
from statecast.domain.changes import (
    BalanceUpdate,
    Check,
    MarkPriceUpdate,
    OrderUpdate,
    PositionUpdate,
    Snapshot,
)
from statecast.domain.models import Balance, Order, OrderEvent, Position, Stamp, SymbolConfig, Totals
from statecast.domain.order_tracking import Memory
from statecast.domain.snapshot_merge import RestTiming

D = Decimal
NOW = 1_793_000_000_000
"""The venue's clock when the stories of these tests begin; times in them are milliseconds after it."""

OPEN_STATUSES = frozenset({"NEW", "PARTIALLY_FILLED", "TRIGGERING"})


REST = RestTiming(lag_ms=10_000, recent_ms=3_000)


def new_account(*, events: int = 50_000, finished_orders: int = 20_000) -> Account:
    """An account of a venue such as Binance, which remembers so much."""
    return Account(REST, max_conditional_orders=200, memory=Memory(events, finished_orders, conditional_orders=1_000))


def stamp(at: int, pushed: int | None = None) -> Stamp:
    """Of a frame whose transaction was at `at`, and which was pushed at `pushed` (default: 4 ms later)."""
    return Stamp(NOW + at, NOW + (at + 4 if pushed is None else pushed))


def wallet(at: int, amount: str, asset: str = "USDT", *, pushed: int | None = None, cross: str = "") -> BalanceUpdate:
    """A frame's row of an asset."""
    return BalanceUpdate(asset, D(amount), D(cross or amount), stamp(at, pushed))


def position(at: int, amount: str, entry: str = "100", **fields: Any) -> PositionUpdate:
    """A frame's row of a position: BTCUSDT one-way, in USDT by its symbol."""
    values: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "position_side": "BOTH",
        "position_amt": D(amount),
        "entry_price": D(entry),
        "break_even_price": None,
        "unrealized_profit": D(0),
        "margin_type": None,
        "isolated_wallet": None,
        "margin_asset": None,
        "stamp": stamp(at, fields.pop("pushed", None)),
    }
    return PositionUpdate(**(values | fields))


def mark(at: int, price: str, symbol: str = "BTCUSDT") -> MarkPriceUpdate:
    return MarkPriceUpdate(symbol, D(price), NOW + at)


def order(at: int, status: str = "NEW", **fields: Any) -> Order:
    values: dict[str, Any] = {
        "order_id": "1001",
        "symbol": "BTCUSDT",
        "client_order_id": "my-1",
        "side": "BUY",
        "position_side": "BOTH",
        "type": "LIMIT",
        "orig_type": "LIMIT",
        "time_in_force": "GTC",
        "status": status,
        "price": D("91250.4"),
        "stop_price": D(0),
        "quantity": D("0.050"),
        "executed_qty": D(0),
        "avg_price": D(0),
        "reduce_only": False,
        "venue_time_ms": NOW + at,
        "source": "stream",
    }
    return Order(**(values | fields))


def event(at: int, kind: str, status: str = "NEW", **fields: Any) -> OrderUpdate:
    """What happened to an order. `trade_id` makes a fill of it; `event_id` is made of the rest as a venue would."""
    trade = {key: fields.pop(key) for key in tuple(fields) if key in _EVENT_ONLY}
    event_id = fields.pop("event_id", None)
    row = order(at, status, **fields)
    event_id = event_id or f"{row.symbol}:{row.order_id}:{trade.get('trade_id') or f'{kind}:{status}:{at}'}"
    event = OrderEvent(event_id, kind, row, NOW + at + 9, **trade)
    return OrderUpdate(event, status in OPEN_STATUSES, kind in ("NEW", "ALGO_NEW", "CALCULATED", "ALGO_FINISHED"))


_EVENT_ONLY = frozenset(
    {"last_qty", "last_price", "trade_id", "commission", "commission_asset", "realized_profit", "maker"}
)


def fill(at: int, filled: str, quantity: str = "0.050", **fields: Any) -> OrderUpdate:
    """A fill that brings the order to `filled` of `quantity`."""
    status = "FILLED" if D(filled) == D(quantity) else "PARTIALLY_FILLED"
    values: dict[str, Any] = {
        "executed_qty": D(filled),
        "quantity": D(quantity),
        "trade_id": f"t{at}-{filled}",
        "last_qty": D(filled),
        "last_price": D("91250.4"),
        "commission": D("0.4562"),
        "commission_asset": "USDT",
        "realized_profit": D(0),
        "maker": True,
    }
    return event(at, "TRADE", fields.pop("status", status), **(values | fields))


# REST


def rest_balance(at: int, amount: str, asset: str = "USDT", *, taken: int | None = None, **fields: Any) -> Balance:
    """An asset in an answer: last changed at `at`, asked for at `taken` (default: the moment of the change)."""
    asked = NOW + (at if taken is None else taken)
    values: dict[str, Any] = {
        "available_balance": D(amount),
        "available_balance_time_ms": asked,
        "unrealized_profit": D(0),
        "unrealized_profit_time_ms": asked,
    }
    return Balance(asset, D(amount), D(amount), Stamp(NOW + at), "rest", **(values | fields))


def rest_position(at: int, amount: str, entry: str = "100", *, taken: int | None = None, **fields: Any) -> Position:
    """A position in an answer, at the mark price `mark_price`."""
    asked = NOW + (at if taken is None else taken)
    price = D(fields.pop("mark_price", entry))
    values: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "position_side": "BOTH",
        "position_amt": D(amount),
        "entry_price": D(entry),
        "stamp": Stamp(NOW + at),
        "source": "rest",
        "mark_price": price,
        "mark_price_time_ms": asked,
        "unrealized_profit": D(amount) * (price - D(entry)),
        "unrealized_profit_time_ms": asked,
        "liquidation_price": D("50"),
        "liquidation_price_time_ms": asked,
        "notional": D(amount) * price,
        "margin_asset": "USDT",
    }
    return Position(**(values | fields))


def rest_order(at: int, status: str = "NEW", **fields: Any) -> Order:
    return order(at, status, **({"source": "rest"} | fields))


def totals(at: int, wallet_balance: str, profit: str = "0", **fields: Any) -> Totals:
    """The account as an answer of `at` gives it."""
    asked = NOW + at
    values: dict[str, Any] = {
        "total_wallet_balance": D(wallet_balance),
        "total_wallet_balance_time_ms": asked,
        "total_unrealized_profit": D(profit),
        "total_unrealized_profit_time_ms": asked,
        "total_margin_balance": D(wallet_balance) + D(profit),
        "total_margin_balance_time_ms": asked,
        "available_balance": D(wallet_balance),
        "available_balance_time_ms": asked,
        "total_initial_margin": D(0),
        "total_maint_margin": D(0),
        "margin_time_ms": asked,
    }
    return Totals(**(values | fields))


MARGIN_ASSETS: Mapping[str, str] = {"BTCUSDT": "USDT", "ETHUSDT": "USDT", "BTCUSDC": "USDC", "ETHUSDC": "USDC"}


def snapshot(
    at: int = 0,
    *,
    balances: Iterable[Balance] | None = None,
    positions: Iterable[Position] = (),
    orders: Iterable[Order] = (),
    configs: Mapping[str, SymbolConfig] | None = None,
    total: Totals | None = None,
    **fields: Any,
) -> Snapshot:
    """The whole account, asked for at `at`: 1,000 USDT and nothing else, unless said otherwise."""
    values: dict[str, Any] = {"margin_assets": MARGIN_ASSETS, "multi_assets": False, "totals_asset": "USDT"}
    rows = (rest_balance(at - 100, "1000", taken=at),) if balances is None else tuple(balances)
    usdt = next((row for row in rows if row.asset == "USDT"), None)
    return Snapshot(
        totals=total or totals(at, str(usdt.wallet_balance) if usdt else "0"),
        balances=rows,
        positions=tuple(positions),
        orders=tuple(orders),
        symbol_configs={"BTCUSDT": SymbolConfig(20, "cross")} if configs is None else configs,
        taken_ms=NOW + at,
        **(values | fields),
    )


def refresh(
    at: int,
    *,
    balances: Iterable[Balance] | None = None,
    positions: Iterable[Position] = (),
    total: Totals | None = None,
) -> Check:
    """A check, asked for at `at`: 1,000 USDT and nothing else, unless said otherwise."""
    rows = (rest_balance(-100, "1000", taken=at),) if balances is None else tuple(balances)
    return Check(total or totals(at, "1000"), rows, tuple(positions), NOW + at)
