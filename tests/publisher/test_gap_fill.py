"""What was missed stands in the log afterwards, with its place and once; what cannot be known is said."""

from __future__ import annotations

import asyncio
import json
import re
from decimal import Decimal
from random import Random

import orjson
import pytest
from support.changes import event
from support.large import WeighingExchange, bots, large_server, market, rest
from support.parts import Parts
from support.world import DEADLINE_S, FastClock, World, new_server, published, unlimited, until, world

from publisher.gap_fill import BEHIND_TRIES
from publisher.tuning import Tuning
from statecast.clock import SystemClock
from statecast.domain.changes import OrderUpdate
from statecast.simulator.binance.exchange import Exchange
from statecast.simulator.binance.frames import Frame, user_frames
from statecast.simulator.events import OrderChanged
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import AlgoOrder, AlgoRequest, OrderRequest, OrderType, PositionSide, Side, TimeInForce
from statecast.simulator.server import SimulatorServer
from statecast.store.client import connect
from statecast.store.keys import EVENT_FIELDS, AccountId, AccountKeys
from statecast.venues.binance.decode import decode_user_frame
from statecast.venues.binance.limits import WeightBudget
from statecast.venues.registry import SharedLimits

DAY_MS = 86_400_000
ALL_ORDERS = "/fapi/v1/allOrders"


