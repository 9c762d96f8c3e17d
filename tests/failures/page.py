"""`docs/failures.md`: the matrix as a page for traders, with what was measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import failures.every  # noqa: F401 - fills the matrix
from failures.matrix import SCENARIOS, Logged, Measured, Scenario
from support.arena import RECONCILE_S
from support.observer import YOUNG_MS

PATH = Path(__file__).parents[2] / "docs" / "failures.md"

Runs = Mapping[str, Sequence[Measured]]

INTRODUCTION = """\
# What happens when something fails

Each row below is a known failure. A test repeats it against a running publisher while an account trades: it is the
scenario of that name in `tests/failures/`. In every run, a reader reads Redis about 30 times a second, and the test
checks these guarantees:

- The state is correct as of `verifiedAtMs`: every wallet, position and order is as it was at the venue at some moment
  since then. Column "found" says how long a failure may go unnoticed; only during that time can the state be wrong.
- `seq` never goes back, and `eventSeq` never goes back within an epoch. If Redis itself was set back, both may go back
  until the next epoch begins.
- The log of order events has no gap in its numbers, has every event once, and has each order's events in the venue's
  sequence. Only an event that was lost without notice and found later stands after later events of its order.
- When the failure is over, Redis equals the exchange's own ledger: every field of the four hashes, and the log.

Some events are not in the venue's histories: the events of a conditional order between its first and its last, and the
amendments of an order that was placed and ended in the same gap. They are missing from the log if no publisher was
connected when they happened, or if the one that received them could not write them and another one, which was connected
later, took over. So is the end of a conditional order that was triggered before the log began. Where a row says that
the log has a `GAP` entry, the test checks for it; in all other runs there is none.

You do not have to do anything about a failure if you read as [reading.md](reading.md) shows: a state that is not
verified raises an exception.

**Not live** is how long readers found no state that was `live` and verified less than {young_s:g} s ago, counted from
the start of the failure. **Live again** is the time from the end of the cause (or its start, if it has no duration) to
the first read of a state that was verified after it. Both are in seconds, median / worst of {runs}, on a
machine with two busy cores. The reconcile period was {reconcile_s:g} s (`STATECAST_RECONCILE_S`, 60 by default): with a
longer period, failures that only a check by REST finds take longer. The simulated exchange answers at once; a real one
adds its own delay to each call.

Run one scenario, or all, or a random mixture that a number chooses:

    make test ARGS="-k socket_mute"
    make failures ARGS="--runs 5"
    make sim SEED=7
"""

TAIL = """
"The log shows" lists events of the publisher's log (one JSON object per line), each with words from its line. `state`
is a change of the published state; its `reason` is in `…:status` too.
"""


def page(runs: Runs) -> str:
    """The whole page."""
    counts = sorted({len(found) for found in runs.values()})
    told = f"{counts[0]} runs" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} runs"
    parts = [INTRODUCTION.format(runs=told, reconcile_s=RECONCILE_S, young_s=YOUNG_MS / 1000)]
    for chapter in dict.fromkeys(one.chapter for one in SCENARIOS.values()):
        parts.append(f"\n## {chapter}\n")
        parts.append(
            "| scenario | failure | readers see | found | the log shows | how it recovers | not live | live again |"
        )
        parts.append("|---|---|---|---|---|---|---|---|")
        parts += [
            f"| {row(one)} | {' | '.join(_figures(runs.get(one.name, ())))} |"
            for one in SCENARIOS.values()
            if one.chapter == chapter
        ]
    return "\n".join(parts) + "\n" + TAIL


def row(one: Scenario) -> str:
    """A scenario's row without what was measured."""
    shown = ", ".join(_shown(logged) for logged in one.log) or "nothing"
    return f"`{one.name}` | {one.failure} | {one.readers} | {one.found} | {shown} | {one.heals}"


def _shown(logged: Logged) -> str:
    return f"`{logged.event}: {logged.words}`" if logged.words else f"`{logged.event}`"


def _figures(found: Sequence[Measured]) -> tuple[str, str]:
    if not found:
        return "not run", "not run"
    return _median_and_worst([each.not_live_s for each in found]), _median_and_worst(
        [each.live_again_s for each in found]
    )


def _median_and_worst(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} / {max(values):.1f}"


def read(path: Path) -> Runs:
    """What `--measured` wrote."""
    runs: dict[str, list[Measured]] = {}
    for line in path.read_text("utf-8").splitlines():
        fields = json.loads(line)
        runs.setdefault(fields.pop("name"), []).append(Measured(**fields))
    return runs
