"""Real firewalls, routes and hosts that are down: what one client alone can tell of each.

Every row is set up in one set of namespaces, on a port or an address of its own, and checked over
IPv4 and IPv6 at once. What a row says here is what was measured, not what anyone would like.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest

from reachmap_shared.vocabulary import Outcome

A, R, R2, B, S = "a", "r", "r2", "b", "s"

ADDRESSES = {
    "v4": {"a": "10.77.1.1", "r": "10.77.1.2", "r2": "10.77.2.2", "b": "10.77.3.2"},
    "v6": {"a": "fd77:1::1", "r": "fd77:1::2", "r2": "fd77:2::2", "b": "fd77:3::2"},
}
"""Whom the evidence may name: each router by the address that it has towards A."""

SECOND_LINK = ("10.77.4.2", "fd77:4::2")
"""B's address behind the link that takes only small packets."""
ITSELF = ("127.0.0.1", "::1")

OPEN, REFUSED, TIMEOUT = Outcome.OPEN, Outcome.REFUSED, Outcome.TIMEOUT
REJECTED, UNREACHABLE = Outcome.REJECTED, Outcome.UNREACHABLE
RESET, STALLED, LOCAL_ERROR = Outcome.RESET, Outcome.STALLED, Outcome.LOCAL_ERROR

TIMEOUT_S = 1.3
"""Long enough for one SYN to be sent again, which the kernel does after one second."""
NEIGHBOUR_S = 3.1
"""What the kernel takes to give up asking who has an address: three questions, one a second."""


@dataclass(frozen=True)
class Row:
    """One fault.

    `firewall` has rules of each host's firewall, as `CHAIN RULE`, where {port} is the row's own.
    `says` are parts of the evidence, where {a}, {r}, {r2} and {b} are addresses of the family.
    """

    name: str
    v4: Outcome
    v6: Outcome
    says: tuple[str, ...] = ()
    firewall: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    routes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    server: str = "answers"
    dial: tuple[str, str] = (ADDRESSES["v4"]["b"], ADDRESSES["v6"]["b"])
    source: str = A
    transport: str = "tcp"
    port: int = 0
    """0: one that no other row has."""
    size: int = 1
    """Bytes of the question."""
    timeout_s: float = TIMEOUT_S
    begun: bool = True
    """Whether connect goes as far as choosing a port of A's."""
    seconds: float | None = None
    """When it ends; None: with its time where nothing answers, else at once."""
    never_says: tuple[str, ...] = ()


def same(outcome: Outcome) -> dict[str, Outcome]:
    return {"v4": outcome, "v6": outcome}


SYN = "tcp dport {port}"
UDP = "udp dport {port}"

