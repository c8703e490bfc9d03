"""What the agent's tests share: a wire with no socket in it, and the listeners' certificate."""

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reachmap_agent.credentials import Contexts
from reachmap_agent.wire.exchange import (
    MAX_READ,
    Exchange,
    Offer,
    Silence,
    StandIn,
    Target,
    Verdict,
)

TOKEN = "0123456789abcdef"
OTHER_TOKEN = "fedcba9876543210"

_ENDLESS = 1 << 20
"""Whoever has not had enough by then never has."""


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

    def target(self, host: str = "db-1.example", token: str = TOKEN, **its: Any) -> Target:
        """Whom a check dials; the token is what it expects."""
        its.setdefault("tls", self._contexts.client)
        its.setdefault("stand_in_certificate", self._contexts.certificate)
        return Target(host, token, **its)

    def offer(self, token: str = TOKEN) -> Offer:
        """What a stand-in shows."""
        return Offer(token, self._contexts.server)

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
def token() -> str:
    """What the destination's own listener shows, and what `wire.target()` expects."""
    return TOKEN


@pytest.fixture(scope="session")
def other_token() -> str:
    """What somebody else's listener shows."""
    return OTHER_TOKEN
