from __future__ import annotations

import pytest
from support.groups import delivered, seqs

from consumers.order_events.queue import MOST_UNACKNOWLEDGED, PREFETCH, PartitionQueue, RecentIds


def queue_of(*event_seqs: int) -> PartitionQueue:
    queue = PartitionQueue()
    for number in event_seqs:
        queue.add(delivered(number), f"token-{number}", count_first=False)
    return queue


def hand_out_all(queue: PartitionQueue) -> list[int]:
    found = []
    while queue.head is not None:
        found.append(queue.hand_out())
    return seqs(found)


def test_the_last_ids_are_remembered_up_to_a_limit() -> None:
    ids = RecentIds(3)
    for event_id in ("a", "b", "c", "a", "d"):
        ids.add(event_id)
    assert [event_id in ids for event_id in "abcd"] == [True, False, True, True], (
        "one that is added again is young again"
    )


def test_events_are_handed_out_in_the_order_of_the_log_however_they_were_added() -> None:
    queue = PartitionQueue()
    for entry_id in ("1000-10", "999-3", "1000-9", "1001-0", "1000-2"):
        queue.add(delivered(1, entry_id=entry_id), "token", count_first=False)
    found = [queue.hand_out().entry_id for _ in range(len(queue))]
    assert found == ["999-3", "1000-2", "1000-9", "1000-10", "1001-0"], "ids compare as numbers"


def test_a_redelivery_comes_after_what_is_before_it_and_before_what_is_after_it() -> None:
    queue = queue_of(1, 2, 3, 4)
    second = [queue.hand_out(), queue.hand_out()][1]
    queue.drop(second.entry_id)
    queue.add(second, "token", count_first=True)
    assert queue.head is not None
    assert queue.head.count_first
    assert hand_out_all(queue) == [2, 3, 4]


def test_what_is_in_hand_is_known_and_counted_until_it_is_settled() -> None:
    queue = queue_of(1, 2)
    event = queue.hand_out()
    assert (queue.in_hand, len(queue)) == (1, 1)
    assert queue.is_in_hand(event.entry_id)
    assert queue.knows(event.entry_id)
    assert queue.knows("1000-2")
    assert not queue.knows("1000-3")
    assert not queue.was_settled(event.event_id)
    queue.acknowledged(event)
    assert queue.was_settled(event.event_id)
    assert not queue.is_in_hand(event.entry_id)
    assert not queue.knows(event.entry_id)


def test_settled_events_are_remembered_by_their_ids_up_to_a_limit() -> None:
    queue = PartitionQueue(2)
    for number in (1, 2, 3):
        queue.acknowledged(delivered(number))
    assert [queue.was_settled(f"event-{number}") for number in (1, 2, 3)] == [False, True, True]


def test_what_was_read_ahead_and_what_was_delivered_before_are_told_apart() -> None:
    queue = queue_of(1, 2)
    queue.add(delivered(3), "token", count_first=True)
    queue.hand_out()
    assert queue.never_handed_out() == ["1000-2"]
    assert queue.waiting_seqs() == {2, 3}


def test_a_lost_partition_keeps_what_is_in_hand_and_forgets_what_was_read_ahead() -> None:
    queue = queue_of(1, 2, 3)
    first = queue.hand_out()
    queue.clear()
    assert (len(queue), queue.head) == (0, None)
    assert queue.knows(first.entry_id)


def test_a_counted_delivery_has_its_attempt_and_need_not_be_counted_again() -> None:
    queue = PartitionQueue()
    queue.add(delivered(1), "token", count_first=True)
    assert queue.head is not None
    queue.head.counted(3)
    assert not queue.head.count_first
    assert queue.hand_out().attempt == 3


@pytest.mark.parametrize(
    ("waiting", "in_hand", "capacity", "case"),
    [
        (0, 0, PREFETCH, "an empty queue has room for a whole handful"),
        (PREFETCH // 2, 0, PREFETCH // 2, "half a queue is filled up"),
        (PREFETCH // 2 + 1, 0, 0, "more than half a queue is enough"),
        (0, MOST_UNACKNOWLEDGED - 1, PREFETCH, "the user may hold one more"),
        (0, MOST_UNACKNOWLEDGED, 0, "the user holds as many as they may"),
    ],
)
def test_room_for_more_events(waiting: int, in_hand: int, capacity: int, case: str) -> None:
    queue = PartitionQueue()
    for number in range(in_hand):
        queue.add(delivered(number), "token", count_first=False)
        queue.hand_out()
    for number in range(in_hand, in_hand + waiting):
        queue.add(delivered(number), "token", count_first=False)
    assert queue.capacity == capacity, case
    assert queue.is_overdrawn == (in_hand == MOST_UNACKNOWLEDGED)


def test_room_is_announced_whenever_an_event_leaves_the_queue_or_the_users_hands() -> None:
    announced = []
    queue = PartitionQueue(on_room=lambda: announced.append(True))
    for number in (1, 2, 3):
        queue.add(delivered(number), "token", count_first=False)
    assert announced == []
    event = queue.hand_out()
    queue.take_head()
    queue.acknowledged(event)
    queue.drop("1000-3")
    assert len(announced) == 4
