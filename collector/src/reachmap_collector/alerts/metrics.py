"""Alerts as a series of Prometheus's, in its text form. Pure."""

from collections import Counter
from collections.abc import Iterable

from reachmap_collector.alerts.groups import Kind
from reachmap_collector.alerts.lifecycle import SEVERITIES, Alert


def exposition(active: Iterable[Alert]) -> str:
    """How many alerts fire, by kind and severity; kinds of which none does are there with 0.

    A series that comes and goes would hide from whoever asks for its increase.
    """
    counts = Counter((alert.cause.kind, alert.severity) for alert in active)
    cells = {(kind, SEVERITIES[kind]): 0 for kind in Kind} | counts
    lines = [
        f'reachmap_alerts{{kind="{kind}",severity="{severity}"}} {count}'
        for (kind, severity), count in sorted(cells.items())
    ]
    head = ["# HELP reachmap_alerts Alerts that fire.", "# TYPE reachmap_alerts gauge"]
    return "\n".join([*head, *lines]) + "\n"
