from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from support.changes import event, snapshot
from support.written import Desk, Stored

from statecast.store.client import Client, connect
from statecast.store.event_log import first_entry_from_seq, last_entries, read_on, seq_before
from statecast.store.keys import AccountId, AccountKeys

WRITTEN = 300


@pytest.fixture
async def client(any_redis_url: str) -> AsyncIterator[Client]:
    async with connect(any_redis_url, client_name="reader") as connected:
        yield connected


@pytest.fixture
def account_id(account_name: str) -> AccountId:
    return AccountId("binance", account_name)


@pytest.fixture
async def desk(client: Client, account_id: AccountId) -> Desk:
    """A publisher that has written `WRITTEN` events: many in one millisecond, and over many milliseconds."""
    started = Desk(client, account_id)
    await started.open()
    await started.commit([snapshot()])
    numbers = iter(range(1, WRITTEN + 1))
    for size in (1, 2, 150, 1, 1, 40, 1, 1, 100, 1, 1, 1):
        await started.commit(*([event(n, "NEW", order_id=str(n))] for _, n in zip(range(size), numbers, strict=False)))
    assert started.writer.event_seq == WRITTEN
    return started


def seqs(entries: list[dict[str, str]]) -> list[int]:
    return [int(fields["eventSeq"]) for fields in entries]


async def read_all(client: Client, account_id: AccountId, after: str) -> list[int]:
    found: list[int] = []
    while True:
        after, entries = await read_on(client, account_id, after, block_ms=0)
        if not entries:
            return found
        found += seqs(entries)


async def test_the_last_entries_come_oldest_first_with_the_place_to_read_on(
    desk: Desk, client: Client, account_id: AccountId
) -> None:
    after, entries = await last_entries(client, account_id, 4)
    assert seqs(entries) == [297, 298, 299, 300]
    assert await read_all(client, account_id, after) == []
    await desk.commit([event(900, "NEW", order_id="next")])
    assert await read_all(client, account_id, after) == [301]
    assert len((await last_entries(client, account_id, 10_000))[1]) == 301


async def test_no_entries_still_give_the_place_to_read_on(desk: Desk, client: Client, account_id: AccountId) -> None:
    after, entries = await last_entries(client, account_id, 0)
    assert entries == []
    await desk.commit([event(900, "NEW", order_id="next")])
    assert await read_all(client, account_id, after) == [301]


async def test_an_empty_log_is_read_from_its_beginning(client: Client, account_id: AccountId) -> None:
    assert await last_entries(client, account_id, 5) == ("0-0", [])
    assert await first_entry_from_seq(client, account_id, 17) == "0-0"
    assert await read_on(client, account_id, "0-0", block_ms=0) == ("0-0", [])


@pytest.mark.usefixtures("desk")
@pytest.mark.parametrize("page", [2, 7, 500])
async def test_reading_can_begin_at_any_number(client: Client, account_id: AccountId, page: int) -> None:
    for number in (-5, 0, 1, 2, 3, 4, 77, 153, 154, 155, 195, 196, 197, 297, 298, 299, 300):
        after = await first_entry_from_seq(client, account_id, number, page=page)
        _, entries = await read_on(client, account_id, after, block_ms=0, page=page)
        assert seqs(entries)[0] == max(1, number)
        assert seqs(entries) == list(range(max(1, number), max(1, number) + len(entries)))
        assert len(entries) <= page


async def test_a_number_that_is_not_there_yet_is_read_when_it_comes(
    desk: Desk, client: Client, account_id: AccountId
) -> None:
    after = await first_entry_from_seq(client, account_id, 301)
    assert await read_all(client, account_id, after) == []
    await desk.commit([event(900, "NEW", order_id="next")])
    assert await read_all(client, account_id, after) == [301]


@pytest.mark.usefixtures("desk")
async def test_a_number_that_was_trimmed_gives_the_next_that_there_is(client: Client, account_id: AccountId) -> None:
    stored = Stored(client, account_id)
    await stored.redis.xtrim(stored.keys.order_events, maxlen=100, approximate=False)
    for number, first in ((1, 201), (200, 201), (201, 201), (202, 202)):
        after = await first_entry_from_seq(client, account_id, number)
        assert await read_all(client, account_id, after) == list(range(first, 301))


@pytest.mark.usefixtures("desk")
async def test_reading_on_gives_every_entry_once(client: Client, account_id: AccountId) -> None:
    assert await read_all(client, account_id, "0-0") == list(range(1, WRITTEN + 1))


async def test_a_waiting_reader_is_woken_by_the_next_event(
    desk: Desk, any_redis_url: str, client: Client, account_id: AccountId
) -> None:
    after, _ = await last_entries(client, account_id, 0)
    async with connect(any_redis_url, client_name="waiting", timeout_s=30) as waiting:
        reading = asyncio.create_task(read_on(waiting, account_id, after, block_ms=20_000))

        async with asyncio.timeout(10):
            while "waiting" not in [c["name"] for c in await client.redis.client_list() if "b" in c["flags"]]:
                await asyncio.sleep(0)
        await desk.commit([event(900, "NEW", order_id="next")])
        _, entries = await reading
        assert seqs(entries) == [301]


@pytest.mark.usefixtures("desk")
async def test_a_reader_that_waited_in_vain_reads_on_from_where_it_was(client: Client, account_id: AccountId) -> None:
    after, _ = await last_entries(client, account_id, 0)
    assert await read_on(client, account_id, after, block_ms=5) == (after, [])


FROM, UNTIL = "2026-10-26 07:33:20 UTC", "2026-10-26 08:33:20 UTC"


async def test_the_number_before_an_entry(desk: Desk, client: Client, account_id: AccountId) -> None:
    ids = [entry_id for entry_id, _ in await client.redis.xrange(AccountKeys(account_id).order_events)]
    assert await seq_before(client, account_id, ids[0]) is None
    assert await seq_before(client, account_id, ids[2]) == 2
