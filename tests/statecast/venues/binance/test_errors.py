"""What an answer means: the document, or the error that says who must act."""

from __future__ import annotations

import pytest

from statecast.errors import AuthFailed, RateLimited, Rejected, VenueError, VenueUnreachable
from statecast.venues.binance.errors import (
    FIREWALL_PAUSE_MS,
    Silence,
    advice,
    judged,
    refuse_portfolio_margin,
)
from statecast.venues.binance.snapshot import KeyPermissions
from statecast.venues.http import Answer

NOW_MS = 1_793_000_050_000
REST_OF_MINUTE_MS = 60_000 - NOW_MS % 60_000


def judge(status: int, document: object, *, is_json: bool = True, clock_known: bool = True, **headers: str) -> object:
    answer = Answer(status, {name.replace("_", "-"): text for name, text in headers.items()}, document, is_json)
    return judged("GET /x", answer, NOW_MS, clock_known=clock_known, scrub=lambda text: text.replace("secret", "***"))


def error_of(status: int, document: object, **options: object) -> VenueError:
    with pytest.raises(VenueError) as error:
        judge(status, document, **options)  # type: ignore[arg-type]
    return error.value


@pytest.mark.parametrize("document", [{}, [], {"code": 200, "msg": "success"}, {"code": "-1121"}])
def test_a_good_answer_is_its_document(document: object) -> None:
    assert judge(200, document) is document


@pytest.mark.parametrize(
    ("status", "document", "kind", "code"),
    [
        (401, {"code": -2015, "msg": "Invalid API-key."}, AuthFailed, -2015),
        (400, {"code": -1099, "msg": "Not found, unauthenticated."}, AuthFailed, -1099),
        (401, {}, AuthFailed, 401),
        (451, {"msg": "restricted location"}, AuthFailed, 451),
        (400, {"code": -1121, "msg": "Invalid symbol."}, Rejected, -1121),
        (400, {"code": -2017, "msg": "API Keys are locked."}, Rejected, -2017),
        (400, {"code": -2023, "msg": "User in liquidation mode now."}, Rejected, -2023),
        (200, {"code": -1121, "msg": "Invalid symbol."}, Rejected, -1121),
        (403, {"code": -1121, "msg": "Invalid symbol."}, Rejected, -1121),
        (404, {"path": "/"}, Rejected, 404),
    ],
)
def test_a_refusal_says_who_must_act(status: int, document: object, kind: type[Rejected], code: int) -> None:
    error = error_of(status, document)
    assert type(error) is kind
    assert error.code == code  # type: ignore[attr-defined]
    assert str(error).startswith(f"binance: GET /x: HTTP {status}")


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (400, {"code": -1001, "msg": "Internal error."}),
        (503, {"code": -1000, "msg": "Unknown error."}),
        (503, {"msg": "Service Unavailable."}),
        (400, {"code": -1006, "msg": "An unexpected response."}),
        (400, {"code": -1007, "msg": "Timeout waiting."}),
        (408, {}),
    ],
)
def test_trouble_of_the_venue_passes(status: int, document: object) -> None:
    assert type(error_of(status, document)) is VenueUnreachable


@pytest.mark.parametrize("status", [200, 202, 301, 404, 500])
def test_a_page_in_place_of_json_is_no_answer(status: int) -> None:
    error = error_of(status, None, is_json=False, content_type="text/html")
    assert type(error) is VenueUnreachable
    assert str(error) == f"binance: GET /x: HTTP {status}, not JSON (content type text/html)"


@pytest.mark.parametrize(
    ("status", "document", "headers", "wait_ms"),
    [
        (429, {"code": -1003, "msg": "Too many requests"}, {"retry_after": "7"}, 7_000),
        (429, {"code": -1003, "msg": f"banned until {NOW_MS + 9_000}."}, {}, 9_000),
        (400, {"code": -1003, "msg": "busy"}, {}, REST_OF_MINUTE_MS),
        (418, {}, {}, 120_000),
        (403, {}, {}, FIREWALL_PAUSE_MS),
    ],
)
def test_a_wish_for_silence_is_for_every_call(
    status: int, document: object, headers: dict[str, str], wait_ms: int
) -> None:
    error = error_of(status, document, **headers)
    assert isinstance(error, Silence)
    assert error.retry_at_ms == NOW_MS + wait_ms


@pytest.mark.parametrize("code", [-1008, -1015, -1016])
def test_overload_is_for_this_call_alone(code: int) -> None:
    error = error_of(503, {"code": code, "msg": "Server is currently overloaded."})
    assert type(error) is RateLimited
    assert error.retry_at_ms == NOW_MS + REST_OF_MINUTE_MS


def test_the_end_of_a_ban_is_reckoned_by_the_answers_date_while_the_venues_time_is_unknown() -> None:
    document = {"code": -1003, "msg": "banned until 1792920940000."}
    date = "Sun, 25 Oct 2026 09:34:10 GMT"  # 90 s before
    error = error_of(418, document, clock_known=False, date=date)
    assert isinstance(error, Silence)
    assert error.retry_at_ms == NOW_MS + 90_000


def test_what_the_server_says_is_scrubbed() -> None:
    assert str(error_of(400, {"code": -1100, "msg": "the secret"})).endswith("code -1100: the ***")
    assert "***" in str(error_of(500, None, is_json=False, content_type="secret"))


def permissions(*, portfolio_margin: bool) -> KeyPermissions:
    return KeyPermissions(can_trade=False, can_withdraw=False, extra=(), portfolio_margin=portfolio_margin)


def test_a_portfolio_margin_account_is_the_operators_to_change() -> None:
    refuse_portfolio_margin(None)
    refuse_portfolio_margin(permissions(portfolio_margin=False))
    with pytest.raises(AuthFailed, match="Portfolio Margin") as refused:
        refuse_portfolio_margin(permissions(portfolio_margin=True))
    assert advice(refused.value) == "check the API key and the account at the venue"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-2014, "check STATECAST_API_KEY"),
        (-1002, "check STATECAST_API_KEY"),
        (-2015, "its permission to read futures"),
        (-1022, "check STATECAST_API_SECRET"),
        (-4109, "a transfer into it activates it"),
        (451, "does not serve this location"),
        (401, "check the API key and the account"),
    ],
)
def test_the_operator_is_told_what_to_do(code: int, words: str) -> None:
    assert words in advice(AuthFailed("binance", "GET /x", "no", code))
