"""The manual pages, made of the commands' own help."""

import os
from datetime import UTC, datetime
from pathlib import Path

from argparse_manpage.manpage import Manpage
from argparse_manpage.tooling import get_parser
from click.core import Context, Group
from click_man.core import write_man_pages

from reachmap_collector.cli import main


def write(name: str, folder: Path, version: str) -> None:
    """Write the pages of the agent or the collector into a folder."""
    folder.mkdir()
    if name == "agent":
        _agent(folder, version)
    else:
        _collector(folder, version)


def _agent(folder: Path, version: str) -> None:
    parser = get_parser("module", "reachmap_agent.cli", "_parser", "function")
    what = {"project_name": "reachmap", "manual_title": "reachmap", "version": version}
    what["description"] = "checks what this host must reach"
    (folder / "reachmap-agent.1").write_text(str(Manpage(parser, what, format="pretty")))


def _collector(folder: Path, version: str) -> None:
    assert isinstance(main, Group)
    context = Context(main)
    for command in main.list_commands(context):  # they are loaded when asked for by name
        found = main.get_command(context, command)
        assert found is not None
        main.add_command(found)
    write_man_pages("reachmap", main, version=version, target_dir=str(folder), date=_date())


def _date() -> str:
    return f"{datetime.fromtimestamp(int(os.environ['SOURCE_DATE_EPOCH']), UTC):%Y-%m-%d}"
