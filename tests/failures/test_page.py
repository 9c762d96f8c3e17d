"""`docs/failures.md` says what the scenarios say, of each of them, with figures that were measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import failures.every
import pytest
from failures.matrix import SCENARIOS, Measured
from failures.page import PATH, page, read

WRITTEN = PATH.read_text("utf-8")
FIGURES = re.compile(r"\| \d+\.\d / \d+\.\d \| \d+\.\d / \d+\.\d \|$", re.MULTILINE)
RUNS = re.compile(r"worst of \d+( to \d+)? runs")


def without_figures(text: str) -> str:
    return RUNS.sub("worst of N runs", FIGURES.sub("| measured |", text))


def test_the_page_is_what_the_scenarios_say() -> None:
    measured = {name: [Measured(1.0, 0.5), Measured(1.2, 0.7)] for name in SCENARIOS}
    assert without_figures(WRITTEN) == without_figures(page(measured))


def test_every_scenario_was_measured() -> None:
    rows = [line for line in WRITTEN.splitlines() if line.startswith("| `")]
    assert [re.findall(r"^\| `(\w+)`", line)[0] for line in rows] == [
        one.name
        for chapter in dict.fromkeys(one.chapter for one in SCENARIOS.values())
        for one in SCENARIOS.values()
        if one.chapter == chapter
    ]
    assert all(FIGURES.search(line) for line in rows)


def test_every_module_of_scenarios_is_in_the_matrix() -> None:
    listed = {Path(module.__file__ or "").name for module in failures.every.MODULES}
    here = Path(__file__).parent
    holding = {path.name for path in here.glob("*.py") if "\n@scenario(" in path.read_text("utf-8")}
    assert listed == holding


def test_what_was_measured_is_told_as_median_and_worst(tmp_path: Path) -> None:
    path = tmp_path / "measured.jsonl"
    runs = [{"name": "socket_cut", "not_live_s": value, "live_again_s": 0.5} for value in (1.0, 1.1, 9.0)]
    path.write_text("".join(json.dumps(run) + "\n" for run in runs))
    (told,) = (line for line in page(read(path)).splitlines() if line.startswith("| `socket_cut` |"))
    assert told.endswith("| 1.1 / 9.0 | 0.5 / 0.5 |")


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_cell_fits_into_a_table(name: str) -> None:
    one = SCENARIOS[name]
    for text in (one.failure, one.readers, one.heals, one.found):
        assert text
        assert "|" not in text
        assert "\n" not in text
