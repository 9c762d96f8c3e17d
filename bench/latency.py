"""From an order event on the exchange to a reader of Redis, through a real publisher process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

RATE = 1_000.0
WARM_UP = 0.2


def read(url: str, key: str, count: int) -> list[float]:
    """Microseconds from each event's stamp until this process has it, for `count` events."""
    client = redis.Redis.from_url(url, decode_responses=True, socket_timeout=10)
    after, found = "0-0", []
    while len(found) < count:
        for _, entries in client.xread({key: after}, block=5000):
            now = time.time_ns()
            for after, fields in entries:  # noqa: B007 - the last id is where to read on
                found.append((now - int(fields["clientOrderId"])) / 1000)
    return found


@contextmanager
def process(*arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A program of ours with pipes to it, ended at the end."""
    environment = os.environ | {f"STATECAST_{name}": value for name, value in settings.items()}
    with subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as running:
        try:
            yield running
        finally:
            running.terminate()


def through_publisher(url: str, seconds: float) -> list[float]:
    """Latencies of the whole way."""
    status = redis.Redis.from_url(url, decode_responses=True)
    key = "statecast:{binance:bench-latency}:"
    with process("bench.exchange", "serve", str(RATE), str(seconds)) as exchange:
        assert exchange.stdout is not None
        assert exchange.stdin is not None
        port = exchange.stdout.readline().strip()
        settings = {
            "REDIS_URL": url,
            "ACCOUNT": "bench-latency",
            "API_KEY": "demo-key",
            "API_SECRET": "demo-secret",
            "REST_URL": f"http://127.0.0.1:{port}",
            "WS_URL": f"ws://127.0.0.1:{port}",
        }
        with process("publisher", **settings):
            while status.hget(key + "status", "state") != "live":
                time.sleep(0.05)
            exchange.stdin.write("go\n")
            exchange.stdin.flush()
            return read(url, key + "order-events", int(RATE * seconds))


def bare(url: str, seconds: float) -> list[float]:
    """Latencies of the floor."""
    with process("bench.exchange", "bare", url, str(RATE), str(seconds)):
        return read(url, "bench:bare", int(RATE * seconds))


def report(url: str, seconds: float) -> None:
    """Print what was measured."""
    rows = {"statecast": through_publisher(url, seconds), "bare XADD": bare(url, seconds)}
    print(f"\nlatency at {RATE:,.0f} order events/s for {seconds:.0f} s, from the event to a reader's hands, in µs")
    print(f"  the exchange's own work is in it; the first {WARM_UP:.0%} of the events are left out of both rows")
    figures = {name: percentiles(values[int(len(values) * WARM_UP) :]) for name, values in rows.items()}
    for name, (p50, p99, p999) in figures.items():
        print(f"  {name:<10} p50 {p50:7,.0f}   p99 {p99:7,.0f}   p99.9 {p999:7,.0f}")
    ratios = [ours / floor for ours, floor in zip(figures["statecast"], figures["bare XADD"], strict=True)]
    print(f"  {'ratio':<10} p50 {ratios[0]:7.1f}   p99 {ratios[1]:7.1f}   p99.9 {ratios[2]:7.1f}")


def percentiles(values: list[float]) -> tuple[float, float, float]:
    ordered = sorted(values)
    last = len(ordered) - 1
    return ordered[last // 2], ordered[int(last * 0.99)], ordered[int(last * 0.999)]
