"""Bugs planted on purpose, some of them as they once were: a simulation that does not find them proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import ormsgpack

from statecast.domain import event_ids, open_orders
from statecast.domain.catch_up import Apply, CatchUp, Hold, Repeat, Resync
from statecast.domain.changes import BalanceUpdate, Frame, PositionUpdate
from statecast.domain.models import Order, OrderKey, PositionKey
from statecast.domain.positions import Positions
from statecast.domain.snapshot_merge import LastAnswer
from statecast.domain.wallets import Wallets
from statecast.store.writer import AccountWriter, Batch

_apply_balance, _apply_position = Wallets.apply, Positions.apply
_send, _of_order, _take = AccountWriter.send, event_ids.of_order, CatchUp.take

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
            self.forget_events()
            return Resync(f"more than {DROPPED_FROM} events waited")
        return taken

    patch(CatchUp, "take", take)


PLANTS = {
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
