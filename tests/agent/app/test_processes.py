"""Real agents, each a process, on a real bus."""

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_at_work import LOOPBACK

from reachmap_shared import bus, codec
from reachmap_shared.errors import MalformedMessage
from reachmap_shared.messages import Hello, Presence


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts real agents, their output in files; none is left behind."""
    made: list[subprocess.Popen[bytes]] = []

    def start(url: str, name: str) -> subprocess.Popen[bytes]:
        own = ["--id", name, "--nats", url, "--address", LOOPBACK]
        with (tmp_path / f"{name}.log").open("wb") as output:
            made.append(
                subprocess.Popen(
                    [sys.executable, "-m", "reachmap_agent", "run", *own],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=tmp_path,
                )
            )
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.wait()


@pytest.fixture
async def hellos(nats_server: Any) -> AsyncIterator[list[Hello]]:
    """What agents say on a real bus, as the collector hears it."""
    heard: list[Hello] = []

    async def hear(_subject: str, payload: bytes) -> None:
        with contextlib.suppress(MalformedMessage):
            heard.append(codec.decode(Hello, payload))

    async with bus.staying([nats_server.url], "test") as connection:
        await connection.subscribe("reachmap.hello.*", hear)
        yield heard


async def ended(process: subprocess.Popen[bytes]) -> int:
    """A process's exit code; fails when it hangs."""
    return await asyncio.wait_for(asyncio.to_thread(process.wait, 20), 30)


async def test_a_real_agent_joins_and_leaves(
    nats_server: Any, hellos: list[Hello], agents: Any, eventually: Any
) -> None:
    """As a process on a real bus: hello, SIGTERM, farewell, exit code 0."""
    process = agents(nats_server.url, "pc-17")
    await eventually(lambda: hellos)
    process.send_signal(signal.SIGTERM)
    assert await ended(process) == 0
    await eventually(lambda: hellos[-1].presence is Presence.LEAVING)
    assert {hello.agent for hello in hellos} == {"pc-17"}


async def test_an_agent_told_to_stop_as_its_server_goes_does_stop(
    nats_server: Any, hellos: list[Hello], agents: Any, eventually: Any, tmp_path: Path
) -> None:
    """It hung once: the client lost the cancellation in noticing the loss, and waited for ever."""
    delays = [0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.5, 1.2]
    processes = {n: agents(nats_server.url, f"pc-{n}") for n in range(len(delays))}
    await eventually(lambda: len({hello.agent for hello in hellos}) == len(delays))
    nats_server.stop()
    gone = time.monotonic()
    for number, delay in enumerate(delays):
        await asyncio.sleep(max(0, gone + delay - time.monotonic()))  # each at another moment
        processes[number].send_signal(signal.SIGTERM)
    for number, process in processes.items():
        assert await ended(process) == 0, (tmp_path / f"pc-{number}.log").read_text()


async def test_an_agent_that_waits_for_its_server_can_be_stopped(
    nats_server: Any, agents: Any, tmp_path: Path, eventually: Any
) -> None:
    """There never was one: it says so in its log, and goes when told to."""
    nats_server.stop()
    process = agents(nats_server.url, "pc-17")
    await eventually(lambda: "bus trouble" in (tmp_path / "pc-17.log").read_text())
    process.send_signal(signal.SIGINT)
    assert await ended(process) == 0
