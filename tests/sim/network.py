"""A network in memory: connections with latency, and all that goes wrong with them. Chance is the seed's.

A connection is ordered and loses nothing until it is cut, like TCP. What was sent before a connection was closed still
arrives, however late; what is sent by a dead process does not.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextvars import Context, copy_context
from random import Random
from typing import Any, Protocol

from sim.loop import Process, SimLoop

IN_ORDER_S = 1e-9
"""Between two packets of one connection: timers of the very same time have no order."""

CONNECT_GIVES_UP_S = 130.0
"""So long a connection attempt to a silent address lasts, if the program waits for it."""


class Service(Protocol):
    """What listens on a port. Calls happen at the instant at which the bytes arrive."""

    def accepted(self, connection: Connection) -> None: ...
    def received(self, connection: Connection, data: bytes) -> None: ...
    def lost(self, connection: Connection) -> None: ...


class Path:
    """The way between one process and one port."""

    def __init__(self, rng: Random, least_s: float, jitter_s: float) -> None:
        self._rng = rng
        self._least_s = least_s
        self._jitter_s = jitter_s
        self.stalled_until = 0.0
        """Until then nothing arrives in either direction; then all of it does, in order."""
        self.down_stalled_until = 0.0
        """The same, of what the port sends alone."""
        self.refused_until = 0.0
        self.extra_s = 0.0
        """A slow way: so much more for each direction."""

    def latency_s(self) -> float:
        return self._least_s + self._rng.random() * self._jitter_s + self.extra_s


class Connection:
    """One connection, seen from the port."""

    def __init__(self, network: Network, process: Process, port: int, path: Path, service: Service) -> None:
        self.process = process
        self.port = port
        self.path = path
        self.open = True
        """Whether what is sent now can still get to the other side."""
        self.kind = ""
        """What the service says of it, for the trace and for faults."""
        self.black_hole = False
        """Nothing arrives any more, in either direction, and nobody is informed."""
        self.state: Any = None
        """The service's own."""
        self._network = network
        self._loop = network.loop
        self._service = service
        self._up_at = 0.0
        self._down_at = 0.0
        self.transport: SimTransport

    # From the process

    def send_up(self, data: bytes) -> None:
        if self.open and not self.process.dead:
            at = max(self._loop.time() + self.path.latency_s(), self._up_at, self.path.stalled_until)
            self._up_at = at + IN_ORDER_S
            self._loop.call_at(at, self._arrive_up, data, context=self._network.context)

    def _arrive_up(self, data: bytes) -> None:
        if self.open and not self.black_hole:
            self._service.received(self, data)

    def close_up(self) -> None:
        """The process has closed its side: the port learns of it after all that was sent."""
        at = max(self._loop.time() + self.path.latency_s(), self._up_at, self.path.stalled_until)
        self._loop.call_at(at, self._end, context=self._network.context)

    def _end(self) -> None:
        if self.open:
            self.open = False
            self._network.connections.remove(self)
            self._service.lost(self)

    # From the port

    def send(self, data: bytes) -> None:
        if self.open and not self.black_hole:
            path = self.path
            at = max(self._loop.time() + path.latency_s(), self._down_at, path.stalled_until, path.down_stalled_until)
            self._down_at = at + IN_ORDER_S
            self._loop.call_at(at, self._arrive_down, data, context=self.transport.context)

    def _arrive_down(self, data: bytes) -> None:
        if self.open and not self.black_hole and not self.process.dead:
            self.transport.take(data)

    def close(self) -> None:
        """In an orderly way, after what was sent."""
        if self.open:
            at = max(self._loop.time() + self.path.latency_s(), self._down_at, self.path.stalled_until)
            self._loop.call_at(at, self.transport.end, None, context=self.transport.context)

    def cut(self) -> None:
        """Now, with all that is under way; the process sees a reset."""
        if self.open:
            self._end()
            if not self.process.dead:
                reset = ConnectionResetError("connection reset by peer")
                self._loop.call_soon(self.transport.end, reset, context=self.transport.context)


class _Socket:
    """What libraries want of a socket: options that are taken, and a descriptor that says whether it has ended."""

    family = socket.AF_INET

    def __init__(self, network: Network, port: int) -> None:
        self._network = network
        self._port = port
        self.ended = False

    def getpeername(self) -> tuple[str, int]:
        return ("127.0.0.1", self._port)

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 1)

    def setsockopt(self, *_args: object) -> None:
        """Options mean nothing here."""

    def fileno(self) -> int:
        return self._network.readable_fd if self.ended else self._network.silent_fd


