"""A bot that asks before it acts: one read of Redis for each decision, and none of it on a number that is too old.

statecast demo                                          prints the URL of its Redis; then, in another terminal:
STATECAST_REDIS_URL=redis://127.0.0.1:PORT STATECAST_ACCOUNT=demo python examples/poll.py
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from decimal import Decimal

from consumers import AccountReader, StaleState, StoreUnreachable

MOST_MARGIN = Decimal("0.5")
"""Above this share of the wallet as margin, the bot would open nothing more."""


async def main() -> None:
    async with AccountReader.from_env() as reader:
        while True:
            try:
                account = await reader.snapshot()
            except (StaleState, StoreUnreachable) as reason:
                print(f"does nothing: {reason}", flush=True)
            else:
                totals = account.totals
                wallet = totals.total_wallet_balance
                used = totals.total_initial_margin / wallet if wallet else Decimal(1)
                verdict = "may open" if used < MOST_MARGIN else "opens nothing"
                exposure = sum((abs(position.notional or 0) for position in account.positions), Decimal(0))
                print(
                    f"{verdict}: margin {used:.1%} of {wallet:.2f}, {len(account.positions)} "
                    f"positions worth {exposure:.2f}, seq {account.seq}, verified {account.age_s:.1f} s ago",
                    flush=True,
                )
            await asyncio.sleep(1)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
