"""A Binance that answers over loopback with the documented bodies, and what it takes to ask it."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from statecast.errors import FrameError, StatecastError, VenueError
from statecast.secret import Secret
from statecast.venues.binance import wire
from statecast.venues.binance.account import BinanceAccount
from statecast.venues.binance.limits import WeightBudget
from statecast.venues.binance.rest import BinanceRest
from statecast.venues.binance.signing import signer

FRAMES = next(p for p in Path(__file__).parents if p.name == "tests") / "frames" / "binance"
REST = {
    row["name"]: row["payload"]
    for row in map(json.loads, (FRAMES / "rest.jsonl").read_text(encoding="utf-8").splitlines())
}

KEY = "k" * 64
SECRET = "s" * 64
LISTEN_KEY = REST["listenKey"]["listenKey"]

START_MS = 1_793_000_050_000
HOUR_MS = 3_600_000


class JumpingClock:
    """Sleep jumps; the machine's clock is 10 s behind the venue's."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return START_MS - 10_000 + round(self.elapsed_s * 1000)

    def monotonic(self) -> float:
        return 5000.0 + self.elapsed_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.elapsed_s += max(0.0, seconds)
        await asyncio.sleep(0)


Answer = Callable[[web.Request], web.StreamResponse]


def answer(document: object, status: int = 200, **headers: str) -> web.Response:
    return web.json_response(document, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


class Venue:
    """Answers with the documented bodies; a test lays other answers for a path on top, used once each."""

    def __init__(self, clock: JumpingClock) -> None:
        self.clock = clock
        self.ahead_ms = 0
        self.probe_takes_s = [0.0]
        self.requests: list[web.Request] = []
        self.next: dict[str, list[Answer]] = {}
        self.url = ""
        self.silent = False
        self.bodies = {
            "/fapi/v1/exchangeInfo": REST["exchangeInfo"],
            "/fapi/v3/account": REST["account"],
            "/fapi/v3/positionRisk": REST["positionRisk"],
            "/fapi/v1/openOrders": REST["openOrders"],
            "/fapi/v1/openAlgoOrders": REST["openAlgoOrders"],
            "/fapi/v1/accountConfig": REST["accountConfig"],
            "/fapi/v1/symbolConfig": REST["symbolConfig"],
            "/fapi/v1/listenKey": REST["listenKey"],
            "/sapi/v1/account/apiRestrictions": REST["apiRestrictions"],
        }

    def now_ms(self) -> int:
        return START_MS + self.ahead_ms + round(self.clock.elapsed_s * 1000)

    def count(self, path: str) -> int:
        return sum(request.path == path for request in self.requests)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if self.silent:
            await asyncio.Event().wait()
        queued = self.next.get(request.path)
        if queued:
            return queued.pop(0)(request)
        if request.path == "/fapi/v1/time":
            takes_s = self.probe_takes_s.pop(0) if len(self.probe_takes_s) > 1 else self.probe_takes_s[0]
            self.clock.elapsed_s += takes_s / 2
            now_ms = self.now_ms()
            self.clock.elapsed_s += takes_s / 2
            return answer({"serverTime": now_ms})
        if "signature" in request.query:
            sent, _, signature = request.rel_url.raw_query_string.partition("&signature=")
            if signature != signer(Secret(SECRET))(sent.encode()):
                return answer({"code": -1022, "msg": "Signature for this request is not valid."}, 400)
            if abs(int(request.query["timestamp"]) - self.now_ms()) > 1000:
                return answer({"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."}, 400)
        return answer(self.bodies[request.path], X_MBX_USED_WEIGHT_1M="123")


@asynccontextmanager
async def answering(clock: JumpingClock) -> AsyncIterator[Venue]:
    """A venue while the context lasts."""
    venue = Venue(clock)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", venue.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    venue.url = site.name
    yield venue
    await runner.cleanup()


def urls_of(url: str) -> wire.BinanceUrls:
    return wire.BinanceUrls.choose(False, url, None, None, None)


def new_rest(url: str, clock: JumpingClock, limits: WeightBudget | None = None) -> BinanceRest:
    """The calls of an account at this URL."""
    return BinanceRest(urls_of(url), Secret(KEY), Secret(SECRET), clock, limits or WeightBudget())


def new_account(url: str, clock: JumpingClock, limits: WeightBudget | None = None, **options: Any) -> BinanceAccount:
    """The account at this URL."""
    return BinanceAccount(urls_of(url), Secret(KEY), Secret(SECRET), clock, limits or WeightBudget(), **options)


async def failure(call: Any) -> StatecastError:
    """The error of `call`, after checking that nothing shown to anybody holds a secret."""
    with pytest.raises((VenueError, FrameError)) as caught:
        await call
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(caught.value)
    for secret in (KEY, SECRET, LISTEN_KEY, "timestamp=1"):
        assert secret not in shown
    return caught.value


def ignore(seconds: float) -> None:
    """Nobody wants to know how long a history waits."""
