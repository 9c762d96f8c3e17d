"""`statecast show` as its users meet it: real programs, on what a real publisher, or its loss, has left in Redis."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.commands import exit_code
from support.programs import program, run
from support.terminal import terminal
from support.world import World, account_values, new_server, until, world

from statecast.embedded.server import EmbeddedServer
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId, AccountKeys
from statecast.store.reader import read_account

SHOW = ("statecast.cli.main", "show")


async def show(directory: Path, url: str, *arguments: str) -> tuple[int, list[str]]:
    return await run(directory, *SHOW, *arguments, REDIS_URL=url)


async def show_json(directory: Path, url: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    code, lines = await show(directory, url, *arguments, "--json")
    return code, orjson.loads(lines[0])


@pytest.fixture
async def traded(own_redis: EmbeddedServer) -> AsyncIterator[World]:
    """A live account `binance:main` with positions and orders, alone in its Redis."""
    async with world(own_redis.url, "main") as here:
        while not (here.ledger.positions() and here.ledger.open_orders()):
            here.trade(10)
        await here.agree()
        yield here


async def test_a_live_account_is_shown_as_it_stands_in_redis(
    tmp_path: Path, own_redis: EmbeddedServer, traded: World
) -> None:
    stored = await traded.stored()
    assert stored.positions
    code, lines = await show(tmp_path, own_redis.url)
    assert code == 0, lines
    assert lines[0].startswith("binance:main live: verified ")
    for name, row in stored.positions.items():
        assert any(f"  position {name} " in line and f"positionAmt={row['positionAmt']}" in line for line in lines)
    code, document = await show_json(tmp_path, own_redis.url, "main")
    assert (code, document["fresh"], document["orders"]) == (0, True, stored.orders)


async def test_a_terminal_shows_it_whole(tmp_path: Path, own_redis: EmbeddedServer, traded: World) -> None:
    stored = await traded.stored()
    async with terminal(tmp_path, *SHOW, "main", columns=160, REDIS_URL=own_redis.url) as screen:
        assert await screen.ends() == 0
    for word in (
        "live: verified",
        "open positions",
        "unRealizedProfit",
        *(stored.positions or {}),
        *(stored.orders or {}),
    ):
        assert word in screen.text


async def test_a_lost_hash_is_unknown_and_not_flat(tmp_path: Path, redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        account_id = here.account_id
    async with connect(redis_url, client_name="test") as client:
        await client.redis.delete(AccountKeys(account_id).positions)
    code, lines = await show(tmp_path, redis_url, account_name)
    assert code == 3
    assert "UNKNOWN: no complete state (positions missing), not flat" in lines[0]
    assert all("[UNKNOWN]" in line for line in lines[1:])
    assert any("positions unknown" in line for line in lines)
    code, document = await show_json(tmp_path, redis_url, account_name)
    assert (code, document["fresh"], document["positions"]) == (3, False, None)


async def test_a_publisher_that_was_killed_leaves_stale_state(
    tmp_path: Path, redis_url: str, account_name: str
) -> None:
    async with new_server() as server, connect(redis_url, client_name="test") as client:
        values = account_values(server, account_name, REDIS_URL=redis_url)
        async with program(tmp_path, "publisher", **values) as publisher:
            await _state(client, account_name, "live")
            publisher.process.kill()
            await publisher.ends()
        await until(lambda: _age_ms(client, account_name), lambda age_ms: age_ms > 500)
        code, lines = await show(tmp_path, redis_url, account_name, "--max-age-s", "0.5")
    assert code == 3
    assert "STALE: last verified" in lines[0]
    assert "the publisher said live and is gone or cut off since" in lines[0]
    assert all("[STALE]" in line for line in lines[1:])


async def _state(client: Client, account: str, state: str) -> None:
    account_id = AccountId("binance", account)
    await until(lambda: read_account(client, account_id), lambda stored: stored.status.get("state") == state)


async def _age_ms(client: Client, account: str) -> int:
    return (await read_account(client, AccountId("binance", account))).age_ms or 0


async def test_stopped_and_refused_are_said_on_every_line(tmp_path: Path, redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        stopped = here.account_id
    code, lines = await show(tmp_path, redis_url, str(stopped))
    assert "STOPPED" in lines[0]
    assert "the publisher was stopped" in lines[0]
    assert all("[STOPPED]" in line for line in lines[1:])
    async with world(redis_url, f"{account_name}-x", live=False, API_SECRET="not-it") as here:
        await here.state("refused")
        code, lines = await show(tmp_path, redis_url, f"{account_name}-x")
    assert code == 3
    assert "UNKNOWN" in lines[0]
    assert "STATECAST_API_SECRET" in lines[0]


async def test_what_does_not_exist_is_told_with_what_does(tmp_path: Path, own_redis: EmbeddedServer) -> None:
    code, lines = await show(tmp_path, own_redis.url)
    assert (code, len(lines)) == (3, 1)
    assert "NEVER PUBLISHED" in lines[0]
    assert "statecast publish" in lines[0]
    async with world(own_redis.url, "main"):
        code, lines = await show(tmp_path, own_redis.url, "mian")
    assert code == 3
    assert lines == [
        "binance:mian NEVER PUBLISHED: no publisher has written this account; it is unknown, not flat",
        f"Redis at {own_redis.url} holds binance:main",
    ]


async def test_watching_outlives_redis_and_never_shows_old_figures_as_new(
    tmp_path: Path, own_redis: EmbeddedServer
) -> None:
    async with (
        world(own_redis.url, "main") as here,
        program(tmp_path, *SHOW, "main", "--watch", REDIS_URL=own_redis.url) as lines,
        program(tmp_path, *SHOW, "main", "--watch", "--json", REDIS_URL=own_redis.url) as objects,
        terminal(tmp_path, *SHOW, "main", "--watch", REDIS_URL=own_redis.url) as screen,
    ):
        await lines.prints("binance:main live")
        await objects.prints('"fresh":true')
        await screen.shows("live: verified")
        own_redis.kill()
        told = await lines.prints("UNREADABLE")
        assert f"Redis at {own_redis.url}: " in told
        document = orjson.loads(await objects.prints("UNREADABLE"))
        assert (document["accountId"], document["fresh"], document["positions"]) == ("binance:main", False, None)
        await screen.shows("UNREADABLE")
        assert "balances" not in screen.pages[-1]
        own_redis.start()
        await here.state("live")
        count = len(lines.lines)
        await until(lambda: _after(lines.lines, count), lambda text: "binance:main live" in text)
        assert sum("UNREADABLE" in line for line in lines.lines) <= 2
        await until(lambda: _after(objects.lines, -1), lambda text: '"fresh":true' in text)
        await until(lambda: _after(screen.pages, -1), lambda text: "live: verified" in text)
        screen.press(b"\x03")
        assert await screen.ends() == 130
        assert await lines.stop(signal.SIGINT) == 130
        assert await objects.stop(signal.SIGTERM) == 143
    for text in (lines.output, objects.output, screen.text):
        assert "Traceback" not in text
    assert screen.raw.rstrip().endswith("\x1b[?25h"), "the cursor is not back"


async def _after(texts: list[str], index: int) -> str:
    return "\n".join(texts[index:])


async def test_watching_nothing_says_so(tmp_path: Path, own_redis: EmbeddedServer) -> None:
    async with (
        terminal(tmp_path, *SHOW, "--watch", columns=200, REDIS_URL=own_redis.url) as screen,
        program(tmp_path, *SHOW, "--watch", REDIS_URL=own_redis.url) as lines,
    ):
        await screen.shows("NEVER PUBLISHED")
        await lines.prints("NEVER PUBLISHED")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["a b"], 2, "ACCOUNT is 'a b'; accepted: <venue>:<account>"),
        (["--max-age-s", "soon"], 2, "argument --max-age-s: 'soon' is not a number above 0"),
        (["--redis-url", "localhost:6379"], 2, "STATECAST_REDIS_URL is 'localhost:"),
        (["--redis-url", "embedded"], 2, "an embedded one belongs to the program that runs it"),
        (["--redis-url", "redis://127.0.0.1:1"], 1, "Redis at redis://127.0.0.1:1: connection refused"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_work_is_one_clear_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code(["show", *arguments]) == code
    lines = capsys.readouterr().err.splitlines()
    assert says in lines[-1]
    assert len(lines) == 1 or lines[0].startswith("usage: ")
