"""Whatever a stream says, from the bytes to the queue of writes: the service goes on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.changes import position, rest_position, snapshot
from support.world import until, world

from publisher import config
from publisher.committer import Committer
from publisher.follower import Follower
from publisher.handover import Message
from publisher.logs import account_log
from publisher.websocket import Connector
from statecast.clock import SystemClock
from statecast.domain.account import Account
from statecast.errors import FrameError
from statecast.settings import Settings
from statecast.store.client import Client
from statecast.store.codec import commit
from statecast.store.keys import AccountId
from statecast.store.writer import AccountWriter
from statecast.venues import registry
from statecast.venues.binance.session import UserSession
from statecast.venues.registry import SharedLimits

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


class Reader:
    """A follower in the middle of its work; nothing of it is connected."""

    def __init__(self, *, known: bool) -> None:
        given_ = {"API_KEY": "some-key", "API_SECRET": "some-secret", "REST_URL": "http://127.0.0.1:1"}
        (account_config,) = config.build(Settings(given_, (given_,))).accounts
        clock, log = SystemClock(), account_log("binance:main")
        self.account = Account()
        client = Client("redis://127.0.0.1:1/0", client_name="test")
        writer = AccountWriter(client, AccountId("binance", "main"), "publisher-1")
        self.committer = Committer(writer, self.account, clock, log)
        access = account_config.access
        # Reading asks nothing of it.
        rest = registry.venue(access.venue).account(access, clock, SharedLimits().of(access))
        rng = Random(1)
        connector = Connector(clock, rng, connects=150, connects_within_s=300.0)
        self.follower = Follower(account_config, rest, self.account, self.committer, connector, clock, rng, log)
        if known:
            self.committer.submit(self.account.apply((snapshot(positions=[rest_position(-50, "0.025")]),), "rest"))
            self.committer.submit(self.account.apply((position(-20, "0.05"),), "stream"))
            self.committer.move("reconciled")
            self.follower._unreconciled = None

    async def read(self, *said: bytes | str) -> None:
        session = UserSession()
        for raw in said:
            try:
                content = session.received(raw, 0).frame
            except FrameError as error:
                self.follower._take(Message(error, raw))
            else:
                assert content is not None
                self.follower._take(Message(content, raw))

    def encode(self) -> None:
        """What is queued can be written, each commit of it."""
        for seq, delta in enumerate(self.committer._queue, start=1):
            commit(delta, seq, 0, 1, 0)


@settings(derandomize=True, max_examples=400, deadline=None, database=None)
@given(said=frames, known=st.booleans())
def test_no_frame_ends_the_reading_and_what_came_of_it_can_be_written(said: list[bytes | str], known: bool) -> None:
    async def story() -> None:
        reader = Reader(known=known)
        await reader.read(*said)
        reader.encode()
        if reader.committer.health.malformed_frames:
            assert reader.committer.health.state != "live", "a frame that made no sense leaves doubt"

    asyncio.run(story())


@pytest.mark.parametrize("amount", ["9" * 60, "1e40", "-1e40"])
async def test_an_amount_beyond_reckoning_is_a_frame_that_makes_no_sense(amount: str) -> None:
    payload = next(one for one in PAYLOADS if one["e"] == "ACCOUNT_UPDATE")
    reader = Reader(known=True)
    await reader.read(json.dumps(put(payload, ("a", "P", 0, "pa"), amount)), json.dumps(payload))
    assert reader.committer.health.malformed_frames == 1
    assert reader.committer.health.state == "recovering"


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
        if (frame := session.received(json.dumps(payload), 0).frame) is not None and frame.notice == "stream_ended"
    ]
    assert ends
    assert ends == [payload for payload in PAYLOADS if ENDING in json.dumps(payload)]
