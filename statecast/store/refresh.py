"""One REST answer for all readers of an account, and whose turn it is to ask the venue.

At most one process asks at a time: it holds a lock, renews it, and the lock runs out when the process is killed. What
it learns, a failure too, is stored under keys of its own, never in the publisher's, and announced on a stream. Everyone
else waits there for what comes after an entry that is known, so that none is missed, and then looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from typing import Protocol, cast

import orjson

from statecast.clock import Clock as MachineClock
from statecast.domain.account import as_commit
from statecast.domain.changes import Snapshot
from statecast.errors import (
    AuthFailed,
    ContractMismatch,
    FrameError,
    RateLimited,
    StoreError,
    StoreUnreachable,
    VenueError,
)
from statecast.store.client import Client
from statecast.store.codec import rows
from statecast.store.keys import CONTRACT, REFRESH_LOCK_MS, REQUESTS_LENGTH, AccountId, AccountKeys

FETCH_WITHIN_S = 12.0
"""For all calls of one fetch; one call alone has 10 s. Slower counts as a failure."""

FREE_WITHIN_S = 0.5
"""To free the lock when the fetch is given up; else it runs out by itself."""

HEARTBEAT_MS = 5_000
"""A publisher that was not seen for this long is not asked: five heartbeats."""

REQUEST_GAP_MS = 1_000
"""Requests to the publisher are so far apart, however many readers wait."""

FIRST_PAUSE_MS = 2_000
LONGEST_PAUSE_MS = 30_000
"""After failures in a row nobody asks the venue for 2 s, 4 s … 30 s."""

REQUESTS_BLOCK_MS = 2_000
"""How long the publisher waits for a request in one call."""

CREDENTIALS_PAUSE_MS = 60_000
"""How often refused credentials are tried again; readers with others go on."""

TABLES = ("account", "balances", "positions", "orders")


@dataclass(frozen=True, slots=True)
class RestAnswer:
    """A whole account by REST, as text like the publisher's hashes."""

    taken_at_ms: int
    """Redis time right before the venue was asked."""

    age_ms: int
    """Since then, at the moment this was received; the time of the reply's way is counted in."""

    seq: int
    """The publisher's last commit when the venue was asked; 0 if there is none. So `epoch`, and `state` is then ""."""

    epoch: int
    state: str
    hashes: Mapping[str, Mapping[str, str]]
    """`account`, `balances`, `positions`, `orders`: their fields, without those of provenance."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """The lock is ours: `fetch` now. `spent` is what the last fetcher knew to be spent of the venue's limits, at that
    venue time; empty where nobody has said so."""

    now_ms: int
    taken_at_ms: int | None
    token: str
    credentials: str
    spent: str
    spent_time_ms: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Somebody asks the venue, or the publisher was asked to: `wait` for the outcome, then begin again."""

    now_ms: int
    taken_at_ms: int | None
    for_ms: int
    last_result: str
    holder: str
    """Who asks; "" where the publisher was asked to."""


@dataclass(frozen=True, slots=True)
class Paused:
    """The last attempt failed for `reason`; nobody asks the venue before `retry_at_ms`."""

    now_ms: int
    taken_at_ms: int | None
    reason: str
    retry_at_ms: int


@dataclass(frozen=True, slots=True)
class NobodyCanFetch:
    """Nobody can ask the venue: no credentials, or refused ones, and no publisher that lives."""

    now_ms: int
    taken_at_ms: int | None
    credentials_reason: str
    """Why the venue refuses these credentials; "" without any."""

    heartbeat_at_ms: int | None
    state: str
    state_reason: str


Step = RestAnswer | Fetch | Wait | Paused | NobodyCanFetch


class Clock(Protocol):
    """A venue's time."""

    def now_ms(self) -> int: ...
    async def ensure(self) -> None: ...


class Limits(Protocol):
    """What may still be asked of a venue, as text that only the venue's adapter reads."""

    def spent(self, now_ms: int) -> str: ...
    def learn(self, spent: str, at_ms: int, now_ms: int) -> None: ...


class Venue(Protocol):
    """What a fetch needs of a venue's account; the store knows no venue itself. Times are the venue's."""

    @property
    def clock(self) -> Clock: ...
    @property
    def limits(self) -> Limits: ...
    async def fetch_snapshot(self, *, consistent: bool) -> Snapshot: ...


@dataclass(frozen=True, slots=True)
class Timing:
    """How long the parts of a refresh may take. Tests hand in shorter times."""

    renew_s: float = 0.4
    """Three times before the lock runs out: a renewal may be late, or its reply lost."""

    fetch_within_s: float = FETCH_WITHIN_S

    look_again_ms: int = 1000
    """Waiters look at least this often; well below the connection's time-out."""

    lock_ms: int = REFRESH_LOCK_MS
    """The lock of who asks runs out after this."""


USUAL = Timing()


