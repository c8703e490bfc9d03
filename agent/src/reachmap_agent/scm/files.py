"""The service's folders: anybody may write below ProgramData, so ours are closed to others."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from reachmap_agent.scm import ACCOUNT

LOG: Final = "log"
STATE: Final = "state"

_SYSTEM: Final = "*S-1-5-18"
_ADMINISTRATORS: Final = "*S-1-5-32-544"
"""By their numbers: their names are other ones in other languages."""

_ALL_BELOW: Final = "(OI)(CI)"


def make(folder: Path) -> None:
    """Make the folders, and let the service in: it reads its settings, and writes state and log.

    Raises:
        OSError: They cannot be made.
        subprocess.CalledProcessError: Windows does not change who may use them.
    """
    for name in (STATE, LOG):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for command in commands(folder):
        subprocess.run(command, check=True, capture_output=True)


def commands(folder: Path) -> Iterator[list[str]]:
    """What changes who may use them.

    Whoever made a folder first owns it, and what it says: so it is taken away from them before.
    """
    program = str(Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "icacls.exe")
    yield [program, str(folder), "/setowner", _ADMINISTRATORS, "/T", "/Q"]
    yield [program, str(folder), "/reset", "/T", "/Q"]
    yield [
        *(program, str(folder), "/inheritance:r", "/grant:r"),
        f"{_SYSTEM}:{_ALL_BELOW}F",
        f"{_ADMINISTRATORS}:{_ALL_BELOW}F",
        f"{ACCOUNT}:{_ALL_BELOW}RX",
    ]
    for name in (STATE, LOG):
        yield [program, str(folder / name), "/grant:r", f"{ACCOUNT}:{_ALL_BELOW}M"]
