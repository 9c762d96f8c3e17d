"""A TCP line to a server that a test may cut, stall, slow down, plug into another server, or let lose single requests
and replies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

Fate = Literal["pass", "lose request", "cut request", "lose reply"]
"""What becomes of one request: it arrives and is answered; it never arrives; half of it arrives; its reply is lost. In
all but the first the connection ends."""

MOST_AT_ONCE = 1 << 20


class Link:
    """Forwards bytes both ways between whoever connects to `port` and the server at `target`."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.host = "127.0.0.1"
        self.port = 0
        self.delay_s = 0.0
        """How late each piece of data arrives, in either direction."""
        self.ports: set[int] = set()
        """The ports that the server saw this line come from."""
        self.fate: Callable[[bytes], Fate] = lambda request: "pass"
        """Asked for every request, with its bytes."""
        self.fates: list[Fate] = []
        self._flows = asyncio.Event()
        self._flows.set()
        self._down = False
        self._transports: set[asyncio.WriteTransport] = set()

    @property
    def url(self) -> str:
        """The line's end, as the URL of a Redis server."""
        return f"redis://{self.host}:{self.port}/0"

    def cut(self) -> None:
        """Every connection breaks now; new ones work."""
        for transport in tuple(self._transports):
            transport.abort()

    def down(self, *, is_down: bool = True) -> None:
        """Nobody gets through: connections break, and new ones as soon as they are made."""
        self._down = is_down
        if is_down:
            self.cut()

    def stall(self) -> None:
        """Connections stay open, and nothing arrives until `resume`: packets are lost, and sent again and again."""
        self._flows.clear()

    def resume(self) -> None:
        """What was on its way arrives."""
        self._flows.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection until either end closes it."""
        transports = {writer.transport}
        try:
            if self._down:
                return
            up_reader, up_writer = await asyncio.open_connection(*self.target)
            transports.add(up_writer.transport)
            self._transports |= transports
            self.ports.add(up_writer.get_extra_info("sockname")[1])
            reply_is_lost = asyncio.Event()
            back = asyncio.create_task(self._replies(up_reader, writer, reply_is_lost))
            there = asyncio.create_task(self._requests(reader, up_writer, reply_is_lost))
            try:
                done, _ = await asyncio.wait((back, there), return_when=asyncio.FIRST_COMPLETED)
                if there in done and reply_is_lost.is_set():
                    await back  # the server has answered, so that it has done what it was asked
            finally:
                for pump in (back, there):
                    pump.cancel()
                await asyncio.gather(back, there, return_exceptions=True)
        except OSError:
            return
        finally:
            self._transports -= transports
            for transport in transports:
                transport.abort()

    async def _requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply_is_lost: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(MOST_AT_ONCE):
                fate = self.fate(data)
                self.fates.append(fate)
                if fate == "lose request":
                    return
                if fate == "lose reply":
                    reply_is_lost.set()
                await self._pass_on(data[: len(data) // 2] if fate == "cut request" else data, writer)
                if fate != "pass":
                    return

    async def _replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reply_is_lost: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(MOST_AT_ONCE):
                if reply_is_lost.is_set():
                    return
                await self._pass_on(data, writer)

    async def _pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        await self._flows.wait()
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def linked(host: str, port: int) -> AsyncIterator[Link]:
    """A line to the server at `host` and `port`, at a port of its own."""
    link = Link(host, port)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(link.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, link.host, 0, limit=1 << 24)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def linked_url(url: str) -> AsyncIterator[Link]:
    """A line to the Redis server of a URL; `Link.url` is its other end."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    async with linked(parts.hostname, parts.port) as link:
        yield link
