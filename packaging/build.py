"""`make packages`: deb and rpm of agent and collector, into dist/.

Each is self-contained: PyInstaller freezes the program with the interpreter that runs this script,
so nothing depends on the distribution's Python; nfpm packs it. What is frozen is what is installed
here: run it in an environment that has run.txt and package.txt, and nothing else.

The same sources give the same bytes: times are the last commit's, hashes are not salted.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "packaging"
DIST = ROOT / "dist"
BUILD = ROOT / "build"


@dataclass(frozen=True)
class Program:
    """What is frozen into one package."""

    name: str
    command: str
    entry: str
    without: tuple[str, ...]
    """Modules of the standard library and of others that it never imports, however they beckon."""
    data: tuple[str, ...] = ()
    """Packages whose data files and metadata it reads."""


AGENT = Program(
    "agent",
    "reachmap-agent",
    "reachmap_agent.__main__",
    without=(
        "curses",
        "lib2to3",
        "multiprocessing",
        "pydoc",
        "readline",
        "rich",
        "sqlite3",
        "tkinter",
        "unittest",
        "xml",
        "xmlrpc",
        "reachmap_collector",
        "pydantic",
        "cryptography",
    ),
)
COLLECTOR = Program(
    "collector",
    "reachmap",
    "reachmap_collector.__main__",
    without=("curses", "lib2to3", "tkinter", "unittest", "reachmap_agent"),
    data=("reachmap_collector",),
)


def main() -> None:
    """Freeze and pack both."""
    version = _version()
    environment = {**os.environ, "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": _commit_time()}
    DIST.mkdir(exist_ok=True)
    for program in (AGENT, COLLECTOR):
        print(f"freezing {program.command} ...", flush=True)
        frozen = _freeze(program, environment)
        for kind in ("deb", "rpm"):
            made = _pack(program, frozen, kind, version, environment)
            print(f"  {made.relative_to(ROOT)}  {made.stat().st_size / 1e6:.1f} MB", flush=True)


def _freeze(program: Program, environment: dict[str, str]) -> Path:
    work = BUILD / program.name
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    entry = work / "entry.py"
    entry.write_text(f"from {program.entry} import main\n\nmain()\n")
    command = [sys.executable, "-m", "PyInstaller", "--onedir", "--clean", "--noconfirm", "--strip"]
    command += ["--log-level", "ERROR", "--name", program.command]
    command += ["--distpath", str(work), "--workpath", str(work / "work")]
    command += ["--specpath", str(work)]
    for module in program.without:
        command += ["--exclude-module", module]
    for package in program.data:
        command += ["--collect-all", package]
    subprocess.run([*command, str(entry)], check=True, env=environment, cwd=work)
    frozen = work / program.command
    for licence in frozen.glob("_internal/*.dist-info/RECORD"):
        licence.unlink()  # it lists files that are not there
    return frozen


def _pack(
    program: Program, frozen: Path, kind: str, version: str, environment: dict[str, str]
) -> Path:
    command = [shutil.which("nfpm") or str(Path(sys.executable).with_name("nfpm")), "package"]
    command += ["--config", str(PACKAGING / program.name / "nfpm.yaml")]
    command += ["--packager", kind]
    made = DIST / f"reachmap-{program.name}_{version}.{kind}"
    subprocess.run(
        [*command, "--target", str(made)],
        check=True,
        cwd=ROOT,
        env={**environment, "VERSION": version, "FROZEN": str(frozen.relative_to(ROOT))},
        stdout=subprocess.DEVNULL,
    )
    return made


def _version() -> str:
    line = next(
        line
        for line in (ROOT / "shared/src/reachmap_shared/__init__.py").read_text().splitlines()
        if line.startswith("__version__")
    )
    return line.split('"')[1]


def _commit_time() -> str:
    command = ["git", "-C", str(ROOT), "-c", "safe.directory=*", "log", "-1", "--format=%ct"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
