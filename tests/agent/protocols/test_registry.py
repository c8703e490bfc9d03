"""What every protocol promises, whichever it is: a new one is held to it by being registered.

The checks run in memory against their own stand-ins, against strangers, and against noise.
"""

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reachmap_agent.protocols import REGISTRY
from reachmap_agent.wire.exchange import MAX_READ, Verdict, signature
from reachmap_shared.vocabulary import PROTOCOLS, AnsweredBy, Outcome

IN_TLS = sorted(name for name, protocol in REGISTRY.items() if protocol.uses_tls)
DATAGRAMS = {"ntp", "udp"}
"""Protocols whose words come whole or not at all."""
STREAMS = sorted(set(REGISTRY) - DATAGRAMS)

every = pytest.mark.parametrize("name", sorted(REGISTRY))
every_stream = pytest.mark.parametrize("name", STREAMS)

tokens = st.text("0123456789abcdef", min_size=16, max_size=16)

NATS_INFO = (
    b'INFO {"server_id":"NDQ4KZ6AY3N7L5KQYPEFUFUOJYHFSVYTGJMLNQEHHHRDTSAZOOSOGSJG",'
    b'"server_name":"nats-1","version":"2.10.24","proto":1,"git_commit":"1d6f7ea",'
    b'"go":"go1.23.4","host":"0.0.0.0","port":4433,"headers":true,"auth_required":true,'
    b'"max_payload":1048576,"client_id":5,"client_ip":"10.0.0.7",'
    b'"xkey":"XCVA7JAMKKDHX2PYWTU7RYAHXSDX6IQVF2PWBTAQSYXHXTIHU2ZUEUSH"} \r\n'
)

GREETINGS = {
    "nats": NATS_INFO,
    "ssh-go": b"SSH-2.0-Go\r\n",
    "openssh": b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
    "smtp": b"220 mail ESMTP\r\n",
    "ftp-without-end": b"220 ready",
    "http": b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Connection: close\r\n\r\n400 Bad Request",
    "mysql": bytes.fromhex("4a0000000a382e302e333600080000002b39536a1e4d6f0100ffff080200ffdf15")
    + b"\0" * 11
    + b"\x1d\x0b]aK2\x1b+\x1d\x7fP\x05\0caching_sha2_password\0",
    "redis": b"-ERR unknown command 'GET'\r\n",
    "amqp": b"AMQP\x00\x00\x09\x01",
    "tls-alert": bytes.fromhex("15030100020228"),
    "vnc": b"RFB 003.008\n",
    "zeros": b"\0" * 32,
    "noise": bytes.fromhex("fffd18fffd20fffd23fffd27c3a9000d0a9f"),
}
"""The first words of real servers of other kinds."""

RIGHT = {
    "nats": {"nats"},
    "ssh": {"ssh-go", "openssh"},
    "http": {"http"},
    "smtp": {"smtp"},
    "tcp": set(GREETINGS),
    "udp": set(GREETINGS),
}
"""Who is no stranger to whom: plain TCP and UDP ask for nothing."""

UNFINISHED = ("smtp", "ftp-without-end")
"""Half a line that may yet become an SMTP greeting: it is waited on."""


def check(wire: Any, name: str) -> Any:
    return REGISTRY[name].check(wire.target())


def stand_in(wire: Any, name: str, token: str) -> Any:
    return REGISTRY[name].stand_in(wire.offer(token))


def test_the_registry_has_just_the_known_protocols() -> None:
    """A topology may name what agents speak, and nothing else."""
    assert set(REGISTRY) == PROTOCOLS


@every_stream
@pytest.mark.parametrize("size", [1, 2, 7, 100, MAX_READ])
def test_the_destination_s_own_listener_is_known(
    wire: Any, name: str, token: str, size: int
) -> None:
    """However the network cuts its words to pieces."""
    verdict, _ = wire.meet(check(wire, name), stand_in(wire, name, token), size)
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.LISTENER)
    assert verdict.healthy
    assert verdict.evidence


