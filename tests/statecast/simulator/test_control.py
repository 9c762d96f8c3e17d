from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from statecast.secret import Secret
from statecast.simulator.binance.exchange import Exchange
from statecast.simulator.binance.signing import ApiKey
from statecast.simulator.binance.streams import Stream
from statecast.simulator.control import ControlError, control
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import OrderRequest, OrderType, Side

NOW = 1_793_000_000_000


def new_exchange(*, hedge: bool = False) -> Exchange:
    ledger = Ledger({"USDT": Decimal(10_000)}, now_ms=NOW, hedge=hedge)
    return Exchange(ledger, [ApiKey("k", Secret("s"))], Random(1))


def follow(exchange: Exchange) -> Stream:
    key = json.loads(exchange.request("POST", "/fapi/v1/listenKey", "", {"X-MBX-APIKEY": "k"}, b"", NOW).body)
    stream = exchange.connect("/private/ws", f"listenKey={key['listenKey']}", NOW)
    assert isinstance(stream, Stream)
    return stream


def post(exchange: Exchange, name: str, **args: Any) -> Any:
    return control(exchange, "POST", name, "", args, NOW)


@pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
@pytest.mark.parametrize("kind", ["cancels", "fills", "amendments"])
def test_a_burst_makes_real_order_events(kind: str, hedge: bool) -> None:
    exchange = new_exchange(hedge=hedge)
    stream = follow(exchange)
    assert post(exchange, "burst", count=100, kind=kind) == {"orderEventsSeen": 100}
    frames = [json.loads(frame) for frame in stream.take(NOW)]
    sent = [frame["o"]["x"] for frame in frames if frame["e"] == "ORDER_TRADE_UPDATE"]
    if kind == "amendments":
        assert sent == ["NEW", *["AMENDMENT"] * 98, "CANCELED"]
        assert len({frame["o"]["p"] for frame in frames}) == 99
    else:
        assert sent == ["NEW", "TRADE" if kind == "fills" else "CANCELED"] * 50
    assert exchange.ledger.open_orders() == []
    assert exchange.ledger.positions() == []


def test_the_dump_is_the_ledger() -> None:
    exchange = new_exchange()
    post(exchange, "step", count=300)
    post(exchange, "mark", symbol="BTCUSDT", price="91000")
    dump = json.loads(json.dumps(control(exchange, "GET", "ledger", "order_events_from=5", {}, NOW)))
    ledger = exchange.ledger
    assert dump["marks"]["BTCUSDT"] == "91000"
    assert {row["asset"]: Decimal(row["walletBalance"]) for row in dump["assets"]} == {
        wallet.asset: wallet.balance for wallet in ledger.wallets()
    }
    assert {
        (row["symbol"], row["positionSide"]): Decimal(row["positionAmt"])
        for row in dump["positions"]
        if row["positionAmt"] != "0"
    } == {(row.symbol, row.side): row.amount for row in ledger.positions()}
    assert [row["orderId"] for row in dump["openOrders"]] == [order.order_id for order in ledger.open_orders()]
    assert [event["index"] for event in dump["orderEvents"]] == list(range(5, ledger.order_events_seen))
    assert dump["orderEventsSeen"] == ledger.order_events_seen


def test_things_can_be_made_to_happen() -> None:
    exchange = new_exchange()
    stream = follow(exchange)
    post(exchange, "transfer", asset="USDC", amount="5.5")
    post(exchange, "burst", count=1, kind="fills")
    stream.take(NOW)
    post(exchange, "fund", symbol="BTCUSDT", rate="0.01")
    post(exchange, "liquidate", symbol="BTCUSDT")
    for event in ("STRATEGY_UPDATE", "GRID_UPDATE", "CONDITIONAL_ORDER_TRIGGER_REJECT"):
        post(exchange, "frame", event=event)
    post(exchange, "frame", event="FUTURE_EVENT", body={"zz": 1})
    frames = [json.loads(frame) for frame in stream.take(NOW)]
    assert [frame["e"] for frame in frames] == [
        "ACCOUNT_UPDATE",
        "ACCOUNT_UPDATE",
        "ORDER_TRADE_UPDATE",
        "STRATEGY_UPDATE",
        "GRID_UPDATE",
        "CONDITIONAL_ORDER_TRIGGER_REJECT",
        "FUTURE_EVENT",
    ]
    assert frames[2]["o"]["x"] == "CALCULATED"
    requests = control(exchange, "GET", "requests", "", {}, NOW)
    assert requests["requests"] == {"POST /fapi/v1/listenKey 200": 1}
    assert requests["sockets"][0]["root"] == "private"


def test_the_account_changes_in_ways_that_nobody_expects() -> None:
    exchange = new_exchange()
    stream = follow(exchange)
    first, second = (resting(exchange) for _ in range(2))
    stream.take(NOW)
    post(exchange, "expire", order_id=first)
    post(exchange, "accrue", asset="USDT", amount="0.5")
    post(exchange, "delist", symbol="BTCUSDT", reported=False)
    post(exchange, "transfer", asset="USDC", amount="2")
    post(exchange, "forget", asset="USDC")
    frames = [json.loads(frame) for frame in stream.take(NOW)]
    assert [(one["e"], one.get("o", {}).get("X")) for one in frames] == [
        ("ORDER_TRADE_UPDATE", "EXPIRED_BY_RISK"),
        ("ACCOUNT_UPDATE", None),
        ("ACCOUNT_UPDATE", None),
    ]
    assert [wallet.asset for wallet in exchange.ledger.wallets()] == ["USDT"]
    assert exchange.ledger.wallet("USDT").balance == Decimal("10000.5")
    with pytest.raises(ControlError, match=f"unknown order: {second}"):
        post(exchange, "fill", order_id=second, qty="1", symbol="BTCUSDT")


def resting(exchange: Exchange) -> int:
    """The id of a new order that rests in the book."""
    request = OrderRequest(
        symbol="BTCUSDT", side=Side.BUY, type=OrderType.LIMIT, qty=Decimal("0.01"), price=Decimal(90_000)
    )
    exchange.publish(exchange.ledger.place(request, NOW), NOW)
    return exchange.ledger.open_orders()[-1].order_id


@pytest.mark.parametrize(
    ("method", "name", "args", "sentence"),
    [
        ("GET", "nothing", {}, "there is no GET /simulate/nothing"),
        ("POST", "mark", {"symbol": "BTCUSDT", "price": 5}, "price has to be a decimal in a string, not 5"),
        ("POST", "mark", {"symbol": "BTCUSDT", "price": "NaN"}, "price has to be finite, not 'NaN'"),
        ("POST", "mark", {"symbol": "NOPE", "price": "5"}, "unknown symbol: NOPE"),
        ("POST", "fault", {"name": "melt"}, "there is no fault 'melt'"),
        ("POST", "burst", {"count": 2, "kind": "x"}, "kind has to be cancels, fills or amendments, not 'x'"),
        ("POST", "delist", {"symbol": "BTCUSDT", "reported": 1}, "reported has to be true or false, not 1"),
        ("POST", "delist", {"symbol": "NOPE"}, "unknown symbol: NOPE"),
    ],
)
def test_what_cannot_be_done_is_said(method: str, name: str, args: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ControlError) as caught:
        control(new_exchange(), method, name, "", args, NOW)
    assert str(caught.value) == sentence
