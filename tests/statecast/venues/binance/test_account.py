"""The account against a real HTTP server over loopback: what is sent, what comes back, and that nothing leaks."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from decimal import Decimal
from email.utils import formatdate
from typing import Any

import pytest
import structlog
from aiohttp import web
from support.binance_rest import (
    HOUR_MS,
    KEY,
    LISTEN_KEY,
    REST,
    SECRET,
    START_MS,
    JumpingClock,
    Venue,
    answer,
    answering,
    failure,
    new_account,
    urls_of,
)
from support.changes import new_account as followed_account

from statecast.domain.changes import MarkPriceUpdate
from statecast.domain.models import OrderKey, PositionKey
from statecast.errors import AuthFailed, FrameError, LimitReached, RateLimited, VenueUnreachable
from statecast.secret import Secret
from statecast.venues.adapter import CheckScope, KeyReport
from statecast.venues.binance import wire
from statecast.venues.binance.account import BinanceAccount
from statecast.venues.binance.errors import FIREWALL_PAUSE_MS
from statecast.venues.binance.limits import WeightBudget
from statecast.venues.binance.session import UserSession

ORDER = {**REST["openOrders"][0], "time": START_MS}


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture
async def venue(clock: JumpingClock) -> AsyncIterator[Venue]:
    async with answering(clock) as venue:
        yield venue


@pytest.fixture
async def account(venue: Venue, clock: JumpingClock) -> AsyncIterator[BinanceAccount]:
    account = new_account(venue.url, clock)
    yield account
    await account.aclose()


async def test_snapshot_is_the_whole_account(account: BinanceAccount, venue: Venue) -> None:
    got = await account.fetch_snapshot()
    assert [balance.asset for balance in got.balances] == ["USDT"]
    (position,) = got.positions
    assert (position.leverage, position.margin_type) == (20, "cross")
    assert [order.order_id for order in got.orders] == ["8886774001", "algo-2148719"]
    assert got.margin_assets == {"BTCUSDT": "USDT", "ETHUSDC": "USDC"}
    assert got.multi_assets is False
    assert got.taken_ms == START_MS, "the venue's time, not the machine's"
    assert account.limits.used(venue.now_ms()) == 124, "the venue counted 123, and exchangeInfo was sent after that"


async def test_exchange_info_is_asked_again_for_an_unknown_symbol_alone(account: BinanceAccount, venue: Venue) -> None:
    await account.fetch_snapshot()
    await account.fetch_snapshot()
    assert venue.count("/fapi/v1/exchangeInfo") == 1
    venue.bodies["/fapi/v3/positionRisk"] = [{**REST["positionRisk"][0], "symbol": "NEWUSDC", "marginAsset": "USDC"}]
    got = await account.fetch_snapshot()
    assert got.margin_assets["NEWUSDC"] == "USDC"
    await account.fetch_snapshot()
    assert venue.count("/fapi/v1/exchangeInfo") == 2


async def test_snapshot_without_exchange_info(account: BinanceAccount, venue: Venue) -> None:
    venue.bodies["/fapi/v1/exchangeInfo"] = {"symbols": "none"}
    assert (await account.fetch_snapshot()).margin_assets == {"BTCUSDT": "USDT"}


def moved(amount: str, later_ms: int = 0) -> list[dict[str, Any]]:
    """The position of positionRisk with another amount or update time."""
    row = REST["positionRisk"][0]
    return [{**row, "positionAmt": amount, "updateTime": row["updateTime"] + later_ms}]


@pytest.mark.parametrize(
    "torn",
    [moved("0.030", 5), moved("0.030"), moved("0.025", 5), moved("0"), []],
    ids=["it has grown", "amount alone", "it was closed and opened again", "it is flat", "it is gone"],
)
async def test_a_torn_snapshot_is_asked_for_again(
    account: BinanceAccount, venue: Venue, torn: list[dict[str, Any]]
) -> None:
    venue.next["/fapi/v3/positionRisk"] = [lambda _: answer(torn)]
    got = await account.fetch_snapshot(consistent=True)
    assert [str(position.position_amt) for position in got.positions] == ["0.025"]
    assert (venue.count("/fapi/v3/account"), venue.count("/fapi/v3/positionRisk")) == (2, 2)
    assert venue.count("/fapi/v1/openOrders") == 1
    assert got.taken_ms == START_MS, "before the first request"


async def test_a_whole_snapshot_is_asked_for_once_and_a_torn_one_too_where_a_stream_repairs_it(
    account: BinanceAccount, venue: Venue
) -> None:
    await account.fetch_snapshot(consistent=True)
    venue.next["/fapi/v3/positionRisk"] = [lambda _: answer(moved("0.030", 5))]
    got = await account.fetch_snapshot()
    assert [str(position.position_amt) for position in got.positions] == ["0.030"]
    assert (venue.count("/fapi/v3/account"), venue.count("/fapi/v3/positionRisk")) == (2, 2)


async def test_an_account_that_is_never_still_is_not_told_torn(account: BinanceAccount, venue: Venue) -> None:
    venue.bodies["/fapi/v3/positionRisk"] = moved("0.030")  # another amount each time would say the same
    error = await failure(account.fetch_snapshot(consistent=True))
    assert isinstance(error, VenueUnreachable)
    assert str(error) == "binance: snapshot: the account changes too fast to be read as of one moment"
    assert venue.count("/fapi/v3/account") == 3


async def test_update_times_that_the_venue_counts_otherwise_do_not_matter_while_nothing_moves(
    account: BinanceAccount, venue: Venue
) -> None:
    venue.bodies["/fapi/v3/positionRisk"] = moved("0.025", 5)
    got = await account.fetch_snapshot(consistent=True)
    assert [str(position.position_amt) for position in got.positions] == ["0.025"]
    assert venue.count("/fapi/v3/account") == 2
    later = [moved("0.025", ms) for ms in (6, 7, 8)]
    venue.next["/fapi/v3/positionRisk"] = [lambda _, told=told: answer(told) for told in later]
    assert isinstance(await failure(account.fetch_snapshot(consistent=True)), VenueUnreachable)


async def test_the_weight_that_another_program_spent_counts_in_its_minute(
    account: BinanceAccount, venue: Venue
) -> None:
    await account.clock.ensure()
    account.limits.learn("1500", venue.now_ms() - 60_000, venue.now_ms())
    assert account.limits.used(venue.now_ms()) == 1
    account.limits.learn("1500", venue.now_ms(), venue.now_ms())
    assert account.limits.used(venue.now_ms()) == 1500
    account.limits.learn("700", venue.now_ms(), venue.now_ms())
    assert account.limits.used(venue.now_ms()) == 1500
    await account.clock.ensure()
    assert venue.count("/fapi/v1/time") == 1


async def test_a_refresh_asks_for_what_else_is_to_be_compared(account: BinanceAccount, venue: Venue) -> None:
    venue.bodies["/fapi/v1/allOrders"] = REST["openOrders"]
    began = START_MS - 60_000
    answer = await account.fetch_check(CheckScope(None, True, began))
    snapshot = await account.fetch_snapshot()
    assert answer.orders == snapshot.orders
    assert answer.order_symbols is None
    assert answer.symbol_configs == snapshot.symbol_configs
    assert answer.multi_assets is snapshot.multi_assets
    assert len(answer.created) == len(REST["openOrders"])
    (asked,) = (request for request in venue.requests if request.path == "/fapi/v1/allOrders")
    assert (asked.query["startTime"], asked.query["limit"]) == (str(began), "1000")


async def test_conditional_orders_are_asked_for_symbol_by_symbol(account: BinanceAccount, venue: Venue) -> None:
    path = "/fapi/v1/allAlgoOrders"
    venue.bodies[path] = REST["openAlgoOrders"]
    venue.next[path] = [lambda _: answer({"code": -1121, "msg": "Invalid symbol."}, 400)]
    since = (("GONEUSDT", START_MS - 9), ("BTCUSDT", START_MS - 7))
    told = await account.fetch_check(CheckScope(conditional_since_ms=since))
    assert sorted(order.order_id for order in told.created) == sorted(
        order.order_id for order in (await account.fetch_snapshot()).orders if order.algo_id
    )
    asked = {request.query["symbol"]: request.query["startTime"] for request in venue.requests if request.path == path}
    assert asked == {symbol: str(since_ms) for symbol, since_ms in since}


async def test_conditional_orders_of_a_symbol_that_the_venue_refuses_are_not_listed_until_now(
    account: BinanceAccount, venue: Venue
) -> None:
    """The log would be complete until then by the word of a list that nobody has seen."""
    refusals = [("XUSDT", -1121, "Invalid symbol."), ("BTCUSDT", -4104, "Invalid contract type")]
    codes = {symbol: {"code": code, "msg": text} for symbol, code, text in refusals}
    venue.next["/fapi/v1/allAlgoOrders"] = [lambda asked: answer(codes[asked.query["symbol"]], 400)] * 4
    scope = CheckScope(conditional_since_ms=(("XUSDT", START_MS - 9), ("BTCUSDT", START_MS - 7)))
    with structlog.testing.capture_logs() as lines:
        for _ in range(2):
            told = await account.fetch_check(scope)
            assert told.conditional_until_ms == {"XUSDT": told.taken_ms}
    assert [(line["event"], line["log_level"], line["symbol"]) for line in lines] == [
        ("history_refused", "warning", "BTCUSDT")
    ]


@pytest.mark.parametrize("has_weight", [True, False])
async def test_created_orders_are_listed_page_by_page_as_far_as_the_weight_goes(
    account: BinanceAccount, venue: Venue, has_weight: bool
) -> None:
    began = START_MS - HOUR_MS
    rows = [{**ORDER, "orderId": n, "time": began + n // 3} for n in range(2500)]

    def page(request: web.Request) -> web.StreamResponse:
        if not has_weight:
            account.limits.learn("2249", venue.now_ms(), venue.now_ms())
        since_ms, until_ms = int(request.query["startTime"]), int(request.query["endTime"])
        found = [row for row in rows if since_ms <= row["time"] <= until_ms]
        return answer(found[: int(request.query["limit"])])

    venue.next["/fapi/v1/allOrders"] = [page] * 20
    told = await account.fetch_check(CheckScope(created_since_ms=began))
    listed = {order.order_id for order in told.created}
    assert listed == {str(n) for n in range(2500 if has_weight else 1000)}
    assert told.created_until_ms == (told.taken_ms if has_weight else began), "a full page proves nothing"
    assert venue.count("/fapi/v1/allOrders") <= (12 if has_weight else 1)


@pytest.mark.parametrize("path", ["/fapi/v1/openOrders", "/fapi/v1/openAlgoOrders"])
async def test_a_delisted_symbol_is_left_out_of_a_check_and_holds_nothing_up(
    account: BinanceAccount, venue: Venue, path: str
) -> None:
    """What the symbol's orders are now, the check does not say."""
    gone = {"code": -1121, "msg": "Invalid symbol."}
    queued = venue.bodies[path]
    venue.next[path] = [lambda asked: answer(gone, 400) if asked.query["symbol"] == "GONEUSDT" else answer(queued)] * 2
    told = await account.fetch_check(CheckScope(frozenset({"BTCUSDT", "GONEUSDT"})))
    assert told.order_symbols == {"BTCUSDT"}
    assert {order.symbol for order in told.orders} == {"BTCUSDT"}


