"""What the demo shows, in order: the map grows green, something breaks, its cause, it heals."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.rule import Rule

from reachmap_collector import render
from reachmap_collector.demo.deployment import (
    CLIENTS,
    HOSTS,
    Deployment,
    free_port,
    hosts_in,
    network,
    plan,
)
from reachmap_collector.demo.processes import Fleet, fleet, impostor
from reachmap_collector.embedded import HOST as BUS_HOST
from reachmap_collector.errors import ServerError
from reachmap_shared import bus
from reachmap_shared.bus import Bus
from reachmap_shared.errors import BusUnavailable
from reachmap_shared.vocabulary import Outcome, State

_PATIENCE_S: Final = 40.0
"""For each thing that the demo waits for; on a quiet machine each takes a few seconds."""

_WIDTH: Final = 100
"""Columns at most: the demo is read from top to bottom, often in a log."""

_LOOK_S: Final = 0.2
"""Between two looks at the map while waiting."""

_VICTIM: Final = "nats-2"
_WITNESS: Final = "pc-1"
_GREETING: Final = b"220 mail.example ESMTP ready\r\n"

Json = dict[str, Any]


async def tell(*, keep: bool) -> None:
    """Run the demo. With `keep` it stays up after the map is green, until it is cancelled.

    Raises:
        ServerError: Something did not start, or what should be seen was not.
    """
    console = render.console(max_width=_WIDTH)
    with network() as number:
        await _tell(console, plan(hosts_in(number)), keep=keep)


async def _tell(console: Console, deployment: Deployment, *, keep: bool) -> None:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reachmap-demo-") as folder:
        console.print(
            f"Starting {len(HOSTS)} hosts on loopback, each with an agent of its own, "
            "two NATS servers in a cluster, and a collector ..."
        )
        for (host, service), port in deployment.moved.items():
            console.print(f"  {service} of {host} moves to port {port}: its own is taken here")
        async with (
            fleet(Path(folder), deployment, free_port(BUS_HOST)) as processes,
            bus.staying(
                [processes.bus_url], "reachmap demo", access=processes.access
            ) as connection,
        ):
            story = _Story(console, processes, connection)
            await story.grow_green()
            if keep:
                await story.stay_up()
            address, port = deployment.address(_VICTIM), deployment.port(_VICTIM, CLIENTS)
            await story.break_a_service(address, port)
            await story.heal()
            memory = processes.agent_memory_mb()
    console.print(
        f"\nDone in {time.monotonic() - started:.0f} s; all that ran is stopped and gone."
        + (f" An agent took {memory:.0f} MB of memory." if memory else "")
    )


class _Story:
    def __init__(self, console: Console, processes: Fleet, connection: Bus) -> None:
        self._console = console
        self._fleet = processes
        self._bus = connection

    async def grow_green(self) -> None:
        """Wait until every host reports and every flow was seen open; show the whole map."""
        await self._wait(
            "flows turn green",
            "status",
            {},
            lambda status: (
                status["flows"][State.OK] == sum(status["flows"].values()) > 0
                and status["agents"]["fresh"] == len(HOSTS)
            ),
            progress=_progress,
        )
        table = await self._ask("map", {"by": "row"})
        self._title("Every row of OpenUEM's port table, and the flows it stands for")
        self._print(render.matrix(table, self._console.width))
        missing = [row["row"] for row in table["rows"] if row["state"] != State.OK]
        if missing:
            raise ServerError(f"rows {missing} of the port table are not accounted for")
        await self._show_map("The map: who must reach what")

    async def break_a_service(self, address: str, port: int) -> None:
        """Stop a real NATS server, then put another program on its port."""
        self._title(f"Fault 1: the NATS server on {_VICTIM} stops")
        await self._fleet.stop_nats(_VICTIM)
        await self._wait_for_outcome(port, Outcome.REFUSED)
        await self._show_map()
        await self._explain(port)

        self._title(f"Fault 2: a mail server takes port {port} of {_VICTIM}")
        async with impostor(address, port, _GREETING):
            await self._wait_for_outcome(port, Outcome.WRONG_SERVICE)
            await self._explain(port)

    async def heal(self) -> None:
        """Put the real server back."""
        self._title(f"Healing: the mail server goes, the NATS server on {_VICTIM} is back")
        await self._fleet.start_nats(_VICTIM)
        await self._wait(
            "all green again",
            "status",
            {},
            lambda status: status["flows"][State.OK] == sum(status["flows"].values()),
            progress=_progress,
        )
        await self._show_map()

    async def stay_up(self) -> None:
        """Say what to try, and wait to be cancelled."""
        self._title("It stays up; try from another terminal, and Ctrl-C here to end it")
        reachmap = f"{sys.executable} -m reachmap_collector"
        self._console.print(
            f"export REACHMAP_NATS_URL={self._fleet.bus_url}\n"
            f"export REACHMAP_NATS_CREDENTIALS={self._fleet.access.credentials}\n"
            f"alias reachmap='{reachmap}'\n"
            "reachmap map --by host\n"
            "reachmap map --by row\n"
            "reachmap flows --role console\n"
            "reachmap flows --row 7\n"
            f"reachmap explain {_WITNESS} {_VICTIM}\n"
            "reachmap agents\n"
            "reachmap watch\n"
            "reachmap diff --since 10m\n"
            "reachmap trend pc-1 nats-2\n"
            "reachmap status\n"
            "reachmap export --format html --output map.html",
            soft_wrap=True,
        )
        await asyncio.get_running_loop().create_future()

    async def _wait_for_outcome(self, port: int, outcome: Outcome) -> None:
        """Wait until every flow to the victim's port has seen it."""

        def all_seen(answer: Json) -> bool:
            flows = [flow for flow in answer["flows"] if flow["port"] == port]
            return all(flow["outcome"] == outcome for flow in flows)

        def progress(answer: Json) -> str:
            flows = [flow for flow in answer["flows"] if flow["port"] == port]
            seen = sum(flow["outcome"] == outcome for flow in flows)
            return f"{seen} of {len(flows)} flows to {_VICTIM}:{port} say {outcome}"

        filters = {"destination": _VICTIM}
        await self._wait(f"it is {outcome}", "flows", {"filters": filters}, all_seen, progress)

    async def _show_map(self, title: str | None = None) -> None:
        if title:
            self._title(title)
        self._print(render.matrix(await self._ask("map", {}), self._console.width))

    async def _explain(self, port: int) -> None:
        self._console.print(f"\n$ reachmap explain {_WITNESS} {_VICTIM}:{port}", style="dim")
        ends = {"source": _WITNESS, "destination": _VICTIM, "port": port}
        answer = await self._ask("explain", ends)
        self._print(render.explanation(answer["flows"], self._console.width))

    async def _wait(
        self,
        what: str,
        query: str,
        parameters: Json,
        done: Callable[[Json], bool],
        progress: Callable[[Json], str],
    ) -> None:
        """Ask until the answer is as it should be, showing how far it is."""
        began = time.monotonic()
        said = ""
        with self._console.status(f"waiting until {what} ...") as spinner:
            while True:
                self._fleet.must_be_well()
                try:
                    answer = await self._bus.query(query, parameters, timeout_s=2)
                except BusUnavailable:
                    pass  # the collector is not up yet
                else:
                    before, said = said, progress(answer)
                    spinner.update(said)
                    if done(answer):
                        break
                    self._say_progress(said, before)
                if time.monotonic() - began > _PATIENCE_S:
                    raise ServerError(f"not within {_PATIENCE_S:g} s: {what} (last: {said})")
                await asyncio.sleep(_LOOK_S)
        self._console.print(f"{said}, after {time.monotonic() - began:.1f} s", style="green")

    def _say_progress(self, said: str, before: str) -> None:
        """Where no spinner turns, each step of the way gets a line of its own."""
        if said != before and not self._console.is_terminal:
            self._console.print(f"  {said}")

    async def _ask(self, query: str, parameters: Json) -> Json:
        answer: Json = await self._bus.query(query, parameters)
        return answer

    def _title(self, text: str) -> None:
        self._console.print()
        self._console.print(Rule(text, align="left"))

    def _print(self, what: Any) -> None:
        render.print_trimmed(self._console, what)


def _progress(status: Json) -> str:
    flows, agents = status["flows"], status["agents"]
    return (
        f"{agents['fresh']} of {len(HOSTS)} hosts report, "
        f"{flows[State.OK]} of {sum(flows.values())} flows are ok"
    )
