"""How true the reported time to connect is, when the engine has more to do than its core can.

What is compared: `Attempt.connect_us`, the measure of the kernel's TCP (tcpi_rtt), with the time
between SYN and SYN-ACK as a packet capture sees it: two stamps that the network device's tap
puts on the packets (SO_TIMESTAMPNS), by another clock, in a layer below TCP, and read by another
process. The far end is no TCP either: a process behind a TUN device that answers each SYN by hand
after 1 to 20 ms, another time for each; a measure that were stuck, rounded, taken when somebody had
time to look, or another connection's would be far off. All is in a network namespace of its own.

Meanwhile the same engine dials a closed port of loopback as fast as it can, without a pause. What
its own clock says at the same time, as a prober without TCP_INFO would, is printed beside.

    accuracy.py               what `make bench` runs
    accuracy.py inside        within the namespace
    accuracy.py far-end       behind the TUN device, whose descriptor is standard input
"""

import asyncio
import fcntl
import heapq
import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from common import (
    HERE,
    figure,
    in_a_network_of_its_own,
    left_out,
    on_core,
    percentile,
    python_flags,
    stay_on_core,
)

from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.engine import Engine
from reachmap_shared.vocabulary import Outcome, Transport

CHECKS = 6_000
A_SECOND = 1_000
LOAD_IN_FLIGHT = 64
PORT = 80
GOAL_US = 50

DELAY_S = (0.001, 0.020)

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
SO_TIMESTAMPNS = 35
ETH_P_ALL = 3  # one that asks for IP alone is not shown what goes out
SYN, RST, ACK = 2, 4, 16


def main() -> None:
    """Measure in a namespace of our own, and print."""
    print("\ntime to connect, as reported and as captured, under full load")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        left_out("/dev/net/tun cannot be opened")
        return
    printed = in_a_network_of_its_own("accuracy.py", ["inside"])
    if printed is None:
        left_out("no network namespace can be made")
        return
    found = json.loads(printed)
    figure("connections compared", f"{len(found['kernel']):,}")
    figure("other checks meanwhile, a second", f"{found['load']:,.0f}")
    figure("delays", f"{min(found['truth']) / 1e3:.1f} to {max(found['truth']) / 1e3:.1f} ms")
    for name in ("kernel", "loop"):
        off = [abs(a - b) for a, b in zip(found[name], found["truth"], strict=True)]
        at_99, wanted = percentile(off, 99), f"{GOAL_US} us or less" if name == "kernel" else ""
        who = "as reported" if name == "kernel" else "by the engine's own clock"
        figure(f"off by, median, {who}", f"{percentile(off, 50):,.0f} us")
        figure(f"off by, 99th percentile, {who}", f"{at_99:,.0f} us", wanted, at_99 <= GOAL_US)


