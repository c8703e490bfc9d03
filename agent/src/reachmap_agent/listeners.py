"""Stand-ins for services that are not there: they answer checks on a role's ports.

They never take a port from the real service. Each port has a mode (see ListenMode); on demand, the
default, it is open only for the moments in which another agent checks it. A port that another
program was ever seen on is ceded for good (`reachmap_agent.ceded`).
"""

import asyncio
import errno
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from reachmap_agent.ceded import Ceded, Port
from reachmap_agent.credentials import Contexts
from reachmap_agent.datagrams import DatagramDoor
from reachmap_agent.holders import Holder, Ports, identify, inode
from reachmap_agent.limits import ListenerLimits
from reachmap_agent.outcomes import describe
from reachmap_agent.protocols import REGISTRY
from reachmap_agent.reception import Door, OpenPort, Reception
from reachmap_agent.sockdiag import Listening
from reachmap_agent.streams import StreamDoor
from reachmap_agent.wire.exchange import Offer, StandIn
from reachmap_agent.wire.proof import Endpoint, Identity
from reachmap_shared import log
from reachmap_shared.messages import ListenerReport, ListenerSpec, WindowReply, WindowRequest
from reachmap_shared.vocabulary import ListenerState, ListenMode, Transport

EVERYWHERE: Final = ("0.0.0.0", "::")  # noqa: S104  as the real services bind

_DOORS: Final[Mapping[Transport, Door]] = {Transport.TCP: StreamDoor, Transport.UDP: DatagramDoor}

_SEARCH_S: Final = 0.05
"""For the name of a new holder, in each place where it may be found: the checks wait meanwhile."""

_USUAL_LIMITS: Final = ListenerLimits()

_log = log.get("listeners")


class _Listener:
    """One port of the plan."""

    def __init__(self, spec: ListenerSpec) -> None:
        self.spec = spec
        self.open: OpenPort | None = None
        self.failure = ""
        self.held: Listening | None = None
        """What was in its way at the last look."""
        self.holder = ""
        """Who that is."""
        self.closing: asyncio.TimerHandle | None = None
        """Ends the window that is open on it."""
        self.expected = 0
        """Checks that the window was opened for and that have not come yet."""

    @property
    def port(self) -> Port:
        return self.spec.transport, self.spec.port


