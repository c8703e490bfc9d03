"""`reachmap status`: a plugin for Nagios and all that came after it.

It says one line on standard output and exits with 0 to 3, whatever happens: to a monitoring system
the exit code of wrong usage, 2, would be an outage, and that of a crash, 1, a warning.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from reachmap_collector import render
from reachmap_collector.cli.options import ask, formatted, on_bus
from reachmap_shared.errors import ReachmapError


class _Plugin(click.Command):
    """A command of which every failure is an answer too: that it cannot tell."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """As click has it, but for wrong usage."""
        with _unknown_if_it_fails():
            return super().make_context(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        """As click has it, but for all that goes wrong."""
        style = context.params.get("style", "table")
        with _unknown_if_it_fails(to_people=style != "table"):
            return super().invoke(context)


@click.command(cls=_Plugin)
@formatted
@on_bus
def status(style: str, nats: str | None, context: str | None) -> None:
    """Say in one line how things are, with Nagios's exit codes and performance data.

    Exit code 0: all as expected; 1: degraded or unknown; 2: broken or exposed; 3: cannot tell.
    """
    answer = ask(nats, context, "status")
    render.show(
        style,
        answer,
        table=render.status,
        rows=lambda: render.status_rows(answer),
        spread=("agents", "delivery", "store", "observations"),
    )
    sys.exit(render.status_exit_code(answer))


@contextmanager
def _unknown_if_it_fails(*, to_people: bool = False) -> Iterator[None]:
    try:
        yield
    except click.ClickException as error:
        _say_unknown(error.format_message(), to_people=to_people)
    except ReachmapError as error:
        _say_unknown(str(error), to_people=to_people)
    except (click.exceptions.Exit, click.Abort, OSError):
        raise  # said already, or of a standard output that takes no line more
    except Exception as error:  # noqa: BLE001  see above: a crash would be a warning
        _say_unknown(f"{type(error).__name__}: {error}", to_people=to_people)


def _say_unknown(reason: str, *, to_people: bool) -> None:
    click.echo(render.cannot_tell(reason), err=to_people)
    sys.exit(render.CANNOT_TELL)


COMMANDS: Final = (status,)
