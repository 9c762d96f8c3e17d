"""A bot's life: it starts and stops cleanly, tells how it stands, and leaves decisions and trades to others."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest
from support.nofx import eventually, market_order, settings_for
from support.programs import program, run
from support.world import KEY, SECRET, new_server

from consumers.nofx import AutoTrader, AutoTraderConfig

INTERVAL_MIN = 0.001


def config(**values: Any) -> AutoTraderConfig:
    given: dict[str, Any] = {
        "id": "t1",
        "name": "Bot",
        "binance_api_key": KEY,
        "binance_secret_key": SECRET,
        "scan_interval_minutes": INTERVAL_MIN,
    }
    return AutoTraderConfig(**given | values)


class Bot(AutoTrader):
    """Reads its account in each cycle; every second cycle fails."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.equities: list[float] = []

    async def run_cycle(self) -> None:
        self.equities.append((await self.get_account_info())["total_equity"])
        if self.call_count % 2 == 0:
            raise ValueError("a bot's mistake")


# What it is configured with


def test_the_configuration_has_every_field_of_old_in_its_place() -> None:
    names = [field.name for field in dataclasses.fields(AutoTraderConfig)]
    assert names[:7] == ["id", "name", "ai_model", "exchange", "testnet", "binance_api_key", "binance_secret_key"]
    assert len(names) == 36
    made = AutoTraderConfig("t1", "Bot", "qwen")
    assert (made.exchange, made.testnet, made.scan_interval_minutes, made.default_coins) == ("binance", False, 3, [])
    made.binance_api_key = "assigned-later"
    assert made.binance_api_key == "assigned-later"


def test_the_configuration_shows_no_secret() -> None:
    secrets = {
        field.name: "a-plain-secret"
        for field in dataclasses.fields(AutoTraderConfig)
        if field.name.endswith(("_key", "_secret", "_passphrase", "_url"))
    }
    made = AutoTraderConfig("t1", "Bot", **secrets | {"custom_api_url": "https://127.0.0.1"})
    assert "a-plain-secret" not in repr(made)


# Start


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"initial_balance": -1.0}, "initial_balance is -1.0; accepted: 0 or more"),
        ({"exchange": "mtgox"}, "exchange is 'mtgox'; accepted: binance"),
        ({"exchange": "okx"}, "exchange is 'okx'; accepted: binance"),
    ],
)
async def test_what_cannot_work_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, values: dict[str, Any], sentence: str
) -> None:
    settings_for(monkeypatch, tmp_path)
    with pytest.raises(ValueError, match=sentence):
        await AutoTrader(config(**values)).initialize()


async def test_before_initialize_it_has_no_account() -> None:
    with pytest.raises(RuntimeError, match=r"await initialize\(\) first"):
        await AutoTrader(config()).get_account_info()


