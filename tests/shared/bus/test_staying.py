"""Staying: a server that is away is waited for, and nobody who wants to leave is kept."""

import asyncio
import contextlib
import time
from typing import Any

import pytest
from played import INFO, Inbox, playing, shout

from reachmap_shared import bus, micro
from reachmap_shared import connection as connection_
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable


async def test_a_server_that_comes_later_is_waited_for(nats_server: Any) -> None:
    """An agent may be started before its bus."""
    nats_server.stop()
    waiting = asyncio.Event()

    async def start_later() -> None:
        await waiting.wait()
        await asyncio.to_thread(nats_server.start)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(start_later())
        asyncio.get_running_loop().call_later(0.1, waiting.set)
        async with bus.staying([nats_server.url], "test") as connection:
            assert connection.is_connected


async def test_a_bus_that_stays_away_is_told_of_again_and_again(
    nats_server: Any, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start as after a loss, and no more once it is there; unless nobody asked for it."""
    said: list[dict[str, Any]] = []

    class Log:
        def warning(self, event: str, **fields: Any) -> None:
            if event.startswith("bus still away"):
                said.append(fields)

        def info(self, *_: Any, **__: Any) -> None:
            pass

    monkeypatch.setattr(bus, "_log", Log())
    url = nats_server.url.replace("://", "://me:secret@")
    nats_server.stop()

    async def come_back() -> None:
        await eventually(lambda: len(said) >= 2)
        nats_server.start()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(come_back())
        async with bus.staying([url], "test", remind_s=0.05) as connection:
            assert said[-1] == {"servers": nats_server.url, "away_s": said[-1]["away_s"]}
            before = len(said)
            await asyncio.sleep(0.2)  # four times what it would be told of again in
            assert len(said) == before
            nats_server.stop()
            await eventually(lambda: len(said) >= before + 2)
            nats_server.start()
            await eventually(lambda: connection.is_connected)
    before = len(said)
    nats_server.stop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2), bus.staying([url], "test"):
            pass
    assert len(said) == before


async def test_a_server_that_comes_back_finds_everything_as_it_was(
    nats_server: Any, eventually: Any
) -> None:
    """Subscriptions hold, what was published meanwhile arrives, and `on_connect` is called once."""
    inbox = Inbox()
    returns: list[bool] = []

    async def on_connect() -> None:
        returns.append(connection.is_connected)

    async with bus.staying([nats_server.url], "test", on_connect) as connection:
        await connection.subscribe("reachmap.test", inbox)
        assert returns == []
        nats_server.stop()
        await eventually(lambda: not connection.is_connected)
        assert connection.server_host is None
        await connection.publish("reachmap.test", b"meanwhile")
        nats_server.start()
        await eventually(lambda: returns)
        await connection.publish("reachmap.test", b"afterwards")
        await eventually(lambda: len(inbox.messages) == 2)
    assert returns == [True]
    assert inbox.messages == [("reachmap.test", b"meanwhile"), ("reachmap.test", b"afterwards")]


@pytest.mark.parametrize(
    "subscribing",
    [
        lambda connection: connection.subscribe("reachmap.test", Inbox()),
        lambda connection: connection.listen("reachmap.test", lambda _: None),
        lambda connection: connection.answer("reachmap.test", shout),
        lambda connection: connection.serve_queries({}),
    ],
    ids=["subscribe", "listen", "answer", "serve queries"],
)
async def test_a_server_that_is_slow_to_confirm_is_waited_for(
    subscribing: Any,
    nats_server: Any,
    eventually: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As long as it takes, which is told once; who asks but one question does not wait."""
    monkeypatch.setattr(connection_, "_AGAIN_S", 0.01)
    monkeypatch.setattr(micro, "_BEGIN_S", 0.05)

    def told() -> list[str]:
        return [one.getMessage() for one in caplog.records if "slow" in one.getMessage()]

    async with (
        bus.staying([nats_server.url], "test") as connection,
        bus.connected([nats_server.url], "test") as impatient,
        asyncio.TaskGroup() as tasks,
    ):
        monkeypatch.setattr(connection_, "_FLUSH_S", 0.05)
        with nats_server.held_up():
            task = tasks.create_task(subscribing(connection))
            await eventually(told)
            with pytest.raises(BusUnavailable, match="does not answer"):
                await subscribing(impatient)
            assert not task.done()
        monkeypatch.setattr(connection_, "_FLUSH_S", 5)
    assert len(told()) == 1
    assert not task.exception()


class Stay:
    """A task that stays on the bus until it is cancelled."""

    def __init__(self, url: str) -> None:
        self.connection: Bus | None = None
        self._url = url

    async def __call__(self) -> None:
        async with bus.staying([self._url], "test") as self.connection:
            await self.connection.subscribe("reachmap.test", Inbox())
            await asyncio.Event().wait()

    def is_there(self) -> bool:
        return self.connection is not None and self.connection.is_connected


async def ends_soon(task: "asyncio.Task[None]") -> None:
    """Cancel a task, again and again as the end of a process does, and see that it ends at once."""
    started = time.monotonic()
    for _ in range(50):
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)
        if task.done():
            break
    assert task.cancelled()
    assert time.monotonic() - started < 3