async def test_conditional_orders_are_asked_for_one_by_one(account: BinanceAccount, venue: Venue) -> None:
    path, row = "/fapi/v1/algoOrder", REST["openAlgoOrders"][0]
    venue.bodies[path] = row | {"algoStatus": "FINISHED"}
    venue.next[path] = [lambda _: answer({"code": -2013, "msg": "Order does not exist."}, 400)]
    told = await account.fetch_check(CheckScope(by_id=(OrderKey("BTCUSDT", "algo-5"), OrderKey("BTCUSDT", "algo-7"))))
    assert [(order.algo_id, order.status) for order in told.created] == [(str(row["algoId"]), "FINISHED")]
    assert sorted(request.query["algoId"] for request in venue.requests if request.path == path) == ["5", "7"]


async def test_open_orders_of_a_few_symbols_cost_little(account: BinanceAccount, venue: Venue) -> None:
    answer = await account.fetch_check(CheckScope(frozenset({"BTCUSDT", "ETHUSDT"})))
    asked = [request for request in venue.requests if request.path.startswith("/fapi/v1/open")]
    assert sorted(request.query["symbol"] for request in asked) == ["BTCUSDT", "BTCUSDT", "ETHUSDT", "ETHUSDT"]
    assert answer.order_symbols == {"BTCUSDT", "ETHUSDT"}
    assert (answer.symbol_configs, answer.multi_assets, answer.created) == (None, None, ())


