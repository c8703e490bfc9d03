"""Who may do what, held to a real nats-server in each of the three modes."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from time import time
from typing import Any

import pytest
from nats.aio.client import Client

from reachmap_collector.identity import tokens
from reachmap_shared import bus
from reachmap_shared.access import Access, write_secret
from reachmap_shared.client import GuardedClient
from reachmap_shared.errors import AccessRefused
from reachmap_shared.permissions import TABLE, WHO_AM_I, Party, answer_inbox, inbox

PLANS = "reachmap-plans"
REPORTS = "reachmap-reports"


class Voice:
    """Somebody on the bus, with what the server forbade it."""

    def __init__(self, client: Client, refused: list[str]) -> None:
        self.client = client
        self.refused = refused
        self.heard: list[tuple[str, bytes]] = []

    async def flush(self) -> None:
        """Wait until the server has dealt with all that was sent."""
        # The client's question overtakes what it has not written yet; a second one does not.
        await self.client.flush()
        await self.client.flush()

    async def says(self, subject: str, payload: bytes = b"x", reply: str = "") -> bool:
        """Publish, and return whether the server let it."""
        before = len(self.refused)
        await self.client.publish(subject, payload, reply)
        await self.flush()
        return len(self.refused) == before

    async def hears(self, subject: str) -> bool:
        """Subscribe, and return whether the server let it."""
        before = len(self.refused)

        async def keep(message: Any) -> None:
            self.heard.append((message.subject, message.data))

        await self.client.subscribe(subject, cb=keep)
        await self.flush()
        return len(self.refused) == before


@asynccontextmanager
async def voice(closed_bus: Any, name: str) -> AsyncIterator[Voice]:
    """One party's connection."""
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    client = GuardedClient(closed_bus.access[name], stays=False)
    options = client.proving()
    await client.connect([closed_bus.url], error_cb=note, allow_reconnect=False, **options)
    try:
        yield Voice(client, refused)
    finally:
        await client.close()


@pytest.fixture
async def collector(closed_bus: Any) -> AsyncIterator[Voice]:
    """The collector, which has made what it keeps in JetStream."""
    async with voice(closed_bus, "collector") as found:
        js = found.client.jetstream()
        await js.add_stream(name=REPORTS, subjects=["reachmap.report.*"])
        bucket = await js.create_key_value(bucket=PLANS, direct=True)
        for agent in ("pc-1", "pc-2"):
            await bucket.put(agent, f"plan of {agent}".encode())
        yield found


@pytest.fixture
async def agent(closed_bus: Any, collector: Voice) -> AsyncIterator[Voice]:
    """The agent on pc-1, on a bus where all is as it should be."""
    async with voice(closed_bus, "pc-1") as found:
        yield found


@pytest.fixture
async def operator(closed_bus: Any, collector: Voice) -> AsyncIterator[Voice]:
    """The command line, likewise."""
    async with voice(closed_bus, "operator") as found:
        yield found


def example(subject: str) -> str:
    """A subject that a permission stands for."""
    return subject.replace("NAME", "pc-1").replace("*", "pc-2").replace(">", "x.y")


async def test_an_agent_may_do_what_the_table_says(agent: Voice) -> None:
    """Every line of it."""
    for subject in TABLE[Party.AGENT].publish:
        assert await agent.says(example(subject)), subject
    for subject in TABLE[Party.AGENT].of("pc-1").subscribe:
        assert await agent.hears(subject), subject
    assert agent.refused == []


async def test_an_agent_is_told_what_it_may_and_the_time(agent: Voice) -> None:
    """In every mode as one list, and with its name filled in: the doctor compares it."""
    answer = await agent.client.request(WHO_AM_I, b"", timeout=5)
    said = json.loads(answer.data)
    assert (
        abs(datetime.fromisoformat(said["server"]["time"][:19] + "+00:00").timestamp() - time()) < 5
    )
    own, allowed = TABLE[Party.AGENT].of("pc-1"), said["data"]["permissions"]
    assert set(allowed["publish"]["allow"]) == set(own.publish)
    assert set(allowed["subscribe"]["allow"]) == set(own.subscribe)