class Listeners:
    """The stand-ins of one agent.

    Args:
        addresses: Where to bind; empty for every interface, as real services do.
        ceded: The ports that are not ours.
        limits: What they may cost.
    """

    def __init__(
        self, addresses: Sequence[str], ceded: Ceded, limits: ListenerLimits = _USUAL_LIMITS
    ) -> None:
        self._addresses = tuple(addresses) or EVERYWHERE
        self._ceded = ceded
        self._limits = limits
        self._reception = Reception(limits)
        self._listeners: dict[Port, _Listener] = {}
        self._contexts: Contexts | None = None
        self._identity: Identity | None = None

    def apply(self, specs: Iterable[ListenerSpec], contexts: Contexts, identity: Identity) -> None:
        """Answer for just these ports from now on; those that are open stay so without a gap."""
        self._contexts = contexts
        self._identity = identity
        known = self._listeners
        self._listeners = {}
        for spec in specs:
            listener = known.pop((spec.transport, spec.port), None) or _Listener(spec)
            if listener.spec.mode is not spec.mode:
                self._close(listener)
            listener.spec = spec
            self._listeners[listener.port] = listener
        for gone in known.values():
            self._close(gone)
        self.look()

    def look(self) -> None:
        """See who holds the ports: cede those of others, and open what should always be."""
        self._ceded.reload()
        if not self._listeners:
            return
        self._look_at(self._listeners.values())
        for listener in self._listeners.values():
            if listener.spec.mode is ListenMode.ALWAYS and listener.open is None:
                self._open(listener)

    def window(self, request: WindowRequest) -> WindowReply:
        """Listen on a port for a moment, if it is one of ours and nobody else's."""
        listener = self._listeners.get((request.transport, request.port))
        if listener is None:
            return WindowReply(ListenerState.NEVER, "the port is of no role of this host")
        if listener.spec.mode is ListenMode.ON_DEMAND:
            if listener.open is None:
                self._ceded.reload()
                self._look_at([listener])
                self._open(listener)
            if listener.open is not None:
                seconds = min(max(request.seconds, 0), self._limits.window_s)
                self._keep_open(listener, seconds)
        report = self._report(listener)
        return WindowReply(report.state, report.detail or report.holder)

    def holders(self) -> tuple[str, ...]:
        """Who held each port at the last look at it; empty strings where nobody did."""
        return tuple(listener.holder for listener in self._listeners.values())

    def close(self) -> None:
        """Let go of every port."""
        for listener in self._listeners.values():
            self._close(listener)
        self._listeners.clear()

    def reports(self) -> tuple[ListenerReport, ...]:
        """What became of each port."""
        return tuple(self._report(listener) for listener in self._listeners.values())

    def _report(self, listener: _Listener) -> ListenerReport:
        spec = listener.spec
        detail = ""
        if listener.open is not None:
            state = ListenerState.LISTENING
        elif spec.mode is ListenMode.NEVER:
            state = ListenerState.NEVER
        elif listener.port in self._ceded:
            state = ListenerState.CEDED
        elif listener.failure:
            state, detail = ListenerState.FAILED, listener.failure
        else:
            state = ListenerState.READY
        holder = listener.holder[:300]
        return ListenerReport(spec.service, spec.port, spec.transport, state, detail[:300], holder)

    def _ports(self) -> Ports:
        """Who holds which port now, besides ourselves."""
        own = [
            inode(bound)
            for listener in self._listeners.values()
            if listener.open is not None
            for bound in listener.open.sockets
        ]
        return Ports({listener.spec.transport for listener in self._listeners.values()}, own)

    def _look_at(self, listeners: Collection[_Listener]) -> None:
        """See who is in the way of each; names are looked for only where that is somebody else."""
        ports = self._ports()
        news: dict[Transport, list[_Listener]] = {}
        for listener in listeners:
            spec = listener.spec
            # What is ours cannot be another's.
            is_ours = listener.open is not None
            held = None if is_ours else ports.held(self._addresses, spec.port, spec.transport)
            if held is None:
                listener.holder = ""
            elif held != listener.held:
                news.setdefault(spec.transport, []).append(listener)
            listener.held = held
        for transport, changed in news.items():
            sockets = {listener.held for listener in changed if listener.held is not None}
            for held, holder in identify(sockets, transport, _SEARCH_S).items():
                for listener in changed:
                    if listener.held == held:
                        listener.holder = holder.description
        for listener in listeners:
            if listener.held is not None:
                self._cede(listener)

    def _cede(self, listener: _Listener) -> None:
        if listener.port not in self._ceded:
            spec = listener.spec
            _log.info("port ceded", service=spec.service, port=spec.port, holder=listener.holder)
        self._ceded.add(listener.port)

    def _open(self, listener: _Listener) -> None:
        spec = listener.spec
        if listener.port in self._ceded or spec.mode is ListenMode.NEVER:
            return
        listener.failure = ""
        try:
            listener.open = OpenPort(
                self._addresses,
                spec.port,
                spec.transport,
                self._reception,
                _DOORS[spec.transport],
                lambda local, peer: self._stand_in(listener, local, peer),
                lambda: self._answered(listener),
            )
        except OSError as error:
            if error.errno == errno.EADDRINUSE:  # it came between our look and our bind
                listener.holder = Holder().description
                self._cede(listener)
            else:
                listener.failure = describe(error)
                _log.warning("cannot listen", service=spec.service, reason=listener.failure)

    def _keep_open(self, listener: _Listener, seconds: float) -> None:
        """One more check is expected; close by then, unless somebody asks for longer."""
        loop = asyncio.get_running_loop()
        listener.expected += 1
        end = loop.time() + seconds
        if listener.closing is not None:
            if listener.closing.when() >= end:
                return
            listener.closing.cancel()
        listener.closing = loop.call_at(end, self._close, listener)

    def _answered(self, listener: _Listener) -> None:
        """One of those for whom a window was opened has been served; after the last it closes."""
        if listener.closing is not None and listener.open is not None:
            listener.expected -= 1
            if listener.expected <= 0 and not listener.open.is_busy:
                self._close(listener)

    def _close(self, listener: _Listener) -> None:
        if listener.closing is not None:
            listener.closing.cancel()
            listener.closing = None
        listener.expected = 0
        if listener.open is not None:
            listener.open.close()
            listener.open = None

    def _stand_in(self, listener: _Listener, local: Endpoint, peer: Endpoint) -> StandIn | None:
        """A fresh exchange; None where it takes TLS and the plan brought no certificate."""
        protocol = REGISTRY[listener.spec.protocol]
        tls = self._contexts.server if self._contexts and protocol.uses_tls else None
        if self._identity is None or (protocol.uses_tls and tls is None):
            return None
        offer = Offer(self._identity, peer, local, tls, listener.spec.transport)
        return protocol.stand_in(offer)
