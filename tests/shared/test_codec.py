"""Bytes from the bus: what was sent comes back, everything else is refused with place and reason.

What is true of one message is true of all: strategies and tables are made from the messages' own
annotations, so that a new message or field is covered by being declared.
"""

import math
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgpack
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from reachmap_shared import codec, messages
from reachmap_shared.codec import MAX_MESSAGE, SCHEMA, Max
from reachmap_shared.errors import MalformedMessage
from reachmap_shared.messages import CheckSpec, Hello, Plan, Report
from reachmap_shared.vocabulary import Transport

MESSAGES = sorted(
    (kind for kind in vars(messages).values() if is_dataclass(kind) and kind is not Max),
    key=lambda kind: kind.__name__,
)
by_kind = pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)

DEFAULT_BOUND = 255
LARGEST = 2**53


@dataclass(frozen=True)
class Place:
    """A field somewhere in a message: how an error calls it, where its value is, what it is."""

    path: str
    steps: tuple[int, ...]
    hint: Any
    bound: int


def hints_of(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def bare(hint: Any, bound: int = DEFAULT_BOUND) -> tuple[Any, int]:
    """A hint without its bound, and the bound."""
    if get_origin(hint) is Annotated:
        inner, mark = get_args(hint)
        return inner, mark.size
    return hint, bound


def is_optional(hint: Any) -> bool:
    return get_origin(hint) in (Union, UnionType)


def required(hint: Any) -> Any:
    """An optional hint's other half."""
    return next(arm for arm in get_args(hint) if arm is not type(None))


def values(hint: Any, bound: int = DEFAULT_BOUND) -> st.SearchStrategy[Any]:
    """All values of a field's type; collections and strings stay short, for speed."""
    hint, bound = bare(hint, bound)
    if is_optional(hint):
        return st.none() | values(required(hint), bound)
    if get_origin(hint) is tuple:
        return st.lists(values(get_args(hint)[0]), max_size=min(bound, 3)).map(tuple)
    if is_dataclass(hint):
        return st.builds(hint, **{name: values(its) for name, its in hints_of(hint).items()})
    if issubclass(hint, StrEnum):
        return st.sampled_from(hint)
    return {
        str: st.text(max_size=min(bound, 20)),
        bool: st.booleans(),
        int: st.integers(-LARGEST, LARGEST),
        float: st.floats(-LARGEST, LARGEST),
        bytes: st.binary(max_size=min(bound, 20)),
    }[hint]


def sample(hint: Any) -> Any:
    """One value of a type, with one item in each collection, and no field at its default."""
    hint, _ = bare(hint)
    if is_optional(hint):
        return sample(required(hint))
    if get_origin(hint) is tuple:
        return (sample(get_args(hint)[0]),)
    if is_dataclass(hint):
        defaults = {field.name: field.default for field in fields(hint)}
        row = {name: sample(its) for name, its in hints_of(hint).items()}
        return hint(**row | {name: False for name, value in row.items() if defaults[name] is value})
    if issubclass(hint, StrEnum):
        return next(iter(hint))
    return {str: "text", bool: True, int: 7, float: 2.5, bytes: b"octets"}[hint]


def places(hint: Any, path: str, steps: tuple[int, ...] = ()) -> Iterator[Place]:
    """Every place in a message of this type, whole ones before their parts."""
    hint, bound = bare(hint)
    yield Place(path, steps, hint, bound)
    if get_origin(hint) is tuple:
        yield from places(get_args(hint)[0], f"{path}[0]", (*steps, 0))
    if is_dataclass(hint):
        for index, (name, its) in enumerate(hints_of(hint).items()):
            yield from places(its, f"{path}.{name}", (*steps, index))


def row_of(kind: Any) -> list[Any]:
    """A sample message as the bare array of its fields."""
    row: list[Any] = msgpack.unpackb(codec.encode(sample(kind)))[1:]
    return row


def pack(row: list[Any]) -> bytes:
    return bytes(msgpack.packb([SCHEMA, *row]))


def with_value(row: Any, steps: tuple[int, ...], value: Any) -> Any:
    """A copy of a row with another value in one place."""
    if not steps:
        return value
    copy = list(row)
    copy[steps[0]] = with_value(copy[steps[0]], steps[1:], value)
    return copy


def at_every(wanted: Callable[[Any], bool]) -> pytest.MarkDecorator:
    """Parametrize a test by the places whose bare type is wanted."""
    found = [
        pytest.param(kind, place, id=place.path)
        for kind in MESSAGES
        for place in places(kind, kind.__name__)
        if place.steps and wanted(place.hint)
    ]
    assert found
    return pytest.mark.parametrize(("kind", "place"), found)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=30,
)


