"""A world in which things fail: an exchange that trades, publishers that follow it through lines which a test may cut,
a Redis of its own, and an observer that looks at it all the time.

Publishers are real processes, or run in the test's own loop where a process would add nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, cast

from structlog.testing import capture_logs
from support.link import Link, linked
from support.observer import Observer, RecordingExchange, Sample
from support.programs import Program, program
from support.world import DEADLINE_S, FastClock, World, account_values, new_server

from publisher import config
from publisher.service import publishing, system_chance
from publisher.tuning import Tuning
from statecast import settings
from statecast.clock import Clock, SystemClock
from statecast.embedded.server import EmbeddedServer
from statecast.simulator.control import burst
from statecast.simulator.ledger import Ledger
from statecast.store.client import connect
from statecast.store.keys import AccountId
from statecast.venues.registry import SharedLimits

RECONCILE_S = 2.0
NOISE_S = 3.0
"""What a busy machine may add to any delay before it counts as a broken promise."""

STEP_PAUSE_S = 0.02
"""Between two steps of the random trader: some 30 order events a second."""

LogEntry = Mapping[str, Any]


class DurableRedis(EmbeddedServer):
    """A server with an append-only file, as `docs/redis.md` recommends it, that may be frozen and lose its last words.

    `DEBUG` is allowed, which is how an operator makes a server sleep.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory=directory)
        self._files = directory

    def _settings(self, port: int) -> list[str]:
        return [*super()._settings(port), "--appendfsync", "everysec", "--enable-debug-command", "yes"]

    def written(self) -> int:
        """Bytes in the append-only file so far."""
        return self._youngest_file().stat().st_size

    def lose_after(self, size: int) -> None:
        """While it is down: forget what was written after the file had `size` bytes, as a machine that lost power."""
        with self._youngest_file().open("r+b") as file:
            file.truncate(size)

    def freeze(self, *, frozen: bool = True) -> None:
        """Stop the server's process where it stands, or let it go on."""
        os.kill(self.pid, signal.SIGSTOP if frozen else signal.SIGCONT)

    def _youngest_file(self) -> Path:
        return max(self._files.glob("appendonlydir/*.incr.aof"))


@dataclass
class Publisher:
    """A publisher in a process of its own, or in the test's (`process` is None then)."""

    process: Program | None
    link: Link
    """Its line to Redis."""
    entries: list[MutableMapping[str, Any]] = field(default_factory=list)

    @property
    def log(self) -> list[LogEntry]:
        """Everything that it has logged."""
        if self.process is None:
            return list(self.entries)
        found: list[LogEntry] = []
        for line in self.process.lines:
            with suppress(json.JSONDecodeError):
                found.append(json.loads(line))
        return found

    def logged(self, event: str, words: str = "") -> bool:
        """Whether it has logged this event, with these words in its line."""
        return any(
            entry.get("event") == event and words in json.dumps(entry, default=str, ensure_ascii=False)
            for entry in self.log
        )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.process.pid

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.process.send_signal(number)

    async def ends(self) -> int:
        """Wait for the end of its process; the exit code."""
        assert self.process is not None
        return await self.process.ends()


