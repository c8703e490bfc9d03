"""How reachmap logs: one line an event, JSON when nobody is watching.

It goes to standard error, if nothing else is said.
"""

import contextlib
import logging
import sys
from typing import Any, TextIO

import structlog


class _Lossy:
    """A stream that loses what cannot be written: a log on a full disk must not end us."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write it, if that can be done."""
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        """Give what was written to the kernel, if it takes it."""
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure(*, verbose: bool = False, quiet: bool = False, stream: TextIO | None = None) -> None:
    """Set up structlog for this process.

    Args:
        verbose: Show debug events too.
        quiet: Show errors alone.
        stream: Where to, if not standard error.
    """
    stream = sys.stderr if stream is None else stream
    level = logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if not stream.isatty():
        processors += [
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    else:
        processors.append(structlog.dev.ConsoleRenderer())
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(
            _Lossy(stream)  # type: ignore[arg-type]  # it has all that is used of a file
        ),
        cache_logger_on_first_use=True,
    )
    # asyncio warns whenever a server ends a TLS connection first, and means its own streams.
    logging.getLogger("asyncio").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return "eof_received" not in record.getMessage()


def get(name: str) -> Any:
    """The logger of the component `name`."""
    return structlog.get_logger(component=name)
