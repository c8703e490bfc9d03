"""How a collector's process looks for garbage: among what is young, and not through its map.

Python looks through all objects whenever there are a quarter more of them, which for the map and
the plans of a large deployment takes seconds in which nothing is answered; and through the young
ones after every 700, which is a sixth of what taking in a report costs.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_YOUNG: Final = (10_000, 20, 20)
"""Objects before the youngest are looked through; and how often those, before the next older."""

_ALL_EVERY_S: Final = 3600.0
"""Between two looks through all there is: some of what was set aside was garbage by then."""


@contextmanager
def rarely_looked_for(
    now: Callable[[], float] = time.monotonic,
) -> Iterator[Callable[[], None]]:
    """For as long as a process serves.

    Gives what is to be called when things that live long were made: all that there is then is set
    aside, until the last one refers to it no more.
    """
    before = gc.get_threshold()
    gc.set_threshold(*_YOUNG)
    looked = now()

    def set_aside() -> None:
        nonlocal looked
        if now() - looked > _ALL_EVERY_S:
            looked = now()
            gc.unfreeze()
            gc.collect()
        else:
            gc.collect(1)  # what has just been left
        gc.freeze()

    try:
        yield set_aside
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@contextmanager
def not_looked_for() -> Iterator[None]:
    """While very much is made that stays: all that a store has becomes the map.

    Python would look through a million things for some again and again, which takes as long as to
    make them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
