"""Subjects: one token for one name, so that a permission holds one agent to its own."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reachmap_shared import subjects
from reachmap_shared.errors import InvalidName

names = st.from_regex(r"[A-Za-z0-9_-]{1,63}", fullmatch=True)
BY_AGENT = [subjects.hello, subjects.pulse, subjects.report, subjects.ask]
FOR_AGENT = [
    *BY_AGENT,
    subjects.plan,
    subjects.last_plan,
    subjects.all_windows,
    subjects.all_witnesses,
]


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (subjects.hello("pc-17"), "reachmap.hello.pc-17"),
        (subjects.report("pc-17"), "reachmap.report.pc-17"),
        (subjects.pulse("pc-17"), "reachmap.pulse.pc-17"),
        (subjects.ask("pc-17"), "reachmap.ask.pc-17"),
        (subjects.plan("pc-17"), "$KV.reachmap-plans.pc-17"),
        (
            subjects.last_plan("pc-17"),
            "$JS.API.DIRECT.GET.KV_reachmap-plans.$KV.reachmap-plans.pc-17",
        ),
        (subjects.window("db-1", "pc-17"), "reachmap.window.db-1.pc-17"),
        (subjects.all_windows("db-1"), "reachmap.window.db-1.*"),
        (subjects.witness("db-1", "pc-17"), "reachmap.witness.db-1.pc-17"),
        (subjects.all_witnesses("db-1"), "reachmap.witness.db-1.*"),
        (subjects.query("flows"), "reachmap.query.flows"),
        (subjects.ALL_HELLOS, "reachmap.hello.*"),
        (subjects.ALL_PULSES, "reachmap.pulse.*"),
        (subjects.ALL_REPORTS, "reachmap.report.*"),
    ],
)
def test_subjects_are_as_published(subject: str, expected: str) -> None:
    """Permissions on people's servers are written with these."""
    assert subject == expected


@pytest.mark.parametrize("make", BY_AGENT)
@given(name=names)
def test_a_subject_names_its_sender_last(make: Callable[[str], str], name: str) -> None:
    """Three tokens, the last of which is the agent, which can be read back."""
    subject = make(name)
    assert len(subject.split(".")) == 3
    assert subject.endswith(f".{name}")
    assert subjects.sender(subject) == name


@given(destination=names, source=names)
def test_what_one_agent_asks_another_is_the_asker_s(destination: str, source: str) -> None:
    """The subject names both, and whoever asks is its sender."""
    assert subjects.sender(subjects.window(destination, source)) == source


@pytest.mark.parametrize("make", FOR_AGENT)
@pytest.mark.parametrize("name", ["", "*", ">", "a.b", "a b", "a\r\nPUB x 0", "a\n"])
def test_no_name_reaches_another_s_subject(make: Callable[[str], str], name: str) -> None:
    """Wildcards, dots and line ends are refused before they are part of a subject."""
    with pytest.raises(InvalidName):
        make(name)


@given(st.text() | st.from_regex(r"reachmap(\.[a-z*>]{0,3}){0,4}", fullmatch=True))
def test_a_sender_is_a_name_or_refused(subject: str) -> None:
    """Whatever subject arrives, its sender is one token, or InvalidName."""
    try:
        name = subjects.sender(subject)
    except InvalidName:
        return
    assert subjects.hello(name).split(".")[2] == name


@pytest.mark.parametrize(
    "subject", ["", "reachmap", "reachmap.hello", "reachmap.hello.a.b.c", "$KV.x.a"]
)
def test_a_subject_of_another_shape_names_nobody(subject: str) -> None:
    """Only subjects of ours with one or two names have a sender."""
    with pytest.raises(InvalidName, match="names no agent"):
        subjects.sender(subject)