async def test_a_venue_that_wants_a_symbol_with_allorders_is_not_asked_again(
    account: BinanceAccount, venue: Venue
) -> None:
    missing = {"code": -1102, "msg": "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."}
    venue.next["/fapi/v1/allOrders"] = [lambda _: answer(missing, 400)]
    for _ in range(2):
        told = await account.fetch_check(CheckScope(None, True, START_MS - 60_000))
        assert told.created == ()
        assert told.orders
    assert venue.count("/fapi/v1/allOrders") == 1


async def test_refresh_is_light(account: BinanceAccount, venue: Venue) -> None:
    got = await account.fetch_check()
    assert (len(got.balances), len(got.positions), got.positions[0].leverage) == (1, 1, None)
    assert [r.path for r in venue.requests] == ["/fapi/v1/time", "/fapi/v3/account", "/fapi/v3/positionRisk"]


async def test_answer_that_cannot_be_understood(account: BinanceAccount, venue: Venue) -> None:
    venue.bodies["/fapi/v3/account"] = {"assets": 5}
    assert isinstance(await failure(account.fetch_check()), FrameError)


async def test_snapshot_that_the_minute_cannot_pay_is_not_begun(venue: Venue, clock: JumpingClock) -> None:
    client = new_account(venue.url, clock, WeightBudget(limit=110, reserve=10))
    async with aclosing(client):
        await client.clock.sync()
        error = await failure(client.fetch_snapshot())
    assert isinstance(error, RateLimited)
    assert str(error) == "binance: snapshot: not sent, the limits of the venue allow it in 50.0 s"
    assert len(venue.requests) == 1


