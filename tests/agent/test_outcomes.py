"""From errno to outcome: what is the network's doing, and what is our own."""

import errno
import os

import pytest

from reachmap_agent.outcomes import BY_ERRNO, describe, from_error
from reachmap_shared.vocabulary import Outcome


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (errno.ECONNREFUSED, Outcome.REFUSED),
        (errno.ETIMEDOUT, Outcome.TIMEOUT),
        (errno.EHOSTUNREACH, Outcome.UNREACHABLE),
        (errno.ENETUNREACH, Outcome.UNREACHABLE),
        (errno.ENETDOWN, Outcome.UNREACHABLE),
        (errno.EHOSTDOWN, Outcome.UNREACHABLE),
        (errno.EACCES, Outcome.REJECTED),
        (errno.EPERM, Outcome.REJECTED),
        (errno.ECONNRESET, Outcome.RESET),
        (errno.EPIPE, Outcome.RESET),
        (errno.ECONNABORTED, Outcome.RESET),
        (errno.EMFILE, Outcome.LOCAL_ERROR),
        (errno.ENFILE, Outcome.LOCAL_ERROR),
        (errno.ENOBUFS, Outcome.LOCAL_ERROR),
        (errno.ENOMEM, Outcome.LOCAL_ERROR),
        (errno.EADDRNOTAVAIL, Outcome.LOCAL_ERROR),
        (errno.EINVAL, Outcome.LOCAL_ERROR),
        (errno.EAFNOSUPPORT, Outcome.LOCAL_ERROR),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else str(value),
)
def test_what_an_error_means(code: int, outcome: Outcome) -> None:
    """As measured on Linux; what this machine lacks is never blamed on the network."""
    assert from_error(OSError(code, os.strerror(code))) is outcome


def test_every_error_that_is_not_in_the_table_is_our_own() -> None:
    """Whatever a system may come up with: the prober does not lie about itself."""
    for code in [*(set(errno.errorcode) - set(BY_ERRNO)), -2, 0, 99_999]:
        assert from_error(OSError(code, "x")) is Outcome.LOCAL_ERROR
    assert from_error(OSError()) is Outcome.LOCAL_ERROR
    assert from_error(OSError("no number")) is Outcome.LOCAL_ERROR


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ECONNREFUSED, "anything"), "ECONNREFUSED: Connection refused"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "ECONNRESET: Connection reset by peer"),
        (OSError(99_999, "odd"), "[Errno 99999] odd"),
        (OSError("no number"), "no number"),
    ],
)
def test_an_error_is_told_in_words_to_search_for(error: OSError, words: str) -> None:
    """Its symbol and the system's own text; else whatever it says itself."""
    assert describe(error) == words
