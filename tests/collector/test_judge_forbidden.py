"""What is seen of a flow that must be blocked, and what it means: proven, exposed, or unknown."""

from typing import Any

import pytest
from situations import NOW, SITUATIONS, STALE_S, cells, situate

from reachmap_collector.judge import Doubt
from reachmap_shared.vocabulary import Cause, Confidence, ListenerState, Outcome, State

FORBIDDEN = """
               absent  silent  left  conflict  mute  listen  held  ready  ceded  failed  never
open           E       E       E     E         E     E       E     E      E      E       E
wrong-service  e       e       e     e         e     e       e     e      e      e       e
tls-failure    e       e       e     e         e     e       e     e      e      e       e
reset          e       e       e     e         e     e       e     e      e      e       e
stalled        e       e       e     e         e     e       e     e      e      e       e
refused        ?       ?       ?     ?         ?     ok      ok    ?      ?      ?       ?
timeout        ?       ?       ?     ?         ?     ok      ok    ?      ?      ?       ?
rejected       ?       ?       ?     ?         ?     ok      ok    ?      ?      ?       ?
unreachable    ?       ?       ?     ?         ?     ok      ok    ?      ?      ?       ?
name-failure   ?       ?       ?     ?         ?     ?       ?     ?      ?      ?       ?
wrong-peer     ?       ?       ?     ?         ?     ?       ?     ?      ?      ?       ?
"""
"""A flow that must be blocked, from a source that reaches the destination otherwise.

E: exposed, proven; e: exposed, likely, for something was connected to.
"""


TWO_WAYS = """
[roles.db]
listens = { "db:5432" = { protocol = "postgres" }, "db:22" = { protocol = "ssh" } }
[roles.admin]
connects = ["db:22"]
[hosts.db-1]
roles = ["db"]
addresses = ["10.0.0.2"]
[hosts.pc-1]
roles = ["admin"]
[[deny]]
from = "admin"
to = "db:5432"
"""


ABOUT_THE_SAME_TIME = """
control  blocked  now    state
100      100      100    ok
 90      100      100    ok
 89.999  100      100    unknown
100       90      100    ok
100       70      100    ok
 66.5     66.5    100    ok
 66.499   66.5    100    unknown
 66.5     76.5    100    ok
 66.5     76.501  100    unknown
  -      100      100    unknown
"""
"""When the control flow and the blocked one were checked last, and what is said of the latter: the
control has to be fresh, and no more than an interval (10 s) older than the check that it vouches for.
"""


@pytest.mark.parametrize("line", ABOUT_THE_SAME_TIME.strip().splitlines()[1:])
def test_a_blocked_flow_is_proven_by_a_control_at_about_the_same_time(
    scene: Any, listener: Any, line: str
) -> None:
    """What was reached long before says nothing of a host that may have gone down since."""
    control, blocked, now, state = line.split()
    stage = scene(TWO_WAYS)
    stage.hear("pc-1", NOW)
    stage.hear("db-1", NOW, listeners=(listener("db:5432", ListenerState.LISTENING),))
    if control != "-":
        stage.see("pc-1", "db-1", Outcome.OPEN, float(control), service="db:22")
    stage.see("pc-1", "db-1", Outcome.TIMEOUT, float(blocked), service="db:5432")
    judgement = stage.judge("pc-1", "db-1", float(now), "db:5432")
    assert judgement.state is State(state)
    assert judgement.doubt is (None if state == "ok" else Doubt.NOT_REACHED)


LISTENED = """
window  situation  state
no      listen     ok
no      held       ok
no      ready      unknown
no      ceded      unknown
no      failed     unknown
no      never      unknown
no      absent     unknown
no      silent     unknown
no      mute       unknown
yes     ready      ok
yes     absent     ok
yes     silent     ok
"""
"""Whether the destination's agent had opened a window for the check, and how it stands."""


@pytest.mark.parametrize("line", LISTENED.strip().splitlines()[1:])
def test_a_blocked_flow_is_proven_where_something_listened(
    scene: Any, listener: Any, line: str
) -> None:
    """A service, the agent itself, or a window for this very check; else nobody knows."""
    window, situation, state = line.split()
    stage = scene(TWO_WAYS)
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "db-1", Outcome.OPEN, NOW, service="db:22")
    has = window == "yes"
    stage.see("pc-1", "db-1", Outcome.TIMEOUT, NOW, service="db:5432", window=has)
    situate(stage, listener, "db-1", "db:5432", situation)
    judgement = stage.judge("pc-1", "db-1", NOW, "db:5432")
    assert judgement.state is State(state)
    assert judgement.doubt is (None if state == "ok" else Doubt.NO_WITNESS)


