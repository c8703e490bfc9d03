"""How a process ends. Each test is a real process that is sent real signals."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reachmap_shared.lifecycle import run_until_signal

PATIENCE_S = 20

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

PRELUDE = """
import asyncio
from reachmap_shared.lifecycle import run_until_signal

def say(text):
    print(text, flush=True)

async def stubborn(times):
    # Loses cancellations, as asyncio.wait_for does when one meets its result.
    for _ in range(times):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            say("cancelled")
    await asyncio.sleep(3600)
"""


@contextmanager
def process(code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process that has come as far as saying "ready"."""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # so that a line read leaves the next ones to `end`
    ) as child:
        try:
            assert next_line(child) == "ready"
            yield child
        finally:
            child.kill()


def next_line(child: subprocess.Popen[bytes]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().decode().rstrip()


def end(child: subprocess.Popen[bytes]) -> tuple[int, list[str], str]:
    """Wait for the end: exit code, lines said, errors."""
    output, errors = child.communicate(timeout=PATIENCE_S)
    return child.returncode, output.decode().splitlines(), errors.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_runs_every_clean_up(number: signal.Signals) -> None:
    """SIGTERM and SIGINT alike: the inner one, the outer one, and a quiet end."""
    code = """
async def inner():
    try:
        say("ready")
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        say("inner")

async def main():
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(inner())
    finally:
        await asyncio.sleep(0)
        say("outer")

say(run_until_signal(main))
"""
    with process(code) as child:
        child.send_signal(number)
        assert end(child) == (0, ["inner", "outer", "False"], "")


def test_a_second_signal_cuts_the_clean_up_short() -> None:
    """Somebody who presses Ctrl-C twice means it; there is still no traceback."""
    code = """
async def main():
    try:
        say("ready")
        await asyncio.sleep(3600)
    finally:
        say("cleaning")
        await asyncio.sleep(3600)

say(run_until_signal(main))
"""
    with process(code) as child:
        child.send_signal(signal.SIGTERM)
        assert next_line(child) == "cleaning"
        child.send_signal(signal.SIGTERM)
        assert end(child) == (0, ["False"], "")


@pytest.mark.parametrize("times", [1, 5])
def test_a_task_that_swallows_a_cancellation_does_not_hang_the_exit(times: int) -> None:
    """It is cancelled again until it ends."""
    code = f"""
async def main():
    task = asyncio.create_task(stubborn({times}))
    await asyncio.sleep(0)
    say("ready")
    await asyncio.sleep(3600)

say(run_until_signal(main))
"""
    with process(code) as child:
        child.send_signal(signal.SIGTERM)
        assert end(child) == (0, [*["cancelled"] * times, "False"], "")


def test_a_second_signal_while_tasks_are_ended_is_no_crash() -> None:
    """The exit stays a quiet one."""
    code = """
async def main():
    task = asyncio.create_task(stubborn(10))
    await asyncio.sleep(0)
    say("ready")
    await asyncio.sleep(3600)

say(run_until_signal(main))
"""
    with process(code) as child:
        child.send_signal(signal.SIGTERM)
        assert next_line(child) == "cancelled"
        child.send_signal(signal.SIGTERM)
        exit_code, said, errors = end(child)
        assert (exit_code, said[-1], errors) == (0, "False", "")


def test_an_error_ends_the_process_as_an_error() -> None:
    """Whoever started it sees the exit code and the reason; what still ran is ended."""
    code = """
async def other():
    try:
        await asyncio.sleep(3600)
    finally:
        say("ended")

async def main():
    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    say("ready")
    raise ValueError("odd")

run_until_signal(main)
"""
    with process(code) as child:
        exit_code, said, errors = end(child)
    assert (exit_code, said) == (1, ["ended"])
    assert errors.endswith("ValueError: odd\n")


def test_the_end_of_the_work_is_told_from_a_signal() -> None:
    """True when `main` came to its own end."""
    done = []

    async def main() -> None:
        done.append(await asyncio.sleep(0, "work"))

    assert run_until_signal(main) is True
    assert done == ["work"]


def test_a_cancellation_that_no_signal_asked_for_is_not_swallowed() -> None:
    """It is a mistake in the program, and shown as such."""

    async def main() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_until_signal(main)
