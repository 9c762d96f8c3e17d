"""The dialogue on the toy venue's socket, without I/O."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from support.toy_venue import messages

from statecast.domain.changes import AllPositions, Frame, PositionUpdate
from statecast.domain.models import Stamp
from statecast.errors import AuthFailed
from statecast.secret import Secret
from statecast.venues.adapter import Delivery, Received

CHANNELS = ["orders", "positions", "wallets"]
NOTHING = Received()


class ToySession:
    """The private stream: login, subscription, pages of positions, then events."""

    def __init__(self, key: Sequence[Secret]) -> None:
        self._key = key
        self._ready = False
        self._pages: list[PositionUpdate] = []

    @property
    def ready(self) -> bool:
        """From the acknowledgement of the subscription on."""
        return self._ready

    def opened(self, now_ms: int) -> Sequence[str]:
        """The login; the subscription follows its acknowledgement."""
        return (_text({"do": "login", "key": [part.reveal() for part in self._key]}),)

    def received(self, raw: str | bytes, now_ms: int) -> Received:
        """Raises AuthFailed where the login is refused, FrameError."""
        if raw == "pong":
            return NOTHING
        body = messages.parse(raw)
        match body.get("done"):
            case "login" if not body.get("ok"):
                raise AuthFailed("toy", "login", "the key is refused", 401)
            case "login":
                return Received(replies=(_text({"do": "subscribe", "to": CHANNELS}),))
            case "subscribe" if not body.get("ok"):
                raise AuthFailed("toy", "subscribe", "not logged in", 401)
            case "subscribe":
                self._ready = True
                return NOTHING
        if "all" in body:
            return self._page(body["all"])
        # What both connections' copies have in common: the message without what is of the connection.
        copy = orjson.dumps(body | {"conn": 0, "seq": 0}, option=orjson.OPT_SORT_KEYS) if "ch" in body else None
        return Received((Delivery(messages.frame(body, now_ms), copy),))

    def idle(self, silent_s: float) -> str | None:
        """A ping in words."""
        return "ping"

    def _page(self, page: messages.Row) -> Received:
        """Together they are all positions, when the last page is there."""
        self._pages += [messages.position_update(row) for row in page["rows"]]
        if not page["last"]:
            return NOTHING
        rows, self._pages = tuple(self._pages), []
        frame = Frame("positions", page["ms"], (AllPositions(rows, Stamp(page["ms"], page["ms"])),))
        return Received((Delivery(frame),))


class ToyMarketSession:
    """Mark prices: a channel for each contract, without a login."""

    def __init__(self, symbols: frozenset[str]) -> None:
        self._wanted = symbols
        self._carried: frozenset[str] = frozenset()
        self._ready = False

    @property
    def ready(self) -> bool:
        """From the opening on."""
        return self._ready

    def opened(self, now_ms: int) -> Sequence[str]:
        """The subscriptions."""
        self._ready = True
        return self.follow(self._wanted)

    def follow(self, symbols: frozenset[str]) -> Sequence[str]:
        """What is new, and what is not wanted any more."""
        self._wanted = symbols
        if not self._ready:
            return ()
        requests = [
            _text({"do": what, "to": [f"mark:{name}" for name in sorted(names)]})
            for what, names in (("subscribe", symbols - self._carried), ("unsubscribe", self._carried - symbols))
            if names
        ]
        self._carried = symbols
        return requests

    def received(self, raw: str | bytes, now_ms: int) -> Received:
        """Raises FrameError."""
        if raw == "pong":
            return NOTHING
        body = messages.parse(raw)
        return NOTHING if "done" in body else Received((Delivery(messages.frame(body, now_ms)),))

    def idle(self, silent_s: float) -> str | None:
        """A ping in words."""
        return "ping"


def _text(body: messages.Row) -> str:
    return orjson.dumps(body).decode()
