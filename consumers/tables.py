"""The contract's text → values: the hashes of one commit, with how far they may be trusted."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Hashable, Mapping
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple, TypeVar

from consumers.models import AccountSnapshot, Answer, Balance, Freshness, Order, OrderRows, Position, Rows, Totals
from statecast.errors import ContractMismatch
from statecast.store.codec import entities
from statecast.store.keys import CONTRACT, AccountId
from statecast.store.reader import StoredAccount
from statecast.store.refresh import RestAnswer

Row = TypeVar("Row", bound=Answer)

Text = Mapping[str, str]


class Tables(NamedTuple):
    """The hashes that were asked for, at one commit; the methods decode them.

    Raises:
        ContractMismatch: from the methods, for text that this version of the contract does not allow.
    """

    account_id: AccountId
    server: str
    freshness: Freshness
    account: Text | None
    balance_rows: Mapping[str, Text] | None
    position_rows: Mapping[str, Text] | None
    order_rows: Mapping[str, Text] | None

    def totals(self) -> Totals:
        assert self.account is not None
        try:
            return Totals(**values(Totals, self.account), freshness=self.freshness)
        except ValueError as error:
            raise self._mismatch("account", error) from error

    def balances(self) -> Rows[Balance]:
        return Rows(self._decoded("balances", self.balance_rows, balance), self.freshness)

    def positions(self) -> Rows[Position]:
        return Rows(self._decoded("positions", self.position_rows, position), self.freshness)

    def open_orders(self) -> OrderRows:
        return OrderRows(self._decoded("orders", self.order_rows, order), self.freshness)

    def snapshot(self) -> AccountSnapshot:
        return AccountSnapshot(
            account_id=str(self.account_id),
            totals=self.totals(),
            balances=self.balances(),
            positions=self.positions(),
            open_orders=self.open_orders(),
            freshness=self.freshness,
        )

    def _decoded(
        self, table: str, rows: Mapping[str, Text] | None, decode: Callable[[str, Text, Freshness], Row]
    ) -> dict[str, Row]:
        assert rows is not None
        found: dict[str, Row] = {}
        for name, row in rows.items():
            try:
                found[name] = decode(name, row, self.freshness)
            except ValueError as error:
                raise self._mismatch(f"{table} {name}", error) from error
        return found

    def _mismatch(self, where: str, error: ValueError) -> ContractMismatch:
        reason = f"{self.account_id} {where} is not as contract {CONTRACT} has it: {error}"
        return ContractMismatch(self.server, reason)


def of_publisher(stored: StoredAccount, server: str, age_ms: int) -> Tables:
    """What the publisher wrote; `age_ms` is the time since it was verified."""
    status = stored.status
    changes = [fields for fields in stored.provenance.values() if "_seq" in fields]
    last_change = max(changes, key=lambda fields: int(fields["_seq"]), default={"_source": "rest"})
    freshness = Freshness(
        age_s=age_ms / 1000,
        seq=int(status["seq"]),
        source=typing.cast(Any, last_change["_source"]),
        via="publisher",
        epoch=int(status["epoch"]),
        state=status["state"],
        verified_at_ms=int(status["verifiedAtMs"]),
    )
    return Tables(
        stored.account_id, server, freshness, stored.account, stored.balances, stored.positions, stored.orders
    )


def of_refresh(account_id: AccountId, server: str, answer: RestAnswer) -> Tables:
    """What a reader, or the publisher for the readers, fetched by REST."""
    freshness = Freshness(
        age_s=answer.age_ms / 1000,
        seq=answer.seq,
        source="rest",
        via="refresh",
        epoch=answer.epoch,
        state=answer.state,
        verified_at_ms=answer.taken_at_ms,
    )
    return Tables(
        account_id,
        server,
        freshness,
        answer.hashes["account"],
        entities(answer.hashes["balances"]),
        entities(answer.hashes["positions"]),
        entities(answer.hashes["orders"]),
    )


def balance(name: str, row: Text, freshness: Freshness) -> Balance:
    """One entity of `…:balances`; ValueError for text that is not of the contract."""
    return Balance(asset=name, **values(Balance, row), freshness=freshness)


def position(name: str, row: Text, freshness: Freshness) -> Position:
    """One entity of `…:positions`."""
    return Position(**values(Position, row), freshness=freshness)


def order(name: str, row: Text, freshness: Freshness) -> Order:
    """One entity of `…:orders`. A name other than `SYMBOL:ORDERID` is of an older publisher: nobody would find it."""
    found = Order(**values(Order, row), freshness=freshness)
    if name != (expected := f"{found.symbol}:{found.order_id}"):
        raise ValueError(
            f"its name is not {expected}: restart the publisher, or the reader, that is of an older version"
        )
    return found


def values(kind: type[Any], row: Text) -> dict[str, Any]:
    """The attributes of `kind` from the contract's text; empty counts as missing.

    Raises:
        ValueError: a field is missing that always stands there, or is not what it should be.
    """
    found: dict[str, Any] = {}
    for name, attribute, convert, optional in _columns(typing.cast(Hashable, kind)):
        text = row.get(name)
        if not text and optional:
            found[attribute] = None
        elif text is None:
            raise ValueError(f"{name} is missing")
        elif convert is None:
            found[attribute] = text
        else:
            try:
                found[attribute] = convert(text)
            except (ArithmeticError, KeyError, ValueError):
                raise ValueError(f"{name} is {text!r}") from None
    return found


def snake_case(name: str) -> str:
    """A contract field's name as an attribute: `unRealizedProfit` is `un_realized_profit`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _number(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(text)
    return number


def _flag(text: str) -> bool:
    return {"true": True, "false": False}[text]


_CONVERT: dict[Any, Callable[[str], Any]] = {Decimal: _number, int: int, bool: _flag}


@cache
def _columns(kind: Hashable) -> tuple[tuple[str, str, Callable[[str], Any] | None, bool], ...]:
    """Per field of the contract: name, attribute, how to read it (None: text as it is), whether it may be missing."""
    assert isinstance(kind, type)
    hints = typing.get_type_hints(kind)
    columns = []
    for name in kind.FIELDS:  # type: ignore[attr-defined]  # whatever is decoded has them
        hint = hints[snake_case(name)]
        types = typing.get_args(hint) or (hint,)
        convert = next((_CONVERT[option] for option in types if option in _CONVERT), None)
        columns.append((name, snake_case(name), convert, type(None) in types))
    return tuple(columns)
