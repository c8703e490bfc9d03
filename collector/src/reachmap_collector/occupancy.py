"""One collector to a data directory.

Two would run two NATS servers on the files of one, and book what came to one store twice over.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from reachmap_collector.errors import ServerError

if sys.platform != "win32":
    import fcntl

_LOCK: Final = "lock"


@contextlib.contextmanager
def occupied(data: Path) -> Iterator[None]:
    """Have a data directory to ourselves; the kernel gives it back whatever ends the process.

    Raises:
        ServerError: Another collector is at work there.
        OSError: The directory cannot be written.
    """
    handle = os.open(data / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform != "win32":  # there the servers' ports alone tell
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ServerError(
                    f"{data}: another collector is at work there: stop it first, "
                    "or give this one a directory of its own with --data"
                ) from None
        yield
    finally:
        os.close(handle)
