"""What agents report comes to the map whole, once, and in any order; what is wrong is put aside."""

from dataclasses import replace
from typing import Any

import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from reporting import DOWN, NAMED, NOW, OPEN, World, record_of, slot

from reachmap_collector.ledger import Ledger, Loss
from reachmap_collector.reports import Reports, kept_account
from reachmap_collector.store.api import Latest
from reachmap_shared import codec
from reachmap_shared.messages import Change, Changes, Report, ReportKind, RollUp
from reachmap_shared.vocabulary import Outcome


@pytest.fixture
def world(topology: Any) -> World:
    return World(topology)


@pytest.fixture
def agent(world: World, agent_of: Any) -> Any:
    return agent_of(world.plans["pc-1"])


# Changes.


def test_a_change_comes_to_the_map_and_to_history(world: World, agent: Any) -> None:
    """At the time that the check ended, by the age that it had when it was sent."""
    seen = agent.sees(slot(agent.plan, 8080), DOWN, evidence=("silence",))
    agent.clock_ms += 2500
    [row] = world.take(agent.changes()).transitions
    record = record_of(world, 8080)
    assert (record.last, record.checked) == (seen, NOW - 2.5)
    assert (row.flow, row.service, row.at) == (record.key, "web:8080", NOW - 2.5)
    assert (row.agent, row.boot, row.number) == ("pc-1", "boot-1", 0)
    assert (row.outcome, row.is_open) == (DOWN, False)
    assert codec.decode(type(seen), row.detail) == seen


@pytest.mark.parametrize("at_ms", [2**53, -(2**53), 10**12, -1])
def test_a_time_that_cannot_be_harms_nobody(world: World, agent: Any, at_ms: int) -> None:
    """Nothing was seen in the future, nor before there was time."""
    agent.sees(0)
    report = agent.changes()
    body = codec.decode(Changes, report.body)
    [change] = body.changes
    wrong = replace(body, changes=(replace(change, seen=replace(change.seen, at_ms=at_ms)),))
    world.take(replace(report, body=codec.encode(wrong)))
    assert 0 <= next(one for one in world.flows if one.last).checked <= NOW


def test_a_report_that_comes_again_counts_once(world: World, agent: Any) -> None:
    """However long after: by agent, start and number."""
    agent.sees(0)
    agent.sees(1, DOWN)
    first, counted = agent.changes(), agent.roll_up()
    assert len(world.take(first).transitions) == 2
    assert len(world.take(counted).rollups) == 1
    before = world.map()
    assert world.take(first, NOW + 5) == world.take(counted, NOW + 5)
    assert world.reports.duplicates == 2
    assert world.map() == before
    [account] = world.ledger
    assert (account.observations, list(account.sequences)) == (2, [(0, 2)])


def test_one_wrong_slot_does_not_cost_the_whole_report(world: World, agent: Any) -> None:
    """It is counted, and the others are taken."""
    agent.sees(0)
    report = agent.changes()
    body = codec.decode(Changes, report.body)
    [change] = body.changes
    wrong = [Change(n, replace(change.seen, slot=at)) for n, at in enumerate((-1, 3, 2**53), 1)]
    body = replace(body, changes=(change, *wrong))
    assert len(world.take(replace(report, body=codec.encode(body))).transitions) == 1
    assert world.reports.refused["change of no flow"] == 3
    [account] = world.ledger
    assert account.heard.prefix == 4


def test_a_name_s_transitions_are_each_address_s(topology: Any, agent_of: Any) -> None:
    """As its flows are; the name's own is where it does not resolve."""
    world = World(topology, NAMED)
    agent = agent_of(world.plans["pc-1"])
    agent.sees(0, address="10.0.0.5", resolved=("10.0.0.5",))
    agent.sees(0, Outcome.NAME_FAILURE)
    rows = world.take(agent.changes()).transitions
    assert [row.flow.address for row in rows] == ["10.0.0.5", "web.example"]


