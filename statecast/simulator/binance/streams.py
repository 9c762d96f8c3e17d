"""One websocket of the simulated exchange, without the socket: what it carries and what its client may say. Pure.

Roots: `/private` carries user data, `/market` mark prices, `/public` order-book data (which is not modelled). What is
asked for on the wrong root is acknowledged and never delivered; so is everything on the unrouted `/ws` and `/stream`,
since 2026-04-23. A listen key that does not exist opens a socket that stays silent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, unquote_plus

import orjson

from statecast.simulator.binance.frames import Frame

CLIENT_FRAMES_PER_SECOND = 10
"""Pings, pongs and requests of a client; more closes the socket."""
MAX_STREAMS = 1024
MAX_BACKLOG = 100_000
"""Frames that wait for a client which does not read; more drops the connection."""
POLICY_VIOLATION = 1008
ABNORMAL_CLOSURE = 1006


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
    stream = Stream(root, wrapped=parts[0] == "stream")
    names = parts[1:]
    pairs = [part.partition("=") for part in query.split("&") if part]
    listen_key = ""
    for name, _, value in pairs:
        match name:
            case "streams":
                names += unquote_plus(value).split("/")
            case "listenKey":
                listen_key = unquote_plus(value)
                stream.subscriptions[listen_key] = frozenset()
            case "events" if listen_key:
                stream.subscriptions[listen_key] = frozenset(unquote_plus(value).split("/"))
    stream.subscriptions |= dict.fromkeys((name for name in names if name), frozenset())
    return stream


@dataclass(slots=True)
class Stream:
    """One socket.

    `wake` is called when something has been put into the outbox; whoever owns the socket then calls `take`. When
    `close_code` is set, the owner closes the socket with it (1006: without a close frame).
    """

    root: str
    wrapped: bool
    """Whether frames are wrapped as {"stream": …, "data": …}: the `/stream` form."""
    subscriptions: dict[str, frozenset[str]] = field(default_factory=dict)
    """Stream name, or listen key, to the events wanted; empty for all."""
    outbox: deque[Outgoing] = field(default_factory=deque)
    held: list[bytes] = field(default_factory=list)
    """Frames that wait for their successor to overtake them."""
    close_code: int = 0
    muted: bool = False
    """Whether nothing arrives any more, though the socket stays open and answers pings."""
    wake: Callable[[], None] = field(default=lambda: None)
    _second: int = 0
    _client_frames: int = 0

    # -- from the client ---------------------------------------------------------------------------------------------

    def receive(self, text: str | bytes, now_ms: int) -> None:
        """A text frame of the client: SUBSCRIBE, UNSUBSCRIBE or LIST_SUBSCRIPTIONS; the reply goes to the outbox."""
        self.count_frame(now_ms)
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
        """Whether a user frame belongs on this socket. The end of the listen key is always told."""
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
            self.held.append(payload)
            return
        for _ in range(copies):
            self.send(payload, now_ms, delay_ms)
        if copies:
            for held in self.held:
                self.send(held, now_ms, delay_ms)
            self.held.clear()

    def send_market(self, name: str, payload: bytes, now_ms: int) -> None:
        self.send(self._wrap(name, payload), now_ms)

    def send(self, payload: bytes, now_ms: int, delay_ms: int = 0) -> None:
        """Put a frame into the outbox. A late frame holds up all behind it, as a slow line does."""
        if self.muted:
            return
        due_ms = now_ms + delay_ms
        if self.outbox:
            due_ms = max(due_ms, self.outbox[-1].due_ms)
        self.outbox.append(Outgoing(payload, due_ms))
        if len(self.outbox) > MAX_BACKLOG:
            self.outbox.clear()
            self.close(ABNORMAL_CLOSURE)
        self.wake()

    def close(self, code: int) -> None:
        """Ask the owner of the socket to close it."""
        self.close_code = code
        self.wake()

    def take(self, now_ms: int) -> list[bytes]:
        """What is due, in order."""
        due: list[bytes] = []
        while self.outbox and self.outbox[0].due_ms <= now_ms:
            due.append(self.outbox.popleft().payload)
        return due

    def _wrap(self, name: str, payload: bytes) -> bytes:
        if not self.wrapped:
            return payload
        return b'{"stream":' + orjson.dumps(name) + b',"data":' + payload + b"}"

    def _reply(self, body: dict[str, Any], now_ms: int) -> None:
        self.send(orjson.dumps(body), now_ms)


def mark_streams(streams: Iterable[Stream], *, slow: bool) -> list[tuple[Stream, str, str]]:
    """Who wants mark prices now: (socket, stream name, symbol), the symbol empty for the whole market.

    `slow` is a moment at which the three-second streams are due beside the one-second ones.
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
