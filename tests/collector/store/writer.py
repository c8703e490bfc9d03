"""Starts writers, one after the other; each commits batch after batch until it is killed.

For each line of input, the number of the batch to go on from, a writer is forked off: its process
id is said, the number of batches after each commit, and `killed` when it was. So no time goes to
loading libraries.
"""

import os
import signal
import sys

from reachmap_collector.planner import FlowKey
from reachmap_collector.store import open_store
from reachmap_collector.store.api import Batch, PackedRollUp, Received, Transition
from reachmap_shared.vocabulary import Outcome, Transport

EACH = 20


def main() -> None:
    """Start writers until there is no more input."""
    open_store(os.environ["STORE_URL"]).close()  # loads what writers need, and asks for nothing
    for line in sys.stdin:
        writer = os.fork()
        if not writer:
            say(str(os.getpid()))
            write(int(line))
        _, status = os.waitpid(writer, 0)
        say("killed" if os.waitstatus_to_exitcode(status) == -signal.SIGKILL else "it ended")


def write(number: int) -> None:
    """Go on from a batch."""
    store = open_store(os.environ["STORE_URL"])
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
        say(str(number))


def say(line: str) -> None:
    """At once and whole, whoever else writes there."""
    os.write(1, line.encode() + b"\n")


if __name__ == "__main__":
    main()
