"""Spools as tests look into them, and clocks that go when a test says so."""

from reachmap_agent.backlog import Lane
from reachmap_agent.clock import Clock
from reachmap_agent.spool import Record, Spool
from reachmap_shared import codec
from reachmap_shared.messages import Closed, ReportKind

CLOSED, ROLL_UP = ReportKind.CLOSED, ReportKind.ROLL_UP


class Clocks:
    """Clocks that go when the test says so."""

    def __init__(self) -> None:
        self.steady = 1_000_000
        self.wall = 1_800_000_000_000
        self.os_boot = "os-1"

    def clock(self) -> Clock:
        return Clock(lambda: self.steady, lambda: self.wall, self.os_boot)

    def go(self, ms: int) -> None:
        self.steady += ms
        self.wall += ms


def put(spool: Spool, made: int = 10, body: bytes = b"roll-up") -> Record:
    spool.account.made += made
    return spool.put(ROLL_UP, body, made=made)


def waiting(spool: Spool) -> list[Record]:
    spool.rewind()
    found = []
    for lane in Lane:
        while (record := spool.history(lane)) is not None:
            found.append(record)
    return found


def closed(spool: Spool) -> dict[str, Closed]:
    """The latest account of each start that is closed."""
    return {
        record.segment.boot: codec.decode(Closed, record.entry.body)
        for record in waiting(spool)
        if record.entry.kind is CLOSED
    }
