"""Settings and arguments → which account, where, and who publishes it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.nofx import settings_for

from consumers.nofx.modes import PRIVATE_SERVER, choose
from statecast.errors import ConfigError


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings_for(monkeypatch, tmp_path)


def test_keys_alone_make_a_publisher_at_a_private_server() -> None:
    source = choose("a-key", "a-secret")
    assert (source.mode, source.redis_url, source.max_age_s) == ("embedded", PRIVATE_SERVER, 10.0)
    assert source.access is not None
    assert (source.access.api_key.reveal(), source.access.api_secret.reveal()) == ("a-key", "a-secret")
    assert source.endpoints.rest == "https://fapi.binance.com"


def test_two_keys_are_two_accounts_and_their_names_do_not_tell_the_keys() -> None:
    one, two = choose("a-key", "a-secret"), choose("b-key", "b-secret")
    assert str(one.account_id) == "binance:nofx-2a8a1240"
    assert one.account_id != two.account_id
    assert one.account_id == choose("a-key", "a-secret").account_id


@pytest.mark.parametrize("nothing", ["", None])
def test_without_keys_it_is_the_account_main_of_a_publisher_elsewhere(nothing: str | None) -> None:
    source = choose(nothing, nothing)
    assert (source.mode, source.redis_url) == ("attached", "redis://127.0.0.1:6379/0")
    assert str(source.account_id) == "binance:main"
    assert source.access is None
    assert source.publisher is None


def test_the_settings_say_where_and_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECAST_REDIS_URL", "redis://127.0.0.1:7000/1")
    monkeypatch.setenv("STATECAST_ACCOUNT", "desk")
    monkeypatch.setenv("STATECAST_REST_URL", "http://127.0.0.1:8900")
    monkeypatch.setenv("STATECAST_MAX_AGE_S", "4")
    for keys in (("a-key", "a-secret"), ("", "")):
        source = choose(*keys)
        assert (source.redis_url, str(source.account_id)) == ("redis://127.0.0.1:7000/1", "binance:desk")
        assert (source.endpoints.rest, source.max_age_s) == ("http://127.0.0.1:8900", 4.0)


def test_attached_with_keys_they_serve_rest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECAST_NOFX_MODE", "attached")
    source = choose("a-key", "a-secret")
    assert (source.mode, str(source.account_id)) == ("attached", "binance:main")
    assert source.access is not None
    assert source.publisher is None


def test_keys_of_the_settings_do_not_start_a_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECAST_API_KEY", "their-key")
    monkeypatch.setenv("STATECAST_API_SECRET", "their-secret")
    source = choose("", "")
    assert source.mode == "attached"
    assert source.access is not None
    assert source.access.api_key.reveal() == "their-key"


def test_keys_of_the_arguments_come_before_those_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("their-secret", "utf-8")
    monkeypatch.setenv("STATECAST_API_KEY", "their-key")
    monkeypatch.setenv("STATECAST_API_SECRET_FILE", str(tmp_path / "secret"))
    source = choose("a-key", "a-secret")
    assert source.access is not None
    assert (source.access.api_key.reveal(), source.access.api_secret.reveal()) == ("a-key", "a-secret")
    assert source.publisher is not None
    assert "API_SECRET_FILE" not in source.publisher


def test_the_testnet_is_an_argument_and_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose("a-key", "a-secret", True).endpoints.rest == "https://demo-fapi.binance.com"
    assert choose("a-key", "a-secret", False).endpoints.rest == "https://fapi.binance.com"
    monkeypatch.setenv("STATECAST_TESTNET", "true")
    assert choose("a-key", "a-secret", False).endpoints.rest == "https://demo-fapi.binance.com"


def test_an_account_may_name_its_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATECAST_ACCOUNT", "binance:desk")
    source = choose("a-key", "a-secret")
    assert str(source.account_id) == "binance:desk"
    assert source.publisher is not None
    assert source.publisher["ACCOUNT"] == "desk"


@pytest.mark.parametrize(
    ("keys", "settings", "sentence"),
    [
        (("a-key", ""), {}, "secret_key is not set"),
        (("", "a-secret"), {}, "api_key is not set"),
        (
            ("", ""),
            {"NOFX_MODE": "embedded"},
            "STATECAST_NOFX_MODE is 'embedded'; accepted: embedded only with api_key",
        ),
        (("a-key", "a-secret"), {"NOFX_MODE": "solo"}, "STATECAST_NOFX_MODE is 'solo'; accepted: embedded or attached"),
        (("", ""), {"REDIS_URL": "embedded"}, "STATECAST_REDIS_URL is 'embedded'; accepted: the URL of a server"),
        (("a-key", "a-secret"), {"REDIS_URL": "http://127.0.0.1"}, "STATECAST_REDIS_URL is"),
        (("a-key", "a-secret"), {"VENUE": "mtgox"}, "STATECAST_VENUE is 'mtgox'"),
    ],
)
def test_what_cannot_work_is_refused_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, keys: tuple[str, str], settings: dict[str, str], sentence: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"STATECAST_{name}", value)
    with pytest.raises(ConfigError) as caught:
        choose(*keys)
    assert sentence in str(caught.value)
    assert "a-secret" not in str(caught.value)


def test_a_source_does_not_show_what_is_secret() -> None:
    source = choose("a-key", "a-secret")
    assert "a-key" not in repr(source)
    assert "a-secret" not in repr(source)
