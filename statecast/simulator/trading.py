"""A random trader: one step of trading at a time, always legal or cleanly declined. Same seed, same run."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from statecast.simulator.events import Event
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import (
    ZERO,
    AlgoRequest,
    OrderRequest,
    OrderType,
    PositionSide,
    Refused,
    Side,
    TimeInForce,
)
from statecast.simulator.symbols import Rules

if TYPE_CHECKING:
    from random import Random

MAX_OPEN = 24
"""Orders left open at most, of either kind; beyond this the trader cancels instead of placing."""


def step(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    """Do one thing that a trader, the market or the exchange does. Empty when it was declined or had no object."""
    action = rng.choices(_ACTIONS, _WEIGHTS)[0]
    try:
        return action(ledger, rng, now_ms)
    except Refused:
        return []


def _rules(ledger: Ledger, rng: Random) -> Rules:
    return rng.choice(list(ledger.rules.values()))


def _qty(ledger: Ledger, rng: Random, rules: Rules) -> Decimal:
    """A few percent of the free margin, leveraged; sometimes more than a level of the book holds."""
    free = ledger.asset_margin(rules.margin_asset).available
    leverage = ledger.settings(rules.symbol).leverage
    notional = max(rules.min_notional * 2, free * leverage * Decimal(rng.randint(2, 120)) / 1000)
    steps = notional / ledger.marks[rules.symbol] // rules.step_size
    return min(rules.max_qty, max(Decimal(1), steps) * rules.step_size)


def _side(ledger: Ledger, rng: Random) -> tuple[Side, PositionSide]:
    return rng.choice(list(Side)), rng.choice(ledger.sides())


def _near(ledger: Ledger, rng: Random, rules: Rules, reach_bp: int = 40) -> Decimal:
    """A price on the tick grid within `reach_bp` of the mark price."""
    mark = ledger.marks[rules.symbol]
    ticks = mark * rng.randint(-reach_bp, reach_bp) / 10_000 // rules.tick_size
    return max(rules.tick_size, mark + ticks * rules.tick_size)


def _place_limit(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    if len(ledger.open_orders()) >= MAX_OPEN:
        return _cancel(ledger, rng, now_ms)
    rules = _rules(ledger, rng)
    side, position_side = _side(ledger, rng)
    qty, reduce_only = _qty(ledger, rng, rules), False
    rows = ledger.positions()
    if rows and rng.random() < 0.3:
        row = rng.choice(rows)
        rules = ledger.rules[row.symbol]
        side, position_side = Side.SELL if row.amount > 0 else Side.BUY, row.side
        qty = rng.randint(1, int(abs(row.amount) / rules.step_size)) * rules.step_size
        reduce_only = not ledger.hedge
    request = OrderRequest(
        symbol=rules.symbol,
        side=side,
        type=OrderType.LIMIT,
        qty=min(qty, rules.max_qty),
        price=_near(ledger, rng, rules),
        time_in_force=rng.choice((TimeInForce.GTC, TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.GTX)),
        position_side=position_side,
        reduce_only=reduce_only,
        client_order_id=f"rnd-{rng.getrandbits(48):012x}",
    )
    return ledger.place(request, now_ms)


def _place_market(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    rules = _rules(ledger, rng)
    side, position_side = _side(ledger, rng)
    request = OrderRequest(
        symbol=rules.symbol,
        side=side,
        type=OrderType.MARKET,
        qty=_qty(ledger, rng, rules),
        position_side=position_side,
    )
    return ledger.place(request, now_ms)


def _close_position(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    """Close a whole position at the market; what would have reduced it before is withdrawn first."""
    rows = ledger.positions()
    if not rows:
        return []
    row = rng.choice(rows)
    side = Side.SELL if row.amount > 0 else Side.BUY
    events: list[Event] = []
    for order in ledger.open_orders(row.symbol):
        if order.position_side is row.side and order.side is side:
            events += ledger.cancel(order.order_id, now_ms, symbol=order.symbol)
    request = OrderRequest(
        symbol=row.symbol,
        side=side,
        type=OrderType.MARKET,
        qty=min(abs(row.amount), ledger.rules[row.symbol].max_qty),
        position_side=row.side,
        reduce_only=not ledger.hedge,
    )
    try:
        return events + ledger.place(request, now_ms)
    except Refused:
        return events


def _cancel(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    orders = ledger.open_orders()
    if not orders:
        return []
    order = rng.choice(orders)
    return ledger.cancel(order.order_id, now_ms, symbol=order.symbol)


def _amend(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    orders = ledger.open_orders()
    if not orders:
        return []
    order = rng.choice(orders)
    rules = ledger.rules[order.symbol]
    return ledger.amend(
        order.order_id,
        symbol=order.symbol,
        qty=rng.choice((order.qty, order.qty + rules.step_size, _qty(ledger, rng, rules))),
        price=_near(ledger, rng, rules),
        now_ms=now_ms,
        modify_id=rng.choice(("", f"m{rng.getrandbits(24):06x}")),
    )


def _fill(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    """Somebody takes a part, or all, of a resting order."""
    orders = ledger.open_orders()
    if not orders:
        return []
    order = rng.choice(orders)
    step_size = ledger.rules[order.symbol].step_size
    steps = int(order.remaining_qty / step_size)
    return ledger.fill_resting(order.order_id, rng.randint(1, steps) * step_size, now_ms, symbol=order.symbol)


def _place_algo(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    if len(ledger.open_algos()) >= MAX_OPEN:
        return _cancel_algo(ledger, rng, now_ms)
    rules = _rules(ledger, rng)
    kind = rng.choice(
        (
            OrderType.STOP,
            OrderType.STOP_MARKET,
            OrderType.TAKE_PROFIT,
            OrderType.TAKE_PROFIT_MARKET,
            OrderType.TRAILING_STOP_MARKET,
        )
    )
    side, position_side = _side(ledger, rng)
    trailing = kind is OrderType.TRAILING_STOP_MARKET
    market = kind in (OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET)
    close = market and rng.random() < 0.3
    request = AlgoRequest(
        symbol=rules.symbol,
        side=side,
        type=kind,
        qty=ZERO if close else _qty(ledger, rng, rules),
        price=ZERO if market or trailing else _near(ledger, rng, rules),
        trigger_price=ZERO if trailing else _near(ledger, rng, rules, 25),
        activation_price=_near(ledger, rng, rules, 25) if trailing and rng.random() < 0.5 else ZERO,
        callback_rate=Decimal(rng.randint(1, 4)) / 10 if trailing else ZERO,
        position_side=position_side,
        reduce_only=not ledger.hedge and not close and rng.random() < 0.3,
        close_position=close,
        working_type=rng.choice(("MARK_PRICE", "CONTRACT_PRICE")),
        client_algo_id=f"alg-{rng.getrandbits(48):012x}",
    )
    return ledger.place_algo(request, now_ms)


def _cancel_algo(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    algos = ledger.open_algos()
    return ledger.cancel_algo(rng.choice(algos).algo_id, now_ms) if algos else []


def _move(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    """The market moves: mostly a little, now and then by a lurch that triggers and liquidates."""
    rules = _rules(ledger, rng)
    reach = Decimal("0.04") if rng.random() < 0.05 else Decimal("0.001")
    return ledger.move_mark(rules.symbol, rules.walk(ledger.marks[rules.symbol], rng, reach), now_ms)


def _fund(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    rate = Decimal(rng.randint(-30, 30)) / 100_000
    return ledger.fund(_rules(ledger, rng).symbol, now_ms, rate)


def _transfer(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    """Move money in or out; a poor account is topped up."""
    asset = rng.choice(ledger.wallets()).asset
    available = ledger.asset_margin(asset).available
    poor = available < 500
    amount = Decimal(rng.randint(10_000, 1_000_000)) / 1000
    return ledger.transfer(asset, amount if poor or rng.random() < 0.5 else -min(amount, available / 4), now_ms)


def _leverage(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    return ledger.set_leverage(_rules(ledger, rng).symbol, rng.choice((5, 10, 20, 25, 50, 75)), now_ms)


def _margin_type(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    idle = [symbol for symbol in ledger.rules if symbol not in ledger.active_symbols()]
    if not idle:
        return []
    symbol = rng.choice(idle)
    return ledger.set_margin_type(symbol, now_ms, isolated=not ledger.settings(symbol).isolated)


def _isolated_margin(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    rows = [row for row in ledger.positions() if ledger.settings(row.symbol).isolated]
    if not rows:
        return []
    row = rng.choice(rows)
    return ledger.add_isolated_margin(row.symbol, row.side, Decimal(rng.randint(-2000, 4000)) / 100, now_ms)


def _liquidate(ledger: Ledger, rng: Random, now_ms: int) -> list[Event]:
    rows = ledger.positions()
    if not rows:
        return []
    row = rng.choice(rows)
    return ledger.liquidate(row.symbol, row.side, now_ms)


_Action = Callable[[Ledger, "Random", int], list[Event]]

_CHANCES: tuple[tuple[_Action, int], ...] = (
    (_place_limit, 220),
    (_place_market, 90),
    (_close_position, 40),
    (_cancel, 40),
    (_amend, 70),
    (_fill, 130),
    (_place_algo, 90),
    (_cancel_algo, 15),
    (_move, 200),
    (_fund, 15),
    (_transfer, 25),
    (_leverage, 15),
    (_margin_type, 30),
    (_isolated_margin, 10),
    (_liquidate, 3),
)
_ACTIONS = [action for action, _ in _CHANCES]
_WEIGHTS = [weight for _, weight in _CHANCES]
