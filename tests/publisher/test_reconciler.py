"""What the venue is asked while the stream lives, when, and what readers see of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest
from structlog.testing import capture_logs
from support.changes import (
    NOW,
    event,
    new_account,
    position,
    refresh,
    rest_balance,
    rest_order,
    rest_position,
    snapshot,
)
from support.clocks import ManualClock
from support.parts import StandbyLease

from publisher.check_schedule import LATER_S, CheckSchedule
from publisher.discrepancies import GRACE_S, Discrepancies
from publisher.lease import Lease
from publisher.logs import account_log
from publisher.order_coverage import OVERLAP_MS, OrderCoverage
from publisher.reconciler import Hooks, Reconciler
from publisher.record import EventRecord
from publisher.redis_retry import RedisRetry
from publisher.status import Status
from publisher.tuning import Tuning
from statecast.domain.account import Account
from statecast.domain.changes import Change, Check, Unreadable
from statecast.domain.models import Balance, OrderKey, PositionKey, SymbolConfig
from statecast.domain.order_tracking import BEFORE_OPENING, IncompleteOrder
from statecast.errors import AuthFailed, LimitReached, RateLimited, VenueError, VenueUnreachable
from statecast.store.client import Client
from statecast.store.keys import AccountId
from statecast.store.writer import AccountWriter
from statecast.venues import registry
from statecast.venues.adapter import FIGURES_ONLY, CheckScope, StreamEnded, VenueAccount

PACE = registry.venue("binance").traits.checks
PERIOD_S = 60.0
EVERYTHING = CheckScope(None, True, NOW + 1000)
CONFIGS = {"BTCUSDT": SymbolConfig(20, "cross")}


class Story:
    """An account with a long position and an order, that follows its stream from second 0 on."""

    def __init__(
        self, period_s: float = PERIOD_S, symbols: Iterable[str] = (), *, standby: bool = False, proof_s: float = 0.0
    ) -> None:
        self.symbols = symbols
        self.clock = ManualClock()
        self.account = new_account()
        log = account_log("binance:main")
        client = Client("redis://127.0.0.1:1/0", client_name="test")
        self.status = status = Status(log)
        writer, tuning = AccountWriter(client, AccountId("binance", "main"), "p-1"), Tuning()
        record, retry = EventRecord(tuning.recorded_events), RedisRetry(self.clock, log)
        kind = StandbyLease if standby else Lease
        lease = kind(writer, self.account, record, status, retry, self.clock, log, tuning)
        self.asked: list[tuple[float, CheckScope]] = []
        self.venue: Callable[[CheckScope], Check] = self.truth
        self.following = True
        self.is_late = False
        self.agreed: list[int] = []
        self.incomplete: list[str] = []
        self.look_in: list[frozenset[str]] = []
        self.light = Reconciler(
            cast("VenueAccount", SimpleNamespace(fetch_check=self._fetch, clock=self.clock)),
            self.account,
            lease,
            status,
            CheckSchedule(PACE, period_s, Random(1).uniform),
            OrderCoverage(PACE),
            Discrepancies(PACE),
            Hooks(
                is_following=lambda: self.following,
                apply=lambda answer: self.account.apply((answer,), "rest"),
                agreed=self.agreed.append,
                incomplete=self.incomplete.append,
                is_late=lambda asked_ms: self.is_late,
                look_in=self.look_in.append,
            ),
            self.clock,
            log,
        )
        self._plans: list[asyncio.Task[None]] = []
        self.read = snapshot(positions=[rest_position(-50, "0.5")], orders=[rest_order(-50)])
        self.account.apply((self.read,), "rest")
        self.takes_s = 0.0
        """How long the venue takes for an answer."""
        now = self.clock.monotonic()
        self.light.begins(self.read, now, now + proof_s, EVERYTHING.created_since_ms, self.symbols)

    @property
    def fields(self) -> dict[str, str | int]:
        """What the status hash would say now."""
        return self.status.fields("p-1", 1)

    def at(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something at a time after the beginning."""

        async def plan() -> None:
            await self.clock.sleep(seconds - self.clock.elapsed_s)
            act()

        self._plans.append(asyncio.create_task(plan()))

    def stream(self, *changes: Change) -> None:
        """The stream sends something."""
        self.account.apply(changes, "stream")
        self.light.moved()

    def truth(self, scope: CheckScope) -> Check:
        """The venue's answer where the stream has sent everything."""
        return self.answer(scope, self.account)

    def answer(self, scope: CheckScope, account: Account) -> Check:
        positions = [
            rest_position(row.stamp.venue_time_ms - NOW, str(row.position_amt)) for row in account.positions.values()
        ]
        asked_ms = round(self.clock.elapsed_s * 1000)
        check = refresh(asked_ms, positions=positions)
        if scope.order_symbols != frozenset():
            check = replace(check, orders=tuple(account.orders.values()), order_symbols=scope.order_symbols)
        if scope.settings:
            until_ms = {symbol: check.taken_ms for symbol, _ in scope.conditional_since_ms}
            check = replace(check, created_until_ms=check.taken_ms, conditional_until_ms=until_ms)
            check = replace(check, symbol_configs=CONFIGS, multi_assets=False)
        return check

    async def _fetch(self, scope: CheckScope) -> Check:
        self.asked.append((self.clock.elapsed_s, scope))
        answer = self.venue(scope)
        if self.takes_s:
            await self.clock.sleep(self.takes_s)
        return answer

    async def run(self, seconds: float) -> str:
        """Until a time after the beginning; how it ended before, else nothing."""
        task = asyncio.create_task(self.light.run())
        await self.clock.advance(seconds - self.clock.elapsed_s, stop=task.done)
        if not task.done():
            task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return ""
        except (StreamEnded, VenueError) as error:
            return str(error)
        return "ended"

    @property
    def verified(self) -> bool:
        return self.status.is_verified(self.clock.monotonic())