@pytest.mark.parametrize(("outcome", "situation", "meaning"), cells(FORBIDDEN))
def test_a_flow_that_must_be_blocked(
    scene: Any, listener: Any, outcome: Outcome, situation: str, meaning: str
) -> None:
    """It is fine only where it would have been seen open, had it been open."""
    stage = scene(TWO_WAYS)
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "db-1", Outcome.OPEN, NOW, service="db:22")
    stage.see("pc-1", "db-1", outcome, NOW - 1, service="db:5432")
    situate(stage, listener, "db-1", "db:5432", situation)
    judgement = stage.judge("pc-1", "db-1", NOW, "db:5432")
    found = (judgement.state, judgement.cause, judgement.confidence)
    assert (
        found
        == {
            "E": (State.EXPOSED, None, Confidence.PROVEN),
            "e": (State.EXPOSED, None, Confidence.LIKELY),
            "?": (State.UNKNOWN, Cause.UNKNOWN, Confidence.UNKNOWN),
            "ok": (State.OK, None, None),
        }[meaning]
    )
    assert judgement.evidence
    assert judgement.since == NOW - 1
    assert (judgement.doubt is None) == (judgement.state is not State.UNKNOWN)


@pytest.mark.parametrize("control", [None, Outcome.TIMEOUT, Outcome.REFUSED, "long ago"])
def test_a_blocked_flow_to_a_host_that_may_be_down_is_unknown(
    scene: Any, listener: Any, control: Any
) -> None:
    """A dead host looks just like a firewall, so something else of it must be open right now."""
    stage = scene(TWO_WAYS)
    stage.hear("pc-1", NOW)
    if control == "long ago":
        stage.see("pc-1", "db-1", Outcome.OPEN, NOW - STALE_S - 1, service="db:22")
    elif control is not None:
        stage.see("pc-1", "db-1", control, NOW, service="db:22")
    stage.see("pc-1", "db-1", Outcome.TIMEOUT, NOW, service="db:5432")
    situate(stage, listener, "db-1", "db:5432", "listen")
    judgement = stage.judge("pc-1", "db-1", NOW, "db:5432")
    assert (judgement.state, judgement.doubt) == (State.UNKNOWN, Doubt.NOT_REACHED)
    assert judgement.evidence[-1] == (
        "nothing else of db-1 was reached from pc-1 either: it may just be down"
    )


@pytest.mark.parametrize(
    ("situation", "fact"),
    [
        ("absent", "no agent on db-1 can say whether anything listens there"),
        ("mute", "no agent on db-1 can say whether anything listens there"),
        ("ready", "nothing listens on port 5432 of db-1, says the agent there"),
        ("never", "nothing listens on port 5432 of db-1, says the agent there"),
    ],
)
def test_a_blocked_flow_with_nothing_behind_it_is_unknown(
    scene: Any, listener: Any, situation: str, fact: str
) -> None:
    """Where nothing listens, nothing is shown by nothing answering."""
    stage = scene(TWO_WAYS)
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "db-1", Outcome.OPEN, NOW, service="db:22")
    stage.see("pc-1", "db-1", Outcome.TIMEOUT, NOW, service="db:5432")
    situate(stage, listener, "db-1", "db:5432", situation)
    judgement = stage.judge("pc-1", "db-1", NOW, "db:5432")
    assert judgement.doubt is Doubt.NO_WITNESS
    assert judgement.evidence[-1] == fact


@pytest.mark.parametrize(
    "outcome", [Outcome.REFUSED, Outcome.TIMEOUT, Outcome.REJECTED, Outcome.UNREACHABLE]
)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_flow_that_is_blocked_while_a_window_is_open_is_fine(
    scene: Any, listener: Any, situation: str, outcome: Outcome
) -> None:
    """Somebody listened for just that check, and was not reached."""
    stage = scene(TWO_WAYS)
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "db-1", Outcome.OPEN, NOW, service="db:22")
    stage.see("pc-1", "db-1", outcome, NOW, service="db:5432", window=True)
    situate(stage, listener, "db-1", "db:5432", situation)
    assert stage.judge("pc-1", "db-1", NOW, "db:5432").state is State.OK


def test_a_window_does_not_stand_in_for_another_way_to_the_host(scene: Any) -> None:
    """Who listened may have been cut off from the source altogether."""
    stage = scene(TWO_WAYS)
    stage.hear("pc-1", NOW)
    stage.see("pc-1", "db-1", Outcome.TIMEOUT, NOW, service="db:5432", window=True)
    assert stage.judge("pc-1", "db-1", NOW, "db:5432").doubt is Doubt.NOT_REACHED


def test_a_blocked_flow_that_was_never_checked_is_unknown(scene: Any) -> None:
    """As is any other."""
    stage = scene(TWO_WAYS)
    stage.hear("pc-1", NOW)
    assert stage.judge("pc-1", "db-1", NOW, "db:5432").doubt is Doubt.NO_CHECK
