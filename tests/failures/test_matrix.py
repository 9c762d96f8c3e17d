"""Every known failure, played: nothing wrong counts as verified, nothing is lost or doubled, all is well again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import failures.every  # noqa: F401 - fills the matrix
import pytest
from failures.matrix import SCENARIOS, run
from failures.redis_server import own_server

from statecast.embedded.server import EmbeddedServer


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    runs = metafunc.config.getoption("--runs", 1)
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(1, runs + 1), ids=[f"run{number}" for number in range(1, runs + 1)])


@pytest.fixture
def server(name: str) -> Iterator[EmbeddedServer]:
    """A Redis that the scenario may ruin."""
    redis, directory = own_server(SCENARIOS[name].durable)
    try:
        with redis:
            yield redis
    finally:
        if directory is not None:
            directory.cleanup()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_scenario(
    name: str, seed: int, server: EmbeddedServer, account_name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    measured = await run(SCENARIOS[name], server, account_name, tmp_path, seed)
    if path := request.config.getoption("--measured", None):
        _note(Path(path), json.dumps({"name": name, **measured._asdict()}))


def _note(path: Path, line: str) -> None:
    with path.open("a") as file:
        file.write(line + "\n")
