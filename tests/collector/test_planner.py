"""From a topology and what agents announce to flows."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from deployments import SMALL
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector import planner
from reachmap_collector.planner import NO_ADDRESS, Announcement, ExpectedFlow, FlowKey, Member
from reachmap_collector.plans import Plans
from reachmap_collector.topology.load import load_profile
from reachmap_collector.topology.model import Topology
from reachmap_shared.vocabulary import Expectation, ListenMode, Transport

ROLES = tuple(load_profile("openuem").roles)

SaidBy = Mapping[str, Announcement]


def flows_of(topology: Topology, said: SaidBy | None = None) -> list[ExpectedFlow]:
    return [*planner.expected_flows(topology, planner.members(topology, said or {}))]


def plans_of(topology: Topology, said: SaidBy | None = None) -> Plans:
    hosts = planner.members(topology, said or {})
    return Plans(topology, hosts, planner.expected_flows(topology, hosts), b"a secret", "PEM")


def ends(flows: list[ExpectedFlow]) -> list[str]:
    """The flows in a form that is read at a glance."""
    return [
        f"{flow.key.source} -> {flow.key.destination} "
        f"{flow.key.address or '(none)'}:{flow.key.port} {flow.expect}"
        for flow in flows
    ]


# Flows: which there are.


@pytest.mark.parametrize("number", range(1, 22))
def test_every_row_of_the_port_table_gives_flows(topology: Any, openuem: Any, number: int) -> None:
    """With two hosts for every role no row of OpenUEM's table is left out."""
    deployment = topology(openuem())
    row = deployment.rows[number - 1]
    meant = [
        flow
        for flow in flows_of(deployment)
        if row == deployment.listener(flow.service).table_row
        or row in [connection.table_row for connection in flow.connections]
    ]
    assert meant
    assert {flow.service.port for flow in meant} == {row.row.port}


def test_a_role_that_connects_to_its_own_service_means_its_peers(topology: Any) -> None:
    """A cluster's member is no peer of its own."""
    cluster = """
    [roles.node]
    listens = { "node:7000" = {} }
    connects = ["node:7000"]
    [hosts]
    a = { roles = ["node"], addresses = ["10.0.0.1"] }
    b = { roles = ["node"], addresses = ["10.0.0.2"] }
    c = { roles = ["node"], addresses = ["10.0.0.3"] }
    """
    pairs = [(flow.key.source, flow.key.destination) for flow in flows_of(topology(cluster))]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b")]


def test_a_host_reaches_its_own_services_of_other_roles(topology: Any) -> None:
    """A console beside its database dials it as any other console does."""
    both = SMALL.replace('roles = ["web"]', 'roles = ["web", "browser"]')
    assert ends(flows_of(topology(both))) == [
        "b -> w 10.0.0.1:80 reachable",
        "w -> w 10.0.0.1:80 reachable",
    ]


def test_several_roles_of_one_host_share_a_flow(topology: Any) -> None:
    """What is dialled is checked once, whoever on the host needs it."""
    three = """
    profiles = ["openuem"]
    [hosts.worker]
    roles = ["agent-worker", "cert-manager-worker", "notification-worker"]
    addresses = ["10.0.0.1"]
    [hosts.db]
    roles = ["postgres"]
    addresses = ["10.0.0.2"]
    """
    [flow] = flows_of(topology(three))
    assert [connection.role for connection in flow.connections] == [
        "agent-worker",
        "cert-manager-worker",
        "notification-worker",
    ]
    assert len(plans_of(topology(three))["worker"].checks) == 1


def test_an_overridden_port_is_dialled_and_listened_on(topology: Any) -> None:
    """The service keeps the name of its default port."""
    moved = topology(SMALL + '[hosts.w.ports]\n"web:80" = 8080\n')
    [flow] = flows_of(moved)
    assert (flow.key.port, str(flow.service)) == (8080, "web:80")
    plans = plans_of(moved)
    [check], [listener] = plans["b"].checks, plans["w"].listeners
    assert (check.service, check.port) == (listener.service, listener.port) == ("web:80", 8080)


def test_each_address_of_a_host_is_a_flow(topology: Any) -> None:
    """One family may work where the other does not."""
    both = topology(SMALL.replace('"10.0.0.1"', '"10.0.0.1", "fd00::1", "10.0.0.1"'))
    assert ends(flows_of(both)) == [
        "b -> w 10.0.0.1:80 reachable",
        "b -> w fd00::1:80 reachable",
    ]


