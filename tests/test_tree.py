"""Tests mirror the tree, ARCHITECTURE.md names what is there, and a forbidden import breaks a contract."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("consumers", "publisher", "statecast")

TESTED_ELSEWHERE = {
    "consumers/nofx/embedded.py": "tests/consumers/nofx/test_nofx_embedded.py",
    "statecast/cli/groups.py": "tests/statecast/cli/test_groups_command.py",
    "statecast/cli/main.py": "tests/statecast/cli/test_cli_main.py",
    "statecast/cli/publish.py": "tests/statecast/cli/test_publish_command.py",
    "statecast/cli/redis.py": "tests/statecast/cli/test_redis_command.py",
    "publisher/__main__.py": "tests/publisher/test_main.py",
}
"""A module whose test file has another name, where the mirrored one would say nothing beside others."""

NO_TEST_FILE = {
    "statecast/domain/changes.py": "dataclasses without a line of code; test_fold.py goes through every one of them",
    "publisher/tuning.py": "numbers without a line of code; the tests hand in others",
    "statecast/venues/adapter.py": "protocols and values without a line of code; every venue's tests",
    "statecast/simulator/events.py": "dataclasses without a line of code; test_ledger.py and binance/test_frames.py",
    "statecast/simulator/exchange.py": "protocols and values without a line of code; test_control.py",
}


def modules() -> list[str]:
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found if path.name != "__init__.py")


def mirrored(module: str) -> str:
    path = Path(module)
    return (Path("tests") / path.parent / f"test_{path.name}").as_posix()


def test_every_module_has_its_test_file() -> None:
    missing = [
        f"{module} wants {wanted}"
        for module in modules()
        if module not in NO_TEST_FILE
        and not (ROOT / (wanted := TESTED_ELSEWHERE.get(module, mirrored(module)))).is_file()
    ]
    assert not missing, "\n".join(missing)


def test_the_exceptions_are_still_needed() -> None:
    known = modules()
    for module in (*TESTED_ELSEWHERE, *NO_TEST_FILE):
        assert module in known
        assert not (ROOT / mirrored(module)).exists(), f"{module} is no exception any more"


def test_every_script_is_a_modules_and_tested_through_it() -> None:
    scripts = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "statecast").rglob("*.lua"))
    text = "\n".join(path.read_text("utf-8") for path in (ROOT / "statecast/store").glob("*.py"))
    named = set(re.findall(r'"(?:group_)?(\w+)(?:\.lua)?"', text))
    unused = [script for script in scripts if Path(script).stem.removeprefix("group_") not in named]
    assert not unused, unused


def test_the_architecture_names_every_package_and_nothing_that_is_not_there() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    unnamed = [package for package in PACKAGES if f"{package}/" not in text]
    assert not unnamed, unnamed
    paths = set(re.findall(r"(?<![\w/.-])((?:consumers|publisher|statecast|tests|bench|docs)/[\w./-]*\w)", text))
    gone = sorted(path for path in paths if not (ROOT / path).exists())
    assert not gone, gone


# Import contracts

CALLED_PURE_IN = ("consumers",)
"""The packages in which every module that calls itself pure must stand in the contract. The aim is all three."""


def test_a_module_that_calls_itself_pure_is_held_to_it() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    (pure,) = (contract["source_modules"] for contract in contracts if contract["name"].startswith("pure modules"))
    calling = {
        module.removesuffix(".py").replace("/", ".")
        for module in modules()
        if module.startswith(CALLED_PURE_IN)
        and re.search(r"\bPure\b", ast.get_docstring(ast.parse((ROOT / module).read_text("utf-8"))) or "")
    }
    assert calling, "none was found"
    held = {module for module in calling if any(f"{module}.".startswith(f"{source}.") for source in pure)}
    assert calling == held, sorted(calling - held)


FORBIDDEN = {
    "redis in the readers' library": ("consumers/order_events/consumer.py", "import redis"),
    "the publisher in another part of the bot's interface": (
        "consumers/nofx/auto_trader.py",
        "import publisher.service",
    ),
    "redis in the pure core": ("statecast/domain/account.py", "import redis"),
    "the publisher in the readers' library": ("consumers/__init__.py", "import publisher"),
    "the readers' library in the publisher": ("publisher/service.py", "import consumers"),
    "the store in a venue": ("statecast/venues/binance/rest.py", "import statecast.store.keys"),
    "a venue in the store": ("statecast/store/codec.py", "import statecast.venues.binance.wire"),
    "a command in the service": ("publisher/service.py", "import statecast.cli.main"),
    "a clock in a pure module": ("publisher/discrepancies.py", "import time"),
    "an adapter in the simulated exchange": (
        "statecast/simulator/binance/exchange.py",
        "import statecast.venues.binance.wire",
    ),
    "an event loop in the shapes of NOFX": ("consumers/nofx/shapes.py", "import asyncio"),
    "chance in the pure part of order events": ("consumers/order_events/queue.py", "import secrets"),
    "a log in the pure part of a mirror": ("consumers/mirror/view.py", "import logging"),
    "a partition in the judgement of gaps": (
        "consumers/order_events/gaps.py",
        "import consumers.order_events.partition",
    ),
    "a clock in the simulated exchange's dialect": ("statecast/simulator/binance/rest.py", "import time"),
    "chance of its own in the simulated exchange": ("statecast/simulator/trading.py", "import random"),
    "asyncio outside the simulated exchange's server": ("statecast/simulator/control.py", "import asyncio"),
    "a dialect in the neutral exchange": ("statecast/simulator/truth.py", "import statecast.simulator.binance.rest"),
    "the control API in a dialect": ("statecast/simulator/binance/exchange.py", "import statecast.simulator.control"),
    "websockets outside its home": ("publisher/market.py", "import websockets"),
    "httpx outside its home": ("publisher/follower.py", "import httpx"),
    "websockets in the gap filler": ("publisher/gap_fill.py", "import websockets"),
    "redis in the embedded server": ("statecast/embedded/server.py", "import redis"),
    "a circle in the publisher": ("publisher/record.py", "from publisher.committer import Committer"),
    "a clock in the status": ("publisher/status.py", "import statecast.clock"),
    "a layer of the publisher from below": ("publisher/lease.py", "import publisher.follower"),
    "httpx in a venue": ("statecast/venues/binance/rest.py", "import httpx"),
    "a venue in the publisher": ("publisher/service.py", "import statecast.venues.binance.wire"),
    "a venue in the readers' library": ("consumers/refresh.py", "from statecast.venues.binance.limits import LIMIT"),
    "a venue in what all venues share": ("statecast/venues/http.py", "import statecast.venues.binance.wire"),
    "the registry in a venue": ("statecast/venues/binance/venue.py", "import statecast.venues.registry"),
    "a clock in a venue's pure module": ("statecast/venues/binance/session.py", "import time"),
}


def lint_imports(directory: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [command, "--no-cache"], cwd=directory, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture
def copied_tree(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_tree_as_it_is_keeps_its_contracts(copied_tree: Path) -> None:
    kept = lint_imports(copied_tree)
    assert kept.returncode == 0, kept.stdout + kept.stderr
    assert " 0 broken" in kept.stdout


@pytest.mark.parametrize("case", FORBIDDEN)
def test_a_forbidden_import_is_found(copied_tree: Path, case: str) -> None:
    module, statement = FORBIDDEN[case]
    path = copied_tree / module
    text = path.read_text("utf-8")
    path.write_text(f"{text}\n\n{statement}\n", "utf-8")
    broken = lint_imports(copied_tree)
    assert broken.returncode == 1, broken.stdout + broken.stderr
    assert "BROKEN" in broken.stdout


@pytest.mark.parametrize("package", ["publisher", "statecast"])
def test_a_module_without_a_place_is_found(copied_tree: Path, package: str) -> None:
    (copied_tree / package / "helpers.py").write_text('"""Belongs nowhere."""\n', "utf-8")
    assert lint_imports(copied_tree).returncode == 1