@every_stream
@pytest.mark.parametrize("size", [1, MAX_READ])
def test_another_host_s_listener_is_the_wrong_peer(
    wire: Any, name: str, other_token: str, size: int
) -> None:
    """A listener answered, with a token that is not the destination's: somebody redirects."""
    verdict, _ = wire.meet(check(wire, name), stand_in(wire, name, other_token), size)
    assert (verdict.outcome, verdict.answered_by) == (Outcome.WRONG_PEER, None)
    assert verdict.evidence


@every
@settings(max_examples=20)
@given(shown=tokens, expected=tokens)
def test_a_token_is_right_or_wrong(wire: Any, name: str, shown: str, expected: str) -> None:
    """For all tokens that a collector may deal out."""
    protocol = REGISTRY[name]
    verdict, _ = wire.meet(
        protocol.check(wire.target(token=expected)), protocol.stand_in(wire.offer(shown))
    )
    right = Outcome.OPEN if shown == expected else Outcome.WRONG_PEER
    assert verdict.outcome is right


def cuts(wire: Any, name: str, token: str) -> Iterator[int]:
    """After how many bytes a listener's words may be cut off; some of them where TLS is long."""
    _, whole = wire.meet(check(wire, name), stand_in(wire, name, token), size=1)
    # The lengths of a TLS handshake vary by a few bytes: the last ones may be the whole.
    yield from range(0, whole - 8, 13) if name in IN_TLS else range(whole)


@every_stream
def test_a_listener_that_is_cut_off_is_not_taken_for_a_service(
    wire: Any, name: str, token: str
) -> None:
    """Half an answer may lack the token: it proves nobody, wherever the end comes."""
    ends = {Outcome.RESET, Outcome.TLS_FAILURE} if name in IN_TLS else {Outcome.RESET}
    if name == "tcp":
        ends = {Outcome.OPEN}  # a connection is all that was asked for
    for cut in cuts(wire, name, token):
        parts = check(wire, name), stand_in(wire, name, token)
        verdict, given_ = wire.meet(*parts, cut=cut, closes=True)
        assert given_ == cut
        assert verdict.outcome in ends, cut
        assert verdict.answered_by is None, cut


@every_stream
def test_a_listener_that_stops_half_way_is_waited_for(wire: Any, name: str, token: str) -> None:
    """Until the time is up: then it has stalled, which is for the prober to say."""
    for cut in cuts(wire, name, token):
        verdict, _ = wire.meet(check(wire, name), stand_in(wire, name, token), cut=cut)
        if name == "tcp":
            assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, None)
        else:
            assert verdict is None, cut


@every_stream
@pytest.mark.parametrize("greeting", sorted(GREETINGS))
@pytest.mark.parametrize("closes", [True, False], ids=["closes", "waits"])
def test_a_stranger_is_known_by_its_first_words(
    wire: Any, name: str, greeting: str, closes: bool
) -> None:
    """At once, whether it then closes or waits for us; its words are part of the evidence."""
    heard = wire.feed(check(wire, name), [GREETINGS[greeting]], closes=closes)
    if (name, greeting) == UNFINISHED:
        assert heard.result is None or heard.result.outcome is Outcome.RESET
        return
    if greeting in RIGHT.get(name, ()):
        right = (Outcome.OPEN, AnsweredBy.SERVICE)
        assert (heard.result.outcome, heard.result.answered_by) == right
        return
    wrong = Outcome.TLS_FAILURE if name in IN_TLS else Outcome.WRONG_SERVICE
    assert (heard.result.outcome, heard.result.answered_by) == (wrong, None)
    assert heard.result.evidence
    if name not in IN_TLS:
        assert "expected" in heard.result.evidence[0]


