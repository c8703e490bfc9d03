"""How reachmap logs: one line an event on standard error, JSON when nobody is watching."""

import logging
import sys
from typing import Any

import structlog


def configure(*, verbose: bool = False, quiet: bool = False) -> None:
    """Set up structlog for this process.

    Args:
        verbose: Show debug events too.
        quiet: Show errors alone.
    """
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if not sys.stderr.isatty():
        processors += [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        processors.append(structlog.dev.ConsoleRenderer())
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # asyncio warns whenever a server ends a TLS connection first, and means its own streams.
    logging.getLogger("asyncio").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return "eof_received" not in record.getMessage()


def get(name: str) -> Any:
    """The logger of the component `name`."""
    return structlog.get_logger(component=name)
