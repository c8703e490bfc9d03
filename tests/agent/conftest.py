"""What the agent's tests share: a wire with no socket in it, open ports, the listeners' certificate."""

import asyncio
import gc
import select
import socket
import types
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from reachmap_agent import checks, clock
from reachmap_agent.credentials import Contexts
from reachmap_agent.datagrams import DatagramDoor
from reachmap_agent.engine.engine import Engine
from reachmap_agent.limits import ListenerLimits
from reachmap_agent.prober import Job, Prober
from reachmap_agent.protocols import REGISTRY
from reachmap_agent.reception import OpenPort, Reception
from reachmap_agent.streams import StreamDoor
from reachmap_agent.wire.exchange import (
    MAX_READ,
    Exchange,
    Offer,
    Silence,
    StandIn,
    Target,
    Verdict,
)
from reachmap_agent.wire.proof import Challenge, Challenger, Endpoint, Identity
from reachmap_shared import keys
from reachmap_shared.messages import CheckSpec, Observation, Plan
from reachmap_shared.vocabulary import AnsweredBy, Outcome, Transport

HOST, OTHER_HOST = "db-1", "db-2"
SOURCE = "pc-17"
SECRET = bytes(range(32))

EMPTY_PLAN = Plan(SOURCE, "1", 10, 3, "", "", "", (), ())

SEEN, AT = ("10.0.0.7", 40_001), ("10.0.0.5", 5432)
"""Where checks come from and arrive, as stand-ins have it."""

_ENDLESS = 1 << 20
"""Whoever has not had enough by then never has."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs IPv6 where there is none."""
    if item.get_closest_marker("ipv6") and not _has_ipv6():
        pytest.skip("no IPv6 here")


@cache
def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@dataclass(frozen=True)
class Heard:
    """What came of an exchange."""

    result: Any
    """A check's Verdict, a stand-in's last bytes; None when it was still waiting."""
    sent: bytes
    """All that it sent, without a stand-in's last bytes."""
    consumed: int
    """How many bytes it was given."""


class Wire:
    """Runs exchanges in memory, as prober and listeners do on sockets."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    def challenge(
        self, host: str = HOST, nonce: bytes = bytes(range(16)), secret: bytes = SECRET
    ) -> Challenge:
        """What a check asks of the listener on `host`."""
        name = keys.source_id(SOURCE)
        key = keys.pair_key(keys.host_key(secret, host), name)
        return Challenger(name, keys.deployment_key(secret), host, key).challenge(nonce)

    def target(self, address: str = "db-1.example", host: str = HOST, **its: Any) -> Target:
        """Whom a check dials; `host` is who should answer."""
        its.setdefault("tls", self._contexts.client)
        its.setdefault("stand_in_certificate", self._contexts.certificate)
        its.setdefault("challenge", self.challenge(host))
        return Target(address, **its)

    def identity(self, host: str = HOST) -> Identity:
        """Who the listeners of a host are."""
        return Identity(host, keys.host_key(SECRET, host), keys.deployment_key(SECRET))

    def offer(self, host: str = HOST, **its: Any) -> Offer:
        """What the stand-in on `host` has."""
        return Offer(self.identity(host), SEEN, AT, self._contexts.server, **its)

    async def probe(
        self, spec: CheckSpec, timeout_s: float, slot: int = 0, host: str | None = None, **its: Any
    ) -> Observation:
        """Run one check on a real socket, of the first address where it has a name.

        `host` is what it names its server; what it dials, if not given.
        """
        protocol = REGISTRY[spec.protocol]
        its = {"challenge": None, "transport": spec.transport, **its}
        target = self.target(host or spec.address, **its)
        plain = Job.of(slot, spec, EMPTY_PLAN, self._contexts)
        job = replace(plain, protocol=replace(protocol, check=lambda _: protocol.check(target)))
        loop = asyncio.get_running_loop()
        engine = Engine(loop)
        ended: asyncio.Future[Observation] = loop.create_future()
        try:
            prober = Prober(engine, clock.system())
            found = await prober.resolve(job, timeout_s) if job.address is None else [None]
            if isinstance(found, Observation):
                return found
            prober.start(job, timeout_s, ended.set_result, found[0])
            return await ended
        finally:
            engine.close()

    def feed(
        self,
        exchange: Generator[bytes, bytes, Any],
        chunks: Iterable[bytes] = (),
        *,
        closes: bool = False,
    ) -> Heard:
        """Give an exchange what the other side says, which then closes or stays silent."""
        sent = b""
        consumed = 0
        try:
            sent += next(exchange)
            for chunk in chunks:
                consumed += len(chunk)
                assert consumed < _ENDLESS, "it never has enough"
                sent += exchange.send(chunk)
            for _ in range(3):
                sent += exchange.send(b"") if closes else exchange.throw(Silence())
            pytest.fail("it goes on after the end")
        except StopIteration as stop:
            return Heard(stop.value, sent, consumed)
        except Silence:
            return Heard(None, sent, consumed)
        finally:
            exchange.close()

    def meet(
        self,
        check: Exchange,
        stand_in: StandIn,
        size: int = MAX_READ,
        cut: int | None = None,
        *,
        closes: bool = False,
    ) -> tuple[Verdict | None, int]:
        """Let a check and a stand-in talk, `size` bytes at a time.

        The stand-in is cut off after `cut` bytes, and then closes or stays silent.

        Returns:
            The verdict, None when the check was still waiting; how many bytes it was given.
        """
        there = _Pipe(size, cut)
        back = _Pipe(size, None)
        ended = False
        try:
            back.write(next(check))
            try:
                there.write(next(stand_in))
                while True:
                    if chunk := there.read():
                        back.write(check.send(chunk))
                    elif chunk := back.read():
                        there.write(stand_in.send(chunk))
                    else:
                        break
            except StopIteration as stop:
                if not isinstance(stop.value, bytes):
                    raise
                there.write(stop.value)
            while chunk := there.read():
                check.send(chunk)
            ended = True
            check.send(b"") if closes else check.throw(Silence())
            pytest.fail("it goes on after the end")
        except StopIteration as stop:
            verdict: Verdict = stop.value
            return verdict, there.given
        except Silence:
            assert ended
            return None, there.given
        finally:
            check.close()
            stand_in.close()

    def record(self, check: Exchange, stand_in: StandIn) -> list[bytes]:
        """All that a stand-in says to a check."""
        said = []
        try:
            asked = next(check)
            said.append(next(stand_in))
            while True:
                if said[-1]:
                    asked = check.send(said[-1])
                said.append(stand_in.send(asked))
        except StopIteration as stop:
            if isinstance(stop.value, bytes):
                said.append(stop.value)
        return [chunk for chunk in said if chunk]


class _Pipe:
    """Bytes on their way in one direction."""

    def __init__(self, size: int, cut: int | None) -> None:
        self._size = size
        self._left = cut
        self._bytes = b""
        self.given = 0

    def write(self, chunk: bytes) -> None:
        self._bytes += chunk

    def read(self) -> bytes:
        size = self._size if self._left is None else min(self._size, self._left - self.given)
        chunk, self._bytes = self._bytes[:size], self._bytes[size:]
        self.given += len(chunk)
        return chunk


@pytest.fixture(scope="session")
def pem() -> str:
    """Certificate and key, as a plan brings them."""
    return (Path(__file__).parent / "stand-in.pem").read_text()


@pytest.fixture(scope="session")
def contexts(pem: str) -> Contexts:
    """The TLS contexts of a plan."""
    return Contexts.from_pem(pem)


@pytest.fixture(scope="session")
def wire(contexts: Contexts) -> Wire:
    """A wire with no socket in it."""
    return Wire(contexts)


@pytest.fixture(scope="session")
def host() -> str:
    """Whose listener should answer, as `wire.target()` expects."""
    return HOST


@pytest.fixture(scope="session")
def other_host() -> str:
    """Somebody else, of the same deployment."""
    return OTHER_HOST


@pytest.fixture(scope="module")
def garbage_stays() -> Iterator[None]:
    """No plan has it looked for: among all that tests leave, each search takes part of a second."""
    with pytest.MonkeyPatch.context() as patched:
        looks_for_none = types.SimpleNamespace(
            get_threshold=gc.get_threshold,
            **dict.fromkeys(("collect", "freeze", "unfreeze", "set_threshold"), lambda *_: None),
        )
        patched.setattr(checks, "gc", looks_for_none)
        yield


@pytest.fixture(params=["the best watcher", "asyncio's loop"])
def watcher(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test runs with an epoll of the reception's own, and without."""
    if request.param == "asyncio's loop":
        monkeypatch.delattr(select, "epoll", raising=False)


