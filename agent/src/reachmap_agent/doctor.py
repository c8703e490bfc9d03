"""`reachmap-agent doctor`: says why this host cannot report or listen.

It looks from here alone and changes nothing that lasts: it works exactly when nothing else does.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from reachmap_agent import identity, spool, way
from reachmap_agent.backlog import MAX_BYTES
from reachmap_agent.ceded import Ceded
from reachmap_agent.credentials import Contexts
from reachmap_agent.holders import Ports, identify
from reachmap_agent.listeners import EVERYWHERE
from reachmap_agent.memory import ceded_path, load_plan, spool_path
from reachmap_agent.settings import Settings
from reachmap_shared import bus
from reachmap_shared.errors import AccessRefused, BusUnavailable, InvalidSettings, MalformedMessage
from reachmap_shared.messages import ListenerSpec, Plan
from reachmap_shared.vocabulary import ListenMode

_SEARCH_S: Final = 5.0
"""For the name of who holds a port: nobody waits but who asked."""
_PROBE_BYTES: Final = 4096
"""A full disk lets a file be made, and takes nothing into it."""


_BUILT: Final = 2026
"""No clock is right that says less."""

_CAPABILITIES: Final = {10: "listen below port 1024", 13: "tap packets"}
"""Bits of capabilities(7) that the agent makes use of: CAP_NET_BIND_SERVICE, CAP_NET_RAW."""


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


async def examine(settings: Settings) -> AsyncIterator[Diagnosis]:
    """Look at everything, each after what it depends on."""
    yield Diagnosis("id", Result.PASS, f"this host is {settings.id}")
    yield _addresses(settings)
    if settings.certificate is not None:
        yield _certificate(settings)
    passed = False
    for url in settings.nats:
        async for step in way.walk(url):
            passed = step.passed
            result = Result.PASS if passed else Result.FAIL
            yield Diagnosis(step.name, result, step.found, step.to_do)
        if passed:
            break
    if passed:
        yield await _bus(settings)
    else:
        yield Diagnosis("bus", Result.SKIPPED, "there is no way to a server")
    yield _clock()
    yield _capabilities()
    yield _spool(settings)
    yield _disk(settings)
    plan, diagnosis = _plan(settings)
    yield diagnosis
    if plan is None:
        yield Diagnosis("ports", Result.SKIPPED, "without a plan it is not known which")
        return
    ceded = Ceded(ceded_path(settings))
    ports = Ports({spec.transport for spec in plan.listeners}, own=())
    for spec in plan.listeners:
        yield _port(settings, spec, ports, ceded)


def _addresses(settings: Settings) -> Diagnosis:
    towards = next(filter(None, map(bus.host_of, settings.nats)), None)
    found = settings.addresses or identity.own_addresses(towards)
    if found:
        return Diagnosis("addresses", Result.PASS, ", ".join(found))
    return Diagnosis(
        "addresses",
        Result.FAIL,
        "no address that others could reach",
        "say where others reach this host, with addresses in agent.toml or --address",
    )


def _clock() -> Diagnosis:
    """Certificates and credentials have a beginning and an end."""
    year = datetime.now(UTC).year
    if year < _BUILT:
        return Diagnosis("clock", Result.FAIL, f"this host is in {year}", "set the clock, by NTP")
    return Diagnosis("clock", Result.PASS, f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")


def _capabilities() -> Diagnosis:
    """What whoever asks may do; the service has what its unit grants."""
    try:
        status = Path("/proc/self/status").read_text()
        has = int(status.partition("CapEff:")[2].split()[0], 16)
    except (OSError, ValueError, IndexError):
        return Diagnosis("capabilities", Result.SKIPPED, "this system does not tell")
    able = [what for number, what in _CAPABILITIES.items() if has >> number & 1]
    found = f"this user may {' and '.join(able)}" if able else "this user has no privileges"
    return Diagnosis("capabilities", Result.PASS, found)


def _certificate(settings: Settings) -> Diagnosis:
    try:
        Contexts.from_pem("", settings.certificate, settings.key)
    except InvalidSettings as error:
        return Diagnosis("certificate", Result.FAIL, str(error), "mend it, or take the setting out")
    found = f"{settings.certificate} is shown to servers that ask for one"
    return Diagnosis("certificate", Result.PASS, found)


async def _bus(settings: Settings) -> Diagnosis:
    urls = ", ".join(map(bus.without_password, settings.nats))
    try:
        name = f"reachmap-agent doctor {settings.id}"
        async with bus.connected(settings.nats, name, settings.access):
            return Diagnosis("bus", Result.PASS, f"a NATS server answers at {urls}")
    except InvalidSettings as error:
        return Diagnosis("bus", Result.FAIL, str(error), "mend it; nothing is sent until then")
    except AccessRefused as error:
        return Diagnosis(
            "bus",
            Result.FAIL,
            str(error),
            f"enroll this host again (reachmap enroll {settings.id}), then reachmap-agent join",
        )
    except BusUnavailable as error:
        return Diagnosis(
            "bus", Result.FAIL, str(error), "see whether the server runs, and what is in the way"
        )


def _spool(settings: Settings) -> Diagnosis:
    found = spool.examine(spool_path(settings))
    waiting = f"{found.observations} observations and {found.changes} changes wait for delivery"
    dropped = f"{found.lost} and {found.changes_lost} were dropped"
    found_text = f"{waiting} ({found.bytes / 1024:.0f} KiB), {dropped}"
    if found.lost or found.changes_lost:
        return Diagnosis(
            "spool", Result.FAIL, found_text, "see why the bus was away for so long, and the disk"
        )
    return Diagnosis("spool", Result.PASS, found_text)


def _disk(settings: Settings) -> Diagnosis:
    """Whether the state's folder, or the one that it would be made in, takes files."""
    folder = spool_path(settings)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return Diagnosis(
            "disk",
            Result.FAIL,
            f"{settings.state} takes no files: {error.strerror}",
            "make room, or let the agent write there: until then what waits is kept in memory",
        )
    found = f"{settings.state} takes files, {free >> 20} MiB are free"
    if free < MAX_BYTES:
        needed = f"make room: the spool may need {MAX_BYTES >> 20} MiB"
        return Diagnosis("disk", Result.FAIL, found, needed)
    return Diagnosis("disk", Result.PASS, found)