def fails(error: Exception) -> Callable[[CheckScope], Check]:
    def venue(_scope: CheckScope) -> Check:
        raise error

    return venue


async def test_everything_is_compared_in_every_period_and_never_later() -> None:
    story = Story()
    assert await story.run(20 * PERIOD_S) == ""
    times = [at for at, scope in story.asked if scope.order_symbols is None]
    gaps = [after - before for before, after in zip([0.0, *times], times, strict=False)]
    assert len(gaps) >= 20
    assert all(0.7 * PERIOD_S < gap <= 0.96 * PERIOD_S for gap in gaps)
    assert len({round(gap, 2) for gap in gaps}) > 10, "jittered"
    assert story.verified
    assert int(story.fields["reconciledAtMs"]) > NOW + 19 * PERIOD_S * 1000
    assert len(story.agreed) == len(times)


async def test_a_short_period_compares_orders_no_oftener_than_their_weight_allows() -> None:
    story = Story(period_s=1.0)
    await story.run(30)
    everything = [at for at, scope in story.asked if scope.order_symbols is None]
    assert 5 <= len(everything) <= 30 / PACE.all_pause_s
    assert len(story.asked) - len(everything) == len(everything), (
        "in between the figures alone, which every comparison brings as well"
    )


@pytest.mark.parametrize("is_allowed", [True, False])
async def test_a_comparison_that_would_wait_too_long_for_the_venues_limits_is_urgent(is_allowed: bool) -> None:
    story = Story(period_s=5.0)

    def venue(scope: CheckScope) -> Check:
        into_s = story.clock.elapsed_s % 60.0
        if scope != FIGURES_ONLY and into_s > 20.0 and not (scope.urgent and is_allowed):
            raise LimitReached(
                "binance", "check", "not sent", NOW + round((story.clock.elapsed_s - into_s + 60.0) * 1000)
            )
        return story.truth(scope)

    story.venue = venue
    await story.run(55)
    assert story.verified is is_allowed
    assert any(scope.urgent for _, scope in story.asked)
    if not is_allowed:
        assert story.status.reason == "not compared with the venue for too long: binance: check: not sent"
    await story.run(61)
    assert story.verified


async def test_figures_that_the_limits_do_not_allow_hold_no_comparison_up() -> None:
    story = Story(period_s=10.0)

    def venue(scope: CheckScope) -> Check:
        if scope == FIGURES_ONLY:
            raise LimitReached("binance", "check", "not sent", NOW + 300_000)
        return story.truth(scope)

    story.venue = venue
    for at in range(1, 60):
        story.at(at, story.light.moved)
    with capture_logs() as logs:
        await story.run(60)
    kinds = [scope == FIGURES_ONLY for _, scope in story.asked]
    assert (kinds.count(True), kinds.count(False) >= 6) == (1, True)
    assert (logs, story.verified) == ([], True)


async def test_a_burst_of_changes_costs_one_question_then_a_pause_and_two_later_ones() -> None:
    story = Story()
    for at in range(1, 100):
        story.at(10 + at / 100, story.light.moved)
    await story.run(30)
    assert [scope for _, scope in story.asked] == [FIGURES_ONLY] * 4
    times = [at for at, _ in story.asked]
    assert all(after - before >= PACE.figures_pause_s for before, after in pairwise(times))
    assert times[-1] >= 10.99 + LATER_S[-1]


