"""An agent like any other, but for what it says as a witness. Run like the agent's own command.

It speaks the bus's own protocol by its own good name. The variable FALSEHOOD says what is wrong
with it.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from reachmap_agent.cli import main
from reachmap_agent.diagnosis.witness import Witness
from reachmap_shared import keys
from reachmap_shared.diagnosis import (
    Counters,
    PacketKind,
    Packets,
    Phase,
    Sight,
    TapState,
    Testimony,
    WitnessReply,
    WitnessRequest,
    opened,
    seal,
)

LATE_S: Final = 4.0
"""Longer than anybody waits for an answer."""


def hides(told: Testimony, _request: WitnessRequest) -> Testimony:
    """It listened, and nothing came."""
    return replace(told, listens=True, rows=(), sight=replace(told.sight, packets=()))


def boasts(told: Testimony, request: WitnessRequest) -> Testimony:
    """All came, and was answered."""
    return replace(told, sight=_made_up(told.sight, request, PacketKind.SYN_ACK))


def closes(told: Testimony, request: WitnessRequest) -> Testimony:
    """All came, and nothing listened."""
    sight = _made_up(told.sight, request, PacketKind.RST)
    return replace(told, listens=False, sight=replace(sight, counters=Counters(resets_out=9)))


def _made_up(sight: Sight, request: WitnessRequest, answer: PacketKind) -> Sight:
    """With packets from the first ports of the block, and an answer to each."""
    kinds = ((True, PacketKind.SYN), (False, answer))
    packets = tuple(
        Packets(inbound, kind, request.local, port, True, 1)
        for port in range(request.block, request.block + 2)
        for inbound, kind in kinds
    )
    return replace(sight, tap=TapState.WORKS, packets=packets)


Lie = Callable[[Testimony, WitnessRequest], Testimony]


def lies(lie: Lie, reply: bytes, request: bytes, pair: bytes) -> bytes:
    """What a witness says that has something to hide, under its own good key."""
    said = opened(WitnessReply, reply, pair)
    if said.testimony is None:
        return reply
    told = lie(said.testimony, opened(WitnessRequest, request, pair))
    return seal(replace(said, testimony=told), pair)


def forged(reply: bytes, _request: bytes, pair: bytes) -> bytes:
    """What somebody says who has not the key."""
    return seal(opened(WitnessReply, reply, pair), b"another's key")


FALSEHOODS: Final[Mapping[str, Callable[[bytes, bytes, bytes], bytes]]] = {
    "lying": partial(lies, hides),
    "boasting": partial(lies, boasts),
    "closed": partial(lies, closes),
    "forged": forged,
}
"""By name, what makes a false answer of a true one, given the request and the key of the pair."""


class FalseWitness(Witness):
    """Watches as it should, and tells something else, or too late."""

    def answer(self, source: str, payload: bytes, host_key: bytes) -> bytes | None:
        reply = super().answer(source, payload, host_key)
        pair = keys.pair_key(host_key, keys.source_id(source))
        kind = os.environ["FALSEHOOD"]
        if reply is None:
            return None
        if kind == "slow":
            if opened(WitnessRequest, payload, pair).phase is Phase.TELL:
                time.sleep(LATE_S)  # the whole host hangs
            return reply
        return FALSEHOODS[kind](reply, payload, pair)


if __name__ == "__main__":
    import reachmap_agent.witnesses

    reachmap_agent.witnesses.Witness = FalseWitness
    main()