@pytest.mark.parametrize(
    ("name", "greeting"),
    [
        (name, greeting)
        for name in STREAMS
        for greeting in sorted(GREETINGS)
        # To PostgreSQL's client a single S is a whole answer.
        if (name, GREETINGS[greeting][:1]) != ("postgres", b"S") and (name, greeting) != UNFINISHED
    ],
)
def test_a_stranger_is_none_the_better_for_speaking_slowly(
    wire: Any, name: str, greeting: str
) -> None:
    """Byte by byte its words mean what they mean at once."""
    words = GREETINGS[greeting]
    slowly = wire.feed(check(wire, name), [words[i : i + 1] for i in range(len(words))])
    at_once = wire.feed(check(wire, name), [words])
    assert slowly.result.outcome is at_once.result.outcome
    assert slowly.result.answered_by is at_once.result.answered_by


@every_stream
def test_a_connection_that_is_closed_at_once_answers_nothing(wire: Any, name: str) -> None:
    """Something accepts and closes, as a proxy with nothing behind it does."""
    verdict = wire.feed(check(wire, name), closes=True).result
    expected = {"tcp": Outcome.OPEN} | dict.fromkeys(IN_TLS, Outcome.TLS_FAILURE)
    assert verdict.outcome is expected.get(name, Outcome.RESET)
    assert verdict.answered_by is None
    assert verdict.evidence


@every
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=60), max_size=6)
    | st.lists(st.sampled_from(sorted(GREETINGS.values())), max_size=3),
    closes=st.booleans(),
)
def test_noise_is_a_verdict_or_waited_on(
    wire: Any, name: str, chunks: list[bytes], closes: bool
) -> None:
    """No bytes make a check raise anything, and its evidence can be printed and sent."""
    verdict = wire.feed(check(wire, name), chunks, closes=closes).result
    assert verdict is not None or not closes
    if verdict is not None:
        assert isinstance(verdict, Verdict)
        for sentence in verdict.evidence:
            assert sentence.isprintable() and 0 < len(sentence) <= 300


ENDLESS: dict[str, Iterable[bytes]] = {
    "nothing": repeat(b"\0" * 1000),
    "a NATS line": repeat(b"INFO {" + b"x" * 1000),
    "an SSH line": repeat(b"SSH-" + b"x" * 1000),
    "an HTTP head": repeat(b"HTTP/1.1 200 OK\r\n" + b"X-Header: x\r\n" * 100),
    "a token": repeat(b"reachmap:"),
    "a PostgreSQL error": repeat(b"E\0\0\1\0" + b"M" * 1000),
    "a TLS record": repeat(b"\x16\x03\x03\x40\x00" + b"\0" * 1000),
    "line ends": repeat(b"\r\n" * 500),
}


@every
@pytest.mark.parametrize("kind", ENDLESS)
@pytest.mark.parametrize("size", [100, MAX_READ])
def test_whoever_talks_for_ever_is_heard_for_a_while(
    wire: Any, name: str, kind: str, size: int
) -> None:
    """Check and stand-in alike stop at a few ten kilobytes, and keep no more in memory."""

    def pieces() -> Iterator[bytes]:
        rest = b""
        for piece in ENDLESS[kind]:
            rest += piece
            while len(rest) >= size:
                yield rest[:size]
                rest = rest[size:]

    assert wire.feed(check(wire, name), pieces()).consumed <= 3 * MAX_READ
    assert wire.feed(REGISTRY[name].stand_in(wire.offer()), pieces()).consumed <= 3 * MAX_READ


@every
@given(
    chunks=st.lists(st.binary(min_size=1, max_size=60), max_size=5)
    | st.lists(st.sampled_from(sorted(GREETINGS.values())), max_size=3),
    closes=st.booleans(),
)
def test_a_stand_in_says_nothing_wrong_to_strangers(
    wire: Any, name: str, token: str, chunks: list[bytes], closes: bool
) -> None:
    """It signs or is silent, whatever it is given; TLS may send its own refusal."""
    heard = wire.feed(REGISTRY[name].stand_in(wire.offer()), chunks, closes=closes)
    said = heard.sent + (heard.result or b"")
    speaks_first = name in ("nats", "smtp", "ssh", "tcp")
    assert len(said) <= 4096
    if name in IN_TLS:
        assert token.encode() not in said  # nobody who failed the handshake is shown anything
    elif said:
        assert signature(token)[-16:] in said
    assert bool(said) or not speaks_first
