"""One account's publisher, wired as the service wires it: what it is called, and how it ends."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from random import Random

from structlog.testing import capture_logs
from support.link import linked_url
from support.world import World, new_server, published, until, world

from publisher.service import Chance
from publisher.tuning import Tuning
from statecast.domain import gaps
from statecast.simulator.orders import OrderRequest, OrderType, Side
from statecast.store.client import connect
from statecast.store.keys import AccountKeys
from statecast.store.reader import read_account


def called(publisher_id: str) -> Chance:
    return Chance(Random(1), lambda: publisher_id)


async def test_it_publishes_under_the_name_that_it_was_given_and_says_so_at_the_start(
    redis_url: str, account_name: str
) -> None:
    with capture_logs() as logs:
        async with (
            new_server() as server,
            published(server, redis_url, account_name, chance=called("desk-7-abc")) as here,
        ):
            assert (await here.status())["publisherId"] == "desk-7-abc"
            assert await here.client.redis.get(AccountKeys(here.account_id).lease) == "desk-7-abc"
    assert [line["publisher"] for line in logs if line["event"] == "starting"] == ["desk-7-abc"]


async def test_a_stop_keeps_the_reason_for_which_the_account_was_refused(redis_url: str, account_name: str) -> None:
    async with new_server() as server, connect(redis_url, client_name="test") as client:
        body = '{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}'
        answers = {"count": 1000, "status": 401, "body": body}
        async with published(server, redis_url, account_name) as here:
            here.exchange.fault("answer_rest", answers, here.now_ms())
            here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
            refused = await here.state("refused")
        after = (await read_account(client, here.account_id)).status
        assert "check STATECAST_API_KEY" in refused["reason"]
        assert (after["state"], after["reason"]) == ("stopped", f"the publisher was stopped; {refused['reason']}")


# What was received


def place(here: World) -> int:
    """An order that stays open; its number."""
    request = OrderRequest(
        symbol="BTCUSDT", side=Side.BUY, type=OrderType.LIMIT, qty=Decimal("0.1"), price=Decimal(80_000)
    )
    here.exchange.publish(here.ledger.place(request, here.now_ms()), here.now_ms())
    return here.ledger.open_orders()[-1].order_id


def amend(here: World, order_id: int, times: int) -> None:
    """Amendments of one order, in one go."""
    for number in range(times):
        at_ms, qty = here.now_ms(), Decimal("0.2") if number % 2 else Decimal("0.3")
        price = Decimal(80_000) - Decimal(number % 1_000)
        here.exchange.publish(here.ledger.amend(order_id, qty=qty, price=price, now_ms=at_ms), at_ms)


def count(entries: list[dict[str, str]], order_id: int) -> dict[str, int]:
    """How many entries of each type the log has of an order."""
    return dict(Counter(entry["eventType"] for entry in entries if entry["orderId"] == str(order_id)))


async def test_a_flood_is_logged_whole_however_little_the_queue_holds(redis_url: str, account_name: str) -> None:
    """A history has the last state of each order: what is dropped of amendments may be lost."""
    tuning = Tuning(queued_deltas=100, recorded_events=100)
    async with world(redis_url, account_name, tuning=tuning) as here:
        order_id = place(here)
        amend(here, order_id, 3_000)
        await until(here.log, lambda entries: len(entries) >= 3_001)
        assert count(await here.log(), order_id) == {"NEW": 1, "AMENDMENT": 3_000}
        await here.agree()
        await here.agree_on_events()
        assert (await here.status())["state"] == "live"


async def doubt(here: World) -> None:
    """A frame that makes no sense, and a venue that answers no question after it."""
    unavailable = {"count": 10_000, "status": 503, "body": "{}", "path": "/fapi/v3/account"}
    here.exchange.fault("answer_rest", unavailable, here.now_ms())
    here.exchange.fault("send_raw", {"text": "{"}, here.now_ms())
    await here.state("recovering")


async def has_received_all(here: World) -> None:
    """Frames come in order, and one of a kind that nobody knows is counted in the status."""
    here.exchange.send_event("WHATEVER", {}, here.now_ms())
    await until(here.status, lambda status: status["unknownEvents"] == "1")


async def test_a_stop_in_doubt_logs_what_was_received_and_the_next_publisher_doubles_nothing(
    redis_url: str, account_name: str
) -> None:
    async with new_server() as server:
        async with published(server, redis_url, account_name) as here:
            known = place(here)
            await here.agree()
            await doubt(here)
            amend(here, known, 20)
            new = place(here)
            amend(here, new, 5)
            here.exchange.publish(here.ledger.fill_resting(new, Decimal("0.05"), here.now_ms()), here.now_ms())
            await has_received_all(here)
        server.exchange.fault("clear", {}, here.now_ms())
        async with published(server, redis_url, account_name) as after:
            entries = await after.log()
            assert count(entries, known) == {"NEW": 1, "AMENDMENT": 20}
            assert count(entries, new) == {"NEW": 1, "AMENDMENT": 5, "TRADE": 1}
            await after.agree()
            await after.agree_on_events()


async def test_a_stop_in_doubt_says_of_which_order_it_could_not_log_what_was_received(
    redis_url: str, account_name: str
) -> None:
    """A fill was missed. The next publisher finds it; what comes after it must not be logged before it."""
    async with new_server() as server:
        async with published(server, redis_url, account_name) as here:
            order_id = place(here)
            await here.agree()
            here.exchange.fault("drop_user_frames", {"count": 100}, here.now_ms())
            here.exchange.publish(here.ledger.fill_resting(order_id, Decimal("0.05"), here.now_ms()), here.now_ms())
            here.exchange.fault("clear", {}, here.now_ms())
            await doubt(here)
            amend(here, order_id, 20)
            await has_received_all(here)
        server.exchange.fault("clear", {}, here.now_ms())
        async with published(server, redis_url, account_name) as after:
            await after.agree()
            entries = [entry for entry in await after.log() if entry["orderId"] == str(order_id)]
    assert [entry["eventType"] for entry in entries] == ["NEW", "GAP", "TRADE", *["AMENDMENT"] * 20]
    gap = gaps.parse(entries[1])
    assert gap is not None
    assert (gap.what, gap.order_id) == ("unlogged", str(order_id))


async def test_what_comes_while_the_venue_answers_no_snapshot_is_logged_whole(
    redis_url: str, account_name: str
) -> None:
    tuning = Tuning(queued_deltas=100, recorded_events=100)
    async with world(redis_url, account_name, tuning=tuning) as here:
        order_id = place(here)
        await here.agree()
        await doubt(here)
        amend(here, order_id, 2_000)
        await has_received_all(here)
        here.exchange.fault("clear", {}, here.now_ms())
        entries = await until(here.log, lambda entries: len(entries) >= 2_001)
        assert count(entries, order_id) == {"NEW": 1, "AMENDMENT": 2_000}
        assert {entry["source"] for entry in entries} == {"stream"}, "it was kept: not every venue lists amendments"
        await here.agree()
        await here.agree_on_events()


async def test_what_there_was_no_room_for_in_doubt_is_an_entry_of_the_log_and_the_rest_is_fetched(
    redis_url: str, account_name: str
) -> None:
    """The histories have more events than there is room for of the stream."""
    async with world(redis_url, account_name, tuning=Tuning(unlogged_events=10)) as here:
        first = place(here)
        await here.agree()
        await doubt(here)
        with capture_logs() as logs:
            amend(here, first, 12)
            second = place(here)
            amend(here, second, 3)
            await has_received_all(here)
            here.exchange.fault("clear", {}, here.now_ms())
            await here.state("live")
        await here.agree()
        entries = await here.log()
        (gap,) = [entry for entry in entries if entry["eventType"] == "GAP"]
        (line,) = [line for line in logs if line["event"] == "order_events_lost"]
        assert line["gap"] == gap["eventId"]
        assert line["reason"] == "more than 10 order events waited for a snapshot"
        told = gaps.parse(gap)
        assert told is not None
        assert told.what == "unlogged"
        assert count(entries, first) == {"NEW": 1, "AMENDMENT": 12}
        assert count(entries, second) == {"NEW": 1, "AMENDMENT": 3}
        assert [int(entry["eventSeq"]) for entry in entries] == list(range(1, len(entries) + 1))


async def test_what_comes_while_redis_hangs_for_longer_than_the_lease_is_logged_whole(
    redis_url: str, account_name: str
) -> None:
    tuning = Tuning(queued_deltas=100, recorded_events=100)
    async with (
        new_server() as server,
        linked_url(redis_url) as way,
        published(server, redis_url, account_name, publisher_redis_url=way.url, tuning=tuning) as here,
    ):
        order_id = place(here)
        await here.agree()
        way.stall()
        amend(here, order_id, 1_000)
        lease = AccountKeys(here.account_id).lease
        await until(lambda: here.client.redis.exists(lease), lambda held: not held)
        amend(here, order_id, 1_000)
        way.resume()
        entries = await until(here.log, lambda entries: len(entries) >= 2_001)
        assert {entry["source"] for entry in entries} == {"stream"}, "it was kept: not every venue lists amendments"
        await here.agree()
        await here.agree_on_events()
