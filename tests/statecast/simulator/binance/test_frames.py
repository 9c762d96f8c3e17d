"""Frames have the keys of the documented samples (user data streams, read 2026-11), no fewer."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import orjson
import pytest

from statecast.simulator.binance.errors import REFUSAL_TEXTS
from statecast.simulator.binance.frames import average, mark_price, money, plain, user_frames
from statecast.simulator.events import Event
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import AlgoRequest, OrderRequest, OrderType, Refusal, Side

NOW = 1_793_000_000_000

ORDER = "s c S o f q p ap sp x X i l z L N n T t b a m R wt ot ps cp pP si ss rp V pm gtd er"
LITE = "e E T s q p m c S L l t i"
ALGO = "caid aid at o s S ps f q X ai tp p V wt pm cp pP R tt gtd rm ia"
POSITION = "s pa ep bep cr up mt iw ps"
MARK = "e E s p ap P i r T st"


def frames(events: list[Event]) -> list[dict[str, Any]]:
    sent = [frame for event in events for frame in user_frames(event, NOW + 3, REFUSAL_TEXTS)]
    return [orjson.loads(frame.payload) for frame in sent]


def missing(body: dict[str, Any], keys: str) -> set[str]:
    return set(keys.split()) - set(body)


def new_ledger(usdt: int = 10_000) -> Ledger:
    return Ledger({"USDT": Decimal(usdt)}, now_ms=NOW)


def buy(qty: str = "0.1") -> OrderRequest:
    return OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.MARKET, qty=Decimal(qty))


def test_a_fill() -> None:
    new, lite, account, trade = frames(new_ledger().place(buy(), NOW))
    assert missing(new["o"], ORDER) == {"N", "n"}
    assert missing(trade["o"], ORDER) == set()
    assert set(lite) == set(LITE.split())
    assert missing(account["a"]["P"][0], POSITION) == set()
    assert (trade["E"], trade["T"], trade["o"]["T"]) == (NOW + 3, NOW, NOW)


def test_a_trailing_stop_and_an_order_that_closes_the_position() -> None:
    ledger = new_ledger()
    ledger.place(buy(), NOW)
    terms = {"activation_price": Decimal("99000.5"), "callback_rate": Decimal("1.5"), "qty": Decimal("0.1")}
    trailing = AlgoRequest(symbol="BTCUSDT", side=Side.SELL, type=OrderType.TRAILING_STOP_MARKET, **terms)
    closing = AlgoRequest(
        symbol="BTCUSDT", side=Side.SELL, type=OrderType.STOP_MARKET, trigger_price=Decimal(88_000), close_position=True
    )
    placed, closes = (frames(ledger.place_algo(request, NOW))[0]["o"] for request in (trailing, closing))
    assert (placed["AP"], placed["cr"], placed["cp"]) == ("99000.5", "1.5", False)
    assert (closes["q"], closes["cp"], missing(closes, "AP cr")) == ("0", True, {"AP", "cr"})
    (cancelled,) = frames(ledger.cancel_algo(closes["aid"], NOW))
    assert missing(cancelled["o"], ALGO) == {"V", "wt", "pm", "cp", "pP"}, "as recorded"


def test_conditional_orders() -> None:
    ledger = new_ledger(50)
    request = AlgoRequest(
        symbol="BTCUSDT",
        side=Side.BUY,
        type=OrderType.STOP_MARKET,
        qty=Decimal(1),
        trigger_price=Decimal(92_000),
    )
    [placed] = frames(ledger.place_algo(request, NOW))
    assert set(placed["o"]) == set(ALGO.split())
    _, rejected = frames(ledger.move_mark("BTCUSDT", Decimal(92_000), NOW))
    assert rejected["o"]["rm"] == REFUSAL_TEXTS[Refusal.MARGIN_INSUFFICIENT]
    assert (rejected["o"]["X"], rejected["o"]["ai"]) == ("REJECTED", "")


def test_a_margin_call_has_no_transaction_time() -> None:
    ledger = new_ledger(500)
    ledger.place(buy(), NOW)
    [call] = frames(ledger.move_mark("BTCUSDT", Decimal(86_700), NOW))
    assert set(call) == {"e", "E", "cw", "p"}
    [row] = call["p"]
    assert set(row) == {"s", "ps", "pa", "mt", "iw", "mp", "up", "mm"}
    assert (row["mt"], row["mp"], row["up"]) == ("CROSSED", "86700", "-455.05000000")


def test_mark_prices() -> None:
    frame = mark_price("BTCUSDT", Decimal("91414.9"), NOW)
    assert set(frame) == set(MARK.split())
    assert (frame["p"], frame["T"], frame["st"]) == ("91414.90000000", 1_793_001_600_000, 1)


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (plain, "0.0250", "0.025"),
        (plain, "120", "120"),
        (plain, "1E+3", "1000"),
        (plain, "0E-8", "0"),
        (plain, "-0.00001", "-0.00001"),
        (money, "1E-7", "0.00000010"),
        (money, "-3", "-3.00000000"),
        (average, "91250.4", "91250.40000"),
        (average, "0.135705", "0.13570500"),
    ],
)
def test_numbers(write: Any, value: str, text: str) -> None:
    assert write(Decimal(value)) == text
