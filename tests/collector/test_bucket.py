"""The bucket of plans is level with what the planner made, and nobody is told more than that."""

import contextlib
import time
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
from reachmap_shared.errors import MalformedMessage
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
