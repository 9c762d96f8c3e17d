"""Which account a bot follows, at which Redis, with which credentials, and whether its own process publishes it.

Embedded: the bot was given keys. A publisher runs in its process, at `STATECAST_REDIS_URL` or, without that, at a
private server of the process. Attached: no keys, or `STATECAST_NOFX_MODE=attached`. A publisher runs elsewhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from statecast import settings
from statecast.errors import ConfigError
from statecast.settings import PREFIX
from statecast.store.client import check_running_url, check_url
from statecast.store.keys import AccountId
from statecast.venues import registry
from statecast.venues.adapter import Access, Endpoints

MAX_AGE_S = 10.0
"""The guide's: how old a REST answer may be. Here, how old anything may be."""

EMBEDDED, ATTACHED = "embedded", "attached"
PRIVATE_SERVER = "embedded"
"""In place of a Redis URL: a server that lives as long as somebody in this process uses it."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a bot's numbers come from."""

    account_id: AccountId
    redis_url: str = field(repr=False)
    """A server's URL, which may hold a password, or `PRIVATE_SERVER`."""

    access: Access | None
    """For the fall-back to REST; None without credentials: then a publisher is asked to ask."""

    endpoints: Endpoints
    max_age_s: float
    publisher: Mapping[str, str] | None = field(repr=False)
    """Settings of the publisher to run in this process, credentials included; None when attached."""

    @property
    def mode(self) -> str:
        return ATTACHED if self.publisher is None else EMBEDDED


def choose(api_key: str | None, secret_key: str | None, testnet: bool = False) -> Source:
    """From a constructor's arguments, the environment and `.env`.

    Keys come as a pair from one place: the arguments, or else the settings, whose keys serve the fall-back to REST
    alone. The account is `STATECAST_ACCOUNT`; without it `main` when attached, and when embedded a name made from the
    key, so that two keys never share an account's numbers.

    Raises:
        ConfigError: names the setting or argument, what was given (never a secret) and what is accepted.
    """
    names = registry.names()
    values = dict(settings.load(names, {"TESTNET": "true" if testnet else None}, os.environ).values)
    given = _given(api_key, secret_key)
    if given:
        for name in names.of_credentials:
            values.pop(name, None)
        values |= given
    embedded = _mode(values, bool(given)) == EMBEDDED
    account = values.get("ACCOUNT", _name_of(given["API_KEY"]) if embedded else "main")
    venue = registry.chosen(values)
    account_id = AccountId.parse(account if ":" in account else f"{venue.name}:{account}", f"{PREFIX}ACCOUNT")
    return Source(
        account_id=account_id,
        redis_url=_redis_url(values, embedded),
        access=venue.access(values),
        endpoints=venue.endpoints(values),
        max_age_s=settings.seconds(values, "MAX_AGE_S", MAX_AGE_S, least=0.05),
        publisher=values | {"VENUE": account_id.venue, "ACCOUNT": account_id.account} if embedded else None,
    )


def _given(api_key: str | None, secret_key: str | None) -> dict[str, str]:
    if bool(api_key) != bool(secret_key):
        missing = "secret_key" if api_key else "api_key"
        raise ConfigError(missing, None, "both api_key and secret_key, or neither where a publisher runs elsewhere")
    return {"API_KEY": api_key, "API_SECRET": secret_key} if api_key and secret_key else {}


def _mode(values: Mapping[str, str], keys_given: bool) -> str:
    setting, mode = f"{PREFIX}NOFX_MODE", values.get("NOFX_MODE")
    if mode not in (None, EMBEDDED, ATTACHED):
        raise ConfigError(setting, mode, f"{EMBEDDED} or {ATTACHED}")
    if mode == EMBEDDED and not keys_given:
        raise ConfigError(setting, mode, "embedded only with api_key and secret_key; without them, attached")
    return mode or (EMBEDDED if keys_given else ATTACHED)


def _name_of(api_key: str) -> str:
    """Distinguishes keys; the key cannot be found from it."""
    return f"nofx-{hashlib.sha256(api_key.encode()).hexdigest()[:8]}"


def _redis_url(values: Mapping[str, str], embedded: bool) -> str:
    if not embedded:
        url = values.get("REDIS_URL", settings.DEFAULT_REDIS_URL)
        check_running_url(url)
        return url
    url = values.get("REDIS_URL", PRIVATE_SERVER)
    if url != PRIVATE_SERVER:
        check_url(url)
    return url
