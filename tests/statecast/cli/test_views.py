from __future__ import annotations

import io
from dataclasses import replace

import orjson
import pytest
from rich.console import Console

from statecast.cli.page import Page
from statecast.cli.views import (
    account_blocks,
    account_json,
    account_lines,
    event_line,
    redis_commands,
    shell_line,
    unreadable_json,
    verdict,
)
from statecast.store.keys import AccountId
from statecast.store.reader import StoredAccount

NOW_MS = 1_800_000_000_000
ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "quantity": "0.010", "price": "90000", "status": "NEW"}
POSITION = {
    "positionAmt": "-0.238",
    "entryPrice": "91319.6",
    "markPrice": "91357.70000000",
    "markPriceTimeMs": str(NOW_MS - 200),
    "unRealizedProfit": "-9.06780000",
    "unRealizedProfitTimeMs": str(NOW_MS - 200),
    "leverage": "20",
}
LIVE = StoredAccount(
    account_id=AccountId("binance", "main"),
    now_ms=NOW_MS,
    status={"state": "live", "seq": "7", "eventSeq": "3", "verifiedAtMs": str(NOW_MS - 300), "contract": "1"},
    account={"totalWalletBalance": "9989.13296760", "availableBalance": "8892.90853760", "_seq": "7"},
    balances={"USDT": {"walletBalance": "9989.13296760", "unrealizedProfit": "-9.06780000"}},
    positions={"BTCUSDT:BOTH": POSITION},
    orders={"BTCUSDT:8886774001": ORDER},
)
FLAT = replace(LIVE, positions={}, orders={})
NEVER = StoredAccount(LIVE.account_id, NOW_MS, {}, None, None, None, None)


def with_status(stored: StoredAccount, **status: str) -> StoredAccount:
    return replace(stored, status=stored.status | status)


def aged(stored: StoredAccount, age_ms: int, state: str = "live", reason: str = "why") -> StoredAccount:
    return with_status(stored, verifiedAtMs=str(NOW_MS - age_ms), state=state, reason=reason)


STALE = aged(LIVE, 12_400)
STARTING = replace(NEVER, status={"state": "starting", "reason": "taking the lease", "heartbeatAtMs": "1"})
NOT_LIVE = {
    "never published": (NEVER, False, "NEVER PUBLISHED: no publisher has written this account; it is unknown"),
    "starting": (STARTING, False, "the publisher is starting (taking the lease)"),
    "one hash missing": (replace(FLAT, positions=None), False, "no complete state (positions missing), not flat"),
    "no status": (replace(FLAT, status={}), False, "UNKNOWN: the status is missing"),
    "publisher gone": (STALE, False, "STALE: last verified 12.4 s ago; the publisher said live and is gone"),
    "stopped long ago": (aged(LIVE, 60_000, "stopped"), False, "STALE: last verified 60.0 s ago; the publisher is"),
    "never verified": (with_status(LIVE, verifiedAtMs=""), False, "STALE: never verified"),
    "Redis's clock set back": (aged(LIVE, -5_000), False, "STALE: verified 5.0 s in the future"),
    "another contract": (with_status(LIVE, contract="2"), False, "UNKNOWN: written in contract version 2"),
    "recovering": (aged(LIVE, 2_000, "recovering"), True, "RECOVERING: last verified 2.0 s ago; the publisher"),
    "just stopped": (aged(LIVE, 2_000, "stopped"), True, "STOPPED: last verified 2.0 s ago"),
    "refused": (aged(LIVE, 2_000, "refused"), True, "REFUSED: last verified 2.0 s ago"),
}  # fmt: skip
CASES = pytest.mark.parametrize(("stored", "fresh", "says"), NOT_LIVE.values(), ids=NOT_LIVE.keys())


def page(stored: StoredAccount, width: int = 160) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=50)
    return [line.plain for line in Page(account_blocks(stored)).lines(console, width)]


def test_live_and_verified_is_fresh() -> None:
    assert str(verdict(LIVE)) == "live: verified 0.3 s ago"
    assert verdict(LIVE).fresh


def test_the_limit_of_age_is_the_readers() -> None:
    assert not verdict(LIVE, max_age_ms=299).fresh
    assert verdict(STALE, max_age_ms=12_400).fresh


@CASES
def test_what_is_not_simply_live_says_why(stored: StoredAccount, fresh: bool, says: str) -> None:
    judged = verdict(stored)
    assert judged.fresh is fresh
    assert says in str(judged)
    assert judged.mark


