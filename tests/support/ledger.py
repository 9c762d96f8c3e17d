"""A simulated account's ledger for tests, requests to it, and its events in short."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from statecast.simulator.events import (
    AccountChanged,
    AlgoChanged,
    Event,
    Filled,
    OrderChanged,
)
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import (
    AlgoRequest,
    OrderRequest,
    OrderType,
    PositionSide,
    Refusal,
    Refused,
    Side,
)

NOW = 1_793_000_000_000
D = Decimal


def new_ledger(usdt: str = "10000", **options: Any) -> Ledger:
    return Ledger({"USDT": D(usdt), "USDC": D(1000)}, now_ms=NOW, **options)


def order(side: Side = Side.BUY, qty: str = "0.1", price: str = "", **fields: Any) -> OrderRequest:
    kind = OrderType.LIMIT if price else OrderType.MARKET
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": side, "type": kind, "qty": D(qty), "price": D(price or 0)}
    return OrderRequest(**(values | fields))


def algo(side: Side = Side.SELL, trigger: str = "88000", **fields: Any) -> AlgoRequest:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": side, "type": OrderType.STOP_MARKET}
    return AlgoRequest(**(values | {"qty": D("0.1"), "trigger_price": D(trigger)} | fields))


def fills(events: list[Event]) -> list[Filled]:
    return [event for event in events if isinstance(event, Filled)]


def summary(events: list[Event]) -> list[str]:
    """Each event in two words: what happened, and the status after it."""
    words: list[str] = []
    for event in events:
        match event:
            case Filled(change, _) | (OrderChanged() as change):
                words.append(f"{change.execution} {change.order.status}")
            case AlgoChanged():
                words.append(f"algo {event.algo.status}")
            case AccountChanged():
                words.append(f"account {event.reason}")
            case _:
                words.append(type(event).__name__)
    return words


def expect_refused(refusal: Refusal, call: Any, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(Refused) as caught:
        call(*args, **kwargs)
    assert caught.value.refusal is refusal


BOTH = PositionSide.BOTH
