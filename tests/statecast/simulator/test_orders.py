from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from statecast.simulator.orders import AlgoOrder, OrderType, PositionSide, Side, TimeInForce

D = Decimal


def algo(kind: OrderType, side: Side, **fields: Any) -> AlgoOrder:
    values: dict[str, Any] = {
        "algo_id": 1,
        "client_algo_id": "a",
        "symbol": "BTCUSDT",
        "side": side,
        "position_side": PositionSide.BOTH,
        "type": kind,
        "time_in_force": TimeInForce.GTC,
        "qty": D(1),
        "price": D(0),
        "trigger_price": D(100),
        "activation_price": D(0),
        "callback_rate": D(0),
        "reduce_only": False,
        "close_position": False,
        "working_type": "MARK_PRICE",
        "created_at_ms": 0,
        "updated_at_ms": 0,
    }
    return AlgoOrder(**(values | fields))


@pytest.mark.parametrize(
    ("kind", "side", "rising"),
    [
        pytest.param(OrderType.STOP_MARKET, Side.BUY, True, id="a buy stop waits for a rise"),
        pytest.param(OrderType.STOP, Side.SELL, False, id="a sell stop waits for a fall"),
        pytest.param(OrderType.TAKE_PROFIT_MARKET, Side.BUY, False, id="a buy take-profit waits for a fall"),
        pytest.param(OrderType.TAKE_PROFIT, Side.SELL, True, id="a sell take-profit waits for a rise"),
    ],
)
def test_conditions(kind: OrderType, side: Side, rising: bool) -> None:
    order = algo(kind, side)
    assert order.is_hit_by(D(101)) is rising
    assert order.is_hit_by(D(99)) is not rising
    assert order.is_hit_by(D(100))


@pytest.mark.parametrize(("side", "hit", "missed"), [(Side.SELL, 99, "99.01"), (Side.BUY, 101, "100.99")])
def test_a_trailing_stop_measures_from_the_best_price(side: Side, hit: int, missed: str) -> None:
    trailing = algo(OrderType.TRAILING_STOP_MARKET, side, callback_rate=D(1), extreme_price=D(100), activated=True)
    assert trailing.is_hit_by(D(hit))
    assert not trailing.is_hit_by(D(missed))


@pytest.mark.parametrize(("side", "active", "waiting"), [(Side.SELL, 110, 109), (Side.BUY, 110, 111)])
def test_a_trailing_stop_does_nothing_before_its_activation(side: Side, active: int, waiting: int) -> None:
    trailing = algo(OrderType.TRAILING_STOP_MARKET, side, callback_rate=D(1), activation_price=D(110))
    assert not trailing.is_hit_by(D(1))
    assert not trailing.is_activated_by(D(waiting))
    assert trailing.is_activated_by(D(active))
