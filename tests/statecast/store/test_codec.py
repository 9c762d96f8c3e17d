from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import orjson
import ormsgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.changes import (
    NOW,
    D,
    event,
    fill,
    mark,
    new_account,
    position,
    rest_balance,
    rest_order,
    rest_position,
    snapshot,
    wallet,
)
from support.written import HASHES, applied, expected_state, state_of, without_provenance

from statecast.domain.account import Account, Delta, Times
from statecast.domain.changes import Change
from statecast.domain.models import Balance, Order, OrderEvent, Position, Stamp, Totals
from statecast.store.codec import (
    balance_cells,
    commit,
    entities,
    event_entry,
    order_cells,
    order_of,
    pack,
    position_cells,
    provenance,
    rows,
    totals_cells,
)
from statecast.store.keys import (
    ACCOUNT_FIELDS,
    BALANCE_FIELDS,
    CHANGE_FIELDS,
    EVENT_FIELDS,
    ORDER_FIELDS,
    POSITION_FIELDS,
)

EPOCH = 1_793_000_000_123
EPOCH_TEXT = str(EPOCH)
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def pairs(flat: list[str]) -> dict[str, str]:
    assert all(isinstance(word, str) for word in flat)
    found = dict(zip(flat[::2], flat[1::2], strict=True))
    assert 2 * len(found) == len(flat), "a field stands twice"
    return found


class Written:
    """What the script is told to do in one commit."""

    def __init__(self, delta: Delta, seq: int = 1, event_seq: int = 0, verified_at_ms: int = 0) -> None:
        packed = pack([commit(delta, seq, event_seq, EPOCH, verified_at_ms)])
        [(hashes, entries, entry)] = ormsgpack.unpackb(packed)
        self.hashes = {HASHES[index - 1]: (replaces, pairs(to_set), gone) for index, replaces, to_set, gone in hashes}
        self.events = [pairs(entry) for entry in entries]
        self.entry = pairs(entry)
        self.change = orjson.loads(self.entry["change"])
        for _, to_set, _ in self.hashes.values():
            assert next(iter(to_set)) == "_storedAtMs"  # the script puts the time there
            assert to_set.pop("_storedAtMs") == ""

    def do(self, hashes: dict[str, dict[str, str]]) -> None:
        for name, (replaces, to_set, to_delete) in self.hashes.items():
            fields = hashes.setdefault(name, {})
            if replaces:
                fields.clear()
            fields.update(to_set)
            for field in to_delete:
                fields.pop(field, None)


def told(*frames: Sequence[Change], given: Change | None = None) -> tuple[Account, list[Delta]]:
    account = new_account()
    deltas = [account.apply([given or snapshot()], "rest")]
    deltas += [account.apply(frame, "stream") for frame in frames]
    return account, [delta for delta in deltas if delta]


def expect_read_back(account: Account, deltas: list[Delta]) -> None:
    """Hashes and a copy made of the changes both hold the account."""
    hashes: dict[str, dict[str, str]] = {}
    copy: dict[str, dict[str, str]] = {}
    for number, delta in enumerate(deltas, 1):
        written = Written(delta, number)
        written.do(hashes)
        applied(copy, written.change)
    assert state_of(hashes) == expected_state(account)
    assert state_of(copy) == expected_state(account)


# Rows


def test_a_position_is_written_in_the_words_of_the_contract() -> None:
    row = rest_position(
        5, "-0.50", "91250.40", mark_price="91000", leverage=20, margin_type="isolated", isolated_wallet=D("12.5")
    )
    cells = dict(zip(POSITION_FIELDS, position_cells(row), strict=True))
    assert {name: cell for name, cell in cells.items() if cell is not None} == {
        "symbol": "BTCUSDT",
        "positionSide": "BOTH",
        "side": "short",
        "positionAmt": "-0.50",
        "entryPrice": "91250.40",
        "markPrice": "91000",
        "markPriceTimeMs": str(NOW + 5),
        "unRealizedProfit": "125.2000",
        "unRealizedProfitTimeMs": str(NOW + 5),
        "leverage": "20",
        "marginType": "isolated",
        "isolatedWallet": "12.5",
        "liquidationPrice": "50",
        "liquidationPriceTimeMs": str(NOW + 5),
        "notional": "-45500.00",
        "marginAsset": "USDT",
        "venueTimeMs": str(NOW + 5),
        "source": "rest",
    }