async def test_a_snapshot_is_not_vouched_for_until_a_later_answer_agrees() -> None:
    """REST may have been behind what happened before the stream was connected."""
    story = Story(proof_s=3.0)
    assert story.status.state == "starting"
    assert not story.verified
    await story.run(2.9)
    assert story.asked == []
    assert not story.verified
    await story.run(3.5)
    assert [scope for _, scope in story.asked] == [EVERYTHING._replace(urgent=True)]
    assert story.verified
    assert story.status.reason == "the venue agrees"


async def test_what_differs_is_no_drift_while_the_stream_still_sends_what_happened_before() -> None:
    """After a flood it takes longer to read than to happen; another connection would lose what was not read yet."""
    story = Story()
    story.is_late = True
    story.venue = lambda scope: replace(story.truth(scope), balances=(rest_balance(-100, "1001"),))
    story.light.due()
    assert await story.run(30) == ""
    assert not story.verified
    story.is_late = False
    assert await story.run(40) == "drift from the venue: USDT wallet balance 1000, venue 1001"


async def test_a_snapshot_that_was_behind_is_never_vouched_for() -> None:
    """It lacked what happened right before the stream was connected, and no frame has that."""
    story = Story(proof_s=3.0)
    later = new_account()
    later.apply((snapshot(positions=[rest_position(-20, "0.7")], orders=[rest_order(-50)]),), "rest")
    story.venue = lambda scope: story.answer(scope, later)
    seen: list[bool] = []

    def look() -> None:
        seen.append(story.verified)
        story.at(story.clock.elapsed_s + 0.1, look)

    look()
    assert await story.run(30) == "drift from the venue: BTCUSDT BOTH 0.5, venue 0.7"
    assert not any(seen)


@pytest.mark.parametrize("assets", [["USDT"], ["USDT", "BFUSD"]])
async def test_wallets_that_grow_without_an_event_are_taken_from_rest_from_the_second_time_on(
    assets: list[str],
) -> None:
    story = Story()
    grown = {"USDT": "1000", "BFUSD": "0"} | dict.fromkeys(assets, "1001")

    def rows(wallets: dict[str, str]) -> list[Balance]:
        return [rest_balance(-100, wallet, asset) for asset, wallet in wallets.items()]

    def venue(scope: CheckScope) -> Check:
        return replace(story.truth(scope), balances=tuple(rows(grown)))

    story.venue = venue
    story.light.due()
    assert (await story.run(30)).startswith("drift from the venue: USDT wallet balance 1000, venue 1001")
    now = story.clock.monotonic()
    held = {"positions": [rest_position(-50, "0.5")], "orders": [rest_order(-50)]}
    read = snapshot(30_000, balances=rows(grown), **held)
    story.account.apply((read,), "rest")
    story.light.begins(read, now, now, EVERYTHING.created_since_ms, ())
    grown |= dict.fromkeys(assets, "1002")
    story.light.due()
    assert await story.run(60) == "", "the stream is not ended"
    assert {asset: story.account.balances[asset].wallet_balance for asset in assets} == dict.fromkeys(assets, 1002)
    assert story.verified
    assert (story.fields["drifts"], story.fields["walletCorrections"]) == (1, len(assets))


async def test_what_is_doubtful_is_compared_at_once() -> None:
    story = Story()
    story.at(10, story.light.due)
    await story.run(12)
    urgent = EVERYTHING._replace(urgent=True)
    assert [scope for _, scope in story.asked] == [urgent]
    await story.run(20)
    assert [round(at) for at, _ in story.asked] == [10, 15], "and once more: REST may have been behind"


async def test_where_the_limits_do_not_allow_to_compare_what_is_doubtful_readers_see_the_doubt() -> None:
    story = Story()

    def refuses(scope: CheckScope) -> Check:
        raise LimitReached("binance", "check", "not sent", NOW + 20_000)

    story.venue = refuses
    story.at(10, story.light.due)
    await story.run(12)
    assert (story.status.state, story.verified) == ("recovering", False)
    assert "compared with the venue" in story.status.reason
    story.venue = story.truth
    await story.run(30)
    assert (story.status.state, story.verified) == ("live", True)


async def test_nothing_is_asked_while_the_account_does_not_follow_the_stream() -> None:
    story = Story()
    story.following = False
    story.light.moved()
    await story.run(3 * PERIOD_S)
    assert story.asked == []


