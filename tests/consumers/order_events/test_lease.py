from __future__ import annotations

from consumers.order_events.lease import PartitionLease


def held(until: float = 10.0) -> PartitionLease:
    lease = PartitionLease()
    lease.renew("term-1", until)
    return lease


def test_a_partition_is_not_held_before_the_first_renewal() -> None:
    lease = PartitionLease()
    assert lease.term is None
    assert not lease.is_valid(0.0)
    assert not lease.may_leave(0.0, 0)


def test_nothing_is_handed_out_from_the_deadline_on() -> None:
    lease = held(until=10.0)
    assert lease.gives_out(9.9)
    assert not lease.gives_out(10.0)
    lease.renew("term-1", 15.0)
    assert lease.gives_out(10.0)


def test_a_suspended_lease_hands_nothing_out_until_it_is_renewed() -> None:
    lease = held()
    lease.suspend()
    assert not lease.is_valid(0.0)
    assert lease.term == "term-1", "it may still be this consumer's"
    lease.renew("term-1", 10.0)
    assert lease.gives_out(0.0)


def test_one_that_leaves_hands_nothing_out_and_waits_for_what_is_in_hand_up_to_a_deadline() -> None:
    lease = held()
    lease.leave_at(5.0)
    lease.leave_at(9.0)  # the first deadline stays
    assert lease.is_leaving
    assert lease.is_valid(1.0)
    assert not lease.gives_out(1.0)
    assert lease.may_leave(1.0, 0)
    assert not lease.may_leave(4.9, 3)
    assert lease.may_leave(5.0, 3)
    lease.stay()
    assert lease.gives_out(1.0)
    assert not lease.may_leave(9.0, 0)


def test_an_unknown_outcome_asks_for_a_new_term_once() -> None:
    lease = held()
    lease.require_new_term()
    assert lease.needs_new_term
    lease.renew("term-2", 20.0)
    assert lease.needs_new_term, "the renewal may have been under way before"
    lease.has_new_term()
    assert not lease.needs_new_term


def test_the_end_of_a_lease_ends_all_that_was_asked_of_it() -> None:
    lease = held()
    lease.require_new_term()
    lease.leave_at(5.0)
    lease.end()
    assert (lease.term, lease.needs_new_term, lease.is_leaving) == (None, False, False)
    assert not lease.is_valid(0.0)
