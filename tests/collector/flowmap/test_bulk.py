"""Keys by columns are the keys that they were made of."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector.flowmap.bulk import FlowKeys, Numbering
from reachmap_collector.flowmap.fold import renamed
from reachmap_collector.planner import FlowKey
from reachmap_shared.vocabulary import Transport

hosts = st.sampled_from(["pc-1", "pc-2", "web-1", "web-9"])
keys = st.lists(
    st.builds(
        FlowKey,
        hosts,
        hosts,
        st.sampled_from(["10.0.0.1", "fd00::1", "web.example", ""]),
        st.integers(1, 3),
        st.sampled_from(Transport),
    ),
    max_size=12,
)


@given(keys, st.slices(12))
def test_keys_come_back(given_: list[FlowKey], part: slice) -> None:
    """All, a part, and each; sources and places that many have are held once."""
    found = FlowKeys.of(given_)
    assert [*found] == given_
    assert [found[place] for place in range(len(found))] == given_
    assert [*found[part]] == given_[part]
    assert len({*found.sources}) == len(found.sources) == len({one.source for one in given_})
    assert len({*found.places}) == len(found.places)


@given(keys, st.data())
def test_some_of_them_are_taken_in_any_order(given_: list[FlowKey], data: st.DataObject) -> None:
    """And as often as they are named."""
    places = data.draw(
        st.lists(st.integers(0, len(given_) - 1), max_size=5) if given_ else st.just([])
    )
    assert [*FlowKeys.of(given_).at(np.array(places, np.int64))] == [given_[one] for one in places]


@given(keys, st.dictionaries(hosts, hosts))
def test_hosts_are_called_what_they_are_now(given_: list[FlowKey], current: dict[str, str]) -> None:
    """On either end, as for a key by itself."""
    found = FlowKeys.of(given_).called(current)
    assert [*found] == [renamed(one, current) for one in given_]


def test_what_is_numbered_stands_in_the_order_of_its_numbers() -> None:
    """From 0, each once."""
    numbering = Numbering[str]()
    assert numbering.of("abcab").tolist() == [0, 1, 2, 0, 1]
    assert numbering.of("xc").tolist() == [3, 2]
    assert [*numbering] == ["a", "b", "c", "x"]
