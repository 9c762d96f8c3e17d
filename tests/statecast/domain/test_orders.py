from __future__ import annotations

from decimal import Decimal

import pytest
from support.changes import order

from statecast.domain import orders
from statecast.domain.orders import Phase, ended_by, filled_of, is_final, is_over, is_understood, phase

CONDITIONAL = {"order_id": "algo-7", "algo_id": "7"}

LIVES: dict[str, tuple[str, bool, Phase]] = {
    "an order that was placed is open": ("NEW", False, "open"),
    "one that was filled in part is open": ("PARTIALLY_FILLED", False, "open"),
    "a live order's older name is open": ("NEW_INSURANCE", False, "open"),
    "a filled one is over": ("FILLED", False, "over"),
    "a cancelled one is over": ("CANCELED", False, "over"),
    "an expired one is over": ("EXPIRED", False, "over"),
    "one that would have traded with its own account is over": ("EXPIRED_IN_MATCH", False, "over"),
    "a rejected one is over": ("REJECTED", False, "over"),
    "one of which nobody knows what became of it is not among the open ones": ("", False, "over"),
    "a conditional order that waits is open": ("NEW", True, "open"),
    "one whose trigger is being worked on is open": ("TRIGGERING", True, "open"),
    "one that was triggered is neither open nor finished": ("TRIGGERED", True, "triggered"),
    "one whose order has ended is over": ("FINISHED", True, "over"),
    "a conditional order that was cancelled is over": ("CANCELED", True, "over"),
    "a conditional order that was rejected is over": ("REJECTED", True, "over"),
    "a conditional order that expired is over": ("EXPIRED", True, "over"),
}


@pytest.mark.parametrize("fields", [{}, CONDITIONAL], ids=["ordinary", "conditional"])
def test_an_order_with_a_status_that_nobody_named_is_open_until_it_is_known_to_be_over(fields: dict[str, str]) -> None:
    row = order(0, "EXPIRED_BY_RISK", **fields)
    assert not is_understood(row)
    assert not is_over(row)
    ended = row._replace(ended=True)
    assert is_understood(ended)
    assert (is_over(ended), is_final(ended)) == (True, True)
    assert is_understood(row._replace(status="NEW"))


def test_what_ended_an_order_is_known_by_its_status_and_else_is_the_status() -> None:
    assert [ended_by(order(0, status)) for status in ("NEW", "FILLED", "EXPIRED_IN_MATCH")] == [None, None, "EXPIRED"]
    assert ended_by(order(0, "EXPIRED_BY_RISK")) is None
    assert ended_by(order(0, "EXPIRED_BY_RISK", ended=True)) == "EXPIRED_BY_RISK"
    assert ended_by(order(0, "FILLED_2", ended=True, executed_qty=Decimal("0.050"))) is None, "a fill ended it"


@pytest.mark.parametrize("case", LIVES)
def test_where_an_order_stands_in_its_life(case: str) -> None:
    status, is_conditional, expected = LIVES[case]
    row = order(0, status, **(CONDITIONAL if is_conditional else {}))
    assert phase(row) == expected
    assert (is_over(row), is_final(row)) == (expected != "open", expected == "over")


def test_every_status_of_the_contract_has_its_phase() -> None:
    over = {status for status, phase in orders.ORDINARY.items() if phase == "over"} - {orders.LOST}
    assert over == {"FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH", "REJECTED"}
    assert orders.ENDED_BY.keys() == over - {"FILLED"}
    assert {
        *("NEW", "TRIGGERING", "TRIGGERED", "FINISHED", "CANCELED", "REJECTED", "EXPIRED")
    } == orders.CONDITIONAL_STATUSES


def test_what_an_event_is_in_an_orders_life() -> None:
    assert frozenset({"NEW", "ALGO_NEW"}) == orders.OPENING_EVENTS
    assert frozenset({"NEW", "CALCULATED", "ALGO_NEW", "ALGO_FINISHED"}) == orders.FIRST_EVENTS
    assert frozenset({"AMENDMENT", "ALGO_NEW", "ALGO_TRIGGERING", "ALGO_TRIGGERED"}) == orders.INTERMEDIATE_EVENTS
    assert frozenset({"TRADE", "CALCULATED"}) == orders.FILL_EVENTS
    assert frozenset({"EXPIRED", "REJECTED", "ALGO_EXPIRED", "ALGO_REJECTED"}) == orders.IMMEDIATE_ENDS


def test_every_conditional_status_has_its_event() -> None:
    assert {f"ALGO_{status}" for status in orders.CONDITIONAL_STATUSES} == {
        event_type for event_type in orders.EVENTS if event_type.startswith("ALGO_")
    }
    assert set(orders.ENDED_BY.values()) <= orders.EVENTS.keys()


def test_a_conditional_order_has_no_fills_of_its_own() -> None:
    assert filled_of(order(0, executed_qty=Decimal("0.5"))) == Decimal("0.5")
    assert filled_of(order(0, executed_qty=None)) == 0
    assert filled_of(order(0, "FINISHED", executed_qty=Decimal("0.5"), **CONDITIONAL)) == 0
