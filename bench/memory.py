"""What order events weigh that wait for a snapshot or for Redis: at the bound, each in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.burst import empty_account, frame, new_account
from publisher.record import EventRecord
from statecast.domain.catch_up import MAX_WAITING_EVENTS, CatchUp
from statecast.domain.changes import Frame
from statecast.venues.binance.decode import decode_user_frame

PAGE_BYTES = 4096
FIRST_MS = 1_793_000_000_000


def resident_mb() -> float:
    """Memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


def flood() -> Iterator[Frame]:
    """Orders that are placed and amended nine times each."""
    for number in range(MAX_WAITING_EVENTS):
        raw = frame(8_000_000_000 + number // 10, "NEW", FIRST_MS + number)
        if number % 10:
            raw = raw.replace(b'"x":"NEW"', b'"x":"AMENDMENT"').replace(b"91250.4", b"91250.%d" % (number % 10))
        yield decode_user_frame(raw, FIRST_MS + number)


def for_a_snapshot() -> float:
    catch_up, before_mb = CatchUp(new_account()), resident_mb()
    for one in flood():
        catch_up.take(one, None)
    assert len(catch_up.waiting_events()) == MAX_WAITING_EVENTS
    return resident_mb() - before_mb


def for_redis() -> float:
    account, record, before_mb = new_account(), EventRecord(20_000), resident_mb()
    account.apply((empty_account(),), "rest")
    for one in flood():
        record.add(account.apply(one.changes, "stream").events, 0.0)
    assert record.unwritten == MAX_WAITING_EVENTS
    return resident_mb() - before_mb


def report() -> None:
    measures: dict[str, Callable[[], float]] = {"for a snapshot": for_a_snapshot, "for Redis": for_redis}
    for what, measure in measures.items():
        with multiprocessing.get_context("spawn").Pool(1) as process:
            print(f"memory   {MAX_WAITING_EVENTS:,} order events that wait {what}: {process.apply(measure):.0f} MB")
