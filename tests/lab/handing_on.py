"""The lab with sockets handed on from check to check: each sees what it sees on one of its own.

Run like lab.py. Every case is checked alone first, and then after every other one, itself included,
at the moment when that one's socket may be handed on. Tells what differed, and what was handed on.
"""

import asyncio
import ctypes
import json
import re
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab import PR_SET_PDEATHSIG, Impossible, Lab, Server, _bound, _call

from reachmap_agent.engine.attempt import Attempt
from reachmap_agent.engine.engine import Engine
from reachmap_agent.engine.poller import EpollPoller, LoopPoller
from reachmap_agent.engine.sockets import Sockets, icmp_error, receive_errors
from reachmap_agent.wire.exchange import Exchange, Silence, Verdict
from reachmap_shared.vocabulary import Outcome, Transport

B: Final = {"v4": "10.77.3.2", "v6": "fd77:3::2"}
OWN: Final = {"v4": "10.88.0.1", "v6": "fd88::1"}
"""Another address of A's own, from which it is then dialled."""
NOWHERE: Final = {"v4": "192.0.2.1", "v6": "2001:db8::1"}
"""A has no route there."""

SILENT, ANSWERS, CLOSED, RESETS, BY_R, BY_R2, RST_BY_R, DROPPED = range(6000, 6008)
SERVERS: Final = {SILENT: "silent", ANSWERS: "answers", RESETS: "resets"}

RULES: Final = {
    "r": (
        f"add rule inet lab forward tcp dport {BY_R} reject with icmpx admin-prohibited",
        f"add rule inet lab forward tcp dport {RST_BY_R} reject with tcp reset",
        f"add rule inet lab forward tcp dport {DROPPED} drop",
    ),
    "r2": (f"add rule inet lab forward tcp dport {BY_R2} reject with icmpx host-unreachable",),
}


def asks() -> Exchange:
    """Say something, and be content with any answer."""
    return Verdict(Outcome.OPEN if (yield b"?") else Outcome.RESET)


def waits() -> Exchange:
    """Wait for a greeting; silence is an answer too."""
    try:
        yield b""
    except Silence:
        return Verdict(Outcome.OPEN, ("silent",))
    return Verdict(Outcome.WRONG_PEER)


@dataclass(frozen=True)
class Case:
    """One check."""

    name: str
    address: Any
    exchange: Callable[[], Exchange] | None = None
    timeout_s: float = 3.0
    patience_s: float | None = None


def cases(family: str, link_local: str) -> list[Case]:
    """All of a family's."""
    b = B[family]
    found = [
        Case("open", (b, SILENT)),
        Case("silent", (b, SILENT), waits, patience_s=0.03),
        Case("answered", (b, ANSWERS), asks),
        Case("closed", (b, CLOSED)),
        Case("closed, with an exchange", (b, CLOSED), asks),
        Case("reset", (b, RESETS), asks),
        Case("rejected by R", (b, BY_R)),
        Case("rejected by R2", (b, BY_R2)),
        Case("refused by R", (b, RST_BY_R)),
        Case("dropped", (b, DROPPED), timeout_s=0.05),
        Case("own", (OWN[family], CLOSED)),
        Case("no route", (NOWHERE[family], CLOSED)),
    ]
    if family == "v6":
        found += [
            Case("mapped", (f"::ffff:{B['v4']}", CLOSED)),
            Case("mapped and open", (f"::ffff:{B['v4']}", SILENT)),
            Case("on the link", (link_local, CLOSED, 0, socket.if_nametoindex("n1"))),
        ]
    return found


def each_after_each(all_cases: list[Case]) -> Iterator[Case]:
    """An order in which each follows each, itself included."""
    for number, one in enumerate(all_cases):
        yield one
        yield one
        for other in all_cases[number + 1 :]:
            yield other
            yield one


def shown(attempt: Attempt) -> list[Any]:
    """What must not depend on whose socket it was: all but ports and times."""
    assert attempt.verdict is not None
    info = attempt.info
    counts = None
    if info is not None:
        counts = [info.retransmits, info.segments_out, info.segments_in, info.rtt_us > 0]
    evidence = [re.sub(r"\b\d+\.\d s\b", "N s", fact) for fact in attempt.verdict.evidence]
    host = attempt.local.rpartition(":")[0]
    if attempt.exchange is not None and attempt.verdict.outcome is Outcome.RESET:
        # Whether RST was there already when it was looked at is a matter of microseconds.
        counts, evidence = None, evidence[:1]
    return [attempt.verdict.outcome, evidence, host, counts]


