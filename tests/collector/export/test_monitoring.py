"""Prometheus's rules and Grafana's dashboard, held to promtool and to the metrics that there are."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from reachmap_collector.export import Options, Snapshot, prometheus

PACKAGING = Path(__file__).parents[3] / "packaging"
RULES = PACKAGING / "prometheus" / "reachmap.rules.yml"
DASHBOARD = PACKAGING / "grafana" / "reachmap.json"

if not RULES.is_file():
    pytest.skip("only a checkout has them", allow_module_level=True)

_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')
_GROUPS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_BRACES = re.compile(r"\{[^}]*\}|\[[^\]]*\]")
_NAMES = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\s*\()\b")
_WORDS = {"and", "or", "unless", "bool", "offset"}


def promtool(tool: Any, *arguments: str, folder: Path = RULES.parent) -> str:
    done = subprocess.run(
        [tool("promtool", "prometheus"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def expressions() -> Iterator[str]:
    """The dashboard's, with what Grafana puts in for its variables."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])
            assert match
            found.append(f"count by ({match[2]}) ({match[1]})")
    for one in found:
        text = one.replace("$__rate_interval", "5m")
        for variable in dashboard["templating"]["list"]:
            text = text.replace(f"${variable['name']}", ".*")
        assert "$" not in text
        yield text


def metrics(expression: str) -> set[str]:
    """The names of the metrics in an expression."""
    bare = _BRACES.sub("", _GROUPS.sub("", _STRINGS.sub("", expression)))
    return set(_NAMES.findall(bare)) - _WORDS


def labels(expression: str) -> set[str]:
    """The labels that it selects by."""
    bare = _STRINGS.sub('""', expression)
    return {
        name
        for part in re.findall(r"\{([^}]*)\}", bare)
        for name in re.findall(r"(\w+)\s*[!=]", part)
    }


@pytest.fixture(scope="module")
def exported(mixed: Snapshot) -> dict[str, set[str]]:
    """The labels of each metric that there is, by its name."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    text = prometheus.text(mixed, Options()) + generate_latest(registry).decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def rule_expressions() -> list[str]:
    """Those of the rules' file, whose expressions are a line or a folded block each."""
    text = RULES.read_text()
    folded = re.sub(
        r"expr: >-\n((?: {10}.*\n)+)", lambda m: f"expr: {' '.join(m[1].split())}\n", text
    )
    found = re.findall(r"^\s+expr: (.+)$", folded, re.MULTILINE)
    assert len(found) == text.count("expr:") == len(re.findall(r"- (?:alert|record):", text))
    return found


def test_the_rules_are_rules(tool: Any) -> None:
    """By Prometheus's own judgement."""
    assert "SUCCESS" in promtool(tool, "check", "rules", RULES.name)


def test_each_alert_goes_off_when_it_should_and_not_before(tool: Any) -> None:
    """Prometheus runs them on made-up series; each alert has a case where it is told."""
    assert "SUCCESS" in promtool(tool, "test", "rules", "reachmap.rules.test.yml")
    told = (RULES.parent / "reachmap.rules.test.yml").read_text()
    for alert in re.findall(r"- alert: (\w+)", RULES.read_text()):
        assert re.search(rf"alertname: {alert}\n\s+exp_alerts:\n", told), alert


def test_every_query_of_the_dashboard_is_one(tool: Any, tmp_path: Path) -> None:
    """Prometheus parses each."""
    path = tmp_path / "dashboard.yml"
    rules = [{"record": f"a:{number}", "expr": text} for number, text in enumerate(expressions())]
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    told = promtool(tool, "check", "rules", path.name, folder=tmp_path)
    assert f"SUCCESS: {len(rules)} rules found" in told
    assert len(rules) >= 15


def test_every_metric_that_they_name_is_exported(exported: dict[str, set[str]]) -> None:
    """With the labels that they select by."""
    every = [*expressions(), *rule_expressions()]
    for expression in every:
        names = metrics(expression)
        assert names, expression
        assert names <= exported.keys(), expression
        for name in names:
            if len(names) == 1:
                assert labels(expression) <= exported[name], expression
    assert {name for one in every for name in metrics(one)} >= {
        *("reachmap_flows", "reachmap_role_flows", "reachmap_agents", "reachmap_connect_seconds"),
        "probe_ssl_earliest_cert_expiry",
    }


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ('sum by (a) (rate(m_total{b="x y"}[5m])) > 0', {"m_total"}),
        ("m1 and on (instance) m2 offset 5m", {"m1", "m2", "m"}),
        ('absent(up{job="a"}) - time()', {"up"}),
    ],
)
def test_the_names_are_found(expression: str, named: set[str]) -> None:
    """All of them; a unit of time may look like one."""
    assert metrics(expression) - {"m"} == named - {"m"}


def test_panels_have_room_and_numbers_of_their_own() -> None:
    """None lies on another."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
