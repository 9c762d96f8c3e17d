"""The one list of venues. A further venue is a line here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from statecast import settings
from statecast.errors import ConfigError
from statecast.settings import PREFIX, Names
from statecast.venues.adapter import Access, Limits, Venue
from statecast.venues.binance.venue import BinanceVenue

VENUES: Mapping[str, Venue] = {one.name: one for one in (BinanceVenue(),)}
"""By name, the default first."""


def names(venues: Mapping[str, Venue] = VENUES) -> Names:
    """What may be set for accounts of these venues."""
    return Names(
        _distinct(one.settings for one in venues.values()), _distinct(one.credentials for one in venues.values())
    )


def _distinct(of_venues: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Several venues may have a setting of one name."""
    return tuple(dict.fromkeys(name for names in of_venues for name in names))


def venue(name: str) -> Venue:
    """The venue of this name. Raises ConfigError, which names the setting, for one that is not known."""
    found = VENUES.get(name)
    if found is None:
        raise ConfigError(f"{PREFIX}VENUE", name, ", ".join(VENUES))
    return found


def chosen(values: Mapping[str, str]) -> Venue:
    """The venue that settings (names without the prefix) say; raises ConfigError as `venue` does."""
    return venue(values.get("VENUE", next(iter(VENUES))))


def access(values: Mapping[str, str]) -> Access | None:
    """Endpoints and credentials by these settings; None where no credential is given. Raises ConfigError."""
    return chosen(values).access(values)


def needed_access(values: Mapping[str, str]) -> Access:
    """As `access`, for one who cannot go without: raises ConfigError where no credential is given."""
    found = access(values)
    if found is None:
        name, what = next(iter(chosen(values).credentials.items()))
        raise settings.missing(name, what)
    return found


class SharedLimits:
    """One `Limits` for each venue and way out of this machine, however many accounts are followed over it. One object
    for all accounts of a process."""

    def __init__(self, make: Callable[[Venue], Limits] = lambda one: one.limits()) -> None:
        """`make` makes those of a venue."""
        self._make = make
        self._limits: dict[tuple[str, str], Limits] = {}

    def of(self, access: Access) -> Limits:
        """Those of an account's venue and `limits_name`."""
        key = access.venue, access.limits_name
        if key not in self._limits:
            self._limits[key] = self._make(venue(access.venue))
        return self._limits[key]
