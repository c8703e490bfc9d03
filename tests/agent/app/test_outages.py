"""A bus that goes, stays away, comes back, or takes nothing: the agent works on, and loses nothing."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from agent_at_work import LOOPBACK, Checks, FakeBus, check, listener, plan, running

from reachmap_agent import app, delivery
from reachmap_agent.spool import Spool
from reachmap_shared import bus
from reachmap_shared.access import Access
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.messages import Changes, Closed, Hello, Pulse, Report

pytestmark = pytest.mark.usefixtures("garbage_stays")


async def test_a_bus_that_is_away_costs_nothing(
    fake: FakeBus, eventually: Any, checks: Checks
) -> None:
    """What was seen meanwhile is reported when it is back, and the first thing is a hello."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Pulse))
        fake.is_connected = False
        said = len(fake.published)
        fake.tell(plan("r1", *(check(n + 1) for n in range(20))))
        await eventually(lambda: len(checks.started) == 20)
        assert len(fake.published) == said
        started = time.monotonic()
        await fake.come_back()
        await eventually(lambda: fake.pulse().plan == "r1")
        assert time.monotonic() - started < app.HEARTBEAT_S
        await eventually(lambda: len(fake.changes()) == 20)
    assert sorted(seen.slot for _, seen in fake.changes()) == list(range(20))


async def test_a_server_that_goes_while_it_joins_is_waited_for(
    fake: FakeBus, eventually: Any
) -> None:
    """It has subscribed, or will have when the server is back."""
    fake.broken = True
    async with running():
        await eventually(lambda: fake.handlers)
        assert fake.said(Hello) == []
        fake.broken = False
        await fake.come_back()
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1"))
        await eventually(lambda: fake.pulse().plan == "r1")


async def test_it_works_by_the_last_plan_without_any_bus(
    fake: FakeBus,
    eventually: Any,
    checks: Checks,
    port: int,
    monkeypatch: pytest.MonkeyPatch,
    spools: list[Spool],
) -> None:
    """From its first moment, listeners too; and what it saw is told when there is one."""
    checks.go.set()
    same = plan("r1", check(1), check(2), listeners=(listener(port),))
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.tell(same)
        await eventually(lambda: len(fake.changes()) == 2)
    there = asyncio.Event()

    @asynccontextmanager
    async def staying(
        _urls: Any, _name: str, on_connect: Any, *, access: Access
    ) -> AsyncIterator[FakeBus]:
        await there.wait()
        fake.on_connect = on_connect
        yield fake

    monkeypatch.setattr(bus, "staying", staying)
    checks.started.clear()
    fake.published.clear()
    async with running():
        await eventually(lambda: len(checks.started) == 2)
        with socket.create_connection((LOOPBACK, port)):
            pass
        await eventually(lambda: spools[-1].waiting_in_all[1] == 2)
        assert fake.published == []
        there.set()
        await eventually(lambda: len(fake.changes()) == 2)
        await eventually(lambda: fake.pulse().plan == "r1")
    closed = fake.bodies(Closed)
    assert closed == [Closed(made=2, lost=0, changes_lost=0)]


async def test_all_that_holds_is_told_when_the_bus_is_back(
    fake: FakeBus, eventually: Any, checks: Checks, spools: list[Spool]
) -> None:
    """Before history fills in: the map is right at once."""
    checks.go.set()
    async with running():
        await eventually(lambda: fake.said(Pulse))
        fake.is_connected = False
        fake.tell(plan("r1", check(1), check(2)))
        await eventually(lambda: len(checks.started) == 2)
        await eventually(lambda: spools[-1].waiting_in_all[1] == 2)
        fake.published.clear()
        await fake.come_back()
        await eventually(lambda: fake.whole() and len(fake.changes()) == 2)
    assert {one.seen.slot for one in fake.whole()[0].changes} == {0, 1}


async def test_a_stream_that_answers_nobody_loses_nothing(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not acknowledged is sent again, by the same number."""
    monkeypatch.setattr(delivery, "ACK_TIMEOUT_S", 0.05)
    checks.go.set()
    fake.deaf = True
    async with running():
        await eventually(lambda: fake.said(Hello))
        fake.tell(plan("r1", check(1), check(2)))
        await eventually(lambda: len(fake.bodies(Changes)) >= 3)
        assert fake.pulse().waiting == fake.pulse().made
        fake.deaf = False
    assert fake.counted() == 2
    reports = {(one.sequence, one.body) for one in fake.said(Report) if one.sequence >= 0}
    assert len(reports) == len({number for number, _ in reports})


async def test_a_server_that_will_not_have_it_is_asked_again(
    fake: FakeBus, eventually: Any, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client gives up for good then; the agent never does, and works meanwhile."""
    monkeypatch.setattr(app, "_REJOIN_S", 0.02)
    attempts = 0
    staying = bus.staying

    @asynccontextmanager
    async def unwilling(*its: Any, **more: Any) -> AsyncIterator[Any]:
        nonlocal attempts
        attempts += 1
        async with staying(*its, **more) as connection:
            if attempts < 4:
                raise BusUnavailable("the NATS server threw us out: authorization violation")
            yield connection

    monkeypatch.setattr(bus, "staying", unwilling)
    async with running():
        await eventually(lambda: fake.said(Hello))
    assert attempts == 4