# Roll-ups, and the account.


def test_every_observation_is_counted(world: World, agent: Any) -> None:
    """Those of a roll-up that cannot be used too: in a counter of their own."""
    for outcome in (OPEN, DOWN, OPEN, Outcome.LOCAL_ERROR):
        agent.sees(0, outcome)
    agent.sees(1)
    [packed] = world.take(agent.roll_up()).rollups
    assert (packed.plan, packed.ends) == (agent.plan.revision, NOW)
    record = world.flows.get(world.known.get("pc-1", agent.plan.revision).flows[0])
    assert (record.checks_made, record.checks_open, record.checks_failed_locally) == (4, 2, 1)
    agent.sees(2)
    agent.plan = replace(agent.plan, revision="of-old")
    world.take(agent.roll_up())
    [account] = world.ledger
    assert (account.observations, account.refused) == (5, 1)
    assert account.observations + account.refused == agent.made
    assert world.reports.refused == {"report under an unknown plan": 1}


def test_what_was_refused_stays_counted_over_a_start_of_the_collector(
    world: World, agent: Any
) -> None:
    """Or the account of an agent would not come out even any more."""
    agent.plan = replace(agent.plan, revision="of-old")
    for _ in range(2):
        agent.sees(0)
        [kept] = world.take(agent.roll_up()).kept
    received = [kept_account(account) for account in world.ledger]
    world.begin()
    world.reports.restore(Latest.of([]), received, [kept])
    [account] = world.ledger
    assert (account.refused, agent.made) == (2, 2)


@pytest.mark.parametrize(
    "columns",
    [
        {"made": b"\1"},
        {"made": b"\1\1\1", "failed": b"\0"},
        {"made": b"\1" * 4},
        {"named": ((3, "10.0.0.1", 1, 0, 0, 0, 0),)},
        {"named": ((0, "10.0.0.1", -1, 0, 0, 0, 0),)},
        {"named": ((0, "10.0.0.1", 1, 0, 0, 0, 256),)},
        {"named": ((0, "10.0.0.1", 2**40, 0, 0, 0, 0),)},
    ],
)
def test_a_roll_up_of_another_shape_is_refused(
    world: World, agent: Any, columns: dict[str, Any]
) -> None:
    """Whatever it counts cannot be told of which flow."""
    import reachmap_shared.messages as messages

    named = tuple(messages.NamedCount(*line) for line in columns.pop("named", ()))
    body = RollUp(agent.plan.revision, 0, 0, named=named, **columns)
    report = replace(agent.roll_up(), body=codec.encode(body))
    batch = world.take(report)
    assert batch.rollups == ()
    [letter] = batch.dead_letters
    assert "RollUp" in letter.reason
    assert all(record.checks_made == 0 for record in world.flows)


def test_the_final_account_of_a_start_is_kept(world: World, agent: Any) -> None:
    """By the one after it; once, though it comes twice."""
    report = agent.closed("boot-0", made=10, lost=3)
    [kept] = world.take(report).kept
    assert world.take(report).kept == ()
    losses = world.ledger.losses["pc-1"]
    assert (losses.recent, losses.lost) == ((Loss("boot-0", 10, 3, 0),), 3)
    other = Reports(world.flows, Ledger(), world.known)
    other.restore(Latest.of([]), [], [kept])
    assert other._ledger.losses["pc-1"] == losses


# Pulses.