@CASES
def test_every_plain_line_of_it_is_marked(stored: StoredAccount, fresh: bool, says: str) -> None:
    head, *rest = account_lines(stored)
    assert says in head
    assert all(verdict(stored).mark in line for line in rest)


@CASES
def test_every_table_of_it_is_marked(stored: StoredAccount, fresh: bool, says: str) -> None:
    shown = page(stored)
    assert says in shown[0]
    assert shown[-1] == shown[0]
    for title in ("account", "balance", "position", "order"):
        for line in shown[1:-1]:
            if line.removeprefix("open ").removeprefix("no open ").startswith(title):
                assert verdict(stored).mark in line


@pytest.mark.parametrize("stored", [NEVER, STARTING, replace(FLAT, positions=None, orders=None)])
def test_the_unknown_is_never_called_empty(stored: StoredAccount) -> None:
    for text in ("\n".join(account_lines(stored)), "\n".join(page(stored))):
        assert "no open" not in text
    document = orjson.loads(account_json(stored))
    assert (document["positions"], document["orders"], document["fresh"]) == (None, None, False)


def test_flat_is_said_in_words() -> None:
    assert [line for line in account_lines(FLAT) if "no open" in line] == ["  no open position", "  no open order"]
    assert [line for line in page(FLAT) if "no open" in line] == ["no open position", "no open order"]
    stale = aged(FLAT, 60_000)
    assert "  [STALE] no open position when last verified" in list(account_lines(stale))
    assert "no open position when last verified STALE" in page(stale)


def test_plain_lines_hold_every_field_as_it_stands_in_redis() -> None:
    text = "\n".join(account_lines(LIVE))
    assert "  position BTCUSDT:BOTH positionAmt=-0.238 entryPrice=91319.6 markPrice=91357.70000000 " in text
    assert "unRealizedProfitTimeMs=1799999999800" in text
    assert text.startswith("binance:main live: verified 0.3 s ago seq=7 eventSeq=3\n")
    assert "_seq" not in text


def test_brief_lines_leave_out_times_and_long_tails() -> None:
    many = replace(LIVE, orders={f"BTCUSDT:{number}": ORDER for number in range(1, 9)})
    text = "\n".join(account_lines(many, brief=True))
    assert "TimeMs" not in text
    assert text.count("  order ") == 5
    assert "  and 3 more orders" in text


def test_a_terminal_shows_the_contracts_names_and_figures() -> None:
    text = "\n".join(page(LIVE))
    for word in ("seq 7", "order events 3", "unRealizedProfit", "-9.06780000", "91357.70000000", "8886774001", "BUY"):
        assert word in text


def test_a_figure_of_an_old_market_says_its_age() -> None:
    old = replace(LIVE, positions={"BTCUSDT:BOTH": POSITION | {"markPriceTimeMs": str(NOW_MS - 45_000)}})
    assert "91357.70000000 45s old" in "\n".join(page(old))
    assert "s old" not in "\n".join(page(LIVE))


def test_what_is_missing_in_a_position_is_unknown_and_in_an_order_not_there() -> None:
    by_name = {line.split()[0]: line for line in page(LIVE) if line}
    assert "unknown" in by_name["BTCUSDT:BOTH"]
    assert "unknown" not in by_name["BTCUSDT:8886774001"]


CLOSING = ORDER | {"type": "STOP_MARKET", "quantity": "0", "stopPrice": "88000", "closePosition": "true"}
TRAILING = ORDER | {"type": "TRAILING_STOP_MARKET", "activatePrice": "99000.5", "callbackRate": "1.5"}


def test_an_order_that_closes_the_position_or_trails_is_shown_with_its_terms() -> None:
    orders = {"BTCUSDT:algo-1": CLOSING, "BTCUSDT:algo-2": TRAILING, "BTCUSDT:3": ORDER | {"closePosition": "false"}}
    terms = replace(LIVE, orders=orders)
    for width in (160, 80):
        heading, other, closing, trailing = (line.split() for line in page(terms, width)[-4:])
        at = heading.index("closePosition") - 1  # The title has two words, a name has one.
        assert [row[at] for row in (closing, trailing, other)] == ["true", "-", "false"], "the quantity says nothing"
    assert all(word in page(terms)[-1].split() for word in ("99000.5", "1.5"))
    brief = [line for line in account_lines(terms, brief=True) if line.startswith("  order")]
    assert "quantity=0 closePosition=true" in brief[1]
    assert "activatePrice=99000.5 callbackRate=1.5" in brief[2]
    assert "closePosition" not in "\n".join(page(replace(LIVE, orders={"BTCUSDT:3": orders["BTCUSDT:3"]})))


