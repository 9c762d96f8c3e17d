"""The async classes have tests of their own; here is what a program without an event loop sees."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from support.changes import event, position, rest_order, rest_position, snapshot, wallet
from support.written import Desk

import consumers.account
import consumers.mirror
import consumers.order_events
from consumers import blocking
from statecast.errors import ConfigError, NeverPublished, StaleState, StoreUnreachable
from statecast.store.client import Client
from statecast.store.keys import AccountId, AccountKeys

T = TypeVar("T")
ORDER_EVENTS = consumers.order_events.OrderEvents
DEADLINE_S = 40.0


class PlainDesk:
    """A publisher for tests that are not async; it works in a thread of its own."""

    def __init__(self, portal: BlockingPortal, url: str, account_id: AccountId) -> None:
        self._portal = portal
        self._client = Client(url, client_name="desk")
        self.desk = Desk(self._client, account_id, lease_ttl_ms=120_000)
        self.keys = AccountKeys(account_id)
        self.do(self.desk.open)
        self.do(self._first)

    def do(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return self._portal.call(call)

    async def _first(self) -> None:
        await self.desk.commit([snapshot(positions=[rest_position(-9, "0.5")], orders=[rest_order(-9)])], verified=True)
        await self.desk.beat()

    def commit(self, *frames: Any) -> None:
        self.do(lambda: self.desk.commit(*frames, verified=True))

    def pending(self, group: str) -> int:
        async def ask() -> int:
            return int((await self._client.redis.xpending(self.keys.order_events, group))["pending"])

        return self.do(ask)

    def close(self) -> None:
        self.do(self._client.aclose)


@pytest.fixture
def account_id(account_name: str) -> AccountId:
    return AccountId("binance", account_name)


@pytest.fixture
def desk(redis_url: str, account_id: AccountId) -> Iterator[PlainDesk]:
    with start_blocking_portal() as portal:
        desk = PlainDesk(portal, redis_url, account_id)
        yield desk
        desk.close()


def soon(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    waiting = threading.Event()
    for _ in range(int(DEADLINE_S / 0.005)):
        if condition():
            return
        waiting.wait(0.005)
    raise AssertionError("waited in vain")


def reached(mirror: blocking.AccountMirror, desk: PlainDesk) -> None:
    soon(lambda: mirror.snapshot().seq == desk.desk.writer.seq)


# The same names


@pytest.mark.parametrize(
    ("plain", "core"),
    [
        (blocking.AccountReader, consumers.account.AccountReader),
        (blocking.AccountMirror, consumers.mirror.AccountMirror),
        (blocking.OrderEvents, ORDER_EVENTS),
    ],
)
def test_nothing_of_the_async_class_is_missing(plain: type[Any], core: type[Any]) -> None:
    def public(kind: type[Any]) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    made = public(core) | vars(core("main", "redis://127.0.0.1", *["bot"] * (core is ORDER_EVENTS))).keys()
    assert public(plain) - {"close"} == {name for name in made if not name.startswith("_")} - {"aclose"}
    assert inspect.signature(plain) == inspect.signature(core)
    for name in public(core) - {"aclose", "from_env"}:
        theirs, mine = getattr(core, name), getattr(plain, name)
        if callable(theirs) and not name.startswith("on_") and name != "run":
            assert inspect.signature(mine) == inspect.signature(theirs), name
            assert not inspect.iscoroutinefunction(mine)


def test_arguments_that_cannot_work_are_refused_at_once(redis_url: str) -> None:
    with pytest.raises(ConfigError, match="max_age_s"):
        blocking.AccountReader("main", redis_url, max_age_s=0)
    with pytest.raises(ConfigError, match="STATECAST_REDIS_URL"):
        blocking.AccountMirror("main", "http://127.0.0.1")
    with pytest.raises(ConfigError, match="start"):
        blocking.OrderEvents("main", redis_url, "bot", start="middle")  # type: ignore[arg-type]


def test_an_error_while_connecting_is_raised_and_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(StoreUnreachable), blocking.AccountMirror("main", "redis://127.0.0.1:1/0"):
        pass
    soon(lambda: threading.active_count() == before)


@pytest.mark.parametrize("kind", [blocking.AccountReader, blocking.AccountMirror])
def test_outside_of_its_block_it_says_how_to_use_it(redis_url: str, account_id: AccountId, kind: Any) -> None:
    made = kind(account_id, redis_url)
    with pytest.raises((RuntimeError, StaleState), match="use it as"):
        made.totals()


# Reader


def test_a_reader_answers_as_the_async_one_does(redis_url: str, desk: PlainDesk, account_id: AccountId) -> None:
    with blocking.AccountReader(account_id, redis_url) as reader:
        assert reader.position("BTCUSDT").position_amt == Decimal("0.5")
        assert reader.totals(max_age_s=5).total_wallet_balance == Decimal(1000)
        assert reader.balances()["USDT"].wallet_balance == Decimal(1000)
        assert [row.order_id for row in reader.open_orders()] == ["1001"]
        desk.commit([position(10, "0.6")])
        assert reader.snapshot().position("BTCUSDT") == reader.positions()[0]
        assert reader.position("BTCUSDT").position_amt == Decimal("0.6")


def test_a_reader_serves_many_threads(redis_url: str, desk: PlainDesk, account_id: AccountId) -> None:
    with blocking.AccountReader(account_id, redis_url) as reader:
        found: list[Decimal] = []
        threads = [
            threading.Thread(target=lambda: found.append(reader.position("BTCUSDT").position_amt)) for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [Decimal("0.5")] * 20


def test_from_the_publishers_settings(
    redis_url: str, desk: PlainDesk, account_name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STATECAST_REDIS_URL", redis_url)
    monkeypatch.setenv("STATECAST_ACCOUNT", account_name)
    with blocking.AccountReader.from_env(max_age_s=7) as reader, blocking.AccountMirror.from_env() as mirror:
        assert reader.totals() == mirror.totals()
    with blocking.OrderEvents.from_env(group="bot", start="beginning") as events:
        desk.commit([event(10, "X", "CANCELED")])
        assert next(events).order_id == "1001"


# Mirror


def test_a_mirror_reads_in_the_callers_thread(redis_url: str, desk: PlainDesk, account_id: AccountId) -> None:
    clock = ThreadNotingClock()
    with blocking.AccountMirror(account_id, redis_url, clock=clock) as mirror:
        mirror.totals()
        clock.threads.clear()
        mirror.totals()
        assert threading.get_ident() in clock.threads
        desk.commit([position(10, "0.6"), wallet(10, "990")], [event(10, "X", "CANCELED")])
        reached(mirror, desk)
        assert mirror.position("BTCUSDT").position_amt == Decimal("0.6")
        assert mirror.positions()["BTCUSDT:BOTH"] == mirror.snapshot().position("BTCUSDT")
        assert mirror.balances()["USDT"].wallet_balance == Decimal(990)
        assert len(mirror.open_orders()) == 0
        assert mirror.rejoins == ()


class ThreadNotingClock:
    def __init__(self) -> None:
        self.threads: list[int] = []

    def now_ms(self) -> int:
        return 0

    def monotonic(self) -> float:
        self.threads.append(threading.get_ident())
        return 1_000.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def test_an_account_that_was_never_published_is_unknown(redis_url: str, account_id: AccountId) -> None:
    with blocking.AccountMirror(account_id, redis_url) as mirror, pytest.raises(NeverPublished):
        mirror.position("BTCUSDT")


def test_a_change_is_waited_for(redis_url: str, desk: PlainDesk, account_id: AccountId) -> None:
    with blocking.AccountMirror(account_id, redis_url) as mirror:
        with pytest.raises(TimeoutError):
            mirror.changed(timeout_s=0.01)
        heard: list[int] = []
        waiting = threading.Thread(target=lambda: heard.append(mirror.changed("positions", "BTCUSDT:BOTH", since=1)))
        waiting.start()
        desk.commit([position(10, "0.6")])
        waiting.join(DEADLINE_S)
        assert heard == [2]


def test_a_wait_in_another_thread_ends_when_the_mirror_is_closed(
    redis_url: str, desk: PlainDesk, account_id: AccountId
) -> None:
    with blocking.AccountMirror(account_id, redis_url) as mirror:
        ended: Future[int] = Future()

        def wait() -> None:
            try:
                ended.set_result(mirror.changed())
            except StaleState as error:
                ended.set_exception(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        mirror.close()
        with pytest.raises(StaleState, match="the mirror is closed"):
            ended.result(DEADLINE_S)
        waiting.join(DEADLINE_S)


def test_a_callback_that_blocks_does_not_hold_up_the_copy(
    redis_url: str, desk: PlainDesk, account_id: AccountId
) -> None:
    told: list[tuple[Decimal, Decimal]] = []
    leave = threading.Event()

    def slow(before: Any, after: Any) -> None:
        leave.wait(DEADLINE_S)
        told.append((before.position_amt, after.position_amt))

    with blocking.AccountMirror(account_id, redis_url) as mirror:
        mirror.on_position(slow, "BTCUSDT")
        desk.commit([position(10, "0.6")], [position(20, "0.7")])
        reached(mirror, desk)
        assert (mirror.position("BTCUSDT").position_amt, told) == (Decimal("0.7"), [])
        leave.set()
        soon(lambda: len(told) == 2)
    assert told == [(Decimal("0.5"), Decimal("0.6")), (Decimal("0.6"), Decimal("0.7"))]


def test_all_callbacks_are_called(redis_url: str, desk: PlainDesk, account_id: AccountId) -> None:
    told: set[str] = set()
    with blocking.AccountMirror(account_id, redis_url) as mirror:
        mirror.on_totals(lambda before, after: told.add("totals"))
        mirror.on_order(lambda before, after: told.add("order"))
        mirror.on_rejoin(lambda rejoin: told.add(rejoin.reason))
        desk.commit([wallet(10, "990"), event(10, "X", "CANCELED")])
        soon(lambda: told == {"totals", "order"})
        desk.do(lambda: desk.desk.writer.release("stopped", ""))
        desk.do(lambda: Desk(desk._client, account_id, "publisher-3").open())
        soon(lambda: len(told) == 3)


def test_a_callback_that_hangs_does_not_keep_the_program(
    redis_url: str, desk: PlainDesk, account_id: AccountId
) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hangs(before: Any, after: Any) -> None:
        entered.set()
        leave.wait(DEADLINE_S)

    with blocking.AccountMirror(account_id, redis_url) as mirror:
        mirror.on_position(hangs)
        desk.commit([position(10, "0.6")])
        assert entered.wait(DEADLINE_S)
    assert not leave.is_set()
    leave.set()


# Order events

EVENTS = [[event(10 * at, "NEW", order_id=f"20{at}")] for at in range(1, 6)]


def test_events_are_iterated_and_acknowledged(redis_url: str, desk: PlainDesk, account_id: AccountId) -> None:
    desk.commit(*EVENTS)
    with blocking.OrderEvents(account_id, redis_url, "bot", start="beginning") as events:
        found = []
        for delivered in events:
            found.append(delivered.order_id)
            assert delivered.event_type == "NEW"
            assert (delivered.attempt, delivered.redelivered) == (1, False)
            delivered.ack()
            if len(found) == 5:
                break
        assert found == ["201", "202", "203", "204", "205"]
        assert desk.pending("bot") == 0
        assert events.holds == (1,)
        assert list(events.gaps) == []


def test_a_failed_event_comes_again_before_later_ones_and_a_rejected_one_does_not(
    redis_url: str, desk: PlainDesk, account_id: AccountId
) -> None:
    desk.commit(*EVENTS[:2])
    with blocking.OrderEvents(account_id, redis_url, "bot", start="beginning", backoff_s=0.01) as events:
        first = next(events)
        first.retry("not now")
        again = next(events)
        assert (again.order_id, again.attempt, again.redelivered) == (first.order_id, 2, True)
        again.reject("never")
        second = next(events)
        assert second.order_id == "202"
        second.ack()
        assert desk.pending("bot") == 0


def test_a_handler_runs_in_the_callers_thread_and_may_block_longer_than_the_lease(
    redis_url: str, desk: PlainDesk, account_id: AccountId
) -> None:
    """Its lease is renewed meanwhile: nobody else gets the event."""
    desk.commit(*EVENTS[:3])
    handled: list[str] = []
    with blocking.OrderEvents(account_id, redis_url, "bot", start="beginning", lease_s=0.5) as events:

        def handle(delivered: blocking.OrderEvent) -> None:
            assert threading.get_ident() == caller
            handled.append(delivered.order_id)
            if len(handled) == 1:
                threading.Event().wait(1.5)
            assert events.holds == (1,)
            if len(handled) == 3:
                delivered.ack()
                raise Enough

        caller = threading.get_ident()
        with pytest.raises(Enough):
            events.run(handle)
    assert handled == ["201", "202", "203"]
    assert desk.pending("bot") == 0


class Enough(BaseException):
    """As Ctrl-C does, it ends the run."""


def test_a_handler_that_raises_is_tried_again_and_then_given_up(
    redis_url: str, desk: PlainDesk, account_id: AccountId
) -> None:
    desk.commit(*EVENTS[:2])
    handled: list[tuple[str, int]] = []

    def handle(delivered: blocking.OrderEvent) -> None:
        handled.append((delivered.order_id, delivered.attempt))
        if delivered.order_id == "201":
            raise ValueError("poison")
        delivered.ack()
        raise Enough

    with (
        blocking.OrderEvents(account_id, redis_url, "bot", start="beginning", max_attempts=2, backoff_s=0.01) as events,
        pytest.raises(Enough),
    ):
        events.run(handle)
    assert handled == [("201", 1), ("201", 2), ("202", 1)]
    assert desk.pending("bot") == 0


def test_a_run_ends_when_the_events_are_closed_elsewhere(
    redis_url: str, desk: PlainDesk, account_id: AccountId
) -> None:
    desk.commit(*EVENTS[:1])
    with blocking.OrderEvents(account_id, redis_url, "bot", start="beginning") as events:
        handled = threading.Event()
        closing = threading.Thread(target=lambda: handled.wait(DEADLINE_S) and soon_closed(events, desk))
        closing.start()
        events.run(lambda delivered: handled.set())
        closing.join(DEADLINE_S)
        assert handled.is_set()
        assert list(events) == []
    assert desk.pending("bot") == 0


def soon_closed(events: blocking.OrderEvents, desk: PlainDesk) -> None:
    soon(lambda: desk.pending("bot") == 0)
    events.close()


def test_a_gap_is_told_in_another_thread(redis_url: str, desk: PlainDesk, account_id: AccountId) -> None:
    told: list[tuple[str, bool]] = []

    def on_gap(gap: Any) -> None:
        told.append((gap.kind, threading.get_ident() == caller))

    caller = threading.get_ident()
    desk.commit(*EVENTS[:1])
    with blocking.OrderEvents(account_id, redis_url, "bot", start="beginning") as events:
        next(events).ack()
    desk.commit(*EVENTS[1:])
    desk.do(lambda: desk._client.redis.xtrim(desk.keys.order_events, maxlen=1, approximate=False))
    with blocking.OrderEvents(account_id, redis_url, "bot", on_gap=on_gap) as events:
        assert next(events).order_id == "205"
        assert told == [("trimmed", False)]
        assert [gap.kind for gap in events.gaps] == ["trimmed"]


# Ctrl-C


@pytest.mark.timeout(30)
def test_an_event_that_comes_after_ctrl_c_is_not_lost_with_the_wait(
    redis_url: str, desk: PlainDesk, account_id: AccountId
) -> None:
    with blocking.OrderEvents(account_id, redis_url, "bot", start="beginning") as events:
        soon(lambda: events.holds == (1,))
        main = threading.main_thread().ident
        assert main is not None
        interrupting = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            next(events)
        desk.commit(*EVENTS[:1])
        assert next(events).order_id == "201"


PROGRAM = """
import sys
from consumers import blocking

with blocking.{kind}({account!r}, {url!r}{arguments}) as it:
    try:
        print("ready", flush=True)
        {waits}
    finally:
        print("leaving", flush=True)
"""
WAITS = {
    "a change": ("AccountMirror", "", "it.changed()"),
    "an event": ("OrderEvents", ", group='bot'", "next(it)"),
    "events for a handler": ("OrderEvents", ", group='bot'", "it.run(print)"),
}


@pytest.mark.parametrize("what", WAITS)
def test_ctrl_c_ends_what_waits_for(redis_url: str, desk: PlainDesk, account_id: AccountId, what: str) -> None:
    kind, arguments, waits = WAITS[what]
    text = PROGRAM.format(kind=kind, account=str(account_id), url=redis_url, arguments=arguments, waits=waits)
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", text],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGINT)
        out, errors = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert out == "leaving\n"
    assert process.returncode == -signal.SIGINT
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    assert errors.count("Traceback") == 1, errors
    assert "Warning" not in errors, errors
