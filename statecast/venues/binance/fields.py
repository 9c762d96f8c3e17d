"""Typed reads of Binance's JSON objects: the few functions through which every value of the wire passes.

Each takes the JSON object, the key, and the name of the frame or endpoint for the error. What cannot be read raises
`FrameError`; nothing is guessed. Amounts come as text (`"91250.40000"`), times and ids as JSON integers, and `""`
stands for "not given" (§9 of the venue notes, "Empty-string numbers"). orjson turns fractions and integers beyond 64
bit into floats, whose digits are no longer the venue's, so that a float is never read as an amount, a time or an id.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from decimal import Decimal
from functools import lru_cache
from typing import TypeVar

import orjson

from statecast.errors import FrameError

Json = dict[str, object]
T = TypeVar("T")

MAX_NUMBER_LENGTH = 64
"""Longest number read; Binance's longest have about 30 digits. Keeps a hostile number from costing memory."""

MAX_EXPONENT = 40
"""Largest power of ten, up or down, of a number written with an exponent (`0E-8`, as Java prints a zero)."""

MAX_TIME_MS = 100_000_000_000_000
"""Year 5138. A time beyond it is another unit (microseconds) or noise, and would make every later row look old."""

MAX_ID = 2**63

_WORD = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def parse(body: bytes | str, event: str) -> object:
    """`body` as JSON; invalid UTF-8, NaN, Infinity, lone surrogates and nesting beyond 1,024 are refused by orjson."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # Its message quotes nothing, but the exception holds the whole document: cut the chain, it may be secret.
        raise FrameError(event, "body", "is not JSON") from None


def obj(value: object, event: str, where: str) -> Json:
    """`value` if it is a JSON object."""
    if type(value) is dict:
        return value
    raise FrameError(event, where, f"is {kind(value)}, expected an object")


def rows(value: object, event: str, where: str) -> list[Json]:
    """`value` if it is an array of JSON objects."""
    if type(value) is not list:
        raise FrameError(event, where, f"is {kind(value)}, expected an array")
    for row in value:
        if type(row) is not dict:
            raise FrameError(event, where, f"holds {kind(row)}, expected objects")
    return value


def text(row: Json, key: str, event: str) -> str:
    """A text, possibly empty."""
    value = row.get(key)
    if type(value) is str:
        return value
    raise _unfit(row, key, event, "a text")


def name(row: Json, key: str, event: str) -> str:
    """A text that identifies something (symbol, asset) and therefore is not empty."""
    value = row.get(key)
    if type(value) is str and value:
        return value
    raise _unfit(row, key, event, "a name")


def one_of(row: Json, key: str, allowed: Set[str], event: str) -> str:
    """A text out of `allowed`; another one would be acted on wrongly, so it is an error."""
    value = row.get(key)
    if type(value) is str and value in allowed:
        return value
    raise _unfit(row, key, event, "one of " + ", ".join(sorted(allowed)))


def word(row: Json, key: str, event: str) -> str:
    """A word in capitals out of a set that may grow, as a status."""
    value = row.get(key)
    if type(value) is str and _WORD.fullmatch(value):
        return value
    raise _unfit(row, key, event, "a word in capitals")


def number(row: Json, key: str, event: str) -> Decimal:
    """An amount that must be given."""
    value = row.get(key)
    if type(value) is str and len(value) <= MAX_NUMBER_LENGTH:
        amount = _decimal(value)
        if amount is not None:
            return amount
    elif type(value) is int:
        return Decimal(value)
    raise _unfit(row, key, event, "a decimal number")


def maybe_number(row: Json, key: str, event: str) -> Decimal | None:
    """An amount, or None when it is absent, null or `""`."""
    value = row.get(key)
    return None if value is None or value == "" else number(row, key, event)


@lru_cache(maxsize=4096)  # most amounts of a frame have been read before ("0", the price, the quantity): 1 MB at most
def _decimal(digits: str) -> Decimal | None:
    """`digits` as an amount, or None: Decimal itself also takes `1_000`, ` 1`, `NaN`, `Infinity` and other scripts."""
    if not digits.isascii():
        return None
    mantissa, has_exponent, exponent = digits.upper().partition("E")
    if not (mantissa[1:] if mantissa[:1] == "-" else mantissa).replace(".", "", 1).isdecimal():
        return None
    if has_exponent:
        power = exponent[1:] if exponent[:1] in ("+", "-") else exponent
        if not power.isdecimal() or int(power) > MAX_EXPONENT:
            return None
    return Decimal(digits)


def time_ms(row: Json, key: str, event: str) -> int:
    """A venue time in milliseconds; 0 stands for "never" in REST rows."""
    value = row.get(key)
    if type(value) is int and 0 <= value < MAX_TIME_MS:
        return value
    raise _unfit(row, key, event, "a time in milliseconds")


def time_or_zero(row: Json, key: str) -> int:
    """The time of a frame that counts whatever its time is; text is accepted (§2.1), anything else is 0."""
    value = row.get(key)
    if type(value) is str and value.isascii() and value.isdecimal() and len(value) <= MAX_NUMBER_LENGTH:
        value = int(value)
    return value if type(value) is int and 0 <= value < MAX_TIME_MS else 0


def whole(row: Json, key: str, event: str) -> int:
    """A number or id that is a whole number from 0 up to 63 bit."""
    value = row.get(key)
    if type(value) is int and 0 <= value < MAX_ID:
        return value
    raise _unfit(row, key, event, "a whole number")


def flag(row: Json, key: str, event: str) -> bool:
    """True or false; must be given."""
    value = row.get(key)
    if value is True or value is False:
        return value
    raise _unfit(row, key, event, "true or false")


def maybe_flag(row: Json, key: str, event: str) -> bool | None:
    """True or false, or None when it is absent."""
    return flag(row, key, event) if key in row else None


def if_readable(read: Callable[[Json, str, str], T], row: Json, key: str, event: str) -> T | None:
    """A value that says nothing of the rest of its row: None where it makes no sense."""
    try:
        return read(row, key, event)
    except FrameError:
        return None


def maybe_id(row: Json, key: str, event: str) -> str | None:
    """An id that may come as text or number; `""`, 0 and absence mean that there is none."""
    value = row.get(key, "")
    if value in ("", "0", 0, None) and value is not False:
        return None
    if type(value) is int and 0 < value < MAX_ID:
        return str(value)
    if type(value) is str and value.isascii() and value.isdecimal() and len(value) <= MAX_NUMBER_LENGTH:
        return value
    raise _unfit(row, key, event, "an id")


def count_beyond(row: Json, known: frozenset[str]) -> int:
    """How many keys of `row` are not in `known`."""
    return 0 if known.issuperset(row) else len(row.keys() - known)


def kind(value: object) -> str:
    """What `value` is, in JSON's words, without the value."""
    return {dict: "an object", list: "an array", str: "a text", bool: "a truth value", type(None): "null"}.get(
        type(value), "a number"
    )


def _unfit(row: Json, key: str, event: str, expected: str) -> FrameError:
    if key not in row:
        return FrameError(event, key, f"is missing, expected {expected}")
    value = row[key]
    shown = kind(value) if type(value) in (dict, list) else ascii(value)[:MAX_NUMBER_LENGTH]
    return FrameError(event, key, f"is {shown}, expected {expected}")
