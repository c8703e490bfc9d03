"""A change request has every flow that lacks a rule, once, with whoever can make it."""

import csv
import io
from typing import Any

import pytest

from reachmap_collector import rules
from reachmap_collector.export.asking import lacks, markdown, table
from reachmap_collector.rules import RuleRequest
from reachmap_shared.vocabulary import Transport


def flow(source: str = "10.0.1.1", to: str = "10.0.2.1", **changes: Any) -> dict[str, Any]:
    """A flow with details, such as the collector gives."""
    version = "ipv6" if ":" in to else "ipv4"
    request = RuleRequest(
        "pc-1", source, "web-1", to, 443, Transport.TCP, version, "browser to web"
    )
    fields: dict[str, Any] = {
        "source": "pc-1",
        "destination": "web-1",
        "service": "web:443",
        "address": to,
        "state": "broken",
        "outcome": "timeout",
        "cause": "unknown",
        "at": None,
        "advice": "ask",
        "evidence": ["pc-1: silence"],
        "requests": rules.texts(request),
    }
    return fields | changes


@pytest.mark.parametrize(
    ("given", "owner"),
    [
        (flow(), "10.0.1.0/24 to 10.0.2.0/24: the path between these networks"),
        (flow(to="10.0.1.9"), "web-1: its own firewall"),
        (flow("fd00::1", "fd00::2"), "web-1: its own firewall"),
        (
            flow("fd00:1::1", "fd00:2::2"),
            "fd00:1::/64 to fd00:2::/64: the path between these networks",
        ),
        (flow(at="10.0.9.1"), "10.0.9.1: the device that rejects"),
        (flow(at="10.0.2.1"), "web-1: its own firewall"),
        (flow(cause="destination-host"), "web-1: its own firewall"),
    ],
)
def test_who_is_asked(given: dict[str, Any], owner: str) -> None:
    """The device that says that it did it, the host, or who owns the path."""
    [request] = lacks([given]).requests
    assert request.owner == owner


def test_owners_with_most_to_do_come_first() -> None:
    """And each has all of its rules."""
    near, far = flow(to="10.0.1.9"), flow()
    found = lacks([near, far, far, flow(requests=None, advice="start it")])
    assert [len(request.flows) for request in found.requests] == [2, 1]
    assert [one["advice"] for one in found.others] == ["start it"]


def test_markdown_is_a_table_for_each_owner() -> None:
    """What no rule helps comes after, with what to do; nothing breaks out of its cell."""
    text = markdown(lacks([flow(), flow(requests=None, advice="see | `x`\nthere")]))
    assert text.splitlines() == [
        "# Firewall rules to ask for",
        "",
        "## 10.0.1.0/24 to 10.0.2.0/24: the path between these networks",
        "",
        "| from | to | port | why |",
        "|---|---|---|---|",
        "| 10.0.1.1 (pc-1) | 10.0.2.1 (web-1) | 443/tcp | browser to web |",
        "",
        "# What else is not as expected",
        "",
        "| flow | state | to do |",
        "|---|---|---|",
        "| pc-1 -\\> web-1 web:443 | broken (timeout) | see \\| \\`x\\` there |",
    ]
    assert "None: no flow lacks a rule" in markdown(lacks([]))


def test_csv_is_a_line_a_rule() -> None:
    """With its owner first; its header stands there in any case."""
    rows = [*csv.DictReader(io.StringIO(table(lacks([flow(), flow(requests=None)]))))]
    assert len(rows) == 1
    assert rows[0]["source_address"] == "10.0.1.1"
    assert rows[0]["owner"].startswith("10.0.1.0/24 to")
    assert table(lacks([])).startswith("owner,source,source_address,")
