"""The Redis URL of the reading commands, from options, environment, .env and file; and their exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from statecast.settings import Names

TERMINATED = 128 + 15


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options for the Redis URL."""
    text = "Redis server: redis://, rediss:// or unix://  [STATECAST_REDIS_URL]"
    parser.add_argument("--redis-url", dest="REDIS_URL", metavar="URL", help=text)
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file with settings")


def redis_url(args: argparse.Namespace) -> str:
    """The URL to read from.

    Raises:
        ConfigError: the setting cannot work.
    """
    from statecast import settings
    from statecast.store.client import check_running_url

    # A publisher's file may hold settings of venues. Without one, the venues need not be imported.
    names = settings.Names() if args.config is None else _all_names()
    loaded = settings.load(names, {"REDIS_URL": args.REDIS_URL}, os.environ, args.config)
    url = loaded.get("REDIS_URL", settings.DEFAULT_REDIS_URL)
    check_running_url(url)
    return url


def _all_names() -> Names:
    from statecast.venues import registry

    return registry.names()


def run(args: argparse.Namespace, work: Callable[[argparse.Namespace, str], Coroutine[Any, Any, int]]) -> int:
    """Run `work(args, url)`; a user's mistake becomes one line and the contract's exit code."""
    import asyncio

    from statecast.errors import ConfigError, StatecastError, StoreAuthFailed

    try:
        return asyncio.run(_until_terminated(work(args, redis_url(args))))
    except asyncio.CancelledError:
        return TERMINATED
    except (ConfigError, StoreAuthFailed) as error:
        print(f"statecast: {error}", file=sys.stderr)
        return 2
    except StatecastError as error:
        print(f"statecast: {error}", file=sys.stderr)
        return 1


async def _until_terminated(work: Coroutine[Any, Any, int]) -> int:
    """SIGTERM ends the work as Ctrl-C does, so that a terminal gets its cursor back."""
    import asyncio
    import signal

    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work
