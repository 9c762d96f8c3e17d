"""What is received while a snapshot is awaited, what is missing before it, and how it is merged, as tables of cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

import pytest
from support.changes import (
    NOW,
    event,
    fill,
    new_account,
    order,
    position,
    rest_order,
    snapshot,
    wallet,
)
from support.story import merge_all

from statecast.domain import gaps
from statecast.domain.account import Account
from statecast.domain.catch_up import (
    Apply,
    CatchUp,
    GapFill,
    Hold,
    Merge,
    Missing,
    Repeat,
    Resync,
    merge_with_stream,
    with_entries_for_events_behind_ends,
    with_entries_for_late_events,
)
from statecast.domain.changes import Change, Frame, LoggedEvent, OrderUpdate, Snapshot
from statecast.domain.models import OrderKey

NEW = event(0, "NEW", event_id="new")
HALF = fill(10, "0.025", event_id="half")
MOVED = event(20, "AMENDMENT", event_id="moved")
MOVED_HALF = event(20, "AMENDMENT", "PARTIALLY_FILLED", event_id="moved", executed_qty=Decimal("0.025"))
FULL = fill(30, "0.050", event_id="full", last_qty=Decimal("0.025"))
OTHER = event(15, "NEW", event_id="other", order_id="1002")
CUT_OFF = event(10, "EXPIRED", "EXPIRED", event_id="cut off", executed_qty=Decimal("0.025"))
REJECTED = event(10, "REJECTED", "REJECTED", event_id="rejected")
WALLET = wallet(5, "100")
POSITION = position(5, "0.5")


def frame(*changes: Change) -> Frame:
    return Frame("a frame", NOW + 50, changes)


def take(catch_up: CatchUp, *frames: Frame) -> list[str]:
    """What becomes of each frame, by name. Each frame has an identity of its own."""
    return [type(catch_up.take(one, id(one))).__name__ for one in frames]


def following(*changes: Change) -> tuple[CatchUp, Account]:
    """An account that follows its stream, after an empty snapshot and these changes."""
    account = new_account()
    account.apply((snapshot(), *changes), "rest")
    catch_up = CatchUp(account)
    catch_up.follow()
    return catch_up, account


def all_parts(catch_up: CatchUp, most: int = 100) -> list[Change]:
    """What is applied until the account follows the stream."""
    changes: list[Change] = []
    while not catch_up.is_following:
        part = catch_up.take_part(most)
        assert isinstance(part, Apply)
        changes += part.changes
    return changes


def names(changes: Iterable[Change]) -> list[str]:
    """Events by their ids, a snapshot as such, rows by their kind."""
    return [
        change.event.event_id
        if isinstance(change, OrderUpdate | LoggedEvent)
        else type(change).__name__.removesuffix("Update").lower()
        for change in changes
    ]


# What is received


@dataclass(frozen=True)
class Taken:
    known: tuple[Change, ...]
    received: tuple[Change, ...]
    becomes: type


TAKEN: dict[str, Taken] = {
    "rows are applied": Taken((), (WALLET, POSITION), Apply),
    "an order that is placed is applied": Taken((), (NEW,), Apply),
    "a fill that goes on from what is filled is applied": Taken((NEW, HALF), (FULL,), Apply),
    "a fill that begins beyond what is filled asks for what is missing": Taken((NEW,), (FULL,), Resync),
    "an event of an unknown order asks for its opening event": Taken((), (MOVED,), Resync),
    "an order that ended at once is applied, and waits for its opening event": Taken((), (REJECTED,), Apply),
    "an event that is logged already is applied again": Taken((NEW, HALF), (HALF,), Apply),
}


@pytest.mark.parametrize("case", TAKEN)
def test_a_frame_is_applied_where_nothing_before_it_is_missing(case: str) -> None:
    told = TAKEN[case]
    catch_up, _ = following(*told.known)
    taken = catch_up.take(frame(*told.received), "a")
    assert isinstance(taken, told.becomes)
    assert catch_up.is_following is (told.becomes is Apply)


def test_what_must_wait_is_buffered_with_all_that_follows() -> None:
    catch_up, _ = following(NEW)
    assert take(catch_up, frame(FULL), frame(OTHER), frame(WALLET)) == ["Resync", "Hold", "Hold"]
    assert [one.event_id for one in catch_up.waiting_events()] == ["full", "other"]


def test_an_order_that_ended_at_once_waits_for_its_opening_event() -> None:
    catch_up, _ = following()
    taken = catch_up.take(frame(REJECTED), "a")
    assert isinstance(taken, Apply)
    assert [one.order for one in taken.incomplete] == [REJECTED.order]


def test_before_the_first_snapshot_everything_is_buffered() -> None:
    catch_up = CatchUp(new_account())
    assert take(catch_up, frame(NEW), frame(WALLET), frame(FULL)) == ["Hold", "Hold", "Hold"]


def test_a_frame_of_rows_counts_once_and_one_of_orders_whenever_it_is_received() -> None:
    catch_up, _ = following()
    assert isinstance(catch_up.take(frame(WALLET), "rows"), Apply)
    assert isinstance(catch_up.take(frame(WALLET), "rows"), Repeat)
    assert isinstance(catch_up.take(frame(NEW), "order"), Apply)
    assert isinstance(catch_up.take(frame(NEW), "order"), Apply)


def test_rows_that_were_thrown_away_for_want_of_room_count_when_they_are_received_again() -> None:
    catch_up = CatchUp(new_account(), max_rows=1)
    assert isinstance(catch_up.take(frame(WALLET), "rows"), Hold)
    assert isinstance(catch_up.take(frame(position(60, "0.5")), "others"), Resync)
    assert isinstance(catch_up.take(frame(WALLET), "rows"), Hold)


def test_order_events_that_there_is_no_room_for_are_an_entry_of_the_log() -> None:
    catch_up = CatchUp(new_account(), max_events=2)
    assert take(catch_up, frame(NEW), frame(WALLET), frame(HALF)) == ["Hold", "Hold", "Hold"]
    taken = catch_up.take(frame(FULL), "full")
    assert isinstance(taken, Resync)
    assert taken.lost is not None
    assert (taken.lost.event_id, taken.lost.order.venue_time_ms) == (f"GAP:{NOW}:OVERFLOW", NOW + 30)
    assert take(catch_up, frame(OTHER)) == ["Hold"]
    merged = merge_all(catch_up, snapshot(100), GapFill(0, 0))
    assert isinstance(merged, Merge)
    assert names(all_parts(catch_up)) == [taken.lost.event_id, "snapshot", "other"]


def test_rows_that_there_is_no_room_for_come_with_another_snapshot_and_no_order_event_is_dropped() -> None:
    catch_up = CatchUp(new_account(), max_rows=2)
    assert take(catch_up, frame(WALLET), frame(NEW), frame(WALLET)) == ["Hold", "Hold", "Hold"]
    assert catch_up.take(frame(WALLET), "w") == Resync("more than 2 frames waited for a snapshot")
    assert take(catch_up, frame(WALLET), frame(HALF)) == ["Hold", "Hold"], "there is room again"
    assert [one.event_id for one in catch_up.waiting_events()] == ["new", "half"]


# A gap


@dataclass(frozen=True)
class Begun:
    act: Callable[[CatchUp], None]
    left: list[str]


BEGUN: dict[str, Begun] = {
    "a new gap keeps what was received": Begun(CatchUp.begin_gap, ["half", "full", "snapshot", "balance"]),
    "a doubt before the first snapshot drops nothing": Begun(CatchUp.resync, ["snapshot", "half", "balance", "full"]),
    "what a former writer left comes first": Begun(
        lambda catch_up: catch_up.put_first([NEW.event]), ["new", "snapshot", "half", "balance", "full"]
    ),
}


@pytest.mark.parametrize("case", BEGUN)
def test_what_waits_is_merged_behind_the_gap(case: str) -> None:
    catch_up = CatchUp(new_account())
    take(catch_up, frame(HALF), frame(WALLET), frame(FULL))
    BEGUN[case].act(catch_up)
    merged = merge_all(catch_up, snapshot(100), GapFill(0, 0))
    assert isinstance(merged, Merge)
    assert names(all_parts(catch_up)) == BEGUN[case].left


# The end


@dataclass(frozen=True)
class Ended:
    known: tuple[Change, ...]
    waiting: tuple[OrderUpdate, ...]
    logged: list[str]


GONE = f"BTCUSDT:1001:GAP:{NOW + 20}"
ACTIVATED = event(5, "ALGO_NEW", event_id="algo-5:NEW", order_id="algo-5", algo_id="5")
TRIGGERED = event(10, "ALGO_TRIGGERED", "TRIGGERED", event_id="triggered", order_id="algo-5", algo_id="5")
FINISHED = event(20, "ALGO_FINISHED", "FINISHED", event_id="finished", order_id="algo-5", algo_id="5")
LIQUIDATED = fill(20, "0.050", event_id="liquidated")._replace(may_be_first=True)
LIQUIDATED = LIQUIDATED._replace(event=LIQUIDATED.event._replace(event_type="CALCULATED"))
LIQUIDATED_ON = LIQUIDATED._replace(event=LIQUIDATED.event._replace(last_qty=Decimal("0.010")))

ENDED: dict[str, Ended] = {
    "amendments of an order that the log has": Ended((NEW,), (MOVED,), ["moved"]),
    "an order from its opening on": Ended((), (NEW, HALF, MOVED, FULL), ["new", "half", "moved", "full"]),
    "an order of which a fill is missing, as no history has all of it": Ended((NEW,), (MOVED, FULL), [GONE]),
    "an order of which a fill is missing, as histories have all of it": Ended((NEW,), (FULL,), []),
    "an order whose opening is missing": Ended((), (MOVED, OTHER), ["other", GONE]),
    "an order that ended at once, without its opening": Ended((), (REJECTED,), []),
    "a conditional order that the log has": Ended((ACTIVATED,), (TRIGGERED, FINISHED), ["triggered", "finished"]),
    "a conditional order that was triggered": Ended((ACTIVATED, TRIGGERED), (FINISHED,), ["finished"]),
    "a conditional order that may have been placed in the gap": Ended((), (FINISHED,), []),
    "a liquidation from its first fill on": Ended((), (LIQUIDATED,), ["liquidated"]),
    "a liquidation whose first fill is missing": Ended((), (LIQUIDATED_ON,), []),
    "what the log has already": Ended((NEW, HALF), (HALF, FULL), ["half", "full"]),
}


def ending(*known: Change) -> CatchUp:
    """An account that has followed its stream until now, and must wait for a snapshot."""
    catch_up, _ = following(*known)
    catch_up.begin_gap()
    return catch_up


@pytest.mark.parametrize("case", ENDED)
def test_at_the_end_an_orders_events_are_logged_where_nothing_can_be_missing_before_them(case: str) -> None:
    told = ENDED[case]
    catch_up = ending(*told.known)
    take(catch_up, *(frame(one) for one in told.waiting))
    assert [one.event_id for one in catch_up.at_the_end()] == told.logged


def test_at_the_end_an_entry_for_what_was_dropped_stays_before_what_is_logged() -> None:
    account = new_account()
    account.apply((snapshot(), NEW), "rest")
    catch_up = CatchUp(account, max_events=1)
    take(catch_up, frame(MOVED), frame(MOVED), frame(FULL), frame(OTHER))
    assert [one.event_id for one in catch_up.at_the_end()] == [f"GAP:{NOW + 15}:OVERFLOW"]


def test_at_the_end_nothing_goes_on_from_a_log_that_misses_what_was_applied() -> None:
    """The account has applied an order's events that the log has lost, and the next publisher puts them in."""
    catch_up = ending(NEW, HALF)
    catch_up.put_first([HALF.event])
    take(catch_up, frame(MOVED), frame(OTHER))
    assert [one.event_id for one in catch_up.at_the_end()] == ["other", f"BTCUSDT:1001:GAP:{NOW + 10}"]


