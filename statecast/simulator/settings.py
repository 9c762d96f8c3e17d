"""How the account is set up (leverage, margin types, position mode, multi-assets mode), and its funding. Pure.

Functions of the book: they return what happened as events; what is declined they raise as `Refused`, with nothing
changed.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from statecast.simulator.book import Book
from statecast.simulator.events import AccountChanged, Event, LeverageChanged, MultiAssetsChanged, PositionRow, Reason
from statecast.simulator.margin import Statement
from statecast.simulator.orders import ZERO, PositionSide, Refusal, Refused
from statecast.simulator.symbols import to_money


def set_leverage(book: Book, symbol: str, leverage: int, now_ms: int) -> list[Event]:
    """Change a symbol's leverage; nothing is reported when it stays the same."""
    rules = book.listed(symbol)
    old = book.settings(symbol)
    if not 1 <= leverage <= rules.max_leverage:
        raise Refused(Refusal.LEVERAGE_INVALID, str(leverage))
    if leverage == old.leverage:
        return []
    statement = Statement(book)
    rows = [statement.row(symbol, side) for side in book.sides()]
    if sum((abs(row.notional) for row in rows), ZERO) > rules.max_notional(leverage):
        raise Refused(Refusal.LEVERAGE_NOTIONAL)
    if leverage < old.leverage:
        if old.isolated and any(row.row.amount for row in rows):
            raise Refused(Refusal.LEVERAGE_ISOLATED)
        more = sum((replace(row, leverage=leverage).initial - row.initial for row in rows), ZERO)
        if more > max(ZERO, statement.free(rules.margin_asset)):
            raise Refused(Refusal.MARGIN_INSUFFICIENT)
    book.set_settings(symbol, replace(old, leverage=leverage))
    return [LeverageChanged(now_ms, symbol, leverage)]


def set_margin_type(book: Book, symbol: str, now_ms: int, *, isolated: bool) -> list[Event]:
    """Change between cross and isolated margin; only without orders and position.

    Reported with the symbol's (flat) rows, if it has ever had one.
    """
    old = book.settings(symbol)
    if old.isolated is isolated:
        raise Refused(Refusal.MARGIN_TYPE_SAME)
    if book.multi_assets and isolated:
        raise Refused(Refusal.MARGIN_TYPE_MULTI_ASSETS)
    if book.open_orders(symbol) or book.open_algos(symbol):
        raise Refused(Refusal.MARGIN_TYPE_ORDERS)
    if any(row.symbol == symbol for row in book.positions()):
        raise Refused(Refusal.MARGIN_TYPE_POSITION)
    book.set_settings(symbol, replace(old, isolated=isolated))
    touched = book.touched_rows(symbol)
    for row in touched:
        book.set_position(replace(row, updated_at_ms=now_ms))
    rows = tuple(book.position_row(symbol, row.side) for row in touched)
    return [AccountChanged(now_ms, Reason.MARGIN_TYPE_CHANGE, (), rows)] if rows else []


def add_isolated_margin(book: Book, symbol: str, side: PositionSide, amount: Decimal, now_ms: int) -> list[Event]:
    """Move `amount` from the cross wallet to an isolated position, or back when negative."""
    asset = book.listed(symbol).margin_asset
    row = book.position(symbol, side)
    if not book.settings(symbol).isolated or not row.amount:
        raise Refused(Refusal.NOT_ISOLATED)
    statement = Statement(book)
    if amount > max(ZERO, statement.free(asset)):
        raise Refused(Refusal.MARGIN_INSUFFICIENT)
    margin = statement.row(symbol, side)
    if margin.isolated_margin + amount < margin.position_initial:
        raise Refused(Refusal.MARGIN_INSUFFICIENT)
    wallet = row.isolated_wallet + to_money(amount)
    book.set_position(replace(row, isolated_wallet=wallet, updated_at_ms=now_ms))
    book.credit(asset, ZERO, now_ms)
    rows = (book.position_row(symbol, side),)
    return [AccountChanged(now_ms, Reason.MARGIN_TRANSFER, (book.balance_row(asset, ZERO),), rows)]


def set_hedge(book: Book, *, enabled: bool) -> list[Event]:
    """Change the position mode. No event reports it, as in life; the list is always empty."""
    if book.hedge is enabled:
        raise Refused(Refusal.MODE_SAME)
    if book.open_orders() or book.open_algos():
        raise Refused(Refusal.MODE_ORDERS)
    if book.positions():
        raise Refused(Refusal.MODE_POSITION)
    book.set_hedge(enabled=enabled)
    return []


def set_multi_assets(book: Book, now_ms: int, *, enabled: bool) -> list[Event]:
    """Pool all assets as margin, or keep them apart."""
    if book.multi_assets is enabled:
        raise Refused(Refusal.MULTI_ASSETS_SAME)
    if enabled and any(book.settings(symbol).isolated for symbol in book.rules):
        raise Refused(Refusal.MULTI_ASSETS_ISOLATED)
    if not enabled and Statement(book).has_overdrawn_asset():
        raise Refused(Refusal.MARGIN_INSUFFICIENT)
    book.set_multi_assets(enabled=enabled)
    return [MultiAssetsChanged(now_ms, enabled)]


def fund(book: Book, symbol: str, rate: Decimal, now_ms: int) -> list[Event]:
    """Settle funding: with a positive `rate` longs pay, shorts receive. One event for each open row."""
    asset = book.listed(symbol).margin_asset
    isolated = book.settings(symbol).isolated
    events: list[Event] = []
    for side in PositionSide:
        row = book.position(symbol, side)
        amount = to_money(-row.amount * book.marks[symbol] * rate)
        if not amount:
            continue
        book.history.add_income("FUNDING_FEE", asset, amount, symbol, now_ms)
        book.credit(asset, amount, now_ms)
        positions: tuple[PositionRow, ...] = ()
        if isolated:
            book.set_position(replace(row, isolated_wallet=row.isolated_wallet + amount, updated_at_ms=now_ms))
            positions = (book.position_row(symbol, side),)
        balances = (book.balance_row(asset, amount),)
        events.append(AccountChanged(now_ms, Reason.FUNDING_FEE, balances, positions, symbol))
    return events
