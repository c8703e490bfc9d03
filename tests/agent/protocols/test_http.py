"""HTTP in plain text: any response will do, a server's own error is not healthy."""

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from reachmap_agent.protocols import http as protocol
from reachmap_shared.messages import CheckSpec
from reachmap_shared.vocabulary import AnsweredBy, Outcome, Transport


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web_server() -> Iterator[int]:
    """The port of the standard library's web server."""
    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.01,))
        serving.start()
        yield server.server_port
        server.shutdown()
        serving.join()


def test_it_asks_for_the_root(wire: Any) -> None:
    """Every server has one."""
    heard = wire.feed(protocol.check(wire.target()), closes=True)
    assert heard.sent.startswith(b"GET / HTTP/1.1\r\n")


async def test_a_real_server_understands_it(wire: Any, web_server: int) -> None:
    """Over a real socket."""
    spec = CheckSpec("web-1", "web:8080", "127.0.0.1", web_server, Transport.TCP, "http", "")
    seen = await wire.probe(spec, 5, host="db-1.example")
    assert (seen.outcome, seen.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert seen.healthy
