"""Lines on the addresses of names say in columns what they said one by one."""

from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.flowmap.lines import Lines
from reachmap_shared.messages import NamedCount

counts = st.one_of(st.just(0), st.integers(0, 5), st.integers(0, 1 << 20))
lines = st.builds(
    NamedCount,
    st.integers(0, 3),
    st.sampled_from(["10.0.0.1", "10.0.0.2"]),
    *(counts, counts, counts, counts),
    st.integers(0, 255),
)


@given(st.lists(lines, max_size=8, unique_by=lambda one: (one.slot, one.address)))
def test_every_line_is_found_again(said: list[NamedCount]) -> None:
    """By slot and address; what nobody counted is none."""
    held = Lines.of(said)
    if held is None:
        assert not said
        return
    for line in said:
        assert held.on(line.slot, line.address) == line
    assert held.on(9, "10.0.0.1") is None
    assert [*held.flipped()] == [(one.slot, one.address, one.flips) for one in said if one.flips]


def test_what_agents_have_in_common_is_held_once() -> None:
    """Which slots and addresses, whoever's they are; and columns that say the same throughout."""
    one, other = (
        Lines.of([NamedCount(slot, "".join(["10.0.0.", "1"]), 6, 0, 0, 0, 90) for slot in range(9)])
        for _ in range(2)
    )
    assert one is not None and other is not None
    assert one.ends is other.ends
    assert one.made is other.made
    assert not one.failed
