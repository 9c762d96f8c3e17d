"""Settings as text → one frozen value that can work, once, at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from statecast import settings
from statecast.errors import ConfigError
from statecast.secret import Secret
from statecast.settings import PREFIX, Settings
from statecast.store.client import check_url
from statecast.store.keys import AccountId
from statecast.venues.binance.wire import BinanceUrls

VENUES = ("binance",)
EMBEDDED = "embedded"


@dataclass(frozen=True, slots=True)
class AccountConfig:
    """What it takes to follow one account. Durations in seconds."""

    account_id: AccountId
    api_key: Secret
    api_secret: Secret
    urls: BinanceUrls
    reconcile_s: float
    mark_price_interval_s: float
    delete_listen_key: bool


@dataclass(frozen=True, slots=True)
class Config:
    """`redis_url` is a server's URL, which may hold a password, or `embedded`."""

    redis_url: str = field(repr=False)
    accounts: tuple[AccountConfig, ...]


def build(values: Settings) -> Config:
    """Judge the settings.

    Raises:
        ConfigError: names the setting, what was given (never a secret) and what is accepted.
    """
    redis_url = values.get("REDIS_URL", settings.DEFAULT_REDIS_URL)
    if redis_url != EMBEDDED:
        check_url(redis_url)
    accounts = tuple(_account(account) for account in values.accounts)
    ids = [str(account.account_id) for account in accounts]
    for account_id in ids:
        if ids.count(account_id) > 1:
            raise ConfigError(f"{PREFIX}ACCOUNT", account_id, "a different name for each account")
    return Config(redis_url, accounts)


def _account(values: Mapping[str, str]) -> AccountConfig:
    venue = values.get("VENUE", "binance")
    if venue not in VENUES:
        raise ConfigError(f"{PREFIX}VENUE", venue, ", ".join(VENUES))
    account_id = AccountId.parse(f"{venue}:{values.get('ACCOUNT', 'main')}", f"{PREFIX}ACCOUNT")
    key, secret = settings.secret(values, "API_KEY"), settings.secret(values, "API_SECRET")
    for name, credential in (("API_KEY", key), ("API_SECRET", secret)):
        if credential is None:
            accepted = f"the {name[4:].lower()} of a reading-only API key, or {PREFIX}{name}_FILE"
            raise ConfigError(f"{PREFIX}{name}", None, f"{accepted}; without keys, try `statecast demo`")
    assert key is not None
    assert secret is not None
    return AccountConfig(
        account_id=account_id,
        api_key=key,
        api_secret=secret,
        urls=BinanceUrls.choose(
            testnet=_flag(values, "TESTNET"),
            rest_url=values.get("REST_URL"),
            ws_url=values.get("WS_URL"),
            market_ws_url=values.get("MARKET_WS_URL"),
            private_path=values.get("BINANCE_PRIVATE_PATH"),
        ),
        reconcile_s=_seconds(values, "RECONCILE_S", 60.0, least=1.0),
        mark_price_interval_s=_seconds(values, "MARK_PRICE_INTERVAL_S", 1.0, least=0.1),
        delete_listen_key=_flag(values, "DELETE_LISTEN_KEY"),
    )


def _flag(values: Mapping[str, str], name: str) -> bool:
    text = values.get(name, "false").lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise ConfigError(f"{PREFIX}{name}", text, "true or false")


def _seconds(values: Mapping[str, str], name: str, default: float, least: float) -> float:
    text = values.get(name)
    if text is None:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not least <= seconds <= 86_400:
        raise ConfigError(f"{PREFIX}{name}", text, f"seconds, from {least:g} to 86400")
    return seconds
