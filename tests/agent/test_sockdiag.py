"""sock_diag's answers: from the kernel's own bytes, whole or damaged."""

import contextlib
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.sockdiag import TCP, UDP, EndOfDump, Listening, read, read_table, request

DONE = struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)


def message(address: bytes, port: int, family: int = 2, attributes: bytes = b"") -> bytes:
    """A reply as the kernel makes it (struct inet_diag_msg)."""
    body = bytes([family, 10, 0, 0]) + struct.pack("!HH", port, 0)
    body += address.ljust(16, b"\0") + bytes(16 + 4 + 8) + struct.pack("=5I", 0, 0, 0, 33, 4711)
    body += attributes
    return struct.pack("=IHHII", 16 + len(body), 20, 2, 1, 0) + body


CGROUP = struct.pack("=HHQ", 12, 21, 1234)
DUAL = struct.pack("=HHB3x", 5, 11, 0)
V6_ONLY = struct.pack("=HHB3x", 5, 11, 1)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (message(b"\x7f\0\0\1", 80), Listening("127.0.0.1", 80, False, 33, 4711, None)),
        (message(b"", 80, 2, CGROUP), Listening("0.0.0.0", 80, False, 33, 4711, 1234)),
        (message(b"", 80, 10, DUAL), Listening("::", 80, True, 33, 4711, None)),
        (message(b"", 80, 10, V6_ONLY + CGROUP), Listening("::", 80, False, 33, 4711, 1234)),
    ],
)
def test_a_reply_is_read(data: bytes, expected: Listening) -> None:
    """Address, port, owner, control group, and whether `::` takes IPv4 too."""
    assert list(read(data)) == [expected]


def test_what_comes_before_the_end_is_kept() -> None:
    """The end of the dump may share a datagram with sockets."""
    sockets = read(message(b"", 80) + message(b"", 81) + DONE)
    assert [next(sockets).port, next(sockets).port] == [80, 81]
    with pytest.raises(EndOfDump):
        next(sockets)


def test_a_refusal_is_an_error() -> None:
    """The kernel's own error code is passed on."""
    refusal = struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -1)
    with pytest.raises(PermissionError):
        list(read(refusal))


@given(st.binary(max_size=400), st.integers(0, 400))
def test_damage_never_does_harm(noise: bytes, cut: int) -> None:
    """Truncated or random bytes end the reading, or are an error; they never loop or crash."""
    for data in (noise, (message(b"", 80, 2, CGROUP) * 3)[:cut] + noise):
        with contextlib.suppress(EndOfDump, OSError):
            assert len(list(read(data))) < 100


@pytest.mark.parametrize(
    ("bound", "both", "asked", "expected"),
    [
        ("127.0.0.1", False, "127.0.0.1", True),
        ("127.0.0.1", False, "127.0.0.2", False),
        ("0.0.0.0", False, "127.0.0.2", True),
        ("127.0.0.1", False, "0.0.0.0", True),
        ("::", True, "127.0.0.1", True),
        ("::", False, "127.0.0.1", False),
        ("::", False, "::1", True),
        ("0.0.0.0", False, "::", False),
    ],
)
def test_who_is_in_whose_way(bound: str, both: bool, asked: str, expected: bool) -> None:
    """As the kernel's bind has it."""
    listening = Listening(bound, 80, both, 0, 1, None)
    assert listening.covers(asked, 80) is expected
    assert listening.covers(asked, 81) is False


def test_the_request_asks_for_listening_sockets_alone() -> None:
    """One message, of the length that it says."""
    data = request(2, TCP)
    length, kind, *_ = struct.unpack_from("=IHHII", data)
    assert length == len(data)
    assert kind == 20
    assert struct.unpack_from("=I", data, 20) == (1 << 10,)


TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: {address}:1F90 00000000:0000 {state} 00000000:00000000 00:00000000 00000000    33        0 7788
   1: 0100007F:0050 0100007F:9C40 01 00000000:00000000 00:00000000 00000000  1000        0 1 x y
"""
"""As it is on a machine whose low byte comes first."""


@pytest.mark.skipif(sys.byteorder != "little", reason="the words above are of that order")
@pytest.mark.parametrize(
    ("words", "address"),
    [
        ("0500000A", "10.0.0.5"),
        ("00000000", "0.0.0.0"),
        ("00000000000000000000000001000000", "::1"),
        ("000000FD000000000000000005000000", "fd00::5"),
    ],
)
@pytest.mark.parametrize(("protocol", "state"), [(TCP, "0A"), (UDP, "07")])
def test_a_table_of_proc_is_read(words: str, address: str, protocol: int, state: str) -> None:
    """Only who listens; and an IPv6 socket is taken for one of both families."""
    (found,) = read_table(TABLE.format(address=words, state=state), protocol)
    assert found == Listening(address, 8080, ":" in address, 33, 7788, None)
