"""The report that a pipeline gates on."""

import xml.etree.ElementTree as ET

import pytest

from reachmap_collector.export import Options, Snapshot, junit
from reachmap_shared.vocabulary import State

VERDICTS = {"failure": {State.BROKEN, State.EXPOSED}, "error": {State.UNKNOWN}}


@pytest.mark.parametrize("name", ["mixed", "quiet", "large", "hostile"])
def test_it_is_xml_that_counts_right(name: str, request: pytest.FixtureRequest) -> None:
    """A suite for each service, a case for each flow, and sums that agree."""
    snapshot: Snapshot = request.getfixturevalue(name)
    root = ET.fromstring(junit.report(snapshot, Options()).encode())
    assert root.tag == "testsuites"
    suites = root.findall("testsuite")
    assert len(suites) == len({flow["service"] for flow in snapshot.flows})
    assert len(root.findall("testsuite/testcase")) == len(snapshot.flows)
    for attribute, tag in (("tests", None), ("failures", "failure"), ("errors", "error")):
        for suite in (root, *suites):
            cases = [*suite.iter("testcase")]
            found = [case for case in cases if tag is None or case.find(tag) is not None]
            assert int(suite.get(attribute, "")) == len(found)


def test_a_case_fails_by_its_flow_s_state(mixed: Snapshot) -> None:
    """Unknown is an error: nothing was proven; degraded is open, and says what troubles it."""
    root = ET.fromstring(junit.report(mixed, Options()))
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert len(cases) == len(mixed.flows)
    for flow in mixed.flows:
        [case] = [
            case
            for name, case in cases.items()
            if name
            and name.startswith(
                f"{flow['source']} to {flow['destination']} ({flow['address']}:{flow['port']}/"
            )
        ]
        for tag, states in VERDICTS.items():
            assert (case.find(tag) is not None) == (flow["state"] in states)
        assert (case.find("system-out") is not None) == (flow["state"] == State.DEGRADED)


def test_a_failure_has_cause_evidence_and_what_to_do(mixed: Snapshot) -> None:
    """All that whoever reads the pipeline's log needs."""
    flow = next(flow for flow in mixed.flows if flow["requests"])
    root = ET.fromstring(junit.report(mixed, Options()))
    texts = [failure.text or "" for failure in root.iter("failure")]
    [text] = [text for text in texts if flow["requests"]["plain"] in text]
    for fact in (*flow["evidence"], flow["advice"], *(row["text"] for row in flow["rows"])):
        assert fact in text
    [failure] = [one for one in root.iter("failure") if one.text == text]
    assert failure.get("type") == "broken"
    assert flow["cause"] in failure.get("message", "")