async def test_a_silent_stream_is_verified_no_longer_than_a_period_and_ends_after_the_grace() -> None:
    story = Story()
    later = new_account()  # neither position nor order, and something younger: nothing of it was received
    later.apply((snapshot(positions=[rest_position(40_000, "1", symbol="ETHUSDT")]),), "rest")

    def venue(scope: CheckScope) -> Check:
        answer = story.answer(scope, later)
        return replace(answer, positions=tuple(replace(row, symbol="ETHUSDT") for row in answer.positions))

    story.venue = venue
    believed: list[float] = []

    def look() -> None:
        if story.verified:
            believed.append(story.clock.elapsed_s)
        story.at(story.clock.elapsed_s + 0.1, look)

    look()
    ended = await story.run(3 * PERIOD_S)
    assert ended == "drift from the venue: BTCUSDT BOTH 0.5, venue none; ETHUSDT BOTH none, venue 1"
    assert story.clock.elapsed_s <= PERIOD_S + GRACE_S
    assert max(believed) <= PERIOD_S
    assert story.fields["drifts"] == 1
    assert [scope.order_symbols for _, scope in story.asked][1:3] == [frozenset({"BTCUSDT"})] * 2


async def test_a_difference_that_the_stream_explains_is_told_to_nobody() -> None:
    story = Story()
    after = new_account()
    after.apply((snapshot(positions=[rest_position(45_000, "0.7")], orders=[rest_order(-50)]),), "rest")
    story.venue = lambda scope: story.answer(scope, after)
    story.at(44, story.light.moved)
    unbelieved: list[bool] = []
    story.at(44.6, lambda: unbelieved.append(story.verified))
    story.at(44.7, lambda: story.stream(position(45_000, "0.7")))
    await story.run(46)
    assert unbelieved == [False], "at once"
    assert story.verified
    assert story.status.reason == "stream connected, snapshot reconciled", "as it was"
    assert story.fields["drifts"] == 0


async def test_rest_that_is_behind_for_a_moment_is_no_drift_and_readers_see_the_doubt() -> None:
    story = Story()
    behind = new_account()
    behind.apply((snapshot(),), "rest")
    story.venue = lambda scope: story.answer(scope, behind)
    states: list[str] = []
    story.light.due()

    def look() -> None:
        states.append(story.status.state)
        story.at(story.clock.elapsed_s + 0.1, look)

    look()
    story.at(12, lambda: setattr(story, "venue", story.truth))
    assert await story.run(20) == ""
    assert states[0] == "live"
    assert "recovering" in states
    assert states[-1] == "live"
    assert story.verified
    assert story.fields["drifts"] == 0


async def test_an_answer_of_a_server_that_is_behind_hides_no_lost_fill() -> None:
    story = Story()
    ahead = new_account()
    ahead.apply((snapshot(positions=[rest_position(-20, "0.7")], orders=[rest_order(-50)]),), "rest")
    answers = iter([ahead])
    story.venue = lambda scope: story.answer(scope, next(answers, story.account))
    states: list[tuple[str, bool]] = []
    story.light.due()
    for at in (1.5, 2.5, 4.5):
        story.at(PACE.all_pause_s + at, lambda: states.append((story.status.state, story.verified)))
    assert await story.run(PERIOD_S) == "drift from the venue: BTCUSDT BOTH 0.5, venue 0.7"
    assert states == [("recovering", False)] * 3


async def test_an_answer_for_readers_that_was_asked_for_before_hides_no_lost_fill() -> None:
    story = Story()
    early = story.truth(FIGURES_ONLY)
    ahead = new_account()
    ahead.apply((snapshot(positions=[rest_position(-20, "0.7")], orders=[rest_order(-50)]),), "rest")
    story.venue = lambda scope: story.answer(scope, ahead)
    story.light.due()
    story.at(PACE.all_pause_s + 0.5, lambda: story.light.offer(early))
    await story.run(PACE.all_pause_s + 0.7)
    assert (story.status.state, story.verified) == ("recovering", False)


async def test_a_venue_that_does_not_answer_is_not_believed_for_longer_than_a_period_and_the_grace() -> None:
    story = Story()
    story.venue = fails(VenueUnreachable("binance", "GET /fapi/v3/account", "HTTP 503"))
    until_mono_s = story.clock.monotonic() + PERIOD_S + GRACE_S
    assert story.status.is_verified(until_mono_s)
    assert not story.status.is_verified(until_mono_s + 0.001)
    await story.run(PERIOD_S + 6 * GRACE_S)
    assert not story.verified
    assert story.status.state == "recovering"
    assert story.status.reason.startswith("not compared with the venue for too long: binance: GET")
    story.venue = story.truth
    await story.run(PERIOD_S + 9 * GRACE_S)
    assert story.verified
    assert story.status.reason == "the venue agrees"