OTHERS_SUBJECTS = [
    "reachmap.hello.pc-2",
    "reachmap.pulse.pc-2",
    "reachmap.report.pc-2",
    "reachmap.ask.pc-1",
    "reachmap.ask.pc-2",
    "reachmap.window.pc-2.pc-2",
    "reachmap.window.pc-1.pc-2",
    "reachmap.window.pc-2",
    "reachmap.witness.pc-1.pc-2",
    "reachmap.plan.pc-1",
    "reachmap.plan.pc-2",
    "reachmap.query.status",
    "reachmap.changes",
    "reachmap.anything",
    f"$KV.{PLANS}.pc-1",
    f"$KV.{PLANS}.pc-2",
    f"$JS.API.DIRECT.GET.KV_{PLANS}",
    f"$JS.API.DIRECT.GET.KV_{PLANS}.$KV.{PLANS}.pc-2",
    f"$JS.API.DIRECT.GET.{REPORTS}.reachmap.report.pc-1",
    f"$JS.API.STREAM.MSG.GET.KV_{PLANS}",
    f"$JS.API.STREAM.INFO.KV_{PLANS}",
    f"$JS.API.STREAM.PURGE.{REPORTS}",
    f"$JS.API.STREAM.DELETE.{REPORTS}",
    f"$JS.API.STREAM.UPDATE.{REPORTS}",
    "$JS.API.STREAM.CREATE.mine",
    f"$JS.API.CONSUMER.CREATE.{REPORTS}",
    f"$JS.API.CONSUMER.CREATE.KV_{PLANS}.mine.$KV.{PLANS}.pc-2",
    f"$JS.API.CONSUMER.MSG.NEXT.{REPORTS}.collector",
    "$JS.API.INFO",
    f"$JS.ACK.{REPORTS}.collector.1.1.1.1.0",
    "$SRV.PING",
    "$SYS.REQ.ACCOUNT.PING.CONNZ",
    "_INBOX.pc-2.x",
    "_INBOX.pc-2.pc-2.answer.x",
    "_INBOX.pc-1.pc-2.answer.x",
    "_INBOX.x",
    "agent.report.x",
    "report",
]


@pytest.mark.parametrize("subject", OTHERS_SUBJECTS)
async def test_an_agent_may_say_nothing_else(agent: Voice, subject: str) -> None:
    """In nobody else's name, nothing to JetStream, nothing into others' inboxes."""
    assert not await agent.says(subject)
    assert "permissions violation for publish" in agent.refused[0].lower()


OTHERS_WORDS = [
    ">",
    "*",
    "reachmap.>",
    "reachmap.*.pc-1",
    "reachmap.hello.*",
    "reachmap.hello.pc-1",
    "reachmap.hello.pc-2",
    "reachmap.pulse.*",
    "reachmap.report.*",
    "reachmap.report.pc-2",
    "reachmap.ask.*",
    "reachmap.ask.pc-2",
    "reachmap.window.>",
    "reachmap.window.pc-2.*",
    "reachmap.window.*.pc-1",
    "reachmap.witness.pc-2.*",
    "reachmap.plan.*",
    "reachmap.plan.pc-2",
    "reachmap.query.>",
    "reachmap.changes",
    f"$KV.{PLANS}.>",
    f"$KV.{PLANS}.*",
    f"$KV.{PLANS}.pc-2",
    "$KV.>",
    "_INBOX.>",
    "_INBOX.pc-2.>",
    "_INBOX.*.pc-1.answer.*",
    "$JS.>",
    "$JS.API.>",
    "$JS.ACK.>",
    "$SRV.>",
    "$SYS.>",
]


@pytest.mark.parametrize("subject", OTHERS_WORDS)
async def test_an_agent_may_hear_nothing_else(agent: Voice, collector: Voice, subject: str) -> None:
    """And hears nothing of it."""
    assert not await agent.hears(subject)
    for spoken in ("reachmap.report.pc-2", f"$KV.{PLANS}.pc-2", "_INBOX.pc-2.x"):
        await collector.says(spoken, b"not for pc-1")
    await agent.flush()
    assert agent.heard == []


async def test_an_agent_gets_its_plan(agent: Voice, collector: Voice, eventually: Any) -> None:
    """The last one when it asks, each new one at once."""
    last = f"$JS.API.DIRECT.GET.KV_{PLANS}.$KV.{PLANS}.pc-1"
    reply = await agent.client.request(last, b"", timeout=5)
    assert reply.data == b"plan of pc-1"
    assert await agent.hears(f"$KV.{PLANS}.pc-1")
    await collector.says(f"$KV.{PLANS}.pc-1", b"a newer plan")
    await eventually(lambda: agent.heard == [(f"$KV.{PLANS}.pc-1", b"a newer plan")])


async def test_a_direct_get_of_its_own_plan_cannot_be_bent(agent: Voice) -> None:
    """What it asks for stands in the subject; a question for another's finds its own."""
    last = f"$JS.API.DIRECT.GET.KV_{PLANS}.$KV.{PLANS}.pc-1"
    for question in (
        b'{"last_by_subj": "$KV.reachmap-plans.pc-2"}',
        b'{"next_by_subj": "$KV.reachmap-plans.pc-2"}',
        b'{"multi_last": ["$KV.reachmap-plans.>"]}',
        b'{"seq": 2}',
    ):
        reply = await agent.client.request(last, question, timeout=5)
        assert b"pc-2" not in reply.data


async def test_a_report_is_acknowledged(agent: Voice) -> None:
    """JetStream answers at the agent's own inbox."""
    ack = await agent.client.jetstream().publish("reachmap.report.pc-1", b"seen")
    assert (ack.stream, ack.seq) == (REPORTS, 1)


