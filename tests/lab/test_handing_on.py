"""Sockets that go from check to check, for real: nothing of one check ever reaches the next."""

from pathlib import Path
from typing import Any

import pytest

from reachmap_agent.engine.sockets import HANDS_ON
from reachmap_shared.vocabulary import Outcome

PROGRAM = Path(__file__).with_name("handing_on.py")

ALONE = {
    "open": Outcome.OPEN,
    "silent": Outcome.OPEN,
    "answered": Outcome.OPEN,
    "closed": Outcome.REFUSED,
    "closed, with an exchange": Outcome.REFUSED,
    "reset": Outcome.RESET,
    "rejected by R": Outcome.REJECTED,
    "rejected by R2": Outcome.UNREACHABLE,
    "refused by R": Outcome.REFUSED,
    "dropped": Outcome.TIMEOUT,
    "own": Outcome.REFUSED,
    "no route": Outcome.UNREACHABLE,
}
ALONE_V6 = {
    "mapped": Outcome.REFUSED,
    "mapped and open": Outcome.OPEN,
    "on the link": Outcome.REFUSED,
}

CLEAN = {"open", "silent", "closed", "closed, with an exchange", "refused by R", "own"}
"""What leaves a socket that may be handed on; whatever else happened to one is the end of it."""

every = [
    pytest.mark.parametrize("family", ["v4", "v6"]),
    pytest.mark.parametrize("poller", ["EpollPoller", "LoopPoller"]),
]


@pytest.fixture(scope="module")
def seen(laboratory: Any) -> Any:
    return laboratory.run([], PROGRAM)


@every[0]
@every[1]
def test_each_sees_what_it_sees_alone(seen: Any, family: str, poller: str) -> None:
    """Outcome, evidence, source address and TCP's counts, whatever the check before it was."""
    found = seen[poller, family]
    expected = ALONE | (ALONE_V6 if family == "v6" else {})
    assert {name: alone[0] for name, alone in found["alone"].items()} == expected
    assert found["differ"] == []


@every[0]
@every[1]
@pytest.mark.skipif(not HANDS_ON, reason="this kernel does not forget a connection whole")
def test_what_is_handed_on(seen: Any, family: str, poller: str) -> None:
    """Each clean socket, to each check that starts while its own ends; and no other socket."""
    found = seen[poller, family]["handed on after"]
    assert {name for name, times in found.items() if times} == CLEAN
    assert {found[name] for name in CLEAN} == {len(seen[poller, family]["alone"]) + 1}


@every[0]
def test_an_error_of_the_connection_before(seen: Any, family: str) -> None:
    """It may wait in the queue still, and is not taken for one about the connection of now."""
    of_now = {"v4": "10.77.2.2", "v6": "fd77:2::2"}[family]
    assert seen["stale", family]["said"] == [of_now, ""]