async def test_after_a_take_over_the_state_is_verified_for_a_standbys_minute_and_the_grace() -> None:
    """However short the period: the last comparison is the standby's own."""
    story = Story(period_s=5.0, standby=True)
    until_mono_s = story.clock.monotonic() + PACE.standby_pause_s + GRACE_S
    assert PACE.standby_pause_s + GRACE_S == 65.0
    assert story.status.is_verified(until_mono_s)
    assert not story.status.is_verified(until_mono_s + 0.001)


SLOW_S = 40.0
"""More than a period of 5 s and the grace."""


async def test_a_snapshot_that_is_too_old_when_it_is_applied_is_compared_before_the_state_is_live() -> None:
    """The histories of the gap have waited for the venue's limits meanwhile."""
    story = Story(period_s=5.0)
    reconciled_ms = story.fields["reconciledAtMs"]
    story.status.move("degrade", "connection closed")
    await story.clock.advance(SLOW_S)
    with capture_logs() as logs:
        asked_mono_s = story.clock.monotonic() - SLOW_S
        story.light.begins(story.read, asked_mono_s, asked_mono_s, EVERYTHING.created_since_ms, ())
        story.light.due()
        assert not story.verified
        assert story.status.reason == "comparing with the venue once more: the snapshot is 40 s old"
        assert story.fields["reconciledAtMs"] == reconciled_ms, "it was not compared now"
        await story.run(SLOW_S + 1)
    assert story.verified
    assert [line["state"] for line in logs if line["event"] == "state"] == ["recovering", "live"], "no live in between"
    assert len(story.asked) == 1


async def test_answers_that_come_too_late_are_said_to() -> None:
    story = Story(period_s=5.0)
    story.takes_s = SLOW_S
    await story.run(100)
    assert not story.verified
    assert story.status.state == "recovering"
    assert story.status.reason == "not compared with the venue for too long: the last answer took 40 s"
    story.light.moved()
    story.takes_s = 0.0
    await story.run(110)
    assert story.verified


async def test_a_pause_that_the_venue_wants_is_kept() -> None:
    story = Story()
    story.venue = fails(RateLimited("binance", "refresh", "HTTP 429", NOW + 300_000))
    await story.run(299)
    assert len(story.asked) == 1
    story.venue = story.truth
    await story.run(310)
    assert story.verified


async def test_a_refused_key_ends_it() -> None:
    story = Story()
    story.venue = fails(AuthFailed("binance", "GET /fapi/v3/account", "HTTP 401", -2015))
    assert "HTTP 401" in await story.run(PERIOD_S)


async def test_an_answer_for_readers_is_compared_as_well() -> None:
    story = Story()
    story.light.take(refresh(4000), story.clock.monotonic())
    assert not story.verified
    await story.run(6)
    assert story.verified, "the next answer agrees"


async def test_a_new_beginning_forgets_what_was_suspected() -> None:
    story = Story()
    story.light.take(refresh(4000), story.clock.monotonic())
    story.light.begins(story.read, story.clock.monotonic(), story.clock.monotonic(), EVERYTHING.created_since_ms, ())
    assert story.verified


@pytest.mark.parametrize("told", [True, False])
async def test_orders_that_came_and_went_are_compared(told: bool) -> None:
    story = Story()
    ended = rest_order(40_000, "CANCELED", order_id="77")
    story.venue = lambda scope: replace(story.truth(scope), created=(ended,) if scope.created_since_ms else ())
    if told:
        story.stream(event(40_000, "CANCELED", "CANCELED", order_id="77"))
    assert (await story.run(PERIOD_S + 2 * GRACE_S) == "") is told


