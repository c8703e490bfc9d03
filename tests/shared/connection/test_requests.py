"""Requests between agents: answered by whom they are for, and heard by nobody else."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from nats.aio.client import Client
from played import Inbox, shout

from reachmap_shared import bus
from reachmap_shared.access import Access
from reachmap_shared.errors import BusUnavailable


async def test_who_listens_gets_the_whole_message(nats_server: Any, eventually: Any) -> None:
    """Subject, payload and where to answer, in their order; answers come to an inbox of one's own."""
    heard: list[bus.Delivery] = []
    answers: list[bus.Delivery] = []
    async with bus.staying([nats_server.url], "test") as connection:
        inbox = connection.new_inbox()
        await connection.listen("reachmap.test.*", heard.append)
        await connection.listen(inbox, answers.append)
        await connection.publish("reachmap.test.a", b"1", inbox)
        await connection.publish("reachmap.test.b", b"2")
        await eventually(lambda: len(heard) == 2)
        assert heard == [
            bus.Delivery("reachmap.test.a", b"1", inbox, {}),
            bus.Delivery("reachmap.test.b", b"2", "", {}),
        ]
        await connection.publish(heard[0].reply, b"yes")
        await eventually(lambda: [one.payload for one in answers] == [b"yes"])


@pytest.fixture
async def shouting(nats_server: Any) -> AsyncIterator[str]:
    """The URL of a bus on which somebody answers requests."""
    async with bus.staying([nats_server.url], "shouting") as connection:
        await connection.answer("reachmap.test", shout)
        yield nats_server.url


async def test_a_request_comes_back_with_its_answer(shouting: str) -> None:
    """Bytes in, bytes out, each asker with its own."""
    async with bus.connected([shouting], "test") as connection:
        questions = [b"question %d" % n for n in range(50)]
        answers = await asyncio.gather(
            *(connection.request("reachmap.test", question, 5) for question in questions)
        )
        assert [one.payload for one in answers] == [question.upper() for question in questions]
        assert (await connection.request("reachmap.test", b"", 5)).payload == b""


async def test_one_agent_asks_another_and_hears_it_alone(nats_server: Any, other: Client) -> None:
    """Each answer comes to the question it belongs to; another's inbox is another's subject."""
    mine = Access(inbox="_INBOX.pc-1")

    async def answer(message: Any) -> None:
        assert message.reply.startswith("_INBOX.pc-1.pc-2.answer.")
        await message.respond(message.data.upper())

    await other.subscribe("reachmap.window.pc-2.*", cb=answer)
    await other.flush()
    async with bus.connected([nats_server.url], "test", mine) as connection:
        answers = await asyncio.gather(
            *(
                connection.ask("reachmap.window.pc-2.pc-1", b"question %d" % n, 5, "pc-2")
                for n in range(20)
            )
        )
        assert answers == [b"QUESTION %d" % n for n in range(20)]


async def test_an_agent_that_is_gone_is_told_at_once(nats_server: Any) -> None:
    """The server knows that nobody listens; one that listens and is silent is not waited for."""
    async with bus.connected([nats_server.url], "test", Access(inbox="_INBOX.pc-1")) as connection:
        started = time.monotonic()
        with pytest.raises(BusUnavailable, match="nobody there to ask"):
            await connection.ask("reachmap.window.pc-2.pc-1", b"", 60, "pc-2")
        assert time.monotonic() - started < 10
        await connection.subscribe("reachmap.window.pc-2.pc-1", Inbox())
        with pytest.raises(BusUnavailable, match=r"no answer in 0\.2 s"):
            await connection.ask("reachmap.window.pc-2.pc-1", b"", 0.2, "pc-2")


async def test_whoever_may_not_ask_gets_no_answer(nats_server: Any) -> None:
    """Where the handler has none; others are answered as before."""

    async def answer(_subject: str, payload: bytes) -> bytes | None:
        return None if payload == b"stranger" else payload.upper()

    mine = Access(inbox="_INBOX.pc-1")
    async with (
        bus.connected([nats_server.url], "test") as asked,
        bus.connected([nats_server.url], "test", mine) as connection,
    ):
        await asked.answer("reachmap.witness.pc-2.*", answer)
        subject = "reachmap.witness.pc-2.pc-1"
        with pytest.raises(BusUnavailable, match=r"no answer in 0\.2 s"):
            await connection.ask(subject, b"stranger", 0.2, "pc-2")
        assert await connection.ask(subject, b"friend", 5, "pc-2") == b"FRIEND"


async def test_nobody_there_to_ask_is_told_at_once(shouting: str) -> None:
    """A check does not wait for the window of a host whose agent is gone."""
    async with bus.connected([shouting], "test") as connection:
        started = time.monotonic()
        with pytest.raises(BusUnavailable, match="nobody there to ask"):
            await connection.request("reachmap.test.elsewhere", b"", timeout_s=60)
        assert time.monotonic() - started < 10


async def test_an_answer_that_does_not_come_is_not_waited_for(nats_server: Any) -> None:
    """The asker gives up in the time it said; who answers later harms nobody."""
    asked = asyncio.Event()

    async def ponder(_subject: str, _payload: bytes) -> bytes:
        asked.set()
        await asyncio.sleep(60)
        return b""

    async with (
        bus.staying([nats_server.url], "slow") as slow,
        bus.staying([nats_server.url], "test") as connection,
    ):
        await slow.answer("reachmap.test", ponder)
        with pytest.raises(BusUnavailable, match=r"no answer in 0\.2 s"):
            await connection.request("reachmap.test", b"", timeout_s=0.2)
        await asyncio.wait_for(asked.wait(), 15)
        assert connection.is_connected


async def test_an_answer_that_fails_leaves_the_next_one_be(nats_server: Any) -> None:
    """One odd request does not make a host deaf."""

    async def handler(_subject: str, payload: bytes) -> bytes:
        if payload == b"odd":
            raise ValueError("odd")
        return b"fine"

    async with bus.staying([nats_server.url], "test") as connection:
        await connection.answer("reachmap.test", handler)
        with pytest.raises(BusUnavailable, match="no answer"):
            await connection.request("reachmap.test", b"odd", timeout_s=0.2)
        assert (await connection.request("reachmap.test", b"even", timeout_s=5)).payload == b"fine"


async def test_what_asks_for_no_answer_gets_none(nats_server: Any, other: Client) -> None:
    """A plain message on the subject is passed over, and not handled either."""
    handled: list[bytes] = []

    async def handler(_subject: str, payload: bytes) -> bytes:
        handled.append(payload)
        return b""

    async with bus.staying([nats_server.url], "test") as connection:
        await connection.answer("reachmap.test", handler)
        await other.publish("reachmap.test", b"plain")
        await other.flush()
        await connection.request("reachmap.test", b"asked", timeout_s=5)
    assert handled == [b"asked"]


async def test_requests_are_answered_again_when_the_server_is_back(
    nats_server: Any, eventually: Any
) -> None:
    """An agent goes on opening windows after the bus was restarted."""
    async with bus.staying([nats_server.url], "test") as connection:
        await connection.answer("reachmap.test", shout)
        nats_server.stop()
        await eventually(lambda: not connection.is_connected)
        nats_server.start()
        await eventually(lambda: connection.is_connected)
        assert (await connection.request("reachmap.test", b"a", timeout_s=5)).payload == b"A"
