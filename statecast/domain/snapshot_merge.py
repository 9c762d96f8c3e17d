"""A snapshot's rows against those of the stream: which of two is newer. Pure functions; all times are the venue's.

REST may be behind the stream by a bounded time. So a row of the stream stands against an older row of an answer, or
against none, only where the stream's is so young that the answer may not have it yet. What is older than that, the
answer knows as well; and what is of a later time than that is of a venue's clock that was set back since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from statecast.domain.changes import Snapshot
from statecast.domain.models import Balance, Order, OrderKey, Position, PositionKey, Stamp


class RestTiming(NamedTuple):
    """How far a venue's answers by REST may be behind its stream."""

    lag_ms: int
    """By so much at the most."""

    recent_ms: int
    """What the stream said so shortly before REST was asked, REST may well not have yet. On an account that places
    orders all the time, some are always so recent."""

    def stream_is_newer(self, ours_ms: int, theirs_ms: int, asked_ms: int) -> bool:
        """Whether what the stream has of one time is newer than an answer's row of another, and the answer, asked for
        at a third, may not have it yet."""
        return ours_ms > theirs_ms and abs(ours_ms - asked_ms) <= self.lag_ms

    def is_recent(self, since_ms: int, asked_ms: int) -> bool:
        """Whether the stream said it so shortly before REST was asked that no answer has to have it."""
        return 0 <= asked_ms - since_ms <= self.recent_ms


class LastAnswer(NamedTuple):
    """What the last snapshot says of frames of before it. Times are 0 where there was none."""

    asked_ms: int = 0
    """When the venue was asked last, for a snapshot or a check."""

    received_since_ms: int = 0
    """Since when the stream was received, when it was asked for the snapshot."""

    listed_ms: int = 0
    """A position of before this that the snapshot did not list is closed."""

    @classmethod
    def of(cls, snapshot: Snapshot, rest: RestTiming) -> LastAnswer:
        # REST may be behind, but it had the youngest of its rows. What is younger than both is still to be received.
        stamps = [row.stamp for row in snapshot.balances] + [row.stamp for row in snapshot.positions]
        youngest_ms = max((stamp.venue_time_ms for stamp in stamps), default=0)
        listed_ms = max(snapshot.taken_ms - rest.lag_ms, min(snapshot.stream_since_ms, youngest_ms))
        return cls(snapshot.taken_ms, snapshot.stream_since_ms, listed_ms)

    def is_repeat(self, stamp: Stamp, known: Balance | Position | None) -> bool:
        """Whether a frame is of before the stream was received, and of a moment of which REST has said what was
        last."""
        return (
            known is not None
            and known.source == "rest"
            and stamp.venue_time_ms == known.stamp.venue_time_ms
            and stamp.venue_time_ms < self.received_since_ms
        )


def merged_balances(known: Mapping[str, Balance], snapshot: Snapshot, rest: RestTiming) -> dict[str, Balance]:
    """The newer of two wallets. Where that is the stream's, the available balance, which no event carries, is the
    answer's."""
    merged = {row.asset: row for row in snapshot.balances}
    asked_ms = snapshot.taken_ms
    for asset, ours in known.items():
        theirs = merged.get(asset)
        if theirs is None:
            if rest.stream_is_newer(ours.stamp.venue_time_ms, asked_ms, asked_ms):
                merged[asset] = ours
        elif rest.stream_is_newer(ours.stamp.venue_time_ms, theirs.stamp.venue_time_ms, asked_ms):
            merged[asset] = replace(
                ours,
                available_balance=theirs.available_balance,
                available_balance_time_ms=theirs.available_balance_time_ms,
            )
    return merged


class MergedPositions(NamedTuple):
    """Open positions: the answer's rows, and those of the stream that stand against it."""

    of_rest: dict[PositionKey, Position]
    of_stream: dict[PositionKey, Position]


