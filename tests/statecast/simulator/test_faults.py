from __future__ import annotations

import base64

import pytest

from statecast.simulator.faults import (
    Clear,
    CutSockets,
    ExpireListenKey,
    Fate,
    FaultBoard,
    FaultError,
    ForgetListenKey,
    LagRest,
    OtherPrograms,
    SendRaw,
    ServerShutdown,
    SilenceOpenSockets,
)


def board(name: str, **args: object) -> FaultBoard:
    faults = FaultBoard()
    assert faults.switch(name, args) is None
    return faults


@pytest.mark.parametrize(
    ("name", "args", "fate"),
    [
        ("drop_user_frames", {}, Fate(copies=0)),
        ("duplicate_user_frames", {}, Fate(copies=2)),
        ("swap_user_frames", {}, Fate(swapped=True)),
        ("delay_user_frames", {"delay_ms": 250}, Fate(delay_ms=250)),
    ],
)
def test_frame_faults_are_used_up(name: str, args: dict[str, object], fate: Fate) -> None:
    faults = board(name, count=2, **args)
    assert [faults.fate("ACCOUNT_UPDATE") for _ in range(3)] == [fate, fate, Fate()]


def test_a_frame_fault_waits_for_its_event() -> None:
    faults = board("drop_user_frames", events=["ORDER_TRADE_UPDATE"])
    assert faults.fate("ACCOUNT_UPDATE") == Fate()
    assert faults.fate("ORDER_TRADE_UPDATE") == Fate(copies=0)
    assert faults.fate("ORDER_TRADE_UPDATE") == Fate()


def test_a_rest_fault_waits_for_its_path() -> None:
    faults = board("answer_rest", status=503, body="busy", delay_ms=20, path="/fapi/v3/account")
    assert faults.rest_answer("/fapi/v1/time") is None
    answer = faults.rest_answer("/fapi/v3/account")
    assert answer is not None
    assert (answer.status, answer.body, answer.delay_ms, answer.headers) == (503, "busy", 20, {})
    assert faults.rest_answer("/fapi/v3/account") is None


def test_a_rest_fault_may_bring_headers() -> None:
    answer = board("answer_rest", status=429, headers={"Retry-After": "2"}).rest_answer("/fapi/v3/account")
    assert answer is not None
    assert answer.headers == {"Retry-After": "2"}


def test_held_answers_are_a_lag_without_end() -> None:
    faults, account = FaultBoard(), ["/fapi/v3/account"]
    assert faults.switch("hold_rest", {"paths": account}) == LagRest(frozenset(account), None)
    assert faults.switch("lag_rest", {"paths": account, "ms": 800}) == LagRest(frozenset(account), 800)
    assert faults.switch("hold_rest", {"on": False}) == faults.switch("lag_rest", {"ms": 0}) == LagRest()


def test_shifted_marks_are_used_up() -> None:
    faults = board("shift_marks", by_ms=3_600_000, rounds=2)
    assert [faults.marks_shift() for _ in range(3)] == [3_600_000, 3_600_000, 0]


def test_actions_are_handed_to_the_exchange() -> None:
    faults = FaultBoard()
    assert faults.switch("cut_sockets", {"kind": "private"}) == CutSockets("private", 1006)
    assert faults.switch("expire_listen_key", {}) == ExpireListenKey()
    old_and_twice = {"times": 2, "text_time": True, "with_key": False}
    assert faults.switch("expire_listen_key", old_and_twice) == ExpireListenKey(2, text_time=True, with_key=False)
    assert faults.switch("forget_listen_key", {}) == ForgetListenKey()
    assert faults.switch("other_programs", {"weight": 1600}) == OtherPrograms(1600)
    assert faults.switch("mute_open_sockets", {}) == SilenceOpenSockets()
    assert faults.switch("maintenance", {}) == CutSockets("", 1006)
    assert faults.switch("maintenance", {"on": False}) is None
    assert faults.switch("send_raw", {"text": "{"}) == SendRaw(b"{")
    raw = b"\xff\x00"
    assert faults.switch("send_raw", {"base64": base64.b64encode(raw).decode()}) == SendRaw(raw)
    assert faults.switch("server_shutdown", {}) == ServerShutdown()


def test_clear_returns_everything_to_normal() -> None:
    faults = FaultBoard()
    for name, args in {
        "drop_user_frames": {"count": 5},
        "mute_user_sockets": {"on": True},
        "mute_market_sockets": {},
        "delay_rest": {"delay_ms": 5},
        "refuse_sockets": {},
        "maintenance": {},
        "shift_clock": {"by_ms": -5},
        "shift_marks": {"by_ms": 5, "rounds": 3},
        "hide_young_orders": {"ms": 5},
    }.items():
        faults.switch(name, args)
    assert faults.switch("clear", {}) == Clear()
    assert faults == FaultBoard()


@pytest.mark.parametrize(
    ("name", "args", "sentence"),
    [
        ("melt", {}, "there is no fault 'melt'"),
        ("shift_clock", {}, "by_ms has to be a whole number, not None"),
        ("lag_rest", {"ms": -1}, "ms has to be 0 or more, not -1"),
        ("delay_user_frames", {"delay_ms": "1"}, "delay_ms has to be a whole number, not '1'"),
        ("mute_user_sockets", {"on": 1}, "on has to be true or false, not 1"),
        ("answer_rest", {"status": 429, "headers": {"a": 1}}, "headers has to be an object of texts, not {'a': 1}"),
        ("expire_listen_key", {"text_time": 1}, "text_time has to be true or false, not 1"),
        ("drop_user_frames", {"events": "x"}, "events has to be a list of texts, not 'x'"),
    ],
)
def test_what_is_not_a_fault_is_said(name: str, args: dict[str, object], sentence: str) -> None:
    with pytest.raises(FaultError, match="^" + sentence.replace("(", r"\(") + "$"):
        FaultBoard().switch(name, args)
