"""What is said of each end that a check can come to outside of its exchange. Pure."""

import errno
from typing import Final

from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.outcomes import describe, from_error, from_icmp, from_silence, own_doing
from reachmap_agent.wire.exchange import Verdict
from reachmap_shared.vocabulary import Outcome, Transport

BROKEN: Final = frozenset({errno.ECONNRESET, errno.EPIPE})
"""Only a connection that was made breaks like this: RST against a SYN is ECONNREFUSED."""

OPEN: Final = Verdict(Outcome.OPEN)
REFUSED: Final = Verdict(Outcome.REFUSED, (describe(OSError(errno.ECONNREFUSED, "")),))
MET_ITSELF: Final = Verdict(Outcome.REFUSED, ("it met itself: nothing listens there",))


def not_started(error: OSError) -> Verdict:
    """No descriptor is left, or the address is none."""
    return Verdict(Outcome.LOCAL_ERROR, (describe(error),))


def mistaken(error: Exception) -> Verdict:
    """The code of the check failed, and not the network."""
    fact = f"the check itself failed: {type(error).__name__}: {error}"
    return Verdict(Outcome.LOCAL_ERROR, (fact,))


def failed(attempt: Attempt, code: int) -> Verdict:
    """An error of the operating system's, with the ICMP error behind it if there is one."""
    error = OSError(code, "")
    facts = [describe(error)]
    if code in BROKEN:
        outcome = from_error(error)
        facts.append(f"it had connected, and sent {attempt.received} bytes before that")
    elif attempt.icmp is not None:
        own, dialled = attempt.own or ("",), attempt.address
        outcome, words = from_icmp(attempt.icmp, attempt.transport, dialled[0], own[0])
        facts.append(words)
    else:
        outcome = from_error(error)
        facts += own_doing(code, under_way=attempt.own is not None)
    return Verdict(outcome, tuple(facts))


def closed_early(attempt: Attempt) -> Verdict:
    """The other side closed the connection while the exchange waited for more."""
    fact = f"it closed the connection after {attempt.received} bytes, short of an answer"
    return Verdict(Outcome.RESET, (fact,))


def silent(attempt: Attempt, now_ns: int) -> Verdict:
    """Its time is up; with what TCP itself knows of it."""
    waited = f"{(now_ns - attempt.started_ns) / 1e9:.1f} s"
    if attempt.transport is Transport.UDP:
        return Verdict(Outcome.TIMEOUT, (f"no answer within {waited}",))
    if not attempt.connected_ns:
        fact = f"no answer to the connection within {waited}"
        return Verdict(Outcome.TIMEOUT, (fact, *from_silence(attempt.info, connected=False)))
    fact = f"connected, but no answer within {waited}"
    if attempt.received:
        fact = f"the answer stopped after {attempt.received} bytes, {waited} after the start"
    return Verdict(Outcome.STALLED, (fact, *from_silence(attempt.info, connected=True)))
