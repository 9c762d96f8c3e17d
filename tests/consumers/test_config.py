from __future__ import annotations

import os
from pathlib import Path

import pytest

from consumers import AccountReader, config
from statecast.errors import ConfigError
from statecast.secret import Secret
from statecast.store.keys import AccountId

KEY, SECRET = "the-api-key", "the-api-secret"


@pytest.fixture(autouse=True)
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STATECAST_")]:
        monkeypatch.delenv(name)


def test_without_settings_a_reader_reads_the_default_account_without_credentials() -> None:
    found = config.from_environment({})
    assert found.account_id == AccountId("binance", "main")
    assert found.redis_url == "redis://127.0.0.1:6379/0"
    assert (found.access, found.max_age_s, found.options) == (None, 10.0, {})


def test_overrides_come_before_the_environment_and_that_before_dotenv(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("STATECAST_ACCOUNT=dotenv\nSTATECAST_MAX_AGE_S=3\nSTATECAST_REDIS_URL=redis://dotenv\n")
    monkeypatch.setenv("STATECAST_ACCOUNT", "environment")
    monkeypatch.setenv("STATECAST_REDIS_URL", "redis://environment")
    found = config.from_environment({"redis_url": "redis://override"})
    assert (found.account_id.account, found.redis_url, found.max_age_s) == ("environment", "redis://override", 3.0)


def test_an_override_of_none_is_none() -> None:
    assert config.from_environment({"account": None, "max_age_s": None}).max_age_s == 10.0


@pytest.mark.parametrize(("given", "account_id"), [("second", "binance:second"), ("aster:third", "aster:third")])
def test_an_account_may_name_its_venue(given: str, account_id: str) -> None:
    assert str(config.from_environment({"account": given}).account_id) == account_id


def test_what_is_no_setting_is_an_option_of_the_class() -> None:
    clock = object()
    found = config.from_environment({"max_age_s": 2, "clock": clock, "group": "hedger"})
    assert (found.max_age_s, dict(found.options)) == (2.0, {"clock": clock, "group": "hedger"})


def test_credentials_are_those_of_the_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECAST_API_KEY", KEY)
    Path("secret").write_text(SECRET)
    monkeypatch.setenv("STATECAST_API_SECRET_FILE", "secret")
    found = config.from_environment({"rest_url": "http://127.0.0.1:8900", "testnet": True}).access
    assert found is not None
    assert (found.api_key, found.api_secret) == (Secret(KEY), Secret(SECRET))
    assert found.urls.rest == "http://127.0.0.1:8900"
    assert SECRET not in repr(found)
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            {"redis_url": "embedded"},
            "STATECAST_REDIS_URL is 'embedded'; accepted: the URL of a server; an embedded one",
        ),
        ({"redis_url": "http://127.0.0.1"}, "STATECAST_REDIS_URL is 'http://…'"),
        ({"account": "a b"}, "STATECAST_ACCOUNT is 'binance:a b'"),
        ({"venue": "nowhere"}, "STATECAST_VENUE is 'nowhere'"),
        ({"max_age_s": 0.001}, "STATECAST_MAX_AGE_S is '0.001'"),
        ({"max_age_s": "soon"}, "STATECAST_MAX_AGE_S is 'soon'"),
        ({"api_key": KEY}, "STATECAST_API_SECRET is not set"),
        ({"api_secret": SECRET}, "STATECAST_API_KEY is not set"),
    ],
)
def test_a_setting_that_cannot_work_is_named(overrides: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        config.from_environment(overrides)
    assert str(refusal.value).startswith(said)
    assert KEY not in str(refusal.value)
    assert SECRET not in str(refusal.value)


def test_credentials_by_hand() -> None:
    given = config.credentials(KEY, SECRET, rest_url="http://127.0.0.1:8900")
    assert (given.venue, given.api_key, given.urls.rest) == ("binance", Secret(KEY), "http://127.0.0.1:8900")
    assert config.credentials(KEY, SECRET).urls.rest != config.credentials(KEY, SECRET, testnet=True).urls.rest


@pytest.mark.parametrize(("key", "secret"), [("", ""), ("", SECRET), (KEY, "")])
def test_half_of_the_credentials_are_none(key: str, secret: str) -> None:
    with pytest.raises(ConfigError, match=r"STATECAST_API_(KEY|SECRET) is not set"):
        config.credentials(key, secret)


@pytest.mark.parametrize("seconds", [0.05, 1, 10.0, 86_400.0])
def test_a_limit_of_age(seconds: float) -> None:
    assert config.max_age(seconds) == seconds


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.04, float("inf"), float("nan")])
def test_a_limit_of_age_that_cannot_be_kept(seconds: float) -> None:
    with pytest.raises(ConfigError, match="max_age_s is "):
        config.max_age(seconds)


def test_an_account_is_named_or_given() -> None:
    assert config.account_id("main") == config.account_id("binance:main") == AccountId("binance", "main")
    assert config.account_id(AccountId("binance", "x")) == AccountId("binance", "x")
    with pytest.raises(ConfigError, match="account_id is 'a b'"):
        config.account_id("a b")


def test_credentials_of_another_venue_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECAST_ACCOUNT", "okx:main")
    assert config.from_environment({}).access is None, "reading needs none"
    monkeypatch.setenv("STATECAST_API_KEY", "key")
    monkeypatch.setenv("STATECAST_API_SECRET", "s3cret")
    with pytest.raises(
        ConfigError, match=r"STATECAST_ACCOUNT is 'okx:main'; accepted: an account of binance"
    ) as refused:
        config.from_environment({})
    assert "s3cret" not in str(refused.value)
    with pytest.raises(ConfigError, match="those of an account of okx"):
        AccountReader("okx:main", "redis://127.0.0.1:1/0", credentials=config.credentials("key", "s3cret"))
