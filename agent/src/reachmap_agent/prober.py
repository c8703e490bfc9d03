"""One check, on a real socket: resolve, connect, run the protocol's exchange, take the times.

It owns the deadline and every error: whatever happens, the answer is an Observation.
"""

import asyncio
import contextlib
import ipaddress
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any, Final

from reachmap_agent.outcomes import describe, from_error
from reachmap_agent.protocols import REGISTRY, Protocol
from reachmap_agent.wire.exchange import MAX_READ, Exchange, Silence, Target, Verdict
from reachmap_shared.messages import CheckSpec, Observation
from reachmap_shared.vocabulary import Outcome, Transport

RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER, on, for no time: close sends RST, and no TIME_WAIT is left (socket(7))."""


@dataclass(slots=True)
class _Trace:
    """What has been learnt of a check so far, whichever way it ends."""

    started_ns: int
    resolved_ns: int = 0
    connected_ns: int = 0
    local: str = ""
    evidence: list[str] = field(default_factory=list)


async def check(spec: CheckSpec, slot: int, target: Target, timeout_s: float) -> Observation:
    """Run one check to its end, which is at most `timeout_s` away."""
    trace = _Trace(time.monotonic_ns())
    deadline = asyncio.get_running_loop().time() + timeout_s
    try:
        verdict = await _attempt(spec, target, deadline, trace)
    except (TimeoutError, Silence):
        verdict = _out_of_time(trace, timeout_s)
    except OSError as error:
        verdict = Verdict(from_error(error), (describe(error),))
    return _observation(slot, verdict, trace)


async def _attempt(spec: CheckSpec, target: Target, deadline: float, trace: _Trace) -> Verdict:
    loop = asyncio.get_running_loop()
    kind = socket.SOCK_STREAM if spec.transport is Transport.TCP else socket.SOCK_DGRAM
    protocol = REGISTRY[spec.protocol]
    try:
        async with asyncio.timeout_at(deadline):
            family, address = await _resolve(spec.address, spec.port, kind)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else str(error)
        return Verdict(Outcome.NAME_FAILURE, (f"{spec.address} does not resolve: {reason}",))
    trace.resolved_ns = time.monotonic_ns()
    if address[0] != spec.address:
        trace.evidence.append(f"{spec.address} resolves to {address[0]}")
    with socket.socket(family, kind) as connection:
        connection.setblocking(False)
        async with asyncio.timeout_at(deadline):
            await loop.sock_connect(connection, address)
        trace.connected_ns = time.monotonic_ns()
        trace.local = _endpoint(connection)
        if protocol.reset and kind == socket.SOCK_STREAM:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        return await _converse(connection, protocol, protocol.check(target), deadline)


async def _resolve(host: str, port: int, kind: int) -> tuple[int, Any]:
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=kind)
        return found[0][0], found[0][4]
    return (socket.AF_INET if version == 4 else socket.AF_INET6), (host, port)


async def _converse(
    connection: socket.socket, protocol: Protocol, exchange: Exchange, deadline: float
) -> Verdict:
    """Carry bytes between the exchange and the socket until it has a verdict.

    Raises Silence when the time is up and the exchange does not know what that means.
    """
    loop = asyncio.get_running_loop()
    if protocol.patience_s is not None:
        deadline = min(deadline, loop.time() + protocol.patience_s)
    try:
        sending = next(exchange)
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    if sending:
                        await loop.sock_sendall(connection, sending)
                    received = await loop.sock_recv(connection, MAX_READ)
            except TimeoutError:
                sending = exchange.throw(Silence())
            else:
                sending = exchange.send(received)
    except StopIteration as stop:
        verdict: Verdict = stop.value
        if verdict.farewell:
            await _say(connection, verdict.farewell, deadline)
        return verdict
    finally:
        exchange.close()


async def _say(connection: socket.socket, last: bytes, deadline: float) -> None:
    """Send the last words of an exchange that has its verdict already, whatever comes of them."""
    with contextlib.suppress(OSError):  # a TimeoutError is one
        async with asyncio.timeout_at(deadline):
            await asyncio.get_running_loop().sock_sendall(connection, last)


def _out_of_time(trace: _Trace, timeout_s: float) -> Verdict:
    if trace.connected_ns:
        return Verdict(Outcome.STALLED, (f"connected, but no answer within {timeout_s:g} s",))
    if not trace.resolved_ns:
        return Verdict(Outcome.NAME_FAILURE, (f"the name did not resolve within {timeout_s:g} s",))
    return Verdict(Outcome.TIMEOUT, (f"no answer to the connection within {timeout_s:g} s",))


def _observation(slot: int, verdict: Verdict, trace: _Trace) -> Observation:
    ended_ns = time.monotonic_ns()
    resolved_ns = trace.resolved_ns or ended_ns
    return Observation(
        slot=slot,
        age_ms=0,
        outcome=verdict.outcome,
        answered_by=verdict.answered_by,
        healthy=verdict.healthy,
        name_us=(resolved_ns - trace.started_ns) // 1000,
        connect_us=max(0, trace.connected_ns - resolved_ns) // 1000,
        answer_us=(ended_ns - (trace.connected_ns or ended_ns)) // 1000,
        local=trace.local,
        evidence=tuple(text[:300] for text in (*trace.evidence, *verdict.evidence)),
    )


def _endpoint(connection: socket.socket) -> str:
    host, port = connection.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
