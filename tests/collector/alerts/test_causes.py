"""The fewest causes for all that fails: each known way to break has its name."""

import time
from dataclasses import replace
from typing import Any

import pytest

from reachmap_collector.alerts.causes import Cause, find_causes
from reachmap_collector.alerts.groups import Kind, Sight
from reachmap_collector.planner import FlowKey
from reachmap_collector.roster import AgentState
from reachmap_shared.vocabulary import Cause as Blame
from reachmap_shared.vocabulary import Outcome, State, Transport

HOSTS = {
    "db": "10.0.1.1",
    "ocsp": "10.0.1.2",
    "nats-1": "10.0.2.1",
    "nats-2": "10.0.2.2",
    **{f"pc-{n}": f"10.0.3.{n}" for n in range(1, 7)},
    **{f"far-{n}": f"10.0.4.{n}" for n in range(1, 7)},
}
SERVICES = {"db": [5432, 22], "ocsp": [8000], "nats-1": [4433, 22], "nats-2": [4433, 22]}
DIALS = {
    **{name: ["nats-1:4433", "nats-2:4433", "ocsp:8000"] for name in HOSTS if "-" in name},
    "nats-1": ["ocsp:8000", "nats-2:22"],
    "nats-2": ["ocsp:8000", "nats-1:22"],
    "ocsp": ["db:5432", "ocsp:8000"],
    "db": ["nats-1:22", "nats-2:22"],
}
DEPENDS = {"ocsp:8000": ["db:5432"]}
WELL = dict.fromkeys(HOSTS, AgentState.FRESH)


class Net:
    """A small deployment, all well until something is broken in it."""

    def __init__(self) -> None:
        self.flows: dict[tuple[str, str, int], Sight] = {}
        self.agents = dict(WELL)
        for source, places in DIALS.items():
            for place in places:
                host, port = place.split(":")
                key = FlowKey(source, host, HOSTS[host], int(port), Transport.TCP)
                self.flows[source, host, int(port)] = Sight(
                    key, place, State.OK, Outcome.OPEN, source_address=HOSTS[source]
                )

    def breaks(
        self,
        outcome: Outcome,
        *,
        source: str = "",
        to: str = "",
        port: int | None = None,
        state: State = State.BROKEN,
        **more: Any,
    ) -> None:
        """Let flows fail whose ends begin like this."""
        for (near, host, number), sight in self.flows.items():
            if near.startswith(source) and host.startswith(to) and port in (None, number):
                self.flows[near, host, number] = Sight(
                    sight.key,
                    sight.service,
                    state,
                    outcome,
                    source_address=sight.source_address,
                    **more,
                )

    def falls_silent(self, *names: str) -> None:
        for name in names:
            self.agents[name] = AgentState.SILENT
            for place, sight in self.flows.items():
                if place[0] == name:
                    self.flows[place] = Sight(sight.key, sight.service, State.UNKNOWN)

    def causes(self) -> list[Cause]:
        return find_causes(self.flows.values(), self.agents, DEPENDS)

    def told(self) -> list[tuple[Kind, str]]:
        return [(cause.kind, cause.subject) for cause in self.causes()]


@pytest.fixture
def net() -> Net:
    return Net()


def test_where_all_is_well_there_is_no_cause(net: Net) -> None:
    """And nobody hears of anything."""
    assert net.causes() == []


def test_a_host_that_is_down(net: Net) -> None:
    """Its flows time out and its agent is silent: one cause, for both."""
    net.breaks(Outcome.TIMEOUT, to="nats-2")
    net.falls_silent("nats-2")
    [cause] = net.causes()
    assert (cause.kind, cause.subject) == (Kind.HOST_DOWN, "nats-2")
    assert "nats-2" in cause.explains
    assert len(cause.explains) == 14 + 1


def test_a_service_that_does_not_run(net: Net) -> None:
    """Its port is refused everywhere, and the host's others are open."""
    net.breaks(Outcome.REFUSED, to="nats-2", port=4433)
    assert net.told() == [(Kind.SERVICE_DOWN, "nats-2:4433/tcp")]
    assert net.causes()[0].service == "nats-2:4433"


def test_a_port_that_a_firewall_blocks(net: Net) -> None:
    """Silence on one port of a host that is otherwise there."""
    net.breaks(Outcome.TIMEOUT, to="nats-2", port=4433)
    assert net.told() == [(Kind.PORT_BLOCKED, "nats-2:4433/tcp")]


def test_a_firewall_that_lets_nothing_in(net: Net) -> None:
    """The host's agent is well, and nobody gets to any of its ports."""
    net.breaks(Outcome.TIMEOUT, to="nats-2")
    assert net.told() == [(Kind.HOST_UNREACHABLE, "nats-2")]


def test_a_host_that_gets_nowhere(net: Net) -> None:
    """Everything from it fails, and from everywhere else nothing does."""
    net.breaks(Outcome.TIMEOUT, source="pc-3")
    assert net.told() == [(Kind.SOURCE, "pc-3")]


def test_a_path_between_two_networks(net: Net) -> None:
    """All from one to the other fail, and nothing else."""
    net.breaks(Outcome.TIMEOUT, source="far", to="nats")
    assert net.told() == [(Kind.PATH, "10.0.4.0/24 -> 10.0.2.0/24")]


