"""Answers on a terminal or in a pipe: tables for people, JSON and CSV for programs."""

from reachmap_collector.render.alerts import ALERT_COLUMNS, alerts
from reachmap_collector.render.explanation import explanation
from reachmap_collector.render.output import (
    FORMATS,
    console,
    print_trimmed,
    printable,
    show,
)
from reachmap_collector.render.past import (
    DIFF_COLUMNS,
    HISTORY_COLUMNS,
    change,
    diff,
    history,
)
from reachmap_collector.render.plugin import (
    CANNOT_TELL,
    cannot_tell,
    status,
    status_exit_code,
    status_rows,
)
from reachmap_collector.render.tables import (
    AGENT_COLUMNS,
    FLOW_COLUMNS,
    MATRIX_COLUMNS,
    TOPOLOGY_COLUMNS,
    agents,
    flow_rows,
    flows,
    matrix,
    matrix_rows,
    topology,
    topology_rows,
)
from reachmap_collector.render.trend import TREND_COLUMNS, trend, trend_rows

__all__ = [
    "AGENT_COLUMNS",
    "ALERT_COLUMNS",
    "CANNOT_TELL",
    "DIFF_COLUMNS",
    "FLOW_COLUMNS",
    "FORMATS",
    "HISTORY_COLUMNS",
    "MATRIX_COLUMNS",
    "TOPOLOGY_COLUMNS",
    "TREND_COLUMNS",
    "agents",
    "alerts",
    "cannot_tell",
    "change",
    "console",
    "diff",
    "explanation",
    "flow_rows",
    "flows",
    "history",
    "matrix",
    "matrix_rows",
    "print_trimmed",
    "printable",
    "show",
    "status",
    "status_exit_code",
    "status_rows",
    "topology",
    "topology_rows",
    "trend",
    "trend_rows",
]
