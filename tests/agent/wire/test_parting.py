"""How a check leaves, so that no log minds, and what of the other side's certificate is told."""

import ssl
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from reachmap_agent.protocols import https, tls
from reachmap_agent.wire.exchange import MAX_READ, Lost, Silence, Verdict, leave
from reachmap_agent.wire.tunnel import Tunnel, check_inside, shook_hands, stand_in_inside
from reachmap_shared.vocabulary import AnsweredBy, Outcome

Said = Generator[bytes, bytes, bytes]


@pytest.mark.parametrize("chunks", [[], [b"221 Bye\r\n"], [b"a", b"b"]])
@pytest.mark.parametrize("closes", [True, False])
def test_last_words_are_said_once_and_the_end_is_waited_for(
    wire: Any, chunks: list[bytes], closes: bool
) -> None:
    """Whatever the other side still says, and whether or not it ends."""
    heard = wire.feed(leave(b"QUIT\r\n"), chunks, closes=closes)
    assert (heard.sent, heard.result) == (b"QUIT\r\n", b"".join(chunks))


@pytest.mark.parametrize("end", [Silence(), Lost()])
def test_a_connection_that_breaks_then_is_no_matter(end: Exception) -> None:
    """The verdict stands already: who is reset on leaving was there."""
    leaving = leave(b"QUIT\r\n")
    next(leaving)
    leaving.send(b"221 ")
    with pytest.raises(StopIteration) as stopped:
        leaving.throw(end)
    assert stopped.value.value == b"221 "


def test_nobody_is_listened_to_for_ever(wire: Any) -> None:
    """A server that talks on is left alone with it."""
    assert wire.feed(leave(b""), [b"x" * 1000] * 100).consumed <= MAX_READ + 1000


def service(wire: Any) -> Any:
    """A target whose certificate is not the listeners'."""
    return wire.target("nats-1.example", stand_in_certificate=b"")


def counting(heard: list[bytes]) -> Said:
    """A server that notes what it hears inside TLS, up to the end."""
    while chunk := (yield b""):
        heard.append(chunk)
    heard.append(b"the end")
    return b""


@pytest.mark.parametrize("size", [1, 10_000])
def test_tls_ends_as_it_should(wire: Any, size: int) -> None:
    """The server hears of the end within TLS: one that is cut off logs an error."""
    heard: list[bytes] = []
    server = stand_in_inside(wire.offer(), counting(heard))
    verdict, _ = wire.meet(tls.check(service(wire)), server, size, closes=True)
    assert verdict.outcome is Outcome.OPEN
    assert heard == [b"the end"]


def test_a_server_that_does_not_end_is_not_waited_for_in_vain(wire: Any) -> None:
    """When the time is up the verdict is as good as before."""

    def deaf() -> Said:
        yield from Tunnel(wire.offer().tls, server=True).handshake()
        while True:
            yield b""

    verdict, _ = wire.meet(tls.check(service(wire)), deaf())
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)


def test_after_the_other_side_s_end_nothing_is_said(wire: Any) -> None:
    """It would meet a closed socket."""
    sent = []

    def inside(_: Tunnel) -> Any:
        while chunk := (yield b""):
            sent.append(chunk)
        return Verdict(Outcome.OPEN, (), AnsweredBy.SERVICE)

    def brief() -> Said:
        yield from ()
        return b"hello"

    check = check_inside(service(wire), inside, waits=True)
    verdict, _ = wire.meet(check, stand_in_inside(wire.offer(), brief()))
    assert sent == [b"hello"]
    assert (verdict.outcome, verdict.farewell) == (Outcome.OPEN, b"")


@pytest.mark.parametrize("end", [Silence, Lost])
def test_an_exchange_inside_tls_hears_of_silence_and_loss_too(
    wire: Any, end: type[Exception]
) -> None:
    """Only the protocol knows what they mean, inside TLS as outside; and then nothing is said."""

    def inside(_: Tunnel) -> Any:
        try:
            yield b"question"
        except end:
            return Verdict(Outcome.OPEN, ("it says nothing",), AnsweredBy.SERVICE)

    check = check_inside(service(wire), inside, waits=True)
    server = stand_in_inside(wire.offer(), counting([]))
    next(server)
    check_says = check.send(server.send(next(check)))
    assert server.send(check_says) is not None
    with pytest.raises(StopIteration) as stopped:
        check.throw(end())
    assert stopped.value.value.evidence[0] == "it says nothing"


