"""The map as a JUnit report, for pipelines that gate on it. Pure.

A suite for each service, a test case for each flow. Broken and exposed flows fail. An unknown one
is an error and not skipped: a gate that passes because nothing was checked proves nothing. A
degraded flow is open and passes; its troubles are in the output.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Final

from reachmap_collector.export.snapshot import Json, Options, Snapshot, place
from reachmap_shared.vocabulary import State

_VERDICTS: Final[Mapping[str, str]] = {
    State.BROKEN: "failure",
    State.EXPOSED: "failure",
    State.UNKNOWN: "error",
}

_FORBIDDEN: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write (its section 2.2); agents send any text."""


def report(snapshot: Snapshot, _options: Options) -> str:
    """The whole report."""
    root = ET.Element("testsuites", name="reachmap")
    by_service = sorted(snapshot.flows, key=lambda flow: str(flow["service"]))
    for service, group in groupby(by_service, key=lambda flow: str(flow["service"])):
        flows = [*group]
        suite = ET.SubElement(root, "testsuite", {"name": _clean(service)} | _counts(flows))
        suite.set("timestamp", snapshot.status["now"].partition(".")[0])
        suite.set("hostname", "reachmap")
        for flow in flows:
            _add(suite, flow)
    root.attrib |= _counts(snapshot.flows)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _add(suite: ET.Element, flow: Json) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=_clean(f"{flow['destination']}.{flow['service']}"),
        name=_clean(
            f"{flow['source']} to {flow['destination']} ({place(flow)}/{flow['transport']}), "
            f"expected {flow['expect']}"
        ),
        time=_duration(flow),
    )
    verdict = _VERDICTS.get(flow["state"])
    if verdict is not None:
        told = ET.SubElement(case, verdict, type=flow["state"], message=_clean(_message(flow)))
        told.text = _clean("\n".join(_details(flow)))
    elif flow["state"] == State.DEGRADED:
        out = ET.SubElement(case, "system-out")
        out.text = _clean("\n".join([_message(flow), *_details(flow)]))


def _message(flow: Json) -> str:
    saw = f": {flow['outcome']}" if flow["outcome"] else ""
    if not flow["cause"]:
        return f"{flow['state']}{saw}"
    return f"{flow['state']}{saw}, cause {flow['cause']} ({flow['confidence']})"


def _details(flow: Json) -> list[str]:
    lines = [*flow["evidence"]]
    lines += [f"port table: row {row['row']}, {row['text']}" for row in flow["rows"]]
    if flow.get("advice"):
        lines.append(f"to do: {flow['advice']}")
    if flow.get("requests"):
        lines.append(f"ask for: {flow['requests']['plain']}")
    return lines


def _counts(flows: Sequence[Json]) -> dict[str, str]:
    verdicts = [_VERDICTS.get(flow["state"]) for flow in flows]
    return {
        "tests": str(len(flows)),
        "failures": str(verdicts.count("failure")),
        "errors": str(verdicts.count("error")),
        "skipped": "0",
        "time": f"{sum(float(_duration(flow)) for flow in flows):.6f}",
    }


def _duration(flow: Json) -> str:
    return f"{(flow['duration_ms'] or 0) / 1000:.6f}"


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
