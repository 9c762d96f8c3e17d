"""What the publisher does when venue, stream or frames misbehave: what readers see, and what stands in Redis."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from urllib.parse import urlsplit

import pytest
from support.link import linked
from support.world import FastClock, World, new_server, published, unlimited, until, world

from publisher.tuning import Tuning
from statecast.clock import SystemClock
from statecast.simulator.orders import AlgoRequest, OrderRequest, OrderType, Side
from statecast.store.reader import StoredAccount

REST_PATHS = {
    "account": "/fapi/v3/account",
    "key": "/fapi/v1/listenKey",
    "open orders": "/fapi/v1/openOrders",
}


def buy(here: World, quantity: str = "0.050", symbol: str = "BTCUSDT") -> None:
    """A market order, filled at once and told on the stream."""
    now_ms = here.now_ms()
    order = OrderRequest(symbol=symbol, side=Side.BUY, type=OrderType.MARKET, qty=Decimal(quantity))
    here.exchange.publish(here.ledger.place(order, here.exchange.server_ms(now_ms)), now_ms)


async def expect_state_through(here: World, *states: str) -> None:
    for state in states:
        await here.state(state)


async def expect_log_length(here: World, length: int) -> list[dict[str, str]]:
    return await until(here.log, lambda log: len(log) >= length)


async def test_what_the_stream_says_during_the_first_snapshot_is_not_lost(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, live=False) as here:
        here.exchange.fault("delay_rest", {"count": 6, "delay_ms": 300, "path": REST_PATHS["account"]}, here.now_ms())
        await until(_private_sockets(here), lambda count: count == 1)
        for _ in range(20):
            here.trade(5)
            await asyncio.sleep(0.01)
        await here.state("live")
        await here.agree()
        entries = await here.log()
        assert [int(entry["eventSeq"]) for entry in entries] == list(range(1, len(entries) + 1))


async def test_the_terms_of_trailing_stops_and_closing_orders_are_read_of_stream_and_rest_alike(
    redis_url: str, account_name: str
) -> None:
    terms = {"activation_price": Decimal("99000.5"), "callback_rate": Decimal("1.5"), "qty": Decimal("0.01")}
    trailing = AlgoRequest(symbol="BTCUSDT", side=Side.SELL, type=OrderType.TRAILING_STOP_MARKET, **terms)
    closing = AlgoRequest(
        symbol="BTCUSDT", side=Side.SELL, type=OrderType.STOP_MARKET, trigger_price=Decimal(80_000), close_position=True
    )
    async with world(redis_url, account_name) as here:
        buy(here)
        for request in (trailing, closing):
            here.exchange.publish(here.ledger.place_algo(request, here.now_ms()), here.now_ms())
        await here.agree()
        of_stream = (await here.stored()).orders
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        await expect_state_through(here, "recovering", "live")
        await here.agree()
        of_rest = (await here.stored()).orders
        entries = {entry["orderId"]: entry for entry in await here.log() if entry["eventType"] == "ALGO_NEW"}
    assert of_stream is not None
    assert of_rest is not None
    names = ("stopPrice", "closePosition", "activatePrice", "callbackRate")
    first, second = (f"algo-{algo.algo_id}" for algo in here.ledger.open_algos())
    for rows in (of_stream, of_rest):
        assert [rows[f"BTCUSDT:{first}"].get(name) for name in names] == [None, "false", "99000.5", "1.5"]
        assert [rows[f"BTCUSDT:{second}"].get(name) for name in names] == ["80000", "true", None, None]
    assert [entries[first][name] for name in names] == ["", "false", "99000.5", "1.5"]
    assert [entries[second][name] for name in names] == ["80000", "true", "", ""]


async def test_nothing_is_live_before_the_stream_is_connected(redis_url: str, account_name: str) -> None:
    """Redis answers late, REST at once, and the stream's handshake not yet."""
    redis = urlsplit(redis_url)
    assert redis.hostname is not None
    assert redis.port is not None
    async with (
        new_server() as server,
        linked(redis.hostname, redis.port) as to_redis,
        linked(server.host, server.port) as to_stream,
    ):
        to_redis.stall()
        to_stream.stall()
        link_url = redis._replace(netloc=f"{to_redis.host}:{to_redis.port}").geturl()
        ws_url = f"ws://{to_stream.host}:{to_stream.port}"
        async with published(server, link_url, account_name, live=False, WS_URL=ws_url) as here:
            await until(_asked_for(here, REST_PATHS["key"]), lambda times: times > 0)
            to_redis.resume()
            await until(here.status, lambda status: bool(status.get("publisherId")))
            await asyncio.sleep(1.0)
            assert await _asked_for(here, REST_PATHS["account"])() == 0
            assert (await here.status())["state"] == "starting"
            to_stream.resume()
            await here.state("live")


