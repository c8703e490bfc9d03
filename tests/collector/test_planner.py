"""From a topology and what agents announce to flows and plans."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reachmap_collector import planner
from reachmap_collector.planner import NO_ADDRESS, Announcement, ExpectedFlow
from reachmap_collector.topology.load import load_profile
from reachmap_collector.topology.model import Topology
from reachmap_shared import codec, keys
from reachmap_shared.errors import MalformedMessage
from reachmap_shared.messages import Plan
from reachmap_shared.vocabulary import Expectation, ListenMode, Transport

SECRET = b"a deployment's own"
ROLES = tuple(load_profile("openuem").roles)

SaidBy = Mapping[str, Announcement]


def flows_of(topology: Topology, said: SaidBy | None = None) -> list[ExpectedFlow]:
    return planner.expected_flows(topology, planner.members(topology, said or {}))


def plans_of(
    topology: Topology,
    said: SaidBy | None = None,
    secret: bytes = SECRET,
    certificate: str = "PEM",
) -> dict[str, Plan]:
    hosts = planner.members(topology, said or {})
    flows = planner.expected_flows(topology, hosts)
    return planner.compile_plans(topology, hosts, flows, secret, certificate)


def ends(flows: list[ExpectedFlow]) -> list[str]:
    """The flows in a form that is read at a glance."""
    return [
        f"{flow.key.source} -> {flow.key.destination} "
        f"{flow.key.address or '(none)'}:{flow.key.port} {flow.expect}"
        for flow in flows
    ]


SMALL = """
[roles.web]
listens = { "web:80" = { protocol = "http" } }
[roles.browser]
connects = ["web:80"]
[hosts.w]
roles = ["web"]
addresses = ["10.0.0.1"]
[hosts.b]
roles = ["browser"]
addresses = ["10.0.0.2"]
"""


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
    assert planner.planned_flows(flows_of(silent)) == {"b": ()}


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


# Plans.


def test_a_plan_says_all_that_an_agent_needs(topology: Any) -> None:
    """Checks, listeners, and how often; the listener can prove what the check expects."""
    plans = plans_of(topology(SMALL + "[checks]\ninterval_s = 7\ntimeout_s = 2\n"))
    browser, web = plans["b"], plans["w"]
    assert (browser.agent, browser.interval_s, browser.timeout_s) == ("b", 7.0, 2.0)
    assert (browser.listeners, web.checks) == ((), ())
    [check], [listener] = browser.checks, web.listeners
    assert (check.destination, check.address, check.protocol) == ("w", "10.0.0.1", "http")
    assert (listener.service, listener.port, listener.protocol) == ("web:80", 80, "http")
    expected = keys.pair_key(keys.from_text(web.host_key), keys.source_id("b"))
    assert check.key == keys.to_text(expected)
    assert browser.deployment_key == web.deployment_key != ""
    assert web.certificate == "PEM"


@pytest.mark.parametrize(
    ("service", "host", "mode"),
    [
        (None, None, ListenMode.ON_DEMAND),
        *((mode, None, mode) for mode in ListenMode),
        *((None, mode, mode) for mode in ListenMode),
        ("never", "always", ListenMode.ALWAYS),
        ("always", "never", ListenMode.NEVER),
        ("always", "on-demand", ListenMode.ON_DEMAND),
    ],
)
def test_a_host_s_own_mode_wins_over_its_role_s(
    topology: Any, service: str | None, host: str | None, mode: ListenMode
) -> None:
    """The listener has that mode, and a check asks for a window just where one can be had."""
    text = SMALL
    if service is not None:
        text = text.replace('protocol = "http"', f'protocol = "http", listen = "{service}"')
    if host is not None:
        text += f'[hosts.w.listen]\n"web:80" = "{host}"\n'
    plans = plans_of(topology(text))
    [check], [listener] = plans["b"].checks, plans["w"].listeners
    assert listener.mode is mode
    assert check.window == (mode is ListenMode.ON_DEMAND)


def test_a_mode_holds_on_its_host_and_for_its_service_alone(topology: Any) -> None:
    """Another host of the role, and another service of the host, keep what the role says."""
    text = SMALL.replace('"web:80" = {', '"web:81" = {}, "web:80" = {').replace(
        'connects = ["web:80"]', 'connects = ["web:80", "web:81"]'
    )
    text += '[hosts.w2]\nroles = ["web"]\naddresses = ["10.0.0.3"]\n'
    text += 'listen = { "web:80" = "never" }\n'
    plans = plans_of(topology(text))
    windows = {(check.destination, check.service): check.window for check in plans["b"].checks}
    assert [place for place, window in windows.items() if not window] == [("w2", "web:80")]
    assert len(windows) == 4
    modes = {listener.service: listener.mode for listener in plans["w2"].listeners}
    assert modes == {"web:80": ListenMode.NEVER, "web:81": ListenMode.ON_DEMAND}


@pytest.mark.parametrize("mode", ListenMode)
def test_no_window_is_asked_of_a_host_without_an_agent(topology: Any, mode: ListenMode) -> None:
    """Nobody there could open one."""
    text = SMALL.replace('["10.0.0.1"]', '["10.0.0.1"]\nagent = false')
    text = text.replace('protocol = "http"', f'protocol = "http", listen = "{mode}"')
    [check] = plans_of(topology(text))["b"].checks
    assert not check.window


def test_a_forbidden_flow_is_checked_in_a_window_too(topology: Any) -> None:
    """Only where somebody listens does it mean anything that nothing gets through."""
    text = SMALL + '[roles.guest]\n[hosts.g]\nroles = ["guest"]\n'
    text += '[[deny]]\nfrom = "guest"\nto = "web:80"'
    [check] = plans_of(topology(text))["g"].checks
    assert check.window


def test_an_agent_that_nobody_listed_listens_as_its_roles_say(topology: Any) -> None:
    """It has no host in the topology that could say otherwise."""
    text = SMALL.replace('protocol = "http"', 'protocol = "http", listen = "always"')
    said = {"new": Announcement(("web",), ("10.0.0.9",))}
    plans = plans_of(topology(f'admit = ["web"]\n{text}'), said)
    assert [listener.mode for listener in plans["new"].listeners] == [ListenMode.ALWAYS]


def test_the_same_topology_gives_the_same_plans(topology: Any, openuem: Any) -> None:
    """A collector that restarts disturbs nobody."""
    text = openuem()
    assert plans_of(topology(text)) == plans_of(topology(text))


@given(seed=st.integers())
@settings(max_examples=25, deadline=None)
def test_the_order_of_hosts_and_announcements_is_of_no_matter(
    topology: Callable[..., Topology], seed: int
) -> None:
    """Files are edited and agents come when they come: that alone moves no plan."""
    chance = random.Random(seed)
    both = 'roles = ["node", "client"]'
    hosts = [f"[hosts.h{n}]\n{both if n % 2 else ''}" for n in range(6)]
    said = [(f"h{n}", Announcement(("node",), (f"10.0.0.{n}", f"fd00::{n}"))) for n in range(6)]
    text = """
    [roles.node]
    listens = { "node:7000" = {} }
    connects = ["node:7000"]
    [roles.client]
    connects = ["node:7000"]
    """
    ordered = plans_of(topology(text + "\n".join(hosts)), dict(said))
    chance.shuffle(hosts)
    chance.shuffle(said)
    assert plans_of(topology(text + "\n".join(hosts)), dict(said)) == ordered


@pytest.mark.parametrize(
    ("change", "agents"),
    [
        pytest.param({"address": "10.0.0.7"}, {"b"}, id="address"),
        pytest.param({"port": '[hosts.w.ports]\n"web:80" = 81'}, {"b", "w"}, id="port"),
        pytest.param({"protocol": "tcp"}, {"b", "w"}, id="protocol"),
        pytest.param({"checks": "[checks]\ninterval_s = 9"}, {"b", "w"}, id="interval"),
        pytest.param({"checks": "[checks]\ntimeout_s = 9"}, {"b", "w"}, id="timeout"),
        pytest.param({"host": '[hosts.w2]\nroles = ["web"]'}, set(), id="a host of no address"),
        pytest.param(
            {"host": '[hosts.w2]\nroles = ["web"]\naddresses = ["::1"]'}, {"b"}, id="a host"
        ),
        pytest.param(
            {"port": '[hosts.w.listen]\n"web:80" = "always"'}, {"b", "w"}, id="listened on always"
        ),
        pytest.param(
            {"port": '[hosts.w.listen]\n"web:80" = "on-demand"'}, set(), id="the default, said"
        ),
        pytest.param({"secret": b"another"}, {"b", "w"}, id="secret"),
        pytest.param({"certificate": "other PEM"}, {"b", "w"}, id="certificate"),
    ],
)
def test_a_plan_has_another_revision_when_anything_in_it_changes(
    topology: Any, change: dict[str, Any], agents: set[str]
) -> None:
    """And the plans of those whom it does not concern keep theirs."""
    text = SMALL.replace("10.0.0.1", change.get("address", "10.0.0.1"))
    text = text.replace('"http"', f'"{change.get("protocol", "http")}"')
    text = "\n".join([text, *(change.get(key, "") for key in ("port", "checks", "host"))])
    before = plans_of(topology(SMALL))
    after = plans_of(
        topology(text),
        secret=change.get("secret", SECRET),
        certificate=change.get("certificate", "PEM"),
    )
    changed = {name for name in before if before[name].revision != after[name].revision}
    assert changed == agents
    assert {name for name in before if before[name] != after[name]} == agents


def test_listeners_and_checks_do_not_pass_for_each_other(topology: Any) -> None:
    """A revision tells apart whether an agent listens or checks."""
    plans = plans_of(topology(SMALL))
    assert len({plan.revision for plan in plans.values()}) == len(plans)


def test_slots_line_up_with_the_checks_of_a_plan(topology: Any, openuem: Any) -> None:
    """An observation's slot means the same to agent and collector."""
    text = openuem().replace('addresses = ["10.0.3.1"]', "").replace("10.0.4.2", "fd00::42")
    deployment = topology(text)
    flows = flows_of(deployment)
    slots = planner.planned_flows(flows)
    for name, plan in plans_of(deployment).items():
        planned = slots.get(name, ())
        assert [(key.destination, key.address, key.port, key.transport) for key in planned] == [
            (check.destination, check.address, check.port, check.transport) for check in plan.checks
        ]
        assert {key.source for key in planned} <= {name}


