"""Read the collector's configuration: a file to outlets that can be used, or InvalidFile."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reachmap_collector.alerts import outlets
from reachmap_collector.alerts.config import AlertsTable, CollectorFile
from reachmap_collector.alerts.lifecycle import Severity
from reachmap_collector.alerts.outlets import BUS, Outlet, OutletFailed
from reachmap_collector.alerts.secrets import read_secrets
from reachmap_collector.errors import InvalidFile, Problem
from reachmap_collector.topology.load import parsed, read_text, validated

_TAG: Final = re.compile(r"(outlets\[\d+\])\.(?:alertmanager|apprise|heartbeat|icinga|webhook)\b")
"""Where pydantic names the kind of an outlet in the path to one of its keys."""


@dataclass(frozen=True, slots=True)
class Place:
    """One outlet that is in use."""

    outlet: Outlet
    min_severity: Severity = Severity.INFO


@dataclass(frozen=True, slots=True)
class Configuration:
    """What makes an alert and who is told, ready for use."""

    table: AlertsTable
    places: Mapping[str, Place]
    """By name."""


NOTHING: Final = Configuration(AlertsTable(), {})
"""Where there is no configuration: everything has its default, and nobody is told but the bus."""


def load_configuration(path: Path) -> Configuration:
    """Read a configuration and the secrets that it names.

    Raises:
        InvalidFile: With every problem found, each with its key path; nothing was begun.
    """
    try:
        content = validated(CollectorFile, parsed(read_text(path), path), path)
    except InvalidFile as error:
        plain = [Problem(_TAG.sub(r"\1", one.where), one.message) for one in error.problems]
        raise InvalidFile(path, plain) from None
    table = content.alerts
    places: dict[str, Place] = {}
    problems: list[Problem] = []
    for index, settings in enumerate(table.outlets):
        where = f"alerts.outlets[{index}]"
        if settings.name in places or settings.name == BUS:
            problems.append(Problem(f"{where}.name", f"{settings.name} is taken already"))
            continue
        plain_settings: dict[str, Any] = settings.model_dump()
        secrets, found = read_secrets(plain_settings, where, path.parent)
        problems += found
        if not found:
            try:
                outlet = outlets.make(settings, secrets)
                places[settings.name] = Place(outlet, settings.min_severity)
            except OutletFailed as error:
                problems.append(Problem(where, str(error)))
    problems += _unknown_outlets(table)
    if problems:
        raise InvalidFile(path, problems)
    return Configuration(table, places)


def _unknown_outlets(table: AlertsTable) -> list[Problem]:
    known = {settings.name for settings in table.outlets} | {BUS}
    return [
        Problem(f"alerts.rules[{index}].outlets[{number}]", f"unknown outlet {name!r}")
        for index, rule in enumerate(table.rules)
        for number, name in enumerate(rule.outlets or ())
        if name not in known
    ]
