"""What `bench.flood` finds, and what it lets pass."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from bench.flood import Check, Made

NEW = ("1", "NEW", "NEW", "100", "0", "", "")
AMENDED = [("1", "AMENDMENT", "NEW", price, "0", "", "") for price in ("101", "102")]
FILLED = ("1", "TRADE", "FILLED", "102", "0.01", "7", "0.01")
STORY = [NEW, *AMENDED, FILLED]


def found(logged: Iterable[tuple[str, ...]], gaps: Iterable[str] = (), not_received: Iterable[int] = ()) -> list[str]:
    """The differences of a log from the story, whose events are of the milliseconds 1000, 2000, 3000 and 4000."""
    check, seq = Check(), 0
    for at, row in enumerate(STORY):
        check.note_made(Made(*row, 1000 * (at + 1), at not in not_received))
    names = ("orderId", "eventType", "status", "price", "executedQty", "tradeId", "lastQty")
    for row in logged:
        seq += 1
        check.read(dict(zip(names, row, strict=True)) | {"eventSeq": str(seq), "source": "stream", "eventId": "x"})
    for event_id in gaps:
        seq += 1
        until_ms = "3000" if event_id.startswith("BTC") else "4000"
        entry = {"eventType": "GAP", "eventId": event_id, "venueTimeMs": until_ms, "eventSeq": str(seq)}
        is_of_order = event_id.startswith("BTC")
        check.read(entry | {"symbol": "BTCUSDT", "orderId": "1" if is_of_order else "", "source": "stream"})
    return check.rest()


def test_a_log_that_is_whole() -> None:
    assert found(STORY) == []


@pytest.mark.parametrize("missing", range(4))
def test_what_was_received_and_is_missing(missing: int) -> None:
    assert len(found(STORY[:missing] + STORY[missing + 1 :])) == 1


def test_what_stands_there_twice_or_out_of_order() -> None:
    assert len(found([NEW, *AMENDED, AMENDED[1], FILLED])) == 1
    assert len(found([NEW, *reversed(AMENDED), FILLED])) == 1
    assert len(found([*STORY, FILLED])) == 1


def test_a_gap_covers_what_it_names_and_nothing_else() -> None:
    assert found([NEW, AMENDED[0], FILLED], gaps=["BTCUSDT:1:GAP:2500"]) == []
    assert found([NEW, AMENDED[0], FILLED], gaps=["GAP:2500:OVERFLOW"]) == []
    assert len(found([NEW, AMENDED[0]], gaps=["GAP:2500:OVERFLOW"])) == 1, "fills are in the histories"
    assert found([NEW], gaps=["GAP:1500:ALL"]) == []
    assert len(found([AMENDED[0], FILLED], gaps=["BTCUSDT:1:GAP:2500"])) == 1
    assert len(found([NEW, *AMENDED], gaps=["BTCUSDT:1:GAP:2500"])) == 1


def test_what_was_not_received_comes_from_the_histories_but_for_amendments() -> None:
    assert found([NEW, FILLED], not_received=[1, 2]) == []
    assert len(found([NEW, *AMENDED], not_received=[3])) == 1
    placed = (*NEW[:3], "102", *NEW[4:])
    assert found([placed, FILLED], not_received=[0, 1, 2]) == []
    assert len(found([placed, FILLED], not_received=[1, 2])) == 1


def test_numbers_that_are_missing() -> None:
    check = Check()
    check.read({"eventSeq": "2", "eventType": "GAP", "eventId": "GAP:1:ALL", "source": "rest", "venueTimeMs": "2"})
    assert check.found == ["eventSeq 2 follows 0"]