def test_a_pulse_waits_for_the_changes_that_it_speaks_of(
    world: World, agent: Any, pulse: Any
) -> None:
    """Nothing is called unchanged before its change was heard."""
    index = slot(agent.plan, 8080)
    agent.sees(index)
    world.take(agent.changes(), NOW)
    assert world.reports.pulse(agent.pulse(), NOW + 5)
    agent.sees(index, DOWN)
    assert not world.reports.pulse(agent.pulse(), NOW + 10)
    assert record_of(world, 8080).checked == NOW + 5
    assert world.reports.behind_s("pc-1", NOW + 14) == 4
    world.take(agent.changes(), NOW + 11)
    record = record_of(world, 8080)
    assert (record.last.outcome, record.checked) == (DOWN, NOW + 11)
    assert world.reports.behind_s("pc-1", NOW + 14) == 0
    assert world.reports.pulse(agent.pulse(), NOW + 15)
    assert record.checked == NOW + 15


@pytest.mark.parametrize("parts", [1, 2])
def test_the_whole_state_makes_up_for_what_got_lost(world: World, agent: Any, parts: int) -> None:
    """A change that never came is superseded, and the pulse that waited counts."""
    for index in range(3):
        agent.sees(index)
    agent.changes()  # lost
    agent.sees(0, DOWN)
    world.take(agent.changes(), NOW)
    assert not world.reports.pulse(agent.pulse(), NOW + 5)
    *most, last = agent.state(parts)
    for report in most:
        world.take(report, NOW + 6)
    assert {record.checked for record in world.flows if record.key.source == "pc-1"} <= {
        0,
        NOW,
        NOW + 6,
    }
    world.take(last, NOW + 6)
    checked = {record.checked for record in world.flows if record.key.source == "pc-1"}
    assert checked == {NOW + 6} or checked == {NOW + 5, NOW + 6}
    [account] = world.ledger
    assert list(account.sequences) == [(1, 2)]  # tellings again are none of the numbered reports


def test_a_pulse_under_an_unknown_plan_says_nothing(world: World, agent: Any) -> None:
    """Its slots might be anything."""
    agent.sees(0)
    world.take(agent.changes())
    agent.plan = replace(agent.plan, revision="of-old")
    assert not world.reports.pulse(agent.pulse(), NOW + 5)
    assert max(record.checked for record in world.flows) == NOW


def test_who_is_doubted_has_to_tell_again(world: World, agent: Any) -> None:
    """A flow that is new to the map may have been told of before."""
    agent.sees(0)
    world.take(agent.changes())
    world.reports.doubt(["pc-1", "web-1"])
    assert not world.reports.pulse(agent.pulse(), NOW + 5)
    for report in agent.state():
        world.take(report, NOW + 6)
    assert world.reports.pulse(agent.pulse(), NOW + 10)


# What is refused.


