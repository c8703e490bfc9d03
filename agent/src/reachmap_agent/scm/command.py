"""`reachmap-agent service` on Windows."""

import sys
from collections.abc import Callable

from reachmap_agent.memory import load_plan
from reachmap_agent.scm import control, firewall
from reachmap_agent.settings import Settings
from reachmap_shared.errors import MalformedMessage


def run(action: str, load: Callable[[], Settings]) -> int:
    """Do one of `install`, `remove`, `start`, `stop`, `status` and `firewall`.

    Raises:
        InvalidSettings: `firewall` needs settings that can be used.
    """
    if action == "firewall":
        return _firewall(load())
    try:
        said = control.ACTIONS[action]()
    except control.ControlFailed as error:
        print(f"reachmap-agent: {error}", file=sys.stderr)
        return 1
    print(said)
    return int(action == "status" and said != control.RUNNING)


def _firewall(settings: Settings) -> int:
    try:
        plan = load_plan(settings)
    except (OSError, MalformedMessage) as error:
        print(
            f"reachmap-agent: no plan says which ports: {error}; let the agent run first",
            file=sys.stderr,
        )
        return 1
    print(firewall.script(plan.listeners), end="")
    return 0
