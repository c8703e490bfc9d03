"""Whatever a stolen endpoint may send: it is refused and counted, and nobody else is harmed.

Mallory has credentials of its own, which any enrolled host has, and uses them without our agent.
"""

import asyncio
import json
import random
import socket
from pathlib import Path

from accounts import Books, is_level, settle
from deployment import Deployment, running
from figures import Figures

from reachmap_collector.identity.servers import Mode
from reachmap_shared import bus, codec, subjects
from reachmap_shared.access import Access
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.messages import Hello, Presence, Report, ReportKind
from reachmap_shared.permissions import Party, inbox

ROUNDS = 10
SHORT = 1
MALLORY = "mallory"
MANY = 20

DUPLICATES = "reports told again, out of order"
RANDOM, TORN, FUTURE = "random octets", "torn reports", "reports of a future version"
LARGE, FALSE_NAME = "900 kB of random octets", "reports that claim another name"
REFUSED = (RANDOM, TORN, FUTURE, LARGE, FALSE_NAME)


def main(folder: Path, rounds: int, dice: random.Random) -> Figures:
    """Send one of each, many times, while services come and go."""
    figures = Figures("rubbish")
    deployment = Deployment(folder, dice, clients=2)
    mallory = Access(credentials=deployment.enroll(MALLORY), inbox=inbox(MALLORY))
    books = Books(deployment)
    with running(deployment):
        for round_ in range(rounds):
            for port in dice.sample(deployment.services.ports, 4):
                deployment.services.toggle(port)
            asyncio.run(_send_again(deployment, dice, figures))
            asyncio.run(_send_rubbish(deployment, mallory, dice, figures))
            asyncio.run(_impersonate(deployment, mallory, figures))
            asyncio.run(_put_wrong_plans(deployment, figures))
            _send_too_much(deployment, mallory, figures)
            if not is_level(books, figures, f"{round_ + 1} of {rounds}"):
                break
        expected = sum(figures.faults[kind] for kind in REFUSED)
        refused = _refused(deployment)
        figures.expect(refused == expected, f"{expected} were to be refused, {refused} were")
        known = {row["agent"] for row in deployment.ask("agents")["agents"]}
        figures.expect(MALLORY not in known, "Mallory became an agent by rubbish")
        settle(books, figures)
    return figures


def _refused(deployment: Deployment) -> int:
    return sum(deployment.ask("status")["refused_messages"].values())


async def _send_again(deployment: Deployment, dice: random.Random, figures: Figures) -> None:
    """What an agent said for some seconds, twice more and shuffled."""
    agent = deployment.clients[0]
    heard: list[bytes] = []
    collector = deployment.identities.access(Party.COLLECTOR, Mode.JWT)
    async with bus.connected(deployment.urls, "soak", collector) as connection:
        await connection.listen(subjects.report(agent), lambda one: heard.append(one.payload))
        async with asyncio.timeout(30):
            while len(heard) < 2:
                await asyncio.sleep(0.1)
        again = heard * 2
        dice.shuffle(again)
        for payload in again:
            await connection.publish(subjects.report(agent), payload)
        await connection.flush()
        figures.faults[DUPLICATES] += len(again)


async def _send_rubbish(
    deployment: Deployment, mallory: Access, dice: random.Random, figures: Figures
) -> None:
    report = codec.encode(Report(MALLORY, "boot", 1, 1, 1, ReportKind.CHANGES, bytes(100)))
    false = codec.encode(
        Report(deployment.clients[0], "boot", 1, 1, 1, ReportKind.ROLL_UP, bytes(100))
    )
    version = bytes([report[0], codec.SCHEMA + 1])
    async with bus.connected(deployment.urls, MALLORY, mallory) as connection:
        for _ in range(MANY):
            payloads = {
                RANDOM: dice.randbytes(dice.randrange(2000)),
                TORN: report[: dice.randrange(len(report))],
                FUTURE: version + report[2:],
                FALSE_NAME: false,
            }
            for kind, payload in payloads.items():
                await connection.publish(subjects.report(MALLORY), payload)
                figures.faults[kind] += 1
        for _ in range(3):
            await connection.publish(subjects.report(MALLORY), dice.randbytes(900_000))
            figures.faults[LARGE] += 1
        await connection.flush()