@pytest.mark.parametrize("told", [True, False])
async def test_conditional_orders_that_came_and_went_are_compared_symbol_by_symbol_in_turn(told: bool) -> None:
    symbols = [f"S{number:02}USDT" for number in range(15)]
    story = Story(symbols=symbols)
    came = rest_order(70_000, "CANCELED", order_id="algo-7", algo_id="7", symbol="S14USDT")

    def venue(scope: CheckScope) -> Check:
        asked = dict(scope.conditional_since_ms)
        listed = came.symbol in asked and asked[came.symbol] <= came.venue_time_ms <= story.clock.now_ms()
        return replace(story.truth(scope), created=(came,) if listed else ())

    story.venue = venue
    if told:
        ended_by = event(70_000, "ALGO_CANCELED", "CANCELED", order_id="algo-7", algo_id="7", symbol="S14USDT")
        story.at(71, lambda: story.stream(ended_by))
    ended = await story.run(4 * PERIOD_S)
    assert ("algo-7" in ended) is not told
    assert story.look_in == ([] if told else [frozenset({"S14USDT"})]), "the next gap fill reads its histories"
    asked = [scope.conditional_since_ms for _, scope in story.asked if scope.conditional_since_ms]
    assert [symbol for symbol, _ in asked[0]] == symbols[:12], "one for each five seconds of the period"
    assert [symbol for symbol, _ in asked[1]][:3] == symbols[12:]
    assert {since_ms for _, since_ms in asked[1]} == {NOW + 1000}, "those of a gap are listed again for two minutes"


@pytest.mark.parametrize("told", [True, False])
async def test_a_conditional_order_that_was_triggered_is_asked_for_once_its_own_order_is_over(told: bool) -> None:
    story = Story()
    for number in ("7", "8"):  # The ordinary order of the second is open.
        child = "1001" if number == "8" else "99"
        row = {"order_id": f"algo-{number}", "algo_id": number, "actual_order_id": child}
        story.stream(event(10, "ALGO_TRIGGERED", "TRIGGERED", **row))
    finished = rest_order(20, "FINISHED", order_id="algo-7", algo_id="7", actual_order_id="99")

    def venue(scope: CheckScope) -> Check:
        if told and scope.by_id:
            fields = {"order_id": "algo-7", "algo_id": "7", "actual_order_id": "99"}
            story.at(story.clock.elapsed_s + 2, lambda: story.stream(event(20, "ALGO_FINISHED", "FINISHED", **fields)))
        return replace(story.truth(scope), created=(finished,) if finished.key in scope.by_id else ())

    story.venue = venue
    ended = await story.run(PERIOD_S + GRACE_S)
    assert ("order BTCUSDT:algo-7 TRIGGERED, venue FINISHED" in ended) is not told
    (first, *_) = (scope.by_id for _, scope in story.asked if scope.settings)
    assert first == (finished.key,)


async def test_of_many_triggered_conditional_orders_all_have_their_turn() -> None:
    story = Story()
    for number in range(PACE.orders_by_id + 5):
        row = {"order_id": f"algo-{number}", "algo_id": str(number), "actual_order_id": str(9000 + number)}
        story.stream(event(10, "ALGO_TRIGGERED", "TRIGGERED", **row))
    await story.run(2 * PERIOD_S)
    first, second, *_ = (scope.by_id for _, scope in story.asked if scope.settings)
    assert len(first) == len(second) == PACE.orders_by_id
    assert {*first, *second} == set(story.account.triggered_orders())


async def test_the_log_is_complete_only_until_the_longest_wait_of_a_symbol() -> None:
    story = Story(symbols=[f"S{number:02}USDT" for number in range(15)])
    await story.run(PERIOD_S)
    assert story.agreed == [EVERYTHING.created_since_ms + OVERLAP_MS], "three have not had their turn"
    await story.run(2 * PERIOD_S)
    assert story.agreed[-1] > NOW + 30_000


async def test_what_did_not_fit_into_an_answer_is_asked_for_again_and_the_log_is_complete_until_there() -> None:
    story = Story(symbols=["BTCUSDT"])

    def venue(scope: CheckScope) -> Check:
        until_ms = NOW + 20_000 if len(story.asked) == 1 else story.clock.now_ms()
        return replace(story.truth(scope), created_until_ms=until_ms, conditional_until_ms={"BTCUSDT": until_ms + 1})

    story.venue = venue
    await story.run(2 * PERIOD_S)
    assert story.agreed[0] == NOW + 20_000
    _, second, *_ = (scope for _, scope in story.asked)
    since_ms = NOW + 20_000 - OVERLAP_MS
    assert (second.created_since_ms, second.conditional_since_ms) == (since_ms, (("BTCUSDT", since_ms + 1),))
    assert story.agreed[1] > NOW + 60_000


