"""The destination's side: watches a check that another agent makes, and tells what came of it.

Only whoever has the flow in its plan is heard: a request bears a MAC by the pair's key. It costs
an answer to be asked, and a tap and a look at one port's connections five times a second to watch;
no more than a few are watched at once, none for long. Asked to, it walks the way back of an answer
that it was seen to give: to who asked, and to nobody else, and once a check at most.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from reachmap_agent.diagnosis import host
from reachmap_agent.diagnosis.back import BackWalk
from reachmap_agent.diagnosis.policy import Bucket
from reachmap_agent.diagnosis.sight import Looking
from reachmap_shared import keys
from reachmap_shared.diagnosis import (
    BLOCK,
    Phase,
    Row,
    RowState,
    Sight,
    Testimony,
    WitnessReply,
    WitnessRequest,
    WitnessState,
    opened,
    seal,
)
from reachmap_shared.errors import MalformedMessage
from reachmap_shared.vocabulary import ListenerState, Transport

OpenWindow = Callable[[Transport, int, float], ListenerState]
"""Opens this host's own listener on a port for so many seconds, where nobody else has the port."""

MAX_WATCHES: Final = 4
MAX_WATCH_S: Final = 40.0
"""However long it is asked for: longer than any diagnosis takes."""

WALKS: Final = (2, 10.0)
"""Ways back that are walked for one source: so many at once, then one in so many seconds."""

_LOOK_S: Final = 0.2
_WINDOW_S: Final = 1.0
"""A window that is asked for again and again is open as long, and no longer than it is needed."""
_PROGRESS: Final = {RowState.HALF_OPEN: 0, RowState.OTHER: 1, RowState.ESTABLISHED: 2}


@dataclass(slots=True)
class _Watch:
    request: WitnessRequest
    looking: Looking
    began: float
    until: float
    listener: ListenerState | None = None
    rows: dict[tuple[str, int], Row] = field(default_factory=dict)
    """The furthest that each connection was seen to be, by where it comes from."""
    timer: asyncio.TimerHandle | None = None
    back: BackWalk | None = None


