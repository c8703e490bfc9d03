"""What cannot be run here is at least what it says it is: YAML, a property list, tested commands."""

import json
import plistlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

PACKAGING = Path(__file__).parent.parent
PYTHON = PACKAGING.parent / ".venv-package/bin/python"
INSTALL = PACKAGING.parent / "docs/install.md"

BLOCK = re.compile(r"(?:<!-- (\w+): ([^\n]+) -->\n)?```(?:sh|powershell)\n(.*?)```", re.DOTALL)


def yaml(path: Path) -> Any:
    """As the program that will read it reads it."""
    program = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"
    done = subprocess.run(
        [str(PYTHON), "-c", program], stdin=path.open("rb"), capture_output=True, check=True
    )
    return json.loads(done.stdout)


def test_the_role_s_tasks_are_tasks() -> None:
    """Each has a name and one module; what is secret is not logged."""
    tasks = yaml(PACKAGING / "ansible/tasks/main.yml")
    for task in tasks:
        assert task["name"]
        assert sum(key.startswith("ansible.builtin.") for key in task) == 1
        if "reachmap_bundle" in json.dumps(task):
            assert task["no_log"]
    handlers = {one["name"] for one in yaml(PACKAGING / "ansible/handlers/main.yml")}
    assert {task["notify"] for task in tasks if "notify" in task} <= handlers
    defaults = yaml(PACKAGING / "ansible/defaults/main.yml")
    used = set(
        re.findall(r"\{\{ (reachmap_\w+)", (PACKAGING / "ansible/tasks/main.yml").read_text())
    )
    assert used <= {*defaults, "reachmap_bundle"}


def test_cloud_init_gets_commands() -> None:
    """Lists of words, and the bundle for root alone."""
    content = yaml(PACKAGING / "fleet/cloud-init.yaml")
    assert all(isinstance(word, str) for command in content["runcmd"] for word in command)
    assert content["write_files"][0]["permissions"] == "0600"


def test_launchd_gets_a_property_list() -> None:
    """That starts the agent and keeps it."""
    content = plistlib.loads((PACKAGING / "fleet/org.reachmap.agent.plist").read_bytes())
    assert content["ProgramArguments"][1] == "run"
    assert content["KeepAlive"] is True


@pytest.mark.parametrize(
    ("kind", "where", "commands"), BLOCK.findall(INSTALL.read_text()), ids=lambda text: text[:30]
)
def test_each_command_of_the_guide_is_tested_or_says_why_not(
    kind: str, where: str, commands: str
) -> None:
    """A test that is named has each word of each command."""
    assert kind in ("tested", "untested"), f"above it must stand which test runs it:\n{commands}"
    if kind == "untested":
        assert len(where) > 20
        return
    test = (PACKAGING.parent / where).read_text() + (PACKAGING / "tests/machine.py").read_text()
    for word in commands.replace('"', "").split():
        if not re.search(r"\.(deb|rpm)$|^make$|^packages$", word):
            assert word in test, f"{where} does not say {word}"
