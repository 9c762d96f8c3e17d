"""Frames → changes: the documented events, what may vary in them, and that nothing but FrameError comes out."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statecast.domain.changes import (
    BalanceUpdate,
    Frame,
    LeverageUpdate,
    MarkPriceUpdate,
    MultiAssetsUpdate,
    OrderUpdate,
    PositionUpdate,
)
from statecast.domain.models import Order, Stamp
from statecast.errors import FrameError
from statecast.venues.binance.decode import decode_market_frame, decode_user_frame

FRAMES = next(p for p in Path(__file__).parents if p.name == "tests") / "frames" / "binance"
USER = {
    row["name"]: row["payload"]
    for row in map(json.loads, (FRAMES / "user.jsonl").read_text(encoding="utf-8").splitlines())
}
MARKET = {
    row["name"]: row["payload"]
    for row in map(json.loads, (FRAMES / "market.jsonl").read_text(encoding="utf-8").splitlines())
}

RECEIVED = 1793000001099


def user(payload: object) -> Frame:
    return decode_user_frame(json.dumps(payload), RECEIVED)


def market(payload: object) -> Frame:
    return decode_market_frame(json.dumps(payload).encode())


def order_frame(**fields: Any) -> Any:
    """The documented order frame with some of its order's fields changed; `...` takes one out."""
    payload = copy.deepcopy(USER["ORDER_TRADE_UPDATE"])
    payload["o"] = {k: v for k, v in {**payload["o"], **fields}.items() if v is not ...}
    return payload


def algo_frame(**fields: Any) -> Any:
    payload = copy.deepcopy(USER["ALGO_UPDATE"])
    payload["o"] = {k: v for k, v in {**payload["o"], **fields}.items() if v is not ...}
    return payload


def only_order(frame: Frame) -> OrderUpdate:
    (change,) = frame.changes
    assert isinstance(change, OrderUpdate)
    return change


def replace_order(update: OrderUpdate, **fields: Any) -> OrderUpdate:
    return update._replace(event=update.event._replace(order=update.order._replace(**fields)))


def test_account_update_after_a_fill() -> None:
    frame = user(USER["ACCOUNT_UPDATE"])
    stamp = Stamp(1793000001046, 1793000001050)
    assert frame == Frame(
        event="ACCOUNT_UPDATE",
        event_time_ms=1793000001050,
        changes=(
            BalanceUpdate("USDT", Decimal("10250.11873421"), Decimal("10150.11873421"), stamp),
            PositionUpdate(
                symbol="BTCUSDT",
                position_side="BOTH",
                position_amt=Decimal("0.025"),
                entry_price=Decimal("91250.4"),
                break_even_price=Decimal("91286.9"),
                unrealized_profit=Decimal("4.11250000"),
                margin_type="cross",
                isolated_wallet=Decimal(0),
                margin_asset=None,
                stamp=stamp,
            ),
        ),
        detail="ORDER",
    )


@pytest.mark.parametrize("positions", [{}, {"P": []}], ids=["as documented", "as recorded in 2026-04"])
def test_funding_without_positions_changes_the_wallet_alone(positions: Any) -> None:
    payload = USER["ACCOUNT_UPDATE-2"]
    frame = user({**payload, "a": {**payload["a"], **positions}})
    assert [type(change) for change in frame.changes] == [BalanceUpdate]
    assert (frame.detail, frame.unknown_fields) == ("FUNDING_FEE", 0)


def test_closed_position_and_margin_asset_of_a_position_row() -> None:
    payload = copy.deepcopy(USER["ACCOUNT_UPDATE"])
    payload["a"]["P"][0].update(pa="0", ep="0.0", bep="", up="0", mt="isolated", ma="USDC")
    position = user(payload).changes[1]
    assert isinstance(position, PositionUpdate)
    assert position.position_amt == 0
    assert position.break_even_price is None
    assert (position.margin_type, position.margin_asset) == ("isolated", "USDC")


