"""Failures of the venue's user stream: sockets, frames, listen keys."""

from __future__ import annotations

import time

from failures.matrix import Logged, scenario
from support.arena import NOISE_S, RECONCILE_S, Arena

from publisher.discrepancies import GRACE_S

CHAPTER = "The venue's stream"

UNHEARD_S = 1.5 * RECONCILE_S + GRACE_S
"""Until an event that never arrived is found missing: a reconcile period with its jitter, and the grace."""

RECOVERS = "`recovering`, then `live`"
GAP = "connects again, fetches a snapshot, and the missed order events from the venue's histories"
NOTHING = "nothing: the state stays `live` and correct"


@scenario(
    CHAPTER,
    failure="the connection breaks without a close frame (code 1006)",
    readers=RECOVERS,
    heals=GAP,
    log=(Logged("state", "connection closed"),),
)
async def socket_cut(here: Arena) -> None:
    here.fault("cut_sockets", kind="private")
    here.trade(3)
    await here.noticed()


@scenario(
    CHAPTER,
    failure="the venue closes the connection, as it does every 24 hours at the latest",
    readers=RECOVERS,
    heals=GAP,
    log=(Logged("state", "connection closed (code 1001)"),),
)
async def socket_closed(here: Arena) -> None:
    here.fault("cut_sockets", kind="private", code=1001)
    here.trade(3)
    await here.noticed()


@scenario(
    CHAPTER,
    failure="the connection breaks in the middle of 2,000 order events",
    readers=RECOVERS,
    heals=GAP,
    log=(Logged("state", "connection closed"),),
)
async def socket_cut_in_a_burst(here: Arena) -> None:
    here.burst(1000)
    here.fault("cut_sockets", kind="private")
    here.burst(1000)
    await here.noticed()


@scenario(
    CHAPTER,
    failure="the venue refuses three connections in a row after a cut",
    readers=RECOVERS,
    heals="tries again, with growing pauses; then as after a broken connection",
    log=(Logged("state", "HTTP 503"),),
)
async def socket_refused(here: Arena) -> None:
    here.fault("refuse_sockets", count=3)
    here.fault("cut_sockets", kind="private")
    await here.noticed()
    await here.until(lambda: not here.exchange.faults.handshakes, "the end of refusals")
    here.over()


@scenario(
    CHAPTER,
    failure="the connection stays open and answers pings, but no frames arrive",
    readers="`live` until it is found, then `recovering`, then `live`",
    heals="a check by REST finds changes that the stream did not send; a new connection, a snapshot, the histories",
    found="a reconcile period and the grace (5 s)",
    log=(Logged("state", "drift"),),
    bound_s=UNHEARD_S,
)
async def socket_mute(here: Arena) -> None:
    here.fault("mute_open_sockets")
    await here.noticed()


@scenario(
    CHAPTER,
    failure="the market stream falls silent",
    readers="`live`; `markPriceTimeMs` stops, and REST renews mark prices every reconcile period",
    heals="by itself, when prices arrive again",
)
async def market_mute(here: Arena) -> None:
    here.fault("mute_market_sockets", on=True)
    await here.traded(30)
    here.fault("mute_market_sockets", on=False)
    here.over()


@scenario(
    CHAPTER,
    failure="the market stream's connection breaks",
    readers="`live`; `markPriceTimeMs` stops for a moment",
    heals="connects again",
    log=(Logged("market_stream_lost"),),
)
async def market_cut(here: Arena) -> None:
    here.fault("cut_sockets", kind="market")
    await here.until(lambda: here.logged("market_stream_lost"), "the log to tell it")


@scenario(
    CHAPTER,
    failure="20 frames are lost on a connection that stays open",
    readers="`live` until it is found, then `recovering`, then `live`",
    heals="a later event of the order shows that one is missing, or a check by REST does; a snapshot, the histories",
    found="a reconcile period and the grace (5 s)",
    log=(Logged("state", "recovering"),),
    bound_s=UNHEARD_S,
    late=True,
)
async def frames_lost(here: Arena) -> None:
    here.fault("drop_user_frames", count=20)
    await here.noticed()


