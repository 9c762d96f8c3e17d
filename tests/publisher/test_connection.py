"""One connection with its session. What it does on a live server is in test_user_stream.py and test_market.py."""

from __future__ import annotations

from collections.abc import Callable

from publisher.connection import first_error
from statecast.errors import AuthFailed, VenueError, VenueUnreachable


def test_of_several_errors_a_refusal_counts_first() -> None:
    refused = AuthFailed("binance", "a call", "HTTP 401", -2015)
    lost: Callable[[], VenueError] = lambda: VenueUnreachable("binance", "a call", "lost")  # noqa: E731
    group = BaseExceptionGroup("", [lost(), BaseExceptionGroup("", [lost(), refused])])
    assert first_error(group) is refused
