from __future__ import annotations

from support.ledger import BOTH, NOW, D, expect_refused, new_ledger, order, summary

from statecast.simulator.events import (
    AccountChanged,
    Reason,
)
from statecast.simulator.ledger import Ledger
from statecast.simulator.margin import MarginLevel, Pool
from statecast.simulator.orders import (
    Refusal,
    Side,
)


def test_a_resting_order_changes_no_balance() -> None:
    ledger = new_ledger()
    assert summary(ledger.place(order(price="90000"), NOW)) == ["NEW NEW"]
    [resting] = ledger.open_orders()
    assert ledger.asset_margin("USDT").open_order_initial == D(450)
    assert ledger.asset_margin("USDT").available == D(9550)
    assert summary(ledger.cancel(resting.order_id, NOW)) == ["CANCELED CANCELED"]
    assert ledger.asset_margin("USDT").available == D(10000)
    assert ledger.wallet("USDT").balance == D(10000)


def test_isolated_margin_leaves_the_cross_wallet() -> None:
    ledger = new_ledger()
    ledger.set_margin_type("BTCUSDT", NOW, isolated=True)
    ledger.place(order(), NOW)
    row = ledger.position("BTCUSDT", BOTH)
    assert row.isolated_wallet == D("456.2525")
    assert ledger.cross_wallet("USDT") == ledger.wallet("USDT").balance - row.isolated_wallet
    [event] = ledger.add_isolated_margin("BTCUSDT", BOTH, D(50), NOW)
    assert isinstance(event, AccountChanged)
    assert event.reason is Reason.MARGIN_TRANSFER
    assert ledger.position("BTCUSDT", BOTH).isolated_wallet == D("506.2525")


def test_pooled_assets_carry_each_others_orders() -> None:
    ledger = Ledger({"USDT": D(10), "USDC": D(5000)}, now_ms=NOW)
    expect_refused(Refusal.MARGIN_INSUFFICIENT, ledger.place, order(), NOW)
    ledger.set_multi_assets(NOW, enabled=True)
    ledger.place(order(), NOW)
    assert ledger.asset_margin("USDC").available < 4600
    expect_refused(Refusal.MARGIN_TYPE_MULTI_ASSETS, ledger.set_margin_type, "ETHUSDT", NOW, isolated=True)
    expect_refused(Refusal.MARGIN_INSUFFICIENT, ledger.set_multi_assets, NOW, enabled=False)


def test_the_figures_of_many_rows_are_those_of_each() -> None:
    ledger = Ledger({"USDT": D(8_000)}, now_ms=NOW)
    ledger.set_margin_type("SOLUSDT", NOW, isolated=True)
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        ledger.place(order(symbol=symbol, qty="0.2" if symbol == "BTCUSDT" else "1"), NOW)
    ledger.place(order(price="90000"), NOW)
    ledger.place(order(Side.SELL, price="92000", reduce_only=True), NOW)
    statement = ledger.statement()
    btc, eth, sol = (statement.row(symbol, BOTH) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"))
    assert statement.rows() == [btc, eth, sol]
    assert (btc.bid_notional, btc.ask_notional) == (9_000, 0)
    free = statement.asset("USDT").cross_wallet + eth.profit
    assert statement.liquidation_price(btc) == btc.liquidation_price(free) != 0
    assert statement.liquidation_price(sol) == sol.liquidation_price(sol.row.isolated_wallet) != 0
    assert statement.asset("USDT").profit == btc.profit + eth.profit + sol.profit
    assert statement.account().cross_profit == btc.profit + eth.profit


def test_a_pool_is_called_before_it_is_liquidated() -> None:
    ledger = new_ledger()
    ledger.place(order(), NOW)
    row = ledger.position_margin("BTCUSDT", BOTH)
    levels = {
        balance: Pool("USDT", row.maintenance * D(balance), [row], D(0)).level
        for balance in ("1", "1.01", "1.25", "1.26")
    }
    assert levels == {
        "1": MarginLevel.LIQUIDATE,
        "1.01": MarginLevel.CALL,
        "1.25": MarginLevel.CALL,
        "1.26": MarginLevel.SUFFICIENT,
    }
    assert Pool("USDT", D(0), [], D(0)).level is MarginLevel.SUFFICIENT
