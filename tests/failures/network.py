"""Failures of the lines between publisher and venue, and between publisher and Redis."""

from __future__ import annotations

import asyncio

from failures.matrix import Logged, scenario
from failures.stream import GAP, NOTHING, RECOVERS, UNHEARD_S
from support.arena import Arena

CHAPTER = "The network"
LEASE_S = 2.5


@scenario(
    CHAPTER,
    failure="all connections to the venue break at once",
    readers=RECOVERS,
    heals=GAP,
    log=(Logged("state", "connection closed"),),
)
async def venue_line_cut(here: Arena) -> None:
    here.to_venue.cut()
    await here.noticed()


@scenario(
    CHAPTER,
    failure="the venue cannot be reached for three seconds",
    readers="`recovering` until it can be reached, then `live`",
    heals=GAP,
    log=(Logged("state", "connection closed"),),
)
async def venue_line_down(here: Arena) -> None:
    here.to_venue.down()
    await here.noticed()
    await asyncio.sleep(3.0)
    here.to_venue.down(is_down=False)
    here.over()


@scenario(
    CHAPTER,
    failure="packets to and from the venue are lost for 15 seconds; no connection closes",
    readers="`live` until it is found, then `recovering`, then `live`",
    heals="checks by REST get no answer; " + GAP,
    found="a reconcile period and the REST time-out (10 s)",
    log=(Logged("state", "recovering"),),
    bound_s=UNHEARD_S + 10.0,
)
async def venue_line_stalled(here: Arena) -> None:
    here.to_venue.stall()
    await here.noticed()
    await asyncio.sleep(1.0)
    here.to_venue.resume()
    here.over()


@scenario(
    CHAPTER,
    failure="everything from and to the venue is 300 ms late",
    readers="`live`, 300 ms late",
    heals="by itself",
)
async def venue_line_slow(here: Arena) -> None:
    here.to_venue.delay_s = 0.3
    await here.traded(60)
    here.to_venue.delay_s = 0.0
    here.over()


@scenario(
    CHAPTER,
    failure="the publisher's connections to Redis break; the outcome of the batch in flight is unknown",
    readers=NOTHING,
    heals="sends the same batch again; Redis recognises it by its numbers",
    log=(Logged("cannot_write"), Logged("can_write_again")),
)
async def redis_line_cut(here: Arena) -> None:
    for cuts in range(100):
        if cuts >= 5 and here.logged("cannot_write"):  # A cut between two writes is repaired by the next one.
            break
        here.link.cut()
        await here.traded(4)
    here.over()


@scenario(
    CHAPTER,
    failure="the publisher cannot reach Redis for a second",
    readers="`live`, up to a second late; `verifiedAtMs` stops meanwhile",
    heals="the publisher queues, then writes everything in order",
    log=(Logged("cannot_write"), Logged("can_write_again")),
)
async def redis_line_down(here: Arena) -> None:
    here.link.down()
    await asyncio.sleep(1.0)
    here.link.down(is_down=False)
    here.over()


@scenario(
    CHAPTER,
    failure="the publisher cannot reach Redis for longer than its lease (6 seconds)",
    readers="`verifiedAtMs` stops, then `recovering`, then `live`",
    heals="takes the lease again, under a new epoch, and writes everything again, with the order events that waited",
    found="at once: the age grows",
    log=(Logged("cannot_write"), Logged("state", "lease")),
)
async def redis_line_down_for_long(here: Arena) -> None:
    here.link.down()
    await here.noticed()
    await asyncio.sleep(LEASE_S)
    here.link.down(is_down=False)
    here.over()


@scenario(
    CHAPTER,
    failure="packets between publisher and Redis are lost for four seconds; no connection closes",
    readers="`verifiedAtMs` stops, then `live`; sometimes `recovering` in between",
    heals="sends calls without an answer again; takes a lost lease again, under a new epoch",
    found="at once: the age grows",
    log=(Logged("cannot_write"),),
)
async def redis_line_stalled(here: Arena) -> None:
    here.link.stall()
    await here.noticed()
    await asyncio.sleep(1.0)
    here.link.resume()
    here.over()


@scenario(
    CHAPTER,
    failure="every call of Redis takes 200 ms",
    readers="`live`, 200 ms late",
    heals="by itself: what is queued meanwhile goes in one batch",
)
async def redis_line_slow(here: Arena) -> None:
    here.link.delay_s = 0.1
    await here.traded(60)
    here.link.delay_s = 0.0
    here.over()
