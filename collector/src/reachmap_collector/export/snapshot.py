"""What exports are made of: one moment of the deployment, as the collector answers it. Pure."""

import datetime
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reachmap_collector.views import By
from reachmap_shared.vocabulary import State

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The answers to `flows` (with details), `agents` and `status`."""

    flows: Sequence[Json]
    agents: Sequence[Json]
    status: Json


@dataclass(frozen=True, slots=True)
class Options:
    """What one may want of an export."""

    by: By = By.ROLE
    """What the nodes of a graph are: roles or hosts."""
    per_flow: bool = False
    """Whether metrics have series for each flow."""


def seconds(timestamp: str) -> float:
    """A timestamp of ours in seconds since the epoch."""
    return datetime.datetime.fromisoformat(timestamp).timestamp()


def source_roles(flow: Json) -> Iterable[str]:
    """The roles for whose sake the topology speaks of a flow, each once."""
    return dict.fromkeys(reason["role"] for reason in flow["reasons"])


def states(flows: Iterable[Json]) -> Counter[State]:
    """How many of some flows are in each state."""
    return Counter(State(flow["state"]) for flow in flows)


def place(flow: Json) -> str:
    """What is dialled, as `10.0.0.5:4433` or `[fd00::5]:4433`."""
    address = flow["address"] or "no address yet"
    return f"[{address}]:{flow['port']}" if ":" in address else f"{address}:{flow['port']}"
