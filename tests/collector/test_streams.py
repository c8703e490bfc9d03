"""What the collector has on the bus, on a real NATS server."""

import json
import time
from typing import Any

import pytest

from reachmap_collector.errors import StreamRefused
from reachmap_collector.streams import Clock, Streams, StreamSettings
from reachmap_shared import subjects
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable


@pytest.fixture
def streams(on_bus: Bus) -> Streams:
    return Streams(on_bus, time.time)


async def info(bus: Bus, stream: str) -> Any:
    answer = await bus.request(f"$JS.API.STREAM.INFO.{stream}", b"", 5)
    return json.loads(answer.payload)


async def say(bus: Bus, agent: str, payload: bytes = b"x") -> Any:
    """Publish a report, and return what the stream says to it."""
    answer = await bus.request(subjects.report(agent), payload, 5)
    return json.loads(answer.payload)


async def test_what_is_missing_is_made(streams: Streams, on_bus: Bus) -> None:
    """As it should be, and just once."""
    for _ in range(2):
        await streams.restart_consumer()
        await streams.ensure_plans()
    reports = (await info(on_bus, subjects.REPORT_STREAM))["config"]
    assert reports["subjects"] == ["reachmap.report.*"]
    assert (reports["storage"], reports["discard"], reports["max_bytes"]) == (
        "file",
        "new",
        1 << 30,
    )
    assert reports["max_age"] == 0
    plans = (await info(on_bus, "KV_reachmap-plans"))["config"]
    assert plans["subjects"] == ["$KV.reachmap-plans.>"]
    assert (plans["max_msgs_per_subject"], plans["allow_direct"]) == (1, True)
    assert await streams.ensure_plans() == await streams.ensure_plans()


async def test_a_stream_with_other_settings_is_brought_up_to_date(on_bus: Bus) -> None:
    """What nobody here has a say in stays as whoever runs the servers made it."""
    await Streams(on_bus, time.time).restart_consumer()
    config = (await info(on_bus, subjects.REPORT_STREAM))["config"] | {"description": "by hand"}
    update = f"$JS.API.STREAM.UPDATE.{subjects.REPORT_STREAM}"
    await on_bus.request(update, json.dumps(config).encode(), 5)
    await say(on_bus, "pc-1")
    settings = StreamSettings(max_octets=1 << 20, max_age_s=3600)
    await Streams(on_bus, time.time, settings).restart_consumer()
    found = await info(on_bus, subjects.REPORT_STREAM)
    config = found["config"]
    assert (config["max_bytes"], config["max_age"]) == (1 << 20, 3600 * 10**9)
    assert (config["description"], found["state"]["messages"]) == ("by hand", 1)


async def test_a_full_stream_says_so_to_whoever_reports(on_bus: Bus) -> None:
    """So that an agent keeps what it cannot hand over; once there is room it may."""
    streams = Streams(on_bus, time.time, StreamSettings(max_octets=4096))
    await streams.restart_consumer()
    answers = [await say(on_bus, "pc-1", bytes(1000)) for _ in range(10)]
    taken = sum("error" not in answer for answer in answers)
    assert 0 < taken < 5
    assert (await info(on_bus, subjects.REPORT_STREAM))["state"]["messages"] == taken
    await streams.purge(taken)
    assert "error" not in await say(on_bus, "pc-1", bytes(1000))


async def test_an_agent_that_floods_the_stream_is_refused_alone(on_bus: Bus) -> None:
    """Others go on, and so may it when what it said was taken; also in a stream of before."""
    await Streams(on_bus, time.time).restart_consumer()
    config = (await info(on_bus, subjects.REPORT_STREAM))["config"]
    before = config | {"max_msgs_per_subject": -1, "discard_new_per_subject": False}
    update = f"$JS.API.STREAM.UPDATE.{subjects.REPORT_STREAM}"
    assert "error" not in json.loads(
        (await on_bus.request(update, json.dumps(before).encode(), 5)).payload
    )
    streams = Streams(on_bus, time.time, StreamSettings(max_each=3))
    await streams.restart_consumer()
    answers = [await say(on_bus, "evil") for _ in range(6)]
    refused = [answer["error"] for answer in answers if "error" in answer]
    assert [error["description"] for error in refused] == [
        "maximum messages per subject exceeded"
    ] * 3
    assert "error" not in await say(on_bus, "pc-1")
    await streams.purge(3)
    assert "error" not in await say(on_bus, "evil")


