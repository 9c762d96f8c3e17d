from __future__ import annotations

from support.ledger import BOTH, NOW, D, expect_refused, new_ledger, order

from statecast.simulator.events import (
    AccountChanged,
    LeverageChanged,
    MultiAssetsChanged,
    Reason,
)
from statecast.simulator.orders import (
    PositionSide,
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


def test_leverage() -> None:
    ledger = new_ledger()
    assert ledger.set_leverage("BTCUSDT", 50, NOW) == [LeverageChanged(NOW, "BTCUSDT", 50)]
    assert ledger.set_leverage("BTCUSDT", 50, NOW) == []
    ledger.place(order(qty="2"), NOW)
    expect_refused(Refusal.MARGIN_INSUFFICIENT, ledger.set_leverage, "BTCUSDT", 2, NOW)
    expect_refused(Refusal.LEVERAGE_INVALID, ledger.set_leverage, "BTCUSDT", 126, NOW)


def test_a_mode_changes_without_orders_and_positions_alone() -> None:
    ledger = new_ledger()
    expect_refused(Refusal.MODE_SAME, ledger.set_hedge, enabled=False)
    ledger.place(order(price="90000"), NOW)
    expect_refused(Refusal.MODE_ORDERS, ledger.set_hedge, enabled=True)
    ledger.cancel(ledger.open_orders()[0].order_id, NOW)
    assert ledger.set_hedge(enabled=True) == []
    assert ledger.sides() == (PositionSide.LONG, PositionSide.SHORT)


def test_assets_are_pooled_without_isolated_symbols_alone() -> None:
    ledger = new_ledger()
    expect_refused(Refusal.MULTI_ASSETS_SAME, ledger.set_multi_assets, NOW, enabled=False)
    ledger.set_margin_type("BTCUSDT", NOW, isolated=True)
    expect_refused(Refusal.MULTI_ASSETS_ISOLATED, ledger.set_multi_assets, NOW, enabled=True)
    ledger.set_margin_type("BTCUSDT", NOW, isolated=False)
    assert ledger.set_multi_assets(NOW, enabled=True) == [MultiAssetsChanged(NOW, enabled=True)]


def test_isolated_margin_cannot_fall_below_the_initial_margin() -> None:
    ledger = new_ledger()
    expect_refused(Refusal.NOT_ISOLATED, ledger.add_isolated_margin, "BTCUSDT", BOTH, D(50), NOW)
    ledger.set_margin_type("BTCUSDT", NOW, isolated=True)
    ledger.place(order(), NOW)
    expect_refused(Refusal.MARGIN_INSUFFICIENT, ledger.add_isolated_margin, "BTCUSDT", BOTH, D(-50), NOW)
    expect_refused(Refusal.MARGIN_INSUFFICIENT, ledger.add_isolated_margin, "BTCUSDT", BOTH, D(20_000), NOW)
    expect_refused(Refusal.LEVERAGE_ISOLATED, ledger.set_leverage, "BTCUSDT", 10, NOW)
