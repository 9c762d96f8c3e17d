"""Settings as text → one frozen value that can work, once, at the start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from statecast import settings
from statecast.errors import ConfigError
from statecast.settings import PREFIX, Settings
from statecast.store.client import check_url
from statecast.store.keys import LEASE_TTL_MS, AccountId
from statecast.venues import registry
from statecast.venues.adapter import Access

EMBEDDED = "embedded"

WEEK_S = 7 * 86_400.0
YEARS_S = 10 * 365 * 86_400.0


@dataclass(frozen=True, slots=True)
class AccountConfig:
    """What it takes to follow one account. Durations in seconds."""

    account_id: AccountId
    access: Access
    reconcile_s: float
    mark_price_interval_s: float
    lease_s: float
    shared_stream: bool
    """Whether each of several connections receives every event."""
    events_retention_s: float
    group_expiry_s: float


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
    venue = registry.chosen(values)
    account_id = AccountId.parse(f"{venue.name}:{values.get('ACCOUNT', 'main')}", f"{PREFIX}ACCOUNT")
    return AccountConfig(
        account_id=account_id,
        access=registry.needed_access(values),
        reconcile_s=settings.seconds(values, "RECONCILE_S", 60.0, least=1.0),
        mark_price_interval_s=settings.seconds(values, "MARK_PRICE_INTERVAL_S", 1.0, least=0.1),
        lease_s=settings.seconds(values, "LEASE_S", LEASE_TTL_MS / 1000, least=1.0, most=60.0),
        shared_stream=settings.flag(values, "SHARED_STREAM", default=venue.traits.stream.shared),
        events_retention_s=settings.seconds(values, "EVENTS_RETENTION_S", WEEK_S, least=1.0, most=YEARS_S),
        group_expiry_s=settings.seconds(values, "GROUP_EXPIRY_S", WEEK_S, least=1.0, most=YEARS_S),
    )
