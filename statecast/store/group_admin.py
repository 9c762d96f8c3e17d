"""Consumer groups as an operator sees them: how far they are, who serves them, and their dead letters.

A group of statecast has one group in Redis, or one for each of its partitions: `<GROUP>.<partition>of<partitions>`.
Groups that were created with plain commands are shown and treated alike; less is known of them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, cast

from statecast.errors import ConfigError
from statecast.store.client import Client
from statecast.store.keys import REQUEUED, AccountId, AccountKeys

SERVED_MS = 60_000
"""A consumer that asked Redis for entries within this time serves its group, where members do not sign up."""

LETTERS_PAGE = 200
"""Dead letters in one call, some 0.2 MB."""

Role = Literal["active", "standby", "gone", ""]
Fields = Mapping[str, str]
Entries = list[tuple[str, dict[str, str]]]

_PARTITION = re.compile(r"(.+)\.([1-9][0-9]*)of([1-9][0-9]*)")


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer as Redis knows it, or a member that has not read yet.

    `idle_ms` is since it last asked Redis for entries (before Redis 7.2: since it last got some); None if it never did.
    `role`: `active` gets the entries now, `standby` waits to take over, `gone` is neither any more. Empty where nobody
    signs up: a group of other programs, and the name under which entries are put back.
    """

    name: str
    pending: int
    idle_ms: int | None
    role: Role


@dataclass(frozen=True, slots=True)
class Pending:
    """The oldest entry that was delivered and not acknowledged; `age_ms` since the publisher wrote it."""

    entry_id: str
    age_ms: int
    consumer: str
    deliveries: int


@dataclass(frozen=True, slots=True)
class Group:
    """One group of Redis, with what belongs to it.

    `lag` counts the events that no consumer was given yet, `waiting_ms` is how long ago the oldest of them was written
    (0 if there is none). `served_ago_ms` is None if nobody was ever seen to serve it. Dead letters belong to the
    whole group, and stand at each of its partitions. `exists` is false where Redis has no such group any more, but
    its dead letters are still there.
    """

    group: str
    redis_group: str
    partition: int
    partitions: int
    exists: bool
    lag: int
    waiting_ms: int
    pending: int
    oldest: Pending | None
    consumers: tuple[Consumer, ...]
    served_ago_ms: int | None
    dead_letters: int
    oldest_dead_letter_age_ms: int | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An order event that a group gave up on: the event's own fields, and `reason`, `attempts`, `consumer`, `entryId`
    (its id in the log), `deadAtMs`, `group` (of Redis)."""

    letter_id: str
    fields: Fields


Requeued = Literal["requeued", "unknown", "gone", "no group"]
"""What became of a letter: put back; no such letter; the log does not hold its event any more; there is no group."""


@dataclass(frozen=True, slots=True)
class Removed:
    """What went with a group: its groups in Redis, entries that it had not acknowledged, dead letters."""

    redis_groups: int
    pending: int
    dead_letters: int


@dataclass(frozen=True, slots=True)
class InUse:
    """Why a group was not removed: the consumer that serves it, or the number of its dead letters."""

    consumer: str | None
    dead_letters: int


async def overview(client: Client, account_id: AccountId) -> tuple[Group, ...]:
    """All groups of an account by name: two round trips, so that figures may be some milliseconds apart.

    Raises:
        StoreUnreachable, StoreRefused: asking again is harmless.
    """
    keys = AccountKeys(account_id)
    with client.errors():
        async with client.redis.pipeline(transaction=True) as pipe:
            pipe.exists(keys.order_events)
            pipe.hgetall(keys.group_activity)
            exists, activity = await pipe.execute()
        there = await _redis_groups(client, keys) if exists else {}
    names = sorted({*there, *activity})
    shared = sorted({owner for name in names for owner in _possible_groups(name)})
    with client.errors():
        async with client.redis.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.xrevrange(keys.order_events, count=1)
            for group in shared:
                pipe.hgetall(keys.group(group))
                pipe.xlen(keys.dead_letters(group))
                pipe.xrange(keys.dead_letters(group), count=1)
            for name, delivered in there.items():
                pipe.xinfo_consumers(keys.order_events, name)
                pipe.xpending(keys.order_events, name)
                pipe.xpending_range(keys.order_events, name, "-", "+", 1)
                pipe.xrange(keys.order_events, min=f"({delivered}", count=1)
            found = await pipe.execute()
    (seconds, microseconds), youngest = found[:2]
    now_ms = int(seconds) * 1000 + int(microseconds) // 1000
    rest = iter(found[2:])
    common = {group: _Shared(next(rest), int(next(rest)), cast(Entries, next(rest))) for group in shared}
    raw = {name: _Raw(next(rest), next(rest), next(rest), cast(Entries, next(rest))) for name in there}
    views = (_view(name, raw.get(name), common, activity.get(name), cast(Entries, youngest), now_ms) for name in names)
    return tuple(view for view in views if view.exists or view.dead_letters)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What Redis holds of a group as a whole."""

    hash: Fields
    dead_letters: int
    oldest: Entries


