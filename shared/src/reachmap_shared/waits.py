"""Waiting that ends when it should: after a while, or when its task is told to stop.

Python 3.11 has two faults that make tasks of their own necessary. `asyncio.wait_for` loses a
cancellation that meets its result. And in its first releases, Debian 12's among them, the end of an
`asyncio.timeout` is no TimeoutError where the task was cancelled before: what has to be done at the
end would be left undone.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

_CANCEL_AGAIN_S: Final = 0.2

Result = TypeVar("Result")


async def within(seconds: float, operation: Coroutine[Any, Any, object]) -> bool:
    """Await an operation for so long at most, in a task that was told to stop, too.

    Returns:
        Whether it came to its end: not if it took longer, and was cancelled, or if somebody else
        cancelled it or what it waited for. What it raises is raised.
    """
    working = asyncio.get_running_loop().create_task(operation)
    try:
        await asyncio.wait({working}, timeout=seconds)
        ended = working.done() and not working.cancelled()
    finally:
        await _end(working)
    if ended:
        working.result()
    return ended


async def cancellable(operation: Coroutine[Any, Any, Result]) -> Result:
    """Await an operation that may lose a cancellation, and be cancelled if we were meanwhile."""
    working = asyncio.get_running_loop().create_task(operation)
    try:
        await asyncio.wait({working})
    finally:
        await _end(working)
    return working.result()


async def _end(working: asyncio.Task[Any]) -> None:
    while not working.done():
        working.cancel()
        await asyncio.wait({working}, timeout=_CANCEL_AGAIN_S)
    if not working.cancelled():
        working.exception()  # perhaps nobody asks for it any more
