"""TLS in memory, against itself, against plain text, and against asyncio's own TLS."""

import socket
import ssl
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.wire.exchange import Verdict, until
from reachmap_agent.wire.tunnel import Tunnel, check_inside, stand_in_inside
from reachmap_shared.messages import CheckSpec
from reachmap_shared.vocabulary import AnsweredBy, Outcome, Transport


def echo(size: int) -> Generator[bytes, bytes, bytes]:
    """A stand-in that says back what it was told, once it was told so much."""
    said = b""
    while len(said) < size:
        chunk = yield b""
        if not chunk:
            return b"cut off"
        said += chunk
    return said


def ask(question: bytes) -> Any:
    """A check that keeps what it was answered in its evidence."""

    def inside(_: Tunnel) -> Any:
        answer = b""
        sending = question
        while len(answer) < len(question):
            chunk = yield sending
            sending = b""
            if not chunk:
                break
            answer += chunk
        return Verdict(Outcome.OPEN, (answer.hex(),))

    return inside


@examples(25)
@given(question=st.binary(min_size=1, max_size=200), size=st.integers(1, 50))
def test_what_goes_in_comes_out(wire: Any, question: bytes, size: int) -> None:
    """Both ways, however the network cuts it."""
    verdict, _ = wire.meet(
        check_inside(wire.target(), ask(question)),
        stand_in_inside(wire.offer(), echo(len(question))),
        size,
    )
    assert verdict.evidence == (question.hex(),)


def test_more_than_a_record_goes_through(wire: Any) -> None:
    """100 kB are several TLS records, and several reads of each."""
    question = bytes(range(256)) * 400
    verdict, _ = wire.meet(
        check_inside(wire.target(), ask(question)),
        stand_in_inside(wire.offer(), echo(len(question))),
    )
    assert verdict.evidence == (question.hex(),)


def test_the_inner_exchange_hears_of_the_end(wire: Any) -> None:
    """A connection that closes inside TLS is an end, with a farewell or without."""
    verdict, _ = wire.meet(
        check_inside(wire.target(), ask(b"question")),
        stand_in_inside(wire.offer(), echo(1000)),
        closes=True,
    )
    assert verdict.evidence == ("",)


@pytest.mark.parametrize(
    "junk",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-Go\r\n",
        b"\0" * 100,
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"\x16\x03\x01\xff\xff" + b"\0" * 50,
        b"\x16\x03\x03\x00\x04\x0e\x00\x00\x00",
    ],
)
def test_plain_text_is_a_tls_failure(wire: Any, junk: bytes) -> None:
    """With OpenSSL's reason in plain words."""
    verdict = wire.feed(check_inside(wire.target(), ask(b"x")), [junk]).result
    assert verdict.outcome is Outcome.TLS_FAILURE
    assert verdict.evidence[0].startswith("TLS failed: ")
    assert "_" not in verdict.evidence[0]


def test_junk_after_the_handshake_is_a_tls_failure_too(wire: Any) -> None:
    """A record that cannot be read ends it, in the check and in the stand-in."""

    def spoil(chunk: bytes) -> bytes:
        return chunk[:-1] + bytes([chunk[-1] ^ 1])

    check = check_inside(wire.target(), ask(b"x" * 10))
    stand_in = stand_in_inside(wire.offer(), echo(10))
    next(stand_in)
    hello = next(check)
    finished = check.send(stand_in.send(hello))
    with pytest.raises(StopIteration) as stopped:
        stand_in.send(spoil(finished))
    assert stopped.value.value == b""
    with pytest.raises(StopIteration) as stopped:
        check.send(b"\x17\x03\x03\x00\x20" + b"\0" * 32)
    assert stopped.value.value.outcome is Outcome.TLS_FAILURE


@given(st.lists(st.binary(min_size=1, max_size=100), max_size=5), st.booleans())
def test_a_stand_in_shows_a_stranger_nothing(wire: Any, chunks: list[bytes], closes: bool) -> None:
    """Whoever does not shake hands hears no word of what is inside."""
    heard = wire.feed(stand_in_inside(wire.offer(), iter_secret()), chunks, closes=closes)
    assert not heard.result
    assert b"secret" not in heard.sent


