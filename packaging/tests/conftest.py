"""What the tests of the packages share: the packages, and a root of Debian to install them into.

They need root and what `.ci/run` installs; where these are missing they are skipped with the
reason, and in CI (CI=true) fail with it.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parent.parent.parent
DIST = ROOT / "dist"

_IN_THE_ROOT = ("systemd", "systemd-sysv", "dbus", "iproute2")


def give_up(reason: str) -> NoReturn:
    """Skip; in CI fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"in CI this must run: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def need() -> Callable[[str, str], None]:
    """Gives up where a program is missing."""

    def check(program: str, package: str) -> None:
        if shutil.which(program) is None:
            give_up(f"{program} is missing; on Debian: apt install {package}")

    return check


@pytest.fixture(scope="session")
def package() -> Callable[[str, str], Path]:
    """A package by its name and kind, as `make packages` left it."""

    def find(name: str, kind: str = "deb") -> Path:
        found = sorted(DIST.glob(f"reachmap-{name}[-_]*.{kind}"))
        if len(found) != 1:
            give_up(f"expected one {kind} of {name} in dist/, found {len(found)}: make packages")
        return found[0]

    return find


@pytest.fixture(scope="session")
def pristine_root(
    tmp_path_factory: pytest.TempPathFactory, need: Callable[[str, str], None]
) -> Path:
    """Debian's least with a systemd, and without Python; REACHMAP_TEST_ROOT may name one to keep."""
    if os.geteuid() != 0:
        give_up("a root of its own can be made and booted by root only")
    need("debootstrap", "debootstrap")
    kept = os.environ.get("REACHMAP_TEST_ROOT")
    root = Path(kept) if kept else tmp_path_factory.mktemp("debian") / "root"
    if not (root / "etc/debian_version").exists():
        suite, mirror = _mirror()
        made = subprocess.run(
            [
                *("debootstrap", "--variant=minbase", f"--include={','.join(_IN_THE_ROOT)}"),
                *(suite, str(root), mirror),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            give_up(f"debootstrap: {made.stdout[-500:]}{made.stderr[-500:]}")
    return root


@pytest.fixture(scope="module")
def root(pristine_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it for one module's tests."""
    target = tmp_path_factory.mktemp("machine") / "root"
    subprocess.run(
        ["cp", "--archive", "--reflink=auto", str(pristine_root), str(target)], check=True
    )
    return target


def _mirror() -> tuple[str, str]:
    """This machine's release, and where it gets its packages: its own settings of apt say so."""
    options = ["--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages", "Origin: Debian"]
    done = subprocess.run(
        ["apt-get", "indextargets", *options], capture_output=True, text=True, check=False
    )
    if found := re.search(r"^(\w+) (\S+)$", done.stdout, re.MULTILINE):
        return found[1], found[2]
    give_up("apt has no list of Debian's packages here: apt-get update")
