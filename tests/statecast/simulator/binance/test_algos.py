from __future__ import annotations

import pytest
from support.binance_account import NOW, ORDER_PARAMS, Account, D, api_of_an_account

from statecast.simulator.binance import algos
from statecast.simulator.binance.errors import ApiError
from statecast.simulator.binance.rest import Params


def test_conditional_orders_live_outside_the_engine() -> None:
    account = Account()
    account.order()
    stream = account.follow()
    stop = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "quantity": "0.1"}
    placed = account.post("/fapi/v1/algoOrder", triggerPrice="88000", clientAlgoId="sl", reduceOnly="true", **stop)
    assert account.get("/fapi/v1/openOrders") == []
    [listed] = account.get("/fapi/v1/openAlgoOrders")
    assert (listed["algoId"], listed["algoStatus"], listed["actualOrderId"]) == (placed["algoId"], "NEW", "")
    account.exchange.publish(account.ledger.move_mark("BTCUSDT", D(88000), account.now_ms), account.now_ms)
    assert account.get("/fapi/v1/openAlgoOrders") == []
    frames = account.frames(stream)
    states = [frame["o"] for frame in frames if frame["e"] == "ALGO_UPDATE"]
    assert [one["X"] for one in states] == ["NEW", "TRIGGERING", "TRIGGERED", "FINISHED"]
    child = next(frame["o"] for frame in frames if frame["e"] == "ORDER_TRADE_UPDATE")
    assert states[0]["ai"] == ""
    assert states[2]["ai"] == str(child["i"])
    assert (child["c"], child["o"], child["ot"], child["sp"]) == ("sl", "MARKET", "STOP_MARKET", "88000")
    assert (states[3]["aq"], states[3]["act"]) == ("0.1", "MARKET")


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"algoType": "VP"}, -1130),
        ({"type": "MARKET"}, -1116),
        ({"closePosition": "true"}, -4137),
        ({"triggerPrice": ""}, -1102),
    ],
)
def test_bad_parameters(params: dict[str, str], code: int) -> None:
    good = ORDER_PARAMS | {"algoType": "CONDITIONAL", "type": "STOP_MARKET", "triggerPrice": "93000"}
    with pytest.raises(ApiError) as caught:
        algos.new_algo(api_of_an_account(), Params(good | params), NOW)
    assert caught.value.code == code


def test_all_of_a_symbol_are_cancelled_at_once() -> None:
    api = api_of_an_account()
    [waiting] = algos.open_algos(api, Params(), NOW)
    algos.cancel_all_algos(api, Params(symbol="ETHUSDT"), NOW)
    assert algos.open_algos(api, Params(), NOW) == [waiting]
    algos.cancel_all_algos(api, Params(symbol="BTCUSDT"), NOW)
    assert algos.open_algos(api, Params(), NOW) == []
    assert algos.get_algo(api, Params(algoId=str(waiting["algoId"])), NOW)["algoStatus"] == "CANCELED"