def iter_secret() -> Generator[bytes, bytes, bytes]:
    yield b"secret"
    return b"secret"


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("db-1.example", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("fd00::1", False),
        ("fe80::1%1", False),
    ],
)
def test_a_name_is_sent_and_an_address_is_not(wire: Any, host: str, named: bool) -> None:
    """SNI names hosts only (RFC 6066, 3): some servers refuse an address there."""
    hello = next(check_inside(wire.target(host), ask(b"x")))
    assert (host.encode() in hello) is named


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_other_side_s_certificate_is_known(wire: Any, contexts: Any, version: Any) -> None:
    """In both versions in use."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.maximum_version = version
    seen: list[tuple[bytes, str | None]] = []

    def inside(tunnel: Tunnel) -> Any:
        yield b"x"
        seen.append((tunnel.certificate, tunnel.session.version()))
        return Verdict(Outcome.OPEN)

    wire.meet(check_inside(wire.target(tls=client), inside), stand_in_inside(wire.offer(), echo(1)))
    assert seen == [(contexts.certificate, version.name.replace("_", "."))]
    assert contexts.certificate


@pytest.fixture
def server_context(pem: str, tmp_path: Path) -> ssl.SSLContext:
    """What a real TLS server needs."""
    (tmp_path / "pem").write_text(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    context.load_verify_locations(tmp_path / "pem")
    return context


class TlsServer:
    """A real TLS server of the standard library's, in a thread, for one connection."""

    def __init__(self, context: ssl.SSLContext, greeting: bytes = b"") -> None:
        self._context = context
        self._greeting = greeting
        self._bound = socket.create_server(("127.0.0.1", 0))
        self._bound.settimeout(20)
        self.port = self._bound.getsockname()[1]
        self.end = ""
        """How the connection ended."""

    @contextmanager
    def running(self) -> Iterator["TlsServer"]:
        thread = threading.Thread(target=self._serve)
        thread.start()
        with self._bound:
            yield self
            thread.join()

    def _serve(self) -> None:
        plain, _ = self._bound.accept()
        plain.settimeout(20)
        with plain:
            try:
                with self._context.wrap_socket(plain, server_side=True) as connection:
                    self.end = "shook hands"
                    connection.send(self._greeting)
                    while connection.recv(1000):
                        pass
                    self.end = "in order"
            except OSError as error:
                self.end += f", {error!r}"


def spec(port: int, protocol: str) -> CheckSpec:
    return CheckSpec("d", "d:1", "127.0.0.1", port, Transport.TCP, protocol, "")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("protocol", ["tls", "https"])
async def test_a_real_tls_server_is_open_and_sees_a_whole_handshake(
    wire: Any,
    server_context: ssl.SSLContext,
    version: ssl.TLSVersion,
    protocol: str,
) -> None:
    """Of either version, over a real socket; one cut off would be a line in its log each time."""
    server_context.maximum_version = version
    with TlsServer(
        server_context, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    ).running() as server:
        seen = await wire.probe(
            spec(server.port, protocol), 10, host="db-1.example", stand_in_certificate=b"another"
        )
    assert (seen.outcome, seen.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    # What the server still has to say after that may meet a closed socket.
    assert server.end.startswith(("in order", "shook hands"))


async def test_a_server_that_refuses_the_handshake_is_a_tls_failure(
    wire: Any, server_context: ssl.SSLContext
) -> None:
    """As one that wants our certificate does, in TLS 1.2: it was reached, and would not talk."""
    server_context.verify_mode = ssl.CERT_REQUIRED
    server_context.maximum_version = ssl.TLSVersion.TLSv1_2
    with TlsServer(server_context).running() as server:
        seen = await wire.probe(spec(server.port, "tls"), 10, host="db-1.example")
    assert seen.outcome is Outcome.TLS_FAILURE


def test_a_whole_handshake_takes_one_answer_each(wire: Any) -> None:
    """TLS 1.3: the pump yields only when there is nothing left to read."""
    check = check_inside(wire.target(), lambda _: until(b"\n"))
    stand_in = stand_in_inside(wire.offer(), echo(1))
    assert next(stand_in) == b""
    finished = check.send(stand_in.send(next(check)))
    assert finished
    check.close()
    stand_in.close()
