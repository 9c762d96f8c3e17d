"""Everything that the publisher receives is in the log once and in order, or a GAP says what is not.

    make flood ARGS="--minutes 30 --rate 2000 --flood 100000"

An exchange process makes order events at a steady rate (orders that are placed, amended, and cancelled or filled) and
says of each whether a private socket was open to take it. Meanwhile, by turns, without a pause of the load:

    the stream is cut, and `account` answers 503 for 30 s, so that everything waits for a snapshot
    Redis hangs for 13 s
    all of REST answers 503 for 30 s, on a stream that lives
    the stream is cut, `account` answers 503, and the publisher is stopped with SIGTERM before there is a snapshot

Before that, a flood: frames as fast as the socket takes them. Each event of the exchange is compared with the log,
order by order, as both go on. What was not received has to be there as well, from the venue's histories, apart from
amendments.

Whatever is broken of that, more memory than the bound, an end of the publisher that is not orderly, or fewer events a
second than were asked for, makes the exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import orjson
import redis.asyncio
import redis.exceptions
import uvloop

from bench.soak import complaints, program
from statecast.clock import SystemClock
from statecast.domain.gaps import GapInfo, parse
from statecast.embedded.server import EmbeddedServer
from statecast.secret import Secret
from statecast.simulator.binance.exchange import Exchange
from statecast.simulator.binance.signing import ApiKey
from statecast.simulator.events import Event, Filled, OrderChanged
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import OrderRequest, OrderType, Side
from statecast.simulator.server import SimulatorServer
from statecast.store.keys import AccountId, AccountKeys

KEYS = AccountKeys(AccountId("binance", "flood"))
SYMBOL = "BTCUSDT"
QTY = Decimal("0.01")
ORDERS_AT_ONCE = 10
AMENDMENTS = 8
"""Of each order, before it ends."""
FILLED_EVERY = 4
"""Of so many orders one is filled, by half and then whole."""

TURN_S = 0.01
RETENTION_S = 60
"""Of the log; so short, it is trimmed while this runs."""

OUTAGE_S = 30.0
REDIS_HANGS_S = 13.0
CALM_S = 40.0
"""After each disturbance: what has waited is written. Who was refused for long asks again every 20 to 30 s."""
DRAIN_S = 1.0
"""Without a new frame, before a socket is cut or the publisher stopped: what was sent by then was received."""
STOP_WITHIN_S = 6.0
SETTLE_WITHIN_S = 180.0

MEMORY_MB = 650
"""The publisher at its worst: 300,000 order events that wait weigh some 450 MB, and 50,000 orders that are remembered
and what is under way the rest."""
LEAST_SHARE = 0.97
"""Of the rate that was asked for, while the exchange sends."""


# The exchange, in a process of its own


class ReceivedExchange(Exchange):
    """Notes each order event as a row, with whether a private socket was open to take it."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.rows: list[tuple[Any, ...]] = []

    def publish(self, events: Iterable[Event], now_ms: int) -> None:
        events = list(events)
        key = self.listen_key.key if self.listen_key is not None else ""
        is_received = any(not one.close_code and one.wants(key, "ORDER_TRADE_UPDATE") for one in self.streams)
        for event in events:
            change = event.order if isinstance(event, Filled) else event
            if isinstance(change, OrderChanged):
                self.rows.append((*_made(change), change.at_ms, is_received))
        super().publish(events, now_ms)


def number(value: Decimal | str) -> str:
    """One text for all spellings of a number."""
    return format(Decimal(value or 0).normalize(), "f")


def _made(change: OrderChanged) -> tuple[str, ...]:
    order = change.order
    trade = (str(change.trade_id), number(change.last_qty)) if change.trade_id else ("", "")
    return (
        str(order.order_id),
        change.execution.value,
        order.status.value,
        number(order.price),
        number(order.filled_qty),
        *trade,
    )


