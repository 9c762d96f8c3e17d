"""What a test needs, read from its code: whole programs, or a publisher that follows an exchange in real time.

`make quick` leaves such tests out. Nobody marks a test by hand, so nobody can forget to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest

TESTS = Path(__file__).parents[1]
LONG_RUNS = ("failures", "outside", "sim")
"""Folders in which every test runs long."""

SLOW_MODULES = frozenset(
    {
        # Programs.
        "subprocess",
        "support.arena",
        "support.programs",
        "support.terminal",
        # A whole publisher waits as long as a real one does: for snapshots, histories and deadlines.
        "publisher.service",
        "support.nofx",
        "support.world",
    }
)


def is_slow(item: pytest.Item) -> bool:
    """Whether a test needs what takes long: by its folder, or by what it, its fixtures and its helpers use."""
    if item.path.relative_to(TESTS).parts[0] in LONG_RUNS:
        return True
    assert isinstance(item, pytest.Function)
    fixtures = (one.func for several in item._fixtureinfo.name2fixturedefs.values() for one in several)
    return not SLOW_MODULES.isdisjoint(used_modules([item.function, *fixtures]))


def used_modules(functions: Iterable[object]) -> Iterator[str]:
    """Names of the modules from which these functions take something. Functions and classes of their own module are
    looked into, those of others are not."""
    waiting, seen = list(functions), set[FunctionType]()
    while waiting:
        function = _unwrapped(waiting.pop())
        if function is None or function in seen:
            continue
        seen.add(function)
        for name in _names(function.__code__):
            used = function.__globals__.get(name)
            module = used.__name__ if isinstance(used, ModuleType) else getattr(used, "__module__", None)
            if module == function.__module__:
                waiting += vars(used).values() if isinstance(used, type) else [used]
            elif isinstance(module, str):
                yield module


def _unwrapped(function: object) -> FunctionType | None:
    while (inner := getattr(function, "__wrapped__", None)) is not None:
        function = inner
    function = getattr(function, "__func__", function)
    return function if isinstance(function, FunctionType) else None


def _names(code: CodeType) -> Iterator[str]:
    """The names that a function uses, with the functions inside it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
