"""The collector's own errors, below reachmap_shared.errors.ReachmapError. Pure.

ReachmapError
├── InvalidFile           a file of the user's, refused whole: every problem with its place
├── ServerError           the NATS server that we started ourselves did not start or stay
├── StreamRefused         JetStream answered with an error
└── StoreError            what the collector keeps
    ├── StoreUnavailable  it cannot be read or written right now, and may well be soon
    └── StoreRefused      it cannot be used until somebody does something about it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reachmap_shared.errors import ReachmapError

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a file."""

    where: str
    """Key path, as in `hosts.nats-1.ports`, or `line 7`; empty for the file as a whole."""
    message: str
    """What is wrong, and what was expected."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class InvalidFile(ReachmapError):
    """A file that is refused whole. Its text is one line a problem, each with the file's name."""

    def __init__(self, path: Path | str, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        lines = [f"{path}: {problem}" for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"{path}: and {len(self.problems) - _SHOWN} more problems")
        super().__init__("\n".join(lines))


class ServerError(ReachmapError):
    """The NATS server that we started ourselves did not start or stay."""


class StreamRefused(ReachmapError):
    """JetStream answered with an error; says which, and has its code."""

    def __init__(self, description: str, code: int = 0) -> None:
        super().__init__(description)
        self.code = code


class StoreError(ReachmapError):
    """Something is wrong with what the collector keeps. No message of these bears a password."""


class StoreUnavailable(StoreError):
    """The store cannot be read or written right now, and may well be soon; says why."""


class StoreRefused(StoreError):
    """The store cannot be used until somebody does something about it; says what."""
