"""Binance USDⓈ-M as a `Venue`: its facts, and what the settings say of one account."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from statecast import settings
from statecast.clock import Clock
from statecast.errors import AuthFailed
from statecast.secret import Secret
from statecast.venues.adapter import (
    Access,
    CheckPace,
    Endpoints,
    Limits,
    Retention,
    StreamTraits,
    Traits,
)
from statecast.venues.binance import errors, wire
from statecast.venues.binance.account import BinanceAccount
from statecast.venues.binance.limits import WeightBudget

TRAITS = Traits(
    clock_error_ms=wire.CLOCK_ERROR_MS,
    rest_lag_ms=wire.REST_LAG_MS,
    rest_recent_ms=wire.REST_RECENT_MS,
    history_lag_ms=wire.HISTORY_LAG_MS,
    wallet_error=Decimal(0),
    history=Retention(kept_ms=wire.KEPT_MS, unfilled_kept_ms=wire.UNFILLED_KEPT_MS),
    max_conditional_orders=wire.MAX_CONDITIONAL_ORDERS,
    stream=StreamTraits(
        life_s=wire.CONNECTION_LIFE_S,
        max_silence_s=wire.MAX_SILENCE_S,
        market_silence_s=wire.MARKET_SILENCE_S,
        connects=wire.CONNECTS,
        connects_within_s=wire.CONNECTS_WITHIN_S,
        # So field reports say of several sockets on one listen key, not the documents ("Several sockets on one
        # listenKey").
        shared=True,
    ),
    checks=CheckPace(
        # Figures weigh 10 each: of the 2,400 of a minute at most an eighth.
        figures_pause_s=2.0,
        # Everything weighs 115, with the default period up to 185 for conditional orders, and 5 more for each further
        # thousand orders that were created.
        all_pause_s=5.0,
        standby_pause_s=60.0,
        # A listing of one symbol weighs 5: each minute 12 of them, or 60.
        seconds_per_symbol=5.0,
        least_symbols=2,
        # Two of weight for each symbol, 80 for all.
        orders_by_symbol=20,
        # A weight of one each.
        orders_by_id=20,
        conditional_by_symbol=True,
    ),
)


@dataclass(frozen=True, slots=True)
class BinanceAccess:
    """Hosts and credentials of one account. `delete_listen_key`: end the key when the last publisher goes."""

    urls: wire.BinanceUrls
    api_key: Secret
    api_secret: Secret
    delete_listen_key: bool = False

    @property
    def venue(self) -> str:
        """As it stands in keys."""
        return wire.VENUE

    @property
    def credentials_name(self) -> str:
        """A digest of the API key."""
        return self.api_key.fingerprint()

    @property
    def limits_name(self) -> str:
        """Weight is counted by IP address and host."""
        return self.urls.rest


class BinanceVenue:
    """See `Venue`."""

    name = wire.VENUE
    credentials: Mapping[str, str] = {
        "API_KEY": "the key of a reading-only API key",
        "API_SECRET": "the secret of a reading-only API key",
    }
    settings: Mapping[str, str] = {
        "TESTNET": "true: the hosts of the venue's demo (false)",
        "REST_URL": f"host of REST ({wire.PRODUCTION_REST})",
        "WS_URL": f"host of the streams ({wire.PRODUCTION_WS})",
        "MARKET_WS_URL": "host of the mark prices (as STATECAST_WS_URL)",
        "BINANCE_PRIVATE_PATH": f"path of the private stream's URL ({wire.PRIVATE_PATH})",
        "DELETE_LISTEN_KEY": "true: delete the listen key at the end, unless another publisher runs (false)",
    }

    def __init__(self, traits: Traits = TRAITS, *, history_page: int = wire.HISTORY_PAGE) -> None:
        """`history_page`: rows of a history that are asked for at once."""
        self._traits = traits
        self._history_page = history_page

    @property
    def traits(self) -> Traits:
        """The facts that a publisher and readers go by."""
        return self._traits

    def access(self, values: Mapping[str, str]) -> BinanceAccess | None:
        """From settings by name; None where neither key nor secret is given. Raises ConfigError."""
        credentials = settings.credentials(values, self.credentials)
        if credentials is None:
            return None
        api_key, api_secret = credentials
        return BinanceAccess(
            urls=_urls(values),
            api_key=api_key,
            api_secret=api_secret,
            delete_listen_key=settings.flag(values, "DELETE_LISTEN_KEY"),
        )

    def endpoints(self, values: Mapping[str, str]) -> Endpoints:
        """The REST host, and that of the private stream."""
        urls = _urls(values)
        return Endpoints(urls.rest, urls.private_ws)

    def limits(self) -> WeightBudget:
        """A fresh count."""
        return WeightBudget()

    def account(self, access: Access, clock: Clock, limits: Limits) -> BinanceAccount:
        """Raises ConfigError for credentials that cannot be sent."""
        assert isinstance(access, BinanceAccess)
        assert isinstance(limits, WeightBudget)
        return BinanceAccount(
            access.urls,
            access.api_key,
            access.api_secret,
            clock,
            limits,
            delete_listen_key=access.delete_listen_key,
            history_page=self._history_page,
        )

    def advice(self, error: AuthFailed) -> str:
        """What the operator should do."""
        return errors.advice(error)


def _urls(values: Mapping[str, str]) -> wire.BinanceUrls:
    return wire.BinanceUrls.choose(
        testnet=settings.flag(values, "TESTNET"),
        rest_url=values.get("REST_URL"),
        ws_url=values.get("WS_URL"),
        market_ws_url=values.get("MARKET_WS_URL"),
        private_path=values.get("BINANCE_PRIVATE_PATH"),
    )
