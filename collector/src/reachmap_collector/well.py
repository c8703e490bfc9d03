"""Of the last changes that the store has, those that rows of the map say enough of. Pure.

There may be a million, and an observation decoded whole takes twenty times as long as the few
numbers of it that the map remembers.
"""

import dataclasses
from collections.abc import Sequence
from itertools import compress
from typing import Any, Final

import numpy as np

from reachmap_collector.flowmap import columns
from reachmap_collector.flowmap.bulk import Numbering, Numbers, WellFlows
from reachmap_collector.flowmap.columns import Rows
from reachmap_collector.store.api import Latest
from reachmap_shared import codec
from reachmap_shared.messages import Observation

_AT_ONCE: Final = 1000
"""That are looked at together: they stay in the processor's own memory."""

_OUTCOMES: Final = {str(outcome): code for outcome, code in columns.OUTCOME_CODES.items()}

_FIELDS: Final = [field.name for field in dataclasses.fields(Observation)]
_TELLING: Final = ("healthy", "evidence", "answered_by", "outcome")
_USED: Final = (
    "outcome",
    "healthy",
    "answered_by",
    "connect_us",
    "local",
    "window",
    "certificate_until",
)


def well_flows(latest: Latest) -> tuple[WellFlows, Numbers]:
    """Those of which a few numbers are enough, and their places among all."""
    rows = columns.blank(len(latest), 0.0)
    sources, sets = Numbering[str](), Numbering[tuple[str, ...]]({(): 0})
    resolved = np.zeros(len(latest), np.int64)
    well: list[int] = []
    for start in range(0, len(latest), _AT_ONCE):
        some = range(start, min(start + _AT_ONCE, len(latest)))
        seen = _by_name(codec.columns_of([latest.detail[place] for place in some]), len(some))
        fits = [
            isinstance(healthy, bool)
            and evidence is not None
            and answered in columns.ANSWERS
            and outcome in columns.OUTCOMES
            for healthy, evidence, answered, outcome in zip(
                *(seen[name] for name in _TELLING),
                strict=True,
            )
        ]
        fitting = [*compress(some, fits)]
        part = slice(len(well), len(well) + len(fitting))
        _fill(rows[part], sources, *([*compress(seen[name], fits)] for name in _USED))
        found = [*compress(seen["resolved"], fits)]
        if any(found):
            resolved[part] = sets.of(one or () for one in found)
        well += fitting
    rows = rows[: len(well)]
    places = np.array(well, np.int64)
    number = latest.number[places]
    rows["at"] = rows["since"] = latest.at[places]
    rows["number"] = number.clip(0, columns.MOST)
    rows["boot"] = latest.boot[places]
    return (
        WellFlows(
            keys=latest.flows.at(places),
            services=latest.services,
            service=latest.service[places],
            boots=[boot for _, boot in latest.boots],
            locals=[f"{source}:0" if source else "" for source in sources],
            sets=[*sets],
            resolved=resolved[: len(well)],
            number=number,
            rows=rows,
        ),
        places,
    )


def _by_name(seen: Sequence[Sequence[Any]], count: int) -> dict[str, Sequence[Any]]:
    left_out = (None,) * count
    return {
        name: seen[place] if place < len(seen) else left_out for place, name in enumerate(_FIELDS)
    }


def _fill(
    rows: Rows,
    sources: Numbering[str],
    outcome: Sequence[str],
    healthy: Sequence[bool],
    answered: Sequence[str | None],
    connect_us: Sequence[int],
    local: Sequence[str],
    window: Sequence[bool | None],
    until: Sequence[int | None],
) -> None:
    rows["outcome"] = [*map(_OUTCOMES.__getitem__, outcome)]
    rows["answered"] = [columns.ANSWER_CODES[one] for one in answered]
    rows["connect_us"] = np.array(connect_us, np.float64).clip(0, columns.MOST)
    rows["local"] = sources.of([one.rpartition(":")[0] for one in local])
    rows["flags"] = np.array(healthy, np.uint8) * np.uint8(columns.HEALTHY)
    if any(window):
        rows["flags"] |= np.array([columns.WINDOW * bool(one) for one in window], np.uint8)
    if until.count(None) < len(until):
        rows["certificate"] = [*map(columns.certificate, until)]
