"""What bots share is opened once, whoever comes first, and closed after the last, however they leave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from support.nofx import another_key, eventually, settings_for
from support.world import KEY, SECRET, new_server

from consumers.nofx import modes, shared
from consumers.nofx.modes import Source
from consumers.nofx.shared import Shared


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Source:
    settings_for(monkeypatch, tmp_path)
    return modes.choose(KEY, SECRET)


class Thing:
    """Something that opens when it is let, and notes what becomes of it."""

    def __init__(self, source: Source) -> None:
        self.may_open = asyncio.Event()
        self.failure: Exception | None = None
        self.story: list[str] = []
        self._source = source

    def share(self) -> Shared[str]:
        return shared._share("thing", self._source, self._make)

    @asynccontextmanager
    async def _make(self) -> AsyncIterator[str]:
        self.story.append("opening")
        try:
            await self.may_open.wait()
            if self.failure is not None:
                raise self.failure
            yield "the thing"
        finally:
            self.story.append("closed")


async def test_it_is_opened_for_the_first_and_closed_after_the_last(source: Source) -> None:
    thing = Thing(source)
    thing.may_open.set()
    one, two = thing.share(), thing.share()
    assert await asyncio.gather(one.opened(), two.opened()) == ["the thing", "the thing"]
    await one.release()
    assert thing.story == ["opening"]
    assert two.now == "the thing"
    await two.release()
    assert thing.story == ["opening", "closed"]
    again = thing.share()
    assert await again.opened() == "the thing"
    await again.release()
    assert thing.story == ["opening", "closed"] * 2


async def test_who_does_not_want_to_wait_leaves_the_others_waiting(source: Source) -> None:
    thing = Thing(source)
    one, two = thing.share(), thing.share()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await one.opened()
    assert one.now is None
    thing.may_open.set()
    assert await two.opened() == "the thing"
    assert one.now == "the thing"
    await one.release()
    await two.release()


async def test_who_leaves_before_it_is_open_ends_the_opening(source: Source) -> None:
    thing = Thing(source)
    held = thing.share()
    await asyncio.sleep(0)
    await held.release()
    assert thing.story == ["opening", "closed"]


async def test_a_failure_is_told_to_all_and_not_kept(source: Source) -> None:
    thing = Thing(source)
    thing.failure = ValueError("no such thing")
    thing.may_open.set()
    one, two = thing.share(), thing.share()
    for held in (one, two):
        with pytest.raises(ValueError, match="no such thing"):
            await held.opened()
    thing.failure = None
    three = thing.share()
    assert await three.opened() == "the thing"
    for held in (one, two, three):
        await held.release()
    assert shared._things() == {}


async def test_two_accounts_share_the_private_server_and_it_ends_with_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        another_key(server, "other-key", "other-secret")
        one = shared.mirrored(modes.choose(KEY, SECRET))
        two = shared.mirrored(modes.choose("other-key", "other-secret"))
        mine, theirs = await one.opened(), await two.opened()
        assert mine.mirror.account_id != theirs.mirror.account_id
        assert mine.client.server == theirs.client.server
        redis = shared._private_server._server
        assert redis is not None
        await one.release()
        assert shared._private_server._server is redis
        await two.release()
        assert shared._private_server._server is None
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(redis.host, redis.port)


async def test_another_event_loop_has_a_mirror_of_its_own_at_the_same_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server)
        source = modes.choose(KEY, SECRET)
        held = shared.mirrored(source)
        mine = await held.opened()
        found: list[tuple[str, bool]] = []

        async def elsewhere() -> None:
            other = shared.mirrored(source)
            theirs = await other.opened()
            found.append((theirs.client.server, theirs.mirror is mine.mirror))
            await other.release()

        thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
        thread.start()
        await eventually(lambda: not thread.is_alive())
        assert found == [(mine.client.server, False)]
        await held.release()
        assert shared._private_server._server is None
