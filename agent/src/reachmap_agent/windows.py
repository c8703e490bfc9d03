"""Windows between agents: asking another to listen for the moment of a check, and being asked.

Only who has the flow in its plan is heard: its plan has the pair's key, by which the request is
proved, and this host derives that key from its own.
"""

import hmac
from collections.abc import Callable
from typing import Final

from reachmap_agent.listeners import Listeners
from reachmap_shared import codec, keys, log, subjects
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable, InvalidName, MalformedMessage
from reachmap_shared.messages import CheckSpec, WindowReply, WindowRequest
from reachmap_shared.vocabulary import ListenerState

_ANSWER_S: Final = 1.0
"""For another agent's answer: it is a lookup and a bind away."""

_log = log.get("windows")


class Windows:
    """What one agent asks of others for its checks, and they of it.

    Args:
        agent: Its name.
        listeners: What is opened for others.
        news: Is called when a request has shown that a service came or went.
    """

    def __init__(self, agent: str, listeners: Listeners, news: Callable[[], None]) -> None:
        self._agent = agent
        self._listeners = listeners
        self._news = news
        self._host_key: bytes | None = None
        self.connection: Bus | None = None
        """None while there is no bus."""
        self.refused = 0
        """Requests of those who had no right to ask."""

    def take_up(self, host_key: bytes) -> None:
        """By which requests are proved from now on."""
        self._host_key = host_key

    async def ask(self, spec: CheckSpec, seconds: float) -> WindowReply | None:
        """Ask a check's destination to listen for so many seconds; None when it cannot be asked."""
        if self.connection is None or not self.connection.is_connected:
            return None
        said = ("window", self._agent, spec.destination, spec.port, spec.transport)
        mac = keys.request_mac(keys.from_text(spec.key), *said)
        question = WindowRequest(self._agent, spec.port, spec.transport, seconds, mac)
        subject = subjects.window(spec.destination, self._agent)
        try:
            answer = await self.connection.ask(
                subject, codec.encode(question), _ANSWER_S, answerer=spec.destination
            )
            return codec.decode(WindowReply, answer)
        except (BusUnavailable, MalformedMessage):
            return None

    async def answer(self, subject: str, payload: bytes) -> bytes:
        """Open a window for another agent, if it has the right to ask."""
        try:
            request = codec.decode(WindowRequest, payload)
            allowed = self._allows(subjects.sender(subject), request)
        except (MalformedMessage, InvalidName) as error:
            reply = WindowReply(ListenerState.FAILED, str(error)[:300])
        else:
            if allowed:
                before = self._listeners.holders()
                reply = self._listeners.window(request)
                if self._listeners.holders() != before:
                    self._news()
            else:
                self._refuse(request)
                reply = WindowReply(ListenerState.FAILED, "that flow is of no plan of the asker's")
        return codec.encode(reply)

    def _allows(self, sender: str, request: WindowRequest) -> bool:
        if self._host_key is None or request.source != sender:
            return False
        key = keys.pair_key(self._host_key, keys.source_id(sender))
        said = ("window", sender, self._agent, request.port, request.transport)
        return hmac.compare_digest(keys.request_mac(key, *said).encode(), request.mac.encode())

    def _refuse(self, request: WindowRequest) -> None:
        self.refused += 1
        # At each doubling: whoever asks again and again fills no log.
        if self.refused & (self.refused - 1) == 0:
            _log.warning(
                "window refused", source=request.source, port=request.port, refused=self.refused
            )
