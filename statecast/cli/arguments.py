"""Parsers for values of options; their errors name the value and what is accepted."""

from __future__ import annotations

import argparse
import math

MOST = 1e6
"""Larger numbers of seconds, or of steps per second, are typing errors."""


def positive(text: str) -> float:
    """A number above 0, such as a duration in seconds or a rate."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and up to {MOST:.0f}")
    return number


def whole(text: str) -> int:
    """A whole number, 0 or more, of at most 18 digits."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 0 or more")
    return int(text)
