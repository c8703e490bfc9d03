"""What checks and servers say to each other in the engine's tests, and what came of it."""

import asyncio
import socket
import sys

import pytest

from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.wire.exchange import Exchange, Verdict
from reachmap_shared.vocabulary import Outcome

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells so much")

PATIENCE_S = 15.0
"""For what takes milliseconds on an idle machine; nothing here waits for as long."""

NOWHERE = ("255.255.255.255", 9)
"""TCP has nothing to say to all at once, so connect fails before it returns."""


def hear(enough: int = 1) -> Exchange:
    """Wait for some bytes."""
    heard = 0
    while heard < enough:
        chunk = yield b""
        if not chunk:
            break
        heard += len(chunk)
    return Verdict(Outcome.OPEN, (f"{heard} bytes",))


def ask(question: bytes = b"?", enough: int = 1) -> Exchange:
    """Say something, then wait for an answer."""
    first = yield question
    if len(first) >= enough or not first:
        return Verdict(Outcome.OPEN, (f"{len(first)} bytes",))
    return (yield from hear(enough - len(first)))


async def silence(connection: socket.socket) -> None:
    """Accept and say nothing."""
    await asyncio.sleep(60)


async def echo(connection: socket.socket) -> None:
    """Send back what comes."""
    loop = asyncio.get_running_loop()
    while received := await loop.sock_recv(connection, 65536):
        await loop.sock_sendall(connection, received)


def raises(error: BaseException, after: int) -> Exchange:
    """Fail at the given step: at the first, or when something was received."""
    for _ in range(after):
        yield b"?"
    raise error


def seen(attempt: Attempt) -> tuple[Outcome, str]:
    """What became of an attempt, and why, as one text."""
    assert attempt.verdict is not None
    return attempt.verdict.outcome, "; ".join(attempt.verdict.evidence)