async def test_figures_leave_the_weight_of_the_next_comparison_and_urgent_ones_have_a_larger_share(
    venue: Venue, clock: JumpingClock
) -> None:
    """100 for open orders and settings, 10 for figures; others are on their way to all that is not reserved."""
    everything = CheckScope(None, settings=True)
    limits = WeightBudget()
    client = new_account(venue.url, clock, limits)
    async with aclosing(client):
        await client.fetch_check(everything)
        limits.spend(300 - 100 - 10 - limits.own(venue.now_ms()), venue.now_ms())
        limits.learn("940", venue.now_ms(), venue.now_ms())
        await client.fetch_check()
        error = await failure(client.fetch_check())
        assert isinstance(error, LimitReached)
        await client.fetch_check(everything)
        assert isinstance(await failure(client.fetch_check(everything)), LimitReached)
        await client.fetch_check(everything._replace(urgent=True))


@pytest.mark.parametrize("step_ms", [-3_600_000, -2_000, 60_000])
async def test_a_clock_that_is_set_during_a_session_costs_one_more_question(
    account: BinanceAccount, venue: Venue, step_ms: int
) -> None:
    await account.fetch_check()
    probes = venue.count("/fapi/v1/time")
    venue.ahead_ms = step_ms
    snapshot = await account.fetch_snapshot()
    assert abs(snapshot.taken_ms - venue.now_ms()) <= 5
    assert venue.count("/fapi/v1/time") == probes + 1


