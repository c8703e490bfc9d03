"""A whole agent with its bus, its spool and its checks in the test's hands, and in a hurry."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from agent_at_work import Checks, FakeBus

from reachmap_agent import app, delivery, prober, reporter, schedule
from reachmap_agent.spool import Spool
from reachmap_shared import bus
from reachmap_shared.access import Access


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is sent every few seconds is sent at once; what is kept is kept for the test alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reporter, "BATCH_S", 0.02)
    monkeypatch.setattr(delivery, "TURN_S", 0.01)
    monkeypatch.setattr(schedule, "_FIRST_ROUND_S", 0.05)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeBus:
    """The bus that an agent finds."""
    made = FakeBus()

    @asynccontextmanager
    async def staying(
        _urls: Any, name: str, on_connect: Any = None, *, access: Access
    ) -> AsyncIterator[FakeBus]:
        assert name == "reachmap-agent pc-17"
        assert access.inbox == "_INBOX.pc-17"
        made.on_connect = on_connect
        yield made

    monkeypatch.setattr(bus, "staying", staying)
    return made


@pytest.fixture
def spools(monkeypatch: pytest.MonkeyPatch) -> list[Spool]:
    """Where agents keep what they have to tell."""
    made: list[Spool] = []

    def make(*its: Any) -> Spool:
        made.append(Spool(*its))
        return made[-1]

    monkeypatch.setattr(app, "Spool", make)
    return made


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    made = Checks()
    under_way = set()

    def start(self: Any, job: Any, timeout_s: float, done: Any, *_: Any) -> None:
        async def run() -> None:
            done(await made(job.spec, job.slot, job.target(), timeout_s))

        under_way.add(asyncio.ensure_future(run()))  # noqa: TID251  kept in the set

    monkeypatch.setattr(prober.Prober, "start", start)
    return made
