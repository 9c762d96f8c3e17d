from __future__ import annotations

from collections import Counter
from decimal import Decimal
from random import Random

import pytest

from statecast.simulator import trading
from statecast.simulator.events import AccountChanged, AlgoChanged, Event, Filled, OrderChanged
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import AlgoStatus, Execution

START_MS = 1_793_000_000_000
STEPS = 2_000


def run(seed: int, *, hedge: bool, steps: int = STEPS) -> tuple[Ledger, list[Event]]:
    ledger = Ledger({"USDT": Decimal(10_000), "USDC": Decimal(5_000)}, now_ms=START_MS, hedge=hedge)
    rng = Random(seed)
    events: list[Event] = []
    for number in range(1, steps + 1):
        events += trading.step(ledger, rng, START_MS + number * 250)
    return ledger, events


def order_changes(events: list[Event]) -> list[OrderChanged]:
    changes = [event.order if isinstance(event, Filled) else event for event in events]
    return [change for change in changes if isinstance(change, OrderChanged)]


def account_changes(events: list[Event]) -> list[AccountChanged]:
    changes = [event.account if isinstance(event, Filled) else event for event in events]
    return [change for change in changes if isinstance(change, AccountChanged)]


@pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
def test_the_same_seed_gives_the_same_run(hedge: bool) -> None:
    first, second = run(5, hedge=hedge), run(5, hedge=hedge)
    assert first[1] == second[1]
    assert first[0].marks == second[0].marks
    assert run(6, hedge=hedge, steps=200)[1] != first[1][:200]


@pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
@pytest.mark.parametrize("seed", range(5))
def test_events_alone_rebuild_the_ledger(seed: int, hedge: bool) -> None:
    """The events, applied in order, give the account's truth."""
    ledger, events = run(seed, hedge=hedge)
    wallets: dict[str, tuple[Decimal, Decimal]] = {}
    rows: dict[tuple[str, str], object] = {}
    for change in account_changes(events):
        for balance in change.balances:
            wallets[balance.asset] = (balance.wallet_balance, balance.cross_wallet_balance)
        for row in change.positions:
            rows[row.position.symbol, row.position.side] = row.position
    for asset, (balance, cross) in wallets.items():
        assert (balance, cross) == (ledger.wallet(asset).balance, ledger.cross_wallet(asset))
    for (symbol, side), position in rows.items():
        assert position == ledger.position(symbol, type(ledger.sides()[0])(side))
    assert {(row.symbol, row.side) for row in ledger.positions()} <= set(rows)
    open_orders = {change.order.order_id: change.order for change in order_changes(events)}
    assert [one for one in open_orders.values() if one.is_open] == ledger.open_orders()
    algos = {event.algo.algo_id: event.algo for event in events if isinstance(event, AlgoChanged)}
    assert {one for one in algos if algos[one].is_waiting} == {one.algo_id for one in ledger.open_algos()}


@pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
@pytest.mark.parametrize("seed", range(5))
def test_what_never_happens_on_an_exchange(seed: int, hedge: bool) -> None:
    ledger, events = run(seed, hedge=hedge)
    changes = order_changes(events)
    assert changes == ledger.order_events
    assert [change.index for change in changes] == list(range(len(changes)))
    fills = [change.trade_id for change in changes if change.trade_id]
    assert len(fills) == len(set(fills)) == len(ledger.trades)
    first: dict[int, Execution] = {}
    closed: set[int] = set()
    for change in changes:
        order = change.order
        assert order.order_id not in closed, "an event after the end of an order"
        first.setdefault(order.order_id, change.execution)
        assert 0 <= order.filled_qty <= order.qty
        if not order.is_open:
            closed.add(order.order_id)
    assert set(first.values()) <= {Execution.NEW, Execution.CALCULATED}
    for row in ledger.positions():
        assert row.entry_price > 0
        assert hedge == (row.side != "BOTH")
        if hedge:
            assert (row.amount > 0) == (row.side == "LONG")
    for wallet in ledger.wallets():
        booked = sum((one.amount for one in ledger.incomes if one.asset == wallet.asset), Decimal(0))
        start = {"USDT": 10_000, "USDC": 5_000}[wallet.asset]
        assert wallet.balance == start + booked


def test_runs_reach_every_kind_of_event() -> None:
    """A trader that never does a thing proves nothing about it."""
    seen: Counter[object] = Counter()
    for seed in range(6):
        for hedge in (False, True):
            _, events = run(seed, hedge=hedge)
            seen.update(change.execution for change in order_changes(events))
            seen.update(change.order.expiry_reason for change in order_changes(events))
            seen.update(f"reason {change.reason}" for change in account_changes(events))
            seen.update(f"algo {event.algo.status}" for event in events if isinstance(event, AlgoChanged))
            seen.update(type(event).__name__ for event in events)
    assert {one for one in Execution if not seen[one]} == set()
    assert {one for one in AlgoStatus if not seen[f"algo {one}"]} == set()
    reasons = {"ORDER", "DEPOSIT", "WITHDRAW", "FUNDING_FEE", "MARGIN_TYPE_CHANGE", "MARGIN_TRANSFER"}
    assert {one for one in reasons if not seen[f"reason {one}"]} == set()
    assert all(seen[reason] for reason in (2, 4, 5))
    assert seen["LeverageChanged"]
    assert seen["MarginCalled"]
