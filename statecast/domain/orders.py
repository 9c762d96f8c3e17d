"""An order's life as two tables, in the contract's words; every venue maps its own words onto them.

                    ┌──────────────── fills, amendments ─┐
    opening ─────▶ open ──────────────────────────────────┴─▶ over      ordinary: filled, cancelled, expired, rejected
                    └─ conditional ─▶ triggered ────────────▶ over      its ordinary order lives a life of its own

An order is *over* when it does not stand among the open orders any more, and *final* when nothing happens to it any
more: a conditional order that was triggered is the one and not yet the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

from statecast.domain.models import Order

Phase = Literal["open", "triggered", "over"]
Role = Literal["opening", "may be first", "intermediate", "fill", "end", "immediate end"]

LOST = ""
"""The status of an order of which nobody knows what became of it: in entries of type GAP, and in those of fills of
orders that the venue does not show."""

ORDINARY: Mapping[str, Phase] = {
    "NEW": "open",
    "PARTIALLY_FILLED": "open",
    "FILLED": "over",
    "CANCELED": "over",
    "EXPIRED": "over",
    "EXPIRED_IN_MATCH": "over",
    "REJECTED": "over",
    LOST: "over",
}
"""By status. A word that is not here says nothing of that: see `Order.ended`."""

CONDITIONAL: Mapping[str, Phase] = {
    "NEW": "open",
    "TRIGGERING": "open",
    "TRIGGERED": "triggered",
    "FINISHED": "over",
    "CANCELED": "over",
    "EXPIRED": "over",
    "REJECTED": "over",
    LOST: "over",
}
"""By status of an order whose `algo_id` is set. From `TRIGGERED` on, the order that the trigger created stands among
the ordinary ones."""

EVENTS: Mapping[str, frozenset[Role]] = {
    "NEW": frozenset({"opening", "may be first"}),
    "TRADE": frozenset({"fill"}),
    "CALCULATED": frozenset({"fill", "may be first"}),  # a liquidation begins with its fill
    "AMENDMENT": frozenset({"intermediate"}),
    "CANCELED": frozenset({"end"}),
    "EXPIRED": frozenset({"end", "immediate end"}),
    "REJECTED": frozenset({"end", "immediate end"}),
    "ALGO_NEW": frozenset({"opening", "may be first", "intermediate"}),  # once more when a trailing stop is activated
    "ALGO_TRIGGERING": frozenset({"intermediate"}),
    "ALGO_TRIGGERED": frozenset({"intermediate"}),
    "ALGO_FINISHED": frozenset({"end", "may be first"}),  # long after it has left the open orders
    "ALGO_CANCELED": frozenset({"end"}),
    "ALGO_EXPIRED": frozenset({"end", "immediate end"}),
    "ALGO_REJECTED": frozenset({"end", "immediate end"}),
    "GAP": frozenset(),
}
"""By `eventType`.

`opening`: the order's first. `may be first`: nothing of the order has to come before it. `intermediate`: no history has
it, or not always. `end`: nothing comes after it but what was late. `immediate end`: the order may have had no other.
"""


def _events(role: Role) -> frozenset[str]:
    return frozenset(event_type for event_type, roles in EVENTS.items() if role in roles)


OPENING_EVENTS = _events("opening")
FIRST_EVENTS = _events("may be first")
INTERMEDIATE_EVENTS = _events("intermediate")
FILL_EVENTS = _events("fill")
END_EVENTS = _events("end")
HISTORY_EVENTS = OPENING_EVENTS | END_EVENTS
"""Every history has them, and the fills."""
IMMEDIATE_ENDS = _events("immediate end")

OPEN_CONDITIONAL_STATUSES = frozenset(status for status, phase in CONDITIONAL.items() if phase == "open")
FINAL_CONDITIONAL_STATUSES = frozenset(status for status, phase in CONDITIONAL.items() if phase == "over") - {LOST}
CONDITIONAL_STATUSES = frozenset(CONDITIONAL) - {LOST}

ENDED_BY: Mapping[str, str] = {
    "CANCELED": "CANCELED",
    "EXPIRED": "EXPIRED",
    "EXPIRED_IN_MATCH": "EXPIRED",
    "REJECTED": "REJECTED",
}
"""The type of the event that ended an ordinary order, by the status that it left. `FILLED` is left by a fill."""


def phase(order: Order) -> Phase:
    """Where an order stands in its life. One with a status that nobody named is open until it is known to be over."""
    return _phases(order).get(order.status) or ("over" if order.ended else "open")


def is_understood(order: Order) -> bool:
    """Whether it is known if the order is over: by its status, or in spite of it."""
    return order.ended or order.status in _phases(order)


def ended_by(order: Order) -> str | None:
    """The type of the event that ended an ordinary order; None where it is not over, or a fill ended it. A status that
    nobody named is the type as well."""
    if order.status in ENDED_BY:
        return ENDED_BY[order.status]
    is_named = order.status in ORDINARY
    return order.status if order.ended and not is_named and order.executed_qty != order.quantity else None


def _phases(order: Order) -> Mapping[str, Phase]:
    return ORDINARY if order.algo_id is None else CONDITIONAL


def is_over(order: Order) -> bool:
    """Whether an order is not among the open ones any more."""
    return phase(order) != "open"


def is_final(order: Order) -> bool:
    """Whether nothing happens to an order any more: a conditional one that was triggered has still to be finished."""
    return phase(order) == "over"


def filled_of(order: Order) -> Decimal:
    """What is filled of an ordinary order. A conditional one has the fills of the order that it created, which has
    events of its own."""
    return Decimal(0) if order.algo_id is not None else order.executed_qty or Decimal(0)
