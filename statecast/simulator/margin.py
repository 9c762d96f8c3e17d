"""What the account's positions and orders tie up, what is left free, and how thin the margin is. Pure.

Functions of the book at its present mark prices; they change nothing. A pool is what one loss is taken from: an
isolated position's own margin, an asset's cross margin, or all assets' cross margin together in multi-assets mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from statecast.simulator.book import Book, Wallet
from statecast.simulator.orders import ZERO, PositionSide
from statecast.simulator.positions import PositionMargin
from statecast.simulator.symbols import INDEX_PRICES, to_money

MARGIN_CALL_AT = Decimal("1.25")
"""Margin over maintenance margin below which a margin call is sent."""


@dataclass(frozen=True, slots=True)
class AssetMargin:
    """One asset with all that depends on mark prices."""

    wallet: Wallet
    cross_wallet: Decimal
    profit: Decimal
    cross_profit: Decimal
    maintenance: Decimal
    position_initial: Decimal
    open_order_initial: Decimal
    available: Decimal

    @property
    def initial(self) -> Decimal:
        return self.position_initial + self.open_order_initial

    @property
    def margin_balance(self) -> Decimal:
        return self.wallet.balance + self.profit

    @property
    def max_withdraw(self) -> Decimal:
        """Available without what is only unrealised profit."""
        return max(ZERO, self.available - max(ZERO, self.cross_profit))


@dataclass(frozen=True, slots=True)
class AccountMargin:
    """The account as a whole, in USDT, or in USD in multi-assets mode; what is free always in USDT."""

    initial: Decimal
    maintenance: Decimal
    wallet_balance: Decimal
    profit: Decimal
    margin_balance: Decimal
    position_initial: Decimal
    open_order_initial: Decimal
    cross_wallet: Decimal
    cross_profit: Decimal
    available: Decimal
    max_withdraw: Decimal


class MarginLevel(Enum):
    """What a pool's margin is against its maintenance margin."""

    SUFFICIENT = "sufficient"
    CALL = "call"
    """So thin that the account is warned."""
    LIQUIDATE = "liquidate"
    """No more than the maintenance margin: the exchange closes the positions."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Margin that is lost together, and the positions that it carries."""

    name: str
    balance: Decimal
    """The margin, with unrealised profit."""
    positions: list[PositionMargin]
    cross_wallet: Decimal | None
    """The wallets behind cross margin, in the margin asset or in USD for several; `None` for isolated margin."""

    @property
    def level(self) -> MarginLevel:
        """Sufficient without positions."""
        maintenance = sum((margin.maintenance for margin in self.positions), ZERO)
        if not self.positions or self.balance > maintenance * MARGIN_CALL_AT:
            return MarginLevel.SUFFICIENT
        return MarginLevel.LIQUIDATE if self.balance <= maintenance else MarginLevel.CALL


def index_price(asset: str) -> Decimal:
    """What one unit of an asset counts for in pooled margin, in USD."""
    return INDEX_PRICES.get(asset, Decimal(1))


