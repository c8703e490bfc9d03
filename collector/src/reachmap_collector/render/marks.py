"""How states look: a mark that reads without colour, and a colour for those who see it. Pure."""

import sys
from collections.abc import Iterable, Mapping
from typing import Final

from rich.text import Text

from reachmap_collector.views import WORST_FIRST
from reachmap_shared.vocabulary import State


def _printable(mark: str, otherwise: str) -> str:
    """The mark, or something plainer where standard output cannot show it."""
    try:
        mark.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return otherwise
    return mark


MARKS: Final[Mapping[str, str]] = {
    State.OK: _printable("✓", "+"),
    State.DEGRADED: "~",
    State.BROKEN: _printable("✗", "x"),
    State.EXPOSED: "!",
    State.UNKNOWN: "?",
}
NOTHING: Final = _printable("·", ".")
"""Stands where no flow meets."""

STYLES: Final[Mapping[str, str]] = {
    State.OK: "green",
    State.DEGRADED: "yellow",
    State.BROKEN: "bold red",
    State.EXPOSED: "bold magenta",
    State.UNKNOWN: "yellow",
}


def state(name: str) -> Text:
    """A state by mark and name."""
    return Text(f"{MARKS[name]} {name}", STYLES[name])


def count(states: Mapping[str, int]) -> Text:
    """The flows of a cell, by the worst of them: `✓3`, or `✗1/3` where only some are so."""
    total = sum(states.values())
    worst = next((name for name in WORST_FIRST if states.get(name)), None)
    if worst is None:
        return Text(NOTHING, "dim")
    some = states[worst]
    return Text(MARKS[worst] + (f"{total}" if some == total else f"{some}/{total}"), STYLES[worst])


def legend(present: Iterable[str]) -> Text:
    """What the marks mean, as far as they occur."""
    names = frozenset(present)
    text = Text("")
    for name in reversed(WORST_FIRST):
        if name in names:
            text.append_text(state(name)).append("   ")
    if len(names) > 1:
        text.append("1/3: so many of so many flows", "dim")
    return text
