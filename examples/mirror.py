"""A bot that reads all the time: a copy of the account in the process, kept current by Redis.

A read takes about a microsecond and waits for nothing. When the copy is cut off, it becomes too old by itself.

    STATECAST_REDIS_URL=redis://127.0.0.1:PORT STATECAST_ACCOUNT=demo python examples/mirror.py
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from consumers import AccountMirror, Position, StaleState, StoreUnreachable


def told(before: Position | None, after: Position | None) -> None:
    """A position was opened, closed, or has another size."""
    row = after or before
    assert row is not None
    was, now = (0 if known is None else known.position_amt for known in (before, after))
    if was != now:
        print(f"{row.symbol} {row.position_side} {was} → {now}", flush=True)


async def watch() -> None:
    async with AccountMirror.from_env() as mirror:
        mirror.on_position(told)
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
            await asyncio.sleep(0.5)  # not every tick is worth a line


async def main() -> None:
    while True:
        try:
            await watch()
        except StoreUnreachable as reason:  # at the start alone: later, the mirror waits for Redis by itself
            print(f"does nothing: {reason}", flush=True)
            await asyncio.sleep(1)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