def limit(ledger: Ledger, at_ms: int, symbol: str = "BTCUSDT", below: str = "0.9") -> int:
    """A resting order, far enough from the market; its number."""
    rules = ledger.rules[symbol]
    price = ledger.marks[symbol] * Decimal(below) // rules.tick_size * rules.tick_size
    qty = (rules.min_notional / price // rules.step_size + 2) * rules.step_size
    request = OrderRequest(symbol=symbol, side=Side.BUY, type=OrderType.LIMIT, qty=qty, price=price)
    ledger.place(request, at_ms)
    return ledger.open_orders(symbol)[-1].order_id


def logged_of(entries: list[dict[str, str]], order_id: int | str) -> list[str]:
    return [entry["eventType"] for entry in entries if entry["orderId"] == str(order_id)]


async def leave_alone(server: SimulatorServer, redis_url: str, account: str) -> None:
    """A first publisher that has seen the account, and left."""
    async with published(server, redis_url, account) as here:
        here.trade(20)
        await here.agree()


async def test_a_long_history_is_logged_ahead_of_the_snapshot_and_stays_logged(
    redis_url: str, account_name: str
) -> None:
    """In slices, so that the lease is kept; a cut in the middle takes nothing of it back."""
    seen: list[int] = []
    tuning = Tuning(history_slice=5, events_at_once=20, unwritten_events=8)
    async with new_server(seed=3) as server:
        await leave_alone(server, redis_url, account_name)
        async with published(server, redis_url, account_name, seed=4, live=False, tuning=tuning) as here:
            here.trade(300)  # before it has had a chance to connect
            left, before = await here.stored(), await here.status()
            state = ""
            async with asyncio.timeout(DEADLINE_S):
                while state != "live":  # Without a pause: one look for each commit or two.
                    stored = await here.stored()
                    state, seq = stored.status["state"], int(stored.status["eventSeq"])
                    if state == "live" or seq in seen:
                        continue
                    assert (stored.positions, stored.orders) == (left.positions, left.orders), "no row has moved"
                    seen.append(seq)
                    if len(seen) == 2:
                        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
            commits = int((await here.status())["seq"]) - int(before["seq"])
            await here.agree()
            entries = await here.agree_on_events_after_gaps()
    assert seen == sorted(seen)
    assert len(seen) > 1, "the log grows before the state is live"
    fetched = sum(entry["source"] == "rest" for entry in entries)
    assert fetched > 100
    assert commits > fetched / 5, "in slices"


async def test_what_happened_while_no_publisher_ran_is_in_the_log(redis_url: str, account_name: str) -> None:
    tuning = Tuning(log_margin=5)  # what the log has is found by time, however much it is
    async with new_server(seed=3) as server:
        await leave_alone(server, redis_url, account_name)
        async with published(server, redis_url, account_name, seed=4, live=False, tuning=tuning) as here:
            here.trade(300)  # before it has had a chance to connect
            await here.state("live")
            here.trade(20)
            await here.agree()
            entries = await here.agree_on_events_after_gaps()
            assert sum(entry["source"] == "rest" for entry in entries) > 100
        async with published(server, redis_url, account_name, seed=5, tuning=tuning) as here:
            await here.agree()
            assert await here.log() == entries, "nothing is told twice after another restart"


async def test_the_past_of_an_account_is_not_logged_at_the_first_start(redis_url: str, account_name: str) -> None:
    async with new_server() as server, published(server, redis_url, account_name, live=False) as here:
        here.trade(50)
        old = limit(here.ledger, 1)
        await here.state("live")
        await here.agree()
        assert await here.log() == []
        assert not here.exchange.requests["GET /fapi/v1/userTrades 200"]
        now_ms = here.now_ms()
        here.exchange.publish(here.ledger.cancel(old, now_ms), now_ms)
        await until(here.log, lambda log: logged_of(log, old) == ["CANCELED"])


async def test_orders_that_were_open_before_the_gap_are_followed_to_their_end(
    redis_url: str, account_name: str
) -> None:
    async with new_server() as server:
        ledger, exchange = server.exchange.ledger, server.exchange
        long_ago = SystemClock().now_ms() - 2 * DAY_MS
        orders = [limit(ledger, long_ago) for _ in range(4)]
        mark = ledger.marks["BTCUSDT"]
        stop = AlgoRequest(
            symbol="BTCUSDT", side=Side.SELL, type=OrderType.STOP_MARKET, qty=Decimal("0.01"), trigger_price=mark - 500
        )
        ledger.place_algo(stop, long_ago)
        algo = ledger.open_algos()[-1].algo_id
        async with published(server, redis_url, account_name) as here:
            await here.agree()
        now_ms = SystemClock().now_ms()
        part = ledger.rules["BTCUSDT"].step_size
        ledger.fill_resting(orders[0], part, now_ms)
        ledger.fill_resting(orders[0], Decimal(9), now_ms + 1)
        ledger.fill_resting(orders[1], part, now_ms + 2)
        ledger.cancel(orders[1], now_ms + 3)
        ledger.cancel(orders[2], now_ms + 4)
        ledger.cancel_algo(algo, now_ms + 5)
        async with published(server, redis_url, account_name) as here:
            await here.agree()
            entries = await here.log()
        assert [logged_of(entries, one) for one in orders] == [
            ["TRADE", "TRADE"],
            ["TRADE", "CANCELED"],
            ["CANCELED"],
            [],
        ]
        assert logged_of(entries, f"algo-{algo}") == ["ALGO_CANCELED"]
        assert [e["status"] for e in entries if e["orderId"] == str(orders[0])] == ["PARTIALLY_FILLED", "FILLED"]
        assert [int(e["venueTimeMs"]) - now_ms for e in entries] == [0, 1, 2, 3, 4, 5], "in the venue's order"
        assert exchange.requests["GET /fapi/v1/order 200"] == 3, "the one that is still open was not asked for"


async def test_what_lies_beyond_the_venues_retention_is_a_gap(redis_url: str, account_name: str) -> None:
    async with new_server() as server:
        ledger = server.exchange.ledger
        now_ms = SystemClock().now_ms()
        kept_open = limit(ledger, now_ms - 5 * DAY_MS)
        async with published(server, redis_url, account_name) as here:
            await here.agree()
            keys = AccountKeys(here.account_id)
        unseen = limit(ledger, now_ms - 4 * DAY_MS)
        ledger.cancel(unseen, now_ms - 4 * DAY_MS + 1)
        seen = limit(ledger, now_ms - 4 * DAY_MS)
        ledger.fill_resting(seen, Decimal(9), now_ms - 4 * DAY_MS + 2)
        ledger.cancel(kept_open, now_ms)
        async with connect(redis_url, client_name="statecast-test") as client:
            log = {"eventsSinceMs": now_ms - 200 * DAY_MS, "eventsCompleteMs": now_ms - 100 * DAY_MS}
            await client.redis.hset(keys.status, mapping=log)
        async with published(server, redis_url, account_name) as here:
            await here.agree()
            entries = await here.log()
        since_ms = now_ms - 100 * DAY_MS - 30_000
        gaps = [entry for entry in entries if entry["eventType"] == "GAP"]
        assert [gap["eventId"].partition(":")[0] for gap in gaps] == ["GAP", "GAP", "BTCUSDT"]
        assert gaps[0]["eventId"] == f"GAP:{since_ms}:ALL"
        assert gaps[1]["eventId"].endswith(":UNFILLED")
        assert gaps[2]["eventId"] == f"BTCUSDT:{kept_open}:GAP", "how it ended is not known any more"
        assert 0 <= int(gaps[0]["venueTimeMs"]) - (now_ms - 90 * DAY_MS) < 660_000
        assert all(tuple(gap) == EVENT_FIELDS for gap in gaps)
        assert logged_of(entries, seen) == ["NEW", "TRADE"]
        assert logged_of(entries, unseen) == []
        async with published(server, redis_url, account_name) as here:
            await here.agree()
            assert await here.log() == entries


class ScarceBudget(WeightBudget):
    """Says several times that a history has to wait, and lets everything else pass."""

    def __init__(self) -> None:
        super().__init__(limit=1_000_000)
        self.refusals = 3

    def delay_ms(self, cost: int, now_ms: int, now_s: float, *, urgent: bool = False, spare: int = 0) -> int:
        if spare and self.refusals:
            self.refusals -= 1
            return 200
        return super().delay_ms(cost, now_ms, now_s, urgent=urgent, spare=spare)


async def test_a_budget_that_is_nearly_spent_delays_the_gap_fill_and_it_goes_on(
    redis_url: str, account_name: str
) -> None:
    async with new_server(seed=6) as server:
        await leave_alone(server, redis_url, account_name)
        budget = ScarceBudget()
        limits = SharedLimits(lambda _: budget)
        async with published(server, redis_url, account_name, live=False, limits=limits) as here:
            here.trade(50)
            await until(here.status, lambda status: "for the venue's limits" in status.get("reason", ""))
            await here.state("live")
            await here.agree()
            await here.agree_on_events_after_gaps()
        assert not budget.refusals


async def test_orders_of_fills_that_the_stream_sends_are_not_asked_for(redis_url: str, account_name: str) -> None:
    async with new_server(seed=7) as server:
        await leave_alone(server, redis_url, account_name)
        async with published(server, redis_url, account_name, live=False) as here:
            here.trade(20)
            delay = {"count": 1, "delay_ms": 1_800, "path": "/fapi/v1/userTrades"}
            here.exchange.fault("delay_rest", delay, here.now_ms())
            await until(asked_for_trades(here), bool)
            await asyncio.sleep(1.4)  # Beyond the window, which ends a second after the stream was connected.
            for symbol in here.ledger.active_symbols():
                rules, mark, now_ms = here.ledger.rules[symbol], here.ledger.marks[symbol], here.now_ms()
                qty = (rules.min_notional / mark // rules.step_size + 2) * rules.step_size
                request = OrderRequest(symbol=symbol, side=Side.BUY, type=OrderType.MARKET, qty=qty)
                here.exchange.publish(here.ledger.place(request, now_ms), now_ms)
            await here.state("live")
            await here.agree()
            await here.agree_on_events_after_gaps()
            assert not here.exchange.requests["GET /fapi/v1/order 200"]


async def test_a_venue_that_wants_a_symbol_is_asked_symbol_by_symbol(redis_url: str, account_name: str) -> None:
    async with new_server(seed=7) as server:
        await leave_alone(server, redis_url, account_name)
        async with published(server, redis_url, account_name, live=False) as here:
            body = '{"code":-1102,"msg":"Mandatory parameter \'symbol\' was not sent, was empty/null, or malformed."}'
            here.exchange.fault("answer_rest", {"status": 400, "body": body, "path": ALL_ORDERS}, here.now_ms())
            now_ms = here.now_ms()
            order_id = limit(here.ledger, now_ms, here.ledger.active_symbols()[0])
            await here.state("live")
            await here.agree()
            assert logged_of(await here.log(), order_id) == ["NEW"]
            assert here.exchange.requests[f"GET {ALL_ORDERS} 200"] > 1


async def test_a_symbol_whose_history_is_refused_is_named_and_holds_nothing_up(
    redis_url: str, account_name: str
) -> None:
    async with new_server(seed=8) as server:
        await leave_alone(server, redis_url, account_name)
        async with published(server, redis_url, account_name, live=False) as here:
            body = '{"code":-1121,"msg":"Invalid symbol."}'
            fault = {"status": 400, "body": body, "path": "/fapi/v1/userTrades"}
            here.exchange.fault("answer_rest", fault, here.now_ms())
            await here.state("live")
            (gap,) = [entry for entry in await here.log() if entry["eventType"] == "GAP"]
            assert gap["eventId"].startswith(gap["symbol"] + ":GAP:")
            assert gap["eventId"].endswith(":REFUSED")


async def test_a_frame_that_was_lost_in_nonsense_is_fetched(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, RECONCILE_S="3600") as here:
        first = limit(here.ledger, here.now_ms())  # without an event
        here.exchange.fault("send_raw", {"text": "{"}, here.now_ms())
        here.trade(10)
        await until(here.log, lambda log: logged_of(log, first)[:1] == ["NEW"])
        await here.agree()
        await here.agree_on_events_after_gaps()


def send_limit(here: World, price_of_mark: str, time_in_force: TimeInForce = TimeInForce.GTC) -> int:
    """A limit order of 0.050, sent on the user stream; its number."""
    rules, mark, now_ms = here.ledger.rules["BTCUSDT"], here.ledger.marks["BTCUSDT"], here.now_ms()
    price = mark * Decimal(price_of_mark) // rules.tick_size * rules.tick_size
    request = OrderRequest(
        symbol="BTCUSDT",
        side=Side.BUY,
        type=OrderType.LIMIT,
        qty=Decimal("0.050"),
        price=price,
        time_in_force=time_in_force,
    )
    events = here.ledger.place(request, now_ms)
    here.exchange.publish(events, now_ms)
    return int(here.dump()["orderEvents"][-1]["i"])


def lose_an_order_frame(here: World) -> None:
    here.exchange.fault("drop_user_frames", {"count": 1, "events": ["ORDER_TRADE_UPDATE"]}, here.now_ms())


@pytest.mark.parametrize("lost", ["NEW", "TRADE"])
async def test_what_was_lost_on_a_living_stream_is_fetched_before_what_follows(
    redis_url: str, account_name: str, lost: str
) -> None:
    async with world(redis_url, account_name, RECONCILE_S="3600") as here:
        await here.agree()
        if lost == "NEW":
            lose_an_order_frame(here)
        order_id = send_limit(here, "0.9")
        if lost == "TRADE":
            lose_an_order_frame(here)
        for _ in range(2):
            now_ms = here.now_ms()
            here.exchange.publish(here.ledger.fill_resting(order_id, Decimal("0.010"), now_ms), now_ms)
        await until(here.log, lambda log: logged_of(log, order_id) == ["NEW", "TRADE", "TRADE"])
        await here.agree()
        await here.agree_on_events_after_gaps()
        assert (await here.status())["drifts"] == "0"


async def test_the_lost_opening_event_of_an_order_that_ended_at_once_is_found_by_the_next_comparison(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, RECONCILE_S="5") as here:
        await here.agree()
        lose_an_order_frame(here)
        order_id = send_limit(here, "0.9", TimeInForce.IOC)
        await until(here.log, lambda log: logged_of(log, order_id) == ["EXPIRED"])
        assert (await here.status())["state"] == "live", "it moves no state"
        await until(here.log, lambda log: logged_of(log, order_id) == ["EXPIRED", "NEW"])


EVENTS_OF_ALGO = ["ALGO_NEW", "ALGO_TRIGGERING", "ALGO_TRIGGERED"]


def triggered(here: World) -> AlgoOrder:
    """A conditional order, triggered, whose own order rests; all of it sent."""
    ledger, mark, now_ms = here.ledger, here.ledger.marks["BTCUSDT"], here.now_ms()
    stop = AlgoRequest(
        symbol="BTCUSDT",
        side=Side.BUY,
        type=OrderType.STOP,
        qty=Decimal("0.010"),
        price=mark * 9 // 10,
        trigger_price=mark + 1,
    )
    here.exchange.publish([*ledger.place_algo(stop, now_ms), *ledger.move_mark("BTCUSDT", mark + 1, now_ms)], now_ms)
    (algo,) = ledger.algos()
    return algo


async def test_a_conditional_order_that_was_finished_without_an_event_is_found_by_the_next_comparison(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, RECONCILE_S="5") as here:
        await here.agree()
        algo = triggered(here)
        name = f"algo-{algo.algo_id}"
        await until(here.log, lambda log: logged_of(log, name) == EVENTS_OF_ALGO)
        here.exchange.fault("drop_user_frames", {"count": 1, "events": ["ALGO_UPDATE"]}, here.now_ms())
        here.exchange.publish(here.ledger.fill_resting(algo.order_id, algo.qty, now_ms := here.now_ms()), now_ms)
        await until(here.log, lambda log: logged_of(log, name) == [*EVENTS_OF_ALGO, "ALGO_FINISHED"])
        await here.agree_on_events_after_gaps()
        assert (await here.status())["drifts"] == "1"


def test_an_end_that_another_publisher_has_logged_is_not_waited_for_after_taking_over() -> None:
    parts = Parts()
    for number in ("7", "8"):
        row = {"order_id": f"algo-{number}", "algo_id": number, "event_id": f"algo-{number}:TRIGGERED"}
        parts.account.apply((event(10, "ALGO_TRIGGERED", "TRIGGERED", **row),), "stream")
    parts.account.remember_events(["algo-7:FINISHED"])  # as it stands in the log
    parts.gap_filler.forget_finished()
    assert [key.order_id for key in parts.account.triggered_orders()] == ["algo-8"]


async def test_a_venue_that_is_away_at_the_start_makes_nothing_of_before_the_log_be_logged(
    redis_url: str, account_name: str
) -> None:
    async with new_server(seed=3) as server:
        ledger = server.exchange.ledger
        hour_ago = SystemClock().now_ms() - 3_600_000
        old = limit(ledger, hour_ago)
        ledger.cancel(old, hour_ago + 1)
        await leave_alone(server, redis_url, account_name)
        async with published(server, redis_url, account_name, live=False) as here:
            away = {"count": 3, "status": 503, "body": "Service Unavailable.", "path": "/fapi/v1/listenKey"}
            here.exchange.fault("answer_rest", away, here.now_ms())
            here.trade(5)
            await here.state("live")
            await here.agree()
            entries = await here.log()
            assert any(entry["source"] == "rest" for entry in entries), "the gap was filled"
            assert logged_of(entries, old) == []


async def test_what_was_trimmed_is_not_told_again(redis_url: str, account_name: str) -> None:
    async with new_server(seed=3) as server:
        async with published(server, redis_url, account_name) as here:
            now_ms = here.now_ms()
            for _ in range(6):  # of one millisecond, between two of which the log is trimmed
                limit(here.ledger, now_ms)
            here.exchange.publish(here.ledger.order_events[-6:], now_ms)
            here.trade(20)
            await here.agree()
        async with connect(redis_url, client_name="statecast-test") as client:
            log = AccountKeys(AccountId("binance", account_name)).order_events
            whole = [fields for _, fields in await client.redis.xrange(log)]
            await asyncio.sleep(0.1)  # What comes is of a later moment.
            await client.redis.xtrim(log, maxlen=len(whole) - 3, approximate=False)
        async with published(server, redis_url, account_name, seed=4, live=False) as here:
            here.trade(20)
            await here.state("live")
            await here.agree()
            entries = await here.log()
    assert whole[2]["venueTimeMs"] == whole[3]["venueTimeMs"]
    logged = [entry["eventId"] for entry in entries]
    assert logged[: len(whole) - 3] == [fields["eventId"] for fields in whole[3:]]
    assert len(logged) > len(whole)
    assert not {fields["eventId"] for fields in whole[:3]} & set(logged)


async def test_fills_that_the_venue_lists_late_are_waited_for(redis_url: str, account_name: str) -> None:
    async with new_server(seed=9) as server:
        await leave_alone(server, redis_url, account_name)
        async with published(server, redis_url, account_name, live=False) as here:
            here.trade(100)
            here.exchange.fault(
                "answer_rest", {"count": 2, "status": 200, "body": "[]", "path": "/fapi/v1/userTrades"}, here.now_ms()
            )
            await here.state("live")
            await here.agree()
            await here.agree_on_events_after_gaps()


async def test_the_log_says_until_when_it_is_complete(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, RECONCILE_S="1") as here:
        first = await until(here.status, lambda status: int(status["eventsCompleteMs"]) > 0)
        here.exchange.fault("mute_user_sockets", {"on": True}, here.now_ms())
        here.exchange.fault("refuse_sockets", {"count": 1}, here.now_ms())
        later = await until(
            here.status, lambda status: int(status["eventsCompleteMs"]) > int(first["eventsCompleteMs"])
        )
        assert int(later["eventsCompleteMs"]) <= int(later["heartbeatAtMs"])


async def test_a_session_that_breaks_during_the_gap_fill_starts_it_again(redis_url: str, account_name: str) -> None:
    async with new_server(seed=10) as server:
        await leave_alone(server, redis_url, account_name)
        async with published(server, redis_url, account_name, live=False) as here:
            here.trade(100)
            delay = {"count": 50, "delay_ms": 100, "path": "/fapi/v1/userTrades"}
            here.exchange.fault("delay_rest", delay, here.now_ms())
            await until(asked_for_trades(here), bool)
            here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
            here.trade(20)
            await here.state("live")
            await here.agree()
            await here.agree_on_events_after_gaps()


def asked_for_orders(here: World):  # type: ignore[no-untyped-def]  # a reader for `until`
    async def count() -> int:
        return here.exchange.requests["GET /fapi/v1/order 400"]

    return count


def asked_for_trades(here: World):  # type: ignore[no-untyped-def]  # a reader for `until`
    async def count() -> int:
        await asyncio.sleep(0)
        return here.exchange.requests["GET /fapi/v1/userTrades 200"]

    return count


async def test_an_order_with_a_status_that_nobody_named_holds_up_nothing_else(
    redis_url: str, account_name: str
) -> None:
    """In the histories, in the list of open orders, and on the stream."""
    async with new_server() as server:
        await leave_alone(server, redis_url, account_name)
        exchange = server.exchange
        now_ms = exchange.server_ms(SystemClock().now_ms())
        row = ORDER_ROW | {"time": now_ms, "updateTime": now_ms}
        listed = [row, row | {"orderId": 2, "status": "CANCELED"}, row | {"orderId": 3, "status": "WORKING"}]
        for path, body in ((ALL_ORDERS, listed), ("/fapi/v1/openOrders", listed[2:])):
            fault = {"count": 1_000, "status": 200, "body": json.dumps(body), "path": path}
            exchange.fault("answer_rest", fault, now_ms)
        async with published(server, redis_url, account_name, seed=4) as here:
            log = await until(here.log, lambda log: len(logged_of(log, 3)) == 1)
            assert logged_of(log, 1) == ["NEW", "GAP"], "so young that the list of open orders may not have it"
            assert logged_of(log, 2) == ["NEW", "CANCELED"]
            assert logged_of(log, 3) == ["NEW"]
            orders = (await here.stored()).orders or {}
            ordinary = {name: fields["status"] for name, fields in orders.items() if "algo-" not in name}
            assert ordinary == {"BTCUSDT:3": "WORKING"}
            ended = {"x": "EXPIRED", "X": "EXPIRED_BY_RISK", "T": now_ms + 1, **ORDER_ON_STREAM}
            exchange.send_event("ORDER_TRADE_UPDATE", {"o": ended}, here.now_ms())
            log = await until(here.log, lambda log: len(logged_of(log, 3)) == 2)
            assert (log[-1]["eventType"], log[-1]["status"]) == ("EXPIRED", "EXPIRED_BY_RISK")
            assert log[-1]["eventId"] == "BTCUSDT:3:EXPIRED_BY_RISK"


ORDER_ROW = {
    "orderId": 1,
    "symbol": "BTCUSDT",
    "status": "EXPIRED_BY_RISK",
    "clientOrderId": "c",
    "price": "90000",
    "origQty": "0.5",
    "executedQty": "0",
    "avgPrice": "0",
    "timeInForce": "GTC",
    "type": "LIMIT",
    "origType": "LIMIT",
    "side": "BUY",
    "positionSide": "BOTH",
    "stopPrice": "0",
    "reduceOnly": False,
    "closePosition": False,
}
ORDER_ON_STREAM = {
    "s": "BTCUSDT",
    "c": "c",
    "S": "BUY",
    "o": "LIMIT",
    "ot": "LIMIT",
    "f": "GTC",
    "q": "0.5",
    "p": "90000",
    "i": 3,
    "l": "0",
    "z": "0",
    "t": 0,
    "ps": "BOTH",
}


# What the venue does not show, or not yet


async def test_an_open_order_of_a_symbol_that_was_delisted_is_a_gap_and_the_account_is_live(
    redis_url: str, account_name: str
) -> None:
    async with new_server() as server:
        delisted = limit(server.exchange.ledger, SystemClock().now_ms() - DAY_MS, "SOLUSDT")
        async with published(server, redis_url, account_name) as here:
            await here.agree()
        exchange, now_ms = server.exchange, SystemClock().now_ms()
        exchange.publish(exchange.ledger.delist("SOLUSDT", now_ms, reported=False), now_ms)
        async with published(server, redis_url, account_name) as here:
            await here.agree()
            gaps = [entry["eventId"] for entry in await here.log() if entry["eventType"] == "GAP"]
            assert f"SOLUSDT:{delisted}:GAP" in gaps
            assert {gap.partition(":")[0] for gap in gaps} == {"SOLUSDT"}
            here.trade(10)
            await here.agree()


async def test_an_order_that_rest_does_not_know_yet_is_not_given_up_and_nothing_is_live_before_it_does(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name) as here:
        await here.agree()
        here.exchange.fault("hold_rest", {"on": True}, here.now_ms())
        order_id = send_limit(here, "0.9")
        await until(here.log, lambda log: logged_of(log, order_id) == ["NEW"])
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        await until(asked_for_orders(here), lambda count: count >= 2)
        assert (await here.status())["state"] == "recovering"
        here.exchange.fault("hold_rest", {"on": False}, here.now_ms())
        await here.state("live")
        await here.agree()
        assert logged_of(await here.log(), order_id) == ["NEW"]
        now_ms = here.now_ms()
        here.exchange.publish(here.ledger.cancel(order_id, now_ms), now_ms)
        await until(here.log, lambda log: logged_of(log, order_id) == ["NEW", "CANCELED"])


async def test_an_order_that_rest_never_knows_keeps_the_account_from_being_live_while_it_is_young(
    redis_url: str, account_name: str
) -> None:
    """Then it is a gap: REST is not so late."""
    async with world(redis_url, account_name, clock=FastClock(10)) as here:
        await here.agree()
        order_id = send_limit(here, "0.9")
        await until(here.log, lambda log: logged_of(log, order_id) == ["NEW"])
        here.exchange.fault("hold_rest", {"on": True}, here.now_ms())
        body = '{"code":-2013,"msg":"Order does not exist."}'
        gone = {"count": 1000, "status": 400, "body": body, "path": "/fapi/v1/order"}
        here.exchange.fault("answer_rest", gone, here.now_ms())
        for path in ("/fapi/v1/openOrders", ALL_ORDERS):
            here.exchange.fault(
                "answer_rest", {"count": 1000, "status": 200, "body": "[]", "path": path}, here.now_ms()
            )
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        seen: list[dict[str, str]] = []

        async def look() -> list[dict[str, str]]:
            seen.append(await here.status())
            return await here.log()

        await until(look, lambda log: logged_of(log, order_id) == ["NEW", "GAP"])
        assert any("does not know" in status["reason"] for status in seen), "and says so"


async def test_a_fill_whose_order_the_venue_does_not_show_is_logged_from_the_trade(
    redis_url: str, account_name: str
) -> None:
    async with new_server(seed=3) as server:
        await leave_alone(server, redis_url, account_name)
        ledger, exchange = server.exchange.ledger, server.exchange
        qty = ledger.rules["BTCUSDT"].step_size * 5
        order = OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.MARKET, qty=qty)
        now_ms = SystemClock().now_ms()
        ledger.place(order, now_ms - 15_000)
        trade = ledger.trades[-1]
        async with connect(redis_url, client_name="statecast-test") as client:
            marks = {"eventsSinceMs": now_ms - 3_600_000, "eventsCompleteMs": now_ms - 30_000}
            await client.redis.hset(AccountKeys(AccountId("binance", account_name)).status, mapping=marks)
        async with published(server, redis_url, account_name, live=False) as here:
            body = '{"code":-2013,"msg":"Order does not exist."}'
            gone = {"count": 1000, "status": 400, "body": body, "path": "/fapi/v1/order"}
            exchange.fault("answer_rest", gone, here.now_ms())
            exchange.fault("answer_rest", {"count": 3, "status": 200, "body": "[]", "path": ALL_ORDERS}, here.now_ms())
            await here.state("live")
            log = await here.log()
        entries = [entry for entry in log if entry["orderId"] == str(trade.order.order_id)]
        assert [entry["eventType"] for entry in entries] == ["TRADE", "GAP"]
        entry = entries[0]
        assert tuple(entry) == EVENT_FIELDS
        assert entry["eventId"] == f"BTCUSDT:{trade.order.order_id}:FILL:{trade.trade_id}"
        assert (entry["side"], entry["positionSide"], entry["tradeId"]) == ("BUY", "BOTH", str(trade.trade_id))
        assert (Decimal(entry["lastQty"]), Decimal(entry["lastPrice"])) == (trade.qty, trade.price)
        assert Decimal(entry["commission"]) == trade.commission
        assert (entry["status"], entry["executedQty"], entry["clientOrderId"]) == ("", "", ""), "nothing is invented"


async def test_a_fill_whose_row_cannot_be_understood_is_a_gap_of_its_order_alone(
    redis_url: str, account_name: str
) -> None:
    async with new_server() as server:
        async with published(server, redis_url, account_name) as here:
            await here.agree()
        ledger, exchange = server.exchange.ledger, server.exchange
        qty, now_ms = ledger.rules["BTCUSDT"].step_size * 5, SystemClock().now_ms()
        for side in (Side.BUY, Side.SELL):
            ledger.place(OrderRequest(symbol="BTCUSDT", side=side, type=OrderType.MARKET, qty=qty), now_ms)
        read, torn = (
            {
                "symbol": "BTCUSDT",
                "id": trade.trade_id,
                "orderId": trade.order.order_id,
                "qty": str(trade.qty),
                "price": str(trade.price),
                "time": now_ms,
            }
            for trade in ledger.trades[-2:]
        )
        fault = {"count": 1_000, "status": 200, "path": "/fapi/v1/userTrades"}
        exchange.fault("answer_rest", fault | {"body": json.dumps([read, torn | {"qty": "0.0O5"}])}, now_ms)
        async with published(server, redis_url, account_name) as here:
            log = await here.log()
            assert logged_of(log, read["orderId"]) == ["NEW", "TRADE"]
            assert sorted(logged_of(log, torn["orderId"])) == ["GAP", "NEW"]
            assert sum(entry["eventType"] == "GAP" for entry in log) == 1
            await here.agree()


async def test_a_symbol_that_was_traded_in_the_gap_alone_is_found_where_orders_are_listed_by_symbol(
    redis_url: str, account_name: str
) -> None:
    async with new_server(seed=3) as server:
        await leave_alone(server, redis_url, account_name)
        exchange, ledger = server.exchange, server.exchange.ledger
        assert isinstance(exchange, Exchange)
        exchange.behave(orders_want_symbol=True)
        symbol = min(ledger.rules.keys() - {order.symbol for order in [*ledger.orders(), *ledger.algos()]})
        rules = ledger.rules[symbol]
        qty = (rules.min_notional / ledger.marks[symbol] // rules.step_size + 1) * rules.step_size
        now_ms = SystemClock().now_ms()
        for side in (Side.BUY, Side.SELL):
            ledger.place(OrderRequest(symbol=symbol, side=side, type=OrderType.MARKET, qty=qty), now_ms)
        async with published(server, redis_url, account_name) as here:
            await here.agree()
            entries = await here.log()
        logged = [entry["eventType"] for entry in entries if entry["symbol"] == symbol]
        truth = [event for event in ledger.order_events if event.order.symbol == symbol]
        assert logged == [event.execution.value for event in truth]
        assert logged, "it was traded"
        gaps = [entry["eventId"] for entry in entries if entry["eventType"] == "GAP"]
        assert [gap.rpartition(":")[2] for gap in gaps] == ["UNFILLED"], "bookings name what was filled alone"


async def test_amendments_of_the_gap_are_logged_under_the_ids_of_the_stream(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        await here.agree()
        order_id, tick = send_limit(here, "0.9"), here.ledger.rules["BTCUSDT"].tick_size
        await until(here.log, lambda log: logged_of(log, order_id) == ["NEW"])

        def amend(by: int, now_ms: int, *, send: bool = False) -> None:
            order = here.ledger.order("BTCUSDT", order_id)
            price = order.price + by * tick
            events = here.ledger.amend(order_id, qty=order.qty + Decimal("0.001"), price=price, now_ms=now_ms)
            if send:
                here.exchange.publish(events, now_ms)

        amend(1, here.now_ms(), send=True)
        await until(here.log, lambda log: logged_of(log, order_id) == ["NEW", "AMENDMENT"])
        here.exchange.fault("refuse_sockets", {"count": 2}, here.now_ms())
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        now_ms = here.now_ms() + 1
        amend(2, now_ms)
        here.ledger.fill_resting(order_id, Decimal("0.010"), now_ms + 1)
        amend(3, now_ms + 2)
        await here.agree()
        log = await until(here.log, lambda log: len(logged_of(log, order_id)) >= 5)
        await here.agree_on_events_after_gaps()
        entries = [entry for entry in log if entry["orderId"] == str(order_id)]
        truth = [event for event in here.ledger.order_events if event.order.order_id == order_id]
        assert [entry["eventType"] for entry in entries] == [event.execution.value for event in truth]
        assert [Decimal(entry["price"]) for entry in entries] == [event.order.price for event in truth]
        assert [Decimal(entry["quantity"]) for entry in entries] == [event.order.qty for event in truth]
        frames = [decode_user_frame(orjson.dumps(frame.body), 0) for frame in order_frames(truth)]
        ids = [change.event.event_id for frame in frames for change in frame.changes if isinstance(change, OrderUpdate)]
        assert [entry["eventId"] for entry in entries] == ids
        assert here.exchange.requests["GET /fapi/v1/orderAmendment 200"] == 1


@pytest.mark.parametrize("refusals", [2, 5])
async def test_an_amendment_of_the_gap_that_the_venue_refuses_to_list_is_asked_for_again(
    redis_url: str, account_name: str, refusals: int
) -> None:
    """The hash has the new price: the log has the amendment, or says that something is missing."""
    async with world(redis_url, account_name) as here:
        await here.agree()
        order_id, tick = send_limit(here, "0.9"), here.ledger.rules["BTCUSDT"].tick_size
        await until(here.log, lambda log: logged_of(log, order_id) == ["NEW"])
        body = '{"code":-5000,"msg":"Not now."}'
        fault = {"status": 400, "body": body, "path": "/fapi/v1/orderAmendment", "count": refusals}
        here.exchange.fault("answer_rest", fault, here.now_ms())
        here.exchange.fault("refuse_sockets", {"count": 2}, here.now_ms())
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        order = here.ledger.order("BTCUSDT", order_id)
        here.ledger.amend(order_id, qty=order.qty, price=order.price + tick, now_ms=here.now_ms() + 1)
        log = await until(here.log, lambda log: len(logged_of(log, order_id)) >= 2)
        assert logged_of(log, order_id) == ["NEW", "AMENDMENT" if refusals < BEHIND_TRIES else "GAP"]
        await here.agree()
        assert here.exchange.requests["GET /fapi/v1/orderAmendment 400"] == refusals


async def test_a_liquidations_fill_without_a_number_is_logged_once_by_stream_and_history(
    redis_url: str, account_name: str
) -> None:
    """No document says whether the stream numbers it; the history does."""
    async with world(redis_url, account_name) as here:
        order = OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.MARKET, qty=Decimal("0.1"))
        here.exchange.publish(here.ledger.place(order, here.now_ms()), here.now_ms())
        await here.agree()
        for event in here.ledger.liquidate("BTCUSDT", PositionSide.BOTH, here.now_ms()):
            for frame in user_frames(event, here.now_ms(), {}):
                if frame.body.get("o", {}).get("x") == "CALCULATED":
                    frame.body["o"]["t"] = 0
                here.exchange.send_user(frame, here.now_ms())
        liquidation = str(here.ledger.trades[-1].order.order_id)
        before = await until(here.log, lambda log: "CALCULATED" in logged_of(log, liquidation))
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        connected = (await here.status())["streamSinceMs"]
        await until(here.status, lambda status: status["state"] == "live" and status["streamSinceMs"] != connected)
        await here.agree()
        assert here.exchange.requests["GET /fapi/v1/userTrades 200"], "the history has it with its number"
        assert [entry["eventId"] for entry in await here.log()] == [entry["eventId"] for entry in before]


def order_frames(events: list[OrderChanged]) -> list[Frame]:
    return [frame for event in events for frame in user_frames(event, event.at_ms, {})]


async def test_a_history_of_longer_than_the_venue_keeps_is_one_gap(redis_url: str, account_name: str) -> None:
    async with new_server(seed=3) as server:
        await leave_alone(server, redis_url, account_name)
        exchange = server.exchange
        assert isinstance(exchange, Exchange)
        exchange.behave(history_ms=90 * DAY_MS + 30_000)
        now_ms = SystemClock().now_ms()
        log = {"eventsSinceMs": now_ms - 200 * DAY_MS, "eventsCompleteMs": now_ms - 100 * DAY_MS}
        async with connect(redis_url, client_name="statecast-test") as client:
            await client.redis.hset(AccountKeys(AccountId("binance", account_name)).status, mapping=log)
        async with published(server, redis_url, account_name) as here:
            await here.agree()
            gaps = [entry["eventId"] for entry in await here.log() if entry["eventType"] == "GAP"]
        assert [gap.rpartition(":")[2] for gap in gaps] == ["ALL", "UNFILLED"]


# Accounts with hundreds of symbols


def weighed(here: World) -> WeighingExchange:
    exchange: Exchange = here.exchange
    assert isinstance(exchange, WeighingExchange)
    return exchange


async def live_again(here: World) -> None:
    """After a cut of a moment."""
    weighed(here).forget_weight()
    connections = (await here.status())["streamSinceMs"]
    here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
    await until(here.status, lambda status: status["state"] == "live" and status["streamSinceMs"] != connections)


@pytest.mark.parametrize(("positions", "orders"), [(300, 0), (500, 2000)])
async def test_a_large_account_on_which_little_moves_is_live_again_for_the_weight_of_what_moved(
    redis_url: str, account_name: str, positions: int, orders: int
) -> None:
    limits = SharedLimits(lambda _: WeightBudget())
    async with large_server(positions, orders) as server:
        async with published(server, redis_url, account_name, limits=limits) as here:
            for _ in range(2):
                await live_again(here)
                assert weighed(here).weight < 1000
                assert not weighed(here).weights["/fapi/v1/userTrades"]
            # What moves in a gap is found: a position grows, another is closed, an order is filled, one comes and goes.
            here.exchange.fault("refuse_sockets", {"count": 1}, here.now_ms())
            here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
            now_ms = here.now_ms()
            here.ledger.place(market(here.ledger, "S7USDT"), now_ms)
            here.ledger.place(market(here.ledger, "S8USDT", Side.SELL), now_ms)
            here.ledger.cancel(rest(here.ledger, "S9USDT", now_ms), now_ms)
            for side in (Side.SELL, Side.BUY):
                here.ledger.place(market(here.ledger, "S10USDT", side), now_ms)
            await here.agree()
            await agree_since(here, now_ms)
        server.exchange.weight = 0  # type: ignore[attr-defined]
        now_ms = SystemClock().now_ms()
        server.exchange.ledger.place(market(server.exchange.ledger, "S11USDT"), now_ms)
        async with published(server, redis_url, account_name, limits=limits) as here:
            assert weighed(here).weight < 1000, "an orderly restart"
            await agree_since(here, now_ms)


async def agree_since(here: World, since_ms: int) -> None:
    """The log has what happened to orders since then."""
    events = [event for event in here.ledger.order_events if event.at_ms >= since_ms]
    wanted = {(str(event.order.order_id), event.execution.value, str(event.trade_id or "")) for event in events}
    assert wanted
    await until(
        here.log,
        lambda log: wanted <= {(entry["orderId"], entry["eventType"], entry["tradeId"]) for entry in log},
    )


async def test_a_conditional_order_that_came_and_went_in_the_gap_of_a_large_account_is_found_later(
    redis_url: str, account_name: str
) -> None:
    """The log does not count as complete before its symbol was looked at. The gap is longer than what is looked at once
    more in any case."""
    clock = FastClock(10)
    async with (
        large_server(30, clock=clock) as server,
        published(server, redis_url, account_name, clock=clock, RECONCILE_S="10", limits=unlimited()) as here,
    ):
        connected = (await here.status())["streamSinceMs"]
        here.exchange.fault("refuse_sockets", {"count": 1_000}, here.now_ms())
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        mark, now_ms = here.ledger.marks["S20USDT"], here.now_ms()
        stop = AlgoRequest(
            symbol="S20USDT",
            side=Side.SELL,
            type=OrderType.STOP_MARKET,
            qty=Decimal("0.10"),
            trigger_price=mark * 9 // 10,
        )
        here.ledger.place_algo(stop, now_ms)
        algo = here.ledger.open_algos()[-1].algo_id
        here.ledger.cancel_algo(algo, now_ms + 1)
        await until(elapsed(clock, clock.monotonic() + 70), bool)
        here.exchange.fault("clear", {}, here.now_ms())
        await until(here.status, lambda status: status["state"] == "live" and status["streamSinceMs"] != connected)
        seen: list[tuple[bool, int]] = []

        async def look() -> list[dict[str, str]]:
            status, log = await here.status(), await here.log()
            seen.append((bool(logged_of(log, f"algo-{algo}")), int(status["eventsCompleteMs"])))
            return log

        log = await until(look, lambda log: logged_of(log, f"algo-{algo}") == ["ALGO_NEW", "ALGO_CANCELED"])
        assert not any(complete_ms > now_ms for is_logged, complete_ms in seen if not is_logged)
        assert not any(entry["eventType"] == "GAP" for entry in log)


# Others behind the same address


async def test_bots_on_the_same_address_do_not_keep_the_account_from_being_live(
    redis_url: str, account_name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is the address taken over its limit: nothing was declined."""
    clock = FastClock(10)
    async with (
        large_server(4, clock=clock) as server,
        published(
            server,
            redis_url,
            account_name,
            clock=clock,
            RECONCILE_S="60",
            limits=SharedLimits(lambda _: WeightBudget()),
        ) as here,
        bots(here.exchange, 1700, clock),
    ):
        rng = Random(1700)
        for _ in range(4):
            await live_again(here)
            await until(elapsed(clock, clock.monotonic() + rng.uniform(60, 90)), bool)
        assert not weighed(here).declined()
        waits = re.findall(r"waiting (\d+) s for the venue's limits", capsys.readouterr().out)
        assert all(int(seconds) <= 30 for seconds in waits), waits


def elapsed(clock: FastClock, at_s: float):  # type: ignore[no-untyped-def]  # a reader for `until`
    async def is_over() -> bool:
        return clock.monotonic() >= at_s

    return is_over
