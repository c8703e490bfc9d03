"""Windows between two agents: asked for with proof, opened for those alone who have it."""

import pytest

from reachmap_agent.windows import Windows
from reachmap_shared import codec, keys
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.messages import CheckSpec, WindowReply, WindowRequest
from reachmap_shared.vocabulary import ListenerState, Transport

HOST_KEY = keys.host_key(b"secret", "db-1")
PAIR = keys.to_text(keys.pair_key(HOST_KEY, keys.source_id("pc-17")))
SPEC = CheckSpec("db-1", "db:5432", "10.0.0.5", 5432, Transport.TCP, "postgres", PAIR, True)


class Ports:
    """The listeners of the agent that is asked."""

    def __init__(self) -> None:
        self.asked: list[WindowRequest] = []
        self.held = ("",)

    def window(self, request: WindowRequest) -> WindowReply:
        self.asked.append(request)
        return WindowReply(ListenerState.LISTENING)

    def holders(self) -> tuple[str, ...]:
        return self.held


class Line:
    """A bus with just the other agent on it."""

    def __init__(self, other: Windows) -> None:
        self.is_connected = True
        self._other = other
        self.fails = False
        self.garbage = False

    async def ask(self, subject: str, payload: bytes, timeout_s: float, answerer: str) -> bytes:
        assert (subject, timeout_s) == ("reachmap.window.db-1.pc-17", 1.0)
        assert answerer == "db-1"
        if self.fails:
            raise BusUnavailable("nobody there to ask")
        return b"garbage" if self.garbage else await self._other.answer(subject, payload)


@pytest.fixture
def pair() -> tuple[Windows, Windows, Ports, list[str]]:
    """Who asks, who is asked, its listeners, and the news that it has."""
    ports, news = Ports(), []
    asked = Windows("db-1", ports, lambda: news.append("news"))  # type: ignore[arg-type]
    asks = Windows("pc-17", Ports(), lambda: None)  # type: ignore[arg-type]
    asked.take_up(HOST_KEY)
    asks.connection = Line(asked)  # type: ignore[assignment]
    return asks, asked, ports, news


async def test_who_has_the_flow_is_heard(pair: tuple[Windows, Windows, Ports, list[str]]) -> None:
    """By the pair's key from its plan, for that very port."""
    asks, asked, ports, news = pair
    reply = await asks.ask(SPEC, 3.5)
    assert reply == WindowReply(ListenerState.LISTENING)
    [request] = ports.asked
    assert (request.source, request.port, request.seconds) == ("pc-17", 5432, 3.5)
    assert (asked.refused, news) == (0, [])


async def test_who_has_not_is_refused_and_counted(
    pair: tuple[Windows, Windows, Ports, list[str]],
) -> None:
    """A key of another deployment, or a plan that holds no more."""
    asks, asked, ports, _ = pair
    other = keys.to_text(keys.pair_key(keys.host_key(b"other", "db-1"), keys.source_id("pc-17")))
    for refused in range(1, 4):
        spec = CheckSpec(
            "db-1", "db:5432", "10.0.0.5", 5432, Transport.TCP, "postgres", other, True
        )
        reply = await asks.ask(spec, 3.5)
        assert reply is not None and reply.state is ListenerState.FAILED
        assert asked.refused == refused
    asked.take_up(keys.host_key(b"new", "db-1"))
    await asks.ask(SPEC, 3.5)
    assert (asked.refused, ports.asked) == (4, [])


async def test_a_service_that_came_is_news(
    pair: tuple[Windows, Windows, Ports, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows when a window is asked for."""
    asks, _, ports, news = pair

    def window(_request: WindowRequest) -> WindowReply:
        ports.held = ("nginx",)
        return WindowReply(ListenerState.CEDED, "nginx")

    monkeypatch.setattr(ports, "window", window)
    assert await asks.ask(SPEC, 3.5) == WindowReply(ListenerState.CEDED, "nginx")
    assert news == ["news"]


@pytest.mark.parametrize("why", ["no bus yet", "away", "nobody", "garbage"])
async def test_who_cannot_be_asked(
    pair: tuple[Windows, Windows, Ports, list[str]], why: str
) -> None:
    """Then the check goes ahead without a window."""
    asks, asked, _, _ = pair
    line = Line(asked)
    line.is_connected, line.fails, line.garbage = why != "away", why == "nobody", why == "garbage"
    asks.connection = None if why == "no bus yet" else line  # type: ignore[assignment]
    assert await asks.ask(SPEC, 3.5) is None


def test_a_request_says_nothing_more_than_it_did() -> None:
    """Its proof is no longer than a key's text may be."""
    mac = keys.request_mac(keys.from_text(PAIR), "window", "pc-17", "db-1", 5432, Transport.TCP)
    request = WindowRequest("pc-17", 5432, Transport.TCP, 3.5, mac)
    assert codec.decode(WindowRequest, codec.encode(request)) == request
