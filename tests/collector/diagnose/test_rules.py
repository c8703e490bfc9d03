"""The table of rules: what holds for every one of them."""

import pytest

from reachmap_collector.diagnose.rules import RULES, At, Rule
from reachmap_collector.diagnose.sign import Sign
from reachmap_collector.diagnose.signs import SIGNS
from reachmap_collector.diagnose.testified import TESTIFIED
from reachmap_shared.vocabulary import Cause, Confidence

INFERRED = (At.LAST, At.TRANSLATOR, At.ANSWERER, At.BACK)

each = pytest.mark.parametrize("rule", RULES, ids=lambda rule: "+".join(s.name for s in rule.needs))


@each
def test_a_device_that_is_inferred_is_never_proven(rule: Rule) -> None:
    """It may be that one, or the one behind it."""
    if rule.at in INFERRED:
        assert rule.confidence is not Confidence.PROVEN


@each
def test_an_unknown_cause_is_nowhere(rule: Rule) -> None:
    """And nobody is sure of it."""
    unknown = rule.cause is Cause.UNKNOWN
    assert (rule.confidence is Confidence.UNKNOWN) == unknown
    if unknown:
        assert rule.at is At.NOWHERE


@each
def test_every_rule_says_what_it_rests_on(rule: Rule) -> None:
    """At least one sentence, except where the evidence is of no known kind."""
    if rule.needs != (Sign.ICMP,):
        assert any(SIGNS[sign].says for sign in rule.needs)


@each
def test_no_rule_is_out_of_reach(rule: Rule) -> None:
    """None before it holds whenever it would."""
    for before in RULES[: RULES.index(rule)]:
        assert not (set(before.needs) <= set(rule.needs) and set(before.lacks) <= set(rule.lacks))


@each
def test_nothing_is_proven_by_a_witness(rule: Rule) -> None:
    """It may say anything: neither what it says nor what it does not say forces a cause."""
    if rule.confidence is Confidence.PROVEN:
        assert not TESTIFIED.keys() & {*rule.needs, *rule.lacks}
        assert not any(
            TESTIFIED.keys() & set(before.needs) for before in RULES[: RULES.index(rule)]
        ), "and no word of it stands before what is proven"


def test_every_sign_serves_a_rule() -> None:
    """Or it would be looked for in vain."""
    used = {sign for rule in RULES for sign in (*rule.needs, *rule.lacks, *rule.adds)}
    assert set(Sign) == used
