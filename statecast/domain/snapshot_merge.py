"""A snapshot's rows against those of the stream: which of two is newer. Pure functions; all times are the venue's.

REST may be behind the stream, each of its documents for itself, and no answer says by how much. What an answer proves
is bounded by the times in it:

- Of two rows of one thing the one of the later time counts, whoever has it.
- A row that an answer does not list is gone if the answer lists another of a later time: so it is not older than that.
  An answer without one may be from before the row was there, and the row stands.
- An order is over when a document says so: one that is not listed is asked for by its id.

Where a row stands against an answer that says otherwise, one of the two is old; who compares them has a doubt
(publisher/discrepancies.py). Two bounds keep this from lasting: no answer is a minute behind (`believed_ms`), and what
is of a time that is still to come was said before the venue's clock was set back. Where an answer's row cannot be
understood, the row stays as it was known.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple, Protocol, TypeVar

from statecast.domain.changes import Check, Snapshot, missing_rows
from statecast.domain.models import Balance, Order, OrderEvent, OrderKey, Position, PositionKey, Stamp
from statecast.domain.orders import filled_of

AHEAD_MS = 1_000
"""What is so much later than the venue's clock at the time of the answer was said before that clock was set back."""

FILLED_SINCE_MS = 1_000
"""A fill so much later than the last row of a position has moved the position. Less proves nothing, for the two may
give one trade times of their own."""

UNSENT_FILLED_SINCE_MS = 100
"""The same of a fill that a history has and the stream has not sent: what it did to the position was not sent either,
unless the connection ended between the two frames of one trade."""


K_contra = TypeVar("K_contra", contravariant=True)


class TrustedMs(Protocol[K_contra]):
    """See `Table.trusted_ms`."""

    def __call__(self, key: K_contra, time_ms: int) -> int: ...


class Asked(NamedTuple):
    """When the venue was asked, and by when it had answered; 0: not known."""

    asked_ms: int
    answered_ms: int = 0

    @classmethod
    def of(cls, answer: Snapshot | Check) -> Asked:
        return cls(answer.taken_ms, answer.answered_ms)


class RestTiming(NamedTuple):
    """How far a venue's answers by REST may be behind its stream."""

    lag_ms: int
    """By so much at the most, while nothing is wrong with the venue."""

    recent_ms: int
    """What the stream said so shortly before REST was asked, REST may well not have yet. On an account that places
    orders all the time, some are always so recent."""

    believed_ms: int = 60_000
    """Behind by more than this no answer is, whatever is wrong: it counts, whatever times it has."""

    def stands(self, ours_ms: int, theirs_ms: int, asked: Asked) -> bool:
        """Whether what the stream has of one time stands against an answer's row of another."""
        return ours_ms > theirs_ms and self._may_stand(ours_ms, asked)

    def stands_unlisted(self, ours_ms: int, youngest_ms: int, asked: Asked) -> bool:
        """The same, where the answer lists no such row, and its youngest row is of `youngest_ms` (0: it has none)."""
        return ours_ms >= youngest_ms and self._may_stand(ours_ms, asked)

    def stands_without_time(self, ours_ms: int, received_since_ms: int, asked: Asked) -> bool:
        """The same, where no answer gives the thing a time. What the stream said before it was interrupted may have
        changed since: it stands for as long as REST usually is behind."""
        if ours_ms < received_since_ms:
            return self.is_recent(ours_ms, asked.asked_ms)
        return self.stands_unlisted(ours_ms, 0, asked)

    def _may_stand(self, ours_ms: int, asked: Asked) -> bool:
        answered_ms = asked.answered_ms or asked.asked_ms + self.lag_ms
        return asked.asked_ms - self.believed_ms <= ours_ms <= answered_ms + AHEAD_MS

    def is_behind_as_usual(self, ours_ms: int, asked_ms: int) -> bool:
        """Whether an answer that was asked for then may be older than what the stream said at a time."""
        return asked_ms - ours_ms <= self.lag_ms

    def merged_ms(self, ours_ms: int, trusted_ms: int, asked: Asked) -> int:
        """As of which time a row of the stream is to be merged. What was passed over since (`Table.trusted_ms`) may be
        newer; it may also have come late, and be all that an answer has which is behind as usual."""
        return ours_ms if self.is_behind_as_usual(ours_ms, asked.asked_ms) else trusted_ms

    def is_recent(self, since_ms: int, asked_ms: int) -> bool:
        """Whether the stream said it so shortly before REST was asked that no answer has to have it."""
        return 0 <= asked_ms - since_ms <= self.recent_ms


