"""What each start of each agent made, by its own numbers, against what the collector has of it."""

import contextlib
from collections import defaultdict
from dataclasses import dataclass, field

from deployment import Deployment

from reachmap_agent.account import Account
from reachmap_agent.spool import examine
from reachmap_collector.ledger import Loss, Losses
from reachmap_collector.reports import LOSSES
from reachmap_collector.store import open_store
from reachmap_collector.store.api import Received
from reachmap_shared import codec

Start = tuple[str, str]
"""An agent, and one start of it."""


@dataclass(frozen=True)
class Own:
    """What a start that is over says of itself."""

    made: int
    told: int


@dataclass
class Kept:
    """What the collector has."""

    received: dict[Start, Received] = field(default_factory=dict)
    losses: dict[Start, Loss] = field(default_factory=dict)
    lost: int = 0
    """Observations, of all starts that are over."""
    changes_lost: int = 0
    changes: dict[Start, set[int]] = field(default_factory=lambda: defaultdict(set))


@dataclass
class Books:
    """All starts that are over, and what came of them."""

    deployment: Deployment
    own: dict[Start, Own] = field(default_factory=dict)
    _even: set[Start] = field(default_factory=set)

    def note(self, agent: str) -> None:
        """An agent is dead: its file says, to the last observation, what it made."""
        folder = self.deployment.folder / "state" / f"{agent}.spool"
        for path in folder.glob("*.account"):
            account = Account(path)
            self.own[agent, path.stem] = Own(account.made, account.told)
            account.close()

    def waiting(self) -> int:
        """Observations on the disks of agents that are not running."""
        state = self.deployment.folder / "state"
        return sum(examine(state / f"{name}.spool").observations for name in self.deployment.clients)

    def kept(self, *, with_changes: bool = False) -> Kept:
        """What is in the store by now."""
        kept = Kept()
        url = f"sqlite:///{self.deployment.data / 'reachmap.sqlite'}"
        with contextlib.closing(open_store(url, migrate=False)) as store:
            kept.received = {(row.agent, row.boot): row for row in store.received()}
            for row in store.kept(LOSSES):
                losses = codec.decode(Losses, row.value or b"")
                kept.lost += losses.lost
                for loss in losses.recent:
                    kept.changes_lost += loss.changes_lost
                    kept.losses[row.key, loss.boot] = loss
            before = None
            while with_changes:
                page = store.history(before=before)
                for change in page.transitions:
                    kept.changes[change.agent, change.boot].add(change.number)
                if (before := page.next) is None:
                    break
        return kept

    def unsettled(self) -> list[str]:
        """Starts whose account does not come out even yet, with their numbers."""
        kept = self.kept()
        found = []
        for start in self.own.keys() - self._even:
            own, loss = self.own[start], kept.losses.get(start)
            received = kept.received[start].observations if start in kept.received else 0
            lost = loss.lost if loss else 0
            if own.made == received + lost:
                self._even.add(start)  # the collector tells the last few starts apart
            else:
                found.append(f"{start}: made {own.made}, received {received}, lost {lost}")
        return found

    def total(self) -> "Total":
        """The sum of all, when every agent has ended and the collector has caught up."""
        kept = self.kept(with_changes=True)
        total = Total(
            starts=len(self.own),
            made=sum(own.made for own in self.own.values()),
            received=sum(row.observations for row in kept.received.values()),
            waiting=self.waiting(),
            lost=kept.lost,
            changes=sum(own.told for own in self.own.values()),
        )
        for start, own in self.own.items():
            total.changes_on_map += len(kept.changes[start] & set(range(own.told)))
            total.changes_invented += len(kept.changes[start] - set(range(own.told)))
        total.changes_lost = kept.changes_lost
        return total


@dataclass
class Total:
    """Figures over all starts of all agents."""

    starts: int
    made: int
    received: int
    waiting: int
    lost: int
    changes: int
    changes_on_map: int = 0
    changes_lost: int = 0
    changes_invented: int = 0
    """Changes in the history that no agent's numbers know."""

    def wrong(self) -> list[str]:
        """What does not come out even."""
        found = []
        if self.made != self.received + self.waiting + self.lost:
            found.append("observations made are not those received, waiting and lost")
        if self.changes_on_map + self.changes_lost < self.changes:
            found.append("changes are neither in the history nor counted as lost")
        if self.changes_invented:
            found.append("changes that nobody told")
        return found

    def lines(self) -> list[tuple[str, int]]:
        """For people."""
        return [
            ("starts of agents", self.starts),
            ("observations made", self.made),
            ("  received", self.received),
            ("  waiting", self.waiting),
            ("  counted as lost", self.lost),
            ("changes told", self.changes),
            ("  in the history", self.changes_on_map),
            ("  counted as lost", self.changes_lost),
        ]
