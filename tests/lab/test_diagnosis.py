"""Who dropped it: real faults in namespaces, looked into from both ends and judged.

Every row is one fault, over IPv4 and IPv6, with and without the right to look at packets on both
ends. What a row expects is what is true of its fault; where the evidence cannot tell, it expects
`unknown`. No row of any kind may ever be told a proven cause or device that is not the true one.
"""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector.diagnose import Finding, find
from reachmap_shared import codec
from reachmap_shared.diagnosis import Diagnosis
from reachmap_shared.vocabulary import Cause, Confidence

PROGRAM = Path(__file__).with_name("diagnosis.py")

ADDRESSES = {
    "v4": {"a": "10.77.1.1", "r": "10.77.1.2", "r2": "10.77.2.2", "b": "10.77.3.2"},
    "v6": {"a": "fd77:1::1", "r": "fd77:1::2", "r2": "fd77:2::2", "b": "fd77:3::2"},
}
A, R, R2, B = "a", "r", "r2", "b"
FROM_B = {
    "v4": {"10.77.2.1": "r", "10.77.3.1": "r2"},
    "v6": {"fd77:2::1": "r", "fd77:3::1": "r2", "fd77:4::1": "r2"},
}
"""The routers on the way back, as B sees them."""
B2 = ("10.77.4.2", "fd77:4::2")
"""B's address behind the link that takes only small packets."""

SOURCE, PATH, BACK = Cause.SOURCE_HOST, Cause.PATH, Cause.RETURN_PATH
THERE, SERVICE, BOX, NOBODY = (
    Cause.DESTINATION_HOST,
    Cause.SERVICE,
    Cause.MIDDLEBOX,
    Cause.UNKNOWN,
)
PROVEN, LIKELY, UNSURE = Confidence.PROVEN, Confidence.LIKELY, Confidence.UNKNOWN

Told = tuple[Cause, str, Confidence]
"""Cause, the device's name here or its address or nothing, and how sure."""

NOTHING: Told = (NOBODY, "", UNSURE)


@dataclass(frozen=True)
class Row:
    """One fault, and what is to be told of it.

    `seen` is what both ends tell when they may look at packets, `blind` what they tell else; None
    where that is the same.
    """

    name: str
    seen: Told
    blind: Told | None
    truth: tuple[tuple[Cause, str], ...] = ()
    """What may be told as proven; empty for what `seen` says."""
    firewall: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    routes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    server: str = "listener"
    dial: tuple[str, str] | None = None
    transport: str = "tcp"
    size: int = 1
    near: bool = True
    near_dial: tuple[str, str] | None = None
    witness: str = "normal"
    noise: bool = False
    heals_s: float = 0
    drops_much: str = ""
    """The host whose firewall drops much else meanwhile, so that its counters grow."""
    families: tuple[str, ...] = ("v4", "v6")


IN = "tcp dport {port}"
OUT = "tcp sport {port}"
UDP_IN = "udp dport {port}"
UDP_OUT = "udp sport {port}"
NAT = "add table inet nat\nadd chain inet nat before {{ type nat hook prerouting priority -100; }}\nadd chain inet nat after {{ type nat hook postrouting priority 100; }}\n"

