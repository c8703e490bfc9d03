"""A host's own counters, from /proc/net: text to numbers, and how far they grew. Pure.

They count for the whole host (for one network namespace), so they corroborate and prove nothing
alone. What is read is /proc/net/snmp, snmp6 and netstat (proc(5)).
"""

from collections.abc import Mapping
from typing import Final

from reachmap_shared.diagnosis import Counters

Values = Mapping[str, int]
"""By names as in `Tcp.OutRsts`; those of IPv6 as in `Ip6InReceives`."""

FILES: Final = ("snmp", "snmp6", "netstat")

_BOTH: Final = {
    "resets_out": "Tcp.OutRsts",
    "listen_overflows": "TcpExt.ListenOverflows",
    "reverse_path": "TcpExt.IPReversePathFilter",
    "retransmit_failures": "TcpExt.TCPRetransFail",
}
_OF_ONE: Final = {
    4: {
        "no_route": "Ip.OutNoRoutes",
        "udp_no_port": "Udp.NoPorts",
        "unreachables_out": "Icmp.OutDestUnreachs",
        "forwarded": "Ip.ForwDatagrams",
    },
    6: {
        "no_route": "Ip6OutNoRoutes",
        "udp_no_port": "Udp6NoPorts",
        "unreachables_out": "Icmp6OutDestUnreachs",
        "forwarded": "Ip6OutForwDatagrams",
    },
}
_RECEIVED: Final = {
    # What came in, and what became of it when all was well.
    4: ("Ip.InReceives", ("Ip.InDelivers", "Ip.ForwDatagrams")),
    6: ("Ip6InReceives", ("Ip6InDelivers", "Ip6OutForwDatagrams")),
}


def parse(text: str) -> dict[str, int]:
    """The numbers of one file: lines of `NAME VALUE`, or pairs of lines of names and of values."""
    found: dict[str, int] = {}
    names: list[str] = []
    for line in text.splitlines():
        head, *rest = line.split() or [""]
        if not head.endswith(":"):
            found[head] = _number(rest[0]) if rest else 0
        elif not names:
            names = rest
        else:
            found.update(
                (head[:-1] + "." + name, _number(value))
                for name, value in zip(names, rest, strict=False)
            )
            names = []
    return found


def _number(text: str) -> int:
    return int(text) if text.lstrip("-").isdigit() else 0


def grown(before: Values, after: Values, version: int) -> Counters:
    """How far what matters has grown, for one version of IP."""

    def by(name: str) -> int:
        return max(0, after.get(name, 0) - before.get(name, 0))

    received, dealt_with = _RECEIVED[version]
    lost = max(0, by(received) - sum(map(by, dealt_with)))
    named = _BOTH | _OF_ONE[version]
    return Counters(not_delivered=lost, **{field: by(name) for field, name in named.items()})
