"""How a long-running reachmap process ends: through its own clean-up.

SIGINT and SIGTERM end it, or a thread of whatever runs it as a service.
"""

import asyncio
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final

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


def new_loop(platform: str = sys.platform) -> asyncio.AbstractEventLoop:
    """A loop that can watch sockets of our own: Windows's usual one cannot."""
    return asyncio.SelectorEventLoop() if platform == "win32" else asyncio.new_event_loop()


def _run(main: Main, listen: Callable[[Stop], None]) -> bool:
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(_until_told(main, listen))


def _listen_to_signals(stop: Stop) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no such handlers; there Ctrl-C cancels the task by asyncio's own means.
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stop)


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
