"""Looks for OpenUEM on this host: where its components keep their settings."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from reachmap_agent import openuem
from reachmap_agent.openuem import Found

_PLACES: Final[Mapping[str, tuple[tuple[str, openuem.Reader], ...]]] = {
    "linux": (
        ("/etc/openuem-server/openuem.ini", openuem.server),
        ("/etc/openuem-agent/openuem.ini", openuem.agent),
    ),
    "win32": (
        (r"C:\Program Files\OpenUEM Server\config\openuem.ini", openuem.server),
        (r"C:\Program Files\OpenUEM Agent\config\openuem.ini", openuem.agent),
    ),
    "darwin": (("/Library/OpenUEMAgent/etc/openuem-agent/openuem.ini", openuem.agent),),
}
"""Files, and what reads them, by `sys.platform`."""


def look(platform: str = sys.platform, root: Path = Path("/")) -> Found:
    """What there is of OpenUEM on this host; nothing where it is not installed.

    Raises:
        OSError: A file is there and cannot be read; it names the file.
    """
    found = []
    for place, read in _PLACES.get(platform, ()):
        path = root / place.lstrip("/") if root != Path("/") else Path(place)
        try:
            # Line by line: the whole of it, with its secrets, is never held.
            with path.open(encoding="utf-8-sig", errors="replace") as lines:
                found.append(read(lines))
        except FileNotFoundError:
            continue
    return openuem.together(*found)