def test_an_order_is_written_in_the_words_of_the_contract() -> None:
    cells = dict(zip(ORDER_FIELDS, order_cells(rest_order(5, reduce_only=True, algo_id="7")), strict=True))
    assert cells == {
        "symbol": "BTCUSDT",
        "orderId": "1001",
        "clientOrderId": "my-1",
        "side": "BUY",
        "positionSide": "BOTH",
        "type": "LIMIT",
        "origType": "LIMIT",
        "timeInForce": "GTC",
        "status": "NEW",
        "price": "91250.4",
        "stopPrice": "0",
        "quantity": "0.050",
        "executedQty": "0",
        "avgPrice": "0",
        "reduceOnly": "true",
        "venueTimeMs": str(NOW + 5),
        "source": "rest",
        "algoId": "7",
        "actualOrderId": None,
        "quantityAsset": None,
        "contracts": None,
        "closePosition": None,
        "activatePrice": None,
        "callbackRate": None,
    }


def test_what_a_trailing_stop_and_a_closing_order_have_is_written_and_read_again() -> None:
    trailing = rest_order(5, stop_price=None, close_position=True, activate_price=D("93000.50"), callback_rate=D("1.0"))
    cells = dict(zip(ORDER_FIELDS, order_cells(trailing), strict=True))
    found = {name: cells[name] for name in ("stopPrice", "closePosition", "activatePrice", "callbackRate")}
    assert found == {
        "stopPrice": None,
        "closePosition": "true",
        "activatePrice": "93000.50",
        "callbackRate": "1.0",
    }
    assert order_of({name: text for name, text in cells.items() if text is not None}) == trailing
    entry = event_entry(event(5, "NEW").event, order_cells(trailing), 1, EPOCH_TEXT)
    assert entry[-6:] == ["closePosition", "true", "activatePrice", "93000.50", "callbackRate", "1.0"], "at the end"


def test_an_event_has_all_fields_in_one_order_and_nothing_for_what_the_venue_did_not_give() -> None:
    trailing = {"close_position": False, "activate_price": D(5), "callback_rate": D(1)}
    bare, full = (
        event_entry(told.event, order_cells(told.order), number, EPOCH_TEXT)
        for number, told in (
            (7, event(10, "CANCELED", "CANCELED", price=None, reduce_only=None)),
            (8, fill(10, "0.025", algo_id="5", actual_order_id="6", quantity_asset="USD", contracts=D(3), **trailing)),
        )
    )
    assert tuple(bare[::2]) == tuple(full[::2]) == EVENT_FIELDS
    found = dict(zip(bare[::2], bare[1::2], strict=True))
    assert [name for name, value in found.items() if value == ""] == [
        "price",
        "reduceOnly",
        "algoId",
        "actualOrderId",
        "lastQty",
        "lastPrice",
        "tradeId",
        "commission",
        "commissionAsset",
        "realizedProfit",
        "maker",
        "quantityAsset",
        "contracts",
        "closePosition",
        "activatePrice",
        "callbackRate",
    ]
    assert found["eventSeq"] == "7"
    assert found["epoch"] == str(EPOCH)
    trade = dict(zip(full[::2], full[1::2], strict=True))
    expected = {
        "maker": "true",
        "realizedProfit": "0",
        "commission": "0.4562",
        "tradeId": "t10-0.025",
        "eventType": "TRADE",
    }
    assert {name: trade[name] for name in expected} == expected
    assert "" not in full


numbers = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15) | st.sampled_from(
    [D("0E-8"), D("1E-8"), D("-1.5E+12"), D("1E+20"), D("-0.0")]
)
times = st.integers(0, 2**53)
names = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=20)
symbols = st.sampled_from(["BTCUSDT", "BTCUSDT_260925", "BTC/USDT:USDT", "a.b.c", "币安人生USDT"])


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


