"""The way to the bus, step by step: name, route, TCP, and what the server says first.

Each step needs the one before, so the first that fails is the one to mend.
"""

import asyncio
import errno
import json
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from reachmap_agent import identity

_STEP_S: Final = 3.0
"""For each step: longer than a lost packet or two, short for whoever waits."""

_DEFAULT_PORT: Final = 4222

_MEANINGS: Final = {
    errno.ECONNREFUSED: "see whether a NATS server runs there, and on this port",
    errno.EHOSTUNREACH: "see whether the server's host is up, and whether a firewall rejects",
    errno.ENETUNREACH: "see the routes of this host (ip route)",
    errno.EACCES: "see the firewall on this host and on the way: something rejects",
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step, taken or not."""

    name: str
    passed: bool
    found: str
    to_do: str = ""


async def walk(url: str) -> AsyncIterator[Step]:
    """Go as far towards a server as it goes."""
    parts = urlsplit(url if "://" in url else f"nats://{url}")
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORT
    try:
        async with asyncio.timeout(_STEP_S):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )
    except (OSError, TimeoutError) as error:
        yield Step("name", False, f"{host}: {_why(error)}", "see the URL, and this host's resolver")
        return
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    yield Step("name", True, f"{host} is {', '.join(addresses)}")
    ways = {address: identity.local_end(address) for address in addresses}
    if not any(ways.values()):
        yield Step(
            "route", False, f"no route to {', '.join(addresses)}", _MEANINGS[errno.ENETUNREACH]
        )
        return
    yield Step("route", True, ", ".join(f"{own} to {its}" for its, own in ways.items() if own))
    for address in (its for its, own in ways.items() if own):
        step, greeting = await _greeted(address, port)
        yield step
        if step.passed:
            yield _understood(greeting)
            return


async def _greeted(address: str, port: int) -> tuple[Step, bytes]:
    where = f"port {port} of {address}"
    try:
        async with asyncio.timeout(_STEP_S):
            reader, writer = await asyncio.open_connection(address, port)
    except TimeoutError:
        to_do = "a firewall on the way drops this, or the server's host is down"
        return Step("tcp", False, f"{where}: no answer in {_STEP_S:g} s", to_do), b""
    except OSError as error:
        to_do = _MEANINGS.get(error.errno or 0, "see what is in the way")
        return Step("tcp", False, f"{where}: {_why(error)}", to_do), b""
    greeting = b""
    try:
        async with asyncio.timeout(_STEP_S):
            greeting = await reader.readline()
    except (OSError, TimeoutError, ValueError):
        pass
    finally:
        writer.transport.abort()
    return Step("tcp", True, f"{where} is open"), greeting


def _understood(greeting: bytes) -> Step:
    if greeting[:1] in (b"\x15", b"\x16"):
        return Step("server", True, "it speaks TLS from the first byte")
    if not greeting.startswith(b"INFO "):
        got = repr(greeting[:40])[1:] if greeting else "nothing"
        to_do = "something else listens there, or stands between: see the port and the URL"
        return Step("server", False, f"expected NATS's INFO, got {got}", to_do)
    try:
        said = json.loads(greeting[5:])
        wants = "TLS" if said.get("tls_required") else "no TLS"
        found = f"nats-server {said.get('version', '?')} named {said.get('server_name', '?')}"
    except (ValueError, AttributeError):
        return Step("server", False, "its INFO is not JSON", "see what stands between")
    return Step("server", True, f"{found}, which wants {wants}")


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer in {_STEP_S:g} s"
    # asyncio's own texts repeat the address, which stands beside it here.
    number = getattr(error, "errno", None)
    if isinstance(error, socket.gaierror) or not number:
        return getattr(error, "strerror", None) or str(error)
    return os.strerror(number)
