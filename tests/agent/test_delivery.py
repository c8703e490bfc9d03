"""The delivery: everything arrives, the fresh ones first, whatever the stream and its server do.

The pace is measured in virtual time on a bus that is none; the rest on a real server.
"""

import asyncio
import base64
import contextlib
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from virtual_time import in_virtual_time

from reachmap_agent import clock, delivery
from reachmap_agent.backlog import Lane
from reachmap_agent.delivery import BACK_OFF_S, HISTORY_A_TURN, MAX_UNACKED, TURN_S, Delivery
from reachmap_agent.memory import save_plan
from reachmap_agent.reporter import Reporter
from reachmap_agent.settings import Settings
from reachmap_agent.spool import Spool
from reachmap_shared import bus, codec, subjects
from reachmap_shared.bus import Delivery as Message
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.messages import (
    Change,
    Changes,
    CheckSpec,
    Closed,
    Observation,
    Plan,
    Pulse,
    Report,
    ReportKind,
    RollUp,
)
from reachmap_shared.vocabulary import Outcome, Transport

CHANGES, ROLL_UP = ReportKind.CHANGES, ReportKind.ROLL_UP
ACK = b'{"stream": "reachmap-reports", "seq": 7}'
FULL = b'{"error": {"code": 503, "err_code": 10077, "description": "maximum messages exceeded"}}'
TOO_LARGE = b'{"error": {"code": 400, "err_code": 10054, "description": "message size exceeds"}}'


@pytest.fixture
def spool(tmp_path: Path) -> Any:
    made = Spool(tmp_path / "spool", "pc-17", "boot", clock.system())
    yield made
    made.close()


class Stream:
    """Stands in for the bus and its stream: takes what is published, and answers as told."""

    def __init__(self) -> None:
        self.is_connected = True
        self.broken = False
        self.taken: list[tuple[float, Report]] = []
        self.replies: list[str] = []
        self.answer: Callable[[Report], bytes | None] = lambda _: ACK
        self.headers: dict[str, str] = {}
        self.heard: Callable[[Message], None] = lambda _: None

    async def publish(self, subject: str, payload: bytes, reply: str = "") -> None:
        if self.broken:
            raise BusUnavailable("broken")
        assert subject == "reachmap.report.pc-17"
        report = codec.decode(Report, payload)
        loop = asyncio.get_running_loop()
        self.taken.append((loop.time(), report))
        self.replies.append(reply)
        answer = self.answer(report)
        if answer is not None:
            message = Message(reply, answer, "", self.headers)
            loop.call_later(0.001, self.heard, message)

    @property
    def sequences(self) -> list[int]:
        return [report.sequence for _, report in self.taken]


@contextlib.asynccontextmanager
async def delivering(spool: Spool, stream: Stream) -> AsyncIterator[Delivery]:
    way = Delivery(spool, "pc-17")
    stream.heard = way.answered
    way.join(stream, "_INBOX.x")
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(way.run())
        yield way
        task.cancel()


def put(spool: Spool, kind: ReportKind = ROLL_UP, made: int = 1, size: int = 10) -> Any:
    if kind is CHANGES:
        spool.account.told += 1
        return spool.put(kind, bytes(size), changes=1)
    spool.account.made += made
    return spool.put(kind, bytes(size), made=made)


@in_virtual_time
async def test_history_is_delivered_changes_first_at_its_pace(spool: Spool) -> None:
    """So many in a turn and no more; none twice, and nothing is left."""
    for number in range(1_000):
        put(spool, CHANGES if number % 100 == 99 else ROLL_UP)
    stream = Stream()
    async with delivering(spool, stream) as way:
        await asyncio.sleep(10)
        assert way.is_idle
    assert sorted(stream.sequences) == list(range(1_000))
    kinds = [report.kind for _, report in stream.taken]
    assert kinds == [CHANGES] * 10 + [ROLL_UP] * 990
    times = [at for at, _ in stream.taken]
    turns = 1_000 / HISTORY_A_TURN
    assert (turns - 1) * TURN_S <= times[-1] - times[0] <= (turns + 1) * TURN_S
    assert (spool.waiting, spool.account.delivered) == (0, 990)


