"""Whether a change is one, or a packet that got lost. Pure.

A check that sees something else than the ones before is repeated twice, soon; only when all three
agree is it confirmed. What was seen in between still counts as loss.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from reachmap_shared.messages import Observation
from reachmap_shared.vocabulary import AnsweredBy, Outcome

RECHECK_AFTER_S: Final = (0.3, 0.5)
"""From a suspicious check's end to its first repetition, and from that one's to the second.

However checks disagree, what is waited between them is below two seconds in all."""

AGAIN_WITHIN_S: Final = 1.5
"""How long the repetition of a check that timed out waits for an answer, at most.

The first has sent its SYN three times by then, so this is only about packets that come to be lost
for longer; two SYNs, sent within a second, are enough for that. It lets a timeout count after seven
seconds, not eleven. Two repetitions, and not one: where a packet in a hundred is lost, one would
take a loss for an outage several times a month for each few thousand flows."""

_MAX_DOUBTS: Final = 6
"""Checks that disagree with each other, one after the other, until the latest is taken as it is."""

Face = tuple[Outcome, AnsweredBy | None, bool]

_Flow = tuple[int, str]
"""A slot, and the address where a name has several."""


@dataclass(slots=True)
class _Doubt:
    face: Face
    agreed: int
    seen: int


class Confirmation:
    """What is known of each slot of a plan, and what is in doubt."""

    def __init__(self) -> None:
        self._known: dict[_Flow, Face] = {}
        self._doubts: dict[_Flow, _Doubt] = {}

    def keep(self, slot: int, addresses: Collection[str]) -> None:
        """Forget what other addresses a name had."""
        for known in (self._known, self._doubts):
            for flow in [flow for flow in known if flow[0] == slot and flow[1] not in addresses]:
                del known[flow]

    def timeout_s(self, slot: int, address: str, usual_s: float) -> float:
        """How long the next check of a flow waits for an answer."""
        if not self._doubts:
            return usual_s
        doubt = self._doubts.get((slot, address))
        # A slow answer is none of these: it needs its time to be seen for what it is.
        hurries = doubt is not None and doubt.face[0] is Outcome.TIMEOUT
        return min(usual_s, AGAIN_WITHIN_S) if hurries else usual_s

    def judge(self, observation: Observation) -> tuple[bool, float | None]:
        """Take note of what a check saw.

        Returns:
            Whether it is confirmed, and in how many seconds to check again; None for in its turn.
        """
        flow = observation.slot, observation.address
        face = observation.outcome, observation.answered_by, observation.healthy
        if self._known.setdefault(flow, face) == face:
            self._doubts.pop(flow, None)
            return True, None
        doubt = self._doubts.get(flow)
        if doubt is None:
            doubt = self._doubts[flow] = _Doubt(face, 0, 0)
        elif doubt.face != face:
            doubt.face, doubt.agreed = face, 0
        doubt.agreed += 1
        doubt.seen += 1
        if doubt.agreed <= len(RECHECK_AFTER_S) and doubt.seen < _MAX_DOUBTS:
            return False, RECHECK_AFTER_S[doubt.agreed - 1]
        self._known[flow] = face
        del self._doubts[flow]
        return True, None
