"""The trader's reads: stream, else a REST answer that all share, else an error; its trading calls: the client's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.nofx import POSITION_KEYS, another_key, eventually, market_order, settings_for, snapshots_asked
from support.world import KEY, SECRET, new_server, world

from consumers.nofx import BinanceFuturesTrader, shared
from statecast.embedded.server import EmbeddedServer
from statecast.errors import ConfigError, StaleState, StoreUnreachable
from statecast.simulator.server import SimulatorServer


def via(trader: BinanceFuturesTrader) -> str:
    freshness = trader.get_freshness()
    assert freshness is not None
    assert freshness["age_ms"] >= 0
    return str(freshness["via"])


def cut_off(server: SimulatorServer) -> None:
    """No stream any more, neither the one that is open nor a new one."""
    server.exchange.fault("refuse_sockets", {"count": 1000}, 0)
    server.exchange.fault("cut_sockets", {"kind": "private"}, 0)


async def read_for_ever(trader: BinanceFuturesTrader) -> None:
    """Nothing but answers that may be acted on, or an error."""
    while True:
        await trader.get_positions()
        freshness = trader.get_freshness()
        assert freshness is not None
        assert freshness["age_ms"] <= trader.cache_duration.total_seconds() * 1000 + 100
        await asyncio.sleep(0.02)


# Where the numbers come from


async def test_the_stream_comes_first_and_costs_no_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server, RECONCILE_S="3600")
        trader = BinanceFuturesTrader(KEY, SECRET)
        assert trader.get_freshness() is None
        await trader.initialize_user_stream()
        await trader.initialize_user_stream()
        asked = server.exchange.requests.total()
        for _ in range(10):
            assert (await trader.get_balance())["availableBalance"] == 10_000.0
            assert await trader.get_positions() == []
        assert server.exchange.requests.total() == asked
        assert via(trader) == "publisher"
        await trader.stop_user_stream()


async def test_before_the_stream_is_there_rest_answers_and_all_traders_share_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        market_order(server, "BTCUSDT", "SELL", "0.01", tell=False)
        one, two = BinanceFuturesTrader(KEY, SECRET), BinanceFuturesTrader(KEY, SECRET)
        (position,) = await one.get_positions()
        assert list(position) == POSITION_KEYS
        assert (position["positionAmt"], position["leverage"], position["side"]) == (-0.01, 20, "short")
        assert await two.get_positions() == [position]
        assert snapshots_asked(server) == 1
        assert (via(one), via(two)) == ("refresh", "refresh")
        await one.stop_user_stream()
        await two.stop_user_stream()


async def test_the_stream_is_switched_off_and_on_at_any_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        trader = BinanceFuturesTrader(KEY, SECRET)
        await trader.initialize_user_stream()
        answers = []
        for enabled in (True, False, True):
            trader.user_stream_enabled = enabled
            await trader.get_positions()
            answers.append(via(trader))
        assert answers == ["publisher", "refresh", "publisher"]
        await trader.stop_user_stream()


async def test_a_stream_that_grows_old_is_replaced_by_rest_and_nothing_old_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server, MAX_AGE_S="2")
        trader = BinanceFuturesTrader(KEY, SECRET)
        await trader.initialize_user_stream()
        assert await trader.get_positions() == []
        assert via(trader) == "publisher"

        # The publisher still gets its snapshots; without a stream, none of them makes the state fresh again.
        cut_off(server)
        market_order(server, "BTCUSDT", "BUY", "0.01", tell=False)
        stream = trader.user_stream
        assert stream is not None
        await eventually(lambda: stream.get_account_data() is None)
        assert [row["symbol"] for row in await trader.get_positions()] == ["BTCUSDT"]
        assert via(trader) == "refresh"
        assert (await trader.get_balance())["totalWalletBalance"] < 10_000.0

        server.exchange.fault("answer_rest", {"count": 10_000, "status": 503}, 0)
        with pytest.raises(StaleState) as caught:
            await read_for_ever(trader)  # until the last answer is too old as well
        assert "the publisher is recovering" in str(caught.value)
        assert "503" in str(caught.value)
        await trader.stop_user_stream()


async def test_skin_asks_the_venue_now(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server, RECONCILE_S="3600")
        trader = BinanceFuturesTrader(KEY, SECRET)
        await trader.initialize_user_stream()
        assert await trader.get_positions() == []
        market_order(server, "BTCUSDT", "BUY", "0.01", tell=False)
        assert await trader.get_positions() == []
        for number in (1, 2):
            before = snapshots_asked(server)
            assert len(await trader.get_positions(True)) == 1
            assert snapshots_asked(server) == before + 1, number
            assert via(trader) == "refresh"
        await trader.stop_user_stream()


async def test_without_keys_the_publisher_elsewhere_is_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name) as here:
        settings_for(monkeypatch, tmp_path, REDIS_URL=redis_url, ACCOUNT=account_name)
        trader = BinanceFuturesTrader()
        trader.user_stream_enabled = False
        await trader.initialize_user_stream()
        assert trader.user_stream is None
        asked = snapshots_asked(here.server)
        assert (await trader.get_balance())["totalWalletBalance"] == 10_000.0
        assert await trader.get_positions() == []
        assert snapshots_asked(here.server) == asked + 1
        assert via(trader) == "refresh"
        await trader.stop_user_stream()


async def test_without_keys_and_publisher_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str, account_name: str
) -> None:
    settings_for(monkeypatch, tmp_path, REDIS_URL=redis_url, ACCOUNT=account_name)
    trader = BinanceFuturesTrader("", "")
    with pytest.raises(StaleState, match="give this reader credentials"):
        await trader.get_balance()
    assert trader.get_freshness() is None
    await trader.stop_user_stream()


# Starts and stops


async def test_a_stream_that_does_not_start_is_no_error_and_comes_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_redis: EmbeddedServer
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server, REDIS_URL=own_redis.url)
        own_redis.kill()
        trader = BinanceFuturesTrader(KEY, SECRET, start_within_s=0.3)
        await trader.initialize_user_stream()
        with pytest.raises(StoreUnreachable):
            await trader.get_balance()
        own_redis.start()
        stream = trader.user_stream
        assert stream is not None
        await eventually(stream.get_account_data)
        assert await trader.get_positions() == []
        assert via(trader) == "publisher"
        await trader.stop_user_stream()


async def test_a_refused_key_leaves_an_error_and_no_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        trader = BinanceFuturesTrader("a-wrong-key", "a-wrong-secret")
        await trader.initialize_user_stream()
        for read in (trader.get_balance, trader.get_positions):
            with pytest.raises(StaleState) as caught:
                await read()
            assert "a-wrong" not in str(caught.value)
        await trader.stop_user_stream()


async def test_after_stop_reads_go_by_rest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        trader = BinanceFuturesTrader(KEY, SECRET)
        await trader.stop_user_stream()
        await trader.initialize_user_stream()
        await trader.stop_user_stream()
        assert trader.user_stream is None
        await eventually(lambda: not server.exchange.streams)
        assert await trader.get_positions() == []
        assert via(trader) == "refresh"
        await trader.initialize_user_stream()
        assert await trader.get_positions() == []
        assert via(trader) == "publisher"
        await trader.stop_user_stream()


async def test_a_stop_does_not_cut_off_a_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        trader = BinanceFuturesTrader(KEY, SECRET)
        assert await trader.get_positions() == []
        server.exchange.fault("delay_rest", {"count": 1, "delay_ms": 500, "path": "/fapi/v1/openOrders"}, 0)
        reading = asyncio.create_task(trader.get_positions(skin=True))
        await eventually(lambda: snapshots_asked(server) == 2)
        await trader.stop_user_stream()
        assert await reading == []
        assert shared._things() == {}


async def test_two_keys_of_one_account_name_are_refused_by_rest_as_well(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server, ACCOUNT="shared")
        another_key(server, "other-key", "other-secret")
        mine, theirs = BinanceFuturesTrader(KEY, SECRET), BinanceFuturesTrader("other-key", "other-secret")
        assert await mine.get_positions() == []
        with pytest.raises(ConfigError, match="STATECAST_ACCOUNT is 'shared'"):
            await theirs.get_positions()
        await mine.stop_user_stream()
        assert await theirs.get_positions() == []
        await theirs.stop_user_stream()


# Trading

CALLS: dict[str, tuple[Any, ...]] = {
    "open_long": ("BTCUSDT", 0.01, 5),
    "open_short": ("BTCUSDT", 0.01, 5),
    "close_long": ("BTCUSDT", 0.0),
    "close_short": ("BTCUSDT", 0.0),
    "set_leverage": ("BTCUSDT", 5),
    "set_margin_mode": ("BTCUSDT", True),
    "get_market_price": ("BTCUSDT",),
    "set_stop_loss": ("BTCUSDT", "LONG", 0.01, 90_000.0),
    "set_take_profit": ("BTCUSDT", "LONG", 0.01, 95_000.0),
    "set_stop_loss_take_profit": ("BTCUSDT", "long", 90_000.0, 95_000.0),
    "cancel_all_orders": ("BTCUSDT",),
    "format_quantity": ("BTCUSDT", 0.01),
    "get_commission_rate": ("BTCUSDT",),
    "calculate_position_fee": ("BTCUSDT", 0.01, 90_000.0),
    "get_account_commission_info": (),
}
ANSWERS_NOTHING = {
    "set_leverage",
    "set_margin_mode",
    "set_stop_loss",
    "set_take_profit",
    "cancel_all_orders",
}


class SyncClient:
    """Notes what it is called for, as a user's client of any kind would trade."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> str:
            self.calls.append((name, args))
            return f"answer to {name}"

        return call


