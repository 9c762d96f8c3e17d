"""`make soak`: hours in minutes. One account under load and faults, to see that nothing grows that must not.

A publisher process follows a simulated exchange process and writes to a real server; two consumer groups, a mirror and
an auditor read along in this process. Every few seconds something goes wrong, chosen by a seed. What the publisher
holds is looked at from outside, so that the program under test is the one that users run: memory, descriptors and
threads from /proc, connections from the exchange and from Redis. Tasks of the event loop cannot be seen from outside;
`tests/failures/test_soak.py` counts them, under the same faults with the publisher in its own process. Here a task
that is left behind shows in the memory.

At the end the exchange rests, and Redis must equal its ledger. Ctrl-C ends the load early and judges what there is; a
second one ends at once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import aiohttp
import orjson
import redis.asyncio
import redis.exceptions
import uvloop
from support.truth import differences, order_differences

from consumers import AccountMirror, Gap, OrderEvent, OrderEvents, StaleState
from publisher.log_window import OVERLAP_MS, WRITTEN_LATE_MS
from statecast.embedded.guarded import guarded
from statecast.embedded.server import EmbeddedServer
from statecast.store.client import connect
from statecast.store.keys import AccountId, AccountKeys
from statecast.store.reader import read_account

ACCOUNT = AccountId("binance", "soak")
KEYS = AccountKeys(ACCOUNT)
GROUPS = ("soak-a", "soak-b")
RETENTION_S = 60
"""Of order events: as short as this, the log must stop growing within the run."""

GAP_REACHES_S = (OVERLAP_MS + WRITTEN_LATE_MS) / 1000
"""Beyond the moment until which the log is complete: so much of it is not trimmed, however old."""

BURST_S = 10.0
SAMPLE_S = 5.0
FAULT_LASTS_S = 3.0
"""Of what is wrong with REST and with new connections."""

SETTLE_WITHIN_S = 240.0
"""For the exchange's ledger to be in Redis when it rests: a gap fill may have to wait for a minute's request weight."""

SLOPE_KB_PER_MINUTE = 128.0
"""Of the publisher's memory over the second half: what is left of the noise of the allocator. A leak of 5 bytes an
event is more at 500 events a second."""
SLOPE_SHARE = 0.02
"""In short runs the slope is that of single pages: below this share of the memory over the whole second half, it is
none."""

MAX_ORDERS_IN_DOUBT = 2_000
"""Differences that are kept; the first one says enough."""

TRADER = 5.0
"""Steps a second of the random trader: fills, positions, conditional orders, next to the bursts."""

MOVING = re.compile(
    r"(position|balance|totals) .*(markPrice|[pP]rofit|notional|[mM]argin|availableBalance|liquidationPrice) "
)
"""Differences in what moves with the market, which does not rest: a price of a second ago is no fault."""

EXECUTION_ENDS = frozenset({"FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH", "REJECTED"})


class Sample(NamedTuple):
    """One look at everything; memory in KB."""

    at_s: float
    state: str
    age_ms: int
    made: int
    """Order events that the exchange made."""
    written: int
    """`eventSeq` of the status."""
    complete_age_s: float
    """Of `eventsCompleteMs`; the venue's clock is this machine's."""
    rss_kb: int
    fds: int
    threads: int
    cpu_s: float
    sockets: int
    """Of the publisher at the exchange."""
    connections: int
    """Of the publisher at Redis."""
    redis_kb: int
    keys: int
    log: int
    changes: int
    streams: int
    """Entries of all other streams."""


@dataclass
class Auditor:
    """Compares the log with the ledger, order by order, while both go on. Finished orders are forgotten but by id."""

    logged: defaultdict[str, list[dict[str, str]]] = field(default_factory=lambda: defaultdict(list))
    made: defaultdict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    finished: set[str] = field(default_factory=set)
    found: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    entries: int = 0
    last_seq: int = 0
    fetched: int = 0
    """Entries with source=rest."""

    def read(self, entry: dict[str, str]) -> None:
        """An entry of the log, in its order."""
        seq = int(entry["eventSeq"])
        if seq != self.last_seq + 1:
            self._note(f"eventSeq {seq} follows {self.last_seq}")
        self.last_seq = seq
        self.entries += 1
        self.fetched += entry["source"] == "rest"
        if entry["eventType"] == "GAP":
            self.gaps.append(entry["eventId"])
        elif not entry["algoId"]:  # the exchange keeps no history of conditional orders' steps to compare with
            if entry["orderId"] in self.finished:
                self._note(f"{entry['eventId']} stands in the log after the end of its order")
            self.logged[entry["orderId"]].append(entry)
            self._finish(entry["orderId"])

    def note_made(self, event: dict[str, Any]) -> None:
        """An event of the ledger, in its order."""
        order_id = str(event["i"])
        self.made[order_id].append(event)
        self._finish(order_id)

    def rest(self) -> list[str]:
        """What does not agree when all events are made and written."""
        for order_id in self.logged.keys() | self.made.keys():
            for difference in self._differences(order_id):
                self._note(difference)
        return self.found

    def _finish(self, order_id: str) -> None:
        ours, theirs = self.logged.get(order_id), self.made.get(order_id)
        if ours and theirs and ours[-1]["status"] in EXECUTION_ENDS and theirs[-1]["X"] in EXECUTION_ENDS:
            for difference in self._differences(order_id):
                self._note(difference)
            del self.logged[order_id], self.made[order_id]
            self.finished.add(order_id)

    def _differences(self, order_id: str) -> list[str]:
        return order_differences(order_id, self.logged.get(order_id, []), self.made.get(order_id, []))

    def _note(self, difference: str) -> None:
        if len(self.found) < MAX_ORDERS_IN_DOUBT:
            self.found.append(difference)


@dataclass
class Group:
    """What one consumer group was given."""

    name: str
    last_seq: int = 0
    given: int = 0
    again: int = 0
    missed: list[str] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    async def follow(self, url: str) -> None:
        async with OrderEvents(ACCOUNT, url, self.name, start="beginning", on_gap=self.gaps.append) as events:
            await events.run(self._take)

    def _take(self, event: OrderEvent) -> None:
        self.given += 1
        if event.event_seq <= self.last_seq:
            self.again += 1
        elif event.event_seq > self.last_seq + 1:
            self.missed.append(f"{self.last_seq + 1} to {event.event_seq - 1}")
        self.last_seq = max(self.last_seq, event.event_seq)


class Exchange:
    """The simulated exchange's control API."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    async def get(self, name: str, /, **query: int) -> Any:
        async with self._http.get(f"{self._url}/simulate/{name}", params=query) as answer:
            return orjson.loads(await answer.read())

    async def post(self, name: str, /, **args: object) -> None:
        async with self._http.post(f"{self._url}/simulate/{name}", data=orjson.dumps(args)) as answer:
            if answer.status != 200:
                raise RuntimeError(f"{name} {args}: {(await answer.read()).decode()}")

    async def fault(self, name: str, /, **args: object) -> None:
        await self.post("fault", name=name, **args)