@in_virtual_time
async def test_fresh_ones_do_not_wait_for_history(spool: Spool) -> None:
    """While a million observations drain in under a minute, a fresh report is sent at once."""
    for _ in range(10_000):
        put(spool, made=100)
    stream = Stream()
    loop = asyncio.get_running_loop()
    async with delivering(spool, stream) as way:
        for _ in range(20):
            await asyncio.sleep(0.3)
            began = loop.time()
            for kind in (ROLL_UP, CHANGES):
                record = put(spool, kind)
                way.put(record)
                sent = record.entry.sequence
                while sent not in stream.sequences:
                    await asyncio.sleep(0.001)
            assert loop.time() - began < 0.1
        assert not way.is_idle, "there was history all the while"
        while not way.is_idle:
            await asyncio.sleep(0.1)
        assert loop.time() < 60
    assert len(stream.sequences) == len(set(stream.sequences)) == 10_040


@in_virtual_time
async def test_never_more_under_way_than_the_window(spool: Spool) -> None:
    """Without answers it stops there, and sends them again when it is time, each by its number."""
    stream = Stream()
    stream.answer = lambda _: None
    async with delivering(spool, stream) as way:
        await asyncio.sleep(0)
        for _ in range(3 * MAX_UNACKED):
            way.put(put(spool))
        await asyncio.sleep(delivery.ACK_TIMEOUT_S - 0.5)
        assert stream.sequences == list(range(MAX_UNACKED))
        stream.answer = lambda _: ACK
        await asyncio.sleep(3)
        assert way.is_idle
    counts = [stream.sequences.count(number) for number in range(3 * MAX_UNACKED)]
    assert counts == [2] * MAX_UNACKED + [1] * 2 * MAX_UNACKED
    assert spool.waiting == 0


@in_virtual_time
async def test_a_late_answer_and_a_second_one_are_one(spool: Spool) -> None:
    """The report was sent again meanwhile; both are answered, and it is delivered once."""
    stream = Stream()
    stream.answer = lambda _: None
    async with delivering(spool, stream) as way:
        way.put(put(spool, made=5))
        await asyncio.sleep(delivery.ACK_TIMEOUT_S + 1)
        assert stream.sequences == [0, 0]
        for reply in (*stream.replies, *stream.replies, "_INBOX.x.beef", "nonsense"):
            way.answered(Message(reply, ACK, "", {}))
        await asyncio.sleep(20)
    assert stream.sequences == [0, 0]
    assert (spool.waiting, spool.account.delivered) == (0, 5)


@pytest.mark.parametrize(
    ("answer", "headers", "reason"),
    [
        (FULL, {}, "maximum messages exceeded"),
        (b"", {"Status": "503"}, "no stream is there"),
        (b"garbage", {}, "no stream gives"),
        (b"[]", {}, "no stream gives"),
        (b"{}", {}, "no stream gives"),
        (b'{"error": 7}', {}, "no stream gives"),
        (b'{"error": {"err_code": 1e999}}', {}, "no stream gives"),
        (b"[" * 100_000, {}, "no stream gives"),
    ],
)
@in_virtual_time
async def test_a_stream_that_takes_nothing_is_tried_ever_more_rarely(
    spool: Spool, answer: bytes, headers: dict[str, str], reason: str
) -> None:
    """Nothing is lost; one report is enough to see that it takes them again."""
    stream = Stream()
    stream.answer, stream.headers = lambda _: answer, headers
    async with delivering(spool, stream) as way:
        for _ in range(100):
            way.put(put(spool))
        await asyncio.sleep(0.5)
        assert reason in way.refusal
        first = len(stream.taken)
        assert first <= 100
        await asyncio.sleep(300)
        tries = [at for at, _ in stream.taken[first:]]
        gaps = [later - earlier for earlier, later in pairwise(tries)]
        shortest, longest = BACK_OFF_S
        assert tries[0] >= shortest and max(gaps) <= longest + 1
        assert len(tries) < 20
        assert spool.waiting == 100
        stream.answer, stream.headers = lambda _: ACK, {}
        await asyncio.sleep(longest + 2)
        assert way.is_idle and not way.refusal
    assert set(stream.sequences) == set(range(100))
    assert spool.waiting == 0


