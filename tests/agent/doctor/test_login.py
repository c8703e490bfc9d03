"""Whether a real server lets this host in, and what that one says it may do."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
import pytest

from reachmap_agent.doctor import login
from reachmap_agent.doctor.steps import Result
from reachmap_agent.settings import Settings
from reachmap_shared import subjects
from reachmap_shared.permissions import TABLE, WHO_AM_I, Party

OWN = TABLE[Party.AGENT].of("pc-1")


def users(publish: tuple[str, ...], subscribe: tuple[str, ...], more: str = "") -> str:
    """A server's list of who may what."""

    def listed(names: tuple[str, ...]) -> str:
        return "[" + ", ".join(f'"{name}"' for name in names) + "]"

    permissions = f"publish: {{ allow: {listed(publish)} {more} }}, subscribe: {listed(subscribe)}"
    user = f'{{ user: "pc-1", password: "p", permissions: {{ {permissions} }} }}'
    return f"authorization {{ users: [{user}] }}"


def configure(server: Any, text: str) -> None:
    server.stop()
    server.configure(text)
    server.start()


def there(settings: Settings, server: Any, who: str = "pc-1:p") -> Settings:
    return replace(settings, nats=(server.url.replace("//", f"//{who}@"),))


async def test_whoever_is_let_in_with_all_that_an_agent_needs(
    settings: Settings, look: Any, nats_server: Any
) -> None:
    """And no more."""
    configure(nats_server, users(OWN.publish, OWN.subscribe))
    found = await look(there(settings, nats_server))
    assert found["login"].result is Result.PASS
    assert ":p@" not in found["login"].found
    one = found["permission"]
    assert (one.result, one.to_do) == (Result.PASS, "")
    assert one.found == "pc-1 may speak under its own name, and read its own plan"


async def test_a_wrong_password(settings: Settings, look: Any, nats_server: Any) -> None:
    """It is the login that fails; the way was good."""
    configure(nats_server, users(OWN.publish, OWN.subscribe))
    found = await look(there(settings, nats_server, "pc-1:wrong"))
    assert found["server"].result is Result.PASS
    assert found["login"].result is Result.FAIL
    assert "does not accept the user or token in its URL" in found["login"].found
    assert "reachmap enroll pc-1" in found["login"].to_do
    assert "wrong" not in found["login"].found
    assert found["permission"].result is Result.SKIPPED
    assert found["permission"].found == "nothing can be said while login fails"


async def test_a_file_of_credentials_that_is_none(
    settings: Settings, look: Any, nats_server: Any, tmp_path: Path
) -> None:
    """It is named, and nothing was sent."""
    path = tmp_path / "gone.creds"
    found = await look(replace(settings, nats=(nats_server.url,), nats_credentials=path))
    assert found["login"].result is Result.FAIL
    assert f"{path}: cannot be read" in found["login"].found


@pytest.mark.parametrize(
    ("verb", "subject"),
    [
        *(("publish", subject) for subject in OWN.publish if subject != WHO_AM_I),
        *(("subscribe to", subject) for subject in OWN.subscribe),
    ],
)
async def test_each_permission_that_is_missing_is_named(
    settings: Settings, look: Any, nats_server: Any, verb: str, subject: str
) -> None:
    """Whichever it is; the rest is there."""
    publish = tuple(one for one in OWN.publish if verb != "publish" or one != subject)
    subscribe = tuple(one for one in OWN.subscribe if verb == "publish" or one != subject)
    if subject.startswith("_INBOX.pc-1"):
        # Without any of it no server's answer would come back.
        subscribe = (*subscribe, "_INBOX.pc-1.*.*")
    configure(nats_server, users(publish, subscribe))
    one = (await look(there(settings, nats_server)))["permission"]
    assert one.result is Result.FAIL
    assert one.found == f"pc-1 may not {verb} {subject}"
    assert "docs/bus.md" in one.to_do


async def test_another_s_permissions(settings: Settings, look: Any, nats_server: Any) -> None:
    """As where the id in agent.toml is not that of the credentials."""
    other = TABLE[Party.AGENT].of("pc-2")
    configure(nats_server, users((*other.publish, WHO_AM_I), (*other.subscribe, "_INBOX.>")))
    one = (await look(there(settings, nats_server)))["permission"]
    assert one.result is Result.FAIL
    assert "publish reachmap.hello.pc-1" in one.found
    assert "subscribe to reachmap.ask.pc-1" in one.found


async def test_what_is_denied_is_missing(settings: Settings, look: Any, nats_server: Any) -> None:
    """Though a wider line allows it."""
    deny = ', deny: ["reachmap.report.*"]'
    configure(nats_server, users((">",), (">",), deny))
    one = (await look(there(settings, nats_server)))["permission"]
    assert one.result is Result.FAIL
    assert one.found == "pc-1 may not publish reachmap.report.pc-1"


async def test_a_server_that_does_not_tell(
    settings: Settings, look: Any, nats_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then that is what is missing."""
    monkeypatch.setattr(login, "_ANSWER_S", 0.1)
    publish = tuple(one for one in OWN.publish if one != WHO_AM_I)
    configure(nats_server, users(publish, OWN.subscribe))
    one = (await look(there(settings, nats_server)))["permission"]
    assert one.result is Result.FAIL
    assert f"it may not publish to {WHO_AM_I}" in one.found


async def test_a_server_that_holds_nobody_to_anything(
    settings: Settings, look: Any, nats_server: Any
) -> None:
    """It works, and is said."""
    one = (await look(replace(settings, nats=(nats_server.url,))))["permission"]
    assert one.result is Result.PASS
    assert "may do anything" in one.found
    assert "its own name" in one.to_do


async def test_a_host_that_the_topology_has_not(
    settings: Settings, look: Any, nats_server: Any
) -> None:
    """The bus has plans, and none for it."""
    configure(nats_server, f'jetstream {{ store_dir: "{settings.state}-js" }}')
    client = await nats.connect(nats_server.url)
    bucket = await client.jetstream().create_key_value(bucket=subjects.PLAN_BUCKET, direct=True)
    on_bus = replace(settings, nats=(nats_server.url,))
    one = (await look(on_bus))["plan"]
    assert one.result is Result.FAIL
    assert one.found == "neither this disk nor the bus has a plan for pc-1"
    await bucket.put("pc-1", b"a plan")
    one = (await look(on_bus))["plan"]
    assert "no plan was kept" in one.found
    await client.close()


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [
        ("2026-11-25T12:46:03.415942586Z", 415942),
        ("2026-11-25T12:46:03Z", 0),
        ("2026-11-25T12:46:03.5Z", 500000),
    ],
)
def test_a_server_s_time_is_read(text: str, microsecond: int) -> None:
    """With as many digits as Go writes."""
    assert login._time(text) == datetime(2026, 11, 25, 12, 46, 3, microsecond, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z"])
def test_what_is_no_time_is_none(text: str) -> None:
    """It comes from whoever answered."""
    assert login._time(text) is None


async def test_the_server_s_time_is_told(settings: Settings, look: Any, nats_server: Any) -> None:
    """It is of this machine here, so it agrees."""
    one = (await look(replace(settings, nats=(nats_server.url,))))["clock"]
    assert one.result is Result.PASS
    assert one.found.startswith("right by the bus, within ")
    assert timedelta(seconds=float(one.found.split()[-2])) < timedelta(seconds=5)
