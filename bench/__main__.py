"""`make bench`: measure on this machine, now. Absolute figures drift with the machine; the ratios are what counts."""

from __future__ import annotations

import argparse
import platform
import subprocess

from bench import burst, gaps, groups, latency, memory, reading
from statecast.embedded.server import EmbeddedServer

DESCRIPTION = """\
burst    one publisher writes 10,000 order events as fast as it can, from the frame's bytes to Redis,
         next to redis-benchmark running the same script with the same arguments on the same server
latency  1,000 order events a second, from the exchange's socket to a reader of Redis,
         next to a bare XADD of as many fields straight from the exchange's process
reading  a mirror's and a reader's answers about an account of 20 positions, next to a bare HGETALL
groups   from the stream of order events to the consumers of 1, 16 and 64 groups, next to bare XREADGROUP loops
memory   what order events weigh that wait for a snapshot or for Redis, as many as may wait, and what the changes
         of 500 positions weigh in Redis after an hour of mark prices
gaps     seconds that an account is not live after a cut, a second one and a restart, and what is asked of the venue:
         500 positions with 2,000 open orders, and 4 positions next to bots that use 1,700 of the 2,400 a minute
"""

WHAT = ("burst", "latency", "reading", "groups", "memory", "gaps")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", choices=[[], *WHAT], help="default: all")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the burst; the median counts (default 5)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of the latency run (default 20)")
    args = parser.parse_args()
    with EmbeddedServer() as server:
        version = subprocess.run([server.binary.path, "--version"], capture_output=True, text=True, check=True).stdout
        print(f"Python {platform.python_version()}, {version.split(' sha')[0].strip()}")
        if not args.what or "burst" in args.what:
            burst.report(server.url, args.rounds)
        if not args.what or "latency" in args.what:
            latency.report(server.url, args.seconds)
        if not args.what or "reading" in args.what:
            reading.report(server.url)
        if not args.what or "groups" in args.what:
            groups.report(server.url)
        if not args.what or "memory" in args.what:
            memory.report(server.url)
        if not args.what or "gaps" in args.what:
            gaps.report(server.url)


if __name__ == "__main__":
    main()