def read_or_refuse(kind: Any, payload: bytes) -> None:
    """Decode; what was read can be sent on. Any exception but MalformedMessage is a crash."""
    try:
        message = codec.decode(kind, payload)
    except MalformedMessage:
        return
    assert codec.decode(kind, codec.encode(message)) == message


@by_kind
@given(data=st.data())
def test_what_was_encoded_is_decoded(kind: Any, data: st.DataObject) -> None:
    """Every message comes back equal, types and all."""
    message = data.draw(values(kind))
    decoded = codec.decode(kind, codec.encode(message))
    assert decoded == message
    assert repr(decoded) == repr(message)


def test_a_float_field_may_hold_a_whole_number() -> None:
    """`interval_s=10` is a number of seconds too, and arrives as one."""
    plan = codec.decode(Plan, pack(with_value(row_of(Plan), (2,), 10)))
    assert type(plan.interval_s) is float and plan.interval_s == 10


@by_kind
@given(extra=st.lists(st.none() | st.integers(-9, 9) | st.text(max_size=3), min_size=1, max_size=4))
def test_fields_of_a_newer_sender_are_passed_over(kind: Any, extra: list[Any]) -> None:
    """At the end of the message and of every part of it."""

    def longer(hint: Any, row: Any) -> Any:
        hint, _ = bare(hint)
        if is_dataclass(hint):
            hints = hints_of(hint).values()
            return [longer(its, item) for its, item in zip(hints, row, strict=True)] + extra
        if get_origin(hint) is tuple:
            return [longer(get_args(hint)[0], item) for item in row]
        return row

    assert codec.decode(kind, pack(longer(kind, row_of(kind)))) == sample(kind)


@by_kind
def test_fields_of_an_older_sender_take_their_defaults(kind: Any) -> None:
    """Those with a default may be missing from the end, one by one; no other may."""
    row = row_of(kind)
    needed = sum(field.default is MISSING for field in fields(kind))
    for length in range(len(row)):
        shorter = pack(row[:length])
        if length < needed:
            with pytest.raises(MalformedMessage, match=f"an array of at least {needed}"):
                codec.decode(kind, shorter)
        else:
            message = codec.decode(kind, shorter)
            for field, value in zip(fields(kind)[length:], row[length:], strict=True):
                assert getattr(message, field.name) == field.default != value


@by_kind
def test_every_truncation_is_refused(kind: Any) -> None:
    """A message that was cut off is never half a message."""
    payload = codec.encode(sample(kind))
    for length in range(len(payload)):
        with pytest.raises(MalformedMessage):
            codec.decode(kind, payload[:length])


@by_kind
def test_bytes_after_the_message_are_refused(kind: Any) -> None:
    """Two messages in one are none."""
    with pytest.raises(MalformedMessage):
        codec.decode(kind, codec.encode(sample(kind)) + b"\0")


@given(kind=st.sampled_from(MESSAGES), payload=st.binary(max_size=200))
def test_random_bytes_are_refused(kind: Any, payload: bytes) -> None:
    """Noise gives MalformedMessage, and no other exception."""
    read_or_refuse(kind, payload)
    read_or_refuse(kind, bytes([0x91, SCHEMA]) + payload)


@given(
    kind=st.sampled_from(MESSAGES),
    raw=anything | st.lists(anything, max_size=20).map(lambda row: [SCHEMA, *row]),
)
def test_random_msgpack_is_refused(kind: Any, raw: Any) -> None:
    """Well-formed msgpack of any shape gives a message or MalformedMessage."""
    read_or_refuse(kind, msgpack.packb(raw))


@examples(300)
@given(kind=st.sampled_from(MESSAGES), data=st.data())
def test_a_changed_byte_is_read_or_refused(kind: Any, data: st.DataObject) -> None:
    """Damage never does more than spoil the message."""
    payload = bytearray(codec.encode(sample(kind)))
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    read_or_refuse(kind, bytes(payload))