def test_at_the_end_of_a_stream_that_is_followed_nothing_waits() -> None:
    catch_up, _ = following(NEW)
    assert catch_up.at_the_end() == []


def gap(*history: OrderUpdate, until: int = 1_000, **filled: str) -> GapFill:
    return GapFill(
        NOW + until,
        NOW,
        updates=history,
        filled={OrderKey("BTCUSDT", key.removeprefix("o")): Decimal(qty) for key, qty in filled.items()},
    )


def merge(frames: Iterable[Frame], found: GapFill, listed: Snapshot | None = None) -> tuple[CatchUp, Merge | Missing]:
    catch_up = CatchUp(new_account())
    take(catch_up, *frames)
    return catch_up, merge_all(catch_up, listed or snapshot(100), found)


def test_the_gap_comes_first_then_the_snapshot_then_what_was_buffered() -> None:
    catch_up, merged = merge([frame(WALLET), frame(FULL)], gap(NEW, HALF, o1001="0.025"))
    assert isinstance(merged, Merge)
    assert names(all_parts(catch_up)) == ["new", "half", "snapshot", "balance", "full"]
    assert merged.incomplete == ()


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_what_waits_is_applied_in_parts_in_the_same_order(most: int) -> None:
    catch_up = CatchUp(new_account())
    take(catch_up, frame(OTHER))
    catch_up.begin_gap()
    take(catch_up, frame(WALLET), frame(HALF, POSITION), frame(FULL))
    late = event(40, "NEW", event_id="late", order_id="1003")
    found = gap(NEW, late, o1001="0")
    assert isinstance(merge_all(catch_up, snapshot(100), found), Merge)
    expected = ["new", "late", "other", "snapshot", "balance", "half", "position", "full"]
    assert names(all_parts(catch_up, most)) == expected


