"""Who dropped it, end to end: real faults between real agents, told by `reachmap flows`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("deployment.py")

R = {"v4": "10.77.1.2", "v6": "fd77:1::2"}
B = {"v4": "10.77.3.2", "v6": "fd77:3::2"}
R2 = {"v4": "10.77.3.1", "v6": "fd77:3::1"}
"""On the way back, as B sees it."""

FOUND_WITHIN_S = 10.0
"""From when the flow is known to be broken."""

NAT = "add table inet nat", "add chain inet nat before { type nat hook prerouting priority -100; }"
TO_R2 = tuple(
    f"add rule inet nat before meta nfproto {nfproto} tcp dport 7106 dnat {ip} to {where}"
    for nfproto, ip, where in (
        ("ipv4", "ip", "10.77.2.2:7002"),
        ("ipv6", "ip6", "[fd77:2::2]:7002"),
    )
)


def fault(
    name: str, source: str, port: int, host: str = "", *rules: str, stops: bool = False
) -> dict[str, Any]:
    """A fault as the program wants it: a firewall's rules on a host, or a service that stops."""
    firewall = {host: [rule.format(port=port) for rule in rules]} if host else {}
    return {"name": name, "source": source, "port": port, "firewall": firewall, "stops": stops}


FORWARD = "add rule inet lab forward tcp"
PROHIBITED = "reject with icmpx admin-prohibited"
ROUNDS = [
    # No more than two at once: a host is a witness of four checks at a time. Each from a source of
    # its own, which looks into two flows to an address and then into one a minute.
    [
        fault("R drops", "a1", 7101, "r", f"{FORWARD} dport {{port}} drop"),
        fault("R rejects", "a2", 7102, "r", f"{FORWARD} dport {{port}} {PROHIBITED}"),
    ],
    [
        fault("B drops", "a3", 7103, "b", "add rule inet lab input tcp dport {port} drop"),
        fault("SYN-ACK lost", "a4", 7104, "r2", f"{FORWARD} sport {{port}} drop"),
    ],
    [
        fault("nothing listens", "a5", 7105, stops=True),
        {**fault("DNAT", "a6", 7106), "firewall": {"r": [*NAT, *TO_R2]}},
    ],
]

EXPECTED = {
    "R drops": ("timeout", "path", R, "likely"),
    "R rejects": ("rejected", "path", R, "proven"),
    "B drops": ("timeout", "destination-host", B, "likely"),
    "SYN-ACK lost": ("timeout", "return-path", R2, "likely"),
    "nothing listens": ("refused", "service", B, "likely"),
    "DNAT": ("wrong-peer", "middlebox", R, "likely"),
}


@pytest.fixture(scope="module")
def told(laboratory: Any) -> list[dict[str, Any]]:
    """What was told of each flow."""
    results: list[dict[str, Any]] = laboratory.collect(ROUNDS, PROGRAM, 150)
    return results


@pytest.mark.timeout(200)
@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("name", EXPECTED)
def test_who_dropped_it_is_on_the_map(
    told: list[dict[str, Any]], name: str, family: str, record: Callable[..., None]
) -> None:
    """Outcome, cause, device and confidence, soon; and `explain` tells it as a story."""
    [one] = [one for one in told if (one["name"], one["family"]) == (name, family)]
    outcome, cause, at, confidence = EXPECTED[name]
    flow = one["flow"]
    record(
        f"{name} ({family}, end to end)",
        f"{cause} {at[family]} {confidence}",
        f"{flow['cause']} {flow['at'] or ''} {flow['confidence']} in {one['took_s']:.1f} s",
        "; ".join(flow["evidence"]),
    )
    seen = flow["outcome"], flow["cause"], flow["at"], flow["confidence"]
    assert seen == (outcome, cause, at[family], confidence), flow["evidence"]
    assert flow["state"] == "broken"
    assert one["took_s"] < FOUND_WITHIN_S
    where = f" at {flow['at']}" if flow["at"] else ""
    assert f"{cause}{where} ({confidence})" in one["explained"]
    assert "together" in one["explained"]


def test_what_works_stays_well_meanwhile(told: list[dict[str, Any]]) -> None:
    """On the same hosts, at the same time; and what heals leaves no cause behind."""
    near = [one["flow"] for one in told if one["name"] == "open"]
    assert len(near) == len(ROUNDS) * 12
    healed = [
        one["flow"] for one in told if one["name"] == "healed" and one["flow"]["port"] != 7105
    ]
    assert len(healed) == 12 + 10
    for flow in (*near, *healed):
        assert (flow["state"], flow["outcome"]) == ("ok", "open")
        assert (flow["cause"], flow["at"], flow["confidence"]) == (None, None, None)
