"""Values to columns and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.errors import StoreRefused
from reachmap_collector.store import packing
from reachmap_shared.vocabulary import Outcome, Transport

IDS = st.integers(0, 2**32 - 1)


def test_every_word_has_a_number_of_its_own() -> None:
    """Whoever adds an outcome gives it one here."""
    assert packing.OUTCOMES.keys() == set(Outcome)
    assert packing.TRANSPORTS.keys() == set(Transport)
    for words in (packing.OUTCOMES, packing.TRANSPORTS):
        assert len(set(words.values())) == len(words)


def test_no_number_ever_means_another_word() -> None:
    """They are in people's databases."""
    assert [str(packing.outcome[number]) for number in range(1, 13)] == [
        "open",
        "refused",
        "timeout",
        "rejected",
        "unreachable",
        "name-failure",
        "tls-failure",
        "wrong-service",
        "wrong-peer",
        "reset",
        "stalled",
        "local-error",
    ]
    assert [str(packing.transport[number]) for number in (1, 2)] == ["tcp", "udp"]


@pytest.mark.parametrize("read", [packing.outcome, packing.transport])
def test_a_number_of_a_newer_version_is_refused(read: packing.Words[object]) -> None:
    """In words, and not as a bug."""
    with pytest.raises(StoreRefused, match="newer"):
        read[99]


@given(st.floats(0, 4e9))
def test_times_are_kept_to_the_millisecond(seconds: float) -> None:
    """And what was read is written as it was."""
    kept = packing.milliseconds(seconds)
    assert abs(packing.seconds(kept) - seconds) <= 0.000501
    assert packing.milliseconds(packing.seconds(kept)) == kept


@given(st.lists(st.tuples(st.integers(0, 2**53), st.integers(0, 2**53))).map(tuple))
def test_ranges_come_back(ranges: tuple[tuple[int, int], ...]) -> None:
    """None at all, too."""
    assert packing.unpack_ranges(packing.pack_ranges(ranges)) == ranges


@given(st.lists(st.tuples(IDS, IDS)))
def test_slots_come_back(pairs: list[tuple[int, int]]) -> None:
    """The flow and the service of each."""
    flows, services = [one for one, _ in pairs], [other for _, other in pairs]
    found = packing.unpack_slots(packing.pack_slots(flows, services))
    assert [list(ids) for ids in found] == [flows, services]


@given(st.text())
def test_text_is_what_every_database_takes(given_: str) -> None:
    """Without NUL, and else as it was."""
    assert packing.text(given_) == given_.replace("\0", "\ufffd")