@dataclass(frozen=True, slots=True)
class _Raw:
    """What Redis says of one of its groups."""

    consumers: list[dict[str, Any]]
    pending: dict[str, Any]
    oldest: list[dict[str, Any]]
    undelivered: Entries


def _view(
    name: str,
    raw: _Raw | None,
    common: Mapping[str, _Shared],
    said: str | None,
    youngest: Entries,
    now_ms: int,
) -> Group:
    group, partition, partitions = _place(name, {group: part.hash for group, part in common.items()})
    letters = common[group]
    undelivered = raw.undelivered if raw else []
    served_ms = _served_ms(said, raw, now_ms)
    return Group(
        group=group,
        redis_group=name,
        partition=partition,
        partitions=partitions,
        exists=raw is not None,
        lag=_seq(youngest) - _seq(undelivered) + 1 if undelivered else 0,
        waiting_ms=now_ms - _ms(undelivered[0][0]) if undelivered else 0,
        pending=int(raw.pending["pending"]) if raw else 0,
        oldest=_oldest(raw, now_ms),
        consumers=_consumers(raw, letters.hash, partition, partitions, now_ms),
        served_ago_ms=None if served_ms is None else now_ms - served_ms,
        dead_letters=letters.dead_letters,
        oldest_dead_letter_age_ms=now_ms - _ms(letters.oldest[0][0]) if letters.oldest else None,
    )


async def _redis_groups(client: Client, keys: AccountKeys) -> dict[str, str]:
    """Redis's groups on the log, which must exist, by name; with the id that each was given last."""
    groups = await client.redis.xinfo_groups(keys.order_events)
    return {group["name"]: group["last-delivered-id"] for group in sorted(groups, key=lambda group: str(group["name"]))}


def _possible_groups(name: str) -> tuple[str, ...]:
    """The groups to which a group of Redis may belong, by its name alone."""
    part = _PARTITION.fullmatch(name)
    return (name, part[1]) if part else (name,)


def _place(name: str, hashes: Mapping[str, Fields]) -> tuple[str, int, int]:
    """Group, partition and number of partitions of a group of Redis."""
    part = _PARTITION.fullmatch(name)
    if part and hashes[part[1]].get("partitions") == part[3]:
        return part[1], int(part[2]), int(part[3])
    return name, 1, 1


def _served_ms(said: str | None, raw: _Raw | None, now_ms: int) -> int | None:
    """When somebody served a group last, by what it said itself and by what Redis saw."""
    seen = [now_ms - int(consumer["idle"]) for consumer in raw.consumers] if raw else []
    return max([*seen, *([int(said)] if said else [])], default=None)


def _oldest(raw: _Raw | None, now_ms: int) -> Pending | None:
    if raw is None or not raw.oldest:
        return None
    entry = raw.oldest[0]
    entry_id = cast(str, entry["message_id"])
    return Pending(entry_id, now_ms - _ms(entry_id), entry["consumer"], int(entry["times_delivered"]))


def _consumers(raw: _Raw | None, fields: Fields, partition: int, partitions: int, now_ms: int) -> tuple[Consumer, ...]:
    """Redis's consumers of a group, and of its members those that may get its entries."""
    if raw is None:
        return ()
    known = {consumer["name"]: consumer for consumer in raw.consumers}
    members = {
        name.removeprefix("member.")
        for name, until_ms in fields.items()
        if name.startswith("member.") and int(until_ms) > now_ms
    }
    owner = fields.get(f"{partition}.owner")
    if int(fields.get(f"{partition}.untilMs", "0")) <= now_ms:
        owner = None
    # With several partitions, every member is a standby of every other's: that would say nothing.
    shown = {*known, *({owner} if owner else ()), *(members if partitions == 1 else ())}
    found = []
    for name in sorted(shown):
        consumer = known.get(name, {"pending": 0, "idle": None})
        if name == REQUEUED and not consumer["pending"]:
            continue
        role: Role = "active" if name == owner else "standby" if name in members else "gone"
        if "partitions" not in fields or name == REQUEUED:
            role = ""
        found.append(Consumer(name, int(consumer["pending"]), consumer["idle"], role))
    return tuple(found)


def _ms(entry_id: str) -> int:
    return int(entry_id.partition("-")[0])


def _seq(entries: Entries) -> int:
    return int(entries[0][1]["eventSeq"])


