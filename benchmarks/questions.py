"""How soon a collector of a million flows answers, over the bus, while all its agents report.

A real `reachmap serve` with SQLite has one core; a real nats-server, the agents (see `population`)
and whoever asks share the other. What is asked is the first page of everything that there is to
ask, with each filter and some together, in an order of chance: first of a collector in its daily
work; then, after a restart, of one that takes in what its agents reported while it was away. How
long a ping to the collector takes tells how long at most its event loop was held.

Times are the wall's, so they are worth as much as the collector had its core for itself: how long
it waited for it stands beside them.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from typing import Any

import population
from common import figure, on_core, percentile, stay_on_core
from deployment import Deployment, core_wait_s, cpu_s, deployed, rss_kib
from population import Agent

from reachmap_collector.credentials import load_or_create
from reachmap_shared import subjects
from reachmap_shared.bus import connected
from reachmap_shared.errors import BusUnavailable, QueryRefused
from reachmap_shared.vocabulary import State

GOAL_S = 1.0
AT_A_START_S = 4.0
"""After which the command line gives up."""

PATIENCE_S = 300.0
FOR_AN_ANSWER_S = 20.0
ROUNDS = 8
BEHIND_MINUTES = 15
PING_EVERY_S = 0.02
PAUSE_S = 0.02

Json = dict[str, Any]
Dice = random.Random
Question = tuple[str, Callable[[Dice], Json]]
"""A query's name, and its parameters."""


def main() -> None:
    """Ask in daily work, at a start, and behind a backlog."""
    print("\nquestions over the bus, a million flows from 10,000 agents")
    asyncio.run(_measure())


async def _measure() -> None:
    stay_on_core(1)
    async with deployed(listening=False) as there:
        data = there.folder / "collector"
        data.mkdir()
        topology, stop = there.folder / "topology.toml", there.folder / "stop"
        population.write_topology(topology)
        store = f"sqlite:///{data / 'reachmap.sqlite'}"
        agents = population.fill(store, topology, load_or_create(data), time.time())
        questions = _questions(agents)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            playing = pool.submit(population.play, there.url, agents, stop)
            try:
                with _collector(there) as process:
                    await _start(there)
                    await _has_put_all(there, len(agents))
                    often = _so_often(ROUNDS * len(questions))
                    await _asked("in daily work", there, process, questions, often)
            finally:
                stop.touch()
            agents = playing.result()
        many = await population.leave_behind(there.url, agents, BEHIND_MINUTES)
        with _collector(there) as process:
            await _start(there)
            what = f"while it takes in {many:,} reports"
            await _asked(what, there, process, questions, _while_behind(there))
    figure("load average of the machine", f"{os.getloadavg()[0]:.1f}")


@contextmanager
def _collector(there: Deployment) -> Iterator[int]:
    """A collector on a core of its own; its process's number."""
    command = [
        *(sys.executable, "-m", "reachmap_collector", "serve", "--nats", there.url),
        *("--topology", str(there.folder / "topology.toml")),
        *("--data", str(there.folder / "collector")),
    ]
    with (
        (there.folder / "collector.log").open("a") as log,
        subprocess.Popen(on_core(0, command), stderr=log) as process,
    ):
        try:
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)


async def _start(there: Deployment) -> None:
    """Ask for the status, as one who waits for it would, until the map is there."""
    said: Counter[str] = Counter()
    began, longest = time.monotonic(), 0.0
    while time.monotonic() - began < PATIENCE_S:
        asked = time.monotonic()
        try:
            async with connected([there.url], "reachmap command line") as bus:
                answer = await bus.query("status", {})
        except (BusUnavailable, QueryRefused) as error:
            said[str(error)] += 1
        else:
            if answer["flows"][State.OK] > 0:
                break
            said["all is unknown"] += 1
        longest = max(longest, time.monotonic() - asked)
        await asyncio.sleep(PING_EVERY_S)
    figure("a start, until the map is there", f"{time.monotonic() - began:.1f} s")
    for text, times in said.items():
        print(f"    {times:4} times: {text}")
    word = f"{1000 * longest:.0f} ms", f"under {AT_A_START_S:g} s", longest < AT_A_START_S
    figure("  the longest wait for a word", *word)