@dataclass
class Arena(World):
    """Everything of one scenario. Times are the monotonic clock's, in seconds."""

    redis: EmbeddedServer = field(default_factory=EmbeddedServer)
    to_venue: Link = field(default_factory=lambda: Link("", 0))
    observer: Observer = field(default_factory=lambda: cast("Observer", None))
    publishers: list[Publisher] = field(default_factory=list)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    """What a scenario enters here lives as long as the arena."""
    start: Callable[[], Any] = field(default=lambda: None)
    """Start one more publisher; awaitable."""
    began_at: float = 0.0
    over_at: float = 0.0
    looking: asyncio.Task[None] | None = None
    gaps: set[str] = field(default_factory=set)
    """What the log is to say that it misses, and nothing else, by `gap_name`."""
    some_too_late: bool = False
    """Whether amendments may come behind what is later by the venue's clock: an entry of their order says so."""
    untold: set[str] = field(default_factory=set)
    """Orders that are not compared: those of before the log, and those that a scenario looks at itself."""
    step_pause_s: float = STEP_PAUSE_S
    _trading: asyncio.Task[None] | None = None

    @property
    def link(self) -> Link:
        """The first publisher's line to Redis."""
        return self.publishers[0].link

    def fault(self, name: str, **args: object) -> None:
        """Switch on a fault of the simulated exchange."""
        self.exchange.fault(name, args, self.now_ms())

    async def command(self, *words: str | int) -> object:
        """What an operator says to Redis."""
        return await cast("Any", self.client.redis).execute_command(*words)

    def burst(self, events: int, kind: str = "cancels") -> None:
        """So many order events at once, see `statecast.simulator.control.burst`."""
        burst(self.exchange, events // 2, kind, self.now_ms())

    async def flood(self, events: int) -> None:
        """So many amendments in one go: what no history has of an order that is over."""
        for _ in range(0, events, 1000):
            self.burst(1000, "amendments")
            await asyncio.sleep(0)

    # Trading

    def trade_on(self) -> None:
        """Trade in the background from now on."""
        self._trading = asyncio.create_task(self._trade())

    async def trade_off(self) -> None:
        assert self._trading is not None
        if self._trading.done():
            self._trading.result()
        self._trading.cancel()
        await asyncio.gather(self._trading, return_exceptions=True)
        self._trading = None

    async def _trade(self) -> None:
        while True:
            self.trade(1)
            self.exchange.publish_marks(self.now_ms())
            await asyncio.sleep(self.step_pause_s)

    async def traded(self, events: int) -> None:
        """Wait until so many more order events have happened at the venue."""
        wanted = self.ledger.order_events_seen + events
        await self.until(lambda: self.ledger.order_events_seen >= wanted, f"{events} order events")

    # What the observer has seen

    def begins(self) -> None:
        """The failure begins now."""
        self.began_at = time.monotonic()

    def over(self) -> None:
        """Its cause is gone now; until then nothing could have healed it."""
        self.over_at = time.monotonic()

    async def noticed(self) -> None:
        """Wait until readers see the failure: not live, too old, or Redis does not answer."""
        await self.seen(lambda sample: not sample.live, "a reader that is told of the failure")

    async def vouched(self) -> Sample:
        """Wait until a publisher has verified a moment after this one, in the state `live`."""
        since = time.monotonic()
        now_ms = SystemClock().now_ms()
        return await self.seen(
            lambda sample: sample.at > since and sample.live and sample.verified_at_ms >= now_ms, "live"
        )

    async def taken_over(self, former: str) -> Sample:
        """Wait until another publisher than `former` writes; the first sample of it."""
        return await self.seen(lambda sample: sample.publisher_id not in ("", former), "a takeover")

    async def is_standby(self) -> None:
        """Wait until the publisher that was started last is a standby."""
        await self.until(lambda: self.publishers[-1].logged("standby"), "a standby")

    async def seen(self, wanted: Callable[[Sample], bool], what: str) -> Sample:
        """Wait for a sample from now on."""
        at = len(self.observer.samples)

        def found() -> Sample | None:
            return next((sample for sample in self.observer.samples[at:] if wanted(sample)), None)

        await self.until(lambda: found() is not None, what)
        sample = found()
        assert sample is not None
        return sample

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(2 * DEADLINE_S):
                while not condition():
                    for task in (self.looking, self._trading):
                        if task is not None and task.done():
                            task.result()
                    await asyncio.sleep(0.005)
        except TimeoutError:
            last = self.observer.samples[-1:]
            raise AssertionError(f"waited in vain for {what}; last seen: {last}") from None

    def logged(self, event: str, words: str = "") -> bool:
        """Whether a publisher has logged this event, with these words in it."""
        return any(publisher.logged(event, words) for publisher in self.publishers)

    def not_live_s(self, since: float, until: float) -> float:
        """For how long readers found no live state between two moments."""
        return sum(
            later.at - max(sample.at, since)
            for sample, later in pairwise(self.observer.samples)
            if since <= later.at <= until and not later.live
        )


@asynccontextmanager
async def arena(
    redis: EmbeddedServer,
    account: str,
    directory: Path,
    *,
    processes: int = 0,
    fast: float = 1.0,
    bound_s: float = 0.0,
    seed: int = 1,
    limits: SharedLimits | None = None,
    tuning: Tuning | None = None,
    reconcile_s: float = RECONCILE_S,
    holdings: Callable[[int], Ledger] | None = None,
    step_pause_s: float = STEP_PAUSE_S,
) -> AsyncIterator[Arena]:
    """An exchange and its publisher, live: so many real processes, or with 0 one in this loop. `holdings` makes the
    exchange's ledger, as of a time.

    `bound_s` is how long the state may be wrong before the failure is found. With `fast`, the clock of exchange and
    publisher runs so many times as fast; only a publisher in this loop can share it.
    """
    assert fast == 1.0 or not processes
    clock: Clock = FastClock(fast) if fast != 1.0 else SystemClock()
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            new_server(seed=seed, kind=RecordingExchange, clock=clock, account=holdings)
        )
        to_venue = await stack.enter_async_context(linked(server.host, server.port))
        client = await stack.enter_async_context(connect(redis.url, client_name="statecast-test", timeout_s=20.0))
        looks = await stack.enter_async_context(connect(redis.url, client_name="statecast-test", timeout_s=1.0))
        account_id = AccountId("binance", account)
        exchange = cast("RecordingExchange", server.exchange)
        observer = Observer(looks, account_id, exchange, bound_s + NOISE_S)
        here = Arena(
            server,
            client,
            account_id,
            Random(seed),
            clock=clock,
            redis=redis,
            to_venue=to_venue,
            observer=observer,
            stack=stack,
            step_pause_s=step_pause_s,
            untold={f"{order.symbol}:{order.order_id}" for order in exchange.ledger.orders()},
        )
        given = account_values(
            server,
            account,
            REST_URL=f"http://{to_venue.host}:{to_venue.port}",
            WS_URL=f"ws://{to_venue.host}:{to_venue.port}",
            RECONCILE_S=f"{reconcile_s:g}",
        )

        async def start() -> Publisher:
            link = await stack.enter_async_context(linked(redis.host, redis.port))
            url = f"redis://{link.host}:{link.port}/0"
            if processes:
                running = await stack.enter_async_context(program(directory, "publisher", **given, REDIS_URL=url))
                publisher = Publisher(running, link)
            else:
                entries = stack.enter_context(capture_logs())
                built = config.build(settings.Settings(given, (given,)))
                await stack.enter_async_context(publishing(built, url, clock, system_chance(), tuning, limits))
                publisher = Publisher(None, link, entries)
            here.publishers.append(publisher)
            return publisher

        here.start = start
        await start()
        looking = here.looking = asyncio.create_task(observer.run())
        try:
            await here.seen(lambda sample: sample.live, "the first live state")
            for _ in range(processes - 1):
                await start()
                await here.is_standby()
            yield here
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
            for publisher in here.publishers:
                if publisher.process is not None and publisher.process.process.returncode is None:
                    publisher.signal(signal.SIGCONT)
