"""`make packages`: deb and rpm of agent and collector, into dist/.

Each is self-contained: PyInstaller freezes the program with the interpreter that runs this script,
so nothing depends on the distribution's Python; nfpm packs it. What is frozen is what is installed
here: run it in an environment that has package.txt and the wheels, and nothing else.

The same sources give the same bytes: times are the last commit's, hashes are not salted.
"""

import argparse
import gzip
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import manuals
import notices

ROOT = Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "packaging"
KINDS = ("deb", "rpm")

_UNUSED = ("curses", "lib2to3", "pdb", "pydoc", "readline", "tkinter", "unittest", "xmlrpc")
"""Parts of the standard library that beckon from somewhere, and that nothing of ours imports."""


@dataclass(frozen=True)
class Program:
    """What is frozen into one package."""

    name: str
    command: str
    without: tuple[str, ...]
    """Modules that it never imports, however they beckon."""
    with_: tuple[str, ...] = ()
    """Modules that only run time names, where PyInstaller does not find them."""
    data: tuple[str, ...] = ()
    """Packages whose data files it reads."""
    sources: tuple[str, ...] = ()
    """Folders of modules that are read as files."""
    beside: tuple[str, ...] = ()
    """Programs that it starts, from this environment's folder of programs."""
    lean: bool = False
    """Without docstrings and asserts (-OO), which some libraries read, and without PyInstaller's
    hooks, which load what they mend: it lies in memory on each host."""


_WITHOUT_HOOKS = """\
a.scripts = [script for script in a.scripts if not script[0].startswith("pyi_rth_")]
"""

_BUS = (
    "pkgutil",  # nats/__init__.py asks for it by __import__
    "_cffi_backend",  # PyNaCl's compiled part asks for it; it signs for credentials
)

PROGRAMS = {
    "agent": Program(
        "agent",
        "reachmap-agent",
        without=(
            *_UNUSED,
            *("sqlite3", "xml", "rich", "reachmap_collector", "pydantic"),
            *("nats.js", "nats.micro", "nats.contrib"),  # see reachmap_shared.lean
            # What the standard library does without where they are not there, as fast for us.
            *("bz2", "lzma", "_pickle", "_uuid"),
        ),
        with_=_BUS,
        lean=True,
    ),
    "collector": Program(
        "collector",
        "reachmap",
        without=(*_UNUSED, "setuptools", "reachmap_agent"),
        with_=(*_BUS, "psycopg", "psycopg_binary"),
        data=("reachmap_collector",),
        sources=("reachmap_collector/store/migrations",),
        beside=("nats-server",),
    ),
}


