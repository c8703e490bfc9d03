"""From what the operating system said to what a check saw. Pure.

The prober never lies about itself: an error that is this machine's own doing is LOCAL_ERROR, and
so is every error that this table does not know.
"""

import errno
import os
from collections.abc import Mapping
from typing import Final

from reachmap_shared.vocabulary import Outcome

BY_ERRNO: Final[Mapping[int, Outcome]] = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.ETIMEDOUT: Outcome.TIMEOUT,
    errno.EHOSTUNREACH: Outcome.UNREACHABLE,
    errno.ENETUNREACH: Outcome.UNREACHABLE,
    errno.ENETDOWN: Outcome.UNREACHABLE,
    errno.EHOSTDOWN: Outcome.UNREACHABLE,
    # Linux turns ICMPv6 "administratively prohibited" and a prohibiting route into EACCES, and
    # a local firewall's verdict on a datagram into EPERM.
    errno.EACCES: Outcome.REJECTED,
    errno.EPERM: Outcome.REJECTED,
    errno.ECONNRESET: Outcome.RESET,
    errno.EPIPE: Outcome.RESET,
    errno.ECONNABORTED: Outcome.RESET,
}


def from_error(error: OSError) -> Outcome:
    """What an error of connect, send or receive means for the flow."""
    return BY_ERRNO.get(error.errno or 0, Outcome.LOCAL_ERROR)


def describe(error: OSError) -> str:
    """The error in the words that people search for, as in `ECONNREFUSED: Connection refused`."""
    code = error.errno or 0
    name = errno.errorcode.get(code)
    return f"{name}: {os.strerror(code)}" if name else str(error)
