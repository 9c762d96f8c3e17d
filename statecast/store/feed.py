"""Reads the changes stream: what each commit did, so that a copy of an account can follow without reading it again.

How to join: `read_account(…, last_change=True)` gives the state and the id of the youngest entry in it. Read on from
that id; each commit must be numbered one more than the last, under the same epoch, or something is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import orjson

from statecast.errors import ContractMismatch
from statecast.store.client import Client
from statecast.store.keys import AccountId, AccountKeys

PAGE = 500
"""Entries in one answer, some 0.5 MB."""

TextRow = Mapping[str, str]


class Change(NamedTuple):
    """One commit. `parts` is what it did to each hash that it changed, as codec.py describes it."""

    entry_id: str
    seq: int
    epoch: int
    source: str
    parts: Mapping[str, Mapping[str, Any]]
    replaces: bool
    """Each hash is just what the parts say; what was there before is gone."""


class ChangesPage(NamedTuple):
    """The entries after an id, the status and Redis's clock, as of one moment."""

    now_ms: int
    status: Mapping[str, str]
    changes: list[Change]
    complete: bool
    """Whether these are all entries up to that moment; else there are more to read."""


async def wait_for_changes(
    client: Client, account_id: AccountId, after: str, *, block_ms: int, page: int = PAGE
) -> list[Change]:
    """The next entries after the id `after`; waits for the first up to `block_ms`, which is less than the time-out.

    Raises:
        ContractMismatch: an entry cannot be understood.
        StoreUnreachable, StoreRefused: reading again is harmless.
    """
    assert block_ms > 0, "0 would wait without end"
    key = AccountKeys(account_id).changes
    with client.errors():
        answer = await client.redis.xread({key: after}, count=page, block=block_ms)
    return _changes(client, account_id, answer)


async def read_changes(client: Client, account_id: AccountId, after: str, *, page: int = PAGE) -> ChangesPage:
    """What happened after the id `after`, and what the status says now: one transaction, without waiting.

    Raises: as `wait_for_changes`.
    """
    keys = AccountKeys(account_id)
    with client.errors():
        async with client.redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.hgetall(keys.status)
            pipe.xread({keys.changes: after}, count=page)
            (seconds, microseconds), status, answer = await pipe.execute()
    changes = _changes(client, account_id, answer)
    return ChangesPage(int(seconds) * 1000 + int(microseconds) // 1000, status, changes, len(changes) < page)


def apply(
    rows: Mapping[str, TextRow], part: Mapping[str, Any], *, replaces: bool
) -> tuple[dict[str, TextRow], set[str]]:
    """The rows of a hash after one commit, and the names of those that it changed, added or removed.

    Rows are {entity: {attribute: value}}, as `codec.entities` makes them; the hash `account` is one row, named "".
    Neither `rows` nor any row in it is changed.

    Raises:
        ValueError: the number of rows is not the one that the commit gives, so `rows` was not the state before it.
    """
    after = {} if replaces else dict(rows)
    changed: dict[str, dict[str, str]] = {}
    removed: list[str] = part.get("removed", [])

    def changing(field: str) -> tuple[dict[str, str], str]:
        entity, _, attribute = field.rpartition(".")
        if entity not in changed:
            changed[entity] = dict(after.get(entity, {}))
        return changed[entity], attribute

    for entity in removed:
        after.pop(entity, None)
    for field in part.get("unset", ()):
        row, attribute = changing(field)
        row.pop(attribute, None)
    for field, value in part["set"].items():
        row, attribute = changing(field)
        row[attribute] = value
    after.update(changed)
    if len(after) != part.get("count", len(after)):
        raise ValueError(f"{len(after)} rows where the commit counts {part['count']}")
    if replaces:
        return after, {entity for entity in rows.keys() | after.keys() if rows.get(entity) != after.get(entity)}
    return after, {*changed, *removed}


def _changes(client: Client, account_id: AccountId, answer: object) -> list[Change]:
    streams = cast("dict[str, list[tuple[str, dict[str, str]]]]", answer or {})
    return [_change(client, account_id, entry_id, fields) for page in streams.values() for entry_id, fields in page]


def _change(client: Client, account_id: AccountId, entry_id: str, fields: Mapping[str, str]) -> Change:
    try:
        change = orjson.loads(fields["change"])
        replaces = change.pop("replaces", False)
        return Change(entry_id, int(fields["seq"]), int(fields["epoch"]), fields["source"], change, replaces)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = f"{account_id}: entry {entry_id} of the changes cannot be understood ({error})"
        raise ContractMismatch(client.server, reason) from error
