"""The words that reachmap uses, in one place. Pure.

They stand in the JSON that people's scripts read, and on the wire between agents and collectors
of different versions: add members, never rename one.
"""

from enum import StrEnum
from typing import Final


class Transport(StrEnum):
    """How packets are carried."""

    TCP = "tcp"
    UDP = "udp"


class Expectation(StrEnum):
    """What the topology wants of a flow."""

    REACHABLE = "reachable"
    BLOCKED = "blocked"


class State(StrEnum):
    """What the collector makes of a flow."""

    OK = "ok"
    DEGRADED = "degraded"
    BROKEN = "broken"
    EXPOSED = "exposed"
    """Expected blocked, but open."""
    UNKNOWN = "unknown"
    """Not checked yet, or nothing fresh."""


class Outcome(StrEnum):
    """What one check saw."""

    OPEN = "open"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    REJECTED = "rejected"
    """An ICMP error said that a filter forbids it."""
    UNREACHABLE = "unreachable"
    NAME_FAILURE = "name-failure"
    TLS_FAILURE = "tls-failure"
    WRONG_SERVICE = "wrong-service"
    """Something answered, in another protocol."""
    WRONG_PEER = "wrong-peer"
    """A listener answered, but not the one that was dialled."""
    RESET = "reset"
    STALLED = "stalled"
    """Connected, and then the answer did not come or stopped half-way."""
    LOCAL_ERROR = "local-error"
    """The prober itself could not do it: no fault of the network."""


class AnsweredBy(StrEnum):
    """Who answered an open flow."""

    SERVICE = "service"
    LISTENER = "listener"


class Cause(StrEnum):
    """Where a flow goes wrong."""

    SOURCE_HOST = "source-host"
    PATH = "path"
    DESTINATION_HOST = "destination-host"
    RETURN_PATH = "return-path"
    SERVICE = "service"
    MIDDLEBOX = "middlebox"
    NAME_RESOLUTION = "name-resolution"
    UNKNOWN = "unknown"


class Confidence(StrEnum):
    """How sure a cause is."""

    PROVEN = "proven"
    LIKELY = "likely"
    UNKNOWN = "unknown"


class ListenMode(StrEnum):
    """When an agent stands in for a service."""

    ON_DEMAND = "on-demand"
    """For moments, when another agent is about to check, and only while nobody holds the port."""
    ALWAYS = "always"
    """From start to stop: for hosts where the service is not installed yet."""
    NEVER = "never"


class ListenerState(StrEnum):
    """What became of a port that an agent was asked to listen on."""

    READY = "ready"
    """Closed, and opened for a moment when another agent asks."""
    LISTENING = "listening"
    CEDED = "ceded"
    """Another program was seen on the port, so the agent leaves it alone for good."""
    FAILED = "failed"
    """The agent could not open it; the detail says why."""
    NEVER = "never"
    """The topology says not to."""


PROTOCOLS: Final = frozenset(
    {
        "dns",
        "http",
        "https",
        "nats",
        "ntp",
        "ocsp",
        "postgres",
        "smtp",
        "ssh",
        "tcp",
        "tls",
        "udp",
        "websocket",
        "wss",
    }
)
"""The protocols that a check can speak; the agent's registry has one entry for each."""
