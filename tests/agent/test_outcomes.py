"""From errors to outcomes: what each may prove, and no more."""

import dataclasses
import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.kernel import Icmp, TcpInfo
from reachmap_agent.outcomes import describe, from_error, from_icmp, from_silence, own_doing
from reachmap_shared.vocabulary import Outcome, Transport

TCP, UDP = Transport.TCP, Transport.UDP


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.ECONNREFUSED, Outcome.REFUSED),
        (errno.ETIMEDOUT, Outcome.TIMEOUT),
        (errno.EHOSTUNREACH, Outcome.UNREACHABLE),
        (errno.ENETUNREACH, Outcome.UNREACHABLE),
        (errno.EACCES, Outcome.REJECTED),
        (errno.EPERM, Outcome.REJECTED),
        (errno.ECONNRESET, Outcome.RESET),
        (errno.EPIPE, Outcome.RESET),
        (errno.EMFILE, Outcome.LOCAL_ERROR),
        (errno.ENFILE, Outcome.LOCAL_ERROR),
        (errno.ENOBUFS, Outcome.LOCAL_ERROR),
        (errno.EADDRNOTAVAIL, Outcome.LOCAL_ERROR),
        (errno.EAFNOSUPPORT, Outcome.LOCAL_ERROR),
        (errno.EINVAL, Outcome.LOCAL_ERROR),
        (errno.EAGAIN, Outcome.LOCAL_ERROR),
        (0, Outcome.LOCAL_ERROR),
    ],
)
def test_an_error_by_itself(code: int, expected: Outcome) -> None:
    """This machine's own shortages, and what nobody knows, are never the network's fault."""
    assert from_error(OSError(code, "")) is expected


@given(st.integers(-100, 200))
def test_no_error_opens_a_port(code: int) -> None:
    """Whatever the number."""
    assert from_error(OSError(code, "")) not in (Outcome.OPEN, Outcome.WRONG_PEER)
    assert describe(OSError(code, "what else it says"))


def test_an_error_without_a_number() -> None:
    """It is described by its own words."""
    assert from_error(OSError("odd")) is Outcome.LOCAL_ERROR
    assert describe(OSError("odd")) == "odd"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ECONNREFUSED, "x"), "ECONNREFUSED: Connection refused"),
        (
            socket.gaierror(socket.EAI_NONAME, "no name"),
            f"[Errno {socket.EAI_NONAME}] no name",
        ),
    ],
)
def test_errors_in_words_that_people_search_for(error: OSError, expected: str) -> None:
    """The name of the number first."""
    assert describe(error) == expected


R, B, A = "10.0.1.2", "10.0.3.2", "10.0.1.1"
R6, B6, A6 = "fd00:1::2", "fd00:3::2", "fd00:1::1"


WHO = {
    "": "an unknown device",
    **{address: address for address in (R, R6)},
    **{address: f"{address} (the host dialled)" for address in (B, B6)},
    **{address: f"{address} (this host itself)" for address in (A, A6)},
}


