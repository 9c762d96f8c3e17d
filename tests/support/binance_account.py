"""A client of the simulated Binance exchange in the same thread."""

from __future__ import annotations

import hashlib
import hmac
import json
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import urlencode

from statecast.secret import Secret
from statecast.simulator.binance import algos, orders
from statecast.simulator.binance.exchange import Exchange, Response
from statecast.simulator.binance.rest import Params, RestApi
from statecast.simulator.binance.signing import ApiKey
from statecast.simulator.binance.streams import Stream
from statecast.simulator.ledger import Ledger

NOW = 1_793_000_000_000
SECRET = "s1"
ORDER_PARAMS = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.1"}
D = Decimal


class Account:
    """A client of an exchange in the same thread: signs its requests, keeps what its socket brought."""

    def __init__(self, *, hedge: bool = False, **options: Any) -> None:
        self.now_ms = NOW
        self.ledger = Ledger({"USDT": D(10_000), "USDC": D(5_000)}, now_ms=NOW, hedge=hedge)
        keys = [ApiKey("full", Secret("s1")), ApiKey("reader", Secret("s2"), trading=False)]
        self.exchange = Exchange(self.ledger, keys, Random(4), **options)

    def raw(self, method: str, path: str, query: str = "", key: str = "full", body: bytes = b"") -> Response:
        return self.exchange.request(method, path, query, {"X-MBX-APIKEY": key} if key else {}, body, self.now_ms)

    def signed(self, method: str, path: str, *, key: str = "full", secret: str = SECRET, **params: Any) -> Response:
        text = urlencode({**params, "timestamp": params.pop("timestamp", self.now_ms)})
        signature = hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        return self.raw(method, path, f"{text}&signature={signature}", key)

    def get(self, path: str, **params: Any) -> Any:
        answer = self.signed("GET", path, **params)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def post(self, path: str, **params: Any) -> Any:
        answer = self.signed("POST", path, **params)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def order(self, **params: Any) -> Any:
        defaults = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.1"}
        return self.post("/fapi/v1/order", **(defaults | params))

    def follow(self) -> Stream:
        key = json.loads(self.raw("POST", "/fapi/v1/listenKey").body)["listenKey"]
        stream = self.exchange.connect("/private/ws", f"listenKey={key}", self.now_ms)
        assert isinstance(stream, Stream)
        return stream

    def frames(self, stream: Stream) -> list[dict[str, Any]]:
        return [json.loads(frame) for frame in stream.take(self.now_ms)]


def error(answer: Response) -> tuple[int, int]:
    return answer.status, json.loads(answer.body)["code"]


def api_of_an_account() -> RestApi:
    """The endpoints of an account with a position, an open order and a conditional order."""
    api = RestApi(Ledger({"USDT": D(10_000)}, now_ms=NOW), lambda _: None)
    orders.new_order(api, Params(ORDER_PARAMS, type="MARKET"), NOW)
    orders.new_order(api, Params(ORDER_PARAMS, type="LIMIT", timeInForce="GTC", price="90000"), NOW)
    algos.new_algo(api, Params(ORDER_PARAMS, type="STOP_MARKET", triggerPrice="93000", algoType="CONDITIONAL"), NOW)
    return api
