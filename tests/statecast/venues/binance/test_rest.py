"""The REST shell against a real HTTP server over loopback: what is sent, what comes back, and that nothing leaks."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any, TypeVar

import pytest
from aiohttp import web
from statecast.venues.binance.weight import WeightBudget

from statecast.errors import (
    AuthFailed,
    ConfigError,
    FrameError,
    RateLimited,
    Rejected,
    StatecastError,
    VenueError,
    VenueUnreachable,
)
from statecast.secret import Secret
from statecast.venues.binance import wire
from statecast.venues.binance.rest import FIREWALL_PAUSE_MS, BinanceRest, CheckScope
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


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture
async def venue(clock: JumpingClock) -> AsyncIterator[Venue]:
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


@pytest.fixture
async def rest(venue: Venue, clock: JumpingClock) -> AsyncIterator[BinanceRest]:
    urls = wire.BinanceUrls.choose(False, venue.url, None, None, None)
    client = BinanceRest(urls, Secret(KEY), Secret(SECRET), clock)
    yield client
    await client.aclose()


async def failure(call: Any) -> StatecastError:
    """The error of `call`, after checking that nothing shown to anybody holds a secret."""
    with pytest.raises((VenueError, FrameError)) as caught:
        await call
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + str(caught.value)
    for secret in (KEY, SECRET, LISTEN_KEY, "timestamp=1"):
        assert secret not in shown
    return caught.value


async def test_snapshot_is_the_whole_account(rest: BinanceRest, venue: Venue) -> None:
    got = await rest.fetch_snapshot()
    assert [balance.asset for balance in got.balances] == ["USDT"]
    (position,) = got.positions
    assert (position.leverage, position.margin_type) == (20, "cross")
    assert [order.order_id for order in got.orders] == ["8886774001", "algo-2148719"]
    assert got.margin_assets == {"BTCUSDT": "USDT", "ETHUSDC": "USDC"}
    assert got.multi_assets is False
    assert got.taken_ms == START_MS, "the venue's time, not the machine's"
    assert rest.used_weight == 124, "the venue counted 123, and exchangeInfo was sent after that"


async def test_only_what_must_be_signed_carries_the_key(rest: BinanceRest, venue: Venue) -> None:
    await rest.fetch_snapshot()
    await rest.create_listen_key()
    for request in venue.requests:
        public = request.path in ("/fapi/v1/time", "/fapi/v1/exchangeInfo")
        assert ("X-MBX-APIKEY" in request.headers) is not public
        assert ("signature" in request.query) is (not public and request.path != "/fapi/v1/listenKey")


async def test_exchange_info_is_asked_again_for_an_unknown_symbol_alone(rest: BinanceRest, venue: Venue) -> None:
    await rest.fetch_snapshot()
    await rest.fetch_snapshot()
    assert venue.count("/fapi/v1/exchangeInfo") == 1
    venue.bodies["/fapi/v3/positionRisk"] = [{**REST["positionRisk"][0], "symbol": "NEWUSDC", "marginAsset": "USDC"}]
    got = await rest.fetch_snapshot()
    assert got.margin_assets["NEWUSDC"] == "USDC"
    await rest.fetch_snapshot()
    assert venue.count("/fapi/v1/exchangeInfo") == 2


async def test_snapshot_without_exchange_info(rest: BinanceRest, venue: Venue) -> None:
    venue.bodies["/fapi/v1/exchangeInfo"] = {"symbols": "none"}
    assert (await rest.fetch_snapshot()).margin_assets == {"BTCUSDT": "USDT"}


def moved(amount: str, later_ms: int = 0) -> list[dict[str, Any]]:
    """The position of positionRisk with another amount or update time."""
    row = REST["positionRisk"][0]
    return [{**row, "positionAmt": amount, "updateTime": row["updateTime"] + later_ms}]


@pytest.mark.parametrize(
    "torn",
    [moved("0.030", 5), moved("0.030"), moved("0.025", 5), moved("0"), []],
    ids=["it has grown", "amount alone", "it was closed and opened again", "it is flat", "it is gone"],
)
async def test_a_torn_snapshot_is_asked_for_again(rest: BinanceRest, venue: Venue, torn: list[dict[str, Any]]) -> None:
    venue.next["/fapi/v3/positionRisk"] = [lambda _: answer(torn)]
    got = await rest.fetch_snapshot(consistent=True)
    assert [str(position.position_amt) for position in got.positions] == ["0.025"]
    assert (venue.count("/fapi/v3/account"), venue.count("/fapi/v3/positionRisk")) == (2, 2)
    assert venue.count("/fapi/v1/openOrders") == 1
    assert got.taken_ms == START_MS, "before the first request"


async def test_a_whole_snapshot_is_asked_for_once_and_a_torn_one_too_where_a_stream_repairs_it(
    rest: BinanceRest, venue: Venue
) -> None:
    await rest.fetch_snapshot(consistent=True)
    venue.next["/fapi/v3/positionRisk"] = [lambda _: answer(moved("0.030", 5))]
    got = await rest.fetch_snapshot()
    assert [str(position.position_amt) for position in got.positions] == ["0.030"]
    assert (venue.count("/fapi/v3/account"), venue.count("/fapi/v3/positionRisk")) == (2, 2)


async def test_an_account_that_is_never_still_is_not_told_torn(rest: BinanceRest, venue: Venue) -> None:
    venue.bodies["/fapi/v3/positionRisk"] = moved("0.030")  # another amount each time would say the same
    error = await failure(rest.fetch_snapshot(consistent=True))
    assert isinstance(error, VenueUnreachable)
    assert str(error) == "binance: snapshot: the account changes too fast to be told as of one moment"
    assert venue.count("/fapi/v3/account") == 3


async def test_update_times_that_the_venue_counts_otherwise_do_not_matter_while_nothing_moves(
    rest: BinanceRest, venue: Venue
) -> None:
    venue.bodies["/fapi/v3/positionRisk"] = moved("0.025", 5)
    got = await rest.fetch_snapshot(consistent=True)
    assert [str(position.position_amt) for position in got.positions] == ["0.025"]
    assert venue.count("/fapi/v3/account") == 2
    later = [moved("0.025", ms) for ms in (6, 7, 8)]
    venue.next["/fapi/v3/positionRisk"] = [lambda _, told=told: answer(told) for told in later]
    assert isinstance(await failure(rest.fetch_snapshot(consistent=True)), VenueUnreachable)


async def test_the_weight_that_another_program_spent_counts_in_its_minute(rest: BinanceRest, venue: Venue) -> None:
    await rest.ensure_clock()
    rest.learn_used_weight(1500, venue.now_ms() - 60_000)
    assert rest.used_weight == 1
    rest.learn_used_weight(1500, venue.now_ms())
    assert rest.used_weight == 1500
    rest.learn_used_weight(700, venue.now_ms())
    assert rest.used_weight == 1500
    await rest.ensure_clock()
    assert venue.count("/fapi/v1/time") == 1


async def test_a_refresh_asks_for_what_else_is_to_be_compared(rest: BinanceRest, venue: Venue) -> None:
    venue.bodies["/fapi/v1/allOrders"] = REST["openOrders"]
    began = START_MS - 60_000
    answer = await rest.fetch_check(CheckScope(None, True, began))
    snapshot = await rest.fetch_snapshot()
    assert answer.orders == snapshot.orders
    assert answer.order_symbols is None
    assert answer.symbol_configs == snapshot.symbol_configs
    assert answer.multi_assets is snapshot.multi_assets
    assert len(answer.created) == len(REST["openOrders"])
    (asked,) = (request for request in venue.requests if request.path == "/fapi/v1/allOrders")
    assert (asked.query["startTime"], asked.query["limit"]) == (str(began), "1000")


async def test_conditional_orders_are_asked_for_symbol_by_symbol(rest: BinanceRest, venue: Venue) -> None:
    path = "/fapi/v1/allAlgoOrders"
    venue.bodies[path] = REST["openAlgoOrders"]
    venue.next[path] = [lambda _: answer({"code": -1121, "msg": "Invalid symbol."}, 400)]
    since = (("GONEUSDT", START_MS - 9), ("BTCUSDT", START_MS - 7))
    told = await rest.fetch_check(CheckScope(conditional_since_ms=since))
    assert sorted(order.order_id for order in told.created) == sorted(
        order.order_id for order in (await rest.fetch_snapshot()).orders if order.algo_id
    )
    asked = {request.query["symbol"]: request.query["startTime"] for request in venue.requests if request.path == path}
    assert asked == {symbol: str(since_ms) for symbol, since_ms in since}


@pytest.mark.parametrize(("pages", "listed"), [(3, 2500), (1, 1000)])
async def test_created_orders_are_listed_page_by_page_as_far_as_the_weight_goes(
    rest: BinanceRest, venue: Venue, pages: int, listed: int
) -> None:
    began = START_MS - HOUR_MS
    rows = [{**ORDER, "orderId": n, "time": began + n // 3} for n in range(2500)]

    def page(request: web.Request) -> web.StreamResponse:
        if pages == 1:
            rest.learn_used_weight(2_150, venue.now_ms())  # The rest is for snapshots.
        since_ms = int(request.query["startTime"])
        return answer([row for row in rows if row["time"] >= since_ms][: int(request.query["limit"])])

    venue.next["/fapi/v1/allOrders"] = [page] * 10
    told = await rest.fetch_check(CheckScope(created_since_ms=began))
    assert venue.count("/fapi/v1/allOrders") == pages
    assert {order.order_id for order in told.created} == {str(n) for n in range(listed)}
    assert told.created_until_ms == (told.taken_ms if listed == len(rows) else began + (listed - 1) // 3)


async def test_conditional_orders_are_asked_for_one_by_one(rest: BinanceRest, venue: Venue) -> None:
    path, row = "/fapi/v1/algoOrder", REST["openAlgoOrders"][0]
    venue.bodies[path] = row | {"algoStatus": "FINISHED"}
    venue.next[path] = [lambda _: answer({"code": -2013, "msg": "Order does not exist."}, 400)]
    told = await rest.fetch_check(CheckScope(conditional_ids=("5", "7")))
    assert [(order.algo_id, order.status) for order in told.created] == [(str(row["algoId"]), "FINISHED")]
    assert sorted(request.query["algoId"] for request in venue.requests if request.path == path) == ["5", "7"]


async def test_open_orders_of_a_few_symbols_cost_little(rest: BinanceRest, venue: Venue) -> None:
    answer = await rest.fetch_check(CheckScope(frozenset({"BTCUSDT", "ETHUSDT"})))
    asked = [request for request in venue.requests if request.path.startswith("/fapi/v1/open")]
    assert sorted(request.query["symbol"] for request in asked) == ["BTCUSDT", "BTCUSDT", "ETHUSDT", "ETHUSDT"]
    assert answer.order_symbols == {"BTCUSDT", "ETHUSDT"}
    assert (answer.symbol_configs, answer.multi_assets, answer.created) == (None, None, ())


async def test_a_venue_that_wants_a_symbol_with_allorders_is_not_asked_again(rest: BinanceRest, venue: Venue) -> None:
    missing = {"code": -1102, "msg": "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."}
    venue.next["/fapi/v1/allOrders"] = [lambda _: answer(missing, 400)]
    for _ in range(2):
        told = await rest.fetch_check(CheckScope(None, True, START_MS - 60_000))
        assert told.created == ()
        assert told.orders
    assert venue.count("/fapi/v1/allOrders") == 1


async def test_refresh_is_light(rest: BinanceRest, venue: Venue) -> None:
    got = await rest.fetch_check()
    assert (len(got.balances), len(got.positions), got.positions[0].leverage) == (1, 1, None)
    assert [r.path for r in venue.requests] == ["/fapi/v1/time", "/fapi/v3/account", "/fapi/v3/positionRisk"]


async def test_clock_is_set_by_the_middle_of_the_fastest_probe(rest: BinanceRest, venue: Venue) -> None:
    venue.probe_takes_s = [3.0, 0.6, 0.8]
    await rest.sync_clock()
    assert rest.venue_now_ms() == venue.now_ms()
    assert venue.count("/fapi/v1/time") == 3


async def test_clock_is_not_set_by_slow_probes(rest: BinanceRest, venue: Venue) -> None:
    venue.probe_takes_s = [1.2]
    error = await failure(rest.sync_clock())
    assert str(error).endswith("took 1200 ms, too slow to set the clock by (limit 1000 ms)")


async def test_refused_timestamp_corrects_the_clock_once_for_all_calls(rest: BinanceRest, venue: Venue) -> None:
    await rest.sync_clock()
    venue.ahead_ms = 30_000
    got = await rest.fetch_snapshot()
    assert venue.count("/fapi/v1/time") == 2
    assert got.taken_ms == venue.now_ms(), "taken by the corrected clock"


async def test_timestamp_refused_again_and_again_is_no_refusal_of_what_was_asked(
    rest: BinanceRest, venue: Venue
) -> None:
    refusal = {"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."}
    venue.next["/fapi/v3/account"] = [lambda _: answer(refusal, 400)] * 10
    error = await failure(rest.fetch_check())
    assert isinstance(error, VenueUnreachable)
    assert "-1021" in str(error)


async def test_listen_key_is_created_and_kept_alive_by_the_same_call(rest: BinanceRest, venue: Venue) -> None:
    assert await rest.create_listen_key() == await rest.create_listen_key() == Secret(LISTEN_KEY)
    assert all(request.method == "POST" and not request.query_string for request in venue.requests)


async def test_deleting_a_dead_listen_key_is_no_error(rest: BinanceRest, venue: Venue) -> None:
    venue.bodies["/fapi/v1/listenKey"] = {}
    await rest.delete_listen_key()
    venue.next["/fapi/v1/listenKey"] = [lambda _: answer({"code": -1125, "msg": "This listenKey does not exist."}, 400)]
    await rest.delete_listen_key()
    assert [request.method for request in venue.requests] == ["DELETE", "DELETE"]


async def test_key_permissions(rest: BinanceRest) -> None:
    permissions = await rest.fetch_key_permissions()
    assert permissions is not None
    assert permissions.read_only


@pytest.mark.parametrize("status", [403, 404])
async def test_host_without_key_permissions(rest: BinanceRest, venue: Venue, status: int) -> None:
    page = web.Response
    venue.next["/sapi/v1/account/apiRestrictions"] = [
        lambda _: page(status=status, text="<html>", content_type="text/html")
    ]
    assert await rest.fetch_key_permissions() is None


@pytest.mark.parametrize(
    ("status", "document", "kind", "code"),
    [
        (401, {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."}, AuthFailed, -2015),
        (400, {"code": -2014, "msg": "API-key format invalid."}, AuthFailed, -2014),
        (400, {"code": -1022, "msg": "Signature for this request is not valid."}, AuthFailed, -1022),
        (400, {"code": -4109, "msg": "This account is inactive."}, AuthFailed, -4109),
        (401, {}, AuthFailed, 401),
        (451, {"msg": "restricted location"}, AuthFailed, 451),
        (400, {"code": -1121, "msg": "Invalid symbol."}, Rejected, -1121),
        (400, {"code": -2023, "msg": "User in liquidation mode now."}, Rejected, -2023),
        (200, {"code": -1121, "msg": "Invalid symbol."}, Rejected, -1121),
        (404, {"path": "/"}, Rejected, 404),
    ],
)
async def test_refusals_are_told_apart_and_not_repeated(
    rest: BinanceRest, venue: Venue, status: int, document: object, kind: type[Rejected], code: int
) -> None:
    venue.next["/fapi/v3/account"] = [lambda _: answer(document, status)]
    error = await failure(rest.fetch_check())
    assert type(error) is kind
    assert error.code == code
    assert str(error).startswith(f"binance: GET /fapi/v3/account: HTTP {status}")
    assert venue.count("/fapi/v3/account") == 1


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (400, {"code": -1001, "msg": "Internal error; unable to process your request. Please try again."}),
        (503, {"code": -1000, "msg": "Unknown error, please check your request or try again later."}),
        (503, {"msg": "Service Unavailable."}),
        (503, {"msg": "Internal error; unable to process your request. Please try again."}),
        (400, {"code": -1006, "msg": "An unexpected response was received from the message bus."}),
        (400, {"code": -1007, "msg": "Timeout waiting for response from backend server."}),
        (408, {}),
    ],
)
async def test_trouble_of_the_venue_is_waited_out(
    rest: BinanceRest, venue: Venue, clock: JumpingClock, status: int, document: object
) -> None:
    venue.next["/fapi/v3/account"] = [lambda _: answer(document, status)] * 2
    await rest.fetch_check()
    assert clock.slept == [0.25, 0.5]


async def test_trouble_that_lasts_is_reported(rest: BinanceRest, venue: Venue) -> None:
    venue.next["/fapi/v3/account"] = [lambda _: answer({}, 502)] * 3
    assert isinstance(await failure(rest.fetch_check()), VenueUnreachable)
    assert venue.count("/fapi/v3/account") == 3


@pytest.mark.parametrize("status", [200, 202, 301, 404, 500])
async def test_page_in_place_of_json_names_its_content_type(rest: BinanceRest, venue: Venue, status: int) -> None:
    page = web.Response
    venue.next["/fapi/v3/account"] = [lambda _: page(status=status, text="<html>", content_type="text/html")] * 3
    error = await failure(rest.fetch_check())
    assert isinstance(error, VenueUnreachable)
    assert f"HTTP {status}, not JSON (content type text/html" in str(error)


async def test_answer_that_cannot_be_understood(rest: BinanceRest, venue: Venue) -> None:
    venue.bodies["/fapi/v3/account"] = {"assets": 5}
    assert isinstance(await failure(rest.fetch_check()), FrameError)


@pytest.mark.parametrize(
    ("status", "document", "headers", "wait_ms"),
    [
        (429, {"code": -1003, "msg": "Too many requests"}, {"Retry_After": "7"}, 7_000),
        (418, {"code": -1003, "msg": f"Way too many requests; IP banned until {START_MS + 120_000}."}, {}, 120_000),
        (400, {"code": -1003, "msg": "Too many requests"}, {}, 60_000 - START_MS % 60_000),
        (429, "busy", {}, 60_000 - START_MS % 60_000),
        (418, "<html>", {}, 120_000),
        (403, "<html>", {}, FIREWALL_PAUSE_MS),
    ],
)
async def test_rate_limit_silences_every_call(
    rest: BinanceRest, venue: Venue, status: int, document: object, headers: dict[str, str], wait_ms: int
) -> None:
    await rest.sync_clock()
    venue.next["/fapi/v1/listenKey"] = [lambda _: answer(document, status, **headers)]
    error = await failure(rest.create_listen_key())
    assert isinstance(error, RateLimited)
    assert error.retry_at_ms == START_MS + wait_ms
    sent = len(venue.requests)
    for other in (rest.fetch_snapshot, rest.fetch_check, rest.create_listen_key, rest.sync_clock):
        again = await failure(other())
        assert isinstance(again, RateLimited)
        assert again.retry_at_ms == START_MS + wait_ms
    assert len(venue.requests) == sent, "nothing is sent while the venue wants silence"
    venue.clock.elapsed_s += wait_ms / 1000
    await rest.fetch_snapshot()


@pytest.mark.parametrize("step_ms", [-7_200_000, 7_200_000])
async def test_silence_that_was_asked_for_before_the_venues_time_was_known_lasts_as_long(
    rest: BinanceRest, venue: Venue, step_ms: int
) -> None:
    """The machine's clock is hours away from the venue's."""
    venue.ahead_ms = step_ms
    venue.next["/fapi/v1/time"] = [lambda _: answer({"code": -1003, "msg": "Too many requests"}, 429, Retry_After="7")]
    assert isinstance(await failure(rest.fetch_snapshot()), RateLimited)
    venue.clock.elapsed_s += 6.9
    assert isinstance(await failure(rest.fetch_snapshot()), RateLimited)
    assert len(venue.requests) == 1
    venue.clock.elapsed_s += 0.1
    await rest.fetch_snapshot()


@pytest.mark.parametrize("step_ms", [-3_600_000, -2_000, 60_000])
async def test_a_clock_that_is_set_during_a_session_costs_one_more_question(
    rest: BinanceRest, venue: Venue, step_ms: int
) -> None:
    await rest.fetch_check()
    probes = venue.count("/fapi/v1/time")
    venue.ahead_ms = step_ms
    snapshot = await rest.fetch_snapshot()
    assert abs(snapshot.taken_ms - venue.now_ms()) <= 5
    assert venue.count("/fapi/v1/time") == probes + 1


@pytest.mark.parametrize("code", [-1008, -1015, -1016])
async def test_overload_pauses_this_call_alone(rest: BinanceRest, venue: Venue, code: int) -> None:
    venue.next["/fapi/v3/account"] = [lambda _: answer({"code": code, "msg": "Server is currently overloaded."}, 503)]
    assert isinstance(await failure(rest.fetch_check()), RateLimited)
    await rest.create_listen_key()


async def test_snapshot_that_the_minute_cannot_pay_is_not_begun(venue: Venue, clock: JumpingClock) -> None:
    urls = wire.BinanceUrls.choose(False, venue.url, None, None, None)
    client = BinanceRest(urls, Secret(KEY), Secret(SECRET), clock, WeightBudget(limit=110, reserve=10))
    async with aclosing(client):
        await client.sync_clock()
        error = await failure(client.fetch_snapshot())
    assert isinstance(error, RateLimited)
    assert str(error) == "binance: snapshot: not sent, the limits of the venue allow it in 50.0 s"
    assert len(venue.requests) == 1


async def test_nobody_listens(clock: JumpingClock) -> None:
    urls = wire.BinanceUrls.choose(False, "http://127.0.0.1:1", None, None, None)
    client = BinanceRest(urls, Secret(KEY), Secret(SECRET), clock)
    async with aclosing(client):
        error = await failure(client.create_listen_key())
    assert str(error) == "binance: POST /fapi/v1/listenKey: no answer (ConnectError)"


async def test_answer_that_never_comes(rest: BinanceRest, venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("statecast.venues.binance.rest.TIMEOUT_S", 0.05)
    venue.silent = True
    error = await failure(rest.create_listen_key())
    assert isinstance(error, VenueUnreachable)
    assert "no answer within" in str(error)
    assert venue.count("/fapi/v1/listenKey") == 3


class HalfClosing:
    """A venue that answers the time, and with that ends its side of the connection: the next call finds it expired.
    Counts connections that the other side has left open."""

    def __init__(self) -> None:
        self.open = 0
        self.closed = asyncio.Condition()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            await reader.readuntil(b"\r\n\r\n")
            body = b'{"serverTime":%d}' % START_MS
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
            writer.write(body)
            writer.write_eof()
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()
            async with self.closed:
                self.closed.notify_all()


async def test_calls_that_are_cancelled_leave_no_connection_behind(clock: JumpingClock) -> None:
    half_closing = HalfClosing()
    async with await asyncio.start_server(half_closing.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        urls = wire.BinanceUrls.choose(False, f"http://127.0.0.1:{port}", None, None, None)
        rest = BinanceRest(urls, Secret(KEY), Secret(SECRET), clock, WeightBudget(10**6))
        await rest.sync_clock()
        # Whenever it happens: while expired connections are closed, one is opened, the answer is waited for or read.
        for iterations in range(40):
            for again in range(3):
                calls = [asyncio.create_task(rest.fetch_order("BTCUSDT", "1", ignore)) for _ in range(2)]
                await asyncio.wait(calls)
                assert all(isinstance(call.exception(), FrameError) for call in calls), "both were answered"
                calls = [asyncio.create_task(rest.fetch_order("BTCUSDT", "1", ignore)) for _ in range(2)]
                for _ in range(iterations):
                    await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                for _ in range(again):
                    await asyncio.sleep(0)
                for call in calls:
                    call.cancel()
                await asyncio.wait(calls)
        await rest.sync_clock()  # which closes all that have expired
        async with asyncio.timeout(10), half_closing.closed:
            await half_closing.closed.wait_for(lambda: half_closing.open <= 1)
        await rest.aclose()


async def test_what_the_server_repeats_is_scrubbed(rest: BinanceRest, venue: Venue) -> None:
    await rest.create_listen_key()
    signatures: list[str] = []

    def echo(request: web.Request) -> web.StreamResponse:
        signatures.append(request.query["signature"])
        said = f"{request.path_qs} {request.headers['X-MBX-APIKEY']} {LISTEN_KEY} {SECRET}\n"
        return answer({"code": -1100, "msg": said[said.index("timestamp") :]}, 400)

    venue.next["/fapi/v3/account"] = [echo]
    with pytest.raises(Rejected) as caught:
        await rest.fetch_check()
    shown = str(caught.value)
    assert "***" in shown
    for secret in (*signatures, KEY, SECRET, LISTEN_KEY, "\n"):
        assert secret not in shown


async def test_no_log_line_holds_a_secret(rest: BinanceRest, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await rest.fetch_snapshot()
    await rest.create_listen_key()
    assert "/fapi/v3/account" in caplog.text, "httpx does log, so that this test can fail"
    for secret in ("signature", "timestamp=", KEY, SECRET, LISTEN_KEY):
        assert secret not in caplog.text


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "schlüssel"])
def test_key_that_cannot_be_a_header_is_a_wrong_setting(key: str) -> None:
    urls = wire.BinanceUrls.choose(False, None, None, None, None)
    with pytest.raises(ConfigError, match="STATECAST_API_KEY") as caught:
        BinanceRest(urls, Secret(key), Secret(SECRET), JumpingClock())
    assert not key or key not in str(caught.value)


# Histories

HOUR_MS = 3_600_000
ORDER = {**REST["openOrders"][0], "time": START_MS}


def ignore(seconds: float) -> None:
    pass


Row = TypeVar("Row")


async def rows_of(pages: AsyncIterator[tuple[Row, ...]]) -> list[Row]:
    return [row async for page in pages for row in page]


def trade(number: int, at_ms: int = START_MS) -> dict[str, Any]:
    return {**REST["userTrades"][0], "id": number, "time": at_ms}


async def test_orders_of_a_long_time_are_asked_for_in_spans_that_the_venue_accepts(
    rest: BinanceRest, venue: Venue
) -> None:
    venue.bodies["/fapi/v1/allOrders"] = []
    since_ms = START_MS - 20 * wire.DAY_MS
    assert await rows_of(rest.order_pages(since_ms, None, ignore)) == []
    spans = [(int(r.query["startTime"]), int(r.query["endTime"])) for r in venue.requests if "startTime" in r.query]
    assert spans[0][0] == since_ms
    assert spans[-1][1] >= START_MS
    assert all(end - start < 7 * wire.DAY_MS for start, end in spans)
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(spans))
    assert not any("symbol" in request.query for request in venue.requests)


async def test_full_pages_are_turned_and_no_order_is_left_out(rest: BinanceRest, venue: Venue) -> None:
    rows = [{**ORDER, "orderId": n, "time": START_MS - HOUR_MS + n // 3} for n in range(2500)]

    def page(request: web.Request) -> web.StreamResponse:
        start, end = int(request.query["startTime"]), int(request.query["endTime"])
        return answer([row for row in rows if start <= row["time"] <= end][: int(request.query["limit"])])

    venue.next["/fapi/v1/allOrders"] = [page] * 10
    found = await rows_of(rest.order_pages(START_MS - HOUR_MS, "BTCUSDT", ignore))
    assert {past.order.order_id for past in found} == {str(n) for n in range(2500)}


async def test_orders_of_one_millisecond_beyond_a_page_are_an_error(rest: BinanceRest, venue: Venue) -> None:
    venue.bodies["/fapi/v1/allOrders"] = [ORDER] * wire.HISTORY_PAGE
    error = await failure(rows_of(rest.order_pages(START_MS, None, ignore)))
    assert str(error) == "frame GET /fapi/v1/allOrders: body: holds more orders of one millisecond than a page can"


async def test_trades_of_one_millisecond_are_turned_by_their_numbers(rest: BinanceRest, venue: Venue) -> None:
    rows = [trade(n) for n in range(2300)]

    def page(request: web.Request) -> web.StreamResponse:
        assert not ("fromId" in request.query and "startTime" in request.query), "the venue refuses both"
        first = int(request.query.get("fromId", 0))
        return answer([row for row in rows if row["id"] >= first][: int(request.query["limit"])])

    venue.next["/fapi/v1/userTrades"] = [page] * 10
    found = await rows_of(rest.trade_pages(START_MS - HOUR_MS, "BTCUSDT", ignore))
    assert [row.trade_id for row in found] == list(range(2300))


async def test_trades_go_on_behind_an_id(rest: BinanceRest, venue: Venue) -> None:
    venue.bodies["/fapi/v1/userTrades"] = [trade(8), trade(9)]
    found = await rows_of(rest.trade_pages(START_MS - HOUR_MS, "BTCUSDT", ignore, from_id=8))
    assert [row.trade_id for row in found] == [8, 9]
    (request,) = (r for r in venue.requests if r.path == "/fapi/v1/userTrades")
    assert request.query["fromId"] == "8"
    assert "startTime" not in request.query


async def test_orders_that_the_venue_has_forgotten_are_none(rest: BinanceRest, venue: Venue) -> None:
    gone = {"code": -2013, "msg": "Order does not exist."}
    venue.next |= {path: [lambda _: answer(gone, 400)] for path in ("/fapi/v1/order", "/fapi/v1/algoOrder")}
    assert await rest.fetch_order("BTCUSDT", "1", ignore) is None
    assert await rest.fetch_algo_order("1", ignore) is None
    venue.bodies["/fapi/v1/order"] = ORDER
    venue.bodies["/fapi/v1/algoOrder"] = REST["openAlgoOrders"][0] | {"createTime": START_MS}
    found = await rest.fetch_order("BTCUSDT", "8886774001", ignore)
    assert found is not None
    assert (found.order.order_id, found.created_ms) == ("8886774001", START_MS)
    algo = await rest.fetch_algo_order("2148719", ignore)
    assert algo is not None
    assert algo.order.order_id == "algo-2148719"


async def test_a_history_waits_for_weight_and_leaves_enough_for_a_snapshot(venue: Venue, clock: JumpingClock) -> None:
    urls, budget = wire.BinanceUrls.choose(False, venue.url, None, None, None), WeightBudget()
    client = BinanceRest(urls, Secret(KEY), Secret(SECRET), clock, budget)
    venue.bodies["/fapi/v1/userTrades"] = []
    waits: list[float] = []
    try:
        await client.sync_clock()
        budget.spend(1600, client.venue_now_ms())
        await client.fetch_snapshot()
        assert await rows_of(client.trade_pages(START_MS, "BTCUSDT", waits.append)) == []
    finally:
        await client.aclose()
    assert len(waits) == 1
    assert 0 < waits[0] <= 60
    assert clock.elapsed_s >= waits[0], "and then went on"


async def test_a_history_survives_the_venues_wish_for_silence(
    rest: BinanceRest, venue: Venue, clock: JumpingClock
) -> None:
    venue.bodies["/fapi/v1/userTrades"] = [trade(1)]
    limited = {"code": -1003, "msg": "Too many requests."}
    venue.next["/fapi/v1/userTrades"] = [lambda _: answer(limited, 429, Retry_After="7")]
    waits: list[float] = []
    assert len(await rows_of(rest.trade_pages(START_MS, "BTCUSDT", waits.append))) == 1
    assert [round(wait) for wait in waits] == [7]


@pytest.mark.parametrize("status", [403, 418, 429])
async def test_the_limits_of_another_host_silence_no_call_but_that_hosts(
    venue: Venue, clock: JumpingClock, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    other = venue.url.replace("127.0.0.1", "localhost")
    monkeypatch.setattr(wire, "PRODUCTION_SAPI", other)
    urls = replace(wire.BinanceUrls.choose(False, venue.url, None, None, None), sapi=other)
    rest = BinanceRest(urls, Secret(KEY), Secret(SECRET), clock)
    venue.next["/sapi/v1/account/apiRestrictions"] = [lambda _: web.Response(status=status, text="<html>")]
    assert isinstance(await failure(rest.fetch_key_permissions()), RateLimited)
    assert await rest.create_listen_key()
    await rest.aclose()


async def test_the_end_of_a_ban_is_reckoned_by_the_venues_date_while_its_time_is_unknown(
    rest: BinanceRest, venue: Venue, clock: JumpingClock
) -> None:
    venue.ahead_ms = 3_600_000  # this machine is an hour behind
    until_ms = venue.now_ms() + 90_000
    banned = {"code": -1003, "msg": f"Way too many requests; IP banned until {until_ms}."}
    date = formatdate(venue.now_ms() / 1000, usegmt=True)
    venue.next["/fapi/v1/time"] = [lambda _: answer(banned, 418, Date=date)]
    error = await failure(rest.fetch_check())
    assert isinstance(error, RateLimited)
    assert 89_000 <= error.retry_at_ms - rest.venue_now_ms() <= 91_000
    clock.elapsed_s += 92
    assert await rest.fetch_check()
