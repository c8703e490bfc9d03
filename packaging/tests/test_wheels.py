"""The wheels, installed as tools by those who have Python: by uv and by pipx, in a clean home."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PACKAGING = Path(__file__).parent.parent
BIN = PACKAGING.parent / ".venv-package/bin"
DIST = PACKAGING.parent / "dist"

INSTALL = {
    "uv": ("tool", "install", "--find-links", str(DIST), "--constraints", "{constraints}"),
    "pipx": ("install", "--pip-args=--find-links {dist} --constraint {constraints}"),
}
UNINSTALL = {"uv": ("tool", "uninstall"), "pipx": ("uninstall",)}

ON_AN_ENDPOINT = {
    *("cffi", "msgpack", "nats_py", "nkeys", "pycparser", "pynacl"),
    *("reachmap_agent", "reachmap_shared"),
}

COMMANDS = (
    ("reachmap-agent", ("--version",), 0, "reachmap-agent "),
    ("reachmap-agent", ("doctor", "--json", "--nats", "nats://127.0.0.1:1"), 1, "refused"),
    ("reachmap", ("--version",), 0, "reachmap"),
    ("reachmap", ("topology", "show", "openuem"), 0, "nats-server"),
    ("reachmap", ("status", "--nats", "nats://127.0.0.1:1"), 3, "UNKNOWN"),
)

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Somebody's who has installed nothing yet; spaces are allowed in their name."""
    made = tmp_path / "some body"
    made.mkdir()
    return made


@pytest.fixture
def run(home: Path) -> Run:
    """Runs a command as theirs. Where packages come from is this machine's own affair."""
    theirs = ("UV_", "PIP_", "SSL_", "REQUESTS_", "HTTP", "http", "NO_PROXY", "no_proxy", "LANG")
    environment = {key: its for key, its in os.environ.items() if key.startswith(theirs)}
    environment |= {
        "HOME": str(home),
        "PATH": f"{home}/.local/bin:{BIN}:/usr/bin:/bin",
        "UV_PYTHON": str(BIN / "python"),
        "UV_PYTHON_DOWNLOADS": "never",
    }
    own = Path.home() / ".config/pip/pip.conf"
    if own.exists():
        environment.setdefault("PIP_CONFIG_FILE", str(own))

    def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=home,
            timeout=300,
        )

    return command


@pytest.mark.parametrize("tool", ["uv", "pipx"])
def test_the_wheels_are_tools(tool: str, home: Path, run: Run) -> None:
    """Each with an environment of its own and its command on PATH; removed, it is gone."""
    constraints = home / "constraints.txt"
    locked = (PACKAGING.parent / "requirements/package.txt").read_text()
    constraints.write_text("\n".join(re.findall(r"^\S+==[^\\\n]+", locked, re.MULTILINE)))
    options = [option.format(dist=DIST, constraints=constraints.name) for option in INSTALL[tool]]
    for name in ("reachmap-agent", "reachmap-collector"):
        done = run(tool, *options, name)
        assert done.returncode == 0, done.stdout + done.stderr
    for program, arguments, code, says in COMMANDS:
        assert (home / ".local/bin" / program).exists()
        done = run(program, *arguments)
        told = done.stdout + done.stderr
        assert (done.returncode, says in told) == (code, True), (program, arguments, told)
    where = ".local/**/lib/python*/site-packages/reachmap_agent-*.dist-info"
    (metadata,) = home.glob(where)
    there = {path.name.partition("-")[0].lower() for path in metadata.parent.glob("*.dist-info")}
    assert there - {"pip"} == ON_AN_ENDPOINT
    for name in ("reachmap-agent", "reachmap-collector"):
        done = run(tool, *UNINSTALL[tool], name)
        assert done.returncode == 0, done.stdout + done.stderr
    assert not list((home / ".local/bin").glob("reachmap*"))
    assert not list((home / ".local").rglob("reachmap_agent"))
