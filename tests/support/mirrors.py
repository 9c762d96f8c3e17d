"""An account that a desk publishes, and what a mirror of it says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from support.changes import event, mark, position, rest_balance, rest_order, rest_position, snapshot, wallet
from support.link import Link
from support.written import Desk, eventually

from consumers.mirror import AccountMirror, Rejoin
from consumers.models import AccountSnapshot
from consumers.tables import of_publisher
from statecast.domain.changes import Change
from statecast.errors import ContractMismatch, StaleState
from statecast.store.client import Client
from statecast.store.keys import AccountId
from statecast.store.reader import read_account

DEADLINE_S = 40.0

FRAMES: Sequence[Sequence[Change]] = [
    [position(10, "0.6"), wallet(10, "990")],
    [event(10, "X", "CANCELED")],
    [event(20, "NEW", order_id="1002"), position(20, "-1", symbol="ETHUSDT")],
    [mark(30, "104.5")],
    [position(40, "0")],
    [event(50, "X", "CANCELED", order_id="77")],
    [snapshot(60, balances=[rest_balance(55, "5", "BNB")])],
]


async def published(client: Client, account_id: AccountId, name: str = "publisher-1") -> Desk:
    desk = Desk(client, account_id, name, lease_ttl_ms=120_000)
    assert await desk.open() is None
    await desk.commit(
        [snapshot(positions=[rest_position(-9, "0.5")], orders=[rest_order(-9)], balances=[rest_balance(-9, "1000")])],
        verified=True,
    )
    await desk.beat()
    return desk


class JumpingClock:
    """Stands still until it is calls to jump; sleeps for real, so that others can work."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now_ms(self) -> int:
        raise AssertionError("a mirror has no use for this machine's time of day")

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))


async def follows(mirror: AccountMirror, desk: Desk) -> AccountSnapshot:
    """Wait until the mirror has all that the desk has written; what it says then."""
    await eventually(lambda: has_reached(mirror, desk.writer.seq))
    return mirror.snapshot()


async def has_reached(mirror: AccountMirror, seq: int) -> bool:
    with suppress(StaleState, ContractMismatch):
        return mirror.snapshot().seq == seq
    return False


async def has_received(mirror: AccountMirror, state: str) -> bool:
    with suppress(StaleState):
        return mirror.totals().freshness.state == state
    return False


async def expect_as_stored(mirror: AccountMirror, client: Client, desk: Desk) -> None:
    """The mirror says what a reader would read, value for value, with the same seq and sources."""
    await follows(mirror, desk)
    stored = await read_account(client, mirror.account_id)
    await eventually(lambda: has_received(mirror, stored.status["state"]))  # within a second, for no commit tells it
    mine = mirror.snapshot()
    assert stored.age_ms is not None
    theirs = of_publisher(stored, "", stored.age_ms).snapshot()
    assert mine == theirs
    assert (mine.seq, mine.source, mine.freshness.epoch, mine.freshness.state) == (
        theirs.seq,
        theirs.source,
        theirs.freshness.epoch,
        theirs.freshness.state,
    )
    for name in ("account", "balances", "positions", "orders"):
        of_one = await read_account(client, mirror.account_id, (name,))
        source = of_publisher(of_one, "", 0).freshness.source
        reads: dict[str, Callable[[], Any]] = {
            "account": mirror.totals,
            "balances": mirror.balances,
            "positions": mirror.positions,
            "orders": mirror.open_orders,
        }
        assert reads[name]().source == source


async def refuses(mirror: AccountMirror, why: str) -> StaleState:
    """Wait until reads raise StaleState for this reason."""
    found: list[StaleState] = []

    async def refused() -> bool:
        try:
            mirror.totals()
        except StaleState as error:
            found[:] = [error]
            return why in str(error)
        return False

    await eventually(refused)
    return found[0]


async def is_younger(mirror: AccountMirror, age_s: float) -> bool:
    with suppress(StaleState):
        return mirror.totals(max_age_s=age_s).age_s <= age_s
    return False


async def cut_off(proxy: Link) -> None:
    """From now on nothing reaches Redis. A question that waits there already is answered first."""
    proxy.fate = lambda request: "lose request"
    await until(lambda: "lose request" in proxy.fates)


async def expect_rejoined(mirror: AccountMirror, client: Client, desk: Desk, reason: str) -> Rejoin:
    await until(lambda: len(mirror.rejoins) > 0)
    await expect_as_stored(mirror, client, desk)
    (rejoin,) = mirror.rejoins
    assert reason in rejoin.reason
    return rejoin


async def until(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await eventually(holds)


async def stays_waiting(waiting: Awaitable[int]) -> bool:
    """Whether it waits still after everything that was written has arrived."""
    task = asyncio.ensure_future(waiting)
    done, _ = await asyncio.wait({task}, timeout=0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return not done
