from __future__ import annotations

import json

import pytest

from statecast.simulator.binance.frames import Frame
from statecast.simulator.binance.streams import MAX_BACKLOG, MAX_REQUEST_BYTES, Stream, mark_streams, parse_target

FRAME = Frame("ORDER_TRADE_UPDATE", {"e": "ORDER_TRADE_UPDATE"})


def stream(target: str) -> Stream:
    path, _, query = target.partition("?")
    found = parse_target(path, query)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("/private/ws/KEY", True),
        ("/private/ws?listenKey=KEY", True),
        ("/private/ws?listenKey=KEY&events=ORDER_TRADE_UPDATE/ACCOUNT_UPDATE", True),
        ("/private/ws?listenKey=KEY&events=ACCOUNT_UPDATE", False),
        ("/private/stream?listenKey=A&events=ACCOUNT_UPDATE&listenKey=KEY", True),
        ("/private/ws?listenKey=OTHER", False),
        ("/ws/KEY", False),
        ("/stream?streams=KEY", False),
        ("/market/ws?listenKey=KEY", False),
        ("/public/ws/KEY", False),
    ],
)
def test_only_the_private_root_carries_user_data(target: str, wanted: bool) -> None:
    assert stream(target).wants("KEY", FRAME.event) is wanted


def test_the_end_of_the_key_is_sent_whatever_was_asked_for() -> None:
    assert stream("/private/ws?listenKey=KEY&events=ACCOUNT_UPDATE").wants("KEY", "listenKeyExpired")


@pytest.mark.parametrize("path", ["/", "/private", "/privat/ws", "/fapi/v1/time"])
def test_there_is_no_socket_elsewhere(path: str) -> None:
    assert parse_target(path, "") is None


def test_the_stream_form_wraps_its_frames() -> None:
    wrapped, bare = stream("/private/stream?listenKey=KEY"), stream("/private/ws?listenKey=KEY")
    for one in (wrapped, bare):
        one.send_user("KEY", FRAME, 5)
    assert json.loads(wrapped.take(5)[0]) == {"stream": "KEY", "data": FRAME.body}
    assert json.loads(bare.take(5)[0]) == FRAME.body


def test_subscribing_later() -> None:
    one = stream("/private/stream")
    assert not one.wants("KEY", FRAME.event)
    one.receive('{"method":"SUBSCRIBE","params":["KEY"],"id":"a1"}', 0)
    assert one.wants("KEY", FRAME.event)
    one.receive('{"method":"LIST_SUBSCRIPTIONS","id":2}', 0)
    one.receive('{"method":"UNSUBSCRIBE","params":["KEY"],"id":3}', 0)
    assert not one.wants("KEY", FRAME.event)
    answers = [json.loads(frame) for frame in one.take(0)]
    assert answers == [{"result": None, "id": "a1"}, {"result": ["KEY"], "id": 2}, {"result": None, "id": 3}]


@pytest.mark.parametrize("method", ["SUBSCRIBE", "UNSUBSCRIBE"])
def test_a_request_that_is_too_long_has_no_effect_and_no_reply(method: str) -> None:
    names = [f"s{number}usdt@markPrice@1s" for number in range(300)]
    one = stream("/market/stream?streams=" + "/".join(names[:100]))
    text = json.dumps({"method": method, "params": names, "id": 1}, separators=(",", ":"))
    assert len(text) > MAX_REQUEST_BYTES
    one.receive(text, 0)
    one.receive(text.encode(), 0)
    assert one.take(0) == []
    assert list(one.subscriptions) == names[:100]


@pytest.mark.parametrize("text", ["{", "[]", '{"method":"DANCE"}', '{"method":"SUBSCRIBE","params":"x"}'])
def test_nonsense_is_answered_with_an_error(text: str) -> None:
    one = stream("/market/ws")
    one.receive(text, 0)
    assert "error" in json.loads(one.take(0)[0])


def test_more_than_ten_frames_a_second_close_the_socket() -> None:
    one = stream("/market/ws")
    for _ in range(10):
        one.count_frame(1000)
    one.count_frame(2000)
    assert one.close_code == 0
    for _ in range(10):
        one.count_frame(2999)
    assert one.close_code == 1008


def test_a_late_frame_holds_up_what_is_behind_it() -> None:
    one = stream("/private/ws?listenKey=KEY")
    one.send(b"1", 0, delay_ms=100)
    one.send(b"2", 1)
    assert one.take(99) == []
    assert one.take(100) == [b"1", b"2"]


def test_a_swapped_frame_follows_its_successor() -> None:
    one = stream("/private/ws?listenKey=KEY")
    frames = [Frame("A", {"n": number}) for number in range(3)]
    one.send_user("KEY", frames[0], 0, swapped=True)
    one.send_user("KEY", frames[1], 0)
    one.send_user("KEY", frames[2], 0, copies=2)
    assert [json.loads(frame)["n"] for frame in one.take(0)] == [1, 0, 2, 2]


def test_a_client_that_does_not_read_is_dropped() -> None:
    one = stream("/private/ws?listenKey=KEY")
    for _ in range(MAX_BACKLOG):
        one.send(b"1", 0)
    assert one.close_code == 0
    one.send(b"1", 0)
    assert (one.close_code, one.next_due_ms) == (1006, None)


def test_mark_streams_have_two_speeds() -> None:
    one = stream("/market/stream?streams=btcusdt@markPrice@1s/ethusdt@markPrice/!markPrice@arr/!markPrice@arr@1s")
    other = stream("/public/ws/btcusdt@markPrice@1s")
    fast = [(name, symbol) for _, name, symbol in mark_streams([one, other], slow=False)]
    assert fast == [("btcusdt@markPrice@1s", "BTCUSDT"), ("!markPrice@arr@1s", "")]
    slow = [(name, symbol) for _, name, symbol in mark_streams([one, other], slow=True)]
    assert slow[1:3] == [("ethusdt@markPrice", "ETHUSDT"), ("!markPrice@arr", "")]


def test_stream_names_may_be_percent_encoded() -> None:
    one = stream("/market/ws/%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9Fusdt@markPrice@1s")
    assert [symbol for _, _, symbol in mark_streams([one], slow=False)] == ["币安人生USDT"]