def wrong_ones(report: Report) -> dict[str, bytes]:
    whole = codec.encode(report)
    future = b"\x98\x63" + whole[2:]
    return {
        "empty": b"",
        "text": b"not msgpack",
        "cut off": whole[: len(whole) // 2],
        "too large": bytes(2_000_000),
        "900 kB": b"\xc6\x00\x0d\xbb\xa0" + bytes(900_000),
        "of the future": future,
        "another's": codec.encode(replace(report, agent="web-1")),
        "no such number": codec.encode(replace(report, sequence=-2)),
        "a boot that no store can keep": codec.encode(replace(report, boot="a\0b")),
        "a body of the future": codec.encode(replace(report, body=b"\x93\x63\x00\x90")),
        "a body that is none": codec.encode(replace(report, body=b"\xc1")),
        "a body of another kind": codec.encode(replace(report, kind=ReportKind.ROLL_UP)),
        "under an unknown plan": codec.encode(
            replace(report, body=codec.encode(Changes("of-old", ())))
        ),
        "in too many parts": codec.encode(
            replace(report, body=codec.encode(Changes("of-old", (), 10**6, 0)))
        ),
    }


@pytest.mark.parametrize(
    "what", list(wrong_ones(Report("a", "b", 0, 0, 0, ReportKind.CHANGES, b"")))
)
def test_what_cannot_be_used_is_put_aside(world: World, agent: Any, what: str) -> None:
    """Counted, kept as a dead letter with the reason, and nothing else comes of it."""
    agent.sees(0)
    payload = wrong_ones(agent.changes())[what]
    batch = world.reports.take("reachmap.report.pc-1", payload, NOW).batch
    [letter] = batch.dead_letters
    assert (batch.transitions, batch.rollups) == ((), ())
    assert letter.subject == "reachmap.report.pc-1" and letter.reason.isascii()
    assert payload.startswith(letter.payload) and len(letter.payload) <= 16 * 1024
    assert world.reports.refused.total() == 1
    assert all(record.last is None for record in world.flows)
    assert world.ledger.get("web-1", "boot-1") is None


@given(st.binary(max_size=300), st.text(max_size=20))
def test_no_bytes_at_all_bring_it_down(topology: Any, payload: bytes, subject: str) -> None:
    """Whatever comes under whatever name; and the letter can be kept by any store."""
    world = World(topology)
    batch = world.reports.take(f"reachmap.report.{subject}", payload, NOW).batch
    [letter] = batch.dead_letters
    assert (letter.subject + letter.reason).isascii() and "\0" not in letter.subject


@given(st.data())
def test_no_body_at_all_brings_it_down(topology: Any, agent_of: Any, data: Any) -> None:
    """A message of the right form may be wrong in every field."""
    world = World(topology)
    agent = agent_of(world.plans["pc-1"])
    agent.sees(0)
    agent.sees(1, DOWN)
    kind = data.draw(st.sampled_from(ReportKind))
    report = {
        ReportKind.CHANGES: agent.changes,
        ReportKind.ROLL_UP: agent.roll_up,
        ReportKind.CLOSED: lambda: agent.closed("boot-0", 1, 1),
        ReportKind.DIAGNOSIS: lambda: agent.diagnosed(1),
    }[kind]()
    raw = bytearray(codec.encode(report))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    world.reports.take("reachmap.report.pc-1", bytes(raw), NOW)
    for record in world.flows:
        assert 0 <= record.checked <= NOW
        assert record.checks_open <= record.checks_made
        assert record.latency_ms is None or record.latency_ms >= 0


def test_a_plan_s_slots_are_its_own_agent_s(world: World, agent: Any) -> None:
    """One agent cannot report under another's plan."""
    agent.sees(0)
    world.take(replace(agent.changes(), agent="web-1"))
    assert world.reports.refused == {"report under an unknown plan": 1}
    assert all(record.last is None for record in world.flows)


# Restarts.


def test_the_map_begins_where_it_ended(world: World, agent: Any) -> None:
    """What was heard is known again, and what comes again is known too."""
    for index in range(3):
        agent.sees(index, DOWN if index == 1 else OPEN)
    report, counted = agent.changes(), agent.roll_up()
    rows = world.take(report).transitions
    world.take(counted)
    received = [kept_account(account) for account in world.ledger]
    before = world.map()
    world.begin()
    world.reports.restore(Latest.of(rows), received, [])
    without_counts = [(*flow[:4], (0, 0, 0)) for flow in before]
    assert world.map() == without_counts
    world.take(report)
    world.take(counted)
    assert world.reports.duplicates == 2
    [account] = world.ledger
    assert account.observations == 3


def test_whom_the_store_does_not_know_has_to_tell_again(world: World, agent: Any) -> None:
    """A flow whose change is not there may not be called unchanged."""
    for index in range(3):
        agent.sees(index)
    rows = world.take(agent.changes()).transitions
    received = [kept_account(account) for account in world.ledger]
    world.begin()
    world.reports.restore(Latest.of(rows[:2]), received, [])
    assert not world.reports.pulse(agent.pulse(), NOW + 5)
    world.begin()
    world.reports.restore(Latest.of(rows), received, [])
    assert world.reports.pulse(agent.pulse(), NOW + 5)


def test_names_begin_where_they_ended(topology: Any, agent_of: Any) -> None:
    """Each address under the name that leads to it."""
    world = World(topology, NAMED)
    agent = agent_of(world.plans["pc-1"])
    both = ("10.0.0.5", "fd00::5")
    for index in range(2):
        for address in both:
            agent.sees(index, address=address, resolved=both)
    rows = world.take(agent.changes()).transitions
    received = [kept_account(account) for account in world.ledger]
    before = world.map()
    world.begin()
    world.reports.restore(Latest.of(rows), received, [])
    assert world.map() == before
    assert world.reports.pulse(agent.pulse(), NOW + 5)


def test_since_when_a_name_s_addresses_are_as_they_are_is_in_the_latest_history(
    topology: Any, agent_of: Any
) -> None:
    """What the map begins with is not told a second time, for it would be by objects."""
    world = World(topology, NAMED)
    both = ("10.0.0.5", "fd00::5")
    older: list[Any] = []
    for arrived, boot in ((NOW, "boot-1"), (NOW + 5, "boot-2")):
        agent = agent_of(world.plans["pc-1"], boot=boot)
        agent.sees(0, DOWN, address=both[0], resolved=both)
        agent.sees(0, address=both[1], resolved=both)
        older += world.take(agent.changes(), arrived).transitions
    before = world.map()
    rows, received = older[2:], [kept_account(account) for account in world.ledger]
    for past, since in ((rows, NOW + 5), (older, NOW)):
        world.begin()
        world.reports.restore(Latest.of(rows), received, [], older=past)
        assert {flow[0].address: flow[3] for flow in world.map() if flow[1]} == dict.fromkeys(
            both, since
        )
        assert len(world.flows._names) == (past is older)
    assert world.map() == before


def test_which_of_two_names_it_was_is_for_the_agent_to_say(topology: Any, agent_of: Any) -> None:
    """Rather than to guess."""
    world = World(topology, NAMED.replace('["web.example"]', '["web.example", "www.example"]'))
    agent = agent_of(world.plans["pc-1"])
    for index in range(4):
        agent.sees(index, address="10.0.0.5", resolved=("10.0.0.5",))
    rows = world.take(agent.changes()).transitions
    received = [kept_account(account) for account in world.ledger]
    before = world.map()
    world.begin()
    world.reports.restore(Latest.of(rows), received, [])
    assert not world.reports.pulse(agent.pulse(), NOW + 5)
    for report in agent.state():
        world.take(report)
    assert [flow[:2] for flow in world.map()] == [flow[:2] for flow in before]
    assert world.reports.pulse(agent.pulse(), NOW + 10)


def test_of_two_names_neither_is_as_told_until_the_agent_says_so(
    topology: Any, agent_of: Any
) -> None:
    """Though it is known of both that they did not resolve once."""
    world = World(topology, NAMED.replace('["web.example"]', '["web.example", "www.example"]'))
    agent = agent_of(world.plans["pc-1"])
    for index in range(4):
        agent.sees(index, Outcome.NAME_FAILURE)
    rows = world.take(agent.changes()).transitions
    agent.sees(0, address="10.0.0.5", resolved=("10.0.0.5",))
    rows += world.take(agent.changes()).transitions
    received = [kept_account(account) for account in world.ledger]
    world.begin()
    world.reports.restore(Latest.of(rows[:4]), received, [])
    assert not world.flows.unheard()
    assert world.reports.pulse(agent.pulse(), NOW + 5)
    world.begin()
    world.reports.restore(Latest.of(rows), received, [])
    assert not world.reports.pulse(agent.pulse(), NOW + 5)


def test_what_another_version_kept_is_for_the_agent_to_say(world: World, agent: Any) -> None:
    """A collector that was brought up to date starts all the same."""
    agent.sees(0)
    [row] = world.take(agent.changes()).transitions
    received = [kept_account(account) for account in world.ledger]
    world.begin()
    world.reports.restore(Latest.of([replace(row, detail=b"\x91\x01")]), received, [])
    assert not world.reports.pulse(agent.pulse(), NOW + 5)


# Any order of anything.


class AnyOrder(RuleBasedStateMachine):
    """Agents that start again and again, a bus that delays and repeats, a collector that restarts:
    in the end the map is what a collector has that heard everything once and in order."""

    topology: Any
    agent_of: Any

    @initialize()
    def begin(self) -> None:
        self.world = World(self.topology)
        self.truth = World(self.topology)
        self.boots = 0
        self.agent: Any = None
        self.under_way: list[tuple[Report, float]] = []
        self.delivered: list[tuple[Report, float]] = []
        self.store: dict[tuple[str, int], Any] = {}
        self.made = 0
        self.now = NOW
        self.restarted = False
        self.restart_agent()

    @precondition(lambda self: self.boots < 5)  # so that all of a flow's past is kept
    @rule()
    def restart_agent(self) -> None:
        if self.agent is not None:
            self.roll_up()
        self.boots += 1
        self.now += 1
        self.agent = self.agent_of(self.world.plans["pc-1"], boot=f"boot-{self.boots}")

    @rule(index=st.integers(0, 2), outcome=st.sampled_from([OPEN, DOWN]))
    def check(self, index: int, outcome: Outcome) -> None:
        self.now += 1
        self.agent.clock_ms += 1000
        self.agent.sees(index, outcome)
        self.made += 1
        self.send(self.agent.changes())

    @rule()
    def roll_up(self) -> None:
        self.now += 1
        self.agent.clock_ms += 1000
        self.send(self.agent.roll_up())

    @rule(parts=st.integers(1, 3))
    def tell_all(self, parts: int) -> None:
        for report in self.agent.state(parts):
            self.send(report)

    def send(self, report: Report) -> None:
        self.truth.take(report, self.now)
        self.under_way.append((report, self.now))

    @rule(data=st.data())
    def deliver(self, data: Any) -> None:
        if self.under_way:
            index = data.draw(st.integers(0, len(self.under_way) - 1))
            self.take(self.under_way.pop(index))

    @rule(data=st.data())
    def deliver_again(self, data: Any) -> None:
        if self.delivered:
            self.take(data.draw(st.sampled_from(self.delivered)))

    def take(self, sent: tuple[Report, float]) -> None:
        self.delivered.append(sent)
        for row in self.world.take(*sent).transitions:
            self.store.setdefault((row.boot, row.number), row)

    @rule()
    def restart_collector(self) -> None:
        received = [kept_account(account) for account in self.world.ledger]
        self.world.begin()
        older = sorted(self.store.values(), key=lambda one: one.at)
        latest = {one.flow: one for one in older}
        self.world.reports.restore(Latest.of(latest.values()), received, [], older=older)
        self.restarted = True

    @invariant()
    def nothing_counts_twice(self) -> None:
        assert sum(account.observations for account in self.world.ledger) <= self.made

    def teardown(self) -> None:
        self.roll_up()
        for sent in self.under_way:
            self.take(sent)
        # The counts of recent periods are of the collector's own time.
        parts = 4 if self.restarted else 5
        assert [one[:parts] for one in self.world.map()] == [
            one[:parts] for one in self.truth.map()
        ]
        accounts = {account.boot: account for account in self.world.ledger}
        assert sum(account.observations for account in accounts.values()) == self.made
        told = {(row.boot, row.number) for row in self.store.values()}
        for boot, account in accounts.items():
            assert {number for one, number in told if one == boot} >= set(
                range(account.heard.prefix)
            )
            assert account.sequences.gaps == 0


@pytest.mark.hypothesis
def test_any_order_of_delivery_ends_in_the_same_map(topology: Any, agent_of: Any) -> None:
    """See AnyOrder."""
    AnyOrder.topology, AnyOrder.agent_of = staticmethod(topology), agent_of
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(AnyOrder, settings=examples(60, stateful_step_count=40))
