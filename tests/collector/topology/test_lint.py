"""Warnings about topologies that are valid and probably not meant."""

from typing import Any

import pytest

from reachmap_collector.topology.findings import FindingKind
from reachmap_collector.topology.lint import lint
from reachmap_collector.topology.load import load_profile
from reachmap_collector.topology.model import NamedProfile, assemble
from reachmap_collector.topology.schema import TopologyFile

ROLES = {
    "web": {"listens": {"web:80": {}}, "connects": ["db:5432"]},
    "db": {"listens": {"db:5432": {}}},
    "dns": {"listens": {"dns:80": {"transport": "udp", "protocol": "udp"}}},
    "browser": {"connects": ["web:80"]},
    "peer": {"listens": {"peer:1": {}}, "connects": ["peer:1"]},
    "idle": {},
}


def findings(content: dict[str, Any]) -> list[tuple[FindingKind, str]]:
    """What is found in a topology with the roles above."""
    topology, problems = assemble(TopologyFile.model_validate({"roles": ROLES, **content}), [])
    assert problems == []
    return [(finding.kind, str(finding)) for finding in lint(topology)]


def hosts(**roles: list[str] | None) -> dict[str, Any]:
    """Hosts of these roles; None leaves them to the agent."""
    return {
        "hosts": {name: {} if held is None else {"roles": held} for name, held in roles.items()}
    }


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(hosts(w=["web"], d=["db"], b=["browser"]), id="every role has a host"),
        pytest.param(hosts(p=["peer"]), id="a cluster of one"),
        pytest.param(hosts(w=["web"], x=None), id="an agent that may be the database"),
        pytest.param({**hosts(w=["web"]), "admit": ["db"]}, id="a database may be admitted"),
        pytest.param(hosts(x=None), id="an agent that will say"),
        pytest.param({"admit": ["db"]}, id="whoever comes"),
        pytest.param(hosts(d=["db"]), id="a service that nobody dials"),
        pytest.param(
            {"hosts": {"w": {"roles": ["web"], "agent": False, "addresses": ["10.0.0.1"]}}},
            id="what a host without an agent connects to is never checked",
        ),
        pytest.param(
            {
                **hosts(b=["browser"], w=["web"], d=["db"]),
                "deny": [{"from": "browser", "to": "db:5432"}],
            },
            id="a deny rule in its place",
        ),
        pytest.param(
            {**hosts(i=["idle"], d=["db"]), "deny": [{"from": "idle", "to": "db:5432"}]},
            id="a host from which something is denied",
        ),
        pytest.param(
            {**hosts(d=["db"], e=["db"]), "deny": [{"from": "db", "to": "db:5432"}]},
            id="members that must not reach each other",
        ),
    ],
)
def test_what_is_meant_is_not_warned_of(content: dict[str, Any]) -> None:
    """A warning that may be false is worse than none."""
    assert findings(content) == []


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        pytest.param(
            {},
            FindingKind.NOTHING_TO_CHECK,
            "hosts: there are none, and admit lets no agent in: nothing will be checked",
            id="no hosts",
        ),
        pytest.param(
            hosts(w=["web"]),
            FindingKind.ROLE_WITHOUT_HOST,
            "roles.db: web connects to db:5432, but no host is db",
            id="no database",
        ),
        pytest.param(
            {"admit": ["web"]},
            FindingKind.ROLE_WITHOUT_HOST,
            "roles.db: web connects to db:5432, but no host is db",
            id="no database for whoever is admitted",
        ),
        pytest.param(
            {**hosts(i=["idle"], p=["peer"]), "deny": [{"from": "idle", "to": "db:5432"}] * 2},
            FindingKind.ROLE_WITHOUT_HOST,
            "roles.db: idle is denied db:5432, but no host is db",
            id="no database to deny",
        ),
        pytest.param(
            hosts(d=["db"], x=[]),
            FindingKind.IDLE_HOST,
            "hosts.x: it has no roles: no flow begins or ends here",
            id="no roles",
        ),
        pytest.param(
            hosts(d=["db"], x=["idle"]),
            FindingKind.IDLE_HOST,
            "hosts.x: idle neither listens nor connects: no flow begins or ends here",
            id="a role of nothing",
        ),
        pytest.param(
            {
                "hosts": {
                    "w": {"roles": ["web", "db"]},
                    "x": {"roles": ["browser"], "agent": False, "addresses": ["10.0.0.1"]},
                }
            },
            FindingKind.IDLE_HOST,
            "hosts.x: its roles only connect, and no agent is there to do it: "
            "no flow begins or ends here",
            id="no agent to connect",
        ),
        pytest.param(
            hosts(d=["db", "db"]),
            FindingKind.REPEATED_ROLE,
            "hosts.d.roles: db is listed 2 times",
            id="a role twice",
        ),
        pytest.param(
            {**hosts(w=["web"], d=["db"]), "deny": [{"from": "web", "to": "db:5432"}]},
            FindingKind.DENIED_CONNECTION,
            "deny web -> db:5432: web connects to db:5432 and is denied it",
            id="allowed and denied",
        ),
        pytest.param(
            {
                **hosts(a=["browser", "web"], b=["web", "browser"], d=["db"], c=["browser"]),
                "deny": [{"from": "browser", "to": "db:5432"}],
            },
            FindingKind.DENY_WITHOUT_EFFECT,
            "deny browser -> db:5432: a and b are both browser and web, which connects to db:5432",
            id="denied to one role and allowed to another of the same host",
        ),
        pytest.param(
            {**hosts(d=["idle", "db"]), "deny": [{"from": "idle", "to": "db:5432"}]},
            FindingKind.DENY_WITHOUT_EFFECT,
            "deny idle -> db:5432: d is both idle and db, and a host always reaches itself",
            id="denied to the very host",
        ),
        pytest.param(
            {
                "hosts": {
                    "d": {"roles": ["db"], "addresses": ["FD00::1"]},
                    "e": {"roles": ["db"], "addresses": ["10.0.0.1", "fd00:0::1"]},
                }
            },
            FindingKind.SHARED_ADDRESS,
            "hosts.e: fd00::1 tcp port 5432 (db:5432) is host d's too",
            id="one address of two hosts",
        ),
        pytest.param(
            {
                "hosts": {
                    "d": {"roles": ["db"], "addresses": ["DB.example"]},
                    "p": {
                        "roles": ["peer"],
                        "addresses": ["db.example."],
                        "ports": {"peer:1": 5432},
                    },
                }
            },
            FindingKind.SHARED_ADDRESS,
            "hosts.p: db.example. tcp port 5432 (peer:1) is host d's too",
            id="one name of two hosts, by a port of its own",
        ),
    ],
)
def test_what_is_hardly_meant_is_warned_of(
    content: dict[str, Any], kind: FindingKind, expected: str
) -> None:
    """Each kind alone, with its place and the reason."""
    assert findings(content) == [(kind, expected)]


