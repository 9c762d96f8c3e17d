from __future__ import annotations

import hashlib
import hmac
import json
from random import Random
from typing import Any

import pytest
from support.binance_account import NOW, Account, D, error

from statecast.simulator import trading
from statecast.simulator.binance.exchange import Response
from statecast.simulator.binance.streams import Stream

# -- authentication --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda one: one.raw("GET", "/fapi/v3/account", key=""), (401, -2014)),
        (lambda one: one.signed("GET", "/fapi/v3/account", key="nobody"), (401, -2015)),
        (lambda one: one.signed("GET", "/fapi/v3/account", secret="wrong"), (400, -1022)),
        (lambda one: one.raw("GET", "/fapi/v3/account", "timestamp=1"), (400, -1102)),
        (lambda one: one.signed("GET", "/fapi/v3/account", timestamp=NOW - 5001), (400, -1021)),
        (lambda one: one.signed("GET", "/fapi/v3/account", timestamp=NOW + 1000), (400, -1021)),
        (lambda one: one.signed("POST", "/fapi/v1/leverage", key="reader", secret="s2"), (401, -2015)),
        (lambda one: one.raw("GET", "/fapi/v9/account"), (404, -5000)),
        (lambda one: one.raw("POST", "/fapi/v1/listenKey", key=""), (401, -2014)),
        (lambda one: one.raw("PUT", "/fapi/v1/listenKey"), (400, -1125)),
        (lambda one: one.signed("POST", "/fapi/v1/order", symbol="BTCUSDT", type="STOP_MARKET"), (400, -4120)),
        (lambda one: one.signed("GET", "/fapi/v1/order", symbol="BTCUSDT", orderId=5), (400, -2013)),
        (lambda one: one.signed("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=5), (400, -2011)),
        (lambda one: one.signed("GET", "/fapi/v1/openOrders", symbol="NOPE"), (400, -1121)),
        (lambda one: one.raw("GET", "/fapi/v1/time", body=b"\xff"), (400, -1100)),
    ],
)
def test_what_is_declined(answer: Any, expected: tuple[int, int]) -> None:
    assert error(answer(Account())) == expected


def test_a_wider_window_takes_an_older_request() -> None:
    account = Account()
    assert account.get("/fapi/v3/balance", timestamp=NOW - 20_000, recvWindow=30_000)
    assert account.get("/fapi/v3/balance", timestamp=NOW + 999)


def test_a_body_is_signed_behind_the_query() -> None:
    account = Account()
    query, body = "symbol=BTCUSDT", f"leverage=5&timestamp={NOW}"
    signature = hmac.new(b"s1", (query + body).encode(), hashlib.sha256).hexdigest()
    answer = account.raw("POST", "/fapi/v1/leverage", query, body=f"{body}&signature={signature}".encode())
    assert json.loads(answer.body)["leverage"] == 5


def test_permissions_are_answered_per_key() -> None:
    account = Account()
    path = "/sapi/v1/account/apiRestrictions"
    reader = json.loads(account.signed("GET", path, key="reader", secret="s2").body)
    assert (reader["enableReading"], reader["enableFutures"]) == (True, False)
    assert account.get(path)["enableFutures"] is True


# -- listen keys -----------------------------------------------------------------------------------------------------


def test_the_account_has_one_listen_key_for_everybody() -> None:
    account = Account()
    first = json.loads(account.raw("POST", "/fapi/v1/listenKey").body)
    assert len(first["listenKey"]) == 64
    assert json.loads(account.raw("POST", "/fapi/v1/listenKey", key="reader").body) == first
    assert json.loads(account.raw("PUT", "/fapi/v1/listenKey").body) == first
    assert json.loads(account.raw("DELETE", "/fapi/v1/listenKey", key="reader").body) == {}
    assert error(account.raw("PUT", "/fapi/v1/listenKey")) == (400, -1125)
    assert json.loads(account.raw("POST", "/fapi/v1/listenKey").body) != first


def test_keeping_alive_postpones_the_end() -> None:
    account = Account()
    stream = account.follow()
    account.now_ms += 3_599_999
    assert account.raw("PUT", "/fapi/v1/listenKey").status == 200
    account.now_ms += 3_599_999
    account.exchange.tick(account.now_ms)
    assert account.frames(stream) == []
    account.now_ms += 1
    account.exchange.tick(account.now_ms)
    [frame] = account.frames(stream)
    assert (frame["e"], frame["E"]) == ("listenKeyExpired", account.now_ms)
    account.order()
    assert account.frames(stream) == []
    assert stream.close_code == 0


