"""The lab with a diagnosis on both ends: who dropped it? Run like lab.py.

Each row has namespaces of its own, since counters are a whole host's, with the real `Diagnoser` in
a thread in A and the real `Witness` and `Listeners` in a thread in B. What would go over the bus
goes from the one thread to the other, as the bytes that the bus would carry.
"""

import asyncio
import base64
import contextlib
import ctypes
import json
import os
import random
import resource
import signal
import socket
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from false_agent import FALSEHOODS
from lab import CLONE_NEWNET, PR_SET_PDEATHSIG, Impossible, Lab, Server, _asking, _bound, _call
from services import DROPPED_S, ELSEWHERE, NEAR, NOISE_S, send, senders_to_itself, stir

from reachmap_agent import clock
from reachmap_agent.ceded import Ceded
from reachmap_agent.credentials import Contexts
from reachmap_agent.diagnosis.diagnoser import Case, Diagnoser, Near
from reachmap_agent.diagnosis.witness import Witness
from reachmap_agent.listeners import Listeners
from reachmap_agent.prober import Job
from reachmap_agent.wire.proof import Identity
from reachmap_shared import codec, keys
from reachmap_shared.diagnosis import (
    Phase,
    Relation,
    WitnessRequest,
    opened,
)
from reachmap_shared.messages import CheckSpec, ListenerSpec, Plan, WindowRequest
from reachmap_shared.vocabulary import ListenerState, ListenMode, Transport

SECRET: Final = b"the lab's"
AT_ONCE: Final = 40
"""Rows mostly wait. Each has some tens of descriptors open."""
ANSWER_S: Final = 10.0
"""Longer than over the bus: here many hosts share one interpreter."""

HOST_KEY: Final = keys.host_key(SECRET, "b")
PAIR: Final = keys.pair_key(HOST_KEY, keys.source_id("a"))

CAP_NET_RAW: Final = 13
_libc = ctypes.CDLL(None, use_errno=True)


def drop_raw() -> None:
    """This thread may not open packet sockets any more."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    if _libc.capget(header, data):
        raise Impossible("capget")
    for place in (0, 1, 2):  # effective, permitted, inheritable
        data[place] &= ~(1 << CAP_NET_RAW)
    if _libc.capset(header, data):
        raise Impossible("capset")


def job(row: dict[str, Any], host: str, port: int, contexts: Contexts) -> Job:
    """A check of a port of B's."""
    belongs = keys.to_text(keys.deployment_key(SECRET))
    plan = Plan("a", "1", 10, 3, "", belongs, "", (), ())
    transport = Transport(row["transport"]) if port != NEAR else Transport.TCP
    key = keys.to_text(PAIR) if row["witness"] != "none" else ""
    protocol = "udp" if transport is Transport.UDP else "tcp"
    made = Job.of(
        0, CheckSpec("b", f"x:{port}", host, port, transport, protocol, key), plan, contexts
    )
    if row["server"] != "listener" or port == NEAR:
        made = replace(made, protocol=_asking(row["size"] if port != NEAR else 1))
    return made


def full(port: int) -> list[Any]:
    """A service that accepts nobody any more, and whose queue is full."""
    held: list[Any] = []
    for host, own in (("0.0.0.0", "127.0.0.1"), ("::", "::1")):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.socket(family)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host, port))
        bound.listen(0)
        first = socket.socket(family)
        first.connect((own, port))
        held += [bound, first]
    return held


