"""Real programs in a terminal of a given size: what stands on it, and keys pressed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from support.programs import ENDS_WITHIN_S

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
REDRAW = "\x1b[2K"
"""How rich wipes a line of the page before."""


@dataclass
class Terminal:
    """A running program and all that it has written to its terminal."""

    process: asyncio.subprocess.Process
    master: int
    raw: str = ""

    @property
    def text(self) -> str:
        """Everything without colours and cursor movements."""
        return CONTROL.sub("", self.raw).replace("\r", "")

    @property
    def pages(self) -> list[str]:
        """The pages that were shown in place of each other; the last one may be half written."""
        wiped = re.sub(rf"(?:\r|\x1b\[1A|{re.escape(REDRAW)})+(?=[^\n])", "\f", self.raw)
        return [CONTROL.sub("", page).replace("\r", "").strip("\n") for page in wiped.split("\f")]

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    async def shows(self, text: str) -> str:
        """Wait until `text` was written; all that was."""
        try:
            async with asyncio.timeout(ENDS_WITHIN_S):
                while text not in self.text:
                    assert self.process.returncode is None, self.text
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"no {text!r} in:\n{self.text}") from None
        return self.text

    async def ends(self) -> int:
        async with asyncio.timeout(ENDS_WITHIN_S):
            return await self.process.wait()


@asynccontextmanager
async def terminal(
    directory: Path, *arguments: str, columns: int = 120, lines: int = 40, **settings: str
) -> AsyncIterator[Terminal]:
    """`python -m …` in a terminal of its own, with no setting but `settings`; killed at the end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STATECAST_")}
    environment |= {f"STATECAST_{name}": value for name, value in settings.items()}
    environment |= {"TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            # The child makes the terminal its own, so that Ctrl-C reaches it as a signal.
            "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
            "os.execv(sys.executable, [sys.executable, '-m', *sys.argv[1:]])",
            *arguments,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            cwd=directory,
        )
    finally:
        os.close(slave)
    running = Terminal(process, master)
    reading = asyncio.create_task(_read(running))
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading
        os.close(master)


async def _read(running: Terminal) -> None:
    os.set_blocking(running.master, False)
    readable = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(running.master, readable.set)
    pending = b""
    try:
        while True:
            await readable.wait()
            readable.clear()
            try:
                chunk = os.read(running.master, 65536)
            except BlockingIOError:
                continue
            except OSError:  # the last process has closed its side
                return
            if not chunk:
                return
            readable.set()
            pending += chunk
            text = pending.decode(errors="ignore")
            if pending.decode(errors="replace") == text:  # no character was cut in two
                running.raw, pending = running.raw + text, b""
    finally:
        loop.remove_reader(running.master)
