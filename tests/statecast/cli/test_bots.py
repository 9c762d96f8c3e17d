from __future__ import annotations

import os
import socket
from functools import partial
from pathlib import Path

from support.world import until

from statecast.cli import bots
from statecast.cli.bots import Bots

STUBBORN = """
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(600)
"""


def script(directory: Path, name: str, text: str) -> Path:
    path = directory / f"{name}.py"
    path.write_text(text, "utf-8")
    return path


async def last_line(running: Bots, name: str) -> str:
    async def read() -> str:
        return running.last_lines.get(name, "")

    return await until(read, bool)


async def test_the_last_line_of_each_bot_is_known_and_a_broken_one_says_so(tmp_path: Path) -> None:
    running = Bots()
    talking = "import os\nprint('first')\nprint(os.environ['GREETING'], flush=True)\nimport time; time.sleep(600)"
    await running.start(script(tmp_path, "talks", talking), os.environ | {"GREETING": "hello"})
    await running.start(script(tmp_path, "broken", "raise SystemExit('no such key')"), os.environ)

    async def lines() -> dict[str, str]:
        return running.last_lines

    wanted = {"talks": "hello", "broken": "ended with exit code 1: no such key"}
    await until(lines, lambda found: found == wanted)
    await running.stop()


async def test_a_bot_that_does_not_listen_ends_all_the_same(tmp_path: Path) -> None:
    running = Bots()
    await running.start(script(tmp_path, "stubborn", STUBBORN), os.environ)
    pid = int(await last_line(running, "stubborn"))
    await running.stop()
    await until(partial(_lives, pid), lambda lives: not lives)


async def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_examples_are_found() -> None:
    assert all((bots.DIRECTORY / name).is_file() for name in bots.EXAMPLES)


async def test_an_example_waits_for_a_redis_that_is_not_there_yet(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        settings = {"STATECAST_REDIS_URL": f"redis://127.0.0.1:{nobody.getsockname()[1]}/0", "STATECAST_ACCOUNT": "a"}
        async with bots.running(os.environ | settings) as running:

            async def lines() -> dict[str, str]:
                return dict(running.last_lines)

            await until(lines, lambda found: {"poll", "mirror"} <= found.keys())
            found = await lines()
            assert found["poll"].startswith("does nothing: ")
            assert found["mirror"].startswith("does nothing: ")
    assert not any("exit code" in line for line in running.last_lines.values()), running.last_lines
