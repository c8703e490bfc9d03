"""Whether this host's clock is right, by whoever told the time."""

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reachmap_agent.doctor import clock, login, responders
from reachmap_agent.doctor.patient import Patient, Server, Told
from reachmap_agent.doctor.steps import Result
from reachmap_agent.settings import Settings


def shifted(by: timedelta) -> type[datetime]:
    """A wall clock that is wrong."""

    class Wrong(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + by

    return Wrong


@pytest.mark.parametrize(
    ("skew", "result", "says"),
    [
        (timedelta(0), Result.PASS, "right by the bus"),
        (timedelta(seconds=-60), Result.PASS, "60 s behind the bus"),
        (timedelta(seconds=60), Result.PASS, "60 s ahead of the bus"),
        (timedelta(hours=1), Result.FAIL, "3600 s ahead of the bus"),
        (timedelta(days=-400), Result.FAIL, "s behind the bus"),
    ],
)
async def test_a_clock_is_held_to_the_server_s(
    settings: Settings,
    look: Any,
    nats_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    skew: timedelta,
    result: Result,
    says: str,
) -> None:
    """A little is noted, much is a failure: a real server is asked, by a clock that is wrong."""
    monkeypatch.setattr(login, "datetime", shifted(skew))
    one = (await look(replace(settings, nats=(nats_server.url,))))["clock"]
    assert one.result is result
    assert says in one.found
    assert bool(one.to_do) is bool(skew)


async def test_a_responder_tells_the_time_too(
    settings: Settings,
    look: Any,
    tls_server: Any,
    authority: Any,
    monkeypatch: pytest.MonkeyPatch,
    port: int,
) -> None:
    """Where no server lets this host in, since its credentials have ended, say."""
    monkeypatch.setattr(responders, "datetime", shifted(timedelta(hours=2)))
    told = []
    note = responders._note_time

    def with_date(patient: Any, url: str, response: Any) -> None:
        # openssl's responder says none; others do.
        now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        head = response.head.replace(b"\r\n", f"\r\nDate: {now}\r\n".encode(), 1)
        told.append(url)
        note(patient, url, replace(response, head=head))

    monkeypatch.setattr(responders, "_note_time", with_date)
    more = 'authorization { user: "a", password: "b" }'
    tls_server.shows(authority.issue(responder=f"http://127.0.0.1:{port}"), more)
    with authority.responding(port):
        found = await look(replace(settings, nats=(tls_server.url,), nats_ca=authority.ca))
    assert told
    assert found["login"].result is Result.FAIL
    assert found["clock"].result is Result.FAIL
    assert found["clock"].found.endswith(f" s ahead of {told[0]}")
    assert 7200 <= int(found["clock"].found.split()[0]) <= 7210


async def test_nobody_told(settings: Settings, look: Any) -> None:
    """Then it is not known."""
    one = (await look(settings))["clock"]
    assert one.result is Result.SKIPPED
    assert "nobody told the time" in one.found


async def test_a_clock_that_was_never_set(
    settings: Settings, look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is wrong whatever others say."""
    monkeypatch.setattr(clock, "datetime", shifted(timedelta(days=-20 * 365)))
    one = (await look(settings))["clock"]
    assert one.result is Result.FAIL
    assert "this host is in 20" in one.found


@pytest.mark.parametrize(
    ("skew_s", "result"), [(-400, Result.FAIL), (-60, Result.PASS), (400, Result.SKIPPED)]
)
async def test_a_time_that_has_been(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, skew_s: int, result: Result
) -> None:
    """Of what was stored on the bus, only a clock behind it is known to be wrong."""
    async with contextlib.AsyncExitStack() as leaving:
        patient = Patient(settings, leaving, Server.of("localhost"))
        patient.times.append(Told("the plan", timedelta(seconds=skew_s), least=True))
        (one,) = [finding async for finding in clock.clock(patient)]
    assert one.result is result
    if skew_s < 0:
        assert one.found == f"at least {-skew_s} s behind the plan"
