"""Settings into one value that can work, or one sentence that says what would; secrets in neither."""

from __future__ import annotations

from pathlib import Path

import pytest

from publisher.config import AccountConfig, Config, build
from statecast import settings
from statecast.errors import ConfigError
from statecast.venues import registry
from statecast.venues.binance.venue import BinanceAccess

KEYS = {"API_KEY": "the-api-key", "API_SECRET": "the-api-secret"}


def built(**values: str) -> Config:
    given = KEYS | values
    return build(settings.Settings(given, (given,)))


def from_file(directory: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    path = directory / "statecast.toml"
    path.write_text(text, encoding="utf-8")
    return build(settings.load(registry.names(), {}, environ or {}, path, directory))


def access_of(account: AccountConfig) -> BinanceAccess:
    assert isinstance(account.access, BinanceAccess)
    return account.access


def test_without_settings_but_keys_it_is_the_account_main_at_the_venue_itself() -> None:
    config = built()
    (account,) = config.accounts
    access = access_of(account)
    assert config.redis_url == "redis://127.0.0.1:6379/0"
    assert str(account.account_id) == "binance:main"
    assert (access.api_key.reveal(), access.api_secret.reveal()) == ("the-api-key", "the-api-secret")
    assert access.urls.rest == "https://fapi.binance.com"
    assert access.urls.private_ws == access.urls.market_ws == "wss://fstream.binance.com"
    assert (account.reconcile_s, account.mark_price_interval_s, access.delete_listen_key) == (60.0, 1.0, False)
    assert account.shared_stream


def test_every_setting_arrives() -> None:
    config = built(
        REDIS_URL="embedded",
        VENUE="binance",
        ACCOUNT="desk-7",
        TESTNET="yes",
        REST_URL="http://127.0.0.1:8900",
        WS_URL="ws://127.0.0.1:8901",
        MARKET_WS_URL="ws://127.0.0.1:8902/",
        RECONCILE_S="5.5",
        MARK_PRICE_INTERVAL_S="0.5",
        DELETE_LISTEN_KEY="on",
        SHARED_STREAM="false",
        BINANCE_PRIVATE_PATH="/private/ws/{listen_key}",
    )
    (account,) = config.accounts
    access = access_of(account)
    assert config.redis_url == "embedded"
    assert str(account.account_id) == "binance:desk-7"
    assert access.urls.rest == access.urls.sapi == "http://127.0.0.1:8900"
    assert (access.urls.private_ws, access.urls.market_ws) == (
        "ws://127.0.0.1:8901",
        "ws://127.0.0.1:8902",
    )
    assert access.urls.private_path == "/private/ws/{listen_key}"
    assert (account.reconcile_s, account.mark_price_interval_s, access.delete_listen_key) == (5.5, 0.5, True)
    assert not account.shared_stream


def test_the_testnet_has_hosts_of_its_own() -> None:
    access = access_of(built(TESTNET="true").accounts[0])
    assert access.urls.rest == "https://demo-fapi.binance.com"
    assert "binance.com" in access.urls.private_ws
    assert access.urls.private_ws != "wss://fstream.binance.com"


@pytest.mark.parametrize("text", ["true", "TRUE", "1", "yes", "on"])
def test_a_flag_is_set_by_any_of_the_usual_words(text: str) -> None:
    assert access_of(built(DELETE_LISTEN_KEY=text).accounts[0]).delete_listen_key


@pytest.mark.parametrize("text", ["false", "False", "0", "no", "off"])
def test_a_flag_is_taken_back_by_any_of_the_usual_words(text: str) -> None:
    assert not access_of(built(DELETE_LISTEN_KEY=text).accounts[0]).delete_listen_key


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"VENUE": "okx"}, ["STATECAST_VENUE", "'okx'", "binance"]),
        ({"ACCOUNT": "a:b"}, ["STATECAST_ACCOUNT", "a:b"]),
        ({"ACCOUNT": "{a}"}, ["STATECAST_ACCOUNT", "{a}"]),
        ({"REDIS_URL": "localhost"}, ["STATECAST_REDIS_URL", "redis://"]),
        ({"REDIS_URL": "redis://host:6379/zero"}, ["STATECAST_REDIS_URL", "redis://"]),
        ({"REST_URL": "ftp://host"}, ["STATECAST_REST_URL", "ftp://host", "http://"]),
        ({"REST_URL": "http://host/fapi"}, ["STATECAST_REST_URL", "http://host/fapi"]),
        ({"WS_URL": "http://host"}, ["STATECAST_WS_URL", "http://host", "ws://"]),
        ({"MARKET_WS_URL": "ws://host:0"}, ["STATECAST_MARKET_WS_URL", "ws://host:0"]),
        ({"BINANCE_PRIVATE_PATH": "/ws"}, ["STATECAST_BINANCE_PRIVATE_PATH", "'/ws'", "{listen_key}"]),
        ({"TESTNET": "maybe"}, ["STATECAST_TESTNET", "'maybe'", "true or false"]),
        ({"DELETE_LISTEN_KEY": "2"}, ["STATECAST_DELETE_LISTEN_KEY", "'2'", "true or false"]),
        ({"RECONCILE_S": "0.5"}, ["STATECAST_RECONCILE_S", "'0.5'", "from 1 to 86400"]),
        ({"RECONCILE_S": "nan"}, ["STATECAST_RECONCILE_S", "'nan'"]),
        ({"RECONCILE_S": "inf"}, ["STATECAST_RECONCILE_S", "'inf'"]),
        ({"RECONCILE_S": "60s"}, ["STATECAST_RECONCILE_S", "'60s'"]),
        ({"MARK_PRICE_INTERVAL_S": "0"}, ["STATECAST_MARK_PRICE_INTERVAL_S", "'0'", "from 0.1 to 86400"]),
        ({"API_KEY": ""}, ["STATECAST_API_KEY is not set", "STATECAST_API_KEY_FILE", "statecast demo"]),
        ({"API_SECRET": ""}, ["STATECAST_API_SECRET is not set", "STATECAST_API_SECRET_FILE"]),
        ({"API_KEY_FILE": "/nowhere"}, ["STATECAST_API_KEY_FILE", "not both"]),
    ],
    ids=lambda value: "=".join(next(iter(value.items()))) if isinstance(value, dict) else None,
)
def test_what_cannot_work_is_named_with_what_would(values: dict[str, str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as told:
        built(**values)
    text = str(told.value)
    assert all(word in text for word in words), text
    assert not any(secret in text for secret in KEYS.values())


@pytest.mark.parametrize(
    "url",
    ["redis://:hunter2@host:port/0", "rediss://user:hunter2@/0", "http://:hunter2@host", "redis://:hunter2@host/x"],
)
def test_a_password_in_a_bad_redis_url_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match="STATECAST_REDIS_URL") as told:
        built(REDIS_URL=url)
    assert "hunter2" not in str(told.value)


def test_a_settings_value_shows_no_secret() -> None:
    config = built(REDIS_URL="redis://user:hunter2@127.0.0.1:6379/0")
    for text in (repr(config), str(config), f"{config.accounts[0]}"):
        for secret in (*KEYS.values(), "hunter2"):
            assert secret not in text


def test_accounts_of_a_file_share_what_they_do_not_say(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from-a-file\n")
    config = from_file(
        tmp_path,
        f"""
        redis_url = "redis://127.0.0.1:7000/0"
        api_key = "shared-key"
        api_secret_file = "{tmp_path / "secret"}"
        reconcile_s = 30
        [[accounts]]
        account = "a"
        [[accounts]]
        account = "b"
        api_key = "own-key"
        testnet = true
        reconcile_s = 5
        """,
        {"STATECAST_ACCOUNT": "not-for-both", "STATECAST_MARK_PRICE_INTERVAL_S": "2"},
    )
    first, second = config.accounts
    assert config.redis_url == "redis://127.0.0.1:7000/0"
    assert [str(account.account_id) for account in config.accounts] == ["binance:a", "binance:b"]
    assert [access_of(account).api_key.reveal() for account in config.accounts] == ["shared-key", "own-key"]
    assert {access_of(account).api_secret.reveal() for account in config.accounts} == {"from-a-file"}
    assert (first.reconcile_s, second.reconcile_s, second.mark_price_interval_s) == (30.0, 5.0, 2.0)
    assert access_of(first).urls.rest != access_of(second).urls.rest


def test_two_accounts_of_one_name_would_write_the_same_keys(tmp_path: Path) -> None:
    account = '[[accounts]]\naccount = "a"\napi_key = "k-1"\napi_secret = "s-1"\n'
    with pytest.raises(ConfigError, match=r"STATECAST_ACCOUNT is 'binance:a'.*a different name for each account"):
        from_file(tmp_path, account + account)


def test_an_account_of_a_file_without_keys_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="STATECAST_API_KEY is not set"):
        from_file(tmp_path, '[[accounts]]\naccount = "a"\n')
