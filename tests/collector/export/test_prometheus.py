"""The metrics: the official parser's view of them, and promtool's."""

import copy
import random
import subprocess
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reachmap_collector import views
from reachmap_collector.export import Options, Snapshot, prometheus
from reachmap_collector.export.measuring import Group, Measured, grouped
from reachmap_collector.export.scrape import of_states
from reachmap_collector.flowmap.records import Counts, Period
from reachmap_collector.queries import Queries
from reachmap_collector.slots import Slots
from reachmap_shared import __version__
from reachmap_shared.vocabulary import Outcome

Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def samples(snapshot: Snapshot, *, per_flow: bool = False) -> Samples:
    """By name and labels; no series may be there twice."""
    found: Samples = {}
    for family in text_string_to_metric_families(
        prometheus.text(snapshot, Options(per_flow=per_flow))
    ):
        for sample in family.samples:
            of_name = found.setdefault(sample.name, {})
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in of_name
            of_name[labels] = sample.value
    return found


def labelled(series: Iterable[tuple[tuple[str, str], ...]], name: str) -> set[str]:
    return {dict(labels)[name] for labels in series}


def test_every_flow_is_counted_once_by_state(mixed: Snapshot) -> None:
    """And once for each role that needs it; states without a flow are there, with none."""
    found = samples(mixed)
    by_state = found["reachmap_flows"]
    assert len(by_state) == 5
    assert sum(by_state.values()) == len(mixed.flows)
    pairs = found["reachmap_role_flows"]
    broken = [flow for flow in mixed.flows if flow["state"] == "broken"]
    counted = sum(count for labels, count in pairs.items() if dict(labels)["state"] == "broken")
    assert counted == sum(len({one["role"] for one in flow["reasons"]}) for flow in broken) > 0


def test_the_collector_tells_of_itself(mixed: Snapshot) -> None:
    """Agents, refused messages, and how old its news are."""
    found = samples(mixed)
    agents = {dict(labels)["state"]: count for labels, count in found["reachmap_agents"].items()}
    assert agents == {**mixed.status["agents"]}
    assert found["reachmap_agents_missing"] == {(): mixed.status["agents_missing"]}
    assert found["reachmap_refused_messages_total"] == {(): 3}
    reasons = found["reachmap_refused_messages_by_reason_total"]
    assert reasons == {(("reason", "malformed hello"),): 3}
    assert found["reachmap_build_info"] == {(("version", __version__),): 1}
    newest = found["reachmap_newest_check_age_seconds"][()]
    oldest = found["reachmap_oldest_check_age_seconds"][()]
    assert 0 <= newest < oldest < 60
    assert 0 <= found["reachmap_newest_hello_age_seconds"][()] < 60


def test_the_data_path_is_told(mixed: Snapshot) -> None:
    """What waits, what is lost, and whether anything is in trouble, which is 0 or 1."""
    status = copy.deepcopy(mixed.status)
    status["store"]["waiting"] = 0
    fine = samples(Snapshot([], [], status))
    status["delivery"] |= {"trouble": "no stream", "lag": 1, "in_stream": 2, "stream_octets": 3}
    status["delivery"] |= {"taken": 4, "duplicates": 5, "reports_missing": 6}
    status["store"] = {"trouble": "the disk is full", "waiting": 7, "dead_letters": 8}
    status["observations"] = {
        "received": 9,
        "refused": 10,
        "waiting": 11,
        "dropped": 12,
        "vanished": 13,
    }
    found = samples(Snapshot([], [], status))
    observations = found.pop("reachmap_observations")
    assert {dict(labels)["fate"]: count for labels, count in observations.items()} == {
        **status["observations"]
    }
    expected = {
        "reachmap_delivery_trouble": 1,
        "reachmap_stream_lag_reports": 1,
        "reachmap_stream_reports": 2,
        "reachmap_stream_size_bytes": 3,
        "reachmap_reports_total": 4,
        "reachmap_duplicate_reports_total": 5,
        "reachmap_reports_missing": 6,
        "reachmap_store_trouble": 1,
        "reachmap_store_waiting": 7,
        "reachmap_dead_letters_total": 8,
    }
    assert {name: found[name] for name in expected} == {
        name: {(): value} for name, value in expected.items()
    }
    assert {name: fine[name] for name in expected} == {name: {(): 0} for name in expected}


def test_the_first_certificate_to_end_is_told_by_service(mixed: Snapshot) -> None:
    """Under blackbox_exporter's name."""
    found = samples(mixed)["probe_ssl_earliest_cert_expiry"]
    assert labelled(found, "service") == {
        flow["service"] for flow in mixed.flows if flow["certificate_until"]
    }
    assert all(2_000_000_000 <= end < 2_000_001_000 for end in found.values())


