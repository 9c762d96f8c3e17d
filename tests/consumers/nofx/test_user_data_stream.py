"""The stream's promises: fresh or said not to be, in order, whatever callbacks do, shared by all bots of a process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.nofx import ORDER_KEYS, another_key, eventually, limit_order, market_order, settings_for
from support.world import DEADLINE_S, KEY, SECRET, new_server, world

from consumers.mirror import follower
from consumers.nofx import UserDataStream
from statecast.clock import SystemClock
from statecast.embedded.server import EmbeddedServer
from statecast.errors import ConfigError, NeverPublished, StaleState
from statecast.simulator.server import SimulatorServer


def sockets(server: SimulatorServer) -> int:
    """Private streams that are connected."""
    return sum(stream.root == "private" for stream in server.exchange.streams)


@asynccontextmanager
async def started() -> AsyncIterator[UserDataStream]:
    stream = UserDataStream(KEY, SECRET)
    await stream.start()
    try:
        yield stream
    finally:
        await stream.stop()


# Numbers


async def test_a_change_of_one_symbol_leaves_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        market_order(server, "BTCUSDT", "BUY", "0.01", tell=False)
        stream = UserDataStream(KEY, SECRET)
        await stream.start()
        market_order(server, "ETHUSDT", "SELL", "0.5")
        await eventually(lambda: len(stream.get_positions()) == 2)
        assert {(row["symbol"], row["side"]) for row in stream.get_positions()} == {
            ("BTCUSDT", "long"),
            ("ETHUSDT", "short"),
        }
        assert stream.positions == stream.get_positions()
        await stream.stop()


async def test_both_legs_of_a_hedge_are_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server(hedge=True) as server:
        settings_for(monkeypatch, tmp_path, server)
        stream = UserDataStream(KEY, SECRET)
        await stream.start()
        market_order(server, "BTCUSDT", "BUY", "0.02", "LONG")
        market_order(server, "BTCUSDT", "SELL", "0.01", "SHORT")
        await eventually(lambda: len(stream.get_positions()) == 2)
        legs = {row["side"]: row["positionAmt"] for row in stream.get_positions()}
        assert legs == {"long": 0.02, "short": -0.01}
        assert all(row["markPrice"] > 90_000 and row["leverage"] == 20 for row in stream.get_positions())
        await stream.stop()


async def test_available_balance_is_what_the_venue_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        stream = UserDataStream(KEY, SECRET)
        await stream.start()
        market_order(server, "BTCUSDT", "BUY", "0.01")

        def told() -> bool:
            account = stream.get_account_data()
            return account is not None and account["availableBalance"] == float(
                round(server.exchange.ledger.asset_margin("USDT").available, 8)
            )

        await eventually(told)
        account = stream.account_data
        assert account is not None
        assert account["availableBalance"] < account["totalWalletBalance"]
        await stream.stop()


async def test_open_orders_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        stream = UserDataStream(KEY, SECRET)
        await stream.start()
        assert stream.get_orders() == []
        limit_order(server, "BTCUSDT", "BUY", "0.01", "80000")
        (order,) = await eventually(stream.get_orders)
        assert list(order) == ORDER_KEYS
        assert (order["status"], order["price"], order["quantity"]) == ("NEW", 80_000.0, 0.01)
        assert stream.orders == [order]
        await stream.stop()


async def test_answers_are_copies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        market_order(server, "BTCUSDT", "BUY", "0.01", tell=False)
        async with started() as stream:
            stream.get_positions()[0]["positionAmt"] = 99.0
            assert stream.get_positions()[0]["positionAmt"] == 0.01


# Freshness


async def test_nothing_is_told_before_the_start_nor_after_the_stop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        stream = UserDataStream(KEY, SECRET)

        def refuses() -> None:
            assert not stream.running
            assert stream.get_account_data() is None
            for read in (stream.get_positions, stream.get_orders, stream.get_freshness):
                with pytest.raises(StaleState, match=r"the user data stream is not started; await start\(\)"):
                    read()

        refuses()
        await stream.stop()
        await stream.start()
        assert stream.running
        freshness = stream.get_freshness()
        assert freshness.keys() == {"age_ms", "source", "seq", "via"}
        assert 0 <= freshness["age_ms"] <= 10_000
        await stream.stop()
        refuses()


async def test_a_stream_that_is_cut_off_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server, MAX_AGE_S="2")
        async with started() as stream:
            server.exchange.fault("refuse_sockets", {"count": 1000}, SystemClock().now_ms())
            server.exchange.fault("cut_sockets", {"kind": "private"}, SystemClock().now_ms())
            await eventually(lambda: stream.get_account_data() is None)
            with pytest.raises(StaleState, match="the publisher is recovering"):
                stream.get_positions()
            server.exchange.fault("clear", {}, SystemClock().now_ms())
            await eventually(stream.get_account_data)
            assert stream.get_positions() == []


# Coming to a start


async def test_a_refused_key_fails_the_start_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        stream = UserDataStream("a-wrong-key", "a-wrong-secret", start_within_s=1000.0)  # which it does not wait for
        with pytest.raises(StaleState, match=r"the publisher is refused .*check STATECAST_API_KEY") as caught:
            await asyncio.wait_for(stream.start(), DEADLINE_S)
        assert "a-wrong" not in str(caught.value)
        assert not stream.running


async def test_without_a_publisher_an_attached_start_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str, account_name: str
) -> None:
    settings_for(monkeypatch, tmp_path, REDIS_URL=redis_url, ACCOUNT=account_name)
    stream = UserDataStream(start_within_s=2.0)
    with pytest.raises(NeverPublished, match="start `statecast publish`"):
        await stream.start()
    assert not stream.running


async def test_a_redis_that_comes_later_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_redis: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.kill()
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server, REDIS_URL=own_redis.url)
        stream = UserDataStream(KEY, SECRET, start_within_s=0.3)
        with pytest.raises(StaleState, match="does not answer; start it, or correct STATECAST_REDIS_URL"):
            await stream.start()
        assert not stream.running

        assert not await stream.connect()
        assert stream.running
        assert "without data, trying on" in caplog.text
        with pytest.raises(StaleState, match="has not reached Redis yet"):
            stream.get_positions()
        own_redis.start()
        await eventually(stream.get_account_data)
        assert stream.get_positions() == []
        await stream.stop()


async def test_connect_says_whether_data_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        stream = UserDataStream(KEY, SECRET)
        assert await stream.connect()
        assert await stream.connect()
        assert stream.get_positions() == []
        another_key(server, "other-key", "other-secret")
        monkeypatch.setenv("STATECAST_ACCOUNT", stream.source.account_id.account)
        assert not await UserDataStream("other-key", "other-secret").connect()
        assert "user data stream not started: STATECAST_ACCOUNT is" in caplog.text
        await stream.stop()


# Sharing


async def test_two_streams_share_one_publisher_until_the_last_stops(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        one, two = UserDataStream(KEY, SECRET), UserDataStream(KEY, SECRET)
        await asyncio.gather(one.start(), two.start())
        assert sockets(server) == 1
        assert server.exchange.requests["POST /fapi/v1/listenKey 200"] <= 2, "one publisher, which proves its key once"
        assert one.mirror is two.mirror
        await one.stop()
        market_order(server, "BTCUSDT", "BUY", "0.01")
        await eventually(two.get_positions)
        await two.stop()
        await eventually(lambda: sockets(server) == 0)
        assert not [call for call in server.exchange.requests if call.startswith("DELETE")]
        await one.start()
        assert len(one.get_positions()) == 1
        await one.stop()


async def test_two_keys_never_see_each_others_account(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str
) -> None:
    async with new_server() as server, new_server(seed=2) as other:
        another_key(other, "other-key", "other-secret")
        market_order(other, "ETHUSDT", "SELL", "0.5", tell=False)
        settings_for(monkeypatch, tmp_path, server, REDIS_URL=redis_url)
        mine = UserDataStream(KEY, SECRET)
        settings_for(monkeypatch, tmp_path, other, REDIS_URL=redis_url)
        theirs = UserDataStream("other-key", "other-secret")
        await asyncio.gather(mine.start(), theirs.start())
        assert mine.get_positions() == []
        assert [row["symbol"] for row in theirs.get_positions()] == ["ETHUSDT"]
        assert (sockets(server), sockets(other)) == (1, 1)
        await asyncio.gather(mine.stop(), theirs.stop())


async def test_two_keys_of_one_account_name_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server, ACCOUNT="shared")
        another_key(server, "other-key", "other-secret")
        async with started():
            other = UserDataStream("other-key", "other-secret")
            with pytest.raises(ConfigError, match="STATECAST_ACCOUNT is 'shared'; accepted: another name for each"):
                await other.start()
            assert not other.running


# Callbacks


async def test_an_order_event_waits_for_the_positions_it_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The mirror receives each commit late; a second order is filled while it still waits for the first one."""
    told: list[str] = []
    wait_for_changes = follower.wait_for_changes

    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        stream = UserDataStream(KEY, SECRET)
        stream.on_position_update = lambda rows: told.extend(f"{row['symbol']} position" for row in rows)
        stream.on_order_update = lambda order: told.append(f"{order['symbol']} {order['status']}")
        await stream.start()
        await eventually(lambda: stream.get_positions() == [])
        symbols = iter(["ETHUSDT"])

        async def late(*args: Any, **options: Any) -> Any:
            changes = await wait_for_changes(*args, **options)
            if changes:
                for symbol in symbols:
                    market_order(server, symbol, "BUY", "0.5")
                await asyncio.sleep(0.2)
            return changes

        monkeypatch.setattr(follower, "wait_for_changes", late)
        market_order(server, "BTCUSDT", "BUY", "0.01")
        await eventually(lambda: "ETHUSDT FILLED" in told)
        await stream.stop()
    for symbol in ("BTCUSDT", "ETHUSDT"):
        assert told.index(f"{symbol} position") < told.index(f"{symbol} FILLED")


