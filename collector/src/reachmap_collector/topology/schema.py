"""The shape of profile and topology files, as pydantic models. Pure.

What can be said of one value alone is checked here; what needs the whole (does that role exist?)
in `reachmap_collector.topology.model`.
"""

import ipaddress
import re
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from reachmap_shared.names import ServiceName, host_name, port_number, role_name
from reachmap_shared.vocabulary import PROTOCOLS, ListenMode, Transport

MAX_HOSTS = 20_000
MAX_NOTE = 500
"""Characters in a title, a note or a description."""

_DNS_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*\.?"
)


class Basis(StrEnum):
    """How a profile knows of a listener or a connection."""

    DOCUMENTED = "documented"
    """The vendor's port table says so."""
    OBSERVED = "observed-in-source"
    """The vendor's source code does so, though the table does not say it."""
    LOCAL = "local"
    """The operator says so, in a topology or a profile of their own."""


def _protocol(text: str) -> str:
    if text not in PROTOCOLS:
        raise ValueError(
            f"unknown protocol {text!r}: expected one of {', '.join(sorted(PROTOCOLS))}"
        )
    return text


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        # A last label of digits alone is a mistyped IPv4 address, never a name (RFC 1123, 2.1).
        if _DNS_NAME.fullmatch(text) and not text.rstrip(".").rpartition(".")[2].isdigit():
            return text
        raise ValueError(f"{text!r} is neither an IP address nor a DNS name") from None


def _service(text: str) -> str:
    service = str(ServiceName.parse(text))
    if service != text:  # two spellings of one key would silently be one service
        raise ValueError(f"{text!r}: expected {service}, without leading zeros")
    return service


def _connect(value: Any) -> Any:
    return {"to": value} if isinstance(value, str) else value


HostName = Annotated[str, AfterValidator(host_name)]
RoleName = Annotated[str, AfterValidator(role_name)]
Service = Annotated[str, AfterValidator(_service)]
Address = Annotated[str, AfterValidator(_address)]
Port = Annotated[int, Field(strict=True), AfterValidator(port_number)]
Protocol = Annotated[str, AfterValidator(_protocol)]
Note = Annotated[str, Field(max_length=MAX_NOTE)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Listen(_Table):
    """A service that a role listens on."""

    protocol: Protocol = "tcp"
    transport: Transport = Transport.TCP
    listen: ListenMode = ListenMode.ON_DEMAND
    """When agents stand in for it."""
    basis: Basis = Basis.LOCAL
    row: Annotated[int, Field(ge=1)] | None = None
    """The row of the profile's table that says so, counted from 1."""
    requires: list[Service] = []
    """Services that its host connects to and without which it does not work: when those fail, its
    own failure is their consequence."""
    note: Note = ""


class Connect(_Table):
    """A service that a role connects to."""

    to: Service
    basis: Basis = Basis.LOCAL
    row: Annotated[int, Field(ge=1)] | None = None
    note: Note = ""


class Role(_Table):
    """What a host is in a deployment."""

    title: Note = ""
    listens: dict[Service, Listen] = {}
    connects: list[Annotated[Connect, BeforeValidator(_connect)]] = []


class Row(_Table):
    """One row of the port table that a profile was made from."""

    port: Port
    component: Note
    traffic: Literal["inbound", "outbound"]
    description: Note = ""


class Host(_Table):
    """One machine of the deployment."""

    roles: list[RoleName] | None = None
    """None leaves it to the host's agent to announce them."""
    addresses: list[Address] = []
    """Empty leaves it to the host's agent to announce them."""
    ports: dict[Service, Port] = {}
    """Where a service of this host listens on another port than its default."""
    listen: dict[Service, ListenMode] = {}
    """When the agent of this host stands in for a service, where it is not as the role says."""
    was: list[HostName] = []
    """What it was called before, so that it keeps its history."""
    agent: bool = True
    """Whether an agent runs there; without one, a host is a destination alone."""


class Deny(_Table):
    """Hosts of one role must not reach a service."""

    source: RoleName = Field(alias="from")
    to: Service
    note: Note = ""


class Checks(_Table):
    """How often and how patiently flows are checked."""

    interval_s: Annotated[float, Field(ge=0.5, le=3600)] = 10.0
    """Ten seconds let an alert out in fifteen, and cost an endpoint next to nothing."""
    timeout_s: Annotated[float, Field(ge=0.1, le=60)] = 3.5
    """That a host is down, its neighbours say by ICMP after 3.1 s: it is worth waiting for."""


class ProfileFile(_Table):
    """A port matrix: roles, what they listen on and what they connect to."""

    title: Note = ""
    source: Note = ""
    """Where the knowledge comes from."""
    profiles: list[str] = []
    """Profiles that this one builds on: built-in names, or paths beside this file."""
    rows: list[Row] = []
    roles: dict[RoleName, Role] = {}
    deny: list[Deny] = []


class TopologyFile(ProfileFile):
    """One deployment."""

    hosts: Annotated[dict[HostName, Host], Field(max_length=MAX_HOSTS)] = {}
    admit: list[RoleName] = []
    """Roles that an agent whose host is not listed may take for itself."""
    checks: Checks = Checks()
