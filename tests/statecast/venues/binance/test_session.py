"""The dialogue on both kinds of sockets."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from statecast.domain.changes import MarkPriceUpdate
from statecast.errors import FrameError
from statecast.venues.binance.session import MarkPriceSession, UserSession
from statecast.venues.binance.wire import url_symbols

NOW_MS = 1_793_000_000_000
LEVERAGE = '{"e":"ACCOUNT_CONFIG_UPDATE","E":1793000000000,"T":1793000000000,"ac":{"s":"BTCUSDT","l":20}}'
PRICE = '{"e":"markPriceUpdate","E":1793000000000,"s":"BTCUSDT","p":"91414.90"}'


def test_the_private_stream_needs_no_words() -> None:
    session = UserSession()
    assert not session.ready
    assert session.opened(NOW_MS) == ()
    assert session.ready
    assert session.idle(1_000.0) is None


def test_a_frame_is_known_by_its_bytes() -> None:
    received = UserSession().received(LEVERAGE, NOW_MS)
    ((frame, identity),) = received.deliveries
    assert len(frame.changes) == 1
    assert identity == LEVERAGE
    assert received.replies == ()


@pytest.mark.parametrize(
    ("raw", "notice", "detail"),
    [
        ('{"e":"listenKeyExpired","E":"1793000000123"}', "stream_ended", "the listen key has expired"),
        ('{"e":"serverShutdown","E":1}', "reconnect_soon", "the venue's server is shutting down"),
    ],
)
def test_notices_of_the_stream_are_named_by_what_follows_from_them(raw: str, notice: str, detail: str) -> None:
    ((frame, identity),) = UserSession().received(raw, NOW_MS).deliveries
    assert identity == raw
    assert (frame.notice, frame.detail) == (notice, detail)


def test_nonsense_is_a_frame_error() -> None:
    for session in (UserSession(), MarkPriceSession(frozenset())):
        with pytest.raises(FrameError):
            session.received(b"{", NOW_MS)


def sent(session: MarkPriceSession, *symbols: str) -> list[tuple[str, list[str], int]]:
    """What is sent so that these symbols are followed, the streams by their symbols."""
    return [said(message) for message in session.follow(frozenset(symbols))]


def said(message: str) -> tuple[str, list[str], int]:
    document = json.loads(message)
    return document["method"], [name.partition("@")[0] for name in document["params"]], document["id"]


def test_symbols_of_the_url_are_not_subscribed_to_again() -> None:
    session = MarkPriceSession(frozenset({"BTCUSDT", "ETHUSDT"}))
    assert session.opened(NOW_MS) == ()
    assert session.ready
    assert sent(session, "BTCUSDT", "ETHUSDT") == []
    assert sent(session, "BTCUSDT", "SOLUSDT") == [("UNSUBSCRIBE", ["ethusdt"], 1)]
    assert sent(session, "BTCUSDT", "SOLUSDT") == [("SUBSCRIBE", ["solusdt"], 2)]
    assert sent(session, "BTCUSDT", "SOLUSDT") == []
    assert sent(session, "BTCUSDT") == [("UNSUBSCRIBE", ["solusdt"], 3)]


def test_very_many_symbols_are_subscribed_to_one_message_after_another() -> None:
    symbols = frozenset(f"S{number}USDT" for number in range(1_000))
    session = MarkPriceSession(symbols)
    messages = list(session.opened(NOW_MS))
    assert len(messages) == 1
    while more := session.follow(symbols):
        messages += more
    assert len(messages) > 3
    names = {name for message in messages for name in said(message)[1]}
    assert names == {symbol.lower() for symbol in symbols} - {symbol.lower() for symbol in url_symbols(symbols)}


def test_what_changes_before_the_socket_is_open_is_sent_then() -> None:
    session = MarkPriceSession(frozenset({"BTCUSDT"}))
    assert sent(session, "ETHUSDT") == []
    assert [said(message)[:2] for message in session.opened(NOW_MS)] == [("UNSUBSCRIBE", ["btcusdt"])]
    assert sent(session, "ETHUSDT") == [("SUBSCRIBE", ["ethusdt"], 2)]


def test_mark_prices_and_refusals() -> None:
    session = MarkPriceSession(frozenset({"BTCUSDT"}))
    ((frame, _),) = session.received(PRICE, NOW_MS).deliveries
    assert frame.changes == (MarkPriceUpdate("BTCUSDT", Decimal("91414.90"), NOW_MS),)
    assert session.idle(1_000.0) is None
    with pytest.raises(FrameError, match="refused a request"):
        session.received('{"error":{"code":2,"msg":"Invalid request"},"id":1}', NOW_MS)
