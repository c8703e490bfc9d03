"""The table of who may do what, held to the subjects in use. Servers are held to it elsewhere."""

import re
from pathlib import Path

import pytest

from reachmap_shared import subjects
from reachmap_shared.errors import InvalidName
from reachmap_shared.permissions import (
    TABLE,
    WHO_AM_I,
    Party,
    answer_inbox,
    covers,
    inbox,
    user_name,
)


def matches(pattern: str, subject: str) -> bool:
    """As a NATS server has it, for patterns of ours."""
    tokens, words = pattern.split("."), subject.split(".")
    if tokens[-1] == ">":
        tokens, words = tokens[:-1], words[: len(tokens) - 1]
    return len(tokens) == len(words) and all(
        token in ("*", word) for token, word in zip(tokens, words, strict=True)
    )


def may(allowed: tuple[str, ...], subject: str) -> bool:
    return any(matches(pattern, subject) for pattern in allowed)


AGENT = TABLE[Party.AGENT].of("pc-1")


def test_an_agent_may_use_the_subjects_that_it_uses() -> None:
    """Its own, and no other's."""
    assert may(AGENT.publish, subjects.hello("pc-1"))
    assert may(AGENT.publish, subjects.report("pc-1"))
    assert may(AGENT.publish, subjects.window("pc-2", "pc-1"))
    assert may(AGENT.publish, subjects.witness("pc-2", "pc-1"))
    assert may(AGENT.publish, answer_inbox(inbox("pc-2"), "pc-1", "7"))
    assert may(AGENT.subscribe, subjects.window("pc-1", "pc-2"))
    assert may(AGENT.subscribe, subjects.all_witnesses("pc-1"))
    assert may(AGENT.subscribe, answer_inbox(inbox("pc-1"), "pc-2", "7"))
    assert not may(AGENT.publish, subjects.hello("pc-2"))
    assert not may(AGENT.publish, subjects.report("pc-2"))
    assert not may(AGENT.publish, subjects.window("pc-2", "pc-3"))
    assert not may(AGENT.publish, subjects.witness("pc-2", "pc-3"))
    assert not may(AGENT.publish, answer_inbox(inbox("pc-2"), "pc-3", "7"))
    assert not may(AGENT.publish, subjects.query("status"))


def test_the_command_line_may_ask() -> None:
    """And the collector may hear everybody."""
    assert may(TABLE[Party.OPERATOR].publish, subjects.query("status"))
    assert may(TABLE[Party.OPERATOR].subscribe, subjects.CHANGES)
    assert may(TABLE[Party.COLLECTOR].publish, subjects.CHANGES)
    assert not may(TABLE[Party.OPERATOR].publish, subjects.CHANGES)
    for subject in (subjects.ALL_HELLOS, subjects.ALL_REPORTS):
        assert may(TABLE[Party.COLLECTOR].subscribe, subject)


def test_no_line_of_an_agent_s_lacks_its_name() -> None:
    """So none is shared by two, but for where the server speaks to each of itself alone."""
    for subject in (*TABLE[Party.AGENT].publish, *TABLE[Party.AGENT].subscribe):
        assert "NAME" in subject.split(".") or subject == WHO_AM_I, subject


@pytest.mark.parametrize(
    ("pattern", "subject", "covered"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.*", "a.b", True),
        ("a.*", "a.*", True),
        ("a.b", "a.*", False),
        ("a.*", "a.>", False),
        ("a.*", "a.b.c", False),
        ("a.>", "a.b.c", True),
        ("a.>", "a.b.>", True),
        ("a.>", "a", False),
        (">", "a.*.c", True),
        ("a.b.>", "a.>", False),
    ],
)
def test_a_pattern_covers_what_it_has_all_of(pattern: str, subject: str, covered: bool) -> None:
    """Wildcards on either side."""
    assert covers(pattern, subject) is covered


@pytest.mark.parametrize("name", ["", "a.b", "*", ">", "a b", "pc-1.>"])
def test_no_name_makes_a_pattern_wider(name: str) -> None:
    """A name with a dot or a wildcard names nobody."""
    with pytest.raises(InvalidName):
        inbox(name)
    with pytest.raises(InvalidName):
        user_name(Party.AGENT, name)


def test_no_host_is_called_what_the_collector_is() -> None:
    """Where servers know users by name."""
    assert "." in user_name(Party.COLLECTOR)
    assert user_name(Party.COLLECTOR) != user_name(Party.OPERATOR)


GUIDE = Path(__file__).parents[2] / "docs" / "bus.md"


@pytest.mark.skipif(not GUIDE.is_file(), reason="only a checkout has the documentation")
@pytest.mark.parametrize("party", list(Party))
def test_the_guide_has_the_table_as_it_is(party: Party) -> None:
    """Word for word, in its order: operators of other servers go by it."""
    [row] = [line for line in GUIDE.read_text().splitlines() if line.startswith(f"| {party} |")]
    _, _, publish, subscribe, _ = row.split("|")
    assert tuple(re.findall("`([^`]+)`", publish)) == TABLE[party].publish
    assert tuple(re.findall("`([^`]+)`", subscribe)) == TABLE[party].subscribe


@pytest.mark.parametrize("party", [Party.COLLECTOR, Party.OPERATOR])
def test_who_may_ask_the_collector_may_look_for_it(party: Party) -> None:
    """A command looks first: on the collector's own host it may show what the collector does."""
    assert "$SRV.>" in TABLE[party].publish
