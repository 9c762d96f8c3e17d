"""The publisher in a bot's process: it publishes, waits its turn, says what ended it, and logs where the bot logs."""

from __future__ import annotations

import logging
from io import StringIO
from pathlib import Path

import pytest
import structlog
from support.nofx import eventually, settings_for
from support.world import KEY, SECRET, new_server, until

from consumers.nofx import UserDataStream, embedded, modes
from statecast.errors import ContractMismatch
from statecast.store.client import connect
from statecast.store.keys import AccountKeys
from statecast.store.reader import read_account


async def test_it_publishes_while_the_context_lasts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str, account_name: str
) -> None:
    async with new_server() as server, connect(redis_url, client_name="statecast-test") as client:
        settings_for(monkeypatch, tmp_path, server, ACCOUNT=account_name)
        source = modes.choose(KEY, SECRET)
        assert source.publisher is not None

        async def state() -> str | None:
            return (await read_account(client, source.account_id)).status.get("state")

        async with embedded.publisher(source.publisher, redis_url) as work:
            await until(state, lambda now: now == "live")
            assert not work.done()
        assert await state() == "stopped"


async def test_it_logs_through_logging_unless_structlog_is_configured(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    redis_url: str,
    account_name: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO, "statecast.publisher")
    async with new_server() as server:
        settings_for(monkeypatch, tmp_path, server, ACCOUNT=account_name)
        source = modes.choose(KEY, SECRET)
        assert source.publisher is not None
        async with embedded.publisher(source.publisher, redis_url):
            await eventually(lambda: "state='live'" in caplog.text)
        assert SECRET not in caplog.text
        printed = capsys.readouterr()
        assert (printed.out, printed.err) == ("", "")

        theirs = StringIO()
        structlog.reset_defaults()
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(theirs))
        async with embedded.publisher(source.publisher, redis_url):
            await eventually(lambda: "starting" in theirs.getvalue())


async def test_what_ends_it_is_told(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    redis_url: str,
    account_name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with new_server() as server, connect(redis_url, client_name="statecast-test") as client:
        settings_for(monkeypatch, tmp_path, server, ACCOUNT=account_name, REDIS_URL=redis_url)
        source = modes.choose(KEY, SECRET)
        assert source.publisher is not None
        with client.errors():
            await client.redis.hset(AccountKeys(source.account_id).status, mapping={"contract": "2", "state": "live"})
        async with embedded.publisher(source.publisher, redis_url) as work:
            await eventually(work.done)
            assert isinstance(work.exception(), ContractMismatch)
            await eventually(lambda: "the publisher in this process has ended" in caplog.text)
        with pytest.raises(ContractMismatch):
            await UserDataStream(KEY, SECRET).start()
