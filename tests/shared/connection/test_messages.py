"""Messages on the bus: each arrives once, in order, and to one who listens at a time."""

import asyncio
from typing import Any

import pytest
from nats.aio.client import Client
from played import INFO, Inbox, playing, shout

from reachmap_shared import bus
from reachmap_shared.errors import BusUnavailable


async def test_what_is_published_arrives_once_and_in_order(
    nats_server: Any, eventually: Any
) -> None:
    """Subject and payload as they were sent, one after the other."""
    inbox = Inbox()
    async with (
        bus.staying([nats_server.url], "receiver") as receiver,
        bus.staying([nats_server.url], "sender") as sender,
    ):
        await receiver.subscribe("reachmap.test.*", inbox)
        sent = [(f"reachmap.test.{n % 3}", str(n).encode()) for n in range(100)]
        for subject, payload in sent:
            await sender.publish(subject, payload)
        await eventually(lambda: len(inbox.messages) >= len(sent))
        assert inbox.messages == sent


async def test_a_subscription_holds_when_it_is_made() -> None:
    """The server has confirmed it: what anybody publishes from now on arrives."""
    lines: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO)
        while line := await reader.readline():
            lines.append(line.split()[0])
            if line.startswith(b"PING"):
                writer.write(b"PONG\r\n")

    async with playing(serve) as url, bus.staying([url], "test") as connection:
        await connection.subscribe("reachmap.test", Inbox())
        assert b"PING" in lines[lines.index(b"SUB") :]


async def test_a_handler_is_never_called_twice_at_once(nats_server: Any, eventually: Any) -> None:
    """A plan is not taken up while the one before it still is."""
    running = 0
    seen: list[int] = []

    async def handler(_subject: str, _payload: bytes) -> None:
        nonlocal running
        running += 1
        await asyncio.sleep(0.001)  # a turn for whoever came meanwhile
        seen.append(running)
        running -= 1

    async with bus.staying([nats_server.url], "test") as connection:
        await connection.subscribe("reachmap.test", handler)
        for _ in range(20):
            await connection.publish("reachmap.test", b"")
        await eventually(lambda: len(seen) == 20)
    assert set(seen) == {1}


async def test_a_handler_that_fails_hears_the_next_message(
    nats_server: Any, eventually: Any
) -> None:
    """One bad message does not make a host deaf."""
    heard: list[bytes] = []

    async def handler(_subject: str, payload: bytes) -> None:
        heard.append(payload)
        raise ValueError("odd")

    async with bus.staying([nats_server.url], "test") as connection:
        await connection.subscribe("reachmap.test", handler)
        for payload in (b"1", b"2"):
            await connection.publish("reachmap.test", payload)
        await eventually(lambda: heard == [b"1", b"2"])
        assert connection.is_connected


async def test_the_server_in_use_is_known(nats_server: Any) -> None:
    """An agent takes the route to it for its way out; without a server there is none."""
    async with bus.staying([nats_server.url], "test") as connection:
        assert connection.is_connected
        assert connection.server_host == "127.0.0.1"
    assert not connection.is_connected
    assert connection.server_host is None


async def test_what_cannot_be_sent_is_bus_unavailable(nats_server: Any) -> None:
    """The client's own errors stay in the bus: too large a message, and a connection that ended."""
    async with bus.staying([nats_server.url], "test") as connection:
        with pytest.raises(BusUnavailable, match=r"cannot publish: .*payload"):
            await connection.publish("reachmap.test", bytes(2 << 20))
        await connection.publish("reachmap.test", b"small enough")
    with pytest.raises(BusUnavailable, match="cannot publish"):
        await connection.publish("reachmap.test", b"")
    with pytest.raises(BusUnavailable):
        await connection.subscribe("reachmap.test", Inbox())
    with pytest.raises(BusUnavailable):
        await connection.answer("reachmap.test", shout)
    with pytest.raises(BusUnavailable):
        await connection.request("reachmap.test", b"", timeout_s=1)
    with pytest.raises(BusUnavailable):
        await connection.flush()
    with pytest.raises(BusUnavailable):
        await connection.query("status", {})


async def test_the_last_word_gets_out(nats_server: Any, other: Client, eventually: Any) -> None:
    """What is published just before the end is flushed: a farewell arrives."""
    heard: list[bytes] = []

    async def hear(message: Any) -> None:
        heard.append(message.data)

    await other.subscribe("reachmap.test", cb=hear)
    await other.flush()
    async with bus.staying([nats_server.url], "test") as connection:
        for number in range(100):
            await connection.publish("reachmap.test", b"%d" % number)
    await eventually(lambda: len(heard) == 100)