async def test_a_beginning_that_was_not_told_is_asked_for_without_another_connection() -> None:
    story = Story()
    ended = rest_order(-50, "EXPIRED")
    story.account.begin_again({ended.key: ended}, [IncompleteOrder(ended, BEFORE_OPENING)])
    story.at(PERIOD_S + GRACE_S, story.account.forget_incomplete)
    assert await story.run(PERIOD_S + GRACE_S) == ""
    assert "order BTCUSDT:1001" in story.incomplete[0]


async def test_a_symbol_is_asked_for_once_the_account_trades_in_it() -> None:
    story = Story()
    story.light.moved(["BTCUSDT"])
    await story.run(PERIOD_S)
    assert story.asked[-1][1].conditional_since_ms == (("BTCUSDT", NOW + 1000),)
    standby = Story(symbols=["BTCUSDT"], standby=True)
    await standby.run(2 * PERIOD_S)
    assert not any(scope.conditional_since_ms for _, scope in standby.asked)


@pytest.mark.parametrize("told", [True, False])
async def test_what_the_stream_has_still_to_tell_of_an_order_is_drift_where_it_does_not(told: bool) -> None:
    """It is no doubt about the state: only the log lacks it."""
    story = Story()
    story.account.expect([IncompleteOrder(rest_order(-50), BEFORE_OPENING)])
    verified: list[bool] = []

    def venue(scope: CheckScope) -> Check:
        if len(story.asked) == 1:
            now_s = story.clock.elapsed_s
            story.at(now_s + 1, lambda: verified.append(story.verified))
            if told:
                story.at(now_s + 2, story.account.forget_incomplete)
        return story.truth(scope)

    story.venue = venue
    ended = await story.run(3 * PERIOD_S)
    assert verified == [True]
    assert ("order BTCUSDT:1001: events are missing" in ended) is not told
    assert bool(story.agreed) is told, "until when the log is complete is said when nothing is missing"


@pytest.mark.parametrize(("behind_ms", "symbols"), [(300, 1), (300, 30), (2500, 1)])
async def test_an_account_that_places_orders_all_the_time_is_believed_though_rest_is_behind(
    behind_ms: int, symbols: int
) -> None:
    """Every answer lacks some of the youngest orders: that must not stop the vouching, nor be asked for without end."""
    story = Story()
    told: list[tuple[int, Change]] = []
    verified: list[bool] = []

    def tell(number: int, kind: str, status: str) -> None:
        at, symbol = round(story.clock.elapsed_s * 1000), f"S{number % symbols}USDT"
        told.append((at, event(at, kind, status, order_id=str(number), symbol=symbol)))
        story.stream(told[-1][1])

    def place(number: int) -> None:
        tell(number, "NEW", "NEW")
        story.at(story.clock.elapsed_s + 10, lambda: tell(number, "CANCELED", "CANCELED"))
        story.at(story.clock.elapsed_s + 0.2, lambda: place(number + 1))
        verified.append(story.verified)

    def venue(scope: CheckScope) -> Check:
        old = new_account()
        old.apply((snapshot(positions=[rest_position(-50, "0.5")], orders=[rest_order(-50)]),), "rest")
        until = round(story.clock.elapsed_s * 1000) - behind_ms
        for at, change in told:
            if at <= until:
                old.apply((change,), "stream")
        answer = story.answer(scope, old)
        asked_for = scope.order_symbols or {order.symbol for order in answer.orders}
        return replace(answer, orders=tuple(order for order in answer.orders if order.symbol in asked_for))

    story.venue = venue
    story.at(1, lambda: place(5000))
    assert await story.run(3 * PERIOD_S) == ""
    assert all(verified)
    assert sum(scope != FIGURES_ONLY for _, scope in story.asked) < 20


async def test_an_order_that_was_young_when_it_ended_unheard_is_found_all_the_same() -> None:
    story = Story()
    # The last word of the stream, a second before everything is compared; the venue has no such order any more.
    gone = new_account()
    gone.apply((snapshot(positions=[rest_position(-50, "0.5")], orders=[rest_order(-50)]),), "rest")
    story.at(44, lambda: story.stream(event(44_000, "NEW", order_id="77")))
    story.at(44.5, story.light.due)
    canceled = rest_order(44_000, "CANCELED", order_id="77")

    def venue(scope: CheckScope) -> Check:
        return replace(story.answer(scope, gone), created=(canceled,) if canceled.key in scope.by_id else ())

    story.venue = venue
    assert await story.run(PERIOD_S) == "drift from the venue: order BTCUSDT:77 NEW, venue CANCELED"
    assert story.clock.elapsed_s <= 44.5 + 2 * GRACE_S


