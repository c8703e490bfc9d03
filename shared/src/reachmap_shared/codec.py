"""Messages to bytes and back. Pure.

A message is the msgpack array `[SCHEMA, field, field, ...]`, its fields in the order in which the
dataclass declares them; nested dataclasses are arrays too. So a report costs no names on the
wire, a newer sender's extra fields at the end are passed over, and an older sender's missing ones
take their defaults. Everything else that is not as declared is refused whole: no field is ever
guessed, and no length goes unchecked.

What is kept or sent in bulk is deflated as well (`pack`): then it begins with the 0x78 of a zlib
stream (RFC 1950), which no message does, and `decode` reads either.
"""

import types
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, make_dataclass
from enum import StrEnum
from functools import cache
from itertools import accumulate, repeat, zip_longest
from typing import Annotated, Any, Final, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgpack

from reachmap_shared.errors import MalformedMessage

SCHEMA: Final = 2
"""Raised only when an old receiver would misread a new message."""

MAX_MESSAGE: Final = 1 << 20
"""Bytes in one message: the NATS server's own default limit."""

_ZLIB: Final = b"\x78"

_SMALL: Final = MAX_MESSAGE // 1032
"""Octets that cannot become more than a message when they are inflated: deflating makes at most
1,032 octets one. Those need no guard, which costs more than to inflate them."""

_MAX_STRING: Final = 255
_MAX_INT: Final = 2**53
_MAX_DEPTH_ITEMS: Final = 20_000

Message = TypeVar("Message")
Reader = Callable[[object], Any]
"""Turns one decoded msgpack value into a field's value; raises _Unfit where it is none."""


class _Unfit(Exception):
    """A value that is not as declared.

    Its path is found on the way out: most messages are right, and shall not pay for the names of
    all their fields.
    """

    def __init__(self, expected: str) -> None:
        super().__init__(expected)
        self.expected = expected
        self.path: list[str] = []
        """Innermost first."""


@dataclass(frozen=True, slots=True)
class Max:
    """A field's own bound: characters of a string, items of a tuple, octets of bytes."""

    size: int


def in_bulk(kind: type[Message]) -> type[Message]:
    """Mark a message of which thousands are decoded in a second."""
    _IN_BULK.add(kind)
    return kind


_IN_BULK: Final[set[type]] = set()


def encode(message: object) -> bytes:
    """A message's bytes. Raises MalformedMessage when they would be too many to send."""
    payload = cast("bytes", msgpack.packb([SCHEMA, *_row(message)], use_bin_type=True))
    if len(payload) > MAX_MESSAGE:
        raise MalformedMessage(
            f"{type(message).__name__} of {len(payload)} bytes is over the {MAX_MESSAGE} allowed"
        )
    return payload


def pack(message: object) -> bytes:
    """A message's bytes, deflated where that makes them fewer."""
    payload = encode(message)
    packed = zlib.compress(payload)
    return packed if len(packed) < len(payload) else payload


def decode(kind: type[Message], payload: bytes) -> Message:
    """Read a message of the given kind; raises MalformedMessage with path and reason."""
    if payload[:1] == _ZLIB:
        payload = _inflated(payload)
    if len(payload) > MAX_MESSAGE:
        raise MalformedMessage(f"{len(payload)} bytes are over the {MAX_MESSAGE} allowed")
    try:
        raw = msgpack.unpackb(
            payload,
            raw=False,
            strict_map_key=True,
            max_array_len=_MAX_DEPTH_ITEMS,
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, RecursionError, msgpack.exceptions.UnpackException) as error:
        raise MalformedMessage(f"not msgpack: {error}") from error
    if not isinstance(raw, list) or not raw or type(raw[0]) is not int:
        raise MalformedMessage("expected an array that begins with the schema version")
    if raw[0] != SCHEMA:
        raise MalformedMessage(f"schema {raw[0]}, but only {SCHEMA} is understood here")
    try:
        return cast("Message", _reader(cast("Any", kind))(raw[1:]))
    except _Unfit as unfit:
        path = "".join(reversed(unfit.path))
        raise MalformedMessage(f"{kind.__name__}{path}: expected {unfit.expected}") from None


def columns_of(payloads: Sequence[bytes]) -> list[tuple[Any, ...]]:
    """The fields of messages that this program wrote itself, by columns, arrays as tuples.

    None stands for a field that was left out, and for each of what is no such message. Nothing of
    them is checked: so it takes a twentieth of the time that `decode` does. Some hundreds at once
    are best.
    """
    try:
        rows = _streamed(payloads)
    except (ValueError, msgpack.exceptions.UnpackException):
        rows = [*map(_alone, payloads)]
    fitting = (row if type(row) is tuple and row and row[0] == SCHEMA else () for row in rows)
    return [*zip_longest(*fitting)][1:]


def _streamed(payloads: Sequence[bytes]) -> list[Any]:
    """Values in one go; raises ValueError where one does not end with its payload."""
    stream = msgpack.Unpacker(raw=False, use_list=False)
    stream.feed(b"".join(payloads))
    values, where = [], stream.tell
    for value, end in zip(stream, accumulate(map(len, payloads)), strict=True):
        if where() != end:
            raise ValueError
        values.append(value)
    return values


def _alone(payload: bytes) -> Any:
    """A value by itself; None where there is none."""
    try:
        return msgpack.unpackb(payload, raw=False, use_list=False)
    except (ValueError, msgpack.exceptions.UnpackException):
        return None