@dataclass
class Faults:
    """What goes wrong, one after the other, chosen by chance with a seed."""

    exchange: Exchange
    server: Any
    rng: Random
    done: Counter[str] = field(default_factory=Counter)
    last: str = "none"

    async def run(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(self.rng.uniform(0.5, 1.5) * every_s)
            name, fault = self.rng.choice(self._all())
            self.last = name
            await fault()
            self.done[name] += 1

    def _all(self) -> Sequence[tuple[str, Callable[[], Awaitable[None]]]]:
        fault, rng = self.exchange.fault, self.rng
        banned = '{"code":-1003,"msg":"Too many requests"}'
        html = "<html><body>502 Bad Gateway</body></html>"
        return (
            ("user stream cut", lambda: fault("cut_sockets", kind="private")),
            ("market stream cut", lambda: fault("cut_sockets", kind="market")),
            ("user stream silent, then cut", lambda: self._silence(rng.uniform(2, 6))),
            ("malformed frame", lambda: fault("send_raw", text='{"e":"ORDER_TRADE_UPDATE","o":{"s":"BTCUSDT"')),
            ("frames doubled", lambda: fault("duplicate_user_frames", count=rng.randint(10, 500))),
            ("frames late", lambda: fault("delay_user_frames", count=rng.randint(1, 50), delay_ms=700)),
            ("REST 429", lambda: self._for_a_while("answer_rest", count=1, status=429, body=banned)),
            ("REST 503", lambda: self._for_a_while("answer_rest", count=rng.randint(1, 3), status=503, body="")),
            ("REST HTML", lambda: self._for_a_while("answer_rest", count=rng.randint(1, 3), status=502, body=html)),
            ("REST slow", lambda: self._for_a_while("delay_rest", count=rng.randint(1, 3), delay_ms=2500)),
            ("stream refused", self._refuse),
            ("listenKey expired", lambda: fault("expire_listen_key")),
            ("server shutdown announced", lambda: fault("server_shutdown")),
            ("Redis connection killed", self._kill),
            ("Redis paused", lambda: self._pause(rng.randint(200, 1500))),
            ("Redis paused beyond the lease", lambda: self._pause(rng.randint(2600, 4000))),
        )

    async def _silence(self, for_s: float) -> None:
        """As a connection dies on its way: silence first, then its end."""
        await self.exchange.fault("mute_user_sockets", on=True)
        await asyncio.sleep(for_s)
        await self.exchange.fault("mute_user_sockets", on=False)
        await self.exchange.fault("cut_sockets", kind="private")

    async def _refuse(self) -> None:
        await self.exchange.fault("cut_sockets", kind="private")
        await self._for_a_while("refuse_sockets", count=self.rng.randint(1, 3))

    async def _for_a_while(self, name: str, **args: object) -> None:
        """Not until somebody asks: who waits for long would meet nothing but what was laid out meanwhile."""
        await self.exchange.fault(name, **args)
        await asyncio.sleep(FAULT_LASTS_S)
        await self.exchange.fault("clear")

    async def _kill(self) -> None:
        clients = await self.server.client_list()
        ours = [row for row in clients if row["name"].startswith("statecast-")]
        if ours:
            await self.server.client_kill_filter(_id=self.rng.choice(ours)["id"])

    async def _pause(self, for_ms: int) -> None:
        await self.server.client_pause(for_ms)


@dataclass
class Soak:
    """The whole of one run."""

    args: argparse.Namespace
    redis_url: str
    server: Any
    exchange: Exchange
    rng: Random
    stop: asyncio.Event
    samples: list[Sample] = field(default_factory=list)
    auditor: Auditor = field(default_factory=Auditor)
    groups: tuple[Group, ...] = field(default_factory=lambda: tuple(Group(name) for name in GROUPS))
    mirror_reads: Counter[str] = field(default_factory=Counter)
    last_id: str = "0-0"
    events_read: int = 0

    async def run(self) -> bool:
        """Load, faults and samples for the time given, then rest; whether everything held."""
        await self._until("live", self._is_live, 60)
        faults = Faults(self.exchange, self.server, self.rng)
        began = time.monotonic()
        readers = [asyncio.create_task(group.follow(self.redis_url)) for group in self.groups]
        readers += [asyncio.create_task(work) for work in (self._mirror(), self._audit_log(), self._audit_ledger())]
        load = [asyncio.create_task(work) for work in (self._load(), self._trade(), faults.run(self.args.fault_s))]
        try:
            while time.monotonic() < began + self.args.minutes * 60 and not self.stop.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(SAMPLE_S):
                        await self.stop.wait()
                self._check([*readers, *load])
                await self._sample(time.monotonic() - began, faults)
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)
            await self.exchange.fault("clear")
            print("resting: the exchange is quiet, Redis has to agree with its ledger", flush=True)
            settled = await self._settled()
            self._check(readers)
            return self._verdict(faults, settled)
        finally:
            for task in (*readers, *load):
                task.cancel()
            await asyncio.gather(*readers, *load, return_exceptions=True)

    # What happens

    async def _load(self) -> None:
        count = int(self.args.rate * BURST_S)
        while True:
            kind = "fills" if self.rng.random() < 0.2 else "cancels"
            await self.exchange.post("burst", count=count, rate=self.args.rate, kind=kind)

    async def _trade(self) -> None:
        while True:
            await self.exchange.post("step")
            await asyncio.sleep(1 / TRADER)

    async def _mirror(self) -> None:
        async with AccountMirror(ACCOUNT, self.redis_url) as mirror:
            while True:
                try:
                    mirror.snapshot()
                    self.mirror_reads["fresh"] += 1
                except StaleState:
                    self.mirror_reads["stale"] += 1
                await asyncio.sleep(0.2)

    async def _audit_log(self) -> None:
        while True:
            try:
                answer = await self.server.xread({KEYS.order_events: self.last_id}, count=2_000)
            except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
                answer = None
            for entry_id, fields in (answer or {}).get(KEYS.order_events, [[]])[0] if answer else []:
                self.last_id = entry_id
                self.auditor.read(fields)
            await asyncio.sleep(0.5)

    async def _audit_ledger(self) -> None:
        while True:
            await self._read_made()
            await asyncio.sleep(2)

    async def _read_made(self) -> dict[str, Any]:
        dump: dict[str, Any] = await self.exchange.get("ledger", order_events_from=self.events_read)
        for event in dump["orderEvents"]:
            if event["index"] >= self.events_read:
                self.events_read = event["index"] + 1
                self.auditor.note_made(event)
        return dump

    # What is looked at

    async def _status(self) -> dict[str, str]:
        status: dict[str, str] = await self.server.hgetall(KEYS.status)
        return status

    async def _is_live(self) -> bool:
        return (await self._status()).get("state") == "live"

    async def _sample(self, at_s: float, faults: Faults) -> None:
        status = await self._status()
        pid = int(status["publisherId"].rsplit("-", 2)[1])
        process = _of_process(pid)
        requests, memory = await self.exchange.get("requests"), await self.server.info("memory")
        seconds, _ = await self.server.time()
        clients = await self.server.client_list()
        streams = [
            key
            async for key in self.server.scan_iter(match=f"{KEYS.order_events.rpartition(':')[0]}:*", _type="stream")
        ]
        others = [key for key in streams if key not in (KEYS.order_events, KEYS.changes)]
        sample = Sample(
            at_s=at_s,
            state=status["state"],
            age_ms=int(seconds) * 1000 - int(status.get("verifiedAtMs", 0)),
            made=self.events_read,
            written=int(status["eventSeq"]),
            complete_age_s=time.time() - int(status["eventsCompleteMs"]) / 1000,
            **process,
            sockets=len(requests["sockets"]),
            connections=sum(row["name"] in ("statecast-publisher", "statecast-answers") for row in clients),
            redis_kb=memory["used_memory"] // 1024,
            keys=await self.server.dbsize(),
            log=await self.server.xlen(KEYS.order_events),
            changes=await self.server.xlen(KEYS.changes),
            streams=sum([await self.server.xlen(key) for key in others]),
        )
        self.samples.append(sample)
        print(
            f"{at_s / 60:6.2f} min  {sample.state:<10} events {sample.made:>9,}  in Redis {sample.written:>9,}  "
            f"rss {sample.rss_kb / 1024:6.1f} MB  fds {sample.fds:>3}  threads {sample.threads}  "
            f"sockets {sample.sockets}  connections {sample.connections}  redis {sample.redis_kb / 1024:6.1f} MB  "
            f"keys {sample.keys}  log {sample.log:>7,}  changes {sample.changes:>6,}  "
            f"faults {faults.done.total()}, last: {faults.last}",
            flush=True,
        )

    def _check(self, tasks: Iterable[asyncio.Task[None]]) -> None:
        for task in tasks:
            if task.done():
                task.result()

    async def _settled(self) -> list[str]:
        """What Redis says otherwise than the ledger when both rest; empty when they agree in time."""
        found = ["never compared"]

        async def agree() -> bool:
            nonlocal found
            dump = await self._read_made()
            async with connect(self.redis_url, client_name="soak") as client:
                found = [
                    difference
                    for difference in differences(await read_account(client, ACCOUNT), dump)
                    if not MOVING.match(difference)
                ]
            status = await self._status()
            if int(status["eventSeq"]) > self.auditor.last_seq:
                found.append("the auditor has not read the whole log")
            behind = [group.name for group in self.groups if group.last_seq < int(status["eventSeq"])]
            if behind:
                found.append(f"{', '.join(behind)} have not had the whole log")
            missing = len(self.auditor.made)
            ended = sum(rows[-1]["X"] in EXECUTION_ENDS for rows in self.auditor.made.values())
            if ended:
                found.append(f"of {missing} orders that are not settled, {ended} have ended")
            return not found and status["state"] == "live"

        with suppress(TimeoutError):
            await self._until("agreement", agree, SETTLE_WITHIN_S)
        return found

    async def _until(self, what: str, condition: Callable[[], Awaitable[bool]], within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not await condition():  # noqa: ASYNC110 - what is waited for happens in other processes
                    await asyncio.sleep(0.5)
        except TimeoutError:
            print(f"no {what} within {within_s:.0f} s", flush=True)
            raise

    # What it means

    def _verdict(self, faults: Faults, settled: list[str]) -> bool:
        half = self.samples[len(self.samples) // 2 :]
        before = self.samples[: len(self.samples) // 2] or half
        if len(half) < 3:
            print("too short to judge")
            return False
        first, last = self.samples[0], self.samples[-1]
        minutes = (half[-1].at_s - half[0].at_s) / 60
        slope = statistics.linear_regression([s.at_s / 60 for s in half], [s.rss_kb for s in half]).slope
        rss = statistics.median(s.rss_kb for s in half)
        bound = max(SLOPE_KB_PER_MINUTE, SLOPE_SHARE * rss / minutes)
        events = last.written - first.written
        live = sum(s.state == "live" for s in self.samples) / len(self.samples)
        found = self.auditor.rest()
        missed = [f"{group.name}: {', '.join(group.missed[:3])}" for group in self.groups if group.missed]
        gaps = [f"{group.name}: {gap.reason}" for group in self.groups for gap in group.gaps]

        print(f"\n{last.at_s / 60:.1f} min, seed {self.args.seed}: {events:,} order events in Redis,", end=" ")
        print(f"{events / last.at_s:,.0f} a second;", end=" ")
        print(f"{self.auditor.fetched:,} of {self.auditor.entries:,} by REST; live in {live:.0%} of the samples")
        print(f"CPU of the publisher {(last.cpu_s - first.cpu_s) / max(1, events) * 1e6:,.0f} µs an event")
        given = ", ".join(f"{group.name} {group.given:,} ({group.again:,} again)" for group in self.groups)
        print(f"groups were given {given}; mirror {dict(self.mirror_reads)}")
        print("faults: " + ", ".join(f"{name} {count}" for name, count in sorted(faults.done.items())))
        memory = f"memory of the publisher: {slope:+,.0f} KB a minute over the last {minutes:.1f} min"
        lines = (
            (slope <= bound, f"{memory} at {rss / 1024:,.1f} MB, bound {bound:,.0f}"),
            _no_growth("descriptors", [s.fds for s in before], [s.fds for s in half], 4),
            _no_growth("threads", [s.threads for s in before], [s.threads for s in half], 0),
            _no_growth("sockets at the exchange", [s.sockets for s in before], [s.sockets for s in half], 1),
            _no_growth("connections at Redis", [s.connections for s in before], [s.connections for s in half], 2),
            _no_growth("keys in Redis", [s.keys for s in before], [s.keys for s in half], 3),
            _bounded("entries of …:order-events", [s.log for s in half], self._most_entries()),
            _bounded("entries of …:changes", [s.changes for s in half], 20_500),
            _bounded("entries of all other streams", [s.streams for s in half], 500),
            (not settled, "Redis equals the ledger at rest" + _first(settled)),
            (
                not found,
                f"the log has every order's events once and in order ({len(self.auditor.finished):,} orders)"
                + _first(found),
            ),
            (not self.auditor.gaps, "the log has no entry of type GAP" + _first(self.auditor.gaps)),
            (not missed, "no group missed a number" + _first(missed)),
            (not gaps, "no gap was reported to a group" + _first(gaps)),
        )
        for good, line in lines:
            print(f"{'holds' if good else 'FAILS'}  {line}")
        return all(good for good, _ in lines)

    def _most_entries(self) -> int:
        """Of the log: what was written within the retention, or what a gap may reach, and until the publisher looks
        again; what it always keeps; and what groups may be behind."""
        window = max(RETENTION_S, GAP_REACHES_S + max(sample.complete_age_s for sample in self.samples)) + 45.0
        written = (b.written - a.written for b in self.samples for a in self.samples if 0 <= b.at_s - a.at_s <= window)
        return max(written) + 5_000 + round(self.args.rate * 30)


def _no_growth(what: str, before: Sequence[int], after: Sequence[int], more: int) -> tuple[bool, str]:
    """Against the most of the first half, for faults make both go up and down."""
    return max(after) <= max(before) + more, f"{what}: at most {max(before)}, then {max(after)}"


def _bounded(what: str, values: Sequence[int], most: int) -> tuple[bool, str]:
    return max(values) <= most, f"{what}: at most {max(values):,}, bound {most:,}"


def _first(found: Sequence[str]) -> str:
    return f"; {len(found)} differences, first: {found[0]}" if found else ""


def _of_process(pid: int) -> dict[str, Any]:
    """Memory (KB), open descriptors, threads and CPU time (s) of a process, as Linux reports them."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines())
    times = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return {
        "rss_kb": int(status["VmRSS"].split()[0]),
        "threads": int(status["Threads"]),
        "fds": len(os.listdir(f"/proc/{pid}/fd")),
        "cpu_s": (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"),
    }


@asynccontextmanager
async def program(log: Path, *arguments: str, **settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program of ours, whose output goes to `log`, and which ends with us however we end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STATECAST_")}
    environment |= {f"STATECAST_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *guarded("soak", [sys.executable, "-m", *arguments]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment,
        cwd=log.parent,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    copying = asyncio.create_task(_copy(process.stdout, log))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            with suppress(TimeoutError):
                async with asyncio.timeout(6):
                    await process.wait()
        process.stdin.close()
        await process.wait()
        await process.stderr.read()
        await copying


async def _copy(stream: asyncio.StreamReader, path: Path) -> None:
    with path.open("wb") as file:
        while data := await stream.read(65536):
            file.write(data)
            file.flush()


async def exchange_url(log: Path) -> str:
    """Where the exchange listens, once it says so."""
    async with asyncio.timeout(30):
        while True:
            lines = _lines(log)
            if "ready" in lines:
                return next(line.split()[1] for line in lines if line.startswith("REST"))
            await asyncio.sleep(0.1)


def _lines(log: Path) -> list[str]:
    return log.read_text("utf-8", errors="replace").splitlines() if log.exists() else []


def complaints(log: Path) -> Counter[str]:
    """Warnings and errors of the publisher's log, by their names; states with the first words of their reason."""
    found: Counter[str] = Counter()
    for line in _lines(log):
        try:
            record: Mapping[str, Any] = orjson.loads(line)
        except orjson.JSONDecodeError:
            found[f"not a record: {line[:100]}"] += 1
            continue
        if record.get("level") not in ("info", "debug"):
            found[f"{record.get('level')} {record.get('event')}"] += 1
    return found


async def soak(args: argparse.Namespace, directory: Path) -> bool:
    """One run; whether everything held."""
    stop = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupted() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    loop.add_signal_handler(signal.SIGINT, interrupted)
    loop.add_signal_handler(signal.SIGTERM, interrupted)
    rng = Random(args.seed)
    async with AsyncExitStack() as stack:
        server = stack.enter_context(EmbeddedServer())
        simulate = ("statecast.cli.main", "simulate", "--port", "0", "--seed", str(args.seed))
        await stack.enter_async_context(program(directory / "exchange.log", *simulate, "--balance", "USDT=1000000"))
        url = await exchange_url(directory / "exchange.log")
        settings = {
            "REDIS_URL": server.url,
            "ACCOUNT": ACCOUNT.account,
            "API_KEY": "demo-key",
            "API_SECRET": "demo-secret",
            "REST_URL": url,
            "WS_URL": url.replace("http", "ws"),
            "EVENTS_RETENTION_S": str(RETENTION_S),
            "GROUP_EXPIRY_S": "600",
        }
        await stack.enter_async_context(program(directory / "publisher.log", "publisher", **settings))
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)))
        client = redis.asyncio.Redis.from_url(
            server.url, decode_responses=True, protocol=3, socket_timeout=30, client_name="soak"
        )
        stack.push_async_callback(client.aclose)
        print(f"seed {args.seed}, logs in {directory}", flush=True)
        held = await Soak(args, server.url, client, Exchange(http, url), rng, stop).run()
    complained = complaints(directory / "publisher.log")
    print(
        "the publisher's log: "
        + (", ".join(f"{name} {count}" for name, count in complained.most_common()) or "no complaint")
    )
    return held


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="how long the load lasts (default 30)")
    parser.add_argument("--rate", type=float, default=500.0, help="order events a second (default 500)")
    parser.add_argument("--fault-s", type=float, default=5.0, help="mean time between faults (default 5)")
    parser.add_argument("--seed", type=int, default=1, help="what the faults follow from (default 1)")
    args = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="statecast-soak-"))
    try:
        held = uvloop.run(soak(args, directory))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted")
        sys.exit(130)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
