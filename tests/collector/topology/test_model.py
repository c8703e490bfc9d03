"""What only the whole shows: names that nothing defines, definitions that contradict each other."""

from typing import Any

import pytest

from reachmap_collector.topology.model import NamedProfile, Topology, assemble
from reachmap_collector.topology.schema import Basis, ProfileFile, TopologyFile
from reachmap_shared.names import ServiceName
from reachmap_shared.vocabulary import Transport

WEB = {
    "rows": [
        {"port": 80, "component": "Web", "traffic": "inbound", "description": "Site"},
        {"port": 80, "component": "Browser", "traffic": "outbound"},
    ],
    "roles": {
        "web": {
            "title": "Web server",
            "listens": {"web:80": {"protocol": "http", "basis": "documented", "row": 1}},
        },
        "browser": {"connects": [{"to": "web:80", "basis": "documented", "row": 2}]},
        "udp": {"listens": {"udp:80": {"protocol": "udp", "transport": "udp"}}},
    },
}


def profile(content: dict[str, Any], name: str = "web") -> NamedProfile:
    return NamedProfile(name, ProfileFile.model_validate(content))


def assembled(content: dict[str, Any], *profiles: NamedProfile) -> tuple[Topology, list[str]]:
    """A topology upon the web profile, and its problems as people read them."""
    topology, problems = assemble(TopologyFile.model_validate(content), profiles or (profile(WEB),))
    return topology, [str(problem) for problem in problems]


def test_a_topology_and_its_profiles_become_one() -> None:
    """Roles keep what the profile says and gain what the topology says; rows keep their numbers."""
    topology, problems = assembled(
        {
            "roles": {
                "web": {"listens": {"web:443": {"protocol": "https"}}},
                "browser": {"connects": ["web:443"]},
            },
            "hosts": {"web-1": {"roles": ["web"], "ports": {"web:443": 8443}}},
            "deny": [{"from": "web", "to": "udp:80", "note": "no need"}],
            "admit": ["browser"],
        }
    )
    assert problems == []
    web, browser = topology.roles["web"], topology.roles["browser"]
    assert [str(service) for service in web.listeners] == ["web:80", "web:443"]
    assert [str(connection.service) for connection in browser.connections] == ["web:80", "web:443"]
    assert (web.title, browser.title) == ("Web server", "browser")
    assert [str(row) for row in topology.rows] == [
        "80 | Web | Inbound | Site",
        "80 | Browser | Outbound",
    ]
    documented, own = browser.connections
    assert (documented.basis, documented.table_row) == (Basis.DOCUMENTED, topology.rows[1])
    assert (own.basis, own.table_row) == (Basis.LOCAL, None)
    assert topology.listener(ServiceName("web", 80)).table_row == topology.rows[0]
    [deny] = topology.denies
    assert (deny.role, str(deny.service), deny.note) == ("web", "udp:80", "no need")
    assert topology.admit == {"browser"}


def test_rows_of_two_profiles_of_one_name_do_not_mix() -> None:
    """A row's number counts within its own file, whatever that file is called."""
    other = {
        "rows": [{"port": 22, "component": "Shell", "traffic": "inbound"}],
        "roles": {"shell": {"listens": {"shell:22": {"row": 1}}}},
    }
    topology, problems = assembled({}, profile(WEB, "ports"), profile(other, "ports"))
    assert problems == []
    for role, port in (("web", 80), ("shell", 22)):
        row = topology.listener(ServiceName(role, port)).table_row
        assert row is not None
        assert row.row.port == port


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            {"hosts": {"a": {"roles": ["web", "browsr"]}}},
            "hosts.a.roles[1]: unknown role 'browsr': did you mean browser?",
        ),
        (
            {"hosts": {"a": {"roles": ["xyz"]}}},
            "hosts.a.roles[0]: unknown role 'xyz': expected one of browser, udp, web",
        ),
        (
            {"admit": ["web", "zzz", "browser"]},
            "admit[1]: unknown role 'zzz': expected one of browser, udp, web",
        ),
        (
            {"roles": {"browser": {"connects": ["web:81"]}}},
            "roles.browser.connects[0]: service nobody listens on 'web:81': did you mean web:80?",
        ),
        (
            {"roles": {"browser": {"connects": ["web:80"]}}},
            "roles.browser.connects[0]: web:80 is connected to twice by this role",
        ),
        (
            {"roles": {"web": {"listens": {"web:80": {}}}}},
            'roles.web.listens."web:80": a profile has defined this service already',
        ),
        (
            {"roles": {"app": {"listens": {"web:81": {}}}}, "hosts": {"a": {"roles": ["app"]}}},
            'roles.app.listens."web:81": expected a service of this role, as in app:81',
        ),
        (
            {"roles": {"app": {"listens": {"app:81": {"row": 1}}}}},
            'roles.app.listens."app:81": row 1 is not in this file\'s rows',
        ),
        (
            {"roles": {"app": {"connects": [{"to": "web:80", "row": 2}]}}},
            "roles.app.connects[0]: row 2 is not in this file's rows",
        ),
        (
            {"deny": [{"from": "wb", "to": "web:80"}]},
            "deny[0].from: unknown role 'wb': did you mean web?",
        ),
        (
            {"deny": [{"from": "web", "to": "web:8"}]},
            "deny[0].to: service nobody listens on 'web:8': did you mean web:80?",
        ),
        (
            {"hosts": {"PC-1": {}, "pc-1": {}}},
            "hosts.pc-1: differs from host 'PC-1' only in upper and lower case",
        ),
        (
            {"hosts": {"a": {"roles": ["browser"], "ports": {"web:80": 81}}}},
            (
                "hosts.a.ports.\"web:80\": service not of this host's roles 'web:80': "
                "expected one of (none is defined)"
            ),
        ),
        (
            {"hosts": {"a": {"ports": {"web:81": 82}}}},
            (
                "hosts.a.ports.\"web:81\": service not of this host's roles 'web:81': "
                "did you mean web:80?"
            ),
        ),
        (
            {"hosts": {"a": {"roles": ["browser"], "listen": {"web:80": "never"}}}},
            (
                "hosts.a.listen.\"web:80\": service not of this host's roles 'web:80': "
                "expected one of (none is defined)"
            ),
        ),
        (
            {"hosts": {"a": {"listen": {"web:81": "never"}}}},
            (
                "hosts.a.listen.\"web:81\": service not of this host's roles 'web:81': "
                "did you mean web:80?"
            ),
        ),
        (
            {"hosts": {"a": {"agent": False, "addresses": ["10.0.0.1"]}}},
            "hosts.a.roles: expected roles, since no agent there will say them",
        ),
        (
            {"hosts": {"a": {"agent": False, "roles": ["web"]}}},
            "hosts.a.addresses: expected addresses, since no agent there will say them",
        ),
        (
            {
                "roles": {"app": {"listens": {"app:8080": {}}}},
                "hosts": {"a": {"roles": ["web", "app"], "ports": {"app:8080": 80}}},
            },
            "hosts.a: web:80 and app:8080 are both on tcp port 80",
        ),
    ],
)
def test_a_contradiction_is_a_problem_at_its_place(content: dict[str, Any], expected: str) -> None:
    """Each mistake is told once, where it stands, with what was expected or is near."""
    _, problems = assembled(content)
    assert problems == [expected]


