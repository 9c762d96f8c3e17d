"""An account for a terminal or in plain lines, and how fresh it is.

Values and names are the contract's, as in Redis, so that users can find in Redis what they see here.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation

import orjson
from rich.text import Text

from statecast.cli.page import Block, Column, Table
from statecast.domain import gaps
from statecast.domain.freshness import Verdict, judge
from statecast.domain.gaps import GAP, utc
from statecast.store.keys import CONTRACT, AccountId, AccountKeys
from statecast.store.reader import StoredAccount

STALE_AFTER_MS = 10_000
"""The default limit of age for readers."""

OLD_PART_MS = 10_000
"""A value with its own time that is older than this is shown with its age, while a position is open."""

NUMBERS = ("seq", "eventSeq", "eventsCompleteMs")
"""Fields of the status that are shown next to the verdict."""

BRIEF_ROWS = 5
"""Rows of a kind in the brief form of an account."""

TOTALS = (
    Column("totalWalletBalance", 1),
    Column("availableBalance", 4),
    Column("totalUnrealizedProfit", 2),
    Column("totalMarginBalance", 3),
    Column("totalInitialMargin", 5),
)
BALANCES = (Column("walletBalance", 1), Column("availableBalance", 3), Column("unrealizedProfit", 2))
POSITIONS = (
    Column("positionAmt", 1),
    Column("entryPrice", 2),
    Column("markPrice", 4),
    Column("unRealizedProfit", 3),
    Column("leverage", 6),
    Column("liquidationPrice", 5),
    Column("marginType", 7),
)
ORDERS = (
    Column("symbol", 1, right=False),
    Column("side", 2, right=False),
    Column("positionSide", 9, right=False),
    Column("type", 5, right=False),
    Column("quantity", 3),
    Column("executedQty", 7),
    Column("price", 4),
    Column("stopPrice", 6),
    Column("status", 8, right=False),
)
TERMS = (Column("closePosition", 3, right=False), Column("activatePrice", 6), Column("callbackRate", 6))
"""Of few orders, which have no quantity or no stop price of their own: shown where an order in the table has them."""

PROFITS = frozenset({"totalUnrealizedProfit", "unrealizedProfit", "unRealizedProfit"})
MOVING = PROFITS | {"totalMarginBalance", "availableBalance", "markPrice"}
"""Figures that move with the market while a position is open."""

Row = Mapping[str, str]


def verdict(stored: StoredAccount, max_age_ms: float = STALE_AFTER_MS) -> Verdict:
    """How fresh the account is that was read."""
    return judge(
        stored.status, stored.now_ms, max_age_ms, contract=CONTRACT, asked=stored.asked, missing=stored.missing
    )


def account_json(stored: StoredAccount, max_age_ms: int = STALE_AFTER_MS) -> str:
    """The whole account for a program: the contract's names and texts, and `fresh`. Unknown tables are null."""
    judged = verdict(stored, max_age_ms)
    document = {
        "accountId": str(stored.account_id),
        "fresh": judged.fresh,
        "verdict": str(judged),
        "ageMs": stored.age_ms,
        "nowMs": stored.now_ms,
        "status": stored.status,
        "account": stored.account,
        "balances": stored.balances,
        "positions": stored.positions,
        "orders": stored.orders,
    }
    return orjson.dumps(document).decode()


def unreadable_json(account_id: AccountId | None, reason: str) -> str:
    """Printed instead of an account while Redis cannot be read: nothing is known."""
    known = ("ageMs", "nowMs", "status", "account", "balances", "positions", "orders")
    name = None if account_id is None else str(account_id)
    document = {"accountId": name, "fresh": False, "verdict": f"UNREADABLE: {reason}", **dict.fromkeys(known)}
    return orjson.dumps(document).decode()


# --- plain lines -----------------------------------------------------------------------------------------------------


def account_lines(stored: StoredAccount, max_age_ms: int = STALE_AFTER_MS, *, brief: bool = False) -> Iterator[str]:
    """The account in plain lines, one fact each; every line of a state that is not live says so.

    `brief` keeps what the terminal's tables show, and a few rows of each.
    """
    judged = verdict(stored, max_age_ms)
    yield _headline(stored, judged)
    mark = f"[{judged.mark}] " if judged.mark else ""
    if stored.account is not None:
        names = _names(TOTALS) if brief else [name for name in stored.account if not name.startswith("_")]
        yield f"  {mark}totals {_pairs(stored.account, names)}"
    for title, table, columns in (
        ("balance", stored.balances, BALANCES),
        ("position", stored.positions, POSITIONS),
        ("order", stored.orders, _order_columns(stored.orders)),
    ):
        if table is None:
            if stored.status:
                yield f"  {mark}{title}s unknown"
        elif not table:
            yield f"  {mark}no {title}" if title == "balance" else f"  {mark}no open {title}{_when(judged)}"
        else:
            shown = sorted(table)[: BRIEF_ROWS if brief else None]
            for name in shown:
                yield f"  {mark}{title} {name} {_pairs(table[name], _names(columns) if brief else list(table[name]))}"
            if len(shown) < len(table):
                yield f"  {mark}and {len(table) - len(shown)} more {title}s"


def _headline(stored: StoredAccount, judged: Verdict) -> str:
    numbers = [f"{name}={stored.status[name]}" for name in NUMBERS if name in stored.status]
    return " ".join([f"{stored.account_id} {judged}", *numbers])


def _when(judged: Verdict) -> str:
    return " when last verified" if judged.mark else ""


def _names(columns: Iterable[Column]) -> list[str]:
    return [column.name for column in columns]


