"""What a deployment still lacks, as a change request for those who own the firewalls. Pure.

Rules to ask for are grouped by whoever can make them: the host itself, a device that said that it
rejects, or whoever owns the path between two networks.
"""

import csv
import io
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reachmap_collector.rules import CSV_COLUMNS
from reachmap_shared.vocabulary import Cause

Json = dict[str, Any]

_PREFIX: Final = {4: 24, 6: 64}
"""What counts as one network where nobody says: its hosts mostly reach each other directly."""


@dataclass(slots=True)
class Request:
    """What one owner is asked for."""

    owner: str
    flows: list[Json] = field(default_factory=list)
    """Flows with details, each with a rule."""


@dataclass(frozen=True, slots=True)
class Lacks:
    """All that is not as it should be."""

    requests: Sequence[Request]
    """By owner, those who have most to do first."""
    others: Sequence[Json]
    """Flows that no rule helps, with what to do about them."""


def lacks(flows: Iterable[Json]) -> Lacks:
    """Sort flows that are not as they should be; each with details."""
    requests: dict[str, Request] = {}
    others: list[Json] = []
    for flow in flows:
        if flow.get("requests"):
            owner = _owner(flow)
            requests.setdefault(owner, Request(owner)).flows.append(flow)
        else:
            others.append(flow)
    ordered = sorted(requests.values(), key=lambda one: (-len(one.flows), one.owner))
    return Lacks(ordered, others)


def markdown(found: Lacks) -> str:
    """A change request to paste into a ticket."""
    lines = ["# Firewall rules to ask for", ""]
    if not found.requests:
        lines += ["None: no flow lacks a rule that is known to help.", ""]
    for request in found.requests:
        lines += [f"## {_escaped(request.owner)}", "", "| from | to | port | why |"]
        lines.append("|---|---|---|---|")
        for flow in request.flows:
            cells = _cells(flow)
            row = (
                f"{cells['source_address']} ({cells['source']})",
                f"{cells['destination_address']} ({cells['destination']})",
                f"{cells['port']}/{cells['transport']}",
                cells["why"],
            )
            lines.append(f"| {' | '.join(map(_escaped, row))} |")
        lines.append("")
    if found.others:
        lines += ["# What else is not as expected", "", "| flow | state | to do |", "|---|---|---|"]
        lines += [f"| {' | '.join(map(_escaped, other(flow)))} |" for flow in found.others] + [""]
    return "\n".join(lines)


def table(found: Lacks) -> str:
    """CSV: a line a rule, with who is to make it; flows that none helps are left out."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("owner", *CSV_COLUMNS))
    for request in found.requests:
        for flow in request.flows:
            cells = _cells(flow)
            writer.writerow((request.owner, *(cells[column] for column in CSV_COLUMNS)))
    return text.getvalue()


def other(flow: Json) -> tuple[str, str, str]:
    """A flow that no rule helps: which, its state, and what to do."""
    what = flow["advice"] or (flow["evidence"][-1] if flow["evidence"] else "")
    saw = f" ({flow['outcome']})" if flow["outcome"] else ""
    which = f"{flow['source']} -> {flow['destination']} {flow['service']}"
    return which, f"{flow['state']}{saw}", what


def _owner(flow: Json) -> str:
    """Who has to make the rule."""
    at, address = flow["at"], flow["address"]
    host = f"{flow['destination']}: its own firewall"
    if at is not None and at != address:
        return f"{at}: the device that rejects"
    if at == address or flow["cause"] == Cause.DESTINATION_HOST:
        return host
    networks = [_network(_cells(flow)[name]) for name in ("source_address", "destination_address")]
    if networks[0] != networks[1]:
        return f"{networks[0]} to {networks[1]}: the path between these networks"
    return host


def _network(address: str) -> str:
    version = ipaddress.ip_address(address).version
    return str(ipaddress.ip_network(f"{address}/{_PREFIX[version]}", strict=False))


def _cells(flow: Json) -> dict[str, str]:
    [row] = csv.reader([flow["requests"]["csv"]])
    return dict(zip(CSV_COLUMNS, row, strict=True))


def _escaped(text: str) -> str:
    """Text that stays in its cell: agents and strangers said some of it."""
    plain = " ".join(text.split())
    return "".join(f"\\{one}" if one in "\\|`*_<>[]" else one for one in plain)
