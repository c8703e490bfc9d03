"""The bus, against a real NATS server: what it promises when the server is there, and when not."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats.aio.client import Client

from reachmap_shared import bus, subjects
from reachmap_shared.access import Access
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable, QueryRefused


@pytest.fixture
def dead_url(port: int) -> str:
    """Where nothing listens."""
    return f"nats://127.0.0.1:{port}"


@pytest.fixture
async def other(nats_server: Any) -> AsyncIterator[Client]:
    """Anybody else on the bus, with no code of ours between."""
    client = Client()
    await client.connect(nats_server.url)
    yield client
    await client.close()


@asynccontextmanager
async def playing(
    handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that the test plays itself, at the URL given; it ends with its last connection."""
    connections: list[asyncio.Task[None] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await handler(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.wait_for(asyncio.gather(*filter(None, connections)), 15)


INFO = b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576}\r\n'
"""The first word of a server that the test plays itself."""


class Inbox:
    """A handler that keeps what it was given."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []

    async def __call__(self, subject: str, payload: bytes) -> None:
        self.messages.append((subject, payload))


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
        await asyncio.sleep(0.001)
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
        await connection.answer("reachmap.test", _shout)
    with pytest.raises(BusUnavailable):
        await connection.request("reachmap.test", b"", timeout_s=1)
    with pytest.raises(BusUnavailable):
        await connection.flush()
    with pytest.raises(BusUnavailable):
        await connection.query("status", {})


async def _echo(parameters: dict[str, Any]) -> Any:
    return parameters


async def _refuse(_parameters: dict[str, Any]) -> Any:
    raise QueryRefused("404", "no such host\r\nwas found, é")


async def _fail(_parameters: dict[str, Any]) -> Any:
    raise ValueError("a secret detail")


async def _odd(_parameters: dict[str, Any]) -> Any:
    return {"not": object()}


async def _huge(_parameters: dict[str, Any]) -> Any:
    return "x" * (2 << 20)


async def _sleep(_parameters: dict[str, Any]) -> Any:
    await asyncio.sleep(60)


QUERIES = {
    "echo": _echo,
    "refuse": _refuse,
    "fail": _fail,
    "odd": _odd,
    "huge": _huge,
    "sleep": _sleep,
}


@pytest.fixture
async def service(nats_server: Any) -> AsyncIterator[str]:
    """The URL of a bus on which somebody answers queries."""
    async with bus.staying([nats_server.url], "service") as connection:
        await connection.serve_queries(QUERIES)
        yield nats_server.url


async def test_a_query_comes_back_with_its_answer(service: str) -> None:
    """JSON in, JSON out, whatever it holds."""
    parameters = {"text": "é\n\0", "list": [1, 2.5, None, True], "deep": {"er": {}}}
    async with bus.connected([service], "test") as connection:
        assert await connection.query("echo", parameters) == parameters
        assert await connection.query("echo", {}) == {}


@pytest.mark.parametrize(
    ("name", "code", "description"),
    [
        pytest.param("refuse", "404", "no such host", id="refused"),
        pytest.param("fail", "500", "the query fail failed in the collector", id="failed"),
        pytest.param("odd", "500", "the query odd failed in the collector", id="no JSON"),
        pytest.param("huge", "500", "", id="too large"),
    ],
)
async def test_an_error_comes_back_with_its_code(
    service: str, name: str, code: str, description: str
) -> None:
    """The asker learns at once whose fault it is; details of a failure stay in the log."""
    async with bus.connected([service], "test") as connection:
        with pytest.raises(QueryRefused) as caught:
            await connection.query(name, {})
        assert caught.value.code == code
        assert str(caught.value).startswith(description)
        assert "secret" not in str(caught.value)
        assert await connection.query("echo", {"still": "there"}) == {"still": "there"}


@pytest.mark.parametrize(
    "payload", [b"[]", b"7", b"null", b"{", b"\xff", b"{}{}", b"[" * 100_000, b'{"a": 1e999'],
    ids=lambda payload: repr(payload[:10]),
)  # fmt: skip
async def test_what_is_no_json_object_is_a_wrong_question(
    service: str, other: Client, payload: bytes
) -> None:
    """Code 400, and the service goes on."""
    assert service
    reply = await other.request(subjects.query("echo"), payload, timeout=5)
    assert reply.headers is not None
    assert reply.headers["Nats-Service-Error-Code"] == "400"
    assert "JSON object" in reply.headers["Nats-Service-Error"]


async def test_no_parameters_are_as_good_as_none(service: str, other: Client) -> None:
    """`nats request reachmap.query.status ''` works."""
    assert service
    reply = await other.request(subjects.query("echo"), b"", timeout=5)
    assert json.loads(reply.data) == {}


async def test_nats_micro_sees_the_service(service: str, other: Client) -> None:
    """`nats micro info reachmap` shows it with all its queries (ADR-32)."""
    assert service
    reply = await other.request(f"$SRV.INFO.{subjects.QUERY_SERVICE}", b"", timeout=5)
    info = json.loads(reply.data)
    assert {endpoint["subject"] for endpoint in info["endpoints"]} == {
        subjects.query(name) for name in QUERIES
    }


async def test_without_a_collector_a_query_fails_at_once(nats_server: Any) -> None:
    """The server knows that nobody listens; nobody waits for a timeout."""
    async with bus.connected([nats_server.url], "test") as connection:
        started = time.monotonic()
        with pytest.raises(BusUnavailable, match="no collector is on this bus"):
            await connection.query("status", {}, timeout_s=60)
        assert time.monotonic() - started < 10


async def test_a_collector_that_does_not_answer_is_not_waited_for(service: str) -> None:
    """The asker gives up in the time it said."""
    async with bus.connected([service], "test") as connection:
        with pytest.raises(BusUnavailable, match=r"did not answer in 0\.1 s"):
            await connection.query("sleep", {}, timeout_s=0.1)


async def _shout(_subject: str, payload: bytes) -> bytes:
    return payload.upper()


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
        await connection.answer("reachmap.test", _shout)
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
        assert asked.is_set()
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
        await connection.answer("reachmap.test", _shout)
        nats_server.stop()
        await eventually(lambda: not connection.is_connected)
        nats_server.start()
        await eventually(lambda: connection.is_connected)
        assert (await connection.request("reachmap.test", b"a", timeout_s=5)).payload == b"A"


async def test_no_server_is_told_at_once(dead_url: str) -> None:
    """A command line that asks where nothing listens says so, with address and reason."""
    started = time.monotonic()
    with pytest.raises(BusUnavailable) as caught:
        async with bus.connected([dead_url], "test"):
            pytest.fail("there is no server")
    assert time.monotonic() - started < 1.5
    assert dead_url in str(caught.value)
    assert (
        "refused" in str(caught.value).lower() or "connect call failed" in str(caught.value).lower()
    )


async def test_any_server_of_several_will_do(nats_server: Any, dead_url: str) -> None:
    """Those that are down are passed over."""
    for _ in range(5):  # the client tries them in any order
        async with bus.connected([dead_url, nats_server.url], "test") as connection:
            assert connection.server_host == "127.0.0.1"


@pytest.mark.parametrize("greeting", [b"SSH-2.0-Go\r\n", b"\xff\0garbage", b"INFO {nonsense\r\n"])
async def test_what_is_no_nats_server_is_told_at_once(greeting: bytes) -> None:
    """A wrong port is no reason to wait, and leaves no socket open."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)

    async with playing(greet) as url:
        started = time.monotonic()
        with pytest.raises(BusUnavailable, match=url):
            async with bus.connected([url], "test"):
                pytest.fail("that was no server")
        assert time.monotonic() - started < 1.5


async def test_a_mute_server_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is open and says nothing ends in the time for a connection."""
    monkeypatch.setattr(bus, "_CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"nats://127.0.0.1:{mute.getsockname()[1]}"
        with pytest.raises(BusUnavailable, match="no NATS server answers"):
            async with bus.connected([url], "test"):
                pytest.fail("it said nothing")


@pytest.mark.parametrize("url", ["nats://h:port", "nats://", "", "nats://127.0.0.1:99999"])
async def test_a_url_that_is_none_is_no_crash(url: str) -> None:
    """The error names it."""
    with pytest.raises(BusUnavailable, match="no NATS server answers"):
        async with bus.connected([url], "test"):
            pytest.fail("nowhere to connect to")


async def test_no_url_at_all_is_no_endless_loop() -> None:
    """The client would go round nothing for ever, and nothing could stop it."""
    with pytest.raises(BusUnavailable):
        async with bus.connected([], "test"):
            pytest.fail("nowhere to connect to")
    with pytest.raises(BusUnavailable):
        async with bus.staying([], "test"):
            pytest.fail("nowhere to connect to")


async def test_a_wrong_password_is_told(nats_server: Any) -> None:
    """The reason is the server's own."""
    nats_server.stop()
    nats_server.configure('authorization { user: "a", password: "b" }')
    nats_server.start()
    with pytest.raises(BusUnavailable, match=r"(?i)authorization"):
        async with bus.connected([nats_server.url], "test") as connection:
            await connection.query("status", {})
    right = nats_server.url.replace("nats://", "nats://a:b@")
    async with bus.connected([right], "test") as connection:
        assert connection.is_connected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://h:4222", "nats://h:4222"),
        ("nats://user:pass@h:4222", "nats://h:4222"),
        ("tls://token@h", "tls://h"),
        ("user:p@ss@h:4222", "h:4222"),
        ("h", "h"),
        ("", ""),
    ],
)
async def test_no_password_is_shown(url: str, shown: str) -> None:
    """Neither in a log nor in an error, which often ends up in one."""
    assert bus.without_password(url) == shown
    with pytest.raises(BusUnavailable) as caught:
        async with bus.connected([url.replace("h", "127.0.0.1:99999")], "test"):
            pytest.fail("nowhere to connect to")
    assert "pass" not in str(caught.value) and "p@ss" not in str(caught.value)


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
            await asyncio.sleep(0.2)
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


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        ("nats://a:1", True),
        ("tls://a", True),
        ("a", True),
        ("a:4222", True),
        ("nats://[fd00::5]:4222", True),
        ("nats://user:secret@a:1", True),
        ("", False),
        ("nats://", False),
        ("http://a:1", False),
        ("nats://a:0", False),
        ("nats://a:x", False),
        ("nats://a:70000", False),
        ("nats://[fd00::5", False),
    ],
)
def test_what_a_nats_url_is(url: str, is_one: bool) -> None:
    """What the client can make sense of, and nothing that it would wait for in vain."""
    assert bus.is_nats_url(url) == is_one


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
