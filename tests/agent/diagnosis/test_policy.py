"""When a broken flow is looked into, and by comparison with which others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.diagnosis.policy import (
    AGAIN_S,
    HANDFUL,
    MAX_NEAR,
    SETTLE_S,
    Choice,
    Flow,
    Policy,
    nearby,
)
from reachmap_shared.diagnosis import Relation
from reachmap_shared.vocabulary import Outcome, Transport

LOST = (Outcome.TIMEOUT, "")
WINDOW_S = 60.0


def flow(slot: int, address: str = "10.0.0.1", port: int = 80) -> Flow:
    return Flow(slot, address, port, Transport.TCP)


def run(policy: Policy, begin: float, end: float) -> list[tuple[float, Choice]]:
    """All choices in a span of time, made as soon as they are due."""
    chosen = []
    now = begin
    while (due := policy.due(now)) is not None and due <= end:
        now = max(now, due)
        choice = policy.next(now)
        assert choice is not None, "what is due must be there"
        chosen.append((now, choice))
    return chosen


def test_nothing_is_due_while_all_is_well() -> None:
    """No timer, no look."""
    policy = Policy(WINDOW_S, 0.0)
    assert policy.due(0.0) is None
    assert policy.next(100.0) is None


def test_a_flow_is_looked_into_once() -> None:
    """A moment after it failed, and never again while nothing changes."""
    policy = Policy(WINDOW_S, 0.0)
    assert policy.failed(flow(1), LOST, 10.0), "it is news, once"
    assert not policy.failed(flow(1), LOST, 10.0)
    assert policy.next(10.0) is None
    assert run(policy, 10.0, 20.0) == [(10.0 + SETTLE_S, Choice(flow(1), 0))]
    for second in range(20, int(AGAIN_S)):
        policy.failed(flow(1), LOST, float(second))
    assert policy.due(AGAIN_S) is None


def test_after_a_quarter_of_an_hour_again() -> None:
    """What still fails then may fail for another reason."""
    policy = Policy(WINDOW_S, 0.0)
    policy.failed(flow(1), LOST, 0.0)
    run(policy, 0.0, 10.0)
    policy.failed(flow(1), LOST, SETTLE_S + AGAIN_S)
    assert len(run(policy, SETTLE_S + AGAIN_S, 2 * AGAIN_S)) == 1


@pytest.mark.parametrize("face", [(Outcome.REFUSED, ""), (Outcome.TIMEOUT, "10.0.0.254")])
def test_another_face_is_looked_into_at_once(face: tuple[Outcome, str]) -> None:
    """A flow that fails in another way has another fault."""
    policy = Policy(WINDOW_S, 0.0)
    policy.failed(flow(1), LOST, 0.0)
    run(policy, 0.0, 10.0)
    policy.failed(flow(1), face, 20.0)
    assert [choice.flow.slot for _, choice in run(policy, 20.0, 30.0)] == [1]


def test_what_heals_in_time_is_not_looked_into() -> None:
    """Nobody is bothered for what is over."""
    policy = Policy(WINDOW_S, 0.0)
    policy.failed(flow(1), LOST, 0.0)
    policy.healed((1, "10.0.0.1"))
    assert policy.due(0.0) is None


def test_what_fails_again_after_it_was_well_is_looked_into_again() -> None:
    """That is a new fault."""
    policy = Policy(WINDOW_S, 0.0)
    policy.failed(flow(1), LOST, 0.0)
    run(policy, 0.0, 10.0)
    policy.healed((1, "10.0.0.1"))
    policy.failed(flow(1), LOST, 100.0)
    assert len(run(policy, 100.0, 200.0)) == 1


@pytest.mark.parametrize(
    "outcome",
    [Outcome.NAME_FAILURE, Outcome.LOCAL_ERROR, Outcome.TLS_FAILURE, Outcome.WRONG_SERVICE],
)
def test_what_speaks_for_itself_is_not_looked_into(outcome: Outcome) -> None:
    """Where packets go says nothing of a certificate."""
    policy = Policy(WINDOW_S, 0.0)
    policy.failed(flow(1), (outcome, ""), 0.0)
    assert policy.due(0.0) is None


def test_a_thousand_flows_with_one_cause_are_a_handful() -> None:
    """However they come in within the window; the number of the others is told."""
    policy = Policy(WINDOW_S, 0.0)
    for slot in range(1000):
        policy.failed(flow(slot, f"10.0.{slot // 250}.{slot % 250}"), LOST, slot * 0.05)
    chosen = run(policy, 50.0, AGAIN_S)
    assert len(chosen) == HANDFUL
    assert chosen[0][1].others == 999
    assert {choice.flow.address.split(".")[2] for _, choice in chosen} == {"0", "1", "2", "3"}


def test_another_cause_meanwhile_is_looked_into() -> None:
    """A flow that is refused is none of those that are lost."""
    policy = Policy(WINDOW_S, 0.0)
    for slot in range(100):
        policy.failed(flow(slot, f"10.0.0.{slot}"), LOST, 0.0)
    policy.failed(flow(500, "10.9.0.1"), (Outcome.REFUSED, ""), 0.0)
    assert 500 in [choice.flow.slot for _, choice in run(policy, 0.0, 100.0)]


def test_a_later_burst_is_another_cause() -> None:
    """What begins to fail long after the others has its own turn."""
    policy = Policy(WINDOW_S, 0.0)
    for slot in range(100):
        policy.failed(flow(slot, f"10.0.0.{slot}"), LOST, 0.0)
    run(policy, 0.0, 100.0)
    policy.failed(flow(500, "10.9.0.1"), LOST, 200.0)
    assert [choice.flow.slot for _, choice in run(policy, 200.0, 300.0)] == [500]


def test_one_host_is_spared() -> None:
    """Two flows to a host at once, and then one a minute."""
    policy = Policy(WINDOW_S, 0.0)
    for slot in range(4):
        policy.failed(flow(slot, port=80 + slot), LOST, 0.0)
    times = [when for when, _ in run(policy, 0.0, 1000.0)]
    assert times == [SETTLE_S, SETTLE_S, SETTLE_S + 60, SETTLE_S + 120]


def test_plans_that_follow_each_other_spare_the_host_all_the_same() -> None:
    """Each forgets the flows of the one before, and not what was looked into lately."""
    policy = Policy(WINDOW_S, 0.0)
    chosen = []
    for revision in range(10):
        policy.begin_anew(WINDOW_S)
        policy.failed(flow(1), LOST, float(revision))
        chosen += run(policy, revision, revision + SETTLE_S)
    assert len(chosen) == 2, "two at once, and then one a minute"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 30),
            st.sampled_from([Outcome.TIMEOUT, Outcome.REFUSED, Outcome.OPEN]),
            st.floats(0, 20),
        ),
        max_size=60,
    )
)
def test_it_is_never_much(events: list[tuple[int, Outcome, float]]) -> None:
    """Whatever flaps, the agent's and each host's buckets bound what is looked into."""
    policy = Policy(WINDOW_S, 0.0)
    now = 0.0
    chosen: list[tuple[float, Choice]] = []
    for slot, outcome, after in events:
        chosen += run(policy, now, now + after)
        now += after
        one = flow(slot, f"10.0.0.{slot % 4}")
        if outcome is Outcome.OPEN:
            policy.healed(one.key)
        else:
            policy.failed(one, (outcome, ""), now)
    chosen += run(policy, now, now + 100)
    assert len(chosen) <= 6 + (now + 100) / 20
    for host in range(4):
        mine = [when for when, one in chosen if one.flow.address == f"10.0.0.{host}"]
        assert len(mine) <= 2 + (now + 100) / 60


def test_compared_with_what_works_nearby() -> None:
    """Another port of the same host first, then a neighbour; what is elsewhere is no comparison."""
    broken = flow(0)
    others = [
        broken,
        flow(1, "10.0.0.2"),
        flow(2, port=443),
        flow(3, "10.1.0.1"),
        flow(4, "10.0.0.3"),
        flow(5, port=22),
    ]
    works = {(5, "10.0.0.1"): True, (4, "10.0.0.3"): True}
    near = nearby(broken, others, works)
    assert len(near) == MAX_NEAR
    assert [(relation, one.slot) for relation, one in near] == [
        (Relation.SAME_HOST, 5),
        (Relation.SAME_NETWORK, 4),
        (Relation.SAME_HOST, 2),
    ]


def test_neighbours_of_ipv6_share_64_bits() -> None:
    """And a name is nobody's neighbour."""
    broken = flow(0, "fd00::1")
    others = [flow(1, "fd00::2"), flow(2, "fd00:0:0:1::1"), flow(3, "db.example")]
    assert [one.slot for _, one in nearby(broken, others, {})] == [1]
