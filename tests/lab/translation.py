"""The lab with address translation on the way: what a challenge finds out. Run like lab.py.

B and R have an agent's listeners each, R translates some ports, and A checks B.
"""

import asyncio
import json
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Final

from lab import PR_SET_PDEATHSIG, Impossible, Lab, _call

from reachmap_agent import clock
from reachmap_agent.ceded import Ceded
from reachmap_agent.credentials import Contexts
from reachmap_agent.engine.engine import Engine
from reachmap_agent.listeners import Listeners
from reachmap_agent.prober import Job, Prober
from reachmap_agent.wire.proof import Identity
from reachmap_shared import keys
from reachmap_shared.messages import CheckSpec, ListenerSpec, Observation, Plan
from reachmap_shared.vocabulary import Transport

SECRET: Final = b"the lab's"
DIRECT, SOURCE, DESTINATION, ELSEWHERE, ARRIVED = 5000, 5001, 5002, 5003, 5099
PORTS: Final = {
    "direct": DIRECT,
    "source": SOURCE,
    "destination": DESTINATION,
    "elsewhere": ELSEWHERE,
}

RULES: Final = f"""
add table inet lab_nat
add chain inet lab_nat before {{ type nat hook prerouting priority -100; }}
add chain inet lab_nat after {{ type nat hook postrouting priority 100; }}
add rule inet lab_nat after meta l4proto {{ tcp, udp }} th dport {SOURCE} masquerade
add rule inet lab_nat before meta l4proto {{ tcp, udp }} th dport {DESTINATION} redirect_to
add rule inet lab_nat before meta l4proto {{ tcp, udp }} th dport {ELSEWHERE} redirect
"""
"""On R: A's address is hidden, B's port is another, and R answers in B's place."""


def rules() -> str:
    """With the translation of B's port in both families."""
    lines = [line for line in RULES.splitlines() if "redirect_to" not in line]
    for family, address in (("ip", "10.77.3.2"), ("ip6", "[fd77:3::2]")):
        protocol = "nfproto ipv4" if family == "ip" else "nfproto ipv6"
        for transport in ("tcp", "udp"):
            lines.append(
                f"add rule inet lab_nat before meta {protocol} {transport} dport {DESTINATION} "
                f"dnat {family} to {address}:{ARRIVED}"
            )
    return "\n".join(lines)


def identity(host: str) -> Identity:
    """Who the listeners of a host are."""
    return Identity(host, keys.host_key(SECRET, host), keys.deployment_key(SECRET))


async def observe(lab: Lab, folder: Path) -> list[dict[str, object]]:
    """Check every case in both families and transports."""
    contexts = Contexts.from_pem("")
    results: list[dict[str, object]] = []
    listeners = []
    for host, ports in (("b", (DIRECT, SOURCE, ARRIVED)), ("r", (ELSEWHERE,))):
        with lab.inside(host):
            made = Listeners((), Ceded(folder / f"{host}.json"))
            made.apply(
                [
                    ListenerSpec(f"x:{port}", port, transport, protocol)
                    for port in ports
                    for transport, protocol in ((Transport.TCP, "tcp"), (Transport.UDP, "udp"))
                ],
                contexts,
                identity(host),
            )
            listeners.append(made)
    engine = Engine(asyncio.get_running_loop())
    prober = Prober(engine, clock.system())
    belongs = keys.to_text(keys.deployment_key(SECRET))
    plan = Plan("a", "1", 10, 3, "", belongs, "", (), ())
    key = keys.to_text(keys.pair_key(keys.host_key(SECRET, "b"), keys.source_id("a")))
    for name, port in PORTS.items():
        for address in ("10.77.3.2", "fd77:3::2"):
            for transport, protocol in ((Transport.TCP, "tcp"), (Transport.UDP, "udp")):
                spec = CheckSpec("b", f"x:{port}", address, port, transport, protocol, key)
                ended: asyncio.Future[Observation] = asyncio.Future()
                with lab.inside("a"):
                    prober.start(Job.of(0, spec, plan, contexts), 3.0, ended.set_result)
                seen = asdict(await ended)
                family = "v6" if ":" in address else "v4"
                results.append({"name": f"{name} {transport}", "family": family, **seen})
    engine.close()
    for made in listeners:
        made.close()
    return results


def main() -> None:
    """Set up, check, tell."""
    # Whoever started it may be killed before it ends.
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    json.load(sys.stdin)
    lab = Lab()
    try:
        lab.build()
        lab.wait()
        lab.run("r", "nft", "-f", "-", given=rules())
    except Impossible as error:
        sys.exit(f"impossible: {error}")
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps(asyncio.run(observe(lab, Path(folder)))) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
