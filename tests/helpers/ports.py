"""Ports that are free, and stay so until the test takes them."""

import contextlib
import os
import socket
from itertools import cycle

_FIRST, _LAST = 20_000, 32_000
_offset = os.getpid() * 7_919 % ((_LAST - _FIRST) // 2) * 2
_numbers = cycle((*range(_FIRST + _offset, _LAST, 2), *range(_FIRST, _FIRST + _offset, 2)))
"""Below the ports that systems give to outgoing connections, which would come and take one; and far
from those of another run beside this one, whose process has the next number."""


def free_port() -> int:
    """A port that nothing holds, TCP or UDP, on any address; the one after it is free too."""
    for number in _numbers:
        with contextlib.ExitStack() as open_:
            try:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    for port in (number, number + 1):
                        probe = open_.enter_context(socket.socket(socket.AF_INET, kind))
                        probe.bind(("", port))
            except OSError:
                continue
            return number
    raise AssertionError  # a cycle has no end
