"""What an agent keeps on disk over restarts: its last plan, its ceded ports, what waits."""

import os
from pathlib import Path

from reachmap_agent.settings import Settings
from reachmap_shared import codec
from reachmap_shared.messages import Plan


def ceded_path(settings: Settings) -> Path:
    """Where the ceded ports are written down."""
    return settings.state / f"{settings.id}.ceded.json"


def spool_path(settings: Settings) -> Path:
    """The folder of what waits for delivery."""
    return settings.state / f"{settings.id}.spool"


def load_plan(settings: Settings) -> Plan:
    """The last plan taken up. Raises OSError or MalformedMessage when there is none to be had."""
    return codec.decode(Plan, _plan_path(settings).read_bytes())


def save_plan(settings: Settings, plan: Plan) -> None:
    """Keep a plan, whole or not at all; for the owner only, as it holds the listeners' key."""
    path = _plan_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(codec.encode(plan))
        # An agent whose host lost power may have to work by it before any bus is there.
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _plan_path(settings: Settings) -> Path:
    return settings.state / f"{settings.id}.plan"
