"""Failures of publishers: real processes that are killed, stopped, frozen, one or two of them."""

from __future__ import annotations

import asyncio
import signal

from failures.matrix import Logged, scenario
from failures.stream import NOTHING
from support.arena import Arena

CHAPTER = "The publisher"
LEASE_S = 2.5


@scenario(
    CHAPTER,
    failure="the writer is killed (SIGKILL); a standby runs",
    readers="the age grows until the lease ends; then `live` from the standby, under its epoch",
    heals="the standby goes on from its own state, and writes the events that the killed writer had not written",
    found="at once: the age grows",
    log=(Logged("writing"),),
    processes=2,
)
async def writer_killed(here: Arena) -> None:
    former = (await here.status())["publisherId"]
    here.publishers[0].signal(signal.SIGKILL)
    await here.taken_over(former)


@scenario(
    CHAPTER,
    failure="the writer is stopped (SIGTERM); a standby runs",
    readers="`stopped` for a moment, then `live`",
    heals="the writer gives the lease back, and the standby takes it at once",
    log=(Logged("writing"),),
    processes=2,
)
async def writer_stopped(here: Arena) -> None:
    former = (await here.status())["publisherId"]
    here.publishers[0].signal(signal.SIGTERM)
    await here.taken_over(former)
    assert await here.publishers[0].ends() == 0


@scenario(
    CHAPTER,
    failure="the only publisher is killed and started again three seconds later",
    readers="the age grows; then `starting`, then `live`",
    heals="the new one fetches a snapshot, and the missed order events from the venue's histories",
    found="at once: the age grows",
    log=(Logged("writing"),),
    processes=1,
)
async def publisher_killed(here: Arena) -> None:
    former = (await here.status())["publisherId"]
    here.publishers[0].signal(signal.SIGKILL)
    await here.noticed()
    await here.start()
    here.over()
    await here.taken_over(former)


@scenario(
    CHAPTER,
    failure="the only publisher is stopped (SIGTERM) and started again",
    readers="`stopped`, then `starting`, then `live`",
    heals="the new one fetches a snapshot, and the missed order events from the venue's histories",
    log=(Logged("writing"),),
    processes=1,
)
async def publisher_restarted(here: Arena) -> None:
    former = (await here.status())["publisherId"]
    here.publishers[0].signal(signal.SIGTERM)
    await here.seen(lambda sample: sample.state == "stopped", "the state stopped")
    await here.traded(5)
    await here.start()
    here.over()
    await here.taken_over(former)


@scenario(
    CHAPTER,
    failure="the writer freezes (SIGSTOP) for longer than its lease and wakes up after the standby has taken over",
    readers="the age grows until the lease ends; then `live` from the standby",
    heals="the standby takes over; the frozen one wakes up without the lease and writes nothing",
    found="at once: the age grows",
    log=(Logged("writing"), Logged("standby")),
    processes=2,
)
async def writer_frozen(here: Arena) -> None:
    former = (await here.status())["publisherId"]
    here.publishers[0].signal(signal.SIGSTOP)
    await here.taken_over(former)
    here.publishers[0].signal(signal.SIGCONT)
    await here.traded(40)
    assert (await here.status())["publisherId"] != former


@scenario(
    CHAPTER,
    failure="the only publisher freezes (SIGSTOP) for five seconds",
    readers="the age grows; then `recovering`, then `live`",
    heals="it has lost its lease, takes it again under a new epoch, and asks the venue what happened meanwhile",
    found="at once: the age grows",
    log=(Logged("state", "lease"),),
    processes=1,
)
async def publisher_frozen(here: Arena) -> None:
    here.publishers[0].signal(signal.SIGSTOP)
    await asyncio.sleep(5.0)
    here.publishers[0].signal(signal.SIGCONT)
    here.over()


@scenario(
    CHAPTER,
    failure="the writer freezes (SIGSTOP) for a second, shorter than its lease",
    readers="`live`, a second late",
    heals="by itself: it goes on writing",
    processes=2,
)
async def writer_frozen_briefly(here: Arena) -> None:
    here.publishers[0].signal(signal.SIGSTOP)
    await asyncio.sleep(1.0)
    here.publishers[0].signal(signal.SIGCONT)
    here.over()


@scenario(
    CHAPTER,
    failure="the standby is killed",
    readers=NOTHING,
    heals="nothing to do",
    processes=2,
)
async def standby_killed(here: Arena) -> None:
    here.publishers[1].signal(signal.SIGKILL)
    await here.traded(20)


@scenario(
    CHAPTER,
    failure="writer and standby are killed together; another is started",
    readers="the age grows; then `starting`, then `live`",
    heals="the new one fetches a snapshot, and the missed order events from the venue's histories",
    found="at once: the age grows",
    log=(Logged("writing"),),
    processes=2,
)
async def all_killed(here: Arena) -> None:
    former = (await here.status())["publisherId"]
    for publisher in here.publishers:
        publisher.signal(signal.SIGKILL)
    await here.noticed()
    await here.start()
    here.over()
    await here.taken_over(former)
