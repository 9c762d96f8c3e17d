from __future__ import annotations

import pytest

from statecast.simulator.binance.errors import REFUSALS, as_api_error
from statecast.simulator.orders import Refusal, Refused


def test_every_refusal_has_a_code() -> None:
    assert set(REFUSALS) == set(Refusal)


@pytest.mark.parametrize(
    ("refused", "code", "message"),
    [
        (Refused(Refusal.LEVERAGE_INVALID, "126"), -4028, "Leverage 126 is not valid"),
        (Refused(Refusal.UNKNOWN_SYMBOL, "NOPE"), -1121, "Invalid symbol."),
    ],
)
def test_the_sentence_names_the_value(refused: Refused, code: int, message: str) -> None:
    error = as_api_error(refused)
    assert (error.code, error.message, error.status) == (code, message, 400)