def test_a_host_without_an_address_has_a_flow_and_no_check(topology: Any) -> None:
    """The map shows what cannot be checked yet, and no plan holds it."""
    silent = topology(SMALL.replace('addresses = ["10.0.0.1"]', ""))
    assert ends(flows_of(silent)) == ["b -> w (none):80 reachable"]
    assert flows_of(silent)[0].key.address == NO_ADDRESS
    assert plans_of(silent)["b"].checks == ()


def test_a_host_without_an_agent_is_only_dialled(topology: Any) -> None:
    """Nobody there could check or listen, so it has no plan either."""
    text = SMALL.replace('["10.0.0.1"]', '["10.0.0.1"]\nagent = false')
    text = text.replace('roles = ["web"]', 'roles = ["web", "browser"]')
    deployment = topology(text)
    assert ends(flows_of(deployment)) == ["b -> w 10.0.0.1:80 reachable"]
    assert set(plans_of(deployment)) == {"b"}


def test_udp_and_tcp_on_one_port_are_two_flows(topology: Any) -> None:
    """The transport is part of what makes a flow that flow."""
    text = """
    [roles.dns]
    listens = { "dns:53" = {} }
    [roles.dns-udp]
    listens = { "dns-udp:53" = { protocol = "udp", transport = "udp" } }
    [roles.client]
    connects = ["dns:53", "dns-udp:53"]
    [hosts]
    d = { roles = ["dns", "dns-udp"], addresses = ["10.0.0.1"] }
    c = { roles = ["client"] }
    """
    transports = {flow.key.transport for flow in flows_of(topology(text))}
    assert transports == {Transport.TCP, Transport.UDP}


# Hosts: what topology and announcement say together.


def test_what_the_topology_says_of_a_host_holds(topology: Any) -> None:
    """An agent that announces something else changes nothing."""
    said = {"w": Announcement(("browser",), ("10.9.9.9",))}
    member = planner.members(topology(SMALL), said)["w"]
    assert (member.roles, member.addresses) == (("web",), ("10.0.0.1",))


@pytest.mark.parametrize(
    ("host", "roles", "addresses"),
    [
        ("", ("web",), ("10.9.9.9",)),
        ('roles = ["browser"]', ("browser",), ("10.9.9.9",)),
        ('addresses = ["10.0.0.7"]', ("web",), ("10.0.0.7",)),
        ("roles = []", (), ("10.9.9.9",)),
    ],
)
def test_announcements_fill_what_the_topology_leaves_open(
    topology: Any, host: str, roles: tuple[str, ...], addresses: tuple[str, ...]
) -> None:
    """Roles and addresses are left open one by one, and a role nobody knows is passed over."""
    said = {"x": Announcement(("web", "unheard-of", "web"), ("10.9.9.9",))}
    member = planner.members(topology(f"{SMALL}\n[hosts.x]\n{host}"), said)["x"]
    assert (member.roles, member.addresses) == (roles, addresses)


def test_an_address_announced_twice_is_one_flow_for_one_reason(topology: Any) -> None:
    """What an agent says is no better checked than what a person writes."""
    open_host = topology(SMALL.replace('addresses = ["10.0.0.1"]', ""))
    [flow] = flows_of(open_host, {"w": Announcement((), ("10.9.9.9", "", "10.9.9.9"))})
    assert len(flow.connections) == 1


TWO = """
admit = ["web"]
[roles.web]
listens = { "web:80" = {}, "web:443" = {} }
[roles.dns]
listens = { "dns:53" = { transport = "udp" } }
[roles.browser]
connects = ["web:80"]
[hosts.b]
roles = ["browser"]
addresses = ["10.0.0.2"]
[hosts.w]
addresses = ["10.0.0.1"]
"""


def said_by_w(*ports: tuple[str, int]) -> SaidBy:
    return {"w": Announcement(("web",), (), ports)}


def test_a_port_that_an_agent_announces_is_dialled(topology: Any) -> None:
    """And its listener is on it: OpenUEM's own settings say where the service is."""
    said = said_by_w(("web:80", 8080))
    deployment = topology(TWO)
    assert ends(flows_of(deployment, said)) == ["b -> w 10.0.0.1:8080 reachable"]
    plans = plans_of(deployment, said)
    assert [spec.port for spec in plans["w"].listeners] == [8080, 443]


