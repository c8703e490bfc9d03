"""A deployment whose agents report: its flows and plans, and who takes what they say."""

from typing import Any

from reachmap_collector.flowmap.fold import FlowMap
from reachmap_collector.ledger import Ledger
from reachmap_collector.planner import expected_flows, members
from reachmap_collector.plans import Plans
from reachmap_collector.reports import Reports
from reachmap_collector.slots import KnownPlans
from reachmap_shared import codec, subjects
from reachmap_shared.messages import Plan, Report
from reachmap_shared.vocabulary import Outcome

OPEN, DOWN = Outcome.OPEN, Outcome.TIMEOUT
NOW = 1_000_000.0
NAMED = """
[roles.web]
listens = { "web:8080" = { protocol = "http" }, "web:8081" = { protocol = "http" } }
[roles.browser]
connects = ["web:8080", "web:8081"]
[hosts.web-1]
roles = ["web"]
addresses = ["web.example"]
[hosts.pc-1]
roles = ["browser"]
"""


class World:
    """A deployment's flows and plans, and who takes reports of them."""

    def __init__(self, topology: Any, text: str | None = None) -> None:
        deployment = topology(text) if text else topology()
        hosts = members(deployment, {})
        self.expected = expected_flows(deployment, hosts)
        plans = Plans(deployment, hosts, self.expected, b"s" * 32, "")
        self.plans = dict(plans)
        self.known = KnownPlans()
        for name in plans:
            self.known.add(plans.slots(name))
        self.begin()

    def begin(self) -> None:
        """With nothing known, as at a start."""
        self.flows = FlowMap()
        self.ledger = Ledger()
        self.flows.expect(self.expected, 0.0)
        self.reports = Reports(self.flows, self.ledger, self.known)

    def take(self, report: Report, arrived: float = NOW) -> Any:
        subject = subjects.report(report.agent)
        return self.reports.take(subject, codec.encode(report), arrived).batch

    def map(self) -> list[tuple[object, ...]]:
        """What there is to be seen of each flow."""
        return [
            (
                record.key,
                _lasting(record.last),
                round(record.checked, 3),
                round(record.changed, 3),
                (record.checks_made, record.checks_open, record.flips),
            )
            for record in self.flows
        ]


def _lasting(seen: Any) -> object:
    """What the map has of a flow without the store."""
    if seen is None:
        return None
    host = seen.local.rpartition(":")[0]
    face = seen.outcome, seen.healthy, seen.answered_by
    return *face, seen.connect_us, seen.window, seen.certificate_until, host


def slot(plan: Plan, port: int) -> int:
    [found] = [index for index, check in enumerate(plan.checks) if check.port == port]
    return found


def record_of(world: World, port: int) -> Any:
    return next(one for one in world.flows if one.key.source == "pc-1" and one.key.port == port)
