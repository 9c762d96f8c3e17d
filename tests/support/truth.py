"""What Redis holds of an account against the simulated exchange's ledger, in words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from statecast.domain import gaps
from statecast.simulator.events import AlgoChanged, OrderChanged
from statecast.store.reader import StoredAccount

TOTALS = {
    "totalWalletBalance": "totalWalletBalance",
    "availableBalance": "availableBalance",
    "totalUnrealizedProfit": "totalUnrealizedProfit",
    "totalMarginBalance": "totalMarginBalance",
    "totalInitialMargin": "totalInitialMargin",
    "totalMaintMargin": "totalMaintMargin",
}
BALANCE = {
    "walletBalance": "walletBalance",
    "crossWalletBalance": "crossWalletBalance",
    "availableBalance": "availableBalance",
    "unrealizedProfit": "unrealizedProfit",
}
POSITION_NUMBERS = (
    "positionAmt",
    "entryPrice",
    "breakEvenPrice",
    "markPrice",
    "unRealizedProfit",
    "isolatedWallet",
    "liquidationPrice",
    "notional",
    "leverage",
)
ORDER = {
    "clientOrderId": "clientOrderId",
    "side": "side",
    "positionSide": "positionSide",
    "type": "type",
    "origType": "origType",
    "timeInForce": "timeInForce",
    "status": "status",
    "price": "price",
    "stopPrice": "stopPrice",
    "quantity": "origQty",
    "executedQty": "executedQty",
    "avgPrice": "avgPrice",
    "closePosition": "closePosition",
}
ALGO = {
    "clientOrderId": "clientAlgoId",
    "side": "side",
    "positionSide": "positionSide",
    "type": "orderType",
    "timeInForce": "timeInForce",
    "status": "algoStatus",
    "price": "price",
    "stopPrice": "triggerPrice",
    "quantity": "quantity",
    "closePosition": "closePosition",
    "activatePrice": "activatePrice",
    "callbackRate": "callbackRate",
}
Identity = tuple[str, ...]
IDENTITY_FIELDS = ("symbol", "orderId", "eventType", "status", "executedQty", "tradeId", "lastQty")
"""The fields of an entry in the log that have to be the ledger's, as `ledger_identity` has them."""

NUMBERS = {"price", "stopPrice", "quantity", "executedQty", "avgPrice", "activatePrice", "callbackRate"}


def differences(stored: StoredAccount, ledger: Mapping[str, Any]) -> list[str]:
    """Every field of the four hashes that is not what the ledger says; `ledger` is the exchange's own dump."""
    if stored.account is None or stored.balances is None or stored.positions is None or stored.orders is None:
        return [f"a hash is missing, state {stored.status.get('state')}"]
    found = list(_numbers("totals", stored.account, ledger["totals"], TOTALS))

    assets = {row["asset"]: row for row in ledger["assets"]}
    held = {name for name, row in assets.items() if Decimal(row["walletBalance"]) != 0}
    found += [f"balance {name} is missing" for name in held - stored.balances.keys()]
    for name, balance in stored.balances.items():
        found += _numbers(f"balance {name}", balance, assets.get(name, {}), BALANCE)

    positions = {f"{row['symbol']}:{row['positionSide']}": row for row in ledger["positions"]}
    open_positions = {name: row for name, row in positions.items() if Decimal(row["positionAmt"]) != 0}
    found += _same_names("position", stored.positions.keys(), open_positions.keys())
    for name in stored.positions.keys() & open_positions.keys():
        row, truth = stored.positions[name], open_positions[name]
        found += _numbers(f"position {name}", row, truth, {field: field for field in POSITION_NUMBERS})
        margin_type = {"CROSSED": "cross", "ISOLATED": "isolated"}[truth["marginType"]]
        side = "long" if Decimal(truth["positionAmt"]) > 0 else "short"
        if (row.get("marginType"), row.get("side")) != (margin_type, side):
            found.append(f"position {name} is {row.get('marginType')} {row.get('side')}, ledger {margin_type} {side}")

    orders = {f"{row['symbol']}:{row['orderId']}": (row, ORDER) for row in ledger["openOrders"]}
    orders |= {f"{row['symbol']}:algo-{row['algoId']}": (row, ALGO) for row in ledger["openAlgoOrders"]}
    found += _same_names("order", stored.orders.keys(), orders.keys())
    for name in stored.orders.keys() & orders.keys():
        truth, fields = orders[name]
        for ours, theirs in fields.items():
            value, expected = stored.orders[name].get(ours, ""), truth.get(theirs, "")
            if isinstance(expected, bool):
                expected = "true" if expected else "false"
            same = Decimal(value or 0) == Decimal(expected or 0) if ours in NUMBERS else value == str(expected)
            if not same:
                found.append(f"order {name} {ours} {value}, ledger {expected}")
    return found


