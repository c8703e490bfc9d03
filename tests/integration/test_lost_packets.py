"""A month of lost packets: what the agents' confirmation lets through, and alerting makes of it.

It is in virtual time. Nearly all checks meet no loss that they notice, so only those are played that
do; how many there are, and when, is drawn as if all had been.
"""

import math
import random

from reachmap_agent.confirm import AGAIN_WITHIN_S, RECHECK_AFTER_S, Confirmation
from reachmap_collector.alerts.causes import find_causes
from reachmap_collector.alerts.groups import Sight
from reachmap_collector.alerts.lifecycle import Book, Timing
from reachmap_collector.planner import FlowKey
from reachmap_collector.roster import AgentState
from reachmap_shared.messages import Observation
from reachmap_shared.vocabulary import Outcome, State, Transport

LOST = 0.01
"""Of the packets, each way."""

FLOWS = 300
MONTH_S = 30 * 86_400.0
INTERVAL_S = 10.0
TIMEOUT_S = 3.5
SYNS_AT_S = (0.0, 1.0, 3.0)
"""When TCP sends its SYN, and sends it again."""


def goes_unanswered(timeout_s: float) -> float:
    """The chance that all that a check sends in its time is lost, there or back."""
    one = 1 - (1 - LOST) ** 2
    return one ** sum(at < timeout_s for at in SYNS_AT_S)


def observation(outcome: Outcome) -> Observation:
    return Observation(0, 0, outcome, None, True, 0, 0, 0, "", ())


def test_a_month_with_a_lost_packet_in_a_hundred_is_silent() -> None:
    """Hundreds of checks time out for nothing, and nobody hears of it."""
    chance = random.Random(2030)
    checks = int(FLOWS * MONTH_S / INTERVAL_S)
    suspicious, confirmed, position = 0, 0, 0
    book = Book(Timing.for_checks(INTERVAL_S))
    events = []
    while True:
        # From one check that times out to the next: the geometric distribution.
        skipped = math.log(1 - chance.random()) / math.log(1 - goes_unanswered(TIMEOUT_S))
        position += 1 + int(skipped)
        if position >= checks:
            break
        suspicious += 1
        now = position * INTERVAL_S / FLOWS
        flow = Confirmation()
        flow.judge(observation(Outcome.OPEN))
        is_known, again_s = flow.judge(observation(Outcome.TIMEOUT))
        outcome = Outcome.TIMEOUT
        while again_s is not None:
            timeout_s = flow.timeout_s(0, "", TIMEOUT_S)
            lost = chance.random() < goes_unanswered(timeout_s)
            outcome = Outcome.TIMEOUT if lost else Outcome.OPEN
            is_known, again_s = flow.judge(observation(outcome))
        assert is_known
        if outcome is Outcome.TIMEOUT:
            confirmed += 1
            key = FlowKey("pc", "web", "10.0.0.1", 443, Transport.TCP)
            sight = Sight(key, "web:443", State.BROKEN, outcome, since=now, checked=now)
            causes = find_causes([sight], {"web": AgentState.FRESH}, now=now + 5)
            events += book.update(causes, now) + book.update(causes, now + 5)
            events += book.update([], now + INTERVAL_S)
    assert suspicious > 100
    assert events == [], f"{confirmed} of {suspicious} timeouts were confirmed"


def test_what_confirmation_leaves_is_less_than_one_in_a_century() -> None:
    """Worked out, since no simulation is long enough to see any."""
    repeated = goes_unanswered(AGAIN_WITHIN_S) ** len(RECHECK_AFTER_S)
    a_month = FLOWS * MONTH_S / INTERVAL_S * goes_unanswered(TIMEOUT_S) * repeated
    assert a_month * 12 * 100 < 1
