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


def position_margin(book: Book, symbol: str, side: PositionSide) -> PositionMargin:
    """The row valued at the present mark price, with the open orders that belong to it."""
    settings = book.settings(symbol)
    bids, asks = book.open_notional(symbol, side)
    return PositionMargin(
        book.position(symbol, side),
        book.marks[symbol],
        settings.leverage,
        settings.isolated,
        bids,
        asks,
        book.rules[symbol],
    )


def margins(book: Book) -> list[PositionMargin]:
    """All rows that tie up margin: positions and the rows of open orders."""
    keys = {(row.symbol, row.side): None for row in book.positions()}
    keys |= {(order.symbol, order.position_side): None for order in book.open_orders()}
    return [position_margin(book, *key) for key in keys]


def asset_margin(book: Book, asset: str) -> AssetMargin:
    """The asset's balances, margins and what is free, in units of the asset."""
    rows = [margin for margin in margins(book) if margin.rules.margin_asset == asset]
    return AssetMargin(
        wallet=book.wallet(asset),
        cross_wallet=book.cross_wallet(asset),
        profit=sum((row.profit for row in rows), ZERO),
        cross_profit=sum((row.profit for row in rows if not row.isolated), ZERO),
        maintenance=sum((row.maintenance for row in rows), ZERO),
        position_initial=sum((row.position_initial for row in rows), ZERO),
        open_order_initial=sum((row.open_order_initial for row in rows), ZERO),
        available=max(ZERO, free(book, asset)),
    )


def account_margin(book: Book) -> AccountMargin:
    """USDT alone in single-asset mode; the USD value of everything in multi-assets mode."""
    assets = [wallet.asset for wallet in book.wallets()] if book.multi_assets else ["USDT"]
    rows = [(asset_margin(book, asset), index_price(asset)) for asset in assets]
    usdt = asset_margin(book, "USDT")

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


def liquidation_price(book: Book, margin: PositionMargin) -> Decimal:
    """The mark price at which a row's margin is down to its maintenance margin; zero when there is none.

    Cross margin may lose the whole cross wallet of the asset, with the profit of the other positions.
    """
    if margin.isolated:
        return margin.liquidation_price(margin.row.isolated_wallet)
    asset = asset_margin(book, margin.rules.margin_asset)
    return margin.liquidation_price(asset.cross_wallet + asset.cross_profit - margin.profit)


def free(book: Book, asset: str) -> Decimal:
    """What is free for new orders or withdrawal, in units of the asset; negative when overdrawn."""
    if book.multi_assets:
        pooled = sum((free_alone(book, one.asset) * index_price(one.asset) for one in book.wallets()), ZERO)
        return to_money(pooled / index_price(asset))
    return free_alone(book, asset)


def free_alone(book: Book, asset: str) -> Decimal:
    """What is free of the asset when no other one stands in for it."""
    left = book.cross_wallet(asset)
    for margin in margins(book):
        if margin.rules.margin_asset == asset:
            left -= margin.open_order_initial if margin.isolated else margin.initial - margin.profit
    return left


def pools(book: Book) -> Iterator[Pool]:
    """Every pool, isolated positions first.

    Positions and their margins are read once, at the start; the wallets are read when a pool is asked for,
    since liquidating the one before may have changed them.
    """
    rows = [margin for margin in margins(book) if margin.row.amount]
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
