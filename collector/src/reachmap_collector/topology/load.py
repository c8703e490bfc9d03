"""Read topology and profile files: bytes to a topology that makes sense, or InvalidFile."""

import tomllib
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from reachmap_collector.errors import InvalidFile, Problem
from reachmap_collector.topology.model import NamedProfile, Topology, assemble
from reachmap_collector.topology.remainder import Place, Remainder
from reachmap_collector.topology.schema import ProfileFile, TopologyFile

MAX_FILE: Final = 16 << 20
"""Bytes: a topology of 20,000 hosts is below 4 MiB."""

_KEY: Final = "[key]"
"""pydantic's mark for a mapping's key that is itself wrong."""

File = TypeVar("File", bound=BaseModel)


def load_topology(path: Path) -> Topology:
    """Read a topology file and the profiles that it builds on.

    Raises:
        InvalidFile: With every problem found, each with its key path and what was expected.
    """
    return parse_topology(read_text(path), path)


def parse_topology(text: str, path: Path) -> Topology:
    """Read a topology's text as if it stood in `path`, which profiles' paths are relative to."""
    content = parsed(text, path)
    try:
        file = TopologyFile.model_validate(content)
    except ValidationError as error:
        problems = [*_problems(error), *_further(content, error, path)]
        raise InvalidFile(path, problems) from error
    topology, problems = _assembled(file, path)
    if problems:
        raise InvalidFile(path, problems)
    return topology


def load_profile(name: str) -> ProfileFile:
    """Read a built-in profile by its name, or one of the user's by its path.

    Raises:
        InvalidFile: With every problem found; also when there is no such profile.
    """
    try:
        path = _profile_path(name, Path())
    except OSError as error:
        raise InvalidFile(name, [Problem("", str(error))]) from None
    return _load(ProfileFile, path)


def builtin_profiles() -> list[str]:
    """The names of the profiles that come with reachmap."""
    return sorted(path.stem for path in _builtin_folder().glob("*.toml"))


def read_text(path: Path) -> str:
    """A user's text file, of bounded size and in UTF-8; raises InvalidFile."""
    try:
        with path.open("rb") as file:
            # A pipe or a device has no size to ask for, so the reading itself is bounded.
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise InvalidFile(path, [Problem("", f"cannot be read: {error.strerror}")]) from error
    if len(content) > MAX_FILE:
        raise InvalidFile(
            path, [Problem("", f"too large: expected at most {MAX_FILE} bytes (16 MiB)")]
        )
    try:
        # Windows editors put a byte order mark in front, which TOML does not know.
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InvalidFile(path, [Problem(f"byte {error.start}", "expected UTF-8 text")]) from error


def _assembled(content: TopologyFile, path: Path) -> tuple[Topology, list[Problem]]:
    profiles: dict[Path, NamedProfile] = {}
    _collect(content, path, profiles, trail=(path.resolve(),))
    return assemble(content, list(profiles.values()))


def _further(content: dict[str, Any], error: ValidationError, path: Path) -> Iterator[Problem]:
    """What is wrong besides in a topology that has no shape."""
    rest = Remainder(content, _key_path)
    while rest.lose(_mistakes(error)):
        try:
            file = TopologyFile.model_validate(rest.content)
        except ValidationError as again:
            error = again
            continue
        try:
            _, problems = _assembled(file, path)
        except InvalidFile as refused:  # a profile's, which is told of once it can be looked for
            problems = [*refused.problems] if refused.path == path else []
        for problem in problems:
            if (where := rest.as_written(problem.where)) is not None:
                yield Problem(where, problem.message)
        return


def _mistakes(error: ValidationError) -> list[tuple[Place, bool]]:
    return [
        (
            tuple(key for key in one["loc"] if key != _KEY),
            one["type"] == "extra_forbidden",
        )
        for one in error.errors(include_url=False)
    ]


def _collect(
    content: ProfileFile, path: Path, found: dict[Path, NamedProfile], trail: tuple[Path, ...]
) -> None:
    """Add the profiles that `content` builds on, depth first, so that each follows its own."""
    for index, name in enumerate(content.profiles):
        where = f"profiles[{index}]"
        try:
            profile_path = _profile_path(name, path.parent)
        except OSError as error:
            raise InvalidFile(path, [Problem(where, str(error))]) from None
        # Resolved: `../here/a.toml` is the same file as `a.toml`, in a cycle as in a diamond.
        key = profile_path.resolve()
        if key in trail:
            cycle = " -> ".join(map(str, [*trail[trail.index(key) :], key]))
            raise InvalidFile(path, [Problem(where, f"a cycle of profiles: {cycle}")])
        if key not in found:
            profile = _load(ProfileFile, profile_path)
            _collect(profile, profile_path, found, (*trail, key))
            # People know a row by its profile's name and its number: no two may share a name.
            taken = {other.name for other in found.values()}
            stem = profile_path.stem
            found[key] = NamedProfile(str(profile_path) if stem in taken else stem, profile)


def _profile_path(name: str, beside: Path) -> Path:
    if name.endswith(".toml"):
        path = beside / name
        if not path.is_file():
            raise FileNotFoundError(f"no profile file at {path}")
        return path
    path = _builtin_folder() / f"{name}.toml"
    if name not in builtin_profiles():
        raise FileNotFoundError(
            f"unknown profile {name!r}: expected one of {', '.join(builtin_profiles())}, "
            "or the path of a .toml file"
        )
    return path


def _builtin_folder() -> Path:
    return Path(str(resources.files("reachmap_collector.topology") / "profiles"))


def _load(kind: type[File], path: Path) -> File:
    return validated(kind, parsed(read_text(path), path), path)


def parsed(text: str, path: Path) -> dict[str, Any]:
    """What a TOML file says; raises InvalidFile."""
    try:
        return tomllib.loads(text)
    # TOMLDecodeError is a ValueError; an integer of thousands of digits is a plain one.
    except (ValueError, RecursionError) as error:
        message = str(error)
        if message.startswith("Cannot declare"):
            message += ": each name may stand once"
        raise InvalidFile(path, [Problem("", f"not TOML: {message}")]) from error


def validated(kind: type[File], content: dict[str, Any], path: Path) -> File:
    """A file's content in its shape; raises InvalidFile with every problem's key path."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise InvalidFile(path, _problems(error)) from error


def _problems(error: ValidationError) -> list[Problem]:
    return [
        Problem(_key_path(problem["loc"]), _message(problem["type"], problem["msg"], problem))
        for problem in error.errors(include_url=False)
    ]


def _key_path(location: Iterable[int | str]) -> str:
    path = ""
    for key in location:
        if isinstance(key, int):
            path += f"[{key}]"
        elif key == _KEY:
            continue
        elif key.replace("_", "").replace("-", "").isalnum():
            path += f".{key}" if path else key
        else:
            path += f'."{key}"' if path else f'"{key}"'
    return path


def _message(kind: str, message: str, problem: Any) -> str:
    if kind == "extra_forbidden":
        return "unknown key"
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    shown = repr(problem["input"])
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"{message[0].lower()}{message[1:]}, got {shown}"
