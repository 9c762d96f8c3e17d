from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from support.changes import new_account, rest_balance, rest_order, rest_position, snapshot
from support.written import Desk, Stored, eventually, expected_state

from statecast.clock import SystemClock
from statecast.domain.changes import Snapshot
from statecast.embedded.server import EmbeddedServer
from statecast.errors import (
    AuthFailed,
    ContractMismatch,
    FrameError,
    RateLimited,
    Rejected,
    StatecastError,
    StoreUnreachable,
    VenueUnreachable,
)
from statecast.store import refresh
from statecast.store.client import Client, connect
from statecast.store.codec import entities
from statecast.store.keys import REFRESH_LOCK_MS, AccountId, AccountKeys
from statecast.store.refresh import (
    Fetch,
    NobodyCanFetch,
    Paused,
    RefreshRequests,
    RestAnswer,
    SharedRefresh,
    Timing,
    Wait,
)

VENUE_NOW_MS = 1_793_000_050_000
LONG_MS = 3_600_000.0
WHOLE = snapshot(
    balances=[rest_balance(-9, "1000"), rest_balance(-9, "2", "BNB")],
    positions=[rest_position(-9, "0.5"), rest_position(-9, "-1", position_side="SHORT")],
    orders=[rest_order(-9), rest_order(-9, order_id="algo-7", algo_id="7")],
)


class Exchange:
    """A venue that says what a test wants it to say, when the test lets it."""

    def __init__(self, said: Snapshot | StatecastError | Exception = WHOLE) -> None:
        self.said = said
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.used = "100"
        self.learned: list[tuple[str, int, int]] = []

    @property
    def clock(self) -> Exchange:
        return self

    @property
    def limits(self) -> Exchange:
        return self

    def now_ms(self) -> int:
        return VENUE_NOW_MS

    async def ensure(self) -> None:
        return

    def spent(self, now_ms: int) -> str:
        assert now_ms == VENUE_NOW_MS
        return self.used

    def learn(self, spent: str, at_ms: int, now_ms: int) -> None:
        self.learned.append((spent, at_ms, now_ms))

    async def fetch_snapshot(self, *, consistent: bool) -> Snapshot:
        assert consistent, "no stream repairs what a reader is told"
        self.asked.set()
        await self.may_answer.wait()
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@pytest.fixture
async def client(any_redis_url: str) -> AsyncIterator[Client]:
    async with connect(any_redis_url, client_name="reader") as connected:
        yield connected


@pytest.fixture
def account_id(account_name: str) -> AccountId:
    return AccountId("binance", account_name)


@pytest.fixture
def keys(account_id: AccountId) -> AccountKeys:
    return AccountKeys(account_id)


Reader = Callable[..., SharedRefresh]


@pytest.fixture
def reader(client: Client, account_id: AccountId) -> Reader:
    """Makes readers; with the credentials `key-1` unless said otherwise."""

    def make(credentials: str = "key-1", *, ask_publisher: bool = True, **timing: Any) -> SharedRefresh:
        return SharedRefresh(
            client,
            account_id,
            SystemClock(),
            credentials=credentials,
            ask_publisher=ask_publisher,
            timing=Timing(**timing),
        )

    return make


async def turn(asker: SharedRefresh, name: str = "a") -> Fetch:
    step = await asker.begin(name, -1)  # younger than an answer of this very millisecond
    assert isinstance(step, Fetch), step
    return step


async def now_ms(client: Client) -> int:
    seconds, microseconds = await client.redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


# Whose turn it is


async def test_one_asks_the_venue_and_the_others_wait_for_it(client: Client, keys: AccountKeys, reader: Reader) -> None:
    first = await turn(reader(), "a")
    assert first.taken_at_ms is None
    second = await reader().begin("b", LONG_MS)
    third = await reader("").begin("c", LONG_MS)
    assert isinstance(second, Wait)
    assert isinstance(third, Wait)
    assert (second.holder, third.holder) == ("a", "a")
    assert 0 < second.for_ms <= REFRESH_LOCK_MS
    assert await client.redis.get(keys.refresh_lock) == "a"