def test_a_host_that_nobody_listed_has_ports_of_its_own_too(topology: Any) -> None:
    """For the roles that it is admitted with."""
    said = {"new": Announcement(("web",), ("10.0.0.9",), (("web:443", 8443), ("dns:53", 5353)))}
    assert planner.members(topology(TWO), said)["new"].ports == {"web:443": 8443}


def test_a_port_that_the_topology_lists_holds(topology: Any) -> None:
    """For that service; the others are the agent's to say."""
    listed = topology(f'{TWO}ports = {{ "web:80" = 81 }}')
    member = planner.members(listed, said_by_w(("web:80", 8080), ("web:443", 8443)))["w"]
    assert member.ports == {"web:80": 81, "web:443": 8443}


@pytest.mark.parametrize(
    "ports",
    [
        (("dns:53", 5353),),
        (("nothing:1", 5),),
        (("web:80", 0),),
        (("web:80", -1),),
        (("web:80", 65_536),),
        (("web:80", 80),),
        (("web:80", 443),),
        (("web:80", 9), ("web:443", 9)),
    ],
)
def test_an_announced_port_that_makes_no_sense_changes_nothing(
    topology: Any, ports: tuple[tuple[str, int], ...]
) -> None:
    """Another role's, none at all, none other, one that another service of the host has."""
    assert planner.members(topology(TWO), said_by_w(*ports))["w"].ports == {}


def test_two_services_may_change_places(topology: Any) -> None:
    """Each still has a port for itself."""
    member = planner.members(topology(TWO), said_by_w(("web:80", 443), ("web:443", 80)))["w"]
    assert member.ports == {"web:80": 443, "web:443": 80}


@given(
    ports=st.lists(
        st.tuples(
            st.sampled_from(["web:80", "web:443", "dns:53", "x", "postgres:5432"]),
            st.integers(-5, 70_000),
        ),
        max_size=6,
    )
)
def test_a_lie_about_ports_moves_no_flow_but_those_to_the_liar(
    topology: Any, ports: list[tuple[str, int]]
) -> None:
    """Whatever an endpoint announces: others stay where they are, and each place is one service's."""
    deployment = topology(f'{TWO}[hosts.v]\nroles = ["web", "dns"]\naddresses = ["10.0.0.3"]')
    honest = flows_of(deployment, said_by_w())
    lied = flows_of(deployment, said_by_w(*ports))
    assert len(lied) == len(honest)
    for before, after in zip(honest, lied, strict=True):
        assert before.service == after.service
        assert before.key == after.key or after.key.destination == "w"
        assert after.key.address == before.key.address
        assert 0 < after.key.port < 65_536


def test_an_agent_that_nobody_listed_is_let_in_for_admitted_roles_alone(topology: Any) -> None:
    """Whoever reaches the bus cannot make itself a web server."""
    admitting = topology(f'admit = ["browser"]\n{SMALL}')
    said = {
        "new-1": Announcement(("browser", "web"), ("10.0.0.9",)),
        "new-2": Announcement(("web",), ("10.0.0.8",)),
        "new-3": Announcement(),
    }
    hosts = planner.members(admitting, said)
    assert set(hosts) == {"w", "b", "new-1"}
    assert (hosts["new-1"].roles, hosts["new-1"].has_agent) == (("browser",), True)
    assert "new-1 -> w 10.0.0.1:80 reachable" in ends(flows_of(admitting, said))


def test_two_services_announced_on_one_port_are_one_flow(topology: Any) -> None:
    """A port holds one service: the host's first role has it, and no reason is lost."""
    text = """
    [roles.web]
    listens = { "web:80" = { protocol = "http" } }
    [roles.shell]
    listens = { "shell:80" = { protocol = "ssh" } }
    [roles.client]
    connects = ["shell:80", "web:80"]
    [hosts.a]
    addresses = ["10.0.0.1"]
    [hosts.c]
    roles = ["client"]
    """
    said = {"a": Announcement(("web", "shell"))}
    [flow] = flows_of(topology(text), said)
    assert (str(flow.service), flow.protocol) == ("web:80", "http")
    assert [str(reason.service) for reason in flow.connections] == ["shell:80", "web:80"]
    plans = plans_of(topology(text), said)
    [check], [listener] = plans["c"].checks, plans["a"].listeners
    assert check.service == listener.service


