"""Which firewall rule to ask for, in the words of whoever has to make it. Pure.

There is a request only where a rule can help: the topology wants the flow, both of its addresses
are known, and what the check saw is what a firewall does. Nothing that a stranger said gets into
a command: free text is reduced to characters that every tool takes as they are.
"""

import csv
import io
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reachmap_collector.judge import Judgement
from reachmap_shared.vocabulary import Cause, Expectation, Outcome, State, Transport

COMMENT_MAX: Final = 120
"""Characters in a comment: nftables takes 128 octets, its end included."""

_PLAIN: Final = re.compile(r"[^A-Za-z0-9 .,:/#>()_-]")
"""What no comment holds: quotes, line ends and signs that a shell or a spreadsheet would obey."""

_BLOCKED: Final = frozenset({Outcome.TIMEOUT, Outcome.REJECTED, Outcome.UNREACHABLE})
"""Outcomes that a firewall's rule may be the reason of; a refusal only where something listens."""

_ELSEWHERE: Final = frozenset({Cause.SERVICE, Cause.NAME_RESOLUTION, Cause.SOURCE_HOST})
"""Causes that no rule mends."""

CSV_COLUMNS: Final = (
    *("source", "source_address", "destination", "destination_address"),
    *("transport", "port", "family", "why"),
)
"""What the columns of the line for the network's owners are."""


@dataclass(frozen=True, slots=True)
class RuleRequest:
    """A rule that somebody has to allow."""

    source: str
    """Host name."""
    source_address: str
    """What the source's checks come from."""
    destination: str
    """Host name."""
    destination_address: str
    port: int
    transport: Transport
    family: str
    """`ipv4` or `ipv6`."""
    why: str
    """The roles on both ends and the row of the port table, in plain characters."""


def request_for(judgement: Judgement, announced: Sequence[str] = ()) -> RuleRequest | None:
    """The rule to ask for; None where none would help, or its addresses are not known.

    Args:
        judgement: Of the flow.
        announced: Addresses of the source; one counts where the check did not say its own, and
            no other is of the destination's family.
    """
    if not _may_be_a_firewall(judgement):
        return None
    key = judgement.record.key
    there = _address(key.address)
    seen = judgement.seen
    here = _address(_without_port(seen.local)) if seen else None
    if there is None:
        return None
    if here is None or here.version != there.version:
        family = {
            one
            for one in map(_address, announced)
            if one is not None and one.version == there.version
        }
        if len(family) != 1:
            return None
        (here,) = family
    return RuleRequest(
        source=key.source,
        source_address=str(here),
        destination=key.destination,
        destination_address=str(there),
        port=key.port,
        transport=key.transport,
        family=f"ipv{there.version}",
        why=_why(judgement),
    )


def texts(request: RuleRequest | None) -> dict[str, str] | None:
    """The request in every form, by FORMS' names."""
    return None if request is None else {name: form(request) for name, form in FORMS.items()}


def _may_be_a_firewall(judgement: Judgement) -> bool:
    key, seen = judgement.record.key, judgement.seen
    if (
        judgement.state is not State.BROKEN
        or judgement.record.expected.expect is not Expectation.REACHABLE
        or key.source == key.destination
        or seen is None
        or judgement.cause in _ELSEWHERE
    ):
        return False
    if judgement.listened:
        return seen.outcome in _BLOCKED or seen.outcome is Outcome.REFUSED
    # Nobody saw it listen: a host that is down explains silence better than any rule.
    return seen.outcome in _BLOCKED and judgement.cause is not Cause.DESTINATION_HOST


def _why(judgement: Judgement) -> str:
    reasons = [
        f"{connection.role} to {connection.service}"
        + (f", {row.profile} row {row.number}" if (row := connection.table_row) else "")
        for connection in judgement.record.expected.connections
    ]
    return _plain("; ".join(reasons))


def _plain(text: str) -> str:
    return _PLAIN.sub("_", text)


def _comment(request: RuleRequest) -> str:
    text = f"reachmap: {request.source} to {request.destination}: {request.why}"
    return _plain(text)[:COMMENT_MAX].rstrip()


def _words(request: RuleRequest) -> str:
    return (
        f"allow {request.transport} from {request.source_address} ({request.source}) to "
        f"{request.destination_address} ({request.destination}) port {request.port}"
    )


def _nftables(request: RuleRequest) -> str:
    # First in the chain, since many end with a rule that drops or rejects all the rest.
    ip = "ip" if request.family == "ipv4" else "ip6"
    return (
        f"insert rule inet filter input {ip} saddr {request.source_address} "
        f"{ip} daddr {request.destination_address} {request.transport} dport {request.port} "
        f'accept comment "{_comment(request)}"'
    )


def _firewalld(request: RuleRequest) -> str:
    rule = (
        f'rule family="{request.family}" source address="{request.source_address}" '
        f'destination address="{request.destination_address}" '
        f'port port="{request.port}" protocol="{request.transport}" accept'
    )
    return f"firewall-cmd --permanent --add-rich-rule='{rule}' && firewall-cmd --reload"


def _ufw(request: RuleRequest) -> str:
    return (
        f"ufw allow proto {request.transport} from {request.source_address} "
        f"to {request.destination_address} port {request.port} comment '{_comment(request)}'"
    )


def _windows(request: RuleRequest) -> str:
    return (
        f"New-NetFirewallRule -DisplayName '{_comment(request)}' -Direction Inbound -Action Allow "
        f"-Protocol {request.transport.upper()} -RemoteAddress {request.source_address} "
        f"-LocalAddress {request.destination_address} -LocalPort {request.port}"
    )


def _csv(request: RuleRequest) -> str:
    line = io.StringIO()
    cells = [_plain(str(getattr(request, column))) for column in CSV_COLUMNS]
    # A host may be named `-2+3`, which a spreadsheet would take for a formula.
    csv.writer(line, lineterminator="").writerow(
        f"'{cell}" if cell[:1] in ("-", "+", "=", "@") else cell for cell in cells
    )
    return line.getvalue()


FORMS: Final[Mapping[str, Callable[[RuleRequest], str]]] = {
    "plain": _words,
    "nftables": _nftables,
    "firewalld": _firewalld,
    "ufw": _ufw,
    "windows": _windows,
    "csv": _csv,
}
"""A request in a sentence, for the destination's own firewall, and for a network team's table."""


def _without_port(place: str) -> str:
    """The address of `10.0.0.5:4433` or `[fd00::5]:4433`."""
    return place.rpartition(":")[0].removeprefix("[").removesuffix("]")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address that a rule can name."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if address.is_unspecified or address.is_multicast or getattr(address, "scope_id", None):
        return None
    return address
