"""How a long-running reachmap process ends: through its own clean-up.

SIGINT, SIGTERM and SIGHUP end it, or a thread of whatever runs it as a service. To what runs in the
background a hangup has long meant something else, which is to read its settings again; but where
the terminal it was started at is gone, nobody is left who could mean that.
"""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final

_STANDARD: Final = (0, 1, 2)
"""Input, output and errors."""

_PARTING_S: Final = 1.0
"""From a shell's last word to the end of its terminal."""

_ROUNDS: Final = 20
_ROUND_S: Final = 0.1

Main = Callable[[], Coroutine[Any, Any, None]]
Stop = Callable[[], None]
"""Ends what runs; called in the loop's own thread."""


class Stopper:
    """Ends what `run_until_stopped` runs, from any thread: at once where it has not begun yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._told = False
        self._listening: tuple[asyncio.AbstractEventLoop, Stop] | None = None

    def stop(self) -> None:
        """Tell it to end; it has ended when `run_until_stopped` returns."""
        with self._lock:
            self._told = True
            self._pass_on()

    def listen(self, stop: Stop) -> None:
        """Have `stop` called in this loop; whoever listens forgets it when it ends."""
        with self._lock:
            self._listening = asyncio.get_running_loop(), stop
            self._pass_on()

    def forget(self) -> None:
        """The loop is about to close."""
        with self._lock:
            self._listening = None

    def _pass_on(self) -> None:
        if self._told and self._listening is not None:
            loop, stop = self._listening
            loop.call_soon_threadsafe(stop)


def run_until_signal(main: Main) -> bool:
    """Run `main` until it returns or a signal cancels it; a second signal cuts its clean-up short.

    Cancellation is the one way to stop, so every `finally` on the way gets its turn.

    Returns:
        Whether it came to its own end.
    """
    return _run(main, _listen_to_signals)


def run_until_stopped(main: Main, stopper: Stopper) -> bool:
    """Likewise, until `stopper` cancels it; may be called in any thread."""
    try:
        return _run(main, stopper.listen)
    finally:
        stopper.forget()


@contextlib.contextmanager
def on_hangup(call: Callable[[], None]) -> Iterator[None]:
    """Have `call` called on SIGHUP; where the terminal is gone, end what runs, as SIGTERM does."""
    if sys.platform == "win32":
        yield
        return
    loop = asyncio.get_running_loop()
    terminals = [number for number in _STANDARD if os.isatty(number)]
    ended = False

    def end_if_gone() -> bool:
        nonlocal ended
        if terminals and not ended and not any(map(os.isatty, terminals)):
            ended = True
            signal.raise_signal(signal.SIGTERM)
        return ended

    def hear() -> None:
        if not end_if_gone():
            call()
            # A shell that ends says so to what it has started before the terminal is gone.
            loop.call_later(_PARTING_S, end_if_gone)

    loop.add_signal_handler(signal.SIGHUP, hear)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        if ended:  # it is told by the shell and by the kernel, and once is enough
            signal.signal(signal.SIGHUP, signal.SIG_IGN)


def new_loop(platform: str = sys.platform) -> asyncio.AbstractEventLoop:
    """A loop that can watch sockets of our own: Windows's usual one cannot."""
    return asyncio.SelectorEventLoop() if platform == "win32" else asyncio.new_event_loop()


def _run(main: Main, listen: Callable[[Stop], None]) -> bool:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_until_told(main, listen))


def _listen_to_signals(stop: Stop) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no such handlers; there Ctrl-C cancels the task by asyncio's own means.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stop)
    # What nohup started is to go on.
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, _once(stop))


def _once(stop: Stop) -> Stop:
    """A hangup is told by shell and kernel, and neither is impatient."""
    told: list[bool] = []

    def hang_up() -> None:
        if not told:
            told.append(True)
            stop()

    return hang_up


async def _until_told(main: Main, listen: Callable[[Stop], None]) -> bool:
    task = asyncio.current_task()
    assert task is not None
    told_to_stop = False

    def stop() -> None:
        nonlocal told_to_stop
        told_to_stop = True
        task.cancel()

    listen(stop)
    try:
        await main()
    except asyncio.CancelledError:
        if not told_to_stop:
            raise
        return False
    else:
        return True
    finally:
        await _end_stragglers()


async def _end_stragglers() -> None:
    """Cancel what still runs until it ends.

    Once is not always enough: before Python 3.12 `asyncio.wait_for` loses a cancellation that
    meets its result, and a library's reconnecting loop then goes on for ever.
    """
    for _ in range(_ROUNDS):
        stragglers = asyncio.all_tasks() - {asyncio.current_task()}
        if not stragglers:
            return
        for task in stragglers:
            task.cancel()
        # A second signal has nothing left to cut short: to stop here would leave them to hang.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(stragglers, timeout=_ROUND_S)
