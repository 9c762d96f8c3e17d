"""The dialogue on Binance's sockets, without I/O. Pure.

The private stream of a listen key needs no login and no subscription: frames come as soon as it is open. The market
stream carries the symbols of its URL and those that were subscribed to since.
"""

from __future__ import annotations

from collections.abc import Sequence

from statecast.venues.adapter import Delivery, Received
from statecast.venues.binance.decode import decode_market_frame, decode_user_frame
from statecast.venues.binance.wire import mark_price_request, url_symbols


class UserSession:
    """A `Session` of the private stream. Two sockets on one listen key send the same bytes for one event, and one event
    in each message: its text is the event's identity."""

    def __init__(self) -> None:
        self._ready = False

    @property
    def ready(self) -> bool:
        """From the opening on. (The venue opens the socket for a dead listen key as well.)"""
        return self._ready

    def opened(self, now_ms: int) -> Sequence[str]:
        """Nothing is to be sent."""
        self._ready = True
        return ()

    def received(self, raw: str | bytes, now_ms: int) -> Received:
        """A frame, received at `now_ms` by this machine's clock. Raises FrameError."""
        return Received((Delivery(decode_user_frame(raw, now_ms), raw),))

    def idle(self, silent_s: float) -> str | None:
        """The venue pings; nothing has to be sent."""
        return None


class MarkPriceSession:
    """A `MarketSession` of mark prices, one per symbol and second. `symbols` are those in the URL."""

    def __init__(self, symbols: frozenset[str]) -> None:
        self._carried = frozenset(url_symbols(symbols))
        self._wanted = symbols
        self._ready = False
        self._request_id = 1

    @property
    def ready(self) -> bool:
        """From the opening on."""
        return self._ready

    def opened(self, now_ms: int) -> Sequence[str]:
        """The first subscription that the URL does not have."""
        self._ready = True
        return self._next_request()

    def follow(self, symbols: frozenset[str]) -> Sequence[str]:
        """One message of what is still needed (the venue allows ten a second). Nothing before the socket is open; then
        `opened` has it."""
        self._wanted = symbols
        return self._next_request() if self._ready else ()

    def received(self, raw: str | bytes, now_ms: int) -> Received:
        """A frame. Raises FrameError, also where the venue refuses a request."""
        return Received((Delivery(decode_market_frame(raw), raw),))

    def idle(self, silent_s: float) -> str | None:
        """The venue pings; nothing has to be sent."""
        return None

    def _next_request(self) -> tuple[str, ...]:
        request = mark_price_request(self._carried, self._wanted, self._request_id)
        if request is None:
            return ()
        self._carried = request.carried
        self._request_id += 1
        return (request.text,)
