"""Real Redis servers for the tests, started as the embedded one is. Nothing is ever flushed: keys differ instead."""

from __future__ import annotations

import re
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeAlias

import pytest
from support.needs import LONG_RUNS, TESTS, is_slow

from statecast.embedded.server import EmbeddedServer, ServerBinary, find_server_binaries

RedisServerFactory: TypeAlias = Callable[..., EmbeddedServer]


def pytest_configure(config: pytest.Config) -> None:
    """Programs that are started here are stopped by Ctrl-C; what a shell runs in the background would have them ignore
    it."""
    config.addinivalue_line("markers", "slow: needs programs or a publisher in real time (set by support.needs)")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Folders that hold nothing but long runs are not even imported where those are left out."""
    if config.option.markexpr == "not slow" and collection_path.parent == TESTS and collection_path.name in LONG_RUNS:
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if is_slow(item):
            item.add_marker(pytest.mark.slow)


def _name_and_version(binary: ServerBinary) -> str:
    text = subprocess.run([binary.path, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"v=(\S+)", text)
    return f"{binary.name}-{version[1] if version else 'unknown'}"


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """URL of the one server that all tests share: the default binary, keys told apart by `account_name`."""
    with EmbeddedServer() as server:
        yield server.url


@pytest.fixture(scope="session", params=find_server_binaries(), ids=_name_and_version)
def any_server_binary(request: pytest.FixtureRequest) -> ServerBinary:
    """Every server on this machine in turn."""
    binary: ServerBinary = request.param
    return binary


@pytest.fixture(scope="session")
def any_redis_url(any_server_binary: ServerBinary) -> Iterator[str]:
    """URL of a shared server, one for every server binary on this machine in turn."""
    with EmbeddedServer(any_server_binary) as server:
        yield server.url


@pytest.fixture
def redis_server_factory() -> Iterator[RedisServerFactory]:
    """Starts a server of the test's own, with the arguments of EmbeddedServer; stops it at the end of the test."""
    with ExitStack() as servers:
        yield lambda *args, **kwargs: servers.enter_context(EmbeddedServer(*args, **kwargs))


@pytest.fixture
def own_redis(redis_server_factory: RedisServerFactory) -> EmbeddedServer:
    """A server that the test may kill, restart or fill: the default binary, in memory."""
    return redis_server_factory()


@pytest.fixture
def account_name() -> str:
    """An account that no other test writes, so that no other test's keys are seen."""
    return f"test-{uuid.uuid4().hex[:12]}"
