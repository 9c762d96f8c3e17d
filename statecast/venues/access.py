"""Which venue, at which hosts, with which credentials: settings as text → one frozen value that can work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from statecast import settings
from statecast.clock import Clock
from statecast.errors import ConfigError
from statecast.secret import Secret
from statecast.settings import PREFIX
from statecast.venues.binance.rest import BinanceRest
from statecast.venues.binance.weight import WeightBudget
from statecast.venues.binance.wire import BinanceUrls

VENUES = ("binance",)


@dataclass(frozen=True, slots=True)
class Access:
    """What it takes to ask the venue about one account."""

    venue: str
    urls: BinanceUrls
    api_key: Secret
    api_secret: Secret

    def rest(self, clock: Clock, budget: WeightBudget | None = None) -> BinanceRest:
        """The account's REST interface; raises ConfigError for credentials that cannot be sent."""
        return BinanceRest(self.urls, self.api_key, self.api_secret, clock, budget)


def venue(values: Mapping[str, str]) -> str:
    """The venue's name; raises ConfigError for one that is not known."""
    name = values.get("VENUE", VENUES[0])
    if name not in VENUES:
        raise ConfigError(f"{PREFIX}VENUE", name, ", ".join(VENUES))
    return name


def access(values: Mapping[str, str]) -> Access | None:
    """From settings (names without the prefix); None where neither key nor secret is given.

    Raises:
        ConfigError: names the setting, what was given (never a secret) and what is accepted.
    """
    credentials = {name: settings.secret(values, name) for name in ("API_KEY", "API_SECRET")}
    if not any(credentials.values()):
        return None
    for name, credential in credentials.items():
        if credential is None:
            raise missing(name)
    key, secret = credentials["API_KEY"], credentials["API_SECRET"]
    assert key is not None
    assert secret is not None
    return Access(
        venue=venue(values),
        urls=BinanceUrls.choose(
            testnet=settings.flag(values, "TESTNET"),
            rest_url=values.get("REST_URL"),
            ws_url=values.get("WS_URL"),
            market_ws_url=values.get("MARKET_WS_URL"),
            private_path=values.get("BINANCE_PRIVATE_PATH"),
        ),
        api_key=key,
        api_secret=secret,
    )


def missing(name: str) -> ConfigError:
    """The error for a credential that is needed and not there."""
    accepted = f"the {name[4:].lower()} of a reading-only API key, or {PREFIX}{name}_FILE"
    return ConfigError(f"{PREFIX}{name}", None, f"{accepted}; without keys, try `statecast demo`")
