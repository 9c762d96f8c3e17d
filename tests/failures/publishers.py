"""Failures of publishers: real processes that are killed, stopped, frozen, one or two of them."""

from __future__ import annotations

import asyncio
import signal

from failures.behind import rest
from failures.matrix import Logged, scenario
from failures.stream import NOTHING
from support.arena import Arena
from support.world import until

from statecast.simulator.orders import OrderRequest, OrderType, Side
from statecast.store.keys import AccountKeys

CHAPTER = "The publisher"
LEASE_S = 2.5
DAY_MS = 86_400_000


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


@scenario(
    CHAPTER,
    failure="the only publisher is stopped (SIGTERM) while it waits for a snapshot that the venue refuses, and started"
    " again",
    readers="`recovering`, then `stopped`, then `starting`, then `live`",
    heals="it writes the order events that it has received before it ends; the new one adds what is missing",
    log=(Logged("state", "503"),),
    processes=1,
    whole=True,
)
async def stopped_in_doubt(here: Arena) -> None:
    await here.trade_off()
    rest(here)
    await here.agree()
    here.fault("answer_rest", count=100_000, status=503, body="Service Unavailable.", path="/fapi/v3/account")
    here.fault("send_raw", text="{")
    await here.noticed()
    here.burst(40, "amendments")
    here.exchange.send_event("MOON_PHASE_UPDATE", {}, here.now_ms())
    await until(here.status, lambda status: status["unknownEvents"] == "1")
    here.publishers[0].signal(signal.SIGTERM)
    assert await here.publishers[0].ends() == 0
    here.exchange.faults.rest.clear()
    await here.start()
    here.over()
    await here.vouched()
    here.trade_on()


@scenario(
    CHAPTER,
    failure="the only publisher is stopped (SIGTERM, and another one 50 ms later), and started again",
    readers="`stopped`, then `starting`, then `live`",
    heals="the second signal changes nothing: it ends in order, with exit code 0",
    log=(Logged("writing"),),
    processes=1,
)
async def stopped_twice(here: Arena) -> None:
    here.publishers[0].signal(signal.SIGTERM)
    await asyncio.sleep(0.05)
    here.publishers[0].signal(signal.SIGTERM)
    await here.seen(lambda sample: sample.state == "stopped", "the state stopped")
    assert await here.publishers[0].ends() == 0
    await here.start()
    here.over()


@scenario(
    CHAPTER,
    failure="the keys of the account carry another contract version when a publisher is started",
    readers="the last state, whose age grows; `contract` names the version",
    heals="it writes nothing and ends with exit code 2 and a sentence; one of that version goes on",
    log=(Logged("writing"),),
    processes=1,
)
async def contract_of_another_version(here: Arena) -> None:
    status = AccountKeys(here.account_id).status
    here.publishers[0].signal(signal.SIGTERM)
    assert await here.publishers[0].ends() == 0
    await here.client.redis.hset(status, "contract", "99")
    refused = await here.start()
    assert await refused.ends() == 2
    assert "is written under contract 99" in refused.process.output
    await here.client.redis.hset(status, "contract", "1")
    await here.start()
    here.over()


@scenario(
    CHAPTER,
    failure="no publisher runs for 100 days; the venue keeps histories for 90",
    readers="`stopped`, then `starting`, then `live`",
    heals="the log goes on after entries of type `GAP`: of what the venue has no more, or keeps shorter",
    log=(Logged("gap_filled"),),
    processes=1,
)
async def away_for_long(here: Arena) -> None:
    await here.trade_off()
    await here.agree()
    await _restart(here, away_ms=100 * DAY_MS)
    here.exchange.behave(history_ms=90 * DAY_MS + 30_000)
    here.gaps.update(("ALL", "UNFILLED"))
    await here.start()
    here.over()
    await here.vouched()
    here.trade_on()


@scenario(
    CHAPTER,
    failure="after an absence the venue has a fill, but neither lists nor knows its order (-2013)",
    readers="`stopped`, then `starting`, then `live`",
    heals="the fill is logged as its trade says; what became of the order is a `GAP` entry",
    log=(Logged("gap_filled"),),
    processes=1,
)
async def order_of_a_fill_unknown(here: Arena) -> None:
    await here.trade_off()
    await here.agree()
    await _restart(here, away_ms=180_000)
    rules, now_ms = here.ledger.rules["BTCUSDT"], here.now_ms()
    request = OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.MARKET, qty=rules.step_size * 5)
    here.exchange.publish(here.ledger.place(request, now_ms - 90_000), now_ms)
    name = f"BTCUSDT:{here.ledger.trades[-1].order.order_id}"
    here.gaps.add(name)
    unknown = '{"code":-2013,"msg":"Order does not exist."}'
    here.fault("answer_rest", count=1000, status=400, body=unknown, path="/fapi/v1/order")
    here.fault("answer_rest", count=1000, status=200, body="[]", path="/fapi/v1/allOrders")
    await here.start()
    here.over()
    await here.vouched()
    here.exchange.faults.rest.clear()
    entries = [entry for entry in await here.log() if f"{entry['symbol']}:{entry['orderId']}" == name]
    assert [entry["eventType"] for entry in entries] == ["TRADE", "GAP"]
    here.trade_on()


async def _restart(here: Arena, *, away_ms: int) -> None:
    """Stop the publisher, and make the log say that it ended so long ago."""
    here.publishers[0].signal(signal.SIGTERM)
    assert await here.publishers[0].ends() == 0
    now_ms = here.now_ms()
    marks = {"eventsSinceMs": now_ms - 2 * away_ms, "eventsCompleteMs": now_ms - away_ms}
    await here.client.redis.hset(AccountKeys(here.account_id).status, mapping=marks)
