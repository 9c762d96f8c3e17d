"""What can be made to go wrong, in the field's words. Pure: the exchange asks here what to do with each frame and call.

A fault is switched on by name with `FaultBoard.switch`; the names and fields are those of the dataclasses' docstrings:

    drop_user_frames       {"count": 3, "events": ["ORDER_TRADE_UPDATE"]}   the next frames are lost
    duplicate_user_frames  {"count": 3}                                     … arrive twice
    swap_user_frames       {"count": 1}                                     … change place with their successor
    delay_user_frames      {"count": 3, "delay_ms": 500}                    … and all behind them arrive late
    mute_user_sockets      {"on": true}                                     open, but nothing arrives
    mute_market_sockets    {"on": true}
    mute_open_sockets      {}                                               at once: user sockets open now fall silent
                                                                            for good, and new ones work
    answer_rest            {"count": 2, "status": 503, "body": "…", "headers": {"Retry-After": "2"}, "delay_ms": 0,
                            "path": "/fapi/v1/openOrders"}
    delay_rest             {"count": 2, "delay_ms": 3000}                   the right answer, late
    hold_rest              {"on": true, "paths": ["/fapi/v3/account"]}      signed reads answer the account as it was
                                                                            when this was switched on; of some paths
                                                                            alone: inconsistent answers
    lag_rest               {"ms": 800, "paths": ["/fapi/v1/openOrders"]}    REST is behind: signed reads answer the
                                                                            account as it was so long ago. The paths
                                                                            of one call are behind together, those of
                                                                            another by their own time; 0 ends it
    hide_young_orders      {"ms": 2000}                                     an order that is asked for by its id and
                                                                            is younger than this does not exist yet
                                                                            (-2013); conditional ones, too. 0 ends it
    other_programs         {"weight": 1600}                                 others on the same address use so much
                                                                            request weight a minute: the header says
                                                                            it, the limit counts it. 0 ends it
    refuse_sockets         {"count": 2, "status": 503}                      handshakes fail
    maintenance            {"on": true}                                     sockets cut, handshakes and REST answer 503
    shift_clock            {"by_ms": -5000}                                 the server's clock stands elsewhere; on
                                                                            connections that stay open, times go back
    shift_marks            {"by_ms": 3600000, "rounds": 1}                  the next mark prices are stamped so much
                                                                            ahead
    cut_sockets            {"kind": "private", "code": 1006}                at once; 1006 drops the connection
    expire_listen_key      {"times": 1, "text_time": false, "with_key": true}
                                                                            at once, with listenKeyExpired: so many
                                                                            times, its time as text, without the key
    forget_listen_key      {}                                               at once, without a notice
    send_raw               {"text": "…"} or {"base64": "…"}                 at once, on every user socket
    server_shutdown        {}                                               at once, the notice on every socket
    clear                  {}                                               everything back to normal

`events` and `path` narrow a fault; without them it takes whatever comes next. What may happen to the account itself
(a symbol is delisted, an order ends with an unknown status, a flood of events, …) is in `statecast.simulator.control`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field


class FaultError(Exception):
    """A fault was asked for that does not exist, or without a field that it needs."""


@dataclass(slots=True)
class FrameFault:
    """What to do with the next `count` user frames whose event is among `events` (any, when empty)."""

    kind: str
    count: int
    events: frozenset[str] = frozenset()
    delay_ms: int = 0

    def use(self) -> bool:
        """Count one frame; whether that was the last one."""
        self.count -= 1
        return self.count <= 0


@dataclass(slots=True)
class RestFault:
    """How to answer the next `count` REST calls of `path` (any, when empty). Status 0 keeps the right answer."""

    count: int
    status: int
    body: str
    delay_ms: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def use(self) -> bool:
        """Count one call; whether that was the last one."""
        self.count -= 1
        return self.count <= 0


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one user frame: how often it is sent, how late, and whether after its successor."""

    copies: int = 1
    delay_ms: int = 0
    swapped: bool = False


@dataclass(frozen=True, slots=True)
class CutSockets:
    """Close sockets of a kind (`private`, `market`, or `` for all); code 1006 drops them without a close frame."""

    kind: str
    code: int