def _numbers(what: str, row: Mapping[str, str], truth: Mapping[str, Any], fields: Mapping[str, str]) -> Iterable[str]:
    for ours, theirs in fields.items():
        if theirs not in truth:
            yield f"{what} {ours} {row.get(ours)}, ledger has none"
        elif ours not in row:
            yield f"{what} {ours} is missing, ledger {truth[theirs]}"
        elif Decimal(row[ours]) != Decimal(str(truth[theirs])):
            yield f"{what} {ours} {row[ours]}, ledger {truth[theirs]}"


def _same_names(kind: str, ours: Iterable[str], theirs: Iterable[str]) -> list[str]:
    mine, truth = set(ours), set(theirs)
    return [f"{kind} {name} is not in the ledger" for name in sorted(mine - truth)] + [
        f"{kind} {name} is missing" for name in sorted(truth - mine)
    ]


def event_differences(
    entries: Sequence[Mapping[str, str]],
    ledger_events: Sequence[OrderChanged],
    algo_events: Sequence[AlgoChanged],
) -> list[str]:
    """Where the log of order events differs from the ledger's: one entry for each, in order, numbered without a gap.

    Both are given as the ledger reported them; conditional orders by themselves.
    """
    found = _numbering(entries)
    ordinary = [entry for entry in entries if not entry["algoId"]]
    found += _sequence([_identity(entry) for entry in ordinary], [ledger_identity(event) for event in ledger_events])
    algos = [(entry["algoId"], entry["eventType"], entry["actualOrderId"]) for entry in entries if entry["algoId"]]
    found += _sequence(algos, [(str(event.algo.algo_id), *algo_identity(event)) for event in algo_events])
    if len({entry["eventId"] for entry in entries}) != len(entries):
        found.append("an event stands in the log twice")
    return found


UNTOLD_BY_REST = frozenset({"AMENDMENT"})
UNTOLD_STEPS_BY_REST = frozenset({"ALGO_NEW", "ALGO_TRIGGERING", "ALGO_TRIGGERED"})
"""What the venue's histories do not tell afterwards; of `ALGO_NEW` the second, that a trailing stop was activated."""


def gap_differences(
    entries: Sequence[Mapping[str, str]],
    ledger_events: Sequence[OrderChanged],
    algo_events: Sequence[AlgoChanged],
    *,
    in_order: bool = True,
    whole: bool = False,
    but: Collection[str] = (),
) -> list[str]:
    """As `event_differences`, where the stream was away for a while: order by order, and without what REST does not
    tell. What happened last to an order must stand there all the same, if it is more than an amendment. Without
    `in_order`, what was lost without a sign may stand behind what came after it. With `whole`, nothing may be missing,
    for every event was received. `but`: what nobody looks at, as `gap_name` names it."""
    found = _numbering(entries)
    if len({entry["eventId"] for entry in entries}) != len(entries):
        found.append("an event stands in the log twice")
    ours: dict[str, list[Identity]] = {}
    theirs: dict[str, list[Identity]] = {}
    for entry in entries:
        gap = gaps.parse(entry)
        # What was not logged stands for what REST does not tell, anywhere in the log.
        if (gap is None or gap.what != "unlogged") and gap_name(entry) not in but:
            ours.setdefault(f"{entry['symbol']}:{entry['orderId']}", []).append(_told(entry))
    for event in ledger_events:
        key = f"{event.order.symbol}:{event.order.order_id}"
        theirs.setdefault(key, []).append((event.execution.value, *ledger_identity(event)))
    for change in algo_events:
        key = f"{change.algo.symbol}:algo-{change.algo.algo_id}"
        theirs.setdefault(key, []).append(algo_identity(change))
    for name in ours.keys() | theirs.keys():
        mine, truth = ours.get(name, []), theirs.get(name, [])
        if not in_order:
            mine = sorted(mine, key=lambda one, truth=truth: truth.index(one) if one in truth else len(truth))  # type: ignore[misc]
        if name not in but:
            found += _of_one_order(name, mine, truth, whole=whole)
    return found


