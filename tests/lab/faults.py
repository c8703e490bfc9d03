"""The lab's faults, and what is true of each: one table, for whatever looks into them.

Every row is one fault, over IPv4 and IPv6, with and without the right to look at packets on both
ends. What a row expects is what is true of its fault; where the evidence cannot tell, it expects
`unknown`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from reachmap_shared.vocabulary import Cause, Confidence, Outcome

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
NARROW = 1300
DROPPED = 9999
"""Where to nobody listens, and what is sent there is dropped by a firewall that drops much."""

SOURCE, PATH, BACK = Cause.SOURCE_HOST, Cause.PATH, Cause.RETURN_PATH
THERE, SERVICE, BOX, NOBODY = (
    Cause.DESTINATION_HOST,
    Cause.SERVICE,
    Cause.MIDDLEBOX,
    Cause.UNKNOWN,
)
OPEN, TIMEOUT, WRONG_PEER = Outcome.OPEN, Outcome.TIMEOUT, Outcome.WRONG_PEER
REFUSED, REJECTED = Outcome.REFUSED, Outcome.REJECTED
UNREACHABLE, STALLED, RESET = Outcome.UNREACHABLE, Outcome.STALLED, Outcome.RESET
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
    before: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What `ip` makes of a host so that all is well there at first."""
    routes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What `ip` does where it breaks."""
    heals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What `ip` does to heal it, where that is not just the contrary of `routes`."""
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    server: str = "listener"
    serves: str = "b"
    """The host that has the service, where the agent has no listener."""
    protocol: str = ""
    """What agents speak; empty for what fits the server."""
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
    well: tuple[str, ...] = ()
    """Families whose flow stays well all the while."""
    deployed: Told | None = None
    """What the map says, where it knows more than both ends saw."""
    may_say: Told | None = None
    """What else the map says where agents are blind, as soon as it hears that nothing listens."""
    luck: bool = False
    """Whether a check fails is a matter of luck: it may be well, or time out."""
    called_only: str = ""
    """Why real agents cannot be brought to meet it, so that the diagnosis has to be called."""

    @property
    def outcome(self) -> Outcome:
        """What a check sees."""
        return next((seen for seen, names in OUTCOMES.items() if self.name in names), TIMEOUT)


IN = "tcp dport {port}"
OUT = "tcp sport {port}"
UDP_IN = "udp dport {port}"
UDP_OUT = "udp sport {port}"
SHORT = "No protocol that an agent speaks over UDP asks in a datagram as long as that."
NAT = "add table inet nat\nadd chain inet nat before {{ type nat hook prerouting priority -100; }}\nadd chain inet nat after {{ type nat hook postrouting priority 100; }}\n"


def through(v4: str, v6: str) -> Mapping[str, tuple[str, ...]]:
    """A network of B's that A has a route of its own to."""
    return {
        **beyond(v4, v6),
        A: (f"route add {v4} via 10.77.1.2", f"route add {v6} via fd77:1::2"),
        R: (f"route add {v4} via 10.77.2.2", f"route add {v6} via fd77:2::2"),
    }


def beyond(v4: str, v6: str) -> Mapping[str, tuple[str, ...]]:
    """Addresses of B's that R2 has a route of its own to."""
    return {
        R2: (f"route add {v4} via 10.77.3.2", f"route add {v6} via fd77:3::2"),
        B: (f"address add {v4} dev lo", f"address add {v6} dev lo nodad"),
    }