@at_every(lambda hint: True)
def test_a_wrong_type_is_refused_with_its_path(kind: Any, place: Place) -> None:
    """At every field of every message; True is no number, and a number is no text."""
    hint = required(place.hint) if is_optional(place.hint) else place.hint
    wrong: list[Any] = [{}]
    wrong += [b""] if hint is not bytes else ["text"]
    wrong += [[]] if hint in (str, bool, int, float, bytes) or is_dataclass(hint) else []
    wrong += [None] if not is_optional(place.hint) else []
    wrong += [True] if hint is not bool else [0, 1]
    wrong += ["surely none of these"] if hint is not str else []
    wrong += [1.0] if hint is not float else ["1.0"]
    wrong += [7] if hint not in (int, float) else []
    for value in wrong:
        with pytest.raises(MalformedMessage) as caught:
            codec.decode(kind, pack(with_value(row_of(kind), place.steps, value)))
        assert str(caught.value).startswith(f"{place.path}: expected "), value


@at_every(lambda hint: hint in (str, bytes) or get_origin(hint) is tuple)
def test_a_bound_is_exact(kind: Any, place: Place) -> None:
    """A string or array as long as declared passes; one more is refused, if not by msgpack."""
    row = row_of(kind)
    if place.hint is str:
        longest: Any = "\N{GREEK SMALL LETTER OMEGA}" * place.bound
        too_long: Any = longest + "x"
    elif place.hint is bytes:
        longest, too_long = bytes(place.bound), bytes(place.bound + 1)
    else:
        longest = at(row, place.steps) * place.bound
        too_long = at(row, place.steps) * (place.bound + 1)
    codec.decode(kind, pack(with_value(row, place.steps, longest)))
    with pytest.raises(MalformedMessage) as caught:
        codec.decode(kind, pack(with_value(row, place.steps, too_long)))
    assert place.path in str(caught.value) or "max_array_len" in str(caught.value)


def at(row: Any, steps: tuple[int, ...]) -> Any:
    for step in steps:
        row = row[step]
    return row


@at_every(lambda hint: hint in (int, float))
@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, LARGEST + 1, -LARGEST - 1, 2**64 - 1, -(2**63), 1e300]
)
def test_no_number_is_out_of_reach(kind: Any, place: Place, value: float) -> None:
    """What JSON could not carry exactly, or arithmetic would choke on, is refused."""
    with pytest.raises(MalformedMessage, match=r"expected a (whole )?number") as caught:
        codec.decode(kind, pack(with_value(row_of(kind), place.steps, value)))
    assert str(caught.value).startswith(place.path)


