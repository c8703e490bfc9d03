"""How a collector's process looks for garbage."""

import gc
import weakref

import pytest

from reachmap_collector import garbage


class Thing:
    """Something that is alive."""

    other: "Thing | None" = None


def pair() -> "weakref.ref[Thing]":
    """Two that refer to each other, and nobody to them."""
    one, other = Thing(), Thing()
    one.other, other.other = other, one
    return weakref.ref(one)


def test_what_is_set_aside_is_not_looked_through() -> None:
    """And goes when nobody refers to it, as anything does."""
    with garbage.rarely_looked_for() as set_aside:
        kept = Thing()
        set_aside()
        assert not any(one is kept for one in gc.get_objects())
        alive = weakref.ref(kept)
        del kept
        assert alive() is None


def test_what_was_just_left_is_taken_away_first() -> None:
    """Things that refer to each other would otherwise stay."""
    with garbage.rarely_looked_for() as set_aside:
        left = pair()
        set_aside()
        assert left() is None


def test_what_became_garbage_aside_is_found_once_an_hour() -> None:
    """So that no process grows for ever."""
    now = 0.0
    with garbage.rarely_looked_for(lambda: now) as set_aside:
        one, other = Thing(), Thing()
        one.other, other.other = other, one
        alive = weakref.ref(one)
        set_aside()
        del one, other
        set_aside()
        gc.collect()
        assert alive() is not None
        now += 3601
        set_aside()
        assert alive() is None


def test_afterwards_all_is_as_before() -> None:
    """A process that served and goes on to something else looks for garbage as ever."""
    before = gc.get_threshold()
    with garbage.rarely_looked_for() as set_aside:
        set_aside()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold() != before
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_collection_of_garbage_is_paused_and_goes_on() -> None:
    """Whatever happens in between; where it was off, it stays so."""
    with pytest.raises(KeyError), garbage.not_looked_for():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()
    gc.disable()
    try:
        with garbage.not_looked_for():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
