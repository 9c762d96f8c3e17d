"""Consumer groups on the log of order events: who serves which partition, and the calls that only its holder may make.

A group is one group of Redis on `…:order-events` for each of its partitions, and a hash `…:group:<GROUP>` with

    partitions                              how many
    member.<consumer>                       until when it counts as there (ms)
    <p>.owner, <p>.untilMs, <p>.term        who holds partition p, until when; a number that grows when it is taken
    <p>.eventSeq, <p>.epoch, <p>.entryId    the youngest event that was acknowledged
    <p>.attempts.<entry id>                 how often an entry was handed out again, and the token of the last count
    <p>.lost                                what Redis had lost when the group was joined, until it was reported

Without partitions Redis's group has the name of the group, else `<GROUP>.<p>of<N>`; partitions count from 1. Each reads
the whole log. All times are Redis's. The holder of a partition is checked in the script that acts: a process
that was paused, and wakes up after another has taken over, can take nothing, however late its commands arrive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, NamedTuple, cast
from zlib import crc32

from statecast.errors import ConfigError, ContractMismatch, LeaseLost, StoreDiverged, StoreRefused
from statecast.store.client import Client
from statecast.store.keys import CONTRACT, REQUEUED, AccountId, AccountKeys

CLAIM_PAGE = 100
"""Entries taken over in one call: some tenths of a millisecond of the server's time."""

Fields = dict[str, str]
Entry = tuple[str, Fields | None]
"""Id and fields; None for fields that are not in the log any more."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_PARTITION = re.compile(r".*\.[0-9]+of[0-9]+")
_PERMANENT = re.compile(
    r"permission|noperm|user executing the script|wrongtype|wrong kind of value|unknown command", re.IGNORECASE
)


class Progress(NamedTuple):
    """The youngest event that is known to have been delivered."""

    event_seq: int
    epoch: int
    entry_id: str


class Held(NamedTuple):
    """A partition that this consumer holds. It has held it without a break since `term_before`, if it knows that."""

    term: str
    term_before: str


class Lease(NamedTuple):
    """The partitions that a consumer holds by their numbers, and how many of them it should give up to others."""

    partitions: Mapping[int, Held]
    surplus: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What was taken over from other consumers of a partition, and how far the partition has come."""

    claimed: int
    more: bool
    """Whether there may be more to take over."""
    gone: list[str]
    """Ids that are pending, but not in the log any more: report it, then acknowledge them."""
    progress: Progress | None
    lost: str
    """What Redis had lost (`group <ms>`, `progress <ms>`): report it, and pass it to the next claim. Or empty."""


def check_name(name: str, setting: str = "group") -> str:
    """The name of a group; ConfigError for one that cannot be."""
    if not _NAME.fullmatch(name) or _PARTITION.fullmatch(name):
        accepted = "up to 64 letters, digits, '_', '.', '-', such as mybot; not ending like a partition's (.1of2)"
        raise ConfigError(setting, name, accepted)
    return name


def redis_groups(group: str, partitions: int) -> tuple[str, ...]:
    """The names of a group's groups in Redis."""
    return (group,) if partitions == 1 else tuple(f"{group}.{p}of{partitions}" for p in range(1, partitions + 1))


def partition_of(order_id: str, partitions: int) -> int:
    """The partition, from 1, that has the events of an order."""
    return crc32(order_id.encode()) % partitions + 1


def position(entry_id: str) -> tuple[int, int]:
    """An entry's place in the log: ids compare as numbers, not as text."""
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def is_permanent(error: StoreRefused) -> bool:
    """Whether asking again is useless until somebody fixes the cause: no permission, a key of another type."""
    return _PERMANENT.search(error.reason) is not None


class _Scripts(NamedTuple):
    """The group's scripts. redis-py sends one by its digest, and whole if the server does not know it."""

    join: Any
    lease: Any
    read: Any
    claim: Any
    attempt: Any
    ack: Any
    dead_letter: Any
    leave: Any