class End(threading.Thread):
    """B, in a thread of its own, with a loop of its own."""

    def __init__(self, lab: Lab, row: dict[str, Any], folder: Path) -> None:
        super().__init__(daemon=True)
        self._lab = lab
        self._row = row
        self._folder = folder
        self.ready = threading.Event()
        self.loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            _call("setns", self._lab._descriptors["b"], CLONE_NEWNET)
            if not self._row["raw"]:
                drop_raw()
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  told to whoever waits for it
            self.failure = error
            self.ready.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        row = self._row
        transport = Transport(row["transport"])
        identity = Identity("b", HOST_KEY, keys.deployment_key(SECRET))
        listeners = Listeners((), Ceded(self._folder / "ceded.json"))
        protocol = "udp" if transport is Transport.UDP else "tcp"
        mode = ListenMode.NEVER if row["server"] == "nothing" else ListenMode.ON_DEMAND
        spec = ListenerSpec(f"x:{row['port']}", row["port"], transport, protocol, mode)
        held = [
            Server("answers", _bound(host, NEAR, Transport.TCP), Transport.TCP)
            for host in ("0.0.0.0", "::")
        ]
        if row["server"] == "full":
            held += full(row["port"])
        elif row["server"] not in ("listener", "nothing"):
            held += [
                Server(row["server"], _bound(host, row["port"], transport), transport)
                for host in ("0.0.0.0", "::")
            ]
        for where, address in (("r", "0.0.0.0"), ("r", "::"), ("r2", "0.0.0.0"), ("r2", "::")):
            _call("setns", self._lab._descriptors[where], CLONE_NEWNET)
            held.append(Server("answers", _bound(address, ELSEWHERE, Transport.TCP), Transport.TCP))
        _call("setns", self._lab._descriptors["b"], CLONE_NEWNET)
        listeners.apply([spec], Contexts.from_pem(""), identity)

        def window(transport: Transport, port: int, seconds: float) -> ListenerState:
            return listeners.window(WindowRequest("a", port, transport, seconds)).state

        self.witness = Witness("b", window)
        async with asyncio.TaskGroup() as tasks:
            if row["noise"]:
                tasks.create_task(self._noise())
            if row["drops_much"]:
                tasks.create_task(self._dropped(row["drops_much"]))
            self.ready.set()
            await self._over.wait()
        self.witness.close()
        listeners.close()

    async def _noise(self) -> None:
        """Traffic of its own, that moves B's counters."""
        while not self._over.is_set():
            stir()
            await asyncio.sleep(NOISE_S)

    async def _dropped(self, name: str) -> None:
        """Datagrams to a host itself that its firewall drops."""
        with contextlib.ExitStack() as held:
            _call("setns", self._lab._descriptors[name], CLONE_NEWNET)
            senders = senders_to_itself(held)
            _call("setns", self._lab._descriptors["b"], CLONE_NEWNET)
            while not self._over.is_set():
                send(senders)
                await asyncio.sleep(DROPPED_S)

    def answer(self, payload: bytes) -> bytes | None:
        return self.witness.answer("a", payload, HOST_KEY)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._over.set)
        self.join()


async def no_window(_spec: CheckSpec, _seconds: float) -> None:
    """The flow nearby has a service."""


async def diagnose(lab: Lab, row: dict[str, Any], end: End) -> str:
    contexts = Contexts.from_pem("")

    async def ask(destination: str, request: bytes) -> bytes | None:
        assert destination == "b"
        if row["witness"] == "silent":
            return None

        async def call() -> bytes | None:
            return end.answer(request)

        waiting = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), end.loop))
        phase = opened(WitnessRequest, request, PAIR).phase
        if row["witness"] == "slow" and phase is Phase.TELL:
            return None
        try:
            payload = await asyncio.wait_for(waiting, ANSWER_S)
        except TimeoutError:  # on a very busy machine: as no agent's question raises either
            return None
        tell = FALSEHOODS.get(row["witness"])
        return tell(payload, request, PAIR) if tell is not None and payload else payload

    near = ()
    if row["near"]:
        address = row["near_dial"] or row["dial"]
        relation = Relation.SAME_NETWORK if row["near_dial"] else Relation.SAME_HOST
        near = (Near(relation, job(row, address, NEAR, contexts)),)
    case = Case("a", "1", job(row, row["dial"], row["port"], contexts), near)
    found = await Diagnoser(ask, random.Random(), clock.system().steady_ms, no_window).diagnose(
        case
    )
    return base64.b64encode(codec.encode(found)).decode()


def observe(row: dict[str, Any]) -> dict[str, Any]:
    """Set up one row and look into it."""
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab()
        lab.build()
        lab.wait()
        for name in row["settings"]:
            lab.set(name, row["settings"][name])
        for what in ("before", "routes"):
            for name, lines in row[what].items():
                lab.run(name, "ip", "-batch", "-", given="\n".join(lines))
        for name, lines in row["firewall"].items():
            lab.run(name, "nft", "-f", "-", given="\n".join(lines))
        end = End(lab, row, Path(folder))
        end.start()
        end.ready.wait()
        if end.failure is not None:
            raise end.failure
        heal = partial(lab.run, "r", "nft", "-f", "-", given="flush ruleset")
        timer = threading.Timer(row["heals_s"], heal) if row["heals_s"] else None
        result: list[str] = []

        def source() -> None:
            _call("setns", lab._descriptors["a"], CLONE_NEWNET)
            if not row["raw"]:
                drop_raw()
            result.append(asyncio.run(diagnose(lab, row, end)))

        if timer is not None:
            timer.start()
        thread = threading.Thread(target=source)
        thread.start()
        thread.join()
        if timer is not None:
            timer.join()
        end.stop()
        for descriptor in lab._descriptors.values():
            os.close(descriptor)
        return {
            "name": row["name"],
            "family": row["family"],
            "raw": row["raw"],
            "diagnosis": result[0],
        }


def main() -> None:
    """Set up, look into, tell."""
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    rows = json.load(sys.stdin)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            results = list(threads.map(observe, rows))
    except Impossible as error:
        sys.exit(f"impossible: {error}")
    sys.stdout.write(json.dumps(results) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
