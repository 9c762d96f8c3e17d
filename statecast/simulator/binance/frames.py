"""What happened on the ledger, as Binance's user-data frames and mark price frames. Pure.

Shapes: developers.binance.com, derivatives → usds-margined-futures → user data streams and market streams (2026-05 to
2026-09). Numbers that are money or quantities are strings; `E` is the time of sending, `T` of the transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import orjson

from statecast.simulator.events import (
    AccountChanged,
    AlgoChanged,
    Event,
    Filled,
    LeverageChanged,
    MarginCalled,
    MultiAssetsChanged,
    OrderChanged,
)
from statecast.simulator.exchange import Json
from statecast.simulator.orders import AlgoStatus, Execution, OrderType, Refusal
from statecast.simulator.symbols import FUNDING_INTERVAL_MS, FUNDING_RATE

STP_MODE = "EXPIRE_MAKER"


def plain(value: Decimal) -> str:
    """A decimal without exponent and trailing zeros: quantities and prices."""
    if not value:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def money(value: Decimal) -> str:
    """A decimal with eight places: balances and profits."""
    return f"{value:.8f}"


def average(value: Decimal) -> str:
    """An average price: five places where they suffice, else eight."""
    return f"{value:.8f}".removesuffix("000")


def algo_type(order_type: OrderType) -> str:
    """What the engine order of a conditional order is."""
    return "LIMIT" if order_type in (OrderType.STOP, OrderType.TAKE_PROFIT) else "MARKET"


@dataclass(frozen=True, slots=True)
class Frame:
    """One user-data frame, before it is put on sockets."""

    event: str
    body: Json

    @property
    def payload(self) -> bytes:
        return orjson.dumps(self.body)


def user_frames(event: Event, now_ms: int, texts: dict[Refusal, str]) -> Iterator[Frame]:
    """The frames of one ledger event, in sending order; `texts` are the venue's sentences for refusals."""
    match event:
        case Filled(order, account):
            # TRADE_LITE copies trades alone, not liquidations.
            if order.execution is Execution.TRADE:
                yield _frame("TRADE_LITE", now_ms, event.order.at_ms, _trade_lite(order))
            yield _account_update(account, now_ms)
            yield _frame("ORDER_TRADE_UPDATE", now_ms, order.at_ms, {"o": order_body(order)})
        case OrderChanged():
            yield _frame("ORDER_TRADE_UPDATE", now_ms, event.at_ms, {"o": order_body(event)})
        case AccountChanged():
            yield _account_update(event, now_ms)
        case AlgoChanged():
            yield _frame("ALGO_UPDATE", now_ms, event.at_ms, {"o": _algo(event, texts)})
        case LeverageChanged(at_ms, symbol, leverage):
            yield _frame("ACCOUNT_CONFIG_UPDATE", now_ms, at_ms, {"ac": {"s": symbol, "l": leverage}})
        case MultiAssetsChanged(at_ms, enabled):
            yield _frame("ACCOUNT_CONFIG_UPDATE", now_ms, at_ms, {"ai": {"j": enabled}})
        case MarginCalled():
            yield Frame("MARGIN_CALL", _margin_call(event, now_ms))


def listen_key_expired(listen_key: str, now_ms: int, *, text_time: bool = False, with_key: bool = True) -> Frame:
    """The end of a listen key; older frames have the time as text, and not the key."""
    body: Json = {"e": "listenKeyExpired", "E": str(now_ms) if text_time else now_ms}
    return Frame("listenKeyExpired", body | {"listenKey": listen_key} if with_key else body)


def server_shutdown(now_ms: int) -> Frame:
    """Documented for Spot and handled by the official client for every product: the event is wrapped."""
    return Frame("serverShutdown", {"event": {"e": "serverShutdown", "E": now_ms}})


def mark_price(symbol: str, mark: Decimal, now_ms: int) -> Json:
    """One `markPriceUpdate`. Index and settle price are the mark price: the model has one market."""
    return {
        "e": "markPriceUpdate",
        "E": now_ms,
        "s": symbol,
        "p": money(mark),
        "ap": money(mark),
        "P": money(mark),
        "i": money(mark),
        "r": money(FUNDING_RATE),
        "T": next_funding_ms(now_ms),
        "st": 1,
    }


