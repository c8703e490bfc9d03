"""What this host needs besides the bus: who it is, its plan and ports, rights, and room on disk."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from reachmap_agent import identity
from reachmap_agent import spool as spools
from reachmap_agent.backlog import MAX_BYTES
from reachmap_agent.ceded import Ceded
from reachmap_agent.credentials import Contexts
from reachmap_agent.doctor.patient import Patient
from reachmap_agent.doctor.steps import Finding, failed, passed, skipped
from reachmap_agent.holders import Ports, identify
from reachmap_agent.listeners import EVERYWHERE
from reachmap_agent.memory import ceded_path, load_plan, spool_path
from reachmap_agent.settings import Settings
from reachmap_shared.errors import InvalidSettings, MalformedMessage
from reachmap_shared.messages import ListenerSpec
from reachmap_shared.urls import host_of
from reachmap_shared.vocabulary import ListenMode

_SEARCH_S: Final = 5.0
"""For the name of who holds a port: nobody waits but who asked."""

_PROBE_BYTES: Final = 4096
"""A full disk lets a file be made, and takes nothing into it."""

_CAPABILITIES: Final = {10: "listen below port 1024", 13: "tap packets"}
"""Bits of capabilities(7) that the agent makes use of: CAP_NET_BIND_SERVICE, CAP_NET_RAW."""


async def ident(patient: Patient) -> AsyncIterator[Finding]:
    """Under which name it speaks."""
    yield passed(f"this host is {patient.settings.id}")


async def addresses(patient: Patient) -> AsyncIterator[Finding]:
    """Where others reach it."""
    towards = next(filter(None, map(host_of, patient.settings.nats)), None)
    if found := patient.settings.addresses or identity.own_addresses(towards):
        yield passed(", ".join(found))
        return
    yield failed(
        "no address that others could reach",
        "say where others reach this host, with addresses in agent.toml or --address",
    )


async def certificate(patient: Patient) -> AsyncIterator[Finding]:
    """What its checks show to servers that ask for one."""
    settings = patient.settings
    if settings.certificate is None:
        yield skipped("none is set: checks show none to servers that ask for one")
        return
    try:
        Contexts.from_pem("", settings.certificate, settings.key)
    except InvalidSettings as error:
        yield failed(str(error), "mend it, or take the setting out")
        return
    yield passed(f"{settings.certificate} is shown to servers that ask for one")


async def capabilities(_patient: Patient) -> AsyncIterator[Finding]:
    """What whoever asks may do; the service has what its unit grants."""
    if (has := _effective()) is None:
        yield skipped("this system does not tell")
        return
    able = [what for number, what in _CAPABILITIES.items() if has >> number & 1]
    yield passed(f"this user may {' and '.join(able)}" if able else "this user has no privileges")


def _effective() -> int | None:
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("CapEff:")[2].split()[0], 16)
    except (OSError, ValueError, IndexError):
        return None


async def spool(patient: Patient) -> AsyncIterator[Finding]:
    """What waits for the bus."""
    found = spools.examine(spool_path(patient.settings))
    waiting = f"{found.observations} observations and {found.changes} changes wait for delivery"
    dropped = f"{found.lost} and {found.changes_lost} were dropped"
    text = f"{waiting} ({found.bytes / 1024:.0f} KiB), {dropped}"
    if found.lost or found.changes_lost:
        yield failed(text, "see why the bus was away for so long, and the disk")
        return
    yield passed(text)


async def disk(patient: Patient) -> AsyncIterator[Finding]:
    """Whether the state's folder, or the one that it would be made in, takes files."""
    state, folder = patient.settings.state, spool_path(patient.settings)
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield failed(
            f"{state} takes no files: {error.strerror}",
            "make room, or let the agent write there: until then what waits is kept in memory",
        )
        return
    found = f"{state} takes files, {free >> 20} MiB are free"
    if free < MAX_BYTES:
        yield failed(found, f"make room: the spool may need {MAX_BYTES >> 20} MiB")
        return
    yield passed(found)


async def plan(patient: Patient) -> AsyncIterator[Finding]:
    """By what it works."""
    try:
        patient.plan = load_plan(patient.settings)
    except (OSError, MalformedMessage) as error:
        if patient.plan_on_bus is False:
            name = patient.settings.id
            yield failed(
                f"neither this disk nor the bus has a plan for {name}",
                f"see whether the topology has a host {name}, or admits its roles",
            )
            return
        yield failed(
            f"no plan was kept: {error}",
            "see whether the agent has run, and whether the topology has this host",
        )
        return
    found = f"{len(patient.plan.checks)} checks, {len(patient.plan.listeners)} ports"
    yield passed(f"revision {patient.plan.revision}: {found}")


async def ports(patient: Patient) -> AsyncIterator[Finding]:
    """Who holds each port of the plan."""
    assert patient.plan is not None
    specs = patient.plan.listeners
    if not specs:
        yield skipped("the plan has none")
        return
    ceded = Ceded(ceded_path(patient.settings))
    held = Ports({spec.transport for spec in specs}, own=())
    for spec in specs:
        yield _port(patient.settings, spec, held, ceded)


def _port(settings: Settings, spec: ListenerSpec, ports: Ports, ceded: Ceded) -> Finding:
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
    if held is None and spec.mode is ListenMode.ALWAYS and not is_ceded:
        return failed(found, "start the agent: it should listen there", name)
    return passed(found, name=name)
