from __future__ import annotations

from typing import NamedTuple

import pytest

from consumers.order_events.gaps import (
    Comparison,
    Gap,
    PartitionProgress,
    left_out_before,
    lost_by_redis,
    progress_of,
    read_ahead_lost,
)
from statecast.store.groups import Progress

LAST = Progress(5, 10, "1000-5")


def after_last(*seen: str) -> PartitionProgress:
    """A partition that has read up to LAST, and these events before."""
    progress = PartitionProgress()
    for event_id in seen:
        progress.compare(Progress(1, 10, "1000-1"), event_id)
    progress.learn(LAST)
    return progress


class Case(NamedTuple):
    name: str
    found: Progress | None
    event_id: str
    expected: Comparison


MISSING = "events 6 to 7 are not in the log any more: trimmed, or lost by Redis"
BACK = "Redis lost data, and the numbers of events went back"
NEXT, JUMPED = Progress(6, 10, "1000-6"), Progress(8, 10, "1000-8")
AGAIN, OTHER = Progress(3, 11, "2000-0"), Progress(1, 11, "2000-0")

CASES = [
    Case("the next number misses nothing", NEXT, "new", Comparison(False, NEXT)),
    Case(
        "a later number misses those between", JUMPED, "new", Comparison(False, JUMPED, Gap("trimmed", 6, 8, MISSING))
    ),
    Case(
        "the number after the next misses one",
        Progress(7, 10, "1000-7"),
        "new",
        Comparison(
            False,
            Progress(7, 10, "1000-7"),
            Gap("trimmed", 6, 7, "events 6 to 6 are not in the log any more: trimmed, or lost by Redis"),
        ),
    ),
    Case("an entry that was read before is a redelivery", Progress(4, 10, "1000-4"), "new", Comparison(True)),
    Case("the last entry itself is a redelivery", LAST, "new", Comparison(True)),
    Case("an entry without numbers says nothing", None, "new", Comparison(False)),
    Case("a known event under a higher epoch was written again", AGAIN, "a", Comparison(True, AGAIN, None, True)),
    Case(
        "another event under a lower number means lost data",
        OTHER,
        "new",
        Comparison(False, OTHER, Gap("reset", 6, 1, BACK)),
    ),
    Case(
        "a known event under a lower number of the same epoch means lost data",
        Progress(3, 10, "2000-0"),
        "a",
        Comparison(True, Progress(3, 10, "2000-0"), Gap("reset", 6, 3, BACK)),
    ),
    Case(
        "an older place under a higher epoch is not a redelivery: Redis's clock went back",
        Progress(1, 11, "900-0"),
        "new",
        Comparison(False, Progress(1, 11, "900-0"), Gap("reset", 6, 1, BACK)),
    ),
    Case(
        "a known event that goes on with the next number is a redelivery without a gap",
        Progress(6, 11, "2000-0"),
        "a",
        Comparison(True, Progress(6, 11, "2000-0")),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_entry_is_compared_with_the_one_before_it(case: Case) -> None:
    progress = after_last("a")
    assert progress.compare(case.found, case.event_id) == case.expected
    assert progress.last == LAST, "it advances when the gap is reported, so that one whose report failed is found again"


def test_the_first_entry_of_all_misses_nothing() -> None:
    progress = PartitionProgress()
    assert progress.compare(JUMPED, "new") == Comparison(False, JUMPED)
    assert progress.expected_event_seq is None
    progress.advance(JUMPED)
    assert progress.expected_event_seq == 9


def test_ids_of_events_are_remembered_up_to_a_limit() -> None:
    progress = PartitionProgress(2)
    for number in (1, 2, 3):
        progress.compare(Progress(number, 1, f"1000-{number}"), f"event-{number}")
    again = [progress.compare(Progress(9, 2, "2000-0"), f"event-{number}").redelivered for number in (3, 1, 2)]
    assert again == [True, False, False], "the first was forgotten, and by its return the second"


@pytest.mark.parametrize(
    ("known", "redis", "expected"),
    [(None, LAST, LAST), (LAST, None, LAST), (LAST, NEXT, NEXT), (NEXT, LAST, NEXT), (None, None, None)],
)
def test_the_younger_of_what_redis_and_this_process_know_counts(
    known: Progress | None, redis: Progress | None, expected: Progress | None
) -> None:
    progress = PartitionProgress()
    progress.learn(known)
    progress.learn(redis)
    assert progress.last == expected


@pytest.mark.parametrize(
    ("ids", "expected_seq", "advanced", "reason"),
    [
        (["1000-4"], None, None, "entry 1000-4 was trimmed before the acknowledgement"),
        (["1000-6"], 6, Progress(6, 10, "1000-6"), "entry 1000-6 was trimmed before the acknowledgement"),
        (
            ["1000-4", "1000-6", "1000-9"],
            6,
            Progress(7, 10, "1000-9"),
            "3 entries from 1000-4 to 1000-9 were trimmed before the acknowledgement",
        ),
    ],
    ids=["one that was read before", "one that was never read", "several of which two were never read"],
)
def test_delivered_entries_that_left_the_log(
    ids: list[str], expected_seq: int | None, advanced: Progress | None, reason: str
) -> None:
    progress = after_last()
    assert progress.trimmed_pending(ids) == (Gap("trimmed", expected_seq, None, reason), advanced)
    assert progress.last == (advanced or LAST)


def test_delivered_entries_that_left_the_log_before_anything_was_read() -> None:
    gap, advanced = PartitionProgress().trimmed_pending(["1000-4"])
    assert (gap.expected_event_seq, advanced) == (None, None)


@pytest.mark.parametrize(
    ("seq_before", "waiting", "missing", "case"),
    [
        (5, set(), None, "the log goes on where it ended"),
        (None, set(), None, "there is nothing before it"),
        (3, set(), 4, "two were left out"),
        (3, {4, 5}, None, "two were left out, and are waiting here"),
        (3, {4}, 5, "one of two is waiting here"),
        (7, set(), None, "what is before it has a higher number"),
    ],
)
def test_what_was_left_out_where_the_log_was_written_again(
    seq_before: int | None, waiting: set[int], missing: int | None, case: str
) -> None:
    gap = left_out_before(6, seq_before, waiting)
    if missing is None:
        assert gap is None, case
    else:
        reason = f"events {missing} to 5 were lost by Redis and not written again"
        assert gap == Gap("trimmed", missing, 6, reason), case


def test_what_redis_had_lost_when_the_group_was_joined() -> None:
    assert lost_by_redis("group 1000", 6, known_progress=True) is None, "the numbers of entries show what is missing"
    group = lost_by_redis("group 1000", 6, known_progress=False)
    assert group is not None
    assert (group.kind, group.expected_event_seq) == ("reset", 6)
    assert group.reason.startswith("Redis lost the group; it starts again from the oldest entry of the log")
    for known in (True, False):
        progress = lost_by_redis("progress 1000", 6, known_progress=known)
        assert progress is not None
        assert (progress.kind, progress.expected_event_seq) == ("progress", None)


def test_what_was_read_ahead_and_lost() -> None:
    reason = "2 events were read and not handed out when Redis lost the group, and another consumer took over"
    assert read_ahead_lost(4, 2) == Gap("reset", 4, None, reason)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"eventSeq": "3", "epoch": "7"}, Progress(3, 7, "1-0")),
        ({"eventSeq": "x", "epoch": "7"}, None),
        ({"hello": "world"}, None),
    ],
)
def test_the_numbers_of_an_entry(fields: dict[str, str], expected: Progress | None) -> None:
    assert progress_of("1-0", fields) == expected