@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1a", b"\xdc\x4e\x20", b"\xdd\0\0\x4e\x20"])
@pytest.mark.parametrize("depth", [10, 500, 1_000, 100_000])
def test_deep_nesting_is_refused_at_once(opening: bytes, depth: int) -> None:
    """Neither the stack nor the memory goes with it, however much an array claims to hold."""
    started = time.process_time()
    for payload in (opening * depth, bytes([0x92, SCHEMA]) + opening * depth + b"\xc0"):
        with pytest.raises(MalformedMessage):
            codec.decode(Hello, payload)
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"\xdd\xff\xff\xff\xff", id="array"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="map"),
        pytest.param(b"\xdb\xff\xff\xff\xff", id="string"),
        pytest.param(b"\xc6\xff\xff\xff\xff", id="bytes"),
        pytest.param(b"\xc9\xff\xff\xff\xff\x01", id="extension"),
        pytest.param(b"\x92\x02\xd6\xff\0\0\0\0", id="a timestamp"),
        pytest.param(b"\x92\x02\xc7\x00\x05", id="an empty extension"),
        pytest.param(b"\x92\x02\xa2\xc3\x28", id="a string that is not UTF-8"),
        pytest.param(b"\x92\x02\xa3\xed\xa0\x80", id="a surrogate"),
        pytest.param(b"\xc1", id="the byte that msgpack never uses"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_claims_to_be_huge_or_odd_is_refused(payload: bytes) -> None:
    """A claimed length is not believed, and no exotic type gets in."""
    with pytest.raises(MalformedMessage):
        codec.decode(Hello, payload)


@pytest.mark.parametrize("schema", [0, SCHEMA + 1, 99, -1])
def test_another_schema_is_refused_with_its_number(schema: int) -> None:
    """Whoever reads the log sees which side is older."""
    with pytest.raises(MalformedMessage) as caught:
        codec.decode(Hello, msgpack.packb([schema, "whatever it", {"may": "hold"}][:2]))
    assert str(caught.value) == f"schema {schema}, but only {SCHEMA} is understood here"


@pytest.mark.parametrize("raw", [None, 1, "1", {}, [], [None], [True], [1.0], ["1"], [[1]]])
def test_what_has_no_schema_is_refused(raw: Any) -> None:
    """True and 1.0 equal 1 in Python, and are no schema."""
    with pytest.raises(MalformedMessage, match="begins with the schema version"):
        codec.decode(Hello, msgpack.packb(raw))


def test_too_large_a_message_is_not_sent() -> None:
    """The sender hears of it, with both sizes, before the server would."""
    check = CheckSpec("d" * 63, "s" * 60, "a" * 255, 1, Transport.TCP, "tcp", "t" * 64)
    plan = Plan("pc-17", "r", 1.0, 1.0, "", "", "", (), (check,) * 5_000)
    with pytest.raises(MalformedMessage, match=r"Plan of \d+ bytes is over the 1048576 allowed"):
        codec.encode(plan)


def test_too_large_a_message_is_not_read() -> None:
    """Not even looked at, though it would be well-formed."""
    payload = msgpack.packb([SCHEMA, "x" * MAX_MESSAGE])
    with pytest.raises(MalformedMessage, match=f"{len(payload)} bytes are over"):
        codec.decode(Report, payload)


@by_kind
def test_what_was_packed_is_read_like_the_rest(kind: Any) -> None:
    """Deflated or not, whichever is shorter: who reads need not know."""
    message = sample(kind)
    packed = codec.pack(message)
    assert codec.decode(kind, packed) == message
    assert len(packed) <= len(codec.encode(message))


def test_what_repeats_itself_is_deflated() -> None:
    """A roll-up's columns are almost all alike."""
    roll_up = messages.RollUp("r", 0, 1, made=bytes([6]) * 5_000)
    assert len(codec.pack(roll_up)) < 100


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        pytest.param(zlib.compress(bytes(100 * MAX_MESSAGE)), "over the", id="a bomb"),
        pytest.param(zlib.compress(bytes(MAX_MESSAGE + 1)), "over the", id="one too many"),
        pytest.param(zlib.compress(bytes(5_000))[:-1], "has no end", id="cut off"),
        pytest.param(b"\x78", "has no end", id="begun"),
        pytest.param(b"\x78\x9c" + b"\xff" * 20, "not deflated", id="no stream"),
        pytest.param(zlib.compress(b""), "not msgpack", id="of nothing"),
    ],
)
def test_a_bad_stream_is_refused(payload: bytes, reason: str) -> None:
    """However little it is, and however much it would become."""
    with pytest.raises(MalformedMessage, match=reason):
        codec.decode(Hello, payload)


good = st.lists(anything, max_size=4).map(pack)
odd = (
    st.binary(max_size=6)
    | anything.map(msgpack.packb)
    | good.map(lambda one: one[:-1])
    | st.tuples(good, good).map(b"".join)
)


def fields_alone(payload: bytes) -> list[Any]:
    """The fields of a message; none of what is no such message."""
    try:
        row = msgpack.unpackb(payload, use_list=False)
    except (ValueError, msgpack.exceptions.UnpackException):
        return []
    is_one = isinstance(row, tuple) and row and row[0] == SCHEMA
    return [*row[1:]] if is_one else []


@given(st.lists(good, max_size=6) | st.lists(good | odd, max_size=6))
def test_fields_of_many_are_told_by_columns(payloads: list[bytes]) -> None:
    """None for what is left out; what is no message spoils nothing for those beside it."""
    rows = [fields_alone(payload) for payload in payloads]
    longest = max(map(len, rows), default=0)
    padded = [[*row, *[None] * (longest - len(row))] for row in rows]
    found = codec.columns_of(payloads)
    assert repr(found) == repr([*zip(*padded, strict=True)] if longest else [])
