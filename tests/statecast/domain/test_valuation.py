from __future__ import annotations

from decimal import Decimal

import pytest
from support.changes import NOW, D, rest_balance, rest_position, totals

from statecast.domain import valuation
from statecast.domain.models import Position
from statecast.domain.valuation import Profit, at_mark_price, profit_by_asset, totals_of_wallet

VALUES: dict[str, tuple[str, str, str, bool, str, str]] = {
    # amount, entry, mark, inverse; profit and notional
    "a linear long gains as the price rises": ("0.5", "100", "110", False, "5", "55"),
    "a linear short loses as the price rises": ("-0.5", "100", "110", False, "-5", "-55"),
    "an inverse long gains in coins as the price rises": ("1000", "50000", "62500", True, "0.004", "0.016"),
    "an inverse short loses in coins as the price rises": ("-1000", "50000", "62500", True, "-0.004", "-0.016"),
    "an inverse long loses more coins the deeper the price falls": ("1000", "50000", "25000", True, "-0.02", "0.04"),
    "it is rounded to eight places": ("0.1", "91250.44444444", "91251.12345678", False, "0.06790123", "9125.11234568"),
    "half is rounded to even": ("1", "1", "1.000000005", False, "0", "1"),
    "an inverse profit is rounded once": ("100", "30000", "30001", True, "0.00000011", "0.00333322"),
}


@pytest.mark.parametrize("case", VALUES)
def test_what_a_position_is_worth(case: str) -> None:
    amount, entry, mark, inverse, gain, worth = VALUES[case]
    assert valuation.profit(D(amount), D(entry), D(mark), inverse=inverse) == D(gain)
    assert valuation.notional(D(amount), D(mark), inverse=inverse) == D(worth)


def test_an_inverse_profit_is_the_difference_of_the_two_values() -> None:
    amount, entry, mark = D(12_300), D("91250.4"), D("88123.7")
    exact = amount * (1 / entry - 1 / mark)
    assert abs(valuation.profit(amount, entry, mark, inverse=True) - exact) <= D("0.000000005")


@pytest.mark.parametrize(("entry", "mark"), [("0", "100"), ("100", "0")])
def test_an_inverse_contract_without_a_price_is_beyond_reckoning(entry: str, mark: str) -> None:
    with pytest.raises(ArithmeticError):
        valuation.profit(D(1), D(entry), D(mark), inverse=True)


def inverse(amount: str, entry: str) -> Position:
    fields = {"symbol": "BTC-USD-SWAP", "margin_asset": "BTC", "inverse": True, "quantity_asset": "USD"}
    return rest_position(0, amount, entry, mark_price=entry, **fields)


def test_a_position_at_a_newer_mark_price() -> None:
    row = at_mark_price(inverse("1000", "50000"), D(62_500), NOW + 10)
    assert (row.mark_price, row.unrealized_profit, row.notional) == (D(62_500), D("0.004"), D("0.016"))
    assert row.mark_price_time_ms == row.unrealized_profit_time_ms == NOW + 10


def test_a_profit_that_is_newer_than_the_mark_price_stays() -> None:
    row = at_mark_price(rest_position(0, "1", taken=50, unrealized_profit=D(7)), D(110), NOW + 10)
    assert (row.mark_price, row.notional) == (D(110), D(110))
    assert (row.unrealized_profit, row.unrealized_profit_time_ms) == (D(7), NOW + 50)


def test_profits_are_summed_in_the_asset_that_each_is_in() -> None:
    rows = [
        rest_position(0, "1", mark_price="110", taken=20),
        rest_position(0, "1", mark_price="95", taken=10, symbol="ETHUSDT"),
        at_mark_price(inverse("1000", "50000"), D(62_500), NOW + 5),
    ]
    assert profit_by_asset(rows) == {"USDT": Profit(D(5), NOW + 10), "BTC": Profit(D("0.004"), NOW + 5)}
    assert profit_by_asset([]) == {}


@pytest.mark.parametrize("unknown", ["margin_asset", "unrealized_profit"])
def test_a_sum_with_an_unknown_part_is_unknown(unknown: str) -> None:
    fields = {unknown: None, "unrealized_profit_time_ms": None}
    assert profit_by_asset([rest_position(0, "1"), rest_position(0, "1", symbol="X", **fields)]) is None


def test_totals_of_one_wallet_are_derived_from_it() -> None:
    told = totals(0, "1000")
    after = totals_of_wallet(told, rest_balance(30, "900", unrealized_profit=D(7)))
    assert (after.total_wallet_balance, after.total_unrealized_profit, after.total_margin_balance) == (
        D(900),
        D(7),
        D(907),
    )
    assert after.total_wallet_balance_time_ms == NOW + 30
    assert totals_of_wallet(told, rest_balance(30, "900", unrealized_profit=None)) == told


def test_no_precision_is_lost_below_eight_places_of_a_large_amount() -> None:
    assert valuation.money(Decimal("12345678901234.123456785")) == D("12345678901234.12345678")