async def test_one_agent_asks_another_and_is_answered(
    closed_bus: Any, agent: Voice, eventually: Any
) -> None:
    """At an inbox that the other alone may answer at."""
    async with voice(closed_bus, "pc-2") as other:
        assert await other.hears("reachmap.window.pc-2.*")
        assert await agent.hears(answer_inbox(inbox("pc-1"), "pc-2", "*"))
        place = answer_inbox(inbox("pc-1"), "pc-2", "7")
        assert await agent.says("reachmap.window.pc-2.pc-1", b"open?", reply=place)
        await eventually(lambda: other.heard == [("reachmap.window.pc-2.pc-1", b"open?")])
        assert await other.says(place, b"yes")
        await eventually(lambda: agent.heard == [(place, b"yes")])


async def test_an_agent_cannot_answer_itself_in_another_s_name(
    agent: Voice, collector: Voice, eventually: Any
) -> None:
    """As it could if the server allowed whatever somebody asks to be answered at."""
    assert await collector.hears("reachmap.report.pc-2")
    assert await agent.hears("reachmap.window.pc-1.*")
    assert await agent.says("reachmap.window.pc-1.pc-1", b"", reply="reachmap.report.pc-2")
    await eventually(lambda: agent.heard)
    assert not await agent.says("reachmap.report.pc-2", b"a lie about pc-2")
    await collector.flush()
    assert collector.heard == []


async def test_what_jetstream_answers_elsewhere_is_never_the_agent_s_own_word(
    agent: Voice, collector: Voice, eventually: Any
) -> None:
    """NATS checks no permission for where an answer goes; so receivers look at what it says."""
    assert await collector.hears("reachmap.hello.pc-2")
    assert await collector.hears(f"$KV.{PLANS}.pc-2")
    own = f"$JS.API.DIRECT.GET.KV_{PLANS}.$KV.{PLANS}.pc-1"
    assert await agent.says("reachmap.report.pc-1", b"a lie about pc-2", "reachmap.hello.pc-2")
    assert await agent.says(own, b"", f"$KV.{PLANS}.pc-2")
    await eventually(lambda: len(collector.heard) == 2)
    assert dict(collector.heard)[f"$KV.{PLANS}.pc-2"] == b"plan of pc-1"
    assert json.loads(dict(collector.heard)["reachmap.hello.pc-2"])["stream"] == REPORTS


async def test_the_collector_may_do_what_it_has_to(
    closed_bus: Any, agent: Voice, collector: Voice, eventually: Any
) -> None:
    """Hear everybody, ask everybody, keep plans, and consume reports."""
    for subject in TABLE[Party.COLLECTOR].subscribe:
        assert await collector.hears(subject), subject
    for subject in (
        "reachmap.ask.pc-1",
        "reachmap.plan.pc-1",
        f"$KV.{PLANS}.pc-1",
        "_INBOX.pc-1.x",
    ):
        assert await collector.says(subject), subject
    await agent.client.jetstream().publish("reachmap.report.pc-1", b"seen")
    js = collector.client.jetstream()
    consumer = await js.pull_subscribe("reachmap.report.*", durable="collector", stream=REPORTS)
    [message] = await consumer.fetch(1, timeout=5)
    await message.ack_sync()
    info = await js.consumer_info(REPORTS, "collector")
    assert info.num_ack_pending == 0
    assert collector.refused == []


async def test_the_command_line_may_ask_and_no_more(operator: Voice, collector: Voice) -> None:
    """Queries are answered; it is no agent and no collector."""

    async def answer(message: Any) -> None:
        await message.respond(b"{}")

    await collector.client.subscribe("reachmap.query.status", cb=answer)
    await collector.flush()
    reply = await operator.client.request("reachmap.query.status", b"{}", timeout=5)
    assert reply.data == b"{}"
    assert operator.refused == []
    for subject in (
        "reachmap.report.pc-1",
        "reachmap.plan.pc-1",
        f"$KV.{PLANS}.pc-1",
        "$JS.API.INFO",
    ):
        assert not await operator.says(subject), subject
    for subject in (">", "reachmap.>", "reachmap.report.*", f"$KV.{PLANS}.>", "$JS.>"):
        assert not await operator.hears(subject), subject


async def test_a_stranger_is_not_let_in(closed_bus: Any) -> None:
    """Neither with nothing to show, nor with a key that nobody vouches for."""
    ca = closed_bus.access["collector"].ca
    seed = tokens.new_seed(tokens.USER, b"s" * tokens.SEED_SIZE)
    write_secret(closed_bus.folder / "stranger.nk", seed)
    for access in (Access(ca=ca), Access(ca=ca, nkey=closed_bus.folder / "stranger.nk")):
        with pytest.raises(AccessRefused, match="does not let us in"):
            async with bus.connected([closed_bus.url], "stranger", access):
                pytest.fail("a stranger is in")
