"""Who has a place: for all sequences of comings and goings."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.places import Places


@dataclass(eq=False)
class Guest:
    network: str


def filled(limit: int, of_one: int, *networks: str) -> tuple[Places[Guest], list[Guest]]:
    places: Places[Guest] = Places(limit, of_one)
    guests = [Guest(network) for network in networks]
    for guest in guests:
        assert places.add(guest) is None
    return places, guests


@pytest.mark.parametrize(
    ("seated", "newcomer", "gone"),
    [
        ("abc", "d", 0),  # nobody has many: the oldest of all
        ("abbb", "d", 1),  # the oldest of those who have many
        ("abbb", "a", 1),  # the newcomer's network does not have many yet
        ("abbb", "b", 1),
        ("aabb", "a", 0),  # now it has, and pays for itself
        ("bbba", "b", 0),
    ],
)
def test_who_makes_room(seated: str, newcomer: str, gone: int) -> None:
    """One of the newcomer's own network, if that has many; else of one that has; else the oldest."""
    places, guests = filled(len(seated), 2, *seated)
    assert places.add(Guest(newcomer)) is guests[gone]


@given(st.lists(st.sampled_from("aaaabcdef") | st.none(), max_size=80), st.integers(1, 3))
def test_the_promises_hold_whatever_comes(comings: list[str | None], of_one: int) -> None:
    """Never more than there are places; who has few of them never pays for who has many."""
    places: Places[Guest] = Places(6, of_one)
    for network in comings:
        if network is None:
            for oldest in list(places)[:1]:
                places.remove(oldest)
            continue
        newcomer = Guest(network)
        would_cost = places.costs_a_neighbour(network)
        before = [guest.network for guest in places]
        gone = places.add(newcomer)
        if gone is not None:
            places.remove(gone)
            crowds = [one for one in before if before.count(one) > of_one]
            assert gone.network == network or gone.network in crowds or not crowds
        assert would_cost == (
            gone is not None and len(before) == 6 and before.count(network) >= of_one
        )
        if would_cost:
            assert gone is not None and gone.network == network
        assert len(places) == len(list(places)) <= 6
    for guest in list(places):
        places.remove(guest)
    assert not places._by_network and not places._crowds
