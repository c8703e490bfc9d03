"""The finding: the first rule that holds, with its sentences and its device. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from reachmap_collector.diagnose.claims import contradictions
from reachmap_collector.diagnose.facts import Facts, is_passing
from reachmap_collector.diagnose.rules import RULES, At, Rule
from reachmap_collector.diagnose.sign import Sign
from reachmap_collector.diagnose.signs import SIGNS, sentences, silence_of
from reachmap_shared.diagnosis import Diagnosis, Hop
from reachmap_shared.vocabulary import Cause, Confidence


@dataclass(frozen=True, slots=True)
class Finding:
    """Who broke a flow."""

    cause: Cause
    at: str | None
    """The address of the device, as seen from the source; None where none can be named."""
    confidence: Confidence
    evidence: tuple[str, ...]
    """Sentences, each a fact, with where it was observed."""
    rule: Rule | None
    """What it rests on; None when no rule holds."""


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """That a flow was looked into."""

    at: float
    """When that began, in seconds since the epoch."""
    diagnosis: Diagnosis
    finding: Finding


def find(diagnosis: Diagnosis) -> Finding:
    """What the evidence of both ends means."""
    facts = Facts(diagnosis)
    if against := contradictions(facts):
        # What rests on neither word alone is left: no more than that, and none of it is proven.
        return _doubted(_found(Facts(replace(diagnosis, testimony=None))), against)
    return _found(facts)


def _found(facts: Facts) -> Finding:
    signs = frozenset(sign for sign, what in SIGNS.items() if what.holds(facts))
    for rule in RULES:
        if signs.issuperset(rule.needs) and signs.isdisjoint(rule.lacks):
            break
    else:
        return Finding(Cause.UNKNOWN, None, Confidence.UNKNOWN, silence_of(facts), None)
    told = (*rule.needs, *(sign for sign in rule.adds if sign in signs))
    evidence = (*sentences(facts, told), *_doubt(facts, rule), *silence_of(facts))
    return Finding(rule.cause, _PLACES[rule.at](facts), rule.confidence, evidence, rule)


def _doubted(alone: Finding, against: tuple[str, ...]) -> Finding:
    """What the source found alone, where the witness's word stands against its own."""
    evidence = (*alone.evidence, *against)
    if alone.confidence is Confidence.PROVEN:
        return replace(alone, confidence=Confidence.LIKELY, evidence=evidence)
    return Finding(Cause.UNKNOWN, None, Confidence.UNKNOWN, evidence, None)


def _doubt(facts: Facts, rule: Rule) -> tuple[str, ...]:
    """Which other device it may be, where a device was inferred from where packets stop."""
    if rule.at is At.BACK and facts.back_device is not None:
        return (f"so it is {facts.back_device.by}, or what lies behind it on the way back",)
    if rule.at is not At.LAST or rule.cause is not Cause.PATH:
        return ()
    here, behind = facts.last_device, facts.next_device
    if here is None or not here.by or behind is None or facts.parted:
        return ()
    return (f"so it is {here.by}, or what lies between it and {behind.by}, or {behind.by} itself",)


def _last(facts: Facts) -> str | None:
    if facts.last_device is not None:
        return facts.last_device.by or None
    return facts.next_device.by if facts.next_device is not None else None


def _at_hop(facts: Facts, ttl: int | None) -> str | None:
    """The device that a flow that works meets there."""
    if facts.compared is None or ttl is None:
        return None
    return _named(facts.compared.walk, ttl)


def _named(walk: tuple[Hop, ...], ttl: int) -> str | None:
    return next((hop.by or None for hop in walk if hop.ttl == ttl and is_passing(hop)), None)


def _offender(facts: Facts) -> str | None:
    return (facts.first.icmp.offender or None) if facts.first.icmp is not None else None


_PLACES: Final[Mapping[At, Callable[[Facts], str | None]]] = {
    At.NOWHERE: lambda facts: None,
    At.SOURCE: lambda facts: facts.path.local or None,
    At.DESTINATION: lambda facts: facts.diagnosis.address,
    At.OFFENDER: _offender,
    At.LAST: _last,
    At.TRANSLATOR: lambda facts: _at_hop(facts, facts.translated_at),
    At.BACK: lambda facts: facts.back_device.by if facts.back_device is not None else None,
    At.ANSWERER: lambda facts: _at_hop(facts, facts.answered_at),
}

assert set(SIGNS) == set(Sign)