ROWS = [
    # No fault, or none that lasts.
    Row("open", NOTHING, None),
    Row("heals half-way", NOTHING, None, firewall={R: (f"forward {IN} drop",)}, heals_s=5.3),
    # The source.
    Row("A drops its output", (SOURCE, A, PROVEN), None, firewall={A: (f"output {IN} drop",)}),
    Row("A drops what comes back", (SOURCE, A, PROVEN), (SOURCE, A, LIKELY),
        firewall={A: (f"input {OUT} drop",)}),
    Row("A drops the answer's payload", (SOURCE, A, LIKELY), None, server="answers",
        firewall={A: (f"input {OUT} tcp flags & psh == psh drop",)}),
    Row("A rejects: port unreachable", (SOURCE, A, PROVEN), None,
        firewall={A: (f"output {IN} reject with icmpx port-unreachable",)}),
    Row("A rejects: prohibited", (SOURCE, A, PROVEN), None,
        firewall={A: (f"output {IN} reject with icmpx admin-prohibited",)}),
    Row("A rejects with RST", (SOURCE, A, PROVEN), NOTHING,
        firewall={A: (f"output {IN} reject with tcp reset",)}),
    Row("A has no route", (SOURCE, "", PROVEN), None, dial=("203.0.113.1", "2001:db8::1"), near=False),
    Row("A has a prohibiting route", (SOURCE, "", PROVEN), None, near=False,
        dial=("203.0.113.2", "2001:db8::2"),
        routes={A: ("route add prohibit 203.0.113.2/32", "route add prohibit 2001:db8::2/128")}),
    Row("A has an unreachable route", (SOURCE, "", PROVEN), None, near=False,
        dial=("203.0.113.3", "2001:db8::3"),
        routes={A: ("route add unreachable 203.0.113.3/32",
                    "route add unreachable 2001:db8::3/128")}),
    Row("A drops its payload", (SOURCE, A, PROVEN), None, server="answers",
        firewall={A: (f"output {IN} tcp flags & psh == psh drop",)}),
    Row("A rejects its payload with RST", (SOURCE, A, PROVEN), NOTHING, server="answers",
        firewall={A: (f"output {IN} tcp flags & psh == psh reject with tcp reset",)}),
    # The way there.
    Row("R drops", (PATH, R, LIKELY), None, firewall={R: (f"forward {IN} drop",)}),
    Row("R2 drops", (PATH, R2, LIKELY), None, firewall={R2: (f"forward {IN} drop",)}),
    Row("R drops, nothing else works", (PATH, R, LIKELY), None, near=False,
        firewall={R: (f"forward {IN} drop",)}),
    Row("R drops, a neighbour works", (PATH, R, LIKELY), None, near_dial=("10.77.3.3", "fd77:3::3"),
        firewall={R: (f"forward {IN} drop",)}),
    Row("R drops, no agent on B", (PATH, R, LIKELY), None, witness="none",
        firewall={R: (f"forward {IN} drop",)}),
    Row("R2 drops, no agent on B", NOTHING, None, witness="none",
        firewall={R2: (f"forward {IN} drop",)}),
    Row("R rejects with RST", (PATH, R, LIKELY), None,
        firewall={R: (f"forward {IN} reject with tcp reset",)}),
    Row("R2 rejects with RST", (PATH, R2, LIKELY), None,
        firewall={R2: (f"forward {IN} reject with tcp reset",)}),
    Row("R rejects: port unreachable", (PATH, R, PROVEN), None,
        firewall={R: (f"forward {IN} reject with icmpx port-unreachable",)}),
    Row("R2 rejects: prohibited", (PATH, R2, PROVEN), None,
        firewall={R2: (f"forward {IN} reject with icmpx admin-prohibited",)}),
    Row("R2 rejects: no route", (PATH, R2, PROVEN), None,
        firewall={R2: (f"forward {IN} reject with icmpx no-route",)}),
    Row("R2 rejects: host unreachable", (PATH, R2, LIKELY), None,
        firewall={R2: (f"forward {IN} reject with icmpx host-unreachable",)}),
    Row("R2 has no route", (PATH, R2, PROVEN), None, dial=("10.77.8.1", "fd77:8::1"), near=False),
    Row("routing loop", (PATH, "?", LIKELY), None, dial=("10.77.9.1", "fd77:9::1"), near=False),
    Row("R is silent, and drops", (PATH, "", LIKELY), None,
        firewall={R: (f"forward {IN} drop", "output icmp type time-exceeded drop",
                      "output icmpv6 type time-exceeded drop")}),
    Row("R is silent, R2 drops", (PATH, R2, LIKELY), None,
        firewall={R2: (f"forward {IN} drop",),
                  R: ("output icmp type time-exceeded drop", "output icmpv6 type time-exceeded drop")}),
    Row("routers limit ICMP, R2 drops", (PATH, R2, LIKELY), None,
        firewall={R2: (f"forward {IN} drop",)},
        settings={R: {"ipv4/icmp_ratemask": "6168", "ipv6/icmp/ratelimit": "1000"},
                  R2: {"ipv4/icmp_ratemask": "6168", "ipv6/icmp/ratelimit": "1000"}}),
    Row("A hears no ICMP, R drops", (PATH, "", LIKELY), None,
        firewall={A: ("input meta l4proto icmp drop", "input icmpv6 type time-exceeded drop"),
                  R: (f"forward {IN} drop",)}),
    Row("payload dropped by R", (PATH, R, LIKELY), None, server="answers",
        firewall={R: (f"forward {IN} tcp flags & psh == psh drop",)}),
    Row("MTU black hole", (PATH, R2, LIKELY), None, server="answers", size=20_000, dial=B2,
        firewall={R2: (
            "output ip daddr 10.77.1.1 icmp type destination-unreachable icmp code 4 drop",
            "output ip6 daddr fd77:1::1 icmpv6 type packet-too-big drop",
        )}),
    Row("payload dropped by R2", (PATH, R2, LIKELY), NOTHING, server="answers",
        firewall={R2: (f"forward {IN} tcp flags & psh == psh drop",)}),
    Row("payload rejected by R with RST", (PATH, R, LIKELY), None, server="answers",
        firewall={R: (f"forward {IN} tcp flags & psh == psh reject with tcp reset",)}),
    Row("R2 drops before it routes", (PATH, R, LIKELY), None, truth=((PATH, R2),),
        firewall={R2: ("early", f"early {IN} drop")}),
    Row("R loses every second SYN", NOTHING, None,
        firewall={R: (f"forward {IN} tcp flags syn numgen inc mod 2 == 0 drop",)}),
    # Who answers in another's place.
    Row("R answers for B", (BOX, R, LIKELY), None,
        firewall={R: ("nat", f"before {IN} redirect to :7002")}),
    Row("DNAT to another host", (BOX, R, LIKELY), None,
        firewall={R: ("nat", "dnat")}),
    # The destination.
    Row("B drops its input", (THERE, B, LIKELY), None,
        firewall={B: (f"input {IN} drop",)}),
    Row("B drops its input, much else goes on", (THERE, B, LIKELY), None, noise=True,
        firewall={B: (f"input {IN} drop",)}),
    Row("B drops its output", (THERE, B, LIKELY), (BACK, "", LIKELY),
        firewall={B: (f"output {OUT} drop",)}),
    Row("B rejects with RST", (THERE, B, LIKELY), None,
        firewall={B: (f"input {IN} reject with tcp reset",)}),
    Row("B rejects with RST, much else goes on", (THERE, B, LIKELY), NOTHING, noise=True,
        firewall={B: (f"input {IN} reject with tcp reset",)}),
    Row("B rejects: port unreachable", (THERE, B, LIKELY), None,
        firewall={B: (f"input {IN} reject with icmpx port-unreachable",)}),
    Row("B rejects: prohibited", (THERE, B, LIKELY), None,
        firewall={B: (f"input {IN} reject with icmpx admin-prohibited",)}),
    Row("B drops the payload", (THERE, B, LIKELY), None, server="answers",
        firewall={B: (f"input {IN} tcp flags & psh == psh drop",)}),
    Row("B filters by reverse path", (THERE, B, LIKELY), None, families=("v4",),
        settings={B: {"ipv4/conf/all/rp_filter": "1", "ipv4/conf/n3/rp_filter": "1"}},
        routes={B: ("route add 10.77.1.0/24 via 10.77.4.1",)}),
    Row("host absent, same segment", (THERE, "?", LIKELY), None, near=False, witness="none",
        dial=("10.77.1.99", "fd77:1::99")),
    Row("host absent, behind R2", (THERE, "?", LIKELY), None, near=False, witness="none",
        dial=("10.77.3.99", "fd77:3::99")),
    Row("B hands on, and nothing listens there", (SERVICE, B, LIKELY), NOTHING, server="nothing",
        firewall={B: ("nat", "hand on")}),
    Row("B hands on beside a listener", (THERE, B, LIKELY), NOTHING,
        firewall={B: ("nat", "hand on")}),
    # The way back.
    Row("R drops what comes back", (BACK, R, LIKELY), (BACK, "", LIKELY),
        firewall={R: (f"forward {OUT} drop",)}),
    Row("R2 drops what comes back", (BACK, R2, LIKELY), (BACK, "", LIKELY),
        firewall={R2: (f"forward {OUT} drop",)}),
    Row("B has no route back", (BACK, B, LIKELY), None,
        routes={A: ("route add 10.77.3.2/32 via 10.77.1.2 src 10.88.0.1",
                    "route add fd77:3::2/128 via fd77:1::2 src fd88::1")}, near=False),
    Row("R2 drops the answer's payload", (BACK, "", LIKELY), None, server="answers",
        firewall={R2: (f"forward {OUT} tcp flags & psh == psh drop",)}),
    # The service.
    Row("nothing listens", (SERVICE, B, LIKELY), None, server="nothing"),
    Row("nothing listens, much else goes on", (SERVICE, B, LIKELY), None,
        server="nothing", noise=True),
    Row("nothing listens, no agent on B", (SERVICE, B, LIKELY), None, server="nothing", witness="none"),
    Row("silent server", (SERVICE, B, LIKELY), None, server="silent"),
    Row("accepted, then RST", (SERVICE, B, LIKELY), None, server="resets"),
    Row("the service is too busy", (SERVICE, B, LIKELY), None, server="full"),
    # Datagrams.
    Row("UDP closed", (SERVICE, B, LIKELY), None, transport="udp", server="nothing"),
    Row("UDP dropped by A", (SOURCE, A, PROVEN), None, transport="udp",
        firewall={A: (f"output {UDP_IN} drop",)}),
    Row("UDP dropped by R", (PATH, R, LIKELY), None, transport="udp",
        firewall={R: (f"forward {UDP_IN} drop",)}),
    Row("UDP dropped by R2", (PATH, R2, LIKELY), NOTHING, transport="udp",
        firewall={R2: (f"forward {UDP_IN} drop",)}),
    Row("UDP dropped by B", (THERE, B, LIKELY), None, transport="udp",
        firewall={B: (f"input {UDP_IN} drop",)}),
    Row("UDP rejected by R", (PATH, R, PROVEN), None, transport="udp",
        firewall={R: (f"forward {UDP_IN} reject with icmpx admin-prohibited",)}),
    Row("UDP answers dropped by R2", (BACK, "", LIKELY), NOTHING, transport="udp",
        firewall={R2: (f"forward {UDP_OUT} drop",)}),
    Row("UDP silent server", (SERVICE, B, LIKELY), NOTHING, transport="udp", server="silent"),
    # Other ways, and other minds.
    Row("asymmetric, R drops what comes back", (BACK, R, LIKELY), (BACK, "", LIKELY),
        firewall={R: (f"forward {OUT} drop",)},
        routes={B: ("route add 10.77.1.0/24 via 10.77.4.1", "route add fd77:1::/64 via fd77:4::1")}),
    Row("asymmetric, R2 drops what comes back", (BACK, R2, LIKELY), (BACK, "", LIKELY),
        firewall={R2: (f"forward {OUT} drop",)},
        routes={B: ("route add 10.77.1.0/24 via 10.77.4.1", "route add fd77:1::/64 via fd77:4::1")}),
    Row("asymmetric, R2 drops", (PATH, R2, LIKELY), None, firewall={R2: (f"forward {IN} drop",)},
        routes={B: ("route add 10.77.1.0/24 via 10.77.4.1", "route add fd77:1::/64 via fd77:4::1")}),
    Row("NAT between, B drops", (THERE, B, LIKELY), None,
        firewall={R: ("nat", f"after {IN} masquerade"), B: (f"input {IN} drop",)}),
    Row("NAT between, R2 drops", (PATH, R2, LIKELY), None,
        firewall={R: ("nat", f"after {IN} masquerade"), R2: (f"forward {IN} drop",)}),
    Row("R2 and B drop", (PATH, R2, LIKELY), None,
        firewall={R2: (f"forward {IN} drop",), B: (f"input {IN} drop",)}),
    Row("A and R drop", (SOURCE, A, PROVEN), None,
        firewall={A: (f"output {IN} drop",), R: (f"forward {IN} drop",)}),
    Row("B drops, and the way back is cut", (THERE, B, LIKELY), None,
        firewall={B: (f"input {IN} drop",), R: (f"forward {OUT} drop",)}),
    Row("B drops, the witness is silent", NOTHING, None, witness="silent",
        firewall={B: (f"input {IN} drop",)}),
    Row("B drops, the witness is slow", NOTHING, None, witness="slow",
        firewall={B: (f"input {IN} drop",)}),
    Row("B drops, the witness is another", NOTHING, None, witness="forged",
        firewall={B: (f"input {IN} drop",)}),
    Row("B drops, the witness lies", (PATH, R2, LIKELY), (THERE, B, LIKELY), witness="lying",
        firewall={B: (f"input {IN} drop",)}),
    Row("silent server, the witness lies", NOTHING, (SERVICE, B, LIKELY), witness="lying",
        server="silent"),
    Row("R drops, the witness says it answered", NOTHING, None, witness="boasting",
        firewall={R: (f"forward {IN} drop",)}),
    Row("R rejects with RST, the witness says it is closed", NOTHING, None, witness="closed",
        firewall={R: (f"forward {IN} reject with tcp reset",)}),
    Row("R2 drops, and B drops much else", (PATH, R2, LIKELY), NOTHING, drops_much=B,
        firewall={R2: (f"forward {IN} drop",), B: ("input udp dport 9999 drop",)}),
    Row("R2 drops what comes back, and A drops much else", (BACK, R2, LIKELY), (BACK, "", LIKELY),
        drops_much=A,
        firewall={R2: (f"forward {OUT} drop",), A: ("input udp dport 9999 drop",)}),
    Row("the way back heals half-way", NOTHING, None, firewall={R: (f"forward {OUT} drop",)},
        heals_s=5.3),
    Row("NAT between, R2 drops what comes back", (BACK, R2, LIKELY), (BACK, "", LIKELY),
        firewall={R: ("nat", f"after {IN} masquerade"), R2: (f"forward {OUT} drop",)}),
    Row("R and R2 drop what comes back", (BACK, R2, LIKELY), (BACK, "", LIKELY),
        truth=((BACK, R), (BACK, R2)),
        firewall={R: (f"forward {OUT} drop",), R2: (f"forward {OUT} drop",)}),
    Row("routers limit ICMP, R2 drops what comes back", (BACK, R2, LIKELY), (BACK, "", LIKELY),
        firewall={R2: (f"forward {OUT} drop",)},
        settings={R: {"ipv4/icmp_ratemask": "6168", "ipv6/icmp/ratelimit": "1000"},
                  R2: {"ipv4/icmp_ratemask": "6168", "ipv6/icmp/ratelimit": "1000"}}),
    Row("R2 is silent, and drops what comes back", (BACK, "", LIKELY), None,
        firewall={R2: (f"forward {OUT} drop", "output icmp type time-exceeded drop",
                       "output icmpv6 type time-exceeded drop")}),
    Row("UDP too long for a link, without ICMP", (PATH, R2, LIKELY), NOTHING, transport="udp",
        server="answers", size=1400, dial=B2, firewall={R2: (
            "output ip daddr 10.77.1.1 icmp type destination-unreachable icmp code 4 drop",
            "output ip6 daddr fd77:1::1 icmpv6 type packet-too-big drop",
        )}),
    Row("UDP too long for a link", NOTHING, None, transport="udp", server="answers", size=1400,
        dial=B2),
    Row("R drops, much else goes on", (PATH, R, LIKELY), None, noise=True,
        firewall={R: (f"forward {IN} drop",)}),
]  # fmt: skip