async def _has_put_all(there: Deployment, plans: int) -> None:
    """Wait until the collector is through with what it does once in a deployment's life."""
    put = 0
    async with asyncio.timeout(PATIENCE_S):
        while put < plans:
            await asyncio.sleep(0.1)
            put = (await there.ask(f"STREAM.INFO.{subjects.PLAN_STREAM}"))["state"]["messages"]


GoesOn = Callable[[int], Awaitable[bool]]
"""Whether there is more to ask, after so many questions."""


def _so_often(questions: int) -> GoesOn:
    async def goes_on(asked: int) -> bool:
        return asked < questions

    return goes_on


def _while_behind(there: Deployment) -> GoesOn:
    async def goes_on(_: int) -> bool:
        path = f"{subjects.REPORT_STREAM}.{subjects.REPORT_CONSUMER}"
        try:
            return bool((await there.ask(f"CONSUMER.INFO.{path}"))["num_pending"])
        except RuntimeError:  # it is made anew right now
            return True

    return goes_on


async def _asked(
    what: str,
    there: Deployment,
    process: int,
    questions: Mapping[str, Question],
    goes_on: GoesOn,
) -> None:
    """Ask everything again and again, and print how long it took."""
    took: dict[str, list[float]] = {name: [] for name in questions}
    refused: Counter[str] = Counter()
    dice, stalls, done = random.Random(6), list[float](), asyncio.Event()
    began, worked, waited = time.monotonic(), cpu_s(process), core_wait_s(process)
    async with connected([there.url], "reachmap command line") as bus, asyncio.TaskGroup() as tasks:
        tasks.create_task(_ping(there, stalls, done))
        for number, name in enumerate(_again_and_again([*questions], dice)):
            if not await goes_on(number):
                break
            query, parameters = questions[name]
            asked = time.monotonic()
            try:
                await bus.query(query, parameters(dice), FOR_AN_ANSWER_S)
            except (BusUnavailable, QueryRefused) as error:
                refused[f"{name}: {error}"] += 1
            took[name].append(time.monotonic() - asked)
            await asyncio.sleep(PAUSE_S)
        done.set()
    spent, span = cpu_s(process) - worked, time.monotonic() - began
    waited = core_wait_s(process) - waited
    print(f"  {what}: p50, p99 and worst in milliseconds")
    for name, values in took.items():
        if not values:
            continue
        numbers = [percentile(values, 50), percentile(values, 99), max(values)]
        shown = " ".join(f"{1000 * one:6.0f}" for one in numbers)
        figure(f"  {name}", shown, *_verdict(max(values))[1:])
    for text, times in refused.items():
        figure(f"  {times} times: {text}", "", "an answer", False)
    every = [one for values in took.values() for one in values]
    figure(f"  99 of 100 of {len(every):,} questions in", *_verdict(percentile(every, 99)))
    figure("  the longest that its loop was held", f"{1000 * max(stalls):.0f} ms")
    figure("  of its core it had", f"{100 * spent / span:.0f} %")
    figure("  and waited for it", f"{100 * waited / span:.0f} %")
    figure("  its memory", f"{rss_kib(process) / 1024:.0f} MiB")


def _again_and_again(names: list[str], dice: Dice) -> Iterator[str]:
    while True:
        yield from dice.sample(names, len(names))


def _verdict(seconds: float) -> tuple[str, str, bool]:
    return f"{1000 * seconds:.0f} ms", f"under {GOAL_S:g} s", seconds < GOAL_S


async def _ping(there: Deployment, stalls: list[float], done: asyncio.Event) -> None:
    """Ask the service for nothing but a word, until all is asked."""
    while not done.is_set():
        asked = time.monotonic()
        await there.client.request("$SRV.PING.reachmap", b"", timeout=FOR_AN_ANSWER_S)
        stalls.append(time.monotonic() - asked)
        await asyncio.sleep(PING_EVERY_S)