def gap_name(entry: Mapping[str, str]) -> str:
    """Of what an entry of type GAP says that it is missing: the order (`<SYMBOL>:<ORDERID>`), or the last word of its
    id. Empty of an event."""
    if entry["eventType"] != "GAP":
        return ""
    return f"{entry['symbol']}:{entry['orderId']}" if entry["orderId"] else entry["eventId"].rpartition(":")[2]


def is_of_late_event(entry: Mapping[str, str]) -> bool:
    """Whether the entry says of an order that something of it came too late to be logged."""
    gap = gaps.parse(entry)
    return gap is not None and gap.what == "unlogged" and bool(gap.order_id)


def order_differences(
    order_id: str, entries: Sequence[Mapping[str, str]], dumped_events: Sequence[Mapping[str, Any]]
) -> list[str]:
    """As `gap_differences`, of one ordinary order; numbers, which are those of all orders, are not looked at.

    The events are rows of `orderEvents`, as a program outside reads them.
    """
    theirs = [(str(event["x"]), *_dumped_identity(event)) for event in dumped_events]
    return _of_one_order(order_id, [_told(entry) for entry in entries], theirs)


def _told(entry: Mapping[str, str]) -> Identity:
    if entry["algoId"]:
        return (entry["eventType"], entry["actualOrderId"])
    return (entry["eventType"], *_identity(entry))


def _of_one_order(order_id: str, ours: list[Identity], theirs: list[Identity], *, whole: bool = False) -> list[str]:
    left = list(ours)
    for at, truth in enumerate(theirs):
        if left and left[0] == truth:
            del left[0]
            continue
        last, first = at == len(theirs) - 1, at == 0
        if whole:
            return [f"order {order_id}: {truth} is missing before {left[:1]}"]
        if truth[0] in UNTOLD_BY_REST or (truth[0] in UNTOLD_STEPS_BY_REST and not first and not last):
            continue
        if truth[0] == "ALGO_NEW" and not first:
            continue
        return [f"order {order_id}: {truth} is missing before {left[:1]}; log {ours}, ledger {theirs}"]
    return [f"order {order_id}: {left} beyond the ledger's {theirs}"] if left else []


def _numbering(entries: Sequence[Mapping[str, str]]) -> list[str]:
    found: list[str] = []
    for at, entry in enumerate(entries):
        if int(entry["eventSeq"]) != int(entries[0]["eventSeq"]) + at:
            found.append(f"entry {at} has eventSeq {entry['eventSeq']}, the first {entries[0]['eventSeq']}")
            break
    return found


def _sequence(ours: Sequence[Identity], theirs: Sequence[Identity]) -> list[str]:
    found: list[str] = []
    if len(ours) != len(theirs):
        found.append(f"{len(ours)} entries, {len(theirs)} events in the ledger")
    for at, (mine, truth) in enumerate(zip(ours, theirs, strict=False)):
        if mine != truth:
            found.append(f"entry {at} is {mine}, ledger {truth}")
            break
    return found


def _identity(entry: Mapping[str, str]) -> Identity:
    return (
        entry["symbol"],
        entry["orderId"],
        entry["eventType"],
        entry["status"],
        _plain(entry["executedQty"]),
        entry["tradeId"],
        _plain(entry["lastQty"]),
    )


def ledger_identity(event: OrderChanged) -> Identity:
    """What an entry of the log has to say of an order event."""
    order = event.order
    return (
        order.symbol,
        str(order.order_id),
        event.execution.value,
        order.status.value,
        _plain(str(order.filled_qty)),
        str(event.trade_id) if event.trade_id else "",
        _plain(str(event.last_qty)) if event.trade_id else "",
    )


def algo_identity(event: AlgoChanged) -> Identity:
    """The event's type and the order that was sent, which an entry of the log has to name."""
    algo = event.algo
    return (f"ALGO_{algo.status}", str(algo.order_id) if algo.order_id else "")


def _dumped_identity(event: Mapping[str, Any]) -> Identity:
    fill = int(event["t"]) > 0
    return (
        event["s"],
        str(event["i"]),
        str(event["x"]),
        str(event["X"]),
        _plain(event["z"]),
        str(event["t"]) if fill else "",
        _plain(event["l"]) if fill else "",
    )


def _plain(value: str) -> str:
    return format(Decimal(value).normalize(), "f") if value else ""
