from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

import pytest
from support.changes import event, position, wallet
from support.link import linked_url
from support.mirrors import (
    DEADLINE_S,
    cut_off,
    until,
)
from support.written import Desk, Stored

from consumers.mirror import AccountMirror, Rejoin
from consumers.mirror.callbacks import Callbacks, Step
from consumers.mirror.view import UNKNOWN, Table, View
from consumers.models import Order, Position, Totals
from statecast.store.client import Client
from statecast.store.keys import AccountId


async def test_callbacks_are_given_before_and_after_in_the_order_of_commits(mirror: AccountMirror, desk: Desk) -> None:
    calls: list[tuple[object, ...]] = []

    def on_totals(before: Totals | None, after: Totals | None) -> None:
        assert before is not None
        assert after is not None
        calls.append(("totals", before.total_wallet_balance, after.total_wallet_balance, after.seq))

    async def on_position(before: Position | None, after: Position | None) -> None:
        await asyncio.sleep(0)
        calls.append(("position", before and before.position_amt, after and after.position_amt))

    def on_order(before: Order | None, after: Order | None) -> None:
        calls.append(("order", before and before.order_id, after and after.order_id))

    mirror.on_totals(on_totals)
    mirror.on_position(on_position, "BTCUSDT")
    mirror.on_order(on_order)
    await desk.commit(
        [wallet(10, "990")],
        [position(20, "0.7"), event(20, "NEW", order_id="1002")],
        [position(25, "3", symbol="ETHUSDT")],
        [event(28, "X", "CANCELED", order_id="77")],
        [event(30, "X", "CANCELED", order_id="1002")],
        [position(40, "0")],
        [position(50, "-1")],
    )
    expected = [
        ("totals", Decimal(1000), Decimal(990), 2),
        ("position", Decimal("0.5"), Decimal("0.7")),
        ("order", None, "1002"),
        ("order", "1002", None),
        ("position", Decimal("0.7"), None),
        ("position", None, Decimal(-1)),
    ]
    await until(lambda: len(calls) >= len(expected) and calls[-1] == expected[-1])
    assert [row for row in calls if row[:2] != ("totals", Decimal(990))] == expected


async def test_a_slow_callback_delays_neither_reads_nor_waits(mirror: AccountMirror, desk: Desk) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(before: object, after: object) -> None:
        entered.set()
        await leave.wait()

    mirror.on_position(slow)
    await desk.commit([position(10, "0.7")])
    await entered.wait()
    await desk.commit([position(20, "0.8")])
    assert await mirror.changed(since=2, timeout_s=DEADLINE_S) == 3
    assert mirror.position("BTCUSDT").position_amt == Decimal("0.8")
    leave.set()


