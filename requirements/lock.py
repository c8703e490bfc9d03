"""Renew this folder's lock files: versions and hashes for every platform, and no address.

run.txt         what reachmap needs to run from a checkout, the NATS server included
dev.txt         that, and everything its tests and checks need, PostgreSQL's driver included
fuzz.txt        what `make soak` fuzzes the decoders with, where there is a wheel of it
agent-test.txt  what the agent alone and its tests need: proof that it needs no more
package.txt     what is frozen into the packages, and what freezes and packs it
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent


def lock(name: str, requirements: list[str]) -> None:
    """Write `name` from loose requirements, keeping the versions that dev.txt has already."""
    with tempfile.NamedTemporaryFile("w", suffix=".in") as source:
        source.write("\n".join(requirements))
        source.flush()
        command = [sys.executable, "-m", "uv", "pip", "compile", "--universal", "--quiet"]
        command += ["--python-version", "3.11", "--generate-hashes", "--no-header"]
        command += ["--no-annotate", source.name, "-o", str(HERE / name)]
        if name != "dev.txt":
            command += ["-c", str(HERE / "dev.txt")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    """Lock everything first, then the two parts with the same versions."""
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())
    parts = {
        part: tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]["dependencies"]
        for part in ("agent", "shared")
    }
    groups = root["dependency-groups"]
    extras = root["project"]["optional-dependencies"]
    server = extras["embedded"]
    more = extras["apprise"] + extras["postgres"]
    run = root["project"]["dependencies"] + server + groups["build"]
    tests = groups["test"] + groups["test-collector"]
    lock("dev.txt", run + more + tests + groups["lint"] + groups["lock"])
    lock("run.txt", run)
    lock("package.txt", run + more + groups["package"])
    lock("fuzz.txt", groups["fuzz"])
    agent = [one for one in parts["agent"] if not one.startswith("reachmap-")]
    lock("agent-test.txt", agent + parts["shared"] + groups["test"] + server)


if __name__ == "__main__":
    main()