balances = st.builds(
    Balance,
    asset=st.sampled_from(["USDT", "BNB", "x.y"]),
    wallet_balance=numbers,
    cross_wallet_balance=numbers,
    stamp=st.builds(Stamp, times, times),
    source=st.sampled_from(["stream", "rest"]),
    available_balance=maybe(numbers),
    available_balance_time_ms=maybe(times),
    unrealized_profit=maybe(numbers),
    unrealized_profit_time_ms=maybe(times),
)
positions = st.builds(
    Position,
    symbol=symbols,
    position_side=st.sampled_from(["BOTH", "LONG", "SHORT"]),
    position_amt=numbers,
    entry_price=numbers,
    stamp=st.builds(Stamp, times, times),
    source=st.sampled_from(["stream", "rest"]),
    break_even_price=maybe(numbers),
    mark_price=maybe(numbers),
    mark_price_time_ms=maybe(times),
    unrealized_profit=maybe(numbers),
    unrealized_profit_time_ms=maybe(times),
    leverage=maybe(st.integers(1, 125)),
    margin_type=maybe(st.sampled_from(["cross", "isolated"])),
    isolated_wallet=maybe(numbers),
    liquidation_price=maybe(numbers),
    liquidation_price_time_ms=maybe(times),
    notional=maybe(numbers),
    margin_asset=maybe(st.just("USDT")),
    quantity_asset=maybe(names),
    contracts=maybe(numbers),
    contract_size=maybe(numbers),
)
orders = st.builds(
    Order,
    order_id=st.sampled_from(["1", "2", "algo-1"]),
    symbol=symbols,
    client_order_id=names,
    **{
        name: st.sampled_from(["A", "B"])
        for name in ("side", "position_side", "type", "orig_type", "time_in_force", "status")
    },
    **{name: maybe(numbers) for name in ("price", "stop_price", "quantity", "executed_qty", "avg_price")},
    reduce_only=maybe(st.booleans()),
    venue_time_ms=times,
    source=st.sampled_from(["stream", "rest"]),
    algo_id=maybe(names),
    actual_order_id=maybe(names),
    quantity_asset=maybe(names),
    contracts=maybe(numbers),
    close_position=maybe(st.booleans()),
    activate_price=maybe(numbers),
    callback_rate=maybe(numbers),
)
events = st.builds(
    OrderEvent,
    event_id=names,
    event_type=st.just("TRADE"),
    order=orders,
    received_at_ms=times,
    **{name: maybe(numbers) for name in ("last_qty", "last_price", "commission", "realized_profit")},
    trade_id=maybe(names),
    commission_asset=maybe(st.just("BNB")),
    maker=maybe(st.booleans()),
)
MONEY = """walletBalance crossWalletBalance availableBalance unrealizedProfit positionAmt entryPrice breakEvenPrice
    markPrice unRealizedProfit isolatedWallet liquidationPrice notional price stopPrice quantity executedQty
    avgPrice lastQty lastPrice commission realizedProfit totalWalletBalance totalUnrealizedProfit
    totalMarginBalance totalInitialMargin totalMaintMargin contracts contractSize activatePrice callbackRate"""


def expect_plain_numbers(fields: dict[str, str]) -> None:
    for name, value in fields.items():
        attribute = name.rpartition(".")[2]
        if attribute in MONEY.split() or attribute.endswith("Ms"):
            assert NUMBER.fullmatch(value) or value == "", f"{name} {value}"


class Table:
    """An account of any rows whatever, which moves from one set of them to another."""

    def __init__(self, rows: Sequence[Balance | Position | Order], totals: Totals) -> None:
        self.totals = totals
        self.balances = {row.asset: row for row in rows if isinstance(row, Balance)}
        self.positions = {row.key: row for row in rows if isinstance(row, Position)}
        self.orders = {row.key: row for row in rows if isinstance(row, Order)}

    def whole(self) -> Delta:
        return Delta(
            source="rest",
            times=Times(),
            totals=self.totals,
            balances=tuple((None, row) for row in self.balances.values()),
            positions=tuple((None, row) for row in self.positions.values()),
            orders=tuple((None, row) for row in self.orders.values()),
            balance_count=len(self.balances),
            position_count=len(self.positions),
            order_count=len(self.orders),
            replaces=True,
        )

    def moved_to(self, other: Table) -> Delta:
        def moved(before: dict[Any, Any], after: dict[Any, Any]) -> tuple[Any, ...]:
            keys = [*before, *(key for key in after if key not in before)]
            return tuple((before.get(k), after.get(k)) for k in keys if before.get(k) != after.get(k))

        return other.whole()._replace(
            totals_before=self.totals,
            balances=moved(self.balances, other.balances),
            positions=moved(self.positions, other.positions),
            orders=moved(self.orders, other.orders),
            replaces=False,
        )