@dataclass(frozen=True, slots=True)
class ExpireListenKey:
    """End the listen key now and say so `times` times; in older frames the time is text, and the key is not there."""

    times: int = 1
    text_time: bool = False
    with_key: bool = True


@dataclass(frozen=True, slots=True)
class ForgetListenKey:
    """End the listen key now without a notice: its sockets stay open, and keeping it alive fails (-1125)."""


@dataclass(frozen=True, slots=True)
class LagRest:
    """Signed reads of `paths` (all, when empty) are behind by `lag_ms`; None: they answer the account as it is now."""

    paths: frozenset[str] = frozenset()
    lag_ms: int | None = 0


@dataclass(frozen=True, slots=True)
class OtherPrograms:
    """Other programs on the same address use so much request weight a minute."""

    weight: int


@dataclass(frozen=True, slots=True)
class Clear:
    """What was carried out of faults that last is undone."""


@dataclass(frozen=True, slots=True)
class SilenceOpenSockets:
    """Nothing arrives any more on the user sockets that are open; they stay so, and answer pings."""


@dataclass(frozen=True, slots=True)
class SendRaw:
    """Send bytes as one text frame on every user socket, whatever they are."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class ServerShutdown:
    """Announce a shutdown on every socket."""


Action = (
    Clear
    | CutSockets
    | ExpireListenKey
    | ForgetListenKey
    | LagRest
    | OtherPrograms
    | SendRaw
    | ServerShutdown
    | SilenceOpenSockets
)
"""What the exchange has to carry out at once."""


@dataclass(slots=True)
class FaultBoard:
    """Which faults are switched on."""

    clock_shift_ms: int = 0
    user_sockets_muted: bool = False
    market_sockets_muted: bool = False
    maintenance: bool = False
    young_ms: int = 0
    """An order that is younger is not found by its id."""
    marks_shift_ms: int = 0
    shifted_rounds: int = 0
    frames: list[FrameFault] = field(default_factory=list)
    rest: list[RestFault] = field(default_factory=list)
    handshakes: list[RestFault] = field(default_factory=list)

    def switch(self, name: str, args: Mapping[str, object]) -> Action | None:
        """Switch a fault on by name. Returns what has to be done at once, if anything."""
        match name:
            case "drop_user_frames" | "duplicate_user_frames" | "swap_user_frames" | "delay_user_frames":
                kind = name.removesuffix("_user_frames")
                delay_ms = _integer(args, "delay_ms", 0 if kind != "delay" else None)
                self.frames.append(FrameFault(kind, _integer(args, "count", 1), _texts(args, "events"), delay_ms))
            case "mute_user_sockets":
                self.user_sockets_muted = _flag(args, "on")
            case "mute_market_sockets":
                self.market_sockets_muted = _flag(args, "on")
            case "mute_open_sockets":
                return SilenceOpenSockets()
            case "hold_rest":
                return LagRest(_texts(args, "paths"), None) if _flag(args, "on") else LagRest()
            case "lag_rest":
                return LagRest(_texts(args, "paths"), _amount(args, "ms"))
            case "hide_young_orders":
                self.young_ms = _amount(args, "ms")
            case "other_programs":
                return OtherPrograms(_amount(args, "weight"))
            case "maintenance":
                self.maintenance = _flag(args, "on")
                return CutSockets("", 1006) if self.maintenance else None
            case "answer_rest":
                self.rest.append(self._rest_fault(args, _integer(args, "status", None)))
            case "delay_rest":
                self.rest.append(self._rest_fault(args, 0))
            case "refuse_sockets":
                self.handshakes.append(self._rest_fault(args, _integer(args, "status", 503)))
            case "shift_clock":
                self.clock_shift_ms = _integer(args, "by_ms", None)
            case "shift_marks":
                self.marks_shift_ms, self.shifted_rounds = _integer(args, "by_ms", None), _integer(args, "rounds", 1)
            case "clear":
                self.clear()
                return Clear()
            case "cut_sockets":
                return CutSockets(_text(args, "kind"), _integer(args, "code", 1006))
            case "expire_listen_key":
                text_time = _flag(args, "text_time", default=False)
                return ExpireListenKey(_integer(args, "times", 1), text_time, _flag(args, "with_key"))
            case "forget_listen_key":
                return ForgetListenKey()
            case "send_raw":
                return SendRaw(_payload(args))
            case "server_shutdown":
                return ServerShutdown()
            case _:
                raise FaultError(f"there is no fault {name!r}")
        return None

    def clear(self) -> None:
        """Everything back to normal."""
        self.clock_shift_ms = self.young_ms = self.marks_shift_ms = self.shifted_rounds = 0
        self.user_sockets_muted = self.market_sockets_muted = self.maintenance = False
        for faults in (self.frames, self.rest, self.handshakes):
            faults.clear()

    def fate(self, event: str) -> Fate:
        """What becomes of the next user frame; uses up one of the first fault that concerns it."""
        for fault in self.frames:
            if fault.events and event not in fault.events:
                continue
            if fault.use():
                self.frames.remove(fault)
            match fault.kind:
                case "drop":
                    return Fate(copies=0)
                case "duplicate":
                    return Fate(copies=2)
                case "swap":
                    return Fate(swapped=True)
                case _:
                    return Fate(delay_ms=fault.delay_ms)
        return Fate()

    def rest_answer(self, path: str) -> RestFault | None:
        """How the next REST call of `path` goes wrong, if it does; uses the fault up once."""
        return _take(self.rest, path)

    def marks_shift(self) -> int:
        """How far ahead the next round of mark prices is stamped; uses the fault up once."""
        self.shifted_rounds = max(0, self.shifted_rounds - 1)
        shift_ms = self.marks_shift_ms
        if not self.shifted_rounds:
            self.marks_shift_ms = 0
        return shift_ms

    def handshake(self, path: str) -> RestFault | None:
        """How the next websocket handshake on `path` goes wrong, if it does."""
        return _take(self.handshakes, path)

    @staticmethod
    def _rest_fault(args: Mapping[str, object], status: int) -> RestFault:
        return RestFault(
            count=_integer(args, "count", 1),
            status=status,
            body=_text(args, "body"),
            delay_ms=_integer(args, "delay_ms", 0),
            path=_text(args, "path"),
            headers=_headers(args),
        )


def _take(faults: list[RestFault], path: str) -> RestFault | None:
    for fault in faults:
        if fault.path in ("", path):
            if fault.use():
                faults.remove(fault)
            return fault
    return None


def _integer(args: Mapping[str, object], name: str, default: int | None) -> int:
    value = args.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise FaultError(f"{name} has to be a whole number, not {value!r}")
    return value


def _amount(args: Mapping[str, object], name: str) -> int:
    value = _integer(args, name, None)
    if value < 0:
        raise FaultError(f"{name} has to be 0 or more, not {value}")
    return value


def _text(args: Mapping[str, object], name: str) -> str:
    value = args.get(name, "")
    if not isinstance(value, str):
        raise FaultError(f"{name} has to be a text, not {value!r}")
    return value


def _texts(args: Mapping[str, object], name: str) -> frozenset[str]:
    value = args.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise FaultError(f"{name} has to be a list of texts, not {value!r}")
    return frozenset(value)


def _headers(args: Mapping[str, object]) -> dict[str, str]:
    value = args.get("headers", {})
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in (*value, *value.values())):
        raise FaultError(f"headers has to be an object of texts, not {value!r}")
    return value


def _flag(args: Mapping[str, object], name: str, *, default: bool = True) -> bool:
    value = args.get(name, default)
    if not isinstance(value, bool):
        raise FaultError(f"{name} has to be true or false, not {value!r}")
    return value


def _payload(args: Mapping[str, object]) -> bytes:
    if "base64" in args:
        try:
            return base64.b64decode(_text(args, "base64"), validate=True)
        except binascii.Error as error:
            raise FaultError(f"base64: {error}") from error
    return _text(args, "text").encode()