def next_funding_ms(now_ms: int) -> int:
    """The next funding time: every eight hours from midnight UTC."""
    return (now_ms // FUNDING_INTERVAL_MS + 1) * FUNDING_INTERVAL_MS


def _frame(event: str, now_ms: int, at_ms: int, rest: Json) -> Frame:
    return Frame(event, {"e": event, "E": now_ms, "T": at_ms, **rest})


def _account_update(event: AccountChanged, now_ms: int) -> Frame:
    body: Json = {"m": event.reason}
    if event.symbol:
        body["S"] = event.symbol
    body["B"] = [
        {
            "a": row.asset,
            "wb": money(row.wallet_balance),
            "cw": money(row.cross_wallet_balance),
            "bc": money(row.change) if row.change else "0",
        }
        for row in event.balances
    ]
    # Of a funding payment of a cross position, and of a transfer, the list is empty.
    body["P"] = [
        {
            "s": row.position.symbol,
            "pa": plain(row.position.amount),
            "ep": plain(row.position.entry_price),
            "bep": plain(row.position.break_even_price),
            "cr": money(row.position.realised),
            "up": money(row.profit) if row.position.amount else "0",
            "mt": "isolated" if row.isolated else "cross",
            "iw": money(row.position.isolated_wallet) if row.isolated and row.position.amount else "0",
            "ps": row.position.side,
            "ma": row.margin_asset,
        }
        for row in event.positions
    ]
    return _frame("ACCOUNT_UPDATE", now_ms, event.at_ms, {"a": body})


def _trade_lite(event: OrderChanged) -> Json:
    order = event.order
    return {
        "s": order.symbol,
        "q": plain(order.qty),
        "p": plain(order.price),
        "m": event.is_maker,
        "c": order.client_order_id,
        "S": order.side,
        "L": plain(event.last_price),
        "l": plain(event.last_qty),
        "t": event.trade_id,
        "i": order.order_id,
    }


def order_body(event: OrderChanged) -> Json:
    """The `o` of ORDER_TRADE_UPDATE."""
    order = event.order
    body: Json = {
        "s": order.symbol,
        "c": order.client_order_id,
        "S": order.side,
        "o": order.type,
        "f": order.time_in_force,
        "q": plain(order.qty),
        "p": plain(order.price),
        "ap": average(order.average_price) if order.filled_qty else "0",
        "sp": plain(order.stop_price),
        "x": event.execution,
        "X": order.status,
        "i": order.order_id,
        "l": plain(event.last_qty),
        "z": plain(order.filled_qty),
        "L": plain(event.last_price),
        "T": event.at_ms,
        "t": event.trade_id,
        "b": plain(event.bid_notional),
        "a": plain(event.ask_notional),
        "m": event.is_maker,
        "R": order.reduce_only,
        "wt": order.working_type,
        "ot": order.original_type,
        "ps": order.position_side,
        "cp": order.close_position,
        "pP": False,
        "si": 0,
        "ss": 0,
        "rp": money(event.realised) if event.realised else "0",
        "V": STP_MODE,
        "pm": "NONE",
        "gtd": 0,
        "er": str(order.expiry_reason),
    }
    # Without a fee the commission may be absent, as it is on everything but fills.
    if event.trade_id:
        body |= {"N": event.commission_asset, "n": money(event.commission)}
    if event.modify_id:
        body["M"] = event.modify_id
    return body


def _algo(event: AlgoChanged, texts: dict[Refusal, str]) -> Json:
    algo = event.algo
    body: Json = {
        "caid": algo.client_algo_id,
        "aid": algo.algo_id,
        "at": "CONDITIONAL",
        "o": algo.type,
        "s": algo.symbol,
        "S": algo.side,
        "ps": algo.position_side,
        "f": algo.time_in_force,
        "q": plain(algo.qty),
        "X": algo.status,
        "ai": str(algo.order_id) if algo.order_id else "",
        "tp": plain(algo.trigger_price),
        "p": plain(algo.price),
        "V": STP_MODE,
        "wt": algo.working_type,
        "pm": "NONE",
        "cp": algo.close_position,
        "pP": False,
        "R": algo.reduce_only,
        "tt": algo.triggered_at_ms,
        "gtd": 0,
        "rm": texts.get(algo.refusal, "") if algo.refusal else "",
        "ia": algo.activated,
    }
    if algo.type is OrderType.TRAILING_STOP_MARKET:
        body |= {"AP": plain(algo.activation_price), "cr": plain(algo.callback_rate)}
    if algo.status in (AlgoStatus.TRIGGERED, AlgoStatus.FINISHED):
        body |= {"ap": average(algo.average_price), "aq": plain(algo.filled_qty), "act": algo_type(algo.type)}
    if algo.status is AlgoStatus.CANCELED:  # as recorded in production, 2026-09-19
        for key in ("V", "wt", "pm", "cp", "pP"):
            del body[key]
    return body


def _margin_call(event: MarginCalled, now_ms: int) -> Json:
    body: Json = {"e": "MARGIN_CALL", "E": now_ms}
    if event.cross_wallet_balance is not None:
        body["cw"] = money(event.cross_wallet_balance)
    body["p"] = [
        {
            "s": row.position.symbol,
            "ps": row.position.side,
            "pa": plain(row.position.amount),
            "mt": "ISOLATED" if row.isolated else "CROSSED",
            "iw": money(row.position.isolated_wallet) if row.isolated else "0",
            "mp": plain(row.mark),
            "up": money(row.profit),
            "mm": money(row.maintenance),
        }
        for row in event.rows
    ]
    return body


RARE_BODIES: dict[str, Json] = {
    "STRATEGY_UPDATE": {
        "su": {"si": 176054594, "st": "GRID", "ss": "NEW", "s": "BTCUSDT", "ut": 1793000005100, "c": 8007}
    },
    "GRID_UPDATE": {
        "gu": {
            "si": 176057039,
            "st": "GRID",
            "ss": "WORKING",
            "s": "BTCUSDT",
            "r": "-0.0030787",
            "up": "16720",
            "uq": "-0.001",
            "uf": "-0.00300",
            "mp": "0.0",
            "ut": 1793000005200,
        }
    },
    "CONDITIONAL_ORDER_TRIGGER_REJECT": {
        "or": {
            "s": "ETHUSDT",
            "i": 155618472834,
            "r": "Due to the order could not be filled immediately, the FOK order has been rejected.",
        }
    },
}
"""Documented bodies of frames that no ledger event makes."""
