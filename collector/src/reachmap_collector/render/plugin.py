"""The status as one line for Nagios and all that came after it: text, performance data, exit code.

The line holds words of others, such as a database's on why it is away. Whatever they are, it stays
one line of ASCII in which one `|` begins the performance data. Pure.
"""

from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from reachmap_collector.views import Json
from reachmap_shared.vocabulary import State

CANNOT_TELL: Final = 3
"""The exit code of a plugin that does not know how things are."""

_WORDS: Final = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
"""By exit code."""

_EXIT_CODES: Final = {
    State.OK: 0,
    State.DEGRADED: 1,
    State.UNKNOWN: 1,
    State.BROKEN: 2,
    State.EXPOSED: 2,
}

_COUNTER: Final = "c"
"""The unit of what only grows. What is missing, or seems to have vanished, may come after all."""

_MAX_WORDS: Final = 1000
"""Characters of somebody else's words: monitoring systems cut a line after 4096."""


def status(answer: Json, _width: int) -> RenderableType:
    """The line that Nagios reads."""
    counts, by_agent, missing = answer["flows"], answer["agents"], answer["agents_missing"]
    told = [f"{count} {state}" for state, count in counts.items() if count]
    agents_told = f"{sum(by_agent.values())} agents" + (f", {missing} missing" if missing else "")
    data = " ".join(f"{state}={count}" for state, count in counts.items())
    line = (
        f"REACHMAP {_WORDS[status_exit_code(answer)]} - flows: {', '.join(told) or 'none'}; "
        f"{agents_told}{_troubles(answer)} | {data} agents_missing={missing} "
        f"{_delivered(answer)}"
    )
    # In a group, since a lone text is printed anew and may then be broken after all.
    return Group(Text(line, no_wrap=True, overflow="ignore"))


def status_rows(answer: Json) -> list[Json]:
    """One row: flows by state, and then all the rest."""
    return [{**answer["flows"], **{key: answer[key] for key in answer if key != "flows"}}]


def status_exit_code(answer: Json) -> int:
    """Nagios's: 0 all as expected, 1 degraded or unknown, 2 broken or exposed, 3 cannot tell.

    That the map cannot be kept, or nothing comes in for it, is a warning at least.
    """
    code = _EXIT_CODES.get(answer["state"], CANNOT_TELL)
    return max(code, 1) if _troubles(answer) else code


def cannot_tell(reason: str) -> str:
    """The line of a plugin that failed."""
    return f"REACHMAP {_WORDS[CANNOT_TELL]} - {_plain(reason)}"


def _troubles(answer: Json) -> str:
    """What keeps the map from being complete, or from being kept."""
    told = (("delivery", answer["delivery"]["trouble"]), ("store", answer["store"]["trouble"]))
    return "".join(f"; {what}: {_plain(trouble)}" for what, trouble in told if trouble)


def _delivered(answer: Json) -> str:
    """What is late, and what is lost, as performance data."""
    delivery, observations = answer["delivery"], answer["observations"]
    refused = sum(answer["refused_messages"].values())
    return (
        f"lag={delivery['lag']} redelivered={delivery['redelivered']} "
        f"reports_missing={delivery['reports_missing']} "
        f"observations_waiting={observations['waiting']} "
        f"observations_vanished={observations['vanished']} "
        f"observations_dropped={observations['dropped']}{_COUNTER} "
        f"messages_refused={refused}{_COUNTER}"
    )


def _plain(words: str) -> str:
    """Somebody's words, as a plugin may print them."""
    shown = "".join(one if one.isprintable() else " " for one in words.replace("|", "/"))
    plain = " ".join(shown.split()).encode("ascii", "backslashreplace").decode()
    return plain if len(plain) <= _MAX_WORDS else f"{plain[:_MAX_WORDS]}..."
