"""The simulated exchange on the simulated network: HTTP and websockets in a few lines, with no task of its own."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Callable, Iterable
from email.utils import formatdate
from typing import Any

from sim.loop import Process, SimLoop
from sim.network import Connection

from statecast.simulator.binance.exchange import Exchange
from statecast.simulator.binance.frames import Frame
from statecast.simulator.binance.streams import Stream
from statecast.simulator.events import AlgoChanged, Event
from statecast.simulator.exchange import ABNORMAL_CLOSURE, Response

_HANDSHAKE_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PING_INTERVAL_S = 180.0
ACCOUNT_PATHS = ("/fapi/v3/account", "/fapi/v3/positionRisk", "/fapi/v1/openOrders", "/fapi/v1/openAlgoOrders")
PAST_PATHS = ("order", "algoOrder", "allOrders", "userTrades", "allAlgoOrders")
PATHS = (*ACCOUNT_PATHS, *(f"/fapi/v1/{name}" for name in PAST_PATHS))
"""What REST says of an account: each of them may be behind by its own time."""


class SimExchange(Exchange):
    """Notes events and frames before any fault touches them, and has a fault more: frames of two types change place."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.algo_events: list[AlgoChanged] = []
        self.on_event: Callable[[Event], None] = lambda event: None
        self.on_frame: Callable[[Frame], None] = lambda frame: None
        self.overtaking = 0
        """So many frames are overtaken by their successor, if that is of another type."""
        self.again_after_ms: list[int] = []
        """The next frames come once more, so much later."""
        self.later: Callable[[int, Callable[[], None]], None] = lambda delay_ms, call: call()
        self._overtaken: Frame | None = None

    def publish(self, events: Iterable[Event], now_ms: int) -> None:
        super().publish((), now_ms)
        for event in events:
            if isinstance(event, AlgoChanged):
                self.algo_events.append(event)
            self.on_event(event)
            super().publish([event], now_ms)

    def send_user(self, frame: Frame, now_ms: int) -> None:
        self.on_frame(frame)
        held, self._overtaken = self._overtaken, None
        if held is not None and held.event == frame.event:
            super().send_user(held, now_ms)
            held = None
        elif held is None and self.overtaking and frame.event in ("ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"):
            self.overtaking -= 1
            self._overtaken = frame
            self.later(50, self.release)
            return
        super().send_user(frame, now_ms)
        if held is not None:
            super().send_user(held, now_ms)
        if self.again_after_ms:
            key, payload = self.listen_key, frame.payload
            self.later(self.again_after_ms.pop(), lambda: self._repeat(key.key if key else "", frame.event, payload))

    def release(self) -> None:
        held, self._overtaken = self._overtaken, None
        if held is not None:
            super().send_user(held, self._now_ms)

    def _repeat(self, listen_key: str, event: str, payload: bytes) -> None:
        for stream in self.streams:
            if stream.wants(listen_key, event):
                stream.send(payload, self._now_ms)


