"""All signs: what was observed and what was testified, and the sentences that say so. Pure.

A rule names the signs that it rests on, and those that must be missing; whoever reads a finding
reads the sentences of the former.
"""

import errno
import os
from collections.abc import Mapping
from typing import Final

from reachmap_collector.diagnose.facts import Facts
from reachmap_collector.diagnose.observed import OBSERVED, offender
from reachmap_collector.diagnose.sign import Sign, What
from reachmap_collector.diagnose.testified import TESTIFIED
from reachmap_shared.diagnosis import Silenced, TapState
from reachmap_shared.vocabulary import Outcome

SIGNS: Final[Mapping[Sign, What]] = {**OBSERVED, **TESTIFIED}

_VOUCHED: Final = frozenset({Sign.CAME, Sign.HALF_OPEN})
"""What is shown to be so by who can name the ports."""


def sentences(facts: Facts, signs: tuple[Sign, ...]) -> tuple[str, ...]:
    """What these signs say, for people."""
    words = _words(facts)
    return tuple(_whose(facts, sign, words) for sign in signs if SIGNS[sign].says)


def _whose(facts: Facts, sign: Sign, words: dict[str, object]) -> str:
    said = SIGNS[sign].says.format(**words)
    if sign in OBSERVED:
        return said
    destination = facts.diagnosis.destination
    if sign in _VOUCHED and facts.vouched:
        return f"{destination}: {said}: its agent knows source ports that only these could tell"
    return f"says the agent on {destination}: {said}"


def silence_of(facts: Facts) -> tuple[str, ...]:
    """Why less is known than could be."""
    destination = facts.diagnosis.destination
    if facts.diagnosis.silenced is not None:
        return (_SILENCED[facts.diagnosis.silenced].format(destination=destination),)
    told = facts.told
    if told is None:
        return ()
    found = []
    if not told.is_local:
        found.append(
            f"says the agent on {destination}: {facts.diagnosis.address} is no address of its own"
        )
    if not facts.tap and told.is_local:
        found.append(f"{destination}: {_NO_TAP[told.sight.tap]}")
    return tuple(found)


_SILENCED: Final[Mapping[Silenced, str]] = {
    Silenced.NO_AGENT: "no agent on {destination} can say what came there",
    Silenced.NO_ANSWER: "the agent on {destination} did not answer",
    Silenced.BUSY: "the agent on {destination} watched too many checks at once",
    Silenced.REFUSED: "the agent on {destination} would not watch this check",
    Silenced.FORGED: "what answered for the agent on {destination} was not by its key",
    Silenced.LATE: "the agent on {destination} did not say in time what it saw",
}
_NO_TAP: Final[Mapping[TapState, str]] = {
    TapState.WORKS: "packets may have passed its tap unseen",
    TapState.FORBIDDEN: "its agent may not look at packets (CAP_NET_RAW)",
    TapState.BLIND: "its agent's tap does not see packets",
    TapState.NONE: "its agent cannot look at packets on this system",
}


def _words(facts: Facts) -> dict[str, object]:
    given, first, last = facts.diagnosis, facts.first, facts.last
    icmp = first.icmp
    near = facts.compared
    told, own = given.testimony, facts.path.sight.counters
    counters = told.sight.counters if told is not None else None
    fits = [rung.mss for rung in facts.path.ladder if rung.outcome is Outcome.OPEN]
    listener = "its agent's own listener is"
    if told is not None and told.holder:
        listener = f"{told.holder} listens"
    return {
        "source": given.source,
        "destination": given.destination,
        "address": given.address,
        "local": facts.path.local,
        "port": given.port,
        "kind": "SYN" if facts.is_tcp else "datagram",
        "first": first.outcome,
        "last": last.outcome,
        "outcome": first.outcome,
        "error": _named(first.errno),
        "tries": first.timeouts,
        "packets": f"{first.segments_out} SYN" if facts.is_tcp else "a datagram",
        "offender": offender(facts) or "an unknown device",
        "icmp": f"ICMP{'v6' if icmp.version == 6 else ''} {icmp.type}/{icmp.code}" if icmp else "",
        "ms": first.met_ms,
        "near": f"port {near.port} of {near.address}" if near else "",
        "passed": _named_device(facts),
        "back": facts.back_device.by if facts.back_device is not None else "",
        "next": f" and {facts.next_device.by}" if facts.next_device else "",
        "early": facts.answered_at,
        "distance": facts.distance,
        "translated": facts.translated_at,
        "fits": max(fits, default=0),
        "listener": listener,
        "route_error": _named(told.route_back) if told is not None else "",
        "resets": counters.resets_out if counters else 0,
        "lost": counters.not_delivered if counters else 0,
        "held": own.not_delivered if own is not None else 0,
        "overflows": counters.listen_overflows if counters else 0,
    }


def _named_device(facts: Facts) -> str:
    device = facts.last_device
    if device is None:
        return "this host"
    return device.by or f"a device {device.ttl} hops away"


def _named(code: int) -> str:
    return errno.errorcode.get(code, os.strerror(code) if code > 0 else "an error")
