"""The bus's subjects, all under `reachmap.`. Pure.

The sender's or receiver's name comes last and is one token, so that a NATS permission such as
`publish: reachmap.report.pc-17` holds an agent to its own name.
"""

from typing import Final

from reachmap_shared.errors import InvalidName
from reachmap_shared.names import host_name

QUERY_SERVICE: Final = "reachmap"
"""The name of the collector's micro service, as `nats micro ls` shows it."""

QUERIES: Final = "reachmap.query"
"""What every query's subject begins with; the query's own name follows."""

ALL_HELLOS: Final = "reachmap.hello.*"
ALL_REPORTS: Final = "reachmap.report.*"


def hello(agent: str) -> str:
    """Where `agent` says who it is."""
    return f"reachmap.hello.{host_name(agent)}"


def report(agent: str) -> str:
    """Where `agent` says what it saw."""
    return f"reachmap.report.{host_name(agent)}"


def plan(agent: str) -> str:
    """Where `agent` is told what to do."""
    return f"reachmap.plan.{host_name(agent)}"


def window(destination: str, source: str) -> str:
    """Where `source` asks `destination` to listen for a moment."""
    return f"reachmap.window.{host_name(destination)}.{host_name(source)}"


def all_windows(destination: str) -> str:
    """Where `destination` is asked to listen for a moment, by anybody."""
    return f"reachmap.window.{host_name(destination)}.*"


def query(name: str) -> str:
    """Where the collector answers the query `name`."""
    return f"{QUERIES}.{name}"


def sender(subject: str) -> str:
    """The agent that a subject names; raises InvalidName if it names none."""
    parts = subject.split(".")
    if len(parts) != 3:
        raise InvalidName(f"{subject!r} names no agent")
    return host_name(parts[2])