def inside() -> None:
    """Set the namespace up, run both ends, and print what both saw as JSON."""
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"far", IFF_TUN | IFF_NO_PI))
    for words in ("link set lo up", "addr add 10.99.0.1/16 dev far", "link set far up"):
        subprocess.run(["ip", *words.split()], check=True)
    stay_on_core(0)
    command = [sys.executable, *python_flags(), str(HERE / "accuracy.py"), "far-end"]
    with subprocess.Popen(
        on_core(1, command), stdin=tun, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = asyncio.run(_dial())
        process.terminate()
        captured = {tuple(key): took for key, took in json.loads(process.stdout.read())}
    reported = {key: (kernel, loop) for key, kernel, loop in found["seen"]}
    both = [key for key in reported if key in captured]
    print(
        json.dumps(
            {
                "truth": [captured[key] for key in both],
                "kernel": [reported[key][0] for key in both],
                "loop": [reported[key][1] for key in both],
                "load": found["load"],
            }
        )
    )


async def _dial() -> dict[str, Any]:
    """Check the far end A_SECOND times a second, and loopback whenever there is time."""
    loop = asyncio.get_running_loop()
    engine = Engine(loop)
    seen: list[tuple[tuple[str, int], int, int]] = []
    loaded = left = 0
    over = loop.create_future()

    def dial(host: str, port: int, done: "Callable[[Attempt], None]") -> None:
        engine.start(Attempt(Transport.TCP, (host, port), None, None, reset=True, done=done), 3.0)

    def ended(attempt: Attempt) -> None:
        nonlocal left
        left -= 1
        assert attempt.verdict is not None
        if attempt.verdict.outcome is Outcome.OPEN:
            by_clock = (attempt.connected_ns - attempt.started_ns) // 1000
            seen.append(((attempt.address[0], attempt.own[1]), attempt.connect_us, by_clock))
        if not left:
            over.set_result(None)

    def load(_ended: object = None) -> None:
        nonlocal loaded
        loaded += 1
        if not over.done():
            dial("127.0.0.1", 1, load)

    for _ in range(LOAD_IN_FLIGHT):
        load()
    began, left = time.monotonic(), CHECKS
    for number in range(CHECKS):
        await asyncio.sleep(began + number / A_SECOND - time.monotonic())
        dial(f"10.99.{1 + number // 250}.{1 + number % 250}", PORT, ended)
    async with asyncio.timeout(30):
        await over
    engine.close()
    return {"seen": seen, "load": loaded / (time.monotonic() - began)}


def far_end() -> None:
    """Answer each SYN that comes out of the device, later; at the end print what was captured."""
    tun = 0
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    tap.bind(("far", ETH_P_ALL))
    tap.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    tap.setblocking(False)
    os.set_blocking(tun, False)
    stamps: dict[tuple[str, int], list[int]] = {}
    answers: list[tuple[float, bytes]] = []
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    dice = random.Random(1)
    poller = select.poll()
    poller.register(tun, select.POLLIN)
    poller.register(tap, select.POLLIN)
    print("ready", flush=True)
    while not stopping:
        wait_ms = max(0.0, (answers[0][0] - time.monotonic()) * 1e3) if answers else 100.0
        poller.poll(wait_ms)
        while (packet := _read(tun)) is not None:
            if _flags(packet) & (SYN | RST | ACK) == SYN:
                at = time.monotonic() + dice.uniform(*DELAY_S)
                heapq.heappush(answers, (at, _syn_ack(packet)))
        while answers and answers[0][0] <= time.monotonic():
            os.write(tun, heapq.heappop(answers)[1])
        _drain(tap, stamps)
    once = [(key, (times[1] - times[0]) / 1e3) for key, times in stamps.items() if len(times) == 2]
    json.dump(once, sys.stdout)


def _read(tun: int) -> bytes | None:
    try:
        return os.read(tun, 2048)
    except BlockingIOError:
        return None


def _drain(tap: socket.socket, stamps: dict[tuple[str, int], list[int]]) -> None:
    """Note when each SYN went out, and when its answer came in, by the tap's stamps."""
    while True:
        try:
            packet, ancillary, _, _ = tap.recvmsg(128, 64)
        except BlockingIOError:
            return
        flags = _flags(packet)
        if not flags & SYN:
            continue
        seconds, nanoseconds = struct.unpack("qq", ancillary[0][2])
        source, destination = packet[12:16], packet[16:20]
        ports = struct.unpack("!HH", packet[20:24])
        far, port = (source, ports[1]) if flags & ACK else (destination, ports[0])
        stamp = seconds * 1_000_000_000 + nanoseconds
        stamps.setdefault((socket.inet_ntoa(far), port), []).append(stamp)


def _flags(packet: bytes) -> int:
    """TCP's flags; none of what is no TCP over IPv4 without options."""
    return packet[33] if len(packet) >= 40 and packet[0] == 0x45 and packet[9] == 6 else 0


def _syn_ack(syn: bytes) -> bytes:
    """The answer to a SYN (RFC 9293, 3.1): the least that makes a connection."""
    source, destination = syn[12:16], syn[16:20]
    here, there, sequence = struct.unpack("!HHI", syn[20:28])
    tcp = struct.pack(
        "!HHIIBBHHH", there, here, 1, (sequence + 1) % 2**32, 5 << 4, SYN | ACK, 65535, 0, 0
    )
    pseudo = destination + source + struct.pack("!HH", 6, len(tcp))
    tcp = tcp[:16] + _checksum(pseudo + tcp) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + destination + source
    return ip[:10] + _checksum(ip) + ip[12:] + tcp


def _checksum(data: bytes) -> bytes:
    """The internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)


if __name__ == "__main__":
    {"": main, "inside": inside, "far-end": far_end}["".join(sys.argv[1:])]()
