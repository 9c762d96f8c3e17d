"""What was missed stands in the log afterwards, with its place and once; what cannot be known is said."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

import pytest
from support.changes import event, fill
from support.world import World, new_server, published, until, world

from publisher import committer, gap_fill
from publisher.follower import Follower
from publisher.gap_fill import GapFill, merge_with_stream, without_repeated_steps
from publisher.history_cache import HistoryCache
from statecast.clock import SystemClock
from statecast.domain.changes import OrderUpdate
from statecast.domain.history import PastOrder, PastTrade, Reconstructed, events_from_history
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import AlgoOrder, AlgoRequest, OrderRequest, OrderType, Side, TimeInForce
from statecast.simulator.server import SimulatorServer
from statecast.store.client import connect
from statecast.store.keys import EVENT_FIELDS, AccountId, AccountKeys
from statecast.venues.binance.limits import WeightBudget
from statecast.venues.binance.rest import HISTORY_RESERVE
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


def told_of(entries: list[dict[str, str]], order_id: int | str) -> list[str]:
    return [entry["eventType"] for entry in entries if entry["orderId"] == str(order_id)]


async def leave_alone(server: SimulatorServer, redis_url: str, account: str) -> None:
    """A first publisher that has seen the account, and left."""
    async with published(server, redis_url, account) as here:
        here.trade(20)
        await here.agree()


async def test_a_long_history_is_told_in_slices_so_that_the_lease_is_kept(
    redis_url: str, account_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def noted(past_orders: list[PastOrder], *args: Any, **kwargs: Any) -> Reconstructed:
        sizes.append(len(past_orders))
        return events_from_history(past_orders, *args, **kwargs)

    monkeypatch.setattr(gap_fill, "SLICE", 2)
    monkeypatch.setattr(gap_fill, "events_from_history", noted)
    async with new_server(seed=3) as server:
        await leave_alone(server, redis_url, account_name)
        async with published(server, redis_url, account_name, seed=4, live=False) as here:
            here.trade(300)
            await here.state("live")
            await here.agree()
            await here.agree_on_events_after_gaps()
    assert max(sizes) == 2
    assert len(sizes) > 20


async def test_a_long_history_is_told_ahead_of_the_snapshot_and_what_was_told_stays_told(
    redis_url: str, account_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gap_fill, "LOGGED_AT_ONCE", 20)
    monkeypatch.setattr(gap_fill, "SLICE", 10)
    monkeypatch.setattr(committer, "MAX_WAITING", 15)
    wait_for_capacity = committer.Committer.wait_for_capacity
    seen: list[tuple[str, int]] = []
    async with new_server(seed=3) as server:
        await leave_alone(server, redis_url, account_name)
        async with published(server, redis_url, account_name, seed=4, live=False) as here:
            left = await here.stored()

            async def looked(self: committer.Committer) -> None:
                await wait_for_capacity(self)
                assert self.record.unwritten <= 15, "no more waits than the record can hold"
                status = await here.status()
                seen.append((status["state"], int(status["eventSeq"])))
                stored = await here.stored()
                assert (stored.positions, stored.orders) == (left.positions, left.orders), "no row has moved"
                if len(seen) == 5:
                    here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
                    await asyncio.sleep(0.1)

            monkeypatch.setattr(committer.Committer, "wait_for_capacity", looked)
            here.trade(300)
            await here.state("live")
            await here.agree()
            entries = await here.agree_on_events_after_gaps()
    assert {state for state, _ in seen} <= {"starting", "recovering"}
    told = [seq for _, seq in seen]
    assert told == sorted(told)
    assert told[5] - told[0] >= 20, "what was told before the cut is in the log"
    assert sum(entry["source"] == "rest" for entry in entries) > 100


async def test_what_happened_while_no_publisher_ran_is_in_the_log(
    redis_url: str, account_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "LOG_MARGIN", 5)  # what the log has is found by time, however much it is
    async with new_server(seed=3) as server:
        await leave_alone(server, redis_url, account_name)
        async with published(server, redis_url, account_name, seed=4, live=False) as here:
            here.trade(300)  # before it has had a chance to connect
            await here.state("live")
            here.trade(20)
            await here.agree()
            entries = await here.agree_on_events_after_gaps()
            assert sum(entry["source"] == "rest" for entry in entries) > 100
        async with published(server, redis_url, account_name, seed=5) as here:
            await here.agree()
            assert await here.log() == entries, "nothing is told twice after another restart"


async def test_the_past_of_an_account_is_not_told_at_the_first_start(redis_url: str, account_name: str) -> None:
    async with new_server() as server, published(server, redis_url, account_name, live=False) as here:
        here.trade(50)
        old = limit(here.ledger, 1)
        await here.state("live")
        await here.agree()
        assert await here.log() == []
        assert not here.exchange.requests["GET /fapi/v1/userTrades 200"]
        now_ms = here.now_ms()
        here.exchange.publish(here.ledger.cancel(old, now_ms), now_ms)
        await until(here.log, lambda log: told_of(log, old) == ["CANCELED"])


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
        assert [told_of(entries, one) for one in orders] == [
            ["TRADE", "TRADE"],
            ["TRADE", "CANCELED"],
            ["CANCELED"],
            [],
        ]
        assert told_of(entries, f"algo-{algo}") == ["ALGO_CANCELED"]
        assert [e["status"] for e in entries if e["orderId"] == str(orders[0])] == ["PARTIALLY_FILLED", "FILLED"]
        assert [int(e["venueTimeMs"]) - now_ms for e in entries] == [0, 1, 2, 3, 4, 5], "in the venue's order"
        assert exchange.requests["GET /fapi/v1/order 200"] == 3, "the one that is still open was not asked for"


async def test_what_lies_beyond_the_venues_retention_is_said(redis_url: str, account_name: str) -> None:
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
        assert 0 <= int(gaps[0]["venueTimeMs"]) - (now_ms - 90 * DAY_MS) < 60_000
        assert all(tuple(gap) == EVENT_FIELDS for gap in gaps)
        assert told_of(entries, seen) == ["NEW", "TRADE"]
        assert told_of(entries, unseen) == []
        async with published(server, redis_url, account_name) as here:
            await here.agree()
            assert await here.log() == entries


class ScarceBudget(WeightBudget):
    """Says several times that a history has to wait, and lets everything else pass."""

    def __init__(self) -> None:
        super().__init__(limit=1_000_000)
        self.refusals = 3

    def delay_ms(self, cost: int, now_ms: int, now_s: float) -> int:
        if cost > HISTORY_RESERVE and self.refusals:
            self.refusals -= 1
            return 200
        return super().delay_ms(cost, now_ms, now_s)


async def test_a_budget_that_is_nearly_spent_delays_the_backfill_and_it_goes_on(
    redis_url: str, account_name: str
) -> None:
    async with new_server(seed=6) as server:
        await leave_alone(server, redis_url, account_name)
        budget = ScarceBudget()
        limits = SharedLimits(lambda _: budget)
        async with published(server, redis_url, account_name, live=False, limits=limits) as here:
            here.trade(50)
            await until(here.status, lambda status: "request weight" in status.get("reason", ""))
            await here.state("live")
            await here.agree()
            await here.agree_on_events_after_gaps()
        assert not budget.refusals


async def test_orders_of_fills_that_the_stream_tells_are_not_asked_for(
    redis_url: str, account_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking = HistoryCache.trades_since
    async with new_server(seed=7) as server:
        await leave_alone(server, redis_url, account_name)
        async with published(server, redis_url, account_name, live=False) as here:

            async def trading_goes_on(self: HistoryCache, since_ms: int, symbol: str) -> list[PastTrade]:
                later_ms = here.now_ms() + 2 * gap_fill.CONNECTED_MS
                qty = here.ledger.rules[symbol].min_notional / here.ledger.marks[symbol]
                step = here.ledger.rules[symbol].step_size
                request = OrderRequest(
                    symbol=symbol, side=Side.BUY, type=OrderType.MARKET, qty=(qty // step + 2) * step
                )
                here.exchange.publish(here.ledger.place(request, later_ms), later_ms)
                return await asking(self, since_ms, symbol)

            monkeypatch.setattr(HistoryCache, "trades_since", trading_goes_on)
            here.trade(20)
            await here.state("live")
            monkeypatch.setattr(HistoryCache, "trades_since", asking)
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
            assert told_of(await here.log(), order_id) == ["NEW"]
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
        first = limit(here.ledger, here.now_ms())  # nobody is told
        here.exchange.fault("send_raw", {"text": "{"}, here.now_ms())
        here.trade(10)
        await until(here.log, lambda log: told_of(log, first)[:1] == ["NEW"])
        await here.agree()
        await here.agree_on_events_after_gaps()


def tell_limit(here: World, price_of_mark: str, time_in_force: TimeInForce = TimeInForce.GTC) -> int:
    """A limit order of 0.050, told on the user stream; its number."""
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
        order_id = tell_limit(here, "0.9")
        if lost == "TRADE":
            lose_an_order_frame(here)
        for _ in range(2):
            now_ms = here.now_ms()
            here.exchange.publish(here.ledger.fill_resting(order_id, Decimal("0.010"), now_ms), now_ms)
        await until(here.log, lambda log: told_of(log, order_id) == ["NEW", "TRADE", "TRADE"])
        await here.agree()
        await here.agree_on_events_after_gaps()
        assert (await here.status())["drifts"] == "0"


async def test_the_lost_beginning_of_an_order_that_ended_at_once_is_found_by_the_next_comparison(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, RECONCILE_S="5") as here:
        await here.agree()
        lose_an_order_frame(here)
        order_id = tell_limit(here, "0.9", TimeInForce.IOC)
        await until(here.log, lambda log: told_of(log, order_id) == ["EXPIRED"])
        assert (await here.status())["state"] == "live", "it moves no state"
        await until(here.log, lambda log: told_of(log, order_id) == ["EXPIRED", "NEW"])


STEPS_OF_ALGO = ["ALGO_NEW", "ALGO_TRIGGERING", "ALGO_TRIGGERED"]


def triggered(here: World) -> AlgoOrder:
    """A conditional order, triggered, whose own order rests; all of it told."""
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


async def test_a_conditional_order_that_was_finished_unheard_is_found_by_the_next_comparison(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, RECONCILE_S="5") as here:
        await here.agree()
        algo = triggered(here)
        name = f"algo-{algo.algo_id}"
        await until(here.log, lambda log: told_of(log, name) == STEPS_OF_ALGO)
        here.exchange.fault("drop_user_frames", {"count": 1, "events": ["ALGO_UPDATE"]}, here.now_ms())
        here.exchange.publish(here.ledger.fill_resting(algo.order_id, algo.qty, now_ms := here.now_ms()), now_ms)
        await until(here.log, lambda log: told_of(log, name) == [*STEPS_OF_ALGO, "ALGO_FINISHED"])
        await here.agree_on_events_after_gaps()
        assert (await here.status())["drifts"] == "1"


async def test_an_end_that_another_publisher_has_told_is_not_waited_for_after_taking_over(
    redis_url: str, account_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take, standby = Follower._take, list[Follower]()

    def deaf_for_ends(self: Follower, raw: str | bytes) -> bool:
        if not self._committer.is_standby:
            return take(self, raw)
        standby[:] = [self]
        return "FINISHED" not in str(raw) and take(self, raw)

    async def awaited() -> set[str]:
        await asyncio.sleep(0)
        return {key.order_id.removeprefix("algo-") for one in standby for key in one._account.triggered}

    async def private_streams() -> int:
        await asyncio.sleep(0)
        return sum(stream.root == "private" for stream in server.exchange.streams)

    monkeypatch.setattr(Follower, "_take", deaf_for_ends)
    async with new_server() as server, AsyncExitStack() as both:
        first = await both.enter_async_context(published(server, redis_url, account_name, RECONCILE_S="3600"))
        await first.agree()
        async with published(server, redis_url, account_name, RECONCILE_S="3600", live=False) as second:
            await until(private_streams, lambda count: count == 2)
            algo = triggered(first)
            await until(awaited, lambda ids: ids == {str(algo.algo_id)})
            first.exchange.publish(first.ledger.fill_resting(algo.order_id, algo.qty, now_ms := first.now_ms()), now_ms)
            await until(
                first.log, lambda log: told_of(log, f"algo-{algo.algo_id}") == [*STEPS_OF_ALGO, "ALGO_FINISHED"]
            )
            await both.aclose()
            await second.state("live")
            assert await awaited() == set()


async def test_a_venue_that_is_away_at_the_start_makes_nothing_of_before_the_log_be_told(
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
            assert told_of(entries, old) == []


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
    told = [entry["eventId"] for entry in entries]
    assert told[: len(whole) - 3] == [fields["eventId"] for fields in whole[3:]]
    assert len(told) > len(whole)
    assert not {fields["eventId"] for fields in whole[:3]} & set(told)


async def test_fills_that_the_venue_tells_late_are_waited_for(redis_url: str, account_name: str) -> None:
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


async def test_a_session_that_breaks_during_the_backfill_starts_it_again(redis_url: str, account_name: str) -> None:
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


def asked_for_trades(here: World):  # type: ignore[no-untyped-def]  # a reader for `until`
    async def count() -> int:
        await asyncio.sleep(0)
        return here.exchange.requests["GET /fapi/v1/userTrades 200"]

    return count


# How history and stream are merged


def ids(updates: object) -> list[str]:
    assert isinstance(updates, tuple | list)
    return [update.event.event_id for update in updates]


def merged(history: list[OrderUpdate], stream: list[OrderUpdate]) -> list[str]:
    told = merge_with_stream(GapFill(0, 0, updates=tuple(history)), [update.event for update in stream])
    found = ids(told.first)
    for update in stream:
        found += [*ids(told.before.get(update.event.event_id, [])), update.event.event_id]
    return found + ids(told.last)


NEW = event(0, "NEW", event_id="new")
HALF = fill(10, "0.025", event_id="half")
MOVED = event(20, "AMENDMENT", event_id="moved")
FULL = fill(30, "0.050", event_id="full")
OTHER = event(15, "NEW", event_id="other", order_id="1002")
CUT_OFF = event(10, "EXPIRED", "EXPIRED", event_id="cut off", executed_qty=Decimal("0.025"))
AT_ONCE = [event(10, "NEW", event_id="new"), HALF, fill(10, "0.050", event_id="full")]

MERGES: dict[str, tuple[list[OrderUpdate], list[OrderUpdate], list[str]]] = {
    "a history alone": ([NEW, HALF, OTHER], [], ["new", "half", "other"]),
    "a stream alone": ([], [NEW, HALF], ["new", "half"]),
    "the end from the stream": ([NEW, HALF, FULL], [FULL], ["new", "half", "full"]),
    "an amendment that the history does not tell": ([NEW, HALF, FULL], [MOVED, FULL], ["new", "half", "moved", "full"]),
    "one frame in the middle was lost": ([NEW, HALF, FULL], [NEW, MOVED, FULL], ["new", "half", "moved", "full"]),
    "the frame of the end is not there yet": ([NEW, HALF, FULL], [NEW, HALF], ["new", "half", "full"]),
    "a beginning that was missed and comes again": (
        [NEW, HALF, FULL],
        [HALF, FULL, NEW],
        ["new", "half", "full", "new"],
    ),
    "a beginning of the same moment that was missed and comes again": (
        AT_ONCE,
        [HALF, AT_ONCE[0], AT_ONCE[2]],
        ["new", "half", "new", "full"],
    ),
    "a fill of the same moment that was missed and comes again": (
        AT_ONCE,
        [AT_ONCE[2], HALF],
        ["new", "half", "full", "half"],
    ),
    "a fill of the moment of its order's end that was missed and comes again": (
        [NEW, HALF, CUT_OFF],
        [CUT_OFF, HALF],
        ["new", "half", "cut off", "half"],
    ),
    "another order is in nobody's way": ([NEW, OTHER], [FULL], ["new", "other", "full"]),
}


def test_a_step_that_comes_again_behind_what_came_after_it_is_left_out() -> None:
    stream = [HALF, FULL, MOVED, NEW, OTHER]
    assert [event.event_id for event in without_repeated_steps(update.event for update in stream)] == [
        "half",
        "full",
        "new",
        "other",
    ]


@pytest.mark.parametrize("case", MERGES)
def test_history_and_stream_are_merged_in_each_orders_order(case: str) -> None:
    history, stream, expected = MERGES[case]
    assert merged(history, stream) == expected
