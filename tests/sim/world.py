"""One seed's world: an exchange, Redis, publishers, the network between them, and what goes wrong; then the verdict."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import random
import traceback
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

import httpcore._async.http11
import httpcore._synchronization
import httpx._transports.default
import structlog
from sim.loop import PROCESS, Process, SimLoop, Stuck
from sim.network import Network
from sim.promises import UNDER_WAY_S, Bounds, Broken, Reader, order_name
from sim.redis_server import RedisService, Server
from sim.venue import PATHS, SimExchange, VenueService
from support.rows import RowHistory
from support.venues import registered

from publisher import config
from publisher.discrepancies import GRACE_S
from publisher.service import Chance, publishing
from publisher.tuning import Tuning
from statecast import settings
from statecast.secret import Secret
from statecast.simulator import trading
from statecast.simulator.binance.signing import ApiKey
from statecast.simulator.control import ledger_dump
from statecast.simulator.ledger import Ledger
from statecast.store.keys import LEASE_TTL_MS
from statecast.venues.binance import wire
from statecast.venues.binance.venue import BinanceVenue

VENUE_PORT, REDIS_PORT = 8900, 6379
BASE_MS = 4_102_444_800_000
"""The year 2100: the real server's own clock is never there."""

KEY, SECRET = "demo-key", "demo-secret"
CONVERGED_WITHIN_S = 150.0
"""After the last fault: a refused key is tried again once a minute, a ban lasts two."""

HISTORY_MS = 3_600_000
"""So long before the publisher's first start the account's history begins."""

FIRST_LIVE_WITHIN_S = 10.0

LATE_AT_MOST_S = 3.1
"""A late frame holds up what comes behind it so long."""

QUIET_S = 3.0
"""So much longer than things go wrong the account trades."""

TRACE_LINES = 3000


@dataclass(slots=True)
class Verdict:
    """How a seed ended. `promise` is empty when all were kept."""

    seed: int
    promise: str = ""
    details: tuple[str, ...] = ()
    simulated_s: float = 0.0
    converged_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    events: int = 0
    looks: int = 0
    trace: list[str] = field(default_factory=list)
    trace_hash: str = ""

    @property
    def good(self) -> bool:
        return not self.promise


class SimClock:
    """A process's clock: the host's wall clock may stand elsewhere and be set; the monotonic one may not."""

    def __init__(self, loop: SimLoop, process: Process) -> None:
        self._loop = loop
        self._process = process

    def now_ms(self) -> int:
        return BASE_MS + round(self._loop.time() * 1000) + self._process.wall_offset_ms

    def monotonic(self) -> float:
        return 1000.0 + self._loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class Publisher(Process):
    """A publisher process on one host; killed, it is another one that starts there."""

    def __init__(self, world: World, host: str) -> None:
        super().__init__(host)
        self._world = world
        self._stop = asyncio.Event()
        self.publisher_id = ""
        self.met_redis = False
        """Whether it has learned from Redis what there is of the account."""
        self.wall_offset_ms = world.wall_offsets_ms[host]
        context = copy_context()
        context.run(PROCESS.set, self)
        self.task = world.loop.create_task(self._main(), context=context)
        world.processes.append(self)

    async def _main(self) -> None:
        world = self._world
        clock = SimClock(world.loop, self)
        try:
            url = f"redis://127.0.0.1:{REDIS_PORT}/0"
            chance = Chance(world.publishers_rng, self._new_id)
            async with publishing(world.config, url, clock, chance, world.tuning) as work:
                stopping = asyncio.ensure_future(self._stop.wait())
                await asyncio.wait((stopping, work), return_when=asyncio.FIRST_COMPLETED)
                stopping.cancel()
                if work.done():
                    work.result()
        except Exception as error:  # noqa: BLE001 - whatever ends a publisher is what we look for
            if not self.dead:
                lines = traceback.format_exception(error)
                world.fail(Broken("no publisher ends by itself", "".join(lines)))
        finally:
            if self._stop.is_set() and world.bounds.is_disturbed(world.loop.time()):
                world.is_gone(self)
            world.trace(f"{self.name} has ended")

    def _new_id(self) -> str:
        return f"{self.name}-1-{self._world.id_rng.getrandbits(24):x}"

    @property
    def alive(self) -> bool:
        return not self.dead and not self.task.done()

    def kill(self) -> None:
        """SIGKILL: what it has sent still arrives; nothing of it runs on."""
        self.dead = self.stopped = True
        self._world.is_gone(self)
        for connection in [one for one in self._world.network.connections if one.process is self]:
            connection.close_up()

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self._stop.set()