def _asked_for(here: World, path: str):  # type: ignore[no-untyped-def]  # a reader for `until`
    async def count() -> int:
        return sum(times for what, times in here.exchange.requests.items() if path in what)

    return count


def _private_sockets(here: World):  # type: ignore[no-untyped-def]  # a reader for `until`
    async def count() -> int:
        return sum(stream.root == "private" for stream in here.exchange.streams)

    return count


@pytest.mark.parametrize("fault", ["cut_sockets", "expire_listen_key"])
async def test_a_stream_that_ends_is_replaced_and_the_state_is_true_again(
    redis_url: str, account_name: str, fault: str
) -> None:
    async with world(redis_url, account_name) as here:
        here.trade(50)
        await here.agree()
        before = await here.status()
        here.exchange.fault(fault, {}, here.now_ms())
        await until(here.status, lambda status: int(status["streamSinceMs"]) > int(before["streamSinceMs"]))
        await here.state("live")
        here.trade(50)
        await here.agree()


async def test_readers_see_recovering_while_the_venue_cannot_be_reached(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        here.trade(30)
        await here.agree()
        here.exchange.fault("refuse_sockets", {"count": 2, "status": 503}, here.now_ms())
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        doubted = await here.state("recovering")
        stored = await here.stored()
        assert stored.positions is not None, "the last known state stays"
        verified = doubted["verifiedAtMs"]
        assert (await here.status())["verifiedAtMs"] == verified, "nobody vouches for it"
        live = await here.state("live")
        assert int(live["verifiedAtMs"]) > int(verified)


async def test_a_frame_that_makes_no_sense_loses_nothing_else(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        buy(here)
        for text in ("{", "[]", '{"e":"ORDER_TRADE_UPDATE","E":1}', '{"e":"ACCOUNT_UPDATE","E":1,"T":1,"a":7}'):
            here.exchange.fault("send_raw", {"text": text}, here.now_ms())
            buy(here)
        status = await until(here.status, lambda status: status.get("malformedFrames") == "4")
        assert status["unknownEvents"] == "0"
        await here.state("live")
        await here.agree()
        await here.agree_on_events()


async def test_unknown_events_and_fields_are_counted_and_change_nothing(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        here.exchange.fault("send_raw", {"text": '{"e":"NEW_IN_2027","E":1793000000000,"x":1}'}, here.now_ms())
        status = await until(here.status, lambda status: status.get("unknownEvents") == "1")
        assert status["state"] == "live"
        assert status["malformedFrames"] == "0"


async def test_every_documented_event_is_understood(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        buy(here)
        frames = [
            '{"e":"MARGIN_CALL","E":1793000002000,"cw":"312.1","p":[{"s":"ETHUSDT","ps":"LONG","pa":"1.327",'
            '"mt":"CROSSED","iw":"0","mp":"2871.17","up":"-116.61","mm":"19.61"}]}',
            '{"e":"CONDITIONAL_ORDER_TRIGGER_REJECT","E":1793000005000,"T":1793000004990,'
            '"or":{"s":"ETHUSDT","i":155618472834,"r":"no"}}',
            '{"e":"STRATEGY_UPDATE","T":1793000005100,"E":1793000005110,'
            '"su":{"si":176054594,"st":"GRID","ss":"NEW","s":"BTCUSDT","ut":1793000005100,"c":8007}}',
            '{"e":"GRID_UPDATE","T":1793000005200,"E":1793000005210,"gu":{"si":176057039,"st":"GRID","ss":"WORKING",'
            '"s":"BTCUSDT","r":"-0.003","up":"16720","uq":"-0.001","uf":"-0.003","mp":"0.0","ut":1793000005200}}',
        ]
        for text in frames:
            here.exchange.fault("send_raw", {"text": text}, here.now_ms())
        buy(here)
        await here.agree()
        status = await here.status()
        assert (status["unknownEvents"], status["malformedFrames"], status["state"]) == ("0", "0", "live")


@pytest.mark.parametrize("fault", ["duplicate_user_frames", "swap_user_frames"])
async def test_doubled_and_swapped_frames_end_in_the_same_state(redis_url: str, account_name: str, fault: str) -> None:
    async with world(redis_url, account_name) as here:
        for _ in range(10):
            here.exchange.fault(fault, {"count": 5}, here.now_ms())
            here.trade(10)
            await asyncio.sleep(0)
        here.exchange.fault("clear", {}, here.now_ms())
        here.trade(20)  # A swapped frame waits for its successor.
        await here.agree()
        entries = await here.log()
        assert len({entry["eventId"] for entry in entries}) == len(entries)
        assert len(entries) == here.ledger.order_events_seen + len(here.exchange.algo_events)


async def test_rows_of_one_moment_that_come_again_late_put_no_older_one_in_its_place(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, RECONCILE_S="3600") as here:
        at_ms = here.now_ms()

        def rows(wallet: str, amount: str, at_ms: int = at_ms) -> str:
            return (
                f'{{"e":"ACCOUNT_UPDATE","E":{at_ms},"T":{at_ms},"a":{{"m":"ORDER",'
                f'"B":[{{"a":"USDT","wb":"{wallet}","cw":"{wallet}","bc":"0"}}],'
                f'"P":[{{"s":"BTCUSDT","pa":"{amount}","ep":"91250.4","bep":"91250.4","cr":"0","up":"0","mt":"cross",'
                '"iw":"0","ps":"BOTH","ma":"USDT"}]}}'
            )

        def leverage(number: int) -> str:
            return f'{{"e":"ACCOUNT_CONFIG_UPDATE","E":{at_ms},"T":{at_ms},"ac":{{"s":"BTCUSDT","l":{number}}}}}'

        older, younger = (rows("9999.9", "0.010"), leverage(7)), (rows("9999.8", "0.020"), leverage(9))
        last = rows("1", "1", at_ms + 1).replace("USDT", "USDC")  # of another asset and symbol
        for text in (*older, *younger, *older, last):
            here.exchange.fault("send_raw", {"text": text}, here.now_ms())
        stored = await until(here.stored, lambda stored: stored.balances["USDC"]["walletBalance"] == "1")
        row = stored.positions["BTCUSDT:BOTH"]
        assert (stored.balances["USDT"]["walletBalance"], row["positionAmt"], row["leverage"]) == (
            "9999.8",
            "0.020",
            "9",
        )


async def test_rows_that_were_thrown_away_with_a_doubt_count_when_they_come_again(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, RECONCILE_S="3600") as here:
        at_ms, row = here.now_ms(), '{"a":"USDT","wb":"12345.6","cw":"12345.6","bc":"1"}'
        told = f'{{"e":"ACCOUNT_UPDATE","E":{at_ms},"T":{at_ms},"a":{{"m":"DEPOSIT","B":[{row}],"P":[]}}}}'
        for text in ("{", told, "{", told):
            here.exchange.fault("send_raw", {"text": text}, here.now_ms())
        await until(here.stored, lambda stored: stored.balances["USDT"]["walletBalance"] == "12345.6")


async def test_available_balance_follows_an_order_that_no_account_event_tells(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, RECONCILE_S="3600") as here:
        now_ms = here.now_ms()
        price = here.ledger.marks["BTCUSDT"] - 1000
        order = OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.LIMIT, qty=Decimal("0.1"), price=price)
        here.exchange.publish(here.ledger.place(order, here.exchange.server_ms(now_ms)), now_ms)
        before = (await here.stored()).account
        assert before is not None
        stored = await until(
            here.stored, lambda stored: stored.account["availableBalance"] != before["availableBalance"]
        )
        # No row of that answer is younger than the order: it does not prove that REST was not behind.
        assert int(stored.account["availableBalanceTimeMs"]) < now_ms
        await until(here.stored, lambda stored: int(stored.account["availableBalanceTimeMs"]) > now_ms)
        await here.agree()


async def test_a_silent_market_makes_prices_old_and_not_the_account(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, RECONCILE_S="3600") as here:
        buy(here)
        await here.agree()
        first = await here.stored()
        assert first.positions is not None
        row = first.positions["BTCUSDT:BOTH"]
        here.exchange.fault("mute_market_sockets", {"on": True}, here.now_ms())
        later = await until(here.status, lambda status: int(status["verifiedAtMs"]) > first.now_ms + 1000)
        assert later["state"] == "live"
        still = (await here.stored()).positions
        assert still is not None
        assert still["BTCUSDT:BOTH"]["markPriceTimeMs"] == row["markPriceTimeMs"], "old by its own time"


async def test_leverage_and_margin_type_reach_the_position(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        now_ms = here.now_ms()
        here.exchange.publish(here.ledger.set_leverage("BTCUSDT", 7, here.exchange.server_ms(now_ms)), now_ms)
        buy(here)
        stored = await until(here.stored, lambda stored: "BTCUSDT:BOTH" in (stored.positions or {}))
        assert stored.positions["BTCUSDT:BOTH"]["leverage"] == "7"
        assert stored.positions["BTCUSDT:BOTH"]["marginType"] == "cross"
        here.exchange.publish(here.ledger.set_leverage("BTCUSDT", 9, here.exchange.server_ms(now_ms)), here.now_ms())
        await until(here.stored, lambda stored: stored.positions["BTCUSDT:BOTH"]["leverage"] == "9")


async def test_multi_assets_mode_takes_its_totals_from_rest(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        buy(here)
        await here.agree()
        now_ms = here.now_ms()
        here.exchange.publish(here.ledger.set_multi_assets(now_ms, enabled=True), now_ms)
        await here.agree()
        stored = await here.stored()
        assert stored.account is not None
        assert Decimal(stored.account["totalWalletBalance"]) > 12_000, "USDT and USDC together"
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        await expect_state_through(here, "recovering", "live")
        assert (await here.stored()).balances.keys() == {"USDT", "USDC"}, "and none that was never touched"


async def test_lost_frames_are_repaired_by_the_next_reconciliation(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, RECONCILE_S="1") as here:
        here.exchange.fault("drop_user_frames", {"count": 3}, here.now_ms())
        buy(here)
        await here.agree()


async def test_a_venue_that_limits_is_not_asked_again_before_its_time(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, live=False) as here:
        # Without a time in the message it would be the rest of the minute, which may be over in a moment.
        refusal = f"Way too many requests; IP banned until {here.now_ms() + 60_000}."
        answer = {"count": 1, "status": 429, "body": f'{{"code":-1003,"msg":"{refusal}"}}'}
        here.exchange.fault("answer_rest", answer | {"path": REST_PATHS["key"]}, here.now_ms())
        status = await until(here.status, lambda status: "429" in status.get("reason", ""))
        assert status["state"] == "starting"
        asked = sum(here.exchange.requests.values())
        await until(here.status, lambda later: int(later["heartbeatAtMs"]) > int(status["heartbeatAtMs"]) + 1000)
        assert sum(here.exchange.requests.values()) == asked


async def test_the_listen_key_is_never_deleted_unless_asked_for(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        exchange = here.exchange
    assert not [call for call in exchange.requests if call.startswith("DELETE")]
    async with world(redis_url, f"{account_name}-2", DELETE_LISTEN_KEY="true") as here:
        exchange = here.exchange
    assert [call for call in exchange.requests if call.startswith("DELETE /fapi/v1/listenKey")]


async def test_the_listen_key_outlives_a_publisher_while_another_is_registered(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, DELETE_LISTEN_KEY="true") as here:
        exchange = here.exchange
        key = f"statecast:{{binance:{account_name}}}:publishers"
        await here.client.redis.zadd(key, {"another-publisher-1": here.now_ms()})
    assert not [call for call in exchange.requests if call.startswith("DELETE")]


async def test_what_a_connection_told_before_the_first_snapshot_is_not_lost_with_it(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, live=False) as here:
        here.exchange.fault("delay_rest", {"count": 1, "delay_ms": 1500, "path": REST_PATHS["account"]}, here.now_ms())
        await until(_private_sockets(here), lambda count: count == 1)
        await asyncio.sleep(1.1)  # The venue's time is known to within a second: what is younger is certainly ours.
        buy(here)
        assert not await here.log()
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        buy(here)
        await here.state("live")
        buy(here)
        await here.agree()
        await here.agree_on_events_after_gaps()
        assert len(await here.log()) >= 6


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 503, "body": '{"code":-1000,"msg":"Unknown error, please check your request or try again later."}'},
        {"status": 503, "body": '{"msg":"Service Unavailable."}'},
        {"status": 200, "body": "<html>maintenance</html>"},
        {"status": 202, "body": ""},
        {"status": 408, "body": "{}"},
        {"status": 400, "body": '{"code":-1007,"msg":"Timeout waiting for response from backend server."}'},
    ],
    ids=["503 unknown", "503 unavailable", "a page with 200", "nothing with 202", "408", "-1007"],
)
async def test_a_venue_in_maintenance_is_waited_for_and_everything_is_told_afterwards(
    redis_url: str, account_name: str, answer: dict[str, object]
) -> None:
    async with world(redis_url, account_name) as here:
        here.trade(30)
        await here.agree()
        here.exchange.fault("answer_rest", answer | {"count": 100_000}, here.now_ms())
        here.exchange.fault("refuse_sockets", {"count": 100_000, "status": 503}, here.now_ms())
        here.exchange.fault("cut_sockets", {}, here.now_ms())
        verified = (await here.state("recovering"))["verifiedAtMs"]
        for _ in range(20):
            here.trade(3)
            await asyncio.sleep(0.1)
        assert (await here.status())["verifiedAtMs"] == verified
        here.exchange.fault("clear", {}, here.now_ms())
        await here.state("live")
        here.trade(10)
        await here.agree()
        await here.agree_on_events_after_gaps()


async def test_a_venue_whose_clock_is_set_ahead_stays_live(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, RECONCILE_S="5") as here:
        buy(here)
        await here.agree()
        here.exchange.fault("shift_clock", {"by_ms": 3_600_000}, here.now_ms())
        buy(here)
        reconciled = int((await here.status())["reconciledAtMs"])
        status = await until(here.status, lambda status: int(status["reconciledAtMs"]) > reconciled + 4_000)
        assert (status["state"], status["drifts"]) == ("live", "0")
        await here.agree()


@pytest.mark.parametrize("by_ms", [-8_000, -3_600_000])
async def test_a_venue_whose_clock_is_set_back_is_not_silently_ignored(
    redis_url: str, account_name: str, by_ms: int
) -> None:
    """What it tells then looks older than what is known. REST shows that it is not."""
    async with world(redis_url, account_name, RECONCILE_S="5", limits=unlimited()) as here:
        buy(here)
        await here.agree()
        here.exchange.fault("shift_clock", {"by_ms": by_ms}, here.now_ms())
        buy(here)
        buy(here, symbol="ETHUSDT")
        await here.agree()
        buy(here)
        here.trade(20)
        await here.agree()
        await here.state("live")


async def test_while_the_venue_has_banned_us_the_stream_goes_on_and_nothing_is_asked(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, RECONCILE_S="5") as here:
        buy(here)
        await here.agree()
        until_ms = here.now_ms() + 12_000
        body = f'{{"code":-1003,"msg":"Way too many requests; IP banned until {until_ms}. Please use the websocket."}}'
        here.exchange.fault("answer_rest", {"count": 1, "status": 418, "body": body}, here.now_ms())
        await until(_requests(here, "418"), lambda count: count == 1)
        await asyncio.sleep(0.5)  # What was asked beside it was on its way.
        asked = sum(here.exchange.requests.values())
        buy(here)
        await here.state("recovering")
        assert len(await here.log()) >= 4, "events are told all the same"
        assert sum(here.exchange.requests.values()) == asked
        assert here.now_ms() < until_ms
        await here.state("live")
        assert here.now_ms() >= until_ms
        await here.agree()
        assert (await here.status())["drifts"] == "0"


def _requests(here: World, status: str):  # type: ignore[no-untyped-def]  # a reader for `until`
    async def count() -> int:
        return sum(number for call, number in here.exchange.requests.items() if call.endswith(status))

    return count


# REST that is behind

AS_OPERATED = Tuning(proof_s=3.0)


@asynccontextmanager
async def reading(here: World) -> AsyncIterator[list[StoredAccount]]:
    """All that is read meanwhile."""
    seen: list[StoredAccount] = []

    async def read() -> None:
        while True:
            seen.append(await here.stored())
            await asyncio.sleep(0.01)

    task = asyncio.create_task(read())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert any(map(is_fresh, seen)), "something was shown"


def is_fresh(stored: StoredAccount) -> bool:
    """Whether readers take the state for the venue's."""
    return stored.status["state"] == "live" and stored.now_ms - int(stored.status["verifiedAtMs"]) < 2_500


def place_limit(here: World) -> str:
    """An order that stays open; its name."""
    now_ms, price = here.now_ms(), here.ledger.marks["BTCUSDT"] - 5_000
    order = OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.LIMIT, qty=Decimal("0.01"), price=price)
    here.exchange.publish(here.ledger.place(order, now_ms), now_ms)
    return f"BTCUSDT:{here.ledger.open_orders()[-1].order_id}"


def place_stop(here: World) -> str:
    """A stop loss; its name."""
    now_ms, price = here.now_ms(), here.ledger.marks["BTCUSDT"] - 5_000
    stop = AlgoRequest(
        symbol="BTCUSDT", side=Side.SELL, type=OrderType.STOP_MARKET, qty=Decimal("0.01"), trigger_price=price
    )
    here.exchange.publish(here.ledger.place_algo(stop, now_ms), now_ms)
    return f"BTCUSDT:algo-{here.ledger.open_algos()[-1].algo_id}"


async def connected_again(here: World, before: dict[str, str]) -> None:
    await until(
        here.status,
        lambda status: status["state"] == "live" and status["streamSinceMs"] != before["streamSinceMs"],
    )


@pytest.mark.parametrize("place", [place_limit, place_stop], ids=["ordinary", "conditional"])
async def test_an_order_of_right_before_a_cut_stays_though_rest_does_not_know_it_yet(
    redis_url: str, account_name: str, place: Callable[[World], str]
) -> None:
    async with world(redis_url, account_name, clock=FastClock(2), tuning=AS_OPERATED) as here:
        await here.agree()
        before = await here.status()
        here.exchange.fault("lag_rest", {"ms": 2_000}, here.now_ms())
        name = place(here)
        await until(here.stored, lambda stored: name in (stored.orders or {}))
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        async with reading(here) as seen:
            await connected_again(here, before)
            here.exchange.fault("lag_rest", {"ms": 0}, here.now_ms())
            await here.agree()
        path = "algoOrder" if "algo" in name else "order"
        assert here.exchange.requests[f"GET /fapi/v1/{path} 400"], "it was asked for, and not known"
        assert all(name in (stored.orders or {}) for stored in seen)
        assert (await here.status())["drifts"] == "0"
        assert [entry["eventType"].removeprefix("ALGO_") for entry in await here.log()] == ["NEW"]


@pytest.mark.parametrize("is_sent", [True, False], ids=["sent before the cut", "while there was no stream"])
async def test_a_position_of_right_before_a_connection_is_in_every_fresh_state_though_rest_is_behind(
    redis_url: str, account_name: str, is_sent: bool
) -> None:
    clock = FastClock(3)
    async with world(redis_url, account_name, clock=clock, tuning=AS_OPERATED, limits=unlimited()) as here:
        await here.agree()
        before = await here.status()
        here.exchange.fault("lag_rest", {"ms": 2_000}, here.now_ms())
        if is_sent:
            buy(here)
            await until(here.stored, lambda stored: "BTCUSDT:BOTH" in (stored.positions or {}))
        here.exchange.fault("refuse_sockets", {"count": 1}, here.now_ms())
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        await here.state("recovering")
        async with reading(here) as seen:
            if not is_sent:
                buy(here)
            await connected_again(here, before)
            await here.agree()
        assert all("BTCUSDT:BOTH" in (stored.positions or {}) for stored in seen if is_sent or is_fresh(stored))
        await here.agree_on_events_after_gaps(in_order=is_sent)


async def test_rest_that_is_far_behind_turns_nothing_back_and_is_no_drift(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, clock=FastClock(10), limits=unlimited()) as here:
        buy(here, "0.020")
        await here.agree()
        before = await here.status()
        here.exchange.fault("lag_rest", {"ms": 20_000}, here.now_ms())
        buy(here, "0.030")
        name = place_limit(here)
        await until(here.stored, lambda stored: name in (stored.orders or {}))
        async with reading(here) as seen:
            doubted = await here.state("recovering")
            await here.state("live")
        assert "the venue differs" in doubted["reason"]
        rows = [((stored.positions or {}).get("BTCUSDT:BOTH", {}).get("positionAmt"), stored.orders) for stored in seen]
        assert {amount for amount, _ in rows} == {"0.05"}
        assert all(name in (orders or {}) for _, orders in rows)
        after = await here.status()
        assert (after["drifts"], after["streamSinceMs"]) == ("0", before["streamSinceMs"])
        here.exchange.fault("clear", {}, here.now_ms())
        await here.agree()


async def test_an_available_balance_of_before_a_change_is_asked_for_again_and_not_stamped_later(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, clock=FastClock(4), RECONCILE_S="3600") as here:
        await here.agree()
        here.exchange.fault("lag_rest", {"ms": 2_900, "paths": [REST_PATHS["account"]]}, here.now_ms())
        changed_ms = here.now_ms()
        place_limit(here)
        truth = {row["asset"]: row for row in here.dump()["assets"]}["USDT"]["availableBalance"]

        def is_true(stored: StoredAccount) -> bool:
            return Decimal((stored.account or {})["availableBalance"]) == Decimal(truth)

        async with reading(here) as seen:
            await until(here.stored, is_true)
        figures = [stored.account or {} for stored in seen if not is_true(stored)]
        assert figures, "REST was behind"
        assert all(int(row["availableBalanceTimeMs"]) < changed_ms for row in figures)


# What no event says, or an event of an older time


async def test_an_asset_that_was_withdrawn_unheard_goes(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        now_ms = here.now_ms()
        here.exchange.publish(here.ledger.transfer("LDUSDT", Decimal("3.5"), now_ms), now_ms)
        await until(here.stored, lambda stored: "LDUSDT" in (stored.balances or {}))
        buy(here)  # By this row, an answer shows that it is not from before the asset was there.
        await here.agree()
        here.exchange.fault("mute_open_sockets", {}, here.now_ms())
        here.exchange.publish(here.ledger.forget_asset("LDUSDT", here.now_ms()), here.now_ms())
        stored = await until(here.stored, lambda stored: "LDUSDT" not in (stored.balances or {}))
        assert stored.status["drifts"] == "1"
        await here.agree()


@pytest.mark.parametrize("by_ms", [-1_000, -3_000])
async def test_a_clock_that_is_set_back_a_little_is_found_at_once(
    redis_url: str, account_name: str, by_ms: int
) -> None:
    """Not by the comparison of everything, which is an hour away."""

    async def amount() -> str:
        return ((await here.stored()).positions or {}).get("BTCUSDT:BOTH", {}).get("positionAmt", "")

    async with world(redis_url, account_name, clock=FastClock(4), RECONCILE_S="3600") as here:
        buy(here, "0.010")
        await until(amount, lambda text: text == "0.01")
        here.exchange.fault("shift_clock", {"by_ms": by_ms}, here.now_ms())
        buy(here, "0.010")
        async with reading(here) as seen:
            await until(amount, lambda text: text == "0.02")
            await here.state("live")
        old = [stored for stored in seen if stored.positions["BTCUSDT:BOTH"]["positionAmt"] == "0.01"]
        assert not is_fresh(old[-1]), "it was doubted before it was replaced"
        await here.agree()


async def test_a_wallet_that_grows_without_an_event_replaces_no_connection_after_the_first_time(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, clock=FastClock(10), RECONCILE_S="10", limits=unlimited()) as here:
        connections = set[str]()
        for number in range(1, 5):
            here.ledger.accrue("USDC", Decimal("0.5"), here.now_ms())
            wanted = 2_500 + number * Decimal("0.5")
            await until(
                here.stored, lambda stored, wanted=wanted: Decimal(stored.balances["USDC"]["walletBalance"]) == wanted
            )  # type: ignore[misc]
            connections.add((await here.state("live"))["streamSinceMs"])
        status = await here.status()
        assert (status["drifts"], status["walletCorrections"]) == ("1", "3")
        assert len(connections) == 1, "the one of after the drift"
        await here.agree()


# Two symbols that have one id


async def test_orders_of_two_symbols_that_have_one_id_are_two_orders(redis_url: str, account_name: str) -> None:
    async with new_server(ids_per_symbol=True) as server:

        def place(symbol: str) -> int:
            now_ms, price = SystemClock().now_ms(), server.exchange.ledger.marks[symbol] * 9 // 10
            order = OrderRequest(symbol=symbol, side=Side.BUY, type=OrderType.LIMIT, qty=Decimal("0.1"), price=price)
            server.exchange.publish(server.exchange.ledger.place(order, now_ms), now_ms)
            return server.exchange.ledger.open_orders(symbol)[-1].order_id

        async with published(server, redis_url, account_name) as here:
            number = place("BTCUSDT")
            assert place("ETHUSDT") == number
            await here.agree()
            stored = await here.stored()
            assert (stored.orders or {}).keys() == {f"BTCUSDT:{number}", f"ETHUSDT:{number}"}
            here.exchange.publish(here.ledger.cancel(number, here.now_ms(), symbol="BTCUSDT"), here.now_ms())
            await here.agree()
            second = place("ETHUSDT")
            assert place("BTCUSDT") == second
            here.exchange.publish(here.ledger.cancel(second, here.now_ms(), symbol="ETHUSDT"), here.now_ms())
            third = place("ETHUSDT")
            here.exchange.fault("refuse_sockets", {"count": 1}, here.now_ms())
            here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
            await here.state("recovering")
            assert place("BTCUSDT") == third, "in the gap"
            here.exchange.publish(
                here.ledger.fill_resting(third, Decimal("0.05"), here.now_ms(), symbol="ETHUSDT"), here.now_ms()
            )
            await here.state("live")
            await here.agree()
            await here.agree_on_events_after_gaps()


async def test_one_row_that_cannot_be_understood_is_a_doubt_that_names_it_and_all_else_goes_on(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name) as here:
        buy(here)
        buy(here, symbol="ETHUSDT")
        await here.agree()
        row = {"symbol": "ETHUSDT", "positionSide": "BOTH", "positionAmt": None, "updateTime": here.now_ms()}
        fault = {"count": 1_000, "status": 200, "path": "/fapi/v3/positionRisk"}
        here.exchange.fault("answer_rest", fault | {"body": json.dumps([row])}, here.now_ms())
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        status = await until(here.status, lambda status: "position ETHUSDT BOTH" in status["reason"])
        assert status["state"] == "recovering"
        assert status["unreadableValues"] == "1"
        held = (await here.stored()).positions or {}
        assert "ETHUSDT:BOTH" in held, "it is not shown as flat"
        before = len(await here.log())
        buy(here, symbol="ETHUSDT")
        await expect_log_length(here, before + 2)
        assert (await here.status())["state"] == "recovering"
        here.exchange.fault("clear", {}, here.now_ms())
        await here.state("live")
        await here.agree()
        assert (await here.status())["unreadableValues"] == "1"


async def test_an_open_order_that_cannot_be_understood_stays_and_is_no_gap(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        request = OrderRequest(
            symbol="BTCUSDT", side=Side.BUY, type=OrderType.LIMIT, qty=Decimal("0.01"), price=Decimal(80_000)
        )
        here.exchange.publish(here.ledger.place(request, here.now_ms()), here.now_ms())
        await here.agree()
        (name,) = (await here.stored()).orders or {}
        row = {"symbol": "BTCUSDT", "orderId": int(name.partition(":")[2]), "status": "NEW", "side": None}
        fault = {"count": 1_000, "status": 200, "path": REST_PATHS["open orders"], "body": json.dumps([row])}
        here.exchange.fault("answer_rest", fault, here.now_ms())
        here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
        await until(here.status, lambda status: f"order {name}: " in status["reason"])
        assert list((await here.stored()).orders or {}) == [name]
        here.exchange.fault("clear", {}, here.now_ms())
        await here.state("live")
        await here.agree()
        assert [entry["eventType"] for entry in await here.log()] == ["NEW"]


async def test_values_that_only_decorate_do_not_keep_an_account_from_being_live(
    redis_url: str, account_name: str
) -> None:
    async with new_server() as server:
        exchange, now_ms = server.exchange, SystemClock().now_ms()
        settings = [
            {"symbol": "BTCUSDT", "marginType": "CROSSED", "leverage": None},
            {"symbol": "ETHUSDT", "marginType": "CROSSED", "leverage": "20"},
        ]
        assets = [{"asset": "USDT", "walletBalance": "5", "crossWalletBalance": "5", "updateTime": -1}]
        totals = dict.fromkeys(("totalWalletBalance", "totalUnrealizedProfit", "totalMarginBalance"), "")
        body = totals | {"availableBalance": "5", "totalInitialMargin": "0", "totalMaintMargin": "0", "assets": assets}
        mode = {"dualSidePosition": False, "multiAssetsMargin": None}
        documents = {"/fapi/v1/symbolConfig": settings, "/fapi/v3/account": body, "/fapi/v1/accountConfig": mode}
        for path, document in documents.items():
            fault = {"count": 1_000, "status": 200, "path": path, "body": json.dumps(document)}
            exchange.fault("answer_rest", fault, now_ms)
        async with published(server, redis_url, account_name) as here:
            stored = await here.stored()
            assert stored.status["state"] == "live"
            assert stored.account is not None
            assert "totalWalletBalance" not in stored.account
            assert stored.account["availableBalance"] == "5"
            assert "totalsAsset" not in stored.account
            assert (stored.balances or {})["USDT"]["venueTimeMs"] == "0"
            assert stored.status["unreadableValues"] == "4"
            reconciled = int(stored.status["reconciledAtMs"])
            status = await until(here.status, lambda status: int(status["reconciledAtMs"]) > reconciled + 4_000)
            assert status["state"] == "live", "comparing goes on"