ROWS = [
    # Nothing is wrong.
    Row("open", **same(OPEN), never_says=("lost",)),
    Row("large question", **same(OPEN), size=20_000),
    Row("MTU found out", **same(OPEN), size=20_000, dial=("10.77.4.3", "fd77:4::3"),
        routes={A: ("route add 10.77.4.3/32 via 10.77.1.2 src 10.89.0.1",
                    "route add fd77:4::3/128 via fd77:1::2 src fd89::1")}),
    Row("IPv6 broken, IPv4 fine", v4=OPEN, v6=TIMEOUT,
        firewall={R: (f"forward meta nfproto ipv6 {SYN} drop",)}),
    Row("IPv4 broken, IPv6 fine", v4=TIMEOUT, v6=OPEN,
        firewall={R: (f"forward meta nfproto ipv4 {SYN} drop",)}),
    Row("first SYN lost", **same(OPEN), says=("open after 1 lost SYN",), seconds=1.0,
        firewall={R: (
            f"forward meta nfproto ipv4 {SYN} tcp flags syn limit rate 1/hour burst 1 packets drop",
            f"forward meta nfproto ipv6 {SYN} tcp flags syn limit rate 1/hour burst 1 packets drop",
        )}),
    # Somebody says no.
    Row("nothing listens", **same(REFUSED), says=("ECONNREFUSED",), server=""),
    Row("R rejects with RST", **same(REFUSED), says=("ECONNREFUSED",),
        firewall={R: (f"forward {SYN} reject with tcp reset",)}),
    Row("B rejects with RST", **same(REFUSED), says=("ECONNREFUSED",),
        firewall={B: (f"input {SYN} reject with tcp reset",)}),
    Row("R rejects: port unreachable", **same(REJECTED), says=("{r} says: port unreachable",),
        firewall={R: (f"forward {SYN} reject with icmpx port-unreachable",)}),
    Row("R2 rejects: port unreachable", **same(REJECTED), says=("{r2} says: port unreachable",),
        firewall={R2: (f"forward {SYN} reject with icmpx port-unreachable",)}),
    Row("B rejects: port unreachable", **same(REJECTED),
        says=("{b} (the host dialled) says: port unreachable",),
        firewall={B: (f"input {SYN} reject with icmpx port-unreachable",)}),
    Row("R rejects: prohibited", **same(REJECTED),
        says=("{r} says: administratively prohibited",),
        firewall={R: (f"forward {SYN} reject with icmpx admin-prohibited",)}),
    Row("B rejects: prohibited", **same(REJECTED),
        says=("{b} (the host dialled) says: administratively prohibited",),
        firewall={B: (f"input {SYN} reject with icmpx admin-prohibited",)}),
    Row("R rejects: host unreachable", **same(UNREACHABLE),
        says=("{r} says: the host does not answer there",),
        firewall={R: (f"forward {SYN} reject with icmpx host-unreachable",)}),
    Row("R rejects: no route", **same(UNREACHABLE), says=("{r} says: no route",),
        firewall={R: (f"forward {SYN} reject with icmpx no-route",)}),
    # Nobody says anything.
    Row("R drops", **same(TIMEOUT), says=("2 SYN sent",),
        never_says=("left this host",), firewall={R: (f"forward {SYN} drop",)}),
    Row("R2 drops", **same(TIMEOUT), says=("2 SYN sent",),
        firewall={R2: (f"forward {SYN} drop",)}),
    Row("B drops", **same(TIMEOUT), says=("2 SYN sent",),
        firewall={B: (f"input {SYN} drop",)}),
    Row("SYN-ACK lost on R2", **same(TIMEOUT), says=("2 SYN sent",),
        firewall={R2: ("forward tcp sport {port} drop",)}),
    Row("B has no route back", **same(TIMEOUT), says=("2 SYN sent",),
        dial=("10.77.3.3", "fd77:3::3"),
        routes={A: ("route add 10.77.3.3/32 via 10.77.1.2 src 10.88.0.1",
                    "route add fd77:3::3/128 via fd77:1::2 src fd88::1")}),
    # A itself forbids it.
    Row("A drops its own output", **same(TIMEOUT), says=("no segment left this host",),
        firewall={A: (f"output {SYN} drop",)}),
    Row("A rejects: port unreachable", **same(REJECTED),
        says=("{a} (this host itself) says: port unreachable",),
        firewall={A: (f"output {SYN} reject with icmpx port-unreachable",)}),
    Row("A rejects: prohibited", **same(REJECTED),
        says=("{a} (this host itself) says: administratively prohibited",),
        firewall={A: (f"output {SYN} reject with icmpx admin-prohibited",)}),
    Row("A rejects with RST", **same(REFUSED),
        firewall={A: (f"output {SYN} reject with tcp reset",)}),
    Row("A has no route", **same(UNREACHABLE), dial=("203.0.113.1", "2001:db8::1"), begun=False,
        says=("ENETUNREACH", "this host has no route there, and sent nothing")),
    Row("A has a prohibiting route", **same(REJECTED),
        dial=("203.0.113.2", "2001:db8::2"), begun=False,
        says=("EACCES", "of this host's own forbids it, and nothing was sent"),
        routes={A: ("route add prohibit 203.0.113.2/32", "route add prohibit 2001:db8::2/128")}),
    Row("A has an unreachable route", **same(UNREACHABLE),
        dial=("203.0.113.3", "2001:db8::3"), begun=False,
        says=("EHOSTUNREACH", "a route of this host's own makes it unreachable"),
        routes={A: ("route add unreachable 203.0.113.3/32",
                    "route add unreachable 2001:db8::3/128")}),
    Row("A has a blackhole route", **same(LOCAL_ERROR),
        dial=("203.0.113.4", "2001:db8::4"), begun=False,
        says=("EINVAL", "this host itself will not send there: perhaps a blackhole route"),
        routes={A: ("route add blackhole 203.0.113.4/32", "route add blackhole 2001:db8::4/128")}),
    Row("A meets itself", **same(REFUSED), says=("it met itself",), source=S, dial=ITSELF,
        port=50_000, settings={S: {"ipv4/ip_local_port_range": "50000 50001"}}),
    # Hosts and routes that are not there.
    Row("host absent, same segment", **same(UNREACHABLE), dial=("10.77.1.99", "fd77:1::99"),
        says=("EHOSTUNREACH", "{a} (this host itself) says: the host does not answer there"),
        timeout_s=5.0, seconds=NEIGHBOUR_S),
    Row("host absent, behind R2", **same(UNREACHABLE), dial=("10.77.3.99", "fd77:3::99"),
        says=("EHOSTUNREACH", "{r2} says: the host does not answer there"),
        timeout_s=5.0, seconds=NEIGHBOUR_S),
    Row("R2 has no route", **same(UNREACHABLE), dial=("10.77.8.1", "fd77:8::1"),
        says=("ENETUNREACH", "{r2} says: no route")),
    Row("routing loop", **same(UNREACHABLE), dial=("10.77.9.1", "fd77:9::1"),
        says=("too many hops: perhaps a loop",)),
    # The connection is made, and then nothing comes of it.
    Row("silent server", **same(STALLED), says=("connected", "all that was sent was acknowledged"),
        server="silent"),
    Row("payload dropped by R", **same(STALLED), says=("connected", "1 segment not acknowledged"),
        never_says=("all that was sent",),
        firewall={R: (f"forward {SYN} tcp flags & psh == psh drop",)}),
    Row("payload rejected by R", **same(STALLED), says=("connected", "1 segment not acknowledged"),
        firewall={R: (f"forward {SYN} tcp flags & psh == psh reject",)}),
    Row("MTU black hole", **same(STALLED), says=("connected", "segments not acknowledged"),
        size=20_000, dial=SECOND_LINK,
        firewall={R2: (
            "output ip daddr 10.77.1.1 icmp type destination-unreachable icmp code 4 drop",
            "output ip6 daddr fd77:1::1 icmpv6 type packet-too-big drop",
        )}),
    Row("accepted, then RST", **same(RESET), says=("ECONNRESET", "it had connected"),
        server="resets"),
    # Datagrams.
    Row("UDP answered", **same(OPEN), transport="udp"),
    Row("UDP closed", **same(REFUSED), says=("{b} (the host dialled) says: port unreachable",),
        transport="udp", server=""),
    Row("UDP dropped by R", **same(TIMEOUT), says=("no answer",), transport="udp",
        firewall={R: (f"forward {UDP} drop",)}),
    Row("UDP silent server", **same(TIMEOUT), says=("no answer",), transport="udp",
        server="silent"),
    Row("UDP rejected by R", **same(REJECTED), says=("{r} says: administratively prohibited",),
        transport="udp", firewall={R: (f"forward {UDP} reject with icmpx admin-prohibited",)}),
    Row("UDP closed, says R", **same(REJECTED), says=("{r} says: port unreachable",),
        transport="udp", firewall={R: (f"forward {UDP} reject with icmpx port-unreachable",)}),
    Row("UDP dropped by A", **same(REJECTED),
        says=("EPERM", "of this host's own forbids it, and nothing was sent"),
        transport="udp", firewall={A: (f"output {UDP} drop",)}),
    Row("UDP without a route", **same(UNREACHABLE), transport="udp",
        dial=("203.0.113.1", "2001:db8::1"), begun=False,
        says=("ENETUNREACH", "this host has no route there")),
    Row("UDP host absent, behind R2", **same(UNREACHABLE), dial=("10.77.3.98", "fd77:3::98"),
        says=("{r2} says: the host does not answer there",), transport="udp",
        timeout_s=5.0, seconds=NEIGHBOUR_S),
]  # fmt: skip


