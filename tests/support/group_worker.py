"""A consumer of a group, to be killed: `python group_worker.py URL ACCOUNT GROUP PARTITIONS LEASE_S`.

It writes each event that it has handled to the list `handled:<ACCOUNT>:<GROUP>` before it acknowledges it. Events of
the client order id `poison` fail as long as the key `cured:<ACCOUNT>` does not exist.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from redis.asyncio import Redis

from consumers.order_events import OrderEvent, OrderEvents


async def main(url: str, account: str, group: str, partitions: str, lease_s: str) -> None:
    async with (
        Redis.from_url(url, decode_responses=True) as redis,
        OrderEvents(
            account,
            url,
            group,
            partitions=int(partitions),
            lease_s=float(lease_s),
            start="beginning",
            max_attempts=3,
            backoff_s=0.01,
        ) as events,
    ):

        async def handle(event: OrderEvent) -> None:
            if event.client_order_id == "poison" and not await redis.exists(f"cured:{account}"):
                raise ValueError("cannot be handled")
            row = f"{event.event_seq} {event.order_id} {event.attempt} {events.consumer}"
            await redis.rpush(f"handled:{account}:{group}", row)

        await events.run(handle)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