def test_keys_differ_by_host_and_source_and_secret() -> None:
    """Whoever has one knows none of the others."""
    pairs = {
        keys.pair_key(keys.host_key(secret, host), keys.source_id(source))
        for secret in (b"one", b"two")
        for host in ("a", "b")
        for source in ("a", "b", "c")
    }
    above = {keys.host_key(secret, host) for secret in (b"one", b"two") for host in ("a", "b")}
    above |= {keys.deployment_key(secret) for secret in (b"one", b"two")}
    assert len(pairs) == 12 and len(above) == 6 and not pairs & above
    assert {len(key) for key in pairs} == {keys.PAIR_KEY_SIZE}
    assert all(keys.from_text(keys.to_text(key)) == key for key in pairs | above)


def test_nobody_is_challenged_where_no_agent_is(topology: Any) -> None:
    """A host without one has nobody who could answer."""
    plans = plans_of(topology(SMALL.replace("[hosts.w]", "[hosts.w]\nagent = false")))
    assert [check.key for check in plans["b"].checks] == [""]


def crowd(hosts: int) -> str:
    """A console and so many hosts that it dials, as TOML."""
    rows = [
        f'pc-{n:05} = {{ roles = ["pc"], addresses = ["10.0.{n >> 8}.{n & 255}"] }}'
        for n in range(hosts)
    ]
    return "\n".join(
        [
            '[roles.console]\nconnects = ["pc:2022"]',
            '[roles.pc]\nlistens = { "pc:2022" = { protocol = "ssh" } }',
            '[hosts]\nconsole = { roles = ["console"] }',
            *rows,
        ]
    )