def test_a_conditional_order_that_closes_the_position_says_so() -> None:
    order = only_order(user(algo_frame(cp=True, q="0"))).order
    assert (order.close_position, order.quantity, order.stop_price) == (True, Decimal(0), Decimal(88000))
    assert (order.activate_price, order.callback_rate) == (None, None)


@pytest.mark.parametrize(
    "frame",
    [
        algo_frame(o="TRAILING_STOP_MARKET", tp="0", AP="93000.5", cr="1.5", ia=False),
        order_frame(o="TRAILING_STOP_MARKET", ot="TRAILING_STOP_MARKET", sp="91000", AP="93000.5", cr="1.5"),
        order_frame(o="MARKET", ot="TRAILING_STOP_MARKET", sp="91000", AP="93000.5", cr="1.5"),
    ],
    ids=["conditional", "ordinary", "triggered"],
)
def test_a_trailing_stop_has_an_activation_price_and_a_rate_and_no_stop_price(frame: Any) -> None:
    order = only_order(user(frame)).order
    assert (order.activate_price, order.callback_rate) == (Decimal("93000.5"), Decimal("1.5"))
    assert order.stop_price is None, "the venue's means nothing for it"


TRAILING_STOP = {"o": "TRAILING_STOP_MARKET", "AP": "93000.5", "cr": "1.5", "cp": False}


@pytest.mark.parametrize("frame", [algo_frame, order_frame])
@pytest.mark.parametrize(
    ("field", "value"),
    [("cp", None), ("cp", "false"), ("AP", "none"), ("AP", 93000.5), ("cr", []), ("cr", "1.5%")],
)
def test_what_only_decorates_an_order_costs_no_event(frame: Callable[..., Any], field: str, value: object) -> None:
    whole, left = only_order(user(frame(**TRAILING_STOP))), only_order(user(frame(**{**TRAILING_STOP, field: value})))
    name = {"cp": "close_position", "AP": "activate_price", "cr": "callback_rate"}[field]
    assert getattr(whole.order, name) is not None
    assert left == replace_order(whole, **{name: None})


def test_a_cancelled_conditional_order_comes_with_fewer_fields() -> None:
    order = only_order(user(algo_frame(X="CANCELED", V=..., wt=..., pm=..., cp=..., pP=...))).order
    assert (order.status, order.close_position) == ("CANCELED", None)


def test_partial_fill() -> None:
    update = only_order(user(USER["ORDER_TRADE_UPDATE"]))
    assert update.open
    event = update.event
    assert (event.event_id, event.event_type) == ("BTCUSDT:8886774001:FILL:5512345678", "TRADE")
    assert event.received_at_ms == RECEIVED
    assert (event.last_qty, event.last_price, event.trade_id) == (Decimal("0.025"), Decimal("91250.4"), "5512345678")
    assert (event.commission, event.commission_asset) == (Decimal("0.45625200"), "USDT")
    assert (event.realized_profit, event.maker) == (Decimal(0), True)
    assert event.order == Order(
        order_id="8886774001",
        symbol="BTCUSDT",
        client_order_id="my-0001",
        side="BUY",
        position_side="BOTH",
        type="LIMIT",
        orig_type="LIMIT",
        time_in_force="GTC",
        status="PARTIALLY_FILLED",
        price=Decimal("91250.4"),
        stop_price=Decimal(0),
        quantity=Decimal("0.050"),
        executed_qty=Decimal("0.025"),
        avg_price=Decimal("91250.40000"),
        reduce_only=False,
        venue_time_ms=1793000001046,
        source="stream",
        close_position=False,
    )
    assert str(event.order.quantity) == "0.050", "digits stay as the venue sent them"


