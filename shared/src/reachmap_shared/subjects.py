"""The bus's subjects, streams and buckets, all named after reachmap. Pure.

The sender's or receiver's name comes last and is one token, so that a NATS permission such as
`publish: reachmap.report.pc-17` holds an agent to its own name. What one agent asks another has
both names: `reachmap.window.DESTINATION.SOURCE`.
"""

from typing import Final

from reachmap_shared.errors import InvalidName
from reachmap_shared.names import host_name

QUERY_SERVICE: Final = "reachmap"
"""The name of the collector's micro service, as `nats micro ls` shows it."""

QUERIES: Final = "reachmap.query"
"""What every query's subject begins with; the query's own name follows."""

CHANGES: Final = "reachmap.changes"
"""Where the collector says, as JSON, that history has more: `last` is the latest's sequence."""

ALL_HELLOS: Final = "reachmap.hello.*"
ALL_PULSES: Final = "reachmap.pulse.*"
ALL_REPORTS: Final = "reachmap.report.*"
ALL_ALERTS: Final = "reachmap.alert.*"

PROBE: Final = "reachmap.report.$collector"
"""Where the collector tries whether the stream takes reports: nobody's name."""

REPORT_STREAM: Final = "reachmap-reports"
"""The JetStream stream that holds reports until the collector has kept them."""

REPORT_CONSUMER: Final = "collector"

PLAN_BUCKET: Final = "reachmap-plans"
"""The JetStream key-value bucket of plans, by agent."""

ALL_PLANS: Final = f"$KV.{PLAN_BUCKET}.*"

PLAN_STREAM: Final = f"KV_{PLAN_BUCKET}"
"""The stream below it (NATS architecture record 8)."""


def hello(agent: str) -> str:
    """Where `agent` says who it is."""
    return f"reachmap.hello.{host_name(agent)}"


def pulse(agent: str) -> str:
    """Where `agent` says that all is as it was."""
    return f"reachmap.pulse.{host_name(agent)}"


def report(agent: str) -> str:
    """Where `agent` says what it saw."""
    return f"reachmap.report.{host_name(agent)}"


def ask(agent: str) -> str:
    """Where the collector asks `agent` to say something again."""
    return f"reachmap.ask.{host_name(agent)}"


def plan(agent: str) -> str:
    """Where `agent`'s plan is put, and told to whoever listens."""
    return f"$KV.{PLAN_BUCKET}.{host_name(agent)}"


def last_plan(agent: str) -> str:
    """Where `agent` gets the plan that was put last (NATS architecture record 31)."""
    return f"$JS.API.DIRECT.GET.{PLAN_STREAM}.{plan(agent)}"


def window(destination: str, source: str) -> str:
    """Where `source` asks `destination` to listen for a moment."""
    return f"reachmap.window.{host_name(destination)}.{host_name(source)}"


def all_windows(destination: str) -> str:
    """Where `destination` is asked to listen for a moment, by anybody."""
    return f"reachmap.window.{host_name(destination)}.*"


def alert(ident: str) -> str:
    """Where the collector tells of the alert `ident`."""
    return f"reachmap.alert.{host_name(ident)}"


def witness(destination: str, source: str) -> str:
    """Where `source` asks `destination` to witness a check."""
    return f"reachmap.witness.{host_name(destination)}.{host_name(source)}"


def all_witnesses(destination: str) -> str:
    """Where `destination` is asked to witness a check, by anybody."""
    return f"reachmap.witness.{host_name(destination)}.*"


def query(name: str) -> str:
    """Where the collector answers the query `name`."""
    return f"{QUERIES}.{name}"


def sender(subject: str) -> str:
    """The agent whose word it is, the last that the subject names; InvalidName if there is none."""
    parts = subject.split(".")
    if len(parts) not in (3, 4) or parts[0] != "reachmap":
        raise InvalidName(f"{subject!r} names no agent")
    return host_name(parts[-1])
