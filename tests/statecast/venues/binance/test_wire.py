"""Where the adapter connects, and what it says on the market stream."""

from __future__ import annotations

import json

import pytest

from statecast.errors import ConfigError
from statecast.secret import Secret
from statecast.venues.binance.wire import MAX_REQUEST_BYTES, BinanceUrls, mark_price_request, url_symbols


def choose(
    testnet: bool = False,
    rest: str | None = None,
    ws: str | None = None,
    market_ws: str | None = None,
    private_path: str | None = None,
) -> BinanceUrls:
    return BinanceUrls.choose(testnet, rest, ws, market_ws, private_path)


def test_production_hosts() -> None:
    urls = choose()
    assert (urls.rest, urls.sapi) == ("https://fapi.binance.com", "https://api.binance.com")
    assert urls.private_stream_url(Secret("k1")) == "wss://fstream.binance.com/private/ws?listenKey=k1"
    assert urls.market_stream_url([]) == "wss://fstream.binance.com/market/stream"


def test_testnet_asks_nothing_of_production() -> None:
    urls = choose(testnet=True)
    assert (urls.rest, urls.sapi) == ("https://demo-fapi.binance.com", "https://demo-fapi.binance.com")
    assert urls.private_ws == urls.market_ws == "wss://demo-fstream.binance.com"


def test_overridden_hosts_take_the_other_hosts_with_them() -> None:
    urls = choose(rest="http://127.0.0.1:8900/", ws="ws://127.0.0.1:8901")
    assert (urls.rest, urls.sapi) == ("http://127.0.0.1:8900", "http://127.0.0.1:8900")
    assert urls.private_ws == urls.market_ws == "ws://127.0.0.1:8901"


def test_market_stream_may_be_elsewhere() -> None:
    urls = choose(ws="ws://127.0.0.1:8901", market_ws="wss://[::1]:8902")
    assert (urls.private_ws, urls.market_ws) == ("ws://127.0.0.1:8901", "wss://[::1]:8902")


def test_market_stream_url_encodes_symbols_of_other_scripts() -> None:
    url = choose().market_stream_url(["BTCUSDT", "币安USDT", "BTCUSDT_260925"])
    assert url == (
        "wss://fstream.binance.com/market/stream?streams="
        "btcusdt@markPrice@1s/%E5%B8%81%E5%AE%89usdt@markPrice@1s/btcusdt_260925@markPrice@1s"
    )


def test_private_path_is_a_setting_and_the_key_is_encoded() -> None:
    urls = choose(private_path="/private/ws/{listen_key}")
    assert urls.private_stream_url(Secret("a/b?c")) == "wss://fstream.binance.com/private/ws/a%2Fb%3Fc"


@pytest.mark.parametrize(
    "path", ["private/{listen_key}", "/private", "/{listen_key}/{listen_key}", "/a b/{listen_key}"]
)
def test_private_path_that_cannot_work(path: str) -> None:
    with pytest.raises(ConfigError, match="STATECAST_BINANCE_PRIVATE_PATH"):
        choose(private_path=path)


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8900",
        "ws://127.0.0.1:8900",
        "http://",
        "http://host:port",
        "http://host:99999",
        "http://host:0",
        "http://host/fapi",
        "http://host?x=1",
        "http://host#x",
        "http://ho st",
        "http://[::1",
    ],
)
def test_malformed_base_url_names_setting_value_and_what_is_accepted(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(rest=url)
    assert str(caught.value).startswith(
        f"STATECAST_REST_URL is {url!r}; accepted: scheme, host and port, such as http://"
    )


def test_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        choose(ws="ws://user:hunter2@host:1")
    assert "hunter2" not in str(caught.value)
    assert "STATECAST_WS_URL" in str(caught.value)


SUPPORTED = 1_024
"""Streams that the venue allows on one socket."""


def test_a_change_of_symbols_is_one_message_each_way() -> None:
    wanted = {"ETHUSDT", "XRPUSDT", "币安USDT"}
    leave = mark_price_request({"BTCUSDT", "ETHUSDT"}, wanted, 7)
    assert leave is not None
    assert json.loads(leave.text) == {"method": "UNSUBSCRIBE", "params": ["btcusdt@markPrice@1s"], "id": 7}
    assert leave.carried == {"ETHUSDT"}
    join = mark_price_request(leave.carried, wanted, 8)
    assert join is not None
    streams = ["xrpusdt@markPrice@1s", "币安usdt@markPrice@1s"]
    assert json.loads(join.text) == {"method": "SUBSCRIBE", "params": streams, "id": 8}
    assert join.carried == wanted
    assert mark_price_request(join.carried, wanted, 9) is None


@pytest.mark.parametrize("name", ["S{}USDT", "币安人生{}USDT", "{}" + "X" * 60])
@pytest.mark.parametrize("joins", [True, False])
def test_no_message_is_longer_than_the_venue_reads(name: str, joins: bool) -> None:
    many = frozenset(name.format(number) for number in range(SUPPORTED))
    carried, wanted = (frozenset[str](), many) if joins else (many, frozenset[str]())
    sent: list[str] = []
    while request := mark_price_request(carried, wanted, len(sent)):
        assert len(request.text.encode()) <= MAX_REQUEST_BYTES
        sent += json.loads(request.text)["params"]
        carried = request.carried
    assert sorted(sent) == sorted(f"{symbol.lower()}@markPrice@1s" for symbol in many)


@pytest.mark.parametrize("name", ["S{}USDT", "币安人生{}USDT"])
def test_the_url_has_as_many_symbols_as_fit(name: str) -> None:
    symbols = [name.format(number) for number in range(SUPPORTED)]
    url = choose().market_stream_url(url_symbols(symbols))
    assert MAX_REQUEST_BYTES * 0.8 < len(url) <= MAX_REQUEST_BYTES
    assert url_symbols(["ETHUSDT", "BTCUSDT"]) == ["BTCUSDT", "ETHUSDT"]
    assert url_symbols([]) == []
