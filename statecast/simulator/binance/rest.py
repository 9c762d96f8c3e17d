"""What all REST endpoints stand on: the parameters of a request, the account it is about, the forms of answers. Pure.

Each endpoint is a function that takes the account, the request's parameters and the server's time, and returns the JSON
body; `routes` lists them. Shapes: developers.binance.com, derivatives → usds-margined-futures (2026-05 to 2026-09) and
the change log up to 2026-10.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

from statecast.simulator.binance.errors import ApiError, missing
from statecast.simulator.binance.frames import money
from statecast.simulator.events import Event
from statecast.simulator.exchange import Json
from statecast.simulator.ledger import Ledger

DAY_MS = 86_400_000
WEIGHT_LIMIT = 2400
"""Request weight per minute and IP."""
ORDER_LIMIT_10S = 300
ORDER_LIMIT_1M = 1200

_DECIMAL = re.compile(r"-?\d{1,20}(\.\d{1,20})?")
_E = TypeVar("_E", bound=StrEnum)


class Params(dict[str, str]):
    """The parameters of a request, each read with the error that Binance gives for a bad one."""

    def text(self, name: str) -> str:
        """A mandatory text."""
        value = self.get(name, "")
        if not value:
            raise missing(name)
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        value = self.get(name, "")
        if not value and default is not None:
            return default
        if not value.removeprefix("-").isascii() or not value.removeprefix("-").isdigit():
            raise missing(name)
        return int(value)

    def decimal(self, name: str, default: Decimal | None = None) -> Decimal:
        value = self.get(name, "")
        if not value and default is not None:
            return default
        if not value:
            raise missing(name)
        if not _DECIMAL.fullmatch(value):
            raise ApiError(-1100, f"Illegal characters found in parameter '{name}'.")
        return Decimal(value)

    def flag(self, name: str, default: bool | None = None) -> bool:
        value = self.get(name, "").lower()
        if not value and default is not None:
            return default
        if value not in ("true", "false"):
            raise missing(name)
        return value == "true"

    def one_of(self, name: str, kind: type[_E], default: _E | None = None, code: int = -1130) -> _E:
        value = self.get(name, "")
        if not value and default is not None:
            return default
        if not value:
            raise missing(name)
        try:
            return kind(value)
        except ValueError:
            raise ApiError(code, _INVALID.get(code, f"Data sent for parameter '{name}' is not valid.")) from None


_INVALID = {-1115: "Invalid timeInForce.", -1116: "Invalid orderType.", -1117: "Invalid side."}


@dataclass(frozen=True, slots=True)
class Habits:
    """What no document says of the venue, or what it may come to: all within its rules."""

    orders_by_id: bool = False
    """allOrders of all symbols lists by symbol and id, not by time."""
    orders_want_symbol: bool = False
    """allOrders is not answered without a symbol, as before 2026-08-25."""
    history_ms: int = 0
    """Histories of more than so long ago are refused; 0: never."""


@dataclass(frozen=True, slots=True)
class RestApi:
    """The account that endpoints are about. `publish` gets what the ledger reports, before the answer is returned."""

    ledger: Ledger
    publish: Callable[[list[Event]], None]
    habits: Habits = Habits()

    def symbol_or_none(self, params: Params) -> str | None:
        """The symbol that an answer is to be limited to, if one is given; it has to be listed."""
        symbol = params.get("symbol")
        if not symbol:
            return None
        self.ledger.settings(symbol)
        return symbol


Handler = Callable[[RestApi, Params, int], Any]


def done() -> Json:
    return {"code": 200, "msg": "success"}


def or_zero(value: Decimal) -> str:
    """Eight places, or the bare zero that Binance writes where a figure does not apply."""
    return money(value) if value else "0"
