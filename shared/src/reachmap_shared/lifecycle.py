"""How a long-running reachmap process ends: by SIGINT or SIGTERM, through its own clean-up."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from typing import Any, Final

_ROUNDS: Final = 20
_ROUND_S: Final = 0.1


def run_until_signal(main: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    """Run `main` until it returns or a signal cancels it; a second signal cuts its clean-up short.

    Cancellation is the one way to stop, so every `finally` on the way gets its turn.

    Returns:
        Whether it came to its own end.
    """
    return asyncio.run(_until_signal(main))


async def _until_signal(main: Callable[[], Coroutine[Any, Any, None]]) -> bool:
    task = asyncio.current_task()
    assert task is not None
    told_to_stop = False

    def stop() -> None:
        nonlocal told_to_stop
        told_to_stop = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no such handlers; there Ctrl-C cancels the task by asyncio's own means.
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stop)
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