def test_a_deleted_key_is_silent_for_everyone_without_a_word() -> None:
    account = Account()
    stream = account.follow()
    account.raw("DELETE", "/fapi/v1/listenKey", key="reader")
    account.order()
    assert account.frames(stream) == []


def test_every_socket_gets_a_full_copy() -> None:
    account = Account()
    first, second = account.follow(), account.follow()
    account.order()
    frames = account.frames(first)
    assert frames == account.frames(second)
    assert len(frames) == 4


# -- delivery rules of the document, §3 ------------------------------------------------------------------------------


def test_an_unfilled_order_sends_no_account_update() -> None:
    account = Account()
    stream = account.follow()
    placed = account.order(type="LIMIT", price="90000", timeInForce="GTC")
    assert "avgPrice" not in placed
    account.signed("DELETE", "/fapi/v1/order", symbol="BTCUSDT", orderId=placed["orderId"])
    assert [(frame["e"], frame["o"]["x"]) for frame in account.frames(stream)] == [
        ("ORDER_TRADE_UPDATE", "NEW"),
        ("ORDER_TRADE_UPDATE", "CANCELED"),
    ]


def test_the_three_frames_of_a_fill_share_their_time() -> None:
    account = Account()
    stream = account.follow()
    account.now_ms += 7
    account.order(newClientOrderId="mine")
    _, lite, update, trade = account.frames(stream)
    assert [one["e"] for one in (lite, update, trade)] == ["TRADE_LITE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"]
    assert lite["T"] == update["T"] == trade["T"] == NOW + 7
    assert update["a"] == {
        "m": "ORDER",
        "B": [{"a": "USDT", "wb": "9995.43747500", "cw": "9995.43747500", "bc": "0"}],
        "P": [
            {
                "s": "BTCUSDT",
                "pa": "0.1",
                "ep": "91250.5",
                "bep": "91296.12525",
                "cr": "0.00000000",
                "up": "-0.01000000",
                "mt": "cross",
                "iw": "0",
                "ps": "BOTH",
                "ma": "USDT",
            }
        ],
    }
    expected = {"i": 8886774001, "c": "mine", "l": "0.1", "L": "91250.5", "t": 5512345678, "q": "0.1", "S": "BUY"}
    assert {name: lite[name] for name in expected} == expected
    assert {name: trade["o"][name] for name in expected} == expected
    assert (trade["o"]["N"], trade["o"]["n"], trade["o"]["ap"]) == ("USDT", "4.56252500", "91250.50000")


def test_a_closed_position_is_sent_as_zero() -> None:
    account = Account()
    account.order()
    stream = account.follow()
    account.order(side="SELL", reduceOnly="true")
    row = next(frame for frame in account.frames(stream) if frame["e"] == "ACCOUNT_UPDATE")["a"]["P"][0]
    assert (row["pa"], row["ep"], row["bep"], row["up"]) == ("0", "0", "0", "0")
    assert row["cr"] == "-0.02000000"
    assert account.get("/fapi/v3/positionRisk") == []


def test_transfers_name_no_position_and_funding_names_its_symbol() -> None:
    account = Account()
    account.order()
    stream = account.follow()
    account.exchange.publish(account.ledger.transfer("USDT", D("12.5"), account.now_ms), account.now_ms)
    account.exchange.publish(account.ledger.fund("BTCUSDT", account.now_ms), account.now_ms)
    transfer, funding = (frame["a"] for frame in account.frames(stream))
    assert (transfer["m"], transfer["B"][0]["bc"], transfer["P"]) == ("DEPOSIT", "12.50000000", [])
    assert (funding["m"], funding["S"], funding["B"][0]["bc"]) == ("FUNDING_FEE", "BTCUSDT", "-0.91250400")
    assert funding["P"] == [], "as recorded in 2026-04"


