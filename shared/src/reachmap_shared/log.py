"""How reachmap logs: one line an event, JSON when nobody is watching.

It goes to standard error, if nothing else is said. By Python's own logging, which asyncio has
loaded already: a library for it was 1 MB of memory on each endpoint.
"""

import contextlib
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

_OURS: Final = "reachmap"


class Logger:
    """Says what happened in one component, and the facts of it by name."""

    __slots__ = ("_component", "_logger")

    def __init__(self, component: str) -> None:
        self._component = component
        self._logger = logging.getLogger(f"{_OURS}.{component}")

    def debug(self, event: str, **facts: object) -> None:
        """What only developers want to know."""
        self._tell(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: object) -> None:
        """What happens when all is well."""
        self._tell(logging.INFO, event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """What mends itself, or may."""
        self._tell(logging.WARNING, event, facts)

    def error(self, event: str, **facts: object) -> None:
        """What somebody must mend."""
        self._tell(logging.ERROR, event, facts)

    def exception(self, event: str, **facts: object) -> None:
        """An error, with the exception that is being handled."""
        self._tell(logging.ERROR, event, facts, is_exception=True)

    def _tell(
        self, level: int, event: str, facts: dict[str, object], *, is_exception: bool = False
    ) -> None:
        if self._logger.isEnabledFor(level):
            whole = {"component": self._component, **facts}
            self._logger.log(level, event, exc_info=is_exception, extra={"facts": whole})


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


class _ForPrograms(logging.Formatter):
    """A JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            **getattr(record, "facts", {}),
            "event": record.getMessage(),
            "level": record.levelname.lower(),
            "timestamp": _when(record).isoformat().replace("+00:00", "Z"),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=repr)


class _ForPeople(logging.Formatter):
    """A line of words, and below it the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        facts = dict(getattr(record, "facts", {}))
        who = facts.pop("component", record.name)
        parts = [
            f"{_when(record):%H:%M:%S} {record.levelname.lower():8}{who}: {record.getMessage()}"
        ]
        parts += [f"{name}={_word(value)}" for name, value in facts.items()]
        line = "  ".join(parts)
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


def _when(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _word(value: object) -> str:
    """A value as one word; what others said is quoted, and can do nothing to a terminal."""
    text = str(value)
    return text if text.isprintable() and " " not in text else repr(text)


def configure(*, verbose: bool = False, quiet: bool = False, stream: TextIO | None = None) -> None:
    """Set up logging for this process.

    Args:
        verbose: Show debug events too.
        quiet: Show errors alone.
        stream: Where to, if not standard error.
    """
    stream = sys.stderr if stream is None else stream
    handler = logging.StreamHandler(_Lossy(stream))
    handler.setFormatter(_ForPeople() if stream.isatty() else _ForPrograms())
    ours = logging.getLogger(_OURS)
    ours.handlers[:] = [handler]
    ours.setLevel(logging.DEBUG if verbose else logging.ERROR if quiet else logging.INFO)
    # asyncio warns whenever a server ends a TLS connection first, and means its own streams.
    logging.getLogger("asyncio").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return "eof_received" not in record.getMessage()


def get(name: str) -> Logger:
    """The logger of the component `name`."""
    return Logger(name)