def as_given(place: int, row: Row) -> dict[str, Any]:
    """A row as the lab wants it."""
    port = row.port or 7001 + place
    return {
        **asdict(row),
        "port": port,
        "dial": dict(zip(("v4", "v6"), row.dial, strict=True)),
        "firewall": {
            name: [f"add rule inet lab {rule.format(port=port)}" for rule in rules]
            for name, rules in row.firewall.items()
        },
    }


@pytest.fixture(scope="module")
def seen(laboratory: Any) -> Any:
    """What all rows' checks saw."""
    return laboratory.run([as_given(place, row) for place, row in enumerate(ROWS)])


def ends_after(row: Row, outcome: Outcome) -> float:
    """When a row's check is to end."""
    if row.seconds is not None:
        return row.seconds if outcome is not TIMEOUT else row.timeout_s
    return row.timeout_s if outcome in (TIMEOUT, STALLED) else 0.0


@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_what_one_client_can_tell(
    seen: Any, row: Row, family: str, record: Callable[..., None]
) -> None:
    """The outcome, who says so, and how soon."""
    expected = row.v4 if family == "v4" else row.v6
    result = seen[row.name, family]
    evidence = "; ".join(result["evidence"])
    record(f"{row.name} ({family})", expected, result["outcome"], evidence)
    assert result["outcome"] == expected, evidence
    if expected is not OPEN or (row.v4 is row.v6):
        for part in row.says:
            assert part.format(**ADDRESSES[family]) in evidence
            if " says: " in part:
                assert result["offender"] == part.split()[0].format(**ADDRESSES[family])
    for part in row.never_says:
        assert part not in evidence
    after = ends_after(row, expected)
    assert after <= result["seconds"] + 0.1
    assert result["seconds"] < after + 0.9
    # Whoever looks for the connection on B needs the port that it came from.
    assert bool(result["local"]) == row.begun


def test_nothing_outlives_the_lab(
    laboratory: Any,
    none_left: Callable[[list[int]], None],
    kill_hard: Callable[..., None],
) -> None:
    """Killed in the middle of its work, it leaves no process in any of its namespaces."""
    process = laboratory.start()
    row = Row("R drops", **same(TIMEOUT), firewall={R: (f"forward {SYN} drop",)}, timeout_s=60)
    process.stdin.write(json.dumps([as_given(0, row)]))
    process.stdin.close()
    namespaces = json.loads(process.stdout.readline())
    assert len(set(namespaces)) == 5
    kill_hard(process)
    none_left(namespaces)
