"""A flow is found by what makes it that flow, however many share its targets."""

from dataclasses import replace
from typing import Any

import pytest

from reachmap_collector.flowmap.index import Index, is_address
from reachmap_collector.planner import ExpectedFlow, FlowKey, Flows
from reachmap_shared.names import ServiceName
from reachmap_shared.vocabulary import Expectation, Transport


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


def test_names_are_found_by_what_their_addresses_share_with_them() -> None:
    """All that an address may be one of; a flow to an address is no name's."""
    ends = ["10.0.0.1", "a.example", "b.example"]
    flows = [
        ExpectedFlow(
            FlowKey(source, "web-1", address, 80, Transport.TCP),
            *(ServiceName.parse("web:80"), "http", Expectation.REACHABLE, (), ()),
        )
        for source, addresses in (("pc-1", ends), ("pc-2", ends[:2]))
        for address in addresses
    ]
    index, key = Index(Flows.of(flows)), replace(flows[0].key, address="10.0.0.9")
    assert index.names(key) == [1, 2]
    assert index.names(replace(key, source="pc-2")) == [4]
    for changes in ({"source": "nobody"}, {"port": 1}, {"destination": "web-2"}):
        assert index.names(replace(key, **changes)) == []


@pytest.mark.parametrize(
    ("text", "is_one"), [("10.0.0.1", True), ("fd00::1", True), ("a.example", False), ("", False)]
)
def test_an_address_is_no_name(text: str, is_one: bool) -> None:
    """Of either family."""
    assert is_address(text) is is_one