async def test_open_orders_of_many_symbols_are_not_asked_for_again_every_second() -> None:
    story = Story()
    orders = tuple(rest_order(-50, order_id=str(at), symbol=f"S{at}USDT") for at in range(30))
    story.venue = lambda scope: replace(story.truth(scope), orders=orders)
    assert "drift" in await story.run(PERIOD_S + 2 * GRACE_S)
    assert story.clock.elapsed_s <= PERIOD_S + GRACE_S
    assert sum(scope.order_symbols is None for _, scope in story.asked) == 2


async def test_a_venue_in_maintenance_is_asked_seldom() -> None:
    story = Story()
    story.venue = fails(VenueUnreachable("binance", "GET /fapi/v3/account", "HTTP 503"))
    await story.run(3600)
    assert len(story.asked) <= 200


async def test_a_row_that_cannot_be_understood_is_shown_as_doubt_until_an_answer_has_it() -> None:
    story = Story()
    row = Unreadable("position ETHUSDT BOTH: its row", PositionKey("ETHUSDT", "BOTH"))
    story.venue = lambda scope: replace(story.truth(scope), unreadable=(row, Unreadable("a figure")))
    story.light.due()
    assert await story.run(3 * PERIOD_S) == "", "no other connection would help"
    assert (story.status.state, story.verified) == ("recovering", False)
    assert story.status.reason == "the venue differs: position ETHUSDT BOTH: its row"
    assert story.fields["unreadableValues"] == 2
    assert len(story.asked) < 10, "it is asked for no oftener for that"
    story.venue = story.truth
    story.light.due()
    await story.run(3 * PERIOD_S + 5)
    assert (story.status.state, story.verified) == ("live", True)


def doubtful_story(row: Unreadable) -> Story:
    """It begins with a snapshot of which one row could not be understood."""
    story = Story()
    now = story.clock.monotonic()
    story.light.begins(replace(story.read, unreadable=(row,)), now, now, EVERYTHING.created_since_ms, ())
    return story


ORDER_ROW = Unreadable("order BTCUSDT:77: its row", OrderKey("BTCUSDT", "77"))
POSITION_ROW = Unreadable("position ETHUSDT BOTH: its row", PositionKey("ETHUSDT", "BOTH"))


async def test_a_beginning_in_doubt_ends_with_an_answer_that_agrees() -> None:
    story = doubtful_story(ORDER_ROW)
    assert (story.status.state, story.status.reason) == ("recovering", f"the venue differs: {ORDER_ROW.text}")
    story.light.due()
    await story.run(PERIOD_S)
    assert story.status.state == "live"


async def test_what_stands_against_the_snapshot_is_a_doubt_until_an_answer_agrees() -> None:
    """The snapshot may be behind, or the position was closed while nothing was received: nobody knows which."""
    story = Story()
    story.stream(position(10_000, "0.7"))
    story.venue = lambda scope: replace(story.truth(scope), positions=())
    now = story.clock.monotonic()
    read = snapshot(40_000, orders=[rest_order(-50)])
    story.account.apply((read,), "rest")
    assert len(story.account.positions) == 1
    story.light.begins(read, now, now, EVERYTHING.created_since_ms, ())
    assert (story.status.state, story.verified) == ("recovering", False)
    assert story.status.reason == "the venue differs: BTCUSDT BOTH 0.7, venue none"
    await story.run(20)
    assert (story.status.state, story.verified) == ("recovering", False)
    story.venue = story.truth
    await story.run(40)
    assert (story.status.state, story.verified) == ("live", True)


async def test_an_order_that_the_snapshot_did_not_understand_is_a_doubt_until_an_answer_lists_orders() -> None:
    story = doubtful_story(ORDER_ROW)
    story.stream(position(10, "0.7"))
    await story.run(20)
    assert {scope for _, scope in story.asked} == {FIGURES_ONLY}
    assert (story.status.state, story.verified) == ("recovering", False)
    story.light.offer(story.truth(FIGURES_ONLY))
    assert (story.status.state, story.verified) == ("recovering", False)
    await story.run(PERIOD_S)
    assert (story.status.state, story.verified) == ("live", True)


async def test_an_answer_for_readers_ends_the_doubt_about_a_row_if_it_has_it() -> None:
    story = doubtful_story(POSITION_ROW)
    story.light.offer(replace(story.truth(FIGURES_ONLY), unreadable=(POSITION_ROW,)))
    assert (story.status.state, story.verified) == ("recovering", False)
    story.light.offer(story.truth(FIGURES_ONLY))
    assert (story.status.state, story.verified) == ("live", True)
