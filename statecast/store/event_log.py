"""Reading the log of order events outside of any consumer group."""

from __future__ import annotations

from typing import cast

from statecast.store.client import Client
from statecast.store.keys import AccountId, AccountKeys

PAGE = 500

Entries = list[tuple[str, dict[str, str]]]


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


async def first_entry_from_seq(client: Client, account_id: AccountId, event_seq: int, *, page: int = PAGE) -> str:
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
            entries = cast(Entries, await client.redis.xrange(key, min=after, count=page))
            for entry_id, fields in entries:
                if int(fields["eventSeq"]) >= event_seq:
                    return after if after != entry_id else _before(entry_id)
                after = entry_id
            if len(entries) <= 1:
                return after


def _before(entry_id: str) -> str:
    """The id just before this one."""
    milliseconds, _, number = entry_id.partition("-")
    return f"{milliseconds}-{int(number) - 1}" if int(number) else f"{int(milliseconds) - 1}-18446744073709551615"


async def read_on(
    client: Client, account_id: AccountId, after: str, *, block_ms: int, page: int = PAGE
) -> tuple[str, list[dict[str, str]]]:
    """The entries after the id `after`, waiting up to `block_ms` for the first, and the id to read on from."""
    key = AccountKeys(account_id).order_events
    with client.errors():
        answer = await client.redis.xread({key: after}, count=page, block=block_ms or None)
    entries = cast("dict[str, Entries]", answer or {}).get(key, [])
    return (entries[-1][0] if entries else after), [fields for _, fields in entries]