async def _impersonate(deployment: Deployment, mallory: Access, figures: Figures) -> None:
    """Say something in another's name where that one speaks: the server refuses."""
    victim = deployment.clients[0]
    said = Hello(victim, "boot", Presence.LEAVING, "", "", "", (), (), (), 5.0, 0)
    listener = deployment.identities.access(Party.COLLECTOR, Mode.JWT)
    reached: list[str] = []

    def hear(delivery: bus.Delivery) -> None:
        if delivery.payload == codec.encode(said):
            reached.append(delivery.subject)

    async with (
        bus.connected(deployment.urls, "soak", listener) as ear,
        bus.connected(deployment.urls, MALLORY, mallory) as connection,
    ):
        names = (subjects.hello, subjects.pulse, subjects.report, subjects.ask, subjects.plan)
        for name in names:
            await ear.listen(name(victim), hear)
        await ear.flush()
        for name in names:
            await connection.publish(name(victim), codec.encode(said))
            figures.faults["words in another's name"] += 1
        await connection.flush()
        await ear.flush()
        await asyncio.sleep(0.2)
    figures.expect(not reached, f"Mallory spoke in another's name: {reached}")
    figures.expect(not await _reads(deployment, mallory, victim), "Mallory read another's plan")


async def _reads(deployment: Deployment, mallory: Access, victim: str) -> bool:
    """Whether it gets another's plan, with its keys."""
    async with bus.connected(deployment.urls, MALLORY, mallory) as connection:
        try:
            await connection.request(subjects.last_plan(victim), b"", 0.5)
        except BusUnavailable:
            return False
        return True


async def _put_wrong_plans(deployment: Deployment, figures: Figures) -> None:
    """Where only the collector may: a plan for somebody else, and what is none."""
    first, second = deployment.clients[:2]
    collector = deployment.identities.access(Party.COLLECTOR, Mode.JWT)
    async with bus.connected(deployment.urls, "soak", collector) as connection:
        right, other = await _plan(connection, first), await _plan(connection, second)
        for payload in (other, b"\x00rubbish", right[: len(right) // 2]):
            await connection.publish(subjects.plan(first), payload)
            figures.faults["a wrong plan for an agent"] += 1
        await connection.flush()
        async with asyncio.timeout(30):
            while await _plan(connection, first) != right:
                await asyncio.sleep(0.1)


async def _plan(connection: Bus, agent: str) -> bytes:
    return (await connection.request(subjects.last_plan(agent), b"", 2)).payload


def _send_too_much(deployment: Deployment, mallory: Access, figures: Figures) -> None:
    """10 MB: the server says no before it has read them."""
    with socket.create_connection(("127.0.0.1", deployment.ports[0]), timeout=10) as connection:
        nonce = json.loads(connection.recv(65536).removeprefix(b"INFO "))["nonce"]
        proof = mallory.prove(nonce)
        assert proof is not None
        shown = json.dumps({"jwt": proof.jwt, "sig": proof.signature.decode(), "verbose": False})
        connection.sendall(f"CONNECT {shown}\r\nPING\r\n".encode())
        figures.expect(b"PONG" in connection.recv(65536), "the server did not let Mallory in")
        connection.sendall(f"PUB {subjects.report(MALLORY)} {10 << 20}\r\n".encode())
        said = b""
        while chunk := connection.recv(4096):
            said += chunk
    figures.faults["10 MB"] += 1
    figures.expect(b"Maximum Payload" in said, f"the server took 10 MB: {said[-100:]!r}")
