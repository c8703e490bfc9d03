"""A data directory has one collector at a time."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from reachmap_collector.errors import ServerError
from reachmap_collector.occupancy import occupied

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")

_HOLDS_IT = """
import sys
from pathlib import Path
from reachmap_collector.occupancy import occupied
with occupied(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_one_is_refused(tmp_path: Path) -> None:
    """And says where, and what to do; once the first is gone the next has it."""
    with occupied(tmp_path):
        with pytest.raises(ServerError, match=f"^{tmp_path}: .*--data"), occupied(tmp_path):
            pass
    with occupied(tmp_path):
        pass


def test_two_directories_have_one_each(tmp_path: Path) -> None:
    """They have nothing to do with each other."""
    (tmp_path / "other").mkdir()
    with occupied(tmp_path), occupied(tmp_path / "other"):
        pass


def test_kill_9_gives_it_back(tmp_path: Path) -> None:
    """No file has to be taken away by hand."""
    command = [sys.executable, "-c", _HOLDS_IT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ServerError), occupied(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with occupied(tmp_path):
        pass


def test_a_directory_that_cannot_be_written_is_not_held(tmp_path: Path) -> None:
    """The caller hears of it."""
    with pytest.raises(OSError, match="No such file"), occupied(tmp_path / "nowhere"):
        pass
