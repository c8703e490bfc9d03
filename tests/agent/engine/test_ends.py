"""What is said of each end, from what is known of the attempt. Pure."""

import errno
import struct

import pytest

from reachmap_agent.engine import ends
from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.kernel import Icmp
from reachmap_shared.vocabulary import Outcome, Transport

PROHIBITED = Icmp(4, 3, 13, "192.0.2.254", errno.EHOSTUNREACH, 0)


def attempt(transport: Transport = Transport.TCP, *, under_way: bool = True) -> Attempt:
    """One that has begun."""
    made = Attempt(transport, ("192.0.2.1", 80), None, None, reset=True, done=lambda _: None)
    made.started_ns = 1_000_000_000
    made.own = ("192.0.2.2", 40_000) if under_way else None
    return made


def syns(count: int) -> bytes:
    """struct tcp_info after so many SYN without an answer."""
    fields = [0] * 26
    fields[7] = fields[23] = count - 1
    fields[24] = count
    return struct.pack("=8x24I32x2I", *fields)


@pytest.mark.parametrize(
    ("code", "icmp", "under_way", "outcome", "says"),
    [
        (errno.EHOSTUNREACH, PROHIBITED, True, Outcome.REJECTED, "192.0.2.254 says: admin"),
        (errno.EHOSTUNREACH, None, True, Outcome.UNREACHABLE, "EHOSTUNREACH"),
        (errno.ENETUNREACH, None, False, Outcome.UNREACHABLE, "this host has no route there"),
        (errno.EACCES, None, True, Outcome.REJECTED, "a firewall or a route of this host's own"),
        (errno.ECONNRESET, None, True, Outcome.RESET, "it had connected, and sent 0 bytes"),
        (errno.ECONNRESET, PROHIBITED, True, Outcome.RESET, "it had connected"),
        (errno.EPIPE, None, True, Outcome.RESET, "it had connected"),
        (errno.ENOBUFS, None, True, Outcome.LOCAL_ERROR, "ENOBUFS"),
    ],
)
def test_an_error(
    code: int, icmp: Icmp | None, under_way: bool, outcome: Outcome, says: str
) -> None:
    """The network's own word, where there is one, else what the error means by itself."""
    made = attempt(under_way=under_way)
    made.icmp = icmp
    verdict = ends.failed(made, code)
    assert verdict.outcome is outcome
    assert verdict.evidence[0].startswith(errno.errorcode[code])
    assert any(fact.startswith(says) for fact in verdict.evidence)


def test_silence() -> None:
    """It depends on how far it came, and TCP's counts say more."""
    now = 3_500_000_000
    assert ends.silent(attempt(Transport.UDP), now).evidence == ("no answer within 2.5 s",)
    unanswered = attempt()
    unanswered.learn(syns(2))
    verdict = ends.silent(unanswered, now)
    assert verdict.outcome is Outcome.TIMEOUT
    assert verdict.evidence == ("no answer to the connection within 2.5 s", "2 SYN sent")
    made = attempt()
    made.connected_ns = 1_001_000_000
    assert ends.silent(made, now).outcome is Outcome.STALLED
    assert ends.silent(made, now).evidence == ("connected, but no answer within 2.5 s",)
    made.received = 3
    assert ends.silent(made, now).evidence[0].startswith("the answer stopped after 3 bytes, 2.5 s")


def test_what_is_no_word_of_the_networks() -> None:
    """This host's own doing, and the check's own mistakes, are local errors and say what."""
    verdict = ends.not_started(OSError(errno.EMFILE, "oops"))
    assert (verdict.outcome, verdict.evidence) == (
        Outcome.LOCAL_ERROR,
        ("EMFILE: Too many open files",),
    )
    verdict = ends.mistaken(ValueError("oops"))
    assert (verdict.outcome, verdict.evidence) == (
        Outcome.LOCAL_ERROR,
        ("the check itself failed: ValueError: oops",),
    )


def test_the_other_side_closed() -> None:
    """Short of an answer it is a reset, however orderly it was."""
    made = attempt()
    made.received = 5
    verdict = ends.closed_early(made)
    assert verdict.outcome is Outcome.RESET
    assert "after 5 bytes" in verdict.evidence[0]
