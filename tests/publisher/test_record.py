"""What a publisher remembers of the order events it has received, and what it finds missing in a log."""

from __future__ import annotations

from support.changes import NOW, D, event

from publisher.record import OTHERS_WRITE_WITHIN_S, EventRecord
from statecast.domain.models import OrderEvent

LIMIT = 20_000


def events(*times_ms: int) -> list[OrderEvent]:
    return [event(time_ms, "NEW", event_id=f"e{time_ms}").event for time_ms in times_ms]


def ids(found: tuple[OrderEvent, ...]) -> list[str]:
    return [one.event_id for one in found]


def test_what_is_missing_in_the_log_is_found_in_its_order_and_taken_out() -> None:
    record = EventRecord(LIMIT)
    record.begin(5)
    record.add(events(10, 11, 12, 13), now_mono_s=1.0)
    record.mark_written(3)
    in_log = {"e10", "e12", "other"}
    assert record.count_lost(in_log) == 1, "that was written; the fourth never was"
    assert ids(record.take_missing(in_log)) == ["e11", "e13"]
    assert len(record) == 2
    assert record.count_lost(in_log) == 0
    assert ids(record.take_missing(in_log)) == []


def test_the_second_new_of_a_trailing_stop_is_in_the_log_where_a_history_had_the_first() -> None:
    at_once, later = "algo-1:NEW:ACTIVATED", "algo-2:NEW:ACTIVATED"
    told = [event(10, "ALGO_NEW", event_id=at_once).event]
    told.append(event(11, "ALGO_NEW", event_id=later, activate_price=D("91000")).event)
    record = EventRecord(LIMIT)
    record.add(told, now_mono_s=1.0)
    assert ids(record.take_missing({"algo-1:NEW", "algo-2:NEW"})) == [later], "activated since"
    both = EventRecord(LIMIT)
    both.add([event(10, "ALGO_NEW", event_id="algo-1:NEW").event, told[0]], now_mono_s=1.0)
    assert ids(both.take_missing({"algo-1:NEW"})) == [at_once], "the stream has sent two"


def test_what_is_left_after_missing_ones_were_taken_counts_as_written() -> None:
    record = EventRecord(LIMIT)
    record.add(events(10, 11), now_mono_s=1.0)
    record.take_missing({"e10"})
    assert record.count_lost(set()) == 1


def test_beyond_its_limit_it_is_complete_only_since_what_was_dropped() -> None:
    record = EventRecord(limit=3)
    record.begin(NOW + 5)
    record.add(events(10, 11, 12), now_mono_s=1.0)
    assert (record.began_ms, record.complete_since_ms) == (NOW + 5, NOW + 5)
    record.mark_written(2)
    record.add(events(13, 14), now_mono_s=2.0)
    assert (record.began_ms, record.complete_since_ms) == (NOW + 5, NOW + 12)
    assert record.count_lost(set()) == 0, "those that were written are the ones that it dropped"
    assert ids(record.take_missing(set())) == ["e12", "e13", "e14"]


def test_an_event_with_an_older_venue_time_does_not_make_it_more_complete() -> None:
    record = EventRecord(limit=1)
    record.begin(NOW + 50)
    record.add(events(10, 60), now_mono_s=1.0)
    record.mark_written(2)
    record.add(events(70), now_mono_s=1.0)
    assert record.complete_since_ms == NOW + 61
    record.add(events(20), now_mono_s=1.0)
    assert len(record) == 2, "what is not written is kept"
    assert record.complete_since_ms == NOW + 61


def test_beyond_its_limit_what_is_not_written_is_kept() -> None:
    record = EventRecord(limit=2)
    record.begin(NOW + 5)
    record.add(events(*range(10, 30)), now_mono_s=1.0)
    assert (record.unwritten, record.complete_since_ms) == (20, NOW + 5)
    assert len(record.take_missing(set())) == 20


def test_what_there_is_no_room_for_is_an_entry_before_what_came_later() -> None:
    record = EventRecord(limit=2, most_unwritten=3)
    record.begin(NOW + 5)
    record.add(events(10), now_mono_s=1.0)
    record.mark_written(1)
    assert record.add(events(11, 12, 13), now_mono_s=1.0) is None
    lost = record.add(events(14), now_mono_s=1.0)
    assert lost is not None
    assert lost.event_id == f"GAP:{NOW + 11}:OVERFLOW"
    assert record.add(events(15), now_mono_s=1.0) is None
    assert (record.has_overflowed, record.unwritten, record.complete_since_ms) == (True, 1, NOW + 15)
    again = record.add(events(16, 17, 18), now_mono_s=1.0)
    assert again is not None
    assert (again.event_id, again.order.venue_time_ms) == (lost.event_id, NOW + 18), "it is one entry"
    record.add(events(19), now_mono_s=1.0)
    assert ids(record.take_missing({"e10"})) == [lost.event_id, "e19"]
    assert not record.has_overflowed


def test_what_a_standby_has_received_is_forgotten_when_the_writer_has_had_time_to_write_it() -> None:
    record = EventRecord(limit=2, most_unwritten=5)
    record.begin(NOW + 5)
    record.add(events(10, 11, 12, 13), now_mono_s=1.0, others_write=True)
    assert len(record) == 4, "the writer may die with them"
    record.add(events(14), now_mono_s=1.0 + OTHERS_WRITE_WITHIN_S, others_write=True)
    assert len(record) == 2
    record.add(events(15, 16, 17, 18, 19), now_mono_s=70.0, others_write=True)
    assert ids(record.take_missing(set())) == ["e15", "e16", "e17", "e18", "e19"], "no more than there is room for"
    assert record.complete_since_ms == NOW + 15


def test_the_oldest_says_how_far_back_the_log_must_be_searched() -> None:
    record = EventRecord(limit=2)
    assert record.oldest_mono_s is None
    record.add(events(10), now_mono_s=1.0)
    record.mark_written(1)
    record.add(events(11, 12), now_mono_s=2.5)
    assert record.oldest_mono_s == 2.5


def test_a_new_beginning_forgets_what_has_a_hole_behind_it() -> None:
    record = EventRecord(LIMIT)
    record.begin(5)
    record.add(events(10), now_mono_s=1.0)
    record.mark_written(1)
    record.begin(40)
    assert (len(record), record.count_lost(set())) == (0, 0)
    assert (record.began_ms, record.complete_since_ms) == (5, 40)


def test_a_log_of_others_begins_when_they_say() -> None:
    record = EventRecord(LIMIT)
    record.log_began(7)
    record.begin(40)
    assert (record.began_ms, record.complete_since_ms) == (7, 40)
    record.log_began(9)
    assert record.began_ms == 7
