"""How a collector's process looks for garbage."""

import gc
import weakref

from reachmap_collector import garbage


class Thing:
    """Something that is alive."""

    other: "Thing | None" = None


def test_what_is_set_aside_is_not_looked_through() -> None:
    """And goes when nobody refers to it, as anything does."""
    with garbage.rarely_looked_for():
        kept = Thing()
        garbage.set_aside()
        assert not any(one is kept for one in gc.get_objects())
        alive = weakref.ref(kept)
        del kept
        assert alive() is None


def test_what_was_just_left_is_taken_away_first() -> None:
    """Things that refer to each other would otherwise stay for ever."""
    with garbage.rarely_looked_for():
        one, other = Thing(), Thing()
        one.other, other.other = other, one
        alive = weakref.ref(one)
        del one, other
        garbage.set_aside()
        assert alive() is None


def test_afterwards_all_is_as_before() -> None:
    """A process that served and goes on to something else looks for garbage as ever."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with garbage.rarely_looked_for():
        garbage.set_aside()
        assert gc.get_freeze_count() > frozen
        assert gc.get_threshold() != before
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
