"""NTP: a server's reply to just our packet proves it, and tells whether it knows the time."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.protocols import ntp
from reachmap_shared.vocabulary import AnsweredBy, Outcome

CLIENT, SERVER = 3, 4
SIZE = 48


def packet(wire: Any) -> bytes:
    asked: bytes = next(ntp.check(wire.target()))
    return asked


def reply(
    asked: bytes,
    first: int = 0x24,
    stratum: int = 2,
    reference: bytes = b"\x7f\0\0\1",
    more: bytes = b"",
) -> bytes:
    """What a server says: its own times do not matter, ours comes back."""
    head = bytes([first, stratum, 6, 0xE9]) + bytes(8) + reference + b"\x11" * 8
    return head + asked[40:48] + b"\x22" * 16 + more


def verdict_on(wire: Any, answer: bytes) -> Any:
    return wire.feed(ntp.check(wire.target()), [answer]).result


def test_the_packet_is_a_client_s_and_tells_no_more_than_it_must(wire: Any) -> None:
    """Version 4, mode 3, and the challenge where our clock's readings would be."""
    asked = packet(wire)
    assert len(asked) == SIZE
    assert asked[0] == 4 << 3 | CLIENT
    assert asked[1:16] == bytes(15)
    assert asked[16:] == wire.challenge().octets
    plain = next(ntp.check(wire.target(challenge=None)))
    assert plain[1:40] == bytes(39) and any(plain[40:])


@pytest.mark.parametrize("stratum", [1, 2, 15])
@pytest.mark.parametrize("first", [0x24, 0x1C, 0x64, 0xA4])
def test_a_reply_is_a_server(wire: Any, stratum: int, first: int) -> None:
    """Of any version and stratum, with a leap second ahead or none."""
    verdict = verdict_on(wire, reply(packet(wire), first, stratum))
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert verdict.healthy
    assert verdict.evidence == (f"answered with an NTP reply, stratum {stratum}",)


def test_what_stands_behind_a_reply_does_not_matter(wire: Any) -> None:
    """Extensions, or a key's digest."""
    assert verdict_on(wire, reply(packet(wire), more=bytes(20))).healthy


@pytest.mark.parametrize(
    ("first", "stratum", "reference", "said"),
    [
        pytest.param(0xE4, 2, b"\0\0\0\0", "", id="its clock is not set"),
        pytest.param(0xE4, 0, b"\0\0\0\0", "", id="it just started"),
        pytest.param(0x24, 16, b"\0\0\0\0", "", id="it has no source"),
        pytest.param(0xE4, 0, b"INIT", ", and says 'INIT'", id="it says so"),
        pytest.param(0xE4, 0, b"DENY", ", and says 'DENY'", id="it does not like us"),
        pytest.param(0x24, 0, b"RATE", ", and says 'RATE'", id="too often"),
    ],
)
def test_a_server_without_the_time_is_open_and_not_well(
    wire: Any, first: int, stratum: int, reference: bytes, said: str
) -> None:
    """It answers, and nobody can set a clock by it."""
    verdict = verdict_on(wire, reply(packet(wire), first, stratum, reference))
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.SERVICE)
    assert not verdict.healthy
    assert verdict.evidence[1:] == ("it does not know the time" + said,)


def test_an_address_that_looks_like_our_mark_is_an_address(wire: Any) -> None:
    """Below stratum 1 the reference is a server's, and 88.82.77.80 is as good as any."""
    verdict = verdict_on(wire, reply(packet(wire), reference=b"XRMP"))
    assert verdict.answered_by is AnsweredBy.SERVICE


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda asked: asked, id="our own packet"),
        pytest.param(lambda asked: reply(asked)[:47], id="a short one"),
        pytest.param(lambda asked: reply(asked, 0x23), id="a client's"),
        pytest.param(lambda asked: reply(asked, 0x25), id="a broadcast"),
        pytest.param(lambda asked: reply(bytes(SIZE)), id="to another packet"),
        pytest.param(lambda asked: b"\0" * SIZE, id="nothing at all"),
    ],
)
def test_anything_else_is_the_wrong_service(wire: Any, spoil: Any) -> None:
    """Whatever it is, it is no reply to us."""
    verdict = verdict_on(wire, spoil(packet(wire)))
    assert verdict.outcome is Outcome.WRONG_SERVICE


def test_silence_is_a_timeout(wire: Any) -> None:
    """No answer to a datagram may be a firewall's doing."""
    assert wire.feed(ntp.check(wire.target())).result.outcome is Outcome.TIMEOUT


def test_a_listener_is_known_by_its_proof(wire: Any, host: str, other_host: str) -> None:
    """Its own or another's."""
    verdict, _ = wire.meet(ntp.check(wire.target()), ntp.stand_in(wire.offer(host)))
    assert (verdict.outcome, verdict.answered_by) == (Outcome.OPEN, AnsweredBy.LISTENER)
    verdict, _ = wire.meet(ntp.check(wire.target()), ntp.stand_in(wire.offer(other_host)))
    assert (verdict.outcome, verdict.answered_by) == (Outcome.WRONG_PEER, None)


def test_no_clock_follows_a_stand_in(wire: Any) -> None:
    """Unsynchronized, of no stratum, with a kiss code that means nothing (RFC 5905, 7.4)."""
    asked = packet(wire)
    answer = wire.feed(ntp.stand_in(wire.offer()), [asked]).result
    assert len(answer) == len(asked)
    assert (answer[0] >> 6, answer[0] & 7, answer[1]) == (3, SERVER, 0)
    assert answer[12:13] == b"X"
    assert answer[24:32] == asked[40:48]


@given(st.binary(max_size=100))
def test_the_stand_in_answers_nothing_else(wire: Any, data: bytes) -> None:
    """Least of all a server's packet."""
    assert not wire.feed(ntp.stand_in(wire.offer()), [data]).result


def test_the_stand_in_leaves_real_clients_alone(wire: Any) -> None:
    """They carry their time, or ask for more: no stand-in has it."""
    asked = packet(wire)
    real = asked[:40] + b"\1" * 8
    for strange in (real, asked + b"\0" * 20, reply(asked), bytes([0x1B]) + asked[1:]):
        assert wire.feed(ntp.stand_in(wire.offer()), [strange]).result == b""


@given(st.binary(max_size=100))
def test_noise_is_no_server(wire: Any, data: bytes) -> None:
    """Nor does it raise anything."""
    verdict = wire.feed(ntp.check(wire.target()), [data]).result
    assert verdict.outcome in (Outcome.WRONG_SERVICE, Outcome.RESET)
