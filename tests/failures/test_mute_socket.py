"""A socket that is open and mute: found by comparing with REST, whatever it was that it has missed, and replaced."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from support.world import World, until, world

from publisher.discrepancies import GRACE_S
from statecast.simulator.events import Event
from statecast.simulator.orders import AlgoRequest, OrderRequest, OrderType, Side

PERIOD_S = 6.0
SLACK_MS = 1_500
"""From the publisher's belief to Redis's clock: the write of a heartbeat on a loaded machine."""

D = Decimal


def mute(here: World) -> None:
    """The sockets that are open now stay open and are told nothing more; later ones are."""
    for stream in here.exchange.streams:
        if stream.root == "private":
            stream.subscriptions.clear()


def publish(here: World, make: Callable[[int], list[Event]]) -> None:
    now_ms = here.now_ms()
    here.exchange.publish(make(here.exchange.server_ms(now_ms)), now_ms)


def buy(here: World) -> None:
    order = OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.MARKET, qty=D("0.05"))
    publish(here, lambda at_ms: here.ledger.place(order, at_ms))


def sell(here: World) -> None:
    order = OrderRequest(symbol="BTCUSDT", side=Side.SELL, type=OrderType.MARKET, qty=D("0.05"))
    publish(here, lambda at_ms: here.ledger.place(order, at_ms))


def place(here: World) -> None:
    price = here.ledger.marks["BTCUSDT"] - 1000
    order = OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.LIMIT, qty=D("0.1"), price=price)
    publish(here, lambda at_ms: here.ledger.place(order, at_ms))


def cancel(here: World) -> None:
    order_id = here.ledger.open_orders("BTCUSDT")[-1].order_id
    publish(here, lambda at_ms: here.ledger.cancel(order_id, at_ms))


def amend(here: World) -> None:
    order = here.ledger.open_orders("BTCUSDT")[-1]
    publish(here, lambda at_ms: here.ledger.amend(order.order_id, qty=D("0.2"), price=order.price, now_ms=at_ms))


def place_conditional(here: World) -> None:
    price = here.ledger.marks["BTCUSDT"] - 2000
    order = AlgoRequest(
        symbol="BTCUSDT", side=Side.SELL, type=OrderType.STOP_MARKET, qty=D("0.05"), trigger_price=price
    )
    publish(here, lambda at_ms: here.ledger.place_algo(order, at_ms))


def leverage(here: World) -> None:
    publish(here, lambda at_ms: here.ledger.set_leverage("BTCUSDT", 7, at_ms))


def margin_type(here: World) -> None:
    publish(here, lambda at_ms: here.ledger.set_margin_type("BTCUSDT", at_ms, isolated=True))


def multi_assets(here: World) -> None:
    publish(here, lambda at_ms: here.ledger.set_multi_assets(at_ms, enabled=True))


MISSED: dict[str, tuple[list[Callable[[World], None]], list[Callable[[World], None]]]] = {
    "a fill": ([buy], [buy]),
    "a position closed": ([buy], [sell]),
    "a position reopened with the same size": ([buy], [sell, buy]),
    "a position opened and closed": ([place], [buy, sell]),
    "an order placed": ([buy], [place]),
    "an order cancelled": ([place], [cancel]),
    "an order amended": ([place], [amend]),
    "an order placed and cancelled": ([buy], [place, cancel]),
    "a conditional order placed": ([buy], [place_conditional]),
    "leverage": ([buy], [leverage]),
    "a margin type": ([buy, sell], [margin_type]),
    "the margin mode": ([buy], [multi_assets]),
}
"""What happens before the socket falls silent, and what it does not tell then."""


@pytest.mark.parametrize("case", MISSED)
async def test_a_mute_socket_is_found_and_replaced_by_what_it_has_missed(
    redis_url: str, account_name: str, case: str
) -> None:
    before, missed = MISSED[case]
    async with world(redis_url, account_name, RECONCILE_S=str(PERIOD_S)) as here:
        for act in before:
            act(here)
        await here.agree()
        since = int((await here.status())["streamSinceMs"])
        mute(here)
        muted_ms = int(await _redis_ms(here))
        for act in missed:
            act(here)
        believed_ms: list[int] = []

        async def status() -> dict[str, str]:
            seen = await here.status()
            if seen["drifts"] == "0":
                believed_ms.append(int(seen["verifiedAtMs"]))
            return seen

        await until(status, lambda seen: seen["drifts"] == "1" and int(seen["streamSinceMs"]) > since)
        assert max(believed_ms) <= muted_ms + (PERIOD_S + GRACE_S) * 1000 + SLACK_MS, "told as true for too long"
        await here.state("live")
        await here.agree()
        entries = await here.agree_on_events_after_gaps()
        buy(here)
        await here.agree()
        assert len(await here.agree_on_events_after_gaps()) > len(entries), "the new connection is told what happens"
        assert (await here.status())["drifts"] == "1"


async def test_nobody_vouches_for_a_state_that_rest_does_not_confirm(redis_url: str, account_name: str) -> None:
    """With REST away, a mute stream could not be found: what it has told goes on being written, and is not vouched
    for."""
    async with world(redis_url, account_name, RECONCILE_S="5") as here:
        buy(here)
        await here.agree()
        answer = {"count": 100_000, "status": 503, "body": "<html>maintenance</html>"}
        here.exchange.fault("answer_rest", answer, here.now_ms())
        doubted = await here.state("recovering")
        assert "not compared with the venue" in doubted["reason"]
        place(here)
        stored = await until(here.stored, lambda stored: bool(stored.orders))
        assert stored.status["state"] == "recovering"
        assert (await here.log())[-1]["eventType"] == "NEW", "events are not held back"
        verified = int(doubted["verifiedAtMs"])
        assert int(stored.status["verifiedAtMs"]) == verified
        here.exchange.fault("clear", {}, here.now_ms())
        live = await here.state("live")
        assert int(live["verifiedAtMs"]) > verified
        assert live["drifts"] == "0"
        await here.agree()


async def _redis_ms(here: World) -> int:
    seconds, micros = await here.client.redis.time()
    return int(seconds) * 1000 + int(micros) // 1000
