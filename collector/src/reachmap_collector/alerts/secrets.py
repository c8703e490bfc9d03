"""Secrets of outlets: read from files and the environment, and kept out of all that is said."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from reachmap_collector.errors import Problem

_MAX: Final = 64 << 10
_KINDS: Final = ("_file", "_env")


class Secrets:
    """One outlet's secrets, by their settings' names without `_file` and `_env`."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)

    def get(self, name: str) -> str | None:
        """A secret; None when it is not given."""
        return self._values.get(name)

    def redacted(self, text: str) -> str:
        """A text without any of them, fit for a log."""
        for value in sorted(self._values.values(), key=len, reverse=True):
            text = text.replace(value, "***")
        return text

    def __repr__(self) -> str:
        return f"Secrets({', '.join(sorted(self._values))})"


def read_secrets(
    settings: Mapping[str, object], where: str, beside: Path
) -> tuple[Secrets, list[Problem]]:
    """Read what an outlet's `..._file` and `..._env` name.

    Args:
        settings: The outlet's.
        where: Its key path.
        beside: Folder that relative paths are relative to.
    """
    values: dict[str, str] = {}
    problems: list[Problem] = []
    for name, given in settings.items():
        kind = next((kind for kind in _KINDS if name.endswith(kind)), None)
        if name == "ca_file" or kind is None or not isinstance(given, str):
            continue
        try:
            text = _from_file(beside / given) if kind == "_file" else os.environ[given].strip()
            if not text:
                raise ValueError("is empty")
        except KeyError:
            problems.append(Problem(f"{where}.{name}", f"{given} is not in the environment"))
        except OSError as error:
            problems.append(Problem(f"{where}.{name}", f"{given} cannot be read: {error.strerror}"))
        except UnicodeDecodeError:
            problems.append(Problem(f"{where}.{name}", f"{given}: expected UTF-8 text"))
        except ValueError as error:
            problems.append(Problem(f"{where}.{name}", f"{given} {error}"))
        else:
            values[name.removesuffix(kind)] = text
    return Secrets(values), problems


def _from_file(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX).decode().strip()
