"""What measures and hurts reachmap fits the reachmap that there is, though no test runs it whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("tool", ["benchmarks", "soak"])
def test_it_loads(tool: str) -> None:
    """With all of its parts, and says what there is when asked for something else."""
    command = [sys.executable, "run.py", "no-such-thing"]
    done = subprocess.run(command, cwd=ROOT / tool, capture_output=True, text=True)
    assert done.returncode != 0
    assert "no-such-thing" in done.stderr


PROPERTIES = """
from examples import examples, load_profile
from hypothesis import given, settings, strategies

load_profile()
drawn = []

@given(strategies.integers())
def plain(number):
    drawn.append(number)

plain()
print(len(drawn), examples(30).max_examples, settings.default.derandomize)
"""


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"CI": "true"}, "100 30 True"),
        ({"CI": "true", "EXAMPLES": "7"}, "700 210 False"),
        ({"EXAMPLES": "7"}, "700 210 False"),
    ],
)
def test_as_many_examples_as_are_asked_for(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    """Of each property, whether it names a number or not; and others in each run, in CI too."""
    inherited = {name: its for name, its in os.environ.items() if name not in ("CI", "EXAMPLES")}
    ours = {"PYTHONPATH": str(ROOT / "tests" / "helpers")}
    done = subprocess.run(
        [sys.executable, "-c", PROPERTIES],
        cwd=tmp_path,
        env=inherited | ours | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == said