def test_funding_falls_due_by_itself() -> None:
    account = Account()
    account.order()
    stream = account.follow()
    account.now_ms = (NOW // 28_800_000 + 1) * 28_800_000
    account.raw("POST", "/fapi/v1/listenKey")
    account.exchange.tick(account.now_ms)
    assert "FUNDING_FEE" in [frame["a"]["m"] for frame in account.frames(stream) if frame["e"] == "ACCOUNT_UPDATE"]


# -- faults ----------------------------------------------------------------------------------------------------------


def test_faults_on_the_user_stream() -> None:
    account = Account()
    stream = account.follow()
    account.exchange.fault("drop_user_frames", {"events": ["TRADE_LITE"]}, account.now_ms)
    account.exchange.fault("delay_user_frames", {"delay_ms": 30, "events": ["ACCOUNT_UPDATE"]}, account.now_ms)
    account.order()
    assert [frame["o"]["x"] for frame in account.frames(stream)] == ["NEW"]
    account.now_ms += 30
    assert [frame["e"] for frame in account.frames(stream)] == ["ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"]
    account.exchange.fault("send_raw", {"text": "{not json"}, account.now_ms)
    assert stream.take(account.now_ms) == [b"{not json"]
    account.exchange.fault("expire_listen_key", {}, account.now_ms)
    assert [frame["e"] for frame in account.frames(stream)] == ["listenKeyExpired"]
    account.exchange.fault("cut_sockets", {"kind": "private"}, account.now_ms)
    assert stream.close_code == 1006


def test_open_sockets_fall_silent_for_good_and_new_ones_work() -> None:
    account = Account()
    old, market = account.follow(), account.exchange.connect("/market/stream", "streams=btcusdt@markPrice@1s", NOW)
    assert isinstance(market, Stream)
    account.exchange.fault("mute_open_sockets", {}, NOW)
    new = account.follow()
    account.order()
    account.exchange.fault("clear", {}, NOW)
    account.order()
    account.exchange.publish_marks(NOW)
    assert account.frames(old) == []
    assert [frame["e"] for frame in account.frames(new)].count("TRADE_LITE") == 2
    assert account.frames(market)


def test_a_listen_key_ends_in_every_way_that_was_seen() -> None:
    account = Account()
    stream = account.follow()
    account.exchange.fault("expire_listen_key", {"times": 2, "text_time": True, "with_key": False}, NOW)
    assert account.frames(stream) == [{"e": "listenKeyExpired", "E": str(NOW)}] * 2
    stream = account.follow()
    account.exchange.fault("forget_listen_key", {}, NOW)
    account.order()
    assert account.frames(stream) == []
    assert error(account.raw("PUT", "/fapi/v1/listenKey")) == (400, -1125)


def test_rest_tells_of_the_account_as_it_was() -> None:
    account = Account()
    account.order()
    account.exchange.fault("hold_rest", {"paths": ["/fapi/v3/positionRisk"]}, NOW)
    account.order()
    (row,) = account.get("/fapi/v3/positionRisk")
    (now,) = account.get("/fapi/v3/account")["positions"]
    assert (row["positionAmt"], now["positionAmt"]) == ("0.1", "0.2")
    account.exchange.fault("hold_rest", {"on": False}, NOW)
    (row,) = account.get("/fapi/v3/positionRisk")
    assert row["positionAmt"] == "0.2"


def test_each_path_is_behind_by_its_own_time() -> None:
    account = Account()
    account.exchange.fault("lag_rest", {"paths": ["/fapi/v1/openOrders", "/fapi/v1/order"], "ms": 800}, NOW)
    account.exchange.fault("lag_rest", {"paths": ["/fapi/v1/allOrders"], "ms": 3000}, NOW)
    placed = account.order(type="LIMIT", price="90000", timeInForce="GTC")
    symbol, order_id = placed["symbol"], placed["orderId"]

    def listed() -> list[int]:
        return [len(account.get(f"/fapi/v1/{path}", symbol=symbol)) for path in ("openOrders", "allOrders")]

    def known() -> int:
        return account.signed("GET", "/fapi/v1/order", symbol=symbol, orderId=order_id).status

    assert (listed(), known()) == ([0, 0], 400)
    assert account.get("/fapi/v1/openOrder", symbol=symbol, orderId=order_id)["orderId"] == order_id
    account.now_ms += 799
    assert (listed(), known()) == ([0, 0], 400)
    account.now_ms += 1
    assert (listed(), known()) == ([1, 0], 200)
    account.now_ms += 2200
    assert listed() == [1, 1]
    account.exchange.fault("clear", {}, account.now_ms)
    account.signed("DELETE", "/fapi/v1/order", symbol=symbol, orderId=order_id)
    assert listed() == [0, 1]


def test_a_young_order_does_not_exist_by_its_id() -> None:
    account = Account()
    account.exchange.fault("hide_young_orders", {"ms": 2000}, NOW)
    placed = account.order(type="LIMIT", price="90000", timeInForce="GTC")
    algo = {"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.1", "algoType": "CONDITIONAL"}
    waiting = account.post("/fapi/v1/algoOrder", **algo, type="STOP_MARKET", triggerPrice="80000")
    asked = [
        ("/fapi/v1/order", {"symbol": "BTCUSDT", "orderId": placed["orderId"]}),
        ("/fapi/v1/openOrder", {"symbol": "BTCUSDT", "orderId": placed["orderId"]}),
        ("/fapi/v1/algoOrder", {"algoId": waiting["algoId"]}),
    ]
    account.now_ms += 1999
    assert [error(account.signed("GET", path, **params)) for path, params in asked] == [(400, -2013)] * 3
    assert len(account.get("/fapi/v1/openOrders")) == 1
    account.now_ms += 1
    assert [account.signed("GET", path, **params).status for path, params in asked] == [200] * 3


def test_of_a_delisted_symbol_there_is_nothing() -> None:
    account = Account()
    stream = account.follow()
    account.order()
    placed = account.order(type="LIMIT", price="90000", timeInForce="GTC")
    account.frames(stream)
    account.exchange.publish(account.ledger.delist("BTCUSDT", NOW, reported=True), NOW)
    sent = [(one["o"]["c"], one["o"]["x"]) for one in account.frames(stream) if one["e"] == "ORDER_TRADE_UPDATE"]
    assert sent[0] == (placed["clientOrderId"], "EXPIRED")
    assert sent[1][0].startswith("settlement_autoclose-")
    for path, params in (("order", {"orderId": placed["orderId"]}), ("openOrders", {}), ("userTrades", {})):
        answer = account.signed("GET", f"/fapi/v1/{path}", symbol="BTCUSDT", **params)
        assert error(answer) == (400, -1121)
    for path in ("/fapi/v1/openOrders", "/fapi/v1/allOrders", "/fapi/v3/positionRisk"):
        assert account.get(path) == []
    listed = json.loads(account.raw("GET", "/fapi/v1/exchangeInfo").body)["symbols"]
    assert "BTCUSDT" not in [one["symbol"] for one in listed]


def test_a_status_that_no_document_has() -> None:
    account = Account()
    placed = account.order(type="LIMIT", price="90000", timeInForce="GTC")
    account.ledger.expire_by_risk(placed["orderId"], NOW)
    assert account.get("/fapi/v1/allOrders", symbol="BTCUSDT")[0]["status"] == "EXPIRED_BY_RISK"


def test_a_clock_that_is_set_back_on_an_open_connection() -> None:
    account = Account()
    stream = account.follow()
    account.order()
    account.exchange.fault("shift_clock", {"by_ms": -2000}, NOW)
    account.order(timestamp=NOW - 2000)
    times = [frame["T"] for frame in account.frames(stream) if frame["e"] == "ACCOUNT_UPDATE"]
    assert times == [NOW, NOW - 2000]
    assert stream.close_code == 0


def test_mark_prices_of_an_hour_ahead() -> None:
    account = Account()
    stream = account.exchange.connect("/market/ws/!markPrice@arr@1s", "", NOW)
    assert isinstance(stream, Stream)
    account.exchange.fault("shift_marks", {"by_ms": 3_600_000}, NOW)
    for _ in range(2):
        account.exchange.publish_marks(NOW)
    first, second = (json.loads(frame) for frame in stream.take(NOW))
    assert (first[0]["E"], second[0]["E"]) == (NOW + 3_600_000, NOW)


def test_maintenance_ends_everything_until_it_is_over() -> None:
    account = Account()
    stream = account.follow()
    account.exchange.fault("maintenance", {}, NOW)
    assert stream.close_code == 1006
    assert error(account.signed("GET", "/fapi/v3/account")) == (503, -1016)
    refused = account.exchange.connect("/market/ws", "", NOW)
    assert isinstance(refused, Response)
    assert refused.status == 503
    account.exchange.fault("maintenance", {"on": False}, NOW)
    account.get("/fapi/v3/account")
    account.follow()


def test_faults_on_rest() -> None:
    account = Account()
    busy = {"count": 1, "status": 503, "body": '{"code":-1008,"msg":"busy"}', "delay_ms": 40}
    account.exchange.fault("answer_rest", busy, NOW)
    answer = account.raw("GET", "/fapi/v1/time")
    assert (answer.status, answer.delay_ms, json.loads(answer.body)["code"]) == (503, 40, -1008)
    account.exchange.fault("shift_clock", {"by_ms": -6000}, NOW)
    assert json.loads(account.raw("GET", "/fapi/v1/time").body) == {"serverTime": NOW - 6000}
    assert error(account.signed("GET", "/fapi/v3/account")) == (400, -1021)


# -- a long run, as JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
@pytest.mark.parametrize("seed", [1, 2026])
def test_whoever_folds_the_frames_of_2000_steps_holds_what_rest_says(seed: int, hedge: bool) -> None:
    account = Account(hedge=hedge)
    stream, rng = account.follow(), Random(seed)
    wallets: dict[str, tuple[str, str, int]] = {}
    positions: dict[tuple[str, str], dict[str, Any]] = {}
    orders: dict[int, dict[str, Any]] = {}
    algos: dict[int, str] = {}
    events: list[dict[str, Any]] = []
    for _ in range(2_000):
        account.now_ms += 211
        account.exchange.publish(trading.step(account.ledger, rng, account.now_ms), account.now_ms)
        for frame in account.frames(stream):
            match frame["e"]:
                case "ACCOUNT_UPDATE":
                    wallets |= {row["a"]: (row["wb"], row["cw"], frame["T"]) for row in frame["a"]["B"]}
                    positions |= {(row["s"], row["ps"]): row | {"T": frame["T"]} for row in frame["a"].get("P", [])}
                case "ORDER_TRADE_UPDATE":
                    events.append(frame["o"])
                    orders[frame["o"]["i"]] = frame["o"]
                case "ALGO_UPDATE":
                    algos[frame["o"]["aid"]] = frame["o"]["X"]
    for row in account.get("/fapi/v3/account")["assets"]:
        if not row["updateTime"]:
            continue
        assert wallets[row["asset"]] == (row["walletBalance"], row["crossWalletBalance"], row["updateTime"])
    risks = {(row["symbol"], row["positionSide"]): row for row in account.get("/fapi/v3/positionRisk")}
    assert {key for key, row in positions.items() if row["pa"] != "0"} <= set(risks)
    for key, risk in risks.items():
        row = positions.get(key, {"pa": "0", "ep": "0", "bep": "0", "T": 0, "iw": "0"})
        sent = [row[name] for name in ("pa", "ep", "bep", "T", "iw")]
        fields = ("positionAmt", "entryPrice", "breakEvenPrice", "updateTime", "isolatedWallet")
        assert sent == [risk[name] for name in fields]
    still_open = {i for i, order in orders.items() if order["X"] in ("NEW", "PARTIALLY_FILLED")}
    listed = {row["orderId"]: row for row in account.get("/fapi/v1/openOrders")}
    assert still_open == set(listed)
    for order_id, row in listed.items():
        sent_order = orders[order_id]
        assert (sent_order["z"], sent_order["q"], sent_order["p"], sent_order["c"]) == (
            row["executedQty"],
            row["origQty"],
            row["price"],
            row["clientOrderId"],
        )
    waiting = {row["algoId"] for row in account.get("/fapi/v1/openAlgoOrders")}
    assert {aid for aid, state in algos.items() if state == "NEW"} == waiting
    identities = [(one["s"], one["i"], one["x"], one["X"], one["T"], one["z"], one["t"]) for one in events]
    assert len(identities) == account.ledger.order_events_seen
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize(("count", "opens"), [(300, True), (400, False)])
def test_a_url_that_is_too_long_opens_no_socket(count: int, opens: bool) -> None:
    streams = "streams=" + "/".join(f"s{number}usdt@markPrice@1s" for number in range(count))
    assert isinstance(Account().exchange.connect("/market/stream", streams, NOW), Stream) is opens
