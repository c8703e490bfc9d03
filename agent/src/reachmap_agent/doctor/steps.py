"""What a step is, and how steps are gone through: what depends on a failed one is not tried."""

from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from reachmap_agent.doctor.patient import Patient


class Result(StrEnum):
    """How one thing that was looked at stands."""

    PASS = "pass"  # noqa: S105  no password
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at."""

    name: str
    result: Result
    found: str
    to_do: str = ""
    """For a pass: what will have to be done."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a step says of one thing; most say it of one alone."""

    result: Result
    found: str
    to_do: str = ""
    name: str = ""
    """Where it is not the step's."""


def passed(found: str, to_do: str = "", name: str = "") -> Finding:
    """It is well; `to_do` for what will have to be done."""
    return Finding(Result.PASS, found, to_do, name)


def failed(found: str, to_do: str, name: str = "") -> Finding:
    """It is not, and what to do about it."""
    return Finding(Result.FAIL, found, to_do, name)


def skipped(found: str, name: str = "") -> Finding:
    """There is nothing to look at; it keeps no step that depends on it from being taken."""
    return Finding(Result.SKIPPED, found, "", name)


Take = Callable[[Patient], AsyncIterator[Finding]]
"""Looks; the last finding is what the step came to."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to look at."""

    name: str
    take: Take
    needs: str = ""
    """The step without which this one says nothing."""


async def walk(
    steps: Iterable[Step], patient: Patient, barred: dict[str, str]
) -> AsyncIterator[Diagnosis]:
    """Take each step whose need is met.

    Args:
        steps: Each after the one that it needs.
        patient: What is looked at.
        barred: Steps that failed, or were not taken, with the one that failed; is added to.
    """
    for step in steps:
        if (cause := barred.get(step.needs)) is not None:
            barred[step.name] = cause
            yield Diagnosis(step.name, Result.SKIPPED, f"nothing can be said while {cause} fails")
            continue
        last = Result.SKIPPED
        async for finding in _taken(step, patient):
            last = finding.result
            name = finding.name or step.name
            found, to_do = _printable(finding.found), _printable(finding.to_do)
            yield Diagnosis(name, finding.result, found, to_do)
        if last is Result.FAIL:
            barred[step.name] = step.name


async def _taken(step: Step, patient: Patient) -> AsyncIterator[Finding]:
    """A step's findings; one that breaks is no reason to say nothing of all others."""
    try:
        async for finding in step.take(patient):
            yield finding
    except Exception as error:  # noqa: BLE001  see above
        yield failed(f"looking failed: {error!r}", "this is a mistake of reachmap's: report it")


def _printable(text: str) -> str:
    """Servers say what they are called, and shall not paint a terminal with it."""
    return "".join(one if one.isprintable() else "." for one in text)