def _order_columns(orders: Mapping[str, Row] | None) -> list[Column]:
    """Those that these orders need, the terms next to the quantity that they explain."""
    rows = (orders or {}).values()
    terms = [column for column in TERMS if any(row.get(column.name, "false") != "false" for row in rows)]
    at = _names(ORDERS).index("executedQty")
    return [*ORDERS[:at], *terms, *ORDERS[at:]]


def _pairs(row: Row, names: Iterable[str]) -> str:
    return " ".join(f"{name}={row[name]}" for name in names if name in row)


def event_line(entry: Row) -> str:
    """An order event in one line; of a GAP, what it says is missing for good."""
    if (missing := gaps.parse(entry)) is not None:
        return f"#{entry['eventSeq']} {GAP}: {missing}"
    filled = f" {entry['lastQty']} @ {entry['lastPrice']}" if entry.get("lastQty") else ""
    profit = f" profit {entry['realizedProfit']}" if _number(entry.get("realizedProfit")) else ""
    at = f" @ {entry['price']}" if _number(entry.get("price")) else ""
    closes = " closePosition" if entry.get("closePosition") == "true" else ""
    return (
        f"#{entry['eventSeq']} {entry['eventType']} {entry['symbol']} {entry['side']} {entry['positionSide']} "
        f"{entry['type']} {entry['quantity']}{closes}{at} -> {entry['status']}{filled}{profit} order {entry['orderId']}"
    )


def _number(text: str | None) -> Decimal:
    try:
        return Decimal(text or 0)
    except InvalidOperation:
        return Decimal(0)


def redis_commands(account_id: AccountId) -> list[list[str]]:
    """Redis commands whose replies are what the views show."""
    keys = AccountKeys(account_id)
    return [
        ["HGETALL", keys.account],
        ["HGETALL", keys.positions],
        ["HGET", keys.account, "totalMarginBalance"],
        ["XREVRANGE", keys.order_events, "+", "-", "COUNT", "3"],
    ]


def shell_line(words: Sequence[str], width: int | None = None) -> str:
    """Words quoted for a shell. Lines longer than `width` are continued with a backslash, and can be pasted."""
    lines = [""]
    for word in map(shlex.quote, words):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if width is not None and lines[-1] and len(longer) > width - len(" \\"):
            lines.append(f"    {word}")
        else:
            lines[-1] = longer
    return " \\\n".join(lines)


# --- a terminal ------------------------------------------------------------------------------------------------------


def account_blocks(stored: StoredAccount, max_age_ms: int = STALE_AFTER_MS) -> list[Block]:
    """The whole account for a page of a terminal. What is not live is marked above each table and at the end."""
    judged = verdict(stored, max_age_ms)
    style = "bold green" if judged.word == "live" else ("bold black on yellow" if judged.fresh else "bold white on red")
    head = Text.assemble((f" {stored.account_id} ", "bold"), (f" {judged} ", style))
    if "seq" in stored.status:
        head.append(f"  seq {stored.status['seq']}  order events {stored.status.get('eventSeq', '0')}", "dim")
        head.append(_complete(stored.status), "dim")
    if verdict(stored).never_published:
        return [[head]]
    mark = f" {judged.mark}" if judged.mark else ""
    blocks: list[Block] = [[head], _totals(stored, mark)]
    for kind, table, columns in (
        ("balance", stored.balances, BALANCES),
        ("open position", stored.positions, POSITIONS),
        ("open order", stored.orders, _order_columns(stored.orders)),
    ):
        blocks.append(_table(kind, table, columns, stored, judged))
    return [*blocks, [head]] if judged.mark else blocks


def _complete(status: Row) -> str:
    """Until when the log of order events is complete, in the venue's time."""
    text = status.get("eventsCompleteMs", "")
    if not text.isdecimal():
        return ""
    return f", complete until {utc(int(text))}" if int(text) else ", not yet known to be complete"


def _totals(stored: StoredAccount, mark: str) -> Table:
    if stored.account is None:
        return Table(f"account unknown{mark}", (), ())
    cells = [_cell(stored, stored.account, column.name) for column in TOTALS]
    return Table(f"account{mark}", TOTALS, [[Text(stored.account_id.account), *cells]])


def _table(
    kind: str, rows: Mapping[str, Row] | None, columns: Sequence[Column], stored: StoredAccount, judged: Verdict
) -> Table:
    mark = f" {judged.mark}" if judged.mark else ""
    if rows is None:
        return Table(f"{kind}s unknown{mark}", (), ())
    if not rows:
        return Table(f"no {kind}{_when(judged)}{mark}", (), ())
    # An order has no stop price because it needs none; a position without a figure has one that is not known.
    absent = "-" if kind == "open order" else "unknown"
    cells = [
        [Text(name), *(_cell(stored, row, column.name, absent) for column in columns)]
        for name, row in sorted(rows.items())
    ]
    return Table(f"{kind}s{mark}", columns, cells)


def _cell(stored: StoredAccount, row: Row, field: str, absent: str = "unknown") -> Text:
    """A value, with its age where it moves with the market and is older than the rest."""
    value = row.get(field)
    if value is None:
        return Text(absent, "dim" if absent == "-" else "yellow")
    text = Text(value)
    if field in PROFITS and (number := _number(value)):
        text.stylize("red" if number < 0 else "green")
    time_ms = _number(row.get(f"{field}TimeMs"))
    age_ms = stored.now_ms - int(time_ms)
    if field in MOVING and time_ms and stored.positions and age_ms > OLD_PART_MS and _number(value):
        text.append(f" {age_ms // 1000}s old", "yellow")
    return text
