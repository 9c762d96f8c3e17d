from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from support.binance_account import api_of_an_account

from statecast.simulator.binance.errors import ApiError
from statecast.simulator.binance.rest import Params
from statecast.simulator.orders import Refused, Side

READS: dict[str, Callable[[Params], Any]] = {
    "text": lambda params: params.text("x"),
    "integer": lambda params: params.integer("x"),
    "decimal": lambda params: params.decimal("x"),
    "flag": lambda params: params.flag("x"),
    "one of": lambda params: params.one_of("x", Side, code=-1117),
}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("text", "币安人生USDT", "币安人生USDT"),
        ("integer", "-7", -7),
        ("decimal", "0.10", Decimal("0.10")),
        ("flag", "TRUE", True),
        ("one of", "SELL", Side.SELL),
    ],
)
def test_parameters_are_read(kind: str, text: str, value: Any) -> None:
    assert READS[kind](Params(x=text)) == value


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [
        ("text", "", -1102),
        ("integer", "", -1102),
        ("integer", "1.5", -1102),
        ("integer", "٣", -1102),
        ("decimal", "", -1102),
        ("decimal", "1e3", -1100),
        ("flag", "yes", -1102),
        ("one of", "", -1102),
        ("one of", "HOLD", -1117),
    ],
)
def test_bad_parameters_have_the_codes_of_binance(kind: str, text: str, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        READS[kind](Params(x=text))
    assert caught.value.code == code


def test_an_answer_is_limited_to_a_listed_symbol() -> None:
    api = api_of_an_account()
    assert api.symbol_or_none(Params()) is None
    assert api.symbol_or_none(Params(symbol="BTCUSDT")) == "BTCUSDT"
    with pytest.raises(Refused):
        api.symbol_or_none(Params(symbol="NOPE"))