async def test_leaving_while_the_server_is_away_is_quick(nats_server: Any, eventually: Any) -> None:
    """A stopped server does not hold up a shutdown."""
    stay = Stay(nats_server.url)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(stay())
        await eventually(stay.is_there)
        nats_server.stop()
        await eventually(lambda: not stay.is_there())
        await ends_soon(task)


async def test_leaving_before_there_was_a_server_is_quick(dead_url: str) -> None:
    """So does one that never was."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(Stay(dead_url)())
        await asyncio.wait({task}, timeout=0.3)
        await ends_soon(task)


@pytest.mark.parametrize("turns", range(10))
async def test_leaving_at_the_moment_the_server_goes_is_quick(
    nats_server: Any, eventually: Any, turns: int
) -> None:
    """Wherever the client is in noticing the loss, it ends with its process."""
    stay = Stay(nats_server.url)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(stay())
        await eventually(stay.is_there)
        nats_server.stop()
        for _ in range(turns):
            await asyncio.sleep(0)
        await ends_soon(task)


async def test_a_server_that_throws_us_out_is_asked_again(
    eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Less and less often, in silence after the first line: an administrator may let us in."""
    monkeypatch.setattr(bus, "_RECONNECT_WAIT_S", 0.01)
    told: list[str] = []

    class Log:
        def info(self, event: str, **_more: Any) -> None:
            told.append(event)

        warning = error = info

    monkeypatch.setattr(bus, "_log", Log())
    arrivals = 0
    is_kind = False

    async def throw_out(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal arrivals
        arrivals += 1
        writer.write(INFO)
        while not (await reader.readline()).startswith(b"PING"):
            pass
        writer.write(b"PONG\r\n")
        if not is_kind:
            writer.write(b"-ERR 'User Authentication Expired'\r\n")
            return
        while line := await reader.readline():
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")

    async with playing(throw_out) as url, bus.staying([url], "test"):
        await eventually(lambda: arrivals >= 5)
        assert told == ["bus refuses us, trying again", "bus lost, reconnecting"]
        is_kind = True
        await eventually(lambda: "bus back" in told)
        assert told[2:] == ["bus back"]


async def test_an_error_in_the_block_stays_what_it_is(nats_server: Any) -> None:
    """A time-out of the caller's own is not taken for the bus's."""
    for error in (TimeoutError("mine"), ValueError("mine")):
        with pytest.raises(type(error), match="mine"):
            async with bus.staying([nats_server.url], "test"):
                raise error


async def test_who_waits_for_a_server_can_be_told_to_leave_at_any_moment(port: int) -> None:
    """Also while the client's own waiting loses the word, which it does at a refused connection."""

    async def wait_for_a_server() -> None:
        async with bus.staying([f"nats://127.0.0.1:{port}"], "test"):
            pass

    for moment in range(40):
        waiting = asyncio.get_running_loop().create_task(wait_for_a_server())
        for _ in range(moment):
            await asyncio.sleep(0)
        waiting.cancel()
        done, _ = await asyncio.wait({waiting}, timeout=5)
        assert done, f"lost after {moment} turns of the loop"
        assert waiting.cancelled()
