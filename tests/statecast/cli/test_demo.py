"""`statecast demo` as a newcomer meets it: in a terminal and piped, what it says to type, and what it leaves behind."""

from __future__ import annotations

import asyncio
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from support.commands import exit_code
from support.programs import Program, program
from support.terminal import terminal
from support.world import DEADLINE_S, until

from statecast.cli import demo
from statecast.cli.views import TOTALS
from statecast.clock import SystemClock
from statecast.store.keys import ACCOUNT_FIELDS

DEMO = ("statecast.cli.main", "demo")
QUIET = ("--trade", "0.01")
"""Prices move, nobody trades."""


async def ask(line: str) -> list[str]:
    """Type a line into a shell; the lines of the answer."""
    process = await asyncio.create_subprocess_shell(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    answer, _ = await process.communicate()
    assert process.returncode == 0, answer
    return answer.decode().splitlines()


async def ask_hash(line: str) -> dict[str, str]:
    words = await ask(line)
    return dict(zip(words[::2], words[1::2], strict=True))


def own_words(line: str) -> str:
    """The same question, asked through `statecast redis`."""
    words = shlex.split(line)
    assert words[1] == "-p"
    program = [sys.executable, "-m", "statecast.cli.main", "redis", "-u", f"redis://127.0.0.1:{words[2]}"]
    return shlex.join([*program, *words[3:]])


def typed_lines(text: str) -> dict[str, str]:
    """The lines that a printed text says to type, by command and last part of the key."""
    whole = re.sub(r" \\\n +", " ", text)
    found = re.findall(
        r"((?:\S*redis-cli -p|(?:\S+ -m )?\S+ redis -u) \S+ (\w+) '?\S+:([\w-]+)'?.*)$", whole, re.MULTILINE
    )
    return {f"{command} {key}": line for line, command, key in found}


def blocks(running: Program) -> list[str]:
    """The printed blocks, whole ones only."""
    parts = f"{running.output}\n".split("\n\n")[:-1]
    return [part for part in parts if part.startswith("binance:demo ")]


def seq_of(text: str) -> str:
    found = re.search(r"seq[ =](\d+)", text)
    return found[1] if found else ""


async def nobody_listens(text: str) -> None:
    """Wait until the servers that the demo named are gone."""
    for port in set(re.findall(r"(?:redis|http)://127\.0\.0\.1:(\d+)", text)):
        await until(partial(_listens, int(port)), lambda listens: not listens)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:  # the server ended between the handshake and our look at it
        return True
    writer.close()
    return True


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where the demo runs; it must leave nothing there."""
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


async def test_the_printed_lines_answer_with_what_the_demo_shows(directory: Path) -> None:
    async with program(directory, *DEMO, *QUIET) as running:
        await grows(lambda: blocks(running), beyond=0)
        lines = typed_lines(running.output)
        assert set(lines) == {"HGETALL account", "HGETALL positions", "HGET account", "XREVRANGE order-events"}
        account, block = await same_moment(lambda: blocks(running), lines["HGETALL account"])
        assert set(account) >= set(ACCOUNT_FIELDS)
        for column in TOTALS:
            assert f" {column.name}={account[column.name]}" in block
        question = lines["HGETALL positions"]
        positions, block = await same_moment(
            lambda: blocks(running), own_words(question) if "-p" in question else question
        )
        shown = dict(re.findall(r"^  position (\S+) (.*)$", block, re.MULTILINE))
        assert len(shown) == int(positions["_count"]) > 0
        for name, fields in shown.items():
            for field, value in (pair.split("=") for pair in fields.split()):
                assert positions[f"{name}.{field}"] == value
        assert len(await ask(lines["HGET account"])) == 1
        await ask(lines["XREVRANGE order-events"])
        assert await running.stop(signal.SIGINT) == 0
    assert running.lines[-1].startswith("stopped: ")


async def grows(read: Callable[[], list[str]], beyond: int) -> None:
    """Wait until there are more than so many."""

    async def count() -> int:
        return len(read())

    await until(count, lambda now: now > beyond)


async def same_moment(read: Callable[[], list[str]], line: str) -> tuple[dict[str, str], str]:
    """A hash, and what the demo has shown of the same commit."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await ask_hash(line)
            await grows(read, beyond=len(read()))
            for text in read():
                if seq_of(text) == answer["_seq"]:
                    return answer, text


async def test_there_is_something_to_see_from_the_first_block_on(directory: Path) -> None:
    async with program(directory, *DEMO, "--seconds", "4", "--trade", "30") as running:
        assert await running.ends() == 0
    assert [line.split()[0] for line in running.lines[:3]] == ["redis", "exchange", "publisher"]
    first, *_, last = blocks(running)
    for word in ("live: verified", "  balance USDT ", "  position ", "  order ", "unRealizedProfit="):
        assert word in first
    assert int(seq_of(last)) > int(seq_of(first))
    events = [int(number) for number in re.findall(r"^  event #(\d+) ", running.output, re.MULTILINE)]
    assert events == sorted(set(events))
    assert events
    assert "Traceback" not in running.output
    await nobody_listens(running.output)


async def test_a_terminal_shows_a_page_that_stays_in_place(directory: Path) -> None:
    async with terminal(directory, *DEMO, *QUIET, columns=80, lines=24) as screen:
        await screen.shows("the same from another terminal")
        question = typed_lines(screen.text)["HGETALL account"]
        account, page = await same_moment(lambda: screen.pages[:-1], question)
        for value in ("totalWalletBalance", "totalUnrealizedProfit", "totalMarginBalance"):
            assert value in page
            assert account[value] in page
        for title in ("balances", "open positions", "open orders", "last order events"):
            assert title in page
        for shown in screen.pages[1:-1]:
            assert len(shown.splitlines()) < 24, shown
            assert max(map(len, shown.splitlines())) <= 80
        screen.press(b"\x03")
        assert await screen.ends() == 0
    last = screen.text.rpartition(" binance:demo ")[2]
    assert "live: verified" in last, "the last page is left on the screen"
    assert last.rstrip().endswith("nothing is left behind")
    assert "Traceback" not in screen.text
    assert "\x1b[?25h" in screen.raw.rpartition("\x1b[?25l")[2], "the cursor is not back"
    await nobody_listens(screen.text)


async def test_seconds_count_from_when_it_is_live_and_sigterm_is_an_end_too(directory: Path) -> None:
    async with (
        program(directory, *DEMO, *QUIET, "--seconds", "1") as bounded,
        program(directory, *DEMO, *QUIET, "--hedge", "--seed", "7") as terminated,
    ):
        await bounded.prints("live: verified")
        began = SystemClock().monotonic()
        await terminated.prints("live: verified")
        assert await terminated.stop(signal.SIGTERM) == 0
        assert await bounded.ends() == 0
        assert SystemClock().monotonic() - began > 0.8
    await nobody_listens(bounded.output + terminated.output)
    assert re.search(r"position \S+:(LONG|SHORT) ", terminated.output)


async def test_a_killed_demo_leaves_nothing_behind(directory: Path) -> None:
    async with program(directory, *DEMO) as running:
        await running.prints("live: verified")
        running.process.kill()
        await running.ends()
    await nobody_listens(running.output)


async def test_a_redis_that_dies_ends_it_with_one_line(directory: Path) -> None:
    async with program(directory, *DEMO) as running:
        await running.prints("live: verified")
        client = typed_lines(running.output)["HGETALL account"].partition(" HGETALL ")[0]
        await ask(f"{client} SHUTDOWN NOSAVE || true")
        assert await running.ends() == 1
    assert running.lines[-1].startswith("statecast: Redis at redis://127.0.0.1:")
    assert "Traceback" not in running.output


async def test_a_reader_that_has_gone_ends_it_quietly(directory: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m statecast.cli.main demo | head -n 1"
    process = await asyncio.create_subprocess_shell(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    async with asyncio.timeout(DEADLINE_S):
        output, errors = await process.communicate()
    assert errors == b""
    await nobody_listens(output.decode())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
def test_every_seed_begins_with_positions_and_orders(seed: int, hedge: bool) -> None:
    ledger = demo._traded_exchange(seed, hedge, 1_800_000_000_000).ledger
    assert ledger.positions()
    assert ledger.open_orders()


@pytest.mark.parametrize("found", ["redis-cli", "valkey-cli"])
def test_an_installed_client_is_named(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name == found else None)
    assert demo._redis_program("redis://127.0.0.1:16400/0") == [found, "-p", "16400"]


async def test_without_one_the_own_client_is_named_so_that_it_works_from_anywhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, redis_url: str
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.chdir(Path(sys.executable).parent)
    monkeypatch.setattr(sys, "argv", ["./statecast"])
    script = demo._redis_program(redis_url)
    assert Path(script[0]).is_absolute()
    monkeypatch.setattr(sys, "argv", [demo.__file__])
    module = demo._redis_program(redis_url)
    monkeypatch.chdir(tmp_path)
    for words in (script, module):
        assert await ask(shlex.join([*words, "PING"])) == ["PONG"]


@pytest.mark.parametrize("option", ["--seconds", "--trade"])
def test_bad_numbers_are_named(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(["demo", option, "soon"]) == 2
    assert f"argument {option}: 'soon' is not a number above 0" in capsys.readouterr().err
