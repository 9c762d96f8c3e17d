"""One websocket of the simulated exchange, without the socket: what it carries and what its client may say. Pure.

Roots: `/private` carries user data, `/market` mark prices, `/public` order-book data (which is not modelled). What is
asked for on the wrong root is acknowledged and never delivered; so is everything on the unrouted `/ws` and `/stream`,
since 2026-04-23. A listen key that does not exist opens a socket that stays silent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, unquote_plus

import orjson

from statecast.simulator.binance.frames import Frame
from statecast.simulator.exchange import ABNORMAL_CLOSURE

CLIENT_FRAMES_PER_SECOND = 10
"""Pings, pongs and requests of a client; more closes the socket."""
MAX_REQUEST_BYTES = 4_088
"""Of a longer request the venue takes no notice (measured on Spot, binance/binance-connector-rust#27)."""
MAX_URL_BYTES = 8_000
"""By reports between 8,004 and 16,000 (oliver-zehentleitner/unicorn-binance-websocket-api#19, #120)."""
MAX_STREAMS = 1024
MAX_BACKLOG = 100_000
"""Frames that wait for a client which does not read; more drops the connection."""
POLICY_VIOLATION = 1008


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A text frame for the client, not to be sent before `due_ms`."""

    payload: bytes
    due_ms: int


def parse_target(path: str, query: str) -> Stream | None:
    """The socket that a websocket URL asks for; `None` when there is nothing at that path."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    root = parts.pop(0) if parts[0] in ("private", "market", "public") else ""
    if not parts or parts[0] not in ("ws", "stream"):
        return None
    names = parts[1:]
    subscriptions: dict[str, frozenset[str]] = {}
    listen_key = ""
    for name, _, value in (part.partition("=") for part in query.split("&") if part):
        match name:
            case "streams":
                names += unquote_plus(value).split("/")
            case "listenKey":
                listen_key = unquote_plus(value)
                subscriptions[listen_key] = frozenset()
            case "events" if listen_key:
                subscriptions[listen_key] = frozenset(unquote_plus(value).split("/"))
    subscriptions |= dict.fromkeys((name for name in names if name), frozenset())
    return Stream(root, wrapped=parts[0] == "stream", subscriptions=subscriptions)


class Stream:
    """One socket: `subscriptions` are stream names, or listen keys, each with the events wanted, empty for all.

    `wrapped` frames are {"stream": …, "data": …}: the `/stream` form. Public attributes are to be read only.
    """

    def __init__(self, root: str, *, wrapped: bool, subscriptions: Mapping[str, frozenset[str]]) -> None:
        self.root = root
        self.wrapped = wrapped
        self.subscriptions = dict(subscriptions)
        self.close_code = 0
        """When not zero, the owner of the socket closes it with this; 1006: without a close frame."""
        self._outbox: deque[Outgoing] = deque()
        self._swapped: list[bytes] = []
        """Frames that wait for their successor to overtake them."""
        self._silent = False
        self._wake: Callable[[], None] = _nothing
        self._second = 0
        self._client_frames = 0

    def on_wake(self, call: Callable[[], None]) -> None:
        """Have `call` made whenever a frame is put into the outbox or the socket is to be closed."""
        self._wake = call

    def fall_silent(self) -> None:
        """Nothing arrives any more, though the socket stays open and answers pings."""
        self._silent = True

    @property
    def next_due_ms(self) -> int | None:
        """When the next frame may be sent; `None` when none waits."""
        return self._outbox[0].due_ms if self._outbox else None

    # -- from the client ---------------------------------------------------------------------------------------------

    def receive(self, text: str | bytes, now_ms: int) -> None:
        """A text frame of the client: SUBSCRIBE, UNSUBSCRIBE or LIST_SUBSCRIPTIONS; the reply goes to the outbox. One
        that is too long has no effect and no reply."""
        self.count_frame(now_ms)
        if len(text.encode() if isinstance(text, str) else text) > MAX_REQUEST_BYTES:
            return None
        try:
            request = orjson.loads(text)
        except orjson.JSONDecodeError:
            return self._reply({"error": {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}}, now_ms)
        if not isinstance(request, dict) or "method" not in request:
            return self._reply({"error": {"code": 2, "msg": "Invalid request: missing field `method`"}}, now_ms)
        request_id = request.get("id")
        params = request.get("params", [])
        if not isinstance(params, list) or not all(isinstance(one, str) for one in params):
            error = {"code": 2, "msg": "Invalid request: params must be an array of strings"}
            return self._reply({"error": error, "id": request_id}, now_ms)
        result: list[str] | None = None
        match request["method"]:
            case "SUBSCRIBE":
                for name in params:
                    self.subscriptions.setdefault(name, frozenset())
                if len(self.subscriptions) > MAX_STREAMS:
                    self.close(POLICY_VIOLATION)
            case "UNSUBSCRIBE":
                for name in params:
                    self.subscriptions.pop(name, None)
            case "LIST_SUBSCRIPTIONS":
                result = list(self.subscriptions)
            case method:
                error = {"code": 2, "msg": f"Invalid request: unknown variant `{method}`"}
                return self._reply({"error": error, "id": request_id}, now_ms)
        return self._reply({"result": result, "id": request_id}, now_ms)

    def count_frame(self, now_ms: int) -> None:
        """Count a frame of the client against the limit of ten a second."""
        second = now_ms // 1000
        if second != self._second:
            self._second, self._client_frames = second, 0
        self._client_frames += 1
        if self._client_frames > CLIENT_FRAMES_PER_SECOND:
            self.close(POLICY_VIOLATION)

    # -- to the client -----------------------------------------------------------------------------------------------

    def wants(self, listen_key: str, event: str) -> bool:
        """Whether a user frame belongs on this socket. The end of the listen key always does."""
        if self.root != "private" or listen_key not in self.subscriptions:
            return False
        events = self.subscriptions[listen_key]
        return not events or event in events or event == "listenKeyExpired"

    def send_user(
        self, listen_key: str, frame: Frame, now_ms: int, *, copies: int = 1, delay_ms: int = 0, swapped: bool = False
    ) -> None:
        """Send a user frame; the keywords are what a fault makes of it."""
        payload = self._wrap(listen_key, frame.payload)
        if swapped:
            self._swapped.append(payload)
            return
        for _ in range(copies):
            self.send(payload, now_ms, delay_ms)
        if copies:
            for overtaken in self._swapped:
                self.send(overtaken, now_ms, delay_ms)
            self._swapped.clear()

    def send_market(self, name: str, payload: bytes, now_ms: int) -> None:
        self.send(self._wrap(name, payload), now_ms)

    def send(self, payload: bytes, now_ms: int, delay_ms: int = 0) -> None:
        """Put a frame into the outbox. A late frame holds up all behind it, as a slow line does."""
        if self._silent:
            return
        due_ms = now_ms + delay_ms
        if self._outbox:
            due_ms = max(due_ms, self._outbox[-1].due_ms)
        self._outbox.append(Outgoing(payload, due_ms))
        if len(self._outbox) > MAX_BACKLOG:
            self._outbox.clear()
            self.close(ABNORMAL_CLOSURE)
        self._wake()

    def close(self, code: int) -> None:
        """Ask the owner of the socket to close it."""
        self.close_code = code
        self._wake()

    def take(self, now_ms: int) -> list[bytes]:
        """What is due, in order."""
        due: list[bytes] = []
        while self._outbox and self._outbox[0].due_ms <= now_ms:
            due.append(self._outbox.popleft().payload)
        return due

    def _wrap(self, name: str, payload: bytes) -> bytes:
        if not self.wrapped:
            return payload
        return b'{"stream":' + orjson.dumps(name) + b',"data":' + payload + b"}"

    def _reply(self, body: dict[str, Any], now_ms: int) -> None:
        self.send(orjson.dumps(body), now_ms)


def _nothing() -> None:
    """Nobody waits for the socket."""


def mark_streams(streams: Iterable[Stream], *, slow: bool) -> list[tuple[Stream, str, str]]:
    """Who wants mark prices now: (socket, stream name, symbol), the symbol empty for the whole market.

    `slow` is a moment at which the three-second streams are due as well as the one-second ones.
    """
    wanted: list[tuple[Stream, str, str]] = []
    for stream in streams:
        if stream.root != "market":
            continue
        for name in stream.subscriptions:
            base = name.removesuffix("@1s")
            if base == name and not slow:
                continue
            symbol, _, kind = base.partition("@")
            if base == "!markPrice@arr":
                wanted.append((stream, name, ""))
            elif kind == "markPrice":
                wanted.append((stream, name, symbol.upper()))
    return wanted