class World:
    """Everything of one seed. `rng` is the one source of chance."""

    def __init__(self, seed: int, server: Server, kinds: Sequence[str] = (), *, verbose: bool = False) -> None:
        self.seed = seed
        self.kinds = kinds
        """What may go wrong; the seed's choice, when empty."""
        self.loop = SimLoop()
        self.rng = Random(seed)
        self.verbose = verbose
        self.counts: Counter[str] = Counter()
        self.lag_ms = 0
        """By so much REST is behind at the most."""
        self._behind_until = 0.0
        """Until then by more than is usual."""
        self._ends = 0.0
        """Until then things go wrong."""
        self._calm = (0.0, 0.0)
        """When nobody trades."""
        self.grows_alone = False
        """Whether nothing goes wrong but that a wallet grows without an event."""
        self.doubts = 0
        """How often the state was not live any more."""
        self._trace: deque[str] = deque(maxlen=TRACE_LINES)
        self._hash = hashlib.sha256()
        self.broken: Broken | None = None
        rng = self.rng
        self.reconcile_s = rng.choice((1.0, 2.0, 5.0, 10.0))
        self.trading_s = rng.choice((10.0, 15.0, 20.0, 40.0))
        self.trade_rate = rng.choice((1.0, 3.0, 5.0))
        self.hedge = rng.random() < 0.4
        self.hosts = ("one", "two") if rng.random() < 0.4 else ("one",)
        self.wall_offsets_ms = {host: rng.choice((0, 0, -700, 400, 30_000, -3_600_000)) for host in ("one", "two")}
        self.redis_offset_ms = rng.choice((0, 0, 2_500, -2_500, 60_000, -60_000))
        self.redis_error_until = 0.0
        # What some worlds have all the time: ids by symbol, other programs on the address, REST a little behind.
        self.choices = Random(f"choices of {seed}")
        ids_per_symbol = self.choices.random() < 0.3
        # A period of seconds takes half of the limits alone.
        self.others_weight = self.choices.choice((0, 0, 0, 600, 1200, 1600) if self.reconcile_s >= 10 else (0,))
        self.usual_lags_ms = {path: self.choices.choice((0, 0, 30, 150, 400)) for path in PATHS}
        if self.choices.random() < 0.5:
            self.usual_lags_ms.clear()
        self.counts += Counter(
            {
                "world: ids are numbered by symbol": int(ids_per_symbol),
                "world: other programs use the address": int(self.others_weight > 0),
                "world: REST is a little behind": int(bool(self.usual_lags_ms)),
            }
        )
        balances = {"USDT": Decimal(rng.choice((2_000, 10_000))), "USDC": Decimal(2_500), "BFUSD": Decimal(350)}
        ledger = Ledger(balances, now_ms=BASE_MS - HISTORY_MS - 1000, hedge=self.hedge, ids_per_symbol=ids_per_symbol)
        self.exchange = SimExchange(ledger, [ApiKey(KEY, Secret(SECRET))], Random(rng.getrandbits(64)))
        self.venue = VenueService(self.loop, self.exchange, self.now_ms)
        self.network = Network(self.loop, Random(rng.getrandbits(64)), copy_context())
        self.loop.network = self.network
        self.redis = RedisService(self.loop, server, self.redis_ms, self.trace)
        self.network.listen(VENUE_PORT, self.venue, rng.choice((0.002, 0.02, 0.06)), rng.choice((0.002, 0.05)))
        self.network.listen(REDIS_PORT, self.redis, rng.choice((0.0002, 0.002)), rng.choice((0.0002, 0.004)))
        self.truth = RowHistory()
        self.bounds = Bounds(
            plain_s=0.4,
            disturbed_s=LEASE_TTL_MS / 1000 + 0.5,
            silent_s=self.reconcile_s * 1.5 + 2 * GRACE_S + 5.0,
        )
        given = {
            "ACCOUNT": "main",
            "API_KEY": KEY,
            "API_SECRET": SECRET,
            "REST_URL": f"http://127.0.0.1:{VENUE_PORT}",
            "WS_URL": f"ws://127.0.0.1:{VENUE_PORT}",
            "RECONCILE_S": str(self.reconcile_s),
            "MARK_PRICE_INTERVAL_S": "1",
        }
        self.config = config.build(settings.Settings(given, (given,)))
        self.reader = Reader(server, self.config.accounts[0].account_id, self.truth, self.bounds)
        self.redis.after_write = self._look
        self.exchange.on_event = lambda event: self.truth.take(event, self.loop.time())
        self.exchange.on_frame = self._sent
        self.venue.on_cut = self._cut
        self.exchange.later = lambda delay_ms, call: self._later(delay_ms / 1000, call)
        for wallet in ledger.wallets():
            row = (wallet.balance, ledger.cross_wallet(wallet.asset))
            self.truth.put(("balances", wallet.asset), row, 0.0)
        self.id_rng = Random(seed)
        self.publishers_rng = Random(self.id_rng.getrandbits(32))
        # Gaps of a simulated world are small: what is done with long ones must happen here as well.
        self.sizes = Random(f"sizes of {seed}")
        usual = Tuning()
        self.tuning = Tuning(
            events_at_once=self.sizes.choice((0, 10, usual.events_at_once)),
            history_slice=self.sizes.choice((3, usual.history_slice)),
            unwritten_events=self.sizes.choice((5, usual.unwritten_events)),
            few_symbols=self.sizes.choice((0, usual.few_symbols)),
            changes_at_once=Random(f"parts of {seed}").choice((3, usual.changes_at_once)),
        )
        self.publishers: dict[str, Publisher] = {}
        self.knowers: list[Publisher] | None = None
        """Who may still know what Redis has lost altogether."""
        self.processes: list[Publisher] = []
        """All that ever ran."""

    # Time, trace, verdict

    def now_ms(self) -> int:
        """The true time, by which the exchange goes."""
        return BASE_MS + round(self.loop.time() * 1000)

    def redis_ms(self) -> int:
        return self.now_ms() + self.redis_offset_ms

    def trace(self, line: str) -> None:
        text = f"{self.loop.time():9.3f}  {line}"
        self._trace.append(text)
        self._hash.update(text.encode())
        if self.verbose:
            print(text)

    def fail(self, broken: Broken) -> None:
        if self.broken is None:
            self.broken = broken
            self.trace(f"BROKEN: {broken.promise}")
            self.ended.set()

    def _later(self, delay_s: float, call: Any) -> None:
        self.loop.call_later(delay_s, call, context=self.network.context)

    def _sent(self, frame: Any) -> None:
        now = self.loop.time()
        if frame.event != "TRADE_LITE":
            self.trace(f"venue: {frame.event} {_brief(frame.body)}")
        board = self.exchange.faults
        late = any(fault.kind == "delay" for fault in board.frames)
        lost = any(fault.kind == "drop" for fault in board.frames) or self.venue.deaf
        key = self.exchange.listen_key.key if self.exchange.listen_key is not None else ""
        on_dead_keys = any(one.root == "private" and not one.wants(key, frame.event) for one in self.exchange.streams)
        if board.user_sockets_muted or on_dead_keys or lost:
            self.bounds.silent(now, now)
        if late:
            self.bounds.silent(now, now + LATE_AT_MOST_S)
        hosts = [self.publishers[host] for host in self.hosts if host in self.publishers]
        followed = self.venue.all_follow(hosts)
        if not followed and self.lag_ms > wire.REST_RECENT_MS:
            # No answer by REST says what happened now, until it is too late to wait for it.
            self.bounds.silent(now, now)
        if "o" in frame.body and self.bounds.is_silent(now):
            self.reader.unheard.add(_order_name(frame.body["o"]))
        elif followed and not late and frame.body.get("o", {}).get("x") == "AMENDMENT":
            told = frame.body["o"]
            name = (_order_name(told), told["T"], Decimal(told["q"]), Decimal(told["p"]))
            self.reader.received.add(name, now, hosts)

    def _cut(self, process: Process) -> None:
        """A user socket is gone, with what was under way, and with what a process that stands still has not read."""
        now = self.loop.time()
        since = process.still_since if process.stopped else now
        self.reader.received.lost_since(since - UNDER_WAY_S)
        if self.lag_ms > wire.REST_RECENT_MS:
            self.bounds.silent(now - UNDER_WAY_S, now)

    def _look(self, connection: Any, script: bool) -> None:
        before = self.reader.status
        try:
            self.reader.look(self.loop.time(), whole=not script)
        except Broken as broken:
            self.trace(f"after a write of {connection.process.name}")
            self.fail(broken)
        status = self.reader.status
        begun = status.get("state") == "live" and status.get("eventsSinceMs", "0") != "0"
        if self.knowers is not None and begun:
            # Who starts on an emptied Redis may be faster than those who know what was there.
            if status["publisherId"] not in [one.publisher_id for one in self.knowers]:
                self.trace("the log has begun anew")
                self.reader.forget(self.exchange.ledger.order_events, self.exchange.algo_events)
            self.knowers = None
        if (before.get("state"), status.get("state")) == ("live", "recovering"):
            self.doubts += 1
            if self.doubts > 1 and self.grows_alone:
                self.fail(Broken("a wallet that grows stops the stream once at the most", status.get("reason", "")))
        if status.get("epoch") != before.get("epoch"):
            self._left_to([one for one in self.processes if one.publisher_id == status.get("publisherId")])
        if (status.get("state"), status.get("epoch")) != (before.get("state"), before.get("epoch")):
            self.trace(f"redis: {status.get('state')} epoch {status.get('epoch')} seq {status.get('seq')}")
        self._hash.update(f"{self.loop.time():.6f} {status.get('seq')} {status.get('eventSeq')}".encode())

    def capture(self, _logger: object, method: str, event: Any) -> Any:
        process = PROCESS.get()
        if process is not None and not process.dead:
            event.pop("account", None)
            if isinstance(process, Publisher):
                process.publisher_id = event.get("publisher", process.publisher_id)
                process.met_redis = process.met_redis or event["event"] in ("writing", "standby")
                if event["event"] == "standby":
                    self.reader.received.forgotten_by(process)
            if event.pop("exc_info", None):
                self.fail(Broken("no error of the program itself", traceback.format_exc()))
            self.trace(f"{process.name}: {method} " + " ".join(f"{name}={value}" for name, value in event.items()))
        raise structlog.DropEvent

    # Processes

    def start(self, host: str) -> None:
        running = self.publishers.get(host)
        if running is None or running.task.done() or running.dead:
            self.trace(f"{host} starts")
            if self.lag_ms > wire.REST_RECENT_MS:
                # It knows what REST says, which is older than anybody waits for.
                self.bounds.silent(self.loop.time() - self.lag_ms / 1000, self.loop.time())
            self.publishers[host] = Publisher(self, host)

    def rest_is_behind(self, lags_ms: dict[str, int], lasts_s: float) -> None:
        """Let paths of REST be behind for so long from now on, each by its own time. Where they are further behind
        already, they stay so."""
        now = self.loop.time()
        if now < self._behind_until and max(lags_ms.values()) <= self.lag_ms:
            return
        self._behind_until = now + lasts_s
        self._lag(lags_ms, self._behind_until)
        self._later(lasts_s, self._rest_catches_up)

    def _lag(self, lags_ms: dict[str, int], until: float) -> None:
        for lag_ms in sorted(set(lags_ms.values())):
            paths = [path for path, of_path in lags_ms.items() if of_path == lag_ms]
            self.exchange.fault("lag_rest", {"ms": lag_ms, "paths": paths}, self.now_ms())
        self.lag_ms = max(lags_ms.values())
        # What is lost without a sign is found by REST, so it takes as much longer.
        self.bounds.no_rest(self.loop.time(), until + self.lag_ms / 1000)

    def _rest_catches_up(self) -> None:
        if self.loop.time() >= self._behind_until:
            self.rest_is_present()

    def rest_is_present(self) -> None:
        """REST is behind by what is usual in this world."""
        self.exchange.fault("lag_rest", {"ms": 0}, self.now_ms())
        self.lag_ms, self._behind_until = 0, 0.0
        if self.usual_lags_ms:
            self._lag(self.usual_lags_ms, self.loop.time())

    def goes_on_until(self, until: float) -> None:
        """What has begun takes longer than this world would have lasted."""
        self._ends = max(self._ends, until)

    def is_calm(self, since: float, until: float) -> None:
        """Nobody trades then."""
        self._calm = (since, until)

    def others_are_usual(self) -> None:
        """Other programs use what is usual in this world."""
        self.exchange.fault("other_programs", {"weight": self.others_weight}, self.now_ms())

    def is_gone(self, publisher: Publisher) -> None:
        """With what it has received and not written."""
        self.reader.received.forgotten_by(publisher)
        self._left_to(self.processes)

    def _left_to(self, publishers: Sequence[Publisher]) -> None:
        self.reader.received.is_left_to(publishers, self.reader.logged_amendments())

    def redis_lost(self) -> None:
        """Redis holds less than it did."""
        self._left_to(self.processes)
        alive = [one for one in self.processes if one.alive]
        self.reader.lost(bool(alive))
        if self.reader.nothing_left:
            knowing = [one for one in alive if one.met_redis]
            self.knowers = [one for one in knowing if self.knowers is None or one in self.knowers]

    # The run

    async def _trade(self) -> None:
        while self.loop.time() < self._ends + QUIET_S:
            await asyncio.sleep(self.rng.expovariate(self.trade_rate))
            since, until = self._calm
            if since <= self.loop.time() < until:
                await asyncio.sleep(until - self.loop.time())
            steps = 1 if self.rng.random() < 0.9 else self.rng.randint(2, 12)
            for _ in range(steps):
                now_ms = self.now_ms()
                events = trading.step(self.exchange.ledger, self.exchange.rng, self.exchange.server_ms(now_ms))
                self.exchange.publish(events, now_ms)

    async def _move_marks(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now_ms = self.now_ms()
            self.exchange.tick(now_ms)
            if self.loop.time() < self._ends + QUIET_S:
                self.exchange.move_marks(now_ms)
            self.exchange.publish_marks(now_ms)

    async def _run(self) -> None:
        from sim.faults import Faults

        ledger = self.exchange.ledger
        for at in range(self.rng.randint(0, 25)):
            before_ms = self.now_ms() - HISTORY_MS + at * 1000
            self.exchange.publish(trading.step(ledger, self.exchange.rng, before_ms), before_ms)
        self.rest_is_present()
        self.others_are_usual()
        faults = Faults(self)
        lags = sorted(self.usual_lags_ms.values())
        self.trace(
            f"seed {self.seed}: {', '.join(self.hosts)}, reconcile {self.reconcile_s:g} s, trading {self.trading_s:g} s"
            f" at {self.trade_rate:g}/s, {'hedge' if self.hedge else 'one-way'},"
            f" others use {self.others_weight}, REST is behind by {lags} ms, may happen: {', '.join(faults.kinds)}"
        )
        for host in self.hosts:
            self.start(host)
        while self.reader.status.get("state") != "live":
            await asyncio.sleep(0.1)
            if self.loop.time() > FIRST_LIVE_WITHIN_S:
                raise Broken("live at the start", f"not within {FIRST_LIVE_WITHIN_S:g} s")
        self.reader.log_begins(list(ledger.order_events), list(self.exchange.algo_events))
        self._ends = self.loop.time() + self.trading_s
        faults.plan(self._ends)
        tasks = [asyncio.ensure_future(self._trade()), asyncio.ensure_future(self._move_marks())]
        while self.loop.time() < self._ends:
            await asyncio.sleep(self._ends - self.loop.time())
        faults.stop()
        await asyncio.wait(tasks[:1])
        tasks[0].result()
        self.quiet_at = self.loop.time()
        # Nothing moves any more.
        dump = ledger_dump(self.exchange, 0, self.now_ms())
        found = ["never compared"]
        while found:
            if self.loop.time() > self.quiet_at + CONVERGED_WITHIN_S:
                raise Broken(f"equal to the ledger {CONVERGED_WITHIN_S:.0f} s after the faults", *found[:12])
            await asyncio.sleep(1.0)
            found = self.reader.unequal(dump, ledger.order_events, self.exchange.algo_events, self.redis_ms())
        self.converged_s = self.loop.time() - self.quiet_at
        self.reader.look(self.loop.time(), whole=True)
        tasks[1].cancel()

    def _complained(self, _loop: object, context: dict[str, Any]) -> None:
        """Tasks of killed processes end as they may; a callback that fails is a fault of the world itself."""
        if "handle" in context and context.get("exception") is not None:
            self.fail(Broken("no callback fails", "".join(traceback.format_exception(context["exception"]))))

    async def _main(self) -> None:
        self.ended = asyncio.Event()
        self.converged_s = 0.0
        running = asyncio.ensure_future(self._run())
        ended = asyncio.ensure_future(self.ended.wait())
        await asyncio.wait((running, ended), return_when=asyncio.FIRST_COMPLETED)
        try:
            if running.done():
                running.result()
        except Broken as broken:
            self.fail(broken)
        simulated_s = self.loop.time()
        self.verdict = Verdict(
            seed=self.seed,
            promise=self.broken.promise if self.broken else "",
            details=self.broken.details if self.broken else (),
            simulated_s=simulated_s,
            converged_s=self.converged_s,
            faults=self.counts,
            events=self.reader.events,
            looks=self.reader.looks,
            trace=list(self._trace),
            trace_hash=self._hash.hexdigest(),
        )
        self.verbose = False
        running.cancel()
        ended.cancel()
        await self._bury()

    async def _bury(self) -> None:
        """Let what is left of all processes run to its end, where nothing reaches anybody any more."""
        for process in self.processes:
            process.dead = True
            self.loop.resume(process)
        left = {process.task for process in self.processes if not process.task.done()}
        for _ in range(200):
            if not left:
                break
            for task in left:
                task.cancel()
            await asyncio.wait(left, timeout=1.0)
            left = {task for task in left if not task.done()}
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    def run(self) -> Verdict:
        venue = BinanceVenue(history_page=self.sizes.choice((40, wire.HISTORY_PAGE)))
        with ExitStack() as stack, registered(venue):
            patch_libraries(stack, self)
            asyncio.set_event_loop(self.loop)
            try:
                self.loop.set_exception_handler(self._complained)
                self.loop.run_until_complete(self._main())
            except Stuck as stuck:
                self.verdict = Verdict(self.seed, "something goes on happening", (str(stuck),), self.loop.time())
            finally:
                asyncio.set_event_loop(None)
                self.network.close()
                self.loop._ready.clear()  # type: ignore[attr-defined]
                self.loop._scheduled.clear()  # type: ignore[attr-defined]
                self.loop.close()
        return self.verdict


_ssl_context = httpx.create_ssl_context()


def patch_libraries(stack: ExitStack, world: World) -> None:
    """What libraries take from outside of the world, and offer no way to hand in: the age of idle connections, and two
    things that nobody uses here and that cost each world more than its network."""
    clock = SimpleNamespace(monotonic=lambda: 1000.0 + world.loop.time())
    patch = stack.enter_context
    patch(mock.patch.object(httpcore._async.http11, "time", clock))
    # It would look for trio on the disk at every lock that it makes.
    patch(mock.patch.object(httpcore._synchronization, "current_async_library", return_value="asyncio"))
    patch(mock.patch.object(httpx._transports.default, "create_ssl_context", return_value=_ssl_context))
    random.seed(world.seed)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    structlog.configure(
        processors=[world.capture],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )


def _brief(body: dict[str, Any]) -> str:
    """What a user frame says, as far as it fits a line."""
    if account := body.get("a"):
        wallets = [f"{row['a']} {row['wb']}" for row in account["B"]]
        positions = [f"{row['s']}:{row['ps']} {row['pa']} at {row['ep']}" for row in account.get("P", ())]
        return ", ".join(wallets + positions)
    told = body.get("o") or {}
    return " ".join(str(told[name]) for name in ("s", "i", "aid", "x", "X", "z", "p") if name in told)


def _order_name(told: dict[str, Any]) -> str:
    return order_name(told["s"], f"algo-{told['aid']}" if "aid" in told else told["i"])


def run_seed(seed: int, server: Server, kinds: Sequence[str] = (), *, verbose: bool = False) -> Verdict:
    """Run one seed's world on a real Redis server, which is emptied before."""
    gc.disable()
    gc.freeze()
    try:
        return World(seed, server, kinds, verbose=verbose).run()
    finally:
        gc.collect()
        gc.enable()