def main() -> None:
    """Freeze and pack what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "names", nargs="*", default=[*PROGRAMS], metavar="NAME", help="agent, collector"
    )
    parser.add_argument("--version", default=_version(), help="of the packages [%(default)s]")
    parser.add_argument("--build", type=Path, default=ROOT / "build", metavar="DIR")
    parser.add_argument("--into", type=Path, default=ROOT / "dist", metavar="DIR")
    parser.add_argument("--repack", action="store_true", help="pack what was frozen before")
    parser.add_argument("--kind", choices=KINDS, help="deb or rpm alone")
    options = parser.parse_args()
    os.environ |= {
        "PYTHONHASHSEED": "0",
        "PYTHONNODEBUGRANGES": "1",  # columns of a line, in tracebacks: 1 MB of an agent's memory
        "SOURCE_DATE_EPOCH": _commit_time(),
    }
    options.into.mkdir(parents=True, exist_ok=True)
    for name in options.names:
        program, work = PROGRAMS[name], options.build.resolve() / name
        if not options.repack:
            print(f"freezing {program.command} ...", flush=True)
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            _freeze(program, work)
        needed = _stage(program, work, options.version)
        for kind in KINDS if options.kind is None else (options.kind,):
            made = _pack(program, work, kind, options.version, needed, options.into.resolve())
            print(f"  {made}  {made.stat().st_size / 1e6:.1f} MB", flush=True)


def _freeze(program: Program, work: Path) -> None:
    entry = work / "entry.py"
    entry.write_text(f"from reachmap_{program.name}.__main__ import main\n\nmain()\n")
    quiet = ["--log-level", "ERROR"]
    command = [sys.executable, "-m", "PyInstaller.utils.cliutils.makespec", "--onedir", "--strip"]
    command += [*quiet, "--name", program.command, "--specpath", str(work)]
    command += ["--optimize", "2" if program.lean else "0"]
    for option, names in (
        ("--exclude-module", program.without),
        ("--hidden-import", program.with_),
        ("--collect-submodules", (f"reachmap_{program.name}",)),  # commands are loaded by name
        ("--collect-data", program.data),
    ):
        for name in names:
            command += [option, name]
    for folder in program.sources:
        command += ["--add-data", f"{sysconfig.get_path('purelib')}/{folder}:{folder}"]
    subprocess.run([*command, str(entry)], check=True, cwd=work, stdout=subprocess.DEVNULL)
    spec = work / f"{program.command}.spec"
    head, analysed, tail = spec.read_text().partition("pyz = PYZ(")
    tail, collecting, libraries = tail.partition("COLLECT(")
    if not analysed or "strip=True" not in libraries:
        sys.exit("PyInstaller writes another spec than it did")
    libraries = libraries.replace("strip=True", "strip=False")  # that is for us: see below
    hooks = _WITHOUT_HOOKS if program.lean else ""
    spec.write_text(f"{head}{hooks}{analysed}{tail}{collecting}{libraries}")
    command = [sys.executable, "-m", "PyInstaller", *quiet, "--clean", "--noconfirm"]
    command += ["--distpath", str(work), "--workpath", str(work / "work"), str(spec)]
    subprocess.run(command, check=True, cwd=work)
    for cache in (work / program.command / "_internal").rglob("__pycache__"):
        shutil.rmtree(cache)
    frozen = work / program.command
    for listing in frozen.glob("_internal/*.dist-info/RECORD"):
        listing.unlink()  # it lists files that are not there
    for name in program.beside:
        shutil.copy(_tool(name), frozen / name)
    for file in _elf(frozen / "_internal"):
        file.chmod(0o644)
        # What wheels bring in folders of this name was moved about within already, for a system of
        # any age; stripped after that (binutils), the dynamic linker takes it no more.
        if file.parent.name.endswith(".libs"):
            continue
        subprocess.run(["strip", "--strip-unneeded", str(file)], check=True)
        # Where this interpreter was built is of no use elsewhere, and a way in where others write.
        subprocess.run([_tool("patchelf"), "--remove-rpath", str(file)], check=True)


def _stage(program: Program, work: Path, version: str) -> str:
    """Lay out beside the frozen program what else is packed; returns the glibc that it needs."""
    stage = work / "stage"
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree(PACKAGING / program.name, stage)
    shutil.copytree(ROOT / "systemd", stage / "systemd")
    shutil.copy(ROOT / "LICENSE", stage)
    manuals.write(program.name, stage / "man", version)
    for page in (stage / "man").iterdir():
        with page.with_name(f"{page.name}.gz").open("wb") as file:
            file.write(gzip.compress(page.read_bytes(), mtime=0))
        page.unlink()
    notices.write(program.name, stage)
    when = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC)
    (stage / "changelog.yaml").write_text(
        f"- semver: {version}\n  date: {when:%Y-%m-%dT%H:%M:%SZ}\n"
        "  packager: The reachmap developers <reachmap@localhost>\n"
        "  deb: {urgency: medium, distributions: [stable]}\n"
        "  changes:\n    - note: CHANGELOG.md in the sources tells what changed\n"
    )
    for path in (work, *work.rglob("*")):
        os.utime(path, (when.timestamp(),) * 2, follow_symlinks=False)
    versions = {
        tuple(map(int, number.split(b".")))
        for file in _elf(work / program.command)
        for number in re.findall(rb"\bGLIBC_(2(?:\.\d+)+)\b", file.read_bytes())
    }
    return ".".join(map(str, max(versions)))


def _pack(program: Program, work: Path, kind: str, version: str, needed: str, into: Path) -> Path:
    made = {
        "deb": into / f"reachmap-{program.name}_{version}-1_amd64.deb",
        "rpm": into / f"reachmap-{program.name}-{version}-1.x86_64.rpm",
    }[kind]
    command = [_tool("nfpm"), "package", "--config", "nfpm.yaml", "--packager", kind]
    environment = {"VERSION": version, "FROZEN": str(work / program.command), "GLIBC": needed}
    subprocess.run(
        [*command, "--target", str(made)],
        check=True,
        cwd=work / "stage",
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
    )
    return made


def _elf(folder: Path) -> list[Path]:
    """Programs and libraries, without what only points to them."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
    return [path for path in files if path.open("rb").read(4) == b"\x7fELF"]


def _tool(name: str) -> str:
    """A program of this environment."""
    return str(Path(sys.executable).with_name(name))


def _version() -> str:
    text = (ROOT / "shared/src/reachmap_shared/__init__.py").read_text()
    found = re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)
    assert found
    return found[1]


def _commit_time() -> str:
    command = ["git", "-C", str(ROOT), "-c", "safe.directory=*", "log", "-1", "--format=%ct"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
