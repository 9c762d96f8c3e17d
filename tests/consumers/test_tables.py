from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from support.changes import new_account, rest_balance, rest_order, rest_position, snapshot

from consumers.models import Balance, Order, Position, Totals
from consumers.tables import Tables, of_publisher, of_refresh, snake_case, values
from statecast.errors import ContractMismatch
from statecast.store.codec import rows
from statecast.store.keys import ACCOUNT_FIELDS, BALANCE_FIELDS, ORDER_FIELDS, POSITION_FIELDS, AccountId
from statecast.store.reader import StoredAccount
from statecast.store.refresh import RestAnswer

D = Decimal
ACCOUNT = AccountId("binance", "main")
SERVER = "redis://127.0.0.1:6379/0"
WHOLE = snapshot(
    balances=[rest_balance(-9, "1000.50"), rest_balance(-9, "2", "BNB", available_balance=None)],
    positions=[
        rest_position(-9, "-0.500", "91250.40", leverage=20, margin_type="cross"),
        rest_position(-9, "1", symbol="ETH.USDT_261225", position_side="LONG", liquidation_price=None),
    ],
    orders=[
        rest_order(-9, reduce_only=True),
        rest_order(-9, order_id="algo-7", algo_id="7", executed_qty=None, avg_price=None, reduce_only=None),
    ],
)


def hashes() -> dict[str, dict[str, str]]:
    return rows(new_account().apply((WHOLE,), "rest"))


def answer(told: Mapping[str, Mapping[str, str]]) -> RestAnswer:
    return RestAnswer(taken_at_ms=1000, age_ms=1500, seq=7, epoch=3, state="recovering", hashes=told)


def tables(**told: Mapping[str, str]) -> Tables:
    return of_refresh(ACCOUNT, SERVER, answer(hashes() | told))


def test_text_becomes_numbers_as_exact_as_they_were_sent() -> None:
    read = tables().snapshot()
    assert str(read.balances["USDT"].wallet_balance) == "1000.50"
    position = read.position("BTCUSDT")
    assert (position.side, str(position.position_amt), str(position.entry_price)) == ("short", "-0.500", "91250.40")
    assert (position.leverage, position.margin_type) == (20, "cross")
    assert read.totals.total_wallet_balance == D("1000.50")
    order = read.open_orders["BTCUSDT:1001"]
    assert (order.reduce_only, order.quantity, order.status) == (True, D("0.050"), "NEW")


def test_what_the_venue_has_not_said_is_none() -> None:
    read = tables().snapshot()
    assert read.balances["BNB"].available_balance is None
    assert read.position("ETH.USDT_261225", "LONG").liquidation_price is None
    order = read.open_orders["BTCUSDT:algo-7"]
    assert (order.executed_qty, order.avg_price, order.reduce_only, order.actual_order_id) == (None, None, None, None)


def test_what_a_venue_counts_in_contracts_is_read_where_it_is_given() -> None:
    row = {"BTCUSDT:BOTH.quantityAsset": "USD", "BTCUSDT:BOTH.contracts": "-5", "BTCUSDT:BOTH.contractSize": "0.1"}
    order = {"BTCUSDT:1001.quantityAsset": "USD", "BTCUSDT:1001.contracts": "2"}
    read = tables(positions=hashes()["positions"] | row, orders=hashes()["orders"] | order).snapshot()
    position = read.position("BTCUSDT")
    assert (position.quantity_asset, position.contracts, position.contract_size) == ("USD", D(-5), D("0.1"))
    assert (read.open_orders["1001"].quantity_asset, read.open_orders["1001"].contracts) == ("USD", D(2))
    assert read.totals.totals_asset == "USDT"
    plain = read.position("ETH.USDT_261225", "LONG")
    assert (plain.quantity_asset, plain.contracts, plain.contract_size) == (None, None, None)
    without = {name: text for name, text in hashes()["account"].items() if name != "totalsAsset"}
    assert tables(account=without).totals().totals_asset is None, "a publisher of before"


def test_a_total_that_the_venue_does_not_give_is_none() -> None:
    given = {name: text for name, text in hashes()["account"].items() if not name.startswith("availableBalance")}
    totals = tables(account=given).totals()
    assert (totals.available_balance, totals.available_balance_time_ms) == (None, None)
    assert totals.total_wallet_balance == D("1000.50")


def test_what_a_trailing_stop_and_a_closing_order_have_is_read_where_it_is_given() -> None:
    given = {"closePosition": "true", "activatePrice": "93000.5", "callbackRate": "1.5"}
    row = {f"BTCUSDT:1001.{name}": text for name, text in given.items()}
    read = tables(orders=hashes()["orders"] | row).snapshot().open_orders
    order, without = read["BTCUSDT:1001"], read["BTCUSDT:algo-7"]
    assert (order.close_position, order.activate_price, order.callback_rate) == (True, D("93000.5"), D("1.5"))
    assert (without.close_position, without.activate_price, without.callback_rate) == (None, None, None)


