"""What the doctor finds on this very host, bus or no bus."""

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from reachmap_agent import cli, clock
from reachmap_agent.ceded import Ceded
from reachmap_agent.doctor.steps import Diagnosis, Result
from reachmap_agent.doctor.table import run
from reachmap_agent.memory import ceded_path, save_plan, spool_path
from reachmap_agent.settings import Settings
from reachmap_agent.spool import Spool
from reachmap_shared import log
from reachmap_shared.messages import ListenerSpec, Plan, ReportKind
from reachmap_shared.vocabulary import ListenMode, Transport

AWAY = "nats://127.0.0.1:1"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's way to log is a process's own, and must not become the tests'."""
    monkeypatch.setattr(log, "configure", lambda **_: None)


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number: int = server.getsockname()[1]
        return number


def keep_plan(settings: Settings, port: int, mode: ListenMode = ListenMode.ON_DEMAND) -> None:
    spec = ListenerSpec("web:80", port, Transport.TCP, "http", mode)
    save_plan(settings, Plan("pc-1", "r1", 10.0, 3.5, "", "", "", (spec,), ()))


async def found(settings: Settings, name: str) -> Diagnosis:
    (one,) = [one for one in await run(settings) if one.name == name]
    return one


@pytest.mark.parametrize(
    ("mode", "prepare", "result", "says"),
    [
        (ListenMode.ON_DEMAND, None, Result.PASS, "held by nobody"),
        (ListenMode.NEVER, None, Result.PASS, "the topology says not to listen there"),
        (ListenMode.ALWAYS, None, Result.FAIL, "held by nobody"),
        (ListenMode.ALWAYS, Ceded.add, Result.PASS, "ceded for good"),
    ],
)
async def test_a_free_port(
    settings: Settings,
    port: int,
    mode: ListenMode,
    prepare: Callable[[Ceded, Any], None] | None,
    result: Result,
    says: str,
) -> None:
    """Free is fine, unless the agent should hold it."""
    keep_plan(settings, port, mode)
    if prepare:
        prepare(Ceded(ceded_path(settings)), (Transport.TCP, port))
    one = await found(settings, f"port {port}/tcp")
    assert one.result is result
    assert says in one.found


async def test_a_held_port_has_its_holder_told(settings: Settings, port: int) -> None:
    """As far as it can be known without privilege."""
    keep_plan(settings, port)
    with socket.create_server(("127.0.0.1", port)):
        one = await found(settings, f"port {port}/tcp")
    assert one.result is Result.PASS
    assert "web:80: held by " in one.found
    assert f"(pid {os.getpid()})" in one.found


async def test_what_waits_and_what_was_dropped(settings: Settings) -> None:
    """As the spool has it, while the agent is at work."""
    spool = Spool(spool_path(settings), "pc-1", "boot", clock.system(), max_bytes=1 << 20)
    spool.account.made = 40
    spool.put(ReportKind.ROLL_UP, b"x", made=40)
    spool.put(ReportKind.CHANGES, b"x", changes=2)
    one = await found(settings, "spool")
    assert one.result is Result.PASS
    assert "40 observations and 2 changes wait for delivery" in one.found
    while not spool.lost:
        spool.put(ReportKind.ROLL_UP, bytes(300_000), made=1)
    one = await found(settings, "spool")
    assert one.result is Result.FAIL and one.to_do
    assert f"{spool.lost} and 0 were dropped" in one.found
    spool.close()


@pytest.mark.parametrize("kind", ["a file", "full"])
async def test_a_disk_that_takes_nothing_fails(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Where a file is in the way, and where there is too little room."""
    if kind == "a file":
        blocked = settings.state / "blocked"
        settings.state.mkdir()
        blocked.write_bytes(b"")
        settings = replace(settings, state=blocked)
    else:
        usage = shutil.disk_usage("/")
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    one = await found(settings, "disk")
    assert one.result is Result.FAIL and one.to_do


def test_the_command_says_it_to_people_and_programs(
    settings: Settings, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line each, what to do below it; JSON on request; exit code 1 when something fails."""
    keep_plan(settings, port)
    arguments = ["doctor", "--id", "pc-1", "--nats", AWAY, "--state", str(settings.state)]
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 1
    text = capsys.readouterr().out
    assert "fail    tcp" in text
    assert "to do: " in text
    with pytest.raises(SystemExit):
        cli.main([*arguments, "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert rows[0] == {"name": "id", "result": "pass", "found": "this host is pc-1", "to_do": ""}


@pytest.mark.parametrize(
    ("text", "code"), [("tcp/80", 0), ("80", 0), ("tcp/81", 1), ("x", 2), ("tcp/0", 2), ("a/1", 2)]
)
def test_a_port_is_reclaimed_once(
    settings: Settings, capsys: pytest.CaptureFixture[str], text: str, code: int
) -> None:
    """What was ceded is free again; what was not, or is no port, is told."""
    Ceded(ceded_path(settings)).add((Transport.TCP, 80))
    ended = 0
    try:
        cli.main(["reclaim", "--id", "pc-1", "--state", str(settings.state), text])
    except SystemExit as end:
        ended = end.code
    assert ended == code
    assert ((Transport.TCP, 80) in Ceded(ceded_path(settings))) is (code != 0)
