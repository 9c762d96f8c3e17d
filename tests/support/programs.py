"""Real programs as a user starts them: their output, their exit codes, their ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

ENDS_WITHIN_S = 60.0


@dataclass
class Program:
    """A running program and everything that it has printed."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    async def prints(self, text: str) -> str:
        """Wait until a line has `text` in it; that line."""
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                while True:
                    for line in self.lines:
                        if text in line:
                            return line
                    if self.process.returncode is not None:
                        raise AssertionError(f"ended with {self.process.returncode} without {text!r}:\n{self.output}")
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"no {text!r} in:\n{self.output}") from None

    async def ends(self) -> int:
        """Wait for its end; the exit code."""
        async with asyncio.timeout(ENDS_WITHIN_S):
            return await self.process.wait()

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; the exit code."""
        self.process.send_signal(number)
        return await self.ends()


@asynccontextmanager
async def program(directory: Path, *arguments: str, **settings: str) -> AsyncIterator[Program]:
    """`python -m …` in `directory`, with no setting but `settings` (names without the prefix); killed at the end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STATECAST_")}
    environment |= {f"STATECAST_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=directory,
    )
    running = Program(process)
    reading = asyncio.create_task(_read(running))
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def _read(running: Program) -> None:
    assert running.process.stdout is not None
    async for line in running.process.stdout:
        running.lines.append(line.decode().rstrip("\n"))


async def run(directory: Path, *arguments: str, **settings: str) -> tuple[int, list[str]]:
    """Run a program to its end: exit code and lines."""
    async with program(directory, *arguments, **settings) as running:
        code = await running.ends()
    return code, running.lines
