"""The library that traders import: reads an account's state, never writes it.

    AccountReader   reads when it is asked; refreshes by REST, with all other readers, what is too old
    AccountMirror   a copy in the process that keeps itself current
    OrderEvents     order events through a consumer group

`consumers.blocking` has the same for code that is not async, `consumers.nofx` for users of the NOFX bot.
"""

from __future__ import annotations

from consumers.account import AccountReader
from consumers.config import credentials
from consumers.mirror import AccountMirror, Rejoin
from consumers.models import AccountSnapshot, Balance, Freshness, Order, OrderRows, Position, Rows, Totals
from consumers.order_events import Gap, OrderEvent, OrderEvents
from statecast.errors import (
    ConfigError,
    ContractMismatch,
    NeverPublished,
    StaleState,
    StatecastError,
    StoreAuthFailed,
    StoreError,
    StoreRefused,
    StoreUnreachable,
)

__all__ = [
    "AccountMirror",
    "AccountReader",
    "AccountSnapshot",
    "Balance",
    "ConfigError",
    "ContractMismatch",
    "Freshness",
    "Gap",
    "NeverPublished",
    "Order",
    "OrderEvent",
    "OrderEvents",
    "OrderRows",
    "Position",
    "Rejoin",
    "Rows",
    "StaleState",
    "StatecastError",
    "StoreAuthFailed",
    "StoreError",
    "StoreRefused",
    "StoreUnreachable",
    "Totals",
    "credentials",
]
