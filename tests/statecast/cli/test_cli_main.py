"""The command as a shell meets it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from support.programs import ENDS_WITHIN_S, run
from support.world import world

from statecast.cli import main

COMMANDS = ("demo", "publish", "simulate", "show", "events", "groups", "redis")


def test_help_names_every_command_and_where_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert all(re.search(rf"^    {command} +\w", text, re.MULTILINE) for command in COMMANDS)
    assert "Start here:\n\n    statecast demo" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_by_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main([command, "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert f"usage: statecast {command}" in text
    examples = text[text.index("options:") :]
    assert "statecast " in examples
    assert re.search(r"exit codes?:", examples, re.IGNORECASE) or command == "simulate"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(["--version"])
    assert (caught.value.code, capsys.readouterr().out) == (0, f"statecast {version('statecast')}\n")


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    assert "Start here:" in capsys.readouterr().err


async def test_an_unknown_command_is_told_with_those_that_exist(tmp_path: Path) -> None:
    code, lines = await run(tmp_path, "statecast.cli.main", "publsh")
    assert code == 2
    assert "invalid choice: 'publsh'" in lines[-1]
    assert "publish" in lines[-1]


def test_help_imports_nothing_that_only_work_needs() -> None:
    heavy = {"aiohttp", "cryptography", "hiredis", "httpx", "redis", "rich", "structlog", "uvloop", "websockets"}
    code = "import sys; from statecast.cli import main; main.parser(); print(*sys.modules)"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert heavy & set(imported.split()) == set()


@pytest.mark.parametrize("arguments", [("show",), ("show", "--watch", "--json")])
async def test_a_reader_that_has_gone_ends_it_quietly(
    tmp_path: Path, redis_url: str, account_name: str, arguments: tuple[str, ...]
) -> None:
    async with world(redis_url, account_name):
        reading, writing = os.pipe()
        os.close(reading)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "statecast.cli.main",
            *arguments,
            f"--redis-url={redis_url}",
            cwd=tmp_path,
            stdout=writing,
            stderr=asyncio.subprocess.PIPE,
        )
        os.close(writing)
        async with asyncio.timeout(ENDS_WITHIN_S):
            _, errors = await process.communicate()
    assert errors == b""
    assert process.returncode == 128 + signal.SIGPIPE