async def test_a_turn_may_be_asked_for_again_when_the_reply_was_lost(reader: Reader) -> None:
    await turn(reader(), "a")
    await turn(reader(), "a")


async def test_who_is_killed_while_it_asks_is_replaced_when_its_lock_has_run_out(
    client: Client, keys: AccountKeys, reader: Reader
) -> None:
    await turn(reader(), "killed")
    left_ms = await client.redis.pttl(keys.refresh_lock)
    assert 0 < left_ms <= REFRESH_LOCK_MS
    await client.redis.pexpire(keys.refresh_lock, 1)
    await eventually(lambda: _gone(client, keys.refresh_lock))
    await turn(reader(), "next")


async def _gone(client: Client, key: str) -> bool:
    return not await client.redis.exists(key)


async def test_the_lock_is_renewed_while_the_venue_is_slow(client: Client, keys: AccountKeys, reader: Reader) -> None:
    venue = Exchange()
    venue.may_answer.clear()
    asker = reader(renew_s=0.01)
    fetching = asyncio.create_task(asker.fetch(await turn(asker), venue))
    await venue.asked.wait()
    await client.redis.pexpire(keys.refresh_lock, 500)

    async def renewed() -> bool:
        return int(await client.redis.pttl(keys.refresh_lock)) > 1000

    await eventually(renewed)
    venue.may_answer.set()
    assert await fetching == WHOLE
    assert await _gone(client, keys.refresh_lock)


async def test_a_fetch_that_is_cancelled_frees_the_lock_at_once(
    client: Client, keys: AccountKeys, reader: Reader
) -> None:
    venue = Exchange()
    venue.may_answer.clear()
    asker = reader()
    fetching = asyncio.create_task(asker.fetch(await turn(asker), venue))
    await venue.asked.wait()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert await _gone(client, keys.refresh_lock)
    await turn(reader(), "next")


async def test_who_stood_still_until_another_took_over_gives_up(
    client: Client, keys: AccountKeys, reader: Reader
) -> None:
    venue = Exchange()
    venue.may_answer.clear()
    asker = reader(renew_s=0.01)
    mine = await turn(asker)
    await client.redis.set(keys.refresh_lock, "another")
    assert await asker.fetch(mine, venue) is None
    assert not venue.asked.is_set()
    assert not await client.redis.exists(keys.refresh)
    await asker.give_up(mine)
    assert await client.redis.get(keys.refresh_lock) == "another", "a lock is freed by its holder alone"


async def test_who_stands_still_while_the_venue_is_asked_gives_up_as_well(
    client: Client, keys: AccountKeys, reader: Reader
) -> None:
    venue = Exchange()
    venue.may_answer.clear()
    asker = reader(renew_s=0.01)
    fetching = asyncio.create_task(asker.fetch(await turn(asker), venue))
    await venue.asked.wait()
    await client.redis.set(keys.refresh_lock, "another")
    assert await fetching is None
    assert not await client.redis.exists(keys.refresh)
    assert await client.redis.get(keys.refresh_lock) == "another"


async def test_a_late_answer_does_not_replace_a_younger_one(client: Client, keys: AccountKeys, reader: Reader) -> None:
    slow, asker = (
        Exchange(snapshot(balances=[rest_balance(-9, "1")])),
        reader(renew_s=60.0),
    )  # it stands still, and does not notice
    slow.may_answer.clear()
    fetching = asyncio.create_task(asker.fetch(await turn(asker, "slow"), slow))
    await slow.asked.wait()
    await client.redis.delete(keys.refresh_lock)
    began = await now_ms(client)
    await eventually(lambda: _passed(client, began))
    other = reader()
    await other.fetch(await turn(other, "quick"), Exchange())
    await client.redis.set(keys.refresh_lock, "a third")
    slow.may_answer.set()
    await fetching
    assert await client.redis.get(keys.refresh_lock) == "a third", "a lock is freed by its holder alone"
    answer = await reader().begin("c", LONG_MS)
    assert isinstance(answer, RestAnswer)
    assert entities(answer.hashes["balances"])["USDT"]["walletBalance"] == "1000"
    assert await client.redis.hget(keys.refresh, "by") == "quick"


