"""`make quick` knows by itself which tests need programs, or a publisher in real time."""

from __future__ import annotations

import subprocess
from importlib.util import find_spec

import pytest
from support.needs import SLOW_MODULES, used_modules
from support.programs import run
from support.world import world


class Started:
    def by_a_method(self) -> object:
        return subprocess.Popen


def plain() -> int:
    return len("publisher.service")


def of_a_program() -> object:
    return run


def by_a_helper() -> object:
    return of_a_program()


def by_a_class() -> object:
    return Started()


def inside() -> object:
    async def of_a_publisher() -> object:
        return world

    return of_a_publisher


@pytest.mark.parametrize("function", [of_a_program, by_a_helper, by_a_class, inside])
def test_what_starts_something_is_found_however_deep_it_lies(function: object) -> None:
    assert not SLOW_MODULES.isdisjoint(used_modules([function]))


def test_what_needs_nothing_stays() -> None:
    assert SLOW_MODULES.isdisjoint(used_modules([plain]))


def test_every_module_that_makes_a_test_slow_exists() -> None:
    assert [name for name in SLOW_MODULES if find_spec(name) is None] == []
