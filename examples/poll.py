"""A bot that reads the account before each decision, and does nothing while the state is too old or unknown.

Start `statecast demo`; it prints the URL of its Redis. Then, in another terminal:

    STATECAST_REDIS_URL=redis://127.0.0.1:PORT STATECAST_ACCOUNT=demo python examples/poll.py
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from decimal import Decimal

from consumers import AccountReader, StaleState, StoreError

MOST_MARGIN = Decimal("0.5")
"""If more than this share of the wallet is used as margin, the bot would open no position."""


async def main() -> None:
    async with AccountReader.from_env() as reader:
        while True:
            try:
                account = await reader.snapshot()
            except (StaleState, StoreError) as reason:
                print(f"does nothing: {reason}", flush=True)
            else:
                totals = account.totals
                wallet = totals.total_wallet_balance
                margin = totals.total_initial_margin
                if wallet is None or margin is None:
                    print("does nothing: the venue gives no totals", flush=True)
                    await asyncio.sleep(1)
                    continue
                used = margin / wallet if wallet else Decimal(1)
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