def test_json_is_the_contracts_text() -> None:
    document = orjson.loads(account_json(STALE))
    assert document["accountId"] == "binance:main"
    assert document["fresh"] is False
    assert document["ageMs"] == 12_400
    assert document["positions"]["BTCUSDT:BOTH"]["positionAmt"] == "-0.238"


def test_json_of_what_cannot_be_read_has_the_same_names_and_no_value() -> None:
    document = orjson.loads(unreadable_json(LIVE.account_id, "connection refused"))
    assert document.keys() == orjson.loads(account_json(LIVE)).keys()
    assert document["fresh"] is False
    assert document["verdict"] == "UNREADABLE: connection refused"
    assert [document[name] for name in ("status", "account", "balances", "positions", "orders")] == [None] * 5
    assert orjson.loads(unreadable_json(None, "x"))["accountId"] is None


EVENT = {
    "eventSeq": "5",
    "eventType": "TRADE",
    "symbol": "SOLUSDT",
    "side": "BUY",
    "positionSide": "BOTH",
    "type": "LIMIT",
    "quantity": "108.74",
    "price": "137.63",
    "status": "FILLED",
    "lastQty": "108.74",
    "lastPrice": "137.4",
    "realizedProfit": "-3.10000000",
    "orderId": "8886774002",
}


@pytest.mark.parametrize(
    ("changed", "end"),
    [
        ({}, "LIMIT 108.74 @ 137.63 -> FILLED 108.74 @ 137.4 profit -3.10000000 order 8886774002"),
        ({"realizedProfit": "0.00000000"}, "LIMIT 108.74 @ 137.63 -> FILLED 108.74 @ 137.4 order 8886774002"),
        (
            {"type": "MARKET", "price": "0"},
            "MARKET 108.74 -> FILLED 108.74 @ 137.4 profit -3.10000000 order 8886774002",
        ),
        (
            {"type": "STOP_MARKET", "quantity": "0", "price": "0", "closePosition": "true", "lastQty": ""},
            "STOP_MARKET 0 closePosition -> FILLED profit -3.10000000 order 8886774002",
        ),
        ({"lastQty": "", "price": "x"}, "LIMIT 108.74 -> FILLED profit -3.10000000 order 8886774002"),
    ],
    ids=["fill", "fill without profit", "market order", "closes the position", "no fill, and a price that is none"],
)
def test_an_event_is_one_line(changed: dict[str, str], end: str) -> None:
    assert event_line(EVENT | changed) == f"#5 TRADE SOLUSDT BUY BOTH {end}"


def test_shell_lines_are_quoted_and_continued_so_that_they_can_be_pasted() -> None:
    words = ["redis-cli", *redis_commands(LIVE.account_id)[-1]]
    assert shell_line(words) == "redis-cli XREVRANGE 'statecast:{binance:main}:order-events' + - COUNT 3"
    assert shell_line(words, 66) == "redis-cli XREVRANGE 'statecast:{binance:main}:order-events' + - \\\n    COUNT 3"
    assert all(len(line) <= 66 for line in shell_line(words, 66).split("\n"))


GAP_ENTRY = dict.fromkeys(EVENT, "") | {
    "eventSeq": "6",
    "eventType": "GAP",
    "eventId": f"GAP:{NOW_MS - 60_000}:UNFILLED",
    "venueTimeMs": f"{NOW_MS}",
}


def test_a_gap_says_what_is_missing_for_good() -> None:
    assert event_line(GAP_ENTRY) == (
        "#6 GAP: the venue no longer has the orders that ended without a fill"
        " between 2027-01-15 07:59:00 UTC and 2027-01-15 08:00:00 UTC"
    )


@pytest.mark.parametrize(
    ("status", "line", "head"),
    [
        (
            {"eventsCompleteMs": f"{NOW_MS - 1000}"},
            " eventsCompleteMs=1799999999000",
            ", complete until 2027-01-15 07:59:59",
        ),
        ({"eventsCompleteMs": "0"}, " eventsCompleteMs=0", ", not yet known to be complete"),
        ({}, " eventSeq=3", "order events 3"),
    ],
    ids=["until a moment", "not known", "of an earlier version"],
)
def test_until_when_the_log_is_complete_is_shown(status: dict[str, str], line: str, head: str) -> None:
    stored = with_status(LIVE, **status)
    assert next(account_lines(stored)).endswith(line)
    assert head in page(stored)[0]
