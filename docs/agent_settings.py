"""Writes agent-settings.md from the settings' own dataclasses: names, bounds, defaults, reasons.

`make docs` runs it; a test fails when the page is not what it would write.
"""

import ast
import inspect
from pathlib import Path
from typing import Any, Final

from reachmap_agent.limits import RANGES, ListenerLimits
from reachmap_agent.settings import ARGUMENTS, DEFAULT_PATH, ENVIRONMENT, Settings

PAGE: Final = Path(__file__).with_name("agent-settings.md")

_INTRODUCTION: Final = f"""\
# The agent's settings

<!-- Written by docs/agent_settings.py from the dataclasses; change it there, then `make docs`. -->

They stand in `{DEFAULT_PATH}`, or in the TOML file that `--config` names. A variable of the
environment goes before the file, an option of `reachmap-agent` before both, key by key; an empty
one counts as none. What cannot be used stops the agent with exit code 2, and it says the key, its
place and what was expected. All else comes with the plan.

```toml
nats = ["nats://nats-1.example:4222", "nats://nats-2.example:4222"]
id = "pc-17"
roles = ["agent", "agent-updater"]

[listeners]
talking_places = 64
```

Lists may also be written as one text with commas.
"""

_DIAGNOSIS: Final = """
## `diagnosis`

Default `true` · in the file alone

"""

_TABLE: Final = """
## `[listeners]`

What strangers may take of this host. The file alone has these; the defaults bear floods and port
scans on an ordinary host, and few will want others. Places and those who leave take a file
descriptor each: the agent raises its own soft limit as far as the hard one (`LimitNOFILE` in
systemd) permits.
"""


def page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    usual = Settings()
    for name, reason in _fields(Settings):
        if name in ENVIRONMENT:
            default = _default(getattr(usual, name))
            where = f"`{ENVIRONMENT[name]}`, `{ARGUMENTS[name]}`"
            parts.append(f"\n## `{name}`\n\nDefault {default} · {where}\n\n{reason}\n")
    parts.append(_DIAGNOSIS + dict(_fields(Settings))["diagnosis"] + "\n")
    parts.append(_TABLE)
    limits = ListenerLimits()
    for name, reason in _fields(ListenerLimits):
        value = getattr(limits, name)
        least, most = RANGES[name]
        kind = "a whole number" if isinstance(value, int) else "seconds"
        bounds = f"{kind} from {least:,} to {most:,}"
        parts.append(f"\n### `{name}`\n\nDefault {value:,} · {bounds}\n\n{reason}\n")
    return "".join(parts)


def _default(value: Any) -> str:
    if value in ("", (), None, Path()):
        return "empty"
    return f"`{', '.join(value)}`"


def _fields(of: type) -> list[tuple[str, str]]:
    """A dataclass's fields in their order, each with the text that stands below it."""
    (tree,) = ast.parse(inspect.getsource(of)).body
    assert isinstance(tree, ast.ClassDef)
    found = []
    for field, below in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            found.append((field.target.id, inspect.cleandoc(below.value.value)))
    return found


if __name__ == "__main__":
    PAGE.write_text(page())
