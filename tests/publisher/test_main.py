"""The service as an operator meets it: real processes, their one clear line, their exit codes, and what Redis says."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.programs import program, run
from support.world import KEY, SECRET, account_values, new_server, until

from statecast.embedded.server import EmbeddedServer
from statecast.simulator.server import SimulatorServer
from statecast.store.client import connect
from statecast.store.keys import AccountId, AccountKeys
from statecast.store.reader import read_account


@pytest.fixture
async def exchange() -> AsyncIterator[SimulatorServer]:
    async with new_server() as server:
        yield server


async def status_of(url: str, account: str) -> dict[str, str]:
    async with connect(url, client_name="test") as client:
        return (await read_account(client, AccountId("binance", account))).status


async def expect_state(url: str, account: str, state: str) -> dict[str, str]:
    return await until(lambda: status_of(url, account), lambda status: status.get("state") == state)


GOOD = {"API_KEY": "some-key", "API_SECRET": "some-secret"}


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ["STATECAST_API_KEY", "is not set"]),
        ({"API_KEY": "some-key"}, ["STATECAST_API_SECRET", "is not set"]),
        (GOOD | {"VENUE": "ftx"}, ["STATECAST_VENUE", "'ftx'", "binance"]),
        (GOOD | {"REDIS_URL": "localhost:6379"}, ["STATECAST_REDIS_URL", "redis://"]),
        (GOOD | {"REDIS_URL": "http://:hunter2@127.0.0.1"}, ["STATECAST_REDIS_URL", "redis://"]),
        (GOOD | {"REST_URL": "127.0.0.1:8900"}, ["STATECAST_REST_URL", "127.0.0.1:8900", "http://"]),
        (GOOD | {"WS_URL": "http://127.0.0.1:8900"}, ["STATECAST_WS_URL", "ws://"]),
        (GOOD | {"RECONCILE_S": "soon"}, ["STATECAST_RECONCILE_S", "'soon'", "seconds"]),
        (GOOD | {"TESTNET": "perhaps"}, ["STATECAST_TESTNET", "'perhaps'", "true or false"]),
        (GOOD | {"ACCOUNT": "a b"}, ["STATECAST_ACCOUNT", "a b"]),
        ({"API_KEY_FILE": "/nowhere", "API_SECRET": "s"}, ["STATECAST_API_KEY_FILE", "/nowhere"]),
        ({"API_KEY": "k", "API_SECRET": "-----BEGIN PRIVATE KEY-----\nhunter2"}, ["STATECAST_API_SECRET"]),
    ],
    ids=lambda value: next(iter(value), "nothing") if isinstance(value, dict) else None,
)
async def test_settings_that_cannot_work_end_it_with_one_line(
    tmp_path: Path, settings: dict[str, str], names: list[str]
) -> None:
    code, lines = await run(tmp_path, "publisher", **settings)
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert all(name in lines[0] for name in names), lines
    assert not any(secret in lines[0] for secret in ("some-secret", "some-key", "hunter2"))


async def test_a_key_of_the_environment_counts_before_a_key_file_of_the_config_file(
    tmp_path: Path, redis_url: str, account_name: str, exchange: SimulatorServer
) -> None:
    (tmp_path / "accounts.toml").write_text('api_key_file = "/nowhere"\n')
    settings = account_values(exchange, account_name, REDIS_URL=redis_url)
    async with program(tmp_path, "publisher", "--config", "accounts.toml", **settings) as publisher:
        await expect_state(redis_url, account_name, "live")
        assert await publisher.stop() == 0


async def test_a_config_file_with_an_unknown_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "statecast.toml").write_text('redis_uri = "redis://127.0.0.1"\n')
    code, lines = await run(tmp_path, "publisher", "--config", "statecast.toml")
    assert (code, len(lines)) == (2, 1)
    assert "redis_uri" in lines[0]
    assert "redis_url" in lines[0]


async def test_wrong_redis_password_ends_it_without_showing_one(tmp_path: Path, own_redis: EmbeddedServer) -> None:
    async with connect(own_redis.url, client_name="test") as client:
        await client.redis.config_set("requirepass", "correct-horse")
    url = own_redis.url.replace("redis://", "redis://:battery-staple@")
    code, lines = await run(tmp_path, "publisher", REDIS_URL=url, **GOOD)
    assert (code, len(lines)) == (2, 1), lines
    assert "password" in lines[0]
    assert "battery-staple" not in lines[0]


async def test_an_account_of_another_contract_ends_it_with_one_sentence(
    tmp_path: Path, redis_url: str, account_name: str
) -> None:
    async with connect(redis_url, client_name="test") as client:
        await client.redis.hset(AccountKeys(AccountId("binance", account_name)).status, "contract", "99")
    code, lines = await run(tmp_path, "publisher", REDIS_URL=redis_url, ACCOUNT=account_name, **GOOD)
    assert code == 2, lines
    assert "is written under contract 99, this program writes 1; use a statecast of that contract" in lines[-1]
    assert "Traceback" not in "".join(lines)


@pytest.mark.parametrize(
    ("key", "secret", "setting"),
    [("not-a-key", SECRET, "STATECAST_API_KEY"), (KEY, "not-the-secret", "STATECAST_API_SECRET")],
    ids=["wrong key", "wrong secret"],
)
async def test_refused_credentials_are_a_state_that_says_what_to_do(
    tmp_path: Path, redis_url: str, account_name: str, exchange: SimulatorServer, key: str, secret: str, setting: str
) -> None:
    settings = account_values(exchange, account_name, API_KEY=key, API_SECRET=secret, REDIS_URL=redis_url)
    async with program(tmp_path, "publisher", **settings) as publisher:
        status = await expect_state(redis_url, account_name, "refused")
        assert setting in status["reason"]
        assert await publisher.stop() == 0
    assert (await status_of(redis_url, account_name))["state"] == "stopped"
    told = [line for line in publisher.lines if '"state": "refused"' in line]
    assert len(told) == 1, publisher.output
    for word in ("Traceback", secret, key):
        assert word not in publisher.output + status["reason"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_an_orderly_stop_says_so_and_exits_0(
    tmp_path: Path, redis_url: str, account_name: str, exchange: SimulatorServer, number: signal.Signals
) -> None:
    settings = account_values(exchange, account_name, REDIS_URL=redis_url)
    async with program(tmp_path, "publisher", **settings) as publisher:
        status = await expect_state(redis_url, account_name, "live")
        assert str(publisher.process.pid) in status["publisherId"]
        assert await publisher.stop(number) == 0
    assert (await status_of(redis_url, account_name))["state"] == "stopped"
    for word in ("Traceback", SECRET, exchange.exchange.listen_key.key if exchange.exchange.listen_key else "?"):
        assert word not in publisher.output


@pytest.mark.parametrize("command", ["publisher", "statecast.cli.main"])
async def test_a_stop_while_modules_are_imported_is_an_orderly_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")  # A line for each module.
    words = ("statecast.cli.main", "publish") if command.endswith("main") else (command,)
    async with program(tmp_path, *words, **GOOD, REDIS_URL="redis://127.0.0.1:1/0") as publisher:
        await publisher.prints(" dotenv.main")
        assert await publisher.stop() == 0
    assert any("publisher.service" in line for line in publisher.lines), "it had not begun"
    assert not any("cannot_write" in line for line in publisher.lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_more_signals_do_not_cut_an_orderly_stop_short(
    tmp_path: Path, redis_url: str, account_name: str, exchange: SimulatorServer, number: signal.Signals
) -> None:
    settings = account_values(exchange, account_name, REDIS_URL=redis_url)
    async with program(tmp_path, "publisher", **settings) as publisher:
        await expect_state(redis_url, account_name, "live")
        while publisher.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(publisher.process.pid, number)  # What asyncio has for it takes the exit code away.
            await asyncio.sleep(0.002)
        assert publisher.process.returncode == 0, publisher.output
    assert (await status_of(redis_url, account_name))["state"] == "stopped"
    assert "Traceback" not in publisher.output


async def test_redis_that_comes_back_is_used_again(
    tmp_path: Path, own_redis: EmbeddedServer, account_name: str, exchange: SimulatorServer
) -> None:
    own_redis.kill()
    settings = account_values(exchange, account_name, REDIS_URL=own_redis.url)
    async with program(tmp_path, "publisher", **settings) as publisher:
        await publisher.prints("connection refused")
        own_redis.start()
        await expect_state(own_redis.url, account_name, "live")
        own_redis.kill()
        await until(lambda: _count(publisher.lines, "cannot_write"), lambda count: count >= 2)
        own_redis.start()
        await expect_state(own_redis.url, account_name, "live")
        assert await publisher.stop() == 0
    assert "Traceback" not in publisher.output
    assert sum("cannot_write" in line for line in publisher.lines) <= 4, publisher.output


async def _count(lines: list[str], word: str) -> int:
    return sum(word in line for line in lines)


async def test_redis_that_refuses_writes_is_told_and_used_again(
    tmp_path: Path, own_redis: EmbeddedServer, account_name: str, exchange: SimulatorServer
) -> None:
    settings = account_values(exchange, account_name, REDIS_URL=own_redis.url)
    async with connect(own_redis.url, client_name="test") as client:
        await client.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        async with program(tmp_path, "publisher", **settings) as publisher:
            line = await publisher.prints("cannot_write")
            assert "read only replica" in line
            await client.redis.execute_command("REPLICAOF", "NO", "ONE")
            await expect_state(own_redis.url, account_name, "live")
            # A server that is full refuses in the middle of the work, too.
            await client.redis.config_set("maxmemory", 1)
            await until(lambda: _count(publisher.lines, "maxmemory"), lambda count: count > 0)
            await client.redis.config_set("maxmemory", 0)
            await until(lambda: _count(publisher.lines, "can_write_again"), lambda count: count >= 2)
            await expect_state(own_redis.url, account_name, "live")
            assert await publisher.stop() == 0
    assert "Traceback" not in publisher.output


async def test_it_runs_on_an_embedded_server_that_any_client_reaches_and_that_ends_with_it(
    tmp_path: Path, account_name: str, exchange: SimulatorServer
) -> None:
    settings = account_values(exchange, account_name, REDIS_URL="embedded")
    async with program(tmp_path, "publisher", **settings) as publisher:
        line = await publisher.prints("embedded_redis")
        url = next(part for part in line.replace('"', " ").replace(",", " ").split() if part.startswith("redis://"))
        await expect_state(url, account_name, "live")
        publisher.process.kill()
        await publisher.ends()
    port = int(url.rpartition(":")[2].partition("/")[0])
    await until(lambda: _listens(port), lambda listens: not listens)
    assert list(tmp_path.iterdir()) == []


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def test_several_accounts_come_from_a_file(
    tmp_path: Path, redis_url: str, account_name: str, exchange: SimulatorServer
) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "accounts.toml").write_text(
        f"""
        redis_url = "{redis_url}"
        rest_url = "{exchange.rest_url}"
        ws_url = "{exchange.ws_url}"
        api_key = "{KEY}"
        api_secret_file = "{tmp_path / "secret"}"
        [[accounts]]
        account = "{account_name}-a"
        [[accounts]]
        account = "{account_name}-b"
        """
    )
    async with program(tmp_path, "publisher", "--config", "accounts.toml") as publisher:
        await expect_state(redis_url, f"{account_name}-a", "live")
        await expect_state(redis_url, f"{account_name}-b", "live")
        assert await publisher.stop() == 0
