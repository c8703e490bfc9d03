"""A flow is found by what makes it that flow, however many share its targets."""

from typing import Any

from reachmap_collector.flowmap.index import Index
from reachmap_collector.planner import Flows


def test_every_flow_is_found_at_its_row(scene: Any) -> None:
    """By its service too; another service's flow is another one."""
    expected: Flows = scene().flows.expected
    index = Index(expected)
    for row, flow in enumerate(expected):
        assert index.row(flow.key) == row
        assert index.row(flow.key, str(flow.service)) == row
        assert index.row(flow.key, "other:1") is None


def test_what_is_none_of_them_has_no_row(scene: Any) -> None:
    """Neither from a host that dials nothing, nor to a place that nobody dials."""
    expected: Flows = scene().flows.expected
    index, key = Index(expected), expected[0].key
    for changes in ({"source": "nobody"}, {"port": 1}, {"address": "10.255.0.1"}):
        other = type(key)(**({name: getattr(key, name) for name in key.__slots__} | changes))
        assert index.row(other) is None
