"""Binance USDⓈ-M as it stands on the wire: hosts, paths, URL forms, weights, statuses. Nothing is sent from here.

Sources: developers.binance.com, derivatives → usds-margined-futures (pages as of 2026-05-28 to 2026-09), its change log
up to 2026-10-23, and field reports where said; read in November 2026. Since 2026-04-23 streams are routed by their
first path segment (`/public`, `/market`, `/private`): on the old paths a socket opens, acknowledges and stays silent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass
from typing import Literal, NamedTuple
from urllib.parse import quote, urlsplit

import orjson

from statecast.domain import orders
from statecast.errors import ConfigError
from statecast.secret import Secret

VENUE = "binance"

PRODUCTION_REST = "https://fapi.binance.com"
PRODUCTION_SAPI = "https://api.binance.com"
PRODUCTION_WS = "wss://fstream.binance.com"

TESTNET_REST = "https://demo-fapi.binance.com"
TESTNET_WS = "wss://demo-fstream.binance.com"
"""The newest documented demo host; `wss://fstream.binancefuture.com` is the same backend (probe, 2026-09)."""

PRIVATE_PATH = "/private/ws?listenKey={listen_key}"
"""Inferred, so it is a setting. The documented `/private/ws/<listenKey>` was reported open but silent after the move of
2026-04-23 while the query form delivered (adshao/go-binance#812, ccxt#28091)."""

PRIVATE_PATH_SETTING = "STATECAST_BINANCE_PRIVATE_PATH"

MARKET_PATH = "/market/stream"


class Call(NamedTuple):
    """A REST endpoint: what it costs of the IP's weight per minute; whether it is signed, wants the key, or neither."""

    method: str
    path: str
    weight: int
    security: Literal["signed", "key", "none"] = "signed"

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


# Weights without a symbol filter, from the endpoints' own pages.
TIME = Call("GET", "/fapi/v1/time", 1, "none")
EXCHANGE_INFO = Call("GET", "/fapi/v1/exchangeInfo", 1, "none")
ACCOUNT = Call("GET", "/fapi/v3/account", 5)
POSITION_RISK = Call("GET", "/fapi/v3/positionRisk", 5)
OPEN_ORDERS = Call("GET", "/fapi/v1/openOrders", 40)
OPEN_ALGO_ORDERS = Call("GET", "/fapi/v1/openAlgoOrders", 40)
SYMBOL_ORDERS = OPEN_ORDERS._replace(weight=1)
SYMBOL_ALGO_ORDERS = OPEN_ALGO_ORDERS._replace(weight=1)
"""With a symbol."""
ACCOUNT_CONFIG = Call("GET", "/fapi/v1/accountConfig", 5)
SYMBOL_CONFIG = Call("GET", "/fapi/v1/symbolConfig", 5)
# Histories. allOrders takes a call without `symbol` since 2026-08-25, allAlgoOrders and userTrades do not.
ALL_ORDERS = Call("GET", "/fapi/v1/allOrders", 5)
ALL_ALGO_ORDERS = Call("GET", "/fapi/v1/allAlgoOrders", 5)
USER_TRADES = Call("GET", "/fapi/v1/userTrades", 5)
ORDER = Call("GET", "/fapi/v1/order", 1)
ALGO_ORDER = Call("GET", "/fapi/v1/algoOrder", 1)
ORDER_AMENDMENT = Call("GET", "/fapi/v1/orderAmendment", 1)
INCOME = Call("GET", "/fapi/v1/income", 30)
# The listen key calls carry the API key in a header and nothing in the URL ("User Data Streams").
LISTEN_KEY_CREATE = Call("POST", "/fapi/v1/listenKey", 1, "key")
LISTEN_KEY_DELETE = Call("DELETE", "/fapi/v1/listenKey", 1, "key")
# On another host with a weight pool of its own, so that it costs the futures pool nothing.
API_RESTRICTIONS = Call("GET", "/sapi/v1/account/apiRestrictions", 0)

DAY_MS = 86_400_000

HISTORY_SPAN_MS = 6 * DAY_MS
"""Asked for at once; the venue refuses seven days and more."""

HISTORY_PAGE = 1000
"""Rows of a page at the most."""

AMENDMENT_PAGE = 100
"""The same of an order's amendments ("Get Order Modify History")."""

UNFILLED_KEPT_MS = 3 * DAY_MS
"""Orders that were cancelled or expired without any fill are forgotten this long after their creation."""

KEPT_MS = 90 * DAY_MS
"""Everything else is. The history of trades reaches as far, since 2026-08-26: three months; and so do incomes and
amendments. No history is asked for what is older: the venue may refuse to answer."""

# What is known of the venue's answers and connections; where no page is named, it is an estimate, on the safe side.

CLOCK_ERROR_MS = 500
"""The venue's clock is known to within this: a slower probe is not used, for from 1,000 ms ahead every signed call is
refused ("Timing security")."""

REST_LAG_MS = 10_000
"""REST may be behind the stream by this at the most. What the stream sent longer before the venue was asked, the answer
has as well; and what it sent for a later time than that is of a venue's clock that was set back since."""

REST_RECENT_MS = 3_000
"""What the stream sent so shortly before REST was asked, REST may well not have yet."""

HISTORY_LAG_MS = 60_000
"""Histories may be behind by this: what they list of that time is asked for once more."""

MAX_CONDITIONAL_ORDERS = 200
"""Of an account, since 2025-12-29 (change log)."""

CONNECTION_LIFE_S = 24 * 3600.0
"""The venue cuts a connection at this age ("Connect")."""

MAX_SILENCE_S = 240.0
"""The venue pings every three minutes: a connection on which neither a ping nor a frame comes for longer is dead."""

MARKET_SILENCE_S = 30.0
"""Every symbol's price comes once a second: a connection that sends nothing for so long is open and silent."""

CONNECTS = 150
CONNECTS_WITHIN_S = 300.0
"""The venue allows an IP address 300 attempts in five minutes (documented for Spot); half of them are the bots' behind
the same address."""

MAX_REQUEST_BYTES = 4_000
"""Of a request on a market socket, and of its URL. Of a request of more than 4,088 bytes the venue takes no notice, and
does not say so (measured on Spot, binance/binance-connector-rust#27); a URL could have some 8,000."""

_FRAMING_BYTES = 200
"""Of them what stands around the names of streams: host and path, or method and number."""

SINGLE_ASSET_TOTALS = "USDT"
MULTI_ASSETS_TOTALS = "USD"
"""What the account's totals count, in each margin mode ("Account Information V3")."""

POSITION_SIDES = frozenset({"BOTH", "LONG", "SHORT"})
SIDES = frozenset({"BUY", "SELL"})

ORDER_STATUSES = (frozenset(orders.ORDINARY) - {orders.LOST}) | {"PENDING_NEW", "NEW_INSURANCE", "NEW_ADL"}
"""The contract's words are this venue's. The last three are older names of a live order, no longer documented and still
accepted."""

SYSTEM_ORDERS = ("autoclose-", "adl_autoclose", "settlement_autoclose-")
"""How client ids of the venue's own orders begin. Whether the stream sends their NEW is not certain."""

ALGO_STATUSES = orders.CONDITIONAL_STATUSES

COIN_M = 2
"""`st` of market frames: 1 is USDⓈ-M, 2 is COIN-M, whose symbols share the all-market streams since 2026-06-30."""


@dataclass(frozen=True, slots=True)
class BinanceUrls:
    """Base URLs (scheme, host, port) of one account's services, and the path of its private stream."""

    rest: str
    sapi: str
    private_ws: str
    market_ws: str
    private_path: str
    sapi_may_be_absent: bool
    """Whether `sapi` is a host that need not know its calls: it answers 403 or 404 then."""

    @classmethod
    def choose(
        cls,
        testnet: bool,
        rest_url: str | None,
        ws_url: str | None,
        market_ws_url: str | None,
        private_path: str | None,
    ) -> BinanceUrls:
        """The venue's hosts, except where a setting names another.

        With `rest_url` set, the calls of other hosts go there too; `market_ws_url` follows `ws_url`. The demo has no
        `sapi` host: its REST host answers 403 there. A setting that is no base URL raises ConfigError.
        """
        rest = _base(rest_url, "STATECAST_REST_URL", "http", TESTNET_REST if testnet else PRODUCTION_REST)
        ws = _base(ws_url, "STATECAST_WS_URL", "ws", TESTNET_WS if testnet else PRODUCTION_WS)
        path = private_path or PRIVATE_PATH
        if not path.startswith("/") or path.count("{listen_key}") != 1 or not path.isprintable() or " " in path:
            raise ConfigError(
                PRIVATE_PATH_SETTING, path, "a path with {listen_key} in it once, such as " + PRIVATE_PATH
            )
        elsewhere = bool(rest_url) or testnet
        return cls(
            rest=rest,
            sapi=rest if elsewhere else PRODUCTION_SAPI,
            sapi_may_be_absent=elsewhere,
            private_ws=ws,
            market_ws=_base(market_ws_url, "STATECAST_MARKET_WS_URL", "ws", ws),
            private_path=path,
        )

    def private_stream_url(self, listen_key: Secret) -> str:
        """Where the account's events come. The URL holds the listen key: it must not reach a log or an exception.

        The venue opens this socket for a dead listen key as well; only an arriving event proves a subscription.
        """
        return self.private_ws + self.private_path.replace("{listen_key}", quote(listen_key.reveal(), safe=""))

    def market_stream_url(self, symbols: Iterable[str]) -> str:
        """Where the mark prices of `symbols` come, one per symbol and second; up to 1,024 on one socket.

        Without symbols it is the bare stream, to which a `mark_price_request` subscribes.
        """
        streams = "/".join(quote(mark_price_stream(symbol), safe="@!") for symbol in symbols)
        return f"{self.market_ws}{MARKET_PATH}" + (f"?streams={streams}" if streams else "")


def mark_price_stream(symbol: str) -> str:
    """The name of a symbol's mark price stream: `btcusdt@markPrice@1s`."""
    return f"{symbol.lower()}@markPrice@1s"


def url_symbols(symbols: Iterable[str]) -> list[str]:
    """Which of the symbols stand in the URL of the market stream: as many as fit into it."""
    return _that_fit(symbols, lambda stream: len(quote(stream, safe="@!")) + 1)


class MarkPriceRequest(NamedTuple):
    """A message for an open market socket, and the symbols that the socket carries after it."""

    text: str
    carried: frozenset[str]


def mark_price_request(carried: Set[str], wanted: Set[str], request_id: int) -> MarkPriceRequest | None:
    """The next message that is needed so that a socket which carries the marks of some symbols carries those that are
    wanted; None where it does. Each message has as many symbols as fit into it."""
    for method, symbols in (("UNSUBSCRIBE", carried - wanted), ("SUBSCRIBE", wanted - carried)):
        if symbols:
            part = frozenset(_that_fit(symbols, lambda stream: len(stream.encode()) + 3))
            streams = sorted(map(mark_price_stream, part))
            text = orjson.dumps({"method": method, "params": streams, "id": request_id}).decode()
            return MarkPriceRequest(text, frozenset(carried - part if method == "UNSUBSCRIBE" else carried | part))
    return None


def _that_fit(symbols: Iterable[str], size: Callable[[str], int]) -> list[str]:
    """The first of the symbols, so that the names of their streams take up no more than a request or URL may have. One
    always fits."""
    room, found = MAX_REQUEST_BYTES - _FRAMING_BYTES, list[str]()
    for symbol in sorted(symbols):
        room -= size(mark_price_stream(symbol))
        if room < 0 and found:
            break
        found.append(symbol)
    return found


def _base(url: str | None, setting: str, scheme: str, default: str) -> str:
    if not url:
        return default
    accepted = f"scheme, host and port, such as {scheme}://127.0.0.1:8900 or {default}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigError(setting, url.rpartition("@")[2], accepted) from None
    if (
        parts.scheme not in (scheme, scheme + "s")
        or not parts.hostname
        or port == 0
        or "@" in parts.netloc
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
        or not url.isprintable()
        or " " in url
    ):
        raise ConfigError(setting, url.rpartition("@")[2], accepted)
    return f"{parts.scheme}://{parts.netloc}"
