"""A good end: what is in flight is finished and told, and nobody waits for ever."""

import asyncio
import socket
import time
from typing import Any

import pytest
from agent_at_work import LOOPBACK, ME, Checks, FakeBus, check, listener, plan, running

from reachmap_agent import app, prober
from reachmap_shared import subjects
from reachmap_shared.messages import Hello, Presence, Report

pytestmark = pytest.mark.usefixtures("garbage_stays")


async def test_it_leaves_in_good_order(
    fake: FakeBus, eventually: Any, checks: Checks, port: int
) -> None:
    """Ports free, checks in flight finished and reported, and a farewell as the last word."""
    async with running() as stop:
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", check(1), check(2), listeners=(listener(port),)))
        await eventually(lambda: len(checks.started) == 2)
        asyncio.get_running_loop().call_later(0.1, checks.go.set)
        await stop()
    assert sorted(seen.slot for _, seen in fake.changes()) == [0, 1]
    assert fake.counted() == 2
    assert fake.published[-1][0] == "reachmap.hello.pc-17"
    hello = fake.hello()
    assert (hello.presence, hello.listeners) == (Presence.LEAVING, ())
    assert [said.presence for said in fake.said(Hello)].count(Presence.LEAVING) == 1
    last = fake.pulse()
    assert (last.made, last.waiting, last.lost) == (2, 0, 0), "all that it made is told"
    with socket.socket() as service:
        service.bind((LOOPBACK, port))


async def test_it_does_not_wait_for_ever_for_its_checks(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is stuck is left behind."""
    monkeypatch.setattr(app, "_FAREWELL_S", 0.1)
    async with running() as stop:
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", check(1)))
        await eventually(lambda: checks.started)
        await stop()
    assert fake.hello().presence is Presence.LEAVING


@pytest.mark.parametrize("broken", [False, True], ids=["away", "broken"])
async def test_it_leaves_without_a_bus_too(
    fake: FakeBus, eventually: Any, checks: Checks, broken: bool
) -> None:
    """Quickly, and without an error."""
    checks.go.set()
    async with running() as stop:
        await eventually(lambda: fake.said(Hello))
        fake.broken, fake.is_connected = broken, broken
        fake.tell(plan("r1", check(1)))
        await eventually(lambda: checks.started)
        started = time.monotonic()
        await stop()
        assert time.monotonic() - started < 5
    assert fake.hello().presence is Presence.HERE


async def test_nothing_is_reported_twice_when_it_leaves_in_the_midst_of_a_report(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """The farewell waits for what is just being sent."""
    checks.go.set()
    async with running() as stop:
        await eventually(lambda: fake.said(Hello))
        fake.slow.clear()
        fake.tell(plan("r1", check(1), check(2), check(3)))
        await eventually(lambda: len(checks.started) == 3)
        await eventually(lambda: subjects.report("pc-17") in fake.under_way)
        asyncio.get_running_loop().call_later(0.1, fake.slow.set)
        await stop()
    assert sorted(seen.slot for _, seen in fake.changes()) == [0, 1, 2]
    assert fake.counted() == 3
    sequences = [report.sequence for report in fake.said(Report)]
    assert sequences == list(range(len(sequences)))


async def test_a_part_that_fails_ends_the_agent(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is half alive: whoever started it starts it again."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    task = asyncio.get_running_loop().create_task(app.run(ME))
    await eventually(lambda: fake.said(Hello))
    monkeypatch.setattr(prober.Prober, "start", fail)
    fake.tell(plan("r1", check(1)))
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(task, 20)
    assert caught.group_contains(ZeroDivisionError)
    assert fake.hello().presence is Presence.LEAVING