class Load:
    """Order events of one account, one at a time."""

    def __init__(self, exchange: ReceivedExchange, clock: SystemClock) -> None:
        self._exchange = exchange
        self._clock = clock
        self._live: deque[tuple[int, int]] = deque()
        """Order id and step of each open order."""
        self._number = 0
        rules = exchange.ledger.rules[SYMBOL]
        self._tick = rules.tick_size
        self._price = exchange.ledger.marks[SYMBOL] * Decimal("0.95") // self._tick * self._tick
        self.is_running = asyncio.Event()
        self.sent_s = 0.0
        """For how long events were made."""

    def step(self, publish: Any) -> None:
        """Make the next event and hand it to `publish`."""
        ledger, now_ms = self._exchange.ledger, self._clock.now_ms()
        if len(self._live) < ORDERS_AT_ONCE:
            self._number += 1
            side = Side.BUY if self._number % (2 * FILLED_EVERY) else Side.SELL
            price = self._price if side is Side.BUY else self._price + self._price // 10 // self._tick * self._tick
            request = OrderRequest(symbol=SYMBOL, side=side, type=OrderType.LIMIT, qty=QTY, price=price)
            events = ledger.place(request, now_ms)
            placed = events[0]
            assert isinstance(placed, OrderChanged)
            self._live.append((placed.order.order_id, 0))
            publish(events, now_ms)
            return
        order_id, step = self._live.popleft()
        if step < AMENDMENTS:
            order = ledger.order(SYMBOL, order_id)
            price = order.price + (step % 2 * 2 - 1) * (step + 1) * self._tick
            publish(ledger.amend(order_id, qty=QTY, price=price, now_ms=now_ms, symbol=SYMBOL), now_ms)
        elif order_id % FILLED_EVERY:
            publish(ledger.cancel(order_id, now_ms, symbol=SYMBOL), now_ms)
            return
        else:
            publish(ledger.fill_resting(order_id, QTY / 2, now_ms, symbol=SYMBOL), now_ms)
            if step > AMENDMENTS:
                return
        self._live.append((order_id, step + 1))

    async def run(self, rate: float) -> None:
        while True:
            await self.is_running.wait()
            began_s, made = time.perf_counter(), 0
            while self.is_running.is_set():
                due = int((time.perf_counter() - began_s) * rate) - made
                for _ in range(min(due, 500)):
                    self.step(self._exchange.publish)
                made += max(0, min(due, 500))
                await asyncio.sleep(TURN_S)
            self.sent_s += time.perf_counter() - began_s

    async def flood(self, count: int) -> float:
        """Make so many events first, and then send them all; returns the seconds that the socket took."""
        waiting: list[tuple[list[Event], int]] = []
        for number in range(count):
            self.step(lambda events, now_ms: waiting.append((list(events), now_ms)))
            if number % 500 == 0:
                await asyncio.sleep(0)
        began_s = time.perf_counter()
        for number, (events, now_ms) in enumerate(waiting):
            self._exchange.publish(events, now_ms)
            if number % 500 == 0:
                await asyncio.sleep(0)
        await self.sent()
        return time.perf_counter() - began_s

    async def sent(self) -> None:
        """Until nothing waits in the exchange."""
        while any(one.next_due_ms is not None for one in self._exchange.streams):  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(TURN_S)

    def end(self) -> None:
        """All orders are over."""
        for order in self._exchange.ledger.open_orders():
            now_ms = self._clock.now_ms()
            self._exchange.publish(self._exchange.ledger.cancel(order.order_id, now_ms, symbol=SYMBOL), now_ms)
        self._live.clear()


