"""`statecast events` as its users meet it: real programs that read the log of a real publisher."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import orjson
import pytest
from support.commands import exit_code
from support.programs import program, run
from support.world import World, until, world

from statecast.embedded.server import EmbeddedServer
from statecast.store.keys import EVENT_FIELDS, AccountKeys

EVENTS = ("statecast.cli.main", "events", "main")


@pytest.fixture
async def traded(own_redis: EmbeddedServer) -> AsyncIterator[World]:
    """A live account `binance:main` with at least twenty order events, alone in its Redis."""
    async with world(own_redis.url, "main") as here:
        await trade_until(here, 20)
        yield here


async def trade_until(here: World, count: int) -> list[dict[str, str]]:
    """Trade until the log has `count` entries, and all that were made; the whole log."""
    while len(here.dump()["orderEvents"]) + len(here.exchange.algo_events) < count:
        here.trade(1)
    made = len(here.dump()["orderEvents"]) + len(here.exchange.algo_events)
    return await until(here.log, lambda log: len(log) >= made)


async def events(directory: Path, url: str, *arguments: str) -> tuple[int, list[str]]:
    return await run(directory, *EVENTS, *arguments, REDIS_URL=url)


def numbers(lines: list[str]) -> list[int]:
    return [int(line.split()[0].removeprefix("#")) for line in lines if line.startswith("#")]


async def test_the_log_is_replayed_from_wherever_one_likes(
    tmp_path: Path, own_redis: EmbeddedServer, traded: World
) -> None:
    log = await traded.log()
    entries = await traded.client.redis.xrange(AccountKeys(traded.account_id).order_events)
    stored_at_ms = [int(entry_id.partition("-")[0]) for entry_id, _ in entries]
    since = sum(ms < stored_at_ms[9] for ms in stored_at_ms) + 1
    whole = list(range(1, len(log) + 1))
    for arguments, expected in (
        ((), whole),
        (("--last", "5"), whole[-5:]),
        (("--from-seq", "7"), whole[6:]),
        (("--from-seq", "999"), []),
        (("--since-ms", str(stored_at_ms[9])), whole[since - 1 :]),
    ):
        code, lines = await events(tmp_path, own_redis.url, "--no-follow", *arguments)
        assert (code, numbers(lines)) == (0, expected), (arguments, lines)


async def test_json_lines_have_the_contracts_fields(tmp_path: Path, own_redis: EmbeddedServer, traded: World) -> None:
    code, lines = await events(tmp_path, own_redis.url, "--no-follow", "--json", "--last", "3")
    assert code == 0
    assert [orjson.loads(line) for line in lines] == (await traded.log())[-3:]
    assert list(orjson.loads(lines[0])) == list(EVENT_FIELDS)


async def test_a_gap_in_the_log_is_reported(tmp_path: Path, own_redis: EmbeddedServer, traded: World) -> None:
    key = AccountKeys(traded.account_id).order_events
    entries = await traded.client.redis.xrange(key)
    await traded.client.redis.xdel(key, *(entry_id for entry_id, _ in (*entries[:2], entries[6], entries[7])))
    _, lines = await events(tmp_path, own_redis.url, "--no-follow", "--from-seq", "1")
    assert [line for line in lines if line.startswith("MISSING")] == [
        "MISSING: the log has no events 1 to 2",
        "MISSING: the log has no events 7 to 8",
    ]


async def test_following_loses_nothing_while_redis_is_away(
    tmp_path: Path, redis_server_factory: Callable[..., EmbeddedServer]
) -> None:
    (tmp_path / "redis").mkdir()
    server = redis_server_factory(directory=tmp_path / "redis")
    async with world(server.url, "main") as here:
        before = len(await trade_until(here, 5))
        async with program(tmp_path, *EVENTS, "--last", "2", REDIS_URL=server.url) as following:
            await following.prints(f"#{before} ")
            after = len(await trade_until(here, before + 5))
            await following.prints(f"#{after} ")
            server.kill()
            await following.prints("UNREADABLE")
            here.trade(10)
            server.start()
            last = len(await trade_until(here, after + 5))
            await following.prints(f"#{last} ")
            assert await following.stop(signal.SIGINT) == 130
    assert numbers(following.lines) == list(range(before - 1, last + 1))
    assert "Traceback" not in following.output
    assert "MISSING" not in following.output


async def test_following_tells_that_nobody_publishes_any_more(
    tmp_path: Path, redis_url: str, account_name: str
) -> None:
    async with program(tmp_path, "statecast.cli.main", "events", account_name, REDIS_URL=redis_url) as following:
        await following.prints(f"NEVER PUBLISHED: no publisher has written binance:{account_name}")
        async with world(redis_url, account_name):
            await following.prints("live: verified")
        await following.prints("STOPPED: last verified")
        assert await following.stop(signal.SIGTERM) == 143
    assert "Traceback" not in following.output


async def test_a_flushed_redis_is_told(tmp_path: Path, own_redis: EmbeddedServer, traded: World) -> None:
    last = len(await traded.log())
    async with program(tmp_path, *EVENTS, "--last", "1", REDIS_URL=own_redis.url) as following:
        await following.prints(f"#{last} ")
        await traded.client.redis.xtrim(AccountKeys(traded.account_id).order_events, maxlen=0)
        # As a publisher would write it into a log that it found empty.
        await traded.client.redis.xadd(AccountKeys(traded.account_id).order_events, dict.fromkeys(EVENT_FIELDS, "1"))
        await following.prints(f"BACK: event 1 follows event {last}; Redis has lost what was between")


async def test_what_redis_lost_and_has_again_is_told_and_printed_once(
    tmp_path: Path, own_redis: EmbeddedServer, traded: World
) -> None:
    key, redis = AccountKeys(traded.account_id).order_events, traded.client.redis
    entries = await redis.xrange(key)
    last = len(entries)
    async with program(tmp_path, *EVENTS, "--from-seq", "1", REDIS_URL=own_redis.url) as following:
        await following.prints(f"#{last} ")
        await redis.xdel(key, *(entry_id for entry_id, _ in entries[-3:]))
        for _, fields in entries[-3:]:
            await redis.xadd(key, fields | {"epoch": str(int(fields["epoch"]) + 1)})
        gap = entries[-1][1] | {"eventSeq": f"{last + 1}", "eventType": "GAP", "eventId": "GAP:1:ALL", "orderId": ""}
        await redis.xadd(key, gap)
        await following.prints(f"#{last + 1} GAP: the venue no longer has any order event")
        sentence = f"AGAIN: Redis lost events {last - 2} to {last}; they were written again under the same ids"
        await following.prints(sentence)
    assert numbers(following.lines) == list(range(1, last + 2))
    assert not any(line.startswith(("MISSING", "BACK")) for line in following.lines)


async def test_an_account_that_does_not_exist_is_told_with_those_that_do(
    tmp_path: Path, own_redis: EmbeddedServer
) -> None:
    async with world(own_redis.url, "other"):
        code, lines = await events(tmp_path, own_redis.url, "--no-follow")
    assert code == 3
    assert lines == ["NEVER PUBLISHED: no publisher has written binance:main; Redis holds binance:other"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--last", "many"], 2, "argument --last: 'many' is not a whole number"),
        (["--last", "1", "--from-seq", "1"], 2, "not allowed with argument"),
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
    assert exit_code(["events", "main", *arguments]) == code
    lines = capsys.readouterr().err.splitlines()
    assert says in lines[-1]
    assert len(lines) == 1 or lines[0].startswith("usage: ")
