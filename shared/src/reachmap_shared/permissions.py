"""Who may publish and subscribe to what on the bus: one table, for every way to run it. Pure.

An agent's subjects bear its name, so whoever takes over an endpoint can lie about itself alone.
Its answers go to inboxes that bear its name too: `allow_responses`, which NATS offers for that,
lets an agent answer itself at any subject, and so speak in everybody's name.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from reachmap_shared.names import host_name


class Party(StrEnum):
    """Who connects to the bus."""

    AGENT = "agent"
    COLLECTOR = "collector"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects that one party may use; all others are refused by the server."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]

    def of(self, name: str) -> "Permissions":
        """Those of one agent: its name in place of NAME."""
        return Permissions(
            tuple(subject.replace(_NAME, name) for subject in self.publish),
            tuple(subject.replace(_NAME, name) for subject in self.subscribe),
        )


_NAME: Final = "NAME"

WHO_AM_I: Final = "$SYS.REQ.USER.INFO"
"""Where a server tells whoever asks what it knows of the asker alone, and its own time."""

TABLE: Final = {
    Party.AGENT: Permissions(
        publish=(
            "reachmap.hello.NAME",
            "reachmap.pulse.NAME",
            "reachmap.report.NAME",
            "reachmap.window.*.NAME",
            "reachmap.witness.*.NAME",
            # Its own plan, from the bucket's stream (NATS architecture record 31).
            "$JS.API.DIRECT.GET.KV_reachmap-plans.$KV.reachmap-plans.NAME",
            # For `reachmap-agent doctor`.
            WHO_AM_I,
            # Its answers to others, at inboxes that only it may use.
            "_INBOX.*.NAME.answer.*",
        ),
        subscribe=(
            "reachmap.ask.NAME",
            "reachmap.window.NAME.*",
            "reachmap.witness.NAME.*",
            "$KV.reachmap-plans.NAME",
            "_INBOX.NAME.>",
        ),
    ),
    Party.COLLECTOR: Permissions(
        publish=(
            "reachmap.>",
            "$JS.API.>",
            "$JS.ACK.>",
            "$KV.reachmap-plans.>",
            "$SRV.>",
            "_INBOX.>",
        ),
        subscribe=("reachmap.>", "$KV.reachmap-plans.>", "_INBOX.>", "$SRV.>"),
    ),
    Party.OPERATOR: Permissions(
        publish=("reachmap.query.>", "$SRV.>"),
        subscribe=("reachmap.alert.*", "reachmap.changes", "_INBOX.>"),
    ),
}
"""What each party may do; `NAME` stands for an agent's own."""

INBOX: Final = "_INBOX"
"""What the subjects begin with at which a connection is answered."""


def inbox(agent: str) -> str:
    """What the subjects begin with at which `agent` is answered; no other may listen there."""
    return f"{INBOX}.{host_name(agent)}"


def answer_inbox(prefix: str, answerer: str, token: str) -> str:
    """Where the agent `answerer`, and no other, may answer a question of whoever has `prefix`."""
    return f"{prefix}.{answerer}.answer.{token}"


def user_name(party: Party, agent: str = "") -> str:
    """What a server that knows users by name calls them: a host's name has no dot."""
    return host_name(agent) if party is Party.AGENT else f"{party}.reachmap"


def covers(pattern: str, subject: str) -> bool:
    """Whether a pattern has all that a subject stands for, wildcards in it included."""
    tokens, words = pattern.split("."), subject.split(".")
    if tokens[-1] == ">":
        tokens, words = tokens[:-1], words[: len(tokens) - 1]
        if len(subject.split(".")) <= len(tokens):
            return False
    return len(tokens) == len(words) and all(
        own == its or (own == "*" and its != ">") for own, its in zip(tokens, words, strict=True)
    )