async def test_what_a_callback_raises_is_logged_and_ends_nothing(
    mirror: AccountMirror, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[object] = []

    def broken(before: object, after: object) -> None:
        raise RuntimeError("mine")

    async def cancelled(before: object, after: object) -> None:
        raise asyncio.CancelledError

    mirror.on_position(broken)
    mirror.on_position(cancelled)
    mirror.on_position(lambda before, after: calls.append(after))
    await desk.commit([position(10, "0.7")])
    await desk.commit([position(20, "0.8")])
    await until(lambda: len(calls) == 2)
    assert caplog.text.count("RuntimeError: mine") == 2
    assert caplog.text.count(f"a callback of the mirror of {mirror.account_id} was cancelled") == 2
    assert mirror.position("BTCUSDT").position_amt == Decimal("0.8")


def view_with(seq: int, amount: str | None) -> View:
    """A copy with one position, or flat."""
    rows = {}
    if amount is not None:
        flat = Position.flat("BTCUSDT", "BOTH", UNKNOWN)
        rows["BTCUSDT:BOTH"] = replace(flat, side="long", position_amt=Decimal(amount))
    return View(seq=seq, positions=Table(rows, seq, "stream"))


def step_from(before: View, after: View) -> Step:
    return Step(before, after, {"positions": ["BTCUSDT:BOTH"]})


async def test_callbacks_that_are_very_late_get_one_change_and_it_is_logged(
    account_id: AccountId, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = Callbacks(account_id, lambda: 0.5, most_queued=3)
    calls: list[tuple[Decimal | None, Decimal | None]] = []
    leave = asyncio.Event()

    async def slow(before: Position | None, after: Position | None) -> None:
        calls.append((before and before.position_amt, after and after.position_amt))
        await leave.wait()

    callbacks.positions.append((None, slow))
    running = asyncio.create_task(callbacks.run())
    views = [view_with(seq, str(seq)) for seq in range(1, 12)]
    steps = [step_from(before, after) for before, after in pairwise(views)]
    callbacks.put(steps[0])
    await until(lambda: len(calls) == 1)
    for step in steps[1:]:
        callbacks.put(step)
    leave.set()
    await until(lambda: calls[-1][1] == Decimal(11))
    running.cancel()
    assert len(calls) < 6
    assert all(before == last for (_, last), (before, _) in pairwise(calls))
    assert f"of {account_id} are 3 commits late, and get them as one change" in caplog.text


async def test_nothing_is_queued_while_nobody_wants_to_be_called(account_id: AccountId) -> None:
    callbacks = Callbacks(account_id, lambda: 0.5)
    callbacks.put(step_from(view_with(1, None), view_with(2, "1")))
    calls: list[object] = []
    callbacks.positions.append(("BTCUSDT", lambda before, after: calls.append((before, after and after.seq))))
    callbacks.positions.append(("ETHUSDT", lambda before, after: calls.append("of another symbol")))
    callbacks.put(step_from(view_with(2, None), view_with(3, "1")))
    running = asyncio.create_task(callbacks.run())
    await until(lambda: bool(calls))
    running.cancel()
    assert calls == [(None, 3)]


def test_merged_steps_go_from_the_first_view_to_the_last_and_name_all_that_changed() -> None:
    first = Step(view_with(1, "1"), view_with(2, "2"), {"positions": ["a"]}, (Rejoin(0, 1, "commit 2 is missing"),))
    later = Step(view_with(2, "2"), view_with(3, "3"), {"positions": ["b"], "orders": ["c"]})
    merged = first.merged(later)
    assert (merged.before, merged.after, merged.rejoins) == (first.before, later.after, first.rejoins)
    assert {table: set(names) for table, names in merged.names.items() if names} == {
        "positions": {"a", "b"},
        "orders": {"c"},
    }


async def test_after_missing_commits_callbacks_are_given_them_and_what_differs(
    redis_url: str, client: Client, desk: Desk, account_id: AccountId
) -> None:
    stored = Stored(client, account_id)
    calls: list[object] = []
    async with linked_url(redis_url) as proxy, AccountMirror(account_id, proxy.url) as mirror:
        mirror.on_rejoin(calls.append)
        mirror.on_order(lambda before, after: calls.append((before and before.order_id, after and after.order_id)))
        await cut_off(proxy)
        await desk.commit([event(10, "X", "CANCELED")], [event(20, "NEW", order_id="5")], [position(20, "0")])
        await stored.redis.xtrim(stored.keys.changes, maxlen=0, approximate=False)
        proxy.fate = lambda request: "pass"
        await until(lambda: len(calls) == 3)
        assert calls == [mirror.rejoins[0], ("1001", None), (None, "5")]


async def test_nothing_is_reported_of_what_stood_there_before(mirror: AccountMirror, desk: Desk) -> None:
    calls: list[object] = []
    mirror.on_order(lambda before, after: calls.append(after))
    await desk.commit([wallet(10, "5")], [event(20, "NEW", order_id="5")])
    await until(lambda: len(calls) == 1)
    assert isinstance(calls[0], Order)
    assert calls[0].order_id == "5"
