"""A bot that misses nothing: every order event, in order per order, again after a crash until it is acknowledged.

Start it twice: one works, the other stands by and takes over when the first one is gone.

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
"""Ids of the events that are in `fees`; what must survive a restart belongs into a database, in one transaction."""


def book(event: OrderEvent) -> None:
    """Book the fee of a fill. A delivery may come twice, hence the look at its id; an exception means: again, later."""
    if event.event_id in handled:
        return
    handled.add(event.event_id)
    if event.commission and event.commission_asset:
        fees[event.commission_asset] += event.commission
    paid = ", ".join(f"{amount:.4f} {asset}" for asset, amount in fees.items())
    print(f"#{event.event_seq} {event.symbol} {event.event_type} {event.status}; fees {paid or 'none'}", flush=True)


def missed(gap: Gap) -> None:
    """What the log does not hold any more must be asked for at the venue."""
    print(f"GAP: {gap.reason}", flush=True)


async def main() -> None:
    async with OrderEvents.from_env(group=GROUP, start="beginning", on_gap=missed) as events:
        await events.run(book)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