@pytest.mark.parametrize("meanwhile", ["another asks the venue", "another has an answer"])
async def test_a_late_failure_is_not_everybodys(
    client: Client, keys: AccountKeys, reader: Reader, meanwhile: str
) -> None:
    slow, asker = (
        Exchange(VenueUnreachable("binance", "/fapi", "no route")),
        reader(renew_s=60.0),
    )  # it stands still, and does not notice
    slow.may_answer.clear()
    late = await turn(asker, "slow")
    fetching = asyncio.create_task(asker.fetch(late, slow))
    await slow.asked.wait()
    await client.redis.delete(keys.refresh_lock)
    await eventually(lambda: _passed(client, late.now_ms))
    other = reader()
    quick = await turn(other, "quick")
    if meanwhile == "another has an answer":
        await other.fetch(quick, Exchange())
    before = await client.redis.hgetall(keys.refresh)
    slow.may_answer.set()
    assert await fetching is None
    after = await client.redis.hgetall(keys.refresh)
    assert "failedAtMs" not in after
    assert {name: after[name] for name in before if not name.startswith("spent")} == {
        name: before[name] for name in before if not name.startswith("spent")
    }
    if meanwhile == "another asks the venue":
        assert await client.redis.get(keys.refresh_lock) == "quick"
        assert await other.fetch(quick, Exchange()) == WHOLE
    assert isinstance(await reader().begin("c", LONG_MS), RestAnswer)


async def test_a_failure_counts_while_nobody_has_taken_over(client: Client, keys: AccountKeys, reader: Reader) -> None:
    asker, venue = reader(), Exchange(VenueUnreachable("binance", "/fapi", "no route"))
    venue.may_answer.clear()
    fetching = asyncio.create_task(asker.fetch(await turn(asker, "slow"), venue))
    await venue.asked.wait()
    await client.redis.delete(keys.refresh_lock)
    venue.may_answer.set()
    assert await fetching is None
    assert isinstance(await reader().begin("b", 0), Paused)


async def _passed(client: Client, moment_ms: int) -> bool:
    return await now_ms(client) > moment_ms


# What is shared


async def test_an_answer_serves_everybody_with_the_age_of_the_question(
    client: Client, account_id: AccountId, keys: AccountKeys, reader: Reader
) -> None:
    desk = Desk(client, account_id)
    await desk.open()
    await desk.commit([snapshot()], verified=True)
    await desk.beat()
    venue, asker = Exchange(), reader()
    venue.may_answer.clear()
    before = await now_ms(client)
    fetching = asyncio.create_task(asker.fetch(await turn(asker), venue))
    await venue.asked.wait()
    asked_before = await now_ms(client)
    await eventually(lambda: _passed(client, asked_before + 20))
    await desk.beat("recovering")
    venue.may_answer.set()
    assert await fetching == WHOLE

    for credentials in ("key-1", "key-2", ""):
        answer = await reader(credentials).begin("b", LONG_MS)
        assert isinstance(answer, RestAnswer)
        assert before <= answer.taken_at_ms <= asked_before
        assert answer.age_ms >= 20
        assert (answer.seq, answer.epoch, answer.state) == (desk.writer.seq, desk.writer.epoch, "live")
        account = new_account()
        account.apply((WHOLE,), "rest")
        hashes = {name: entities(fields) if name != "account" else fields for name, fields in answer.hashes.items()}
        assert hashes == expected_state(account)


