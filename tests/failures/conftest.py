"""Options of the fault matrix: how often each scenario runs, and where to write what was measured."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runs", type=int, default=1, help="play every scenario of the fault matrix so often")
    parser.addoption("--measured", help="append one line of JSON for each run of a scenario to this file")
    parser.addoption("--full", action="store_true", help="kill as often as was promised, not only a few times")
