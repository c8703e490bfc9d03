"""`reachmap-agent join`: takes up who this host is on the bus.

It writes the bundle's secrets into files of their own, owner-only, and names them in the agent's
settings. What else these say stays. Somebody else's enrolment is never replaced unasked.
"""

import contextlib
import json
import os
import shutil
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reachmap_agent.settings import Settings
from reachmap_shared import bus
from reachmap_shared.access import write_secret
from reachmap_shared.bundle import Bundle
from reachmap_shared.errors import InvalidSettings
from reachmap_shared.urls import without_password

_SERVICE_USER: Final = "reachmap-agent"
"""Who the agent runs as where it is a service; systemd/reachmap-agent.service says so."""

_FILES: Final = {
    "nats_credentials": ("credentials", "agent.creds"),
    "nats_nkey": ("nkey", "agent.nk"),
    "nats_ca": ("ca", "bus-ca.pem"),
    "nats_certificate": ("certificate", "agent-bus.pem"),
    "nats_key": ("key", "agent-bus.key"),
}
"""Settings, with the bundle's part and the file that each names."""

_OURS: Final = ("id", "nats", *_FILES)


@dataclass(frozen=True, slots=True)
class Joined:
    """What was done."""

    id: str
    config: Path
    written: tuple[Path, ...]
    owner: str
    """Whom the secrets were given to; empty for whoever ran the command."""

    def lines(self) -> Iterator[str]:
        """For people."""
        yield f"this host is {self.id} on the bus"
        for path in self.written:
            whose = f", for {self.owner} alone" if self.owner else ", for its owner alone"
            yield f"wrote {path}{'' if path == self.config else whose}"
        if not self.written:
            yield f"{self.config} says so already; nothing was written"


def read(path: Path) -> str:
    """A bundle's text."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidSettings(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InvalidSettings(f"{path}: not a bundle: not text") from error


def write(bundle: Bundle, config: Path, *, force: bool) -> Joined:
    """Write settings and secrets.

    Raises:
        InvalidSettings: This host is enrolled as somebody else, or the files cannot be written.
    """
    folder = config.absolute().parent
    before, text = _settings(config)
    secrets = {
        folder / name: getattr(bundle, part)
        for part, name in _FILES.values()
        if getattr(bundle, part)
    }
    after = {key: value for key, value in before.items() if key not in _OURS}
    after["id"] = bundle.id
    if nats := list(bundle.nats) or before.get("nats"):
        after["nats"] = nats
    after |= {
        key: str(folder / name) for key, (part, name) in _FILES.items() if getattr(bundle, part)
    }
    if not force:
        _refuse_another(config, before, after, secrets)
    owner = _service_user()
    changed = [path for path, content in secrets.items() if _content(path) != content]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in changed:
            write_secret(path, secrets[path])
            if owner:
                shutil.chown(path, owner, owner)
        if after != before:
            changed.append(config)
            draft = config.with_name(config.name + ".new")
            draft.write_text(_merged(text, before, after), encoding="utf-8")
            if config.exists():
                _made_alike(draft, config.stat())
            else:
                draft.chmod(0o644)  # it names secrets, and holds none
            draft.replace(config)
    except (OSError, LookupError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidSettings(
            f"{folder}: cannot be written: {reason}; run it as root, or say where with --config"
        ) from error
    return Joined(bundle.id, config, tuple(changed), owner)


async def try_out(settings: Settings) -> str:
    """Connect once; returns what to say of it. Raises BusUnavailable and InvalidSettings."""
    name = f"reachmap-agent join {settings.id}"
    async with bus.connected(settings.nats, name, settings.access) as connection:
        await connection.flush()
        urls = ", ".join(map(without_password, settings.nats))
        return f"the NATS server at {urls} lets this host in"


def _made_alike(draft: Path, before: os.stat_result) -> None:
    """Let those read it who could before: a package may have made it the service's group's."""
    if hasattr(os, "chown") and (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(draft, before.st_uid, before.st_gid)
    draft.chmod(stat.S_IMODE(before.st_mode))


def _settings(config: Path) -> tuple[dict[str, Any], str]:
    try:
        text = config.read_text(encoding="utf-8-sig")
        return tomllib.loads(text), text
    except FileNotFoundError:
        return {}, ""
    except OSError as error:
        raise InvalidSettings(f"{config}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidSettings(f"{config}: not TOML: {error}") from error


def _refuse_another(
    config: Path, before: Mapping[str, Any], after: Mapping[str, Any], secrets: Mapping[Path, str]
) -> None:
    """Whoever was enrolled on purpose stays until somebody says otherwise."""
    id_before = before.get("id")
    if id_before not in (None, after["id"]):
        raise InvalidSettings(
            f"{config}: this host is {id_before} already, and the bundle is for {after['id']}: "
            "--force replaces it"
        )
    for key in _FILES:
        if key in before and before[key] != after.get(key):
            raise InvalidSettings(
                f"{config}: {key} names {before[key]} already: --force replaces the setting"
            )
    for path, content in secrets.items():
        if _content(path) not in (None, content):
            raise InvalidSettings(f"{path}: holds something else already: --force replaces it")


def _content(path: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        return path.read_text(encoding="utf-8")
    return None


def _merged(text: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The settings as they were written, with our lines replaced."""
    ours = {key: value for key, value in after.items() if before.get(key) != value}
    gone = {key for key in before if key not in after} | ours.keys()
    lines = text.splitlines()
    tables = next((n for n, line in enumerate(lines) if line.lstrip().startswith("[")), len(lines))
    top = [line for line in lines[:tables] if line.partition("=")[0].strip() not in gone]
    new = [f"{key} = {_toml(value)}" for key, value in ours.items()]
    merged = "\n".join([*top, *new, *lines[tables:]]) + "\n"
    with contextlib.suppress(ValueError):
        if tomllib.loads(merged) == after:
            return merged
    # A value over several lines, say: then comments are lost, and no setting is.
    flat = {key: value for key, value in after.items() if not isinstance(value, dict)}
    text = "".join(f"{key} = {_toml(value)}\n" for key, value in flat.items())
    for name in after.keys() - flat.keys():
        text += f"\n[{name}]\n"
        text += "".join(f"{key} = {_toml(value)}\n" for key, value in after[name].items())
    return text


def _toml(value: Any) -> str:
    """Strings, numbers and lists of strings, as settings are; JSON's are TOML's too."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _service_user() -> str:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return ""
    import pwd

    try:
        pwd.getpwnam(_SERVICE_USER)
    except KeyError:
        return ""
    return _SERVICE_USER
