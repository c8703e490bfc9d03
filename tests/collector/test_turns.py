"""What a change of outcome means, by what the flow should be."""

import pytest

from reachmap_collector.turns import Turn, turn
from reachmap_shared.vocabulary import Expectation, Outcome

TABLE = """
before       after        reachable  blocked
-            open         appeared   exposed
-            refused      appeared   appeared
-            local-error  changed    changed
open         timeout      broke      closed
timeout      open         healed     exposed
timeout      refused      changed    changed
open         open         passing    passing
refused      refused      passing    passing
open         local-error  unseen     unseen
timeout      local-error  unseen     unseen
local-error  open         appeared   exposed
local-error  timeout      appeared   appeared
"""


@pytest.mark.parametrize("line", TABLE.strip().splitlines()[1:])
def test_a_change_by_what_the_flow_should_be(line: str) -> None:
    """What the topology does not speak of counts as meant to be open."""
    before, after, reachable, blocked = line.split()
    was = None if before == "-" else Outcome(before)
    assert turn(was, Outcome(after), Expectation.REACHABLE) is Turn(reachable)
    assert turn(was, Outcome(after), None) is Turn(reachable)
    assert turn(was, Outcome(after), Expectation.BLOCKED) is Turn(blocked)


@pytest.mark.parametrize("expect", [*Expectation, None])
@pytest.mark.parametrize("after", Outcome)
@pytest.mark.parametrize("before", [*Outcome, None])
def test_every_change_has_a_meaning(
    before: Outcome | None, after: Outcome, expect: Expectation | None
) -> None:
    """Whatever was seen, before and after."""
    assert turn(before, after, expect) in Turn
    assert (turn(before, after, expect) is Turn.PASSING) == (before is after)
