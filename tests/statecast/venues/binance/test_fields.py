"""Reads of single values: what is an amount, a time, an id, and what is not."""

from __future__ import annotations

from decimal import Decimal

import pytest

from statecast.errors import FrameError
from statecast.venues.binance import fields


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("91250.40000", "91250.40000"),
        ("-0.5", "-0.5"),
        ("0", "0"),
        ("0E-8", "0E-8"),
        ("1.5e+3", "1.5E+3"),
        (7, "7"),
        (-7, "-7"),
    ],
)
def test_amounts_keep_every_digit(value: object, expected: str) -> None:
    assert str(fields.number({"x": value}, "x", "test")) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        " 1",
        "1 ",
        "1_000",
        "--1",
        "+1",
        ".",
        "-",
        "1.2.3",
        "NaN",
        "sNaN",
        "Infinity",
        "-inf",
        "0x10",
        "٣",
        "１",
        "1e",
        "1e41",
        "1e-41",
        "1e999999999",
        "1e--1",
        "e5",
        "9" * 65,
        1.5,
        1e300,
        True,
        None,
        [],
        {},
        ["1"],
    ],
)
def test_what_is_no_amount_is_an_error(value: object) -> None:
    with pytest.raises(FrameError, match=r"frame test: x: is .*expected a decimal number"):
        fields.number({"x": value}, "x", "test")


def test_missing_amount_is_named() -> None:
    with pytest.raises(FrameError, match="frame test: x: is missing, expected a decimal number"):
        fields.number({}, "x", "test")


@pytest.mark.parametrize("row", [{}, {"x": ""}, {"x": None}])
def test_amount_that_is_not_given_is_none(row: fields.Json) -> None:
    assert fields.maybe_number(row, "x", "test") is None


def test_amount_of_zero_is_given() -> None:
    assert fields.maybe_number({"x": "0"}, "x", "test") == Decimal(0)


@pytest.mark.parametrize("value", [-1, 10**14, 1793000000000000, 1.793e12, "1793000000000", True, None])
def test_times_in_another_unit_or_type_are_errors(value: object) -> None:
    with pytest.raises(FrameError):
        fields.time_ms({"x": value}, "x", "test")


@pytest.mark.parametrize(("value", "expected"), [("1793000000123", 1793000000123), (5, 5), ("9" * 70, 0), ([], 0)])
def test_lenient_times(value: object, expected: int) -> None:
    assert fields.time_or_zero({"x": value}, "x") == expected


@pytest.mark.parametrize(("value", "expected"), [("", None), (0, None), ("0", None), (5, "5"), ("88", "88")])
def test_ids_that_may_be_absent(value: object, expected: str | None) -> None:
    assert fields.maybe_id({"x": value}, "x", "test") == expected


@pytest.mark.parametrize("value", [False, True, -1, "x", [], 2**63, 1.5])
def test_what_is_no_id_is_an_error(value: object) -> None:
    with pytest.raises(FrameError):
        fields.maybe_id({"x": value}, "x", "test")


def test_error_shows_a_short_value_and_no_structure() -> None:
    with pytest.raises(FrameError) as caught:
        fields.whole({"x": "y" * 1000}, "x", "test")
    assert len(str(caught.value)) < 150
    with pytest.raises(FrameError, match="is an object"):
        fields.whole({"x": {"secret": "s"}}, "x", "test")


def test_error_of_a_body_does_not_quote_it() -> None:
    with pytest.raises(FrameError) as caught:
        fields.parse(b'{"listenKey":"abc"', "test")
    assert "abc" not in str(caught.value)
