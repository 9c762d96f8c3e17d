"""`python -m sim SEED` runs one world and tells it all; `python -m sim --seeds N` runs many, on all cores."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from multiprocessing import get_context

HASH_SEED = "0"


def main() -> int:
    if os.environ.get("PYTHONHASHSEED") != HASH_SEED:
        os.environ["PYTHONHASHSEED"] = HASH_SEED
        os.execv(sys.executable, [sys.executable, "-m", "sim", *sys.argv[1:]])  # noqa: S606 - ourselves, once more
    parser = argparse.ArgumentParser(prog="sim", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", help="run this one, and print its trace")
    parser.add_argument("--seeds", type=int, default=0, help="run so many")
    parser.add_argument("--first", type=int, default=1, help="from this one on")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--plant", default="", help="break the program on purpose; see sim/plants.py")
    parser.add_argument("--quiet", action="store_true", help="of one seed, print the verdict alone")
    parser.add_argument("--stop-after", type=int, default=1_000_000, help="so many failing seeds")
    parser.add_argument("--hashes", action="store_true", help="print the hash of every seed's trace")
    parser.add_argument("--kind", action="append", default=[], help="let this go wrong alone; can be repeated")
    given = parser.parse_args()
    if given.seed is not None:
        return _one(given.seed, given.plant, given.kind, quiet=given.quiet)
    return _many(given)


def _one(seed: int, plant: str, kinds: list[str], *, quiet: bool) -> int:
    from sim.batch import run_batch

    (verdict,) = run_batch([seed], plant, kinds, verbose=not quiet)
    print(_told(verdict, plant, trace=quiet))
    return 0 if verdict.good else 1


def _many(given: argparse.Namespace) -> int:
    from sim.batch import run_seeds
    from sim.faults import KINDS
    from sim.world import Verdict

    began, last = time.monotonic(), time.monotonic()
    faults: Counter[str] = Counter()
    failed: list[Verdict] = []
    promises: Counter[str] = Counter()
    done, simulated_s, cpu_s, slowest_s = 0, 0.0, 0.0, 0.0
    verdicts: Iterator[tuple[Verdict, float]] = run_seeds(
        get_context("spawn"), range(given.first, given.first + given.seeds), given.workers, given.plant, given.kind
    )
    for verdict, took_s in verdicts:
        done += 1
        faults += verdict.faults
        simulated_s += verdict.simulated_s
        slowest_s = max(slowest_s, verdict.converged_s)
        cpu_s += took_s
        if not verdict.good:
            failed.append(verdict)
            promises[verdict.promise] += 1
            print(_told(verdict, given.plant, trace=len(failed) <= 3), flush=True)
        elif given.hashes:
            print(_told(verdict, given.plant, trace=False), flush=True)
        if time.monotonic() - last > 10:
            last = time.monotonic()
            print(f"{done} of {given.seeds} seeds, {len(failed)} failed, {last - began:.0f} s", flush=True)
        if len(failed) >= given.stop_after:
            break
    kinds = {kind: faults.pop(kind, 0) for kind in KINDS}
    _print_counts("faults injected:", kinds)
    _print_counts("of these, and worlds in which something is so all the time:", faults)
    print(f"{sum(kinds.values())} faults of {sum(map(bool, kinds.values()))} kinds in all")
    print(
        f"{done} seeds, {simulated_s / 3600:.1f} h simulated in {time.monotonic() - began:.0f} s"
        f" ({cpu_s / max(1, done):.2f} s of CPU a seed); slowest recovery {slowest_s:.0f} s after the last fault"
    )
    for promise, count in promises.most_common():
        print(f"  {count:5d} broken: {promise}")
    print(f"{len(failed)} failed" + "".join(f"\n  make sim SEED={verdict.seed}" for verdict in failed))
    return 1 if failed else 0


def _print_counts(title: str, counts: Mapping[str, int]) -> None:
    print(title)
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        print(f"  {count:7d}  {name}")


def _told(verdict: object, plant: str, *, trace: bool) -> str:
    from sim.faults import KINDS
    from sim.world import Verdict

    assert isinstance(verdict, Verdict)
    if verdict.good:
        return (
            f"seed {verdict.seed}: every promise kept in {verdict.simulated_s:.1f} simulated seconds,"
            f" {verdict.events} order events, {verdict.looks} writes looked at,"
            f" {sum(verdict.faults[kind] for kind in KINDS)} faults;"
            f" trace {verdict.trace_hash[:16]}"
        )
    lines = [f"seed {verdict.seed} at {verdict.simulated_s:.3f} s: BROKEN: {verdict.promise}"]
    lines += [f"    {detail}" for detail in verdict.details]
    if trace:
        faults = [line for line in verdict.trace[:-40] if "FAULT" in line or ": warning" in line]
        lines += [f"  {line}" for line in (*faults, "…", *verdict.trace[-40:])]
    lines.append(f"  make sim SEED={verdict.seed}" + (f" PLANT={plant}" if plant else ""))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
