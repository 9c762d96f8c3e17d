"""One REST refresh at a time per account, for all readers of all processes, within the venue's limits."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace

from statecast.clock import Clock
from statecast.errors import ConfigError
from statecast.store.client import Client
from statecast.store.keys import AccountId
from statecast.store.refresh import (
    FETCH_WITHIN_S,
    FREE_WITHIN_S,
    Fetch,
    NobodyCanFetch,
    Paused,
    RestAnswer,
    SharedRefresh,
    Wait,
)
from statecast.venues import registry
from statecast.venues.adapter import Access, VenueAccount

ANSWER_WITHIN_S = FETCH_WITHIN_S + 3.0
"""A fetch that takes as long as it may, and a killed one before it."""


class NoAnswer(Exception):
    """There is no REST answer that is young enough; `why` and `advice` are for people.

    `age_ms` is how old the youngest is, None if there is none.
    """

    def __init__(self, why: str, advice: str, age_ms: int | None) -> None:
        super().__init__(why, advice, age_ms)
        self.why = why
        self.advice = advice
        self.age_ms = age_ms


LIMITS = registry.SharedLimits()
"""Of this process, however many readers and accounts it has."""


@dataclass(slots=True)
class _Attempt:
    """One attempt, and how many calls wait for it. The result comes with the moment at which it was received."""

    task: asyncio.Task[tuple[RestAnswer, float]]
    waiting: int = 0

    def join(self) -> None:
        """One call more waits for it."""
        self.waiting += 1

    def leave(self) -> None:
        self.waiting -= 1


class Refresher:
    """Gets REST answers for one reader: shared ones, or by asking the venue with the reader's credentials when it is
    this reader's turn, or by asking a living publisher when there are none."""

    def __init__(
        self,
        client: Client,
        account_id: AccountId,
        access: Access | None,
        clock: Clock,
        limits: registry.SharedLimits = LIMITS,
    ) -> None:
        if access is not None and access.venue != account_id.venue:
            accepted = f"those of an account of {account_id.venue}, as {account_id} is one"
            raise ConfigError("credentials", f"those of an account of {access.venue}", accepted)
        self._limits = limits
        self._access = access
        self._clock = clock
        self._venue: VenueAccount | None = None
        self._attempts: dict[float, _Attempt] = {}
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        self._numbers = itertools.count(1)
        self._shared = SharedRefresh(
            client,
            account_id,
            clock,
            credentials="" if access is None else access.credentials_name,
            ask_publisher=True,
        )

    async def answer(self, max_age_s: float) -> RestAnswer:
        """An answer that is not older than `max_age_s`; with 0, one that was asked for after this call began.

        Calls with the same limit share one attempt. Waits up to ANSWER_WITHIN_S.

        Raises:
            NoAnswer: there is none, and why.
            ConfigError: the credentials cannot be sent.
            StoreUnreachable, StoreRefused: without Redis readers cannot take turns, so that nobody asks the venue.
        """
        if not max_age_s:
            return (await self._ask(0.0))[0]
        while True:
            answer, received = await self._joined(max_age_s)
            # The attempt may have ended a while ago, if this process was busy with something else.
            age_ms = answer.age_ms + round((self._clock.monotonic() - received) * 1000)
            if age_ms <= max_age_s * 1000:
                return replace(answer, age_ms=age_ms)

    async def aclose(self) -> None:
        """End what is under way, and close the connections to the venue. Those to Redis are the reader's."""
        tasks = [attempt.task for attempt in self._attempts.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._venue is not None:
            await self._venue.aclose(last=False)

    async def _joined(self, max_age_s: float) -> tuple[RestAnswer, float]:
        """The outcome of the attempt that is under way, or of a new one. It ends early when nobody waits any more."""
        attempt = self._attempts.get(max_age_s)
        if attempt is None:
            attempt = self._attempts[max_age_s] = _Attempt(asyncio.create_task(self._ask(max_age_s)))
            attempt.task.add_done_callback(self._forget(max_age_s))
        attempt.join()
        try:
            return await asyncio.shield(attempt.task)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if attempt.task.cancelled() and task is not None and not task.cancelling():
                raise NoAnswer("the reader was closed meanwhile", "read with one that is open", None) from None
            if attempt.waiting == 1 and not attempt.task.done():
                if self._attempts.get(max_age_s) is attempt:
                    del self._attempts[max_age_s]
                attempt.task.cancel()
                await asyncio.wait({attempt.task}, timeout=FREE_WITHIN_S)
            raise
        finally:
            attempt.leave()

    def _forget(self, max_age_s: float) -> Callable[[asyncio.Task[tuple[RestAnswer, float]]], None]:
        def done(task: asyncio.Task[tuple[RestAnswer, float]]) -> None:
            if not task.cancelled():
                task.exception()  # who asked may be gone; an error that nobody fetches would be logged as such
            attempt = self._attempts.get(max_age_s)
            if attempt is not None and attempt.task is task:
                del self._attempts[max_age_s]

        return done

    async def _ask(self, max_age_s: float) -> tuple[RestAnswer, float]:
        token = f"{self._name}-{next(self._numbers)}"
        max_age_ms = max_age_s * 1000 if max_age_s else -1.0  # younger than now: nothing that is there already
        began = self._clock.monotonic()
        asked_at_ms: int | None = None
        while True:
            step = await self._shared.begin(token, max_age_ms, None if max_age_s else asked_at_ms)
            if isinstance(step, RestAnswer):
                if not max_age_s or step.age_ms <= max_age_ms:
                    return step, self._clock.monotonic()
                continue  # it was young enough when Redis said so, and its way was long
            if asked_at_ms is None:
                asked_at_ms = step.now_ms
            refusal = _refusal(step, asked_at_ms, self._clock.monotonic() - began)
            match step:
                case Fetch() if refusal is not None:
                    await self._shared.give_up(step)
                case Fetch():
                    await self._shared.fetch(step, await self._venue_account(step))
                case Wait() if refusal is None:
                    await self._shared.wait(step)
            if refusal is not None:
                raise refusal

    async def _venue_account(self, turn: Fetch) -> VenueAccount:
        access = self._access
        assert access is not None, "a turn is given to who has credentials"
        if self._venue is None:
            try:
                self._venue = registry.venue(access.venue).account(access, self._clock, self._limits.of(access))
            except ConfigError:
                await self._shared.give_up(turn)
                raise
        return self._venue


def _refusal(step: Fetch | Wait | Paused | NobodyCanFetch, asked_at_ms: int, waited_s: float) -> NoAnswer | None:
    """Why it is of no use to go on, if it is not."""
    age_ms = None if step.taken_at_ms is None else step.now_ms - step.taken_at_ms
    match step:
        case Paused():
            advice = f"it is tried again in {(step.retry_at_ms - step.now_ms) / 1000:.1f} s, by whoever reads then"
            return NoAnswer(f"the last refresh by REST failed ({step.reason})", advice, age_ms)
        case NobodyCanFetch(credentials_reason=reason) if reason:
            advice = "correct the credentials, or start a publisher"
            return NoAnswer(f"the venue refuses this reader's credentials ({reason})", advice, age_ms)
        case NobodyCanFetch():
            return NoAnswer(
                f"this reader has no credentials to ask the venue itself, and {_no_publisher(step)}",
                "give this reader credentials, or start a publisher",
                age_ms,
            )
    if step.taken_at_ms is not None and step.taken_at_ms >= asked_at_ms:
        assert age_ms is not None
        why = f"a refresh by REST was {age_ms / 1000:.1f} s old when it could be read"
        return NoAnswer(why, "allow a greater age, or look why venue, Redis or this machine is slow", age_ms)
    if waited_s < ANSWER_WITHIN_S:
        return None
    who = "the publisher" if isinstance(step, Wait) and not step.holder else "whoever asks the venue"
    why = f"{who} has given no answer for {waited_s:.0f} s"
    return NoAnswer(why, "try again, and look into the publisher's log", age_ms)


def _no_publisher(step: NobodyCanFetch) -> str:
    if step.state in ("stopped", "refused"):
        return f"the publisher is {step.state}" + (f" ({step.state_reason})" if step.state_reason else "")
    if step.heartbeat_at_ms is None:
        return "there is no publisher"
    return f"the publisher was last seen {(step.now_ms - step.heartbeat_at_ms) / 1000:.1f} s ago"
