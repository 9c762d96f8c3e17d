"""Many seeds in one process, on one real server; and many processes of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.context import SpawnContext

from sim.plants import planted
from sim.redis_server import Server
from sim.world import Verdict, run_seed

from statecast.embedded.server import EmbeddedServer

SEEDS_AT_ONCE = 10

BATCHES_OF_A_WORKER = 50
"""Its memory grows by a megabyte with each world: no object is left of them, but the allocator gives nothing back."""


def run_batch(
    seeds: Iterable[int], plant: str = "", kinds: Sequence[str] = (), *, verbose: bool = False
) -> list[Verdict]:
    with EmbeddedServer() as embedded, planted(plant):
        server = Server(embedded.port)
        try:
            return [run_seed(seed, server, kinds, verbose=verbose) for seed in seeds]
        finally:
            server.close()


_server: Server
_plant: str
_kinds: Sequence[str]


def _begin(port: int, plant: str, kinds: Sequence[str]) -> None:
    global _server, _plant, _kinds
    # One server for each worker: what one of them empties must not be another's.
    embedded = EmbeddedServer()
    embedded.start()
    _server, _plant, _kinds = Server(embedded.port), plant, kinds


def _work(seeds: Sequence[int]) -> list[tuple[Verdict, float]]:
    done: list[tuple[Verdict, float]] = []
    with planted(_plant):
        for seed in seeds:
            began = time.process_time()
            done.append((run_seed(seed, _server, _kinds), time.process_time() - began))
    return done


def run_seeds(
    context: SpawnContext, seeds: range, workers: int, plant: str, kinds: Sequence[str]
) -> Iterator[tuple[Verdict, float]]:
    """Verdicts as they come, each with the CPU seconds that it took."""
    batches = [seeds[at : at + SEEDS_AT_ONCE] for at in range(0, len(seeds), SEEDS_AT_ONCE)]
    with context.Pool(workers, _begin, (0, plant, kinds), maxtasksperchild=BATCHES_OF_A_WORKER) as pool:
        for verdicts in pool.imap_unordered(_work, batches):
            yield from verdicts
