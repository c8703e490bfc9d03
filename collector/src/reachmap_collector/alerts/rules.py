"""Which alerts are told, how loudly and to whom: the operator's rules, in their order. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from reachmap_collector.alerts.causes import Cause
from reachmap_collector.alerts.config import AlertsTable, Filter, Rule
from reachmap_collector.alerts.groups import Kind
from reachmap_collector.alerts.lifecycle import Ruling, Severity, by_kind
from reachmap_collector.planner import FlowKey

RolesOf = Callable[[str], Sequence[str]]
"""The roles of a host."""

_AT_A_PLACE: Final = frozenset(
    {Kind.SERVICE_DOWN, Kind.PORT_BLOCKED, Kind.EXPOSED, Kind.CERTIFICATE}
)
_OF_A_HOST: Final = frozenset(
    {Kind.HOST_DOWN, Kind.HOST_UNREACHABLE, Kind.SOURCE, Kind.AGENT_SILENT}
)

_RANKS: Final[Mapping[Severity, int]] = {one: rank for rank, one in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who is told of a cause."""

    tell: bool
    outlets: frozenset[str] | None
    """None for all of them."""


def at_least(severity: Severity, least: Severity) -> bool:
    """Whether it matters that much."""
    return _RANKS[severity] >= _RANKS[least]


def hosts_of(cause: Cause) -> frozenset[str]:
    """The hosts that a cause is about; all at both ends where it is about none of them."""
    if cause.kind in _OF_A_HOST:
        return frozenset({cause.subject})
    if cause.kind in _AT_A_PLACE:
        return frozenset({cause.subject.partition(":")[0]})
    ends = [(m.source, m.destination) for m in cause.explains if isinstance(m, FlowKey)]
    return frozenset(host for pair in ends for host in pair)


def fits(wanted: Filter, cause: Cause, roles_of: RolesOf) -> bool:
    """Whether a cause is one that a filter means; what a filter leaves out, it takes any of."""
    if wanted.kinds and cause.kind not in wanted.kinds:
        return False
    if wanted.services and not _any_fits([cause.service], wanted.services):
        return False
    if not (wanted.hosts or wanted.roles):
        return True
    hosts = hosts_of(cause)
    if wanted.hosts and not _any_fits(hosts, wanted.hosts):
        return False
    roles = {role for host in hosts for role in roles_of(host)} if wanted.roles else set()
    return not wanted.roles or not roles.isdisjoint(wanted.roles)


class Rules:
    """Decides by the first rule that fits, and by the kind of the cause where none does."""

    def __init__(self, table: AlertsTable, roles_of: RolesOf) -> None:
        self._rules = table.rules
        self._roles_of = roles_of

    def decide(self, cause: Cause) -> Ruling:
        """How much it matters, and how long it has to stand."""
        usual = by_kind(cause)
        rule = self._first(cause)
        return Ruling(rule.severity or usual.severity, rule.hold_s) if rule else usual

    def verdict(self, cause: Cause) -> Verdict:
        """Who is told."""
        rule = self._first(cause)
        if rule is None:
            return Verdict(tell=True, outlets=None)
        return Verdict(rule.tell, None if rule.outlets is None else frozenset(rule.outlets))

    def _first(self, cause: Cause) -> Rule | None:
        return next((rule for rule in self._rules if fits(rule, cause, self._roles_of)), None)


def _any_fits(names: Iterable[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
