"""Commands that have commands."""

from typing import Any

import pytest

GROUPS = [[], ["alerts"], ["bus"], ["store"], ["topology"]]


@pytest.mark.parametrize("group", GROUPS)
def test_a_list_of_commands_says_all_of_each(reachmap: Any, group: list[str]) -> None:
    """No sentence is cut off where it says what it is about."""
    listed = reachmap(*group, "--help").stdout.partition("Commands:")[2]
    assert listed and "..." not in listed


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["statu"], "no such command 'statu'; did you mean status?"),
        (["topology", "chekc"], "no such command 'chekc'; did you mean check?"),
        (["qqq"], "No such command 'qqq'."),
        (["--nothing"], "No such option"),
    ],
)
def test_a_command_that_is_none_is_wrong_usage(reachmap: Any, typed: list[str], said: str) -> None:
    """With those that are near."""
    result = reachmap(*typed)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
