"""A log file of bounded size, for a service that has no standard error."""

import logging
import logging.handlers
from pathlib import Path
from typing import Final

_BYTES: Final = 5 << 20
_OLDER: Final = 3


class LogFile:
    """What `log.configure` writes to; whole lines go to one file or the next.

    Args:
        path: The newest; older ones have `.1` and so on behind it.
        size: How large each may be, in bytes.
    """

    def __init__(self, path: Path, size: int = _BYTES) -> None:
        self._handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=size, backupCount=_OLDER, encoding="utf-8"
        )

    def write(self, text: str) -> int:
        """Write a line; its end, which comes by itself, is the handler's to write."""
        if line := text.rstrip("\n"):
            self._handler.emit(logging.makeLogRecord({"msg": line}))
        return len(text)

    def flush(self) -> None:
        """Every line is given to the system at once."""

    def isatty(self) -> bool:
        """Nobody watches."""
        return False

    def close(self) -> None:
        """Give the file back."""
        self._handler.close()
