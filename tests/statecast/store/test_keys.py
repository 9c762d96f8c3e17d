from __future__ import annotations

import re
from pathlib import Path

import pytest

from statecast.errors import ConfigError
from statecast.store.keys import EVENT_FIELDS, AccountId, AccountKeys


def test_the_keys_are_those_of_the_contract() -> None:
    keys = AccountKeys(AccountId("binance", "main"))
    prefix = "statecast:{binance:main}:"
    names = [name for name in AccountKeys.__slots__ if not name.startswith("_")]
    assert {name: getattr(keys, name).removeprefix(prefix) for name in names} == {
        "account": "account",
        "balances": "balances",
        "changes": "changes",
        "group_activity": "group-activity",
        "lease": "lease",
        "order_events": "order-events",
        "orders": "orders",
        "positions": "positions",
        "publishers": "publishers",
        "refresh": "refresh",
        "refresh_lock": "refresh-lock",
        "refresh_news": "refresh-news",
        "refresh_requests": "refresh-requests",
        "status": "status",
    }
    assert keys.dead_letters("mybot") == prefix + "dead-letters:mybot"
    assert keys.group("mybot") == prefix + "group:mybot"
    assert keys.table("orders") == keys.orders


def test_one_account_lives_in_one_cluster_slot() -> None:
    """Redis hashes what stands between the first `{` and the next `}`."""
    keys = AccountKeys(AccountId("binance", "main"))
    tags = {getattr(keys, name).partition("{")[2].partition("}")[0] for name in AccountKeys.__slots__}
    assert tags == {"binance:main"}


def test_order_events_have_the_fields_of_the_contract() -> None:
    contract = """symbol orderId clientOrderId side positionSide type origType timeInForce status price stopPrice
        quantity executedQty avgPrice reduceOnly venueTimeMs eventId eventType eventSeq epoch lastQty
        lastPrice tradeId commission commissionAsset realizedProfit maker source receivedAtMs"""
    assert set(contract.split()) <= set(EVENT_FIELDS)
    assert len(EVENT_FIELDS) == len(set(EVENT_FIELDS))


@pytest.mark.parametrize(
    ("text", "account_id"),
    [
        ("binance:main", AccountId("binance", "main")),
        ("main", AccountId("binance", "main")),
        ("aster:sub-1_a.b", AccountId("aster", "sub-1_a.b")),
        ("okx:" + "a" * 64, AccountId("okx", "a" * 64)),
    ],
)
def test_an_account_is_named_by_venue_and_name(text: str, account_id: AccountId) -> None:
    assert AccountId.parse(text) == account_id
    assert AccountId.parse(str(account_id)) == account_id


@pytest.mark.parametrize(
    "text",
    ["", ":", "binance:", ":main", "a:b:c", "a b", "main}", "{main", "-main", "a" * 65, "main\n", "mäin", "bin*nce:x"],
)
def test_a_name_that_cannot_stand_in_a_key_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        AccountId.parse(text, "STATECAST_ACCOUNT")
    assert str(refused.value) == (
        f"STATECAST_ACCOUNT is {text!r}; accepted: <venue>:<account> of letters, digits, '_', '.', '-',"
        " such as binance:main"
    )


def test_the_published_contract_names_the_fields_of_an_order_event_in_their_order() -> None:
    text = (Path(__file__).parents[3] / "docs" / "redis.md").read_text("utf-8")
    listed = text[text.index("Every entry has these fields in this order") :].split("\n\n")[1]
    assert tuple(re.findall(r"`(\w+)`", listed)) == EVENT_FIELDS
