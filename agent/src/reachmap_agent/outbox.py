"""Observations on their way to the collector. Pure: sending is the caller's.

Bounded, so that an outage of the bus cannot eat the host's memory: when it is full the oldest go
first, and how many went is counted and told.
"""

from collections import deque
from dataclasses import replace

from reachmap_shared.messages import Observation, Report

DEFAULT_ROOM = 20_000
"""Observations: an hour's worth of 50 flows every ten seconds, some ten megabytes at most."""

_BATCH = 200
"""Observations in one report: far below the bus's size limit, with evidence at its longest."""


class Outbox:
    """What one start of an agent (`boot`) has seen and not sent yet."""

    def __init__(self, agent: str, boot: str, room: int = DEFAULT_ROOM) -> None:
        self._agent = agent
        self._boot = boot
        self._room = room
        self._sequence = 0
        self._waiting: deque[tuple[str, float, Observation]] = deque()
        self._leaving = 0
        """How many of the oldest are in the latest report."""
        self.dropped = 0
        """Observations that had to go because the outbox was full."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, plan: str, observation: Observation, now: float) -> None:
        """Keep what a check under the plan of that revision saw at time `now`."""
        if len(self._waiting) >= self._room:
            self._waiting.popleft()
            self._leaving = max(0, self._leaving - 1)
            self.dropped += 1
        self._waiting.append((plan, now, observation))

    def next_report(self, now: float) -> Report | None:
        """The oldest observations of one plan, as a report; None when there are none.

        They stay until `sent` says that the report has left, so a failed attempt loses nothing.
        """
        if not self._waiting:
            return None
        plan = self._waiting[0][0]
        observations: list[Observation] = []
        for its_plan, seen, observation in self._waiting:
            if its_plan != plan or len(observations) >= _BATCH:
                break
            observations.append(replace(observation, age_ms=max(0, round((now - seen) * 1000))))
        self._leaving = len(observations)
        return Report(self._agent, self._boot, self._sequence, plan, tuple(observations))

    def sent(self, report: Report) -> None:
        """Forget what `report`, the latest from `next_report`, has carried away."""
        self._sequence += 1
        # Those that had to make room meanwhile have got away after all.
        self.dropped -= len(report.observations) - self._leaving
        for _ in range(self._leaving):
            self._waiting.popleft()
        self._leaving = 0