LIMITS = ListenerLimits()


class Port:
    """An open port on a reception, and what it was asked and told."""

    def __init__(
        self,
        port: int,
        make: Callable[[], StandIn | None],
        *,
        addresses: tuple[str, ...] = ("127.0.0.1",),
        transport: Transport = Transport.TCP,
        reception: Reception | None = None,
        limits: ListenerLimits = LIMITS,
    ) -> None:
        self.ends: list[tuple[Endpoint, Endpoint]] = []
        self.answered = 0
        self.reception = reception or Reception(limits)
        self.make = make
        door = StreamDoor if transport is Transport.TCP else DatagramDoor
        self.open = OpenPort(addresses, port, transport, self.reception, door, self.made, self.tell)

    def made(self, local: Endpoint, peer: Endpoint) -> StandIn | None:
        self.ends.append((local, peer))
        return self.make()

    def tell(self) -> None:
        self.answered += 1


@pytest.fixture
async def open_port(port: int, wire: Any, watcher: None) -> AsyncIterator[Callable[..., Port]]:
    """Opens ports, whose stand-ins are those of a protocol or what the test makes."""
    opened: list[Port] = []
    troubles: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: troubles.append(context))

    def make(protocol: str | Callable[[], StandIn | None], number: int = port, **its: Any) -> Port:
        if isinstance(protocol, str):
            offer = wire.offer(transport=its.get("transport", Transport.TCP))
            stand_in = REGISTRY[protocol].stand_in

            def between_its_ends() -> StandIn:
                local, peer = made.ends[-1]
                return stand_in(replace(offer, seen=peer, at=local))

            made = Port(number, between_its_ends, **its)
            opened.append(made)
        else:
            opened.append(Port(number, protocol, **its))
        return opened[-1]

    yield make
    for each in opened:
        each.open.close()
    for each in opened:
        assert not each.open.is_busy
        assert each.reception.connections == 0
        assert each.reception._watcher is None
        assert each.reception._leaving == []
    assert troubles == []


@pytest.fixture
def check(wire: Any) -> Callable[..., Any]:
    """Runs an honest check; returns who answered it."""

    async def run(
        port: int, protocol: str, address: str = "127.0.0.1", transport: Transport = Transport.TCP
    ) -> AnsweredBy | None:
        asked = CheckSpec("d", "d:1", address, port, transport, protocol, "")
        seen = await wire.probe(asked, 5, challenge=wire.challenge())
        assert seen.outcome is Outcome.OPEN, seen
        return seen.answered_by

    return run
