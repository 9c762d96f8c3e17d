from __future__ import annotations

from support.ledger import NOW, D, expect_refused, new_ledger, order

from statecast.simulator.events import (
    AccountChanged,
    Reason,
)
from statecast.simulator.orders import (
    Refusal,
    Side,
)


def test_longs_pay_positive_funding_and_no_position_is_named() -> None:
    ledger = new_ledger()
    ledger.place(order(), NOW)
    before = ledger.wallet("USDT").balance
    [event] = ledger.fund("BTCUSDT", NOW)
    assert isinstance(event, AccountChanged)
    assert (event.reason, event.symbol, event.positions) == (Reason.FUNDING_FEE, "BTCUSDT", ())
    assert event.balances[0].change == D("-0.912504")
    assert ledger.wallet("USDT").balance == before + event.balances[0].change
    assert ledger.fund("ETHUSDT", NOW) == []


def test_isolated_funding_names_its_position() -> None:
    ledger = new_ledger()
    ledger.set_margin_type("BTCUSDT", NOW, isolated=True)
    ledger.place(order(Side.SELL), NOW)
    cross = ledger.cross_wallet("USDT")
    [event] = ledger.fund("BTCUSDT", NOW)
    assert isinstance(event, AccountChanged)
    [row] = event.positions
    assert row.position.isolated_wallet == D("456.2515") + event.balances[0].change
    assert ledger.cross_wallet("USDT") == cross


def test_transfers_stop_at_what_is_free() -> None:
    ledger = new_ledger()
    [event] = ledger.transfer("USDT", D("25.5"), NOW)
    assert isinstance(event, AccountChanged)
    assert (event.reason, event.positions) == (Reason.DEPOSIT, ())
    ledger.place(order(), NOW)
    expect_refused(Refusal.BALANCE_INSUFFICIENT, ledger.transfer, "USDT", D(-9800), NOW)
    [out] = ledger.transfer("USDT", D(-9000), NOW)
    assert isinstance(out, AccountChanged)
    assert (out.reason, out.balances[0].change) == (Reason.WITHDRAW, D(-9000))
    [fresh] = ledger.transfer("BNB", D(2), NOW)
    assert isinstance(fresh, AccountChanged)
    assert ledger.wallet("BNB").balance == 2