def _questions(agents: list[Agent]) -> dict[str, Question]:
    """Everything that can be asked, by what it is called here."""
    dialling = [one.name for one in agents if one.flows]
    servers = [one.name for one in agents if not one.flows]
    watched = [one.name for one in population.watched(agents)]

    def host(dice: Dice) -> str:
        return dice.choice(dialling)

    def server(dice: Dice) -> str:
        return dice.choice(servers)

    def role(dice: Dice) -> str:
        return f"kind-{dice.randrange(50):02}"

    def service(dice: Dice) -> str:
        number = dice.randrange(20)
        return f"role-{number:02}:{8000 + number}"

    def state(wanted: State) -> Callable[[Dice], str]:
        return lambda _: wanted

    def filtered(query: str, **filters: Callable[[Dice], str]) -> Question:
        return query, lambda dice: {"filters": {name: of(dice) for name, of in filters.items()}}

    def by(rows: str, **filters: Callable[[Dice], str]) -> Question:
        ask = filtered("map", **filters)[1]
        return "map", lambda dice: {"by": rows} | ask(dice)

    def since(query: str, ago_s: float, **filters: Callable[[Dice], str]) -> Question:
        ask = filtered(query, **filters)[1]
        return query, lambda dice: {"since": _ago(ago_s)} | ask(dice)

    def pair(dice: Dice) -> tuple[str, str]:
        # A host dials the servers of ten roles, from that of its own kind on.
        source = host(dice)
        kind = int(source[3:]) % 50
        return source, f"server-{(kind + dice.randrange(10)) % 20 + 20 * dice.randrange(10):03}"

    def explain(dice: Dice) -> Json:
        return dict(zip(("source", "destination"), pair(dice), strict=True))

    def trend(ago_s: float) -> Question:
        def parameters(dice: Dice) -> Json:
            source = dice.choice(watched)
            kind = int(source[3:]) % 50
            destination = f"server-{kind % 20 + 20 * dice.randrange(10):03}"
            return {"source": source, "destination": destination, "since": _ago(ago_s)}

        return "trend", parameters

    flows = {
        "flows": {},
        "flows --source": {"source": host},
        "flows --destination": {"destination": server},
        "flows --service": {"service": service},
        "flows --role": {"role": role},
        **{f"flows --state {one}": {"state": state(one)} for one in State},
        "flows --source --state": {"source": host, "state": state(State.OK)},
        "flows --destination --state": {"destination": server, "state": state(State.BROKEN)},
        "flows --role --service": {"role": role, "service": service},
        "flows --service --state": {"service": service, "state": state(State.BROKEN)},
    }
    return {
        "status": ("status", lambda _: {}),
        "progress": ("progress", lambda _: {"since": _ago(3600)}),
        "topology": ("topology", lambda _: {}),
        "agents": ("agents", lambda _: {}),
        "agents, a later page": ("agents", lambda dice: {"after": host(dice)}),
        "map by role": by("role"),
        "map by host": by("host"),
        "map by host --role": by("host", role=role),
        "map by host --source": by("host", source=host),
        "map by row": by("row"),
        **{name: filtered("flows", **filters) for name, filters in flows.items()},
        "flows, a later page": (
            "flows",
            lambda d: {"after": [host(d), "server-100", "", 1, "tcp"]},
        ),
        "flows with details": (
            "flows",
            lambda d: {"filters": {"source": host(d)}, "details": True},
        ),
        "explain": ("explain", explain),
        "history": filtered("history"),
        "history --since": since("history", 3600),
        "history --source": filtered("history", source=host),
        "history --destination": filtered("history", destination=server),
        "history --service": filtered("history", service=service),
        "history --role": filtered("history", role=role),
        "changes, where they stand": filtered("changes"),
        "changes": ("changes", lambda dice: {"after": dice.randrange(1_000_000)}),
        "diff --since 1 hour": since("diff", 3600),
        "diff --since 1 day": since("diff", 86_400),
        "diff --since --source": since("diff", 86_400, source=host),
        "diff --since --destination": since("diff", 86_400, destination=server),
        "trend of an hour": trend(3600),
        "trend of a day": trend(86_400),
        "alerts": ("alerts", lambda _: {}),
        "alerts --all": ("alerts", lambda _: {"all": True}),
    }


def _ago(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() - seconds, UTC).isoformat()


if __name__ == "__main__":
    main()