async def serve(rate: float) -> None:
    """Commands come as lines of JSON, and rows and answers go out as such."""
    clock, loop = SystemClock(), asyncio.get_running_loop()
    ledger = Ledger({"USDT": Decimal(10_000_000)}, now_ms=clock.now_ms())
    exchange = ReceivedExchange(ledger, [ApiKey("demo-key", Secret("demo-secret"))], Random(1))
    load = Load(exchange, clock)

    def say(**what: Any) -> None:
        sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
        sys.stdout.buffer.flush()

    async def report() -> None:
        while True:
            await asyncio.sleep(0.25)
            rows, exchange.rows = exchange.rows, []
            if rows:
                say(rows=rows)

    async with SimulatorServer(exchange, clock, mark_interval_s=0) as server:
        tasks = [asyncio.create_task(load.run(rate)), asyncio.create_task(report())]
        say(port=server.port)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            do = orjson.loads(line)
            match do["do"]:
                case "run":
                    load.is_running.set()
                case "quiet":
                    load.is_running.clear()
                    await asyncio.sleep(2 * TURN_S)
                    await load.sent()
                case "flood":
                    say(flood_s=await load.flood(do["count"]))
                case "fault":
                    exchange.fault(do["name"], do["args"], clock.now_ms())
                case "end":
                    load.end()
                    await load.sent()
            say(done=do["do"], sent_s=load.sent_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# The check


class Made(NamedTuple):
    """An order event of the exchange; the fields before `at_ms` are what an entry of the log has to say."""

    order_id: str
    kind: str
    status: str
    price: str
    filled: str
    trade_id: str
    last_qty: str
    at_ms: int
    is_received: bool

    @property
    def identity(self) -> tuple[str, ...]:
        return self[:7]

    def is_in_history_as(self, entry: tuple[str, ...]) -> bool:
        """Whether an entry of the log is this event as a history has it: perhaps with the price of a later
        amendment."""
        return self.kind != "AMENDMENT" and (*entry[:3], *entry[4:]) == (*self[:3], *self[4:7])


ENDS = frozenset({"FILLED", "CANCELED", "EXPIRED", "REJECTED"})


def logged(entry: dict[str, str]) -> tuple[str, ...]:
    trade = entry["tradeId"]
    return (
        entry["orderId"],
        entry["eventType"],
        entry["status"],
        number(entry["price"]),
        number(entry["executedQty"]),
        trade,
        number(entry["lastQty"]) if trade else "",
    )


@dataclass
class Check:
    """Compares log and exchange, order by order; orders that agree are forgotten but by id."""

    made: defaultdict[str, list[Made]] = field(default_factory=lambda: defaultdict(list))
    logged: defaultdict[str, list[tuple[str, ...]]] = field(default_factory=lambda: defaultdict(list))
    gaps: list[GapInfo] = field(default_factory=list)
    gap_ids: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)
    count: Counter[str] = field(default_factory=Counter)
    last_seq: int = 0

    def note_made(self, row: Made) -> None:
        self.count["made"] += 1
        self.count["received"] += row.is_received
        self.made[row.order_id].append(row)
        if row.status in ENDS:
            self._finish(row.order_id)

    def read(self, entry: dict[str, str]) -> None:
        """An entry of the log, in its order."""
        seq = int(entry["eventSeq"])
        if seq != self.last_seq + 1:
            self.found.append(f"eventSeq {seq} follows {self.last_seq}")
        self.last_seq = seq
        self.count["logged"] += 1
        self.count["by REST"] += entry["source"] == "rest"
        if gap := parse(entry):
            self.gaps.append(gap)
            self.gap_ids.append(entry["eventId"])
            return
        order_id = entry["orderId"]
        if order_id in self.finished:
            self.found.append(f"{entry['eventId']} stands in the log after its order has agreed")
            return
        self.logged[order_id].append(logged(entry))
        if entry["status"] in ENDS:
            self._finish(order_id)

    def open(self) -> list[str]:
        """Orders that have not agreed yet, though they are over."""
        return [order_id for order_id, rows in self.made.items() if rows[-1].status in ENDS]

    def rest(self) -> list[str]:
        """What does not agree when everything is made and written."""
        for order_id in self.made.keys() | self.logged.keys():
            if difference := self._difference(order_id):
                self.found.append(difference)
        return self.found

    def _finish(self, order_id: str) -> None:
        made, entries = self.made.get(order_id), self.logged.get(order_id)
        if made and entries and made[-1].status in ENDS and entries[-1][2] in ENDS:
            if self._difference(order_id):
                return  # A GAP that follows may cover it; else it is found at the end.
            del self.made[order_id], self.logged[order_id]
            self.finished.add(order_id)

    def _difference(self, order_id: str) -> str:
        left = deque(self.logged.get(order_id, ()))
        for row in self.made.get(order_id, ()):
            if left and left[0] == row.identity:
                left.popleft()
                continue
            gap = None if not row.is_received else self._gap_of(row)
            if row.is_received and gap is None:
                return f"order {order_id}: {row} was received, and is missing before {left[0] if left else '-'}"
            if left and row.is_in_history_as(left[0]):
                left.popleft()
            elif row.kind != "AMENDMENT" and (gap is None or gap.what == "unlogged"):
                return f"order {order_id}: {row} is in a history, and is missing before {left[0] if left else '-'}"
            elif gap is not None:
                self.count["covered by a GAP"] += 1
        return f"order {order_id}: {left[0]} is in the log twice, or too late" if left else ""

    def _gap_of(self, row: Made) -> GapInfo | None:
        """The entry that says that an event is missing."""
        for gap in self.gaps:
            is_within = (gap.since_ms is None or gap.since_ms <= row.at_ms) and gap.until_ms >= row.at_ms
            if gap.order_id in ("", row.order_id) and (is_within or gap.what == "order"):
                return gap
        return None


