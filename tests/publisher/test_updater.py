"""Changes go into the account and on to Redis together."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest
from structlog.testing import capture_logs
from support.changes import NOW, D, event, mark, position, rest_position, snapshot, wallet
from support.parts import Parts

from publisher.logs import account_log
from publisher.updater import MARK_AHEAD_MS, Updater
from statecast.errors import FrameError
from statecast.venues import adapter


class VenueClock:
    """A venue whose time is `now_at` of the story."""

    def __init__(self, now_at: int) -> None:
        self.now_at = now_at

    def now_ms(self) -> int:
        return NOW + self.now_at


def new_updater(parts: Parts, follow: Callable[[frozenset[str]], None], now_at: int = 100) -> Updater:
    clock = cast("adapter.VenueClock", VenueClock(now_at))
    return Updater(parts.account, parts.committer, follow, clock, parts.status, account_log("test"))


def test_what_changed_is_submitted_as_one_commit() -> None:
    parts = Parts()
    delta = parts.updater.apply((snapshot(), position(10, "0.5"), event(10, "NEW", event_id="e1")), "rest")
    assert parts.committer.submitted == [delta]
    assert (delta.position_count, delta.order_count, [one.event_id for one in delta.events]) == (1, 1, ["e1"])


def test_with_events_alone_the_rows_stay_in_redis_as_they_were() -> None:
    parts = Parts()
    parts.updater.apply((event(10, "NEW", event_id="e1"),), "rest", events_alone=True)
    (written,) = parts.committer.submitted
    assert ([one.event_id for one in written.events], written.orders) == (["e1"], ())
    assert len(parts.account.orders) == 1


def test_symbols_are_followed_when_positions_may_have_changed() -> None:
    parts, followed = Parts(), list[frozenset[str]]()
    updater = new_updater(parts, followed.append)
    updater.apply((snapshot(),), "rest")
    updater.apply((wallet(10, "900"),), "stream")
    updater.apply((position(20, "0.5"),), "stream")
    updater.apply((position(30, "0"),), "stream")
    assert followed == [frozenset(), frozenset({"BTCUSDT"}), frozenset()]


HOUR = 3_600_000


def test_a_mark_price_of_the_future_is_not_taken_and_the_next_true_one_counts() -> None:
    parts = Parts()
    updater = new_updater(parts, lambda symbols: None)
    updater.apply((snapshot(positions=[rest_position(-10, "0.5")]),), "rest")
    with capture_logs() as logs:
        for at in (HOUR, HOUR + 1_000, 100 + MARK_AHEAD_MS + 1):
            assert not updater.apply((mark(at, "90"),), "derived")
        updater.apply((mark(100 + MARK_AHEAD_MS, "110"),), "derived")
    (row,) = parts.account.positions.values()
    assert (row.mark_price, row.unrealized_profit) == (D(110), D(5))
    assert parts.status.fields("p", 1)["futureMarkPrices"] == 3
    assert [line["symbol"] for line in logs if line["event"] == "future_mark_price"] == ["BTCUSDT"]


def test_what_comes_with_a_mark_price_of_the_future_is_taken() -> None:
    parts = Parts()
    updater = new_updater(parts, lambda symbols: None)
    updater.apply((snapshot(positions=[rest_position(-10, "0.5")]),), "rest")
    updater.apply((mark(HOUR, "90"), wallet(50, "900"), mark(60, "110")), "stream")
    assert parts.account.balances["USDT"].wallet_balance == D(900)
    assert [row.mark_price for row in parts.account.positions.values()] == [D(110)]


def test_an_amount_too_large_to_compute_with_loses_no_order_event() -> None:
    parts = Parts()
    parts.updater.apply((snapshot(), mark(5, "91250.4")), "rest")
    with pytest.raises(FrameError, match="an amount: is too large to compute with"):
        parts.updater.apply((event(20, "NEW", event_id="e1"), position(20, "1e40")), "stream")
    assert [one.event_id for delta in parts.committer.submitted for one in delta.events] == ["e1"]