@pytest.mark.parametrize(
    ("fields", "event_id", "open_"),
    [
        ({"x": "NEW", "X": "NEW", "t": 0, "l": "0", "z": "0"}, "BTCUSDT:8886774001:NEW", True),
        ({"x": "TRADE", "X": "FILLED", "t": 9}, "BTCUSDT:8886774001:FILL:9", False),
        ({"x": "CALCULATED", "X": "FILLED", "t": 9}, "BTCUSDT:8886774001:FILL:9", False),
        ({"x": "CALCULATED", "X": "FILLED", "t": 0}, "BTCUSDT:8886774001:CALCULATED:1793000001046:0.025", False),
        ({"x": "CANCELED", "X": "CANCELED", "t": 0}, "BTCUSDT:8886774001:CANCELED", False),
        ({"x": "CANCELED", "X": "CANCELED", "t": 9}, "BTCUSDT:8886774001:CANCELED", False),
        ({"x": "EXPIRED", "X": "EXPIRED", "t": 0}, "BTCUSDT:8886774001:EXPIRED", False),
        ({"x": "EXPIRED", "X": "EXPIRED_IN_MATCH", "t": 0}, "BTCUSDT:8886774001:EXPIRED_IN_MATCH", False),
        ({"x": "REJECTED", "X": "REJECTED", "t": 0}, "BTCUSDT:8886774001:REJECTED", False),
        (
            {"x": "AMENDMENT", "X": "NEW", "t": 0, "M": "m1"},
            "BTCUSDT:8886774001:AMENDMENT:1793000001046:0.05@91250.4",
            True,
        ),
        (
            {"x": "RESTATED", "X": "NEW", "t": 0, "z": "0.0250"},
            "BTCUSDT:8886774001:RESTATED:NEW:1793000001046:0.025",
            True,
        ),
        ({"x": "TRADE", "X": "FILLED", "t": 0, "z": "100"}, "BTCUSDT:8886774001:TRADE:FILLED:1793000001046:100", False),
        ({"x": "NEW", "X": "NEW_ADL", "t": 0}, "BTCUSDT:8886774001:NEW", True),
    ],
)
def test_event_ids_are_made_of_venue_facts(fields: Any, event_id: str, open_: bool) -> None:
    update = only_order(user(order_frame(**fields)))
    assert (update.event.event_id, update.open) == (event_id, open_)
    assert update.event.event_type == fields["x"]


def test_event_without_a_fill_has_no_fill_fields() -> None:
    event = only_order(user(order_frame(x="NEW", X="NEW", t=0, l="0", L="0", z="0", N=..., n=...))).event
    assert (event.last_qty, event.last_price, event.trade_id, event.commission, event.commission_asset) == (None,) * 5
    assert (event.realized_profit, event.maker) == (None, None)


def test_liquidation_fill_without_fee_or_prior_order() -> None:
    event = only_order(
        user(
            order_frame(
                c="autoclose-17", o="LIQUIDATION", ot="LIQUIDATION", x="CALCULATED", X="FILLED", t=0, n=..., N=...
            )
        )
    ).event
    assert (event.last_qty, event.trade_id, event.commission) == (Decimal("0.025"), None, None)


def test_unknown_descriptive_values_pass_through() -> None:
    order = only_order(user(order_frame(o="SUPER", ot="SUPER", f="ALWAYS"))).order
    assert (order.type, order.time_in_force) == ("SUPER", "ALWAYS")


@pytest.mark.parametrize(
    "fields",
    [
        {"X": []},
        {"ps": "UP"},
        {"S": "HOLD"},
        {"q": "NaN"},
        {"q": "Infinity"},
        {"q": 0.05},
        {"q": ""},
        {"z": "0x1"},
        {"l": "1_0"},
        {"i": "1"},
        {"i": -1},
        {"i": 2**70},
        {"t": None},
        {"T": 1793000001046000},
        {"s": ""},
        {"s": 5},
        {"R": "false"},
        {"x": ...},
        {"z": ...},
        {"c": None},
    ],
)
def test_order_that_cannot_be_trusted_is_an_error(fields: Any) -> None:
    with pytest.raises(FrameError, match=f"frame ORDER_TRADE_UPDATE: {next(iter(fields))}: "):
        user(order_frame(**fields))


