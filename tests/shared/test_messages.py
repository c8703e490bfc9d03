"""The wire format, held still: what one version sends, every other version reads the same."""

import dataclasses
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

import pytest

from reachmap_shared import codec, messages
from reachmap_shared.codec import MAX_MESSAGE
from reachmap_shared.messages import (
    MAX_CHECKS,
    Ask,
    Change,
    Changes,
    CheckSpec,
    Closed,
    Earlier,
    Hello,
    ListenerReport,
    ListenerSpec,
    NamedCount,
    NamedTarget,
    Observation,
    OwnPort,
    Plan,
    Presence,
    Pulse,
    Question,
    Report,
    ReportKind,
    RollUp,
    WindowReply,
    WindowRequest,
)
from reachmap_shared.vocabulary import AnsweredBy, ListenerState, ListenMode, Outcome, Transport

LISTENER_REPORT = ListenerReport(
    "web:8080", 18080, Transport.TCP, ListenerState.CEDED, "another program", "nginx"
)
OWN_PORT = OwnPort("web:8080", 18080)
NAMED_TARGET = NamedTarget("db", ("db-1", "10.0.0.5"))
EARLIER = Earlier("00fe", 300, 4, 5, 1)
HELLO = Hello(
    agent="pc-17",
    boot="00ff",
    presence=Presence.HERE,
    hostname="pc-17.example",
    version="0.1.0",
    platform="Linux",
    roles=("agent", "web"),
    addresses=("10.0.0.7", "fd00::7"),
    capabilities=("tcp", "udp"),
    heartbeat_s=5.0,
    number=2,
    plan_refused="why",
    listeners=(LISTENER_REPORT,),
    changes_lost=3,
    spool_failure="disk full",
    ports=(OWN_PORT,),
    targets=(NAMED_TARGET,),
    earlier=(EARLIER,),
)
PULSE = Pulse(
    agent="pc-17",
    boot="00ff",
    sent_ms=70_000,
    wall_ms=1_800_000_000_000,
    hello=2,
    plan="abc",
    told=9,
    span_ms=11_000,
    stale=b"\x04",
    made=300,
    lost=1,
    waiting=2,
    late_ms=5,
)
LISTENER_SPEC = ListenerSpec("web:8080", 8080, Transport.TCP, "http", ListenMode.ON_DEMAND)
CHECK_SPEC = CheckSpec(
    "db-1",
    "dns:53",
    "db-1.example",
    53,
    Transport.UDP,
    "udp",
    "fedcba98",
    window=True,
    forbidden=True,
)
PLAN = Plan(
    agent="pc-17",
    revision="abc",
    interval_s=10.0,
    timeout_s=2.5,
    certificate="PEM",
    deployment_key="d0",
    host_key="e0",
    listeners=(LISTENER_SPEC,),
    checks=(CHECK_SPEC,),
)
OBSERVATION = Observation(
    slot=7,
    at_ms=61_500,
    outcome=Outcome.OPEN,
    answered_by=AnsweredBy.LISTENER,
    healthy=False,
    name_us=1,
    connect_us=200,
    answer_us=70000,
    local="10.0.0.7:40000",
    evidence=("a fact", "ein Fäktchen"),
    window=True,
    certificate_until=1_800_000_000,
    seen_as="10.0.0.9:40000",
    address="10.0.0.5",
    resolved=("10.0.0.5",),
    offender="10.0.0.1",
)
CHANGE = Change(8, OBSERVATION)
CHANGES = Changes("abc", (CHANGE,), parts=2, part=1, told=9)
NAMED_COUNT = NamedCount(3, "10.0.0.5", 6, 2, 1, 4, 77)
ROLL_UP = RollUp(
    "abc",
    1_000,
    61_000,
    b"\6\6\0\0",
    b"\0\1\0\0",
    b"\0\0\1\0",
    b"\0\2\0\0",
    b"\7\7\0\0",
    (NAMED_COUNT,),
)
CLOSED = Closed(300, 4, 1)
WINDOW_REQUEST = WindowRequest("pc-17", 8080, Transport.TCP, 4.5, "f0")
WINDOW_REPLY = WindowReply(ListenerState.READY, "not now")
REPORT = Report(
    "pc-17", "00ff", 4_000_000_000, 70_000, 1_800_000_000_000, ReportKind.CHANGES, b"\2"
)

