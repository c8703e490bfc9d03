"""What the agent says of itself: who it is, that it lives, and again what it is asked."""

import dataclasses
import threading
from typing import Any

import pytest
from agent_at_work import LOOPBACK, ME, Checks, FakeBus, check, plan, running

from reachmap_agent import app, identity, presence
from reachmap_agent.openuem import Found
from reachmap_shared import __version__
from reachmap_shared.messages import (
    Changes,
    Earlier,
    Hello,
    NamedTarget,
    OwnPort,
    Presence,
    Pulse,
    Question,
)

pytestmark = pytest.mark.usefixtures("garbage_stays")


async def test_it_says_who_it_is(fake: FakeBus, eventually: Any) -> None:
    """On joining, before any plan, all that the collector needs to make one."""
    async with running():
        await eventually(lambda: fake.said(Hello))
        assert set(fake.handlers) == {
            "reachmap.window.pc-17.*",
            "reachmap.witness.pc-17.*",
            "reachmap.ask.pc-17",
        }
        assert set(fake.heard) == {"$KV.reachmap-plans.pc-17", "_INBOX.test.*"}
        hello = fake.hello()
    assert (hello.agent, hello.presence, hello.version) == ("pc-17", Presence.HERE, __version__)
    assert (hello.roles, hello.addresses) == (("agent", "web"), (LOOPBACK,))
    assert hello.hostname == identity.hostname()
    assert hello.platform == identity.describe_platform()
    assert hello.capabilities == identity.capabilities()
    assert hello.heartbeat_s == app.HEARTBEAT_S
    assert (hello.number, hello.plan_refused, hello.listeners) == (0, "", ())
    assert (hello.changes_lost, hello.spool_failure) == (0, "")
    assert (hello.ports, hello.targets) == ((), ())


async def test_it_says_what_openuem_s_settings_say(fake: FakeBus, eventually: Any) -> None:
    """Where its services are, whom it is told to reach, and no more than a hello has room for."""
    many = tuple(f"nats-{number}" for number in range(100))
    found = Found(
        ("agent",),
        {"agent:2022": 2222, "agent:1443": 1433},
        {"nats-server": many, "db": ("db-1",)},
    )
    async with running(dataclasses.replace(ME, found=found)):
        await eventually(lambda: fake.said(Hello))
        hello = fake.hello()
    assert hello.ports == (OwnPort("agent:1443", 1433), OwnPort("agent:2022", 2222))
    assert hello.targets == (NamedTarget("db", ("db-1",)), NamedTarget("nats-server", many[:32]))


async def test_it_finds_its_addresses_out(
    fake: FakeBus, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Towards the bus, when it was told none."""
    monkeypatch.setattr(identity, "own_addresses", lambda host: (f"10.0.0.7 to {host}",))
    async with running(dataclasses.replace(ME, addresses=())):
        await eventually(lambda: fake.said(Hello))
        assert fake.hello().addresses == ("10.0.0.7 to 127.0.0.1",)


async def test_a_resolver_that_hangs_holds_nothing_up(
    fake: FakeBus, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bus may be known by a name; hellos go out without an answer, and one asks at a time."""
    monkeypatch.setattr(app, "HEARTBEAT_S", 0.05)
    monkeypatch.setattr(presence, "_LOOKUP_S", 0.05)
    answered = threading.Event()
    asked: list[str | None] = []

    def own_addresses(host: str | None) -> tuple[str, ...]:
        asked.append(host)
        answered.wait(20)
        return ("10.0.0.7",)

    monkeypatch.setattr(identity, "own_addresses", own_addresses)
    fake.server_host = "nats-1.example"
    async with running(dataclasses.replace(ME, addresses=())):
        await eventually(lambda: len(fake.said(Pulse)) >= 3)
        assert fake.hello().addresses == ()
        assert len(asked) == 1
        answered.set()
        await eventually(lambda: fake.hello().addresses == ("10.0.0.7",))


async def test_its_pulse_beats(
    fake: FakeBus, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Always of the same boot, while a hello is said once; another start has another."""
    monkeypatch.setattr(app, "HEARTBEAT_S", 0.05)
    async with running():
        await eventually(lambda: len(fake.said(Pulse)) >= 4)
        assert len(fake.said(Hello)) == 1
    assert len({pulse.boot for pulse in fake.said(Pulse)}) == 1
    assert {pulse.hello for pulse in fake.said(Pulse)} == {0}
    async with running():
        await eventually(lambda: len({pulse.boot for pulse in fake.said(Pulse)}) == 2)


async def test_it_tells_how_its_earlier_starts_stand(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its hello, again and again: the bus may lose their own last words."""
    monkeypatch.setattr(app, "HEARTBEAT_S", 0.05)
    checks.go.set()
    async with running() as stop:
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", check(1), check(2)))
        await eventually(lambda: fake.pulse().made >= 2)
        await stop()
    last = fake.pulse()
    async with running():
        await eventually(lambda: fake.hello().boot != last.boot)
        await eventually(lambda: fake.hello().earlier[0].waiting == 0)
        assert fake.hello().earlier == (Earlier(last.boot, last.made, 0, 0, 0),)


async def test_it_says_again_what_it_is_asked(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """Who it is, by the same number; and how each flow stands, by the same numbers."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", check(1), check(2)))
        await eventually(lambda: len(fake.changes()) == 2)
        await fake.be_asked(Question.HELLO)
        await eventually(lambda: len(fake.said(Hello)) == 2)
        assert fake.said(Hello)[0] == fake.said(Hello)[1]
        assert fake.whole() == []
        await fake.be_asked(Question.STATE)
        await eventually(fake.whole)
        await fake.handlers["reachmap.ask.pc-17"]("reachmap.ask.pc-17", b"garbage")
    [told] = fake.whole()
    assert (told.plan, told.parts, told.part, told.told) == ("r1", 1, 0, 2)
    assert sorted(change.number for change in told.changes) == [0, 1]
    new = [one for body in fake.bodies(Changes) for one in body.changes]
    assert sorted(told.changes, key=lambda one: one.number) == new
