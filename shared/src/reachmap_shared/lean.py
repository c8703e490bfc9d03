"""Imports the NATS client without what comes along and is never used: 2 MB of an agent's memory.

nats-py's client imports its JetStream client, for the sake of three headers' names, and all that
reads packages' metadata, for the sake of its own version. We speak to JetStream by its subjects.
Whoever asks for more than these names gets the real thing, then.
"""

import contextlib
import importlib
import sys
from collections.abc import Iterator
from enum import Enum
from types import ModuleType
from typing import Any, Final

_METADATA: Final = "importlib.metadata"
_JETSTREAM: Final = "nats.js"
_NAMES: Final = "nats.js.api"


class Header(str, Enum):  # noqa: UP042  as nats-py has it: its members format otherwise
    """The names that nats-py's plain client asks `nats.js.api` for."""

    STATUS = "Status"
    DESCRIPTION = "Description"
    CONSUMER_STALLED = "Nats-Consumer-Stalled"


class _Deputy(ModuleType):
    """Stands for a module until more is asked for than it was given."""

    def __init__(self, name: str, **given: object) -> None:
        super().__init__(name)
        vars(self).update(given)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # what looks at all modules looks for them
            raise AttributeError(name)
        for deputy in (_JETSTREAM, _NAMES):
            if isinstance(sys.modules.get(deputy), _Deputy):
                del sys.modules[deputy]
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def imports() -> Iterator[None]:
    """Within the block `nats` is imported so, if it was not before."""
    if "nats" in sys.modules:
        yield
        return
    modules: dict[str, Any] = sys.modules
    names = _Deputy(_NAMES, Header=Header)
    jetstream = _Deputy(_JETSTREAM, api=names)
    modules |= {_JETSTREAM: jetstream, _NAMES: names}
    hidden = _METADATA not in modules
    if hidden:
        modules[_METADATA] = None  # which `import` takes for: there is none
    try:
        yield
    finally:
        if hidden:
            del modules[_METADATA]
    modules["nats"].js = jetstream  # as if it had been imported from its package
