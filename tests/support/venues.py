"""A venue with other facts than the real one, as a line of the registry."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import cast

from statecast.venues import registry
from statecast.venues.adapter import Venue


@contextmanager
def registered(venue: Venue) -> Iterator[None]:
    """The venue goes by its name while the context lasts."""
    venues = cast("MutableMapping[str, Venue]", registry.VENUES)
    before = venues.get(venue.name)
    venues[venue.name] = venue
    try:
        yield
    finally:
        if before is None:
            del venues[venue.name]
        else:
            venues[venue.name] = before
