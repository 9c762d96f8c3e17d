"""What every row of an account has been at the venue: the one truth that both harnesses hold against Redis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from statecast.simulator.events import AccountChanged, AlgoChanged, Event, Filled, OrderChanged
from statecast.simulator.orders import AlgoStatus

RowName = tuple[str, str]
"""The hash, and the row's name in it."""

Row = tuple[Any, ...] | None
"""What of a row events carry; None where there is none."""

WAITING_ALGOS = (AlgoStatus.NEW, AlgoStatus.TRIGGERING)


class RowHistory:
    """What every row of the account has been at the venue, and from when on, by the events of its ledger. Times are the
    caller's; -1 is before all of them."""

    def __init__(self) -> None:
        self.rows: dict[RowName, list[tuple[float, Row]]] = {}
        self.on_change: Callable[[RowName], None] = lambda name: None

    def put(self, name: RowName, row: Row, at: float) -> None:
        past = self.rows.setdefault(name, [(-1.0, None)])
        if past[-1][1] != row:
            past.append((at, row))
            self.on_change(name)

    def take(self, event: Event, at: float) -> None:
        match event:
            case Filled():
                self.take(event.account, at)
                self.take(event.order, at)
            case AccountChanged():
                for wallet in event.balances:
                    balances = (wallet.wallet_balance, wallet.cross_wallet_balance)
                    self.put(("balances", wallet.asset), balances if any(balances) else None, at)
                for position in (changed.position for changed in event.positions):
                    row = (position.amount, position.entry_price) if position.amount else None
                    self.put(("positions", f"{position.symbol}:{position.side}"), row, at)
            case OrderChanged():
                order = event.order
                values = (order.status.value, order.filled_qty, order.price, order.qty)
                self.put(("orders", f"{order.symbol}:{order.order_id}"), values if order.is_open else None, at)
            case AlgoChanged():
                algo = event.algo
                state = (algo.status.value, algo.price, algo.trigger_price)
                self.put(
                    ("orders", f"{algo.symbol}:algo-{algo.algo_id}"),
                    state if algo.status in WAITING_ALGOS else None,
                    at,
                )

    def departed(self, name: RowName, row: Row) -> float | None:
        """When the venue's row was last like this; None for now, and -1 for never."""
        past = self.rows.get(name, [(-1.0, None)])
        if past[-1][1] == row:
            return None
        for at in range(len(past) - 2, -1, -1):
            if past[at][1] == row:
                return past[at + 1][0]
        return -1.0


def stored_row(kind: str, fields: Mapping[str, str] | None) -> Row:
    """The same of a row in Redis."""
    if not fields:
        return None
    match kind:
        case "balances":
            balances = (_number(fields["walletBalance"]), _number(fields["crossWalletBalance"]))
            # An asset of which there is nothing may be listed or not.
            return balances if any(balances) else None
        case "positions":
            return (_number(fields["positionAmt"]), _number(fields["entryPrice"]))
    if fields.get("algoId"):
        return (fields["status"], _number(fields.get("price", "")), _number(fields.get("stopPrice", "")))
    values = (fields.get(name, "") for name in ("executedQty", "price", "quantity"))
    return (fields["status"], *(_number(value) for value in values))


def _number(text: str) -> Decimal:
    return Decimal(text or "0")
