"""A visitor who half-closes and then acknowledges nothing more. Run like lab.py.

Once it has closed its side, the firewall drops all that it sends.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from lab import PR_SET_PDEATHSIG, _call

from reachmap_agent.ceded import Ceded
from reachmap_agent.credentials import Contexts
from reachmap_agent.limits import ListenerLimits
from reachmap_agent.listeners import Listeners
from reachmap_agent.wire.proof import Identity
from reachmap_shared.messages import ListenerSpec
from reachmap_shared.vocabulary import Transport

PORT: Final = 5000
PATIENCE_S: Final = 10.0
LISTEN, LAST_ACK = "0A", "09"

RULES: Final = f"""
add table inet last_ack
add chain inet last_ack output {{ type filter hook output priority 0; }}
add rule inet last_ack output tcp dport {PORT} tcp flags & (fin | rst) == 0 drop
"""


def run(*command: str, given: str = "") -> None:
    """Run a program of the system's, which may not be on a user's path."""
    path = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    subprocess.run([path or command[0], *command[1:]], input=given, text=True, check=True)


def drop_acknowledgements() -> None:
    """From now on only what ends a connection arrives."""
    run("nft", "-f", "-", given=RULES)


def states() -> list[str]:
    """What the kernel's sockets on the port are doing."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [line.split()[3] for line in lines if line.split()[1].endswith(f":{PORT:04X}")]


async def until(wanted: list[str]) -> float:
    """How long it takes until the port's sockets are these."""
    began = time.monotonic()
    while sorted(states()) != sorted(wanted) and time.monotonic() < began + PATIENCE_S:
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def observe(folder: Path) -> dict[str, object]:
    """How long such a one holds the port of a listener that has closed it."""
    limits = ListenerLimits()
    listeners = Listeners(("127.0.0.1",), Ceded(folder / "ceded.json"), limits)
    spec = ListenerSpec("x:1", PORT, Transport.TCP, "http")
    listeners.apply([spec], Contexts.from_pem(""), Identity("b", b"host", b"deployment"))
    with socket.create_connection(("127.0.0.1", PORT)) as visitor:
        while not listeners._reception.connections:
            await asyncio.sleep(0.01)
        drop_acknowledgements()
        visitor.shutdown(socket.SHUT_WR)
        appears_s = await until([LISTEN, LAST_ACK])
        listeners.close()
        left = states()
        held_s = await until([])
    return {
        "name": "half-close",
        "family": "v4",
        "was_held": appears_s < PATIENCE_S and left == [LAST_ACK],
        "held_s": held_s,
        "farewell_s": limits.farewell_s,
    }


def main() -> None:
    """Set up, look, tell."""
    # Whoever started it may be killed before it ends.
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    json.load(sys.stdin)
    run("ip", "link", "set", "lo", "up")
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(json.dumps([asyncio.run(observe(Path(folder)))]) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
