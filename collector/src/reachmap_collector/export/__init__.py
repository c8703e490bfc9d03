"""The map in other programs' formats: one pure module each, and the table of them.

Each takes a snapshot and options, and gives the whole text.
"""

from collections.abc import Callable, Mapping
from typing import Final

from reachmap_collector.export import dot, html, junit, mermaid, prometheus, rows
from reachmap_collector.export.snapshot import Options, Snapshot

Exporter = Callable[[Snapshot, Options], str]

EXPORTERS: Final[Mapping[str, Exporter]] = {
    "json": rows.as_json,
    "ndjson": rows.as_ndjson,
    "csv": rows.as_csv,
    "prometheus": prometheus.text,
    "junit": junit.report,
    "dot": dot.graph,
    "mermaid": mermaid.graph,
    "html": html.page,
}

__all__ = ["EXPORTERS", "Exporter", "Options", "Snapshot"]