def test_ten_thousand_flows_are_no_more_series_than_ten(large: Snapshot, mixed: Snapshot) -> None:
    """What a monitoring system has to keep is bounded by roles and services."""
    found = samples(large)
    assert sum(map(len, found.values())) < 45
    assert not {"source", "destination", "address", "agent"} & {
        name for series in samples(mixed).values() for labels in series for name, _ in labels
    }


def test_each_flow_has_series_on_request(mixed: Snapshot) -> None:
    """Under blackbox_exporter's names; what is not known has none."""
    found = samples(mixed, per_flow=True)
    assert "probe_success" not in samples(mixed)
    known = [flow for flow in mixed.flows if flow["state"] != "unknown"]
    success = found["probe_success"]
    assert len(success) == len(known)
    for flow in known:
        [value] = [
            value
            for labels, value in success.items()
            if all(
                str(dict(labels)[name]) == str(flow[name])
                for name in ("source", "destination", "service", "address", "port", "transport")
            )
        ]
        assert value == (flow["state"] in ("ok", "degraded"))
    checked = [flow for flow in mixed.flows if flow["checked"]]
    assert len(found["probe_duration_seconds"]) == len(checked)
    assert set(found["probe_ip_protocol"].values()) == {4}
    assert len(found["probe_ssl_earliest_cert_expiry"]) == len(checked)


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("name", ["mixed", "quiet"])
def test_series_of_flows_come_in_parts_that_are_the_whole(
    name: str, size: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each family is told of once, before all of its samples."""
    snapshot = request.getfixturevalue(name)
    monkeypatch.setattr(prometheus, "_IN_A_PART", size)
    whole = prometheus.text(snapshot, Options(per_flow=True))
    parts = b"".join(prometheus.of_each(snapshot.flows)).decode()
    assert parts.count("# TYPE") == 4 and whole.endswith(parts)


@pytest.mark.parametrize(
    ("address", "version"),
    [("10.0.0.1", 4), ("fd00::1", 6), ("web.example", None), ("1.example", None), (None, None)],
)
def test_the_version_of_ip_is_that_of_the_address(
    mixed: Snapshot, address: str | None, version: int | None
) -> None:
    """A name has none before it resolves."""
    snapshot = Snapshot([{**mixed.flows[0], "address": address}], [], mixed.status)
    found = samples(snapshot, per_flow=True).get("probe_ip_protocol", {})
    assert [*found.values()] == ([] if version is None else [version])


@pytest.mark.parametrize("per_flow", [False, True])
@pytest.mark.parametrize("name", ["mixed", "quiet", "hostile"])
def test_promtool_has_nothing_to_say(
    name: str, per_flow: bool, request: pytest.FixtureRequest, tool: Any
) -> None:
    """Prometheus's own parser and linter."""
    text = prometheus.text(request.getfixturevalue(name), Options(per_flow=per_flow))
    done = subprocess.run(
        [tool("promtool", "prometheus"), "check", "metrics"],
        input=text.encode("utf-8", "surrogatepass" if name == "hostile" else "strict"),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_scrape_measures_what_an_export_does(collector_of: Any, openuem: Any, told: Any) -> None:
    """Though it takes the shorter way."""
    collector = collector_of(openuem(2))
    now = round(collector.now())  # to the millisecond, as timestamps are
    for number, record in enumerate(collector.flows):
        if number % 3:
            until = [None, 2_000_000_000, -1, 10**15][number % 4]
            outcome = [*Outcome][number % len(Outcome)]
            record.fold(told(now, outcome, certificate_until=until))
    dice = random.Random(1)
    for source, targets in collector.flows.expected.targets.items():
        keys = [one.flow(source).key for one in targets][dice.randrange(2) :]
        slots = Slots.of(source, "r1", keys, ("",) * len(keys))
        for sequence in range(dice.randrange(6)):
            times = bytes(dice.choice([0, 1, 90, 91, 160, 255]) for _ in keys)
            counts = Counts(latency=dice.choice([times, times, b""]))
            period = Period(now + sequence, "boot-1", sequence, slots, counts)
            collector.flows.source(source).roll_up(period)
    moment = Queries(collector).moment()
    flows = [views.flow(judgement) for judgement in collector.judgements()]
    assert flows
    at_once = sorted(of_states(moment.states), key=_what)
    one_by_one = sorted(grouped(map(Measured.from_flow, flows)), key=_what)
    for name in ("roles", "service", "oldest", "newest", "certificate_until"):
        assert _column(at_once, name) == _column(one_by_one, name)
    assert [+Counter(one.states) for one in at_once] == [one.states for one in one_by_one]
    for ours, theirs in zip(at_once, one_by_one, strict=True):
        assert ours.connect_s == pytest.approx(theirs.connect_s, abs=1e-6)


def _what(group: Group) -> tuple[tuple[str, ...], str]:
    return group.roles, group.service


def _column(groups: list[Group], name: str) -> list[Any]:
    return [getattr(one, name) for one in groups]
