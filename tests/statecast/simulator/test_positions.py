from __future__ import annotations

from decimal import Decimal

import pytest

from statecast.simulator.orders import PositionSide
from statecast.simulator.positions import Position, PositionMargin
from statecast.simulator.symbols import SYMBOLS

BTC = SYMBOLS[0]


def row(amount: str = "0", entry: str = "0", isolated_wallet: str = "0") -> Position:
    return Position(
        symbol="BTCUSDT",
        side=PositionSide.BOTH,
        amount=Decimal(amount),
        entry_price=Decimal(entry),
        isolated_wallet=Decimal(isolated_wallet),
    )


@pytest.mark.parametrize(
    ("before", "qty", "price", "after", "realised"),
    [
        pytest.param(("0", "0"), "2", "100", ("2", "100"), "0", id="an opening takes the price"),
        pytest.param(("2", "100"), "2", "110", ("4", "105"), "0", id="an addition averages"),
        pytest.param(("4", "105"), "-1", "125", ("3", "105"), "20", id="a reduction keeps the entry"),
        pytest.param(("3", "105"), "-3", "100", ("0", "0"), "-15", id="a close leaves nothing"),
        pytest.param(("3", "105"), "-5", "100", ("-2", "100"), "-15", id="a flip starts anew"),
        pytest.param(("-2", "100"), "1", "90", ("-1", "100"), "10", id="a short gains when prices fall"),
    ],
)
def test_fills(before: tuple[str, str], qty: str, price: str, after: tuple[str, str], realised: str) -> None:
    fill = row(*before).filled(Decimal(qty), Decimal(price), Decimal(1), 10, 5, isolated=False)
    assert (fill.row.amount, fill.row.entry_price) == (Decimal(after[0]), Decimal(after[1]))
    assert fill.realised == Decimal(realised)
    assert fill.row.realised == Decimal(realised)
    assert fill.row.updated_at_ms == 5


def test_isolated_margin_is_drawn_on_opening_and_returned_in_parts() -> None:
    opened = row().filled(Decimal(4), Decimal(100), Decimal(0), 10, 1, isolated=True).row
    assert opened.isolated_wallet == 40
    halved = opened.filled(Decimal(-2), Decimal(120), Decimal(0), 10, 2, isolated=True).row
    assert halved.isolated_wallet == 20
    assert halved.filled(Decimal(-2), Decimal(120), Decimal(0), 10, 3, isolated=True).row.isolated_wallet == 0


@pytest.mark.parametrize(("qty", "break_even"), [("2", "100.5"), ("-2", "99.5")])
def test_break_even_repays_the_opening_fees(qty: str, break_even: str) -> None:
    opened = row().filled(Decimal(qty), Decimal(100), Decimal(1), 10, 1, isolated=False).row
    assert opened.break_even_price == Decimal(break_even)


def test_the_worse_side_of_the_open_orders_ties_up_margin() -> None:
    margin = PositionMargin(row("1", "90000"), Decimal(90_000), 10, False, Decimal(45_000), Decimal(100_000), BTC)
    # All asks filled leave a short of 10000, all bids a long of 135000.
    assert margin.initial == 13_500
    assert margin.position_initial == 9_000
    assert margin.open_order_initial == 4_500


@pytest.mark.parametrize("amount", ["1", "-1"])
def test_at_the_liquidation_price_margin_equals_maintenance(amount: str) -> None:
    position = row(amount, "90000")
    price = PositionMargin(position, Decimal(90_000), 10, False, Decimal(0), Decimal(0), BTC).liquidation_price(
        Decimal(5_000)
    )
    there = PositionMargin(position, price, 10, False, Decimal(0), Decimal(0), BTC)
    assert 5_000 + there.profit == pytest.approx(there.maintenance, abs=Decimal("0.00001"))