# Deny rules.


def test_a_denied_flow_is_expected_blocked_and_checked(topology: Any) -> None:
    """That nothing gets through is seen by trying."""
    denied = topology(
        SMALL
        + '[roles.guest]\n[hosts.g]\nroles = ["guest"]\n[[deny]]\nfrom = "guest"\nto = "web:80"'
    )
    assert "g -> w 10.0.0.1:80 blocked" in ends(flows_of(denied))
    assert len(plans_of(denied)["g"].checks) == 1


def test_a_connection_wins_over_a_deny(topology: Any) -> None:
    """A host of two roles, one that may and one that must not, may."""
    text = SMALL.replace('roles = ["browser"]', 'roles = ["guest", "browser"]')
    both = topology(text + '[roles.guest]\n[[deny]]\nfrom = "guest"\nto = "web:80"\n')
    [flow] = flows_of(both)
    assert flow.expect is Expectation.REACHABLE
    assert (len(flow.connections), len(flow.denies)) == (1, 1)


def test_no_host_is_denied_what_it_offers_itself(topology: Any) -> None:
    """A host always reaches itself."""
    text = SMALL + '[[deny]]\nfrom = "web"\nto = "web:80"\n'
    assert ends(flows_of(topology(text))) == ["b -> w 10.0.0.1:80 reachable"]


# Whatever the deployment.


@st.composite
def deployments(draw: st.DrawFn) -> tuple[str, dict[str, Announcement]]:
    """Hosts of OpenUEM with any roles, addresses, overrides, and agents that say anything."""
    lines = [
        'profiles = ["openuem"]',
        f"admit = {draw(st.lists(st.sampled_from(ROLES), unique=True))}",
    ]
    for number in range(draw(st.integers(1, 5))):
        roles = draw(st.none() | st.lists(st.sampled_from(ROLES), max_size=4))
        lines.append(f"[hosts.h{number}]")
        lines += [f"roles = {roles}"] if roles is not None else []
        if draw(st.booleans()):
            lines.append(f'addresses = ["10.0.0.{number}", "fd00::{number}"]')
            if roles is not None and draw(st.booleans()):
                lines.append("agent = false")
        if roles and "agent" in roles and draw(st.booleans()):
            lines.append('ports = { "agent:1443" = 1433 }')
        if roles and "agent" in roles and draw(st.booleans()):
            lines.append(f'listen = {{ "agent:1443" = "{draw(st.sampled_from(ListenMode))}" }}')
    for _ in range(draw(st.integers(0, 3))):
        source = draw(st.sampled_from(ROLES))
        service = draw(st.sampled_from(["postgres:5432", "nats-server:4444", "agent:1443"]))
        lines.append(f'[[deny]]\nfrom = "{source}"\nto = "{service}"')
    announcement = st.builds(
        Announcement,
        roles=st.lists(st.sampled_from([*ROLES, "unheard-of"]), max_size=4).map(tuple),
        addresses=st.lists(st.sampled_from(["10.1.0.1", "10.1.0.2", "::2", ""]), max_size=3).map(
            tuple
        ),
    )
    names = st.sampled_from(["h0", "h1", "h2", "stranger"])
    return "\n".join(lines), draw(st.dictionaries(names, announcement, max_size=4))


@given(deployments())
@examples(150)
def test_whatever_the_deployment_its_flows_make_sense(
    topology: Callable[..., Topology], deployment: tuple[str, dict[str, Announcement]]
) -> None:
    """Each flow is there once, for a reason, between hosts that bear it."""
    text, said = deployment
    whole = topology(text)
    hosts = planner.members(whole, said)
    flows = planner.expected_flows(whole, hosts)
    keys = [flow.key for flow in flows]
    assert keys == sorted(set(keys))
    for flow in flows:
        source, destination = hosts[flow.key.source], hosts[flow.key.destination]
        reasons = flow.connections or flow.denies
        assert source.has_agent and reasons
        assert (flow.expect is Expectation.REACHABLE) == bool(flow.connections)
        assert len({(reason.role, reason.service) for reason in flow.connections}) == len(
            flow.connections
        )
        assert {reason.role for reason in reasons} <= set(source.roles)
        assert {reason.service.role for reason in reasons} <= set(destination.roles)
        assert flow.key.address in (destination.addresses or (NO_ADDRESS,))
        if source is destination:
            assert any(reason.role != reason.service.role for reason in flow.connections)