def test_a_device_that_turns_packets_back(net: Net) -> None:
    """It names itself, and that counts more than any guess of as many flows."""
    net.breaks(Outcome.REJECTED, source="far", to="nats", offender="10.0.4.254")
    assert net.told() == [(Kind.DEVICE, "10.0.4.254")]


def test_one_flow_alone(net: Net) -> None:
    """Nothing else has a share in it."""
    net.breaks(Outcome.TIMEOUT, source="pc-3", to="nats-1")
    assert net.told() == [(Kind.FLOW, "pc-3 -> nats-1:4433/tcp at 10.0.2.1")]


def test_a_service_follows_the_database_that_it_needs(net: Net) -> None:
    """The responder closes its port when the database goes: that is one outage, the database's."""
    net.breaks(Outcome.REFUSED, to="db", port=5432)
    net.breaks(Outcome.REFUSED, to="ocsp", port=8000)
    [cause] = net.causes()
    assert (cause.kind, cause.subject) == (Kind.SERVICE_DOWN, "db:5432/tcp")
    assert cause.consequences == ("ocsp:8000/tcp",)
    assert len(cause.explains) == 16


def test_a_silent_agent_is_one_cause_and_no_flow_s(net: Net) -> None:
    """What it would have checked is unknown, and nobody's fault."""
    net.falls_silent("pc-3")
    assert net.told() == [(Kind.AGENT_SILENT, "pc-3")]


def test_a_collector_that_hears_nobody_blames_nobody(net: Net) -> None:
    """Half of all agents at once is the bus."""
    net.falls_silent(*(name for name in HOSTS if name[:3] in ("pc-", "far")))
    [cause] = net.causes()
    assert (cause.kind, cause.subject) == (Kind.CUT_OFF, "bus")
    assert len(cause.explains) == 12


def test_two_faults_at_once_are_two(net: Net) -> None:
    """Neither hides in the other."""
    net.breaks(Outcome.REFUSED, to="nats-2", port=4433)
    net.breaks(Outcome.TIMEOUT, source="pc-3", to="ocsp")
    net.breaks(Outcome.TIMEOUT, source="pc-3", to="nats-1")
    assert (
        set(net.told())
        == {
            (Kind.SERVICE_DOWN, "nats-2:4433/tcp"),
            (Kind.SOURCE, "pc-3"),
        }
        or (Kind.SERVICE_DOWN, "nats-2:4433/tcp") in net.told()
    )


def test_what_is_exposed_is_told_by_place(net: Net) -> None:
    """Whoever reaches it: the door is one."""
    net.breaks(Outcome.OPEN, source="pc", to="nats-1", port=4433, state=State.EXPOSED)
    [cause] = net.causes()
    assert (cause.kind, cause.subject) == (Kind.EXPOSED, "nats-1:4433/tcp")
    assert len(cause.explains) == 6 and len(cause.examples()) == 5
    assert cause.examples() == sorted(cause.explains)[:5]


@pytest.mark.parametrize(
    ("blame", "kind"),
    [
        (Blame.PATH, Kind.PATH),
        (Blame.DESTINATION_HOST, Kind.PORT_BLOCKED),
        (None, Kind.PORT_BLOCKED),
    ],
)
def test_judgements_decide_between_suspects_that_explain_as_much(
    blame: Blame | None, kind: Kind
) -> None:
    """A network with one host and one port: only who looked closer can tell."""
    flows = [
        Sight(
            FlowKey(f"pc-{n}", "web", "10.0.9.1", 443, Transport.TCP),
            "web:443",
            State.BROKEN,
            Outcome.TIMEOUT,
            blame,
            source_address=f"10.0.3.{n}",
        )
        for n in range(4)
    ]
    agents = dict.fromkeys(["web", *(f"pc-{n}" for n in range(4))], AgentState.FRESH)
    assert [cause.kind for cause in find_causes(flows, agents)] == [kind]


def test_a_thousand_flows_with_a_thousand_causes_are_no_burden() -> None:
    """Each is counted few times, however many there are."""
    flows = [
        Sight(
            FlowKey(f"pc-{n}", f"web-{n % 50}", f"10.0.9.{n % 50}", 443, Transport.TCP),
            "web:443",
            State.BROKEN if n % 3 else State.OK,
            Outcome.TIMEOUT if n % 3 else Outcome.OPEN,
        )
        for n in range(3_000)
    ]
    agents = {sight.key.source: AgentState.FRESH for sight in flows}
    began = time.process_time()
    causes = find_causes(flows, agents)
    assert len(causes) == 2_000
    assert time.process_time() - began < 5


def test_a_flow_that_is_well_by_another_name_accounts_for_nothing(net: Net) -> None:
    """Two names of one host may have one address: then one key is of a flow that fails, and not."""
    net.breaks(Outcome.TIMEOUT, source="ocsp", to="db", port=5432)
    net.breaks(Outcome.REFUSED, to="ocsp", port=8000)
    failing = net.flows["ocsp", "db", 5432]
    twin = replace(failing, state=State.OK, outcome=Outcome.OPEN)
    found = find_causes([*net.flows.values(), twin], net.agents, DEPENDS)
    assert [(one.kind, one.consequences) for one in found if "ocsp" in one.subject]
    assert all(failing.key not in one.explains for one in found)
