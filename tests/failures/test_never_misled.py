"""Ways in which a number was wrong and looked right, or an order event got lost. Each was found once."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import orjson
import pytest
import redis.asyncio
from support.readers import ACCOUNT_CALL, access, published
from support.world import NotingExchange, World, new_server, until, world

from consumers import config
from consumers.account import AccountReader
from consumers.mirror import AccountMirror
from publisher import sync
from statecast.errors import ConfigError, StaleState
from statecast.simulator.exchange import Response
from statecast.simulator.orders import OrderRequest, OrderType, PositionSide, Side
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId, AccountKeys


def trade(here: World, side: Side, quantity: str = "0.050", symbol: str = "BTCUSDT", **fields: Any) -> None:
    now_ms = here.now_ms()
    order = OrderRequest(symbol=symbol, side=side, type=OrderType.MARKET, qty=Decimal(quantity), **fields)
    here.exchange.publish(here.ledger.place(order, here.exchange.server_ms(now_ms)), now_ms)


class Interrupting(NotingExchange):
    """Sends a frame that makes no sense a moment after it was first asked for the account."""

    was_asked = False

    def request(self, method: str, path: str, *rest: Any) -> Response:
        answer = super().request(method, path, *rest)
        if path == "/fapi/v3/account" and not self.was_asked:
            self.was_asked = True
            loop, now_ms = asyncio.get_running_loop(), rest[-1]
            loop.call_later(0.7 * sync.SETTLE_S, self.fault, "send_raw", {"text": "{"}, now_ms)
        return answer


async def test_a_frame_that_makes_no_sense_while_a_snapshot_settles_is_not_overlooked(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, live=False, kind=Interrupting, RECONCILE_S="60") as here:
        status = await here.state("live")
        assert status["malformedFrames"] == "1"
        assert here.exchange.requests[ACCOUNT_CALL] == 2, "what the frame said may be missing in the first"


async def test_an_amount_beyond_reckoning_takes_no_order_event_with_it(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, live=False) as here:
        here.exchange.fault("delay_rest", {"count": 1, "delay_ms": 800, "path": "/fapi/v3/account"}, here.now_ms())

        async def sockets() -> int:
            return sum(stream.root == "private" for stream in here.exchange.streams)

        await until(sockets, lambda count: count == 1)
        trade(here, Side.BUY)
        now_ms = here.now_ms()
        row = {"s": "BTCUSDT", "ps": "BOTH", "pa": "1E+30", "ep": "1E+30", "bep": "1", "cr": "0", "up": "0"}
        frame = {"e": "ACCOUNT_UPDATE", "E": now_ms, "T": now_ms}
        frame["a"] = {"m": "ORDER", "B": [], "P": [row | {"mt": "cross", "iw": "0"}]}
        here.exchange.fault("send_raw", {"text": orjson.dumps(frame).decode()}, now_ms)
        trade(here, Side.BUY)
        await here.state("live")
        await here.agree()
        await here.agree_on_events()


async def test_a_position_that_was_closed_and_opened_again_unheard_is_drift(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, RECONCILE_S="1") as here:
        trade(here, Side.BUY)
        await here.agree()
        here.exchange.fault("drop_user_frames", {"count": 100}, here.now_ms())
        trade(here, Side.SELL)
        here.ledger.marks["BTCUSDT"] += 500
        trade(here, Side.BUY)
        here.exchange.fault("clear", {}, here.now_ms())
        trade(here, Side.BUY, "0.5", "ETHUSDT")  # tells the wallet as it is now
        await here.agree()


async def test_isolated_margin_that_was_added_unheard_is_drift(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, RECONCILE_S="1") as here:
        now_ms = here.now_ms()
        here.exchange.publish(here.ledger.set_margin_type("BTCUSDT", now_ms, isolated=True), now_ms)
        trade(here, Side.BUY)
        await here.agree()
        here.exchange.fault("drop_user_frames", {"count": 10}, here.now_ms())
        now_ms = here.now_ms()
        added = here.ledger.add_isolated_margin("BTCUSDT", PositionSide.BOTH, Decimal(100), now_ms)
        here.exchange.publish(added, now_ms)
        here.exchange.fault("clear", {}, here.now_ms())
        await here.agree()


async def test_a_side_that_does_not_exist_is_not_flat(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name) as here:
        trade(here, Side.BUY)
        await here.agree()
        async with (
            AccountReader(here.account_id, redis_url) as reader,
            AccountMirror(here.account_id, redis_url) as mirror,
        ):
            held = await reader.position("BTCUSDT")
            for side in (held.side, "LONG", ""):
                with pytest.raises(ConfigError, match="side is "):
                    await reader.position("BTCUSDT", side)
                with pytest.raises(ConfigError, match="side is "):
                    mirror.position("BTCUSDT", side)
                with pytest.raises(ConfigError, match="side is "):
                    (await reader.snapshot()).position("BTCUSDT", side)


async def test_a_hedged_symbol_is_not_flat(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, hedge=True) as here:
        trade(here, Side.BUY, position_side=PositionSide.LONG)
        await here.agree()
        async with AccountReader(here.account_id, redis_url) as reader:
            with pytest.raises(ConfigError, match="accepted: LONG: that is how BTCUSDT is held"):
                await reader.position("BTCUSDT")
            assert not await reader.position("BTCUSDT", "SHORT")
            assert await reader.position("BTCUSDT", "LONG")


async def test_more_reads_at_once_than_connections(redis_url: str, account_name: str) -> None:
    async with connect(redis_url, client_name="test") as client:
        await published(client, AccountId("binance", account_name))
    async with AccountReader(account_name, redis_url) as reader:
        await asyncio.gather(*(reader.position("BTCUSDT") for _ in range(500)))


async def test_a_reader_does_not_tell_an_account_that_the_publisher_refuses(redis_url: str, account_name: str) -> None:
    async with world(redis_url, account_name, live=False) as here:
        body = '{"ipRestrict":false,"enableReading":true,"enablePortfolioMarginTrading":true}'
        fault = {"count": 1000, "status": 200, "body": body, "path": "/sapi/v1/account/apiRestrictions"}
        here.exchange.faults.switch("answer_rest", fault)
        await here.state("refused")
        async with AccountReader(here.account_id, redis_url, credentials=access(here.server)) as reader:
            with pytest.raises(StaleState, match="Portfolio Margin"):
                await reader.snapshot()


def test_another_account_is_not_told_by_the_credentials_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ACCOUNT", "main"), ("API_KEY", "main-key"), ("API_SECRET", "main-secret")):
        monkeypatch.setenv(f"STATECAST_{name}", value)
    assert config.from_environment({}).access is not None
    assert config.from_environment({"account": "binance:main"}).access is not None
    assert config.from_environment({"account": "second"}).access is None
    given = config.from_environment({"account": "second", "api_key": "second-key", "api_secret": "second"}).access
    assert given is not None
    assert given.api_key.reveal() == "second-key"


async def test_a_client_of_our_own_client_goes_by_tls_as_well() -> None:
    theirs = redis.asyncio.Redis(host="redis.example.com", ssl=True, password="hunter2")
    ours = Client(theirs, client_name="a")
    assert Client(ours.redis, client_name="b").server == "rediss://redis.example.com:6379/0"


async def test_who_waits_when_the_reader_is_closed_is_told_and_not_cancelled(redis_url: str, account_name: str) -> None:
    async with new_server() as server, connect(redis_url, client_name="test") as client:
        desk = await published(client, AccountId("binance", account_name))
        await client.redis.hset(AccountKeys(desk.writer.account_id).status, "verifiedAtMs", "1")
        server.exchange.faults.switch("delay_rest", {"count": 1, "delay_ms": 3000, "path": "/fapi/v1/openOrders"})
        reader = AccountReader(account_name, redis_url, credentials=access(server))
        reading = asyncio.create_task(reader.positions())
        await until(lambda: client.redis.exists(AccountKeys(desk.writer.account_id).refresh_lock), bool)
        await reader.aclose()
        with pytest.raises(StaleState, match="the reader was closed"):
            await reading
