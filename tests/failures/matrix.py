"""The fault matrix: what a scenario is, and all of them by name.

A scenario injects one failure into a world that trades before, during and after it. `run` is the same for all: it
checks the promises in every read (`support.observer`), and at the end that Redis equals the exchange's ledger, hashes
and log, and that the log of the publisher tells what the table says it tells.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from support.arena import RECONCILE_S, STEP_PAUSE_S, Arena, arena
from support.truth import gap_name, is_of_late_event

from statecast.embedded.server import EmbeddedServer
from statecast.simulator.ledger import Ledger

EVENTS_BEFORE = 15
EVENTS_AFTER = 15
"""Order events that happen before and after the failure: enough for fills, ends of orders and open positions."""

Injection = Callable[[Arena], Awaitable[None]]


class Logged(NamedTuple):
    """An event of the publisher's log, and words that stand in its line."""

    event: str
    words: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One row of the matrix. `readers`, `heals` and `found` are sentences of the page for traders."""

    name: str
    chapter: str
    failure: str
    readers: str
    heals: str
    found: str
    """Within which time readers see it."""
    log: tuple[Logged, ...]
    inject: Injection
    bound_s: float = 0.0
    """How long, at the most, the failure may stay unnoticed, so that what counts as verified is wrong meanwhile."""
    processes: int = 0
    durable: bool = False
    """Whether it needs a Redis with an append-only file."""
    late: bool = False
    """Whether order events that were lost without a sign are found after younger ones of their order were written."""
    whole: bool = False
    """Whether every order event was received, so that the log has to have each, those too that no history has."""
    fast: float = 1.0
    """How much faster than real time the clock of venue and publisher runs, for what takes minutes."""
    reconcile_s: float = RECONCILE_S
    holdings: Callable[[int], Ledger] | None = None
    """The account at the start, as of a time; None: a small one."""
    step_pause_s: float = STEP_PAUSE_S
    """Between two steps of the trader."""


class Measured(NamedTuple):
    """What one run took, in the venue's seconds: not live for readers, and from the end of the cause to live again."""

    not_live_s: float
    live_again_s: float


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    chapter: str,
    *,
    failure: str,
    readers: str,
    heals: str,
    found: str = "at once",
    log: tuple[Logged, ...] = (),
    bound_s: float = 0.0,
    processes: int = 0,
    durable: bool = False,
    late: bool = False,
    whole: bool = False,
    fast: float = 1.0,
    reconcile_s: float = RECONCILE_S,
    holdings: Callable[[int], Ledger] | None = None,
    step_pause_s: float = STEP_PAUSE_S,
) -> Callable[[Injection], Injection]:
    """Put a failure into the matrix, under the name of the function that injects it.

    The function is called while the account trades and is live. It calls `begins` before the failure, `over` where its
    cause goes away by the scenario's doing, and returns once readers have seen it or, if they are not to see it,
    when it is through.
    """

    def add(inject: Injection) -> Injection:
        name = inject.__name__
        assert name not in SCENARIOS
        SCENARIOS[name] = Scenario(
            name=name,
            chapter=chapter,
            failure=failure,
            readers=readers,
            heals=heals,
            found=found,
            log=log,
            inject=inject,
            bound_s=bound_s,
            processes=processes,
            durable=durable,
            late=late,
            whole=whole,
            fast=fast,
            reconcile_s=reconcile_s,
            holdings=holdings,
            step_pause_s=step_pause_s,
        )
        return inject

    return add


async def run(one: Scenario, redis: EmbeddedServer, account: str, directory: Path, seed: int) -> Measured:
    """Play a scenario once. Raises AssertionError with every promise that was broken."""
    async with arena(
        redis,
        account,
        directory,
        processes=one.processes,
        fast=one.fast,
        bound_s=one.bound_s,
        seed=seed,
        reconcile_s=one.reconcile_s,
        holdings=one.holdings,
        step_pause_s=one.step_pause_s,
    ) as here:
        here.trade_on()
        await here.traded(EVENTS_BEFORE)
        here.begins()
        await one.inject(here)
        await here.vouched()
        live_again_at = time.monotonic()
        await here.traded(EVENTS_AFTER)
        await here.trade_off()
        await here.agree()
        entries = await here.agree_on_events_after_gaps(
            in_order=not one.late, whole=one.whole, but=here.gaps | here.untold
        )
        found = [entry for entry in entries if not (here.some_too_late and is_of_late_event(entry))]
        gaps = {gap_name(entry) for entry in found} - {""} - here.untold
        assert gaps == here.gaps, f"the log says that {gaps} are missing"
        assert not here.observer.found, "\n".join(here.observer.found)
        missing = [expected for expected in one.log if not here.logged(*expected)]
        logs = [(entry.get("event"), entry.get("reason")) for one_ in here.publishers for entry in one_.log]
        assert not missing, f"the log does not tell {missing}; it tells {logs}"
        return Measured(
            here.not_live_s(here.began_at, live_again_at) * one.fast,
            (live_again_at - max(here.over_at, here.began_at)) * one.fast,
        )