class Watched(Sockets):
    """Remembers after which cases a socket was handed on."""

    def __init__(self) -> None:
        super().__init__()
        self.handed_on = 0

    def take(self, attempt: Attempt) -> bool:
        """As ever."""
        taken = super().take(attempt)
        self.handed_on += taken
        return taken


async def compare(lab: Lab, all_cases: list[Case], poller: Any) -> dict[str, Any]:
    """Check each alone, then each after each."""
    loop = asyncio.get_running_loop()
    engine = Engine(loop, poller)
    watched = engine._sockets = Watched()

    def start(case: Case, done: Callable[[Attempt], None]) -> None:
        exchange = case.exchange() if case.exchange is not None else None
        made = Attempt(
            Transport.TCP, case.address, exchange, case.patience_s, reset=True, done=done
        )
        engine.start(made, case.timeout_s)

    alone = {}
    for case in all_cases:
        ended: asyncio.Future[Attempt] = loop.create_future()
        start(case, ended.set_result)
        alone[case.name] = shown(await ended)
    assert not watched.handed_on

    differ: list[Any] = []
    after: dict[str, int] = {}
    over = loop.create_future()
    turn = each_after_each(all_cases)

    def go_on(before: str) -> None:
        case = next(turn, None)
        if case is None:
            over.set_result(None)
            return

        def done(attempt: Attempt) -> None:
            if (seen := shown(attempt)) != alone[case.name]:
                differ.append([before, case.name, seen, alone[case.name]])
            go_on(case.name)

        already = watched.handed_on
        start(case, done)
        after[before] = after.get(before, 0) + watched.handed_on - already

    go_on("")
    await over
    engine.close()
    return {"alone": alone, "differ": differ, "handed on after": after}


def stale(lab: Lab, family: str) -> list[str]:
    """Who rejected a connection on a socket whose error queue held another's rejection before."""
    kind = socket.AF_INET6 if family == "v6" else socket.AF_INET
    connect = ctypes.CDLL(None).connect
    said = []
    with select.epoll() as epoll, socket.socket(kind, socket.SOCK_STREAM) as used:
        used.setblocking(False)
        receive_errors(used)
        epoll.register(used, select.EPOLLERR | select.EPOLLET)
        for port in (BY_R, BY_R2):
            assert not connect(used.fileno(), bytes(16), 16)
            epoll.poll(0)
            used.connect_ex((B[family], port))
            own = used.getsockname()
            while not used.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                assert epoll.poll(3)
        for name in (own, (own[0], own[1] ^ 1)):
            attempt = Attempt(Transport.TCP, (B[family], BY_R2), None, None, reset=True, done=print)
            attempt.connection, attempt.own = used, name
            icmp = icmp_error(attempt)
            said.append(icmp.offender if icmp is not None else "")
    return said


async def observe(lab: Lab) -> list[dict[str, Any]]:
    """Every family with every poller."""
    with lab.inside("b"):
        servers = [
            Server(kind, _bound(host, port, Transport.TCP), Transport.TCP)
            for port, kind in SERVERS.items()
            for host in ("0.0.0.0", "::")
        ]
    with lab.inside("r"):
        rows = [line.split() for line in Path("/proc/self/net/if_inet6").read_text().splitlines()]
        packed = next(row[0] for row in rows if row[5] == "n1" and row[0].startswith("fe80"))
    link_local = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(packed))
    results = []
    with lab.inside("a"):
        for family in ("v4", "v6"):
            results.append({"name": "stale", "family": family, "said": stale(lab, family)})
            for poller in (EpollPoller, LoopPoller):
                found = await compare(lab, cases(family, link_local), poller)
                results.append({"name": poller.__name__, "family": family, **found})
    assert servers
    return results


def main() -> None:
    """Set up, check, tell."""
    # Whoever started it may be killed before it ends.
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
    json.load(sys.stdin)
    lab = Lab()
    try:
        lab.build()
        lab.wait()
        for name, rules in RULES.items():
            lab.run(name, "nft", "-f", "-", given="\n".join(rules))
    except Impossible as error:
        sys.exit(f"impossible: {error}")
    sys.stdout.write(json.dumps(asyncio.run(observe(lab))) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