@pytest.mark.parametrize(
    ("transport", "icmp", "expected", "words"),
    [
        (TCP, (4, 3, 3, R), Outcome.REJECTED, "port unreachable (ICMP 3/3)"),
        (TCP, (4, 3, 3, B), Outcome.REJECTED, "port unreachable (ICMP 3/3)"),
        (TCP, (4, 3, 13, A), Outcome.REJECTED, "administratively prohibited (ICMP 3/13)"),
        (TCP, (4, 3, 1, R), Outcome.UNREACHABLE, "the host does not answer there (ICMP 3/1)"),
        (TCP, (4, 3, 1, ""), Outcome.UNREACHABLE, "the host does not answer there (ICMP 3/1)"),
        (TCP, (4, 11, 0, R), Outcome.UNREACHABLE, "too many hops: perhaps a loop (ICMP 11/0)"),
        (TCP, (4, 12, 7, R), Outcome.UNREACHABLE, "an error that says little (ICMP 12/7)"),
        (TCP, (6, 1, 4, R6), Outcome.REJECTED, "port unreachable (ICMPv6 1/4)"),
        (TCP, (6, 1, 1, B6), Outcome.REJECTED, "administratively prohibited (ICMPv6 1/1)"),
        (TCP, (6, 1, 3, A6), Outcome.UNREACHABLE, "the host does not answer there (ICMPv6 1/3)"),
        (UDP, (4, 3, 3, B), Outcome.REFUSED, "port unreachable (ICMP 3/3)"),
        (UDP, (4, 3, 3, R), Outcome.REJECTED, "port unreachable (ICMP 3/3)"),
        (UDP, (6, 1, 4, B6), Outcome.REFUSED, "port unreachable (ICMPv6 1/4)"),
        (UDP, (4, 3, 13, B), Outcome.REJECTED, "administratively prohibited (ICMP 3/13)"),
    ],
)
def test_an_icmp_error(
    transport: Transport, icmp: tuple[int, int, int, str], expected: Outcome, words: str
) -> None:
    """Who forbids it and how; only for UDP, and only by the host itself, is a port just closed."""
    version, kind, code, offender = icmp
    dialled, own = (B, A) if version == 4 else (B6, A6)
    error = Icmp(version, kind, code, offender, errno.EHOSTUNREACH, 0)
    said = f"{WHO[offender]} says: {words}"
    assert from_icmp(error, transport, dialled, own) == (expected, said)


@pytest.mark.parametrize(
    ("dialled", "offender"),
    [
        ("fd00:0:0::2", "fd00::2"),
        ("FD00::2", "fd00::2"),
        ("fe80::1%eth0", "fe80::1"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_an_address_written_otherwise_is_the_same(dialled: str, offender: str) -> None:
    """The kernel writes addresses its own way, plans write them theirs."""
    key = (6, 1, 4) if ":" in dialled else (4, 3, 3)
    outcome, words = from_icmp(Icmp(*key, offender, 111, 0), UDP, dialled)
    assert outcome is Outcome.REFUSED
    assert "(the host dialled)" in words


def info(**fields: int) -> TcpInfo:
    """Counters, all nothing unless given."""
    return TcpInfo(
        **{field.name: fields.get(field.name, 0) for field in dataclasses.fields(TcpInfo)}
    )


@pytest.mark.parametrize(
    ("counted", "connected", "expected"),
    [
        (info(segments_out=1), False, "1 SYN sent"),
        (info(segments_out=3, retransmits=2, retransmitted=1), False, "3 SYN sent"),
        (info(segments_out=3, retransmits=2), False, "no segment left this host"),
        (info(), False, "no segment left this host"),
        (info(unacked=1, retransmits=4), True, "1 segment not acknowledged, 4 sent again"),
        (info(segments_out=3), True, "all that was sent was acknowledged"),
    ],
)
def test_silence(counted: TcpInfo, connected: bool, expected: str) -> None:
    """TCP's own counters tell an own firewall from another's, and lost data from a mute service."""
    (said,) = from_silence(counted, connected=connected)
    assert said.startswith(expected)


@pytest.mark.parametrize("connected", [True, False])
def test_silence_without_counters(connected: bool) -> None:
    """Where the system has none, nothing is made up."""
    assert from_silence(None, connected=connected) == ()


@pytest.mark.parametrize(
    ("code", "under_way", "expected"),
    [
        (errno.ENETUNREACH, False, "this host has no route there"),
        (errno.ENETUNREACH, True, ""),
        (errno.EHOSTUNREACH, False, "a route of this host's own"),
        (errno.EHOSTUNREACH, True, ""),
        (errno.EACCES, False, "a firewall or a route of this host's own"),
        (errno.EPERM, True, "a firewall or a route of this host's own"),
        (errno.ECONNREFUSED, True, ""),
        (errno.EADDRNOTAVAIL, False, ""),
    ],
)
def test_own_doing(code: int, under_way: bool, expected: str) -> None:
    """What connect says before anything was sent is this host's own doing, and is called so."""
    said = own_doing(code, under_way=under_way)
    assert bool(said) == bool(expected)
    assert all(sentence.startswith(expected) for sentence in said)