def rules(row: Row, name: str, port: int, family: str) -> list[str]:
    """The lines for one host's firewall."""
    lines: list[str] = []
    for rule in row.firewall.get(name, ()):
        if rule == "early":
            chain = "{ type filter hook prerouting priority -300; }"
            lines.append(f"add chain inet lab early {chain}")
        elif rule == "nat":
            lines += NAT.format().splitlines()
        elif rule == "dnat":
            other = {"v4": "10.77.2.2:7002", "v6": "[fd77:2::2]:7002"}[family]
            which = "ip" if family == "v4" else "ip6"
            nf = "nfproto ipv4" if family == "v4" else "nfproto ipv6"
            lines.append(
                f"add rule inet nat before meta {nf} tcp dport {port} dnat {which} to {other}"
            )
        elif rule == "hand on":
            # To another host's closed port, as to a container's.
            other = {"v4": "10.77.3.1:7003", "v6": "[fd77:3::1]:7003"}[family]
            which, nf = ("ip", "ipv4") if family == "v4" else ("ip6", "ipv6")
            lines.append(
                f"add rule inet nat before meta nfproto {nf} tcp dport {port} dnat {which} to {other}"
            )
            lines.append("add rule inet nat after tcp dport 7003 masquerade")
        elif rule.startswith(("before", "after")):
            lines.append(f"add rule inet nat {rule.format(port=port)}")
        else:
            lines.append(f"add rule inet lab {rule.format(port=port)}")
    return lines


