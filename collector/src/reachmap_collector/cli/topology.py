"""`reachmap topology`: check, show and import port matrices and deployments."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import click

from reachmap_collector import planner, render, views
from reachmap_collector.cli.groups import Group
from reachmap_collector.cli.options import ask_for_topology, formatted, on_bus
from reachmap_collector.errors import InvalidFile, Problem
from reachmap_collector.topology.findings import Finding
from reachmap_collector.topology.lint import lint
from reachmap_collector.topology.load import (
    builtin_profiles,
    load_topology,
    parse_topology,
    read_text,
)
from reachmap_collector.topology.markdown import import_table, to_toml
from reachmap_collector.topology.model import Topology

_FILE = click.Path(path_type=Path)


@click.group(cls=Group)
def topology() -> None:
    """Check, show and import port matrices and deployments."""


@topology.command()
@click.argument("file", type=_FILE)
@click.option("--strict", is_flag=True, help="Exit 1 when something deserves a look.")
def check(file: Path, strict: bool) -> None:
    """Read a topology file; say what it holds, what is wrong, and what deserves a look.

    Exit code 2 when it is wrong: a collector would refuse it whole.
    """
    loaded = load_topology(file)
    hosts = planner.members(loaded, {})
    flows = planner.expected_flows(loaded, hosts)
    click.echo(
        f"{file}: good; {_counted(len(hosts), 'host')}, {_counted(len(loaded.roles), 'role')}, "
        f"{_counted(len(flows), 'flow')} before agents announce more"
    )
    findings = lint(loaded)
    _tell(file, findings)
    if strict and findings:
        raise click.exceptions.Exit(1)


@topology.command()
@click.argument("what", metavar="[FILE|PROFILE]", required=False)
@formatted
@on_bus
def show(what: str | None, style: str, nats: str | None, context: str | None) -> None:
    """Show a topology: of a file, of a built-in profile, or the one a collector has in force.

    \b
    Examples:
      reachmap topology show openuem
      reachmap topology show topology.toml
      reachmap topology show
    """
    if what is None:
        answer = ask_for_topology(nats, context)
    else:
        loaded = _loaded(what)
        answer = views.topology(loaded, planner.members(loaded, {}))
    render.show(
        style,
        answer,
        table=render.topology,
        rows=lambda: render.topology_rows(answer),
        columns=render.TOPOLOGY_COLUMNS,
        left_out="titles, hosts, deny rules and how often is checked",
    )


@topology.command("import")
@click.argument("file", type=_FILE)
@click.option("--title", default="", help="What the profile is of, in words.")
@click.option("-o", "--output", type=_FILE, help="Write here instead of to standard output.")
@click.option("--force", is_flag=True, help="Overwrite the output file.")
def import_file(file: Path, title: str, output: Path | None, force: bool) -> None:
    """Turn a Markdown port table into a profile, and say what the table leaves open.

    The table wants the columns Port, Component, Traffic (Inbound or Outbound) and, if it has one,
    Description. The profile goes to standard output, what deserves a look to standard error.

    \b
    Examples:
      reachmap topology import ports.md -o ports.toml
      reachmap topology show ports.toml
    """
    imported = import_table(read_text(file), file, title)
    text = to_toml(imported.profile)
    if output is None:
        click.echo(text, nl=False)
    else:
        if output.exists() and not force:
            raise click.UsageError(f"{output} exists already: pass --force to overwrite it")
        try:
            output.write_text(text, encoding="utf-8")
        except OSError as error:
            problem = Problem("", f"cannot be written: {error.strerror}")
            raise InvalidFile(output, [problem]) from error
        rows = _counted(len(imported.profile.rows), "row")
        click.echo(f"{output}: {rows}, {_counted(len(imported.profile.roles), 'role')}")
    _tell(file, imported.findings)


def _loaded(what: str) -> Topology:
    """A built-in profile as a topology of its own, or the topology in a file."""
    known = builtin_profiles()
    if what in known:
        return parse_topology(f'profiles = ["{what}"]', Path(what))
    if not os.path.lexists(what):
        near = difflib.get_close_matches(what, known, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else f": there is {', '.join(known)}"
        raise click.UsageError(f"no file {what}, and no built-in profile of that name{hint}")
    return load_topology(Path(what))


def _tell(file: Path, findings: Iterable[Finding]) -> None:
    for finding in findings:
        click.echo(f"{file}: {finding}", err=True)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


COMMANDS: Final = (topology,)
