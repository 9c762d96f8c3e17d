from __future__ import annotations

import pytest
from support.binance_account import NOW, ORDER_PARAMS, api_of_an_account

from statecast.simulator.binance import orders
from statecast.simulator.binance.errors import ApiError
from statecast.simulator.binance.rest import Params, RestApi


@pytest.fixture
def api() -> RestApi:
    return api_of_an_account()


def test_a_batch_fails_one_by_one(api: RestApi) -> None:
    batch = (
        '[{"symbol":"BTCUSDT","side":"BUY","type":"MARKET","quantity":"0.01"},'
        '{"symbol":"BTCUSDT","side":"BUY","type":"MARKET","quantity":"99"}]'
    )
    first, second = orders.new_batch(api, Params(batchOrders=batch), NOW)
    assert first["status"] == "NEW"
    assert second == {"code": -2019, "msg": "Margin is insufficient."}
    open_id = orders.open_orders(api, Params(), NOW)[0]["orderId"]
    cancelled, unknown = orders.cancel_batch(api, Params(symbol="BTCUSDT", orderIdList=f"[{open_id},7]"), NOW)
    assert cancelled["status"] == "CANCELED"
    assert unknown["code"] == -2011


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"side": "HOLD", "type": "MARKET"}, -1117),
        ({"type": "ICEBERG"}, -1116),
        ({"type": "LIMIT", "price": "90000"}, -1102),
        ({"type": "LIMIT", "price": "90000", "timeInForce": "SOON"}, -1115),
        ({"type": "MARKET", "quantity": "1e3"}, -1100),
        ({"type": "MARKET", "newClientOrderId": "x" * 37}, -4015),
        ({"type": "TRAILING_STOP_MARKET"}, -4120),
    ],
)
def test_bad_parameters(api: RestApi, params: dict[str, str], code: int) -> None:
    with pytest.raises(ApiError) as caught:
        orders.new_order(api, Params(ORDER_PARAMS | params), NOW)
    assert caught.value.code == code