ROWS = [
    # No fault, or none that lasts.
    Row("open", NOTHING, None),
    Row("heals half-way", NOTHING, None, luck=True, heals_s=4.5,
        firewall={R: (f"forward {IN} drop",)}),
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
    Row("A has no route", (SOURCE, "", PROVEN), None, near=False,
        dial=("203.0.113.1", "2001:db8::1"), before=through("203.0.113.1/32", "2001:db8::1/128"),
        routes={A: ("route del 203.0.113.1/32 via 10.77.1.2",
                    "route del 2001:db8::1/128 via fd77:1::2")}),
    Row("A has a prohibiting route", (SOURCE, "", PROVEN), None, near=False,
        dial=("203.0.113.2", "2001:db8::2"), before=through("203.0.113.2/32", "2001:db8::2/128"),
        routes={A: ("route del 203.0.113.2/32 via 10.77.1.2",
                    "route del 2001:db8::2/128 via fd77:1::2",
                    "route add prohibit 203.0.113.2/32", "route add prohibit 2001:db8::2/128")}),
    Row("A has an unreachable route", (SOURCE, "", PROVEN), None, near=False,
        dial=("203.0.113.3", "2001:db8::3"), before=through("203.0.113.3/32", "2001:db8::3/128"),
        routes={A: ("route del 203.0.113.3/32 via 10.77.1.2",
                    "route del 2001:db8::3/128 via fd77:1::2",
                    "route add unreachable 203.0.113.3/32",
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
    Row("R2 has no route", (PATH, R2, PROVEN), None, near=False,
        dial=("10.77.8.1", "fd77:8::1"), before=beyond("10.77.8.1/32", "fd77:8::1/128"),
        routes={R2: ("route del 10.77.8.1/32 via 10.77.3.2",
                     "route del fd77:8::1/128 via fd77:3::2")}),
    Row("routing loop", (PATH, "?", LIKELY), None, near=False,
        dial=("10.77.9.1", "fd77:9::1"), before=beyond("10.77.9.1/32", "fd77:9::1/128"),
        routes={R2: ("route del 10.77.9.1/32 via 10.77.3.2",
                     "route del fd77:9::1/128 via fd77:3::2")}),
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
        protocol="https",
        before={R2: ("link set n4 mtu 1500",)}, routes={R2: (f"link set n4 mtu {NARROW}",)},
        heals={R2: ("link set n4 mtu 1500",)},
        firewall={R2: (
            "output ip daddr 10.77.1.1 icmp type destination-unreachable icmp code 4 drop",
            "output ip6 daddr fd77:1::1 icmpv6 type packet-too-big drop",
        )}),
    Row("MTU found out", NOTHING, None, server="answers", size=20_000, dial=B2,
        protocol="https",
        before={R2: ("link set n4 mtu 1500",)}, routes={R2: (f"link set n4 mtu {NARROW}",)},
        heals={R2: ("link set n4 mtu 1500",)}),
    Row("payload dropped by R2", (PATH, R2, LIKELY), NOTHING, server="answers",
        firewall={R2: (f"forward {IN} tcp flags & psh == psh drop",)}),
    Row("payload rejected by R with RST", (PATH, R, LIKELY), None, server="answers",
        firewall={R: (f"forward {IN} tcp flags & psh == psh reject with tcp reset",)}),
    Row("R2 drops before it routes", (PATH, R, LIKELY), None, truth=((PATH, R2),),
        firewall={R2: ("early", f"early {IN} drop")}),
    Row("R loses every second SYN", NOTHING, None, luck=True,
        firewall={R: (f"forward {IN} tcp flags syn numgen inc mod 2 == 0 drop",)}),
    Row("R loses three in ten", NOTHING, None, luck=True,
        firewall={R: (f"forward {IN} numgen random mod 10 < 3 drop",)}),
    Row("IPv6 broken, IPv4 fine", (PATH, R, LIKELY), None, well=("v4",),
        firewall={R: (f"forward meta nfproto ipv6 {IN} drop",)}),
    Row("IPv4 broken, IPv6 fine", (PATH, R, LIKELY), None, well=("v6",),
        firewall={R: (f"forward meta nfproto ipv4 {IN} drop",)}),
    Row("R2 has a blackhole route", (PATH, R, LIKELY), None, truth=((PATH, R2),),
        near_dial=("10.77.3.3", "fd77:3::3"),
        routes={R2: ("route add blackhole 10.77.3.2/32", "route add blackhole fd77:3::2/128")}),
    Row("R2's link to B is down", (PATH, R2, PROVEN), None, near=False,
        routes={R2: ("link set n3 down",)},
        heals={R2: ("link set n3 up", "address add fd77:3::1/64 dev n3 nodad")}),
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
        dial=("10.77.1.99", "fd77:1::99"), serves=R,
        before={R: ("address add 10.77.1.99/24 dev n1", "address add fd77:1::99/64 dev n1 nodad")},
        routes={R: ("address del 10.77.1.99/24 dev n1", "address del fd77:1::99/64 dev n1"),
                A: ("neigh flush dev n1",)},
        heals={R: ("address add 10.77.1.99/24 dev n1", "address add fd77:1::99/64 dev n1 nodad")}),
    Row("host absent, behind R2", (THERE, "?", LIKELY), None, near=False, witness="none",
        dial=("10.77.3.99", "fd77:3::99"),
        before={B: ("address add 10.77.3.99/24 dev n3", "address add fd77:3::99/64 dev n3 nodad")},
        routes={B: ("address del 10.77.3.99/24 dev n3", "address del fd77:3::99/64 dev n3"),
                R2: ("neigh flush dev n3",)},
        heals={B: ("address add 10.77.3.99/24 dev n3", "address add fd77:3::99/64 dev n3 nodad")}),
    Row("B hands on, and nothing listens there", (SERVICE, B, LIKELY), NOTHING, server="nothing",
        may_say=(SERVICE, "", LIKELY),
        firewall={B: ("nat", "hand on")}),
    Row("B hands on beside a listener", (THERE, B, LIKELY), NOTHING,
        firewall={B: ("nat", "hand on")}),
    # The way back.
    Row("R drops what comes back", (BACK, R, LIKELY), (BACK, "", LIKELY),
        firewall={R: (f"forward {OUT} drop",)}),
    Row("R2 drops what comes back", (BACK, R2, LIKELY), (BACK, "", LIKELY),
        firewall={R2: (f"forward {OUT} drop",)}),
    Row("B has no route back", (BACK, B, LIKELY), None,
        before={A: ("route add 10.77.3.2/32 via 10.77.1.2 src 10.88.0.1",
                    "route add fd77:3::2/128 via fd77:1::2 src fd88::1"),
                B: ("route add 10.88.0.0/24 via 10.77.3.1", "route add fd88::/64 via fd77:3::1")},
        routes={B: ("route del 10.88.0.0/24 via 10.77.3.1", "route del fd88::/64 via fd77:3::1")},
        near=False),
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
    Row("UDP closed, says R", (PATH, R, PROVEN), None, transport="udp",
        firewall={R: (f"forward {UDP_IN} reject with icmpx port-unreachable",)}),
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
        deployed=(THERE, "", LIKELY),  # for the map sees its agent fall silent
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
        firewall={R2: (f"forward {IN} drop",), B: (f"input udp dport {DROPPED} drop",)}),
    Row("R2 drops what comes back, and A drops much else", (BACK, R2, LIKELY), (BACK, "", LIKELY),
        drops_much=A,
        firewall={R2: (f"forward {OUT} drop",), A: (f"input udp dport {DROPPED} drop",)}),
    Row("the way back heals half-way", NOTHING, None, luck=True, heals_s=4.5,
        firewall={R: (f"forward {OUT} drop",)}),
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
        server="answers", size=1400, dial=B2, called_only=SHORT,
        before={R2: ("link set n4 mtu 1500",)}, routes={R2: (f"link set n4 mtu {NARROW}",)},
        heals={R2: ("link set n4 mtu 1500",)},
        firewall={R2: (
            "output ip daddr 10.77.1.1 icmp type destination-unreachable icmp code 4 drop",
            "output ip6 daddr fd77:1::1 icmpv6 type packet-too-big drop",
        )}),
    Row("UDP too long for a link", NOTHING, None, transport="udp", server="answers", size=1400,
        dial=B2, called_only=SHORT,
        before={R2: ("link set n4 mtu 1500",)}, routes={R2: (f"link set n4 mtu {NARROW}",)},
        heals={R2: ("link set n4 mtu 1500",)}),
    Row("R drops, much else goes on", (PATH, R, LIKELY), None, noise=True,
        firewall={R: (f"forward {IN} drop",)}),
]  # fmt: skip