def test_a_plan_of_ten_thousand_checks_fits_a_message(topology: Any) -> None:
    """One console that dials ten thousand endpoints is a real deployment."""
    plan = plans_of(topology(crowd(10_000)))["console"]
    assert len(plan.checks) == 10_000
    assert codec.decode(Plan, codec.encode(plan)) == plan


def test_a_plan_too_large_for_a_message_is_still_made(
    topology: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One host that is asked too much takes no other's plan away."""
    monkeypatch.setattr(codec, "MAX_MESSAGE", 10_000)
    plans = plans_of(topology(crowd(300)))
    with pytest.raises(MalformedMessage):
        codec.encode(plans["console"])
    assert len(plans) == 301


def test_an_idle_plan_is_one_and_the_same_for_an_agent() -> None:
    """An agent that lost its host is told once, and knows the plan when it hears it again."""
    plan = planner.idle_plan("pc-1")
    assert plan == planner.idle_plan("pc-1")
    assert plan.revision != planner.idle_plan("pc-2").revision
    assert (plan.agent, plan.checks, plan.listeners) == ("pc-1", (), ())
    assert codec.decode(Plan, codec.encode(plan)) == plan


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
@settings(max_examples=150, deadline=None)
def test_whatever_the_deployment_its_plans_make_sense(
    topology: Callable[..., Topology], deployment: tuple[str, dict[str, Announcement]]
) -> None:
    """Each flow is there once, for a reason, between hosts that bear it; plans hold just these."""
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
    plans = planner.compile_plans(whole, hosts, flows, SECRET, "PEM")
    slots = planner.planned_flows(flows)
    assert set(plans) == {name for name, member in hosts.items() if member.has_agent}
    assert sum(len(plan.checks) for plan in plans.values()) == sum(map(len, slots.values()))
    for plan in plans.values():
        held = [(listener.port, listener.transport) for listener in plan.listeners]
        assert len(held) == len(set(held))
        assert codec.decode(Plan, codec.encode(plan)) == plan
        for check in plan.checks:
            there = plans.get(check.destination)
            modes = {one.service: one.mode for one in there.listeners} if there else {}
            assert check.window == (modes.get(check.service) is ListenMode.ON_DEMAND)
