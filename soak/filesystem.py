"""Small file systems of folders' own, which can be filled up: a disk that is full, and no other is.

They are tmpfs in a mount namespace that ends with this process, so nothing of them is left; in a
user namespace where that is allowed, so nobody need be root.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MARK = "SOAK_MOUNTS"
_WAYS = (
    ("unshare", "--user", "--map-root-user", "--mount"),
    ("unshare", "--mount"),
)


def enter_namespace() -> None:
    """Run this program anew where it may mount; goes on as it is if that is nowhere."""
    if _MARK in os.environ:
        return
    with tempfile.TemporaryDirectory() as folder:
        for way in _WAYS:
            trial = [*way, "mount", "-t", "tmpfs", "none", folder]
            with contextlib.suppress(OSError):
                if subprocess.run(trial, check=False, stderr=subprocess.DEVNULL).returncode == 0:
                    os.environ[_MARK] = way[1]
                    break
    if can_mount():
        os.execvp("unshare", [*way, sys.executable, *sys.argv])


def can_mount() -> bool:
    """Whether this process may."""
    return bool(os.environ.get(_MARK))


class FileSystem:
    """One of a folder's own.

    Args:
        folder: Made, and mounted on.
        octets: How large it is.
    """

    def __init__(self, folder: Path, octets: int) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={octets}", "none", str(folder)], check=True
        )

    @property
    def free(self) -> int:
        """Octets that are left."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    @contextmanager
    def full(self) -> Iterator[None]:
        """Take all the room that there is, and whatever becomes free, for as long as this lasts."""
        ballast = self._folder / "ballast"
        ends = threading.Event()

        def fill() -> None:
            with ballast.open("wb", buffering=0) as file:
                while not ends.wait(0.02):
                    with contextlib.suppress(OSError):
                        while True:
                            file.write(bytes(4096))

        filling = threading.Thread(target=fill)
        filling.start()
        try:
            yield
        finally:
            ends.set()
            filling.join()
            ballast.unlink()

    def close(self) -> None:
        """Take it away, with all that is on it."""
        subprocess.run(["umount", str(self._folder)], check=True)
