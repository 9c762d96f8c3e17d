"""`python -m publisher`, the same service as `statecast publish`: read settings, run, exit code."""

from __future__ import annotations

from publisher import stop_signals

if __name__ == "__main__":  # A stop may be asked for while the rest is imported.
    stop_signals.OF_PROCESS.install()

import argparse
import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

PROGRAM_OPTIONS = (
    ("--redis-url", "REDIS_URL", "URL", "redis:// (redis://127.0.0.1:6379/0), rediss://, unix://, or embedded"),
    ("--venue", "VENUE", "VENUE", "the exchange, one of those below (binance)"),
    ("--account", "ACCOUNT", "NAME", "the account's name in Redis (main)"),
    ("--api-key-file", "API_KEY_FILE", "FILE", "file with the API key"),
    ("--api-secret-file", "API_SECRET_FILE", "FILE", "file with the API secret, or an Ed25519 private key (PEM)"),
    ("--rest-url", "REST_URL", "URL", "another REST host, such as http://127.0.0.1:8900"),
    ("--ws-url", "WS_URL", "URL", "another stream host, such as ws://127.0.0.1:8900"),
    ("--market-ws-url", "MARKET_WS_URL", "URL", "another host for market data; the same as --ws-url if not set"),
    ("--reconcile-s", "RECONCILE_S", "SECONDS", "how often the state is compared with the venue (60)"),
    ("--lease-s", "LEASE_S", "SECONDS", "how long a killed publisher still holds the account (2.5)"),
    ("--mark-price-interval-s", "MARK_PRICE_INTERVAL_S", "SECONDS", "mark prices are written at most this often (1)"),
)

VENUES_PLACE = "{venues}"
"""Where the settings of the venues stand in `EPILOG`."""

DESCRIPTION = """\
Follow an exchange account and keep its state in Redis: balances, positions and open orders as hashes, order events as
a stream. Any number of readers can use them. One publisher writes. A second one is a standby: it follows the account
and takes over when the first one ends.
"""

EPILOG = """\
Values in parentheses are the defaults. "embedded" runs a private Redis server, which ends with the publisher. Every
option is also a setting of the environment or of a .env file (STATECAST_REDIS_URL for --redis-url, and so on), and of a
TOML file (--config). Options override the environment, the environment overrides .env, .env overrides the file.
API key and secret are not options, because other users of the machine could read them. Set STATECAST_API_KEY and
STATECAST_API_SECRET, or the options that name files. Use a key that can only read.

Settings without an option:

    STATECAST_EVENTS_RETENTION_S     order events are kept this long, and until every group has them (604800, a week)
    STATECAST_GROUP_EXPIRY_S         a group without a consumer for this long no longer keeps events (604800)
    STATECAST_SHARED_STREAM          false: the venue sends events to one connection only, so a standby waits (true)

{venues}

Several accounts, in a TOML file:

    redis_url = "redis://127.0.0.1:6379/0"
    [[accounts]]
    account = "main"
    api_key_file = "/run/secrets/main_key"
    api_secret_file = "/run/secrets/main_secret"

Try it without an exchange account:

    statecast simulate --trade 2
    STATECAST_API_KEY=demo-key STATECAST_API_SECRET=demo-secret statecast publish --redis-url embedded \\
        --rest-url http://127.0.0.1:8900 --ws-url ws://127.0.0.1:8900

Exit codes: 0 after an orderly stop (Ctrl-C, SIGTERM), 2 for wrong settings and for keys in Redis that are of another
contract version, 1 for other errors.
"""


class _Help(argparse.RawDescriptionHelpFormatter):
    """Lists the settings of the venues as well. Importing them takes time: it waits until somebody asks for help."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if VENUES_PLACE in text:
            text = text.replace(VENUES_PLACE, _venues_help())
        return super()._fill_text(text, width, indent)


def _venues_help() -> str:
    """The credentials and settings of each venue, by their names."""
    from statecast.settings import PREFIX
    from statecast.venues.registry import VENUES

    parts = []
    for name, venue in VENUES.items():
        lines = {f"{PREFIX}{one}": f"{what}, or {PREFIX}{one}_FILE" for one, what in venue.credentials.items()}
        lines |= {f"{PREFIX}{one}": what for one, what in venue.settings.items()}
        width = max(map(len, lines))
        listed = "\n".join(f"    {setting:{width}}   {what}" for setting, what in lines.items())
        parts.append(f"Settings of {name}:\n\n{listed}")
    return "\n\n".join(parts)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the service, for this program and for `statecast publish`."""
    parser.description = DESCRIPTION
    parser.epilog = EPILOG
    parser.formatter_class = _Help
    for option, name, metavar, text in PROGRAM_OPTIONS:
        parser.add_argument(option, dest=name, metavar=metavar, help=f"{text}  [STATECAST_{name}]")
    help_text = "use the venue's test hosts  [STATECAST_TESTNET]"
    parser.add_argument("--testnet", dest="TESTNET", action="store_const", const="true", help=help_text)
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with settings")


def run(args: argparse.Namespace) -> int:
    """Run the service as the last thing that a process does; the exit code."""
    signals = stop_signals.OF_PROCESS
    signals.install()
    try:
        return _run(args, signals)
    finally:
        signals.ignore()


def _run(args: argparse.Namespace, signals: stop_signals.StopSignals) -> int:
    from publisher import config, logs
    from publisher.service import serve
    from statecast import settings
    from statecast.clock import SystemClock
    from statecast.errors import ConfigError, ContractMismatch, StatecastError
    from statecast.venues import registry

    try:
        names = registry.names()
        options = {name: value for name in names.all if (value := getattr(args, name, None)) is not None}
        built = config.build(settings.load(names, options, os.environ, args.config))
        logs.configure()
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(built, SystemClock(), signals))
    except (ConfigError, ContractMismatch) as error:
        print(f"statecast: {error}", file=sys.stderr)
        return 2
    except StatecastError as error:
        print(f"statecast: {error}", file=sys.stderr)
        return 1
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop halves the time between a frame's arrival and its decoding."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def main() -> int:
    """Entry point of `python -m publisher`."""
    parser = argparse.ArgumentParser(prog="python -m publisher")
    add_arguments(parser)
    return run(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