def in_parts(*frames: Frame, newer: Frame) -> tuple[CatchUp, Account, Apply | Resync]:
    """Of what waited all is applied, and one frame came meanwhile: what becomes of that."""
    account = new_account()
    catch_up = CatchUp(account)
    take(catch_up, *frames)
    assert isinstance(merge_all(catch_up, snapshot(100), gap()), Merge)
    part = catch_up.take_part(1)
    while True:
        assert isinstance(part, Apply)
        account.apply(part.changes, "rest")
        if not catch_up.waiting_events():
            break
        part = catch_up.take_part(1)
    assert take(catch_up, newer) == ["Hold"]
    assert not catch_up.is_following
    return catch_up, account, catch_up.take_part(100)


def test_what_is_received_meanwhile_is_applied_behind_it() -> None:
    catch_up, _, part = in_parts(frame(NEW), frame(HALF), newer=frame(FULL, WALLET))
    assert isinstance(part, Apply)
    assert (names(part.changes), catch_up.is_following) == (["full", "balance"], True)


def test_what_is_received_meanwhile_is_judged_as_ever() -> None:
    catch_up, _, part = in_parts(frame(NEW), newer=frame(FULL))
    assert part == Resync("events of order 1001 are missing before it was FILLED")
    assert [one.event_id for one in catch_up.waiting_events()] == ["full"], "it goes on waiting"


