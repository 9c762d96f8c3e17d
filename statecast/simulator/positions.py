"""The arithmetic of one position: entry, break-even, profit, isolated wallet. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from statecast.simulator.orders import ZERO, PositionSide
from statecast.simulator.symbols import Rules, to_money


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """One row: a symbol in one-way mode, a symbol's LONG or SHORT side in hedge mode. `amount` is signed."""

    symbol: str
    side: PositionSide
    amount: Decimal = ZERO
    entry_price: Decimal = ZERO
    open_fees: Decimal = ZERO
    """Commissions paid for what is still open; they move the break-even price."""
    realised: Decimal = ZERO
    """Realised profit of all fills of this row, before fees; never reset."""
    isolated_wallet: Decimal = ZERO
    updated_at_ms: int = 0

    @property
    def break_even_price(self) -> Decimal:
        """The price at which closing repays the opening fees; zero when flat."""
        if not self.amount:
            return ZERO
        return to_money(self.entry_price + self.open_fees / self.amount)

    def profit_at(self, mark: Decimal) -> Decimal:
        """Unrealised profit: amount × (mark − entry), eight places."""
        return to_money(self.amount * (mark - self.entry_price))

    def filled(self, qty: Decimal, price: Decimal, fee: Decimal, leverage: int, at_ms: int, *, isolated: bool) -> Fill:
        """The row after a fill of signed `qty`, and the profit that the fill realises.

        What reduces the row keeps its entry price; what goes through zero starts a new one at `price`. With isolated
        margin an opening draws notional / leverage from the cross wallet and a closing gives back its share.
        """
        closing = min(abs(qty), abs(self.amount)) if self.amount * qty < 0 else ZERO
        opening = abs(qty) - closing
        kept = (abs(self.amount) - closing) / abs(self.amount) if self.amount else ZERO
        amount = self.amount + qty
        realised = ZERO
        if closing:
            realised = to_money(closing * (price - self.entry_price) * (1 if self.amount > 0 else -1))
        entry = self.entry_price
        if opening:
            carried = abs(self.amount) - closing
            entry = to_money((carried * self.entry_price + opening * price) / (carried + opening))
        wallet = self.isolated_wallet * kept
        if isolated and opening:
            wallet += opening * price / leverage
        fees = to_money(self.open_fees * kept + fee * opening / abs(qty))
        row = replace(
            self,
            amount=amount,
            entry_price=entry if amount else ZERO,
            open_fees=fees if amount else ZERO,
            realised=self.realised + realised,
            isolated_wallet=to_money(wallet) if amount else ZERO,
            updated_at_ms=at_ms,
        )
        return Fill(row, realised)


@dataclass(frozen=True, slots=True)
class Fill:
    """What a fill makes of a row."""

    row: Position
    realised: Decimal


@dataclass(frozen=True, slots=True)
class PositionMargin:
    """What a row ties up and is worth at a mark price; all in the margin asset."""

    row: Position
    mark: Decimal
    leverage: int
    isolated: bool
    bid_notional: Decimal
    ask_notional: Decimal
    rules: Rules

    @property
    def notional(self) -> Decimal:
        """Signed."""
        return to_money(self.row.amount * self.mark)

    @property
    def profit(self) -> Decimal:
        return self.row.profit_at(self.mark)

    @property
    def position_initial(self) -> Decimal:
        return to_money(abs(self.notional) / self.leverage)

    @property
    def initial(self) -> Decimal:
        """Position and open orders together: the worse of all bids or all asks being filled."""
        notional = self.notional
        worst = max(abs(notional), abs(notional + self.bid_notional), abs(notional - self.ask_notional))
        return to_money(worst / self.leverage)

    @property
    def open_order_initial(self) -> Decimal:
        return self.initial - self.position_initial

    @property
    def maintenance(self) -> Decimal:
        size = abs(self.notional)
        bracket = self.rules.bracket(size)
        return to_money(size * bracket.maintenance_rate - bracket.cum)

    @property
    def isolated_margin(self) -> Decimal:
        return self.row.isolated_wallet + self.profit if self.isolated and self.row.amount else ZERO

    def liquidation_price(self, free_margin: Decimal) -> Decimal:
        """Where margin equals maintenance with `free_margin` to lose apart from the row's profit; zero if nowhere."""
        amount = self.row.amount
        if not amount:
            return ZERO
        bracket = self.rules.bracket(abs(self.notional))
        slope = amount - abs(amount) * bracket.maintenance_rate
        price = (amount * self.row.entry_price - free_margin - bracket.cum) / slope
        return to_money(price) if price > 0 else ZERO
