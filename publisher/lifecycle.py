"""What a reader is told about the state, and which moves there are. Pure.

starting ──reconciled──► live ◄──reconciled── recovering
    │                     └───────doubt──────────▲
    └──refused──► refused ──reconciled──► live;   every state ──stop──► stopped
"""

from __future__ import annotations

from typing import Literal

State = Literal["starting", "live", "recovering", "refused", "stopped"]
Move = Literal["reconciled", "doubt", "refused", "stop"]

MOVES: dict[tuple[State, Move], State] = {
    ("starting", "reconciled"): "live",
    ("starting", "doubt"): "starting",
    ("starting", "refused"): "refused",
    ("starting", "stop"): "stopped",
    ("live", "reconciled"): "live",
    ("live", "doubt"): "recovering",
    ("live", "refused"): "refused",
    ("live", "stop"): "stopped",
    ("recovering", "reconciled"): "live",
    ("recovering", "doubt"): "recovering",
    ("recovering", "refused"): "refused",
    ("recovering", "stop"): "stopped",
    ("refused", "reconciled"): "live",
    ("refused", "doubt"): "refused",
    ("refused", "refused"): "refused",
    ("refused", "stop"): "stopped",
}


class IllegalMoveError(Exception):
    """A move that the table does not have: our own mistake."""


def after(state: State, move: Move) -> State:
    """The state that `move` leads to."""
    try:
        return MOVES[state, move]
    except KeyError:
        raise IllegalMoveError(f"no move {move!r} from state {state!r}") from None