@scenario(
    CHAPTER,
    failure="40 frames arrive twice",
    readers=NOTHING,
    heals="the second copy is recognised by trade id, status and time",
)
async def frames_doubled(here: Arena) -> None:
    here.fault("duplicate_user_frames", count=40)
    await here.traded(40)


@scenario(
    CHAPTER,
    failure="frames arrive in another order: account updates before or after the order updates",
    readers=NOTHING,
    heals="the newer venue time wins, row by row",
)
async def frames_swapped(here: Arena) -> None:
    here.fault("swap_user_frames", count=6, events=["ACCOUNT_UPDATE"])
    await here.traded(40)


@scenario(
    CHAPTER,
    failure="frames arrive 1.5 s late",
    readers="`live`, 1.5 s late",
    heals="by itself; a difference that lasts less than the grace is not drift",
    found="within the grace",
    bound_s=GRACE_S,
)
async def frames_late(here: Arena) -> None:
    here.fault("delay_user_frames", count=40, delay_ms=1500)
    await here.traded(40)
    assert (await here.status())["drifts"] == "0"


@scenario(
    CHAPTER,
    failure="a frame is cut off in the middle",
    readers=RECOVERS,
    heals="fetches a snapshot and the histories, on the same connection",
    log=(Logged("state", "frame unreadable"),),
)
async def frame_malformed(here: Arena) -> None:
    here.fault("send_raw", text='{"e":"ORDER_TRADE_UPDATE","E":179300')
    await here.noticed()


@scenario(
    CHAPTER,
    failure="a frame is binary, not text",
    readers=RECOVERS,
    heals=GAP + "; the connection is closed",
    log=(Logged("state", "connection closed"),),
)
async def frame_of_bytes(here: Arena) -> None:
    here.fault("send_raw", base64="/wD+gA==")
    await here.noticed()


@scenario(
    CHAPTER,
    failure="an event that the documentation does not have",
    readers="`live`; counted in `unknownEvents`",
    heals="it is logged once and ignored",
    log=(Logged("unknown_event", "MOON_PHASE_UPDATE"),),
)
async def frame_unknown(here: Arena) -> None:
    here.fault("send_raw", text='{"e":"MOON_PHASE_UPDATE","E":1793000000123}')
    await here.until(lambda: here.logged("unknown_event"), "the log to tell it")


@scenario(
    CHAPTER,
    failure="the listen key expires, and the venue says so",
    readers=RECOVERS,
    heals="a new key, a new connection, a snapshot, the histories",
    log=(Logged("state", "listen key has expired"),),
)
async def listen_key_expired(here: Arena) -> None:
    here.fault("expire_listen_key")
    here.trade(3)
    await here.noticed()


@scenario(
    CHAPTER,
    failure="the same, sent twice, in the older form: the time as text, without the key",
    readers=RECOVERS,
    heals="a new key, a new connection, a snapshot, the histories",
    log=(Logged("state", "listen key has expired"),),
)
async def listen_key_expired_twice(here: Arena) -> None:
    here.fault("expire_listen_key", times=2, text_time=True, with_key=False)
    here.trade(3)
    await here.noticed()


@scenario(
    CHAPTER,
    failure="the listen key is gone without notice: another program has deleted it",
    readers="`live` until it is found, then `recovering`, then `live`",
    heals="a check by REST finds changes that the stream did not send; a new key, connection, snapshot, the histories",
    found="a reconcile period and the grace (5 s)",
    log=(Logged("state", "drift"),),
    bound_s=UNHEARD_S,
)
async def listen_key_gone(here: Arena) -> None:
    here.fault("forget_listen_key")
    await here.noticed()


@scenario(
    CHAPTER,
    failure="the venue announces that its server shuts down",
    readers="`live`: the next connection works before the last one is closed",
    heals="changes to a new connection, and takes every event once",
    log=(Logged("rotating", "shutting down"), Logged("rotated", "shutting down")),
)
async def server_shutdown(here: Arena) -> None:
    here.fault("server_shutdown")
    await here.until(lambda: here.logged("rotated"), "the change of connections")
    assert here.not_live_s(here.began_at, time.monotonic()) < NOISE_S