def as_given(row: Row, family: str, *, raw: bool) -> dict[str, Any]:
    """A row as the lab wants it."""
    place = 0 if family == "v4" else 1
    port = 7001
    return {
        "name": row.name,
        "family": family,
        "raw": raw,
        "port": port,
        "transport": row.transport,
        "server": row.server,
        "size": row.size,
        "dial": row.dial[place] if row.dial else ADDRESSES[family]["b"],
        "near": row.near,
        "near_dial": row.near_dial[place] if row.near_dial else "",
        "firewall": {name: rules(row, name, port, family) for name in row.firewall},
        "routes": dict(row.routes),
        "settings": {name: dict(value) for name, value in row.settings.items()},
        "witness": row.witness,
        "noise": row.noise,
        "heals_s": row.heals_s,
        "drops_much": row.drops_much,
    }


def as_table() -> list[str]:
    """The rows as docs/diagnosis.md has them."""

    def words(told: Told) -> str:
        cause, at, sure = told
        if cause is NOBODY:
            return "unknown"
        device = f" at {at.upper()}" if at in (A, R, R2, B) else ""
        return f"{cause}{device}, {sure}"

    lines = ["| fault | both ends see packets | neither does |", "|---|---|---|"]
    for row in ROWS:
        blind = words(row.blind) if row.blind is not None else "the same"
        lines.append(f"| {row.name} | {words(row.seen)} | {blind} |")
    return lines


