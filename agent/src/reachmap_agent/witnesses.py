"""Witnesses between agents: asking another what it sees of a check, and being asked.

Only who has the flow in its plan is heard, as with windows; whoever has not gets no answer at all.
"""

from typing import Final

from reachmap_agent.diagnosis.witness import Witness
from reachmap_agent.listeners import Listeners
from reachmap_shared import log, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable, InvalidName
from reachmap_shared.messages import WindowRequest
from reachmap_shared.vocabulary import ListenerState, Transport

_ANSWER_S: Final = 1.5
"""For another agent's answer: it looks through its sockets, and through its processes at most."""

_log = log.get("witnesses")


class Witnesses:
    """What one agent asks of others for its diagnoses, and they of it.

    Args:
        agent: Its name.
        listeners: What is opened for others.
    """

    def __init__(self, agent: str, listeners: Listeners) -> None:
        self._agent = agent
        self._listeners = listeners
        self._witness = Witness(agent, self._open_window)
        self._host_key: bytes | None = None
        self.connection: Bus | None = None
        """None while there is no bus."""
        self.refused = 0
        """Requests of those who had no right to ask."""

    def take_up(self, host_key: bytes) -> None:
        """By which requests are proved from now on."""
        self._host_key = host_key

    async def ask(self, destination: str, request: bytes) -> bytes | None:
        """Carry a sealed request to a destination's agent; None when it does not answer."""
        if self.connection is None or not self.connection.is_connected:
            return None
        subject = subjects.witness(destination, self._agent)
        try:
            return await self.connection.ask(subject, request, _ANSWER_S, answerer=destination)
        except BusUnavailable:
            return None

    async def answer(self, subject: str, payload: bytes) -> bytes | None:
        """Watch or tell, for another agent that has the right to ask."""
        reply = source = None
        try:
            source = subjects.sender(subject)
            if self._host_key is not None:
                reply = self._witness.answer(source, payload, self._host_key)
        except InvalidName:  # a server that keeps to no permissions carries anything
            pass
        if reply is None:
            self._refuse(source)
        return reply

    def close(self) -> None:
        """Watch nothing any more."""
        self._witness.close()

    def _open_window(self, transport: Transport, port: int, seconds: float) -> ListenerState:
        # Its right to ask is proved already.
        return self._listeners.window(WindowRequest("", port, transport, seconds)).state

    def _refuse(self, source: str | None) -> None:
        self.refused += 1
        # At each doubling: whoever asks again and again fills no log.
        if self.refused & (self.refused - 1) == 0:
            _log.warning("witness refused", source=source or "", refused=self.refused)
