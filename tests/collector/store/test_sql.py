"""What a store promises, on SQLite and on PostgreSQL alike."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from reachmap_collector.errors import StoreRefused
from reachmap_collector.planner import FlowKey
from reachmap_collector.store.api import (
    Batch,
    DeadLetter,
    Entry,
    Kept,
    PackedRollUp,
    PlanSlots,
    Received,
    Selection,
    Transition,
)
from reachmap_collector.store.sql import SqlStore
from reachmap_shared.vocabulary import Outcome, Transport

Make = Callable[..., Transition]
MakeFlow = Callable[..., FlowKey]
WRITER = Path(__file__).with_name("writer.py")


def rollup(sequence: int = 0, agent: str = "pc-1", **more: Any) -> PackedRollUp:
    begins = 1000.0 + 60 * sequence
    fields = {"boot": "boot-1", "plan": "one", "blob": bytes(range(256))} | more
    return PackedRollUp(agent=agent, sequence=sequence, begins=begins, ends=begins + 60, **fields)


def test_a_fresh_store_is_empty(store: SqlStore) -> None:
    """And says so, whatever is asked."""
    assert [
        list(rows) for rows in (store.beginning().latest, store.received(), store.beginning().plans)
    ] == [
        [],
        [],
        [],
    ]
    assert list(store.at(2000.0)) == []
    assert store.history().transitions == ()
    assert list(store.rollups("pc-1", 0, 9e9)) == []
    assert store.dead_letters() == ()
    store.commit(Batch())
    assert store.size().transitions == 0


def test_everything_comes_back_as_it_was_given(
    store: SqlStore, url: str, opened: Any, transition: Make, flow: MakeFlow
) -> None:
    """Also to another process, later."""
    names = [
        flow(),
        flow("pc-1", "näme", "2001:db8::1", 53, Transport.UDP),
        flow("pc-2", "pc-2", "db.example", 65535),
    ]
    given = Batch(
        transitions=tuple(
            transition(number, 1000.125 + number, key, outcome=outcome, service=f"s:{number}")
            for number, (key, outcome) in enumerate(
                zip(names, (Outcome.OPEN, Outcome.LOCAL_ERROR, Outcome.TIMEOUT), strict=True)
            )
        ),
        rollups=(rollup(0), rollup(1, plan="two", blob=b"")),
        received=(Received("pc-1", "boot-1", ((0, 2), (5, 2**53)), 2**53, 7, 1000.001),),
        plans=(
            PlanSlots("pc-1", "one", (names[1], names[0]), ("s:9", "web:8080"), 900.0),
            PlanSlots("pc-2", "one", (), (), 900.0),
        ),
        dead_letters=(DeadLetter("reachmap.report.x", "not msgpack", b"\x00\xff", 1000.5),),
        kept=(Kept("silences", "pc-1", b"\x00"), Kept("silences", "a", b"")),
    )
    store.commit(given)
    for one in (store, opened(url)):
        assert sorted(one.beginning().latest, key=lambda row: row.number) == list(given.transitions)
        assert list(one.rollups("pc-1", 0, 2000)) == list(given.rollups)
        assert list(one.received()) == list(given.received)
        assert sorted(one.beginning().plans, key=lambda row: row.agent) == list(given.plans)
        assert one.dead_letters() == given.dead_letters
        assert list(one.kept("silences")) == [given.kept[1], given.kept[0]]
        assert list(one.kept("other")) == []


def test_what_is_told_again_counts_once(store: SqlStore, transition: Make) -> None:
    """Transitions by agent, boot and number, roll-ups by agent, boot and sequence."""
    first = Batch((transition(0, 1000.0), transition(1, 1001.0)), (rollup(0),))
    store.commit(first)
    again = transition(1, 1001.25)  # its age was measured anew, and it is the same
    store.commit(
        Batch((again, transition(2, 1002.0), transition(2, 1002.0)), (rollup(0, blob=b"x"),))
    )
    numbers = [(one.number, one.at) for one in store.history().transitions]
    assert numbers == [(2, 1002.0), (1, 1001.0), (0, 1000.0)]
    assert [one.blob for one in store.rollups("pc-1", 0, 9e9)] == [bytes(range(256))]
    store.commit(Batch((transition(1, 1003.0, boot="boot-2"),)))
    assert store.size().transitions == 4


def test_a_batch_is_kept_whole_or_not_at_all(store: SqlStore, transition: Make) -> None:
    """And a failed one leaves no trace in what later ones build upon."""
    broken = DeadLetter("subject", "reason", None, 0.0)  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"(?i)null"):
        store.commit(Batch((transition(),), (rollup(),), dead_letters=(broken,)))
    assert list(store.beginning().latest) == []
    assert store.size().flows == store.size().agents == 0
    store.commit(Batch((transition(),), (rollup(),)))
    assert list(store.beginning().latest) == [transition()]


def test_the_latest_of_a_flow_is_the_latest_in_time(store: SqlStore, transition: Make) -> None:
    """Also where history fills in later; of one moment the one that came last."""
    store.commit(Batch((transition(5, 1005.0),)))
    store.commit(Batch((transition(3, 1003.0), transition(4, 1004.0))))
    assert [one.number for one in store.beginning().latest] == [5]
    store.commit(Batch((transition(6, 1005.0),)))
    assert [one.number for one in store.beginning().latest] == [6]


def test_how_things_stood_at_a_moment(store: SqlStore, transition: Make, flow: MakeFlow) -> None:
    """A change at that very moment has happened; a flow that was not seen yet is not told."""
    other = flow("pc-2")
    store.commit(
        Batch((transition(0, 1000.0), transition(1, 1010.0), transition(0, 1005.0, other)))
    )

    def stood(moment: float) -> list[tuple[str, int]]:
        return sorted((one.flow.source, one.number) for one in store.at(moment))

    assert stood(999.999) == []
    assert stood(1000.0) == [("pc-1", 0)]
    assert stood(1009.999) == [("pc-1", 0), ("pc-2", 0)]
    assert stood(1010.0) == [("pc-1", 1), ("pc-2", 0)]


def test_history_is_told_page_by_page(store: SqlStore, transition: Make) -> None:
    """Newest first, each once, also where many are of one moment and others come in between."""
    moments = [1000.0 + number // 10 for number in range(100)]
    store.commit(Batch(tuple(transition(number, at) for number, at in enumerate(moments))))
    found, before = [], None
    while True:
        page = store.history(limit=7, before=before)
        found += [one.number for one in page.transitions]
        before = page.next
        if before is None:
            break
        store.commit(Batch((transition(1000 + len(found), 2000.0),)))
    assert found == list(range(99, -1, -1))
    assert store.history(limit=100, since=0, until=1999).next is None


def test_history_can_be_narrowed(store: SqlStore, transition: Make, flow: MakeFlow) -> None:
    """By time, ends and service, all at once; a name that nobody has finds nothing."""
    store.commit(
        Batch(
            (
                transition(0, 1000.0, flow("a", "x")),
                transition(1, 1001.0, flow("a", "y"), service="dns:53"),
                transition(2, 1002.0, flow("b", "x")),
                transition(3, 1003.0, flow("b", "y"), service="dns:53"),
            )
        )
    )

    def found(**narrowed: Any) -> list[int]:
        return [one.number for one in store.history(**narrowed).transitions]

    assert found() == [3, 2, 1, 0]
    assert found(since=1001.0, until=1003.0) == [2, 1]
    assert found(source="a") == [1, 0]
    assert found(destination="y") == [3, 1]
    assert found(service="dns:53") == [3, 1]
    assert found(source="b", service="web:8080", since=0.0) == [2]
    assert found(source="a", destination="x", limit=1) == [0]
    for unknown in ({"source": "c"}, {"destination": "c"}, {"service": "c"}):
        assert found(**unknown) == []


def test_entries_say_what_was_before(store: SqlStore, transition: Make, flow: MakeFlow) -> None:
    """By the time that things came about, whenever they were kept; each flow for itself."""
    other = flow("pc-2")
    store.commit(Batch((transition(0, 1000.0), transition(2, 1020.0), transition(0, 999.0, other))))
    store.commit(Batch((transition(1, 1010.0),)))

    def told(entries: list[Entry]) -> list[tuple[int, int | None]]:
        return [
            (one.transition.number, one.before.number if one.before else None)
            for one in entries
            if one.transition.flow.source == "pc-1"
        ]

    found = store.entries()
    assert told(found) == [(2, 1), (1, 0), (0, None)]
    assert found[-1].transition.flow == other
    assert store.entries(limit=2) + store.entries(before=found[1].cursor) == found
    assert told(store.entries_after(0)) == [(0, None), (2, 1), (1, 0)]
    place = store.entries_after(0)[-2].sequence
    assert told(store.entries_after(place)) == [(1, 0)]
    assert store.entries_after(store.last_sequence()) == []


def test_entries_can_be_narrowed(store: SqlStore, transition: Make, flow: MakeFlow) -> None:
    """By several names of each kind."""
    keys = [flow(source, to) for source in "abc" for to in "xyz"]
    store.commit(Batch(tuple(transition(n, 1000.0 + n, key) for n, key in enumerate(keys))))

    def found(**narrowed: Any) -> list[str]:
        entries = store.entries(Selection(**narrowed))
        return [f"{e.transition.flow.source}{e.transition.flow.destination}" for e in entries]

    assert found(sources=("a", "c", "nobody"), destinations={"y"}) == ["cy", "ay"]
    assert found(services=["dns:53"]) == []
    assert found(since=1001.0, until=1003.0) == ["az", "ay"]
    assert store.hosts() == {*"abcxyz"}
    assert store.services() == {"web:8080"}


def test_a_span_is_looked_at_for_what_changed_in_it(
    store: SqlStore, transition: Make, flow: MakeFlow
) -> None:
    """Of other flows nothing is told, however many there are."""
    keys = [flow(f"pc-{n}") for n in range(4)]
    rows = [transition(0, 1000.0, key) for key in keys]
    rows += [transition(1, 1010.0, keys[1]), transition(1, 1020.0, keys[2])]
    store.commit(Batch(tuple(rows)))

    def stood(moment: float, *span: float, **narrowed: Any) -> list[tuple[str, int]]:
        changed = (span[0], span[1]) if span else None
        found = store.at(moment, changed=changed, selection=Selection(**narrowed))
        return sorted((one.flow.source, one.number) for one in found)

    assert stood(1005.0, 1005.0, 1015.0) == [("pc-1", 0)]
    assert stood(1015.0, 1005.0, 1015.0) == [("pc-1", 1)]
    assert stood(1020.0, 1010.0, 1020.0) == [("pc-2", 1)]
    assert stood(2000.0, sources=("pc-3", "pc-2")) == [("pc-2", 1), ("pc-3", 0)]


def test_an_empty_store_has_no_past(store: SqlStore) -> None:
    """And says so without an error."""
    assert (store.entries(), store.entries_after(0), store.last_sequence()) == ([], [], 0)
    assert store.hosts() == store.services() == set()


def test_roll_ups_are_told_oldest_first(store: SqlStore) -> None:
    """Just those of the agent that begin in the time asked for, whatever plan they are of."""
    ours = [rollup(number, plan=f"plan-{number % 2}") for number in range(5)]
    store.commit(Batch(rollups=(*reversed(ours), rollup(2, agent="pc-2"))))
    assert list(store.rollups("pc-1", 1060.0, 1240.0)) == ours[1:4]


def test_what_was_received_is_replaced(store: SqlStore) -> None:
    """One row a boot; the last of a batch counts."""

    def row(end: int, boot: str = "boot-1") -> Received:
        return Received("pc-1", boot, ((0, end),), end, end, float(end))

    store.commit(Batch(received=(row(1), row(2), row(1, "boot-2"))))
    store.commit(Batch(received=(row(3),)))
    assert sorted(store.received(), key=lambda one: one.boot) == [row(3), row(1, "boot-2")]


def test_only_the_latest_plans_are_told(store: SqlStore, flow: MakeFlow) -> None:
    """One that is taken up again is late again; what a roll-up names is no plan that we know."""

    def plan(revision: str, at: float, agent: str = "pc-1") -> PlanSlots:
        return PlanSlots(agent, revision, (flow(agent),), ("web:8080",), at)

    for number, revision in enumerate("abcda"):
        store.commit(Batch(plans=(plan(revision, 1000.0 + number),)))
    store.commit(Batch(plans=(plan("a", 1.0, "pc-2"),), rollups=(rollup(plan="nobody's"),)))
    told: dict[str, str] = {}
    for one in store.beginning(3).plans:
        told[one.agent] = told.get(one.agent, "") + one.revision
    assert told == {"pc-1": "cda", "pc-2": "a"}


def test_small_things_are_kept_and_forgotten(store: SqlStore) -> None:
    """In the order of the batch."""
    store.commit(Batch(kept=(Kept("a", "k", b"1"), Kept("a", "k", b"2"), Kept("b", "k", b"3"))))
    assert list(store.kept("a")) == [Kept("a", "k", b"2")]
    store.commit(Batch(kept=(Kept("a", "k", None), Kept("a", "unknown", None))))
    assert list(store.kept("a")) == []
    assert list(store.kept("b")) == [Kept("b", "k", b"3")]


def test_text_from_strangers_stops_nothing(
    store: SqlStore, transition: Make, flow: MakeFlow
) -> None:
    """A NUL, which no PostgreSQL takes, is replaced; quotes and all of Unicode stay."""
    odd = "\0';--\N{SNOWMAN}\U0001f600"
    one = transition(0, key=flow(address=f"fe80::1%{odd}"), boot=odd, service=odd)
    for _ in range(2):
        store.commit(
            Batch(
                (one,),
                (rollup(boot=odd, plan=odd),),
                (Received("pc-1", odd, (), 0, 0, 0.0),),
                (PlanSlots("pc-1", odd, (one.flow,), (odd,), 0.0),),
                (DeadLetter(odd, odd, b"", 0.0),),
                (Kept(odd, odd, b""),),
            )
        )
    (found,) = store.beginning().latest
    assert found.boot == found.service == odd.replace("\0", "\ufffd")
    assert [row.key for row in store.kept(odd)] == [odd.replace("\0", "\ufffd")]
    assert store.size().transitions == store.size().rollups == 1


def test_names_that_two_stores_make_at_once_are_one(
    store: SqlStore, url: str, opened: Any, transition: Make, flow: MakeFlow
) -> None:
    """What one remembers of the store stays true when another wrote to it."""
    other = opened(url)
    for number in range(3):
        for writer in (store, other):
            writer.commit(Batch((transition(number, key=flow("a", f"d-{number}")),)))
    assert store.size().flows == 3
    assert store.size().transitions == 3


def test_many_flows_are_interned_at_once(
    store: SqlStore, url: str, opened: Any, transition: Make, flow: MakeFlow
) -> None:
    """More sources, plans, boots and services than fit into one question."""
    keys = [flow(f"source-{number}", port=number % 7) for number in range(2500)]
    plans = tuple(
        PlanSlots(key.source, "one", (key,), (f"service:{number}",), 1.0)
        for number, key in enumerate(keys)
    )
    changes = tuple(
        transition(0, 1000.0, key, boot=f"boot-{number}", service=f"service:{number}")
        for number, key in enumerate(keys)
    )
    store.commit(Batch(changes, plans=plans))
    store.commit(Batch(changes, plans=plans))
    again = opened(url)
    again.commit(Batch(changes[:100], plans=plans[:100]))
    assert sorted(again.beginning().latest, key=lambda one: one.flow) == sorted(
        changes, key=lambda one: one.flow
    )
    assert set(again.beginning().plans) == set(plans)
    assert again.size().flows == 2500


def test_a_reader_may_stop_half_way(store: SqlStore, transition: Make, flow: MakeFlow) -> None:
    """And the next commit does not wait for it."""
    store.commit(Batch(tuple(transition(0, key=flow(f"h-{n}")) for n in range(6000))))
    rows = store.at(9e9)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    store.commit(Batch((transition(9),)))
    assert sum(1 for _ in store.beginning().latest) == 6001


def test_size_says_how_much_there_is(store: SqlStore, transition: Make, flow: MakeFlow) -> None:
    """Of everything, and on disk; agents are those that reported."""
    plan = PlanSlots("pc-1", "one", (flow(), flow("pc-1", "x")), ("a:1", "b:2"), 0.0)
    letter = DeadLetter("s", "r", b"", 0.0)
    store.commit(Batch((transition(),), (rollup(),), plans=(plan,), dead_letters=(letter,)))
    size = store.size()
    assert size.octets > 50_000
    assert (size.transitions, size.flows, size.agents, size.boots) == (1, 2, 1, 1)
    assert (size.rollups, size.plans, size.dead_letters) == (1, 1, 1)
    assert store.flaws() == ()
    assert store.schema() == "0001"


def test_a_backup_is_a_store(
    store: SqlStore, tmp_path: Path, opened: Any, transition: Make
) -> None:
    """Of SQLite: for its owner only, and never over another file; PostgreSQL has its own tool."""
    store.commit(Batch((transition(),)))
    copy = tmp_path / "copy"
    if store.shown.startswith("postgresql:"):
        with pytest.raises(StoreRefused, match="pg_dump"):
            store.backup(copy)
        assert list(tmp_path.iterdir()) == []
        return
    reader = store.at(9e9)
    next(reader)  # others are at work
    store.backup(copy)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    store.commit(Batch((transition(1),)))
    found = opened(f"sqlite:///{copy}", migrate=False)
    assert list(found.beginning().latest) == [transition()]
    assert found.flaws() == ()
    before = copy.read_bytes()
    with pytest.raises(StoreRefused, match="exists already"):
        store.backup(copy)
    assert copy.read_bytes() == before
    assert not copy.with_name("copy.new").exists()


@pytest.mark.timeout(240)
def test_kill_9_at_any_moment_loses_nothing_that_was_acknowledged(
    url: str, opened: Any, tmp_path: Path
) -> None:
    """A process that commits is killed again and again: batches are whole, and none is missing."""
    dice = Random(11)
    acknowledged = 0
    with subprocess.Popen(
        [sys.executable, str(WRITER)],
        env={**os.environ, "STORE_URL": url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as nursery:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        for _ in range(50):
            nursery.stdin.write(f"{acknowledged}\n")
            writer = int(nursery.stdout.readline())
            said = []
            if dice.random() < 0.7:  # else it may be killed while it opens, or makes, the store
                said.append(int(nursery.stdout.readline()))
            time.sleep(dice.uniform(0, 0.08))  # any moment
            os.kill(writer, signal.SIGKILL)
            said += [int(line) for line in iter(nursery.stdout.readline, "killed\n")]
            store = opened(url)
            heard, changes, rollups = found_in(store, acknowledged)
            assert heard >= max(said, default=acknowledged)
            assert changes == list(range(acknowledged * 20, heard * 20))
            assert rollups == list(range(acknowledged, heard))
            acknowledged = heard
            store.close()
        nursery.stdin.close()
    assert acknowledged > 50
    # All the others are there still, as whole as they were.
    store = opened(url)
    everything = (acknowledged, [*range(acknowledged * 20)], [*range(acknowledged)])
    assert found_in(store) == everything
    assert store.flaws() == ()


def found_in(store: SqlStore, batch: int = 0) -> tuple[int, list[int], list[int]]:
    """How many batches were taken, and the numbers of what came from one on, all of one moment.

    A server may still be at the commit of a client that was killed.
    """
    since = 1000.0 + batch
    while True:
        before = list(store.received())
        changes, older = [], None
        while True:
            page = store.history(limit=10_000, since=since, before=older)
            changes += [one.number for one in page.transitions]
            older = page.next
            if older is None:
                break
        rollups = [one.sequence for one in store.rollups("agent", since, 9e9)]
        if list(store.received()) == before:
            return sum(one.heard for one in before), sorted(changes), rollups