def test_the_documentation_has_this_very_table() -> None:
    """What operators read is what is measured."""
    text = (Path(__file__).parents[2] / "docs/diagnosis.md").read_text()
    assert "\n".join(as_table()) in text


CASES = [
    (row, family, raw)
    for row in ROWS
    for family in row.families
    for raw in (True, False)
    if raw or family == "v4" or row.blind is not None
]


@pytest.fixture(scope="module")
def found(laboratory: Any) -> dict[tuple[str, str, bool], Finding]:
    """What was found out of every case."""
    told = laboratory.collect(
        [as_given(row, family, raw=raw) for row, family, raw in CASES], PROGRAM, 280
    )
    return {
        (result["name"], result["family"], result["raw"]): find(
            codec.decode(Diagnosis, base64.b64decode(result["diagnosis"]))
        )
        for result in told
    }


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("row", "family", "raw"),
    CASES,
    ids=[f"{row.name}-{family}-{'seen' if raw else 'blind'}" for row, family, raw in CASES],
)
def test_who_dropped_it(
    found: Any, row: Row, family: str, raw: bool, record: Callable[..., None]
) -> None:
    """Cause, device and confidence; and nothing is ever proven that is not so."""
    finding = found[row.name, family, raw]
    expected = row.seen if raw or row.blind is None else row.blind
    names = {address: name for name, address in ADDRESSES[family].items()} | FROM_B[family]
    at = names.get(finding.at or "", finding.at or "")
    record(
        f"{row.name} ({family}, {'packets seen' if raw else 'blind'})",
        " ".join(word for word in expected if word),
        " ".join(word for word in (finding.cause, at, finding.confidence) if word),
        "; ".join(finding.evidence),
    )
    if finding.confidence is PROVEN:
        truth = row.truth or (row.seen[:2],)
        assert (finding.cause, at) in truth, finding.evidence
    assert (finding.cause, finding.confidence) == (expected[0], expected[2]), finding.evidence
    if expected[1] != "?":
        assert at == expected[1], finding.evidence