class Fill(NamedTuple):
    """What a fill has added to a position, negative for a sale; rows of up to `since_ms` do not have it."""

    since_ms: int
    amount: Decimal

    @classmethod
    def of(cls, event: OrderEvent) -> Fill:
        order, qty = event.order, event.last_qty or Decimal(0)
        less_ms = FILLED_SINCE_MS if order.source == "stream" else UNSENT_FILLED_SINCE_MS
        return cls(order.venue_time_ms - less_ms, -qty if order.side == "SELL" else qty)


class LastAnswer(NamedTuple):
    """What the last snapshot says of frames of before it. Times are 0 where there was none."""

    asked_ms: int = 0
    """When the venue was asked last, for a snapshot or a check."""

    received_since_ms: int = 0
    """Since when the stream was received, when it was asked for the snapshot."""

    listed_ms: int = 0
    """A position or wallet of before this that the snapshot did not list is not there any more."""

    @classmethod
    def of(cls, snapshot: Snapshot, rest: RestTiming) -> LastAnswer:
        # REST may be behind, but it had the youngest of its rows, and no answer is a minute behind. What is younger
        # than that and than the stream's beginning is still to be received.
        stamps = [row.stamp for row in snapshot.balances] + [row.stamp for row in snapshot.positions]
        youngest_ms = max((stamp.venue_time_ms for stamp in stamps), default=0)
        listed_ms = max(snapshot.taken_ms - rest.believed_ms, min(snapshot.stream_since_ms, youngest_ms))
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


def youngest_ms(rows: Iterable[Balance | Position]) -> int:
    """The time of the youngest row of an answer; 0 without one."""
    return max((row.stamp.venue_time_ms for row in rows), default=0)


def merged_balances(
    known: Mapping[str, Balance], trusted_ms: TrustedMs[str], snapshot: Snapshot, rest: RestTiming
) -> dict[str, Balance]:
    """The newer of two wallets. Where that is the stream's, the available balance, which no event carries, is the
    answer's."""
    merged = {row.asset: row for row in snapshot.balances}
    asked, listed_until_ms = Asked.of(snapshot), youngest_ms(snapshot.balances)
    kept = missing_rows(snapshot.unreadable)
    for asset, ours in known.items():
        theirs, ours_ms = merged.get(asset), ours.stamp.venue_time_ms
        ours_ms = rest.merged_ms(ours_ms, trusted_ms(asset, ours_ms), asked)
        if theirs is None:
            if asset in kept or rest.stands_unlisted(ours_ms, listed_until_ms, asked):
                merged[asset] = ours
        elif rest.stands(ours_ms, theirs.stamp.venue_time_ms, asked):
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
    trusted_ms: TrustedMs[PositionKey],
    fills: Mapping[PositionKey, Sequence[Fill]],
    snapshot: Snapshot,
    rest: RestTiming,
) -> MergedPositions:
    """The newer of two rows. `closed` are positions that the stream has closed, and when; `fills` those that their rows
    do not have."""
    merged, asked, kept = MergedPositions({}, {}), Asked.of(snapshot), missing_rows(snapshot.unreadable)
    for theirs in snapshot.positions:
        key, ours = theirs.key, known.get(theirs.key)
        stamp = ours.stamp if ours is not None else closed.get(key)
        if stamp is not None:
            ours_ms = rest.merged_ms(stamp.venue_time_ms, trusted_ms(key, stamp.venue_time_ms), asked)
            if rest.stands(ours_ms, theirs.stamp.venue_time_ms, asked):
                if ours is not None:
                    merged.of_stream[key] = ours
                continue
        merged.of_rest[key] = theirs
    listed_until_ms = youngest_ms(snapshot.positions)
    for key, ours in known.items():
        if key in merged.of_rest or key in merged.of_stream:
            continue
        if key in kept or is_position_standing(ours, fills.get(key, ()), listed_until_ms, asked, rest):
            merged.of_stream[key] = ours
    return merged


