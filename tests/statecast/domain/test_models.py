from __future__ import annotations

from dataclasses import FrozenInstanceError
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.changes import rest_position, stamp

from statecast.domain.models import PositionKey, Stamp, plain


@pytest.mark.parametrize(
    ("text", "written"),
    [
        pytest.param("0.00000000", "0.00000000", id="the venue's zeros stay"),
        pytest.param("0E-8", "0.00000000", id="a computed zero has no exponent"),
        pytest.param("1E-8", "0.00000001", id="one satoshi"),
        pytest.param("-1.50E+3", "-1500", id="a large number"),
        pytest.param("1E+30", "1" + "0" * 30, id="a very large number"),
        pytest.param("-0.0", "-0.0", id="a sign that the venue sent"),
        pytest.param("10250.11873421", "10250.11873421", id="an ordinary wallet"),
        pytest.param("0.10", "0.10", id="trailing zeros are the venue's"),
    ],
)
def test_numbers_are_written_with_every_digit_and_no_exponent(text: str, written: str) -> None:
    assert plain(Decimal(text)) == written


@given(st.decimals(allow_nan=False, allow_infinity=False))
@settings(derandomize=True, deadline=None)
def test_writing_a_number_loses_nothing(number: Decimal) -> None:
    text = plain(number)
    assert "E" not in text.upper()
    assert Decimal(text) == number


@pytest.mark.parametrize(("amount", "side"), [("0.025", "long"), ("-0.025", "short")])
def test_a_position_knows_its_side_by_its_sign(amount: str, side: str) -> None:
    assert rest_position(0, amount).side == side


def test_a_position_is_named_by_symbol_and_position_side() -> None:
    assert rest_position(0, "1", position_side="LONG").key == PositionKey("BTCUSDT", "LONG")


def test_what_the_stream_says_of_a_moment_is_news_to_what_rest_says_of_it() -> None:
    assert Stamp(stamp(5).venue_time_ms) < stamp(5) < stamp(5, pushed=90) < Stamp(stamp(6).venue_time_ms)


def test_a_row_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        rest_position(0, "1").leverage = 5  # type: ignore[misc]
