"""The ports that belong to real services for good: seen once, never taken again.

Kept on disk, so that a restart of the agent or of the host does not forget it. Only an operator
gives a port back, with `reachmap-agent reclaim`.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from reachmap_shared import log
from reachmap_shared.vocabulary import Transport

Port = tuple[Transport, int]

_log = log.get("ceded")


class Ceded:
    """The ceded ports of one agent, and the file that remembers them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports: set[Port] = set()
        self._readable = True
        self._stamp: int | None = None
        self.reload()

    def __contains__(self, port: Port) -> bool:
        # What cannot be read may say anything: then no port is ours.
        return port in self._ports or not self._readable

    def __iter__(self) -> Iterator[Port]:
        return iter(sorted(self._ports))

    def add(self, port: Port) -> None:
        """Cede a port. One that cannot be written down is ceded until the agent ends."""
        if port not in self:
            self._ports.add(port)
            self._save()

    def remove(self, port: Port) -> bool:
        """Take a port back; returns whether it was ceded."""
        if port not in self._ports:
            return False
        self._ports.remove(port)
        self._save()
        return True

    def reload(self) -> None:
        """Take up what an operator has changed in the file."""
        try:
            stamp = self._path.stat().st_mtime_ns
            if stamp == self._stamp:
                return
            self._ports = {_port(text) for text in json.loads(self._path.read_text())}
            self._stamp = stamp
            self._readable = True
        except FileNotFoundError:
            self._ports = set()
        except (OSError, ValueError, TypeError, AttributeError) as error:
            self._readable = False
            _log.warning("ceded ports cannot be read", path=str(self._path), reason=str(error))

    def _save(self) -> None:
        draft = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("w") as file:
                json.dump([f"{transport}/{port}" for transport, port in self], file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            self._stamp = self._path.stat().st_mtime_ns
        except OSError as error:
            _log.warning("ceded ports cannot be kept", path=str(self._path), reason=str(error))


def _port(text: str) -> Port:
    transport, _, number = text.partition("/")
    return Transport(transport), int(number)
