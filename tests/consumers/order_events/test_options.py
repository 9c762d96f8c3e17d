from __future__ import annotations

from typing import Any

import pytest

from consumers.order_events import OrderEvents
from consumers.order_events.options import Options
from statecast.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"group": "my bot"}, "group is 'my bot'; accepted: up to 64 letters"),
        ({"group": "bot.1of2"}, "group is 'bot.1of2'; accepted: up to 64 letters"),
        ({"consumer": "a b"}, "consumer is 'a b'; accepted: up to 64 letters"),
        ({"partitions": 0}, "partitions is '0'; accepted: 1 to 64"),
        ({"partitions": 65}, "partitions is '65'; accepted: 1 to 64"),
        ({"start": "end"}, 'start is \'end\'; accepted: "now" or "beginning"'),
        (
            {"start": "beginning", "start_ms": 1},
            "start is 'beginning'; accepted: one of start, start_ms, start_event_seq",
        ),
        ({"start_event_seq": 1, "start_ms": 1}, "start is 'now'; accepted: one of start, start_ms, start_event_seq"),
        ({"start_ms": -1}, "start_ms is '-1'; accepted: milliseconds since 1970 UTC"),
        ({"start_event_seq": 0}, "start_event_seq is '0'; accepted: 1 or more"),
        ({"symbols": "BTCUSDT"}, "symbols is 'BTCUSDT'; accepted: one or more in a set, such as"),
        ({"symbols": set()}, "symbols is 'set()'; accepted: one or more in a set, such as"),
        ({"max_attempts": 0}, "max_attempts is '0'; accepted: 1 or more"),
        ({"backoff_s": -1}, "backoff_s is '-1'; accepted: seconds, 0 or more"),
        ({"max_backoff_s": 0.1}, "max_backoff_s is '0.1'; accepted: seconds, 0.2 or more"),
        ({"lease_s": 0.1}, "lease_s is '0.1'; accepted: seconds, 0.5 to 600"),
        ({"remembered": 0}, "remembered is '0'; accepted: one for each partition, or more"),
        ({"account_id": "no such/thing"}, "account_id is 'no such/thing'; accepted: <venue>:<account>"),
        ({"redis": "http://localhost"}, "STATECAST_REDIS_URL is 'http://…'; accepted: redis://"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_once(options: dict[str, Any], sentence: str) -> None:
    good: dict[str, Any] = {"account_id": "main", "redis": "redis://localhost", "group": "bot"}
    with pytest.raises(ConfigError) as refused:
        OrderEvents(**good | options)
    assert str(refused.value).startswith(sentence)


def options(**given: Any) -> Options:
    defaults: dict[str, Any] = {
        "partitions": 1, "start": "now", "start_ms": None, "start_event_seq": None, "symbols": None,
        "client_order_id_prefix": None, "max_attempts": 5, "backoff_s": 0.2, "max_backoff_s": 1.0, "lease_s": 5.0,
        "remembered": 50_000,
    }  # fmt: skip
    return Options.checked(**defaults | given)


BTC = {"eventType": "NEW", "symbol": "BTCUSDT", "orderId": "1", "clientOrderId": "bot7-1"}
ETH = {"eventType": "NEW", "symbol": "ETHUSDT", "orderId": "2", "clientOrderId": "other"}
GAP_OF_ALL = {"eventType": "GAP", "symbol": "", "orderId": "", "clientOrderId": ""}
GAP_OF_ONE = {"eventType": "GAP", "symbol": "ETHUSDT", "orderId": "2", "clientOrderId": "other"}


@pytest.mark.parametrize(
    ("given", "fields", "wanted", "case"),
    [
        ({}, BTC, True, "without a filter everything is wanted"),
        ({"symbols": ["BTCUSDT"]}, BTC, True, "a symbol of the filter"),
        ({"symbols": ["BTCUSDT"]}, ETH, False, "a symbol outside of the filter"),
        ({"client_order_id_prefix": "bot7-"}, BTC, True, "an order id with the prefix"),
        ({"client_order_id_prefix": "bot7-"}, ETH, False, "an order id without the prefix"),
        ({"client_order_id_prefix": ""}, {"symbol": "BTCUSDT"}, True, "an empty prefix is no filter"),
        ({"symbols": ["BTCUSDT"], "client_order_id_prefix": "x"}, BTC, False, "both filters must agree"),
        ({"symbols": ["BTCUSDT"], "client_order_id_prefix": "x"}, GAP_OF_ALL, True, "a gap passes every filter"),
        ({"symbols": ["BTCUSDT"]}, GAP_OF_ONE, True, "a gap of one order passes every filter as well"),
    ],
)
def test_which_events_are_wanted(given: dict[str, Any], fields: dict[str, str], wanted: bool, case: str) -> None:
    assert options(**given).wants(1, fields) is wanted, case


def test_an_order_belongs_to_one_partition_and_a_gap_without_an_order_to_all() -> None:
    settings = options(partitions=4)
    for number in range(50):
        fields = BTC | {"orderId": str(number)}
        wanting = [partition for partition in range(1, 5) if settings.wants(partition, fields)]
        gap = [partition for partition in range(1, 5) if settings.wants(partition, GAP_OF_ONE | fields)]
        assert len(wanting) == 1
        assert wanting == gap
    assert all(settings.wants(partition, GAP_OF_ALL) for partition in range(1, 5))


@pytest.mark.parametrize(
    ("given", "after"),
    [
        ({}, "$"),
        ({"start": "beginning"}, "0-0"),
        ({"start_ms": 0}, "0-0"),
        ({"start_ms": 5}, "4-18446744073709551615"),
    ],
)
def test_where_a_new_group_begins(given: dict[str, Any], after: str) -> None:
    assert options(**given).start_after == after


def test_the_pause_doubles_with_each_attempt_up_to_a_limit() -> None:
    assert [options().pause_s(attempt) for attempt in (1, 2, 3, 4, 5, 500)] == [0.2, 0.4, 0.8, 1.0, 1.0, 1.0]


def test_a_call_waits_for_a_part_of_the_lease_and_a_second_at_the_most() -> None:
    assert [options(lease_s=lease_s).block_s for lease_s in (0.5, 2.0, 60.0)] == [0.125, 0.5, 1.0]