async def test_refused_timestamp_corrects_the_clock_once_for_all_calls(account: BinanceAccount, venue: Venue) -> None:
    await account.clock.sync()
    venue.ahead_ms = 30_000
    got = await account.fetch_snapshot()
    assert venue.count("/fapi/v1/time") == 2
    assert got.taken_ms == venue.now_ms(), "taken by the corrected clock"


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
    account: BinanceAccount, venue: Venue, status: int, document: object, headers: dict[str, str], wait_ms: int
) -> None:
    await account.clock.sync()
    venue.next["/fapi/v1/listenKey"] = [lambda _: answer(document, status, **headers)]
    error = await failure(account._rest.create_listen_key())
    assert isinstance(error, RateLimited)
    assert error.retry_at_ms == START_MS + wait_ms
    sent = len(venue.requests)
    for other in (account.fetch_snapshot, account.fetch_check, account._rest.create_listen_key, account.clock.sync):
        again = await failure(other())
        assert isinstance(again, RateLimited)
        assert again.retry_at_ms == START_MS + wait_ms
    assert len(venue.requests) == sent, "nothing is sent while the venue wants silence"
    venue.clock.elapsed_s += wait_ms / 1000
    await account.fetch_snapshot()


@pytest.mark.parametrize("step_ms", [-7_200_000, 7_200_000])
async def test_silence_that_was_asked_for_before_the_venues_time_was_known_lasts_as_long(
    account: BinanceAccount, venue: Venue, step_ms: int
) -> None:
    """The machine's clock is hours away from the venue's."""
    venue.ahead_ms = step_ms
    venue.next["/fapi/v1/time"] = [lambda _: answer({"code": -1003, "msg": "Too many requests"}, 429, Retry_After="7")]
    assert isinstance(await failure(account.fetch_snapshot()), RateLimited)
    venue.clock.elapsed_s += 6.9
    assert isinstance(await failure(account.fetch_snapshot()), RateLimited)
    assert len(venue.requests) == 1
    venue.clock.elapsed_s += 0.1
    await account.fetch_snapshot()


async def test_the_end_of_a_ban_is_reckoned_by_the_venues_date_while_its_time_is_unknown(
    account: BinanceAccount, venue: Venue, clock: JumpingClock
) -> None:
    venue.ahead_ms = 3_600_000  # this machine is an hour behind
    until_ms = venue.now_ms() + 90_000
    banned = {"code": -1003, "msg": f"Way too many requests; IP banned until {until_ms}."}
    date = formatdate(venue.now_ms() / 1000, usegmt=True)
    venue.next["/fapi/v1/time"] = [lambda _: answer(banned, 418, Date=date)]
    error = await failure(account.fetch_check())
    assert isinstance(error, RateLimited)
    assert 89_000 <= error.retry_at_ms - account.clock.now_ms() <= 91_000
    clock.elapsed_s += 92
    assert await account.fetch_check()


async def test_a_key_that_only_reads_may_nothing_else(account: BinanceAccount, venue: Venue) -> None:
    assert await account.check_key() == KeyReport()
    path = "/sapi/v1/account/apiRestrictions"
    venue.bodies[path] = REST["apiRestrictions"] | {
        "enableFutures": True,
        "enableWithdrawals": True,
        "enableMore": True,
    }
    assert await account.check_key() == KeyReport(("trade", "withdraw", "enableMore"))


@pytest.mark.parametrize("asked_before", [False, True])
async def test_a_portfolio_margin_account_is_refused(account: BinanceAccount, venue: Venue, asked_before: bool) -> None:
    if asked_before:
        await account.check_key()
    path = "/sapi/v1/account/apiRestrictions"
    venue.bodies[path] = REST["apiRestrictions"] | {"enablePortfolioMarginTrading": True}
    error = await failure(account.check_key())
    assert isinstance(error, AuthFailed)
    assert "Portfolio Margin" in str(error)
    if asked_before:
        await account.fetch_snapshot(consistent=True)
    else:
        assert isinstance(await failure(account.fetch_snapshot(consistent=True)), AuthFailed)


