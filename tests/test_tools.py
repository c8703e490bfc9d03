"""What measures and hurts reachmap fits the reachmap that there is, though no test runs it whole."""

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
