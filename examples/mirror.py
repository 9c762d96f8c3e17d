"""A bot that reads all the time, from a copy of the account in its own process that Redis keeps current.

A read takes about a microsecond and never waits. When the copy is cut off from Redis, it becomes stale by itself.
`changed` waits until something changes: while the publisher is down, this bot prints nothing.

    STATECAST_REDIS_URL=redis://127.0.0.1:PORT STATECAST_ACCOUNT=demo python examples/mirror.py
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from consumers import AccountMirror, Position, StaleState, StoreUnreachable


def show_position(before: Position | None, after: Position | None) -> None:
    """Print a position that was opened, closed, or has another size."""
    row = after or before
    assert row is not None
    was, now = (0 if known is None else known.position_amt for known in (before, after))
    if was != now:
        print(f"{row.symbol} {row.position_side} {was} → {now}", flush=True)


async def watch() -> None:
    async with AccountMirror.from_env() as mirror:
        mirror.on_position(show_position)
        seq = 0
        while True:
            try:
                totals = mirror.totals()
                print(f"unrealised profit {totals.total_unrealized_profit:.2f}, seq {totals.seq}", flush=True)
            except StaleState as reason:
                print(f"does nothing: {reason}", flush=True)
                await asyncio.sleep(1)
                continue
            seq = await mirror.changed("totals", since=max(seq, totals.seq))
            await asyncio.sleep(0.5)  # at most two lines a second


async def main() -> None:
    while True:
        try:
            await watch()
        except StoreUnreachable as reason:  # only at the start: later, the mirror waits for Redis by itself
            print(f"does nothing: {reason}", flush=True)
            await asyncio.sleep(1)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
