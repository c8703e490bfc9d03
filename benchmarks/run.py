"""`make bench`: how much reachmap costs, and how true what it says is, each against its goal.

    run.py [SUBJECT ...]     all of them, or those that are named

Absolute rates belong to the machine; ratios to a floor or a peer in the same run are what to look
at.
"""

import sys

import accuracy
import agent_cost
import alerts
import connect_rate
import flow_map
import footprint
import ingest
import lateness
import listeners
import one_destination
import planning
import questions
import restart
import spool
import store
import wire

SUBJECTS = {
    "connect_rate": connect_rate.main,
    "accuracy": accuracy.main,
    "footprint": footprint.main,
    "lateness": lateness.main,
    "listeners": listeners.main,
    "one_destination": one_destination.main,
    "planning": planning.main,
    "map": flow_map.main,
    "alerts": alerts.main,
    "restart": restart.main,
    "store": store.main,
    "ingest": ingest.main,
    "questions": questions.main,
    "wire": wire.main,
    "spool": spool.main,
    "agent_cost": agent_cost.main,
}


def main(names: list[str]) -> None:
    """Measure and print what is named; everything if nothing is."""
    unknown = [name for name in names if name not in SUBJECTS]
    if unknown:
        sys.exit(f"no such subject: {', '.join(unknown)}; there are: {', '.join(SUBJECTS)}")
    for name in names or SUBJECTS:
        SUBJECTS[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