async def test_only_what_was_acknowledged_is_purged(streams: Streams, on_bus: Bus) -> None:
    """Up to a sequence; nothing is asked twice."""
    await streams.restart_consumer()
    for _ in range(5):
        await say(on_bus, "pc-1")
    assert (await streams.look()).pending == 5
    for _ in range(2):
        await streams.purge(3)
    state = (await info(on_bus, subjects.REPORT_STREAM))["state"]
    assert (state["messages"], state["first_seq"]) == (2, 4)
    await streams.purge(5)
    lag = await streams.look()
    assert (lag.messages, lag.pending, lag.unacknowledged, lag.redelivered) == (0, 0, 0, 0)


async def test_a_stream_that_is_gone_is_told_of_and_made_again(
    streams: Streams, on_bus: Bus
) -> None:
    """Whoever deleted it."""
    await streams.restart_consumer()
    await on_bus.request(f"$JS.API.STREAM.DELETE.{subjects.REPORT_STREAM}", b"", 5)
    with pytest.raises(StreamRefused, match="is gone"):
        await streams.look()
    await streams.restart_consumer()
    assert (await streams.look()).messages == 0


async def test_plans_are_put_and_found(streams: Streams) -> None:
    """By agent; one that was never put is none."""
    await streams.ensure_plans()
    assert await streams.planned() == []
    assert await streams.get_plan("pc-1") is None
    for agent, plan in (("pc-1", b"one"), ("pc-2", b"two"), ("pc-1", b"three")):
        await streams.put_plan(agent, plan)
    assert sorted(await streams.planned()) == ["pc-1", "pc-2"]
    assert await streams.get_plan("pc-1") == b"three"


async def test_a_server_without_jetstream_is_told_of(nats_server: Any) -> None:
    """As what it is."""
    from reachmap_shared import bus

    async with bus.connected([nats_server.url], "test") as connection:
        with pytest.raises(BusUnavailable, match="JetStream"):
            await Streams(connection, time.time).restart_consumer()


@pytest.mark.parametrize("ahead_s", [0.0, 3600.0, -86_400.0])
async def test_the_bus_s_clock_is_learnt_from_its_answers(on_bus: Bus, ahead_s: float) -> None:
    """However far it is from ours."""
    streams = Streams(on_bus, lambda: time.time() - ahead_s)
    await streams.ensure_plans()
    assert streams.clock.offset_s == pytest.approx(ahead_s, abs=0.5)
    assert streams.clock.ours(time.time()) == pytest.approx(time.time() - ahead_s, abs=0.5)


def test_quick_answers_tell_the_time_best() -> None:
    """A slow one is not believed, unless there were only slow ones for long."""
    clock = Clock(time.time)
    clock.learn({"ts": "1970-01-01T00:01:40.5Z"}, 99.0, 101.0)
    assert clock.offset_s == pytest.approx(0.5)
    clock.learn({"ts": "1970-01-01T00:01:40.123456789Z"}, 99.99, 100.01)
    assert clock.offset_s == pytest.approx(0.123456789)
    for _ in range(3):
        clock.learn({"ts": "1970-01-01T00:02:00Z"}, 99.0, 101.0)
        assert clock.offset_s == pytest.approx(0.123456789)
    for _ in range(20):
        clock.learn({"ts": "1970-01-01T00:02:00Z"}, 99.0, 101.0)
    assert clock.offset_s == pytest.approx(20)


@pytest.mark.parametrize("answer", [{}, {"ts": ""}, {"ts": "noon"}, {"ts": None}, {"ts": 7}])
def test_an_answer_that_tells_no_time_teaches_none(answer: dict[str, Any]) -> None:
    """An older server has none."""
    clock = Clock(time.time)
    clock.learn(answer, 1.0, 2.0)
    assert clock.offset_s == 0.0


@pytest.mark.parametrize(("wanted", "found"), [(None, 1), (1, 1)])
async def test_how_many_servers_keep_it_can_be_said(
    on_bus: Bus, wanted: int | None, found: int
) -> None:
    """Where nothing is said, what is there stays as whoever runs the servers made it."""
    streams = Streams(on_bus, time.time, StreamSettings(replicas=wanted))
    await streams.ensure_reports()
    await streams.ensure_plans()
    for stream in (subjects.REPORT_STREAM, subjects.PLAN_STREAM):
        assert (await info(on_bus, stream))["config"]["num_replicas"] == found


async def test_more_copies_than_servers_are_refused_with_the_reason(on_bus: Bus) -> None:
    """So status says what is wrong with the setting."""
    with pytest.raises(StreamRefused, match="replicas"):
        await Streams(on_bus, time.time, StreamSettings(replicas=3)).ensure_reports()