def _inflated(payload: bytes) -> bytes:
    if len(payload) > _SMALL:
        return _inflated_with_care(payload)
    try:
        return zlib.decompress(payload, bufsize=8 * len(payload))
    except zlib.error:  # what is wrong with it is told there
        return _inflated_with_care(payload)


def _inflated_with_care(payload: bytes) -> bytes:
    stream = zlib.decompressobj()
    try:
        plain = stream.decompress(payload, MAX_MESSAGE + 1)  # however much more there would be
    except zlib.error as error:
        raise MalformedMessage(f"not deflated: {error}") from error
    if not stream.eof and len(plain) <= MAX_MESSAGE:
        raise MalformedMessage("the deflated stream has no end")
    return plain


def _row(value: Any) -> list[Any]:
    """Its fields in order, without those at the end that are as by default."""
    names, defaults = _fields(value.__class__)
    row = [getattr(value, name) for name in names]
    while (
        row
        and len(row) > len(names) - len(defaults)
        and row[-1] == defaults[len(row) - len(names) - 1]
    ):
        row.pop()
    return [_plain(item) for item in row]


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if is_dataclass(value):
        return _row(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


@cache
def _fields(kind: type) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """The names of all fields, and the defaults of the last ones, which are all that have any."""
    names = tuple(one.name for one in fields(kind))
    return names, tuple(one.default for one in fields(kind) if one.default is not MISSING)


@cache
def _reader(hint: Any, size: int | None = None) -> Reader:
    """Build the reader for a field's type, once for each type."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *marks = get_args(hint)
        bound = next((mark.size for mark in marks if isinstance(mark, Max)), size)
        return _reader(inner, bound)
    if origin in (Union, types.UnionType):
        (inner,) = (arm for arm in get_args(hint) if arm is not type(None))
        return _optional(_reader(inner, size))
    if origin is tuple:
        return _tuple(_reader(get_args(hint)[0]), size if size is not None else _MAX_STRING)
    if is_dataclass(hint):
        return _dataclass(cast("type", hint))
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _enum(hint)
    if hint is str:
        return _string(size if size is not None else _MAX_STRING)
    if hint is bytes:
        return _bytes(size if size is not None else _MAX_STRING)
    return _SCALARS[hint]


def _dataclass(kind: type) -> Reader:
    hints = get_type_hints(kind, include_extras=True)
    names = [one.name for one in fields(kind)]
    readers = [_reader(hints[name]) for name in names]
    required = sum(one.default is MISSING for one in fields(kind))
    expected = f"an array of at least {required}"
    make = _quick_maker(kind) if kind in _IN_BULK else kind

    def read(value: object) -> Any:
        if not isinstance(value, list) or len(value) < required:
            raise _Unfit(expected)
        try:
            return make(*[reader(item) for reader, item in zip(readers, value, strict=False)])
        except _Unfit as unfit:
            unfit.path.append(f".{names[_first_unfit(readers, value)]}")
            raise

    return read


def _quick_maker(kind: type) -> Callable[..., Any]:
    """Makes what a frozen dataclass itself would, in a third of the time.

    It sets each of its own fields by a detour. A class with the same slots that is not frozen does
    without; what it made becomes one of the other class afterwards, and is frozen from then on.
    """
    draft: Any = make_dataclass(
        kind.__name__,
        [(one.name, Any, field(default=one.default)) for one in fields(kind)],
        slots=True,
    )

    def make(*values: Any) -> Any:
        made = draft(*values)
        made.__class__ = kind
        return made

    return make


def _first_unfit(readers: Iterable[Reader], items: Iterable[object]) -> int:
    """Which of the items is not as declared: looked for again, so that right ones cost less."""
    for place, (reader, item) in enumerate(zip(readers, items, strict=False)):
        try:
            reader(item)
        except _Unfit:
            return place
    raise AssertionError("all are as declared")


def _tuple(item_reader: Reader, size: int) -> Reader:
    expected = f"an array of at most {size}"

    def read(value: object) -> Any:
        if not isinstance(value, list) or len(value) > size:
            raise _Unfit(expected)
        try:
            return tuple([item_reader(item) for item in value])
        except _Unfit as unfit:
            unfit.path.append(f"[{_first_unfit(repeat(item_reader), value)}]")
            raise

    return read


def _optional(inner: Reader) -> Reader:
    return lambda value: None if value is None else inner(value)


def _enum(kind: type[StrEnum]) -> Reader:
    members = {member.value: member for member in kind}
    expected = f"one of {', '.join(members)}"

    def read(value: object) -> Any:
        member = members.get(value) if isinstance(value, str) else None
        if member is None:
            raise _Unfit(expected)
        return member

    return read


def _string(size: int) -> Reader:
    expected = f"a string of at most {size} characters"

    def read(value: object) -> Any:
        if not isinstance(value, str) or len(value) > size:
            raise _Unfit(expected)
        return value

    return read


def _bytes(size: int) -> Reader:
    expected = f"at most {size} octets"

    def read(value: object) -> Any:
        if not isinstance(value, bytes) or len(value) > size:
            raise _Unfit(expected)
        return value

    return read


def _int(value: object) -> Any:
    if type(value) is not int or not -_MAX_INT <= value <= _MAX_INT:
        raise _Unfit("a whole number")
    return value


def _float(value: object) -> Any:
    if type(value) not in (int, float) or not -_MAX_INT <= cast("float", value) <= _MAX_INT:
        raise _Unfit("a number")
    return float(cast("float", value))


def _bool(value: object) -> Any:
    if type(value) is not bool:
        raise _Unfit("true or false")
    return value


_SCALARS: Final[dict[Any, Reader]] = {int: _int, float: _float, bool: _bool}
