"""A TCP proxy before a real server that loses what a test wants it to lose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

Fate = Literal["pass", "lose request", "cut request", "lose reply"]
"""What becomes of one request: it arrives and is answered; it never arrives; half of it arrives; its reply is lost. In
all but the first the connection ends."""


class Proxy:
    """Forwards to one server. `fate` is asked for every request, with its bytes."""

    def __init__(self, target_url: str) -> None:
        parts = urlsplit(target_url)
        self._target = (parts.hostname, parts.port)
        self.fate: Callable[[bytes], Fate] = lambda request: "pass"
        self.fates: list[Fate] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
        except OSError:  # the server is away
            writer.close()
            return
        lost_reply = asyncio.Event()

        async def replies() -> None:
            while data := await up_reader.read(65536):
                if lost_reply.is_set():
                    return
                writer.write(data)
                await writer.drain()

        back = asyncio.create_task(replies())
        try:
            while not back.done() and (request := await reader.read(1 << 20)):
                fate = self.fate(request)
                self.fates.append(fate)
                if fate == "lose request":
                    return
                if fate == "cut request":
                    up_writer.write(request[: len(request) // 2])
                    await up_writer.drain()
                    return
                if fate == "lose reply":
                    lost_reply.set()
                up_writer.write(request)
                await up_writer.drain()
                if fate == "lose reply":
                    await back  # the server has answered, so that it has done what it was asked
                    return
        except ConnectionError:
            return
        finally:
            back.cancel()
            with suppress(asyncio.CancelledError, ConnectionError):
                await back
            up_writer.close()
            writer.close()


@asynccontextmanager
async def proxied(target_url: str) -> AsyncIterator[Proxy]:
    """A proxy before the server at `target_url`, at `Proxy.url`."""
    proxy = Proxy(target_url)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1 << 24)
    host, port = server.sockets[0].getsockname()
    proxy.url = f"redis://{host}:{port}/0"
    try:
        yield proxy
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
