"""A bot whose callback is cancelled, whose start is stopped, or whose name another key has taken in another thread."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.nofx import another_key, eventually, market_order, settings_for
from support.world import DEADLINE_S, KEY, SECRET, new_server

from consumers.nofx import UserDataStream
from statecast.embedded.server import EmbeddedServer
from statecast.errors import ConfigError, StaleState


async def test_a_cancelled_callback_ends_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        told: list[str] = []

        async def on_order(order: dict[str, Any]) -> None:
            told.append(order["status"])
            work = asyncio.create_task(asyncio.sleep(10))
            asyncio.get_running_loop().call_soon(work.cancel)
            await work

        stream = UserDataStream(KEY, SECRET)
        stream.on_order_update = on_order
        await stream.start()
        for _ in range(2):
            market_order(server, "BTCUSDT", "BUY", "0.01")
        await eventually(lambda: len(told) == 4)
        await stream.stop()


async def test_a_stop_ends_a_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        stream, other = UserDataStream(KEY, SECRET), UserDataStream(KEY, SECRET)
        await stream.start()
        starting = asyncio.create_task(other.start())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await other.stop()
        with pytest.raises(StaleState, match="stopped while it was starting"):
            async with asyncio.timeout(DEADLINE_S):
                await starting
        await stream.stop()


async def test_another_loop_refuses_the_second_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own_redis: EmbeddedServer
) -> None:
    async with new_server() as server:
        another_key(server, "other", "s2")
        settings_for(monkeypatch, tmp_path, server, REDIS_URL=own_redis.url, ACCOUNT="same")
        stream = UserDataStream(KEY, SECRET)
        await stream.start()
        with pytest.raises(ConfigError, match="another name for each API key"):
            await asyncio.to_thread(lambda: asyncio.run(UserDataStream("other", "s2").start()))
        await stream.stop()
