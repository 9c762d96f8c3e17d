"""Whatever a stream says, from the bytes to the queue of writes: the service goes on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.changes import position, rest_position, snapshot
from support.parts import Parts
from support.world import until, world

from publisher.handover import Message
from statecast.errors import FrameError
from statecast.store.codec import commit
from statecast.venues.binance.session import UserSession

FRAMES = next(path for path in Path(__file__).parents if path.name == "tests") / "frames" / "binance"
PAYLOADS = [
    json.loads(line)["payload"]
    for name in ("user", "market")
    for line in (FRAMES / f"{name}.jsonl").read_text("utf-8").splitlines()
]
ENDING = "listenKeyExpired"
GOING_ON = [payload for payload in PAYLOADS if ENDING not in json.dumps(payload)]

ODD = st.sampled_from(
    [
        *(None, True, "", "0", "-1", "9" * 60, "1e40", "-1e-40", "NaN", "1_0", 0, -1, 2**63, 10**70, 1.5, [], {}, [[]]),
        *("BOTH", "USDT", "BTCUSDT", "NEW", "FILLED", "TRADE", "ACCOUNT_UPDATE", "ORDER_TRADE_UPDATE"),
        *("\ud800", "\x00", "🙂" * 40),
    ]
)


def places(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path to every value inside."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, part in inside for place in places(part, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: object) -> Any:
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real payload with some of its values replaced, and perhaps cut short."""
    payload = draw(st.sampled_from(GOING_ON))
    for _ in range(draw(st.integers(0, 3))):
        payload = put(payload, draw(st.sampled_from(places(payload))), draw(ODD))
    text = json.dumps(payload).encode()
    return text[: draw(st.integers(0, len(text)))] if draw(st.integers(0, 9)) == 0 else text


frames = st.lists(st.one_of(mutated(), mutated(), st.binary(max_size=60), st.text(max_size=60)), max_size=12)


class Reader(Parts):
    """A publisher in the middle of its work; nothing of it is connected."""

    def __init__(self, *, known: bool) -> None:
        super().__init__()
        if known:
            self.updater.apply((snapshot(positions=[rest_position(-50, "0.025")]),), "rest")
            self.updater.apply((position(-20, "0.05"),), "stream")
            self.status.move("reconciled")
            self.catch_up.follow()

    def read(self, *said: bytes | str) -> None:
        session = UserSession()
        for raw in said:
            try:
                deliveries = session.received(raw, 0).deliveries
            except FrameError as error:
                self.intake.take(Message(error, raw))
            else:
                for delivery in deliveries:
                    self.intake.take(Message(*delivery))

    def encode(self) -> None:
        """What was submitted can be written, each commit of it."""
        for seq, delta in enumerate(self.committer.submitted, start=1):
            commit(delta, seq, 0, 1, 0)


@settings(derandomize=True, max_examples=400, deadline=None, database=None)
@given(said=frames, known=st.booleans())
def test_no_frame_ends_the_reading_and_what_came_of_it_can_be_written(said: list[bytes | str], known: bool) -> None:
    reader = Reader(known=known)
    reader.read(*said)
    reader.encode()
    if reader.malformed_frames:
        assert reader.status.state != "live", "a frame that made no sense leaves doubt"


@pytest.mark.parametrize("amount", ["9" * 60, "1e40", "-1e40"])
def test_an_amount_beyond_reckoning_is_a_frame_that_makes_no_sense(amount: str) -> None:
    payload = next(one for one in PAYLOADS if one["e"] == "ACCOUNT_UPDATE")
    reader = Reader(known=True)
    reader.read(json.dumps(put(payload, ("a", "P", 0, "pa"), amount)), json.dumps(payload))
    assert reader.malformed_frames == 1
    assert reader.status.state == "recovering"


async def test_a_stream_of_nonsense_does_not_become_a_stream_of_snapshots(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, RECONCILE_S="3600") as here:
        for _ in range(60):
            here.exchange.fault("send_raw", {"text": "{"}, here.now_ms())
            await asyncio.sleep(0.01)
        status = await here.state("live")
        status = await until(here.status, lambda status: status["malformedFrames"] == "60")
        assert status["unknownEvents"] == "0"
        await here.state("live")
        assert here.exchange.requests["GET /fapi/v1/openOrders 200"] <= 5


def test_only_the_end_of_the_listen_key_is_the_streams_end() -> None:
    session = UserSession()
    ends = [
        payload
        for payload in PAYLOADS
        if any(one.frame.notice == "stream_ended" for one in session.received(json.dumps(payload), 0).deliveries)
    ]
    assert ends
    assert ends == [payload for payload in PAYLOADS if ENDING in json.dumps(payload)]