def merged_positions(
    known: Mapping[PositionKey, Position],
    closed: Mapping[PositionKey, Stamp],
    snapshot: Snapshot,
    rest: RestTiming,
) -> MergedPositions:
    """The newer of two rows. `closed` are positions that the stream has closed, and when."""
    merged, asked_ms = MergedPositions({}, {}), snapshot.taken_ms
    for theirs in snapshot.positions:
        key, theirs_ms = theirs.key, theirs.stamp.venue_time_ms
        closed_at, ours = closed.get(key), known.get(key)
        if closed_at is not None and rest.stream_is_newer(closed_at.venue_time_ms, theirs_ms, asked_ms):
            continue
        if ours is not None and rest.stream_is_newer(ours.stamp.venue_time_ms, theirs_ms, asked_ms):
            merged.of_stream[key] = ours
        else:
            merged.of_rest[key] = theirs
    for key, ours in known.items():
        is_listed = key in merged.of_rest or key in merged.of_stream
        if not is_listed and rest.stream_is_newer(ours.stamp.venue_time_ms, asked_ms, asked_ms):
            merged.of_stream[key] = ours
    return merged


class MergedOrders(NamedTuple):
    """Open orders; of those listed, the ones that were thought to be over (`reopened`); and as they were known, those
    that are not open any more without an event that said so (`gone`)."""

    rows: dict[OrderKey, Order]
    reopened: tuple[OrderKey, ...]
    gone: tuple[Order, ...]


def merged_orders(
    known: Mapping[OrderKey, Order],
    finished: Mapping[OrderKey, int],
    listed: Iterable[Order],
    asked_ms: int,
    rest: RestTiming,
) -> MergedOrders:
    """The newer of two rows. `finished`: when orders ended, by the stream."""
    rows: dict[OrderKey, Order] = {}
    reopened: list[OrderKey] = []
    for theirs in listed:
        key, ours = theirs.key, known.get(theirs.key)
        ended_ms = finished.get(key)
        if ended_ms is not None:
            if ended_ms == theirs.venue_time_ms or rest.stream_is_newer(ended_ms, theirs.venue_time_ms, asked_ms):
                continue
            reopened.append(key)
        is_ours_newer = ours is not None and progress(ours) > progress(theirs)
        if ours is not None and is_ours_newer and abs(ours.venue_time_ms - asked_ms) <= rest.lag_ms:
            rows[key] = ours
        else:
            rows[key] = theirs
    gone: list[Order] = []
    for key, ours in known.items():
        if key in rows:
            continue
        if rest.stream_is_newer(ours.venue_time_ms, asked_ms, asked_ms):
            rows[key] = ours
        else:
            gone.append(ours)
    return MergedOrders(rows, tuple(reopened), tuple(gone))


def progress(order: Order) -> tuple[int, Decimal]:
    """By which two states of one order follow each other: time, and within one millisecond what is filled."""
    return order.venue_time_ms, order.executed_qty or Decimal(0)


def reaches(event: Order, listed: Order) -> bool:
    """Whether an order as an event left it is all that the venue lists. The two may give one thing times of their own.
    What is filled of a conditional order is its child's, and counts here nevertheless where both say it."""
    if event.executed_qty is not None and event.executed_qty < (listed.executed_qty or Decimal(0)):
        return False
    return event.venue_time_ms >= listed.venue_time_ms or event.status == listed.status


def with_rest_figures(known: Position, answer: Position) -> Position:
    """The known row with what an answer of the same size adds: liquidation price; profit and mark price if newer."""
    row = replace(
        known,
        liquidation_price=answer.liquidation_price,
        liquidation_price_time_ms=answer.liquidation_price_time_ms,
        margin_asset=known.margin_asset or answer.margin_asset,
        break_even_price=answer.break_even_price if known.break_even_price is None else known.break_even_price,
    )
    if (known.unrealized_profit_time_ms or 0) < (answer.unrealized_profit_time_ms or 0):
        row = replace(
            row,
            unrealized_profit=answer.unrealized_profit,
            unrealized_profit_time_ms=answer.unrealized_profit_time_ms,
        )
    if (known.mark_price_time_ms or 0) < (answer.mark_price_time_ms or 0):
        row = replace(
            row,
            mark_price=answer.mark_price,
            mark_price_time_ms=answer.mark_price_time_ms,
            notional=answer.notional,
        )
    return row