@pytest.mark.parametrize(
    "second",
    [
        pytest.param({"roles": ["dns"], "addresses": ["10.0.0.1"]}, id="another transport"),
        pytest.param(
            {"roles": ["web"], "addresses": ["10.0.0.1"], "ports": {"web:80": 81}},
            id="another port",
        ),
        pytest.param({"roles": ["web"], "addresses": ["10.0.0.2"]}, id="another address"),
        pytest.param({"addresses": ["10.0.0.1"]}, id="roles that nobody knows yet"),
    ],
)
def test_hosts_may_share_an_address_on_different_ports(second: dict[str, Any]) -> None:
    """Behind one address there may be many hosts."""
    first = {"roles": ["web", "db"], "addresses": ["10.0.0.1"]}
    assert findings({"hosts": {"a": first, "b": second}}) == []


SLOW = "timeout_s of {} is not below interval_s of {}: a check that is not answered still waits "
SLOW += "when the next is due"
SHORT = (
    "timeout_s of {} is above 4.5: a listener on demand, as for {}, is closed after 5 s, before "
)
SHORT += "such a check has ended"
NEVER = {"web:80": "never"}


@pytest.mark.parametrize(
    ("content", "checks", "expected"),
    [
        (hosts(d=["db"]), {"interval_s": 10, "timeout_s": 4.5}, []),
        (hosts(d=["db"]), {"interval_s": 4.6, "timeout_s": 4.5}, []),
        (hosts(d=["db"]), {"interval_s": 3, "timeout_s": 3}, [SLOW.format(3, 3)]),
        (hosts(d=["db"]), {"interval_s": 2.5, "timeout_s": 3}, [SLOW.format(3, 2.5)]),
        (hosts(d=["db"]), {"timeout_s": 4.6}, [SHORT.format(4.6, "db:5432")]),
        (
            hosts(d=["db"]),
            {"timeout_s": 10},
            [SLOW.format(10, 10), SHORT.format(10, "db:5432")],
        ),
        ({"admit": ["db"]}, {"timeout_s": 5}, [SHORT.format(5, "db:5432")]),
        (hosts(x=None), {"timeout_s": 5}, []),
        (
            {"hosts": {"w": {"roles": ["web", "db"], "listen": NEVER}}},
            {"timeout_s": 5},
            [SHORT.format(5, "db:5432")],
        ),
        (
            {"hosts": {"d": {"roles": ["db"], "listen": {"db:5432": "always"}}}},
            {"timeout_s": 5},
            [],
        ),
        (
            {"hosts": {"d": {"roles": ["db"], "agent": False, "addresses": ["10.0.0.1"]}}},
            {"timeout_s": 5},
            [],
        ),
    ],
)
def test_times_that_cannot_work_are_warned_of(
    content: dict[str, Any], checks: dict[str, float], expected: list[str]
) -> None:
    """A check has to end before the next, and before the listener that was opened for it."""
    assert [message for _, message in findings({**content, "checks": checks})] == [
        f"checks: {message}" for message in expected
    ]


def test_a_thousand_hosts_with_one_mistake_are_one_short_warning() -> None:
    """A message names a few of them, and how many there are besides."""
    many = hosts(**{f"pc-{number}": ["browser", "web"] for number in range(1000)}, d=["db"])
    [(_, message)] = findings({**many, "deny": [{"from": "browser", "to": "db:5432"}]})
    assert "pc-0, pc-1, pc-2, pc-3, pc-4 and 995 more are both browser and web" in message


def test_an_openuem_without_its_database_is_warned_of_once() -> None:
    """All who connect to one service are one warning: the host is missing once."""
    content = {"hosts": {"srv": {"roles": ["console", "ocsp-responder", "nats-server", "agent"]}}}
    topology, problems = assemble(
        TopologyFile.model_validate(content), [NamedProfile("openuem", load_profile("openuem"))]
    )
    assert problems == []
    assert [str(finding) for finding in lint(topology)] == [
        (
            "roles.postgres: ocsp-responder and console connect to postgres:5432, "
            "but no host is postgres"
        )
    ]
