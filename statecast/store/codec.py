"""Values ↔ hash fields and stream entries, and a batch of commits ↔ the argument of the commit script. Pure.

A batch is one MessagePack value, which the script unpacks in C: thousands of separate arguments cost client and server
more than all the writing. It is a list of commits, each

    [hashes, order events, entry of the changes stream]

    a hash      [1 account | 2 balances | 3 positions | 4 orders, delete it first?, [field, value, …], [gone field, …]]
    an entry    [field, value, …]

All fields and values are text.

The field `change` of the changes stream is JSON: what the commit did, so that a copy can follow.

    {"positions": {"set": {"BTCUSDT:BOTH.markPrice": "91414.9", …}, "unset": ["BTCUSDT:BOTH.liquidationPrice"],
                   "removed": ["ETHUSDT:BOTH"], "count": 1, "venueTimeMs": 1793000001046}, …, "replaces": true}

A hash that is not named did not change. `unset` are fields that have no value any more, `removed` entities that are
gone with all their fields; both are left out when empty. With `replaces` each hash is just what is `set`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import TypeVar

import orjson
import ormsgpack

from statecast.domain.account import Delta
from statecast.domain.models import Balance, Order, OrderEvent, Position, Totals, plain
from statecast.store.keys import (
    ACCOUNT_FIELDS,
    BALANCE_FIELDS,
    CONTRACT,
    EVENT_FIELDS,
    EVENTS_ORDER_FIELDS,
    ORDER_FIELDS,
    POSITION_FIELDS,
)

Row = TypeVar("Row")
Argument = str | int
"""The value of a status field."""
Cells = tuple[str | None, ...]


def _number(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def _integer(value: int | None) -> str | None:
    return None if value is None else str(value)


def _flag(value: bool | None) -> str | None:
    return None if value is None else ("true" if value else "false")


def totals_cells(totals: Totals) -> Cells:
    """Values in the order of `ACCOUNT_FIELDS`."""
    return (
        _number(totals.total_wallet_balance),
        _integer(totals.total_wallet_balance_time_ms),
        _number(totals.total_unrealized_profit),
        _integer(totals.total_unrealized_profit_time_ms),
        _number(totals.total_margin_balance),
        _integer(totals.total_margin_balance_time_ms),
        _number(totals.available_balance),
        _integer(totals.available_balance_time_ms),
        _number(totals.total_initial_margin),
        _number(totals.total_maint_margin),
        _integer(totals.margin_time_ms),
        totals.totals_asset,
    )


def balance_cells(row: Balance) -> Cells:
    """Values in the order of `BALANCE_FIELDS`."""
    return (
        plain(row.wallet_balance),
        plain(row.cross_wallet_balance),
        _number(row.available_balance),
        _integer(row.available_balance_time_ms),
        _number(row.unrealized_profit),
        _integer(row.unrealized_profit_time_ms),
        str(row.stamp.venue_time_ms),
        row.source,
    )


def position_cells(row: Position) -> Cells:
    """Values in the order of `POSITION_FIELDS`."""
    return (
        row.symbol,
        row.position_side,
        row.side,
        plain(row.position_amt),
        plain(row.entry_price),
        _number(row.break_even_price),
        _number(row.mark_price),
        _integer(row.mark_price_time_ms),
        _number(row.unrealized_profit),
        _integer(row.unrealized_profit_time_ms),
        _integer(row.leverage),
        row.margin_type,
        _number(row.isolated_wallet),
        _number(row.liquidation_price),
        _integer(row.liquidation_price_time_ms),
        _number(row.notional),
        row.margin_asset,
        str(row.stamp.venue_time_ms),
        row.source,
        row.quantity_asset,
        _number(row.contracts),
        _number(row.contract_size),
    )


def order_cells(row: Order) -> Cells:
    """Values in the order of `ORDER_FIELDS`."""
    return (
        row.symbol,
        row.order_id,
        row.client_order_id,
        row.side,
        row.position_side,
        row.type,
        row.orig_type,
        row.time_in_force,
        row.status,
        _number(row.price),
        _number(row.stop_price),
        _number(row.quantity),
        _number(row.executed_qty),
        _number(row.avg_price),
        _flag(row.reduce_only),
        str(row.venue_time_ms),
        row.source,
        row.algo_id,
        row.actual_order_id,
        row.quantity_asset,
        _number(row.contracts),
        _flag(row.close_position),
        _number(row.activate_price),
        _number(row.callback_rate),
    )


def order_of(cells: Mapping[str, str]) -> Order:
    """The order whose fields these are; what is not there, or empty, the venue did not give."""

    def number(name: str) -> Decimal | None:
        return Decimal(cells[name]) if cells.get(name) else None

    def flag(name: str) -> bool | None:
        return {"true": True, "false": False}.get(cells.get(name, ""))

    return Order(
        order_id=cells["orderId"],
        symbol=cells["symbol"],
        client_order_id=cells.get("clientOrderId", ""),
        side=cells.get("side", ""),
        position_side=cells.get("positionSide", ""),
        type=cells.get("type", ""),
        orig_type=cells.get("origType", ""),
        time_in_force=cells.get("timeInForce", ""),
        status=cells.get("status", ""),
        price=number("price"),
        stop_price=number("stopPrice"),
        quantity=number("quantity"),
        executed_qty=number("executedQty"),
        avg_price=number("avgPrice"),
        reduce_only=flag("reduceOnly"),
        venue_time_ms=int(cells["venueTimeMs"]),
        source="rest" if cells.get("source") == "rest" else "stream",
        algo_id=cells.get("algoId") or None,
        actual_order_id=cells.get("actualOrderId") or None,
        quantity_asset=cells.get("quantityAsset") or None,
        contracts=number("contracts"),
        close_position=flag("closePosition"),
        activate_price=number("activatePrice"),
        callback_rate=number("callbackRate"),
    )


def event_entry(event: OrderEvent, order: Cells, event_seq: int, epoch: str) -> list[str]:
    """A stream entry, field after value, always with all of `EVENT_FIELDS` (Redis then stores the names once).

    `order` are the cells of the event's order.
    """
    values = (
        str(event_seq),
        event.event_id,
        event.event_type,
        *order[:EVENTS_ORDER_FIELDS],
        _number(event.last_qty),
        _number(event.last_price),
        event.trade_id,
        _number(event.commission),
        event.commission_asset,
        _number(event.realized_profit),
        _flag(event.maker),
        str(event.received_at_ms),
        epoch,
        *order[EVENTS_ORDER_FIELDS:],
    )
    entry = [""] * (2 * len(EVENT_FIELDS))
    entry[::2] = EVENT_FIELDS
    entry[1::2] = [value or "" for value in values]
    return entry


def _fields(
    names: tuple[str, ...], cells: Cells, before: Cells | None, prefix: str
) -> tuple[dict[str, str], list[str]]:
    """What to set and what to delete, so that a hash that holds `before` holds `cells`."""
    if before is None:
        return {prefix + name: cell for name, cell in zip(names, cells, strict=True) if cell is not None}, []
    changed: dict[str, str] = {}
    gone: list[str] = []
    for name, cell, old in zip(names, cells, before, strict=True):
        if cell != old:
            if cell is None:
                gone.append(prefix + name)
            else:
                changed[prefix + name] = cell
    return changed, gone


def _table(
    rows: Iterable[tuple[Row | None, Row | None]],
    names: tuple[str, ...],
    cells: Callable[[Row], Cells],
    entity: Callable[[Row], str],
) -> tuple[dict[str, str], list[str], list[str]]:
    """Fields to set, fields without a value any more, and the entities that are gone."""
    to_set: dict[str, str] = {}
    unset: list[str] = []
    removed: list[str] = []
    for before, after in rows:
        if after is not None:
            old = None if before is None else cells(before)
            changed, gone = _fields(names, cells(after), old, entity(after) + ".")
            to_set.update(changed)
            unset += gone
        elif before is not None:
            removed.append(entity(before))
    return to_set, unset, removed


def _position_name(row: Position) -> str:
    return f"{row.symbol}:{row.position_side}"


def _balance_name(row: Balance) -> str:
    return row.asset


def _order_name(row: Order) -> str:
    return str(row.key)


def commit(delta: Delta, seq: int, event_seq: int, epoch: int, verified_at_ms: int) -> list[object]:
    """One commit for the script.

    `seq` is this commit's number, `event_seq` that of the last order event before it. `verified_at_ms` goes into hashes
    that are written as a whole.
    """
    hashes: list[list[object]] = []
    change: dict[str, object] = {}
    replaces, times = delta.replaces, delta.times
    seq_text, epoch_text = str(seq), str(epoch)

    def add(
        index: int,
        name: str,
        names: tuple[str, ...],
        table: tuple[dict[str, str], list[str], list[str]],
        venue_time_ms: int,
        count: int | None,
    ) -> None:
        to_set, unset, removed = table
        # The script knows the time of writing, and puts it into the second place.
        fields = ["_storedAtMs", "", "_seq", seq_text, "_epoch", epoch_text, "_source", delta.source]
        fields += ("_venueTimeMs", str(venue_time_ms))
        part: dict[str, object] = {"set": to_set, "venueTimeMs": venue_time_ms}
        if count is not None:
            fields += ("_count", str(count))
            part["count"] = count
        if replaces:
            fields += ("_complete", "1", "_contract", CONTRACT, "_verifiedAtMs", str(verified_at_ms))
        for field in to_set.items():
            fields += field
        to_delete = unset + [f"{entity}.{field}" for entity in removed for field in names]
        hashes.append([index, replaces, fields, [] if replaces else to_delete])
        if unset:
            part["unset"] = unset
        if removed:
            part["removed"] = removed
        change[name] = part

    # An event's order is, as a rule, the row that it leaves behind: its cells are made once.
    known_cells = {id(event.order): order_cells(event.order) for event in delta.events}

    def cells_of(order: Order) -> Cells:
        return known_cells.get(id(order)) or order_cells(order)

    if delta.totals is not None:
        before = None if delta.totals_before is None or replaces else totals_cells(delta.totals_before)
        changed, gone = _fields(ACCOUNT_FIELDS, totals_cells(delta.totals), before, "")
        add(1, "account", ACCOUNT_FIELDS, (changed, gone, []), times.account, None)
    if delta.balances or replaces:
        table = _table(delta.balances, BALANCE_FIELDS, balance_cells, _balance_name)
        add(2, "balances", BALANCE_FIELDS, table, times.balances, delta.balance_count)
    if delta.positions or replaces:
        table = _table(delta.positions, POSITION_FIELDS, position_cells, _position_name)
        add(3, "positions", POSITION_FIELDS, table, times.positions, delta.position_count)
    if delta.orders or replaces:
        table = _table(delta.orders, ORDER_FIELDS, cells_of, _order_name)
        add(4, "orders", ORDER_FIELDS, table, times.orders, delta.order_count)

    events = [
        event_entry(event, cells_of(event.order), event_seq + at, epoch_text)
        for at, event in enumerate(delta.events, start=1)
    ]
    if replaces:
        change["replaces"] = True
    entry = ["seq", seq_text, "epoch", epoch_text, "eventSeq", str(event_seq + len(events)), "source", delta.source]
    return [hashes, events, [*entry, "change", orjson.dumps(change).decode()]]


def pack(commits: list[list[object]]) -> bytes:
    """The commits of one batch as the script takes them."""
    return ormsgpack.packb(commits)


def entities(fields: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """A state hash as {entity: {attribute: value}}; the last dot separates them, provenance (`_…`) is left out."""
    rows: dict[str, dict[str, str]] = {}
    row: dict[str, str] = {}
    last: str | None = None  # the fields of an entity stand side by side, as a rule
    for name, value in fields.items():
        entity, dot, attribute = name.rpartition(".")
        if not dot or name[0] == "_":
            continue
        if entity != last:
            row, last = rows.setdefault(entity, {}), entity
        row[attribute] = value
    return rows


def provenance(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of a state hash that belong to it as a whole."""
    return {name: value for name, value in fields.items() if name[0] == "_"}


def rows(delta: Delta) -> dict[str, dict[str, str]]:
    """A whole account (`Delta.replaces`) as the fields of its four hashes, without provenance."""
    assert delta.replaces, "a part of an account is no account"
    assert delta.totals is not None
    return {
        "account": _fields(ACCOUNT_FIELDS, totals_cells(delta.totals), None, "")[0],
        "balances": _table(delta.balances, BALANCE_FIELDS, balance_cells, _balance_name)[0],
        "positions": _table(delta.positions, POSITION_FIELDS, position_cells, _position_name)[0],
        "orders": _table(delta.orders, ORDER_FIELDS, order_cells, _order_name)[0],
    }
