"""Where the adapter connects, and what it says on the market stream."""

from __future__ import annotations

import json

import pytest

from statecast.errors import ConfigError
from statecast.secret import Secret
from statecast.venues.binance.wire import BinanceUrls, mark_price_requests


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


def test_change_of_symbols_is_one_message_each_way() -> None:
    leave, join = mark_price_requests({"BTCUSDT", "ETHUSDT"}, {"ETHUSDT", "XRPUSDT", "币安USDT"}, 7)
    assert json.loads(leave) == {"method": "UNSUBSCRIBE", "params": ["btcusdt@markPrice@1s"], "id": 7}
    streams = ["xrpusdt@markPrice@1s", "币安usdt@markPrice@1s"]
    assert json.loads(join) == {"method": "SUBSCRIBE", "params": streams, "id": 8}


def test_no_change_of_symbols_is_no_message() -> None:
    assert mark_price_requests({"BTCUSDT"}, {"BTCUSDT"}, 1) == ()


def test_first_symbols_are_one_message() -> None:
    (join,) = mark_price_requests(set(), {"BTCUSDT"}, 1)
    assert json.loads(join)["method"] == "SUBSCRIBE"
    assert json.loads(join)["id"] == 1
