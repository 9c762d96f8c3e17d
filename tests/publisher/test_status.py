"""What the status hash says: every change through a method, urgent ones written at once, nothing claimed early."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from publisher.lifecycle import IllegalMoveError
from publisher.logs import account_log
from publisher.status import Status
from statecast.domain.changes import Unreadable


def status() -> Status:
    return Status(account_log("binance:main"))


def fields(one: Status) -> dict[str, str | int]:
    return one.fields("host-1-abc", 7)


def test_at_the_start_nothing_is_claimed() -> None:
    assert fields(status()) == {
        "state": "starting",
        "reason": "connecting",
        "publisherId": "host-1-abc",
        "epoch": 7,
        "streamSinceMs": 0,
        "reconciledAtMs": 0,
        "unknownEvents": 0,
        "malformedFrames": 0,
        "malformedMarketFrames": 0,
        "futureMarkPrices": 0,
        "unreadableValues": 0,
        "drifts": 0,
        "walletCorrections": 0,
        "eventsSinceMs": 0,
        "eventsCompleteMs": 0,
        "contract": "1",
    }


def test_what_is_counted_and_when_it_happened_is_in_the_fields() -> None:
    one = status()
    one.stream_connected(11)
    one.reconciled(12)
    one.log_begins(13)
    one.set_malformed_market_frames(5)
    one.count_wallet_correction()
    one.count_future_mark_price()
    for _ in range(3):
        one.count_unreadable([Unreadable("a figure"), Unreadable("a row", "USDT")])
    for count in (one.count_unknown_event, one.count_malformed_frame, one.count_malformed_frame, one.count_drift):
        count()
    assert fields(one) | {
        "streamSinceMs": 11,
        "reconciledAtMs": 12,
        "eventsSinceMs": 13,
        "malformedMarketFrames": 5,
        "futureMarkPrices": 1,
        "unreadableValues": 2,
        "unknownEvents": 1,
        "malformedFrames": 2,
        "drifts": 1,
        "walletCorrections": 1,
    } == fields(one)


def test_a_move_is_asked_to_be_written_before_it_is_logged() -> None:
    one = status()
    story: list[object] = []
    with capture_logs() as logs:
        one.bind(lambda: story.append((fields(one)["state"], len(logs))), lambda: False)
        one.move("reconciled", "snapshot reconciled")
        one.move("degrade", "stream lost")
    assert story == [("live", 0), ("recovering", 1)]
    assert [(line["log_level"], line["state"], line["before"], line["reason"]) for line in logs] == [
        ("info", "live", "starting", "snapshot reconciled"),
        ("warning", "recovering", "live", "stream lost"),
    ]
    assert not any("standby" in line for line in logs)


def test_a_move_that_changes_nothing_is_neither_written_nor_logged() -> None:
    one = status()
    one.move("degrade", "no stream")
    asked: list[None] = []
    with capture_logs() as logs:
        one.bind(lambda: asked.append(None), lambda: False)
        one.move("degrade", "no stream")
        assert (asked, logs) == ([], [])
        one.move("degrade", "still no stream")
    assert (len(asked), len(logs)) == (1, 1), "another reason is a change"


def test_the_moves_of_a_standby_are_logged_as_such() -> None:
    one = status()
    with capture_logs() as logs:
        one.bind(lambda: None, lambda: True)
        one.move("reconciled")
    assert logs[0]["standby"] is True


def test_a_move_that_the_table_does_not_have_changes_nothing() -> None:
    one = status()
    one.move("stop", "the publisher was stopped")
    with pytest.raises(IllegalMoveError):
        one.move("reconciled")
    assert (one.state, one.reason) == ("stopped", "the publisher was stopped")


def test_only_a_live_state_is_verified_and_no_longer_than_the_comparison_is_good_for() -> None:
    one = status()
    assert not one.is_verified(0.0), "it is not live"
    one.move("reconciled")
    assert one.is_verified(1e9), "without a comparison there is no end"
    one.verify_until(100.0)
    assert (one.is_verified(100.0), one.is_verified(100.1)) == (True, False)
    one.stop_verifying()
    assert not one.is_verified(0.0)
    one.verify_until(100.0)
    one.move("degrade", "stream lost")
    assert not one.is_verified(50.0)


def test_readers_see_a_later_mark_only_when_all_is_written_and_an_earlier_one_at_once() -> None:
    one = status()
    one.log_complete_until(20)
    one.publish_completeness(all_written=False)
    assert (one.events_complete_ms, one.published_complete_ms) == (20, 0)
    one.publish_completeness(all_written=True)
    assert fields(one)["eventsCompleteMs"] == one.published_complete_ms == 20
    one.log_complete_until(10)
    assert one.published_complete_ms == 20
    one.publish_completeness(all_written=False)
    assert one.published_complete_ms == 10


def test_the_mark_that_another_publisher_left_counts_as_published() -> None:
    one = status()
    one.log_complete_until(20)
    one.log_found(15)
    assert (one.events_complete_ms, one.published_complete_ms) == (15, 15)