def test_conditional_order() -> None:
    update = only_order(user(USER["ALGO_UPDATE"]))
    assert update.open
    assert (update.event.event_id, update.event.event_type) == ("algo-2148719:NEW", "ALGO_NEW")
    assert update.order == Order(
        order_id="algo-2148719",
        symbol="BTCUSDT",
        client_order_id="sl-0007",
        side="SELL",
        position_side="BOTH",
        type="STOP_MARKET",
        orig_type="STOP_MARKET",
        time_in_force="GTC",
        status="NEW",
        price=Decimal(0),
        stop_price=Decimal(88000),
        quantity=Decimal("0.025"),
        executed_qty=None,
        avg_price=None,
        reduce_only=True,
        venue_time_ms=1793000004010,
        source="stream",
        algo_id="2148719",
        close_position=False,
    )


@pytest.mark.parametrize(
    ("status", "open_"),
    [
        ("NEW", True),
        ("TRIGGERING", True),
        ("TRIGGERED", False),
        ("FINISHED", False),
        ("CANCELED", False),
        ("REJECTED", False),
        ("EXPIRED", False),
    ],
)
def test_conditional_order_is_open_until_it_triggers(status: str, open_: bool) -> None:
    update = only_order(user(algo_frame(X=status)))
    assert (update.open, update.event.event_type) == (open_, f"ALGO_{status}")


def test_triggered_order_names_its_engine_order() -> None:
    order = only_order(user(algo_frame(X="FINISHED", ai="8886774002", ap="87999.9", aq="0.025", act="MARKET"))).order
    assert order.actual_order_id == "8886774002"
    assert (order.avg_price, order.executed_qty) == (Decimal("87999.9"), Decimal("0.025"))


def test_engine_order_may_be_missing_or_empty() -> None:
    assert only_order(user(algo_frame(X="TRIGGERED", ai=...))).order.actual_order_id is None
    assert only_order(user(algo_frame(X="TRIGGERED", ai="", ap="", aq=""))).order.avg_price is None


def test_second_new_of_a_trailing_stop_is_an_event_of_its_own() -> None:
    ids = [only_order(user(algo_frame(o="TRAILING_STOP_MARKET", ia=ia))).event.event_id for ia in (False, True)]
    assert ids == ["algo-2148719:NEW", "algo-2148719:NEW:ACTIVATED"]
    assert only_order(user(algo_frame(ia=True))).event.event_id == "algo-2148719:NEW"


def test_rejected_conditional_order_says_why() -> None:
    assert user(algo_frame(X="REJECTED", rm="Margin is\ninsufficient.")).detail == "Margin isinsufficient."


@pytest.mark.parametrize("status", ["paused", "", "A B", 5, None, "X" * 65])
def test_a_status_that_is_no_word_is_an_error(status: object) -> None:
    for frame, event in ((algo_frame(X=status), "ALGO_UPDATE"), (order_frame(X=status), "ORDER_TRADE_UPDATE")):
        with pytest.raises(FrameError, match=f"frame {event}: X: is .*, expected a word in capitals"):
            user(frame)


ENDED = {"X": "EXPIRED_BY_RISK", "t": 0, "l": "0"}