async def test_who_reads_without_a_stream_is_served_though_the_host_of_permissions_fails(
    account: BinanceAccount, venue: Venue
) -> None:
    path = "/sapi/v1/account/apiRestrictions"
    venue.next[path] = [lambda _: answer({"code": -2015, "msg": "Invalid API-key"}, 401)] * 2
    assert await account.fetch_snapshot(consistent=True)
    assert isinstance(await failure(account.check_key()), AuthFailed)


async def test_the_private_stream_has_one_connection_and_a_listen_key(account: BinanceAccount, venue: Venue) -> None:
    async with account.user_streams() as streams:
        (spec,) = streams.specs
    assert spec.url.reveal().endswith(f"/private/ws?listenKey={LISTEN_KEY}")
    assert LISTEN_KEY not in repr(spec) + str(spec)
    assert isinstance(spec.session(), UserSession)
    assert [request.path for request in venue.requests] == ["/fapi/v1/time", "/fapi/v1/listenKey"]


@pytest.mark.parametrize("count", [2, 1_000])
async def test_mark_prices_of_as_many_symbols_as_fit_stand_in_the_url(account: BinanceAccount, count: int) -> None:
    symbols = frozenset(f"S{number}USDT" for number in range(count))
    url, session = account.market_stream(symbols)
    assert url.reveal().count("@markPrice@1s") == len(wire.url_symbols(symbols))
    assert len(session.opened(0)) == (0 if len(wire.url_symbols(symbols)) == count else 1)


@pytest.mark.parametrize(
    ("wanted", "last", "deleted"), [(True, True, True), (True, False, False), (False, True, False)]
)
async def test_the_listen_key_ends_with_the_last_publisher_where_that_is_wanted(
    venue: Venue, clock: JumpingClock, wanted: bool, last: bool, deleted: bool
) -> None:
    venue.bodies["/fapi/v1/listenKey"] = {}
    await new_account(venue.url, clock, delete_listen_key=wanted).aclose(last=last)
    assert [request.method for request in venue.requests] == (["DELETE"] if deleted else [])


async def test_a_listen_key_that_cannot_be_deleted_is_no_error(venue: Venue, clock: JumpingClock) -> None:
    venue.next["/fapi/v1/listenKey"] = [lambda _: answer({}, 503)]
    await new_account(venue.url, clock, delete_listen_key=True).aclose(last=True)


@pytest.mark.parametrize("status", [403, 404])
async def test_host_without_key_permissions(account: BinanceAccount, venue: Venue, status: int) -> None:
    page = web.Response
    venue.next["/sapi/v1/account/apiRestrictions"] = [
        lambda _: page(status=status, text="<html>", content_type="text/html")
    ]
    assert await account.check_key() is None


@pytest.mark.parametrize("status", [403, 418, 429])
async def test_the_limits_of_another_host_silence_no_call_but_that_hosts(
    venue: Venue, clock: JumpingClock, status: int
) -> None:
    other = venue.url.replace("127.0.0.1", "localhost")
    urls = replace(urls_of(venue.url), sapi=other, sapi_may_be_absent=False)
    account = BinanceAccount(urls, Secret(KEY), Secret(SECRET), clock, WeightBudget())
    venue.next["/sapi/v1/account/apiRestrictions"] = [lambda _: web.Response(status=status, text="<html>")]
    assert isinstance(await failure(account.check_key()), RateLimited)
    assert await account._rest.create_listen_key()
    await account.aclose()


async def test_only_what_must_be_signed_carries_the_key(account: BinanceAccount, venue: Venue) -> None:
    await account.fetch_snapshot()
    await account._rest.create_listen_key()
    for request in venue.requests:
        public = request.path in ("/fapi/v1/time", "/fapi/v1/exchangeInfo")
        assert ("X-MBX-APIKEY" in request.headers) is not public
        assert ("signature" in request.query) is (not public and request.path != "/fapi/v1/listenKey")


