from __future__ import annotations

import pytest
from support.changes import NOW, event, order

from statecast.domain import gaps
from statecast.domain.gaps import GapInfo
from statecast.domain.models import OrderEvent

HOUR_MS = 3_600_000
FROM, UNTIL = gaps.utc(NOW), gaps.utc(NOW + HOUR_MS)


def entry(event: OrderEvent) -> dict[str, str]:
    """The fields of the log that say what is missing."""
    row = event.order
    return {
        "eventType": event.event_type,
        "eventId": event.event_id,
        "symbol": row.symbol,
        "orderId": row.order_id,
        "venueTimeMs": str(row.venue_time_ms),
    }


MADE: dict[str, tuple[OrderEvent, GapInfo]] = {
    "everything of some time": (
        gaps.of_time("ALL", "", NOW, NOW + HOUR_MS, 0),
        GapInfo("all", "", "", NOW, NOW + HOUR_MS),
    ),
    "orders that ended unfilled": (
        gaps.of_time("UNFILLED", "", NOW, NOW + HOUR_MS, 0),
        GapInfo("unfilled", "", "", NOW, NOW + HOUR_MS),
    ),
    "everything of a symbol that the venue does not list": (
        gaps.of_time("REFUSED", "xyz:TSLA", NOW, NOW + HOUR_MS, 0),
        GapInfo("all", "xyz:TSLA", "", NOW, NOW + HOUR_MS),
    ),
    "what there was no room for": (
        gaps.of_overflow([event(at, "NEW").event for at in (5, HOUR_MS, 0)]),
        GapInfo("unlogged", "", "", NOW, NOW + HOUR_MS),
    ),
    "what there was no room for, more than once": (
        gaps.of_overflow([gaps.of_time("OVERFLOW", "", NOW - 50, NOW, 0), event(7, "NEW").event]),
        GapInfo("unlogged", "", "", NOW - 50, NOW + 7),
    ),
    "what could not be logged of an order": (
        gaps.of_unlogged([event(at, "AMENDMENT").event for at in (5, 9)]),
        GapInfo("unlogged", "BTCUSDT", "1001", NOW + 5, NOW + 9),
    ),
    "what could not be logged of a conditional order": (
        gaps.of_unlogged([event(5, "ALGO_TRIGGERING", order_id="algo-5", algo_id="5").event]),
        GapInfo("unlogged", "BTCUSDT", "algo-5", NOW + 5, NOW + 5),
    ),
    "an order": (gaps.of_order(order(0), 0), GapInfo("order", "BTCUSDT", "1001", None, NOW)),
    "a conditional order": (
        gaps.of_order(order(0, order_id="algo-5", algo_id="5"), 0),
        GapInfo("order", "BTCUSDT", "algo-5", None, NOW),
    ),
}


@pytest.mark.parametrize("case", MADE)
def test_an_entry_is_read_as_it_was_made(case: str) -> None:
    event, info = MADE[case]
    assert event.event_type == gaps.GAP
    assert event.order.status == "", "nobody knows it"
    assert gaps.parse(entry(event)) == info


def test_the_same_gap_found_again_later_is_the_same_entry() -> None:
    first, again = (gaps.of_time("ALL", "", NOW, NOW + later, later) for later in (10, 20))
    assert first.event_id == again.event_id


@pytest.mark.parametrize(
    ("event_id", "symbol", "order_id", "sentence"),
    [
        (f"GAP:{NOW}:ALL", "", "", f"any order event between {FROM} and {UNTIL}"),
        (f"GAP:{NOW}:UNFILLED", "", "", f"the orders that ended without a fill between {FROM} and {UNTIL}"),
        (f"BTCUSDT:GAP:{NOW}:REFUSED", "BTCUSDT", "", f"any order event of BTCUSDT between {FROM} and {UNTIL}"),
        ("BTCUSDT:77:GAP", "BTCUSDT", "77", f"what became of order 77 of BTCUSDT after {UNTIL}"),
        ("algo-5:GAP", "BTCUSDT", "algo-5", f"what became of order algo-5 of BTCUSDT after {UNTIL}"),
        (f"GAP:{NOW}:LATER", "", "", f"some order events between {FROM} and {UNTIL}"),
        ("whatever", "", "", f"some order events until {UNTIL}"),
    ],
)
def test_a_gap_is_a_sentence(event_id: str, symbol: str, order_id: str, sentence: str) -> None:
    fields = {"eventType": "GAP", "eventId": event_id, "symbol": symbol, "orderId": order_id}
    found = gaps.parse(fields | {"venueTimeMs": f"{NOW + 3_600_000}"})
    assert str(found) == f"the venue no longer has {sentence}"


@pytest.mark.parametrize(
    ("event_id", "symbol", "order_id", "of"),
    [
        (f"GAP:{NOW}:OVERFLOW", "", "", ""),
        (f"BTCUSDT:77:GAP:{NOW}", "BTCUSDT", "77", " of order 77 of BTCUSDT"),
        (f"algo-5:GAP:{NOW}", "BTCUSDT", "algo-5", " of order algo-5 of BTCUSDT"),
    ],
)
def test_what_was_received_and_not_logged_is_a_sentence(event_id: str, symbol: str, order_id: str, of: str) -> None:
    fields = {"eventType": "GAP", "eventId": event_id, "symbol": symbol, "orderId": order_id}
    found = gaps.parse(fields | {"venueTimeMs": f"{NOW + HOUR_MS}"})
    what = f"order events{of} between {FROM} and {UNTIL} are not in the log"
    assert str(found) == f"{what}; no history has all of them"


def test_what_happened_is_no_gap() -> None:
    assert gaps.parse({"eventType": "NEW", "eventId": "BTCUSDT:GAP:1:ALL", "venueTimeMs": "1"}) is None