@pytest.mark.parametrize(
    ("host", "told"),
    [
        (
            "nats-1.example",
            ["certificate of", "the certificate is not for nats-1.example: it names no host"],
        ),
        ("10.0.0.5", ["certificate of"]),
    ],
)
@pytest.mark.parametrize("protocol", [tls, https])
def test_the_certificate_of_a_service_is_told(
    wire: Any, protocol: Any, host: str, told: list[str]
) -> None:
    """Whose it is and until when, and whether it is for the name that was dialled."""
    target = wire.target(host, stand_in_certificate=b"")
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    def serve() -> Said:
        if protocol is https:
            yield b""
            return page
        return (yield from counting([]))

    verdict, _ = wire.meet(
        protocol.check(target), stand_in_inside(wire.offer(), serve()), closes=True
    )
    assert verdict.outcome is Outcome.OPEN
    facts = [fact for fact in verdict.evidence if "certificate" in fact]
    assert len(facts) == len(told)
    assert all(fact.startswith(words) for fact, words in zip(facts, told, strict=True))
    assert verdict.certificate_until > 4_000_000_000


@pytest.mark.parametrize("protocol", [tls, https])
def test_nothing_is_told_of_the_listeners_certificate(wire: Any, protocol: Any) -> None:
    """It is a throw-away one, the same on every host."""
    verdict, _ = wire.meet(protocol.check(wire.target()), protocol.stand_in(wire.offer()))
    assert verdict.answered_by is AnsweredBy.LISTENER
    assert verdict.certificate_until is None
    assert not any("certificate" in fact for fact in verdict.evidence)


def test_the_certificate_of_the_wrong_service_is_told_too(wire: Any) -> None:
    """It says who is there instead."""

    def greet() -> Said:
        yield b""
        return b"220 mail ESMTP\r\n"

    verdict, _ = wire.meet(https.check(service(wire)), stand_in_inside(wire.offer(), greet()))
    assert verdict.outcome is Outcome.WRONG_SERVICE
    assert any(fact.startswith("certificate of") for fact in verdict.evidence)


@pytest.fixture
def strict_context(pem: str, tmp_path: Path) -> ssl.SSLContext:
    """A server's, that wants a certificate of its clients."""
    (tmp_path / "pem").write_text(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    context.load_verify_locations(tmp_path / "pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def refusing(context: ssl.SSLContext) -> Said:
    """The server's side of a handshake that it breaks off."""
    tunnel = Tunnel(context, server=True)
    try:
        yield from tunnel.handshake()
    except ssl.SSLError:
        return tunnel.sealed()
    raise AssertionError("it was let in")


@pytest.mark.parametrize(
    ("version", "outcome"),
    [
        (ssl.TLSVersion.TLSv1_3, Outcome.OPEN),
        # Here the alert may mean anything: that no cipher is common, for one.
        (ssl.TLSVersion.TLSv1_2, Outcome.TLS_FAILURE),
    ],
)
@pytest.mark.parametrize("protocol", [tls, https])
def test_a_server_that_wants_a_certificate_of_ours_is_open(
    wire: Any,
    strict_context: ssl.SSLContext,
    protocol: Any,
    version: ssl.TLSVersion,
    outcome: Outcome,
) -> None:
    """Where its alert can mean nothing else: it was reached, and does what it is meant to do."""
    strict_context.maximum_version = version
    verdict, _ = wire.meet(protocol.check(service(wire)), refusing(strict_context), closes=True)
    assert verdict.outcome is outcome
    turned_away = "it lets in only clients that show a certificate" in verdict.evidence
    assert turned_away is (outcome is Outcome.OPEN)
    assert (verdict.answered_by is AnsweredBy.SERVICE) is (outcome is Outcome.OPEN)


def test_a_certificate_that_cannot_be_read_is_told_as_that(
    wire: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the server's business; the outcome stands."""

    def inside(tunnel: Tunnel) -> Any:
        monkeypatch.setattr(tunnel, "certificate", b"\x30\x00")
        return (yield from shook_hands(tunnel))

    verdict, _ = wire.meet(
        check_inside(service(wire), inside), stand_in_inside(wire.offer(), counting([]))
    )
    assert verdict.outcome is Outcome.OPEN
    assert verdict.evidence[-1].startswith("its certificate is not readable: ")
    assert verdict.certificate_until is None
