"""What the guide of the NOFX bot promises, used as it shows it: nothing of a bot is changed but the import lines."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from support.nofx import (
    ACCOUNT_KEYS,
    ORDER_KEYS,
    POSITION_KEYS,
    eventually,
    market_order,
    settings_for,
    snapshots_asked,
)
from support.world import KEY, SECRET, new_server, world

import consumers.nofx
import consumers.nofx.auto_trader
import consumers.nofx.binance_futures
import consumers.nofx.user_data_stream
from consumers.nofx import AutoTrader, AutoTraderConfig, BinanceFuturesTrader, UserDataStream


def test_every_name_can_be_imported_from_a_module_named_as_of_old() -> None:
    assert consumers.nofx.user_data_stream.UserDataStream is UserDataStream
    assert consumers.nofx.binance_futures.BinanceFuturesTrader is BinanceFuturesTrader
    assert consumers.nofx.auto_trader.AutoTrader is AutoTrader
    assert consumers.nofx.auto_trader.AutoTraderConfig is AutoTraderConfig


async def test_an_auto_trader_starts_everything_by_initialize_and_cleans_up_by_stop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        config = AutoTraderConfig(
            id="trader_001",
            name="AI Trader",
            exchange="binance",
            binance_api_key=KEY,
            binance_secret_key=SECRET,
        )
        trader = AutoTrader(config)
        await trader.initialize()

        assert trader.trader is not None
        balance = await trader.trader.get_balance()
        assert balance == dict(zip(ACCOUNT_KEYS, (10_000.0, 10_000.0, 0.0), strict=True))
        assert await trader.trader.get_positions() == []
        freshness = trader.trader.get_freshness()
        assert freshness is not None
        assert freshness["via"] == "publisher"

        trader.stop()
        await eventually(lambda: not server.exchange.streams)
        await eventually(lambda: not consumers.nofx.auto_trader._detaching)  # its connections are closed, too


async def test_a_stream_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        market_order(server, "BTCUSDT", "SELL", "0.01", tell=False)
        user_stream = UserDataStream(api_key=KEY, secret_key=SECRET, testnet=False)
        await user_stream.start()

        account = user_stream.get_account_data()
        positions = user_stream.get_positions()
        await user_stream.stop()

    assert account is not None
    assert list(account) == ACCOUNT_KEYS
    assert f"{account['totalWalletBalance']:.2f}" == "9999.54"
    (position,) = positions
    assert list(position) == POSITION_KEYS
    assert (position["symbol"], position["positionAmt"], position["side"]) == ("BTCUSDT", -0.01, "short")
    assert (position["leverage"], position["markPrice"]) == (20, 91250.4)


async def test_callbacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[tuple[str, Any]] = []

    async def on_account_update(account_data: dict[str, float]) -> None:
        told.append(("account", account_data))

    async def on_position_update(positions: list[dict[str, Any]]) -> None:
        told.append(("positions", positions))

    async def on_order_update(order: dict[str, Any]) -> None:
        told.append(("order", f"{order['symbol']} {order['status']}"))
        assert list(order) == ORDER_KEYS

    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        user_stream = UserDataStream(api_key=KEY, secret_key=SECRET)
        user_stream.on_account_update = on_account_update
        user_stream.on_position_update = on_position_update
        user_stream.on_order_update = on_order_update
        await user_stream.start()
        await eventually(lambda: ("positions", []) in told)
        told.clear()

        market_order(server, "BTCUSDT", "BUY", "0.01")
        await eventually(lambda: ("order", "BTCUSDT FILLED") in told)
        await user_stream.stop()

    kinds = [kind for kind, _ in told]
    before = kinds[: told.index(("order", "BTCUSDT FILLED"))]
    assert "account" in before
    assert before.index("account") < before.index("positions")
    positions = next(value for kind, value in told if kind == "positions")
    assert [row["symbol"] for row in positions] == ["BTCUSDT"]
    assert [value for kind, value in told if kind == "order"] == ["BTCUSDT NEW", "BTCUSDT FILLED"]


async def test_a_trader_without_its_stream_reads_by_rest_and_not_at_each_call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        trader = BinanceFuturesTrader(api_key=KEY, secret_key=SECRET)
        trader.user_stream_enabled = False
        await trader.initialize_user_stream()
        for _ in range(3):
            assert (await trader.get_balance())["totalWalletBalance"] == 10_000.0
            assert await trader.get_positions() == []
        assert snapshots_asked(server) == 1
        assert not server.exchange.streams
        freshness = trader.get_freshness()
        assert freshness is not None
        assert (freshness["via"], freshness["source"]) == ("refresh", "rest")
        await trader.stop_user_stream()


async def test_a_flat_account_is_known_to_be_flat_and_costs_no_rest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server, RECONCILE_S="3600")
        trader = BinanceFuturesTrader(api_key=KEY, secret_key=SECRET, testnet=True)
        await trader.initialize_user_stream()
        asked = server.exchange.requests.total()
        for _ in range(5):
            assert await trader.get_positions() == []
        assert server.exchange.requests.total() == asked
        await trader.stop_user_stream()


async def test_the_same_programs_without_keys_beside_a_publisher_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    redis_url: str,
    account_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "statecast.consumers.nofx")
    async with world(redis_url, account_name) as here:
        settings_for(monkeypatch, tmp_path, here.server, REDIS_URL=redis_url, ACCOUNT=account_name)
        statuses: list[str] = []

        async def on_order_update(order: dict[str, Any]) -> None:
            statuses.append(f"{order['side']} {order['status']}")

        user_stream = UserDataStream(api_key="", secret_key="", testnet=True)
        user_stream.on_order_update = on_order_update
        try:
            await user_stream.start()
            market_order(here.server, "ETHUSDT", "BUY", "0.5")
            await eventually(lambda: "BUY FILLED" in statuses)
            account = user_stream.get_account_data()
            assert account is not None
            assert account["totalWalletBalance"] < 10_000.0
            assert [row["symbol"] for row in user_stream.get_positions()] == ["ETHUSDT"]
        finally:
            await user_stream.stop()

        trader = BinanceFuturesTrader(api_key="", secret_key="", testnet=True)
        try:
            await trader.initialize_user_stream()
            balance = await trader.get_balance()
            positions = await trader.get_positions()
            assert balance["totalWalletBalance"] == account["totalWalletBalance"]
            assert [row["positionAmt"] for row in positions] == [0.5]
        finally:
            await trader.stop_user_stream()

    told = [record.getMessage() for record in caplog.records]
    assert any("user data stream started (attached)" in line for line in told)
    assert any("balance from the stream" in line for line in told)
    assert any("order ETHUSDT BUY FILLED" in line for line in told)
    assert any("user data stream stopped" in line for line in told)
