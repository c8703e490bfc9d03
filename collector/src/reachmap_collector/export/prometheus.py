"""The map as Prometheus metrics, by the official client. Pure.

As many series as roles and services have pairs, whatever the number of hosts; series for each flow
only on request. Where blackbox_exporter has a name for a thing, this is it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from reachmap_collector.export.measuring import AS_IT_SHOULD_BE, Group, Measured, grouped
from reachmap_collector.export.snapshot import Json, Options, Snapshot, seconds
from reachmap_collector.roster import AgentState
from reachmap_shared import __version__
from reachmap_shared.vocabulary import State

_FLOW: Final = (
    *("source", "destination", "service", "address", "port", "transport", "protocol", "expect"),
)
"""What makes a flow's series that flow's."""


_IN_A_PART: Final = 250
"""Flows whose series are made at once: some milliseconds."""

_TROUBLE: Final = "trouble"
"""The field of a status that has a text, or nothing."""


@dataclass(frozen=True, slots=True)
class _Field:
    """A metric that is a field of the status."""

    name: str
    what: str
    part: str
    field: str
    family: type[CounterMetricFamily] | type[GaugeMetricFamily] = GaugeMetricFamily


_DATA_PATH: Final = (
    _Field(
        "reachmap_delivery_trouble",
        "1 while reports do not come in, or plans do not go out.",
        "delivery",
        _TROUBLE,
    ),
    _Field(
        "reachmap_stream_lag_reports",
        "Reports in the stream that were not taken yet.",
        "delivery",
        "lag",
    ),
    _Field("reachmap_stream_reports", "Reports in the stream.", "delivery", "in_stream"),
    _Field("reachmap_stream_size_bytes", "What they take there.", "delivery", "stream_octets"),
    _Field(
        "reachmap_reports_missing",
        "Reports that agents numbered, and that did not come yet.",
        "delivery",
        "reports_missing",
    ),
    _Field("reachmap_reports", "Reports taken.", "delivery", "taken", CounterMetricFamily),
    _Field(
        "reachmap_duplicate_reports",
        "Reports taken that had come before.",
        "delivery",
        "duplicates",
        CounterMetricFamily,
    ),
    _Field("reachmap_store_trouble", "1 while the store takes nothing.", "store", _TROUBLE),
    _Field("reachmap_store_waiting", "Messages that wait for the store.", "store", "waiting"),
    _Field(
        "reachmap_dead_letters",
        "Messages that could not be used, and were kept as they came.",
        "store",
        "dead_letters",
        CounterMetricFamily,
    ),
)


def text(snapshot: Snapshot, options: Options) -> str:
    """All metrics, in the text format."""
    registry = CollectorRegistry(auto_describe=False)
    groups = grouped(map(Measured.from_flow, snapshot.flows))
    flows = snapshot.flows if options.per_flow else None
    heard = [
        seconds(row["heard"])
        for row in snapshot.agents
        if "heard" in row and row["state"] == AgentState.FRESH
    ]
    registry.register(Metrics(groups, heard, snapshot.status, flows))
    return generate_latest(registry).decode()


class Metrics(Collector):
    """One moment's metrics, for a registry that may have others beside them.

    Args:
        groups: All flows.
        heard: When each agent that is fresh was heard of last, in seconds since the epoch.
        status: As it is answered.
        flows: As they are answered, for series for each; None for none.
        certificates: Whether services have series for theirs: not beside those of flows, which go
            by the same name.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        heard: Sequence[float],
        status: Json,
        flows: Sequence[Json] | None = None,
        *,
        certificates: bool = True,
    ) -> None:
        self._groups = groups
        self._heard = heard
        self._status = status
        self._flows = flows
        self._certificates = certificates

    def collect(self) -> Iterable[Metric]:
        """Every family with its samples."""
        build = GaugeMetricFamily("reachmap_build_info", "The version.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        yield from _flows(self._groups)
        yield from _ages(self._groups, self._heard, seconds(self._status["now"]))
        yield from _agents(self._status)
        yield from _data_path(self._status)
        if self._flows is not None:
            yield from _per_flow(self._flows)
        elif self._certificates:
            yield _certificates(self._groups)


def of_each(flows: Sequence[Json]) -> Iterator[bytes]:
    """The series for each flow in the text format, in parts that take no long time to make.

    Args:
        flows: As they are answered.
    """
    for one in _OF_A_FLOW:  # one family after the other, each with one head
        for begin in range(0, max(1, len(flows)), _IN_A_PART):
            registry = CollectorRegistry(auto_describe=False)
            registry.register(_One(_of_flows(one, flows[begin : begin + _IN_A_PART])))
            lines = generate_latest(registry).splitlines(keepends=True)
            yield b"".join(line for line in lines if not (begin and line.startswith(b"#")))


class _One(Collector):
    """A family by itself."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        """Just that."""
        yield self._family


def _flows(groups: Sequence[Group]) -> Iterator[Metric]:
    total = GaugeMetricFamily("reachmap_flows", "Flows by state, each once.", labels=["state"])
    for state in State:
        total.add_metric([state], sum(one.states.get(state, 0) for one in groups))
    yield total
    by_pair: dict[tuple[str, str], Counter[State]] = {}
    times: dict[str, list[float]] = {}
    for one in groups:
        for role in one.roles:
            by_pair.setdefault((role, one.service), Counter()).update(one.states)
        if one.connect_s:
            times.setdefault(one.service, []).extend(one.connect_s)
    pairs = GaugeMetricFamily(
        "reachmap_role_flows",
        "Flows by the role that needs them, service and state; one that two roles need is in both.",
        labels=["role", "service", "state"],
    )
    for (role, service), count in sorted(by_pair.items()):
        for state in State:
            pairs.add_metric([role, service, state], count[state])
    yield pairs
    connect = GaugeMetricFamily(
        "reachmap_connect_seconds",
        "Time to connect of a service's open flows: that of the median and of the slowest.",
        labels=["service", "stat"],
    )
    for service, found in sorted(times.items()):
        connect.add_metric([service, "median"], median(found))
        connect.add_metric([service, "slowest"], max(found))
    yield connect


def _ages(groups: Sequence[Group], heard: Sequence[float], now: float) -> Iterator[Metric]:
    """How old the newest and the oldest news are; none where there is none."""
    checks = [at for one in groups for at in (one.oldest, one.newest) if at is not None]
    for name, what, moments in (
        ("check", "check of a flow that was ever checked", checks),
        ("hello", "last word of an agent that is fresh", heard),
    ):
        for stat, pick in (("newest", max), ("oldest", min)):
            family = GaugeMetricFamily(
                f"reachmap_{stat}_{name}_age_seconds", f"Age of the {stat} {what}."
            )
            if moments:
                family.add_metric([], max(0.0, now - pick(moments)))
            yield family


def _agents(status: Json) -> Iterator[Metric]:
    agents = GaugeMetricFamily("reachmap_agents", "Agents by state.", labels=["state"])
    for state in AgentState:
        agents.add_metric([state], status["agents"].get(state, 0))
    yield agents
    yield GaugeMetricFamily(
        "reachmap_agents_missing",
        "Agents that should report and do not, or not clearly.",
        value=status["agents_missing"],
    )
    refused = status["refused_messages"]
    yield CounterMetricFamily(
        "reachmap_refused_messages", "Messages not taken.", value=sum(refused.values())
    )
    reasons = CounterMetricFamily(
        "reachmap_refused_messages_by_reason", "Messages not taken, by reason.", labels=["reason"]
    )
    for reason, count in sorted(refused.items()):
        reasons.add_metric([reason], count)
    yield reasons


def _data_path(status: Json) -> Iterator[Metric]:
    """How what agents see comes to the map and into the store."""
    for metric in _DATA_PATH:
        value = status[metric.part][metric.field]
        number = float(bool(value) if metric.field == _TROUBLE else value)
        yield metric.family(metric.name, metric.what, value=number)
    observations = GaugeMetricFamily(
        "reachmap_observations",
        "Observations made, by what became of them, as far as the agents tell.",
        labels=["fate"],
    )
    for fate, count in status["observations"].items():
        observations.add_metric([fate], count)
    yield observations


def _certificates(groups: Sequence[Group]) -> Metric:
    family = GaugeMetricFamily(
        "probe_ssl_earliest_cert_expiry",
        "When the first of a service's certificates ends, in unixtime.",
        labels=["service"],
    )
    ends: dict[str, float] = {}
    for one in groups:
        if (end := one.certificate_until) is not None:
            ends[one.service] = min(end, ends.get(one.service, end))
    for service, end in sorted(ends.items()):
        family.add_metric([service], end)
    return family


def _per_flow(flows: Sequence[Json]) -> Iterator[Metric]:
    """Blackbox_exporter's names; what is not known has no sample."""
    return (_of_flows(one, flows) for one in _OF_A_FLOW)


def _of_flows(what: "_OfAFlow", flows: Sequence[Json]) -> Metric:
    family = GaugeMetricFamily(what.name, what.what, labels=list(_FLOW))
    for flow in flows:
        if (value := what.value(flow)) is not None:
            labels = ["" if flow[name] is None else str(flow[name]) for name in _FLOW]
            family.add_metric(labels, value)
    return family


def _success(flow: Json) -> float | None:
    if flow["state"] == State.UNKNOWN:
        return None
    return float(flow["state"] in AS_IT_SHOULD_BE)


def _duration_s(flow: Json) -> float | None:
    return None if flow["duration_ms"] is None else flow["duration_ms"] / 1000


def _expiry(flow: Json) -> float | None:
    return seconds(flow["certificate_until"]) if flow["certificate_until"] else None


def _version(address: str | None) -> int | None:
    """Of IP; None for a name, or nothing."""
    if not address:
        return None
    if ":" in address:
        return 6
    return 4 if address.replace(".", "").isdigit() else None


@dataclass(frozen=True, slots=True)
class _OfAFlow:
    """A metric that each flow has a series of."""

    name: str
    what: str
    value: Callable[[Json], float | None]
    """None for no sample."""


_OF_A_FLOW: Final = (
    _OfAFlow(
        "probe_success",
        "Whether the flow is as the topology wants it: open, or blocked and proven so.",
        _success,
    ),
    _OfAFlow("probe_duration_seconds", "How long the last check took.", _duration_s),
    _OfAFlow("probe_ssl_earliest_cert_expiry", "When its certificate ends, in unixtime.", _expiry),
    _OfAFlow(
        "probe_ip_protocol",
        "4 or 6, for what was dialled.",
        lambda flow: _version(flow["address"]),
    ),
)
