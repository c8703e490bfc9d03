"""Queues: in order, over restarts, bounded, and none waits for another."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from reachmap_collector.alerts import dispatch, kept
from reachmap_collector.alerts.dispatch import Queue, delivering
from reachmap_collector.alerts.lifecycle import Phase
from reachmap_collector.alerts.load import Place
from reachmap_collector.alerts.outlets import OutletFailed


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_RETRY_S", (0.01, 0.02))


def nothing_active(_name: str) -> Any:
    return list


async def test_a_dead_outlet_delays_no_other(
    recorders: Any, disk: Any, told: Any, eventually: Any
) -> None:
    """And hears everything when it is back, in order."""
    dead, well = recorders(), recorders()
    dead.failure = OutletFailed("away")
    places = {"dead": Place(dead), "well": Place(well)}
    async with delivering(places, disk.memory(), nothing_active) as queues:
        for ident in ("a-1", "a-2"):
            for queue in queues.values():
                queue.put(told(ident))
        await eventually(lambda: len(well.told) == 2)
        await eventually(lambda: dead.tries > 3)
        assert queues["dead"].trouble == "away"
        dead.failure = None
        await eventually(lambda: [one.id for one in dead.told] == ["a-1", "a-2"])
        await eventually(lambda: queues["dead"].trouble == "")
    assert dead.is_closed and well.is_closed
    assert not [row for area, row in disk.rows if area == kept.QUEUE]


async def test_what_waits_survives(recorder: Any, disk: Any, told: Any, eventually: Any) -> None:
    """A beginning and its end, in their order, for just that outlet."""
    before = Queue("hook", disk.memory())
    for number in range(12):
        before.put(told(f"a-{number}"))
    before.put(told("a-0", phase=Phase.RESOLVED, ended=1.0))
    Queue("other", disk.memory()).put(told("a-99"))
    async with delivering({"hook": Place(recorder)}, disk.memory(), nothing_active):
        await eventually(lambda: len(recorder.told) == 13)
    assert [one.id for one in recorder.told] == [*(f"a-{n}" for n in range(12)), "a-0"]
    assert recorder.told[-1].status == "resolved"


async def test_what_waits_for_an_outlet_that_is_no_more_is_forgotten(
    recorder: Any, disk: Any, told: Any
) -> None:
    """Nobody would ever take it."""
    Queue("gone", disk.memory()).put(told())
    async with delivering({"hook": Place(recorder)}, disk.memory(), nothing_active):
        pass
    assert disk.rows == {}


def test_a_later_word_takes_the_place_of_an_earlier(disk: Any, told: Any) -> None:
    """Who has heard nothing yet hears the latest, once; and the labels to end are the oldest."""
    queue = Queue("hook", disk.memory())
    queue.put(replace(told(), replaces={"severity": "info"}))
    queue.put(replace(told(), summary="worse", replaces={"severity": "warning"}))
    [waits] = queue.waiting.values()
    assert (waits.summary, waits.replaces) == ("worse", {"severity": "info"})


def test_a_queue_is_bounded(disk: Any, told: Any) -> None:
    """The oldest go, and are counted."""
    queue = Queue("hook", disk.memory(), limit=3)
    for number in range(5):
        queue.put(told(f"a-{number}"))
    assert [one.id for one in queue.waiting.values()] == ["a-2", "a-3", "a-4"]
    assert queue.dropped == 2
    again = Queue("hook", disk.memory())
    again.restore()
    assert again.waiting == queue.waiting


async def test_what_would_never_be_taken_stops_nothing(
    recorder: Any, disk: Any, told: Any, eventually: Any
) -> None:
    """It is counted, and the next one has its turn."""
    recorder.failure = OutletFailed("too long", is_final=True)
    async with delivering({"hook": Place(recorder)}, disk.memory(), nothing_active) as queues:
        queue = queues["hook"]
        queue.put(told())
        await eventually(lambda: queue.refused == 1)
        recorder.failure = None
        queue.put(told("a-2"))
        await eventually(lambda: [one.id for one in recorder.told] == ["a-2"])


async def test_what_goes_on_is_repeated(
    recorders: Any, disk: Any, told: Any, going_on: Any, eventually: Any
) -> None:
    """As often as the outlet wants, and at once after a start."""
    outlet = recorders(repeat_s=0.05)
    active = going_on(told())
    async with delivering({"am": Place(outlet)}, disk.memory(), lambda _: active):
        await eventually(lambda: outlet.repeated == [["a-1"]] * 3)


async def test_a_flood_of_words_costs_no_look_at_all_that_goes_on(
    recorder: Any, disk: Any, told: Any, eventually: Any
) -> None:
    """Where there are a thousand alerts, that would be a million."""
    looks: list[int] = []
    outlets = {"hook": Place(recorder)}
    async with delivering(outlets, disk.memory(), lambda _: looks.append) as queues:
        for number in range(100):
            queues["hook"].put(told(f"a-{number}"))
        await eventually(lambda: len(recorder.told) == 100)
    assert looks == []


async def test_an_outlet_that_hears_all_at_once_hears_it_once(
    recorder: Any, disk: Any, told: Any, eventually: Any
) -> None:
    """However many words wait; one that comes meanwhile is told apart."""
    recorder.tells_all = True
    recorder.failure = OutletFailed("not now")
    async with delivering({"hook": Place(recorder)}, disk.memory(), nothing_active) as queues:
        queue = queues["hook"]
        for number in range(100):
            queue.put(told(f"a-{number}"))
        await eventually(lambda: recorder.tries > 0)
        recorder.failure = None
        await eventually(lambda: not queue.waiting)
        assert [one.id for one in recorder.told] == ["a-0"] and queue.delivered == 100
        queue.put(told("a-100"))
        await eventually(lambda: len(recorder.told) == 2)
    assert disk.memory().kept(kept.QUEUE) == {}


async def test_a_newer_word_while_one_is_sent_is_sent_too(
    recorder: Any, disk: Any, told: Any, eventually: Any
) -> None:
    """It is not taken for the one that was under way."""
    gate = asyncio.Event()
    send = recorder.send

    async def slowly(one: Any, active: Any) -> str:
        await gate.wait()
        answer: str = await send(one, active)
        return answer

    recorder.send = slowly
    async with delivering({"hook": Place(recorder)}, disk.memory(), nothing_active) as queues:
        queues["hook"].put(told())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        queues["hook"].put(replace(told(), summary="newer"))
        gate.set()
        await eventually(lambda: [one.summary for one in recorder.told][-1:] == ["newer"])
    assert len(recorder.told) <= 2
