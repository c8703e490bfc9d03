"""Programs that we start: they end when told to, when they do not listen, and when we are gone."""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest

from reachmap_collector import process

STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
WILLING = 'import time\nprint("ready", flush=True)\ntime.sleep(600)'


async def started(output: Path, program: str) -> Process:
    """A Python program that has said that it is ready."""
    with output.open("wb") as file:
        child = await process.start(sys.executable, "-c", program, output=file)
    deadline = time.monotonic() + 10
    while not has_said(output, b"ready"):
        assert time.monotonic() < deadline, "the program did not start"
        await asyncio.sleep(0.01)
    return child


def has_said(output: Path, word: bytes) -> bool:
    return word in output.read_bytes()


def is_running(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be reaped (proc(5))."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


async def test_what_is_told_to_stop_stops(tmp_path: Path) -> None:
    """By SIGTERM, which gives it the time to clean up."""
    child = await started(tmp_path / "out", WILLING)
    await process.stop(child)
    assert child.returncode == -signal.SIGTERM


async def test_what_ignores_being_told_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, and together with the others, which have stopped by then."""
    monkeypatch.setattr(process, "_STOP_S", 1.0)
    stubborn = await started(tmp_path / "stubborn", STUBBORN)
    willing = await started(tmp_path / "willing", WILLING)
    await process.stop(stubborn, willing)
    assert stubborn.returncode == -signal.SIGKILL
    assert willing.returncode == -signal.SIGTERM


async def test_several_are_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many stubborn programs take no longer than one: the machine may be busy, but not for all."""
    monkeypatch.setattr(process, "_STOP_S", 1.5)
    children = [await started(tmp_path / str(number), STUBBORN) for number in range(6)]
    began = time.monotonic()
    await process.stop(*children)
    assert time.monotonic() - began < 6 * 1.5
    assert {child.returncode for child in children} == {-signal.SIGKILL}


async def test_what_has_ended_already_is_no_trouble(tmp_path: Path) -> None:
    """It may have ended by itself, or been stopped before."""
    child = await started(tmp_path / "out", 'print("ready", flush=True)')
    await child.wait()
    await process.stop(child)
    await process.stop(child)
    await process.stop()
    assert child.returncode == 0


async def test_stopping_that_is_cut_short_leaves_nothing_running(tmp_path: Path) -> None:
    """Whoever presses Ctrl-C a second time wants it gone at once."""
    child = await started(tmp_path / "out", STUBBORN)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await process.stop(child)
    assert child.returncode == -signal.SIGKILL


async def test_output_goes_where_it_should_and_nothing_is_read(tmp_path: Path) -> None:
    """Both streams to one file; there is no terminal to ask."""
    program = "import sys\nprint('ready', repr(sys.stdin.read()))\nprint('told', file=sys.stderr)"
    child = await started(tmp_path / "out", program)
    await child.wait()
    assert sorted((tmp_path / "out").read_text().split()) == ["''", "ready", "told"]


async def test_ctrl_c_in_the_terminal_is_not_for_the_child(tmp_path: Path) -> None:
    """It is in a session of its own, so we stop it in good order."""
    child = await started(tmp_path / "out", WILLING)
    try:
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
    finally:
        await process.stop(child)


PARENT = """
import asyncio, sys
from reachmap_collector import process

async def main():
    with open(sys.argv[1], "wb") as output:
        child = await process.start(sys.executable, "-c", sys.argv[2], output=output)
    print(child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_a_child_does_not_outlive_a_parent_that_was_killed(
    tmp_path: Path, eventually: Any
) -> None:
    """Not even SIGKILL, which leaves no time to clean up, leaves a server behind."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path / "out"), WILLING, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    await eventually(lambda: (tmp_path / "out").read_bytes() != b"")
    assert is_running(child)
    parent.kill()
    await parent.communicate()
    await eventually(lambda: not is_running(child))


def test_our_own_programs_are_modules_of_this_environment() -> None:
    """Whatever is on PATH; one that is not installed is said not to be there."""
    assert process.own_program("reachmap_collector", "reachmap") == (
        *(sys.executable, "-m", "reachmap_collector"),
    )
    assert process.own_program("reachmap_nonesuch", "reachmap-nonesuch") is None


def test_in_a_package_they_are_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """There is no interpreter to give a module to."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/usr/lib/reachmap-collector/reachmap")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert process.own_program("reachmap_collector", "reachmap") == (sys.executable,)
    assert process.own_program("reachmap_agent", "reachmap-agent") is None
    (tmp_path / "reachmap-agent").touch(mode=0o755)
    found = process.own_program("reachmap_agent", "reachmap-agent")
    assert found == (str(tmp_path / "reachmap-agent"),)
