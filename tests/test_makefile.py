"""The Makefile's targets, and what the README says of them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def test_every_target_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"(?:`|^ *(?:\$ )?)make ([a-z]+)", README, re.MULTILINE))
    assert named <= TARGETS
    assert {"demo", "test"} <= named


@pytest.mark.parametrize("target", sorted(TARGETS - {"clean", "help"}))
def test_every_target_sets_up_what_it_needs_and_is_explained(target: str) -> None:
    dry = subprocess.run(["make", "--dry-run", "-B", target], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "-m venv .venv" in dry.stdout
    explained = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f"make {target} " in explained
