"""Where a command finds the bus: --nats, --context, the environment."""

import json
import os
from pathlib import Path
from typing import Final

import click
from click.core import ParameterSource

from reachmap_shared import bus

NATS_VARIABLE: Final = "REACHMAP_NATS_URL"


def urls(nats: str | None, context: str | None) -> list[str]:
    """The servers' URLs that the options mean."""
    if nats and context and _is_typed("nats"):
        raise click.UsageError("--nats and --context both say where the bus is: give one")
    if context:
        return _context_urls(context)
    return [url.strip() for url in (nats or bus.DEFAULT_URL).split(",")]


def _context_urls(name: str) -> list[str]:
    """The URLs of a context as the nats command line keeps it (its architecture record 21)."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    path = Path(base) / "nats" / "context" / f"{name}.json"
    try:
        url = json.loads(path.read_text())["url"]
        if not url:
            raise ValueError("the url is empty")
    except OSError as error:
        raise click.UsageError(f"no context {name!r}: {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise click.UsageError(f"context {name!r} names no server: {path}") from error
    return [part.strip() for part in str(url).split(",")]


def _is_typed(option: str) -> bool:
    """Whether an option stands on the command line, and not just in the environment."""
    invocation = click.get_current_context(silent=True)
    return (
        invocation is None or invocation.get_parameter_source(option) is ParameterSource.COMMANDLINE
    )
