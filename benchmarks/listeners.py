"""What listeners cost: accepts a second against a C accept loop, idle strangers, and a burst.

`python benchmarks/listeners.py` prints each figure with its goal. Client and server have a core
each, rounds alternate between the contestants, and medians are printed.

That 10,000 strangers cost little is for a reason that should be told with the figure: the agent
gives few of them a place, and resets the others, most of them unheard. They all come from one
address; of those who come from many, more must be heard.
"""

import asyncio
import gc
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common import ADDRESS, build, free_port, on_core

ROUNDS = 5
COUNT = 60_000
IN_FLIGHT = 64
STRANGERS = 10_000
PROTOCOLS = ("tcp", "nats")

RATIO = 0.75
GROWTH_KB = 1024
SLOWEST_MS = 500.0


def main() -> None:
    """Measure everything and print it."""
    accept_rate()
    strangers()


def accept_rate() -> None:
    """Connections a second that one core takes, of those who wait until they are noticed."""
    floor = "C accept loop"
    rates: dict[str, list[float]] = {floor: []} | {name: [] for name in PROTOCOLS}
    costs: dict[str, list[float]] = {name: [] for name in rates}
    for _ in range(ROUNDS):
        for name in rates:
            port = free_port()
            command = [build("accept"), ADDRESS, str(port)] if name == floor else ours(port, name)
            with serving(command) as server:
                client = [build("visitors"), ADDRESS, str(port), str(COUNT), str(IN_FLIGHT)]
                before = cpu_s(server.pid)
                done = subprocess.run(on_core(0, client), capture_output=True, check=True)
                costs[name].append((cpu_s(server.pid) - before) * 1e6 / COUNT)
                rates[name].append(float(done.stdout.split()[0]))
    print("\nconnections accepted a second")
    medians = {name: statistics.median(of) for name, of in rates.items()}
    for name, median in medians.items():
        ratio = median / medians[floor]
        spread = f"({min(rates[name]):,.0f} to {max(rates[name]):,.0f})"
        cost = f"{statistics.median(costs[name]):5.1f} us of CPU each"
        goal = "" if name == floor else f"of C {ratio:.2f}, {verdict(ratio >= RATIO)} {RATIO}"
        print(f"  {name:15} {median:>9,.0f}  {spread:20}  {cost}   {goal}")


def strangers() -> None:
    """A burst of connections that then sit there."""
    print(f"\n{STRANGERS:,} strangers connect at once, say nothing, and stay")
    for name in (*PROTOCOLS, "http"):
        bursts = [burst(name) for _ in range(3)]
        growth = statistics.median(one.grown_kb for one in bursts)
        worst = max(one.slowest_ms for one in bursts)
        held, told = max(one.held for one in bursts), min(one.told for one in bursts)
        print(f"  {name:5} memory grows by {growth:,.0f} kB, {verdict(growth < GROWTH_KB)} 1 MB")
        print(f"        slowest connect {worst:.0f} ms, {verdict(worst < SLOWEST_MS)} 0.5 s")
        print(f"        {held} have a place, {told:,} were told something first")
        with subprocess.Popen(on_core(1, [sys.executable, "-c", "while True: pass"])) as other:
            try:
                worst = max(burst(name).slowest_ms for _ in range(3))
            finally:
                other.kill()
        print(
            "        slowest while another program wants the same core "
            f"{worst:.0f} ms, {verdict(worst < SLOWEST_MS)} 0.5 s"
        )


@dataclass(frozen=True)
class Burst:
    """What came of one."""

    grown_kb: int
    slowest_ms: float
    told: int
    held: int


def burst(protocol: str) -> Burst:
    """One burst, at a listener of its own."""
    port = free_port()
    with serving(ours(port, protocol)) as server:
        before, _ = asked(server)
        command = on_core(0, [build("strangers"), ADDRESS, str(port), str(STRANGERS)])
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as client:
            assert client.stdout is not None
            slowest, connected, told = client.stdout.readline().split()
            assert int(connected) == STRANGERS
            after, held = asked(server)
            client.communicate(b"")
    return Burst(after - before, float(slowest), int(told), held)


def verdict(is_met: bool) -> str:
    """What to say before a goal."""
    return "meets the goal of" if is_met else "MISSES the goal of"


def ours(port: int, protocol: str) -> list[str]:
    """The command that listens on a port as an agent does."""
    return [sys.executable, str(Path(__file__)), str(port), protocol]


@contextmanager
def serving(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server on a core of its own, that is ready."""
    pipe = subprocess.PIPE
    with subprocess.Popen(on_core(1, command), stdin=pipe, stdout=pipe) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield server
        finally:
            server.kill()


def asked(server: subprocess.Popen[bytes]) -> tuple[int, int]:
    """A server's memory in kB, and how many visitors it has."""
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(b"?\n")
    server.stdin.flush()
    memory, visitors = server.stdout.readline().split()
    return int(memory), int(visitors)


def cpu_s(pid: int) -> float:
    """What a process has worked so far, for the kernel's part in it too."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def serve(port: int, protocol: str) -> None:
    """Listen, and tell of memory and visitors whenever a line comes."""
    from reachmap_agent import descriptors
    from reachmap_agent.ceded import Ceded
    from reachmap_agent.credentials import Contexts
    from reachmap_agent.limits import ListenerLimits
    from reachmap_agent.listeners import Listeners
    from reachmap_agent.wire.proof import Identity
    from reachmap_shared import log
    from reachmap_shared.messages import ListenerSpec
    from reachmap_shared.vocabulary import Transport

    limits = ListenerLimits()
    descriptors.allow(limits.descriptors + limits.leaving)
    log.configure(quiet=True)
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def told() -> None:
        if not os.read(0, 100):
            ended.set_result(None)
            return
        gc.collect()
        # Unlike statm, which lags behind by some pages.
        memory = Path("/proc/self/smaps_rollup").read_text().partition("Rss:")[2].split()[0]
        print(memory, listeners._reception.connections, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        listeners = Listeners((ADDRESS,), Ceded(Path(folder) / "ceded.json"), limits)
        spec = ListenerSpec("role:1", port, Transport.TCP, protocol)
        listeners.apply([spec], Contexts.from_pem(""), Identity("b", b"host", b"deployment"))
        loop.add_reader(0, told)
        print("ready", flush=True)
        await ended
        listeners.close()


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
    else:
        main()
