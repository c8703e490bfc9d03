"""Going through steps: each after what it needs, and none whose need failed."""

import contextlib
from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from reachmap_agent.doctor.patient import Patient, Server
from reachmap_agent.doctor.steps import (
    Diagnosis,
    Finding,
    Result,
    Step,
    Take,
    failed,
    passed,
    skipped,
    walk,
)
from reachmap_agent.settings import Settings

SERVER = Server.of("nats://localhost")


def says(*findings: Finding) -> Take:
    async def take(_patient: Patient) -> AsyncIterator[Finding]:
        for finding in findings:
            yield finding

    return take


async def walked(*steps: Step) -> list[Diagnosis]:
    async with contextlib.AsyncExitStack() as leaving:
        patient = Patient(Settings(), leaving, SERVER)
        return [one async for one in walk(steps, patient, {})]


GOOD, BAD, NONE = says(passed("a")), says(failed("b", "c")), says(skipped("d"))


async def test_what_needs_a_failed_step_is_not_taken() -> None:
    """Nor what needs that; both name the one to mend. The rest is."""
    found = await walked(
        Step("one", BAD), Step("two", GOOD, "one"), Step("three", GOOD, "two"), Step("four", GOOD)
    )
    assert [(one.name, one.result) for one in found] == [
        ("one", Result.FAIL),
        ("two", Result.SKIPPED),
        ("three", Result.SKIPPED),
        ("four", Result.PASS),
    ]
    assert {one.found for one in found[1:3]} == {"nothing can be said while one fails"}


async def test_where_there_is_nothing_to_look_at_the_next_step_is_taken() -> None:
    """A bus without TLS can be logged into."""
    found = await walked(Step("one", NONE), Step("two", GOOD, "one"))
    assert [one.result for one in found] == [Result.SKIPPED, Result.PASS]


async def test_the_last_finding_is_what_a_step_came_to() -> None:
    """One of several addresses is enough."""
    both = says(failed("b", "c", name="first"), passed("a"))
    found = await walked(Step("one", both), Step("two", GOOD, "one"))
    assert [(one.name, one.result) for one in found] == [
        ("first", Result.FAIL),
        ("one", Result.PASS),
        ("two", Result.PASS),
    ]


async def test_a_step_that_breaks_is_told_and_the_others_are_taken() -> None:
    """What meets whatever is wrong with a host may meet what nobody thought of."""

    async def broken(_patient: Patient) -> AsyncIterator[Finding]:
        yield passed("so far")
        raise ZeroDivisionError("oh")

    found = await walked(Step("one", broken), Step("two", GOOD, "one"), Step("three", GOOD))
    assert [one.result for one in found] == [
        *(Result.PASS, Result.FAIL, Result.SKIPPED, Result.PASS),
    ]
    assert found[1].found == "looking failed: ZeroDivisionError('oh')"


@given(st.lists(st.tuples(st.sampled_from([GOOD, BAD, NONE]), st.integers(0, 9)), max_size=10))
async def test_each_step_is_told_once_and_in_order(plan: list[tuple[Take, int]]) -> None:
    """Whatever fails, and whatever needs what."""
    steps = [
        Step(str(n), take, str(need) if need < n else "") for n, (take, need) in enumerate(plan)
    ]
    found = await walked(*steps)
    assert [one.name for one in found] == [step.name for step in steps]
    assert all(one.to_do for one in found if one.result is Result.FAIL)
