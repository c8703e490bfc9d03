"""Whether the server lets this host in, and what it may do there; both as the server says it."""

import json
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Any, Final

from reachmap_agent.doctor.patient import Patient, Told
from reachmap_agent.doctor.steps import Finding, failed, passed
from reachmap_shared import bus, permissions, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.errors import AccessRefused, BusUnavailable, InvalidSettings
from reachmap_shared.permissions import TABLE, Party
from reachmap_shared.urls import without_password

_ANSWER_S: Final = 2.0
"""A server has at hand what it is asked for."""

_STAMP: Final = "Nats-Time-Stamp"
"""The header that says when a message was stored (NATS architecture record 31)."""

_LIST: Final = "give this host what docs/bus.md lists for an agent (reachmap bus config prints it)"


async def login(patient: Patient) -> AsyncIterator[Finding]:
    """Show what there is to show; the connection stays for the steps after this."""
    settings, url = patient.settings, patient.server.url
    try:
        connecting = bus.connected((url,), f"reachmap-agent doctor {settings.id}", settings.access)
        patient.connection = await patient.leaving.enter_async_context(connecting)
    except InvalidSettings as error:
        yield failed(str(error), "mend it; nothing is sent until then")
    except AccessRefused as error:
        yield failed(
            str(error),
            f"enroll this host again (reachmap enroll {settings.id}), then reachmap-agent join",
        )
    except BusUnavailable as error:
        yield failed(str(error), "see the server's log, and what is in the way")
    else:
        shown = settings.access.shown or "nothing"
        yield passed(f"{without_password(url)} lets this host in, by {shown}")


async def permission(patient: Patient) -> AsyncIterator[Finding]:
    """Whether it may speak under its own name, and hear and read what is for it."""
    connection, name = patient.connection, patient.settings.id
    assert connection is not None
    try:
        said, skew = await _asked(connection)
    except BusUnavailable:
        yield failed(
            f"the server does not say what {name} may do: it may not publish to "
            f"{permissions.WHO_AM_I}, or the server is older than 2.9",
            _LIST,
        )
        return
    if skew is not None:
        patient.times.insert(0, skew)
    missing = list(_missing(said.get("permissions") or {}, name))
    await _look_for_plan(patient, connection)
    if missing:
        yield failed(f"{name} may not {'; '.join(missing)}", _LIST)
    elif "permissions" not in said:
        yield passed(
            f"{name} may do anything there",
            "hold each host to its own name, where others are on this bus: docs/bus.md",
        )
    else:
        yield passed(f"{name} may speak under its own name, and read its own plan")


async def _asked(connection: Bus) -> tuple[dict[str, Any], Told | None]:
    """What the server knows of us, and its time. Raises BusUnavailable."""
    before = datetime.now(UTC)
    answer = await connection.request(permissions.WHO_AM_I, b"", _ANSWER_S)
    after = datetime.now(UTC)
    try:
        said = json.loads(answer.payload)
        data, then = said["data"], said.get("server", {}).get("time", "")
        assert isinstance(data, dict)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise BusUnavailable("its answer is not understood") from error
    told = _time(str(then))
    if told is None:
        return data, None
    return data, Told("the bus", before + (after - before) / 2 - told)


async def _look_for_plan(patient: Patient, connection: Bus) -> None:
    """See whether a plan was put for this host, and when; nothing of it is kept."""
    try:
        answer = await connection.request(subjects.last_plan(patient.settings.id), b"", _ANSWER_S)
    except BusUnavailable:  # not allowed, or no collector has ever been on this bus
        return
    patient.plan_on_bus = "Status" not in answer.headers
    if (stored := _time(answer.headers.get(_STAMP, ""))) is not None:
        patient.times.append(Told("the bus's last plan", datetime.now(UTC) - stored, least=True))


def _time(text: str) -> datetime | None:
    """RFC 3339, with more digits than Python takes; None where it is none."""
    seconds, _, fraction = text.rstrip("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{seconds}.{fraction[:6]:0<6}+00:00")
    except ValueError:
        return None


def _missing(allowed: dict[str, Any], name: str) -> Iterable[str]:
    """What an agent needs, and the server's list does not give."""
    own = TABLE[Party.AGENT].of(name)
    for verb, its in (("publish", own.publish), ("subscribe", own.subscribe)):
        rule = allowed.get(verb) or {}
        allow, deny = rule.get("allow") or [], rule.get("deny") or []
        for subject in its:
            given = not allow or any(permissions.covers(one, subject) for one in allow)
            if not given or any(permissions.covers(one, subject) for one in deny):
                yield f"{verb} {'to ' * (verb == 'subscribe')}{subject}"