sums = st.builds(
    Totals,
    **{name: numbers for name in Totals.__dataclass_fields__ if not name.endswith(("time_ms", "_asset"))},
    totals_asset=maybe(names),
    **{name: times for name in Totals.__dataclass_fields__ if name.endswith("time_ms")},
)
tables = st.builds(Table, st.lists(balances | positions | orders, max_size=6), sums)


@given(tables, tables)
@settings(derandomize=True, deadline=None, max_examples=100)
def test_any_account_is_read_back_as_it_was_written_whole_or_in_parts(first: Table, second: Table) -> None:
    hashes: dict[str, dict[str, str]] = {}
    copy: dict[str, dict[str, str]] = {}
    for seq, (delta, table) in enumerate([(first.whole(), first), (first.moved_to(second), second)], 1):
        written = Written(delta, seq)
        written.do(hashes)
        applied(copy, written.change)
        assert state_of(hashes) == state_of(copy) == expected_state(table)
        for fields in hashes.values():
            expect_plain_numbers(fields)


@given(events)
@settings(derandomize=True, deadline=None, max_examples=100)
def test_any_event_is_plain_text_in_the_fields_of_the_contract(any_event: OrderEvent) -> None:
    entry = event_entry(any_event, order_cells(any_event.order), 1, EPOCH_TEXT)
    assert tuple(entry[::2]) == EVENT_FIELDS
    assert all(isinstance(value, str) for value in entry[1::2])
    expect_plain_numbers(dict(zip(map(str, entry[::2]), map(str, entry[1::2]), strict=True)))


# Commits


def test_a_story_is_read_back_after_every_commit() -> None:
    account = new_account()
    deltas: list[Delta] = []
    frames: list[Sequence[Change]] = [
        [snapshot(positions=[rest_position(-10, "0.5")])],
        [position(10, "0.6"), wallet(10, "990"), fill(10, "0.025")],
        [mark(20, "104.5")],
        [event(30, "CANCELED", "CANCELED")],
        [position(40, "0")],
        [snapshot(50, balances=[])],
    ]
    for frame in frames:
        deltas.append(account.apply(frame, "stream"))
        expect_read_back(account, deltas)


def test_a_commit_writes_what_moved_and_no_more() -> None:
    _, deltas = told([position(10, "0.5"), wallet(10, "990")], [wallet(20, "980")])
    written = Written(deltas[-1], seq=9)
    assert written.hashes["balances"] == (
        False,
        {
            "_seq": "9",
            "_epoch": EPOCH_TEXT,
            "_source": "stream",
            "_venueTimeMs": str(NOW + 20),
            "_count": "1",
            "USDT.walletBalance": "980",
            "USDT.crossWalletBalance": "980",
            "USDT.venueTimeMs": str(NOW + 20),
        },
        [],
    )
    assert set(written.hashes) == {"account", "balances"}
    assert "_count" not in written.hashes["account"][1]


def test_a_row_that_is_gone_takes_all_its_fields_with_it() -> None:
    _, deltas = told([event(10, "NEW"), position(10, "1")], [event(20, "CANCELED", "CANCELED"), position(20, "0")])
    written = Written(deltas[-1])
    assert set(written.hashes["orders"][2]) == {f"BTCUSDT:1001.{field}" for field in ORDER_FIELDS}
    assert set(written.hashes["positions"][2]) == {f"BTCUSDT:BOTH.{field}" for field in POSITION_FIELDS}
    assert written.change["orders"] == {"set": {}, "removed": ["BTCUSDT:1001"], "count": 0, "venueTimeMs": NOW + 20}
    assert written.hashes["positions"][1]["_count"] == "0"


def test_a_value_that_is_no_more_is_deleted_and_a_copy_is_told() -> None:
    """A liquidation price goes when the size changes."""
    _, deltas = told([position(10, "0.6")], given=snapshot(positions=[rest_position(-10, "0.5")]))
    written = Written(deltas[-1])
    gone = ["BTCUSDT:BOTH.liquidationPrice", "BTCUSDT:BOTH.liquidationPriceTimeMs"]
    assert written.hashes["positions"][2] == gone
    assert written.change["positions"]["unset"] == gone


