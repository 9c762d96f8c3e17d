from __future__ import annotations

from support.ledger import NOW, D, expect_refused, new_ledger, order

from statecast.simulator.events import (
    AccountChanged,
    LeverageChanged,
    Reason,
)
from statecast.simulator.orders import (
    Refusal,
    Side,
)


def test_the_margin_type_is_reported_with_rows_that_exist() -> None:
    ledger = new_ledger()
    assert ledger.set_margin_type("BTCUSDT", NOW, isolated=True) == []
    ledger.place(order(), NOW)
    expect_refused(Refusal.MARGIN_TYPE_POSITION, ledger.set_margin_type, "BTCUSDT", NOW, isolated=False)
    ledger.place(order(Side.SELL), NOW)
    [event] = ledger.set_margin_type("BTCUSDT", NOW, isolated=False)
    assert isinstance(event, AccountChanged)
    assert (event.reason, event.balances) == (Reason.MARGIN_TYPE_CHANGE, ())
    assert [row.position.amount for row in event.positions] == [0]
    expect_refused(Refusal.MARGIN_TYPE_SAME, ledger.set_margin_type, "BTCUSDT", NOW, isolated=False)


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


def test_leverage() -> None:
    ledger = new_ledger()
    assert ledger.set_leverage("BTCUSDT", 50, NOW) == [LeverageChanged(NOW, "BTCUSDT", 50)]
    assert ledger.set_leverage("BTCUSDT", 50, NOW) == []
    ledger.place(order(qty="2"), NOW)
    expect_refused(Refusal.MARGIN_INSUFFICIENT, ledger.set_leverage, "BTCUSDT", 2, NOW)
    expect_refused(Refusal.LEVERAGE_INVALID, ledger.set_leverage, "BTCUSDT", 126, NOW)
