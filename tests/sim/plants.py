"""Bugs planted on purpose, some of them as they once were: a simulation that does not find them proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import ormsgpack

from publisher import gap_histories
from publisher.check_schedule import CheckSchedule
from publisher.gap_histories import GapReader
from statecast.domain import event_ids, open_orders
from statecast.domain.catch_up import Apply, CatchUp, Hold, Repeat, Resync
from statecast.domain.changes import BalanceUpdate, Frame, PositionUpdate
from statecast.domain.history import PastOrder
from statecast.domain.models import Order, OrderKey, PositionKey
from statecast.domain.orders import ORDINARY
from statecast.domain.positions import Positions
from statecast.domain.snapshot_merge import Asked, LastAnswer, RestTiming
from statecast.domain.wallets import Wallets
from statecast.errors import FrameError
from statecast.store.writer import AccountWriter, Batch
from statecast.venues.binance import history

_apply_balance, _apply_position = Wallets.apply, Positions.apply
_send, _of_order, _take = AccountWriter.send, event_ids.of_order, CatchUp.take
_init_gap_reader, _orders, _begins = GapReader.__init__, history.orders, CheckSchedule.begins

DROPPED_FROM = 50
"""Far below what a flood brings, where the program itself keeps tens of thousands."""


def no_order_check(patch: Callable[[Any, str, object], None]) -> None:
    """The account takes what is older than what it knows."""

    def apply_balance(self: Wallets, update: BalanceUpdate, answer: LastAnswer) -> int:
        known = self.table.rows.get(update.asset)
        return _apply_balance(
            self, update if known is None else replace(update, stamp=max(known.stamp, update.stamp)), answer
        )

    def apply_position(self: Positions, update: PositionUpdate, answer: LastAnswer) -> int:
        key = PositionKey(update.symbol, update.position_side)
        known = self.table.rows.get(key)
        last = known.stamp if known is not None else self._closed.get(key)
        return _apply_position(self, update if last is None else replace(update, stamp=max(last, update.stamp)), answer)

    patch(Wallets, "apply", apply_balance)
    patch(Positions, "apply", apply_position)
    patch(LastAnswer, "is_repeat", lambda _self, _stamp, _known: False)
    patch(open_orders, "progress", lambda _order: (0, 0))


def hash_beside_the_commit(patch: Callable[[Any, str, object], None]) -> None:
    """The fields of a commit's first hash are written a moment before the commit."""

    async def send(self: AccountWriter, batch: Batch) -> None:
        commits = ormsgpack.unpackb(batch.arguments[10])
        if commits and commits[0][0]:
            index, _, fields, _ = commits[0][0][0]
            mapping = dict(zip(fields[::2], fields[1::2], strict=True))
            with self._client.errors():
                await self._client.redis.hset(self.keys[1 + index], mapping=mapping)
        await _send(self, batch)

    patch(AccountWriter, "send", send)


def fills_of_rest_without_their_key(patch: Callable[[Any, str, object], None]) -> None:
    """A fill that REST has got another id than the same fill of the stream."""

    def of_order(order: Order, event_type: str, fill_id: str = "") -> str:
        made = _of_order(order, event_type, fill_id)
        return f"{made}:REST" if fill_id and order.source == "rest" else made

    patch(event_ids, "of_order", of_order)


def identity_by_order_id_alone(patch: Callable[[Any, str, object], None]) -> None:
    """Orders of two symbols that have one id are one order."""
    patch(OrderKey, "__eq__", lambda self, other: isinstance(other, OrderKey) and self.order_id == other.order_id)
    patch(OrderKey, "__hash__", lambda self: hash(self.order_id))


def buffer_that_drops_in_silence(patch: Callable[[Any, str, object], None]) -> None:
    """With more than a few events waiting for a snapshot, none of them is kept, and nothing says so."""

    def take(self: CatchUp, frame: Frame, identity: Hashable | None) -> Apply | Hold | Repeat | Resync:
        taken = _take(self, frame, identity)
        if isinstance(taken, Hold) and len(self.waiting_events()) > DROPPED_FROM:
            self.begin_gap()
            self._events.clear()
            return Resync(f"more than {DROPPED_FROM} events waited")
        return taken

    patch(CatchUp, "take", take)


def young_order_that_rest_does_not_know_is_forgotten(patch: Callable[[Any, str, object], None]) -> None:
    """That the venue does not know an order proves that it is over, however young it is."""

    def init(self: GapReader, *args: Any, **options: Any) -> None:
        rest: RestTiming = options["rest"]
        _init_gap_reader(self, *args, **options | {"rest": rest._replace(lag_ms=0, believed_ms=0)})

    patch(GapReader, "__init__", init)


def older_row_of_rest_wins_after_the_lag(patch: Callable[[Any, str, object], None]) -> None:
    """REST is never behind by more than 10 s: a row that is older than the stream's wins, once it is old enough."""

    def may_stand(self: RestTiming, ours_ms: int, asked: Asked) -> bool:
        return abs(ours_ms - asked.asked_ms) <= self.lag_ms

    patch(RestTiming, "_may_stand", may_stand)


def row_that_rest_does_not_list_is_gone(patch: Callable[[Any, str, object], None]) -> None:
    """What is older than the question and not listed is gone, and the first answer after connecting is proof."""

    def stands_unlisted(self: RestTiming, ours_ms: int, youngest_ms: int, asked: Asked) -> bool:
        return ours_ms > asked.asked_ms

    def begins(self: CheckSchedule, asked_mono_s: float, proof_mono_s: float) -> None:
        _begins(self, asked_mono_s, asked_mono_s)

    patch(RestTiming, "stands_unlisted", stands_unlisted)
    patch(CheckSchedule, "begins", begins)


def refused_order_ends_the_attempt(patch: Callable[[Any, str, object], None]) -> None:
    """One order that the venue refuses to show ends the reading of all histories."""
    patch(gap_histories, "Rejected", _NeverRaised)


def unknown_status_is_an_error_of_the_whole_answer(patch: Callable[[Any, str, object], None]) -> None:
    """A list in which one order has a status that nobody named cannot be read."""

    def orders(body: object) -> tuple[PastOrder, ...]:
        for row in body if isinstance(body, list) else ():
            if row.get("status") not in ORDINARY:
                raise FrameError("GET /fapi/v1/allOrders", "status", f"is {row.get('status')!r}")
        return _orders(body)

    patch(history, "orders", orders)


class _NeverRaised(Exception):
    """What nobody raises, so that catching it catches nothing."""


PLANTS = {
    "young-order-that-rest-does-not-know-is-forgotten": young_order_that_rest_does_not_know_is_forgotten,
    "older-row-of-rest-wins-after-the-lag": older_row_of_rest_wins_after_the_lag,
    "row-that-rest-does-not-list-is-gone": row_that_rest_does_not_list_is_gone,
    "refused-order-ends-the-attempt": refused_order_ends_the_attempt,
    "unknown-status-is-an-error-of-the-whole-answer": unknown_status_is_an_error_of_the_whole_answer,
    "identity-by-order-id-alone": identity_by_order_id_alone,
    "buffer-that-drops-in-silence": buffer_that_drops_in_silence,
    "no-order-check": no_order_check,
    "hash-beside-the-commit": hash_beside_the_commit,
    "fills-of-rest-without-their-key": fills_of_rest_without_their_key,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Break the program while the context lasts; an empty name leaves it whole."""
    with ExitStack() as stack:
        if name:
            PLANTS[name](lambda owner, field, value: stack.enter_context(mock.patch.object(owner, field, value)))
        yield