async def test_a_slow_callback_holds_up_neither_numbers_nor_order_events(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    let_go = asyncio.Event()
    told: list[Any] = []

    async def slow(positions: list[dict[str, Any]]) -> None:
        if positions:
            await let_go.wait()
        told.append(len(positions))

    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        async with started() as stream:
            stream.on_position_update = slow
            stream.on_order_update = lambda order: told.append((order["symbol"], order["status"]))
            for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
                market_order(server, symbol, "BUY", "0.1")
            await eventually(lambda: len(stream.get_positions()) == 3)
            assert [entry for entry in told if entry] == []
            let_go.set()
            await eventually(lambda: ("SOLUSDT", "FILLED") in told)
            await eventually(lambda: 3 in told)
    orders = [entry for entry in told if isinstance(entry, tuple)]
    assert orders == [(symbol, status) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT") for status in ("NEW", "FILLED")]


async def test_what_a_callback_raises_is_logged_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def broken(order: dict[str, Any]) -> None:
        told.append(order["status"])
        raise KeyError("a bot's mistake")

    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        async with started() as stream:
            stream.on_order_update = broken
            market_order(server, "BTCUSDT", "BUY", "0.01")
            await eventually(lambda: told == ["NEW", "FILLED"])
    assert "a bot's mistake" in caplog.text


async def test_a_callback_may_stop_its_stream(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[str] = []
    stopped = asyncio.Event()
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        stream = UserDataStream(KEY, SECRET)

        async def once(order: dict[str, Any]) -> None:
            told.append(order["status"])
            await stream.stop()
            stopped.set()

        stream.on_order_update = once
        await stream.start()
        market_order(server, "BTCUSDT", "BUY", "0.01")
        await eventually(lambda: not sockets(server) and not stream.running)
        # The socket is closed early in a stop; the end of the test, and of its loop, would cut off the rest of it.
        await eventually(stopped.is_set)
        assert told == ["NEW"]


async def test_order_events_that_redis_lost_are_told_of(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    own_redis: EmbeddedServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    told: list[str] = []
    holding = asyncio.Event()

    async def wait(order: dict[str, Any]) -> None:
        told.append(order["symbol"])
        await holding.wait()

    async with world(own_redis.url, "lossy") as here:
        settings_for(monkeypatch, tmp_path, here.server, REDIS_URL=own_redis.url, ACCOUNT="lossy")
        stream = UserDataStream()
        stream.on_order_update = wait
        await stream.start()
        market_order(here.server, "BTCUSDT", "BUY", "0.01")
        await eventually(lambda: told)
        market_order(here.server, "ETHUSDT", "BUY", "0.5")
        await here.agree()
        with here.client.errors():
            await here.client.redis.xtrim("statecast:{binance:lossy}:order-events", maxlen=1, approximate=False)
        holding.set()
        await eventually(lambda: "ETHUSDT" in told)
        await stream.stop()
    assert "Redis lost some" in caplog.text


async def test_it_shows_neither_key_nor_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings_for(monkeypatch, tmp_path)
    shown = repr(UserDataStream("a-plain-key", "a-plain-secret"))
    assert "a-plain" not in shown
