"""The one path to `live`: a snapshot, what was missed, and what the stream has sent meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal

import pytest
from support.changes import NOW, event, fill, rest_order, snapshot, wallet
from support.clocks import ManualClock
from support.parts import Parts, StandbyLease

from publisher.handover import Message
from publisher.lease import Lease, LeaseAcquired
from statecast.domain import gaps
from statecast.domain.changes import Change, Frame, Snapshot, Unreadable
from statecast.domain.models import OrderEvent
from statecast.errors import AuthFailed, FrameError, RateLimited, VenueError, VenueUnreachable
from statecast.store.writer import PreviousState

NEW = event(10, "NEW", event_id="new")
FULL = fill(30, "0.050", event_id="full", last_qty=Decimal("0.025"))
AMENDED = event(20, "AMENDMENT", event_id="amended")


class Story(Parts):
    """An account whose venue answers with `answers`, one after the other; the last one again and again."""

    def __init__(
        self, *answers: Snapshot | VenueError | FrameError, changes_at_once: int = 1_000, lease: type[Lease] = Lease
    ) -> None:
        self.clock = ManualClock()
        self.asked = 0
        self.answers = list(answers or (snapshot(1_000),))
        super().__init__(self.clock, changes_at_once=changes_at_once, lease=lease)
        self.lease.has_asked.set()

    async def fetch_snapshot(self, *, consistent: bool = False) -> Snapshot:
        assert not consistent, "the stream puts right what a snapshot's parts do not agree in"
        self.asked += 1
        answer = self.answers[min(self.asked, len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def send(self, *changes: Change) -> None:
        self.intake.take(Message(Frame("a frame", NOW, changes)))

    @property
    def logged(self) -> list[str]:
        return [one.event_id for delta in self.committer.submitted for one in delta.events]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        task = asyncio.create_task(self.sync.run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_nothing_is_asked_before_the_stream_is_connected() -> None:
    story = Story()
    async with story.running():
        await story.clock.advance(60)
        assert (story.asked, story.status.state) == (0, "starting")
        story.sync.stream_connected()
        await story.clock.advance(1)
        assert (story.asked, story.status.state) == (1, "live")


async def test_what_the_stream_sends_before_the_snapshot_is_applied_with_it_as_one_commit() -> None:
    story = Story()
    story.sync.stream_connected()
    story.send(NEW)
    story.send(wallet(2_000, "900"))
    assert story.committer.submitted == []
    async with story.running():
        await story.clock.advance(1)
    (commit,) = story.committer.submitted
    assert [one.event_id for one in commit.events] == ["new"]
    assert story.account.balances["USDT"].wallet_balance == 900
    assert story.catch_up.is_following


PLACED = [event(10, "NEW", event_id=f"new {number}", order_id=str(number)) for number in range(100)]


def partly_applied() -> Story:
    """Many orders were placed, and wait; others have a turn after each that is applied."""
    listed = [rest_order(10, order_id=placed.order.order_id) for placed in PLACED]
    story = Story(snapshot(1_000, orders=listed), changes_at_once=1)
    story.sync.stream_connected()
    for placed in PLACED:
        story.send(placed)
    return story


async def test_what_waited_long_is_applied_in_parts_and_the_state_is_live_behind_the_last() -> None:
    story = partly_applied()
    async with story.running():
        await story.clock.advance(0.25)
        assert 0 < len(story.logged) < len(PLACED)
        assert story.status.state == "starting"
        story.send(FULL._replace(may_be_first=True))
        assert not story.catch_up.is_following
        await story.clock.advance_until(lambda: story.catch_up.is_following, "all is applied", step_s=0)
        assert story.logged == [placed.event.event_id for placed in PLACED] + ["full"]
        assert (story.asked, story.status.state) == (1, "live")


async def test_a_doubt_in_between_ends_it_and_what_waits_is_logged_behind_the_next_snapshot() -> None:
    story = partly_applied()
    async with story.running():
        await story.clock.advance(0.25)
        story.intake.take(Message(FrameError("a frame", "body", "is no JSON")))
        for _ in range(5):
            await story.clock.advance(0)
        assert len(story.logged) < len(PLACED)
        assert (story.asked, story.status.state) == (1, "starting")
        await story.clock.advance_until(lambda: story.catch_up.is_following, "all is applied")
        assert story.logged == [placed.event.event_id for placed in PLACED]
        assert (story.asked, story.status.state) == (2, "live")


async def test_rows_of_before_a_snapshot_stay_in_redis_until_it_replaces_them() -> None:
    """Events that waited for it are logged as they come."""
    story = partly_applied()
    story.catch_up.begin_gap()
    async with story.running():
        await story.clock.advance_until(lambda: story.catch_up.is_following, "all is applied")
    rows = [bool(delta.orders) for delta in story.committer.submitted]
    replaces = [delta.replaces for delta in story.committer.submitted]
    assert replaces.index(True) == len(PLACED)
    assert not any(rows[: len(PLACED)])


async def test_a_frame_that_makes_no_sense_asks_again_and_the_older_answer_is_not_applied() -> None:
    story = Story()
    story.sync.stream_connected()
    async with story.running():
        await story.clock.advance(0.1)  # It was asked, and the answer waits for what the stream has still to send.
        story.intake.take(Message(FrameError("a frame", "body", "is no JSON")))
        await story.clock.advance(0.3)
        assert (story.asked, story.committer.submitted) == (1, [])
        await story.clock.advance(3)
        assert (story.asked, story.status.state) == (2, "live")


async def test_a_stream_of_nonsense_is_no_stream_of_snapshots() -> None:
    story = Story()
    story.sync.stream_connected()
    async with story.running():
        for _ in range(100):
            story.intake.take(Message(FrameError("a frame", "body", "is no JSON")))
            await story.clock.advance(0.1)
    assert story.asked <= 11


@pytest.mark.parametrize(
    ("error", "pause_s"),
    [
        (VenueUnreachable("a venue", "GET account", "HTTP 503"), 0.5),
        (RateLimited("a venue", "GET account", "HTTP 429", NOW + 30_000), 30.0),
        (FrameError("GET account", "body", "is no object"), 0.5),
    ],
)
async def test_an_answer_that_fails_is_asked_for_again_when_the_venue_allows_it(
    error: VenueError | FrameError, pause_s: float
) -> None:
    story = Story(error, snapshot(1_000))
    story.sync.stream_connected()
    async with story.running():
        await story.clock.advance(pause_s - 0.1)
        assert (story.asked, story.status.reason) == (1, str(error))
        await story.clock.advance(1)
        assert (story.asked, story.status.state) == (2, "live")


async def test_a_refusal_ends_it() -> None:
    story = Story(AuthFailed("a venue", "GET account", "HTTP 401", 401))
    story.sync.stream_connected()
    async with story.running() as task:
        with pytest.raises(AuthFailed):
            await task


async def test_a_new_connection_reads_the_account_anew() -> None:
    story = Story()
    story.sync.stream_connected()
    async with story.running():
        await story.clock.advance(2)
        story.sync.stream_ended(NOW)
        assert not story.catch_up.is_following
        story.sync.session_begins()
        story.sync.stream_connected()
        await story.clock.advance(2)
    assert story.asked == 2


# The lease


def acquired(*missing: OrderEvent, gap: bool = False) -> LeaseAcquired:
    previous = PreviousState(published=True, orders=(NEW.order,), events_complete_ms=NOW)
    return LeaseAcquired(previous, missing, NOW, gap)


async def test_what_the_log_misses_is_logged_when_the_lease_is_acquired() -> None:
    story = Story()
    story.record.begin(NOW)
    story.sync.lease_acquired(acquired(AMENDED.event, FULL.event))
    assert story.logged == ["amended", "full"]
    assert story.status.events_complete_ms == NOW


async def test_for_an_intermediate_event_behind_an_end_that_the_log_has_an_entry_is_logged() -> None:
    story = Story()
    story.record.begin(NOW)
    story.record.add([FULL.event], 0.0)
    story.sync.lease_acquired(acquired(AMENDED.event))
    assert story.logged == [gaps.of_unlogged([AMENDED.event]).event_id]


async def test_a_standby_keeps_what_it_has_received_over_a_cut() -> None:
    """The writer may die before it has written that; but before the connection something may be missing."""
    story = Story(lease=StandbyLease)
    story.sync.stream_connected()
    story.record.add([NEW.event], 0.0, others_write=True)
    since_ms = story.record.complete_since_ms
    story.send(AMENDED)
    await story.clock.advance(5)
    story.sync.stream_ended(NOW)
    story.sync.stream_connected()
    assert [one.event_id for one in story.record] == ["new"]
    assert [one.event_id for one in story.catch_up.waiting_events()] == ["amended"]
    assert story.record.complete_since_ms == since_ms + 5_000


async def test_a_gap_waits_for_the_histories_before_anything_newer_is_logged() -> None:
    story = Story()
    story.record.begin(NOW)
    story.sync.lease_acquired(acquired(FULL.event, gap=True))
    assert story.logged == []
    assert [one.event_id for one in story.catch_up.waiting_events()] == ["full"]
    assert story.status.reason == "taking over: the log of order events is not complete"


async def test_a_snapshot_with_a_row_that_cannot_be_understood_is_followed_and_not_verified() -> None:
    torn = (Unreadable("asset BNB: its row", "BNB"), Unreadable("a figure"))
    story = Story(replace(snapshot(1_000), unreadable=torn))
    story.sync.stream_connected()
    async with story.running():
        await story.clock.advance(1)
    assert story.catch_up.is_following
    assert (story.status.state, story.status.reason) == ("starting", "the venue differs: asset BNB: its row")
    assert not story.status.is_verified(story.clock.monotonic())
    assert story.status.fields("p", 1)["unreadableValues"] == 2


async def test_a_snapshot_in_which_a_figure_was_left_out_is_live() -> None:
    story = Story(replace(snapshot(1_000), unreadable=(Unreadable("a figure"),)))
    story.sync.stream_connected()
    async with story.running():
        await story.clock.advance(1)
    assert story.status.state == "live"
