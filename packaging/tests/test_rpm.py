"""The rpms, installed, upgraded and erased by a real rpm, into a root where their scripts run.

The root is Debian's, so their dependencies are not looked up there; all else is rpm's own.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from machine import files, repacked

Find = Callable[..., Path]
Rpm = Callable[..., str]

PROGRAMS = {"agent": "reachmap-agent", "collector": "reachmap"}


@pytest.fixture(scope="module")
def rpm(root: Path, need: Callable[[str, str], None]) -> Rpm:
    """Runs rpm on the root; returns what it printed, but for Debian's opinion of it."""
    need("rpm", "rpm")
    need("unshare", "util-linux")

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [
                # With a /proc, for scripts, that goes with the command.
                *("unshare", "--mount", "--pid", "--fork", f"--mount-proc={root}/proc"),
                *("rpm", "--root", str(root), "--dbpath", "/var/lib/rpm", *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, (arguments, done.stdout)
        lines = done.stdout.splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("rpm: "))

    run("--initdb")
    return run


def inside(root: Path, *command: str) -> str:
    """What a command prints in the root."""
    done = subprocess.run(
        ["chroot", str(root), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert done.returncode == 0, (command, done.stdout)
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["agent", "collector"])
def test_it_needs_nothing_but_the_libraries_of_every_system(
    name: str, rpm: Rpm, package: Find
) -> None:
    """No Python, no package of another vendor's."""
    needed = rpm("--query", "--package", "--requires", str(package(name, "rpm"))).splitlines()
    assert [one for one in needed if not one.startswith(("rpmlib(", "/bin/sh", "config("))] == [
        one for one in needed if one.startswith("glibc >= ")
    ]


@pytest.mark.parametrize("name", ["agent", "collector"])
def test_installed_it_is_as_it_was_packed(name: str, rpm: Rpm, root: Path, package: Find) -> None:
    """Its scripts made the user, and gave it what only it may read; its program runs."""
    user = f"reachmap-{name}"
    told = rpm("--install", "--nodeps", str(package(name, "rpm"))).splitlines()
    assert [line.partition("'")[0] for line in told] == ["Creating group ", "Creating user "], told
    assert user in inside(root, "getent", "passwd", user)
    # What rpm finds changed: the modes that tmpfiles.d gives to the agent's settings, on purpose.
    changed = rpm("--verify", "--nodeps", user, code=1 if name == "agent" else 0).split()
    assert [word for word in changed if word.startswith("/")] == (
        ["/etc/reachmap/agent.toml"] if name == "agent" else []
    )
    owned = inside(root, "stat", "--format", "%U %G %a", f"/usr/lib/{user}/{PROGRAMS[name]}")
    assert owned == "root root 755"
    assert inside(root, PROGRAMS[name], "--version").startswith("reachmap")


def test_only_the_agent_may_read_its_settings(root: Path) -> None:
    """The bus's address may hold a password."""
    mode = inside(root, "stat", "--format", "%a %U %G", "/etc/reachmap/agent.toml")
    assert mode == "640 root reachmap-agent"


def test_an_upgrade_keeps_the_settings(rpm: Rpm, root: Path, package: Find, tmp_path: Path) -> None:
    """Going back is refused. Of both versions one is left, and what an administrator wrote."""
    settings = root / "etc/reachmap/agent.toml"
    settings.write_text('id = "pc-17"\n')
    newer = repacked("agent", "99.0.0", tmp_path, "rpm")
    rpm("--upgrade", "--nodeps", str(newer))
    assert rpm("--query", "reachmap-agent").splitlines() == ["reachmap-agent-99.0.0-1.x86_64"]
    assert settings.read_text() == 'id = "pc-17"\n'
    assert (root / "usr/lib/reachmap-agent/reachmap-agent").exists()
    assert "newer than" in rpm("--upgrade", "--nodeps", str(package("agent", "rpm")), code=2)


def test_erased_it_leaves_what_an_administrator_wrote(rpm: Rpm, root: Path) -> None:
    """As rpm has it: changed settings under another name, and users, whose files may be left."""
    rpm("--erase", "reachmap-agent", "reachmap-collector")
    left = {path.removeprefix(str(root)) for path in files(root)}
    assert left == {"/etc/reachmap"}
    assert [path.name for path in (root / "etc/reachmap").iterdir()] == ["agent.toml.rpmsave"]
    assert rpm("--query", "--all") == ""
