"""Calls against a real HTTP server over loopback: what is sent, what comes back, and that nothing leaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from aiohttp import web
from support.binance_rest import (
    KEY,
    LISTEN_KEY,
    SECRET,
    JumpingClock,
    Venue,
    answer,
    answering,
    failure,
    new_rest,
)

from statecast.errors import AuthFailed, ConfigError, RateLimited, Rejected, VenueUnreachable
from statecast.secret import Secret
from statecast.venues.binance import wire
from statecast.venues.binance.limits import WeightBudget
from statecast.venues.binance.rest import BinanceRest


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture
async def venue(clock: JumpingClock) -> AsyncIterator[Venue]:
    async with answering(clock) as venue:
        yield venue


@pytest.fixture
async def rest(venue: Venue, clock: JumpingClock) -> AsyncIterator[BinanceRest]:
    rest = new_rest(venue.url, clock)
    await rest.clock.ensure()
    yield rest
    await rest.aclose()


async def test_timestamp_refused_again_and_again_is_no_refusal_of_what_was_asked(
    rest: BinanceRest, venue: Venue
) -> None:
    refusal = {"code": -1021, "msg": "Timestamp for this request is outside of the recvWindow."}
    venue.next["/fapi/v3/account"] = [lambda _: answer(refusal, 400)] * 10
    error = await failure(rest.read(wire.ACCOUNT))
    assert isinstance(error, VenueUnreachable)
    assert "-1021" in str(error)


async def test_listen_key_is_created_and_kept_alive_by_the_same_call(rest: BinanceRest, venue: Venue) -> None:
    assert await rest.create_listen_key() == await rest.create_listen_key() == Secret(LISTEN_KEY)
    assert all(request.method == "POST" and not request.query_string for request in venue.requests[1:])


async def test_deleting_a_dead_listen_key_is_no_error(rest: BinanceRest, venue: Venue) -> None:
    venue.bodies["/fapi/v1/listenKey"] = {}
    await rest.delete_listen_key()
    venue.next["/fapi/v1/listenKey"] = [lambda _: answer({"code": -1125, "msg": "This listenKey does not exist."}, 400)]
    await rest.delete_listen_key()
    assert [request.method for request in venue.requests[1:]] == ["DELETE", "DELETE"]


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
    error = await failure(rest.read(wire.ACCOUNT))
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
    await rest.read(wire.ACCOUNT)
    assert clock.slept == [0.25, 0.5]


async def test_trouble_that_lasts_is_reported(rest: BinanceRest, venue: Venue) -> None:
    venue.next["/fapi/v3/account"] = [lambda _: answer({}, 502)] * 3
    assert isinstance(await failure(rest.read(wire.ACCOUNT)), VenueUnreachable)
    assert venue.count("/fapi/v3/account") == 3


@pytest.mark.parametrize("status", [200, 202, 301, 404, 500])
async def test_page_in_place_of_json_names_its_content_type(rest: BinanceRest, venue: Venue, status: int) -> None:
    page = web.Response
    venue.next["/fapi/v3/account"] = [lambda _: page(status=status, text="<html>", content_type="text/html")] * 3
    error = await failure(rest.read(wire.ACCOUNT))
    assert isinstance(error, VenueUnreachable)
    assert f"HTTP {status}, not JSON (content type text/html" in str(error)


@pytest.mark.parametrize("code", [-1008, -1015, -1016])
async def test_overload_pauses_this_call_alone(rest: BinanceRest, venue: Venue, code: int) -> None:
    venue.next["/fapi/v3/account"] = [lambda _: answer({"code": code, "msg": "Server is currently overloaded."}, 503)]
    assert isinstance(await failure(rest.read(wire.ACCOUNT)), RateLimited)
    await rest.create_listen_key()


async def test_nobody_listens(clock: JumpingClock) -> None:
    client = new_rest("http://127.0.0.1:1", clock)
    async with aclosing(client):
        error = await failure(client.create_listen_key())
    assert str(error) == "binance: POST /fapi/v1/listenKey: no answer (ConnectError)"


async def test_what_the_server_repeats_is_scrubbed(rest: BinanceRest, venue: Venue) -> None:
    await rest.create_listen_key()
    signatures: list[str] = []

    def echo(request: web.Request) -> web.StreamResponse:
        signatures.append(request.query["signature"])
        said = f"{request.path_qs} {request.headers['X-MBX-APIKEY']} {LISTEN_KEY} {SECRET}\n"
        return answer({"code": -1100, "msg": said[said.index("timestamp") :]}, 400)

    venue.next["/fapi/v3/account"] = [echo]
    with pytest.raises(Rejected) as caught:
        await rest.read(wire.ACCOUNT)
    shown = str(caught.value)
    assert "***" in shown
    for secret in (*signatures, KEY, SECRET, LISTEN_KEY, "\n"):
        assert secret not in shown


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "schlüssel"])
def test_key_that_cannot_be_a_header_is_a_wrong_setting(key: str) -> None:
    urls = wire.BinanceUrls.choose(False, None, None, None, None)
    with pytest.raises(ConfigError, match="STATECAST_API_KEY") as caught:
        BinanceRest(urls, Secret(key), Secret(SECRET), JumpingClock(), WeightBudget())
    assert not key or key not in str(caught.value)
