"""Binance's facts, and what settings say of one account there."""

from __future__ import annotations

from pathlib import Path

import pytest

from statecast.clock import SystemClock
from statecast.errors import AuthFailed, ConfigError
from statecast.venues.adapter import Endpoints
from statecast.venues.binance import wire
from statecast.venues.binance.account import BinanceAccount
from statecast.venues.binance.venue import TRAITS, BinanceAccess, BinanceVenue

KEYS = {"API_KEY": "the-api-key", "API_SECRET": "the-api-secret"}
VENUE = BinanceVenue()


def given(**values: str) -> BinanceAccess:
    found = VENUE.access(KEYS | values)
    assert found is not None
    return found


def test_without_credentials_there_is_no_access_and_no_error() -> None:
    assert VENUE.access({}) is None
    assert VENUE.access({"REST_URL": "http://127.0.0.1:8900", "TESTNET": "true"}) is None


def test_credentials_give_access_to_the_venue_itself() -> None:
    found = given()
    assert found.venue == "binance"
    assert (found.api_key.reveal(), found.api_secret.reveal()) == ("the-api-key", "the-api-secret")
    assert found.urls.rest == "https://fapi.binance.com"
    assert found.urls.private_ws == "wss://fstream.binance.com"
    assert not found.delete_listen_key


def test_credentials_may_stand_in_files(tmp_path: Path) -> None:
    for name in ("key", "secret"):
        (tmp_path / name).write_text(f"from-{name}\n", "utf-8")
    found = VENUE.access({"API_KEY_FILE": str(tmp_path / "key"), "API_SECRET_FILE": str(tmp_path / "secret")})
    assert found is not None
    assert (found.api_key.reveal(), found.api_secret.reveal()) == ("from-key", "from-secret")


def test_every_setting_of_its_own_arrives() -> None:
    found = given(
        REST_URL="http://127.0.0.1:8900",
        WS_URL="ws://127.0.0.1:8901",
        MARKET_WS_URL="ws://127.0.0.1:8902",
        BINANCE_PRIVATE_PATH="/x/{listen_key}",
        DELETE_LISTEN_KEY="yes",
    )
    urls = found.urls
    assert (urls.rest, urls.sapi) == ("http://127.0.0.1:8900", "http://127.0.0.1:8900")
    assert (urls.private_ws, urls.market_ws) == ("ws://127.0.0.1:8901", "ws://127.0.0.1:8902")
    assert urls.private_path == "/x/{listen_key}"
    assert found.delete_listen_key
    assert given(TESTNET="true").urls.rest == "https://demo-fapi.binance.com"


def test_endpoints_need_no_credentials() -> None:
    assert VENUE.endpoints({}) == Endpoints("https://fapi.binance.com", "wss://fstream.binance.com")
    own = VENUE.endpoints({"REST_URL": "http://127.0.0.1:8900", "WS_URL": "ws://127.0.0.1:8901"})
    assert own == Endpoints("http://127.0.0.1:8900", "ws://127.0.0.1:8901")
    assert VENUE.endpoints({"TESTNET": "1"}).rest == "https://demo-fapi.binance.com"


def test_one_credential_without_the_other_is_refused_and_named() -> None:
    with pytest.raises(ConfigError) as refused:
        VENUE.access({"API_KEY": "the-api-key"})
    assert str(refused.value) == (
        "STATECAST_API_SECRET is not set; accepted: the secret of a reading-only API key, or "
        "STATECAST_API_SECRET_FILE; without keys, try `statecast demo`"
    )
    with pytest.raises(ConfigError, match="STATECAST_API_KEY is not set"):
        VENUE.access({"API_SECRET": "the-api-secret"})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"TESTNET": "perhaps"}, "STATECAST_TESTNET is 'perhaps'; accepted: true or false"),
        ({"DELETE_LISTEN_KEY": "2"}, "STATECAST_DELETE_LISTEN_KEY is '2'; accepted: true or false"),
        ({"REST_URL": "ftp://x"}, "STATECAST_REST_URL"),
        ({"BINANCE_PRIVATE_PATH": "no"}, "STATECAST_BINANCE_PRIVATE_PATH is 'no'"),
    ],
)
def test_what_cannot_work_is_named(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        given(**values)
    assert str(refused.value).startswith(sentence)
    assert "the-api" not in repr(refused.value)


def test_no_credential_is_ever_shown_and_another_key_has_another_name() -> None:
    found = given()
    assert "the-api" not in repr(found) + str(found) + found.credentials_name
    assert found.credentials_name != given(API_KEY="another").credentials_name


def test_weight_is_counted_by_host() -> None:
    assert given().limits_name == given(API_KEY="another").limits_name
    assert given().limits_name != given(TESTNET="true").limits_name


async def test_it_makes_the_account_and_refuses_what_cannot_be_sent() -> None:
    limits = VENUE.limits()
    account = VENUE.account(given(), SystemClock(), limits)
    assert isinstance(account, BinanceAccount)
    assert account.limits is limits
    await account.aclose()
    with pytest.raises(ConfigError, match="STATECAST_API_KEY") as refused:
        VENUE.account(given(API_KEY="schlüssel"), SystemClock(), limits)
    assert "schlüssel" not in repr(refused.value)


def test_a_refusal_comes_with_advice() -> None:
    assert VENUE.advice(AuthFailed("binance", "GET /x", "no", -1022)) == "check STATECAST_API_SECRET"


def test_facts_that_depend_on_each_other_agree() -> None:
    """Whoever changes one of them has to look at the other."""
    assert TRAITS.history.unfilled_kept_ms <= TRAITS.history.kept_ms
    assert wire.HISTORY_SPAN_MS < 7 * wire.DAY_MS, "the venue refuses a window of seven days"
    assert 2 * TRAITS.clock_error_ms <= 1000, "from 1,000 ms ahead on every signed call is refused"
    assert TRAITS.stream.connects <= 300 / 2, "half of the attempts that the venue allows are the bots'"
    assert TRAITS.stream.max_silence_s > 180, "the venue pings every three minutes"
    assert TRAITS.history_lag_ms >= TRAITS.rest_lag_ms >= TRAITS.rest_recent_ms
    assert TRAITS.checks.orders_by_symbol * 2 < wire.OPEN_ORDERS.weight + wire.OPEN_ALGO_ORDERS.weight