# The run


class ExchangeProcess:
    """The exchange and what it says."""

    def __init__(self, process: asyncio.subprocess.Process, check: Check) -> None:
        self._process = process
        self._check = check
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent_s = 0.0

    async def read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = orjson.loads(line)
            if "rows" in said:
                for number, row in enumerate(said["rows"]):
                    self._check.note_made(Made(*row))
                    if number % 200 == 199:
                        await asyncio.sleep(0)
            else:
                await self._answers.put(said)
        raise RuntimeError("the exchange has ended")

    async def answer(self, name: str) -> Any:
        while name not in (said := await self._answers.get()):
            pass
        return said[name]

    async def do(self, do: str, **args: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps({"do": do, **args}) + b"\n")
        while (said := await self._answers.get()).get("done") != do:
            if "flood_s" in said:
                count = args["count"]
                print(f"flood: {count:,} frames in {said['flood_s']:.1f} s, {count / said['flood_s']:,.0f} a second")
        self.sent_s = said["sent_s"]

    async def fault(self, name: str, **args: Any) -> None:
        await self.do("fault", name=name, args=args)

    async def cut(self) -> None:
        """The private stream ends; what was sent before was received."""
        await self.do("quiet")
        await asyncio.sleep(DRAIN_S)
        await self.fault("cut_sockets", kind="private")
        await self.do("run")


