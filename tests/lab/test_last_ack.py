"""A visitor who never acknowledges our last words, for real: it cannot hold the service's port."""

from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("last_ack.py")


def test_who_never_acknowledges_holds_a_port_for_a_moment_only(laboratory: Any) -> None:
    """Left to itself the kernel would wait for it for minutes, in LAST_ACK."""
    found = laboratory.run([], PROGRAM)["half-close", "v4"]
    assert found["was_held"], found
    assert found["held_s"] < found["farewell_s"] + 1.5, found
