"""What is listened to comes whole and in order, however the octets were cut on their way."""

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_shared import bus
from reachmap_shared.straight import Delivery, StraightParser

LISTENED, OTHERS = 7, 12


class Client:
    """What a parser needs of one: notes what goes the client's own way."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen
        self.stats = {"in_msgs": 0, "in_bytes": 0}

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, payload: bytes, headers: bytes | None
    ) -> None:
        self.seen.append((sid, subject.decode(), payload, reply.decode(), headers))

    async def _process_ping(self) -> None:
        self.seen.append("ping")


payloads = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\r\n", b"MSG a 7 3\r\nabc\r\n", b"PING\r\n", bytes(70_000)]),
)
messages = st.tuples(
    st.sampled_from([LISTENED, LISTENED, LISTENED, OTHERS]),
    st.sampled_from(["a", "reachmap.report.pc-1"]),
    payloads,
    st.sampled_from(["", "$JS.ACK.a.b.1.2.3.4.5"]),
    st.sampled_from([None, None, None, b"NATS/1.0 404\r\n\r\n"]),
)
said = st.lists(st.one_of(messages, st.just("ping")), max_size=12)


def wire(one: Any) -> bytes:
    """As a server sends it."""
    if one == "ping":
        return b"PING\r\n"
    number, subject, payload, reply, headers = one
    to = f"{subject} {number} {reply} " if reply else f"{subject} {number} "
    if headers is None:
        return b"MSG %s%d\r\n%s\r\n" % (to.encode(), len(payload), payload)
    sizes = b"%d %d" % (len(headers), len(headers) + len(payload))
    return b"HMSG %s%s\r\n%s%s\r\n" % (to.encode(), sizes, headers, payload)


@given(said, st.lists(st.integers(1, 60), min_size=1, max_size=8))
def test_however_it_is_cut_all_comes_in_order(all_of_it: list[Any], cuts: list[int]) -> None:
    """What is listened to and what is not, to the octet."""
    seen: list[Any] = []
    client = Client(seen)
    parser = StraightParser(client)  # type: ignore[arg-type]  # all that it needs of one

    def hear(message: Delivery) -> None:
        seen.append((LISTENED, message.subject, message.payload, message.reply, None))

    parser.listeners[b"%d" % LISTENED] = hear
    octets = b"".join(map(wire, all_of_it))

    async def parse() -> None:
        place, turn = 0, 0
        while place < len(octets):
            size = cuts[turn % len(cuts)] if place < 2000 else 20_000
            await parser.parse(octets[place : place + size])
            place, turn = place + size, turn + 1

    asyncio.run(parse())
    assert seen == all_of_it
    straight = [one for one in all_of_it if one != "ping" and one[0] == LISTENED and one[4] is None]
    assert client.stats["in_msgs"] <= len(straight)  # the rest is the client's own to count


async def test_one_who_fails_to_hear_does_not_end_the_connection(
    nats_server: Any, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The log tells of it, and what comes next is heard."""
    heard: list[bytes] = []

    def hear(message: Delivery) -> None:
        if message.payload == b"bad":
            raise ValueError("cannot hear that")
        heard.append(message.payload)

    with caplog.at_level(logging.ERROR):
        async with bus.staying([nats_server.url], "test") as connection:
            await connection.listen("reachmap.test", hear)
            for payload in (b"bad", b"good"):
                await connection.publish("reachmap.test", payload)
            await eventually(lambda: heard == [b"good"])
    assert "message failed" in caplog.text


async def test_many_come_in_the_order_in_which_they_were_sent(
    nats_server: Any, eventually: Any
) -> None:
    """From a real server, large ones among them."""
    heard: list[int] = []
    async with bus.staying([nats_server.url], "test") as connection:
        await connection.listen("reachmap.test", lambda one: heard.append(int(one.payload)))
        for number in range(5000):
            digits = 4000 if number % 100 == 99 else 10
            await connection.publish("reachmap.test", b"%0*d" % (digits, number))
        await eventually(lambda: len(heard) == 5000)
    assert heard == [*range(5000)]
