from __future__ import annotations

from pathlib import Path

import pytest
from statecast.venues.access import Access, access, missing, venue

from statecast.clock import SystemClock
from statecast.errors import ConfigError
from statecast.venues.binance.rest import BinanceRest

KEYS = {"API_KEY": "the-api-key", "API_SECRET": "the-api-secret"}


def given(**values: str) -> Access:
    found = access(KEYS | values)
    assert found is not None
    return found


def test_without_credentials_there_is_no_access_and_no_error() -> None:
    assert access({}) is None
    assert access({"REST_URL": "http://127.0.0.1:8900", "TESTNET": "true"}) is None


def test_credentials_give_access_to_the_venue_itself() -> None:
    found = given()
    assert found.venue == "binance"
    assert (found.api_key.reveal(), found.api_secret.reveal()) == ("the-api-key", "the-api-secret")
    assert found.urls.rest == "https://fapi.binance.com"
    assert found.urls.private_ws == "wss://fstream.binance.com"


def test_credentials_may_stand_in_files(tmp_path: Path) -> None:
    for name in ("key", "secret"):
        (tmp_path / name).write_text(f"from-{name}\n", "utf-8")
    found = access({"API_KEY_FILE": str(tmp_path / "key"), "API_SECRET_FILE": str(tmp_path / "secret")})
    assert found is not None
    assert (found.api_key.reveal(), found.api_secret.reveal()) == ("from-key", "from-secret")


def test_every_host_can_be_another() -> None:
    urls = given(
        REST_URL="http://127.0.0.1:8900",
        WS_URL="ws://127.0.0.1:8901",
        MARKET_WS_URL="ws://127.0.0.1:8902",
        BINANCE_PRIVATE_PATH="/x/{listen_key}",
    ).urls
    assert (urls.rest, urls.sapi) == ("http://127.0.0.1:8900", "http://127.0.0.1:8900")
    assert (urls.private_ws, urls.market_ws) == ("ws://127.0.0.1:8901", "ws://127.0.0.1:8902")
    assert urls.private_path == "/x/{listen_key}"
    assert given(TESTNET="true").urls.rest == "https://demo-fapi.binance.com"


def test_one_credential_without_the_other_is_refused_and_named() -> None:
    with pytest.raises(ConfigError) as refused:
        access({"API_KEY": "the-api-key"})
    assert str(refused.value) == (
        "STATECAST_API_SECRET is not set; accepted: the secret of a reading-only API key, or "
        "STATECAST_API_SECRET_FILE; without keys, try `statecast demo`"
    )
    with pytest.raises(ConfigError, match="STATECAST_API_KEY is not set"):
        access({"API_SECRET": "the-api-secret"})
    assert "the key of a reading-only API key" in str(missing("API_KEY"))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"VENUE": "okx"}, "STATECAST_VENUE is 'okx'; accepted: binance"),
        ({"TESTNET": "perhaps"}, "STATECAST_TESTNET is 'perhaps'; accepted: true or false"),
        ({"REST_URL": "ftp://x"}, "STATECAST_REST_URL"),
        ({"BINANCE_PRIVATE_PATH": "no"}, "STATECAST_BINANCE_PRIVATE_PATH is 'no'"),
    ],
)
def test_what_cannot_work_is_named(values: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        given(**values)
    assert str(refused.value).startswith(sentence)
    assert "the-api" not in repr(refused.value)


def test_a_venue_is_binance_unless_it_is_said() -> None:
    assert venue({}) == venue({"VENUE": "binance"}) == "binance"


def test_no_credential_is_ever_shown() -> None:
    assert "the-api" not in repr(given()) + str(given())


async def test_it_makes_the_rest_interface_and_refuses_what_cannot_be_sent() -> None:
    rest = given().rest(SystemClock())
    assert isinstance(rest, BinanceRest)
    await rest.aclose()
    with pytest.raises(ConfigError, match="STATECAST_API_KEY") as refused:
        given(API_KEY="schlüssel").rest(SystemClock())
    assert "schlüssel" not in repr(refused.value)
