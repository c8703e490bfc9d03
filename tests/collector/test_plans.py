"""What agents are told to do: all they need, the same for the same, another revision for another."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from deployments import SMALL
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from reachmap_collector import planner
from reachmap_collector.planner import Announcement
from reachmap_collector.plans import Plans, idle_plan
from reachmap_collector.topology.model import Topology
from reachmap_shared import codec, keys
from reachmap_shared.errors import MalformedMessage
from reachmap_shared.messages import Plan
from reachmap_shared.vocabulary import ListenMode

SECRET = b"a deployment's own"

SaidBy = Mapping[str, Announcement]


def compiled(
    topology: Topology,
    said: SaidBy | None = None,
    secret: bytes = SECRET,
    certificate: str = "PEM",
) -> Plans:
    hosts = planner.members(topology, said or {})
    flows = planner.expected_flows(topology, hosts)
    return Plans(topology, hosts, flows, secret, certificate)


def plans_of(topology: Topology, said: SaidBy | None = None, **changes: Any) -> dict[str, Plan]:
    return dict(compiled(topology, said, **changes))


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


def test_a_check_says_whether_it_must_not_be_open(topology: Any) -> None:
    """So that nobody looks into why it is not."""
    text = SMALL + '[roles.guest]\n[hosts.g]\nroles = ["guest"]\naddresses = ["10.0.0.3"]\n'
    text += '[[deny]]\nfrom = "guest"\nto = "web:80"'
    plans = plans_of(topology(text))
    assert [check.forbidden for check in plans["g"].checks] == [True]
    assert [check.forbidden for check in plans["b"].checks] == [False]


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
@examples(25)
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
    plans = compiled(deployment)
    for name, plan in plans.items():
        planned = plans.slots(name).flows
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
    plan = idle_plan("pc-1")
    assert plan == idle_plan("pc-1")
    assert plan.revision != idle_plan("pc-2").revision
    assert (plan.agent, plan.checks, plan.listeners) == ("pc-1", (), ())
    assert codec.decode(Plan, codec.encode(plan)) == plan


def test_a_revision_is_known_before_the_plan_is_made(topology: Any, openuem: Any) -> None:
    """Whom a change concerns is told without making ten thousand plans."""
    plans = compiled(topology(openuem()))
    assert plans.revisions == {name: plan.revision for name, plan in plans.items()}
    assert "nobody" not in plans and len(plans) == len([*plans])


def test_a_host_that_only_offers_has_no_slots(topology: Any) -> None:
    """Nor one whose destinations have no address yet."""
    silent = topology(SMALL.replace('addresses = ["10.0.0.1"]', ""))
    assert [len(compiled(silent).slots(name)) for name in ("b", "w")] == [0, 0]