def test_a_problem_in_a_profile_says_which_profile() -> None:
    """A person with three profiles has to know where to look."""
    part = profile({"roles": {"a": {"connects": ["b:1"]}}}, "mine")
    _, problems = assembled({}, part)
    assert problems == [
        (
            "profile mine: roles.a.connects[0]: service nobody listens on 'b:1': "
            "expected one of (none is defined)"
        )
    ]


def test_all_problems_are_told_at_once() -> None:
    """Nobody corrects a file one mistake a run."""
    _, problems = assembled(
        {
            "hosts": {"a": {"roles": ["x1"]}, "b": {"roles": ["x2"]}},
            "deny": [{"from": "x3", "to": "x4:5"}],
        }
    )
    assert len(problems) == 4


@pytest.mark.parametrize(
    "host",
    [
        pytest.param({"roles": ["web", "udp"]}, id="one port over two transports"),
        pytest.param({"roles": ["web", "web"]}, id="a role said twice"),
        pytest.param({"ports": {"web:80": 81}}, id="a port for whatever the agent announces"),
        pytest.param({"listen": {"web:80": "never"}}, id="a mode for whatever it announces"),
        pytest.param({"roles": ["web"], "listen": {"web:80": "always"}}, id="a mode of its own"),
        pytest.param(
            {"roles": ["web"], "addresses": ["10.0.0.1"], "agent": False}, id="no agent there"
        ),
        pytest.param({"roles": []}, id="no roles at all"),
    ],
)
def test_what_merely_looks_odd_is_no_problem(host: dict[str, Any]) -> None:
    """Refusing what could work would keep a deployment from being mapped."""
    topology, problems = assembled({"hosts": {"a": host}})
    assert problems == []
    assert set(topology.hosts) == {"a"}


def test_a_listener_of_udp_keeps_its_transport() -> None:
    """The transport of a service comes from its definition, never from its port."""
    topology, _ = assembled({})
    assert topology.listener(ServiceName("udp", 80)).detail.transport is Transport.UDP


def test_a_service_says_without_which_others_it_does_not_work() -> None:
    """So that its failure can be told as a consequence of theirs."""
    roles = {"shop": {"listens": {"shop:90": {"requires": ["web:80"]}}}}
    topology, problems = assembled({"roles": roles})
    assert problems == []
    assert topology.dependencies() == {"shop:90": ["web:80"]}


def test_what_a_service_requires_must_exist() -> None:
    """A slip of the pen would silently require nothing."""
    roles = {"shop": {"listens": {"shop:90": {"requires": ["web:81"]}}}}
    _, problems = assembled({"roles": roles})
    [problem] = problems
    assert problem.startswith('roles.shop.listens."shop:90".requires[0]: service nobody listens on')


def test_a_host_may_have_had_other_names() -> None:
    """Each name is of one host, then and now."""
    hosts = {"new": {"roles": ["web"], "was": ["old", "older"]}, "pc": {"roles": ["browser"]}}
    topology, problems = assembled({"hosts": hosts})
    assert problems == []
    assert [topology.current(name) for name in ("old", "older", "new", "pc")] == [
        *("new", "new", "new", "pc")
    ]
    assert topology.names("new") == ("new", "old", "older")
    assert topology.names("elsewhere") == ("elsewhere",)


@pytest.mark.parametrize(
    ("was", "problem"),
    [
        (["pc"], "hosts.new.was[0]: 'pc' is a host of this topology"),
        (["new"], "hosts.new.was[0]: 'new' is a host of this topology"),
        (["x", "x"], "hosts.new.was[1]: 'x' is named twice as what a host was"),
        (["y"], "hosts.new.was[0]: 'y' is named twice as what a host was"),
    ],
)
def test_no_name_is_of_two_hosts(was: list[str], problem: str) -> None:
    """Or nobody could tell whose past it is."""
    hosts = {
        "new": {"roles": ["web"], "was": was},
        "pc": {"roles": ["browser"], "was": ["y"]},
    }
    assert problem in assembled({"hosts": hosts})[1]
