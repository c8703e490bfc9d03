"""`reachmap preflight`: is the deployment ready, and which rules are to be asked for?"""

import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import click

from reachmap_collector import render, views
from reachmap_collector.cli.options import (
    ask,
    ask_for_agents,
    ask_for_flows,
    ask_for_topology,
    on_bus,
)
from reachmap_collector.errors import InvalidFile, Problem
from reachmap_collector.export import EXPORTERS, Options, Snapshot
from reachmap_collector.export.asking import Lacks, lacks, markdown, other, table
from reachmap_collector.topology.load import load_topology
from reachmap_collector.topology.model import Topology
from reachmap_shared.vocabulary import State

_EVERY_S: Final = 1.0
"""How often the collector is asked how far things are."""

_SETTLES: Final = 3
"""Intervals in which a flow of which nothing is known yet may still be understood."""

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

_NAMED: Final = 5


def seconds(text: str) -> float:
    """A duration such as `90`, `90s`, `5m` or `1h`."""
    found = re.fullmatch(r"([0-9]{1,6})([smh]?)", text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r}: expected such as 90s, 5m or 1h")
    return int(found[1]) * _UNITS[found[2]]


@click.command()
@click.option(
    "--topology",
    "file",
    type=click.Path(path_type=Path),
    required=True,
    help="The deployment, as the collector has it too.",
)
@click.option(
    "--timeout",
    type=seconds,
    metavar="TIME",
    default="5m",
    show_default=True,
    help="How long to wait for agents and first checks.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "markdown", "csv", "junit"]),
    default="table",
    show_default=True,
    help="For people, a ticket, a network team's table, or a pipeline.",
)
@on_bus
def preflight(
    file: Path, timeout: float, style: str, nats: str | None, context: str | None
) -> None:
    """Wait until every flow was checked, and print what is missing as a change request.

    Exit code 0: all is as expected; 1: it is not, or not everything was checked in time; 2: the
    collector has another topology; 3: no collector answers.

    \b
    Examples:
      reachmap preflight --topology topology.toml
      reachmap preflight --topology topology.toml --timeout 15m --format markdown > request.md
      reachmap preflight --topology topology.toml --format junit > report.xml
    """

    def asked(query: str, parameters: dict[str, Any]) -> Any:
        return ask(nats, context, query, parameters)

    loaded = load_topology(file)
    if asked("progress", {})["topology"] != views.fingerprint(loaded):
        raise _another(file, loaded, ask_for_topology(nats, context)["hosts"])
    progress = _waited(asked, timeout, loaded.checks.interval_s)
    is_ready = progress["states"].keys() <= {State.OK} and _is_complete(progress)
    if style == "junit":
        every = ask_for_flows(nats, context, {}, details=True)["flows"]
        snapshot = Snapshot(every, ask_for_agents(nats, context), asked("status", {}))
        click.echo(EXPORTERS["junit"](snapshot, Options()), nl=False)
    else:
        bad = [
            flow
            for state in views.WORST_FIRST
            if state is not State.OK and state in progress["states"]
            for flow in ask_for_flows(nats, context, {"state": state}, details=True)["flows"]
        ]
        _show(style, lacks(bad))
    click.echo(_verdict(progress, is_ready=is_ready), err=style != "table")
    sys.exit(0 if is_ready else 1)


def _another(file: Path, loaded: Topology, hosts: Iterable[Any]) -> InvalidFile:
    """Why it cannot speak for another deployment than the one that is asked about."""
    running = {one["host"] for one in hosts if one["listed"]}
    told = [
        f"{where}: {len(names)}, such as {', '.join(sorted(names)[:_NAMED])}"
        for names, where in (
            (loaded.hosts.keys() - running, "hosts in this file alone"),
            (running - loaded.hosts.keys(), "hosts of the collector's alone"),
        )
        if names
    ] or ["the hosts have the same names; roles, addresses, ports, rules or checks differ"]
    return InvalidFile(
        file,
        [
            Problem("", "the collector that answers runs with another topology"),
            *(Problem("", one) for one in told),
            Problem("", "start it with this file, or send it SIGHUP if it has it already"),
        ],
    )


def _waited(asked: Callable[..., Any], timeout: float, interval_s: float) -> Any:
    """How far things are once all was checked since now, or the time is over."""
    begin = time.monotonic()
    progress = asked("progress", {})
    since = progress["now"]
    complete_at: float | None = None
    shown = _Progress()
    try:
        while True:
            progress = asked("progress", {"since": since})
            shown.show(_told(progress))
            now = time.monotonic()
            complete_at = (complete_at or now) if _is_complete(progress) else None
            if complete_at is not None and (
                State.UNKNOWN not in progress["states"] or now - complete_at > _SETTLES * interval_s
            ):
                return progress
            if now - begin >= timeout:
                return progress
            time.sleep(min(_EVERY_S, max(0.0, begin + timeout - now)))
    finally:
        shown.end()


def _is_complete(progress: Any) -> bool:
    return bool(
        progress["checked"] == progress["flows"] and progress["fresh"] == progress["expected"]
    )


def _told(progress: Any) -> str:
    missing = progress["missing"]
    names = ", ".join(missing[:_NAMED])
    away = progress["expected"] - progress["fresh"]
    more = f" and {away - len(missing[:_NAMED])} more" if away > _NAMED else ""
    waits = f" (waiting for {names}{more})" if missing else ""
    return (
        f"{progress['fresh']} of {progress['expected']} agents{waits}; "
        f"{progress['checked']} of {progress['flows']} flows checked"
    )


def _verdict(progress: Any, *, is_ready: bool) -> str:
    states = ", ".join(f"{count} {state}" for state, count in progress["states"].items())
    if is_ready:
        return f"ready: all {progress['flows']} flows are as expected"
    unchecked = "" if _is_complete(progress) else f"; not all was checked: {_told(progress)}"
    return f"not ready: {states or 'no flow'}{unchecked}"


class _Progress:
    """A line on standard error: in its place on a terminal, and else when it changes."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._last = ""

    def show(self, text: str) -> None:
        if text != self._last:
            self._last = text
            text = str(render.printable(text))
            line = f"\r\x1b[K{text}" if self._is_terminal else text
            click.echo(line, nl=not self._is_terminal, err=True)

    def end(self) -> None:
        if self._is_terminal and self._last:
            click.echo("\r\x1b[K", nl=False, err=True)


def _show(style: str, found: Lacks) -> None:
    if style == "markdown":
        click.echo(markdown(found), nl=False)
        return
    if style == "csv":
        click.echo(table(found), nl=False)
        if found.others:
            count = len(found.others)
            click.echo(f"reachmap: csv leaves out {count} flows that no rule helps", err=True)
        return
    for request in found.requests:
        click.echo(f"ask for, at {render.printable(request.owner)}")
        for flow in request.flows:
            click.echo(f"  {render.printable(flow['requests']['plain'])}")
        click.echo()
    if found.others:
        click.echo("what else is not as expected")
        for flow in found.others:
            click.echo(f"  {'  '.join(map(render.printable, other(flow)))}")
        click.echo()


COMMANDS: Final = (preflight,)
