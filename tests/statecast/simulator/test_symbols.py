from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest

from statecast.simulator.symbols import SYMBOLS, Rules


@pytest.mark.parametrize("rules", SYMBOLS, ids=lambda rules: rules.symbol)
def test_a_walk_stays_on_the_tick_grid_and_near_home(rules: Rules) -> None:
    rng, mark = Random(3), rules.start_price
    for _ in range(20_000):
        mark = rules.walk(mark, rng)
        assert mark % rules.tick_size == 0
        assert rules.start_price / 3 < mark < rules.start_price * 3


@pytest.mark.parametrize("rules", SYMBOLS, ids=lambda rules: rules.symbol)
def test_maintenance_margin_is_continuous_across_brackets(rules: Rules) -> None:
    for lower, upper in zip(rules.brackets, rules.brackets[1:], strict=False):
        edge = lower.cap
        assert edge * lower.maintenance_rate - lower.cum == edge * upper.maintenance_rate - upper.cum
        assert rules.bracket(edge) is lower
        assert rules.bracket(edge + 1) is upper


def test_more_leverage_permits_less() -> None:
    btc = SYMBOLS[0]
    assert btc.max_notional(125) == 300_000
    assert btc.max_notional(20) == 70_000_000
    assert btc.max_notional(1) == Decimal(100_000_000)