def test_a_commit_that_replaces_writes_every_hash_anew() -> None:
    account, _ = told([event(10, "NEW")])
    written = Written(account.whole(), seq=4, verified_at_ms=777)
    assert list(written.hashes) == list(HASHES)
    for replaces, to_set, to_delete in written.hashes.values():
        assert (replaces, to_delete) == (True, [])
        assert (to_set["_complete"], to_set["_contract"], to_set["_verifiedAtMs"], to_set["_seq"]) == (
            "1",
            "1",
            "777",
            "4",
        )
    assert written.hashes["positions"][1]["_count"] == "0"
    assert written.change["replaces"] is True


def test_events_are_numbered_on_and_the_entry_of_changes_says_how_far() -> None:
    _, deltas = told([event(10, "NEW"), fill(20, "0.025"), fill(30, "0.050")])
    written = Written(deltas[-1], seq=5, event_seq=40)
    assert [entry["eventSeq"] for entry in written.events] == ["41", "42", "43"]
    assert tuple(written.entry) == CHANGE_FIELDS
    assert (written.entry["seq"], written.entry["eventSeq"], written.entry["source"]) == ("5", "43", "stream")


def test_events_alone_touch_no_hash() -> None:
    _, deltas = told([event(20, "CANCELED", "CANCELED")], [fill(10, "0.025")])
    written = Written(deltas[-1])
    assert (written.hashes, written.change, len(written.events)) == ({}, {}, 1)


def test_an_entity_is_what_stands_before_the_last_dot() -> None:
    fields = {"a.b:LONG.positionAmt": "1", "a.b:LONG.side": "long", "_seq": "4", "_x.y": "5", "loose": "6"}
    assert entities(fields) == {"a.b:LONG": {"positionAmt": "1", "side": "long"}}


def test_what_belongs_to_a_hash_as_a_whole_is_its_provenance() -> None:
    fields = {"a.b:LONG.positionAmt": "1", "_seq": "4", "_x.y": "5", "loose": "6"}
    assert provenance(fields) == {"_seq": "4", "_x.y": "5"}


def test_an_entity_whose_fields_do_not_stand_side_by_side_is_one() -> None:
    assert entities({"A.x": "1", "B.x": "2", "A.y": "3", ".z": "4"}) == {
        "A": {"x": "1", "y": "3"},
        "B": {"x": "2"},
        "": {"z": "4"},
    }


def test_a_whole_account_is_the_fields_of_its_hashes() -> None:
    account, _ = told([event(10, "NEW"), wallet(10, "990")], given=snapshot(positions=[rest_position(-10, "0.5")]))
    found = rows(account.whole())
    state = expected_state(account)
    assert list(found) == list(HASHES)
    assert found["account"] == state["account"]
    for name in ("balances", "positions", "orders"):
        assert entities(found[name]) == state[name]
    assert not any(field.startswith("_") for fields in found.values() for field in fields)
    assert found == {
        name: without_provenance(to_set) for name, (_, to_set, _) in Written(account.whole()).hashes.items()
    }


def test_a_part_of_an_account_is_not_taken_for_the_whole() -> None:
    _, deltas = told([wallet(10, "990")])
    with pytest.raises(AssertionError, match="a part of an account is no account"):
        rows(deltas[-1])


def test_cells_stand_in_the_order_of_their_fields() -> None:
    account, _ = told(given=snapshot(balances=[rest_balance(0, "5")]))
    assert account.totals is not None
    assert len(totals_cells(account.totals)) == len(ACCOUNT_FIELDS)
    assert dict(zip(ACCOUNT_FIELDS, totals_cells(account.totals), strict=True))["marginTimeMs"] == str(NOW)
    assert balance_cells(account.balances["USDT"])[BALANCE_FIELDS.index("walletBalance")] == "5"
    assert Decimal(totals_cells(account.totals)[ACCOUNT_FIELDS.index("totalMarginBalance")] or "") == 5


def test_an_order_is_read_back_from_its_fields() -> None:
    for row in (
        rest_order(5, reduce_only=True, algo_id="7", actual_order_id="12"),
        rest_order(5, reduce_only=None, avg_price=None, executed_qty=D("0.030")),
    ):
        cells = dict(zip(ORDER_FIELDS, order_cells(row), strict=True))
        assert order_of({name: value for name, value in cells.items() if value is not None}) == row
        assert order_of({name: value or "" for name, value in cells.items()}) == row, "an entry of the log"
