from __future__ import annotations

from decimal import Decimal

import pytest
from support.binance_account import NOW, api_of_an_account

from statecast.simulator.binance import public
from statecast.simulator.binance.errors import ApiError
from statecast.simulator.binance.rest import Params


def test_a_symbol_answers_with_a_row_and_none_with_the_list() -> None:
    api = api_of_an_account()
    one = public.ticker_price(api, Params(symbol="BTCUSDT"), NOW)
    assert one == {"symbol": "BTCUSDT", "price": "91250.4", "time": NOW}
    assert one in public.ticker_price(api, Params(), NOW)
    assert public.asset_index(api, Params(symbol="USDCUSD"), NOW)["index"] == "0.99980000"
    with pytest.raises(ApiError) as caught:
        public.asset_index(api, Params(symbol="NOPEUSD"), NOW)
    assert caught.value.code == -1121


def test_the_book_stands_one_tick_around_the_mark() -> None:
    book = public.book_ticker(api_of_an_account(), Params(symbol="BTCUSDT"), NOW)
    assert (book["bidPrice"], book["askPrice"]) == ("91250.3", "91250.5")


def test_the_rules_are_the_ledgers() -> None:
    api = api_of_an_account()
    listed = {row["symbol"]: row for row in public.exchange_info(api, Params(), NOW)["symbols"]}
    assert list(listed) == list(api.ledger.rules)
    filters = {row["filterType"]: row for row in listed["BTCUSDT"]["filters"]}
    assert Decimal(filters["PRICE_FILTER"]["tickSize"]) == api.ledger.rules["BTCUSDT"].tick_size
    assert (listed["BTCUSDT"]["pricePrecision"], listed["BTCUSDT"]["quantityPrecision"]) == (1, 3)
