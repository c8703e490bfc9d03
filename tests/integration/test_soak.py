"""A few rounds of what `make soak` does a hundred times, each on a deployment of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[2] / "soak" / "run.py"
SEED = 2026
TOGETHER = (("kills", "dates"), ("disk",), ("cluster", "rubbish"), ("outage",), ("wiped",))
"""Each of these in turn, and the rows at once: most of their time they wait."""


@pytest.mark.timeout(400)
@pytest.mark.skipif(sys.platform != "linux", reason="mounts small file systems")
def test_nothing_is_lost_and_nobody_impersonated(tmp_path: Path) -> None:
    """Whatever is killed, emptied, full, cut off or sent: map and accounts are right."""
    runs = []
    for number, subjects in enumerate(TOGETHER):
        log = tmp_path / f"{number}.log"
        with log.open("wb") as output:
            command = [sys.executable, str(RUN), "--short", "--seed", str(SEED), *subjects]
            environment = os.environ | {"TMPDIR": str(tmp_path)}
            runs.append(
                (log, subprocess.Popen(command, stdout=output, stderr=output, env=environment))
            )
    try:
        for _, run in runs:
            run.wait()
        for log, run in runs:
            assert run.returncode == 0, log.read_text()[-6000:]
    finally:
        for _, run in runs:
            run.terminate()
            run.wait()