OUTCOMES: Final[Mapping[Outcome, tuple[str, ...]]] = {
    OPEN: (
        "open",
        "heals half-way",
        "the way back heals half-way",
        "MTU found out",
        "R loses every second SYN",
        "R loses three in ten",
    ),
    REFUSED: (
        "A rejects with RST",
        "R rejects with RST",
        "R2 rejects with RST",
        "R rejects with RST, the witness says it is closed",
        "B rejects with RST",
        "B rejects with RST, much else goes on",
        "B hands on, and nothing listens there",
        "B hands on beside a listener",
        "nothing listens",
        "nothing listens, much else goes on",
        "nothing listens, no agent on B",
        "UDP closed",
    ),
    REJECTED: (
        "A rejects: port unreachable",
        "A rejects: prohibited",
        "A has a prohibiting route",
        "R rejects: port unreachable",
        "R2 rejects: prohibited",
        "B rejects: port unreachable",
        "B rejects: prohibited",
        "UDP dropped by A",
        "UDP rejected by R",
        "UDP closed, says R",
    ),
    UNREACHABLE: (
        "A has no route",
        "A has an unreachable route",
        "R2 rejects: no route",
        "R2 rejects: host unreachable",
        "R2 has no route",
        "routing loop",
        "R2's link to B is down",
        "host absent, same segment",
        "host absent, behind R2",
    ),
    STALLED: (
        "A drops its payload",
        "payload dropped by R",
        "MTU black hole",
        "payload dropped by R2",
        "B drops the payload",
        "R2 drops the answer's payload",
        "A drops the answer's payload",
        "silent server",
        "silent server, the witness lies",
    ),
    RESET: (
        "A rejects its payload with RST",
        "payload rejected by R with RST",
        "accepted, then RST",
    ),
    WRONG_PEER: (
        "R answers for B",
        "DNAT to another host",
    ),
}
"""What checks see, by the names of the rows; all others time out."""


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