@in_virtual_time
async def test_what_the_stream_will_never_take_is_dropped(spool: Spool) -> None:
    """One report too large for it holds up no other."""
    stream = Stream()
    stream.answer = lambda report: TOO_LARGE if report.sequence == 1 else ACK
    async with delivering(spool, stream) as way:
        for _ in range(3):
            way.put(put(spool))
        await asyncio.sleep(30)
    assert stream.sequences == [0, 1, 2]
    assert (spool.waiting, spool.lost, spool.account.delivered) == (0, 1, 2)


@in_virtual_time
async def test_a_bus_that_went_away_finds_all_again(spool: Spool) -> None:
    """What was under way may have been lost with it; what came meanwhile waited."""
    stream = Stream()
    async with delivering(spool, stream) as way:
        stream.answer = lambda _: None
        way.put(put(spool))
        await asyncio.sleep(1)
        stream.is_connected = False
        for _ in range(50):
            way.put(put(spool))
            await asyncio.sleep(1)
        assert stream.sequences == [0]
        stream.is_connected = True
        stream.answer = lambda _: ACK
        way.begin_anew()
        await asyncio.sleep(1)
        assert way.is_idle
    assert sorted(stream.sequences) == [0, *range(51)]
    assert spool.waiting == 0


@in_virtual_time
async def test_a_bus_that_breaks_in_the_midst_of_sending(spool: Spool) -> None:
    """It is sent again when nobody has answered."""
    stream = Stream()
    stream.broken = True
    async with delivering(spool, stream) as way:
        way.put(put(spool))
        await asyncio.sleep(1)
        stream.broken = False
        await asyncio.sleep(delivery.ACK_TIMEOUT_S)
        assert way.is_idle
    assert stream.sequences == [0]


# Ten minutes without a bus.

SLOTS, OUTAGE_S, BEFORE_S = 200, 600, 20
SPEC = CheckSpec("b", "web:80", "10.0.0.5", 80, Transport.TCP, "tcp", "")