INTERRUPTIONS: dict[str, Callable[[CatchUp], object]] = {
    "a cut": CatchUp.begin_gap,
    "a doubt": CatchUp.resync,
    "another writer has left a gap": lambda catch_up: catch_up.put_first([]),
    "another merge": lambda catch_up: merge_all(catch_up, snapshot(100), gap()),
}


@pytest.mark.parametrize("applied", range(7))
@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_what_an_interrupted_merge_has_not_applied_goes_on_waiting_in_its_place(
    interruption: str, applied: int
) -> None:
    """The snapshot, and what the histories have said of orders, are in the account: the log must have it, too."""
    catch_up = CatchUp(new_account())
    take(catch_up, frame(MOVED_HALF), frame(WALLET))
    catch_up.begin_gap()
    take(catch_up, frame(FULL), frame(WALLET), frame(OTHER))
    cancelled = event(50, "CANCELED", "CANCELED", event_id="cancelled", order_id="1002")
    assert isinstance(merge_all(catch_up, snapshot(100), gap(NEW, HALF, OTHER, cancelled, o1001="0.025")), Merge)
    every = ["new", "half", "moved", "full", "other", "cancelled"]
    seen = [one for _ in range(applied) for one in names(catch_up.take_part(1).changes)]  # type: ignore[union-attr]
    if catch_up.is_following:
        assert [one for one in seen if one in every] == every
        return
    take(catch_up, frame(event(60, "NEW", event_id="newer", order_id="1003")))
    INTERRUPTIONS[interruption](catch_up)
    left = [one.event_id for one in catch_up.waiting_events()]
    assert [one for one in seen if one in every] + left == [*every, "newer"]


