"""The table of states: whatever a service can do in a state is in it; what it cannot do is an error that says so."""

from __future__ import annotations

from typing import get_args

import pytest

from publisher.lifecycle import MOVES, IllegalMoveError, Move, State, after

RUNNING = ("starting", "live", "recovering", "refused")


@pytest.mark.parametrize("move", get_args(Move))
@pytest.mark.parametrize("state", RUNNING)
def test_a_running_service_can_make_every_move(state: State, move: Move) -> None:
    assert after(state, move) in get_args(State)


@pytest.mark.parametrize("move", get_args(Move))
def test_a_stopped_service_makes_no_move_and_the_error_names_both(move: Move) -> None:
    with pytest.raises(IllegalMoveError, match=f"'{move}'.*'stopped'"):
        after("stopped", move)


@pytest.mark.parametrize("state", RUNNING)
def test_reconciled_alone_leads_to_live_and_stop_always_to_stopped(state: State) -> None:
    assert after(state, "reconciled") == "live"
    assert after(state, "stop") == "stopped"
    assert {move for move in get_args(Move) if after(state, move) == "live"} == {"reconciled"}


def test_degrading_takes_live_away_and_hides_neither_a_start_nor_a_refusal() -> None:
    assert [after(state, "degrade") for state in RUNNING] == ["starting", "recovering", "recovering", "refused"]


def test_the_table_has_no_state_and_no_move_that_readers_are_not_told_of() -> None:
    assert {state for state, _ in MOVES} | set(MOVES.values()) == set(get_args(State))
    assert {move for _, move in MOVES} == set(get_args(Move))
