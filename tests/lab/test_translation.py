"""Address translation on the way, for real: who answered, and from where they saw the check come."""

from pathlib import Path
from typing import Any

import pytest

from reachmap_shared.vocabulary import AnsweredBy, Outcome

PROGRAM = Path(__file__).with_name("translation.py")

A = {"v4": "10.77.1.1", "v6": "[fd77:1::1]"}
R = {"v4": "10.77.2.1", "v6": "[fd77:2::1]"}
"""As B sees it."""
B = {"v4": "10.77.3.2", "v6": "[fd77:3::2]"}


@pytest.fixture(scope="module")
def seen(laboratory: Any) -> Any:
    return laboratory.run([], PROGRAM)


every = [
    pytest.mark.parametrize("family", ["v4", "v6"]),
    pytest.mark.parametrize("transport", ["tcp", "udp"]),
]


def listener(seen: Any, name: str, transport: str, family: str) -> Any:
    """What was seen where B's own listener answered."""
    found = seen[f"{name} {transport}", family]
    assert (found["outcome"], found["answered_by"]) == (Outcome.OPEN, AnsweredBy.LISTENER), found
    return found


@every[0]
@every[1]
def test_nothing_on_the_way(seen: Any, transport: str, family: str) -> None:
    """Both ends have the same two addresses and ports."""
    found = listener(seen, "direct", transport, family)
    assert found["seen_as"] == found["local"]
    assert found["local"].startswith(f"{A[family]}:")
    assert not any("translation" in fact for fact in found["evidence"])


@every[0]
@every[1]
def test_a_translated_source(seen: Any, transport: str, family: str) -> None:
    """B sees R, and the check says so: a rule for A's address would never match there."""
    found = listener(seen, "source", transport, family)
    assert found["seen_as"].startswith(f"{R[family]}:")
    assert any(
        f"saw it come from {R[family]}:" in fact and f"not {A[family]}:" in fact
        for fact in found["evidence"]
    )


@every[0]
@every[1]
def test_a_translated_destination(seen: Any, transport: str, family: str) -> None:
    """It is B that answers, at another port than was dialled."""
    found = listener(seen, "destination", transport, family)
    dialled = f"it arrived at {B[family]}:5099, and not {B[family]}:5002 that was dialled"
    assert any(fact.startswith(dialled) for fact in found["evidence"]), found["evidence"]


@every[0]
@every[1]
def test_another_host_that_answers(seen: Any, transport: str, family: str) -> None:
    """R has listeners of the same deployment, and still is not B."""
    found = seen[f"elsewhere {transport}", family]
    assert (found["outcome"], found["answered_by"]) == (Outcome.WRONG_PEER, None)
    assert found["seen_as"] == ""
