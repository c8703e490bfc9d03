"""Waits end when they should, in a task that was told to stop, too."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from reachmap_shared import waits
from reachmap_shared.waits import cancellable, within

Wait = Callable[[], Awaitable[Any]]


async def at_the_end_of_a_cancelled_task(waiting: Wait) -> Any:
    """What waiting comes to where a task does what has to be done before it is gone."""
    came_to: list[Any] = []

    async def be_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            came_to.append(await waiting())

    task = asyncio.get_running_loop().create_task(be_cancelled())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return came_to[0]


async def of_a_task(waiting: Wait) -> Any:
    """The same in a task that nobody cancelled."""
    return await waiting()


@pytest.mark.parametrize("where", [of_a_task, at_the_end_of_a_cancelled_task])
async def test_it_says_whether_it_came_to_its_end(where: Callable[[Wait], Awaitable[Any]]) -> None:
    """What takes longer is cancelled, and nobody is told to stop but it."""
    ended: list[str] = []

    async def quick() -> None:
        ended.append("quick")

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("endless")

    assert await where(lambda: within(20, quick())) is True
    assert await where(lambda: within(0.01, endless())) is False
    assert ended == ["quick", "endless"]


async def test_what_it_raises_is_raised() -> None:
    """Too late it is of no interest any more."""

    async def fail(after: float) -> None:
        try:
            await asyncio.sleep(after)
        finally:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await within(20, fail(0))
    assert await within(0.01, fail(60)) is False


async def test_what_others_cancel_does_not_cancel_us() -> None:
    """As where a connection is closed by two, and one of them is told to stop."""
    shared = asyncio.get_running_loop().create_future()

    async def closed() -> None:
        await shared

    asyncio.get_running_loop().call_soon(shared.cancel)
    assert await within(20, closed()) is False


@pytest.mark.parametrize("wait", [lambda one: within(60, one), cancellable])
async def test_a_lost_cancellation_is_repeated(wait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is told to stop stops, and what it waited for with it."""
    monkeypatch.setattr(waits, "_CANCEL_AGAIN_S", 0.01)
    lost: list[bool] = []
    begun = asyncio.Event()

    async def stubborn() -> None:
        begun.set()
        for _ in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost.append(True)
        await asyncio.Event().wait()

    task = asyncio.get_running_loop().create_task(wait(stubborn()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(lost) == 3
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_result_is_handed_on() -> None:
    """As if it had been awaited."""

    async def seven() -> int:
        return 7

    assert await cancellable(seven()) == 7