@pytest.mark.parametrize(
    ("fields", "is_open", "event_id", "notice"),
    [
        ({"x": "EXPIRED", **ENDED}, False, "BTCUSDT:8886774001:EXPIRED_BY_RISK", "unknown"),
        ({"x": "CANCELED", **ENDED}, False, "BTCUSDT:8886774001:EXPIRED_BY_RISK", "unknown"),
        ({"x": "TRADE", "X": "FILLED_2", "z": "0.050"}, False, "BTCUSDT:8886774001:FILL:5512345678", "unknown"),
        ({"x": "TRADE", "X": "WORKING"}, True, "BTCUSDT:8886774001:FILL:5512345678", "unknown"),
        ({"x": "NEW", "X": "WORKING", "t": 0, "z": "0"}, True, "BTCUSDT:8886774001:NEW", "unknown"),
        (
            {"x": "RISK", **ENDED},
            True,
            "BTCUSDT:8886774001:RISK:EXPIRED_BY_RISK:1793000001046:0.025",
            "doubtful",
        ),
        ({"x": "RISK", "X": "CANCELED", "t": 0}, False, "BTCUSDT:8886774001:CANCELED", None),
    ],
    ids=["expired", "cancelled", "all is filled", "a part is filled", "placed", "nothing is known", "a known end"],
)
def test_a_status_that_nobody_named_is_passed_on(
    fields: dict[str, object], is_open: bool, event_id: str, notice: str | None
) -> None:
    frame = user(order_frame(**fields))
    update = only_order(frame)
    assert (update.open, update.event.event_id, frame.notice) == (is_open, event_id, notice)
    assert (update.order.status, update.event.event_type) == (fields["X"], fields["x"])
    assert frame.detail == (f"an order with the unknown status {fields['X']}" if notice else "")


def test_an_unknown_status_of_a_conditional_order_is_passed_on_and_doubtful() -> None:
    frame = user(algo_frame(X="PAUSED"))
    update = only_order(frame)
    assert (update.open, update.event.event_id, update.event.event_type) == (True, "algo-2148719:PAUSED", "ALGO_PAUSED")
    assert (frame.notice, frame.detail) == ("doubtful", "a conditional order with the unknown status PAUSED")


def test_account_configuration() -> None:
    assert user(USER["ACCOUNT_CONFIG_UPDATE"]).changes == (LeverageUpdate("BTCUSDT", 20, 1793000003000),)
    assert user(USER["ACCOUNT_CONFIG_UPDATE-2"]).changes == (MultiAssetsUpdate(True, "USD", 1793000003500),)
    assert user({"e": "ACCOUNT_CONFIG_UPDATE", "E": 1, "T": 1, "az": {}}).notice == "unknown"


@pytest.mark.parametrize(
    ("name", "notice", "detail"),
    [
        ("TRADE_LITE", "ignored", ""),
        ("MARGIN_CALL", "margin_call", "ETHUSDT LONG"),
        ("CONDITIONAL_ORDER_TRIGGER_REJECT", "ignored", "ETHUSDT: Due to the order could not be filled immediately"),
        ("STRATEGY_UPDATE", "ignored", "GRID BTCUSDT NEW"),
        ("GRID_UPDATE", "ignored", "GRID BTCUSDT WORKING"),
        ("listenKeyExpired", "stream_ended", ""),
        ("serverShutdown", "reconnect_soon", ""),
    ],
)
def test_events_without_changes(name: str, notice: str, detail: str) -> None:
    frame = user(USER[name])
    assert (frame.event, frame.notice, frame.changes, frame.unknown_fields) == (name, notice, (), 0)
    assert detail in frame.detail
    assert frame.event_time_ms > 0


@pytest.mark.parametrize("time", ["1793000000123", 1793000000123])
def test_stream_ended_of_all_ages(time: object) -> None:
    frame = user({"e": "listenKeyExpired", "E": time})
    assert (frame.notice, frame.event_time_ms) == ("stream_ended", 1793000000123)


def test_stream_ended_and_shutdown_are_heard_whatever_else_they_hold() -> None:
    assert user({"e": "listenKeyExpired", "E": None, "listenKey": []}).notice == "stream_ended"
    assert user({"e": "serverShutdown"}).notice == "reconnect_soon"
    assert user({"e": "MARGIN_CALL", "p": [{"s": 1}, 5]}).notice == "margin_call"