def pair_by_pair(topology: Topology, hosts: Mapping[str, Member]) -> dict[Any, tuple[Any, Any]]:
    """Every flow with its reasons, by asking each pair of hosts for each rule."""
    found: dict[Any, tuple[list[Any], list[Any]]] = {}
    rules: list[tuple[Any, int]] = [
        (connection, 0) for role in topology.roles.values() for connection in role.connections
    ]
    rules += [(deny, 1) for deny in topology.denies]
    for rule, kind in rules:
        for source in hosts.values():
            for destination in hosts.values():
                if rule.role not in source.roles or not source.has_agent:
                    continue
                if rule.service.role not in destination.roles:
                    continue
                if source is destination and (kind == 1 or rule.role == rule.service.role):
                    continue
                port = destination.ports.get(str(rule.service), rule.service.port)
                transport = topology.listener(rule.service).detail.transport
                held = planner.held_ports(topology, destination)[port, transport]
                for address in destination.addresses or (NO_ADDRESS,):
                    key = FlowKey(source.name, destination.name, address, port, transport)
                    found.setdefault((key, held), ([], []))[kind].append(rule)
    return {place: (tuple(ones), tuple(others)) for place, (ones, others) in found.items()}


@given(deployments())
@examples(150)
def test_sharing_targets_changes_no_flow(
    topology: Callable[..., Topology], deployment: tuple[str, dict[str, Announcement]]
) -> None:
    """What is worked out once for all hosts of the same roles is what each would get alone."""
    text, said = deployment
    whole = topology(text)
    hosts = planner.members(whole, said)
    flows = planner.expected_flows(whole, hosts)
    assert {
        (flow.key, flow.service): (flow.connections, flow.denies) for flow in flows
    } == pair_by_pair(whole, hosts)


@given(deployments(), deployments())
@examples(50)
def test_who_has_the_same_targets_as_before_has_the_very_same(
    topology: Callable[..., Topology],
    first: tuple[str, dict[str, Announcement]],
    second: tuple[str, dict[str, Announcement]],
) -> None:
    """So that to see who is touched by a change costs one look at each source."""
    before, after = (topology(text) for text, _ in (first, second))
    old = planner.expected_flows(before, planner.members(before, first[1]))
    hosts = planner.members(after, second[1])
    new = planner.expected_flows(after, hosts, old)
    assert [*new] == [*planner.expected_flows(after, hosts)]
    for source, targets in new.targets.items():
        assert (targets is old.targets.get(source)) == (targets == old.targets.get(source))
    assert new.are(old) == old.are(new) == ([*new] == [*old])


@given(deployments())
@examples(50)
def test_flows_are_a_sequence(
    topology: Callable[..., Topology], deployment: tuple[str, dict[str, Announcement]]
) -> None:
    """By place from either end, and by slice, as a list of them."""
    text, said = deployment
    whole = topology(text)
    flows = planner.expected_flows(whole, planner.members(whole, said))
    listed = [*flows]
    assert len(flows) == len(listed)
    assert [flows[place] for place in range(-len(listed), len(listed))] == listed * 2
    assert flows[1:-1:2] == listed[1:-1:2]
    for place in (len(listed), -len(listed) - 1):
        with pytest.raises(IndexError):
            flows[place]


def test_a_renamed_host_goes_by_what_it_said_under_its_name_before(topology: Any) -> None:
    """Until it speaks under the new one; and it is no second host, though its role is admitted."""
    deployment = topology('admit = ["web"]' + SMALL + '[hosts.n]\nwas = ["o"]\n')
    old = {"o": Announcement(("web",), ("10.0.0.9",))}
    assert "b -> n 10.0.0.9:80 reachable" in ends(flows_of(deployment, old))
    assert "o" not in planner.members(deployment, old)
    both = old | {"n": Announcement(("web",), ("10.0.0.8",))}
    assert "b -> n 10.0.0.8:80 reachable" in ends(flows_of(deployment, both))
