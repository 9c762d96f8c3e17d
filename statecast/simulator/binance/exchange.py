"""A Binance USDⓈ-M futures exchange with one account, without the network. Deterministic; drivable in one thread.

The server is a thin shell over `Exchange`; so is a simulation that calls it directly:

    answer = exchange.request("GET", "/fapi/v1/time", "", {}, b"", now_ms)
    stream = exchange.connect("/private/ws", f"listenKey={key}", now_ms)
    exchange.publish(exchange.ledger.transfer("USDT", Decimal(100), now_ms), now_ms)
    frames = stream.take(now_ms)

Time only comes in as `now_ms`; call `tick` now and then for what happens by itself. Chance is the `Random` handed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import orjson

from statecast.simulator.binance.errors import NO_SUCH_ORDER, REFUSAL_TEXTS, ApiError, as_api_error
from statecast.simulator.binance.frames import (
    RARE_BODIES,
    Frame,
    listen_key_expired,
    mark_price,
    next_funding_ms,
    order_body,
    server_shutdown,
    user_frames,
)
from statecast.simulator.binance.limits import Limits
from statecast.simulator.binance.rest import WEIGHT_LIMIT, Params, RestApi
from statecast.simulator.binance.routes import ROUTES, Security
from statecast.simulator.binance.signing import BAD_KEY, ApiKey, Keys
from statecast.simulator.binance.streams import MAX_URL_BYTES, Stream, mark_streams, parse_target
from statecast.simulator.events import Event, OrderChanged
from statecast.simulator.exchange import Json, Response
from statecast.simulator.faults import (
    Clear,
    CutSockets,
    ExpireListenKey,
    FaultBoard,
    ForgetListenKey,
    LagRest,
    OtherPrograms,
    SendRaw,
    ServerShutdown,
    SilenceOpenSockets,
)
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import Refused
from statecast.simulator.replicas import Replicas
from statecast.simulator.symbols import INDEX_PRICES

if TYPE_CHECKING:
    from random import Random

LISTEN_KEY_PATH = "/fapi/v1/listenKey"
RESTRICTIONS_PATH = "/sapi/v1/account/apiRestrictions"
COINS_PATH = "/sapi/v1/capital/config/getall"
MARGIN_PAIRS_PATH = "/sapi/v1/margin/allPairs"
"""These two are what ccxt reads, when it has a key, before it does anything else. There are no margin pairs here."""
_SAPI_WEIGHTS = {RESTRICTIONS_PATH: 1, COINS_PATH: 10, MARGIN_PAIRS_PATH: 1}
LISTEN_KEY_LIFE_MS = 3_600_000
_BY_ID = frozenset({"/fapi/v1/order", "/fapi/v1/openOrder", "/fapi/v1/algoOrder"})
"""Paths that answer one order, which may be too young to be found."""
_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True, slots=True)
class ListenKey:
    """The account's key to its user data stream; one at a time, shared by all API keys."""

    key: str
    expires_at_ms: int