PORT = 7001
"""Each row has it for itself."""


def as_given(row: Row, family: str, *, raw: bool) -> dict[str, Any]:
    """A row as the lab wants it, in one family."""
    place = 0 if family == "v4" else 1
    return {
        **_shared(row, (family,), raw=raw),
        "family": family,
        "size": row.size,
        "dial": _dialled(row)[place],
        "near_dial": row.near_dial[place] if row.near_dial else "",
    }


def as_deployed(row: Row, *, raw: bool) -> dict[str, Any]:
    """A row as a whole deployment wants it, in all its families at once."""
    places = [("v4", "v6").index(family) for family in row.families]
    by_agent = row.server == "listener" and row.witness != "none"
    return {
        **_shared(row, row.families, raw=raw),
        "server": "" if by_agent else "answers",
        "turns": row.server if row.server not in ("listener", "answers") else "",
        "serves": row.serves,
        "protocol": row.protocol or _PROTOCOLS.get((row.transport, row.server), row.transport),
        "dial": [_dialled(row)[place] for place in places],
        "near_dial": [row.near_dial[place] for place in places] if row.near_dial else [],
        "heals": {name: list(lines) for name, lines in (row.heals or _contrary(row)).items()},
        "well": list(row.well if row.outcome is not OPEN else row.families),
        "luck": row.luck,
        "tells": row.name in TELLS,
    }


TELLS = ("R drops", "R rejects: port unreachable", "B drops its input", "DNAT to another host")
"""Rows of which the command line is asked, too."""

_PROTOCOLS = {("tcp", "answers"): "http", ("tcp", "silent"): "http", ("tcp", "resets"): "http"}
"""What shows whether a server does its work; for others a connection does."""


def _dialled(row: Row) -> tuple[str, str]:
    return row.dial or (ADDRESSES["v4"]["b"], ADDRESSES["v6"]["b"])


def _contrary(row: Row) -> dict[str, list[str]]:
    """What undoes what `ip` did: last things first."""
    swap = {"add": "del", "del": "add"}
    undone = {}
    for name, lines in row.routes.items():
        words = [line.split() for line in reversed(lines)]
        undone[name] = [
            " ".join((one[0], swap[one[1]], *one[2:])) for one in words if one[1] in swap
        ]
    return undone


def _shared(row: Row, families: tuple[str, ...], *, raw: bool) -> dict[str, Any]:
    return {
        "name": row.name,
        "raw": raw,
        "port": PORT,
        "transport": row.transport,
        "server": row.server,
        "near": row.near,
        "before": {name: list(lines) for name, lines in row.before.items()},
        "firewall": {
            # What is said for both families is said once.
            name: list(
                dict.fromkeys(
                    line for family in families for line in rules(row, name, PORT, family)
                )
            )
            for name in row.firewall
        },
        "routes": {name: list(lines) for name, lines in row.routes.items()},
        "settings": {name: dict(value) for name, value in row.settings.items()},
        "witness": row.witness,
        "noise": row.noise,
        "drops_much": row.drops_much,
        "heals_s": row.heals_s,
    }


def expected(row: Row, family: str, *, raw: bool) -> Told:
    """What is to be told by whoever looks into it."""
    if family in row.well:
        return NOTHING
    return row.seen if raw or row.blind is None else row.blind


def proven(row: Row, family: str) -> tuple[tuple[Cause, str], ...]:
    """What may be told as proven."""
    return () if family in row.well else row.truth or (row.seen[:2],)


CASES = [
    (row, family, raw)
    for row in ROWS
    for family in row.families
    for raw in (True, False)
    if raw or family == "v4" or row.blind is not None
]
"""Rows, families, and whether agents may look at packets; left out is what would tell nothing new."""


DEPLOYED = [case for case in CASES if not case[0].called_only]
"""Those that a whole deployment meets."""


def named(address: str | None, family: str) -> str:
    """Whose address it is, or the address itself where the lab has no such host."""
    names = {one: name for name, one in ADDRESSES[family].items()} | FROM_B[family]
    return names.get(address or "", address or "")