async def test_nothing_of_the_publishers_is_touched(client: Client, account_id: AccountId, reader: Reader) -> None:
    desk = Desk(client, account_id)
    await desk.open()
    await desk.commit([snapshot()], verified=True)
    stored = Stored(client, account_id)
    before = await stored.everything()
    asker = reader()
    await asker.fetch(await turn(asker), Exchange())
    asker = reader("key-2")
    await asker.fetch(await turn(asker), Exchange(VenueUnreachable("binance", "GET /x", "no answer")))
    await reader("").begin("c", -1)
    assert await stored.everything() == before


async def test_an_account_without_a_publisher_has_no_seq(reader: Reader) -> None:
    asker = reader()
    await asker.fetch(await turn(asker), Exchange())
    answer = await asker.begin("b", LONG_MS)
    assert isinstance(answer, RestAnswer)
    assert (answer.seq, answer.epoch, answer.state) == (0, 0, "")


async def test_an_answer_that_is_too_old_or_from_before_the_call_is_none(client: Client, reader: Reader) -> None:
    asker = reader()
    await asker.fetch(await turn(asker), Exchange())
    answer = await asker.begin("b", LONG_MS)
    assert isinstance(answer, RestAnswer)
    assert isinstance(await asker.begin("b", 0, not_before_ms=answer.taken_at_ms), RestAnswer)
    await eventually(lambda: _passed(client, answer.taken_at_ms))
    step = await asker.begin("c", 0)
    assert isinstance(step, Fetch)
    assert step.taken_at_ms == answer.taken_at_ms
    await asker.give_up(step)
    step = await asker.begin("d", LONG_MS, not_before_ms=answer.taken_at_ms + 1)
    assert isinstance(step, Fetch)


async def test_an_answer_from_before_the_clock_was_set_back_is_none_and_is_replaced(
    client: Client, keys: AccountKeys, reader: Reader
) -> None:
    asker = reader()
    await asker.fetch(await turn(asker), Exchange())
    future = str(await now_ms(client) + 3_600_000)
    await client.redis.hset(keys.refresh, mapping={"takenAtMs": future})
    step = await turn(asker, "b")
    assert step.taken_at_ms is None
    await asker.fetch(step, Exchange())
    assert isinstance(await asker.begin("c", LONG_MS), RestAnswer)


async def test_an_answer_of_another_contract_is_none(client: Client, keys: AccountKeys, reader: Reader) -> None:
    asker = reader()
    await asker.fetch(await turn(asker), Exchange())
    await client.redis.hset(keys.refresh, "contract", "2")
    assert isinstance(await asker.begin("b", LONG_MS), Fetch)


async def test_an_answer_that_cannot_be_read_is_no_answer_of_this_contract(
    client: Client, keys: AccountKeys, reader: Reader
) -> None:
    asker = reader()
    await asker.fetch(await turn(asker), Exchange())
    for spoilt in ({"positions": "nonsense"}, {"seq": "nonsense"}):
        await client.redis.hset(keys.refresh, mapping=spoilt)
        with pytest.raises(ContractMismatch, match="refresh is not as contract 1 has it"):
            await asker.begin("b", LONG_MS)
    await client.redis.hdel(keys.refresh, "seq")
    with pytest.raises(ContractMismatch):
        await asker.begin("b", LONG_MS)


async def test_what_one_process_spent_is_known_to_the_next(reader: Reader) -> None:
    first, asker = Exchange(), reader()
    first.used = "731 of 2400"
    await asker.fetch(await turn(asker), first)
    assert first.learned == [("", 0, VENUE_NOW_MS)]
    second = Exchange(VenueUnreachable("binance", "GET /x", "no answer"))
    second.used = "832"
    step = await asker.begin("b", -1)
    assert isinstance(step, Fetch)
    await asker.fetch(step, second)
    assert second.learned == [("731 of 2400", VENUE_NOW_MS, VENUE_NOW_MS)]


# Waiting