class AsyncClient(SyncClient):
    def __getattr__(self, name: str) -> Any:
        answer = super().__getattr__(name)

        async def call(*args: Any) -> Any:
            return answer(*args)

        return call


@pytest.mark.parametrize("client_class", [SyncClient, AsyncClient])
@pytest.mark.parametrize("call", CALLS)
async def test_trading_is_the_clients(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str, client_class: type[SyncClient]
) -> None:
    settings_for(monkeypatch, tmp_path)
    client = client_class()
    trader = BinanceFuturesTrader(KEY, SECRET, client=client)
    answer = await getattr(trader, call)(*CALLS[call])
    assert client.calls == [(call, CALLS[call])]
    assert answer == (None if call in ANSWERS_NOTHING else f"answer to {call}")


@pytest.mark.parametrize("call", CALLS)
async def test_without_a_client_trading_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str) -> None:
    settings_for(monkeypatch, tmp_path)
    with pytest.raises(
        NotImplementedError, match=f"statecast does not trade: {call} is left to .* no client was given"
    ):
        await getattr(BinanceFuturesTrader(KEY, SECRET), call)(*CALLS[call])


async def test_a_client_that_cannot_do_a_thing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings_for(monkeypatch, tmp_path)
    with pytest.raises(NotImplementedError, match="object has no open_long"):
        await BinanceFuturesTrader(KEY, SECRET, client=object()).open_long("BTCUSDT", 0.01, 5)


async def test_closing_means_all_unless_a_quantity_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings_for(monkeypatch, tmp_path)
    client = SyncClient()
    trader = BinanceFuturesTrader(KEY, SECRET, client=client)
    await trader.close_long("BTCUSDT")
    await trader.close_short("BTCUSDT", 0.5)
    assert client.calls == [("close_long", ("BTCUSDT", 0.0)), ("close_short", ("BTCUSDT", 0.5))]


def test_it_shows_neither_key_nor_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings_for(monkeypatch, tmp_path)
    assert "a-plain" not in repr(BinanceFuturesTrader("a-plain-key", "a-plain-secret"))