@dataclass
class Run:
    """The whole of one run."""

    args: argparse.Namespace
    directory: Path
    settings: dict[str, str]
    server: redis.asyncio.Redis
    exchange: ExchangeProcess
    check: Check
    stack: AsyncExitStack
    publisher: asyncio.subprocess.Process | None = None
    starts: int = 0
    peak_kb: int = 0
    stops: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    last_id: str = "0-0"

    async def run(self) -> bool:
        reading = [asyncio.create_task(work) for work in (self.exchange.read(), self._read_log(), self._look())]
        try:
            await self._start()
            await self._until("live", self._is_live, 60)
            if self.args.flood:
                began_s = time.monotonic()
                await self.exchange.do("flood", count=self.args.flood)
                await self._until("written", self._is_written, SETTLE_WITHIN_S)
                print(f"flood: all is in the log {time.monotonic() - began_s:.1f} s after it began", flush=True)
            began_s, made = time.monotonic(), self.check.count["made"]
            await self.exchange.do("run")
            turns = (self._no_snapshot, self._stopped_in_doubt, self._redis_hangs, self._no_rest)
            number = 0
            while time.monotonic() < began_s + self.args.minutes * 60:
                await asyncio.sleep(min(CALM_S, began_s + self.args.minutes * 60 - time.monotonic()))
                if time.monotonic() < began_s + self.args.minutes * 60 - OUTAGE_S:
                    await turns[number % len(turns)]()
                    number += 1
                for task in reading:
                    if task.done():
                        task.result()
            await self.exchange.do("quiet")
            rate = (self.check.count["made"] - made) / max(1e-9, self.exchange.sent_s)
            await self.exchange.fault("clear")
            await self.exchange.do("end")
            print("resting: what is missing has to come now", flush=True)
            settled = True
            with suppress(TimeoutError):
                settled = False
                await self._until("agreement", self._is_settled, SETTLE_WITHIN_S)
                settled = True
            return self._verdict(rate, settled)
        finally:
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)

    # What goes wrong

    async def _no_snapshot(self) -> None:
        self.done["no snapshot"] += 1
        await self.exchange.fault("answer_rest", count=1_000_000, status=503, body="", path="/fapi/v3/account")
        await self.exchange.cut()
        await asyncio.sleep(OUTAGE_S)
        await self.exchange.fault("clear")

    async def _no_rest(self) -> None:
        self.done["no REST"] += 1
        await self.exchange.fault("answer_rest", count=1_000_000, status=503, body="")
        await asyncio.sleep(OUTAGE_S)
        await self.exchange.fault("clear")

    async def _redis_hangs(self) -> None:
        self.done["Redis hangs"] += 1
        await self.server.client_pause(round(REDIS_HANGS_S * 1000))
        await asyncio.sleep(REDIS_HANGS_S)

    async def _stopped_in_doubt(self) -> None:
        self.done["SIGTERM in doubt"] += 1
        await self.exchange.fault("answer_rest", count=1_000_000, status=503, body="", path="/fapi/v3/account")
        await self.exchange.cut()
        await asyncio.sleep(OUTAGE_S / 3)
        await self.exchange.do("quiet")
        await asyncio.sleep(DRAIN_S)
        assert self.publisher is not None
        began_s = time.monotonic()
        self.publisher.send_signal(signal.SIGTERM)
        code = await self.publisher.wait()
        took_s = time.monotonic() - began_s
        if code or took_s > STOP_WITHIN_S:
            self.stops.append(f"exit code {code} after {took_s:.1f} s")
        await self.exchange.do("run")
        await self._start()
        await asyncio.sleep(OUTAGE_S / 3)
        await self.exchange.fault("clear")

    async def _start(self) -> None:
        self.starts += 1
        log = self.directory / f"publisher-{self.starts}.log"
        self.publisher = await self.stack.enter_async_context(program(log, "publisher", **self.settings))

    # What is looked at

    async def _read_log(self) -> None:
        while True:
            try:
                answer: Any = await self.server.xread({KEYS.order_events: self.last_id}, count=1_000)
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                answer = None
            entries = answer[KEYS.order_events][0] if answer else []
            for number, (entry_id, fields) in enumerate(entries):
                self.last_id = entry_id
                self.check.read(fields)
                if number % 200 == 199:
                    await asyncio.sleep(0)
            if len(entries) < 1_000:
                await asyncio.sleep(0.25)

    async def _look(self) -> None:
        began_s = time.monotonic()
        while True:
            await asyncio.sleep(1.0)
            held = self._memory()
            self.peak_kb = max(self.peak_kb, held.get("VmHWM", 0))
            if int(time.monotonic() - began_s) % 5 == 0:
                count = self.check.count
                minutes = (time.monotonic() - began_s) / 60
                print(
                    f"{minutes:6.2f} min  made {count['made']:>9,}  received {count['received']:>9,}"
                    f"  logged {count['logged']:>9,}  by REST {count['by REST']:>7,}  GAPs {len(self.check.gaps)}"
                    f"  rss {held.get('VmRSS', 0) / 1024:6.1f} MB, most {self.peak_kb / 1024:6.1f}"
                    f"  {', '.join(f'{name} {times}' for name, times in self.done.items())}",
                    flush=True,
                )

    def _memory(self) -> dict[str, int]:
        """In KB, as Linux counts it; nothing where the publisher does not run."""
        try:
            assert self.publisher is not None
            text = Path(f"/proc/{self.publisher.pid}/status").read_text("utf-8")
        except (AssertionError, FileNotFoundError, ProcessLookupError):
            return {}
        lines = (line.split() for line in text.splitlines())
        return {parts[0].rstrip(":"): int(parts[1]) for parts in lines if parts[0] in ("VmRSS:", "VmHWM:")}

    async def _status(self) -> dict[str, str]:
        status: dict[str, str] = await self.server.hgetall(KEYS.status)
        return status

    async def _is_live(self) -> bool:
        return (await self._status()).get("state") == "live"

    async def _is_written(self) -> bool:
        return self.check.last_seq >= self.args.flood

    async def _is_settled(self) -> bool:
        status = await self._status()
        return (
            status.get("state") == "live" and int(status["eventSeq"]) == self.check.last_seq and not self.check.open()
        )

    async def _until(self, what: str, condition: Any, within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not await condition():  # noqa: ASYNC110 - what is waited for happens in other processes
                    await asyncio.sleep(0.25)
        except TimeoutError:
            print(f"no {what} within {within_s:.0f} s", flush=True)
            raise

    def _verdict(self, rate: float, settled: bool) -> bool:
        self.peak_kb = max(self.peak_kb, self._memory().get("VmHWM", 0))
        check, asked = self.check, self.args.rate
        found = check.rest()
        count = ", ".join(f"{name} {number:,}" for name, number in check.count.items())
        print(f"\n{count}; " + ", ".join(f"{name} {times}" for name, times in self.done.items()))
        for gap_id in check.gap_ids[:10]:
            print(f"  {gap_id}")
        lines = (
            (
                not found,
                f"what was received is in the log once and in order, or covered by a GAP; {len(found)} differences",
            ),
            (settled, "what was not received came from the histories, and the account is live"),
            (not self.stops, f"each SIGTERM is an orderly end: {self.stops or 'all'}"),
            (
                self.peak_kb <= self.args.memory * 1024,
                f"memory of the publisher: {self.peak_kb / 1024:,.0f} MB at most, bound {self.args.memory} MB",
            ),
            (rate >= asked * LEAST_SHARE, f"{rate:,.0f} order events a second were sent, {asked:,.0f} were asked for"),
        )
        for good, line in lines:
            print(f"{'holds' if good else 'FAILS'}  {line}")
        for one in found[:5]:
            print(f"  {one}")
        return all(good for good, _ in lines)


@asynccontextmanager
async def exchange_process(args: argparse.Namespace, check: Check) -> AsyncIterator[ExchangeProcess]:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "bench.flood", "serve", str(args.rate))
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 26)
    try:
        yield ExchangeProcess(process, check)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await process.wait()
        if process.returncode is None:
            process.kill()


