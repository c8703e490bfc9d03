"""The way of packets, as it is drawn: every device that had them, and where they stop."""

from typing import Any

import pytest

from reachmap_collector.render.way import back, beside, way

FLOW = {"source": "pc-1", "destination": "web-1", "address": "10.0.0.1", "transport": "tcp"}


def hop(number: int, by: str | None = None, met: str = "icmp", *, passes: bool = False) -> Any:
    icmp = {"version": 4, "type": 11 if passes else 3, "code": 0 if passes else 13}
    return {
        "hop": number,
        "met": met if by else "silence",
        "by": by,
        "passes": passes,
        "icmp": icmp if by and met == "icmp" else None,
    }


def other(port: int, outcome: str, address: str = "10.0.0.1", transport: str = "tcp") -> Any:
    return {"address": address, "port": port, "transport": transport, "outcome": outcome}


R, R2 = hop(1, "10.0.1.254", passes=True), hop(2, "10.0.0.254", passes=True)


def drawn(*path: Any, compared: Any = None) -> list[str]:
    found = {"local": "10.0.1.1", "path": [*path], "compared": compared}
    return [line.plain for line in way(FLOW, found)]


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ((R, hop(2), hop(3), hop(4)), [" |  1  10.0.1.254", " x  2  no answer"]),
        (
            (hop(1), R2, hop(3), hop(4)),
            [" |  1  no answer", " |  2  10.0.0.254", " x  3  no answer"],
        ),
        (
            (R, hop(2, "10.0.0.254")),
            [" |  1  10.0.1.254", " x  2  10.0.0.254 says ICMP type 3 code 13"],
        ),
        (
            (R, hop(2, "10.0.0.1", "rst")),
            [" |  1  10.0.1.254", " |  2  10.0.0.1 says RST"],
        ),
        ((hop(1), hop(2)), [" x  1  no answer"]),
    ],
)
def test_it_is_drawn_up_to_the_first_hop_in_vain(path: Any, lines: list[str]) -> None:
    """Silent devices between those that speak are shown, what lies behind the last is not."""
    assert drawn(*path) == ["pc-1  10.0.1.1", *lines, "web-1  10.0.0.1"]


def test_nothing_is_drawn_where_nothing_was_walked() -> None:
    """What was refused at once, say."""
    assert drawn() == []


@pytest.mark.parametrize(
    ("address", "what"),
    [("10.0.0.1", "port 9090 works"), ("10.0.0.9", "port 9090 of 10.0.0.9 works")],
)
def test_it_says_what_it_is_compared_with(address: str, what: str) -> None:
    """And how far that is."""
    compared = {**other(9090, "open", address), "path": [R, R2, hop(3)]}
    *_, last = drawn(R, hop(2), compared=compared)
    assert last == f"web-1  10.0.0.1   ({what}, 3 hops away)"
    broken = {**compared, "outcome": "timeout"}
    assert drawn(R, hop(2), compared=broken)[-1] == "web-1  10.0.0.1"


@pytest.mark.parametrize(
    ("related", "others", "lines"),
    [
        ((), 0, []),
        ((other(9090, "open"),), 0, ["port 9090 works"]),
        (
            (other(9090, "open"), other(53, "timeout", "10.0.0.9", "udp")),
            1,
            [
                "port 9090 works, port 53/udp of 10.0.0.9: timeout",
                "1 more flow from pc-1 fails in the same way",
            ],
        ),
        ((), 12, ["12 more flows from pc-1 fail in the same way"]),
    ],
)
def test_it_says_what_became_of_others(related: Any, others: int, lines: list[str]) -> None:
    """Of the flows nearby that were checked meanwhile, and how many fail alike."""
    found = {"related": [*related], "others": others}
    assert [line.plain for line in beside(FLOW, found)] == lines


def test_an_older_collector_tells_of_no_neighbours() -> None:
    """What it does say is shown."""
    assert [line.plain for line in beside(FLOW, {"others": 0})] == []


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ((), []),
        (
            (R2, hop(2), hop(3), hop(4)),
            ["web-1  10.0.0.1", " |  1  10.0.0.254", " x  2  no answer", "pc-1  10.0.1.1"],
        ),
        (
            (R2, hop(2, "10.0.1.1", "rst")),
            ["web-1  10.0.0.1", " |  1  10.0.0.254", " |  2  10.0.1.1 says RST", "pc-1  10.0.1.1"],
        ),
    ],
)
def test_the_way_back_is_drawn_likewise(path: Any, lines: list[str]) -> None:
    """As far as an answer gets; nothing where it was not walked, nor of an older collector."""
    steps = [replace_hop(step, place) for place, step in enumerate(path, start=1)]
    found = {"local": "10.0.1.1", "witness": {"back": steps} if steps else {}}
    assert [line.plain for line in back(FLOW, found)] == lines


def replace_hop(step: Any, number: int) -> Any:
    return {**step, "hop": number}