def test_empty_text_counts_as_missing() -> None:
    told = hashes()["positions"] | {"BTCUSDT:BOTH.liquidationPrice": "", "BTCUSDT:BOTH.leverage": ""}
    position = tables(positions=told).snapshot().position("BTCUSDT")
    assert (position.liquidation_price, position.leverage) == (None, None)


def test_names_may_hold_the_signs_that_venues_use() -> None:
    assert set(tables().positions().by_name) == {"BTCUSDT:BOTH", "ETH.USDT_261225:LONG"}


@pytest.mark.parametrize(
    ("kind", "names"),
    [(Totals, ACCOUNT_FIELDS), (Balance, BALANCE_FIELDS), (Position, POSITION_FIELDS), (Order, ORDER_FIELDS)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_field_of_the_contract_is_an_attribute(kind: Any, names: tuple[str, ...]) -> None:
    read = tables().snapshot()
    row = {Totals: read.totals, Balance: read.balances[0], Position: read.positions[0], Order: read.open_orders[0]}[
        kind
    ]
    for name in names:
        getattr(row, snake_case(name))


def test_an_order_under_another_name_is_not_read() -> None:
    """An older publisher named them by the id alone: nobody would find them by symbol and id."""
    old = {name.removeprefix("BTCUSDT:"): text for name, text in hashes()["orders"].items()}
    with pytest.raises(ContractMismatch, match=r"its name is not BTCUSDT:1001"):
        tables(orders=old).open_orders()


def test_snake_case() -> None:
    names = ("unRealizedProfit", "orderId", "totalWalletBalanceTimeMs", "symbol")
    assert [snake_case(name) for name in names] == [
        "un_realized_profit",
        "order_id",
        "total_wallet_balance_time_ms",
        "symbol",
    ]


WRONG: dict[str, tuple[str, dict[str, str | None], str]] = {
    "a number that is none": ("positions", {"BTCUSDT:BOTH.positionAmt": "many"}, "positions BTCUSDT:BOTH is not as"),
    "a price that is none": ("positions", {"BTCUSDT:BOTH.entryPrice": "1,5"}, "entryPrice is '1,5'"),
    "no number at all": ("balances", {"USDT.walletBalance": "NaN"}, "walletBalance is 'NaN'"),
    "an endless number": ("account", {"availableBalance": "Infinity"}, "availableBalance is 'Infinity'"),
    "a time that is none": (
        "orders",
        {"BTCUSDT:1001.venueTimeMs": "soon"},
        "orders BTCUSDT:1001 is not as contract 1 has it: venueTi",
    ),
    "a flag that is none": ("orders", {"BTCUSDT:1001.reduceOnly": "perhaps"}, "reduceOnly is 'perhaps'"),
    "a field that is missing": ("balances", {"USDT.walletBalance": None}, "walletBalance is missing"),
    "a total that is none": ("account", {"totalMaintMargin": "x"}, "account is not as contract 1 has it: totalM"),
    "a side that is missing": ("positions", {"BTCUSDT:BOTH.side": None}, "side is missing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_text_that_the_contract_does_not_allow_is_refused_by_name(case: str) -> None:
    table, changes, said = WRONG[case]
    told: dict[str, str] = dict(hashes()[table])
    for name, value in changes.items():
        if value is None:
            del told[name]
        else:
            told[name] = value
    with pytest.raises(ContractMismatch) as refusal:
        tables(**{table: told}).snapshot()
    assert said in str(refusal.value)
    assert str(refusal.value).startswith(f"Redis at {SERVER}: binance:main {table}")


def test_values_of_one_kind() -> None:
    row = {name.partition(".")[2]: value for name, value in hashes()["balances"].items() if name.startswith("BNB.")}
    assert values(Balance, row)["wallet_balance"] == D(2)
    with pytest.raises(ValueError, match="walletBalance is missing"):
        values(Balance, {})


def test_a_refresh_is_as_old_as_its_question_and_as_far_as_the_commit_then() -> None:
    freshness = tables().snapshot().freshness
    assert (freshness.age_s, freshness.seq, freshness.epoch) == (1.5, 7, 3)
    assert (freshness.source, freshness.via, freshness.state) == ("rest", "refresh", "recovering")
    assert freshness.verified_at_ms == 1000
    assert tables().positions().freshness == tables().balances()[0].freshness == freshness


def test_what_the_publisher_wrote_has_the_source_of_its_last_change() -> None:
    stored = StoredAccount(
        account_id=ACCOUNT,
        now_ms=2000,
        status={"seq": "9", "epoch": "3", "state": "live", "verifiedAtMs": "1900"},
        account=None,
        balances={},
        positions={},
        orders=None,
        asked=("balances", "positions"),
        provenance={"balances": {"_seq": "9", "_source": "derived"}, "positions": {"_seq": "8", "_source": "stream"}},
    )
    freshness = of_publisher(stored, SERVER, 100).positions().freshness
    assert (freshness.age_s, freshness.seq, freshness.epoch, freshness.state) == (0.1, 9, 3, "live")
    assert (freshness.source, freshness.via, freshness.verified_at_ms) == ("derived", "publisher", 1900)