def is_position_standing(
    ours: Position, fills: Iterable[Fill], listed_until_ms: int, asked: Asked, rest: RestTiming
) -> bool:
    """Whether a position stands against an answer that does not list it, and whose youngest row is of
    `listed_until_ms`."""
    ours_ms = ours.stamp.venue_time_ms
    since = [fill.amount for fill in fills if fill.since_ms > ours_ms]
    if since and ours.position_amt + sum(since) == 0:
        return False  # They have closed it.
    return rest.stands_unlisted(ours_ms, listed_until_ms, asked)


class Ends(NamedTuple):
    """What is known of orders that are over: when each ended, of which of them no document said so, and of which the
    log has the end, though their rows may not know it yet."""

    finished_ms: Mapping[OrderKey, int]
    guessed: Container[OrderKey]
    logged: Container[OrderKey]


class MergedOrders(NamedTuple):
    """Open orders; of those listed, the ones that were thought to be over (`reopened`); and as they were known, those
    that are not open any more without an event that said so (`gone`)."""

    rows: dict[OrderKey, Order]
    reopened: tuple[OrderKey, ...]
    gone: tuple[Order, ...]


def merged_orders(
    known: Mapping[OrderKey, Order],
    ends: Ends,
    trusted_ms: TrustedMs[OrderKey],
    snapshot: Snapshot,
    rest: RestTiming,
) -> MergedOrders:
    """The newer of two rows. An order that is not listed is gone only where nobody asks for it by its id."""
    rows: dict[OrderKey, Order] = {}
    asked, kept = Asked.of(snapshot), missing_rows(snapshot.unreadable)
    reopened: list[OrderKey] = []
    for theirs in snapshot.orders:
        key, ours = theirs.key, known.get(theirs.key)
        ended_ms = ends.finished_ms.get(key)
        if ended_ms is not None:
            is_older = ended_ms == theirs.venue_time_ms or rest.stands(ended_ms, theirs.venue_time_ms, asked)
            if is_older and key not in ends.guessed:
                continue
            reopened.append(key)
        rows[key] = theirs
        if ours is not None and progress(ours) > progress(theirs):
            ours_ms = rest.merged_ms(ours.venue_time_ms, trusted_ms(key, ours.venue_time_ms), asked)
            if filled_of(ours) > filled_of(theirs) or rest.stands(ours_ms, theirs.venue_time_ms, asked):
                rows[key] = ours
    unlisted = {key: ours for key, ours in known.items() if key not in rows and key not in ends.logged}
    if snapshot.knows_ends:
        return MergedOrders(rows | unlisted, tuple(reopened), ())
    standing = {
        key: ours
        for key, ours in unlisted.items()
        if key in kept or rest.is_behind_as_usual(ours.venue_time_ms, asked.asked_ms)
    }
    gone = tuple(ours for key, ours in unlisted.items() if key not in standing)
    return MergedOrders(rows | standing, tuple(reopened), gone)


def progress(order: Order) -> tuple[Decimal, int]:
    """By which two states of one order follow each other: what is filled, which never gets less, and then time."""
    return order.executed_qty or Decimal(0), order.venue_time_ms


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