def test_at_the_end_in_the_middle_of_a_merge_nothing_is_logged_before_what_comes_before_it() -> None:
    catch_up = CatchUp(account := new_account())
    take(catch_up, frame(NEW), frame(FULL))
    listed = snapshot(100, orders=[rest_order(30, "PARTIALLY_FILLED", executed_qty=Decimal("0.025"))])
    assert isinstance(merge_all(catch_up, listed, gap(HALF, o1001="0.025")), Merge)
    part = catch_up.take_part(2)
    assert isinstance(part, Apply)
    account.apply(part.changes, "rest")
    assert names(part.changes) == ["snapshot", "new"]
    assert [one.event_id for one in catch_up.at_the_end()] == ["half", "full"]


@pytest.mark.parametrize("cuts", [1, 2])
def test_an_intermediate_event_behind_what_the_log_has_of_its_order_is_an_entry_however_long_it_waits(
    cuts: int,
) -> None:
    catch_up, _ = following(NEW, FULL._replace(may_be_first=True))
    for _ in range(cuts):
        catch_up.begin_gap()
        take(catch_up, frame(MOVED))
    assert [one.event_id for one in catch_up.at_the_end()] == [gaps.of_unlogged([MOVED.event]).event_id]


def test_what_is_missing_behind_a_merge_may_be_late_again() -> None:
    """The histories are asked for it for as long as REST may be behind, however long the merge has taken."""
    catch_up = CatchUp(account := new_account())
    take(catch_up, frame(HALF))
    assert isinstance(merge_all(catch_up, snapshot(100), gap(until=1_000)), Missing)
    assert isinstance(merge_all(catch_up, snapshot(100), gap(NEW, until=2_000, o1001="0")), Merge)
    while catch_up.waiting_events():
        part = catch_up.take_part(1)
        assert isinstance(part, Apply)
        account.apply(part.changes, "rest")
    later = fill(40, "0.050", event_id="later", last_qty=Decimal("0.010"))
    take(catch_up, frame(later))
    assert isinstance(catch_up.take_part(1), Resync)
    assert isinstance(merge_all(catch_up, snapshot(100), gap(until=12_000)), Missing)


