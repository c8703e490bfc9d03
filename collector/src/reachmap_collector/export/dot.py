"""The map as a graph for Graphviz. Pure."""

from reachmap_collector.export.graph import COLOURS, build
from reachmap_collector.export.snapshot import Options, Snapshot
from reachmap_shared.vocabulary import State


def graph(snapshot: Snapshot, options: Options) -> str:
    """A digraph; `dot -Tsvg` draws it."""
    drawn = build(snapshot.flows, options.by)
    lines = [
        "digraph reachmap {",
        "  rankdir=LR;",
        '  node [shape=box, style=rounded, fontname="sans-serif"];',
        '  edge [fontname="sans-serif", fontsize=10];',
    ]
    lines += [f"  n{index} [label={_quoted(*label)}];" for index, label in enumerate(drawn.nodes)]
    for edge in drawn.edges:
        colour = COLOURS[edge.state]
        line = "solid" if edge.state in (State.OK, State.DEGRADED) else "bold"
        style = "dashed" if edge.state is State.UNKNOWN else line
        lines.append(
            f"  n{edge.source} -> n{edge.destination} [label={_quoted(edge.label)}, "
            f'color="{colour}", fontcolor="{colour}", style={style}];'
        )
    if drawn.left_out:
        lines.append(f"  rest [shape=note, label={_quoted(f'{drawn.left_out} more edges')}];")
    return "\n".join([*lines, "}", ""])


def _quoted(*lines: str) -> str:
    r"""A label of some lines; the language knows `\\`, `\"` and `\n`."""
    escaped = (
        "".join(one if one.isprintable() else "\ufffd" for one in line)
        .replace("\\", "\\\\")
        .replace('"', '\\"')
        for line in lines
        if line
    )
    return '"' + "\\n".join(escaped) + '"'
