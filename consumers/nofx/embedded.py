"""Embedded mode: the publisher in the bot's own process. Nowhere else does the readers' library know the publisher.

That is the exception to a rule: users who come from a stream inside each bot have one program, and start no second one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog

from publisher import config
from publisher.service import publishing, system_chance
from statecast.clock import SystemClock
from statecast.settings import Settings

_log = logging.getLogger("statecast.publisher")


@asynccontextmanager
async def publisher(values: Mapping[str, str], redis_url: str) -> AsyncIterator[asyncio.Task[None]]:
    """Publish one account while the context lasts; its task only ends by an error that waiting cannot fix.

    Where another process holds the account's lease, it waits as a standby.

    Raises:
        ConfigError: a setting cannot work.
    """
    _log_through_logging()
    built = config.build(Settings(values, (values,)))
    async with publishing(built, redis_url, SystemClock(), system_chance()) as work:
        work.add_done_callback(_log_end)
        yield work


def _log_end(work: asyncio.Task[None]) -> None:
    if not work.cancelled() and (error := work.exception()) is not None:
        _log.error("the publisher in this process has ended: %s", error)


def _log_through_logging() -> None:
    """The publisher logs by structlog, which prints to a bot's standard output unless somebody has configured it."""
    if structlog.is_configured():
        return
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=lambda *_: _log,
    )
