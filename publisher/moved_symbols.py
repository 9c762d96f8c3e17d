"""In which symbols something has happened in a gap, so that their histories have to be read. Pure.

Where a venue lists trades by symbol, asking for each symbol of a large account would take minutes. It is enough to ask
where something has moved. That finds every fill, because a fill is of an order, and the venue lists what there was: an
order that was placed in the window stands in the list of all orders; one that was open before it is known, and is open
still or asked for by its id; and each says how much of it is filled. A position that was opened, changed or closed
shows by its row, in case a list is behind. What moves nothing but a wallet, as a position that was opened and closed in
the window by orders that no list has, is named by the account's bookings.

A conditional order that was placed and ended in the window without being triggered shows nowhere but in the list of its
symbol. The symbols that are not read are listed after the gap, by turns, by the comparison with the venue
(`publisher/order_coverage.py`), and until then the log does not count as complete.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from decimal import Decimal

from statecast.domain.account import Account
from statecast.domain.changes import Snapshot
from statecast.domain.history import PastOrder
from statecast.domain.models import Order, OrderEvent, OrderKey
from statecast.domain.orders import OPENING_EVENTS, filled_of, is_over


def of_followed_positions(account: Account, snapshot: Snapshot) -> set[str]:
    """Symbols whose positions are not as this process, which has logged all that it knows, has followed them."""
    known, listed = account.positions, {row.key: row for row in snapshot.positions}
    return {
        key.symbol
        for key in known.keys() | listed.keys()
        if (ours := known.get(key)) is None
        or (theirs := listed.get(key)) is None
        or ours.position_amt != theirs.position_amt
        or ours.stamp.venue_time_ms < theirs.stamp.venue_time_ms
    }


def of_positions(before: Iterable[str], since_ms: int, snapshot: Snapshot) -> set[str]:
    """Symbols whose positions have changed since then by the venue's times, or are not there any more; `before` are the
    symbols that had one."""
    changed = {row.symbol for row in snapshot.positions if row.stamp.venue_time_ms >= since_ms}
    return changed | (set(before) - {row.symbol for row in snapshot.positions})


def booked_since_ms(account: Account, since_ms: int, snapshot: Snapshot, *, is_followed: bool) -> int:
    """Since when a wallet has moved that is not as this process has followed it (`is_followed`), or by the venue's time
    since `since_ms`; 0: none has."""
    known = account.balances if is_followed else {}
    moved_ms: list[int] = []
    for theirs in snapshot.balances:
        ours, at_ms = known.get(theirs.asset), theirs.stamp.venue_time_ms
        if ours is None:
            moved_ms += [since_ms] if at_ms >= since_ms else []
        elif ours.wallet_balance != theirs.wallet_balance or ours.stamp.venue_time_ms < at_ms:
            moved_ms.append(max(since_ms, ours.stamp.venue_time_ms))
    return min(moved_ms, default=0)


def of_orders_begun_before(buffered: Iterable[OrderEvent], known: Container[OrderKey]) -> set[str]:
    """Symbols of orders whose first event was not received, and which nobody knew."""
    begun: set[OrderKey] = set()
    symbols: set[str] = set()
    for event in buffered:
        key = event.order.key
        if key not in begun and key not in known and event.event_type not in OPENING_EVENTS:
            symbols.add(key.symbol)
        begun.add(key)
    return symbols


def of_conditional_orders(
    known: Mapping[OrderKey, Order],
    logged: Container[OrderKey],
    open_now: Mapping[OrderKey, Order],
    listed: Iterable[PastOrder],
) -> set[str]:
    """Symbols of conditional orders that are not open any more, that are not logged as open, or that were triggered:
    the order that a trigger creates is of another type than it was placed with."""
    gone = (order for key, order in known.items() if key not in open_now)
    placed = (order for key, order in open_now.items() if key not in logged)
    return {
        order.symbol
        for order in (*gone, *placed, *(past.order for past in listed))
        if order.algo_id is not None or order.type != order.orig_type
    }


def of_fills(orders: Iterable[PastOrder], filled: Mapping[OrderKey, Decimal], logged: Account | None) -> set[str]:
    """Symbols of orders of which more is filled than is logged (`filled`). `logged` is an account of which the log has
    all: what the stream has sent of an order to its end."""
    symbols: set[str] = set()
    for order in (past.order for past in orders):
        if filled_of(order) <= filled.get(order.key, Decimal(0)):
            continue
        if logged is None or order.key in logged.incomplete_orders or not _is_sent_whole(logged, order):
            symbols.add(order.symbol)
    return symbols


def _is_sent_whole(account: Account, order: Order) -> bool:
    return is_over(order) and account.finished_ms(order.key) >= order.venue_time_ms
