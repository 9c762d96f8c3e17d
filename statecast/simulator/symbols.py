"""The contracts and assets that the simulated exchange lists, with the walk of their mark prices.

Tick, lot and bracket figures are of the size that Binance publishes for the same names; they are fixed here so that a
seed always means the same run.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

MONEY = Decimal("0.00000001")
"""The finest step of a balance, a price average and a profit: eight places."""


def to_money(value: Decimal) -> Decimal:
    """`value` rounded to eight places, half to even."""
    return value.quantize(MONEY)


@dataclass(frozen=True, slots=True)
class Bracket:
    """One step of the maintenance margin table: applies to a notional in (`floor`, `cap`]."""

    number: int
    max_leverage: int
    floor: Decimal
    cap: Decimal
    maintenance_rate: Decimal
    cum: Decimal
    """Subtracted from notional × rate, so that the margin is continuous across brackets."""


def _brackets(*rows: tuple[int, str, str]) -> tuple[Bracket, ...]:
    """Brackets from (max leverage, notional cap, maintenance rate), `cum` computed."""
    brackets: list[Bracket] = []
    floor, rate, cum = Decimal(0), Decimal(0), Decimal(0)
    for number, (max_leverage, cap, next_rate) in enumerate(rows, start=1):
        if brackets:
            cum += floor * (Decimal(next_rate) - rate)
        rate = Decimal(next_rate)
        brackets.append(Bracket(number, max_leverage, floor, Decimal(cap), rate, cum))
        floor = Decimal(cap)
    return tuple(brackets)


MAJOR = _brackets(
    (125, "300000", "0.004"),
    (100, "800000", "0.005"),
    (75, "3000000", "0.0065"),
    (50, "12000000", "0.01"),
    (20, "70000000", "0.02"),
    (10, "100000000", "0.05"),
)
MINOR = _brackets(
    (75, "10000", "0.005"),
    (50, "50000", "0.01"),
    (20, "500000", "0.025"),
    (10, "1000000", "0.05"),
    (1, "10000000", "0.125"),
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the exchange lays down for one symbol. Quantities are in the base asset, prices in the quote asset."""

    symbol: str
    base_asset: str
    margin_asset: str
    """Also the quote asset: all contracts here are linear."""
    tick_size: Decimal
    step_size: Decimal
    max_qty: Decimal
    min_notional: Decimal
    start_price: Decimal
    depth_qty: Decimal
    """What every level of the book holds; a larger order is filled in several trades."""
    brackets: tuple[Bracket, ...]

    def bracket(self, notional: Decimal) -> Bracket:
        """The bracket that an absolute `notional` falls into; the last one serves everything above."""
        for bracket in self.brackets:
            if notional <= bracket.cap:
                return bracket
        return self.brackets[-1]

    def levels(self, qty: Decimal) -> int:
        """How many levels of the book an order of `qty` takes."""
        return math.ceil(qty / self.depth_qty)

    def max_notional(self, leverage: int) -> Decimal:
        """The largest position that `leverage` permits."""
        return max(bracket.cap for bracket in self.brackets if bracket.max_leverage >= leverage)

    @property
    def max_leverage(self) -> int:
        return self.brackets[0].max_leverage

    def walk(self, mark: Decimal, rng: Random, reach: Decimal = Decimal("0.0006")) -> Decimal:
        """The next mark price: a step of at most `reach` of the price, on the tick grid.

        Far from the start price the walk leans back, so that a run of days neither reaches zero nor runs away.
        """
        ticks = max(1, int(mark * reach / self.tick_size))
        lean = int((self.start_price - mark) / self.start_price * ticks / 2)
        moved = mark + self.tick_size * (rng.randint(-ticks, ticks) + lean)
        return max(moved, self.tick_size)


def _rules(
    symbol: str, base: str, margin: str, tick: str, step: str, max_qty: str, notional: str, start: str, depth: str
) -> Rules:
    return Rules(
        symbol=symbol,
        base_asset=base,
        margin_asset=margin,
        tick_size=Decimal(tick),
        step_size=Decimal(step),
        max_qty=Decimal(max_qty),
        min_notional=Decimal(notional),
        start_price=Decimal(start),
        depth_qty=Decimal(depth),
        brackets=MAJOR if base in ("BTC", "ETH") else MINOR,
    )


SYMBOLS: tuple[Rules, ...] = (
    _rules("BTCUSDT", "BTC", "USDT", "0.1", "0.001", "120", "100", "91250.4", "0.75"),
    _rules("ETHUSDT", "ETH", "USDT", "0.01", "0.001", "2000", "20", "2871.17", "20"),
    _rules("SOLUSDT", "SOL", "USDT", "0.01", "0.01", "80000", "5", "137.42", "300"),
    _rules("XRPUSDT", "XRP", "USDT", "0.0001", "0.1", "3000000", "5", "2.1834", "20000"),
    _rules("BTCUSDC", "BTC", "USDC", "0.1", "0.001", "120", "100", "91262.1", "0.5"),
    # Symbols may hold characters outside ASCII since 2025-10-09; clients have to percent-encode them.
    _rules("币安人生USDT", "币安人生", "USDT", "0.00001", "1", "9000000", "5", "0.13570", "40000"),
)

INDEX_PRICES: dict[str, Decimal] = {"USDT": Decimal(1), "USDC": Decimal("0.9998"), "BNB": Decimal("861.5")}
"""What one unit of an asset is worth in USD, for the pooled margin of the multi-assets mode."""

FUNDING_RATE = Decimal("0.0001")
FUNDING_INTERVAL_MS = 8 * 3_600_000