async def check_group(client: Client, account_id: AccountId, group: str) -> None:
    """Raise `ConfigError` unless there is such a group, or dead letters of one; its message names those that there are.

    The name of a partition is not that of a group.
    """
    keys = AccountKeys(account_id)
    possible = _possible_groups(group)
    with client.errors():
        async with client.redis.pipeline(transaction=True) as pipe:
            pipe.exists(keys.order_events)
            pipe.exists(keys.group(group), keys.dead_letters(group))
            for name in possible:
                pipe.hgetall(keys.group(name))
            exists, kept, *hashes = await pipe.execute()
        names = sorted(await _redis_groups(client, keys)) if exists else []
    whole, _, partitions = _place(group, dict(zip(possible, hashes, strict=True)))
    if partitions > 1:
        raise ConfigError("GROUP", group, f"{whole}, of which this is one partition")
    if not kept and group not in names:
        others = f"a group of {account_id}: {', '.join(names)}" if names else f"{account_id} has no consumer group"
        raise ConfigError("GROUP", group, others)


async def dead_letters(
    client: Client, account_id: AccountId, group: str, last: int | None = None, *, page: int = LETTERS_PAGE
) -> AsyncIterator[DeadLetter]:
    """The dead letters of a group, oldest first; the `last` youngest alone, if that is given. Changes nothing.

    Raises:
        StoreUnreachable, StoreRefused: asking again is harmless.
    """
    key = AccountKeys(account_id).dead_letters(group)
    after = "-"
    if last is not None:
        with client.errors():
            youngest = cast(Entries, await client.redis.xrevrange(key, count=last)) if last else []
        if not youngest:
            return
        after = youngest[-1][0]
    while True:
        with client.errors():
            letters = cast(Entries, await client.redis.xrange(key, min=after, count=page))
        for letter_id, fields in letters:
            yield DeadLetter(letter_id, fields)
        if len(letters) < page:
            return
        after = f"({letters[-1][0]}"


async def requeue(
    client: Client, account_id: AccountId, group: str, letter_ids: Sequence[str], *, page: int = LETTERS_PAGE
) -> list[Requeued]:
    """Make the events of dead letters pending again, so that the group handles them once more; and drop the letters.

    Returns what became of each. Their attempts start from 0. An event that the log does not hold any more cannot be put
    back: its letter stays.

    Raises:
        StoreUnreachable: some may have been put back; asked again, those are unknown.
        StoreRefused: the server refuses.
    """
    keys = AccountKeys(account_id)
    script = client.redis.register_script(_script("group_requeue"))
    done: list[Requeued] = []
    for some in _pages(letter_ids, page):
        with client.errors():
            done += await script(
                (keys.order_events, keys.group(group), keys.dead_letters(group)), (group, REQUEUED, *some)
            )
    return done


async def drop(
    client: Client, account_id: AccountId, group: str, letter_ids: Sequence[str], *, page: int = LETTERS_PAGE
) -> list[bool]:
    """Delete dead letters permanently. Returns for each whether it was there.

    Raises:
        StoreUnreachable: some may have been deleted; asked again, those are not there.
        StoreRefused: the server refuses.
    """
    key = AccountKeys(account_id).dead_letters(group)
    done: list[bool] = []
    for some in _pages(letter_ids, page):
        with client.errors():
            async with client.redis.pipeline(transaction=True) as pipe:
                for letter_id in some:
                    pipe.xdel(key, letter_id)
                done += map(bool, await pipe.execute())
    return done


async def remove_group(
    client: Client, account_id: AccountId, group: str, *, forced: bool = False, served_ms: int = SERVED_MS
) -> Removed | InUse:
    """Remove a group: its place in the log, what it has not acknowledged, and all that is kept for it.

    Not while somebody serves it or dead letters are left, unless `forced`. A consumer that still runs creates the
    group again, from the beginning of the log.

    Raises:
        ConfigError: there is no such group.
        StoreUnreachable: perhaps it was removed; then it is unknown when asked again.
        StoreRefused: the server refuses.
    """
    await check_group(client, account_id, group)
    keys = AccountKeys(account_id)
    script = client.redis.register_script(_script("group_remove"))
    with client.errors():
        answer = await script(
            (keys.order_events, keys.group(group), keys.group_activity, keys.dead_letters(group)),
            (group, 1 if forced else 0, served_ms, REQUEUED),
        )
    match answer:
        case ["SERVED", consumer]:
            return InUse(consumer, 0)
        case ["LETTERS", count]:
            return InUse(None, int(count))
    return Removed(int(answer[1]), int(answer[2]), int(answer[3]))


def _pages(ids: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (ids[at : at + size] for at in range(0, len(ids), size))


def _script(name: str) -> str:
    return files("statecast.store").joinpath(f"{name}.lua").read_text("utf-8")