def test_what_comes_before_an_event_that_only_an_entry_stands_for_is_logged_there_all_the_same() -> None:
    placed = event(40, "NEW", event_id="new")  # The venue's clock was set back since.
    catch_up = CatchUp(new_account())
    take(catch_up, frame(placed), frame(MOVED_HALF), frame(FULL))
    catch_up.begin_gap()
    merged = merge_all(catch_up, snapshot(100), gap(placed, HALF, FULL, o1001="0.050"))
    assert isinstance(merged, Merge)
    assert names(all_parts(catch_up)) == [
        "new",
        "half",
        gaps.of_unlogged([MOVED_HALF.event]).event_id,
        "full",
        "snapshot",
    ]


def test_a_buffered_fill_that_begins_beyond_the_histories_is_missing_something() -> None:
    catch_up, merged = merge([frame(WALLET), frame(FULL)], gap(NEW, o1001="0"))
    assert isinstance(merged, Missing)
    assert [one.order_id for one in merged.orders] == ["1001"]
    assert [one.event_id for one in catch_up.waiting_events()] == ["full"], "it goes on waiting"
    again = merge_all(catch_up, snapshot(100), gap(NEW, HALF, o1001="0.025"))
    assert isinstance(again, Merge)
    assert names(all_parts(catch_up)) == ["new", "half", "snapshot", "balance", "full"], (
        "the later snapshot may be behind"
    )
    assert again.incomplete == (), "the histories have explained it"


def test_an_order_that_the_histories_never_explain_stays_incomplete_once_they_are_not_so_late() -> None:
    """Until then what was received waits: logged before what is missing, it would be out of its order."""
    catch_up, _ = merge([frame(FULL)], gap(NEW, o1001="0"))
    for until in (3_000, 11_000):
        again = merge_all(catch_up, snapshot(100), gap(NEW, o1001="0", until=until))
        assert isinstance(again, Missing)
        assert [one.event_id for one in catch_up.waiting_events()] == ["full"]
    again = merge_all(catch_up, snapshot(100), gap(NEW, o1001="0", until=11_001))
    assert isinstance(again, Merge)
    assert [one.order.key for one in again.incomplete] == [FULL.order.key]


def test_an_order_that_the_snapshot_has_beyond_the_log_waits_for_the_stream() -> None:
    listed = snapshot(100, orders=[rest_order(2_000)])
    _, merged = merge([], gap(until=1_000), listed)
    assert isinstance(merged, Merge)
    assert [one.order.key for one in merged.incomplete] == [OrderKey("BTCUSDT", "1001")]


def test_without_histories_nothing_is_missing() -> None:
    _, merged = merge([frame(FULL)], GapFill(NOW, NOW))
    assert isinstance(merged, Merge)


def test_orders_of_two_symbols_with_one_id_are_two_orders() -> None:
    twin = fill(30, "0.050", event_id="twin", symbol="ETHUSDT", last_qty=Decimal("0.025"))
    _, merged = merge([frame(FULL), frame(twin)], gap(NEW, HALF, o1001="0.025"))
    assert isinstance(merged, Missing)
    assert [one.key for one in merged.orders] == [OrderKey("ETHUSDT", "1001")]


# How history and stream are merged


def ids(updates: Iterable[Change]) -> list[str]:
    return names(updates)


def planned(history: list[OrderUpdate], stream: list[OrderUpdate]) -> list[str]:
    plan = merge_with_stream(GapFill(0, 0, updates=tuple(history)), [update.event for update in stream])
    found = ids(plan.first)
    for update in stream:
        found += [*ids(plan.before.get(update.event.event_id, [])), update.event.event_id]
    return found + ids(plan.last)


LIQUIDATED = event(
    10,
    "CALCULATED",
    "FILLED",
    event_id=f"BTCUSDT:1001:CALCULATED:{NOW + 10}:0.05",
    executed_qty=Decimal("0.05"),
)

AT_ONCE = [event(10, "NEW", event_id="new"), HALF, fill(10, "0.050", event_id="full")]