def _plan(settings: Settings) -> tuple[Plan | None, Diagnosis]:
    try:
        plan = load_plan(settings)
    except (OSError, MalformedMessage) as error:
        return None, Diagnosis(
            "plan",
            Result.FAIL,
            f"no plan was kept: {error}",
            "see whether the agent has run, and whether the topology has this host",
        )
    found = f"{len(plan.checks)} checks, {len(plan.listeners)} ports"
    return plan, Diagnosis("plan", Result.PASS, f"revision {plan.revision}: {found}")


def _port(settings: Settings, spec: ListenerSpec, ports: Ports, ceded: Ceded) -> Diagnosis:
    name = f"port {spec.port}/{spec.transport}"
    held = ports.held(settings.addresses or EVERYWHERE, spec.port, spec.transport)
    who = "held by nobody"
    if held is not None:
        who = f"held by {identify([held], spec.transport, _SEARCH_S)[held].description}"
    is_ceded = (spec.transport, spec.port) in ceded
    if is_ceded:
        who += "; ceded for good to the service that was seen there"
    elif spec.mode is ListenMode.NEVER:
        who += "; the topology says not to listen there"
    found = f"{spec.service}: {who}"
    if held is None and spec.mode is ListenMode.ALWAYS and (spec.transport, spec.port) not in ceded:
        return Diagnosis(name, Result.FAIL, found, "start the agent: it should listen there")
    return Diagnosis(name, Result.PASS, found)


async def run(settings: Settings) -> list[Diagnosis]:
    """All that was found."""
    return [diagnosis async for diagnosis in examine(settings)]
