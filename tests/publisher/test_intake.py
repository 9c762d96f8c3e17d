"""What a message of the stream does: to the account, to the wait for a snapshot, to what is counted and compared."""

from __future__ import annotations

from decimal import Decimal

import pytest
from structlog.testing import capture_logs
from support.changes import NOW, event, fill, position, snapshot, wallet
from support.clocks import ManualClock
from support.parts import Parts

from publisher.handover import Message
from statecast.clock import Clock
from statecast.domain.changes import Change, Frame, Notice
from statecast.errors import FrameError


def message(*changes: Change, identity: object = None, notice: Notice | None = None, name: str = "a frame") -> Message:
    return Message(Frame(name, NOW + 77, changes, notice, "BTCUSDT BOTH"), identity)


class Following(Parts):
    """An account that follows its stream."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self.updater.apply((snapshot(), event(0, "NEW", event_id="new")), "rest")
        self.catch_up.follow()
        self.status.move("reconciled")
        self.committer.submitted.clear()


def test_a_frame_is_applied_and_what_no_event_carries_is_asked_for_soon() -> None:
    parts = Following()
    parts.intake.take(message(position(10, "0.5")))
    assert len(parts.committer.submitted) == 1
    assert parts.intake.last_event_ms == NOW + 77
    assert not parts.schedule.moved(0.0), "a change is noted already"


async def test_a_stream_is_late_that_still_sends_what_happened_long_before() -> None:
    clock = ManualClock()
    parts = Following(clock)
    assert not parts.intake.is_late(NOW + 3_078), "it sends nothing"
    parts.intake.take(message(position(10, "0.5")))
    assert parts.intake.is_late(NOW + 3_078)
    assert not parts.intake.is_late(NOW + 3_077)
    await clock.advance(1.0)
    assert not parts.intake.is_late(NOW + 3_078), "it has sent all"


@pytest.mark.parametrize(
    "older",
    [
        position(10, "0.7"),
        wallet(10, "7"),
        event(10, "AMENDMENT", event_id="older", price=Decimal(1)),
    ],
    ids=["a position", "a wallet", "an order"],
)
def test_what_is_passed_over_as_older_is_compared_at_once(older: Change) -> None:
    """The venue's clock may have been set back, and it is the newest."""
    parts = Following()
    for change in (position(20, "0.5"), wallet(20, "900"), event(20, "AMENDMENT", event_id="newer", price=Decimal(2))):
        parts.intake.take(message(change))
    parts.schedule.begins(0.0, 0.0)
    parts.schedule.agreed(0.0, is_standby=False)
    later_mono_s = parts.pace.all_pause_s
    assert parts.schedule.next(later_mono_s, again_s=None, by_symbol=True, is_standby=True).kind is None
    parts.intake.take(message(older))
    assert parts.schedule.next(later_mono_s, again_s=None, by_symbol=True, is_standby=True).kind == "everything"


def test_a_frame_that_makes_no_sense_is_counted_and_asks_for_a_snapshot() -> None:
    parts = Following()
    parts.intake.take(Message(FrameError("a frame", "amount", "is no number")))
    assert parts.malformed_frames == 1
    assert (parts.status.state, parts.status.reason) == ("recovering", "frame a frame: amount: is no number")
    assert not parts.catch_up.is_following


def test_an_event_before_which_others_are_missing_waits_for_a_snapshot() -> None:
    parts = Following()
    parts.intake.take(message(fill(30, "0.050", event_id="full", last_qty=Decimal("0.025"))))
    assert parts.committer.submitted == []
    assert parts.status.reason == "events of order 1001 are missing before it was FILLED"
    assert [one.event_id for one in parts.catch_up.waiting_events()] == ["full"]


def test_the_end_of_an_order_without_its_opening_event_is_applied_and_the_order_is_incomplete() -> None:
    parts = Following()
    ended = event(10, "EXPIRED", "EXPIRED", order_id="7")
    parts.intake.take(message(ended))
    assert parts.status.state == "live"
    assert list(parts.account.incomplete_orders) == [ended.order.key]


def test_a_copy_of_a_frame_of_rows_changes_nothing() -> None:
    parts = Following()
    for _ in range(2):
        parts.intake.take(message(wallet(10, "900"), identity="rows"))
    assert len(parts.committer.submitted) == 1


def test_an_unknown_event_is_counted_each_time_and_logged_once() -> None:
    parts = Following()
    with capture_logs() as logs:
        for _ in range(3):
            parts.intake.take(message(notice="unknown", name="NEW_THING"))
    assert parts.status.fields("p", 1)["unknownEvents"] == 3
    assert [line["event_type"] for line in logs if line["event"] == "unknown_event"] == ["NEW_THING"]
    assert parts.status.state == "live"


def test_an_unknown_word_in_an_event_is_counted_and_named_once_and_what_it_changes_is_applied() -> None:
    parts = Following()
    with capture_logs() as logs:
        for number in ("8", "9"):
            parts.intake.take(message(event(10, "NEW", "WORKING", order_id=number), notice="unknown"))
    assert parts.status.fields("p", 1)["unknownEvents"] == 2
    assert [line["detail"] for line in logs if line["event"] == "unknown_event"] == ["BTCUSDT BOTH"]
    assert len(parts.committer.submitted) == 2
    assert parts.status.state == "live"


def test_what_a_doubtful_frame_says_is_logged_and_a_snapshot_has_to_say_the_rest() -> None:
    parts = Following()
    parts.intake.take(message(event(10, "RISK", "EXPIRED_BY_RISK", event_id="e1"), notice="doubtful"))
    assert [one.event_id for delta in parts.committer.submitted for one in delta.events] == ["e1"]
    assert (parts.status.state, parts.status.reason) == ("recovering", "BTCUSDT BOTH")
    assert not parts.catch_up.is_following
    assert parts.status.fields("p", 1)["unknownEvents"] == 1


def test_a_margin_call_is_logged_with_its_positions() -> None:
    parts = Following()
    with capture_logs() as logs:
        parts.intake.take(message(notice="margin_call"))
    assert [line["positions"] for line in logs if line["event"] == "margin_call"] == ["BTCUSDT BOTH"]


@pytest.mark.parametrize("since_ms", [NOW - 1, NOW + 1_000])
def test_the_last_event_is_no_older_than_the_connection(since_ms: int) -> None:
    parts = Following()
    parts.intake.take(message(wallet(10, "900")))
    parts.intake.connected(since_ms)
    assert parts.intake.last_event_ms == max(NOW + 77, since_ms)