MERGES: dict[str, tuple[list[OrderUpdate], list[OrderUpdate], list[str]]] = {
    "a history alone": ([NEW, HALF, OTHER], [], ["new", "half", "other"]),
    "a stream alone": ([], [NEW, HALF], ["new", "half"]),
    "the end from the stream": ([NEW, HALF, FULL], [FULL], ["new", "half", "full"]),
    "an amendment that the history does not have": (
        [NEW, HALF, FULL],
        [MOVED_HALF, FULL],
        ["new", "half", "moved", "full"],
    ),
    "an amendment of the moment in which its order ended": (
        [NEW, event(20, "CANCELED", "CANCELED", event_id="canceled")],
        [MOVED],
        ["new", "moved", "canceled"],
    ),
    "one frame in the middle was lost": ([NEW, HALF, FULL], [NEW, MOVED_HALF, FULL], ["new", "half", "moved", "full"]),
    "the venue's clock was set back": (
        [event(40, "NEW", event_id="new"), fill(45, "0.025", event_id="half"), FULL],
        [FULL],
        ["new", "half", "full"],
    ),
    "the frame of the end is not there yet": ([NEW, HALF, FULL], [NEW, HALF], ["new", "half", "full"]),
    "an opening event that was missed and is received late": (
        [NEW, HALF, FULL],
        [HALF, FULL, NEW],
        ["new", "half", "full", "new"],
    ),
    "an opening event of the same moment that was missed and is received late": (
        AT_ONCE,
        [HALF, AT_ONCE[0], AT_ONCE[2]],
        ["new", "half", "new", "full"],
    ),
    "a fill of the same moment that was missed and is received late": (
        AT_ONCE,
        [AT_ONCE[2], HALF],
        ["new", "half", "full", "half"],
    ),
    "a fill of the moment of its order's end that was missed and is received late": (
        [NEW, HALF, CUT_OFF],
        [CUT_OFF, HALF],
        ["new", "half", "cut off", "half"],
    ),
    "a liquidation's fill whose trade has no number on the stream": (
        [LIQUIDATED._replace(event=LIQUIDATED.event._replace(event_id="numbered"))],
        [LIQUIDATED],
        [LIQUIDATED.event.event_id],
    ),
    "another order is in nobody's way": ([NEW, OTHER], [FULL], ["new", "other", "full"]),
}


@pytest.mark.parametrize("case", MERGES)
def test_history_and_stream_are_merged_in_each_orders_order(case: str) -> None:
    history, stream, expected = MERGES[case]
    assert planned(history, stream) == expected


def test_for_an_intermediate_event_that_is_received_late_there_is_an_entry() -> None:
    stream = [HALF, FULL, MOVED, NEW, OTHER, MOVED]
    events = [update.event for update in stream]
    entry = gaps.of_unlogged([MOVED.event])
    kept = list(with_entries_for_late_events(events, lambda event_id: False))
    assert kept == [HALF.event, FULL.event, entry, NEW.event, OTHER.event], "once"
    kept = list(with_entries_for_late_events(events, {MOVED.event.event_id}.__contains__))
    assert kept == [HALF.event, FULL.event, NEW.event, OTHER.event], "it is in the log"


def test_for_an_intermediate_event_behind_an_end_that_the_log_has_there_is_an_entry() -> None:
    amended, left_open, entry = MOVED.event, order(0), gaps.of_unlogged([MOVED.event])
    placed_again = NEW.event._replace(event_type="ALGO_NEW")
    behind = with_entries_for_events_behind_ends
    assert behind([amended], [left_open], frozenset()) == [amended]
    assert behind([amended], [left_open], {left_open.key}) == [entry], "the hashes may be older"
    assert behind([amended], [], frozenset()) == [entry], "it is open no more"
    assert behind([NEW.event, amended], [], frozenset()) == [NEW.event, amended]
    assert behind([placed_again], [], frozenset()) == [placed_again], "its opening"
