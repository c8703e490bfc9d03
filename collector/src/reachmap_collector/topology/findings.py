"""What is valid and yet deserves a person's look: the kinds of findings, and one finding. Pure.

A finding never refuses anything; what must be refused is a `Problem` of reachmap_collector.errors.
"""

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """What a finding is about; scripts may filter by it: add members, never rename one."""

    # Of a port table that was imported.
    TABLE_LEFT_OUT = "table-left-out"
    """A table of ports that lacks a column that an import needs."""
    TWO_TRANSPORTS = "two-transports"
    """A row of both TCP and UDP, of which only TCP was taken."""
    GUESSED_PROTOCOL = "guessed-protocol"
    """Nothing tells which protocol a service speaks, so plain TCP was taken."""
    NO_LISTENER = "no-listener"
    """Rows that connect to a port that no row listens on, so a listener was made up."""
    SEVERAL_LISTENERS = "several-listeners"
    """A row that connects to a port that several components listen on."""
    NEVER_DIALLED = "never-dialled"
    """A row that listens on a port that no row connects to."""

    # Of a topology that was loaded.
    NOTHING_TO_CHECK = "nothing-to-check"
    """No hosts at all, and nobody may join."""
    IDLE_HOST = "idle-host"
    """A host that no flow can begin or end at."""
    REPEATED_ROLE = "repeated-role"
    """A role that a host lists twice."""
    ROLE_WITHOUT_HOST = "role-without-host"
    """Connections that can have no flow, since no host offers the service."""
    DENIED_CONNECTION = "denied-connection"
    """A deny rule and a connection of one role that contradict each other."""
    DENY_WITHOUT_EFFECT = "deny-without-effect"
    """Hosts that a deny rule cannot hold for, because of another role of theirs."""
    SHARED_ADDRESS = "shared-address"
    """Two hosts that listen on the same address, transport and port."""
    SLOW_CHECKS = "slow-checks"
    """Checks that may still wait when the next ones are due."""
    SHORT_WINDOW = "short-window"
    """Checks that may wait longer than a listener on demand stays open."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a person should look at."""

    kind: FindingKind
    where: str
    """As in `row 13`, `rows 13, 14`, `line 7`, or a key path such as `hosts.nats-1.roles`."""
    message: str
    """What was found, and what was made of it."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"
