"""Failures of the venue's REST interface: limits, errors, old or inconsistent answers, clocks. Each meets a publisher
that has just lost its stream and cannot be live without a snapshot."""

from __future__ import annotations

import asyncio

from failures.matrix import Logged, scenario
from failures.stream import NOTHING, RECOVERS, UNHEARD_S
from support.arena import Arena

CHAPTER = "The venue's REST interface"
ANY = 1000
SECONDS = 2.0
"""How long REST stays away where nothing else ends it."""

ACCOUNT_PATHS = ["/fapi/v3/account", "/fapi/v3/positionRisk", "/fapi/v1/openOrders", "/fapi/v1/openAlgoOrders"]
HISTORY_PATHS = ["/fapi/v1/allOrders", "/fapi/v1/userTrades", "/fapi/v1/allAlgoOrders"]

UNTIL_BACK = "`recovering` until the venue answers again, then `live`"
REPEATS = "asks again with growing pauses; the stream is connected meanwhile, and no event is lost"


async def _without_rest(here: Arena, status: int, body: str, **headers: str) -> None:
    """Cut the stream, and answer everything that is asked then in this way for a while."""
    here.fault("answer_rest", count=ANY, status=status, body=body, headers=headers)
    here.fault("cut_sockets", kind="private")
    await here.noticed()
    await asyncio.sleep(SECONDS / getattr(here.clock, "rate", 1.0))
    here.exchange.faults.rest.clear()
    here.over()


@scenario(
    CHAPTER,
    failure="429: too many requests, with Retry-After",
    readers=UNTIL_BACK,
    heals="sends no request until the venue allows it",
    log=(Logged("state", "connection closed"),),
)
async def rest_429_with_retry_after(here: Arena) -> None:
    body = '{"code":-1003,"msg":"Too many requests."}'
    await _without_rest(here, 429, body, **{"Retry-After": "3"})


@scenario(
    CHAPTER,
    failure="429 without Retry-After",
    readers=UNTIL_BACK,
    heals="sends no request until the venue's minute is over",
    log=(Logged("state", "connection closed"),),
    fast=10.0,
)
async def rest_429_bare(here: Arena) -> None:
    await _without_rest(here, 429, '{"code":-1003,"msg":"Too many requests."}')


@scenario(
    CHAPTER,
    failure="418: the IP address is banned until a time in the message",
    readers=UNTIL_BACK,
    heals="sends no request until the ban is over",
    log=(Logged("state", "connection closed"),),
)
async def rest_418_banned(here: Arena) -> None:
    until_ms = here.exchange.server_ms(here.now_ms()) + 4000
    await _without_rest(here, 418, f'{{"code":-1003,"msg":"Way too many requests; IP banned until {until_ms}."}}')


@scenario(
    CHAPTER,
    failure="403: the venue's firewall answers with an HTML page",
    readers=UNTIL_BACK,
    heals=REPEATS,
    log=(Logged("state", "connection closed"),),
)
async def rest_403_firewall(here: Arena) -> None:
    await _without_rest(here, 403, "<html>403 Forbidden</html>")


@scenario(
    CHAPTER,
    failure="451: the venue does not serve this location",
    readers="`refused`, with what to do in `reason`",
    heals="asks again every minute",
    log=(Logged("state", "does not serve this location"),),
    fast=10.0,
)
async def rest_451_location(here: Arena) -> None:
    await _without_rest(here, 451, '{"code":0,"msg":"Service unavailable from a restricted location."}')


@scenario(
    CHAPTER,
    failure="401: the key is refused (-2015)",
    readers="`refused`, with what to do in `reason`",
    heals="asks again every minute, so that a corrected key is noticed",
    log=(Logged("state", "check STATECAST_API_KEY"),),
    fast=10.0,
)
async def rest_401_key_refused(here: Arena) -> None:
    body = '{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action"}'
    await _without_rest(here, 401, body)


@scenario(
    CHAPTER,
    failure="503 whose outcome is unknown",
    readers=UNTIL_BACK,
    heals=REPEATS,
    log=(Logged("state", "503"),),
)
async def rest_503_unknown(here: Arena) -> None:
    body = '{"code":-1000,"msg":"Unknown error, please check your request or try again later."}'
    await _without_rest(here, 503, body)


@scenario(
    CHAPTER,
    failure="503: service unavailable, the call failed",
    readers=UNTIL_BACK,
    heals=REPEATS,
    log=(Logged("state", "503"),),
)
async def rest_503_unavailable(here: Arena) -> None:
    await _without_rest(here, 503, "Service Unavailable.")


@scenario(
    CHAPTER,
    failure="503: internal error, the call may be sent again",
    readers=UNTIL_BACK,
    heals=REPEATS,
    log=(Logged("state", "503"),),
)
async def rest_503_internal(here: Arena) -> None:
    await _without_rest(
        here, 503, '{"code":-1001,"msg":"Internal error; unable to process your request. Please try again."}'
    )


