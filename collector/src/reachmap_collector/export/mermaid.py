"""The map as a flowchart for Mermaid, which wikis and code hosts draw. Pure."""

import re
from typing import Final

from reachmap_collector.export.graph import COLOURS, build
from reachmap_collector.export.snapshot import Options, Snapshot
from reachmap_shared.vocabulary import State

_SPECIAL: Final = re.compile(r"[^A-Za-z0-9 _.,:/()-]")
"""Anything else becomes Mermaid's `#CODE;`: labels may end up in a page as HTML."""

_ARROWS: Final = {State.OK: "-->", State.DEGRADED: "-->", State.UNKNOWN: "-.->"}
_BOLD: Final = "==>"


def graph(snapshot: Snapshot, options: Options) -> str:
    """A flowchart from left to right."""
    drawn = build(snapshot.flows, options.by)
    lines = ["flowchart LR"]
    lines += [f'  n{index}["{_escaped(*label)}"]' for index, label in enumerate(drawn.nodes)]
    for edge in drawn.edges:
        arrow = _ARROWS.get(edge.state, _BOLD)
        lines.append(f'  n{edge.source} {arrow}|"{_escaped(edge.label)}"| n{edge.destination}')
    for state, colour in COLOURS.items():
        numbers = [str(number) for number, edge in enumerate(drawn.edges) if edge.state is state]
        if numbers:
            lines.append(f"  linkStyle {','.join(numbers)} stroke:{colour},color:{colour}")
    if drawn.left_out:
        lines.append(f'  rest["{drawn.left_out} more edges"]')
    return "\n".join([*lines, ""])


def _escaped(*lines: str) -> str:
    return "<br/>".join(
        _SPECIAL.sub(lambda found: f"#{ord(found[0])};", line) for line in lines if line
    )