class Host:
    """An agent that checks 200 flows a second, of which some come and go, and what came of it.

    Ledger, spool and delivery are the agent's own; it is only the time that passes at once.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        loop = asyncio.get_running_loop()
        self.clock = clock.Clock(*(lambda: int(loop.time() * 1000),) * 2, "os")
        self.spool = Spool(folder / "spool", "pc-17", "boot", self.clock, max_bytes=max_bytes)
        self.reporter = Reporter("pc-17", "boot", self.spool, self.clock)
        self.reporter.take_up(Plan("pc-17", "r1", 1.0, 0.5, "", "", "", (), (SPEC,) * SLOTS), ())
        self.truth = [True] * SLOTS
        self.dice = random.Random(2026)
        self.stream = Stream()
        self.stream.heard = self.reporter.delivery.answered

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        self.reporter.delivery.join(self.stream, "_INBOX.x")
        async with asyncio.TaskGroup() as tasks:
            works = (self.reporter.run, self.reporter.delivery.run, self.check)
            running = [tasks.create_task(work()) for work in works]
            yield
            for task in running:
                task.cancel()

    async def check(self) -> None:
        while True:
            for slot in self.dice.sample(range(SLOTS), 8):
                self.truth[slot] = not self.truth[slot]
            for slot, is_open in enumerate(self.truth):
                outcome = Outcome.OPEN if is_open else Outcome.REFUSED
                now_ms = self.clock.steady_ms()
                seen = Observation(
                    slot,
                    now_ms,
                    outcome,
                    None,
                    True,
                    0,
                    200 * is_open,
                    90,
                    "10.0.0.7:40001",
                    ("a",),
                )
                self.reporter.see("r1", seen, True)
            await asyncio.sleep(1)

    async def comes_back(self) -> None:
        """As the agent does when its bus is there again."""
        self.stream.is_connected = True
        self.reporter.delivery.begin_anew()
        await self.reporter.tell_whole(self.stream)  # type: ignore[arg-type]  # all it needs of one

    def map(self) -> list[bool]:
        """What a collector knows by now: of each flow the change that has the highest number."""
        latest: dict[int, Change] = {}
        for change in self.changes():
            known = latest.get(change.seen.slot)
            if known is None or known.number < change.number:
                latest[change.seen.slot] = change
        return [latest[slot].seen.outcome is Outcome.OPEN for slot in range(SLOTS)]

    def changes(self, *, history: bool = False) -> list[Change]:
        """All that came; without what was told again, if that is wanted."""
        return [
            change
            for _, report in self.stream.taken
            if report.kind is CHANGES and not (history and report.sequence < 0)
            for change in codec.decode(Changes, report.body).changes
        ]

    def roll_ups(self) -> list[RollUp]:
        reports = {one.sequence: one for _, one in self.stream.taken if one.kind is ROLL_UP}
        return [codec.decode(RollUp, report.body) for report in reports.values()]


@pytest.mark.parametrize(
    ("max_bytes", "goes"),
    [(16 << 20, ""), (100_000, "roll-ups"), (64_000, "changes")],
)
@in_virtual_time
async def test_ten_minutes_without_a_bus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_bytes: int, goes: str
) -> None:
    """Then the map is right at once, and history fills in. The room there is by default suffices;
    where there is less the oldest roll-ups go, changes last, and what went is counted."""
    if goes:
        monkeypatch.setattr("reachmap_agent.backlog.SEGMENT_BYTES", max(4096, max_bytes // 64))

    host = Host(tmp_path, max_bytes)
    spool = host.spool
    async with host.at_work():
        await asyncio.sleep(BEFORE_S)
        host.stream.is_connected = False
        came = len(host.stream.taken)
        for _ in range(OUTAGE_S):
            await asyncio.sleep(1)
            if spool.changes_lost:  # by then no roll-up is left that could go instead
                lanes = [one.lane for one in spool._backlog if one.records]
                assert lanes.count(Lane.ROLL_UPS) <= 1
        assert len(host.stream.taken) == came
        assert (bool(spool.lost), bool(spool.changes_lost)) == (goes != "", goes == "changes")
        waiting = sum(one.records for one in spool._backlog)
        await host.comes_back()
        assert host.map() == host.truth, "before any of what waited"
        await asyncio.sleep(0.2)
        assert goes or 0 < len(host.stream.taken) - came < waiting / 2
        await asyncio.sleep(20)
        host.reporter.put_all()
        await asyncio.sleep(1)
    assert host.map() == host.truth
    counted = sum(sum(one.made) for one in host.roll_ups())
    waiting = host.reporter.waiting
    assert host.reporter.made == counted + waiting + spool.lost > (BEFORE_S + OUTAGE_S) * SLOTS
    numbers = {change.number for change in host.changes(history=True)}
    assert host.reporter.told == len(numbers) + spool.changes_lost > OUTAGE_S * 7
    # What went is the oldest of the outage, of one piece.
    missing = set(range(host.reporter.told)) - numbers
    assert len(missing) == spool.changes_lost
    assert not missing or max(missing) - min(missing) == len(missing) - 1
    ends = sorted((one.begins_ms, one.ends_ms) for one in host.roll_ups())
    gaps = [later[0] - before[1] for before, later in pairwise(ends)]
    assert sum(1 for gap in gaps if gap) == bool(spool.lost)
    if spool.lost:
        assert ends[gaps.index(max(gaps))][1] <= (BEFORE_S + 6) * 1000, "from its beginning on"
    spool.close()


@in_virtual_time
async def test_the_last_reports_are_waited_for_a_moment(spool: Spool) -> None:
    """No longer than they need, and no longer than patience lasts."""
    stream = Stream()
    loop = asyncio.get_running_loop()
    async with delivering(spool, stream) as way:
        way.put(put(spool))
        await way.drained(10)
        assert loop.time() < 1 and spool.waiting == 0
        stream.answer = lambda _: None
        way.put(put(spool))
        await way.drained(2)
        assert 2 <= loop.time() < 3.1


@pytest.fixture
async def admin(nats_server: Any, tmp_path: Path) -> AsyncIterator["Admin"]:
    """A server with JetStream, and somebody who may do everything."""
    nats_server.stop()
    nats_server.configure(f'jetstream {{ store_dir: "{tmp_path}/jetstream" }}')
    nats_server.start()
    made = Admin(nats_server, tmp_path)
    yield made
    await made.close()


class Admin:
    """Makes the stream, and looks into it."""

    def __init__(self, server: Any, folder: Path) -> None:
        self.server = server
        self._folder = folder
        self._starts = 0

    async def _ask(self, what: str, **body: Any) -> dict[str, Any]:
        client = Client()
        await client.connect(self.server.url)
        try:
            reply = await client.request(f"$JS.API.{what}", json.dumps(body).encode(), timeout=5)
            return dict(json.loads(reply.data))
        finally:
            await client.close()

    async def make_stream(self, **its: Any) -> None:
        name = subjects.REPORT_STREAM
        its = {"subjects": [subjects.ALL_REPORTS], "discard": "new", "storage": "file", **its}
        answer = await self._ask(f"STREAM.CREATE.{name}", name=name, **its)
        assert "error" not in answer, answer

    async def purge(self) -> None:
        await self._ask(f"STREAM.PURGE.{subjects.REPORT_STREAM}")

    async def reports(self) -> list[Report]:
        name = subjects.REPORT_STREAM
        state = (await self._ask(f"STREAM.INFO.{name}"))["state"]
        found = []
        for number in range(state["first_seq"], state["last_seq"] + 1):
            answer = await self._ask(f"STREAM.MSG.GET.{name}", seq=number)
            found.append(codec.decode(Report, base64.b64decode(answer["message"]["data"])))
        return found

    def restart(self, *, empty: bool) -> None:
        self.server.stop()
        if empty:
            self._starts += 1
            store = self._folder / f"jetstream-{self._starts}"
            self.server.configure(f'jetstream {{ store_dir: "{store}" }}')
        self.server.start()

    async def close(self) -> None:
        self.server.stop()


@contextlib.asynccontextmanager
async def really(spool: Spool, url: str) -> AsyncIterator[Delivery]:
    """On a real bus, as the agent does it."""
    way = Delivery(spool, "pc-17")

    async def back() -> None:
        way.begin_anew()

    async with bus.staying([url], "test", back) as connection:
        inbox = connection.new_inbox()
        await connection.listen(f"{inbox}.*", way.answered)
        way.join(connection, inbox)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(way.run())
            yield way
            task.cancel()


async def test_a_real_stream_has_each_report_once(
    admin: Admin, spool: Spool, eventually: Any
) -> None:
    """Pipelined, and every one acknowledged."""
    await admin.make_stream()
    for _ in range(100):
        put(spool)
    async with really(spool, admin.server.url) as way:
        for _ in range(20):
            way.put(put(spool, CHANGES))
        await eventually(lambda: way.is_idle)
    assert sorted(report.sequence for report in await admin.reports()) == list(range(120))
    assert spool.waiting_in_all == (0, 0)


async def test_a_server_that_starts_again_empty(
    admin: Admin, spool: Spool, eventually: Any
) -> None:
    """Nobody has made the stream there yet: all waits, and arrives when somebody has."""
    await admin.make_stream()
    async with really(spool, admin.server.url) as way:
        way.put(put(spool))
        await eventually(lambda: spool.waiting == 0)
        admin.restart(empty=True)
        for _ in range(10):
            way.put(put(spool))
        await eventually(lambda: "no stream" in way.refusal)
        assert spool.waiting == 10
        await admin.make_stream()
        await eventually(lambda: way.is_idle and spool.waiting == 0)
    assert sorted(report.sequence for report in await admin.reports()) == list(range(1, 11))


async def test_a_server_killed_in_the_midst_of_it(
    admin: Admin, spool: Spool, eventually: Any
) -> None:
    """Every report is in the stream, however often."""
    await admin.make_stream()
    async with really(spool, admin.server.url) as way:
        for _ in range(3):
            for _ in range(200):
                way.put(put(spool))
            await asyncio.sleep(0.01)  # some are under way
            admin.restart(empty=False)
            await eventually(lambda: way.is_idle and spool.waiting == 0, 30)
    assert {report.sequence for report in await admin.reports()} == set(range(600))


async def test_a_full_stream_loses_nothing(
    admin: Admin, spool: Spool, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says so, and gets the rest when the collector has made room."""
    monkeypatch.setattr(delivery, "BACK_OFF_S", (0.05, 0.2))
    await admin.make_stream(max_msgs=10)
    async with really(spool, admin.server.url) as way:
        for _ in range(35):
            way.put(put(spool))
        await eventually(lambda: "maximum messages exceeded" in way.refusal)
        await eventually(lambda: spool.waiting == 25)
        seen: set[int] = set()
        for so_far in (10, 20, 30, 35):

            async def full(so_far: int = so_far) -> bool:
                seen.update([report.sequence for report in await admin.reports()])
                return len(seen) == so_far

            await eventually(full)
            await admin.purge()
        await eventually(lambda: way.is_idle)
    assert spool.waiting == 0


