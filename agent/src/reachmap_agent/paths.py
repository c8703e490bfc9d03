"""Where an agent's settings, state and log are, by system."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def config(platform: str = sys.platform, environment: Mapping[str, str] = os.environ) -> Path:
    """The settings that are read where nothing else is said."""
    if platform == "win32":
        return program_data(environment) / "agent.toml"
    return Path("/etc/reachmap/agent.toml")


def state(environment: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Where the service manager says, or where such things are kept."""
    if given := environment.get("STATE_DIRECTORY"):
        return Path(given.partition(":")[0])
    if platform == "win32":
        return program_data(environment) / "state"
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/reachmap-agent")
    base = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "reachmap-agent"


def program_data(environment: Mapping[str, str]) -> Path:
    """On Windows: the folder of all that is ours, of which `reachmap-agent service` makes one."""
    return Path(environment.get("PROGRAMDATA") or r"C:\ProgramData") / "reachmap"