async def test_no_log_line_holds_a_secret(account: BinanceAccount, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await account.fetch_snapshot()
    await account._rest.create_listen_key()
    assert "/fapi/v3/account" in caplog.text, "httpx does log, so that this test can fail"
    for secret in ("signature", "timestamp=", KEY, SECRET, LISTEN_KEY):
        assert secret not in caplog.text


async def test_one_row_that_cannot_be_understood_costs_no_other(account: BinanceAccount, venue: Venue) -> None:
    (row,) = REST["positionRisk"]
    venue.bodies["/fapi/v3/positionRisk"] = [row, {**row, "symbol": "ETHUSDT", "positionAmt": None}]
    venue.bodies["/fapi/v1/symbolConfig"] = [*REST["symbolConfig"], {"symbol": "XUSDT", "leverage": None}]
    got = await account.fetch_snapshot()
    assert [position.symbol for position in got.positions] == ["BTCUSDT"]
    leverage, margin_type, position = got.unreadable
    assert position.key == PositionKey("ETHUSDT", "BOTH")
    assert position.text.startswith("position ETHUSDT BOTH: ")
    assert [leverage.key, margin_type.key] == [None, None]
    check = await account.fetch_check(CheckScope(order_symbols=None, settings=True))
    assert set(check.unreadable) == set(got.unreadable)


async def test_who_has_no_stream_is_not_given_a_snapshot_in_which_a_row_is_missing(
    account: BinanceAccount, venue: Venue
) -> None:
    venue.bodies["/fapi/v1/openOrders"] = [{**REST["openOrders"][0], "side": None}]
    assert len((await account.fetch_snapshot()).unreadable) == 1
    error = await failure(account.fetch_snapshot(consistent=True))
    assert str(error).startswith("frame snapshot: a row: order BTCUSDT:8886774001: the venue's answer cannot be und")


async def test_an_update_time_that_makes_no_sense_is_no_reason_to_refuse_a_snapshot(
    account: BinanceAccount, venue: Venue
) -> None:
    (row,) = REST["positionRisk"]
    whole = REST["account"]
    venue.bodies["/fapi/v3/positionRisk"] = [{**row, "updateTime": -1}]
    venue.bodies["/fapi/v3/account"] = {**whole, "positions": [{**whole["positions"][0], "updateTime": -1}]}
    got = await account.fetch_snapshot(consistent=True)
    assert [position.stamp.venue_time_ms for position in got.positions] == [0]


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, START_MS * 1000], ids=["an hour", "microseconds"])
async def test_an_update_time_of_the_future_makes_no_figure_younger_than_its_answer(
    account: BinanceAccount, venue: Venue, ahead_ms: int
) -> None:
    """What the stream sends next would look older, and prices would stand still while the state is live."""
    (row,), whole = REST["positionRisk"], REST["account"]
    venue.bodies["/fapi/v3/positionRisk"] = [row, {**row, "symbol": "ETHUSDT", "updateTime": START_MS + ahead_ms}]
    asset = {**whole["assets"][0], "updateTime": START_MS + ahead_ms}
    venue.bodies["/fapi/v3/account"] = {**whole, "assets": [asset]}
    got = await account.fetch_snapshot()
    for one in (got, await account.fetch_check()):
        assert {row.mark_price_time_ms for row in one.positions} == {START_MS - wire.REST_RECENT_MS}
        assert one.totals.available_balance_time_ms == START_MS - wire.REST_RECENT_MS
    ours = followed_account()
    ours.apply((replace(got, stream_since_ms=START_MS),), "rest")
    ours.apply((MarkPriceUpdate("ETHUSDT", Decimal(3000), START_MS + 1),), "stream")
    assert [row.mark_price for row in ours.positions.values() if row.symbol == "ETHUSDT"] == [3000]
