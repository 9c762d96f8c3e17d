"""Settings for a trader's program: the publisher's own, from the environment and `.env`, so that a bot needs none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from statecast import settings
from statecast.errors import ConfigError
from statecast.settings import PREFIX
from statecast.store.client import check_running_url
from statecast.store.keys import AccountId
from statecast.venues import registry
from statecast.venues.adapter import Access

MAX_AGE_S = 10.0
LEAST_MAX_AGE_S = 0.05


class Environment(NamedTuple):
    """What the settings say. `access` is None without credentials; `options` are the overrides that are no settings."""

    account_id: AccountId
    redis_url: str
    access: Access | None
    max_age_s: float
    options: Mapping[str, Any]


def from_environment(overrides: Mapping[str, Any]) -> Environment:
    """Read the settings; an override named as a setting (`redis_url`, `account`, `max_age_s` …) comes before it.

    Raises:
        ConfigError: names the setting, what was given (never a secret) and what is accepted.
    """
    names = registry.names()
    known = {name.lower(): name for name in names.all}
    given = {known[name]: _text(value) for name, value in overrides.items() if name in known}
    values = settings.load(names, given, os.environ).values
    url = values.get("REDIS_URL", settings.DEFAULT_REDIS_URL)
    check_running_url(url)
    account_id, own = _settings_account(values), set(names.of_credentials)
    if _settings_account(settings.load(names, {}, os.environ).values) != account_id and not given.keys() & own:
        # What the settings have are the credentials of their own account: another one must not be asked for by them.
        values = {name: value for name, value in values.items() if name not in own}
    access = registry.access(values)
    if access is not None and access.venue != account_id.venue:
        accepted = f"an account of {access.venue}, whose credentials are set; or the venue's name in {PREFIX}VENUE"
        raise ConfigError(f"{PREFIX}ACCOUNT", str(account_id), accepted)
    return Environment(
        account_id=account_id,
        redis_url=url,
        access=access,
        max_age_s=settings.seconds(values, "MAX_AGE_S", MAX_AGE_S, least=LEAST_MAX_AGE_S),
        options={name: value for name, value in overrides.items() if name not in known},
    )


def _settings_account(values: Mapping[str, str]) -> AccountId:
    venue, account = registry.chosen(values), values.get("ACCOUNT", "main")
    return AccountId.parse(account if ":" in account else f"{venue.name}:{account}", f"{PREFIX}ACCOUNT")


def _text(value: object) -> str | None:
    if value is None:
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


def account_id(given: str | AccountId) -> AccountId:
    """`binance:main`, or `main` for short."""
    return given if isinstance(given, AccountId) else AccountId.parse(given, "account_id")


def max_age(seconds: float) -> float:
    """A limit of age that can be kept; ConfigError for one that cannot."""
    if not LEAST_MAX_AGE_S <= seconds < float("inf"):
        raise ConfigError(
            "max_age_s", str(seconds), f"seconds, {LEAST_MAX_AGE_S:g} or more; below 2 expect false alarms"
        )
    return float(seconds)


def credentials(
    api_key: str, api_secret: str, *, venue: str = "binance", testnet: bool = False, rest_url: str | None = None
) -> Access:
    """Credentials of one account, for a reader that may ask the venue itself while nobody publishes."""
    values = {"API_KEY": api_key, "API_SECRET": api_secret, "VENUE": venue, "TESTNET": _text(testnet)}
    return registry.needed_access({name: value for name, value in (values | {"REST_URL": rest_url}).items() if value})
