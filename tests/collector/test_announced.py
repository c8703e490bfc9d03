"""Where what an agent says of ports and targets differs from the topology."""

from typing import Any

import pytest

from reachmap_collector.announced import Contradictions
from reachmap_collector.planner import Announcement, members
from reachmap_shared.messages import NamedTarget, OwnPort

SITE = """
[roles.bus]
listens = { "bus:4433" = {}, "bus:4444" = {} }
[roles.db]
listens = { "db:5432" = {} }
[roles.agent]
[roles.unused]
[hosts.bus-1]
roles = ["bus"]
addresses = ["10.0.0.5", "fd00::5"]
ports = { "bus:4433" = 14433 }
[hosts.db-1]
roles = ["db"]
addresses = ["db-1.example"]
[hosts.pc-1]
roles = ["agent"]
addresses = ["10.0.0.17"]
was = ["pc-old"]
"""


@pytest.fixture
def found(topology: Any, hello: Any) -> Any:
    """What contradicts, of what one agent says."""

    def look(agent: str, **said: Any) -> list[str]:
        site = topology(SITE)
        word = hello(agent, **said)
        ports = tuple((own.service, own.port) for own in word.ports)
        known = members(site, {agent: Announcement((), (), ports)})
        return [*Contradictions(site, known).of(word)]

    return look


def test_who_says_nothing_contradicts_nothing(found: Any) -> None:
    """One whom the topology does not know hears that alone."""
    assert found("pc-1") == []
    assert found("pc-9", targets=(NamedTarget("bus", ("10.9.9.9",)),)) == [
        "is not in the topology: list it under hosts, or let its roles in with admit"
    ]


def test_an_agent_under_a_name_that_its_host_had_hears_the_new_one(found: Any) -> None:
    """To list the old one again would be the wrong advice."""
    assert found("pc-old") == ["is called pc-1 in the topology now: enroll it anew by that name"]


@pytest.mark.parametrize(
    ("service", "port", "says"),
    [
        ("bus:4433", 14433, None),
        ("bus:4444", 5555, None),
        (
            "bus:4433",
            4433,
            "announces bus:4433 on port 4433, but the topology lists 14433, and that is what "
            "others dial",
        ),
        (
            "bus:4444",
            14433,
            "announces bus:4444 on port 14433, where it cannot be beside its other services: "
            "others dial 4444",
        ),
        ("db:5432", 1, None),
        ("bus:1", 2, None),
        ("no service", 2, None),
    ],
)
def test_a_port(found: Any, service: str, port: int, says: str | None) -> None:
    """What others dial instead is said; what is no service of the host's is nobody's concern."""
    assert found("bus-1", ports=(OwnPort(service, port),)) == ([says] if says else [])


@pytest.mark.parametrize(
    ("agent", "role", "host", "contradicts"),
    [
        ("pc-1", "bus", "10.0.0.5", False),
        ("pc-1", "bus", "fd00:0::5", False),
        ("pc-1", "bus", "bus-1", False),
        ("pc-1", "bus", "BUS-1.example.", False),
        ("pc-1", "bus", "10.0.0.6", True),
        ("pc-1", "bus", "10.0.0.17", True),
        ("pc-1", "bus", "db-1", True),
        ("pc-1", "bus", "db-1.example", True),
        # A name that nobody here is known by may be anybody's.
        ("pc-1", "bus", "nats.example", False),
        # One of the role's hosts is known by a name alone: it may have any address.
        ("pc-1", "db", "10.0.0.6", False),
        ("pc-1", "bus", "localhost", True),
        ("pc-1", "bus", "127.0.0.1", True),
        ("bus-1", "bus", "localhost", False),
        ("bus-1", "bus", "::1", False),
        # The topology says nothing of these.
        ("pc-1", "unused", "10.0.0.6", False),
        ("pc-1", "unheard-of", "10.0.0.6", False),
    ],
)
def test_a_target(found: Any, agent: str, role: str, host: str, contradicts: bool) -> None:
    """Said only where it is certain: names are not resolved here."""
    says = f"is told to reach {role} at {host}, where the topology has no such host"
    assert found(agent, targets=(NamedTarget(role, (host,)),)) == ([says] if contradicts else [])


def test_an_endpoint_cannot_fill_an_answer(found: Any) -> None:
    """The first few are enough to see that something is wrong."""
    hosts = tuple(f"10.9.9.{number}" for number in range(32))
    notes = found("pc-1", targets=(NamedTarget("bus", hosts),) * 8)
    assert len(notes) == 9
    assert notes[-1] == "announces 248 more that the topology does not have so"