class SharedRefresh:
    """One account's REST answer in Redis, as one asker sees it. All methods raise StoreError as well.

    `credentials` is the name of those that the asker has, "" for none. With `ask_publisher`, a living publisher is
    asked when the asker cannot ask the venue.
    """

    def __init__(
        self,
        client: Client,
        account_id: AccountId,
        clock: MachineClock,
        *,
        credentials: str,
        ask_publisher: bool,
        timing: Timing = USUAL,
    ) -> None:
        self._client = client
        self._clock = clock
        self._credentials = credentials
        self._ask_publisher = ask_publisher
        self._timing = timing
        self._keys = AccountKeys(account_id)
        scripts = files("statecast.store")
        self._begin, self._hold, self._store, self._fail = (
            client.redis.register_script(scripts.joinpath(name).read_text("utf-8"))
            for name in ("refresh_begin.lua", "refresh_hold.lua", "refresh_store.lua", "refresh_fail.lua")
        )

    async def begin(self, token: str, max_age_ms: float, not_before_ms: int | None = None) -> Step:
        """The answer that is not older than `max_age_ms`, or was not taken before `not_before_ms` where that is given;
        or what to do for one.

        `token` is the asker's, its own in every attempt. Repeating is harmless. Raises ContractMismatch for an answer
        that cannot be read.
        """
        keys = self._keys
        sent = self._clock.monotonic()
        with self._client.errors():
            reply = await self._begin(
                (keys.status, keys.refresh, keys.refresh_lock, keys.refresh_requests, keys.refresh_news),
                (
                    token,
                    f"{max_age_ms:.0f}",
                    "" if not_before_ms is None else not_before_ms,
                    CONTRACT,
                    self._timing.lock_ms,
                    self._credentials,
                    CREDENTIALS_PAUSE_MS,
                    1 if self._ask_publisher else 0,
                    HEARTBEAT_MS,
                    REQUEST_GAP_MS,
                    REQUESTS_LENGTH,
                ),
            )
        try:
            return self._step(token, cast("list[str]", reply), sent)
        except (TypeError, ValueError) as error:
            reason = f"{keys.refresh} is not as contract {CONTRACT} has it"
            raise ContractMismatch(self._client.server, reason) from error

    def _step(self, token: str, reply: list[str], sent: float) -> Step:
        kind, now, taken, *rest = reply
        now_ms, taken_at_ms = int(now), int(taken) if taken else None
        match kind, rest:
            case "ANSWER", [seq, epoch, state, *tables]:
                assert taken_at_ms is not None
                # The script ran at some moment between question and answer: the earliest makes the answer oldest.
                age_ms = now_ms - taken_at_ms + round((self._clock.monotonic() - sent) * 1000)
                hashes = {name: orjson.loads(table) for name, table in zip(TABLES, tables, strict=True)}
                return RestAnswer(taken_at_ms, age_ms, int(seq), int(epoch), state, hashes)
            case "TURN", [spent, time]:
                return Fetch(now_ms, taken_at_ms, token, self._credentials, spent, int(time))
            case "WAIT", [for_ms, last_result, holder]:
                return Wait(now_ms, taken_at_ms, int(for_ms), last_result, holder)
            case "REFUSED", [reason, retry_at]:
                return Paused(now_ms, taken_at_ms, reason, int(retry_at))
        assert kind == "ALONE", kind
        reason, heartbeat, state, state_reason = rest
        return NobodyCanFetch(now_ms, taken_at_ms, reason, int(heartbeat) if heartbeat else None, state, state_reason)

    async def wait(self, step: Wait) -> None:
        """Until something was announced, or it is time to look again by oneself."""
        block_ms = max(1, min(step.for_ms + 1, self._timing.look_again_ms))
        with self._client.errors():
            await self._client.redis.xread({self._keys.refresh_news: step.last_result}, block=block_ms, count=1)

    async def fetch(self, turn: Fetch, venue: Venue) -> Snapshot | None:
        """Ask the venue, and store its answer for all; None if there is none, for a reason that is stored then.

        The lock is held meanwhile. It is free afterwards, also when this is cancelled. It may have run out while this
        process stood still, and another has taken over: then the fetch is given up, with None.
        """
        fetching = asyncio.create_task(self._fetch(turn, venue))
        keeping = asyncio.create_task(self._keep(turn))
        ended = False
        try:
            await asyncio.wait(
                (fetching, keeping), timeout=self._timing.fetch_within_s, return_when=asyncio.FIRST_COMPLETED
            )
            if fetching.done():
                answer = fetching.result()
                ended = True
                return answer
            if not keeping.done():
                await self._failed(
                    turn, venue, f"the venue has not answered everything within {self._timing.fetch_within_s:.0f} s"
                )
                ended = True
            return None
        finally:
            for task in (fetching, keeping):
                task.cancel()
            await asyncio.gather(fetching, keeping, return_exceptions=True)
            if not ended:
                await self.give_up(turn)

    async def give_up(self, turn: Fetch) -> None:
        """Free the lock without a word about the venue. Never raises: a lock that is not freed runs out."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(FREE_WITHIN_S):
                await self._end(turn, "given-up", "", 0, 0, "", 0)

    async def _fetch(self, turn: Fetch, venue: Venue) -> Snapshot | None:
        try:
            await venue.clock.ensure()
            venue.limits.learn(turn.spent, turn.spent_time_ms, venue.clock.now_ms())
            with self._client.errors():
                reply = await self._hold(
                    (self._keys.status, self._keys.refresh_lock), (turn.token, self._timing.lock_ms)
                )
            if reply[0] == "LOST":
                return None
            _, taken_at, seq, epoch, state = reply
            snapshot = await venue.fetch_snapshot(consistent=True)
            hashes = rows(as_commit(snapshot))
        except RateLimited as error:
            pause_ms = max(1000, error.retry_at_ms - venue.clock.now_ms())
            await self._failed(turn, venue, str(error), pause_ms, pause_ms)
            return None
        except AuthFailed as error:
            await self._end(turn, "refused", str(error), 0, 0, *_spent(venue))
            return None
        except (VenueError, FrameError) as error:
            await self._failed(turn, venue, str(error))
            return None
        except ArithmeticError:
            await self._failed(turn, venue, "an amount of the venue's answer is beyond reckoning")
            return None
        arguments: list[str | int | bytes] = [turn.token, turn.credentials, REQUESTS_LENGTH, *_spent(venue)]
        arguments += [taken_at, seq, epoch, state, CONTRACT]
        arguments += [orjson.dumps(hashes[name]) for name in TABLES]
        with self._client.errors():
            await self._store((self._keys.refresh, self._keys.refresh_lock, self._keys.refresh_news), arguments)
        return snapshot

    async def _hold_lock(self, turn: Fetch) -> list[str]:
        """Renew the lock; the script's reply begins with LOST where it is not ours any more."""
        keys = self._keys.status, self._keys.refresh_lock
        return cast("list[str]", await self._hold(keys, (turn.token, self._timing.lock_ms)))

    async def _keep(self, turn: Fetch) -> None:
        """Renew the lock; return when it is not ours any more."""
        while True:
            await self._clock.sleep(self._timing.renew_s)
            # A Redis that is away for a moment: the fetch goes on, and whether it counts is seen at its end.
            with suppress(StoreUnreachable), self._client.errors():
                reply = await self._hold(
                    (self._keys.status, self._keys.refresh_lock), (turn.token, self._timing.lock_ms)
                )
                if reply[0] == "LOST":
                    return

    async def _failed(
        self,
        turn: Fetch,
        venue: Venue,
        reason: str,
        pause_ms: int = FIRST_PAUSE_MS,
        longest_pause_ms: int = LONGEST_PAUSE_MS,
    ) -> None:
        await self._end(turn, "failed", reason, pause_ms, longest_pause_ms, *_spent(venue))

    async def _end(
        self, turn: Fetch, ended: str, reason: str, pause_ms: int, longest_pause_ms: int, spent: str, time_ms: int
    ) -> None:
        with self._client.errors():
            await self._fail(
                (self._keys.refresh, self._keys.refresh_lock, self._keys.refresh_news),
                (
                    turn.token,
                    turn.credentials,
                    REQUESTS_LENGTH,
                    spent,
                    time_ms,
                    ended,
                    reason,
                    pause_ms,
                    longest_pause_ms,
                    turn.now_ms,
                ),
            )


