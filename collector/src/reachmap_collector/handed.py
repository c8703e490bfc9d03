"""What the bus has taken from agents and never brought: it vanished with the bus's storage. Pure.

A start of an agent says how much it made, lost, and still has: all the rest the bus has taken. Once
everything has come that the stream had when it said so, what did not come never will. Each agent's
word is kept until then, and compared again as long as something is missing: so whatever comes late
after all is no longer counted.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from reachmap_collector.ledger import Ledger, Loss, Losses
from reachmap_collector.reports import LOSSES
from reachmap_collector.store.api import Kept
from reachmap_shared import codec
from reachmap_shared.messages import MAX_EARLIER, Hello, Pulse

_MAX_SAID: Final = 2 * MAX_EARLIER
"""Starts of one agent whose word waits: an honest one tells of half as many."""


@dataclass(slots=True)
class _Said:
    """What a start's own words come to that all came of: the first yet to be checked, the last."""

    words: list[tuple[float, int]] = field(default_factory=list)
    """When it was said, and how many observations the bus had taken by then."""

    def add(self, at: float, handed: int) -> None:
        del self.words[1:]
        self.words.append((at, handed))

    def settled(self, drained: float) -> int | None:
        """The latest word that was said by then."""
        handed = None
        while self.words and self.words[0][0] <= drained:
            handed = self.words.pop(0)[1]
        return handed


class Handed:
    """Compares what the bus took with what came, and notes in the ledger what vanished."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._said: dict[str, dict[str, _Said]] = {}
        self._missing: dict[str, dict[str, int]] = {}
        """By agent and start: what the bus took where not all of it came."""

    def restore(self) -> None:
        """Begin with what the ledger has from the store."""
        for agent, losses in self._ledger.losses.items():
            for one in losses.vanished:
                if self._ledger.get(agent, one.boot) is not None:
                    handed = self._came(agent, one.boot) + one.observations
                    self._missing.setdefault(agent, {})[one.boot] = handed

    def pulse(self, pulse: Pulse, now: float) -> None:
        """A start at work says how it stands."""
        self._say(pulse.agent, pulse.boot, pulse.made - pulse.lost - pulse.waiting, now)

    def hello(self, hello: Hello, now: float) -> tuple[Kept, ...]:
        """An agent says how its earlier starts stand; returns what the store is to know."""
        if not hello.earlier:
            return ()
        agent = hello.agent
        told = self._ledger.told[agent] = frozenset(one.boot for one in hello.earlier)
        losses = before = self._ledger.losses.get(agent, Losses())
        known = {one.boot: one for one in losses.recent}
        for one in hello.earlier:
            self._say(agent, one.boot, one.made - one.lost - one.waiting, now)
            counts = (max(0, count) for count in (one.made, one.lost, one.changes_lost))
            if known.get(one.boot) != (loss := Loss(one.boot, *counts)):
                losses = losses.given(loss, told)
        return () if losses == before else (self._keep(agent, losses),)

    def _say(self, agent: str, boot: str, handed: int, now: float) -> None:
        said = self._said.setdefault(agent, {})
        said.setdefault(boot, _Said()).add(now, max(0, handed))
        if len(said) > _MAX_SAID:
            del said[next(iter(said))]

    def settle(self, drained: float) -> tuple[Kept, ...]:
        """All that the stream had at a time has come; returns what the store is to know."""
        for agent, said in list(self._said.items()):
            for boot, its in list(said.items()):
                if (handed := its.settled(drained)) is not None:
                    self._missing.setdefault(agent, {})[boot] = handed
                if not its.words:
                    del said[boot]
            if not said:
                del self._said[agent]
        return tuple(self._compare())

    def _compare(self) -> Iterable[Kept]:
        for agent, missing in list(self._missing.items()):
            losses = before = self._ledger.losses.get(agent, Losses())
            told = self._ledger.told.get(agent, ())
            for boot, handed in missing.items():
                vanished = max(0, handed - self._came(agent, boot))
                if vanished != losses.vanished_of(boot):
                    losses = losses.missing(boot, vanished, told)
            left = {one.boot for one in losses.vanished} & missing.keys()
            self._missing[agent] = {boot: missing[boot] for boot in left}
            if not left:
                del self._missing[agent]
            if losses != before:
                yield self._keep(agent, losses)

    def _came(self, agent: str, boot: str) -> int:
        account = self._ledger.get(agent, boot)
        return account.observations + account.refused if account is not None else 0

    def _keep(self, agent: str, losses: Losses) -> Kept:
        self._ledger.losses[agent] = losses
        return Kept(LOSSES, agent, codec.encode(losses))
