"""The example bots that the demo runs: separate programs, which read the account from Redis."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import statecast
from statecast.embedded.guarded import guarded

DIRECTORY = Path(statecast.__file__).parents[1] / "examples"
EXAMPLES = ("poll.py", "mirror.py", "worker.py")
ENDS_WITHIN_S = 2.0


class Bots:
    """Programs that run, and the last line of each."""

    def __init__(self) -> None:
        self.last_lines: dict[str, str] = {}
        self._processes: list[asyncio.subprocess.Process] = []
        self._readers: list[asyncio.Task[None]] = []

    async def start(self, script: Path, environment: Mapping[str, str]) -> None:
        """Run one; the last line that it prints is in `last_lines` under its name."""
        process = await asyncio.create_subprocess_exec(
            *guarded(f"statecast-{script.stem}", [sys.executable, str(script)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environment,
            cwd=script.parent,  # not the user's directory, whose `.env` has the settings of another account
        )
        self._processes.append(process)
        self._readers.append(asyncio.create_task(self._read(script.stem, process)))

    async def _read(self, name: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        async for line in process.stdout:
            if text := line.decode(errors="replace").rstrip():
                self.last_lines[name] = text
        process.stdin.close()  # ends its guards, which hold the last of its pipes
        # A Ctrl-C that comes before the bot expects one ends it all the same.
        if (code := await process.wait()) not in (0, -signal.SIGINT):
            self.last_lines[name] = f"ended with exit code {code}: {self.last_lines.get(name, '')}"

    async def stop(self) -> None:
        """Ctrl-C for each, and then an end for those that did not stop."""
        for process in self._processes:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
        if self._readers:
            await asyncio.wait(self._readers, timeout=ENDS_WITHIN_S)
        for process in self._processes:
            assert process.stdin is not None
            assert process.stderr is not None
            process.stdin.close()  # the guards kill what is left
            await process.wait()
            await process.stderr.read()
        await asyncio.gather(*self._readers)


@asynccontextmanager
async def running(environment: Mapping[str, str]) -> AsyncIterator[Bots]:
    """All example bots, with these environment variables; none where the examples are not installed."""
    bots = Bots()
    try:
        for name in EXAMPLES:
            if (script := DIRECTORY / name).is_file():
                await bots.start(script, environment)
        yield bots
    finally:
        await bots.stop()