class Witness:
    """Watches for others.

    Args:
        name: This host's.
        open_window: Opens a listener of this host's.
    """

    def __init__(self, name: str, open_window: OpenWindow) -> None:
        self._name = name
        self._open_window = open_window
        self._watches: dict[str, _Watch] = {}
        self._walks: dict[str, Bucket] = {}
        """By source: how many may be walked to it."""

    def answer(self, source: str, payload: bytes, host_key: bytes) -> bytes | None:
        """Do what is asked; None for whoever may not ask.

        Args:
            source: Who sends the request, by the bus's own word.
            payload: What was sent.
            host_key: By which this host's keys with others are made.
        """
        key = keys.pair_key(host_key, keys.source_id(source))
        try:
            request = opened(WitnessRequest, payload, key)
        except MalformedMessage:
            return None
        mine = (request.source, request.destination) == (source, self._name)
        if not mine or not _is_sound(request):
            return None
        return seal(_DOES[request.phase](self, request), key)

    def close(self) -> None:
        """Watch nothing any more."""
        for watch in list(self._watches.values()):
            self._forget(watch)

    def _watch(self, request: WitnessRequest) -> WitnessReply:
        if request.check in self._watches:
            return WitnessReply(request.check, WitnessState.REFUSED, detail="already watched")
        if len(self._watches) >= MAX_WATCHES:
            return WitnessReply(request.check, WitnessState.BUSY)
        looking = Looking(
            request.transport,
            request.address,
            request.port,
            request.block,
            request.mark,
            serves=True,
        )
        now = time.monotonic()
        watch = _Watch(request, looking, now, now + min(max(request.seconds, 0), MAX_WATCH_S))
        self._watches[request.check] = watch
        self._look(watch)
        ours = watch.listener is ListenerState.LISTENING
        walks = looking.taps and request.transport is Transport.TCP
        return WitnessReply(request.check, WitnessState.WATCHING, listens=ours, walks=walks)

    def _look(self, watch: _Watch) -> None:
        """Keep the window open, and see which connections there are."""
        if watch.timer is not None:
            watch.timer.cancel()
        now = time.monotonic()
        if now >= watch.until:
            self._forget(watch)
            return
        request = watch.request
        seconds = min(_WINDOW_S, watch.until - now)
        watch.listener = self._open_window(request.transport, request.port, seconds)
        if request.transport is Transport.TCP:
            for row in host.connections(request.port, request.block):
                _note(watch.rows, row)
        loop = asyncio.get_running_loop()
        watch.timer = loop.call_later(_LOOK_S, self._look, watch)

    def _walk(self, request: WitnessRequest) -> WitnessReply:
        """Find out how far an answer to the check gets, if one was seen to leave."""
        refused = WitnessReply(request.check, WitnessState.REFUSED)
        watch = self._watches.get(request.check)
        if watch is None or watch.request.source != request.source:
            return replace(refused, detail="not watched")
        now = time.monotonic()
        if watch.back is not None or not self._may_walk(request.source, now):
            return replace(refused, state=WitnessState.BUSY)
        answers = watch.looking.answers()
        if not answers:
            return replace(refused, detail="no answer was seen to leave")
        try:
            watch.back = BackWalk(answers[0])
        except OSError as error:
            return replace(refused, detail=error.strerror or "it cannot be walked")
        self._walks.setdefault(request.source, Bucket(*WALKS, now)).take(now)
        return WitnessReply(request.check, WitnessState.WALKING)

    def _may_walk(self, source: str, now: float) -> bool:
        full = [one for one, bucket in self._walks.items() if bucket.is_full(now)]
        for one in full:  # who has not asked for long is like one who never did
            del self._walks[one]
        return source not in self._walks or self._walks[source].ready_at(now) <= now

    def _tell(self, request: WitnessRequest) -> WitnessReply:
        watch = self._watches.get(request.check)
        if watch is None or watch.request.source != request.source:
            return WitnessReply(request.check, WitnessState.REFUSED, detail="not watched")
        self._look(watch)
        if request.check not in self._watches:  # its time was up
            return WitnessReply(request.check, WitnessState.REFUSED, detail="not watched")
        asked = watch.request
        found = host.listens(asked.address, asked.port, asked.transport)
        ours = watch.listener is ListenerState.LISTENING
        holder = host.describe(found, asked.transport) if found is not None and not ours else ""
        sight = watch.looking.end()
        rows = [watch.rows[place] for place in sorted(watch.rows)]
        told = Testimony(
            watched_ms=round((time.monotonic() - watch.began) * 1000),
            is_local=host.is_local(asked.address),
            listens=found is not None,
            holder=holder[:300],
            listener=watch.listener,
            route_back=host.route_error(asked.address, _peer(watch, sight)),
            rows=tuple(rows[:BLOCK]),
            sight=sight,
            back=watch.back.hops() if watch.back is not None else (),
        )
        self._forget(watch)
        return WitnessReply(request.check, WitnessState.TOLD, told)

    def _forget(self, watch: _Watch) -> None:
        if watch.timer is not None:
            watch.timer.cancel()
        if watch.back is not None:
            watch.back.close()
        watch.looking.close()
        self._watches.pop(watch.request.check, None)


_DOES: Final[Mapping[Phase, Callable[[Witness, WitnessRequest], WitnessReply]]] = {
    Phase.WATCH: Witness._watch,
    Phase.WALK: Witness._walk,
    Phase.TELL: Witness._tell,
}


def _note(rows: dict[tuple[str, int], Row], row: Row) -> None:
    place = row.peer, row.peer_port
    before = rows.get(place, row)
    further = before if _PROGRESS[before.state] > _PROGRESS[row.state] else row
    unread, unacked = max(before.unread, row.unread), max(before.unacked, row.unacked)
    rows[place] = replace(further, unread=unread, unacked=unacked)


def _peer(watch: _Watch, sight: Sight) -> str:
    """Where answers go: to whom the packets came from, which address translation may have made."""
    came = [one.peer for one in sight.packets if one.ours and one.inbound and one.peer]
    came += [peer for peer, _ in watch.rows]
    return came[0] if came else watch.request.local


def _is_sound(request: WitnessRequest) -> bool:
    """Whether its numbers are such as an agent sends."""
    return (
        1 <= request.port <= 65535
        and 0 <= request.block <= 65536 - BLOCK
        and request.block % BLOCK == 0
    )