@scenario(
    CHAPTER,
    failure="200 with an HTML page instead of JSON",
    readers=UNTIL_BACK,
    heals=REPEATS,
    log=(Logged("state", "not JSON"),),
)
async def rest_html(here: Arena) -> None:
    await _without_rest(here, 200, "<html>We will be back soon</html>")


@scenario(
    CHAPTER,
    failure="no answer within ten seconds",
    readers="`recovering` until an answer arrives in time, then `live`",
    heals=REPEATS,
    log=(Logged("state", "recovering"),),
)
async def rest_timeout(here: Arena) -> None:
    here.fault("delay_rest", count=1, delay_ms=11_000, path="/fapi/v1/openOrders")
    here.fault("cut_sockets", kind="private")
    await here.noticed()


@scenario(
    CHAPTER,
    failure="answers take two seconds each",
    readers="`recovering` for longer than usual, then `live`",
    heals="waits for them; the stream is kept meanwhile",
    log=(Logged("state", "connection closed"),),
)
async def rest_slow(here: Arena) -> None:
    here.fault("delay_rest", count=8, delay_ms=2000)
    here.fault("cut_sockets", kind="private")
    await here.noticed()


@scenario(
    CHAPTER,
    failure="-1021: the venue's clock steps six seconds ahead while the stream is down",
    readers=RECOVERS,
    heals="asks the venue for its time and repeats the call once",
)
async def clock_ahead(here: Arena) -> None:
    here.fault("shift_clock", by_ms=6000)
    here.fault("cut_sockets", kind="private")
    await here.noticed()


@scenario(
    CHAPTER,
    failure="-1125: the listen key cannot be kept alive",
    readers=RECOVERS,
    heals="asks for a new one",
    log=(Logged("state", "-1125"),),
)
async def rest_1125(here: Arena) -> None:
    body = '{"code":-1125,"msg":"This listenKey does not exist."}'
    here.fault("answer_rest", count=2, status=400, body=body, path="/fapi/v1/listenKey")
    here.fault("forget_listen_key")
    here.fault("cut_sockets", kind="private")
    await here.noticed()


@scenario(
    CHAPTER,
    failure="the snapshot is older than the stream",
    readers="`recovering`, then `live`; no row goes back",
    heals="the newer venue time wins, row by row; checks by REST find what is missing in the snapshot",
    found="a reconcile period and the grace (5 s)",
    bound_s=UNHEARD_S,
)
async def snapshot_old(here: Arena) -> None:
    here.fault("hold_rest", paths=ACCOUNT_PATHS)
    await here.traded(10)
    here.fault("cut_sockets", kind="private")
    here.trade(3)
    await here.noticed()
    await asyncio.sleep(SECONDS)
    here.fault("hold_rest", on=False)
    here.over()


@scenario(
    CHAPTER,
    failure="order and trade histories lag two seconds behind when a gap is to be filled",
    readers=RECOVERS,
    heals="the next check compares the orders of the gap again; new ones are drift, and the histories are read again",
    log=(Logged("state", "connection closed"),),
    late=True,
)
async def histories_lag(here: Arena) -> None:
    here.fault("hold_rest", paths=HISTORY_PATHS)
    here.fault("cut_sockets", kind="private")
    here.trade(10)
    await here.noticed()
    await asyncio.sleep(SECONDS)
    here.fault("hold_rest", on=False)
    here.over()


@scenario(
    CHAPTER,
    failure="the snapshot is inconsistent: positions of one moment, wallets and orders of another",
    readers="`recovering`, then `live`; no row goes back",
    heals="the newer venue time wins, row by row; a difference that lasts longer than the grace is drift",
    found="a reconcile period and the grace (5 s)",
    bound_s=UNHEARD_S,
)
async def snapshot_torn(here: Arena) -> None:
    here.fault("hold_rest", paths=["/fapi/v3/positionRisk"])
    await here.traded(10)
    here.fault("cut_sockets", kind="private")
    here.trade(3)
    await here.noticed()
    await asyncio.sleep(SECONDS)
    here.fault("hold_rest", on=False)
    here.over()


@scenario(
    CHAPTER,
    failure="REST lags behind the stream for four seconds",
    readers=NOTHING,
    heals="the stream is newer, so the difference is not drift",
)
async def rest_lags(here: Arena) -> None:
    for _ in range(4):
        here.fault("hold_rest")
        await asyncio.sleep(1.0)
    here.fault("hold_rest", on=False)
    here.over()


@scenario(
    CHAPTER,
    failure="maintenance: an hour without connections and REST (minutes in this run, the whole hour in the simulation)",
    readers=UNTIL_BACK,
    heals="tries again, within the venue's limits, for as long as it takes; the histories have the missed order events",
    log=(Logged("state", "-1016"),),
    fast=10.0,
)
async def maintenance(here: Arena) -> None:
    here.fault("maintenance", on=True)
    await here.noticed()
    await asyncio.sleep(18)
    here.fault("maintenance", on=False)
    here.over()