class Statement:
    """Every figure that depends on mark prices. Made for one question: it does not follow the book.

    Each row and each order is looked at once, however many figures are read.
    """

    def __init__(self, book: Book) -> None:
        self._book = book
        self._notionals = book.open_notionals()
        keys = {(row.symbol, row.side): None for row in book.positions()} | dict.fromkeys(self._notionals)
        self._rows = {key: self._valued(*key) for key in keys}
        self._of_asset: dict[str, list[PositionMargin]] = {}
        for row in self._rows.values():
            self._of_asset.setdefault(row.rules.margin_asset, []).append(row)
        self._cross_profits = {
            asset: sum((row.profit for row in rows if not row.isolated), ZERO) for asset, rows in self._of_asset.items()
        }
        self._cross_wallets = {asset: book.cross_wallet(asset) for asset in [*self._assets(), *self._of_asset]}

    def rows(self) -> list[PositionMargin]:
        """All rows that tie up margin: positions and the rows of open orders."""
        return list(self._rows.values())

    def row(self, symbol: str, side: PositionSide) -> PositionMargin:
        """The row valued at the mark price, with the open orders that belong to it."""
        return self._rows.get((symbol, side)) or self._valued(symbol, side)

    def asset(self, asset: str) -> AssetMargin:
        """The asset's balances, margins and what is free, in units of the asset."""
        rows = self._of_asset.get(asset, [])
        return AssetMargin(
            wallet=self._book.wallet(asset),
            cross_wallet=self._cross_wallet(asset),
            profit=sum((row.profit for row in rows), ZERO),
            cross_profit=self._cross_profit(asset),
            maintenance=sum((row.maintenance for row in rows), ZERO),
            position_initial=sum((row.position_initial for row in rows), ZERO),
            open_order_initial=sum((row.open_order_initial for row in rows), ZERO),
            available=max(ZERO, self.free(asset)),
        )

    def account(self) -> AccountMargin:
        """USDT alone in single-asset mode; the USD value of everything in multi-assets mode."""
        assets = self._assets() if self._book.multi_assets else ["USDT"]
        rows = [(self.asset(asset), index_price(asset)) for asset in assets]
        usdt = self.asset("USDT")

        def total(figure: Callable[[AssetMargin], Decimal]) -> Decimal:
            return sum((figure(row) * index for row, index in rows), ZERO)

        return AccountMargin(
            initial=total(lambda row: row.initial),
            maintenance=total(lambda row: row.maintenance),
            wallet_balance=total(lambda row: row.wallet.balance),
            profit=total(lambda row: row.profit),
            margin_balance=total(lambda row: row.margin_balance),
            position_initial=total(lambda row: row.position_initial),
            open_order_initial=total(lambda row: row.open_order_initial),
            cross_wallet=total(lambda row: row.cross_wallet),
            cross_profit=total(lambda row: row.cross_profit),
            available=usdt.available,
            max_withdraw=usdt.max_withdraw,
        )

    def liquidation_price(self, row: PositionMargin) -> Decimal:
        """The mark price at which a row's margin is down to its maintenance margin; zero when there is none.

        Cross margin may lose the whole cross wallet of the asset, with the profit of the other positions.
        """
        if row.isolated:
            return row.liquidation_price(row.row.isolated_wallet)
        asset = row.rules.margin_asset
        return row.liquidation_price(self._cross_wallet(asset) + self._cross_profit(asset) - row.profit)

    def free(self, asset: str) -> Decimal:
        """What is free for new orders or withdrawal, in units of the asset; negative when overdrawn."""
        if self._book.multi_assets:
            pooled = sum((self._free_alone(one) * index_price(one) for one in self._assets()), ZERO)
            return to_money(pooled / index_price(asset))
        return self._free_alone(asset)

    def has_overdrawn_asset(self) -> bool:
        """Whether an asset is only kept up by others that stand in for it."""
        return any(self._free_alone(asset) < 0 for asset in self._assets())

    def _assets(self) -> dict[str, None]:
        return {wallet.asset: None for wallet in self._book.wallets()}

    def _cross_wallet(self, asset: str) -> Decimal:
        return self._cross_wallets.get(asset, ZERO)

    def _cross_profit(self, asset: str) -> Decimal:
        return self._cross_profits.get(asset, ZERO)

    def _free_alone(self, asset: str) -> Decimal:
        """What is free of the asset when no other one stands in for it."""
        left = self._cross_wallet(asset)
        for row in self._of_asset.get(asset, []):
            left -= row.open_order_initial if row.isolated else row.initial - row.profit
        return left

    def _valued(self, symbol: str, side: PositionSide) -> PositionMargin:
        settings = self._book.settings(symbol)
        bids, asks = self._notionals.get((symbol, side), (ZERO, ZERO))
        return PositionMargin(
            self._book.position(symbol, side),
            self._book.marks[symbol],
            settings.leverage,
            settings.isolated,
            bids,
            asks,
            self._book.rules[symbol],
        )


def pools(book: Book) -> Iterator[Pool]:
    """Every pool, isolated positions first.

    Positions and their margins are read once, at the start; the wallets are read when a pool is asked for,
    since liquidating the one before may have changed them.
    """
    rows = [margin for margin in Statement(book).rows() if margin.row.amount]
    for margin in rows:
        if margin.isolated:
            yield Pool(f"{margin.row.symbol} {margin.row.side}", margin.isolated_margin, [margin], None)
    assets = [wallet.asset for wallet in book.wallets()]
    for group in [assets] if book.multi_assets else [[asset] for asset in assets]:
        cross = [one for one in rows if not one.isolated and one.rules.margin_asset in group]
        if len(group) == 1:
            wallet = book.cross_wallet(group[0])
        else:
            wallet = sum((book.cross_wallet(asset) * index_price(asset) for asset in group), ZERO)
        profit = sum((one.profit for one in cross), ZERO)
        yield Pool(" ".join(group), wallet + profit, cross, wallet)
