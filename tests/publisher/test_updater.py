"""Changes go into the account and on to Redis together."""

from __future__ import annotations

import pytest
from support.changes import event, mark, position, snapshot, wallet
from support.parts import Parts

from publisher.updater import Updater
from statecast.errors import FrameError


def test_what_changed_is_submitted_as_one_commit() -> None:
    parts = Parts()
    delta = parts.updater.apply((snapshot(), position(10, "0.5"), event(10, "NEW", event_id="e1")), "rest")
    assert parts.committer.submitted == [delta]
    assert (delta.position_count, delta.order_count, [one.event_id for one in delta.events]) == (1, 1, ["e1"])


def test_symbols_are_followed_when_positions_may_have_changed() -> None:
    parts, followed = Parts(), list[frozenset[str]]()
    updater = Updater(parts.account, parts.committer, followed.append)
    updater.apply((snapshot(),), "rest")
    updater.apply((wallet(10, "900"),), "stream")
    updater.apply((position(20, "0.5"),), "stream")
    updater.apply((position(30, "0"),), "stream")
    assert followed == [frozenset(), frozenset({"BTCUSDT"}), frozenset()]


def test_an_amount_too_large_to_compute_with_loses_no_order_event() -> None:
    parts = Parts()
    parts.updater.apply((snapshot(), mark(5, "91250.4")), "rest")
    with pytest.raises(FrameError, match="an amount: is too large to compute with"):
        parts.updater.apply((event(20, "NEW", event_id="e1"), position(20, "1e40")), "stream")
    assert [one.event_id for delta in parts.committer.submitted for one in delta.events] == ["e1"]
