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

Each row below is a failure that we know of, played again and again against a running publisher while an account
trades: the scenario of that name in `tests/failures/`. In every run, a reader looks at Redis some 30 times a second,
and these promises are checked:

- What `verifiedAtMs` vouches for is true: every wallet, position and order is as it was at the venue at some moment
  not older than `verifiedAtMs`, less the time in which the failure is found ("at once": there is no such time).
- `seq` never goes back, and `eventSeq` never does within an epoch; where Redis itself was put back, not beyond the
  next epoch.
- The log of order events is numbered without a hole, has every event once, and each order's events in the venue's
  order; only what was lost without a sign, and found later, stands behind what came after it.
- When the failure is over, Redis equals the exchange's own ledger: every field of the four hashes, and the log.

What the venue's histories do not tell is not in the log if nobody listened when it happened: amendments, and the
steps of a conditional order between its first and its last; nor the end of one that was triggered before the log began.

What to do about a failure: nothing, if you read as [reading.md](reading.md) shows. A state that is not vouched for
leaves as an exception.

**Not live** is how long readers found no state that was `live` and verified less than {young_s:g} s ago, from the
beginning of the failure on. **Live again** is the time from the end of its cause (or its beginning, where it has no
length) to the first read that vouches for a moment after that. Both in seconds, median / worst of {runs}, on a
machine with two busy cores. The reconcile period was {reconcile_s:g} s (`STATECAST_RECONCILE_S`, 60 by default): what
is found by REST probes takes longer with a longer one. The simulated exchange answers at once; a real one adds its own
delay to each call.

Replay one of them, or all, or a random mixture of failures that a number chooses:

    make test ARGS="-k socket_mute"
    make failures ARGS="--runs 5"
    make sim SEED=7
"""

TAIL = """
What the log shows are events of the publisher's log, one JSON object each, with words that stand in its line. `state`
is a change of what readers are told; its `reason` stands in `…:status`, too.
"""


def page(runs: Runs) -> str:
    """The whole page."""
    counts = sorted({len(found) for found in runs.values()})
    told = f"{counts[0]} runs" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} runs"
    parts = [INTRODUCTION.format(runs=told, reconcile_s=RECONCILE_S, young_s=YOUNG_MS / 1000)]
    for chapter in dict.fromkeys(one.chapter for one in SCENARIOS.values()):
        parts.append(f"\n## {chapter}\n")
        parts.append(
            "| scenario | failure | readers see | found | the log shows | how it heals | not live | live again |"
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
