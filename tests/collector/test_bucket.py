"""The bucket of plans is level with what the planner made, and nobody is told more than that."""

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from reachmap_collector import plans as planned
from reachmap_collector.bucket import Bucket
from reachmap_collector.planner import expected_flows, members
from reachmap_collector.plans import idle_plan
from reachmap_collector.streams import Streams
from reachmap_shared import codec, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable, MalformedMessage
from reachmap_shared.messages import Plan


class Plans(dict[str, Plan]):
    """Plans that a test may change at will."""

    @property
    def revisions(self) -> dict[str, str]:
        return {name: plan.revision for name, plan in self.items()}

    def __or__(self, others: Any) -> "Plans":
        return Plans({**self, **others})


@pytest.fixture
def plans(topology: Any) -> Plans:
    deployment = topology()
    hosts = members(deployment, {})
    flows = expected_flows(deployment, hosts)
    return Plans(planned.Plans(deployment, hosts, flows, b"s" * 32, ""))


@pytest.fixture
async def told(on_bus: Bus) -> list[Plan]:
    """What agents that listen are told, in order."""
    plans: list[Plan] = []

    async def hear(_subject: str, payload: bytes) -> None:
        with contextlib.suppress(MalformedMessage):
            plans.append(codec.decode(Plan, payload))

    await on_bus.subscribe("$KV.reachmap-plans.>", hear)
    return plans


@pytest.fixture
def streams(on_bus: Bus) -> Streams:
    return Streams(on_bus, time.time)


async def names(bus: Bus, told: list[Plan]) -> list[str]:
    """Whom plans were told since the last time."""
    await bus.flush()
    found = sorted(plan.agent for plan in told)
    told.clear()
    return found


async def test_only_plans_that_changed_are_put(
    streams: Streams, on_bus: Bus, plans: Plans, told: list[Plan]
) -> None:
    """Each agent finds its own, whenever it asks; a host that leaves is told once to rest."""
    bucket = Bucket(streams)
    await bucket.level(plans)
    assert await names(on_bus, told) == ["db-1", "pc-1", "web-1"]
    await bucket.level(plans)
    assert await names(on_bus, told) == []
    other = plans | {"pc-1": replace(plans["pc-1"], revision="other")}
    await bucket.level(other)
    assert await names(on_bus, told) == ["pc-1"]
    del other["db-1"]
    for _ in range(2):
        await bucket.level(other)
    assert told == [idle_plan("db-1")]
    answer = await on_bus.request(subjects.last_plan("web-1"), b"", 5)
    assert codec.decode(Plan, answer.payload) == plans["web-1"]


