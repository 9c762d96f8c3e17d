"""A bot that processes every order event, each order's events in order. Events that were not acknowledged are delivered
again after a crash.

Start it twice: one process works, the other waits and takes over when the first one ends.

    STATECAST_REDIS_URL=redis://127.0.0.1:PORT STATECAST_ACCOUNT=demo python examples/worker.py
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import suppress
from decimal import Decimal

from consumers import Gap, OrderEvent, OrderEvents

GROUP = "example-worker"

fees: defaultdict[str, Decimal] = defaultdict(Decimal)
handled: set[str] = set()
"""Ids of the events that are in `fees`. To keep both after a restart, store them in a database, in one transaction."""


def book(event: OrderEvent) -> None:
    """Book the fee of a fill. An event can come twice, so check its id. If this raises, it is delivered again."""
    if event.event_id in handled:
        return
    handled.add(event.event_id)
    if event.commission and event.commission_asset:
        fees[event.commission_asset] += event.commission
    paid = ", ".join(f"{amount:.4f} {asset}" for asset, amount in fees.items())
    print(f"#{event.event_seq} {event.symbol} {event.event_type} {event.status}; fees {paid or 'none'}", flush=True)


def missed(gap: Gap) -> None:
    """Events are missing in the log: a real bot asks the venue what happened."""
    print(f"GAP: {gap.reason}", flush=True)


async def main() -> None:
    async with OrderEvents.from_env(group=GROUP, start="beginning", on_gap=missed) as events:
        await events.run(book)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
