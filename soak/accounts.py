"""What each start of each agent made, by its own numbers, against what the collector has of it."""

import contextlib
import signal
import time
from collections import defaultdict
from dataclasses import dataclass, field

from deployment import PATIENCE_S, Deployment, NotInTime, until
from figures import Figures, say

from reachmap_agent.account import Account, shown_lost
from reachmap_agent.spool import Found, examine
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
    lost: int
    changes_lost: int
    """Both: what it had to drop itself. A later start says what is lost in all."""


@dataclass
class Kept:
    """What the collector has."""

    received: dict[Start, Received] = field(default_factory=dict)
    vanished: dict[Start, int] = field(default_factory=dict)
    """What a bus took, and lost."""
    changes: dict[Start, set[int]] = field(default_factory=lambda: defaultdict(set))


@dataclass
class Books:
    """All starts that are over, and what came of them."""

    deployment: Deployment
    own: dict[Start, Own] = field(default_factory=dict)
    losses: dict[Start, Loss] = field(default_factory=dict)
    """What later starts have said of them; the collector tells the last few of each agent apart."""
    open: dict[str, Start] = field(default_factory=dict)
    """By agent: the start that no later one has closed."""
    _even: set[Start] = field(default_factory=set)

    def note(self, agent: str) -> None:
        """An agent is dead: its file says, to the last observation, what it made."""
        folder = self.deployment.folder / "state" / f"{agent}.spool"
        for path in folder.glob("*.account"):
            account = Account(path)
            lost, changes_lost = shown_lost(path.read_bytes())
            self.own[agent, path.stem] = Own(account.made, account.told, lost, changes_lost)
            if not account.is_closed:
                self.open[agent] = agent, path.stem
            account.close()

    def waiting(self) -> int:
        """Observations on all agents' disks."""
        return sum(found.observations for found in self.spools())

    def spools(self) -> list[Found]:
        """What is in all agents' spools."""
        state = self.deployment.folder / "state"
        return [examine(state / f"{name}.spool") for name in self.deployment.clients]

    def dropped(self, agent: str, boot: str) -> tuple[int, int]:
        """Observations and changes that a start had to drop, by its own file."""
        folder = self.deployment.folder / "state" / f"{agent}.spool"
        return shown_lost((folder / f"{boot}.account").read_bytes())

    def kept(self, *, with_changes: bool = False) -> Kept:
        """What is in the store by now."""
        kept = Kept()
        url = f"sqlite:///{self.deployment.data / 'reachmap.sqlite'}"
        with contextlib.closing(open_store(url, migrate=False)) as store:
            kept.received = {(row.agent, row.boot): row for row in store.received()}
            for row in store.kept(LOSSES):
                losses = codec.decode(Losses, row.value or b"")
                for loss in losses.recent:
                    self.losses[row.key, loss.boot] = loss
                for one in losses.vanished:
                    kept.vanished[row.key, one.boot] = one.observations
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
            own, loss = self.own[start], self.losses.get(start)
            received = kept.received[start].observations if start in kept.received else 0
            lost, vanished = loss.lost if loss else 0, kept.vanished.get(start, 0)
            if own.made == received + lost + vanished:
                self._even.add(start)
            else:
                came = f"received {received}, lost {lost}, vanished {vanished}"
                found.append(f"{start}: made {own.made}, {came}")
        return found

    def total(self, *, is_wiped: bool = False) -> "Total":
        """The sum of all, when every agent has ended and the collector has caught up.

        Args:
            is_wiped: The bus has lost its storage, and with it changes, which nobody counts.
        """
        kept = self.kept(with_changes=True)
        closed = self.losses.values()
        rest = [self.own[start] for start in self.open.values() if start not in self.losses]
        total = Total(
            starts=len(self.own),
            made=sum(own.made for own in self.own.values()),
            received=sum(row.observations for row in kept.received.values()),
            waiting=self.waiting(),
            lost=sum(loss.lost for loss in closed) + sum(own.lost for own in rest),
            changes=sum(own.told for own in self.own.values()),
            changes_lost=sum(one.changes_lost for one in (*closed, *rest)),
            is_wiped=is_wiped,
            vanished=sum(kept.vanished.values()),
        )
        for start, own in self.own.items():
            total.changes_on_map += len(kept.changes[start] & set(range(own.told)))
            total.changes_invented += len(kept.changes[start] - set(range(own.told)))
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
    is_wiped: bool = False
    changes_on_map: int = 0
    changes_lost: int = 0
    vanished: int = 0
    """Observations that a bus took, and lost before the collector had them, by its own account."""
    changes_invented: int = 0
    """Changes in the history that no agent's numbers know."""

    def wrong(self) -> list[str]:
        """What does not come out even."""
        found = []
        if self.made != self.received + self.waiting + self.lost + self.vanished:
            found.append("observations made are not those received, waiting, lost and vanished")
        if not self.is_wiped and self.vanished:
            found.append("something vanished, though the bus kept its storage")
        if not self.is_wiped and self.changes_on_map + self.changes_lost < self.changes:
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
            ("  counted as vanished with a bus", self.vanished),
            ("changes told", self.changes),
            ("  in the history", self.changes_on_map),
            ("  counted as lost", self.changes_lost),
        ]


def is_level(books: Books, figures: Figures, round_: str) -> bool:
    """Wait until the map is the truth and the accounts of all starts that are over come out even.

    Returns:
        Whether they do; what does not is noted.
    """
    deployment = books.deployment
    figures.rounds += 1
    began = time.monotonic()
    last = ""
    while what := [*deployment.wrong(), *books.unsettled()]:
        last = what[0]
        if time.monotonic() - began > PATIENCE_S:
            break
        time.sleep(0.1)
    what += deployment.ended()
    figures.expect(not what, f"round {round_}: {'; '.join(what)[:1000]}")
    if not what:
        after = f" after {time.monotonic() - began:.1f} s, the last: {last}" if last else ""
        say(f"round {round_}: level{after}")
    return not what


def settle(books: Books, figures: Figures, *, is_wiped: bool = False) -> None:
    """End all agents in good order, let the collector catch up, and do the sum."""
    deployment = books.deployment
    for name, agent in deployment.agents.items():
        agent.end(signal.SIGTERM)
        books.note(name)
    with contextlib.suppress(NotInTime):
        until(lambda: not books.total(is_wiped=is_wiped).wrong(), "the accounts come out even")
    total = books.total(is_wiped=is_wiped)
    for what in total.wrong():
        figures.expect(holds=False, what=f"{what}: {'; '.join(books.unsettled())[:1000]}")
    status = deployment.ask("status")
    figures.counted += [
        *total.lines(),
        ("reports missing", status["delivery"]["reports_missing"]),
        ("reports that came twice", status["delivery"]["duplicates"]),
        ("observations refused", status["observations"]["refused"]),
        ("messages refused", sum(status["refused_messages"].values())),
    ]
