"""The demo, as a newcomer runs it: it shows all it promises, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-m", "reachmap_collector", "demo")


@pytest.fixture
def environment(tmp_path: Path, mark: str) -> dict[str, str]:
    """A temporary directory of the test's own, so that what is left in it shows."""
    return {**os.environ, "REACHMAP_TEST_MARK": mark, "TMPDIR": str(tmp_path)}


@pytest.mark.timeout(120)
def test_the_demo_shows_every_row_a_fault_and_its_cause(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """All 21 rows are green, two faults are seen and explained, and it heals, in a minute."""
    began = time.monotonic()
    done = subprocess.run(
        COMMAND, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 60
    assert "21 of 21 rows have flows here." in done.stdout
    assert "saw        refused" in done.stdout
    assert "saw        wrong-service" in done.stdout
    assert "got '220 mail.example ESMTP ready'" in done.stdout
    assert done.stdout.count("33 of 33 flows are ok, after") == 2
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [(), ("--keep",)])
@pytest.mark.timeout(120)
def test_ctrl_c_cleans_up(
    environment: dict[str, str], tmp_path: Path, options: tuple[str, ...]
) -> None:
    """An impatient newcomer's Ctrl-C leaves no process and no file, at whatever moment."""
    process = subprocess.Popen(
        (*COMMAND, *options), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout is not None
    with process.stdout as output:
        for line in output:
            if b"flows are ok" in line:
                break
        process.send_signal(signal.SIGINT)
        rest = output.read()
    assert process.wait(timeout=20) == (0 if options else 130)
    assert b"all that ran is gone" in rest
    assert b"Traceback" not in rest
    assert list(tmp_path.iterdir()) == []
