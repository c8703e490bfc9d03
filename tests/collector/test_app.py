"""`reachmap serve` as a whole, with its own real NATS server and no agents."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector import app, embedded
from reachmap_collector.app import ServeSettings
from reachmap_collector.demo.deployment import free_port
from reachmap_collector.errors import InvalidFile, ServerError
from reachmap_collector.identity.servers import Mode
from reachmap_collector.identity.store import Store
from reachmap_shared import bus, codec, subjects
from reachmap_shared.access import ANYBODY, Access
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.messages import Plan
from reachmap_shared.permissions import Party


@pytest.fixture
def path(tmp_path: Path, office_text: str) -> Path:
    path = tmp_path / "topology.toml"
    path.write_text(office_text)
    return path


@pytest.fixture
def settings(path: Path, tmp_path: Path) -> ServeSettings:
    listening = embedded.Listening(free_port(embedded.HOST))
    return ServeSettings(path, tmp_path / "data", None, listening)


def url_of(settings: ServeSettings) -> str:
    return settings.nats[0] if settings.nats else f"nats://127.0.0.1:{settings.listening.port}"


def access_of(settings: ServeSettings) -> Access:
    """All that a collector may, and so these tests."""
    if settings.nats:
        return ANYBODY
    store = Store(settings.data)
    store.prepare()
    return store.access(Party.COLLECTOR, Mode.JWT)


async def answers(settings: ServeSettings) -> bool:
    """Whether there is a collector."""
    try:
        async with bus.connected([url_of(settings)], "test", access_of(settings)) as connection:
            await connection.query("status", {})
    except BusUnavailable:
        return False
    return True


@asynccontextmanager
async def serving(settings: ServeSettings, eventually: Any) -> AsyncIterator[bus.Bus]:
    """A collector that answers, and a connection to its bus."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(app.serve(settings))
        await eventually(lambda: answers(settings))
        async with bus.connected([url_of(settings)], "test", access_of(settings)) as connection:
            yield connection
        task.cancel()


async def hosts(connection: bus.Bus) -> list[str]:
    answer = await connection.query("topology", {})
    return [host["host"] for host in answer["hosts"]]


async def test_it_answers_and_plans_and_leaves_nothing_behind(
    settings: ServeSettings, eventually: Any, hello: Any
) -> None:
    """Over a bus of its own; the server ends with it."""
    plans: list[Plan] = []

    async def keep(_subject: str, payload: bytes) -> None:
        plans.append(codec.decode(Plan, payload))

    async with serving(settings, eventually) as connection:
        await connection.subscribe(subjects.plan("pc-1"), keep)
        await connection.publish(subjects.hello("pc-1"), codec.encode(hello("pc-1")))
        await eventually(lambda: plans)
        assert await hosts(connection) == ["web-1", "db-1", "pc-1"]
        status = await connection.query("status", {})
        assert status["agents"]["fresh"] == 1
    assert [check.service for check in plans[0].checks] == ["db:5432", "web:8080", "shop:9090"]
    with pytest.raises(BusUnavailable):
        async with bus.connected([url_of(settings)], "test", access_of(settings)):
            pass


async def test_it_uses_the_server_that_it_is_told(
    path: Path, tmp_path: Path, nats_server: Any, eventually: Any
) -> None:
    """And starts none of its own."""
    settings = ServeSettings(path, tmp_path / "data", (nats_server.url,))
    async with serving(settings, eventually) as connection:
        assert len(await hosts(connection)) == 3
    kept = sorted(file.name for file in settings.data.iterdir())
    assert kept == ["bus", "listener.pem", "lock", "reachmap.sqlite", "secret"]


async def test_a_server_that_is_slow_at_the_start_is_waited_for(
    path: Path,
    tmp_path: Path,
    nats_server: Any,
    eventually: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As one that goes away later is: it is told of, and all goes on once it answers."""
    refuse_a_second = app._refuse_a_second

    async def then_slow(connection: bus.Bus, urls: Any) -> None:
        await refuse_a_second(connection, urls)
        monkeypatch.setattr("reachmap_shared.connection._FLUSH_S", 0.05)
        monkeypatch.setattr("reachmap_shared.micro._BEGIN_S", 0.05)
        slow.enter_context(nats_server.held_up())

    monkeypatch.setattr(app, "_refuse_a_second", then_slow)
    settings = ServeSettings(path, tmp_path / "data", (nats_server.url,))
    with contextlib.ExitStack() as slow:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(app.serve(settings))
            await eventually(lambda: any("slow" in one.getMessage() for one in caplog.records))
            monkeypatch.setattr("reachmap_shared.connection._FLUSH_S", 3)
            slow.close()
            await eventually(lambda: answers(settings))
            task.cancel()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
async def test_a_hangup_reads_the_topology_again(
    settings: ServeSettings, path: Path, eventually: Any, office_text: str
) -> None:
    """A wrong file changes nothing; a right one is in force."""

    def hang_up(text: str) -> None:
        path.write_text(text)
        os.kill(os.getpid(), signal.SIGHUP)

    async with serving(settings, eventually) as connection:

        async def has_new_host() -> bool:
            return "new-1" in await hosts(connection)

        await eventually(lambda: callable(signal.getsignal(signal.SIGHUP)))
        hang_up("hosts = 7")
        assert len(await hosts(connection)) == 3
        hang_up(f'{office_text}\n[hosts.new-1]\nroles = ["web"]')
        await eventually(has_new_host)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


async def test_it_has_the_same_secrets_after_a_restart(
    settings: ServeSettings, eventually: Any
) -> None:
    """So that no agent's plan changes."""
    kept = []
    for _ in range(2):
        async with serving(settings, eventually):
            kept.append((settings.data / "secret").read_bytes())
    assert kept[0] == kept[1]
    assert settings.data.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
async def test_a_second_collector_is_refused_the_same_directory(
    settings: ServeSettings, eventually: Any
) -> None:
    """Also on another port: the first one's server and its address are left alone."""
    async with serving(settings, eventually) as connection:
        place = Store(settings.data).place
        elsewhere = embedded.Listening(free_port(embedded.HOST))
        with pytest.raises(ServerError, match="another collector is at work there"):
            await app.serve(replace(settings, listening=elsewhere))
        assert Store(settings.data).place == place
        assert len(await hosts(connection)) == 3


async def test_a_wrong_topology_starts_nothing(settings: ServeSettings, path: Path) -> None:
    """Not even its folder is made."""
    wrong = replace(settings, topology=path.parent)
    with pytest.raises(InvalidFile):
        await app.serve(wrong)
    assert not settings.data.exists()