class _Http:
    """One connection's state."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.stream: Stream | None = None
        self.timer: Any = None
        self.busy = False


class VenueService:
    """What listens on the exchange's port."""

    def __init__(self, loop: SimLoop, exchange: SimExchange, now_ms: Callable[[], int]) -> None:
        self.exchange = exchange
        self._loop = loop
        self._now_ms = now_ms
        self.on_cut: Callable[[Process], None] = lambda process: None
        """Called when a user socket is gone."""
        self._connections: list[Connection] = []
        self.unanswered = 0
        """So many of the next REST calls are never answered."""

    @property
    def deaf(self) -> bool:
        """Whether a user socket is open to nobody."""
        return any(one.black_hole and one.kind == "private" and one.open for one in self._connections)

    def all_follow(self, processes: Iterable[Process]) -> bool:
        """Whether each of these processes has a user socket that gets what is sent now."""
        key = self.exchange.listen_key
        following = [
            one.process
            for one in self._connections
            if one.kind == "private"
            and one.open
            and key is not None
            and one.state.stream.wants(key.key, "ORDER_TRADE_UPDATE")
        ]
        return all(process in following for process in processes)

    def accepted(self, connection: Connection) -> None:
        self._connections.append(connection)
        connection.state = _Http()
        connection.kind = "http"

    def lost(self, connection: Connection) -> None:
        self._connections.remove(connection)
        stream = connection.state.stream
        if stream is not None:
            stream.on_wake(_nothing)
            self.exchange.disconnect(stream)
            if stream.root == "private":
                self.on_cut(connection.process)
        if connection.state.timer is not None:
            connection.state.timer.cancel()

    def received(self, connection: Connection, data: bytes) -> None:
        state: _Http = connection.state
        state.buffer += data
        if state.stream is not None:
            self._take_frames(connection, state)
            return
        while (end := state.buffer.find(b"\r\n\r\n")) >= 0 and not state.busy:
            head = bytes(state.buffer[:end]).decode().split("\r\n")
            del state.buffer[: end + 4]
            method, target, _ = head[0].split(" ", 2)
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
            path, _, query = target.partition("?")
            if headers.get("upgrade", "").lower() == "websocket":
                self._upgrade(connection, state, path, query, headers["sec-websocket-key"])
                return
            given = {"X-MBX-APIKEY": headers["x-mbx-apikey"]} if "x-mbx-apikey" in headers else {}
            answer = self.exchange.request(method, path, query, given, b"", self._now_ms())
            if self.unanswered:
                self.unanswered -= 1
                return
            state.busy = True
            if answer.delay_ms:
                self._loop.call_later(answer.delay_ms / 1000, self._respond, connection, answer)
            else:
                self._respond(connection, answer)

    def _respond(self, connection: Connection, answer: Response) -> None:
        connection.state.busy = False
        date = formatdate(self.exchange.server_ms(self._now_ms()) / 1000, usegmt=True)
        headers = f"Date: {date}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        head = f"HTTP/1.1 {answer.status} Answer\r\n{headers}Content-Length: {len(answer.body)}\r\n\r\n"
        connection.send(head.encode() + answer.body)
        if connection.state.buffer:
            self.received(connection, b"")

    # Websockets

    def _upgrade(self, connection: Connection, state: _Http, path: str, query: str, key: str) -> None:
        stream = self.exchange.connect(path, query, self._now_ms())
        if isinstance(stream, Response):
            self._respond(connection, stream)
            connection.close()
            return
        connection.kind = stream.root
        state.stream = stream
        accept = base64.b64encode(hashlib.sha1(key.encode() + _HANDSHAKE_GUID).digest())  # noqa: S324 - RFC 6455
        connection.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        stream.on_wake(lambda: self._send_due(connection))
        state.timer = self._loop.call_later(PING_INTERVAL_S, self._ping, connection)

    def _ping(self, connection: Connection) -> None:
        connection.send(_framed(0x9, b"1"))
        connection.state.timer = self._loop.call_later(PING_INTERVAL_S, self._ping, connection)

    def _send_due(self, connection: Connection) -> None:
        stream: Stream = connection.state.stream
        if not connection.open:
            return
        if stream.close_code == ABNORMAL_CLOSURE:
            connection.cut()
            return
        frames = stream.take(self._now_ms())
        if frames:
            connection.send(b"".join(_framed(0x1, frame) for frame in frames))
        if stream.close_code:
            connection.send(_framed(0x8, struct.pack("!H", stream.close_code)))
            connection.close()
        elif (due_ms := stream.next_due_ms) is not None:
            self._loop.call_later((due_ms - self._now_ms()) / 1000, self._send_due, connection)

    def _take_frames(self, connection: Connection, state: _Http) -> None:
        assert state.stream is not None
        while (frame := _unframed(state.buffer)) is not None:
            opcode, payload = frame
            match opcode:
                case 0x1 | 0x2:
                    state.stream.receive(payload, self._now_ms())
                case 0x9:
                    state.stream.count_frame(self._now_ms())
                    connection.send(_framed(0xA, payload))
                case 0xA:
                    state.stream.count_frame(self._now_ms())
                case 0x8:
                    connection.send(_framed(0x8, payload))
                    connection.close()


def _nothing() -> None:
    """Nobody is there to be woken, or to be informed."""


def _framed(opcode: int, payload: bytes) -> bytes:
    """One unmasked frame, as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return struct.pack("!BBH", 0x80 | opcode, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | opcode, 127, size) + payload


def _unframed(buffer: bytearray) -> tuple[int, bytes] | None:
    """Take one whole masked frame from the buffer; the library that sends them does not split short ones."""
    if len(buffer) < 2:
        return None
    assert buffer[1] & 0x80, "a client masks"
    size, at = buffer[1] & 0x7F, 2
    if size == 126:
        size, at = int.from_bytes(buffer[2:4], "big"), 4
    if len(buffer) < at + 4 + size:
        return None
    mask = buffer[at : at + 4]
    payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(buffer[at + 4 : at + 4 + size]))
    opcode = buffer[0] & 0x0F
    del buffer[: at + 4 + size]
    return opcode, payload
