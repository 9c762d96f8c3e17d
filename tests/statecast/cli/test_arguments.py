from __future__ import annotations

import argparse

import pytest

from statecast.cli.arguments import positive, whole


@pytest.mark.parametrize(("text", "number"), [("1", 1.0), ("0.5", 0.5), ("1e6", 1e6)])
def test_positive_numbers_are_taken(text: str, number: float) -> None:
    assert positive(text) == number


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "1e7", "soon", ""])
def test_what_is_not_a_positive_number_is_named(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number above 0") as caught:
        positive(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("12", 12), ("9" * 18, 10**18 - 1)])
def test_whole_numbers_are_taken(text: str, number: int) -> None:
    assert whole(text) == number


@pytest.mark.parametrize("text", ["-1", "1.5", "٣", "9" * 19, "x", ""])
def test_what_is_not_a_whole_number_is_named(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a whole number") as caught:
        whole(text)
    assert repr(text) in str(caught.value)
