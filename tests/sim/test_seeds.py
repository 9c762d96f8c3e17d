"""Some hundred worlds in which things fail, on every run of the tests; `make sim SEEDS=10000` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sim.plants import PLANTS

ROOT = Path(__file__).parents[2]
SEEDS = 200
CAUGHT_WITHIN = 200


def sim(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-m", "sim", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(1200)
def test_every_promise_is_kept_in_some_hundred_worlds() -> None:
    done = sim("--seeds", str(SEEDS))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS} seeds" in done.stdout


def test_the_same_seed_is_the_same_world() -> None:
    once, again = sim("7", "--quiet"), sim("7", "--quiet")
    assert once.returncode == 0, once.stdout + once.stderr
    assert once.stdout == again.stdout
    assert "trace" in once.stdout


def test_a_seed_does_not_depend_on_those_before_it() -> None:
    among_others = sim("--seeds", "4", "--first", "5", "--workers", "1", "--hashes")
    alone = sim("--seeds", "1", "--first", "8", "--workers", "1", "--hashes")
    last = [line for line in alone.stdout.splitlines() if line.startswith("seed 8:")]
    assert last
    assert set(last) <= set(among_others.stdout.splitlines())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_bug_is_found(plant: str) -> None:
    done = sim("--seeds", str(CAUGHT_WITHIN), "--plant", plant, "--stop-after", "1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"PLANT={plant}" in done.stdout
