"""An agent like any other, but for what it says as a witness. Run like the agent's own command.

It speaks the bus's own protocol by its own good name. The variable FALSEHOOD says what is wrong
with it.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from reachmap_agent.cli import main
from reachmap_agent.diagnosis.witness import Witness
from reachmap_shared import keys
from reachmap_shared.diagnosis import Phase, WitnessReply, WitnessRequest, opened, seal

LATE_S: Final = 4.0
"""Longer than anybody waits for an answer."""


def lying(payload: bytes, pair: bytes) -> bytes:
    """What a witness says that has something to hide, under its own good key."""
    reply = opened(WitnessReply, payload, pair)
    if reply.testimony is None:
        return payload
    told = reply.testimony
    told = replace(told, listens=True, rows=(), sight=replace(told.sight, packets=()))
    return seal(replace(reply, testimony=told), pair)


def forged(payload: bytes, pair: bytes) -> bytes:
    """What somebody says who has not the key."""
    return seal(opened(WitnessReply, payload, pair), b"another's key")


FALSEHOODS: Final[Mapping[str, Callable[[bytes, bytes], bytes]]] = {
    "lying": lying,
    "forged": forged,
}


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
        return FALSEHOODS[kind](reply, pair)


if __name__ == "__main__":
    import reachmap_agent.witnesses

    reachmap_agent.witnesses.Witness = FalseWitness
    main()