class SimTransport(asyncio.Transport):
    """The process's end of a connection."""

    def __init__(self, network: Network, connection: Connection, protocol: asyncio.Protocol, context: Context) -> None:
        super().__init__()
        self.context = context
        self._loop = network.loop
        self._connection = connection
        self._protocol = protocol
        self._socket = _Socket(network, connection.port)
        self._closing = False
        self._ended = False
        self._paused = False
        self._kept: list[bytes] = []
        self._end_kept: list[BaseException | None] = []

    def take(self, data: bytes) -> None:
        if self._closing:
            return
        if self._paused:
            self._kept.append(data)
        else:
            self._protocol.data_received(data)

    def end(self, error: Exception | None) -> None:
        """The other side is gone: at once with an error, else after what is kept was read."""
        self._socket.ended = True
        if self._ended:
            return
        if error is None and self._kept:
            self._end_kept.append(error)
            return
        if error is None and not self._closing:
            self._protocol.eof_received()
        self._closing = True
        self._degrade(error)

    def _degrade(self, error: Exception | None) -> None:
        if not self._ended:
            self._ended = True
            self._connection.close_up()
            self._protocol.connection_lost(error)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        match name:
            case "socket":
                return self._socket
            case "peername":
                return self._socket.getpeername()
            case "sockname":
                return self._socket.getsockname()
            case _:
                return default

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._socket.ended = True
            self._loop.call_soon(self._degrade, None, context=self.context)

    def abort(self) -> None:
        self.close()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_reading(self) -> bool:
        return not self._paused

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        if self._kept or self._end_kept:
            self._loop.call_soon(self._give_kept, context=self.context)

    def _give_kept(self) -> None:
        while self._kept and not self._paused and not self._closing:
            self._protocol.data_received(self._kept.pop(0))
        if self._end_kept and not self._kept:
            self._end_kept.clear()
            self.end(None)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._closing:
            self._connection.send_up(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Writing never waits: the network takes everything."""

    def get_write_buffer_size(self) -> int:
        return 0


class Network:
    """Services by port, and the ways to them."""

    def __init__(self, loop: SimLoop, rng: Random, context: Context) -> None:
        self.loop = loop
        self.context = context
        """In which the world's own calls happen: nobody's process."""
        self.connections: list[Connection] = []
        self._rng = rng
        self._services: dict[int, tuple[Service, float, float]] = {}
        self._paths: dict[tuple[str, int], Path] = {}
        self.silent_fd, self._silent_other = os.pipe()
        self.readable_fd, other = os.pipe()
        os.close(other)

    def close(self) -> None:
        for fd in (self.silent_fd, self._silent_other, self.readable_fd):
            os.close(fd)

    def listen(self, port: int, service: Service, least_s: float, jitter_s: float) -> None:
        self._services[port] = (service, least_s, jitter_s)

    def path(self, process: str, port: int) -> Path:
        if (process, port) not in self._paths:
            _, least_s, jitter_s = self._services[port]
            self._paths[process, port] = Path(Random(self._rng.getrandbits(64)), least_s, jitter_s)
        return self._paths[process, port]

    async def connect(
        self, process: Process, factory: Callable[[], asyncio.BaseProtocol], port: int
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """As a system call would: refused where the port is closed, and silence where the way is."""
        loop, path = self.loop, self.path(process.name, port)
        if process.dead:
            raise ConnectionRefusedError("this process is dead")
        began = loop.time()
        while loop.time() < path.stalled_until:
            await asyncio.sleep(path.stalled_until - loop.time())
            if loop.time() - began > CONNECT_GIVES_UP_S:
                raise TimeoutError("connection timed out")
        await asyncio.sleep(path.latency_s() + path.latency_s())
        if process.dead or loop.time() < path.refused_until:
            raise ConnectionRefusedError("connection refused")
        protocol = factory()
        assert isinstance(protocol, asyncio.Protocol)
        service = self._services[port][0]
        connection = Connection(self, process, port, path, service)
        connection.transport = SimTransport(self, connection, protocol, copy_context())
        self.connections.append(connection)
        protocol.connection_made(connection.transport)
        service.accepted(connection)
        return connection.transport, protocol

    def of(self, process: Process, port: int) -> list[Connection]:
        return [one for one in self.connections if one.process is process and one.port == port]