GOLDEN: dict[str, tuple[Any, str]] = {
    "Hello": (
        HELLO,
        "dc 00 13 02 a5 70 63 2d 31 37 a4 30 30 66 66 a4 68 65 72 65 ad 70 63 2d 31 37 2e 65 78 61 6d "
        "70 6c 65 a5 30 2e 31 2e 30 a5 4c 69 6e 75 78 92 a5 61 67 65 6e 74 a3 77 65 62 92 a8 31 "
        "30 2e 30 2e 30 2e 37 a7 66 64 30 30 3a 3a 37 92 a3 74 63 70 a3 75 64 70 cb 40 14 00 00 "
        "00 00 00 00 02 a3 77 68 79 91 96 a8 77 65 62 3a 38 30 38 30 cd 46 a0 a3 74 63 70 a5 63 "
        "65 64 65 64 af 61 6e 6f 74 68 65 72 20 70 72 6f 67 72 61 6d a5 6e 67 69 6e 78 03 a9 "
        "64 69 73 6b 20 66 75 6c 6c 91 92 a8 77 65 62 3a 38 30 38 30 cd 46 a0 91 92 a2 64 62 92 "
        "a4 64 62 2d 31 a8 31 30 2e 30 2e 30 2e 35 91 95 a4 30 30 66 65 cd 01 2c 04 05 01",
    ),
    "OwnPort": (
        OWN_PORT,
        "93 02 a8 77 65 62 3a 38 30 38 30 cd 46 a0",
    ),
    "NamedTarget": (
        NAMED_TARGET,
        "93 02 a2 64 62 92 a4 64 62 2d 31 a8 31 30 2e 30 2e 30 2e 35",
    ),
    "Earlier": (
        EARLIER,
        "96 02 a4 30 30 66 65 cd 01 2c 04 05 01",
    ),
    "Pulse": (
        PULSE,
        "9e 02 a5 70 63 2d 31 37 a4 30 30 66 66 ce 00 01 11 70 cf 00 00 01 a3 18 5c 50 00 02 a3 "
        "61 62 63 09 cd 2a f8 c4 01 04 cd 01 2c 01 02 05",
    ),
    "Ask": (
        Ask(Question.STATE),
        "92 02 a5 73 74 61 74 65",
    ),
    "Plan": (
        PLAN,
        "9a 02 a5 70 63 2d 31 37 a3 61 62 63 cb 40 24 00 00 00 00 00 00 cb 40 04 00 00 00 00 00 "
        "00 a3 50 45 4d a2 64 30 a2 65 30 91 95 a8 77 65 62 3a 38 30 38 30 cd 1f 90 a3 74 63 70 "
        "a4 68 74 74 70 a9 6f 6e 2d 64 65 6d 61 6e 64 91 99 a4 64 62 2d 31 a6 64 6e 73 3a 35 33 "
        "ac 64 62 2d 31 2e 65 78 61 6d 70 6c 65 35 a3 75 64 70 a3 75 64 70 a8 66 65 64 63 62 61 "
        "39 38 c3 c3",
    ),
    "Report": (
        REPORT,
        "98 02 a5 70 63 2d 31 37 a4 30 30 66 66 ce ee 6b 28 00 ce 00 01 11 70 cf 00 00 01 a3 18 "
        "5c 50 00 a7 63 68 61 6e 67 65 73 c4 01 02",
    ),
    "Changes": (
        CHANGES,
        "96 02 a3 61 62 63 91 92 08 dc 00 10 07 cd f0 3c a4 6f 70 65 6e a8 6c 69 73 74 65 6e 65 "
        "72 c2 01 cc c8 ce 00 01 11 70 ae 31 30 2e 30 2e 30 2e 37 3a 34 30 30 30 30 92 a6 61 20 "
        "66 61 63 74 ad 65 69 6e 20 46 c3 a4 6b 74 63 68 65 6e c3 ce 6b 49 d2 00 ae 31 30 2e 30 "
        "2e 30 2e 39 3a 34 30 30 30 30 a8 31 30 2e 30 2e 30 2e 35 91 a8 31 30 2e 30 2e 30 2e 35 "
        "a8 31 30 2e 30 2e 30 2e 31 02 01 09",
    ),
    "Change": (
        CHANGE,
        "93 02 08 dc 00 10 07 cd f0 3c a4 6f 70 65 6e a8 6c 69 73 74 65 6e 65 72 c2 01 cc c8 ce "
        "00 01 11 70 ae 31 30 2e 30 2e 30 2e 37 3a 34 30 30 30 30 92 a6 61 20 66 61 63 74 ad 65 "
        "69 6e 20 46 c3 a4 6b 74 63 68 65 6e c3 ce 6b 49 d2 00 ae 31 30 2e 30 2e 30 2e 39 3a 34 "
        "30 30 30 30 a8 31 30 2e 30 2e 30 2e 35 91 a8 31 30 2e 30 2e 30 2e 35 a8 31 30 2e 30 2e "
        "30 2e 31",
    ),
    "Observation": (
        OBSERVATION,
        "dc 00 11 02 07 cd f0 3c a4 6f 70 65 6e a8 6c 69 73 74 65 6e 65 72 c2 01 cc c8 ce 00 01 "
        "11 70 ae 31 30 2e 30 2e 30 2e 37 3a 34 30 30 30 30 92 a6 61 20 66 61 63 74 ad 65 69 6e "
        "20 46 c3 a4 6b 74 63 68 65 6e c3 ce 6b 49 d2 00 ae 31 30 2e 30 2e 30 2e 39 3a 34 30 30 "
        "30 30 a8 31 30 2e 30 2e 30 2e 35 91 a8 31 30 2e 30 2e 30 2e 35 a8 31 30 2e 30 2e 30 2e "
        "31",
    ),
    "RollUp": (
        ROLL_UP,
        "9a 02 a3 61 62 63 cd 03 e8 cd ee 48 c4 04 06 06 00 00 c4 04 00 01 00 00 c4 04 00 00 01 "
        "00 c4 04 00 02 00 00 c4 04 07 07 00 00 91 97 03 a8 31 30 2e 30 2e 30 2e 35 06 02 01 04 "
        "4d",
    ),
    "NamedCount": (
        NAMED_COUNT,
        "98 02 03 a8 31 30 2e 30 2e 30 2e 35 06 02 01 04 4d",
    ),
    "Closed": (
        CLOSED,
        "94 02 cd 01 2c 04 01",
    ),
    "ListenerReport": (
        LISTENER_REPORT,
        "97 02 a8 77 65 62 3a 38 30 38 30 cd 46 a0 a3 74 63 70 a5 63 65 64 65 64 af 61 6e 6f 74 "
        "68 65 72 20 70 72 6f 67 72 61 6d a5 6e 67 69 6e 78",
    ),
    "ListenerSpec": (
        LISTENER_SPEC,
        "96 02 a8 77 65 62 3a 38 30 38 30 cd 1f 90 a3 74 63 70 a4 68 74 74 70 a9 6f 6e 2d 64 65 "
        "6d 61 6e 64",
    ),
    "CheckSpec": (
        CHECK_SPEC,
        "9a 02 a4 64 62 2d 31 a6 64 6e 73 3a 35 33 ac 64 62 2d 31 2e 65 78 61 6d 70 6c 65 35 a3 "
        "75 64 70 a3 75 64 70 a8 66 65 64 63 62 61 39 38 c3 c3",
    ),
    "WindowRequest": (
        WINDOW_REQUEST,
        "96 02 a5 70 63 2d 31 37 cd 1f 90 a3 74 63 70 cb 40 12 00 00 00 00 00 00 a2 66 30",
    ),
    "WindowReply": (
        WINDOW_REPLY,
        "93 02 a5 72 65 61 64 79 a7 6e 6f 74 20 6e 6f 77",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_the_wire_format_is_as_pinned(name: str) -> None:
    """A change here is a change for every agent out there: raise the schema, or do not make it."""
    message, payload = GOLDEN[name]
    assert codec.encode(message).hex() == payload.replace(" ", "")
    assert codec.decode(type(message), bytes.fromhex(payload)) == message


def test_every_message_is_pinned() -> None:
    """A new message gets its golden payload above."""
    kinds = {kind for kind in vars(messages).values() if is_dataclass(kind)} - {codec.Max}
    assert kinds == {type(message) for message, _ in GOLDEN.values()}


def test_the_pinned_messages_leave_no_default_unseen() -> None:
    """A pinned field that has its default would hide a change of place."""
    for message, _ in GOLDEN.values():
        for field in fields(message):
            assert field.default is MISSING or getattr(message, field.name) != field.default


@pytest.mark.parametrize("name", GOLDEN)
def test_a_message_cannot_be_changed(name: str) -> None:
    """What was decoded may be passed around without a copy."""
    message, _ = GOLDEN[name]
    first = fields(message)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(message, first, None)


def test_defaults_come_last() -> None:
    """So that a shorter, older message can be read."""
    for message, _ in GOLDEN.values():
        assert get_type_hints(type(message))
        defaulted = [field.default is not MISSING for field in fields(message)]
        assert defaulted == sorted(defaulted)


def test_the_largest_plan_that_may_be_sent_can_be_read() -> None:
    """The bound on checks and the bound on bytes do not contradict each other."""
    check = CheckSpec("d", "a:1", "10.0.0.1", 65535, Transport.TCP, "tcp", "0" * 22)
    plan = dataclasses.replace(PLAN, checks=(check,) * MAX_CHECKS)
    payload = codec.encode(plan)
    assert len(payload) < MAX_MESSAGE
    assert codec.decode(Plan, payload) == plan
