"""The steps, each after what it depends on."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from reachmap_agent.doctor import clock, host, login, responders, tls, way
from reachmap_agent.doctor.patient import Patient, Server
from reachmap_agent.doctor.steps import Diagnosis, Step, walk
from reachmap_agent.settings import Settings

HOST: Final = (
    Step("id", host.ident),
    Step("addresses", host.addresses),
    Step("certificate", host.certificate),
)
"""What this host says of itself."""

WAY: Final = (
    Step("name", way.name),
    Step("route", way.route, needs="name"),
    Step("tcp", way.tcp, needs="route"),
    Step("server", way.server, needs="tcp"),
    Step("tls", tls.tls, needs="server"),
)
"""The way to one server; the next is tried where one of them fails."""

BUS: Final = (
    Step("ocsp", responders.ask, needs="tls"),
    Step("login", login.login, needs="tls"),
    Step("permission", login.permission, needs="login"),
    Step("clock", clock.clock),
    Step("plan", host.plan),
    Step("ports", host.ports, needs="plan"),
    Step("capabilities", host.capabilities),
    Step("spool", host.spool),
    Step("disk", host.disk),
)
"""What comes of it, and what this host needs besides."""


async def run(settings: Settings) -> list[Diagnosis]:
    """All that was found."""
    async with contextlib.AsyncExitStack() as leaving:
        return [diagnosis async for diagnosis in _examine(settings, leaving)]


async def _examine(
    settings: Settings, leaving: contextlib.AsyncExitStack
) -> AsyncIterator[Diagnosis]:
    barred: dict[str, str] = {}
    patient = Patient(settings, leaving, Server.of(settings.nats[0]))
    async for diagnosis in walk(HOST, patient, barred):
        yield diagnosis
    for url in settings.nats:
        barred = {}
        patient = Patient(settings, leaving, Server.of(url))
        async for diagnosis in walk(WAY, patient, barred):
            yield diagnosis
        if WAY[-1].name not in barred:
            break
    async for diagnosis in walk(BUS, patient, barred):
        yield diagnosis
