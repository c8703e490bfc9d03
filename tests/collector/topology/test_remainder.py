"""Wrong values hide no wrong names, and nothing is told that is wrong for lack of them alone."""

from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reachmap_collector.errors import InvalidFile
from reachmap_collector.topology.load import parse_topology
from reachmap_collector.topology.remainder import Remainder
from reachmap_collector.topology.schema import TopologyFile

GOOD = """
admit = ["browser"]
[roles.web]
listens = { "web:8080" = { protocol = "http" }, "web:8081" = {} }
[roles.browser]
connects = ["web:8080", { to = "web:8081" }]
[hosts.web-1]
roles = ["web"]
addresses = ["10.0.0.1"]
ports = { "web:8080" = 80 }
[hosts.pc-1]
roles = ["browser"]
was = ["pc-0"]
[[deny]]
from = "browser"
to = "web:8081"
[[deny]]
from = "web"
to = "web:8080"
"""


def told(text: str) -> list[str]:
    """The places of all that is wrong with a topology, in order."""
    try:
        parse_topology(text, Path("topology.toml"))
    except InvalidFile as error:
        return sorted(problem.where for problem in error.problems)
    return []


@pytest.mark.parametrize(
    ("changes", "places"),
    [
        ({}, []),
        ({'"10.0.0.1"': '"10.0.0.1000"', '["browser"]\nwas': '["browsers"]\nwas'}, ["hosts.pc-1.roles[0]", "hosts.web-1.addresses[0]"]),
        ({'["browser"]\nwas': '["browsers"]\nwas', '"pc-0"': "7"}, ["hosts.pc-1.roles[0]", "hosts.pc-1.was[0]"]),
        ({"= 80 ": '= 70000, "web:1" = 1 '}, ['hosts.web-1.ports."web:1"', 'hosts.web-1.ports."web:8080"']),
        ({'= ["browser"]\nwas': '= [7, "browsers"]\nwas'}, ["hosts.pc-1.roles[0]", "hosts.pc-1.roles[1]"]),
        ({'to = "web:8081"\n[[': '[[', '"web"\nto': '"wed"\nto'}, ["deny[0].to", "deny[1].from"]),
        ({'to = "web:8081"\n[[': 'to = 7\n[[', '"web"\nto': '"wed"\nto'}, ["deny[0].to", "deny[1].from"]),
        ({'["web:8080",': '[7, "web:80",'}, ["roles.browser.connects[0]", "roles.browser.connects[1]"]),
        ({"[roles.browser]": "[roles.browser]\ntitle = 7", "[\"browser\"]\n[": "[\"brow\"]\n["}, ["admit[0]", "roles.browser.title"]),
        ({"was =": "is =", '["web"]': '["wed"]'}, ["hosts.pc-1.is", 'hosts.web-1.ports."web:8080"', "hosts.web-1.roles[0]"]),
    ],
    ids=["good", "another host's", "the same host's", "another port", "after it in the list", "after one without", "after one that is none", "after it, as a table", "a role's title", "an unknown key"],
)  # fmt: skip
def test_what_has_no_shape_hides_nothing(changes: dict[str, str], places: list[str]) -> None:
    """All is told at once, by where it stands in the file."""
    text = GOOD
    for before, after in changes.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    assert told(text) == places


@pytest.mark.parametrize(
    ("before", "after", "place"),
    [
        ('"web:8081" = {} }', '"web:8081" = 7 }', 'roles.web.listens."web:8081"'),
        ("[roles.web]\nlistens", "[roles.web]\nlisten", "roles.web.listen"),
        ("[roles.web]", "[role.web]", "role"),
        ('roles = ["web"]', 'roles = "web"', "hosts.web-1.roles"),
        ('roles = ["web"]', 'role = ["web"]', "hosts.web-1.role"),
        ('addresses = ["10.0.0.1"]', "agent = false\naddresses = 7", "hosts.web-1.addresses"),
        ("[hosts.pc-1]", '[hosts."pc 1"]', "hosts.pc 1"),
        ("[roles.web]", '[[rows]]\nport = 7\n[roles.web]', "rows[0].component"),
    ],
)  # fmt: skip
def test_nothing_is_told_but_what_is_wrong(before: str, after: str, place: str) -> None:
    """What refers to something that has no shape does so rightly, as far as anybody can tell."""
    assert GOOD.count(before) == 1
    places = told(GOOD.replace(before, after))
    assert place.replace("pc 1", '"pc 1"') in places
    assert all(one.startswith("rows[0]") or one == places[0] for one in places)


def shapeless(content: dict[str, Any]) -> int:
    """How much in it the schema refuses."""
    try:
        TopologyFile.model_validate(content)
    except ValidationError as error:
        return error.error_count()
    return 0


_VALUES: Any = st.recursive(
    st.integers(-1, 70000) | st.booleans() | st.sampled_from(["web", "web:8080", "10.0.0.1", "x y", ""]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["roles", "web", "web:8080", "from", "to", "addresses", "ports", "x y", "listens", "connects", "was"]), inner, max_size=3
    ),
    max_leaves=12,
)  # fmt: skip


@given(
    st.dictionaries(
        st.sampled_from(["hosts", "roles", "deny", "admit", "rows", "checks", "title", "no"]),
        _VALUES,
    )
)
def test_no_file_is_too_wrong(content: dict[str, Any]) -> None:
    """Whatever it says, all that has no shape is told, and looking further breaks nothing."""
    assert len(told(tomli_w.dumps(content))) >= shapeless(content)


def test_what_is_given_is_left_as_it_is() -> None:
    """Only a copy loses something."""
    content = {"hosts": {"a": {"roles": [1, 2]}}}
    rest = Remainder(content, lambda place: ".".join(map(str, place)))
    assert rest.lose([(("hosts", "a", "roles", 1), False), (("hosts", "a", "roles", 0), False)])
    assert rest.content == {"hosts": {"a": {"roles": []}}}
    assert content == {"hosts": {"a": {"roles": [1, 2]}}}
    assert not rest.lose([((), False)])
