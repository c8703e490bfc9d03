"""How a collector's process looks for garbage: among what is young, and not through its map.

Python looks through all objects whenever there are a quarter more of them, which for the map and
the plans of a large deployment takes seconds in which nothing is answered; and through the young
ones after every 700, which is a sixth of what taking in a report costs.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_YOUNG: Final = (10_000, 20, 20)
"""Objects before the youngest are looked through; and how often those, before the next older."""


@contextmanager
def rarely_looked_for() -> Iterator[None]:
    """For as long as a process serves."""
    before = gc.get_threshold()
    gc.set_threshold(*_YOUNG)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def set_aside() -> None:
    """All that there is now is there to stay, until the last one refers to it no more."""
    gc.collect(1)  # what has just been left is not
    gc.freeze()
