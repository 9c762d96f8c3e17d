"""The states that readers see, and the moves between them. Pure.

starting ──reconciled──► live ◄──reconciled── recovering
    │                     └──────degrade─────────▲
    └──refused──► refused ──reconciled──► live;   every state ──stop──► stopped
"""

from __future__ import annotations

from typing import Literal

State = Literal["starting", "live", "recovering", "refused", "stopped"]
Move = Literal["reconciled", "degrade", "refused", "stop"]

MOVES: dict[tuple[State, Move], State] = {
    ("starting", "reconciled"): "live",
    ("starting", "degrade"): "starting",
    ("starting", "refused"): "refused",
    ("starting", "stop"): "stopped",
    ("live", "reconciled"): "live",
    ("live", "degrade"): "recovering",
    ("live", "refused"): "refused",
    ("live", "stop"): "stopped",
    ("recovering", "reconciled"): "live",
    ("recovering", "degrade"): "recovering",
    ("recovering", "refused"): "refused",
    ("recovering", "stop"): "stopped",
    ("refused", "reconciled"): "live",
    ("refused", "degrade"): "refused",
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