class Exchange:
    """The exchange: ledger, keys, limits, streams, faults. See `statecast.simulator.exchange.Exchange`.

    `weight_limit` is per minute over all callers. Public attributes are to be read; what changes the account goes
    through `request`, or through the ledger followed by `publish`.
    """

    def __init__(
        self, ledger: Ledger, keys: Iterable[ApiKey], rng: Random, *, weight_limit: int = WEIGHT_LIMIT
    ) -> None:
        self.ledger = ledger
        self.rng = rng
        self.limits = Limits(weight_limit)
        self.faults = FaultBoard()
        self.listen_key: ListenKey | None = None
        self.streams: list[Stream] = []
        self.requests: Counter[str] = Counter()
        """Calls per "METHOD path status"."""
        self.frames_sent: Counter[str] = Counter()
        """User frames per event name, whether or not a socket was there to take them."""
        self._keys = Keys(keys)
        self._now_ms = 0
        self._rest = RestApi(ledger, self._publish_now)
        self._replicas = Replicas(ledger)
        self._mark_rounds = 0
        self._next_funding_ms = 0

    def add_key(self, key: ApiKey) -> None:
        """One more API key of the account."""
        self._keys.add(key)

    def behave(self, **habits: Any) -> None:
        """From now on the exchange has these `Habits`, and of the others those that it had."""
        self._rest = replace(self._rest, habits=replace(self._rest.habits, **habits))

    def server_ms(self, now_ms: int) -> int:
        """The exchange's own clock, which a fault may have moved."""
        return now_ms + self.faults.clock_shift_ms

    def order_event(self, event: OrderChanged) -> Json:
        """The `o` of the event's ORDER_TRADE_UPDATE."""
        return order_body(event)

    def activity(self) -> Json:
        """What clients did, for the control API."""
        key = self.listen_key
        return {
            "requests": dict(self.requests),
            "weightUsed": self.limits.weight_used,
            "listenKey": {"listenKey": key.key, "expiresAt": key.expires_at_ms} if key else None,
            "sockets": [
                {"root": stream.root, "wrapped": stream.wrapped, "subscriptions": list(stream.subscriptions)}
                for stream in self.streams
            ],
            "userFrames": dict(self.frames_sent),
        }

    # -- REST --------------------------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, now_ms: int
    ) -> Response:
        """Answer a REST call. `query` is the raw query string, `headers` are looked up as written in the document."""
        self._now_ms = now_ms
        self.tick(now_ms)
        fault = self.faults.rest_answer(path)
        if fault and fault.status:
            kind = "application/json" if fault.body[:1] in ("{", "[") else "text/html"
            response = Response(fault.status, {"Content-Type": kind} | dict(fault.headers), fault.body.encode())
        elif self.faults.maintenance:
            response = _failed(MAINTENANCE, {})
        else:
            response = self._answer(method, path, query, headers, body, self.server_ms(now_ms))
        self.requests[f"{method} {path} {response.status}"] += 1
        if fault:
            return Response(response.status, response.headers, response.body, fault.delay_ms)
        return response

    def _answer(
        self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes, now_ms: int
    ) -> Response:
        usage: dict[str, str] = {}
        try:
            params = _params(query, body)
            answer = self._dispatch(method, path, query, headers, body, params, usage, now_ms)
        except Refused as refused:
            return _failed(as_api_error(refused), usage)
        except ApiError as error:
            return _failed(error, usage)
        return Response(200, _json_headers() | usage, orjson.dumps(answer))

    def _dispatch(
        self,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: bytes,
        params: Params,
        usage: dict[str, str],
        now_ms: int,
    ) -> Any:
        if method == "GET" and path in _SAPI_WEIGHTS:
            self.limits.use_sapi_weight(_SAPI_WEIGHTS[path], usage, now_ms)
            if path == MARGIN_PAIRS_PATH:
                self._keys.known(headers)
                return []
            key = self._keys.signer(query, headers, body, params, now_ms)
            return _restrictions(key) if path == RESTRICTIONS_PATH else [_coin(asset) for asset in INDEX_PRICES]
        route = ROUTES.get((method, path))
        weight = route.weigh(params) if route else 1
        self.limits.use_weight(weight, usage, now_ms)
        if path == LISTEN_KEY_PATH and method in ("POST", "PUT", "DELETE"):
            self._keys.known(headers)
            return self._listen_key_call(method, now_ms)
        if route is None:
            raise ApiError(-5000, f"Path {path}, Method {method} is invalid", 404)
        if route.security is not Security.NONE:
            key = self._keys.signer(query, headers, body, params, now_ms)
            allowed = key.trading if route.security is Security.TRADE else key.reading
            if not allowed:
                raise BAD_KEY
        if route.is_order:
            self.limits.use_order(usage, now_ms)
        copy = self._replicas.of(path, self._now_ms) if route.security is Security.READ else None
        rest = self._rest if copy is None else replace(self._rest, ledger=copy, publish=lambda events: None)
        answer = route.handler(rest, params, now_ms)
        if self.faults.young_ms and method == "GET" and path in _BY_ID:
            created_ms = answer.get("time") or answer["createTime"]
            if now_ms - created_ms < self.faults.young_ms:
                raise NO_SUCH_ORDER
        return answer

    def _listen_key_call(self, method: str, now_ms: int) -> dict[str, str]:
        if self.listen_key is not None:
            key = self.listen_key.key
        elif method == "POST":
            key = "".join(self.rng.choices(_ALPHABET, k=64))
        else:
            raise ApiError(-1125, "This listenKey does not exist.")
        if method == "DELETE":
            self.listen_key = None
            return {}
        self.listen_key = ListenKey(key, now_ms + LISTEN_KEY_LIFE_MS)
        return {"listenKey": key}

    # -- websockets --------------------------------------------------------------------------------------------------

    def connect(self, path: str, query: str, now_ms: int) -> Stream | Response:
        """Open a websocket; an HTTP answer instead when there is none at that path, or a fault refuses it."""
        self.tick(now_ms)
        stream = parse_target(path, query)
        if stream is None:
            return Response(404, {}, b"")
        if len(path) + len(query) > MAX_URL_BYTES:
            return Response(414, {}, b"")
        if fault := self.faults.handshake(path):
            return Response(fault.status, {}, fault.body.encode(), fault.delay_ms)
        if self.faults.maintenance:
            return _failed(MAINTENANCE, {})
        self.streams.append(stream)
        return stream

    def disconnect(self, stream: Stream) -> None:
        """The socket is gone."""
        if stream in self.streams:
            self.streams.remove(stream)

    def publish(self, events: Iterable[Event], now_ms: int) -> None:
        """Send every user data socket what has happened on the ledger."""
        self._replicas.settle(now_ms)
        for event in events:
            for frame in user_frames(event, self.server_ms(now_ms), REFUSAL_TEXTS):
                self.send_user(frame, now_ms)

    def _publish_now(self, events: Iterable[Event]) -> None:
        """Publish what a REST call has done."""
        self.publish(events, self._now_ms)

    def send_event(self, name: str, body: Json | None, now_ms: int) -> None:
        """Send a user frame that no ledger event makes, with the documented body if there is one and none is given."""
        at_ms = self.server_ms(now_ms)
        fields = RARE_BODIES.get(name, {}) if body is None else body
        self.send_user(Frame(name, {"e": name, "E": at_ms, "T": at_ms, **fields}), now_ms)

    def send_user(self, frame: Frame, now_ms: int) -> None:
        """Send one frame on every socket that follows the account and wants it."""
        self.frames_sent[frame.event] += 1
        if self.listen_key is None or self.faults.user_sockets_muted:
            return
        fate = self.faults.fate(frame.event)
        for stream in self.streams:
            if stream.wants(self.listen_key.key, frame.event):
                stream.send_user(
                    self.listen_key.key,
                    frame,
                    now_ms,
                    copies=fate.copies,
                    delay_ms=fate.delay_ms,
                    swapped=fate.swapped,
                )

    def publish_marks(self, now_ms: int) -> None:
        """Send a round of mark prices: the one-second streams every time, the three-second ones every third."""
        slow = self._mark_rounds % 3 == 0
        self._mark_rounds += 1
        at_ms = self.server_ms(now_ms) + self.faults.marks_shift()
        if self.faults.market_sockets_muted:
            return
        for stream, name, symbol in mark_streams(self.streams, slow=slow):
            symbols = [symbol] if symbol else list(self.ledger.marks)
            bodies = [mark_price(one, self.ledger.marks[one], at_ms) for one in symbols if one in self.ledger.marks]
            if symbol and bodies:
                stream.send_market(name, orjson.dumps(bodies[0]), now_ms)
            elif not symbol:
                stream.send_market(name, orjson.dumps(bodies), now_ms)

    def move_marks(self, now_ms: int) -> None:
        """Let every mark price take one step of its walk, with all that follows on the ledger."""
        for rules in self.ledger.rules.values():
            price = rules.walk(self.ledger.marks[rules.symbol], self.rng)
            self.publish(self.ledger.move_mark(rules.symbol, price, self.server_ms(now_ms)), now_ms)

    # -- time and faults ---------------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """What happens by itself: the listen key runs out, funding falls due every eight hours."""
        at_ms = self.server_ms(now_ms)
        if self.listen_key and at_ms >= self.listen_key.expires_at_ms:
            self._expire_listen_key(now_ms, ExpireListenKey())
        if not self._next_funding_ms:
            self._next_funding_ms = next_funding_ms(at_ms)
        if at_ms >= self._next_funding_ms:
            self._next_funding_ms = next_funding_ms(at_ms)
            for symbol in self.ledger.rules:
                self.publish(self.ledger.fund(symbol, at_ms), now_ms)

    def fault(self, name: str, args: Mapping[str, object], now_ms: int) -> None:
        """Switch a fault on; see `statecast.simulator.faults` for the names."""
        match self.faults.switch(name, args):
            case CutSockets(kind, code):
                for stream in list(self.streams):
                    if kind in ("", stream.root):
                        stream.close(code)
            case ExpireListenKey() as expiry:
                if self.listen_key:
                    self._expire_listen_key(now_ms, expiry)
            case ForgetListenKey():
                self.listen_key = None
            case LagRest(paths, lag_ms):
                self._replicas.lag(paths, lag_ms, now_ms)
            case OtherPrograms(weight):
                self.limits.share(weight)
            case Clear():
                self._replicas.lag((), 0, now_ms)
                self.limits.share(0)
            case SilenceOpenSockets():
                for stream in self.streams:
                    if stream.root == "private":
                        stream.fall_silent()
            case SendRaw(payload):
                for stream in self.streams:
                    if stream.root == "private":
                        stream.send(payload, now_ms)
            case ServerShutdown():
                payload = server_shutdown(self.server_ms(now_ms)).payload
                for stream in self.streams:
                    stream.send(payload, now_ms)

    def _expire_listen_key(self, now_ms: int, how: ExpireListenKey) -> None:
        """Say that the key is dead; its sockets stay open and silent."""
        assert self.listen_key is not None
        frame = listen_key_expired(
            self.listen_key.key, self.server_ms(now_ms), text_time=how.text_time, with_key=how.with_key
        )
        for _ in range(how.times):
            self.send_user(frame, now_ms)
        self.listen_key = None


