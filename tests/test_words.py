"""No word of one venue in what all venues share."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CLEAN = ("consumers", "publisher", "statecast/domain", "statecast/store")
"""Packages in which the words below may not stand, in code, comments or docstrings."""

NOT_SHARED = ("consumers/nofx",)
"""The interface of one bot, which knows one venue."""

WORDS = re.compile(r"listen.?key|algo|weight|usdt|autoclose", re.IGNORECASE)

CONTRACT = re.compile(
    r"""\balgo-             # ids of conditional orders
    | \bALGO_               # their event types
    | \b_?algo_?[iI]d\b     # the field
    | \b[A-Z]{2,}USDT\b     # a symbol, as an example
    | \["USDT"\]            # an asset by its name, as an example
    """,
    re.VERBOSE,
)
"""Names of the published contract (docs/redis.md), and examples of what stands in it."""


def found_in(text: str) -> list[str]:
    """Lines with a word that is no name of the contract."""
    lines = enumerate(text.splitlines(), start=1)
    return [f"{number}: {line.strip()}" for number, line in lines if WORDS.search(CONTRACT.sub(" ", line))]


@pytest.mark.parametrize("package", CLEAN)
def test_no_word_of_one_venue_stands_in_what_all_share(package: str) -> None:
    paths = [path for suffix in ("py", "lua") for path in sorted((ROOT / package).rglob(f"*.{suffix}"))]
    assert paths
    shared = [path for path in paths if not path.relative_to(ROOT).as_posix().startswith(NOT_SHARED)]
    found = [f"{path.relative_to(ROOT)}:{line}" for path in shared for line in found_in(path.read_text("utf-8"))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        'raise StreamEnded("the listen key has expired")',
        "self._listenKey = key",
        "def learn_used_weight(self, used: int) -> None: ...",
        'totals_asset: str = "USDT"',
        "async def fetch_algo_order(self) -> None: ...",
        'SYSTEM_ORDERS = ("autoclose-",)',
    ],
)
def test_a_venues_word_is_found(line: str) -> None:
    assert found_in(line)


@pytest.mark.parametrize(
    "line",
    [
        'CONDITIONAL_PREFIX = "algo-"',
        'if event.event_type != "ALGO_TRIGGERED":',
        'algo_id=cells.get("algoId") or None,',
        '`positions["BTCUSDT:BOTH"]`, `balances["USDT"]`',
    ],
)
def test_the_contracts_names_are_allowed(line: str) -> None:
    assert not found_in(line)
