"""The story of an account: changes, one frame after the other, and what each commit of it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from support.changes import (
    NOW,
    D,
    new_account,
    snapshot,
)

from statecast.domain.account import Account, Delta
from statecast.domain.catch_up import CatchUp, GapFill, Merge, Missing
from statecast.domain.changes import Change, Snapshot
from statecast.domain.models import Balance, Order, OrderKey, Position, PositionKey, Source

Frame = Sequence[Change]
BOTH = PositionKey("BTCUSDT", "BOTH")
LONG = PositionKey("BTCUSDT", "LONG")
SHORT = PositionKey("BTCUSDT", "SHORT")


def btc(*order_ids: str) -> list[OrderKey]:
    """Orders of BTCUSDT, as these stories have them."""
    return [OrderKey("BTCUSDT", order_id) for order_id in order_ids]


def source_of(change: Change) -> Source:
    match type(change).__name__:
        case "Snapshot" | "Check":
            return "rest"
        case "MarkPriceUpdate":
            return "derived"
        case _:
            return "stream"


class Story:
    """An account, and what every commit of it was."""

    def __init__(self, *frames: Frame, account: Account | None = None) -> None:
        self.account = account or new_account()
        self.deltas: list[Delta] = []
        for frame in frames:
            self.apply(*frame)

    def apply(self, *changes: Change) -> Delta:
        delta = self.account.apply(changes, source_of(changes[0]))
        self.deltas.append(delta)
        return delta

    @property
    def event_ids(self) -> list[str]:
        return [told.event_id for delta in self.deltas for told in delta.events]

    def balance(self, asset: str = "USDT") -> Balance:
        return self.account.balances[asset]

    def position(self, key: PositionKey = BOTH) -> Position:
        return self.account.positions[key]

    def order(self, order_id: str = "1001", symbol: str = "BTCUSDT") -> Order:
        return self.account.orders[OrderKey(symbol, order_id)]


def known(account: Account) -> dict[str, Any]:
    """Everything that an account says."""
    return {
        "totals": account.totals,
        "balances": account.balances,
        "positions": account.positions,
        "orders": account.orders,
        "configs": account.symbol_configs,
        "multi_assets": account.multi_assets,
    }


def settled(account: Account) -> dict[str, Any]:
    """`known`, but for the time of a profit of zero: whoever saw it come and go knows it better than who did not."""
    everything = known(account)
    told = account.totals
    if told is not None and told.total_unrealized_profit == 0:
        everything["totals"] = replace(told, total_unrealized_profit_time_ms=0, total_margin_balance_time_ms=0)
    everything["balances"] = {
        asset: replace(row, unrealized_profit_time_ms=0) if row.unrealized_profit == 0 else row
        for asset, row in account.balances.items()
    }
    return everything


def three_ways(*frames: Frame, given: Snapshot | None = None) -> Story:
    """The story of `frames` after a snapshot: sent one by one, in one burst, and each frame twice, it ends the same."""
    first = (given or snapshot(),)
    one_by_one = Story(first, *frames)
    burst = Story(first, [change for frame in frames for change in frame])
    twice = Story(first, *(frame for frame in frames for _ in range(2)))
    for other in (burst, twice):
        assert settled(other.account) == settled(one_by_one.account)
        assert other.event_ids == one_by_one.event_ids
    return one_by_one


def expect_amounts(story: Story, **amounts: str) -> None:
    """`BTCUSDT_BOTH="0.5"`: the open positions are these and no others."""
    found = {f"{key.symbol}_{key.position_side}": row.position_amt for key, row in story.account.positions.items()}
    assert found == {name: D(amount) for name, amount in amounts.items()}


def expect_wallets(story: Story, **wallets: str) -> None:
    """`USDT="1000"`: the assets are these and no others."""
    found = {asset: row.wallet_balance for asset, row in story.account.balances.items()}
    assert found == {asset: D(amount) for asset, amount in wallets.items()}


def expect_totals(story: Story, wallet_balance: str, profit: str, margin: str) -> None:
    told = story.account.totals
    assert told is not None
    assert (told.total_wallet_balance, told.total_unrealized_profit, told.total_margin_balance) == (
        D(wallet_balance),
        D(profit),
        D(margin),
    )


def expect_nothing_to_write(delta: Delta) -> None:
    assert not delta
    assert (delta.balances, delta.positions, delta.orders, delta.events, delta.totals) == ((), (), (), (), None)


def missing(
    account: Account, *changes: Change, filled: dict[OrderKey, Decimal] | None = None
) -> list[tuple[str, str, bool]]:
    """Order, what is known to be filled of it, and whether only its beginning is missing."""
    found = account.missing_before(changes, filled)
    return [(one.incomplete.order.order_id, str(one.incomplete.filled), one.only_opening) for one in found]


def merge_all(catch_up: CatchUp, listed: Snapshot, gap: GapFill, *, connected_ms: int = NOW) -> Merge | Missing:
    """What ends a gap, put together without a turn for anybody else."""
    *_, merged = catch_up.merge(listed, gap, connected_ms=connected_ms, at_once=1)
    assert merged is not None
    return merged