async def test_a_stream_that_has_too_much_of_one_agent_is_as_a_full_one_to_it(
    admin: Admin, spool: Spool, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps what is its own and tries again, while another's is taken."""
    monkeypatch.setattr(delivery, "BACK_OFF_S", (0.05, 0.2))
    await admin.make_stream(max_msgs_per_subject=5, discard_new_per_subject=True)
    async with really(spool, admin.server.url) as way:
        for _ in range(12):
            way.put(put(spool))
        await eventually(lambda: "maximum messages per subject exceeded" in way.refusal)
        await eventually(lambda: spool.waiting == 7)
        async with bus.connected([admin.server.url], "test") as connection:
            answer = await connection.request(subjects.report("pc-18"), b"x", 5)
        assert "error" not in json.loads(answer.payload)
        for waiting in (7, 2):
            await eventually(lambda waiting=waiting: spool.waiting == waiting)
            await admin.purge()
        await eventually(lambda: way.is_idle)
    assert (spool.waiting, spool.waiting_in_all) == (0, (0, 0))


@contextlib.contextmanager
def killed_at_the_end(command: list[str]) -> Iterator[None]:
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


async def test_an_agent_killed_again_and_again_is_accounted_for(
    admin: Admin, port: int, tmp_path: Path, eventually: Any
) -> None:
    """A whole agent at work, kill -9 at any moment: all that each start made is in the stream or
    told as lost, to the observation."""
    await admin.make_stream()
    spec = CheckSpec("b", "web:80", "127.0.0.1", port, Transport.TCP, "tcp", "")
    plan = Plan("pc-17", "r1", 0.1, 2.0, "", "", "", (), (spec,) * 10)
    save_plan(Settings(id="pc-17", state=tmp_path), plan)
    own = ["--id", "pc-17", "--nats", admin.server.url, "--state", str(tmp_path)]
    pulses: dict[str, Pulse] = {}

    async def feel(_subject: str, payload: bytes) -> None:
        pulse = codec.decode(Pulse, payload)
        pulses[pulse.boot] = pulse

    async with bus.staying([admin.server.url], "test") as connection:
        await connection.subscribe(subjects.ALL_PULSES, feel)
        for round_ in range(5):
            command = [sys.executable, "-m", "reachmap_agent", "run", *own]
            with killed_at_the_end(command):
                await eventually(lambda round_=round_: len(pulses) > round_)
                await asyncio.sleep(1 + 1.3 * (round_ % 3))  # each at another moment
        killed = list(pulses)[:4]
    reports = {(one.boot, one.sequence): one for one in await admin.reports()}
    for boot in killed:
        own_reports = [one for (its, _), one in reports.items() if its == boot]
        rolled = [codec.decode(RollUp, one.body) for one in own_reports if one.kind is ROLL_UP]
        [closed] = [
            codec.decode(Closed, one.body) for one in own_reports if one.kind is ReportKind.CLOSED
        ]
        assert closed.made == sum(sum(one.made) for one in rolled) + closed.lost
        assert closed.made >= 10
