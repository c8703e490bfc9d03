"""The way of a message from the socket to whoever listens, for those that come in bulk.

nats-py builds an object of each message, puts it into its subscription's queue, and wakes a task
that takes it from there: three quarters of what a message costs here. Those that are listened to
are handed over as they stand in what was read; all else goes the client's own way, in its order.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from reachmap_shared import lean, log

with lean.imports():
    from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

if TYPE_CHECKING:
    from reachmap_shared.client import GuardedClient

_MSG: Final = re.compile(rb"MSG ([^\s]+) (\d+) (?:([^\s]+) )?(\d+)\r\n")
"""As a server writes it; the protocol would allow more blanks."""

_END: Final = len(b"\r\n")

_LONGEST_WAIT: Final = 1 << 16
"""Octets of the beginning of a message that wait here for its end; the client's own parser waits
for a longer one, without looking at its beginning again."""


class Delivery(NamedTuple):
    """A message as it came."""

    subject: str
    payload: bytes
    reply: str
    """Where an answer is expected; empty where none is."""
    headers: Mapping[str, str]


Listener = Callable[[Delivery], None]

_log: Final = log.get("bus")

_NO_HEADERS: Final[Mapping[str, str]] = {}


class StraightParser(Parser):
    """The client's, but for messages of subscriptions that somebody listens to."""

    def __init__(self, client: "GuardedClient") -> None:
        super().__init__(client)
        self.listeners: dict[bytes, Listener] = {}
        """By the number of the subscription."""

    async def parse(self, data: bytes = b"") -> None:
        """Take what was read."""
        if self.listeners and self.state == AWAITING_CONTROL_LINE:
            data = bytes(self.buf) + data
            self.buf.clear()
            taken, is_to_wait = self._hand_over(data)
            data = data[taken:]
            if is_to_wait:
                self.buf += data
                return
        await super().parse(data)

    def _hand_over(self, data: bytes) -> tuple[int, bool]:
        """Up to where messages were handed over, and whether the next one's end is to come."""
        place, count, octets = 0, 0, 0
        listeners, length = self.listeners, len(data)
        try:
            while (head := _MSG.match(data, place)) is not None:
                subject, number, reply, size = head.groups(b"")
                heard = listeners.get(number)
                if heard is None:
                    return place, False
                begin = head.end()
                end = begin + int(size)
                if end + _END > length:
                    return place, end - begin <= _LONGEST_WAIT
                place = end + _END
                count += 1
                octets += end - begin
                message = Delivery(subject.decode(), data[begin:end], reply.decode(), _NO_HEADERS)
                try:
                    heard(message)
                except Exception:  # noqa: BLE001  one bad message must not end the connection
                    _log.exception("message failed", subject=message.subject)
            return place, False
        finally:
            stats: dict[str, Any] = self.nc.stats
            stats["in_msgs"] += count
            stats["in_bytes"] += octets