async def flood(args: argparse.Namespace, directory: Path) -> bool:
    """One run; whether everything held."""
    check = Check()
    async with AsyncExitStack() as stack:
        server = stack.enter_context(EmbeddedServer())
        exchange = await stack.enter_async_context(exchange_process(args, check))
        first = asyncio.create_task(exchange.read())
        port = await exchange.answer("port")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        settings = {
            "REDIS_URL": server.url,
            "ACCOUNT": "flood",
            "API_KEY": "demo-key",
            "API_SECRET": "demo-secret",
            "REST_URL": f"http://127.0.0.1:{port}",
            "WS_URL": f"ws://127.0.0.1:{port}",
            "EVENTS_RETENTION_S": str(RETENTION_S),
        }
        client = redis.asyncio.Redis.from_url(server.url, decode_responses=True, protocol=3, socket_timeout=60)
        stack.push_async_callback(client.aclose)
        print(f"logs in {directory}", flush=True)
        run = Run(args, directory, settings, client, exchange, check, stack)
        held = await run.run()
    for number in range(1, run.starts + 1):
        complained = complaints(directory / f"publisher-{number}.log")
        print(
            f"publisher {number}: "
            + (", ".join(f"{name} {n}" for name, n in complained.most_common()) or "no complaint")
        )
    return held


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        uvloop.run(serve(float(sys.argv[2])))
        return
    parser = argparse.ArgumentParser(
        prog="flood", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the load lasts (default 30)")
    parser.add_argument("--rate", type=float, default=2000.0, help="order events a second (default 2000)")
    parser.add_argument("--flood", type=int, default=100_000, help="frames in one go, before that (default 100000)")
    parser.add_argument("--memory", type=int, default=MEMORY_MB, help=f"bound in MB (default {MEMORY_MB})")
    args = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="statecast-flood-"))
    held = uvloop.run(flood(args, directory))
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
