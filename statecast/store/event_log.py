"""Reading the log of order events outside of any consumer group, and what its entries of type GAP say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, NamedTuple, cast

from statecast.store.client import Client
from statecast.store.keys import AccountId, AccountKeys

PAGE = 500

Entries = list[tuple[str, dict[str, str]]]

GAP = "GAP"
"""The `eventType` of an entry that stands for events which the venue does not tell any more."""


class Untold(NamedTuple):
    """What nobody can tell any more: order events that happened while no publisher listened.

    `what`: "all" order events of the time and, if it is not empty, the symbol; of "unfilled" orders alone, which ended
    without a fill; or of one "order". A kind that this version does not know is "other". Times are the venue's;
    `since_ms` is None, and `until_ms` that of the last known change, where an order is named.
    """

    what: Literal["all", "unfilled", "order", "other"]
    symbol: str
    order_id: str
    since_ms: int | None
    until_ms: int

    def __str__(self) -> str:
        of = f" of {self.symbol}" if self.symbol else ""
        when = f"until {utc(self.until_ms)}" if self.since_ms is None else ""
        when = when or f"between {utc(self.since_ms or 0)} and {utc(self.until_ms)}"
        match self.what:
            case "all":
                what = f"any order event{of} {when}"
            case "unfilled":
                what = f"the orders{of} that ended without a fill {when}"
            case "order":
                what = f"all that became of order {self.order_id}{of} after {utc(self.until_ms)}"
            case _:
                what = f"some order events{of} {when}"
        return f"the venue does not tell {what}"


def untold(entry: Mapping[str, str]) -> Untold | None:
    """What an entry of type GAP says; None for any other entry.

    Its id is `GAP:<since_ms>:ALL` or `UNFILLED`, `<SYMBOL>:GAP:<since_ms>:REFUSED`, `<SYMBOL>:<ORDERID>:GAP` or
    `algo-<ID>:GAP`.
    """
    if entry.get("eventType") != GAP:
        return None
    symbol, order_id, time = entry.get("symbol", ""), entry.get("orderId", ""), entry.get("venueTimeMs", "")
    until_ms = int(time) if time.isdecimal() else 0
    if order_id:
        return Untold("order", symbol, order_id, None, until_ms)
    before, _, after = entry.get("eventId", "").rpartition(f"{GAP}:")
    since, _, kind = after.partition(":")
    if not since.isdecimal() or before not in ("", f"{symbol}:"):
        return Untold("other", symbol, "", None, until_ms)
    kinds: dict[str, Literal["all", "unfilled"]] = {"ALL": "all", "REFUSED": "all", "UNFILLED": "unfilled"}
    return Untold(kinds.get(kind, "other"), symbol, "", int(since), until_ms)


def utc(ms: int) -> str:
    """A time for people."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


async def seq_before(client: Client, account_id: AccountId, entry_id: str) -> int | None:
    """The `eventSeq` of the entry before `entry_id`; None if there is none, or it has none."""
    with client.errors():
        found = cast(
            Entries, await client.redis.xrevrange(AccountKeys(account_id).order_events, max=f"({entry_id}", count=1)
        )
    text = found[0][1].get("eventSeq", "") if found else ""
    return int(text) if text.isdecimal() else None


async def last_entries(client: Client, account_id: AccountId, count: int) -> tuple[str, list[dict[str, str]]]:
    """The youngest `count` entries, oldest first, and the id to read on from."""
    with client.errors():
        found = cast(Entries, await client.redis.xrevrange(AccountKeys(account_id).order_events, count=max(1, count)))
    entries = [fields for _, fields in reversed(found)]
    return (found[0][0] if found else "0-0"), entries if count else []


async def first_entry_from_seq(client: Client, account_id: AccountId, event_seq: int) -> str:
    """The id after which the entry with this `eventSeq`, or the next that there is, is read first.

    Numbers and ids grow together, so this halves the range of ids until it is found: some forty questions.
    """
    key = AccountKeys(account_id).order_events
    with client.errors():
        newest = cast(Entries, await client.redis.xrevrange(key, count=1))
        oldest = cast(Entries, await client.redis.xrange(key, count=1))
        if not newest or int(oldest[0][1]["eventSeq"]) >= event_seq:
            return "0-0"
        low, high = int(oldest[0][0].partition("-")[0]), int(newest[0][0].partition("-")[0])
        while low < high:  # the first millisecond that holds a number of at least event_seq, less one
            middle = (low + high + 1) // 2
            at = cast(Entries, await client.redis.xrange(key, min=f"{middle}-0", count=1))
            if at and int(at[0][1]["eventSeq"]) < event_seq:
                low = middle
            else:
                high = middle - 1
        after = f"{low}-0"
        while True:
            page = cast(Entries, await client.redis.xrange(key, min=after, count=PAGE))
            for entry_id, fields in page:
                if int(fields["eventSeq"]) >= event_seq:
                    return after if after != entry_id else _before(entry_id)
                after = entry_id
            if len(page) <= 1:
                return after


def _before(entry_id: str) -> str:
    """The id just before this one."""
    milliseconds, _, number = entry_id.partition("-")
    return f"{milliseconds}-{int(number) - 1}" if int(number) else f"{int(milliseconds) - 1}-18446744073709551615"


async def read_on(
    client: Client, account_id: AccountId, after: str, *, block_ms: int
) -> tuple[str, list[dict[str, str]]]:
    """The entries after the id `after`, waiting up to `block_ms` for the first, and the id to read on from."""
    key = AccountKeys(account_id).order_events
    with client.errors():
        answer = await client.redis.xread({key: after}, count=PAGE, block=block_ms or None)
    page = cast("dict[str, Entries]", answer or {}).get(key, [])
    return (page[-1][0] if page else after), [fields for _, fields in page]