async def test_profit_counts_from_the_initial_balance(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        given, taken = AutoTrader(config(initial_balance=8000.0)), AutoTrader(config())
        await asyncio.gather(given.initialize(), taken.initialize())
        assert await given.get_account_info() == {
            "total_equity": 10_000.0,
            "available_balance": 10_000.0,
            "total_pnl": 2000.0,
            "total_pnl_pct": 25.0,
            "initial_balance": 8000.0,
        }
        assert (await taken.get_account_info())["initial_balance"] == 10_000.0
        market_order(server, "BTCUSDT", "BUY", "0.01")
        assert given.trader is not None
        stream = given.trader.user_stream
        assert stream is not None
        await eventually(stream.get_positions)
        info = await taken.get_account_info()
        assert info["total_pnl"] == info["total_equity"] - 10_000.0 < 0
        await asyncio.gather(*filter(None, (given.stop(), taken.stop())))


async def test_the_stream_is_switched_off_before_or_after_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        bot = AutoTrader(config())
        assert bot.user_stream_enabled
        bot.user_stream_enabled = False
        await bot.initialize()
        assert bot.trader is not None
        assert bot.trader.user_stream is None
        assert not server.exchange.streams
        assert (await bot.get_account_info())["total_equity"] == 10_000.0
        bot.user_stream_enabled = True
        assert bot.trader.user_stream_enabled
        await bot.initialize()
        assert bot.trader.user_stream is not None
        await (bot.stop() or asyncio.sleep(0))


def test_it_tells_who_it_is() -> None:
    bot = AutoTrader(config(ai_model="qwen", initial_balance=5.0), is_running=True)
    assert bot.get_status() == {
        "id": "t1",
        "name": "Bot",
        "ai_model": "qwen",
        "exchange": "binance",
        "is_running": True,
        "call_count": 0,
        "runtime_minutes": 0,
        "initial_balance": 5.0,
    }
    assert (bot.get_id(), bot.get_name(), bot.get_ai_model(), bot.get_exchange()) == ("t1", "Bot", "qwen", "binance")


# Run and stop


async def test_cycles_follow_each_other_until_the_stop_and_survive_mistakes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        bot = Bot(config())
        running = asyncio.create_task(bot.run())
        await eventually(lambda: bot.call_count >= 4)
        assert bot.is_running
        stopping = bot.stop()
        count = bot.call_count
        await running
        assert stopping is not None
        await stopping
        assert bot.call_count == count
        assert not bot.is_running
        assert set(bot.equities) == {10_000.0}
        assert "t1: cycle 2 failed" in caplog.text
        await eventually(lambda: not server.exchange.streams)

        again = asyncio.create_task(bot.run())
        await eventually(lambda: bot.call_count > count)
        assert bot.trader is not None
        assert bot.trader.user_stream is not None
        assert bot.trader.user_stream.running
        stopping = bot.stop()
        await again
        assert stopping is not None
        await stopping


async def test_a_stop_ends_a_long_pause_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        bot = Bot(config(scan_interval_minutes=60))
        running = asyncio.create_task(bot.run())
        await eventually(lambda: bot.equities)
        stopping = bot.stop()
        await running
        assert stopping is not None
        await stopping
        assert bot.call_count == 1


async def test_without_a_cycle_of_its_own_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings_for(monkeypatch, tmp_path)
    bot = AutoTrader(config())
    with pytest.raises(NotImplementedError, match=r"override AutoTrader\.run_cycle"):
        await bot.run()
    assert not bot.is_running


def test_stop_outside_of_any_loop_is_no_error() -> None:
    bot = AutoTrader(config(), is_running=True)
    assert bot.stop() is None
    assert not bot.is_running


# Whole programs

PROGRAM = """
import asyncio, logging, sys
from consumers.nofx import AutoTrader, AutoTraderConfig

async def main():
    key, secret, how = sys.argv[1:]
    trader = AutoTrader(AutoTraderConfig(id="t1", name="Bot", binance_api_key=key, binance_secret_key=secret))
    await trader.initialize()
    print("equity", (await trader.get_account_info())["total_equity"], flush=True)
    if how == "wait":
        while True:
            print("symbols", [row["symbol"] for row in await trader.trader.get_positions()], flush=True)
            await asyncio.sleep(0.1)
    if how == "stop":
        trader.stop()
    if how == "fail":
        raise ValueError("a bot's mistake")

asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["stop", "forget"])
async def test_a_program_ends_without_a_word_whether_or_not_it_stops_its_bot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    (tmp_path / "bot.py").write_text(PROGRAM, "utf-8")
    async with new_server() as server:
        hosts = {"REST_URL": server.rest_url, "WS_URL": server.ws_url}
        code, lines = await run(tmp_path, "bot", KEY, SECRET, how, **hosts)
    told = [line for line in lines if "key_can_do_too_much" not in line]
    assert (code, told) == (0, ["equity 10000.0"])


async def test_a_program_that_fails_shows_its_own_mistake(tmp_path: Path) -> None:
    (tmp_path / "bot.py").write_text(PROGRAM, "utf-8")
    async with new_server() as server:
        hosts = {"REST_URL": server.rest_url, "WS_URL": server.ws_url}
        code, lines = await run(tmp_path, "bot", KEY, SECRET, "fail", **hosts)
    assert code == 1
    assert [line for line in lines if line.startswith("ValueError")] == ["ValueError: a bot's mistake"]


async def test_two_processes_share_a_stream_and_one_takes_over_when_the_other_is_killed(
    tmp_path: Path, redis_url: str, account_name: str
) -> None:
    (tmp_path / "bot.py").write_text(PROGRAM, "utf-8")
    async with new_server() as server:
        settings = {
            "REST_URL": server.rest_url,
            "WS_URL": server.ws_url,
            "REDIS_URL": redis_url,
            "ACCOUNT": account_name,
        }
        async with program(tmp_path, "bot", KEY, SECRET, "wait", **settings) as one:
            await one.prints("symbols []")
            async with program(tmp_path, "bot", KEY, SECRET, "wait", **settings) as two:
                await two.prints("symbols []")
                sockets = sum(stream.root == "private" for stream in server.exchange.streams)
                assert sockets == 2, "one writes, the other follows along"
                market_order(server, "BTCUSDT", "BUY", "0.01")
                await one.prints("symbols ['BTCUSDT']")
                await two.prints("symbols ['BTCUSDT']")
                one.process.kill()
                await one.ends()
                market_order(server, "ETHUSDT", "BUY", "0.5", tell=False)
                await two.prints("symbols ['BTCUSDT', 'ETHUSDT']")
                two.process.kill()


# Trading


class Client:
    def __init__(self, refused: str = "") -> None:
        self.closed: list[tuple[str, str, float]] = []
        self._refused = refused

    async def close_long(self, symbol: str, quantity: float) -> dict[str, Any]:
        return self._close(symbol, "long", quantity)

    async def close_short(self, symbol: str, quantity: float) -> dict[str, Any]:
        return self._close(symbol, "short", quantity)

    def _close(self, symbol: str, side: str, quantity: float) -> dict[str, Any]:
        if symbol == self._refused:
            raise ValueError(f"{symbol} refused")
        self.closed.append((symbol, side, quantity))
        return {}


async def test_all_positions_are_closed_by_the_client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        for symbol, side in (("BTCUSDT", "BUY"), ("ETHUSDT", "SELL"), ("SOLUSDT", "BUY")):
            market_order(server, symbol, side, "1", tell=False)
        client = Client(refused="BTCUSDT")
        bot = AutoTrader(config(), client=client)
        bot.user_stream_enabled = False
        await bot.initialize()
        with pytest.raises(ExceptionGroup, match="some positions were not closed") as caught:
            await bot.close_all_positions()
        assert [str(error) for error in caught.value.exceptions] == ["BTCUSDT refused"]
        assert sorted(client.closed) == [("ETHUSDT", "short", 0), ("SOLUSDT", "long", 0)]
        await (bot.stop() or asyncio.sleep(0))


async def test_one_position_is_closed_by_its_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        client = Client()
        bot = AutoTrader(config(), client=client)
        bot.user_stream_enabled = False
        await bot.initialize()
        await bot.close_position("BTCUSDT", "long")
        assert client.closed == [("BTCUSDT", "long", 0)]
        with pytest.raises(ValueError, match="side is 'LONG'; accepted: long, short"):
            await bot.close_position("BTCUSDT", "LONG")
        await (bot.stop() or asyncio.sleep(0))


def test_the_life_is_async_and_the_stop_is_not() -> None:
    for name in ("initialize", "run", "run_cycle", "get_account_info", "close_position", "close_all_positions"):
        assert inspect.iscoroutinefunction(getattr(AutoTrader, name))
    for name in ("stop", "get_status", "get_id"):
        assert not inspect.iscoroutinefunction(getattr(AutoTrader, name))
