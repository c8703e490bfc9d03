"""What every protocol promises, whichever it is: a new one is held to it by being registered.

The checks run in memory against their own stand-ins, against strangers, and against noise.
"""

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.protocols import REGISTRY
from reachmap_agent.wire.exchange import MAX_READ, Verdict
from reachmap_agent.wire.proof import Reached
from reachmap_shared.vocabulary import PROTOCOLS, AnsweredBy, Outcome, Transport

IN_TLS = sorted(name for name, protocol in REGISTRY.items() if protocol.uses_tls)
DATAGRAMS = {"ntp", "udp"}
"""Protocols whose words come whole or not at all."""
STREAMS = sorted(set(REGISTRY) - DATAGRAMS)

every = pytest.mark.parametrize("name", sorted(REGISTRY))
every_plain = pytest.mark.parametrize("name", sorted(set(REGISTRY) - set(IN_TLS)))
every_stream = pytest.mark.parametrize("name", STREAMS)

hosts = st.sampled_from(["db-1", "db-2", "web-1"])

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


def stand_in(wire: Any, name: str, host: str) -> Any:
    return REGISTRY[name].stand_in(wire.offer(host))


def test_the_registry_has_just_the_known_protocols() -> None:
    """A topology may name what agents speak, and nothing else."""
    assert set(REGISTRY) == PROTOCOLS


@every_stream
@pytest.mark.parametrize("size", [2, 7, 100, MAX_READ])
def test_the_destination_s_own_listener_is_known(
    wire: Any, name: str, host: str, size: int
) -> None:
    """However the network cuts its words to pieces."""
    verdict, _ = wire.meet(check(wire, name), stand_in(wire, name, host), size)
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.LISTENER)
    assert verdict.healthy
    assert verdict.evidence


@every_stream
@pytest.mark.parametrize("size", [2, MAX_READ])
def test_another_host_s_listener_is_the_wrong_peer(
    wire: Any, name: str, other_host: str, size: int
) -> None:
    """A listener answered, and proved to be another's: somebody redirects."""
    verdict, _ = wire.meet(check(wire, name), stand_in(wire, name, other_host), size)
    assert (verdict.outcome, verdict.answered_by) == (Outcome.WRONG_PEER, None)
    assert verdict.evidence


@every
@examples(20)
@given(there=hosts, expected=hosts, nonce=st.binary(min_size=16, max_size=16))
def test_a_listener_is_the_right_one_or_not(
    wire: Any, name: str, there: str, expected: str, nonce: bytes
) -> None:
    """Whatever the nonce; and the right one tells what it saw of the connection."""
    protocol = REGISTRY[name]
    verdict, _ = wire.meet(
        protocol.check(wire.target(challenge=wire.challenge(expected, nonce))),
        protocol.stand_in(wire.offer(there)),
    )
    right = Outcome.OPEN if there == expected else Outcome.WRONG_PEER
    assert verdict.outcome is right
    if there == expected:
        at = None if name == "ntp" else ("10.0.0.5", 5432)  # it has no room for that
        assert verdict.reached == Reached(("10.0.0.7", 40_001), at)
    else:
        assert verdict.reached is None


def cuts(wire: Any, name: str, host: str) -> Iterator[int]:
    """After how many bytes a listener's words may be cut off; some of them where TLS is long.

    Not after the first letter of PostgreSQL's, which is a server's whole answer: a stand-in sends
    it together with more.
    """
    _, whole = wire.meet(
        check(wire, name), stand_in(wire, name, host), 2 if name == "postgres" else 1
    )
    # The lengths of a TLS handshake vary by a few bytes: the last ones may be the whole.
    numbers = range(0, whole - 8, 13) if name in IN_TLS else range(whole)
    yield from (cut for cut in numbers if (name, cut) != ("postgres", 1))


@every_stream
def test_a_listener_that_is_cut_off_is_not_taken_for_a_service(
    wire: Any, name: str, host: str
) -> None:
    """Half an answer proves nobody, wherever the end comes."""
    ends = {Outcome.RESET, Outcome.TLS_FAILURE} if name in IN_TLS else {Outcome.RESET}
    if name == "tcp":
        ends = {Outcome.OPEN}  # a connection is all that was asked for
    ends.add(Outcome.WRONG_PEER)  # one that greeted, and proved nothing
    for cut in cuts(wire, name, host):
        parts = check(wire, name), stand_in(wire, name, host)
        verdict, given_ = wire.meet(*parts, cut=cut, closes=True)
        assert given_ == cut
        assert verdict.outcome in ends, cut
        assert verdict.answered_by is None, cut


@every_stream
def test_a_listener_that_stops_half_way_is_waited_for(wire: Any, name: str, host: str) -> None:
    """Until the time is up: then it has stalled, which is for the prober to say."""
    for cut in cuts(wire, name, host):
        verdict, _ = wire.meet(check(wire, name), stand_in(wire, name, host), cut=cut)
        if name == "tcp" and cut < len(b"reachmap\r\n"):
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
def test_a_stand_in_says_nothing_to_strangers(
    wire: Any, name: str, chunks: list[bytes], closes: bool
) -> None:
    """Whatever it is given: where the server speaks first it does, and TLS may refuse."""
    heard = wire.feed(REGISTRY[name].stand_in(wire.offer()), chunks, closes=closes)
    said = heard.sent + (heard.result or b"")
    if name in IN_TLS:
        assert len(said) <= 4096
    else:
        assert said == next(REGISTRY[name].stand_in(wire.offer()))
    assert not heard.result or name in IN_TLS


@every
def test_another_deployment_s_listener_proves_nothing(wire: Any, name: str) -> None:
    """It does not even answer: the challenge bears no tag of its own deployment's."""
    asks = wire.challenge(secret=b"x" * 32)
    verdict, _ = wire.meet(
        REGISTRY[name].check(wire.target(challenge=asks)),
        REGISTRY[name].stand_in(wire.offer()),
        closes=name not in DATAGRAMS,
    )
    assert verdict.outcome in (Outcome.WRONG_PEER, Outcome.RESET, Outcome.TIMEOUT)
    assert (verdict.answered_by, verdict.reached) == (None, None)


@every_plain
def test_a_proof_is_good_for_one_challenge(wire: Any, name: str) -> None:
    """Whoever recorded one cannot use it again; what is in TLS cannot be replayed at all."""
    talk = wire.record(REGISTRY[name].check(wire.target()), REGISTRY[name].stand_in(wire.offer()))
    again = REGISTRY[name].check(wire.target(challenge=wire.challenge(nonce=b"another nonce 16")))
    assert wire.feed(again, talk, closes=True).result.answered_by is not AnsweredBy.LISTENER


@every_plain
def test_nobody_is_challenged_where_no_agent_is(wire: Any, name: str) -> None:
    """What is sent there is the same each time, and holds nothing of ours to answer."""
    sent = {wire.feed(REGISTRY[name].check(wire.target(challenge=None))).sent for _ in range(2)}
    assert len(sent) == 1
    assert wire.challenge().text not in sent.pop()


@pytest.mark.parametrize("name", ["dns", "ntp", "udp"])
def test_no_datagram_is_answered_by_a_longer_one(wire: Any, name: str) -> None:
    """So a forged source address amplifies nothing."""
    udp = Transport.UDP
    asked = next(REGISTRY[name].check(wire.target(transport=udp)))
    answer = wire.feed(REGISTRY[name].stand_in(wire.offer(transport=udp)), [asked]).result
    assert 0 < len(answer) <= len(asked)