class ConsumerGroup:
    """One consumer's view of a group. `join()` first; then `renew()` for as long as it stays a member.

    All calls raise StoreUnreachable (outcome unknown) and StoreRefused. Those for a partition, except `ack`, raise
    LeaseLost when it is not held under the given term, and StoreDiverged when Redis has lost the group.
    """

    def __init__(
        self,
        client: Client,
        account_id: AccountId,
        group: str,
        *,
        consumer: str,
        partitions: int = 1,
        lease_s: float = 5.0,
    ) -> None:
        self.account_id = account_id
        self.group = group
        self.consumer = consumer
        self.names = redis_groups(group, partitions)
        self._client = client
        self._keys = keys = AccountKeys(account_id)
        self._hash = keys.group(group)
        self._lease_ms = round(lease_s * 1000)
        fence, progress = _text("fence"), _text("progress")
        register = client.redis.register_script
        self._scripts = _Scripts(
            join=register(_text("join")),
            lease=register(_text("lease")),
            read=register(fence + _text("read")),
            claim=register(fence + _text("claim")),
            attempt=register(fence + _text("attempt")),
            ack=register(progress + _text("ack")),
            dead_letter=register(fence + progress + _text("dead_letter")),
            leave=register(_text("leave")),
        )

    async def join(
        self,
        start: str,
        *,
        least_seq: int | None = None,
        existed: bool = False,
        known: Mapping[int, Progress] | None = None,
    ) -> bool:
        """Create what is missing of the group. Returns whether the account was ever published.

        A new group is given what comes after the id `start` (`$`: what is written from now on). `least_seq` is the
        first event that is wanted there, at most the next one to be written. `existed` says that the group was there
        before: what is missing was lost, and begins with the oldest entry. `known` is the progress of partitions as
        this consumer knows it, in case Redis has lost it.

        Raises:
            ConfigError: the group has another number of partitions, or `least_seq` is beyond the next event.
            ContractMismatch: the account is written under another contract version.
        """
        arguments: list[str | int] = [
            len(self.names),
            start,
            "" if least_seq is None else least_seq,
            1 if existed else 0,
        ]
        for number, name in enumerate(self.names, start=1):
            progress: Sequence[str | int] = (known or {}).get(number) or ("", "", "")
            arguments += (name, *progress)
        with self._client.errors():
            answer = await self._scripts.join(
                (self._keys.order_events, self._hash, self._keys.group_activity, self._keys.status), arguments
            )
        match answer:
            case ["PARTITIONS", number]:
                raise self._other_partitions(number)
            case ["BEYOND", youngest]:
                accepted = (
                    f"up to {int(youngest) + 1}: the last order event of {self.account_id} is {youngest}. If it was"
                    " higher before, Redis has lost data, and numbers do not say where to continue"
                )
                raise ConfigError("start_event_seq", str(least_seq), accepted)
        version = cast(str, answer[1])
        if version not in ("", CONTRACT):
            reason = f"{self.account_id} is written under contract {version}, this program reads {CONTRACT}"
            raise ContractMismatch(self._client.server, reason)
        return bool(version)

    async def renew(self, *, new_terms: Iterable[int] = ()) -> Lease:
        """Stay a member, keep what is held, take what is free up to the share.

        The partitions of `new_terms` get a new term, so that a call under the old one that is still on its way does
        nothing.

        Raises:
            StoreDiverged: the group is gone; join again.
            ConfigError: the group has another number of partitions.
        """
        asked = " ".join(map(str, new_terms))
        arguments: list[str | int] = [self.consumer, self._lease_ms, len(self.names), asked, *self.names]
        with self._client.errors():
            answer = await self._scripts.lease((self._hash, self._keys.group_activity), arguments)
        match answer:
            case ["GONE"]:
                raise self._gone()
            case ["PARTITIONS", number]:
                raise self._other_partitions(number)
        _, surplus, *held = answer
        partitions = {
            int(number): Held(term, before)
            for number, term, before in zip(held[::3], held[1::3], held[2::3], strict=True)
        }
        return Lease(partitions, int(surplus))

    async def read(self, partition: int, term: str, after: str, count: int) -> tuple[list[Entry], str]:
        """Up to `count` entries, and the id of the youngest in the log, from which to `wait`.

        `after` is `>` for what the group has not been given, or an id: what this consumer was given after it and has
        not acknowledged.
        """
        answer = await self._fenced(self._scripts.read, partition, term, (after, count))
        entries = cast("list[tuple[str, list[str] | None]]", answer[1])
        found: list[Entry] = [
            (entry_id, None if flat is None else dict(zip(flat[::2], flat[1::2], strict=True)))
            for entry_id, flat in entries
        ]
        return found, found[-1][0] if found else cast(str, answer[2])

    async def wait(self, after: str, block_ms: int) -> None:
        """Return when an entry after the id `after` is in the log, or after `block_ms`; changes nothing."""
        with self._client.errors():
            await self._client.redis.xread({self._keys.order_events: after}, count=1, block=block_ms)

    async def claim(self, partition: int, term: str, reported: str = "") -> Claim:
        """Take over what is pending under other names, and delete the names under which nothing is.

        `reported` is the loss of an earlier claim that was reported since: it is not returned again.
        """
        answer = await self._fenced(self._scripts.claim, partition, term, (CLAIM_PAGE, REQUEUED, reported))
        _, claimed, more, gone, event_seq, epoch, entry_id, lost = answer
        progress = None if event_seq is None else Progress(int(event_seq), int(epoch), entry_id)
        return Claim(int(claimed), bool(more), gone, progress, lost)

    async def attempt(self, partition: int, term: str, entry_id: str, token: str) -> int | Literal["done", "gone"]:
        """Count that an entry is handed out again; how often it was before. May be repeated under the same token.

        "done": it is not pending any more, though it is in the log. "gone": Redis has lost it.
        """
        answer = await self._fenced(self._scripts.attempt, partition, term, (entry_id, token))
        if answer[0] == "OK":
            return int(answer[1])
        return "done" if answer[0] == "DONE" else "gone"

    async def ack(self, partition: int, ids: Sequence[str], progress: Progress | None) -> None:
        """Acknowledge entries; may be repeated. `progress` is that of the youngest of them, if it is known."""
        known: tuple[str | int, ...] = progress or ("", "", "")
        arguments: tuple[str | int, ...] = (self.names[partition - 1], partition, *known, *ids)
        with self._client.errors():
            await self._scripts.ack((self._keys.order_events, self._hash), arguments)

    async def dead_letter(self, partition: int, term: str, entry_id: str, attempts: int, reason: str) -> bool:
        """Move an entry to the dead letters; may be repeated. False: the log does not hold it any more."""
        keys = (self._keys.dead_letters(self.group),)
        answer = await self._fenced(self._scripts.dead_letter, partition, term, (entry_id, attempts, reason), keys)
        return cast(str, answer[0]) != "GONE"

    async def leave(self, never_handed_out: Mapping[int, Sequence[str]], *, membership: bool) -> None:
        """Give up the partitions named, and perhaps the membership. What is pending stays so; the next holder has it.

        With each partition, ids that were delivered here and never handed out: they count as never delivered.
        """
        arguments: list[str | int] = [self.consumer, 1 if membership else 0, len(never_handed_out)]
        for number in never_handed_out:
            arguments += (number, self.names[number - 1])
        for number, ids in never_handed_out.items():
            for entry_id in ids:
                arguments += (number, entry_id)
        with self._client.errors():
            await self._scripts.leave((self._keys.order_events, self._hash), arguments)

    async def _fenced(
        self, script: Any, partition: int, term: str, arguments: Sequence[str | int], keys: Sequence[str] = ()
    ) -> Any:
        name = self.names[partition - 1]
        all_arguments: tuple[str | int, ...] = (partition, self.consumer, term, name, *arguments)
        with self._client.errors():
            answer = await script((self._keys.order_events, self._hash, *keys), all_arguments)
        match answer:
            case ["LOST", owner]:
                what = f"is held by {owner}" if owner not in ("", self.consumer) else "has run out"
                raise LeaseLost(self._client.server, f"the lease of {name} on {self.account_id} {what}")
            case ["NOGROUP"]:
                raise self._gone()
        return answer

    def _gone(self) -> StoreDiverged:
        return StoreDiverged(self._client.server, f"group {self.group} of {self.account_id} is gone")

    def _other_partitions(self, number: str) -> ConfigError:
        accepted = (
            f"{number}, with which group {self.group} of {self.account_id} was created; for another number, use"
            " another group, or stop all its consumers and remove it (`statecast groups`)"
        )
        return ConfigError("partitions", str(len(self.names)), accepted)


def _text(name: str) -> str:
    return files("statecast.store").joinpath(f"group_{name}.lua").read_text("utf-8")
