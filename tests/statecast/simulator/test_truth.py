from __future__ import annotations

import json
from decimal import Decimal
from random import Random

import pytest
from support.ledger import NOW, new_ledger

from statecast.simulator import trading
from statecast.simulator.binance.rest import Params, RestApi
from statecast.simulator.binance.routes import ROUTES
from statecast.simulator.ledger import Ledger
from statecast.simulator.truth import account_truth

SEEDS = pytest.mark.parametrize(
    ("seed", "hedge", "multi_assets"), [(2, False, False), (5, True, False), (0, False, True), (1, True, True)]
)


def traded(seed: int, *, hedge: bool, multi_assets: bool) -> Ledger:
    ledger, rng = new_ledger(hedge=hedge, multi_assets=multi_assets), Random(seed)
    for number in range(600):
        trading.step(ledger, rng, NOW + number)
    assert ledger.positions()
    assert ledger.open_orders()
    assert ledger.open_algos()
    return ledger


@SEEDS
def test_every_figure_is_the_ledgers(seed: int, hedge: bool, multi_assets: bool) -> None:
    ledger = traded(seed, hedge=hedge, multi_assets=multi_assets)
    truth = json.loads(json.dumps(account_truth(ledger)))
    assert truth["marks"] == {symbol: str(mark) for symbol, mark in ledger.marks.items()}
    assert [(row["asset"], Decimal(row["walletBalance"])) for row in truth["assets"]] == [
        (wallet.asset, wallet.balance) for wallet in ledger.wallets()
    ]
    rows = {(row["symbol"], row["positionSide"]): row for row in truth["positions"]}
    for position in ledger.positions():
        row = rows.pop((position.symbol, position.side))
        assert (Decimal(row["positionAmt"]), Decimal(row["entryPrice"])) == (position.amount, position.entry_price)
    assert not any(Decimal(row["positionAmt"]) for row in rows.values())
    assert [(row["orderId"], Decimal(row["executedQty"]), row["status"]) for row in truth["openOrders"]] == [
        (order.order_id, order.filled_qty, order.status) for order in ledger.open_orders()
    ]
    assert [(row["algoId"], Decimal(row["triggerPrice"])) for row in truth["openAlgoOrders"]] == [
        (algo.algo_id, algo.trigger_price) for algo in ledger.open_algos()
    ]
    configs = {row["symbol"]: row for row in truth["symbolConfig"]}
    for symbol in ledger.rules:
        settings = ledger.settings(symbol)
        assert (configs[symbol]["leverage"], configs[symbol]["marginType"] == "ISOLATED") == (
            settings.leverage,
            settings.isolated,
        )


@SEEDS
def test_binance_answers_the_truth(seed: int, hedge: bool, multi_assets: bool) -> None:
    """Computed twice, in the ledger's own words and in the dialect's: neither is rendered through the other."""
    ledger = traded(seed, hedge=hedge, multi_assets=multi_assets)
    truth, api = account_truth(ledger), RestApi(ledger, lambda _: None)

    def answer(path: str) -> object:
        return ROUTES["GET", f"/fapi/{path}"].handler(api, Params(), NOW)

    account = answer("v3/account")
    assert isinstance(account, dict)
    del account["positions"]
    touched = [row for row in account.pop("assets") if row["updateTime"]]
    assert (touched, account) == (truth["assets"], truth["totals"])
    beyond = ("leverage", "marginType")
    positions = [{name: row[name] for name in row if name not in beyond} for row in truth["positions"]]
    assert answer("v3/positionRisk") == positions
    assert answer("v1/symbolConfig") == truth["symbolConfig"]
    assert answer("v1/openOrders") == truth["openOrders"]
    assert answer("v1/openAlgoOrders") == truth["openAlgoOrders"]
    assert answer("v1/multiAssetsMargin") == {"multiAssetsMargin": truth["multiAssetsMargin"]}
    assert answer("v1/positionSide/dual") == {"dualSidePosition": truth["dualSidePosition"]}
