"""The pages say what the programs say now: those that are written by one, and the commands in all."""

import argparse
import re
import runpy
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

from reachmap_agent import cli as agent
from reachmap_agent.limits import ListenerLimits
from reachmap_agent.settings import ENVIRONMENT
from reachmap_collector.cli import main as collector

WRITER = Path(__file__).parent.parent / "docs" / "agent_settings.py"

if not WRITER.is_file():
    pytest.skip("only a checkout has the pages", allow_module_level=True)


def test_the_page_of_the_agent_s_settings_is_fresh() -> None:
    """Names, bounds, defaults and reasons are those of the code; `make docs` writes it anew."""
    written = runpy.run_path(str(WRITER))
    assert written["PAGE"].read_text() == written["page"]()


def test_the_page_has_every_setting() -> None:
    """Also one that was given no reason would be missed here."""
    page = WRITER.with_name("agent-settings.md").read_text()
    for name in (*ENVIRONMENT, *(field.name for field in fields(ListenerLimits))):
        assert f"# `{name}`\n\nDefault " in page


ROOT = WRITER.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCED = re.compile(r"^ *```\w*\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"(?<!`)`(reachmap(?:-agent)?\b[^`]*)`")
_OURS = re.compile(r"(?:^|[|;&] *|-- )(reachmap(?:-agent)?) +([^|;&>#\n]*)", re.MULTILINE)
_WORD = re.compile(r"--?[a-z][a-z-]*|[\w./:,*'\"-]+")


def commands(page: Path) -> Iterator[tuple[str, str]]:
    """Our programs with what follows them, wherever a page names them as code."""
    text = page.read_text()
    for block in _FENCED.findall(text):
        yield from _OURS.findall(block.replace("\\\n", " "))
    for span in _INLINE.findall(_FENCED.sub("", text)):
        yield from _OURS.findall(" ".join(span.split()))


def options_of_agent(words: list[str]) -> tuple[set[str], str]:
    """The options of the agent's command that words name, and what it has none of; empty if well."""
    parser = agent._parser()
    [action] = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not words or words[0].startswith("-"):
        return set(parser._option_string_actions), ""
    if words[0] not in action.choices:
        return set(), words[0]
    return set(action.choices[words[0]]._option_string_actions), ""


def options_of_collector(words: list[str]) -> tuple[set[str], str]:
    """Likewise, of `reachmap`, whose commands have commands."""
    command: click.Command = collector
    context = click.Context(command)
    names = iter(words)
    while isinstance(command, click.Group):
        name = next(names, None)
        if name is None or name.startswith("-"):
            break
        found = command.get_command(context, name)
        if found is None:
            return set(), name
        command = found
    known = {text for one in command.params for text in (*one.opts, *one.secondary_opts)}
    return known | {"--help"}, ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_is_one(page: Path) -> None:
    """Each command and option that a page tells people to type is there to be typed."""
    for program, rest in commands(page):
        words = _WORD.findall(rest)
        look = options_of_agent if program == "reachmap-agent" else options_of_collector
        known, strange = look(words)
        assert not strange, f"{program} {rest}: no command {strange}"
        for word in words:
            if word.startswith("--"):
                assert word in known, f"{program} {rest}: no option {word}"


def test_the_pages_have_commands() -> None:
    """And they are found where they stand: in blocks, in pipes, in sentences."""
    found = {
        (program, rest.split()[0])
        for page in PAGES
        for program, rest in commands(page)
        if rest.split()
    }
    assert {("reachmap", "enroll"), ("reachmap-agent", "join"), ("reachmap", "serve")} <= found
    assert {("reachmap-agent", "service"), ("reachmap-agent", "doctor")} <= found
    assert len(found) > 20


def test_what_is_none_is_found_out(tmp_path: Path) -> None:
    """Or the test above would say nothing."""
    page = tmp_path / "page.md"
    for text in (
        "```sh\nreachmap nonsense\n```\n",
        "```\nssh a reachmap-agent nonsense | cat\nreachmap-agent nonsense\n```\n",
        "say `reachmap agents --nonsense X`.\n",
        "say `reachmap alerts nonsense` and\n",
        "say `reachmap-agent\ndoctor --nonsense`.\n",
    ):
        page.write_text(text)
        with pytest.raises(AssertionError, match="nonsense"):
            test_every_command_on_a_page_is_one(page)