def test_listen_key_is_never_in_a_frame() -> None:
    key = USER["listenKeyExpired"]["listenKey"]
    for payload in USER.values():
        assert key not in repr(user({"stream": key, "data": payload}))


def test_wrapped_frames_mean_the_same() -> None:
    for payload in USER.values():
        assert user({"stream": "label", "data": payload}) == user(payload)


def test_unknown_events_and_fields_are_counted() -> None:
    assert user({"e": "NEW_THING", "E": 5, "x": 1}) == Frame(
        "NEW_THING", 5, notice="unknown", detail="an event of a newer venue"
    )
    assert user({**order_frame(zz=1, zy=2), "more": 0}).unknown_fields == 3
    payload = copy.deepcopy(USER["ACCOUNT_UPDATE"])
    payload["a"]["P"][0]["new"] = payload["a"]["B"][0]["new"] = payload["a"]["new"] = payload["new"] = 1
    assert user(payload).unknown_fields == 4


def test_replies_to_our_requests() -> None:
    assert user({"result": None, "id": 1}).notice == "ignored"
    assert market({"result": None, "id": 1}).notice == "ignored"
    with pytest.raises(FrameError, match="refused a request on the stream, code 2"):
        market({"error": {"code": 2, "msg": "unknown stream pqia91ma"}, "id": 1})


def test_coin_m_frames_are_left_out() -> None:
    assert user({**order_frame(X="MELTED"), "st": 2}).notice == "ignored"
    assert user({**algo_frame(), "st": 1}).notice is None
    assert market({**MARKET["markPriceUpdate"], "st": 2}).changes == ()


def test_mark_price() -> None:
    payload = MARKET["markPriceUpdate"]
    expected = Frame(
        "markPriceUpdate", 1793000000000, (MarkPriceUpdate("BTCUSDT", Decimal("91414.90000000"), 1793000000000),)
    )
    assert market(payload) == expected
    assert market({"stream": "btcusdt@markPrice@1s", "data": payload}) == expected


def test_delivery_contract_without_funding() -> None:
    assert len(market({**MARKET["markPriceUpdate"], "r": "", "T": 0}).changes) == 1


@pytest.mark.parametrize("price", ["", "0", "0.00000000", None])
def test_price_that_is_none_changes_nothing(price: object) -> None:
    frame = market({**MARKET["markPriceUpdate"], "p": price})
    assert (frame.changes, frame.notice) == ((), "ignored")


def test_negative_price_is_an_error() -> None:
    with pytest.raises(FrameError):
        market({**MARKET["markPriceUpdate"], "p": "-1"})


@pytest.mark.parametrize("wrapped", [False, True])
def test_array_of_prices_bare_and_wrapped(wrapped: bool) -> None:
    row = MARKET["markPriceUpdate"]
    prices = [row, {**row, "s": "BTCUSD_PERP", "st": 2}, {**row, "s": "ETHUSDT", "E": row["E"] + 5}]
    frame = market({"stream": "!markPrice@arr", "data": prices} if wrapped else prices)
    assert [change.symbol for change in frame.changes if isinstance(change, MarkPriceUpdate)] == ["BTCUSDT", "ETHUSDT"]
    assert (frame.event_time_ms, frame.notice) == (row["E"] + 5, None)
    assert market([]).notice == "ignored"


