"""The users that docs/redis.md proposes: each can do its work, and nothing that is another's."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import RedisServerFactory
from support.world import KEY, SECRET, world

from consumers import AccountMirror, AccountReader, OrderEvents, credentials
from statecast.embedded.server import ServerBinary
from statecast.errors import StoreError, StoreRefused
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId, AccountKeys

PAGE = (Path(__file__).parents[1] / "docs/redis.md").read_text("utf-8")
USERS = dict(re.findall(r"^    user (publisher|trader) (on .*)$", PAGE, re.MULTILINE))
KEYS = AccountKeys(AccountId("binance", "main"))


def of_one_account(name: str, rules: str) -> str:
    """As the page says that they are narrowed."""
    narrowed = rules.replace("statecast:*:", "statecast:{binance:main}:").replace(
        "statecast:*", "statecast:{binance:main}:*"
    )
    return narrowed + (" %R~statecast:accounts" if name == "trader" else " ~statecast:accounts")


@pytest.fixture(params=["all accounts", "one account"])
async def url(
    any_server_binary: ServerBinary, redis_server_factory: RedisServerFactory, request: pytest.FixtureRequest
) -> str:
    """A server with these users, their passwords as on the page."""
    server = redis_server_factory(any_server_binary)
    async with connect(server.url, client_name="admin") as admin:
        for name, page_rules in USERS.items():
            rules = of_one_account(name, page_rules) if request.param == "one account" else page_rules
            # What stands between parentheses is one argument.
            await admin.redis.execute_command("ACL", "SETUSER", name, *re.findall(r"\([^)]*\)|\S+", rules))
    return server.url


def as_user(url: str, name: str) -> str:
    password = re.findall(r">(\S+)", USERS[name])[0]
    return url.replace("redis://", f"redis://{name}:{password}@")


async def test_publisher_and_trader_can_do_their_work(url: str) -> None:
    trader = as_user(url, "trader")
    async with world(as_user(url, "publisher"), "main") as here:
        here.trade(20)
        await here.agree()
        count = len(await here.log())
        venue = credentials(KEY, SECRET, rest_url=here.server.rest_url)
        async with (
            AccountReader("main", trader, credentials=venue) as reader,
            AccountReader("main", trader) as reader_without_keys,
            AccountMirror("main", trader) as mirror,
        ):
            assert (await reader.snapshot()).positions == mirror.positions()
            assert (await reader.refresh()).freshness.via == "refresh"
            assert (await reader_without_keys.refresh()).freshness.via == "refresh"
        async with OrderEvents("main", trader, "bot", start="beginning", partitions=2) as events:
            seen = 0
            async for event in events:
                seen += 1
                if seen == 1:
                    await event.reject("for the test")
                else:
                    await event.ack()
                if seen == count:
                    break
        async with connect(url, client_name="admin") as admin:
            assert await admin.redis.xlen(KEYS.dead_letters("bot")) == 1


@pytest.fixture
async def trader(url: str) -> AsyncIterator[Client]:
    async with world(as_user(url, "publisher"), "main"), connect(as_user(url, "trader"), client_name="t") as client:
        yield client


FORGERIES = {
    "a state": ("HSET", KEYS.positions, "BTCUSDT:BOTH.positionAmt", "0"),
    "a status": ("HSET", KEYS.status, "verifiedAtMs", "9"),
    "an order event": ("XADD", KEYS.order_events, "*", "eventSeq", "1"),
    "a change": ("XADD", KEYS.changes, "*", "seq", "1"),
    "a deletion": ("DEL", KEYS.positions),
    "a trimming": ("XTRIM", KEYS.order_events, "MAXLEN", "0"),
    "a lease": ("SET", KEYS.lease, "me"),
    "the end of a group": ("XGROUP", "DESTROY", KEYS.order_events, "bot"),
    "a state by script": ("EVAL", "return redis.call('HSET', KEYS[1], 'a', '1')", "1", KEYS.positions),
    "an order event by script": ("EVAL", "return redis.call('XADD', KEYS[1], '*', 'a', '1')", "1", KEYS.order_events),
    "other keys": ("GET", "somebody:else"),
    "everything": ("FLUSHALL",),
}


async def test_a_trader_can_forge_nothing(trader: Client) -> None:
    for command in FORGERIES.values():
        with pytest.raises(StoreRefused), trader.errors():
            await trader.redis.execute_command(*command)


@pytest.mark.parametrize("url", ["one account"], indirect=True)
@pytest.mark.parametrize("name", USERS)
async def test_a_user_of_one_account_knows_nothing_of_others(url: str, name: str) -> None:
    other = AccountKeys(AccountId("binance", "other"))
    async with connect(as_user(url, name), client_name="o") as client:
        for command in (("HGETALL", other.positions), ("XRANGE", other.order_events, "-", "+"), ("GET", other.lease)):
            with pytest.raises(StoreRefused), client.errors():
                await client.redis.execute_command(*command)


async def test_a_publisher_touches_nothing_but_its_keys(url: str) -> None:
    async with connect(as_user(url, "publisher"), client_name="p") as publisher:
        for command in (("SET", "somebody:else", "1"), ("FLUSHALL",), ("CONFIG", "GET", "*")):
            with pytest.raises(StoreError), publisher.errors():
                await publisher.redis.execute_command(*command)
