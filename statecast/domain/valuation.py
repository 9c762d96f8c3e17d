"""What positions are worth at a mark price, and the sums that follow from it.

                 amount counted in     profit, in the margin asset        notional, in the margin asset
    linear       the base asset        amount × (mark - entry)            amount × mark
    inverse      face value (USD)      amount × (1/entry - 1/mark)        amount / mark

Amounts are signed, negative is short, and so are profit and notional. All are rounded to eight places, half to even:
the precision in which venues give money. Raises ArithmeticError for amounts beyond reckoning, or a price of 0 of an
inverse contract.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from statecast.domain.models import Balance, Position, Totals

EIGHT_PLACES = Decimal("0.00000001")
ZERO = Decimal(0)


class Profit(NamedTuple):
    """An amount, and the venue's time that it is of."""

    amount: Decimal
    time_ms: int


def money(value: Decimal) -> Decimal:
    """Rounded to the eight places that venues give money in."""
    return value.quantize(EIGHT_PLACES, ROUND_HALF_EVEN)


def profit(amount: Decimal, entry_price: Decimal, mark_price: Decimal, *, inverse: bool = False) -> Decimal:
    """The unrealised profit of a position, in its margin asset."""
    if inverse:
        # One division: the difference of two rounded quotients would be less exact.
        return money(amount * (mark_price - entry_price) / (entry_price * mark_price))
    return money(amount * (mark_price - entry_price))


def notional(amount: Decimal, mark_price: Decimal, *, inverse: bool = False) -> Decimal:
    """What a position is worth, in its margin asset."""
    return money(amount / mark_price if inverse else amount * mark_price)


def at_mark_price(row: Position, mark_price: Decimal, time_ms: int) -> Position:
    """The position at a newer mark price. A profit that is newer still stays."""
    amount, at_ms = row.unrealized_profit, row.unrealized_profit_time_ms
    if amount is None or at_ms is None or at_ms <= time_ms:
        amount = profit(row.position_amt, row.entry_price, mark_price, inverse=row.inverse)
        at_ms = time_ms
    return replace(
        row,
        mark_price=mark_price,
        mark_price_time_ms=time_ms,
        unrealized_profit=amount,
        unrealized_profit_time_ms=at_ms,
        notional=notional(row.position_amt, mark_price, inverse=row.inverse),
    )


def profit_by_asset(positions: Iterable[Position]) -> dict[str, Profit] | None:
    """The unrealised profit in each margin asset; a sum is as old as its oldest part. None where a part is not known:
    then the sums stay what the venue last said, with the time of that."""
    sums: dict[str, Profit] = {}
    for row in positions:
        if row.margin_asset is None or row.unrealized_profit is None or row.unrealized_profit_time_ms is None:
            return None
        known = sums.get(row.margin_asset)
        if known is None:
            sums[row.margin_asset] = Profit(row.unrealized_profit, row.unrealized_profit_time_ms)
        else:
            amount = known.amount + row.unrealized_profit
            sums[row.margin_asset] = Profit(amount, min(known.time_ms, row.unrealized_profit_time_ms))
    return sums


def with_profit(row: Balance, sums: dict[str, Profit], now_ms: int) -> Balance | None:
    """The asset with the profit of its positions; None where it has none and had none. `now_ms` is the venue's time of
    what has just changed: since then an asset without positions has no profit."""
    own = sums.get(row.asset)
    if own is None:
        if row.unrealized_profit == 0:
            return None
        own = Profit(ZERO, max(now_ms, row.unrealized_profit_time_ms or 0))
    return replace(row, unrealized_profit=own.amount, unrealized_profit_time_ms=own.time_ms)


def totals_of_wallet(known: Totals, wallet: Balance) -> Totals:
    """The totals of an account that counts one asset alone; what REST alone has stays."""
    if wallet.unrealized_profit is None or wallet.unrealized_profit_time_ms is None:
        return known
    return replace(
        known,
        total_wallet_balance=wallet.wallet_balance,
        total_wallet_balance_time_ms=max(known.total_wallet_balance_time_ms or 0, wallet.stamp.venue_time_ms),
        total_unrealized_profit=wallet.unrealized_profit,
        total_unrealized_profit_time_ms=wallet.unrealized_profit_time_ms,
        total_margin_balance=wallet.wallet_balance + wallet.unrealized_profit,
        total_margin_balance_time_ms=wallet.unrealized_profit_time_ms,
    )
