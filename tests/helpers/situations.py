"""What a flow's destination may be in while it is judged, and tables of what is said in each."""

from collections.abc import Callable
from typing import Any

from reachmap_shared.messages import Presence
from reachmap_shared.vocabulary import ListenerState, Outcome

NOW = 100.0
STALE_S = 3 * 10.0 + 3.5
"""Three intervals and a timeout, by the defaults."""

SITUATIONS = (
    *("absent", "silent", "left", "conflict", "mute"),
    *("listen", "held", "ready", "ceded", "failed", "never"),
)
"""How the destination's agent stands; of those that are there, what it says of the port."""

SAYINGS = {
    "listen": (ListenerState.LISTENING, ""),
    "held": (ListenerState.CEDED, "nginx"),
    "ready": (ListenerState.READY, ""),
    "ceded": (ListenerState.CEDED, ""),
    "failed": (ListenerState.FAILED, ""),
    "never": (ListenerState.NEVER, ""),
}
"""A listener's state and the port's holder, in the situations where the agent names the port."""


def cells(grid: str) -> list[tuple[Outcome, str, str]]:
    header, *rows = grid.strip().splitlines()
    assert tuple(header.split()) == SITUATIONS
    return [
        (Outcome(row.split()[0]), situation, cell)
        for row in rows
        for situation, cell in zip(SITUATIONS, row.split()[1:], strict=True)
    ]


def situate(scene: Any, listener: Callable[..., Any], host: str, service: str, how: str) -> None:
    """Bring the agent on `host` into one of SITUATIONS at NOW."""
    match how:
        case "absent":
            pass
        case "silent":
            scene.hear(host, 0.0)
        case "left":
            scene.hear(host, NOW, presence=Presence.LEAVING)
        case "conflict":
            for at, boot in ((NOW - 3, "a"), (NOW - 2, "b"), (NOW - 1, "a")):
                scene.hear(host, at, boot)
        case "mute":
            scene.hear(host, NOW)
        case _:
            state, holder = SAYINGS[how]
            scene.hear(host, NOW, listeners=(listener(service, state, holder=holder),))
