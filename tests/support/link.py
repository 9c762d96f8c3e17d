"""A TCP line to a server that a test may cut, stall, slow down, or plug into another server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


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
        self._flows = asyncio.Event()
        self._flows.set()
        self._down = False
        self._transports: set[asyncio.WriteTransport] = set()

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
            pumps = [asyncio.create_task(self._pump(*ends)) for ends in ((reader, up_writer), (up_reader, writer))]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            return
        finally:
            self._transports -= transports
            for transport in transports:
                transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
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

    server = await asyncio.start_server(accept, link.host, 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
