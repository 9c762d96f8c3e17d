"""The assets of an account, and its totals."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from decimal import Decimal

from statecast.domain import valuation
from statecast.domain.changes import AllBalances, BalanceUpdate, MultiAssetsUpdate, Snapshot
from statecast.domain.models import Balance, Position, Totals
from statecast.domain.snapshot_merge import Asked, LastAnswer, RestTiming, merged_balances
from statecast.domain.table import Table


class Wallets:
    """The methods that apply something return the venue's time of it; 0 where nothing changed.

    Totals come from REST. Where the venue's total is plainly one asset's wallet, they follow that between two answers;
    in multi-assets mode, or for an account that is counted in some other way, they stay as REST gave them.
    """

    def __init__(self, rest: RestTiming) -> None:
        self.table: Table[str, Balance] = Table()
        self._rest = rest
        self._totals: Totals | None = None
        self._multi_assets = False
        self._mode_ms = 0
        self._totals_asset: str | None = None
        """What the totals of the next answer count."""
        self._counts_wallet = False
        """Whether that is known only while the total is the asset's wallet."""
        self._follows_wallet = False

    @property
    def totals(self) -> Totals | None:
        """None before the first snapshot."""
        return self._totals

    @property
    def multi_assets(self) -> bool:
        """The margin mode: whether all collateral counts."""
        return self._multi_assets

    @property
    def mode_ms(self) -> int:
        """Of which venue time the margin mode is; 0 where the stream has said nothing of it."""
        return self._mode_ms

    # The stream

    def apply(self, update: BalanceUpdate, answer: LastAnswer) -> int:
        """Upsert a wallet if it is newer."""
        known = self.table.rows.get(update.asset)
        if known is not None and update.stamp < known.stamp:
            self.table.pass_over(update.asset, update.stamp.venue_time_ms)
            return 0
        if answer.is_repeat(update.stamp, known):
            return 0
        if known is None and update.stamp.venue_time_ms < answer.listed_ms:
            return 0  # It was empty when the snapshot was read, and what was received before that waited.
        self.table.renew(update.asset)
        if known is None:
            row = Balance(update.asset, update.wallet_balance, update.cross_wallet_balance, update.stamp, "stream")
        else:
            row = replace(
                known,
                wallet_balance=update.wallet_balance,
                cross_wallet_balance=update.cross_wallet_balance,
                stamp=update.stamp,
                source="stream",
            )
        self.table.put(row.asset, row)
        return update.stamp.venue_time_ms

    def apply_all(self, update: AllBalances, answer: LastAnswer) -> int:
        """These are all rows: what is not listed is empty, unless the stream knows newer."""
        times = [self.apply(row, answer) for row in update.rows]
        unlisted = self.table.rows.keys() - {row.asset for row in update.rows}
        times += [
            self.apply(BalanceUpdate(asset, Decimal(0), Decimal(0), update.stamp), answer) for asset in sorted(unlisted)
        ]
        return max(times, default=0)

    def apply_mode(self, update: MultiAssetsUpdate) -> None:
        """Another margin mode: the totals stay until REST has said what they are now."""
        self._multi_assets, self._mode_ms = update.enabled, update.venue_time_ms
        self._totals_asset = update.totals_asset or self._totals_asset
        self._counts_wallet = not update.enabled
        self._follows_wallet = False

    # REST

    def merge(self, snapshot: Snapshot) -> None:
        """The whole account by REST; wallets of the stream stand where they are newer."""
        self.table.replace_all(merged_balances(self.table.rows, self.table.trusted_ms, snapshot, self._rest))
        mode_ms, since_ms = self._mode_ms, snapshot.stream_since_ms
        self._mode_ms = mode_ms if mode_ms >= since_ms else 0
        if snapshot.multi_assets is not None:
            is_stream = self._rest.stands_without_time(mode_ms, since_ms, Asked.of(snapshot))
            if is_stream and snapshot.multi_assets != self._multi_assets:
                return  # As after the event: the totals stay until an answer has the mode, too.
            self._multi_assets = snapshot.multi_assets
        self._totals_asset = snapshot.totals_asset
        self._counts_wallet = snapshot.totals_are_wallet
        self._take_totals(snapshot.totals, snapshot.balances)

    def take_figures(self, totals: Totals, balances: Iterable[Balance], asked_ms: int) -> None:
        """What no event carries; and an empty wallet that the answer lists no more is not there."""
        balances = tuple(balances)
        listed = {row.asset for row in balances}
        for asset, ours in list(self.table.rows.items()):
            is_empty = ours.wallet_balance == ours.cross_wallet_balance == 0
            if is_empty and asset not in listed and ours.stamp.venue_time_ms < asked_ms:
                self.table.remove(asset)
        for row in balances:
            known = self.table.rows.get(row.asset)
            if known is not None:
                figures = replace(
                    known,
                    available_balance=row.available_balance,
                    available_balance_time_ms=row.available_balance_time_ms,
                )
                self.table.put(row.asset, figures)
        self._take_totals(totals, balances)

    def correct(self, answer: Balance) -> int:
        """A wallet as REST has it, whatever the stream has said of it."""
        known = self.table.rows.get(answer.asset, answer)
        stamp = max(known.stamp, answer.stamp)
        row = replace(
            known,
            wallet_balance=answer.wallet_balance,
            cross_wallet_balance=answer.cross_wallet_balance,
            stamp=stamp,
            source="rest",
        )
        self.table.renew(answer.asset)
        self.table.put(answer.asset, row)
        return stamp.venue_time_ms

    def _take_totals(self, totals: Totals, balances: Iterable[Balance]) -> None:
        asset = totals.totals_asset or self._totals_asset
        wallet = next((row.wallet_balance for row in balances if row.asset == asset), None)
        is_wallet = wallet is not None and wallet == totals.total_wallet_balance
        self._follows_wallet = not self._multi_assets and is_wallet
        known = not self._counts_wallet or (wallet or 0) == totals.total_wallet_balance
        self._totals = replace(totals, totals_asset=asset if known else None)

    # What follows from the positions

    def derive(self, positions: Collection[Position], now_ms: int) -> None:
        """Profit per asset and the totals; `now_ms` is the venue's time of what has just changed."""
        sums = valuation.profit_by_asset(positions)
        if sums is None or self._totals is None:
            return
        for row in list(self.table.rows.values()):
            changed = valuation.with_profit(row, sums, now_ms)
            if changed is not None:
                self.table.put(row.asset, changed)
        wallet = self.table.rows.get(self._totals.totals_asset or "")
        if self._follows_wallet and wallet is not None:
            self._totals = valuation.totals_of_wallet(self._totals, wallet)
