"""The way to the bus: name, route, TCP, and what the server says first."""

import asyncio
import errno
import json
import os
import socket
from collections.abc import AsyncIterator
from typing import Final

from reachmap_agent import identity
from reachmap_agent.doctor.patient import Patient
from reachmap_agent.doctor.steps import Finding, failed, passed, skipped

STEP_S: Final = 3.0
"""For each step: longer than a lost packet or two, short for whoever waits."""

_MEANINGS: Final = {
    errno.ECONNREFUSED: "see whether a NATS server runs there, and on this port",
    errno.EHOSTUNREACH: "see whether the server's host is up, and whether a firewall rejects",
    errno.ENETUNREACH: "see the routes of this host (ip route)",
    errno.EACCES: "see the firewall on this host and on the way: something rejects",
}


async def name(patient: Patient) -> AsyncIterator[Finding]:
    """Whether the server's name is an address."""
    server = patient.server
    try:
        async with asyncio.timeout(STEP_S):
            found = await asyncio.get_running_loop().getaddrinfo(
                server.host, server.port, type=socket.SOCK_STREAM
            )
    except (OSError, TimeoutError, ValueError) as error:  # ValueError: it can be no name at all
        yield failed(f"{server.host}: {why(error)}", "see the URL, and this host's resolver")
        return
    patient.addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    yield passed(f"{server.host} is {', '.join(patient.addresses)}")


async def route(patient: Patient) -> AsyncIterator[Finding]:
    """Whether packets would leave this host for it; none is sent."""
    ways = {address: identity.local_end(address) for address in patient.addresses}
    if not any(ways.values()):
        where = ", ".join(patient.addresses)
        yield failed(f"no route to {where}", _MEANINGS[errno.ENETUNREACH])
        return
    patient.addresses = tuple(its for its, own in ways.items() if own)
    yield passed(", ".join(f"{own} to {its}" for its, own in ways.items() if own))


async def tcp(patient: Patient) -> AsyncIterator[Finding]:
    """Whether its port is open, at the first of its addresses where it is."""
    for address in patient.addresses:
        where = f"port {patient.server.port} of {address}"
        try:
            async with asyncio.timeout(STEP_S):
                reader, writer = await asyncio.open_connection(address, patient.server.port)
        except TimeoutError:
            to_do = "a firewall on the way drops this, or the server's host is down"
            yield failed(f"{where}: no answer in {STEP_S:g} s", to_do)
            continue
        except OSError as error:
            yield failed(
                f"{where}: {why(error)}", _MEANINGS.get(error.errno or 0, "see what is in the way")
            )
            continue
        patient.address = address
        if not patient.server.is_websocket:
            patient.greeting = await greeting(reader)
        writer.transport.abort()
        yield passed(f"{where} is open")
        return


async def greeting(reader: asyncio.StreamReader) -> bytes:
    """What a server says unasked; empty when it says nothing."""
    try:
        async with asyncio.timeout(STEP_S):
            return await reader.readline()
    except (OSError, TimeoutError, ValueError):
        return b""


async def server(patient: Patient) -> AsyncIterator[Finding]:
    """Whether it is a NATS server that says so."""
    said = patient.greeting
    if patient.server.is_websocket:
        yield skipped("behind a websocket it says nothing unasked; the login tells")
        return
    if not said.startswith(b"INFO "):
        got = repr(said[:40])[1:] if said else "nothing"
        to_do = "something else listens there, or stands between: see the port and the URL"
        yield failed(f"expected NATS's INFO, got {got}", to_do)
        return
    try:
        info = json.loads(said[5:])
        wants = "TLS" if info.get("tls_required") else "no TLS"
        found = f"nats-server {info.get('version', '?')} named {info.get('server_name', '?')}"
    except (ValueError, AttributeError, RecursionError):
        yield failed("its INFO is not JSON", "see what stands between")
        return
    patient.info = info
    yield passed(f"{found}, which wants {wants}")


def why(error: Exception) -> str:
    """A failure to reach somebody, in the system's words."""
    if isinstance(error, TimeoutError):
        return f"no answer in {STEP_S:g} s"
    # asyncio's own texts repeat the address, which stands beside it here.
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror) or not number:
        return getattr(error, "strerror", None) or str(error)
    return os.strerror(number)
