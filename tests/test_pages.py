"""The pages that users copy from: every program on them is run, every answer compared with the library's."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import pytest
from support.world import DEADLINE_S, World, world

from consumers import AccountReader, AccountSnapshot, OrderEvent, OrderEvents
from consumers.models import Balance, EventFields, Order, Position, Totals
from consumers.tables import values
from statecast.embedded.server import EmbeddedServer
from statecast.simulator.orders import OrderRequest, OrderType, Side
from statecast.store.client import connect
from statecast.venues import registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
READING = (ROOT / "docs/reading.md").read_text("utf-8")
REDIS_CLI = (ROOT / "docs/redis-cli.md").read_text("utf-8")
REDIS = (ROOT / "docs/redis.md").read_text("utf-8")


def code(page: str, language: str) -> list[str]:
    """The fenced blocks of a page."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


async def output(
    command: list[str], directory: Path, environment: dict[str, str], *, exit_code: int = 0
) -> tuple[str, str]:
    """Run a program to its end: standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | environment, cwd=directory
    )
    try:
        async with asyncio.timeout(30):
            out, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == exit_code, error.decode()
    return out.decode(), error.decode()


@asynccontextmanager
async def something_to_read(url: str, account: str) -> AsyncIterator[World]:
    """An account with two positions and two open orders, at rest."""
    async with world(url, account, RECONCILE_S="3600") as here:
        for request in (
            OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.MARKET, qty=Decimal("0.02")),
            OrderRequest(symbol="ETHUSDT", side=Side.SELL, type=OrderType.MARKET, qty=Decimal("0.3")),
            OrderRequest(
                symbol="BTCUSDT",
                side=Side.BUY,
                type=OrderType.LIMIT,
                qty=Decimal("0.01"),
                price=here.ledger.marks["BTCUSDT"] - 1000,
            ),
            OrderRequest(
                symbol="SOLUSDT",
                side=Side.SELL,
                type=OrderType.LIMIT,
                qty=Decimal(2),
                price=here.ledger.marks["SOLUSDT"] + 20,
            ),
        ):
            now_ms = here.now_ms()
            here.exchange.publish(here.ledger.place(request, now_ms), now_ms)
        await here.agree()
        await at_rest(here)
        yield here


async def at_rest(here: World) -> None:
    """Wait until nothing changes any more: REST is asked a last time a while after the last change."""
    async with asyncio.timeout(DEADLINE_S):
        before = None
        while (seq := (await here.status())["seq"]) != before:
            before = seq
            await asyncio.sleep(registry.venue("binance").traits.checks.all_pause_s + 1.0)


# The contract


async def test_keys_that_the_contract_calls_permanent_never_expire(redis_url: str, account_name: str) -> None:
    names = re.findall(r"^\| `…:([\w-]+)` \|.*\| permanent \|$", REDIS, re.MULTILINE)
    assert {"account", "balances", "positions", "orders", "status"} <= set(names)
    async with something_to_read(redis_url, account_name) as here:
        lives = {name: await here.client.redis.pttl(f"statecast:{{binance:{account_name}}}:{name}") for name in names}
    assert {name: left_ms for name, left_ms in lives.items() if left_ms != -1} == {"refresh": -2}, (
        "they exist and have no TTL"
    )


# Python


def indented_programs(page: str) -> list[str]:
    """The Python programs among the indented blocks of a page."""
    return [
        textwrap.dedent(block)
        for block in re.findall(r"(?:^    import .*\n(?:    .*\n|\n(?=    ))*)", page, re.MULTILINE)
    ]


@pytest.mark.parametrize(
    "program",
    [*indented_programs(README), *code(READING, "python")],
    ids=["readme", "reader", "mirror", "events", "blocking"],
)
async def test_a_program_of_the_pages_runs(program: str, redis_url: str, account_name: str, tmp_path: Path) -> None:
    async def trading(here: World) -> None:
        while True:
            here.trade(1)
            here.exchange.publish_marks(here.now_ms())
            await asyncio.sleep(0.05)

    settings = {"STATECAST_REDIS_URL": redis_url, "STATECAST_ACCOUNT": account_name}
    async with something_to_read(redis_url, account_name) as here:
        task = asyncio.create_task(trading(here))
        out, error = await output([sys.executable, "-c", program], tmp_path, settings)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert out
    assert "nothing to act on" not in out
    assert "doing nothing" not in out
    assert error == ""


# redis-cli

Check: TypeAlias = Callable[[list[str], AccountSnapshot, list[OrderEvent]], bool]


def _young(lines: list[str]) -> bool:
    return 0 <= int(lines[0]) <= 10_000


def _same_numbers(lines: list[str], *expected: Decimal | None) -> bool:
    return [Decimal(line) for line in lines] == list(expected)


def _totals(lines: list[str], account: AccountSnapshot, events: list[OrderEvent]) -> bool:
    row = dict(zip(lines[::2], lines[1::2], strict=True))
    return Totals(**values(Totals, row), freshness=account.freshness) == account.totals


def _last_event(lines: list[str], account: AccountSnapshot, events: list[OrderEvent]) -> bool:
    return lines[0] == events[-1].entry_id and same_event(dict(zip(lines[1::2], lines[2::2], strict=True)), events[-1])


def _first_event(lines: list[str], account: AccountSnapshot, events: list[OrderEvent]) -> bool:
    ok, _, entry_id, *fields, acknowledged = lines
    first = events[0]
    return (ok, entry_id, acknowledged) == ("OK", first.entry_id, "1") and same_event(
        dict(zip(fields[::2], fields[1::2], strict=True)), first
    )


def same_event(fields: dict[str, str], event: OrderEvent) -> bool:
    """Whether text of the stream says what the library has delivered."""
    return all(getattr(event, name) == value for name, value in values(EventFields, fields).items())


ANSWERS: dict[str, Check] = {
    "redis-cli EVAL": lambda lines, account, events: _young(lines),
    'redis-cli HMGET "$A:status"': lambda lines, account, events: lines == ["live", "the venue agrees"],
    "redis-cli <<END": lambda lines, account, events: (
        lines[-2:] == [str(account.seq), str(account.position("BTCUSDT").position_amt)]
    ),
    'redis-cli HGET "$A:account"': lambda lines, account, events: _same_numbers(
        lines, account.totals.total_wallet_balance
    ),
    'redis-cli HGETALL "$A:account"': _totals,
    'redis-cli HMGET "$A:balances"': lambda lines, account, events: _same_numbers(
        lines, account.balances["USDT"].wallet_balance, account.balances["USDT"].available_balance
    ),
    'redis-cli HMGET "$A:positions"': lambda lines, account, events: _same_numbers(
        lines,
        Decimal(1),
        account.position("BTCUSDT").position_amt,
        account.position("BTCUSDT").entry_price,
        account.position("BTCUSDT").mark_price,
    ),
    'redis-cli HGET "$A:positions"': lambda lines, account, events: lines == [str(len(account.positions))],
    'redis-cli HKEYS "$A:positions"': lambda lines, account, events: (
        lines == sorted(f"{row.symbol}:{row.position_side}" for row in account.positions)
    ),
    'redis-cli HKEYS "$A:orders"': lambda lines, account, events: lines == sorted(account.open_orders.by_name),
    'redis-cli HGETALL "$A:orders"': lambda lines, account, events: (
        sorted((name, Decimal(price)) for name, price in (line.split() for line in lines))
        == sorted((name, row.price) for name, row in account.open_orders.by_name.items())
    ),
    'redis-cli XREVRANGE "$A:order-events"': _last_event,
    'redis-cli XGROUP CREATE "$A:order-events"': _first_event,
    'redis-cli XINFO GROUPS "$A:order-events"': lambda lines, account, events: (
        lines[lines.index("shell") - 1] == "name" and lines[lines.index("pending") + 1] == "0"
    ),
    'redis-cli XGROUP DESTROY "$A:order-events"': lambda lines, account, events: lines == ["1"],
}
"""The beginning of each block of the page, and whether its answer is what the library says."""


async def test_every_answer_of_the_redis_cli_page_is_the_librarys(own_redis: EmbeddedServer, tmp_path: Path) -> None:
    redis_cli = shutil.which("redis-cli") or shutil.which("valkey-cli")
    if redis_cli is None:
        pytest.skip("there is no redis-cli on this machine")
    port = own_redis.url.rpartition(":")[2].partition("/")[0]
    preamble = f"A='statecast:{{binance:demo}}'\nredis-cli() {{ {redis_cli} -p {port} \"$@\"; }}\n"
    blocks = code(REDIS_CLI, "sh")
    asked = [next(start for start in ANSWERS if block.startswith(start)) for block in blocks]
    assert sorted(asked) == sorted(ANSWERS), "every block has its check, and every check its block"
    async with something_to_read(own_redis.url, "demo") as here:
        account, events = await by_library(own_redis.url, "demo", len(await here.log()))
        for start, block in zip(asked, blocks, strict=True):
            out, error = await output(["bash", "-c", preamble + block], tmp_path, {})
            assert ANSWERS[start](out.splitlines(), account, events), (block, out, error)


async def by_library(url: str, account: str, count: int) -> tuple[AccountSnapshot, list[OrderEvent]]:
    """What the library says of the account, and all of its order events."""
    events: list[OrderEvent] = []
    async with (
        AccountReader(f"binance:{account}", url) as reader,
        OrderEvents(f"binance:{account}", url, "library", start="beginning") as stream,
    ):
        async for event in stream:
            await event.ack()
            events.append(event)
            if len(events) == count:
                break
        return await reader.snapshot(), events


# ioredis


@pytest.fixture(scope="module")
def ioredis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with what it needs."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node on this machine")
    directory = tmp_path_factory.mktemp("ioredis") / "example"
    shutil.copytree(ROOT / "examples/ioredis", directory, ignore=shutil.ignore_patterns("node_modules"))
    install = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
    subprocess.run(install, cwd=directory, check=True, capture_output=True, timeout=100)
    return directory


def rows(kind: type[Any], table: dict[str, dict[str, str]], account: AccountSnapshot, **names: str) -> dict[str, Any]:
    return {
        name: kind(**values(kind, row) | dict.fromkeys(names, name), freshness=account.freshness)
        for name, row in table.items()
    }


async def test_ioredis_reads_the_account_that_the_library_reads(
    redis_url: str, account_name: str, ioredis: Path
) -> None:
    async with something_to_read(redis_url, account_name):
        account, _ = await by_library(redis_url, account_name, 1)
        settings = {"STATECAST_REDIS_URL": redis_url}
        out, _ = await output(["node", "account.mjs", f"binance:{account_name}"], ioredis, settings)
    found = orjson.loads(out)
    assert found["fresh"] is True
    assert found["seq"] == account.seq
    assert Totals(**values(Totals, found["account"]), freshness=account.freshness) == account.totals
    assert rows(Balance, found["balances"], account, asset="asset") == account.balances.by_name
    assert rows(Position, found["positions"], account) == account.positions.by_name
    assert rows(Order, found["orders"], account) == account.open_orders.by_name
    assert len(account.positions) == len(account.open_orders) == 2


async def test_ioredis_refuses_what_is_too_old_or_was_never_published(
    redis_url: str, account_name: str, ioredis: Path
) -> None:
    settings = {"STATECAST_REDIS_URL": redis_url}
    command = ["node", "account.mjs", f"binance:{account_name}"]
    _, error = await output(command, ioredis, settings, exit_code=3)
    assert "never published: unknown, not flat" in error
    async with something_to_read(redis_url, account_name):
        pass  # the publisher has left, and rewrites nothing
    status = f"statecast:{{binance:{account_name}}}:status"
    async with connect(redis_url, client_name="test") as client:
        verified_at_ms = await client.redis.hget(status, "verifiedAtMs")
        await client.redis.hset(status, "verifiedAtMs", int(verified_at_ms or 0) - 60_000)
        out, _ = await output(command, ioredis, settings, exit_code=3)
        assert orjson.loads(out)["fresh"] is False
        await client.redis.hset(status, "contract", "2")
        _, error = await output(command, ioredis, settings, exit_code=3)
        assert error == "contract 2, this program reads 1\n"


async def test_ioredis_gets_the_order_events_that_the_library_gets(
    redis_url: str, account_name: str, ioredis: Path
) -> None:
    async with something_to_read(redis_url, account_name) as here:
        count = len(await here.log())
        _, events = await by_library(redis_url, account_name, count)
        settings = {"STATECAST_REDIS_URL": redis_url}
        command = ["node", "order-events.mjs", f"binance:{account_name}", "node", str(count)]
        out, error = await output(command, ioredis, settings)
        pending = await here.client.redis.xpending(f"statecast:{{binance:{account_name}}}:order-events", "node")
    lines = [orjson.loads(line) for line in out.splitlines()]
    assert error == ""
    assert len(lines) == len(events) == count > 4
    assert all(same_event(fields, event) for fields, event in zip(lines, events, strict=True))
    assert pending["pending"] == 0


async def test_ioredis_tells_what_was_trimmed_while_it_did_not_run(
    redis_url: str, account_name: str, ioredis: Path
) -> None:
    stream = f"statecast:{{binance:{account_name}}}:order-events"
    async with something_to_read(redis_url, account_name) as here:
        settings = {"STATECAST_REDIS_URL": redis_url}
        command = ["node", "order-events.mjs", f"binance:{account_name}", "node"]
        _, error = await output([*command, "1"], ioredis, settings)
        assert error == ""
        await here.client.redis.xtrim(stream, maxlen=1, approximate=False)
        _, error = await output([*command, "1"], ioredis, settings)
        assert error.startswith("GAP: ")
