"""One account's publisher, wired as the service wires it: what it is called, and how it ends."""

from __future__ import annotations

from random import Random

from structlog.testing import capture_logs
from support.world import new_server, published

from publisher.service import Chance
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
