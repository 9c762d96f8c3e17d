"""One event, one line, on standard error: JSON, or pretty on a terminal."""

from __future__ import annotations

import sys

import structlog

Log = structlog.typing.FilteringBoundLogger


def configure(least: str = "info") -> None:
    """Set up this process's log, from the level `least` on."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if not terminal else _unchanged,
            # Plain, for the renderer's own choice shows the variables of every function, and secrets among them.
            structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
            if terminal
            else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )


def _unchanged(
    _logger: structlog.typing.WrappedLogger, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """The console renderer prints exceptions by itself."""
    return event


def account_log(account_id: object) -> Log:
    """A log whose lines name the account."""
    log: Log = structlog.get_logger().bind(account=str(account_id))
    return log