ONLY_NEWS_WAKE = {"look_again_ms": 1900, "lock_ms": 3_600_000}


async def test_news_wake_who_waits(client: Client, keys: AccountKeys, reader: Reader) -> None:
    asker = reader(**ONLY_NEWS_WAKE)
    mine = await turn(asker)
    step = await reader(**ONLY_NEWS_WAKE).begin("b", LONG_MS)
    assert isinstance(step, Wait)
    waiting = [asyncio.create_task(reader(**ONLY_NEWS_WAKE).wait(step)) for _ in range(5)]
    await eventually(lambda: _blocked(client, 5))
    await asker.fetch(mine, Exchange())
    async with asyncio.timeout(1.5):
        await asyncio.gather(*waiting)


async def _blocked(client: Client, count: int) -> bool:
    return int((await client.redis.info("clients"))["blocked_clients"]) >= count


@pytest.mark.parametrize("said", [WHOLE, VenueUnreachable("binance", "GET /x", "no answer")], ids=["answer", "failure"])
async def test_news_that_came_before_the_wait_are_not_missed(reader: Reader, said: Snapshot | StatecastError) -> None:
    asker = reader(**ONLY_NEWS_WAKE)
    mine = await turn(asker)
    step = await reader(**ONLY_NEWS_WAKE).begin("b", LONG_MS)
    assert isinstance(step, Wait)
    await asker.fetch(mine, Exchange(said))
    async with asyncio.timeout(1.5):
        await reader(**ONLY_NEWS_WAKE).wait(step)


# Failures

