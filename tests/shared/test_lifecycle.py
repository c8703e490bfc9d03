"""How a process ends. Each test is a real process that is sent real signals."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from reachmap_shared.lifecycle import Stopper, new_loop, run_until_signal, run_until_stopped

if sys.platform != "win32":
    import fcntl
    import termios

PATIENCE_S = 20

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

PRELUDE = """
import asyncio
import signal
from reachmap_shared.lifecycle import run_until_signal

# Where the tests were started by nohup, that was not meant for what they start.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

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
def process(code: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process that has come as far as saying "ready"."""
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,  # so that a line read leaves the next ones to `end`
        **options,
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


def test_another_thread_ends_it() -> None:
    """Through its clean-up; as Windows ends a service."""
    stopper, begun, told = Stopper(), threading.Event(), []

    async def main() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.append("cleaned up")

    def stop() -> None:
        begun.wait(PATIENCE_S)
        stopper.stop()

    other = threading.Thread(target=stop)
    other.start()
    assert run_until_stopped(main, stopper) is False
    other.join()
    assert told == ["cleaned up"]


def test_what_was_stopped_before_it_began_ends_at_once() -> None:
    """The manager may change its mind while the service starts."""
    stopper = Stopper()
    stopper.stop()

    async def main() -> None:
        await asyncio.Event().wait()

    assert run_until_stopped(main, stopper) is False


def test_its_own_end_is_told_and_a_late_word_is_no_error() -> None:
    """There is no loop any more that could be told."""
    stopper = Stopper()

    async def main() -> None:
        pass

    assert run_until_stopped(main, stopper) is True
    stopper.stop()


def test_windows_gets_a_loop_that_watches_sockets() -> None:
    """Its usual one cannot, and checks and listeners have sockets of their own."""
    loop = new_loop("win32")
    assert isinstance(loop, asyncio.SelectorEventLoop)
    loop.close()


# A hangup.

SERVICE = """
from reachmap_shared.lifecycle import on_hangup

async def main():
    try:
        with on_hangup(lambda: say("again")):
            say("ready")
            await asyncio.sleep(3600)
    finally:
        say("cleaning")
        await asyncio.sleep(0.3)
        say("cleaned")

say(run_until_signal(main))
"""


class Terminal:
    """A terminal for one process, until it is closed."""

    def __init__(self) -> None:
        self._ours, self.its = os.openpty()

    def close(self) -> None:
        for end in (self._ours, self.its):
            with contextlib.suppress(OSError):
                os.close(end)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    made.close()


def take_terminal() -> None:
    """Be whom the kernel tells that the terminal on standard input is gone."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_terminal_that_is_closed_ends_what_runs_there(terminal: Terminal) -> None:
    """By its clean-up, which shell and kernel together do not cut short."""
    with process(
        SERVICE, stdin=terminal.its, start_new_session=True, preexec_fn=take_terminal
    ) as child:
        terminal.close()
        assert next_line(child) == "cleaning"
        child.send_signal(signal.SIGHUP)
        assert end(child) == (0, ["cleaned", "False"], "")


def test_a_shell_that_tells_of_the_end_before_it_comes(terminal: Terminal) -> None:
    """One in the background is told by the shell, and by nobody else."""
    with process(SERVICE, stdin=terminal.its) as child:
        child.send_signal(signal.SIGHUP)
        assert next_line(child) == "again"
        terminal.close()
        assert end(child) == (0, ["cleaning", "cleaned", "False"], "")


@pytest.mark.parametrize("has_terminal", [True, False])
def test_a_signal_by_hand_is_what_daemons_make_of_it(
    terminal: Terminal, has_terminal: bool
) -> None:
    """As often as it comes; also where somebody watches, while the terminal is there."""
    with process(SERVICE, stdin=terminal.its if has_terminal else subprocess.DEVNULL) as child:
        for _ in range(3):
            child.send_signal(signal.SIGHUP)
            assert next_line(child) == "again"
        child.send_signal(signal.SIGTERM)
        assert end(child) == (0, ["cleaning", "cleaned", "False"], "")


HANGING = """
async def main():
    try:
        say("ready")
        await asyncio.sleep(3600)
    finally:
        say("cleaning")
        await asyncio.sleep(0.3)
        say("cleaned")

say(run_until_signal(main))
"""


def test_what_makes_nothing_else_of_a_hangup_ends_by_it() -> None:
    """Once, however often it is told."""
    with process(HANGING) as child:
        child.send_signal(signal.SIGHUP)
        assert next_line(child) == "cleaning"
        child.send_signal(signal.SIGHUP)
        assert end(child) == (0, ["cleaned", "False"], "")


def test_nohup_is_heeded() -> None:
    """Who started it that way wants it to go on."""
    with process(f"signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{HANGING}") as child:
        child.send_signal(signal.SIGHUP)
        child.send_signal(signal.SIGTERM)
        assert end(child) == (0, ["cleaning", "cleaned", "False"], "")
