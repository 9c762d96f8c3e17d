from __future__ import annotations

from support.ledger import NOW, D, fills, new_ledger, order, summary

from statecast.simulator.events import (
    MarginCalled,
)
from statecast.simulator.orders import (
    ExpiryReason,
    OrderType,
)


def test_thin_margin_is_called_once_and_then_liquidated() -> None:
    ledger = new_ledger("500")
    ledger.place(order(), NOW)
    ledger.place(order(qty="0.002", price="85000"), NOW)
    assert ledger.move_mark("BTCUSDT", D(87500), NOW) == []
    called = ledger.move_mark("BTCUSDT", D(86700), NOW)
    assert [type(event) for event in called] == [MarginCalled]
    assert ledger.move_mark("BTCUSDT", D(86690), NOW) == []
    events = ledger.move_mark("BTCUSDT", D(86600), NOW)
    assert summary(events)[:2] == ["EXPIRED EXPIRED", "CALCULATED FILLED"]
    [fill] = fills(events)
    assert fill.order.order.client_order_id.startswith("autoclose-")
    assert fill.order.order.type is OrderType.LIQUIDATION
    assert fill.order.commission == D("0.1") * 86600 * D("0.0125")
    assert ledger.positions() == []
    assert ledger.orders()[1].expiry_reason == ExpiryReason.LIQUIDATION


def test_the_insurance_fund_clears_a_deficit() -> None:
    ledger = new_ledger("500")
    ledger.place(order(), NOW)
    events = ledger.move_mark("BTCUSDT", D(80000), NOW)
    assert summary(events) == ["CALCULATED FILLED", "account INSURANCE_CLEAR"]
    assert ledger.wallet("USDT").balance == 0
