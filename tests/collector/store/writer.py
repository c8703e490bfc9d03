"""Commits batch after batch, and says the number of each once it is committed, until killed."""

import os
import sys

from reachmap_collector.planner import FlowKey
from reachmap_collector.store import open_store
from reachmap_collector.store.api import Batch, PackedRollUp, Received, Transition
from reachmap_shared.vocabulary import Outcome, Transport

EACH = 20


def main() -> None:
    """Go on from the batch whose number is the argument."""
    store = open_store(os.environ["STORE_URL"])
    number = int(sys.argv[1])
    while True:
        flows = [
            FlowKey("agent", f"host-{number % 50}", "10.0.0.1", port, Transport.TCP)
            for port in range(EACH)
        ]
        at = 1000.0 + number
        changes = tuple(
            Transition(
                "agent",
                "boot",
                number * EACH + place,
                flow,
                "s:1",
                at,
                Outcome.OPEN,
                True,
                b"x" * 60,
            )
            for place, flow in enumerate(flows)
        )
        rollup = PackedRollUp("agent", "boot", number, "one", at, at + 1, b"y" * 5000)
        number += 1
        received = Received("agent", "boot", ((0, number),), number, number, at)
        store.commit(Batch(changes, (rollup,), (received,)))
        os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    main()
