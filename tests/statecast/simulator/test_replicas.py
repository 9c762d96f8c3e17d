from __future__ import annotations

from random import Random

import pytest
from support.ledger import NOW, D, new_ledger, order

from statecast.simulator import trading
from statecast.simulator.ledger import Ledger
from statecast.simulator.replicas import Replicas
from statecast.simulator.truth import account_truth

ORDERS, ACCOUNT = "/orders", "/account"


def qty(ledger: Ledger | None) -> object:
    """The position that is shown."""
    assert ledger is not None
    return sum(row.amount for row in ledger.positions())


def test_a_replica_follows_by_its_lag() -> None:
    ledger = new_ledger()
    replicas = Replicas(ledger)
    assert replicas.of(ORDERS, NOW) is None
    ledger.place(order(), NOW)
    replicas.lag([ORDERS], 800, NOW)
    for at in (100, 500):
        ledger.place(order(), NOW + at)
        replicas.settle(NOW + at)
    shown = [qty(replicas.of(ORDERS, NOW + at)) for at in (0, 899, 900, 1299, 1300)]
    assert shown == [D("0.1"), D("0.1"), D("0.2"), D("0.2"), D("0.3")]
    assert replicas.of(ACCOUNT, NOW) is None


def test_each_path_is_behind_by_its_own_time() -> None:
    ledger = new_ledger()
    replicas = Replicas(ledger)
    replicas.lag([ORDERS], 100, NOW)
    replicas.lag([ACCOUNT], None, NOW)
    replicas.lag([], 50, NOW)
    assert replicas.of(ORDERS, NOW) is replicas.of(ACCOUNT, NOW), "all were given one"
    replicas.lag([ORDERS], 100, NOW)
    replicas.lag([ACCOUNT], None, NOW)
    ledger.place(order(), NOW)
    replicas.settle(NOW)
    paths = ("/any", ORDERS, ACCOUNT)
    assert [qty(replicas.of(path, NOW + 60)) for path in paths] == [D("0.1"), 0, 0]
    assert [qty(replicas.of(path, NOW + 9999)) for path in paths] == [D("0.1"), D("0.1"), 0]
    replicas.lag([ORDERS], 0, NOW)
    assert replicas.of(ORDERS, NOW) is replicas.of("/any", NOW)
    replicas.lag([], 0, NOW)
    assert replicas.of(ACCOUNT, NOW) is None


@pytest.mark.parametrize("ids_per_symbol", [False, True])
@pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
def test_a_replica_becomes_what_the_ledger_was(hedge: bool, ids_per_symbol: bool) -> None:
    ledger, rng = new_ledger(hedge=hedge, ids_per_symbol=ids_per_symbol), Random(7)
    replicas = Replicas(ledger)
    replicas.lag([], 300, NOW)
    was = {}
    for at in range(0, 3000, 10):
        trading.step(ledger, rng, NOW + at)
        if at == 1500:
            ledger.delist("XRPUSDT", NOW + at, reported=False)
            ledger.accrue("USDC", D(1), NOW + at)
        replicas.settle(NOW + at)
        was[at] = everything(ledger)
        replica = replicas.of(ORDERS, NOW + at)
        assert replica is not None
        if at >= 300:
            assert everything(replica) == was[at - 300]


def everything(ledger: Ledger) -> object:
    return account_truth(ledger), ledger.orders(), ledger.algos(), list(ledger.trades), list(ledger.incomes)
