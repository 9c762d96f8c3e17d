from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from support.changes import NOW
from support.groups import (
    ALL,
    Log,
    consumer,
    handle,
    nothing_comes,
    take,
    write_gap,
)
from support.written import eventually

from consumers.order_events import Gap
from consumers.order_events.reporting import KEPT_GAPS, GapReporter
from statecast.store.keys import AccountId


async def test_what_was_trimmed_while_nobody_served_the_group_is_reported_before_the_next(log: Log, url: str) -> None:
    reported: list[Gap | int] = []

    async def on_gap(gap: Gap) -> None:
        await asyncio.sleep(0)
        reported.append(gap)

    async with consumer(log, url) as events:
        await log.write(3)
        await handle(events, 3)
    await log.write(7)
    await log.trim(6)
    async with consumer(log, url, on_gap=on_gap) as events:
        reported += await handle(events, 4)
        gap = Gap("trimmed", 4, 7, "events 4 to 6 are not in the log any more: trimmed, or lost by Redis")
        assert reported == [gap, 7, 8, 9, 10]
        assert list(events.gaps) == [gap]


async def test_what_is_trimmed_while_a_consumer_works_is_reported(
    log: Log, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    reported: list[Gap] = []
    async with consumer(log, url, on_gap=reported.append) as events:
        await log.write(300)
        first = await take(events, 1)
        await log.trim(300)
        await log.write(2)
        later = await handle(events, 2)
        while later[-1] < 302:
            later += await handle(events, 1)
        (gap,) = reported
        assert gap.kind == "trimmed"
        assert gap.found_event_seq == 301
        assert gap.expected_event_seq is not None
        assert later == [*range(2, gap.expected_event_seq), 301, 302]
        warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert warnings == [f"bot: gap in the order events of {log.account_id}: {gap.reason}"]
        await first[0].ack()


@pytest.mark.parametrize(
    ("event_id", "fields", "sentence"),
    [
        (
            ALL,
            {},
            "the venue no longer has any order event between 2026-10-26 07:33:20 UTC and 2026-10-26 08:33:20 UTC",
        ),
        (
            f"ETHUSDT:GAP:{NOW}:REFUSED",
            {"symbol": "ETHUSDT"},
            "the venue no longer has any order event of ETHUSDT between 2026-10-26 07:33:20 UTC and"
            " 2026-10-26 08:33:20 UTC",
        ),
        (
            "ETHUSDT:77:GAP",
            {"symbol": "ETHUSDT", "order_id": "77", "client_order_id": "other-1", "side": "BUY"},
            "the venue no longer has what became of order 77 of ETHUSDT after 2026-10-26 08:33:20 UTC",
        ),
    ],
)
async def test_a_gap_of_the_log_passes_every_filter_and_is_reported_twice(
    log: Log, url: str, event_id: str, fields: dict[str, str], sentence: str
) -> None:
    reported: list[Gap] = []
    filters: dict[str, Any] = {"symbols": {"BTCUSDT"}, "client_order_id_prefix": "bot7-"}
    async with consumer(log, url, on_gap=reported.append, **filters) as events:
        await log.write(1)
        await write_gap(log, event_id, **fields)
        await log.write(1, client_order_id="bot7-1")
        gap, ordinary = await take(events, 2)
        assert (gap.event_seq, gap.event_type, gap.event_id) == (2, "GAP", event_id)
        assert str(gap.gap_info) == sentence
        assert ordinary.gap_info is None
        assert reported == [Gap("unrecoverable", None, 2, f"{sentence} ({event_id})")] == list(events.gaps)

        async def passed() -> bool:  # the first, which is not wanted, is acknowledged a moment later
            return await log.pending("bot") == [gap.entry_id, ordinary.entry_id]

        await eventually(passed)
        await gap.ack()


async def test_a_gap_reaches_the_handlers_of_all_partitions_and_is_reported_once(log: Log, url: str) -> None:
    async with consumer(log, url, partitions=3) as events:
        await write_gap(log)
        found = await take(events, 3)
        assert {event.event_id for event in found} == {ALL}
        assert len({event._settler for event in found}) == 3
        for event in found:
            await event.ack()
        await write_gap(log, "BTCUSDT:77:GAP", symbol="BTCUSDT", order_id="77")
        (of_one_order,) = await take(events, 1)
        assert of_one_order.gap_info is not None
        assert of_one_order.gap_info.order_id == "77"
        await of_one_order.ack()
        await nothing_comes(events)
        assert [gap.kind for gap in events.gaps] == ["unrecoverable", "unrecoverable"]


async def test_an_error_of_the_callback_reaches_the_user(log: Log, url: str) -> None:
    def on_gap(gap: Gap) -> None:
        raise ValueError("not prepared")

    async with consumer(log, url) as events:
        await log.write(1)
        await handle(events, 1)
    await log.write(3)
    await log.trim(3)
    async with consumer(log, url, on_gap=on_gap) as events:
        with pytest.raises(ValueError, match="not prepared"):
            async with asyncio.timeout(10):
                await anext(events)
        async with consumer(log, url) as other:
            assert await handle(other, 1) == [4], "who has failed does not hold the work"
            assert [gap.expected_event_seq for gap in other.gaps] == [2]


async def test_a_gap_names_its_partition_where_there_are_several_but_for_one_of_the_log(account_name: str) -> None:
    seen: list[Gap] = []
    account = AccountId("binance", account_name)
    reporter = GapReporter(account, "bot", 2, seen.append)
    for partition in (1, 2):
        await reporter.report(Gap("trimmed", 1, 3, "events 1 to 2"), partition)
        await reporter.report(Gap("unrecoverable", None, 4, "of the log"), partition)
    assert [gap.reason for gap in seen] == [
        "events 1 to 2 (partition 1 of 2)",
        "of the log",
        "events 1 to 2 (partition 2 of 2)",
    ]
    assert list(reporter.gaps) == seen


async def test_the_last_gaps_are_kept(account_name: str) -> None:
    reporter = GapReporter(AccountId("binance", account_name), "bot", 1, None)
    for number in range(KEPT_GAPS + 5):
        await reporter.report(Gap("trimmed", number, None, "missing"), 1)
    assert [gap.expected_event_seq for gap in reporter.gaps] == list(range(5, KEPT_GAPS + 5))