async def test_a_collector_that_restarts_disturbs_nobody(
    streams: Streams, on_bus: Bus, plans: Plans, told: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that comes after a host has left: that one is told, and then it knows; but not
    before it had time to announce itself."""
    await Bucket(streams).level(plans)
    await names(on_bus, told)
    await Bucket(streams).level(plans)
    assert await names(on_bus, told) == []
    del plans["db-1"]
    bucket = Bucket(streams)
    await bucket.level(plans)
    assert await names(on_bus, told) == []
    monkeypatch.setattr("reachmap_collector.bucket._SETTLE_S", 0.0)
    await bucket.level(plans)
    assert await names(on_bus, told) == ["db-1"]
    await Bucket(streams).level(plans)
    assert await names(on_bus, told) == []


async def test_a_bucket_that_was_emptied_is_filled_again(
    streams: Streams, on_bus: Bus, plans: Plans, told: list[Plan]
) -> None:
    """Whoever deleted it; a server that lost everything is the same."""
    bucket = Bucket(streams)
    await bucket.level(plans)
    await names(on_bus, told)
    await on_bus.request(f"$JS.API.STREAM.DELETE.{subjects.PLAN_STREAM}", b"", 5)
    await bucket.level(plans)
    assert await names(on_bus, told) == ["db-1", "pc-1", "web-1"]


async def test_a_plan_that_is_doubted_is_put_again(
    streams: Streams, on_bus: Bus, plans: Plans, told: list[Plan]
) -> None:
    """Also the idle one of an agent that nobody knows."""
    bucket = Bucket(streams)
    await bucket.level(plans)
    await names(on_bus, told)
    bucket.doubt("pc-1")
    bucket.doubt("stranger")
    for expected in (["pc-1", "stranger"], []):
        await bucket.level(plans)
        assert await names(on_bus, told) == expected


@pytest.mark.parametrize("payload", [b"", b"an answer of JetStream's"])
async def test_what_somebody_else_put_is_put_right(
    streams: Streams, on_bus: Bus, plans: Plans, told: list[Plan], payload: bytes
) -> None:
    """An agent can have JetStream write there; what we put ourselves is nobody else's."""
    bucket = Bucket(streams)
    foreign: list[bool] = []

    async def hear(subject: str, put: bytes) -> None:
        foreign.append(bucket.hear(subject.rpartition(".")[2], put))

    await on_bus.subscribe(subjects.ALL_PLANS, hear)
    await bucket.level(plans)
    assert await names(on_bus, told) == ["db-1", "pc-1", "web-1"]
    assert foreign == [False] * 3
    await on_bus.request(subjects.plan("pc-1"), payload, 5)
    await on_bus.flush()
    assert foreign[3:] == [True]
    told.clear()
    await bucket.level(plans)
    assert await names(on_bus, told) == ["pc-1"]


async def test_what_is_no_plan_is_replaced(
    streams: Streams, on_bus: Bus, plans: Plans, told: list[Plan]
) -> None:
    """One of another version's, or a name that no agent can have, stops nothing."""
    await streams.ensure_plans()
    await on_bus.request(subjects.plan("pc-1"), b"of another age", 5)
    await on_bus.request(f"$KV.{subjects.PLAN_BUCKET}.a.b", b"x", 5)
    told.clear()
    await Bucket(streams).level(plans)
    assert await names(on_bus, told) == ["db-1", "pc-1", "web-1"]


async def test_a_plan_too_large_to_send_keeps_no_other_back(
    streams: Streams, on_bus: Bus, plans: Plans, told: list[Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is it tried again and again."""
    monkeypatch.setattr(codec, "MAX_MESSAGE", len(codec.encode(plans["pc-1"])) - 1)
    bucket = Bucket(streams)
    await bucket.level(plans)
    monkeypatch.undo()
    await bucket.level(plans)
    assert await names(on_bus, told) == ["db-1", "web-1"]


class Watched(Streams):
    """Counts what is on its way, and fails from a certain plan on."""

    most = now = begun = 0
    fails_after = 1 << 30

    async def put_plan(self, agent: str, plan: bytes) -> None:
        async with self._one():
            await super().put_plan(agent, plan)

    async def get_plan(self, agent: str) -> bytes | None:
        async with self._one():
            return await super().get_plan(agent)

    @contextlib.asynccontextmanager
    async def _one(self) -> AsyncIterator[None]:
        self.begun += 1
        if self.begun > self.fails_after:
            raise BusUnavailable("the bus is away")
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            yield
        finally:
            self.now -= 1


@pytest.fixture
def many(plans: Plans) -> Plans:
    """The same plan for three hundred."""
    return Plans({f"pc-{n}": replace(plans["pc-1"], agent=f"pc-{n}") for n in range(300)})


async def test_many_plans_are_on_their_way_at_once(
    on_bus: Bus, many: Plans, told: list[Plan]
) -> None:
    """But not more than the server bears well; so are those that are read after a restart."""
    for put in (300, 0):
        streams = Watched(on_bus, time.time)
        await Bucket(streams).level(many)
        assert streams.begun == 300
        assert 10 < streams.most <= 50
        assert len(await names(on_bus, told)) == put


async def test_what_could_not_be_put_is_put_the_next_time(
    on_bus: Bus, many: Plans, told: list[Plan]
) -> None:
    """Nothing is begun after a failure, which is told as what it is; what was put stays put."""
    streams = Watched(on_bus, time.time)
    bucket = Bucket(streams)
    streams.fails_after = 100
    with pytest.raises(BusUnavailable, match="the bus is away"):
        await bucket.level(many)
    assert 100 < streams.begun <= 101 + 50
    assert len(await names(on_bus, told)) == 100
    streams.fails_after = 1 << 30
    await bucket.level(many)
    assert len(await names(on_bus, told)) == 200
