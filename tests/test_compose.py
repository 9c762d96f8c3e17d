"""docker-compose.yml: what it says, and its services' own commands run as processes of this machine."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.programs import ENDS_WITHIN_S, program, run
from support.world import until

from statecast.embedded.server import find_server_binaries
from statecast.errors import StoreError
from statecast.store.client import connect
from statecast.store.keys import AccountId
from statecast.store.reader import StoredAccount, read_account

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docker-compose.yml"
DEMO = AccountId("binance", "demo")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services, by name."""
    found: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))["services"]
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def in_place_of(words: list[str], **values: str) -> list[str]:
    """A command line with other values for some of its options."""
    changed = list(words)
    for option, value in values.items():
        changed[changed.index(f"--{option}") + 1] = value
    return changed


@asynccontextmanager
async def redis_service(services: dict[str, Any], directory: Path, port: int) -> AsyncIterator[str]:
    """The service's own command, with a server of this machine, on a private port and in a private directory."""
    name, *options = services["redis"]["command"]
    assert name == "valkey-server"
    private = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    process = await asyncio.create_subprocess_exec(
        find_server_binaries()[0].path, *options, *private, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        async with asyncio.timeout(ENDS_WITHIN_S):
            await process.wait()


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0,
    reason="no docker with compose on this machine",
)
def test_compose_itself_accepts_the_file() -> None:
    checked = subprocess.run(
        ["docker", "compose", "--file", FILE, "--profile", "demo", "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_it_brings_up_redis_and_a_publisher_and_for_the_demo_an_exchange(services: dict[str, Any]) -> None:
    assert set(services) == {"redis", "publisher", "exchange", "demo-publisher"}
    assert {name for name, service in services.items() if "demo" in service.get("profiles", [])} == {
        "exchange",
        "demo-publisher",
    }


def test_redis_keeps_everything_and_evicts_nothing(services: dict[str, Any]) -> None:
    command = services["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "noeviction"
    assert any(volume.endswith(":/data") for volume in services["redis"]["volumes"])


def test_publishers_wait_for_a_healthy_redis(services: dict[str, Any]) -> None:
    for name in ("publisher", "demo-publisher"):
        assert services[name]["depends_on"]["redis"] == {"condition": "service_healthy"}


def test_ports_are_open_to_this_machine_alone(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports)


def test_it_holds_no_secret(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for variable, value in service.get("environment", {}).items():
            if any(word in variable for word in ("KEY", "SECRET", "PASS")):
                assert name == "demo-publisher"
                assert value in ("demo-key", "demo-secret")


def test_a_stop_is_given_the_time_that_it_takes(services: dict[str, Any]) -> None:
    for name in ("publisher", "demo-publisher"):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > 5


@pytest.mark.parametrize("word", ["statecast", "publisher", "consumers", "pyproject.toml", "constraints.txt"])
def test_the_image_gets_what_it_is_built_from(word: str) -> None:
    copied = [line for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines() if line.startswith("COPY ")]
    assert any(word in line.split() for line in copied)
    assert (ROOT / word).exists()


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli on this machine")
async def test_the_health_check_fails_where_redis_answers_with_an_error(
    services: dict[str, Any], tmp_path: Path
) -> None:
    kind, client, *words = services["redis"]["healthcheck"]["test"]
    assert (kind, client) == ("CMD", "valkey-cli")
    port = free_port()
    check = ["redis-cli", "-p", str(port), *words]

    async def exit_code() -> int:
        process = await asyncio.create_subprocess_exec(*check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return await process.wait()

    assert await exit_code() != 0, "no server"
    async with redis_service(services, tmp_path, port) as url:
        await until(exit_code, lambda code: code == 0)
        async with connect(url, client_name="test") as client_:
            await client_.redis.config_set("requirepass", "x")
        assert await exit_code() != 0, "an error reply"


async def test_a_publisher_without_keys_says_so_in_one_line(services: dict[str, Any], tmp_path: Path) -> None:
    settings = _settings(services["publisher"], {"redis:6379": "127.0.0.1:1"})
    code, lines = await run(tmp_path, "statecast.cli.main", *services["publisher"]["command"], **settings)
    assert (code, len(lines)) == (2, 1), lines
    assert "STATECAST_API_KEY is not set" in lines[0]


def _settings(service: dict[str, Any], hosts: dict[str, str]) -> dict[str, str]:
    """The service's environment, by names without the prefix, with `hosts` put in place of compose's."""
    text = yaml.safe_dump(service["environment"])
    for host, address in hosts.items():
        text = text.replace(f"//{host}", f"//{address}")
    return {name.removeprefix("STATECAST_"): value for name, value in yaml.safe_load(text).items()}


async def test_the_demo_is_live_and_survives_a_restart_of_redis(services: dict[str, Any], tmp_path: Path) -> None:
    port, data = free_port(), tmp_path / "data"
    data.mkdir()
    exchange_command = in_place_of(services["exchange"]["command"], host="127.0.0.1", port="0")
    async with program(tmp_path, "statecast.cli.main", *exchange_command) as exchange:
        address = (await exchange.prints("REST")).split("//")[1]
        service = services["demo-publisher"]
        settings = _settings(service, {"redis:6379": f"127.0.0.1:{port}", "exchange:8900": address})
        assert settings["REST_URL"] == f"http://{address}"
        async with program(tmp_path, "statecast.cli.main", *service["command"], **settings) as publisher:
            async with redis_service(services, data, port) as url, connect(url, client_name="test") as client:
                before = await _reaches(lambda: read_account(client, DEMO), "live")
            async with redis_service(services, data, port) as url, connect(url, client_name="test") as client:
                kept = await until(
                    lambda: _or_none(lambda: read_account(client, DEMO)), lambda found: found is not None
                )
                assert kept is not None
                assert kept.balances is not None
                assert int(kept.status["epoch"]) >= int(before.status["epoch"])
                after = await _reaches(
                    lambda: read_account(client, DEMO), "live", after_ms=int(kept.status["verifiedAtMs"])
                )
                assert int(after.status["seq"]) >= int(before.status["seq"])
                assert await publisher.stop() == 0
                assert (await read_account(client, DEMO)).status["state"] == "stopped"
        assert await exchange.stop() == 0
    assert "Traceback" not in publisher.output + exchange.output


async def _or_none(read: Callable[[], Any]) -> StoredAccount | None:
    """An account, or None while Redis cannot be read."""
    try:
        found: StoredAccount = await read()
    except StoreError:
        return None
    return found


async def _reaches(read: Callable[[], Any], state: str, after_ms: int = 0) -> StoredAccount:
    """Wait for a state that was verified after `after_ms`; the account then."""

    def good(found: StoredAccount | None) -> bool:
        return (
            found is not None
            and found.status.get("state") == state
            and int(found.status.get("verifiedAtMs") or 0) > after_ms
        )

    found = await until(lambda: _or_none(read), good)
    assert found is not None
    return found