FAILURES: dict[str, tuple[Exception, str]] = {
    "the venue does not answer": (VenueUnreachable("binance", "GET /x", "no answer"), "binance: GET /x: no answer"),
    "the answer makes no sense": (FrameError("GET /x", "body", "is not a list"), "frame GET /x: body: is not a list"),
    "the venue says no": (Rejected("binance", "GET /x", "HTTP 400", -1100), "binance: GET /x: HTTP 400"),
    "an amount is absurd": (OverflowError(), "an amount of the venue's answer is beyond reckoning"),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_after_a_failure_nobody_asks_for_a_while_and_everybody_knows_why(
    client: Client, keys: AccountKeys, reader: Reader, case: str
) -> None:
    error, reason = FAILURES[case]
    asker = reader()
    assert await asker.fetch(await turn(asker), Exchange(error)) is None
    assert await _gone(client, keys.refresh_lock)
    for credentials in ("key-1", "key-2", ""):
        step = await reader(credentials).begin("b", LONG_MS)
        assert isinstance(step, Paused)
        assert step.reason == reason
        assert step.now_ms < step.retry_at_ms <= step.now_ms + 2000


async def test_pauses_double_up_to_half_a_minute_and_start_over_after_an_answer(
    client: Client, keys: AccountKeys, reader: Reader
) -> None:
    asker, failing = reader(), Exchange(VenueUnreachable("binance", "GET /x", "no answer"))
    pauses = []
    for _ in range(7):
        await asker.fetch(await turn(asker), failing)
        failed, retry = await client.redis.hmget(keys.refresh, ["failedAtMs", "retryAtMs"])
        pauses.append(int(retry) - int(failed))
        await client.redis.hset(keys.refresh, "retryAtMs", failed)
    assert pauses == [2000, 4000, 8000, 16000, 30000, 30000, 30000]
    await asker.fetch(await turn(asker), Exchange())
    step = await asker.begin("b", -1)
    assert isinstance(step, Fetch), "an answer ends the pause"
    await asker.fetch(step, failing)
    failed, retry = await client.redis.hmget(keys.refresh, ["failedAtMs", "retryAtMs"])
    assert int(retry) - int(failed) == 2000


async def test_an_answer_that_is_young_enough_is_served_during_a_pause(reader: Reader) -> None:
    asker = reader()
    await asker.fetch(await turn(asker), Exchange())
    step = await asker.begin("b", -1)
    assert isinstance(step, Fetch)
    await asker.fetch(step, Exchange(VenueUnreachable("binance", "GET /x", "no answer")))
    assert isinstance(await asker.begin("c", LONG_MS), RestAnswer)
    assert isinstance(await asker.begin("c", -1), Paused)


async def test_the_venues_wish_for_silence_is_everybodys(client: Client, keys: AccountKeys, reader: Reader) -> None:
    asker = reader()
    banned = RateLimited("binance", "GET /x", "HTTP 418", VENUE_NOW_MS + 120_000)
    await asker.fetch(await turn(asker), Exchange(banned))
    failed, retry = await client.redis.hmget(keys.refresh, ["failedAtMs", "retryAtMs"])
    assert int(retry) - int(failed) == 120_000
    step = await reader("key-2").begin("b", LONG_MS)
    assert isinstance(step, Paused)
    assert step.reason == "binance: GET /x: HTTP 418"


async def test_a_pause_from_before_the_clock_was_set_back_does_not_last(
    client: Client, keys: AccountKeys, reader: Reader
) -> None:
    asker = reader()
    await asker.fetch(await turn(asker), Exchange(VenueUnreachable("binance", "GET /x", "no answer")))
    later = await now_ms(client) + 3_600_000
    await client.redis.hset(keys.refresh, mapping={"failedAtMs": str(later), "retryAtMs": str(later + 2000)})
    await turn(asker, "b")


async def test_refused_credentials_are_refused_alone(client: Client, keys: AccountKeys, reader: Reader) -> None:
    asker = reader("wrong")
    refused = AuthFailed("binance", "GET /x", "HTTP 401, code -2015: Invalid API-key", -2015)
    await asker.fetch(await turn(asker), Exchange(refused))
    step = await reader("wrong").begin("b", LONG_MS)
    assert isinstance(step, NobodyCanFetch)
    assert step.credentials_reason == "binance: GET /x: HTTP 401, code -2015: Invalid API-key"

    right = reader("right")
    await right.fetch(await turn(right, "c"), Exchange())
    assert isinstance(await reader("wrong").begin("d", LONG_MS), RestAnswer), "others' answers serve it as well"
    assert isinstance(await reader("wrong").begin("d", -1), NobodyCanFetch)
    long_ago = await now_ms(client) - refresh.CREDENTIALS_PAUSE_MS
    await client.redis.hset(keys.refresh, "refused.wrong", f"{long_ago} for a reason")
    mended = await reader("wrong").begin("e", -1)
    assert isinstance(mended, Fetch), "after a minute it may try again"
    await reader("wrong").fetch(mended, Exchange())
    assert not await client.redis.hexists(keys.refresh, "refused.wrong")


async def test_a_venue_that_does_not_come_to_an_end_has_failed(
    client: Client, keys: AccountKeys, reader: Reader
) -> None:
    venue, asker = Exchange(), reader(fetch_within_s=0.05)
    venue.may_answer.clear()
    assert await asker.fetch(await turn(asker), venue) is None
    step = await asker.begin("b", LONG_MS)
    assert isinstance(step, Paused)
    assert step.reason == "the venue has not answered everything within 0 s"
    assert await _gone(client, keys.refresh_lock)


async def test_a_turn_that_is_given_up_says_nothing_about_the_venue(
    client: Client, keys: AccountKeys, reader: Reader
) -> None:
    asker = reader()
    await asker.give_up(await turn(asker))
    assert not await client.redis.exists(keys.refresh)
    await turn(asker, "b")


async def test_a_redis_that_goes_away_during_a_fetch_is_told_to_who_fetches(
    own_redis: EmbeddedServer, account_id: AccountId
) -> None:
    async with connect(own_redis.url, client_name="reader") as client:
        asker = SharedRefresh(
            client, account_id, SystemClock(), credentials="key-1", ask_publisher=True, timing=Timing(renew_s=0.01)
        )
        venue = Exchange()
        venue.may_answer.clear()
        fetching = asyncio.create_task(asker.fetch(await turn(asker), venue))
        await venue.asked.wait()
        own_redis.kill()
        with suppress(StoreUnreachable):
            await asker.begin("b", LONG_MS)
        await asyncio.sleep(0.05)
        assert not fetching.done(), "the venue is asked already: its answer is worth waiting for"
        venue.may_answer.set()
        with pytest.raises(StoreUnreachable):
            await fetching


# The publisher


async def test_without_credentials_a_living_publisher_is_asked_once_for_all(
    client: Client, account_id: AccountId, keys: AccountKeys, reader: Reader
) -> None:
    desk = Desk(client, account_id)
    await desk.open()
    for token in ("a", "b", "c"):
        step = await reader("").begin(token, LONG_MS)
        assert isinstance(step, Wait)
        assert step.holder == ""
    entries = await client.redis.xrange(keys.refresh_requests)
    assert [fields for _, fields in entries] == [{"by": "a"}]


async def test_a_request_that_nobody_heard_is_repeated(
    client: Client, account_id: AccountId, keys: AccountKeys, reader: Reader
) -> None:
    await Desk(client, account_id).open()
    before = await now_ms(client) - refresh.REQUEST_GAP_MS
    await client.redis.xadd(keys.refresh_requests, {"by": "a"}, id=f"{before}-0")
    await reader("").begin("b", LONG_MS)
    assert await client.redis.xlen(keys.refresh_requests) == 2


SILENT = {
    "no publisher was ever there": None,
    "it was killed": {"heartbeatAtMs": "1793000000000"},
    "it has stopped": {"state": "stopped", "reason": "the publisher was stopped"},
    "it is refused": {"state": "refused", "reason": "check STATECAST_API_KEY"},
}


@pytest.mark.parametrize("case", SILENT)
async def test_a_publisher_that_cannot_ask_the_venue_is_not_asked(
    client: Client, account_id: AccountId, keys: AccountKeys, reader: Reader, case: str
) -> None:
    said = SILENT[case]
    if said is not None:
        await Desk(client, account_id).open()
        await client.redis.hset(keys.status, mapping=said)
    step = await reader("").begin("a", LONG_MS)
    assert isinstance(step, NobodyCanFetch)
    assert step.credentials_reason == ""
    status = await client.redis.hgetall(keys.status)
    assert (step.state, step.state_reason) == (status.get("state", ""), status.get("reason", ""))
    assert step.heartbeat_at_ms == (int(status["heartbeatAtMs"]) if status else None)
    assert not await client.redis.exists(keys.refresh_requests)


async def test_a_publisher_does_not_ask_itself(client: Client, account_id: AccountId, reader: Reader) -> None:
    await Desk(client, account_id).open()
    assert isinstance(await reader("", ask_publisher=False).begin("a", LONG_MS), NobodyCanFetch)


async def test_the_publisher_hears_of_requests_that_came_since_it_listens(
    client: Client, account_id: AccountId, keys: AccountKeys, reader: Reader
) -> None:
    await Desk(client, account_id, "publisher-1").open()
    requests = RefreshRequests(client, account_id, "publisher-1", block_ms=50)
    await reader("").begin("a", LONG_MS)
    assert await requests.next() is None, "who waits since before asks again"
    late = await client.redis.xadd(keys.refresh_requests, {"by": "b"})
    assert await requests.next() == int(str(late).partition("-")[0])
    assert await requests.next() is None


async def test_only_the_publisher_with_the_lease_answers(
    client: Client, account_id: AccountId, keys: AccountKeys
) -> None:
    await Desk(client, account_id, "publisher-1").open()
    standby = RefreshRequests(client, account_id, "publisher-2", block_ms=50)
    assert await standby.next() is None
    await client.redis.xadd(keys.refresh_requests, {"by": "b"})
    assert await standby.next() is None
