"""The bundle: all that one host needs to join the bus, in one text file. Pure.

`reachmap enroll` makes it, `reachmap-agent join` takes it apart. It is TOML, and a secret.
"""

import tomllib
from dataclasses import dataclass, fields
from typing import Any, Final, Self

from reachmap_shared.errors import InvalidName, InvalidSettings
from reachmap_shared.names import host_name

FORMAT: Final = 1
"""Of this version's bundles; an agent refuses those that it does not know."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """Who a host is on the bus, and where that is. Empty is what a way to run the bus lacks."""

    id: str
    """The host's name in the topology."""
    nats: tuple[str, ...] = ()
    """URLs of NATS servers of one cluster; empty leaves them to the agent's other settings."""
    ca: str = ""
    """PEM of who vouches for the servers."""
    credentials: str = ""
    """NATS credentials: a JWT and a seed."""
    nkey: str = ""
    """The seed of a key that the servers know by itself."""
    certificate: str = ""
    """PEM, shown to the servers."""
    key: str = ""
    """PEM of the key for it."""

    def document(self) -> dict[str, Any]:
        """What the file says."""
        said = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"format": FORMAT} | {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in said.items()
            if value
        }

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read one; raises InvalidSettings, which quotes nothing of it."""
        try:
            document = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidSettings("not a bundle: expected what `reachmap enroll` prints") from error
        if document.pop("format", None) != FORMAT:
            raise InvalidSettings(
                f"not a bundle of format {FORMAT}: expected what `reachmap enroll` of the same "
                "version prints"
            )
        nats = document.pop("nats", [])
        known = {field.name for field in fields(cls)} - {"nats"}
        if not (
            document.keys() <= known
            and isinstance(nats, list)
            and all(isinstance(value, str) for value in [*document.values(), *nats])
        ):
            raise InvalidSettings("not a bundle: it says things that a bundle does not")
        try:
            host_name(document.get("id", ""))
        except InvalidName as error:
            raise InvalidSettings(f"not a bundle: its id: {error}") from error
        return cls(nats=tuple(nats), **document)