def pairs() -> list[tuple[Row, Row, Row]]:
    """Two of the faults at once, and what they are together: some of the many that there are."""
    alone = [
        row
        for row in ROWS
        if replace(row, seen=NOTHING, blind=None, firewall={}, server="listener", truth=())
        == Row(row.name, NOTHING, None)
        and row.firewall
        and row.server in ("listener", "answers")
    ]
    made = []
    for one, other in combinations(alone, 2):
        both = {
            host: tuple(dict.fromkeys((*one.firewall.get(host, ()), *other.firewall.get(host, ()))))
            for host in {*one.firewall, *other.firewall}
        }
        server = max(one.server, other.server)
        name = f"{one.name}, and {other.name}"
        made.append((one, other, replace(one, name=name, firewall=both, server=server)))
    return made[::13]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("family", "raw"), [("v4", True), ("v6", False)])
def test_two_faults_at_once_prove_no_third(laboratory: Any, family: str, raw: bool) -> None:
    """Whichever of them is told, it is one of them that is proven, or none."""
    cases = pairs()
    assert len(cases) > 40
    told = laboratory.collect(
        [as_given(both, family, raw=raw) for _, _, both in cases], PROGRAM, 280
    )
    names = {address: name for name, address in ADDRESSES[family].items()}
    for (one, other, both), result in zip(cases, told, strict=True):
        finding = find(codec.decode(Diagnosis, base64.b64decode(result["diagnosis"])))
        truth = {*(one.truth or (one.seen[:2],)), *(other.truth or (other.seen[:2],))}
        if finding.confidence is PROVEN:
            at = names.get(finding.at or "", finding.at or "")
            assert (finding.cause, at) in truth, (both.name, finding.evidence)