HOSTILE = [
    b"",
    b"null",
    b"[]",
    b"5",
    b'"x"',
    b"{}",
    b"NaN",
    b'{"e":NaN}',
    b'{"e":Infinity}',
    b"\xff\xfe",
    b'{"e":"\xff"}',
    b'{"e":"\\ud800"}',
    b"[" * 100_000 + b"]" * 100_000,
    b'{"e":' * 5_000 + b"1" + b"}" * 5_000,
    b'{"e":1e999}',
    b'{"e":' + b"9" * 5_000 + b"}",
    b'{"e":[]}',
    b'{"e":{}}',
    b'{"e":""}',
    b'{"stream":"x"}',
    b'{"stream":"x","data":null}',
    b'{"stream":"x","data":{"stream":"y","data":{}}}',
    b'{"event":[]}',
    b'{"error":"x"}',
    b'{"e":"ACCOUNT_UPDATE"}',
    b'{"e":"ACCOUNT_UPDATE","E":1,"T":1,"a":[]}',
    b'{"e":"ACCOUNT_UPDATE","E":1,"T":1,"a":{"B":{}}}',
    b'{"e":"ACCOUNT_UPDATE","E":1,"T":1,"a":{"B":[1]}}',
    b'{"e":"ACCOUNT_UPDATE","E":1,"T":1,"a":{"B":null}}',
    b'{"e":"ACCOUNT_UPDATE","E":true,"T":1,"a":{}}',
    b'{"e":"ORDER_TRADE_UPDATE","E":1,"o":null}',
    b'{"e":"ALGO_UPDATE","E":1,"o":[]}',
    b'{"e":"ACCOUNT_CONFIG_UPDATE","E":1,"ac":[]}',
    b'{"e":"ACCOUNT_CONFIG_UPDATE","E":1,"ai":{"j":1}}',
]


@pytest.mark.parametrize("frame", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_frames_are_frame_errors(frame: bytes) -> None:
    with pytest.raises(FrameError) as caught:
        decode_user_frame(frame, RECEIVED)
    assert len(str(caught.value)) < 300


def test_text_with_a_lone_surrogate_is_a_frame_error() -> None:
    with pytest.raises(FrameError):
        decode_user_frame('{"e":"\ud800"}', RECEIVED)


def expect_frame_or_frame_error(frame: bytes | str) -> None:
    for decode in (lambda: decode_user_frame(frame, RECEIVED), lambda: decode_market_frame(frame)):
        with contextlib.suppress(FrameError):
            assert isinstance(decode(), Frame)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
@settings(derandomize=True, max_examples=500, deadline=None, database=None)
def test_any_bytes_give_a_frame_or_a_frame_error(frame: bytes | str) -> None:
    expect_frame_or_frame_error(frame)


STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**200), max_value=2**200),
    st.floats(),  # json writes NaN and Infinity as such: not JSON, and sent all the same
    st.text(max_size=20),
    st.sampled_from(
        ["", "0", "NaN", "sNaN", "-Infinity", "1e999999999", "1_0", "٣", "NEW", "BOTH", "\ud800", "9" * 500]
    ),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def places(value: object) -> list[tuple[Any, Any]]:
    """Every (container, key) in a payload."""
    if isinstance(value, dict):
        return [place for key in value for place in ((value, key), *places(value[key]))]
    if isinstance(value, list):
        return [place for i, inner in enumerate(value) for place in ((value, i), *places(inner))]
    return []


@given(payload=st.sampled_from([*USER.values(), *MARKET.values(), list(MARKET.values())]), data=st.data())
@settings(derandomize=True, max_examples=1500, deadline=None, database=None)
def test_mutated_payloads_give_a_frame_or_a_frame_error(payload: Any, data: st.DataObject) -> None:
    payload = copy.deepcopy(payload)
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(payload) or [({}, "e")]))
        if isinstance(container, dict) and data.draw(st.booleans()):
            container.pop(key, None)
        else:
            container[key] = data.draw(STRANGE)
    expect_frame_or_frame_error(json.dumps(payload))


@given(payload=st.sampled_from(list(USER.values())), data=st.data())
@settings(derandomize=True, max_examples=500, deadline=None, database=None)
def test_damaged_bytes_give_a_frame_or_a_frame_error(payload: Any, data: st.DataObject) -> None:
    frame = bytearray(json.dumps(payload).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    expect_frame_or_frame_error(bytes(frame[: data.draw(st.integers(0, len(frame)))]))