MAINTENANCE = ApiError(-1016, "This service is no longer available.", 503)


def _params(query: str, body: bytes) -> Params:
    try:
        pairs = parse_qsl(query, keep_blank_values=True) + parse_qsl(body.decode(), keep_blank_values=True)
    except (UnicodeDecodeError, ValueError):
        raise ApiError(-1100, "Illegal characters found in a parameter.") from None
    return Params(pairs)


def _json_headers() -> dict[str, str]:
    return {"Content-Type": "application/json"}


def _failed(error: ApiError, usage: dict[str, str]) -> Response:
    body = orjson.dumps({"code": error.code, "msg": error.message})
    return Response(error.status, _json_headers() | usage | error.headers, body)


def _coin(asset: str) -> dict[str, object]:
    """A coin of the Spot wallet, which is empty here."""
    amounts = dict.fromkeys(("free", "locked", "freeze", "withdrawing", "ipoing", "ipoable", "storage"), "0")
    flags = {"depositAllEnable": True, "withdrawAllEnable": True, "trading": True, "isLegalMoney": False}
    return {"coin": asset, "name": asset, **amounts, **flags, "networkList": []}


def _restrictions(key: ApiKey) -> dict[str, object]:
    return {
        "ipRestrict": key.ip_restricted,
        "createTime": key.created_at_ms,
        "enableReading": key.reading,
        "enableWithdrawals": key.withdrawals,
        "enableInternalTransfer": False,
        "enableMargin": False,
        "enableFutures": key.trading,
        "permitsUniversalTransfer": False,
        "enableVanillaOptions": False,
        "enableFixApiTrade": False,
        "enableFixReadOnly": False,
        "enableSpotAndMarginTrading": False,
        "enablePortfolioMarginTrading": False,
    }
