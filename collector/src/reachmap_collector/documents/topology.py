"""The topology in force. Pure."""

from reachmap_collector.documents.base import Document, Port
from reachmap_collector.documents.flows import TableRow
from reachmap_collector.topology.schema import Basis
from reachmap_shared.vocabulary import Transport


class Listens(Document):
    """A service that a role listens on."""

    service: str
    protocol: str
    transport: Transport
    basis: Basis
    row: TableRow | None
    note: str


class Connects(Document):
    """A service that a role connects to."""

    role: str
    service: str
    basis: Basis
    row: TableRow | None
    note: str


class Role(Document):
    """What a host is in a deployment."""

    role: str
    title: str
    listens: list[Listens]
    connects: list[Connects]


class Host(Document):
    """One machine of the deployment."""

    host: str
    roles: list[str]
    addresses: list[str]
    ports: dict[str, Port]
    agent: bool
    listed: bool
    """Whether it stands in the topology's file."""
    was: list[str]
    """What it was called before."""


class Deny(Document):
    """Hosts of one role must not reach a service."""

    role: str
    service: str
    note: str


class CheckTimes(Document):
    """How often and how patiently flows are checked."""

    interval_s: float
    timeout_s: float


class Topology(Document):
    """The topology in force."""

    roles: list[Role]
    hosts: list[Host]
    deny: list[Deny]
    checks: CheckTimes
    next: str | None = None
    """What to pass as `after` for the next page of hosts; null on the last."""