def _spent(venue: Venue) -> tuple[str, int]:
    """What is known to be spent, and the venue's time."""
    now_ms = venue.clock.now_ms()
    return venue.limits.spent(now_ms), now_ms


class RefreshRequests:
    """What readers without credentials ask of the publisher that holds the lease. The client's time-out is beyond
    `REQUESTS_BLOCK_MS`."""

    def __init__(
        self, client: Client, account_id: AccountId, publisher_id: str, *, block_ms: int = REQUESTS_BLOCK_MS
    ) -> None:
        self._client = client
        self._keys = AccountKeys(account_id)
        self._publisher_id = publisher_id
        self._block_ms = block_ms
        self._last = ""

    async def next(self) -> int | None:
        """Redis time of the youngest request since the last call; None after a while without one, or where another
        publisher holds the lease.

        The first call, and one after an error, begins behind the requests that are there: who still waits asks again.
        """
        last, self._last = self._last, ""
        key = self._keys.refresh_requests
        with self._client.errors():
            if not last:
                youngest = cast("list[tuple[str, object]]", await self._client.redis.xrevrange(key, count=1))
                last = youngest[0][0] if youngest else "0-0"
            reply = await self._client.redis.xread({key: last}, block=self._block_ms, count=REQUESTS_LENGTH)
            entries = cast("dict[str, list[tuple[str, object]]]", reply or {}).get(key, [])
            holder = await self._client.redis.get(self._keys.lease) if entries else None
        self._last = entries[-1][0] if entries else last
        return int(self._last.partition("-")[0]) if entries and holder == self._publisher_id else None
